//! A message of the circuit, checked for itself: do its header, its data and its text tell the same?
//!
//! PEC-PR-10 to PEC-PR-17, without the transaction in which it came; for a person who holds a saved
//! receipt or envelope. What other providers may do otherwise is a [`Verification::notes`], not a
//! failure. Not here: the signature and its certificate.

use mail::{Address, Message};
use serde::Serialize;

use crate::certification::{Certification, CertifiedKind, ErrorKind};
use crate::delivery::Failure;
use crate::envelope::X_TRASPORTO_ERROR;
use crate::exchange::DeliveryForm;
use crate::incoming::{self, FormFault};
use crate::inspect::{Examination, Parts, only};
use crate::moment::Moment;
use crate::receipt::{Event, Notice, ReceiptKind};
use crate::text::Text;

/// What kind of message of the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemKind {
    /// A transport envelope, or a receipt.
    Certified(CertifiedKind),
    /// An anomaly envelope: nothing in it is certified.
    Anomaly,
}

impl SystemKind {
    /// Its word: that of `postacert/@tipo`, or `anomalia`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Certified(kind) => kind.tipo(),
            Self::Anomaly => "anomalia",
        }
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The rule that asks for it.
    pub rule: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was checked.
    pub text: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What the header says it is; `None` when it is no message of the circuit.
    pub kind: Option<SystemKind>,
    /// Its certification data, when they can be read.
    pub certification: Option<Certification>,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// What could not be, or is done otherwise than we do.
    pub notes: Vec<String>,
}

impl Verification {
    fn check(&mut self, rule: &'static str, ok: bool, text: impl Into<String>) {
        self.checks.push(Check { rule, ok, text: text.into() });
    }

    /// Whether all holds that could be checked.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Checks a message against itself. `emails` are the addresses in the signing certificate, when it
/// is known.
pub fn verify(examination: &Examination<'_>, emails: Option<&[String]>) -> Verification {
    let message = examination.message();
    let mut found =
        Verification { kind: kind(message), certification: None, checks: vec![], notes: vec![] };
    let kind_text = match found.kind {
        Some(kind) => format!("the header tells of one kind of message: {}", kind.word()),
        None => FormFault::Kind.to_string(),
    };
    found.check("PEC-PR-11", found.kind.is_some(), kind_text);
    let ascii = message.header().is_ascii();
    found.check("PEC-FMT-10", ascii, "the header is 7-bit");
    match emails {
        Some(emails) => {
            let ok = incoming::author(examination, emails).is_ok();
            found.check("PEC-PR-15", ok, "From is one address of the certificate");
        }
        None => found.notes.push("the addresses of the certificate are not known".into()),
    }
    let Some(parts) = examination.parts() else {
        found.check("PEC-FMT-01", false, FormFault::Layout.to_string());
        return found;
    };
    match found.kind {
        Some(SystemKind::Anomaly) => verify_anomaly(&mut found, &parts),
        Some(SystemKind::Certified(kind)) => verify_certified(&mut found, message, &parts, kind),
        None => {}
    }
    found
}

fn kind(message: &Message<'_>) -> Option<SystemKind> {
    let transport = only(message, "X-Trasporto").map(|field| field.unfolded());
    let anomaly = transport.is_some_and(|word| word.eq_ignore_ascii_case(X_TRASPORTO_ERROR));
    if anomaly && message.field("X-Ricevuta").is_none() {
        return Some(SystemKind::Anomaly);
    }
    incoming::kind(message).ok().map(SystemKind::Certified)
}

fn verify_anomaly(found: &mut Verification, parts: &Parts<'_>) {
    let none = parts.certifications.is_empty();
    found.check("PEC-BA-06", none, "an anomaly envelope has no daticert.xml");
    let one = matches!(&parts.originals[..], [part] if part.content_type.is("message", "rfc822"));
    found.check("PEC-BA-07", one, "the message that came is attached as postacert.eml");
    found.notes.push("nothing in an anomaly envelope is certified".into());
}

fn verify_certified(
    found: &mut Verification,
    message: &Message<'_>,
    parts: &Parts<'_>,
    kind: CertifiedKind,
) {
    let data = match incoming::certification(&parts.certifications) {
        Ok(data) => data,
        Err(fault) => return found.check("PEC-PR-12", false, fault.to_string()),
    };
    found.check("PEC-PR-12", true, "there is one daticert.xml, and it follows its DTD");
    let same = data.kind == kind;
    let text = format!("header and daticert.xml tell of one kind: {}", data.kind.tipo());
    found.check("PEC-PR-13", same, text);
    match kind {
        CertifiedKind::Transport => {
            let original = incoming::original(message, &parts.originals, &data);
            let text = match &original {
                Ok(_) => "there is one postacert.eml, and it has the identificativo".to_owned(),
                Err(fault) => fault.to_string(),
            };
            found.check("PEC-PR-14", original.is_ok(), text);
        }
        CertifiedKind::Receipt(kind) => {
            if !kind.is_for_providers() {
                let to = only(message, "To").and_then(|field| field.addresses().ok());
                let ok = to.is_some_and(|to| to == [data.sender.clone()]);
                found.check("PEC-GEN-15", ok, "the receipt is addressed to the sender");
            }
            if let [original] = &parts.originals[..] {
                let inner = Message::lenient(original.body());
                let id = only(&inner, "Message-ID").map(|field| field.unfolded());
                let ok = id.as_deref() == Some(&data.identifier.in_brackets()[..]);
                found.check("PEC-RC-08", ok, "postacert.eml has the identificativo");
            }
        }
    }
    verify_header(found, message, &data);
    verify_text(found, parts, &data, !parts.originals.is_empty());
    found.certification = Some(data);
}

/// The fields that repeat what is certified: they are outside of what is signed.
fn verify_header(found: &mut Verification, message: &Message<'_>, data: &Certification) {
    let reference = only(message, "X-Riferimento-Message-ID").map(|field| field.unfolded());
    if reference.is_some() || data.msgid.is_some() {
        let ok = reference.as_deref().map(str::trim) == data.msgid.as_deref();
        found.check("PEC-AP-22", ok, "X-Riferimento-Message-ID is the msgid");
    }
    let said = only(message, "Subject").map(|field| field.decoded()).unwrap_or_default();
    let events = events(data);
    let subject = data.subject.as_deref().unwrap_or_default();
    let ok = events.iter().any(|event| {
        words(&said).eq(words(&format!("{}: {subject}", event.prefix())))
            || words(&said).eq(words(&format!("{}:{subject}", event.prefix())))
    });
    found.check("PEC-FMT-07", ok, "the subject is the prefix of this kind and the oggetto");
    let date = only(message, "Date").map(|field| field.unfolded());
    let date = date.and_then(|text| jiff::fmt::rfc2822::parse(&text).ok());
    if date.is_none_or(|date| Moment::of(date.timestamp()).instant() != data.at.instant()) {
        found.notes.push(format!("Date is not the time that is certified, {}", data.at));
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// The text that people read, when it is our model: then it must be what the data make of it.
fn verify_text(found: &mut Verification, parts: &Parts<'_>, data: &Certification, whole: bool) {
    let Some(said) = parts.text.as_ref().and_then(|part| part.text()) else {
        found.check("PEC-FMT-02", false, "there is no text part that can be read");
        return;
    };
    let said: Vec<&str> = said.trim_end().split("\r\n").map(str::trim_end).collect();
    let exchange = data.exchange();
    let events = events(data);
    let models = events.iter().filter(|event| match event {
        // A brief or complete receipt brings the original back, a concise one does not.
        Event::Delivery { form, .. } => (*form != DeliveryForm::Concise) == whole,
        _ => true,
    });
    let mut is_model = false;
    for event in models {
        let text = Text::of(event, &exchange, data.at, data.error_text.as_deref());
        let lines: Vec<String> = text.latin1_lines();
        if lines == said {
            return found.check("PEC-FMT-11", true, "the text says what daticert.xml says");
        }
        is_model |= lines.len() == said.len() && lines.first().is_some_and(|l| l == said[0]);
    }
    if is_model {
        found.check("PEC-FMT-11", false, "the text says other than daticert.xml");
    } else {
        found.notes.push("the text is not of our model: it was not compared".into());
    }
}

/// The events that data of this kind can tell of.
fn events(data: &Certification) -> Vec<Event<'_>> {
    static OTHER: Failure = Failure::Other(String::new());
    let reason = data.error_text.as_deref().unwrap_or_default();
    let virus = reason;
    let recipient: Option<&Address> = data.delivery.as_ref().or_else(|| data.taken.first());
    let infected = data.error == ErrorKind::Virus;
    let kind = match data.kind {
        CertifiedKind::Transport => return vec![Event::Transport],
        CertifiedKind::Receipt(kind) => kind,
    };
    match (kind, recipient) {
        (ReceiptKind::Acceptance, _) => vec![Event::Acceptance],
        (ReceiptKind::NonAcceptance, _) if infected => vec![Event::NonAcceptanceVirus { virus }],
        (ReceiptKind::NonAcceptance, _) => vec![Event::NonAcceptance { reason }],
        (ReceiptKind::TakeCharge, _) => vec![Event::TakeCharge { recipients: &data.taken }],
        (_, None) => vec![],
        (ReceiptKind::Delivery, Some(recipient)) => {
            DeliveryForm::ALL.map(|form| Event::Delivery { recipient, form }).to_vec()
        }
        (ReceiptKind::NonDelivery, Some(recipient)) if infected => {
            vec![Event::NonDeliveryVirus { recipient, virus }]
        }
        (ReceiptKind::NonDelivery, Some(recipient)) => {
            vec![Event::NonDelivery { recipient, failure: &OTHER }]
        }
        (ReceiptKind::VirusFound, Some(recipient)) => vec![Event::VirusFound { recipient, virus }],
        (ReceiptKind::LateDelivery, Some(recipient)) => {
            [Notice::First, Notice::Second].map(|notice| Event::Late { recipient, notice }).to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::examine;
    use crate::testing::*;

    fn verified_by(octets: &[u8], email: &str) -> Verification {
        verify(&examine(octets), Some(&[email.to_owned()]))
    }

    fn broken(octets: &[u8], email: &str) -> Vec<&'static str> {
        let checks = verified_by(octets, email).checks.into_iter();
        checks.filter(|check| !check.ok).map(|check| check.rule).collect()
    }

    // PEC-GEN-11 PEC-FMT-11
    #[test]
    fn the_examples_hold_and_their_texts_say_what_their_data_say() {
        for (octets, email, word) in [
            (ACCEPTANCE, ALFA, "accettazione"),
            (ENVELOPE, ALFA, "posta-certificata"),
            (TAKE_CHARGE, BETA, "presa-in-carico"),
            (DELIVERY, BETA, "avvenuta-consegna"),
            (DELIVERY_COPY, BETA, "avvenuta-consegna"),
            (DELIVERY_BRIEF, BETA, "avvenuta-consegna"),
            (DELIVERY_CONCISE, BETA, "avvenuta-consegna"),
            (NON_DELIVERY, BETA, "errore-consegna"),
            (NON_ACCEPTANCE, ALFA, "non-accettazione"),
            (NON_ACCEPTANCE_VIRUS, ALFA, "non-accettazione"),
            (VIRUS_FOUND, BETA, "rilevazione-virus"),
            (NON_DELIVERY_VIRUS, ALFA, "errore-consegna"),
            (LATE_FIRST, ALFA, "preavviso-errore-consegna"),
            (LATE_SECOND, ALFA, "preavviso-errore-consegna"),
        ] {
            let found = verified_by(octets, email);
            assert!(found.holds(), "{word}: {:?}", found.checks);
            assert_eq!(found.notes, Vec::<String>::new());
            assert_eq!(found.kind.unwrap().word(), word);
            assert_eq!(found.certification.unwrap().identifier.as_str(), IDENTIFIER);
            let text = found.checks.iter().any(|check| check.rule == "PEC-FMT-11");
            assert!(text, "{word}: its text was compared");
        }
        let found = verified_by(ANOMALY, BETA);
        assert!(found.holds(), "{:?}", found.checks);
        assert_eq!(found.kind, Some(SystemKind::Anomaly));
        assert_eq!(found.notes, ["nothing in an anomaly envelope is certified"]);
    }

    // PEC-PR-13 PEC-PR-14 PEC-PR-15
    #[test]
    fn what_does_not_hold_is_named() {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let once = |from: &str, to: &str| {
            let text = text(DELIVERY);
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1).into_bytes()
        };
        for (octets, rules) in [
            (once("avvenuta-consegna", "errore-consegna"), vec!["PEC-PR-13"]),
            (once("From: posta-certificata@", "From: altro@"), vec!["PEC-PR-15"]),
            (once("To: mario.rossi@", "To: altro@"), vec!["PEC-GEN-15"]),
            (once("Subject: CONSEGNA", "Subject: ACCETTAZIONE"), vec!["PEC-FMT-07"]),
            (once("<20260914.093001.7f3a@", "<altro@"), vec!["PEC-AP-22"]),
            (once("X-Ricevuta: ", "X-Altro: "), vec!["PEC-PR-11"]),
        ] {
            assert_eq!(broken(&octets, BETA), rules);
        }
        let octets = with(DELIVERY, "=\"daticert.xml\"", "=\"altro.xml\"");
        assert_eq!(broken(&octets, BETA), ["PEC-PR-12"]);
        let octets = with(DELIVERY, "ed indirizzato a \"protocollo@", "ed indirizzato a \"altro@");
        assert_eq!(broken(&octets, BETA), ["PEC-FMT-11"]);
        let octets = with(ENVELOPE, "postacert.eml", "altro.eml");
        assert_eq!(broken(&octets, ALFA), ["PEC-PR-14"]);
        assert_eq!(broken(ORIGINAL, ALFA), ["PEC-PR-11", "PEC-PR-15", "PEC-FMT-01"]);
        // PEC-BA-06
        let part = "message/rfc822; name=\"postacert.eml\"";
        let octets = with(ANOMALY, part, "application/xml; name=\"postacert.xml\"");
        let octets = with(&octets, "\"postacert.xml\"", "\"daticert.xml\"");
        let octets = with(&octets, "filename=\"postacert.eml\"", "filename=\"daticert.xml\"");
        assert_eq!(broken(&octets, BETA), ["PEC-BA-06", "PEC-BA-07"]);
    }

    #[test]
    fn what_other_providers_do_otherwise_is_a_note() {
        let other = with(DELIVERY, "Ricevuta di avvenuta consegna\r\nIl", "-- Ricevuta --\r\nIl");
        let found = verified_by(&other, BETA);
        assert!(found.holds());
        assert_eq!(found.notes, ["the text is not of our model: it was not compared"]);
        let other =
            with(DELIVERY, "Date: Mon, 14 Sep 2026 09:30:15", "Date: Mon, 14 Sep 2026 09:30:17");
        let found = verified_by(&other, BETA);
        assert!(found.holds());
        assert_eq!(
            found.notes,
            ["Date is not the time that is certified, 14/09/2026 09:30:15 (+0200)"]
        );
        let found = verify(&examine(DELIVERY), None);
        assert_eq!(found.notes, ["the addresses of the certificate are not known"]);
    }
}
