//! The words that all other crates share: addresses, messages, header fields and MIME parts.
//!
//! Nothing here does input or output, asks a clock or draws a random number. Messages are read in
//! place: a [`message::Message`] or a [`mime::Part`] is a range of the octets that came in, so what
//! is signed, stored and shown is what was received.

pub mod address;
pub mod encoding;
pub mod message;
pub mod mime;
pub mod sevenbit;

pub use address::{Address, AddressError, Domain, ForwardPath, ReversePath};
pub use message::{Field, Message};
