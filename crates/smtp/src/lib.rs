//! SMTP: the grammar of each command, every reply that is ever sent, and the two session machines,
//! without a socket, a clock or a random number in them.
//!
//! | File | Holds |
//! | --- | --- |
//! | [`server`] | [`Session`]: one client's conversation |
//! | [`client`] | [`Client`]: one conversation with a host that takes mail for others |
//! | [`step`] | what goes between a session and its shell: [`Step`]s, [`Question`]s and [`Answer`]s |
//! | [`command`] | the grammar of each command line |
//! | [`dsn`] | what a sender asks to be told, and how |
//! | [`reply`] | every reply, as a constant or a constructor with one variable part |
//! | [`sasl`] | mechanisms, and the words of an AUTH exchange; the mechanisms' arithmetic is the shell's |
//! | [`sts`] | what a domain's MTA-STS policy says of its hosts |
//! | [`tls_report`] | where a domain wants to hear how TLS went |
//! | `line`, `content` | framing: command lines, and the octets between DATA and CRLF.CRLF |
//!
//! RFC 5321 with SIZE (RFC 1870), PIPELINING (RFC 2920), ENHANCEDSTATUSCODES (RFC 2034), STARTTLS
//! (RFC 3207), AUTH (RFC 4954), CHUNKING (RFC 3030), DSN (RFC 3461), LIMITS (RFC 9422) and REQUIRETLS
//! (RFC 8689); submission as RFC 6409 and RFC 8314 have it. 8BITMIME (RFC 6152) and SMTPUTF8
//! (RFC 6531) are announced where the operator wants them, because certified mail travels in 7 bits.
//! Not here: who may send what to whom. That is asked of the shell, question by question.

pub mod client;
pub mod command;
mod content;
pub mod dsn;
mod line;
pub mod reply;
pub mod sasl;
pub mod server;
pub mod step;
pub mod sts;
pub mod tls_report;

pub use client::{Client, ClientSettings, ClientStep, Outgoing};
pub use command::MailOptions;
pub use dsn::{Dsn, RecipientDsn};
pub use reply::{Reply, Status};
pub use sasl::{Mechanism, SaslAnswer, SaslStep};
pub use server::Session;
pub use step::{Answer, Question, Role, Settings, Step};
