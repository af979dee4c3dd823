//! IMAP, the server's side: the grammar of commands, every response, and the session machine,
//! without a socket, a clock or a store in it.
//!
//! | File | Holds |
//! | --- | --- |
//! | `session` | [`Session`]: one client's conversation, and its [`Step`]s |
//! | `job` | [`Job`]: what needs the store, to be run where blocking is allowed |
//! | `sasl` | the words of AUTHENTICATE and LOGIN; what a mechanism computes is the shell's |
//! | `grammar` | octets to commands: imap-codec, and what it does not speak |
//! | `response` | words to octets |
//! | `selected` | a session's view of its mailbox, and how it learns of changes |
//! | `source` | a stored message, read as far as a command needs it |
//! | `refusal` | the one map from a store's error to a client's NO |
//! | `command/` | a file a command |
//!
//! IMAP4rev1 (RFC 3501) with LITERAL+ (RFC 7888), SASL-IR (RFC 4959), IDLE (RFC 2177), NAMESPACE
//! (RFC 2342), CHILDREN (RFC 3348), ID (RFC 2971), ENABLE (RFC 5161), UNSELECT (RFC 3691), UIDPLUS
//! (RFC 4315), MOVE (RFC 6851), SPECIAL-USE (RFC 6154), QUOTA (RFC 9208), STATUS=SIZE (RFC 8438),
//! APPENDLIMIT (RFC 7889), ESEARCH (RFC 4731), SEARCHRES (RFC 5182), WITHIN (RFC 5032),
//! CONDSTORE (RFC 7162) and SAVEDATE (RFC 8514). Not here yet: QRESYNC and what else IMAP4rev2 asks for. Not here ever: who
//! may sign in, and where octets are kept.

mod command;
mod grammar;
mod job;
mod mutf7;
mod refusal;
mod response;
mod sasl;
mod selected;
mod session;
mod source;

pub use job::{Answer, Job};
pub use response::Code;
pub use sasl::{Mechanism, SaslAnswer, SaslFailure, SaslStep, Secret};
pub use session::{Session, Settings, Step, limits};
