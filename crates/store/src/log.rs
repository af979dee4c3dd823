//! The log of certified mail (PEC-LOG-01): one record an event, in the commit of the event itself.

use mail::Address;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One event. Fields that an event does not have are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogRecord {
    /// The event's single time (PEC-GEN-10).
    pub time: Timestamp,
    /// `accettazione`, `posta-certificata`, ... as in `daticert.xml`, and `consegna`, `rifiuto`, ...
    pub event: String,
    /// The PEC msgid.
    pub identificativo: Option<String>,
    /// The Message-ID, without angle brackets, of the message that the record is about.
    pub message_id: Option<String>,
    /// Sender of the original.
    pub mittente: Option<String>,
    /// Recipients of the original.
    pub destinatari: Vec<LoggedRecipient>,
    /// Subject of the original.
    pub oggetto: Option<String>,
    /// The provider that emitted the message.
    pub gestore: Option<String>,
    /// The recipient that was delivered to, or not.
    pub consegna: Option<String>,
    /// The recipients taken in charge.
    pub ricezione: Vec<String>,
    /// `errore` of `daticert.xml`.
    pub errore: Option<String>,
    /// The description of the error.
    pub errore_esteso: Option<String>,
    /// The Message-ID that the client gave, without angle brackets.
    pub msgid: Option<String>,
    /// What was out of order and not decisive (no CRL to be had, ...).
    pub notes: Vec<String>,
}

/// A recipient in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedRecipient {
    /// The address.
    pub address: String,
    /// `certificato` or `esterno`.
    pub tipo: String,
}

/// Which records are asked for: those that meet all that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogFilter {
    /// Any of the identifiers of a message or receipt (`identificativo`, `message_id`, `msgid`),
    /// without angle brackets; found are the records that have it, and all records of their PEC
    /// msgids.
    pub message_id: Option<String>,
    /// Sender, recipient, `consegna` or `ricezione`.
    pub account: Option<Address>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}
