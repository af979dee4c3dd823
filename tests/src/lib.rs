//! What scenario tests and benchmarks share: a demo provider as a process of its own, and clients
//! small enough to be believed, which speak as the conversation in the test reads.
//!
//! Nothing here knows the program from inside: it is started, spoken to over TLS, killed.

pub mod demo;
pub mod imap;
pub mod ledger;
pub mod load;
pub mod process;
pub mod shelf;
pub mod smtp;
pub mod tools;
pub mod wire;

pub use demo::Demo;
pub use imap::Imap;
pub use smtp::Smtp;
