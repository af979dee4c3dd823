//! What certified mail is, as keywords that any client can show, filter and search by.
//!
//! | keyword | on |
//! | --- | --- |
//! | `$PecBusta` | a transport envelope (*busta di trasporto*) |
//! | `$PecAnomalia` | an anomaly envelope (*busta di anomalia*) |
//! | `$PecAccettazione`, `$PecNonAccettazione` | the access point's receipt, or its notice |
//! | `$PecPresaInCarico` | a take-charge receipt |
//! | `$PecConsegna` | a delivery receipt |
//! | `$PecPreavviso` | the notice that nothing is known of a delivery yet |
//! | `$PecMancataConsegna` | a notice of non-delivery |
//! | `$PecVirus` | a notice that a virus was found |
//! | `$PecAccettata`, `$PecConsegnata`, `$PecProblema` | the sender's own copy in *Posta inviata*: it was accepted; delivered to all; not accepted, or not delivered to all |
//! | `$PecCopia` | a copy of what was sent that the server kept (`imap::COPY_KEYWORD`) |
//!
//! Those of the first kinds come with the message, in its commit; those of the copy are set by the
//! librarian. Users may change all of them, as any keyword.

use mail::Message;
use pec::receipt::ReceiptKind;
use store::{Flags, Keyword, MailboxName};

/// On the sender's copy: accepted.
pub(crate) const ACCEPTED: &str = "$PecAccettata";
/// On the sender's copy: delivered to all.
pub(crate) const DELIVERED: &str = "$PecConsegnata";
/// On the sender's copy: not accepted, or not delivered to all.
pub(crate) const PROBLEM: &str = "$PecProblema";

/// The mailbox that receipts go to where an account has one of that name.
const RECEIPTS: &str = "Ricevute";

fn of_receipt(kind: ReceiptKind) -> &'static str {
    match kind {
        ReceiptKind::Acceptance => "$PecAccettazione",
        ReceiptKind::NonAcceptance => "$PecNonAccettazione",
        ReceiptKind::TakeCharge => "$PecPresaInCarico",
        ReceiptKind::Delivery => "$PecConsegna",
        ReceiptKind::NonDelivery => "$PecMancataConsegna",
        ReceiptKind::LateDelivery => "$PecPreavviso",
        ReceiptKind::VirusFound => "$PecVirus",
    }
}

/// The flags with which a message of certified mail is delivered, by what its header says. Only what this
/// provider made or verified is delivered as it is: what another wrote is inside an envelope.
pub(crate) fn of(octets: &[u8]) -> Flags {
    let message = Message::lenient(octets);
    let value = |name: &str| message.field(name).map(|field| field.unfolded());
    let receipt = value("X-Ricevuta").and_then(|value| ReceiptKind::parse(&value)).map(of_receipt);
    let envelope = value("X-Trasporto").and_then(|value| match value.as_str() {
        "posta-certificata" => Some("$PecBusta"),
        "errore" => Some("$PecAnomalia"),
        _ => None,
    });
    flags(receipt.or(envelope).as_slice())
}

/// Flags of these keywords.
pub(crate) fn flags(keywords: &[&str]) -> Flags {
    let keywords = keywords.iter().filter_map(|keyword| Keyword::parse(keyword)).collect();
    Flags { keywords, ..Flags::default() }
}

/// Whether a message was delivered as a receipt.
pub(crate) fn is_receipt(flags: &Flags) -> bool {
    let is = |kind: ReceiptKind| Keyword::parse(of_receipt(kind));
    ReceiptKind::ALL.into_iter().filter_map(is).any(|keyword| flags.keywords.contains(&keyword))
}

/// Where receipts go: to `Ricevute`, when the account has it; where it has not, to INBOX.
pub(crate) fn receipts() -> MailboxName {
    MailboxName::parse(RECEIPTS).unwrap_or_else(MailboxName::inbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_marked_by_what_it_is() {
        for (header, expected) in [
            ("X-Ricevuta: accettazione", Some("$PecAccettazione")),
            ("X-Ricevuta: non-accettazione", Some("$PecNonAccettazione")),
            ("X-Ricevuta: presa-in-carico", Some("$PecPresaInCarico")),
            ("X-Ricevuta: avvenuta-consegna", Some("$PecConsegna")),
            ("X-Ricevuta: preavviso-errore-consegna", Some("$PecPreavviso")),
            ("X-Ricevuta: errore-consegna", Some("$PecMancataConsegna")),
            ("X-Ricevuta: rilevazione-virus", Some("$PecVirus")),
            ("X-Trasporto: posta-certificata", Some("$PecBusta")),
            ("X-Trasporto: errore", Some("$PecAnomalia")),
            ("X-Trasporto: aereo", None),
            ("Subject: X-Ricevuta: accettazione", None),
        ] {
            let found = of(format!("{header}\r\n\r\nX-Ricevuta: errore-consegna\r\n").as_bytes());
            let words: Vec<&str> = found.keywords.iter().map(Keyword::as_str).collect();
            assert_eq!(words, expected.as_slice(), "{header}");
            assert_eq!(is_receipt(&found), header.starts_with("X-Ric"), "{header}");
        }
    }
}
