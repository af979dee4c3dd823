//! The original message as it is certified: its identifier replaced, its trace added, and every
//! other octet as it was.
//!
//! PEC-AP-20 to PEC-AP-25, PEC-BT-01; RT §6.3, §6.3.4.

use std::net::IpAddr;

use mail::message::write_field;
use mail::{Address, Field, Message};

use super::{requested, subject};
use crate::exchange::{Exchange, PecId, Recipient};
use crate::moment::Moment;

/// Octets of a client's `Message-ID` at most; a longer one could not be put in a field of ours
/// (RFC 5322 §2.1.1).
const MSGID_OCTETS_MAX: usize = 900;
/// Octets of `risposte` at most: what one line of a header can hold.
const REPLIES_TO_OCTETS_MAX: usize = 998;
/// Fields of ours that a user could forge; the client's `Message-ID` goes for being replaced.
const REMOVED: [&str; 6] = [
    "Message-ID",
    "X-Riferimento-Message-ID",
    "X-Trasporto",
    "X-Ricevuta",
    "X-VerificaSicurezza",
    "X-Mittente",
];

/// Where and how a message came in: what a `Received` field tells, RFC 5321 §4.4.
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a> {
    /// What the client called itself.
    pub client_name: &'a str,
    /// Where it is.
    pub client: IpAddr,
    /// Our own name.
    pub by: &'a str,
    /// `ESMTPSA`, `ESMTPS`, ... (RFC 3848).
    pub protocol: &'a str,
    /// What the log calls the transaction.
    pub id: &'a str,
}

/// The `Received` field of a transaction.
pub fn trace_field(trace: &Trace<'_>, at: Moment) -> Vec<u8> {
    let plain = |text: &str| -> String {
        let kept = text.chars().filter(|c| c.is_ascii_graphic() && !"()<>;\"\\".contains(*c));
        kept.take(255).collect()
    };
    let literal = match trace.client {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let client_name = match plain(trace.client_name) {
        name if name.is_empty() => literal.clone(),
        name => name,
    };
    let value = format!(
        "from {client_name} ({literal})\r\n by {} with {} id {};\r\n {}",
        plain(trace.by),
        plain(trace.protocol),
        plain(trace.id),
        at.header()
    );
    let mut out = Vec::with_capacity(value.len() + 16);
    write_field(&mut out, "Received", &value);
    out
}

/// What a message is about; of a broken one, what can be read (PEC-AP-14).
pub(super) fn exchange(
    sender: &Address,
    recipients: Vec<Recipient>,
    message: &Message<'_>,
    identifier: PecId,
) -> Exchange {
    let reply_to = message.field("Reply-To").map(|field| field.decoded());
    let replies_to = match reply_to {
        Some(value) if !value.is_empty() => value.chars().take(REPLIES_TO_OCTETS_MAX).collect(),
        // From is the reverse-path, once the checks are passed.
        _ => sender.to_string(),
    };
    Exchange {
        identifier,
        msgid: message.field("Message-ID").and_then(|field| msgid(&field)),
        sender: sender.clone(),
        recipients,
        replies_to,
        subject: subject(message),
        requested: requested(message),
    }
}

/// The client's identifier with its angle brackets; they are added when it has none, and what
/// cannot stand between them is left out.
pub(super) fn msgid(field: &Field<'_>) -> Option<String> {
    let value = field.unfolded();
    let inner = value.split_once('<').map_or(&value[..], |(_, rest)| rest);
    let inner = inner.split_once('>').map_or(inner, |(inner, _)| inner);
    let plain = |c: &char| c.is_ascii_graphic() && !"<>".contains(*c);
    let inner: String = inner.chars().filter(plain).take(MSGID_OCTETS_MAX).collect();
    (!inner.is_empty()).then(|| format!("<{inner}>"))
}

/// The header of `postacert.eml`, with the empty line that ends it; its body is that of the message.
pub(super) fn header(message: &Message<'_>, trace: &[u8], exchange: &Exchange) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.header().len() + trace.len() + 512);
    out.extend_from_slice(trace);
    let kept = |field: &&Field<'_>| !REMOVED.iter().any(|n| field.name.eq_ignore_ascii_case(n));
    for field in message.fields().iter().filter(kept) {
        out.extend_from_slice(field.octets);
        if !field.octets.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
    write_field(&mut out, "Message-ID", &exchange.identifier.in_brackets());
    crate::receipt::write_reference(&mut out, exchange);
    out.extend_from_slice(b"\r\n");
    out
}
