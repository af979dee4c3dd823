//! What scenario tests and benchmarks share: a demo provider as a process of its own, and clients
//! small enough to be believed, which speak as the conversation in the test reads.
//!
//! Nothing here knows the program from inside: it is started, spoken to over TLS, killed.

pub mod bucket;
pub mod certificates;
pub mod demo;
pub mod dns;
pub mod host;
pub mod https;
pub mod imap;
pub mod ledger;
pub mod load;
pub mod mta;
pub mod nodes;
pub mod outside;
pub mod pair;
pub mod peers;
pub mod postgres;
pub mod process;
pub mod receipts;
pub mod scram;
pub mod script;
pub mod shelf;
pub mod smtp;
pub mod tools;
pub mod wire;
pub mod zone;

pub use demo::Demo;
pub use imap::Imap;
pub use smtp::Smtp;

/// Says a line on standard error also when the test passes: what was counted, what was not run, and
/// the seed with which to run it again. (`println!` is shown for tests that fail.)
pub fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}
