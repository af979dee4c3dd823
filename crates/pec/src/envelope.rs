//! Transport and anomaly envelopes.
//!
//! RT §6.3.4, §6.4.2; RFC 6109 §3.1.5, §3.2.2. The first goes out with what our user sent; the second
//! brings in what nobody certified. Each inherits fields of the message in it, octet by octet.

use mail::message::{encode_phrase, write_field};
use mail::{Address, Message, ReversePath};

use crate::access::Accepted;
use crate::certification::Certification;
use crate::exchange::Provider;
use crate::incoming::AnomalyReason;
use crate::layout::{Attached, Boundaries, Unsigned};
use crate::moment::Moment;
use crate::receipt::{Event, write_reference};
use crate::subject::{Subject, write_subject};
use crate::text::Text;

/// `Received` fields that are inherited at most: a message that passed more hosts than this is in a
/// loop (RFC 5321 §6.3 speaks of 100).
const RECEIVED_MAX: usize = 100;

/// The value of `X-Trasporto` in a transport envelope.
pub const X_TRASPORTO_CERTIFIED: &str = "posta-certificata";
/// The value of `X-Trasporto` in an anomaly envelope.
pub const X_TRASPORTO_ERROR: &str = "errore";

/// The transport envelope (*busta di trasporto*), ready to sign: no other road leads from a draft
/// to the wire. `original` are the octets that the access point made; the paths of the transaction
/// stay what they were (PEC-BT-07).
pub fn enclose(accepted: &Accepted, original: &[u8], provider: &Provider, token: u128) -> Unsigned {
    let exchange = accepted.exchange();
    let at = accepted.at();
    let message = Message::lenient(original);
    let mut header = Vec::with_capacity(2048);
    inherit_all(&mut header, &message, "Received");
    write_field(&mut header, "X-Trasporto", X_TRASPORTO_CERTIFIED);
    write_field(&mut header, "Date", &at.header());
    write_subject(&mut header, Event::Transport.prefix(), exchange.subject.as_ref());
    write_author(&mut header, &exchange.sender.to_string(), provider);
    if !inherit(&mut header, &message, "Reply-To") {
        write_field(&mut header, "Reply-To", &exchange.sender.to_string());
    }
    inherit(&mut header, &message, "To");
    inherit(&mut header, &message, "Cc");
    write_field(&mut header, "Message-ID", &exchange.identifier.in_brackets());
    write_reference(&mut header, exchange);
    if !inherit(&mut header, &message, "X-TipoRicevuta") {
        write_field(&mut header, "X-TipoRicevuta", exchange.requested.tipo());
    }
    let text = Text::of(&Event::Transport, exchange, at, &provider.name);
    let certification = Certification::of(&Event::Transport, exchange, at, &provider.name).write();
    let attached = Attached::seven_bit(original);
    let boundaries = Boundaries::of(token);
    Unsigned::lay_out(header, &boundaries, &text, Some(&certification), Some(attached))
}

/// The anomaly envelope (*busta di anomalia*), ready to sign: a message that is not certified, whole
/// and as it came, for a reader who must see that it is not. It has no certification data
/// (PEC-BA-06), and the `Message-ID` of the message in it (PEC-BA-02).
pub fn enclose_anomaly(
    received: &[u8],
    reverse_path: &ReversePath,
    forward_paths: &[Address],
    reason: AnomalyReason,
    provider: &Provider,
    at: Moment,
    token: u128,
) -> Unsigned {
    let message = Message::lenient(received);
    let subject = message.field("Subject").map(|field| Subject::of(&field));
    let sender = match reverse_path {
        ReversePath::Address(address) => address.to_string(),
        ReversePath::Null => String::new(),
    };
    let mut header = Vec::with_capacity(2048);
    inherit_all(&mut header, &message, "Received");
    write_field(&mut header, "X-Trasporto", X_TRASPORTO_ERROR);
    write_field(&mut header, "Date", &at.header());
    write_subject(&mut header, ANOMALY_PREFIX, subject.as_ref());
    write_author(&mut header, &sender, provider);
    if !inherit(&mut header, &message, "Reply-To") && !sender.is_empty() {
        write_field(&mut header, "Reply-To", &sender);
    }
    inherit(&mut header, &message, "To");
    inherit(&mut header, &message, "Cc");
    inherit(&mut header, &message, "Message-ID");
    let subject_text = subject.as_ref().map_or("", Subject::text);
    let text = Text::anomaly(subject_text, &sender, forward_paths, reason, at);
    let boundaries = Boundaries::of(token);
    Unsigned::lay_out(header, &boundaries, &text, None, Some(Attached::as_it_is(received)))
}

const ANOMALY_PREFIX: &str = "ANOMALIA MESSAGGIO";

/// `From: "Per conto di: [mittente]" <[autore]>`: one address, that of the certificate (PEC-BT-04).
fn write_author(header: &mut Vec<u8>, sender: &str, provider: &Provider) {
    let phrase = encode_phrase(&format!("Per conto di: {sender}"), "From: ".len());
    write_field(header, "From", &format!("{phrase} <{}>", provider.author));
}

/// Copies the first field of this name as it stands; whether there was one.
fn inherit(header: &mut Vec<u8>, message: &Message<'_>, name: &str) -> bool {
    let field = message.field(name);
    if let Some(field) = &field {
        copy(header, field.octets);
    }
    field.is_some()
}

fn inherit_all(header: &mut Vec<u8>, message: &Message<'_>, name: &str) {
    for field in message.all(name).take(RECEIVED_MAX) {
        copy(header, field.octets);
    }
}

/// A field as it stands. Only what would end a header early is mended: a bare CR or NUL, which has
/// no place in a message, and LF line ends.
fn copy(header: &mut Vec<u8>, field: &[u8]) {
    for line in field.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        header.extend(line.iter().map(|&b| if matches!(b, b'\r' | 0) { b' ' } else { b }));
        header.extend_from_slice(b"\r\n");
    }
}
