//! Infected messages, kept apart from mailboxes (PEC-VIR-02).
//!
//! Written once: nothing changes one, and nothing removes it before its time. Not here: how long
//! the law wants them kept, and what is infected.

use serde::{Deserialize, Serialize};

use crate::{BlobId, Source, Timestamp};

/// The number of an infected message; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfectedId(pub u64);

/// What is known of an infected message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Infection {
    /// Where it was found: `accesso` or `ricezione`.
    pub point: String,
    /// Its name, as the scanner has it.
    pub virus: String,
    /// The PEC msgid.
    pub identificativo: Option<String>,
    /// The `Message-ID` that the sender's client gave, without angle brackets.
    pub msgid: Option<String>,
    /// The reverse-path.
    pub mittente: String,
    /// The forward-paths that it was for here.
    pub destinatari: Vec<String>,
    /// Its subject.
    pub oggetto: Option<String>,
    /// SHA-256 of its octets, in lower-case hexadecimal: the log record of the event has it too.
    pub sha256: String,
}

/// An infected message to be kept.
#[derive(Debug, Clone)]
pub struct NewInfected {
    /// Its octets, as they were received (PEC-VIR-01).
    pub octets: Source,
    /// Until when it cannot be removed.
    pub keep_until: Timestamp,
    /// What is known of it.
    pub infection: Infection,
}

/// An infected message that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infected {
    /// Its number.
    pub id: InfectedId,
    /// When it was found.
    pub found: Timestamp,
    /// Until when it cannot be removed.
    pub keep_until: Timestamp,
    /// Its octets.
    pub blob: BlobId,
    /// How many.
    pub octets: u64,
    /// What is known of it.
    pub infection: Infection,
}
