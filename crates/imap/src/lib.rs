//! IMAP, the server's side: the grammar of commands, every response, and the session machine,
//! without a socket, a clock or a store in it.
//!
//! | File | Holds |
//! | --- | --- |
//! | `session` | [`Session`]: one client's conversation, and its [`Step`]s |
//! | `job` | [`Job`]: what needs the store, to be run where blocking is allowed |
//! | `sasl` | the words of AUTHENTICATE and LOGIN; what a mechanism computes is the shell's |
//! | `enabled` | what a client has asked to be done otherwise |
//! | `grammar` | octets to commands: imap-codec, and what it does not speak |
//! | `response` | words to octets |
//! | `selected` | a session's view of its mailbox, and how it learns of changes |
//! | `places` | some of its messages |
//! | `watch` | what a session with NOTIFY tells of other mailboxes |
//! | `live`, `uids` | what all sessions on a mailbox have in common |
//! | `digest` | what a message's octets say, made once and kept beside them |
//! | `texts` | the texts of a message, as SEARCH looks into them |
//! | `source` | a stored message, read as far as a command needs it |
//! | `refusal` | the one map from a store's error to a client's NO |
//! | `command/` | a file a command |
//!
//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) with LITERAL+ (RFC 7888), SASL-IR (RFC 4959), IDLE (RFC 2177), NAMESPACE
//! (RFC 2342), CHILDREN (RFC 3348), ID (RFC 2971), ENABLE (RFC 5161), UNSELECT (RFC 3691), UIDPLUS
//! (RFC 4315), MOVE (RFC 6851), SPECIAL-USE (RFC 6154), QUOTA (RFC 9208), STATUS=SIZE (RFC 8438),
//! APPENDLIMIT (RFC 7889), ESEARCH (RFC 4731), SEARCHRES (RFC 5182), WITHIN (RFC 5032),
//! CONDSTORE and QRESYNC (RFC 7162), SAVEDATE (RFC 8514), LIST-EXTENDED (RFC 5258), LIST-STATUS
//! (RFC 5819), BINARY (RFC 3516), MULTIAPPEND (RFC 3502), REPLACE (RFC 8508), OBJECTID (RFC 8474), PREVIEW (RFC 8970), PARTIAL (RFC 9394), UIDONLY
//! (RFC 9586), INPROGRESS (RFC 9585), COMPRESS=DEFLATE (RFC 4978), UNAUTHENTICATE (RFC 8437),
//! METADATA (RFC 5464), NOTIFY (RFC 5465), MESSAGELIMIT and SAVELIMIT (RFC 9738), LIST-METADATA (RFC 9590) and UTF8=ACCEPT (RFC 9755). Not here: who may sign in, and where octets are kept.

mod command;
mod digest;
mod enabled;
mod grammar;
mod job;
mod live;
mod mutf7;
mod places;
mod refusal;
mod response;
mod sasl;
mod selected;
mod session;
mod source;
mod texts;
mod uids;
mod watch;

pub use command::append::COPY_KEYWORD;
pub use job::{Answer, Job};
pub use live::Views;
pub use response::Code;
pub use sasl::{Mechanism, SaslAnswer, SaslFailure, SaslStep, Secret};
pub use session::{Session, Settings, Step, limits};
pub use texts::{Reading, References, latest, message_id, read, references, with_message_id};
