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
    let text = Text::of(&Event::Transport, exchange, at, None);
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

/// The prefix of the subject of an anomaly envelope, without its colon.
pub(crate) const ANOMALY_PREFIX: &str = "ANOMALIA MESSAGGIO";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Limits;
    use crate::exchange::DeliveryForm;
    use crate::testing::*;

    // PEC-BT-01 PEC-BT-02 PEC-BT-03 PEC-BT-04 PEC-BT-05 PEC-BT-08 PEC-BT-09 PEC-BT-10 PEC-AP-21
    // PEC-AP-22
    #[test]
    fn the_transport_envelope_is_the_example() {
        let submission = submission();
        let envelope = enclose(submission.accepted(), submission.original(), &alfa(), 7);
        assert_is_example(&envelope, ENVELOPE);
    }

    // PEC-BA-01 PEC-BA-02 PEC-BA-03 PEC-BA-05 PEC-BA-06 PEC-BA-07
    #[test]
    fn the_anomaly_envelope_is_the_example() {
        let start = ANOMALY.windows(9).rposition(|w| w == b"\r\n\r\nRetur").unwrap() + 4;
        let end = ANOMALY.windows(13).position(|w| w == b"Buongiorno.\r\n").unwrap() + 13;
        let sender = ReversePath::Address(address(ORDINARY));
        let envelope = enclose_anomaly(
            &ANOMALY[start..end],
            &sender,
            &addresses(&[PROTOCOLLO]),
            AnomalyReason::NotSigned,
            &beta(),
            at("10:00:05"),
            7,
        );
        assert_is_example(&envelope, ANOMALY);
    }

    fn enclosed(octets: &[u8]) -> String {
        let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
        let submission = submit(octets, &forward, &Limits::default()).unwrap();
        let envelope = enclose(submission.accepted(), submission.original(), &alfa(), 7);
        String::from_utf8(envelope.seal(b"x")).unwrap()
    }

    // PEC-BT-06
    #[test]
    fn the_form_of_receipt_is_inherited_or_complete() {
        for (field, inherited, requested) in [
            ("", "X-TipoRicevuta: completa\r\n", DeliveryForm::Complete),
            ("X-TipoRicevuta: breve\r\n", "X-TipoRicevuta: breve\r\n", DeliveryForm::Brief),
            ("X-Tiporicevuta:SINTETICA\r\n", "X-Tiporicevuta:SINTETICA\r\n", DeliveryForm::Concise),
            ("X-TipoRicevuta: complet\r\n", "X-TipoRicevuta: complet\r\n", DeliveryForm::Complete),
        ] {
            let text = enclosed(&with(SUBMITTED, "X-TipoRicevuta: completa\r\n", field));
            let (header, _) = text.split_once("\r\nMIME-Version").unwrap();
            assert!(header.to_owned().contains(inherited.trim_end()), "{header}");
            let verified = verified(text.as_bytes());
            assert_eq!(verified.exchange().requested, requested);
            assert_eq!(verified.certification().requested, Some(requested));
        }
    }

    // PEC-BT-02 PEC-BT-03
    #[test]
    fn reply_to_is_inherited_when_there_is_one() {
        let reply_to = "Reply-To:  \"Ufficio, altro\"\r\n\t<altro@pec.rossi.example>\r\n";
        let text = enclosed(&with(SUBMITTED, "Cc: ", &format!("{reply_to}Cc: ")));
        let (header, _) = text.split_once("\r\nMIME-Version").unwrap();
        assert!(header.contains(reply_to), "{header}");
        assert_eq!(header.matches("Reply-To").count(), 1);
        let risposte = verified(text.as_bytes()).certification().replies_to.clone();
        assert_eq!(risposte, "\"Ufficio, altro\"\t<altro@pec.rossi.example>".replace('\t', " "));
    }

    // PEC-BT-02: the trace of other hosts too, and nothing that asks for a notification
    #[test]
    fn only_the_fields_of_the_law_are_inherited() {
        let more = "Received: from a by b; Mon, 14 Sep 2026 09:00:00 +0200\r\n\
            Disposition-Notification-To: mario.rossi@pec.rossi.example\r\n\
            Return-Path: <forged@pec.example>\r\nSender: segreteria@pec.rossi.example\r\n\
            X-Altro: x\r\n";
        let text = enclosed(&[more.as_bytes(), SUBMITTED].concat());
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        let unfolded = header.replace("\r\n ", " ");
        let names: Vec<&str> =
            unfolded.split("\r\n").map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "Received",
                "Received",
                "X-Trasporto",
                "Date",
                "Subject",
                "From",
                "Reply-To",
                "To",
                "Cc",
                "Message-ID",
                "X-Riferimento-Message-ID",
                "X-TipoRicevuta",
                "MIME-Version",
                "Content-Type"
            ]
        );
    }

    // PEC-BA-03
    #[test]
    fn an_anomaly_without_sender_or_subject_is_told_as_it_is() {
        let envelope = enclose_anomaly(
            b"To: a\xe8@b\nX: y\n\nciao \xe8\n",
            &ReversePath::Null,
            &addresses(&[PROTOCOLLO, UFFICIO]),
            AnomalyReason::NotValid,
            &beta(),
            at("10:00:05"),
            7,
        );
        let octets = envelope.seal(b"x");
        let text = String::from_utf8_lossy(&octets);
        let (header, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(header.starts_with(
            "X-Trasporto: errore\r\nDate: Mon, 14 Sep 2026 10:00:05 +0200\r\n\
             Subject: ANOMALIA MESSAGGIO:\r\n\
             From: \"Per conto di: \" <posta-certificata@betacert.example>\r\nTo: a"
        ));
        assert!(body.contains(
            "il messaggio \"\" proveniente da \"\"\r\ned indirizzato a:\r\n\
             protocollo@pec.comune.example\r\nufficio@pec.comune.example\r\n\
             Tali dati non sono stati certificati per il seguente errore:\r\n\
             la firma digitale del messaggio non risulta attendibile\r\n"
        ));
        assert!(body.contains("Content-Transfer-Encoding: 8bit\r\n"));
        assert!(octets.windows(9).any(|w| w == b"ciao \xe8\n\r\n"));
    }

    #[test]
    fn an_anomaly_inherits_no_more_than_it_can_carry() {
        let received = b"Received: x\r\n".repeat(RECEIVED_MAX + 1);
        let octets = [&received[..], b"To: a@b\rX-Trasporto: c\r\nTo: d@e\r\n\r\nx"].concat();
        let envelope = enclose_anomaly(
            &octets,
            &ReversePath::Null,
            &[],
            AnomalyReason::Form,
            &beta(),
            at("10:00:05"),
            7,
        );
        let text = String::from_utf8(envelope.seal(b"x")).unwrap();
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(header.matches("Received: x\r\n").count(), RECEIVED_MAX);
        assert!(header.contains("\r\nTo: a@b X-Trasporto: c\r\n"), "{header}");
        assert!(!header.contains("d@e"));
    }
}
