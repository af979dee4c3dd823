//! The law of certified mail (*posta elettronica certificata*) as functions: receipts, envelopes,
//! decisions.
//!
//! Nothing here does input or output, asks a clock, draws a random number or holds a key. A message
//! goes through types that only the stage before can make:
//!
//! ```text
//! access::admit            Draft -> Submission | NonAcceptance
//! receipt::acceptance      Accepted -> Unsigned            envelope::enclose likewise
//! inspect::examine         octets -> Examination           then cryptography, elsewhere
//! incoming::judge          Examination -> Envelope | Notification | Anomaly | Ordinary
//! receipt::take_charge     VerifiedEnvelope -> Unsigned    receipt::delivery likewise
//! Unsigned::seal           with a signature -> the octets of a message
//! ```
//!
//! The rules are cited by their ids, `PEC-AP-03`, listed in `docs/pec-rules.md`.

pub mod access;
pub mod certification;
pub mod delivery;
pub mod envelope;
pub mod evidence;
pub mod exchange;
pub mod incoming;
pub mod inspect;
pub mod layout;
pub mod moment;
pub mod providers;
pub mod receipt;
pub mod reduce;
pub mod subject;
#[cfg(test)]
mod testing;
pub mod text;
pub mod verification;

pub use access::{Accepted, Draft, Limits, NonAcceptance, Submission, admit};
pub use certification::Certification;
pub use exchange::{DeliveryForm, Exchange, Fresh, PecId, Provider, Recipient, RecipientKind};
pub use incoming::{Class, VerifiedEnvelope, VerifiedNotification, judge};
pub use inspect::examine;
pub use layout::Unsigned;
pub use moment::Moment;
pub use receipt::{Notice, ReceiptKind};
