//! A message of the circuit, checked for itself: do its header, its data and its text tell the same?
//!
//! PEC-PR-10 to PEC-PR-17, without the transaction in which it came; for a person who holds a saved
//! receipt or envelope. What other providers may do otherwise is a [`Verification::notes`], not a
//! failure. Not here: the signature and its certificate.

pub mod brief;
mod content;
mod extra;
mod header;
pub mod mandate;
mod text;

use mail::{Address, Message};
use serde::Serialize;

use crate::certification::{Certification, CertifiedKind, ErrorKind};
use crate::delivery::Failure;
use crate::envelope::X_TRASPORTO_ERROR;
use crate::exchange::DeliveryForm;
use crate::incoming::{self, FormFault};
use crate::inspect::{Examination, Parts, only};
use crate::providers::Index;
use crate::receipt::{Event, Notice, ReceiptKind};

/// Characters of a value that a check repeats at most: a field can be as long as a header.
const SHOWN_CHARACTERS: usize = 200;

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

/// What is known beside the message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The addresses in the signing certificate.
    pub emails: Option<&'a [String]>,
    /// The index of providers, which has their service mailboxes.
    pub index: Option<&'a Index>,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The rule that asks for it.
    pub rule: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What holds, or what is wrong.
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
    /// Adds a check, in the words for what holds or in those for what is wrong.
    fn check(
        &mut self,
        rule: &'static str,
        ok: bool,
        holds: impl Into<String>,
        wrong: impl Into<String>,
    ) {
        let text = if ok { holds.into() } else { wrong.into() };
        self.checks.push(Check { rule, ok, text });
    }

    fn wrong(&mut self, rule: &'static str, text: impl Into<String>) {
        self.checks.push(Check { rule, ok: false, text: text.into() });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Whether all holds that could be checked.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Checks a message against itself, and against what is known beside it.
pub fn verify(examination: &Examination<'_>, known: &Known<'_>) -> Verification {
    let message = examination.message();
    let mut found =
        Verification { kind: kind(message), certification: None, checks: vec![], notes: vec![] };
    match found.kind {
        Some(kind) => {
            let text = format!("the header tells of one kind of message: {}", kind.word());
            found.check("PEC-PR-11", true, text, "");
        }
        None => found.wrong("PEC-PR-11", FormFault::Kind.to_string()),
    }
    let ascii = message.header().is_ascii();
    if ascii || found.kind != Some(SystemKind::Anomaly) {
        found.check(
            "PEC-FMT-10",
            ascii,
            "the header is 7-bit",
            FormFault::HeaderNotAscii.to_string(),
        );
    } else {
        // It inherits fields of what anybody may have sent, unmodified (PEC-BA-02).
        found.note("the header has octets above 127, as the message that came");
    }
    match known.emails {
        Some(emails) => {
            let said = header::values(message, "From");
            found.check(
                "PEC-PR-15",
                incoming::author(examination, emails).is_ok(),
                "From is one address of the certificate",
                format!("From is {}, the certificate is of {}", shown(&said), shown(emails)),
            );
        }
        None => found.note("the addresses of the certificate are not known"),
    }
    let Some(parts) = examination.parts() else {
        found.wrong("PEC-FMT-01", FormFault::Layout.to_string());
        return found;
    };
    match found.kind {
        Some(SystemKind::Anomaly) => verify_anomaly(&mut found, message, &parts),
        Some(SystemKind::Certified(kind)) => {
            verify_certified(&mut found, message, &parts, kind, known.index);
        }
        None => {}
    }
    found
}

/// The first thing in which the outer header of a correct message tells something else than what is
/// signed; the incoming point asks it too, of the same fields and with the same patience.
pub(crate) fn contradiction(
    message: &Message<'_>,
    data: &Certification,
    kind: CertifiedKind,
    original: Option<&Message<'_>>,
) -> Option<Check> {
    let kept = Some(SystemKind::Certified(kind));
    let mut found = Verification { kind: kept, certification: None, checks: vec![], notes: vec![] };
    match kind {
        CertifiedKind::Transport => header::envelope(&mut found, message, data, original),
        // Which service mailbox we had when it was written is not asked: an index lags by a day, and
        // nothing goes by this field.
        CertifiedKind::Receipt(kind) => header::receipt(&mut found, message, data, kind, None),
    }
    header::certified(&mut found, message, data, original);
    found.checks.into_iter().find(|check| !check.ok)
}

fn kind(message: &Message<'_>) -> Option<SystemKind> {
    let transport = only(message, "X-Trasporto").map(|field| field.unfolded());
    let anomaly = transport.is_some_and(|word| word.eq_ignore_ascii_case(X_TRASPORTO_ERROR));
    if anomaly && message.field("X-Ricevuta").is_none() {
        return Some(SystemKind::Anomaly);
    }
    incoming::kind(message).ok().map(SystemKind::Certified)
}

fn verify_anomaly(found: &mut Verification, message: &Message<'_>, parts: &Parts<'_>) {
    found.check(
        "PEC-BA-06",
        parts.certifications.is_empty(),
        "an anomaly envelope has no daticert.xml",
        "there is a daticert.xml: an anomaly envelope must have none",
    );
    match &parts.originals[..] {
        [part] if part.content_type.is("message", "rfc822") => {
            found.check(
                "PEC-BA-07",
                true,
                "the message that came is attached as postacert.eml",
                "",
            );
            header::anomaly(found, message, &Message::lenient(part.body()));
        }
        _ => found.wrong("PEC-BA-07", FormFault::OriginalCount.to_string()),
    }
    text::anomaly(found, message, parts);
    found.note("nothing in an anomaly envelope is certified");
}

fn verify_certified(
    found: &mut Verification,
    message: &Message<'_>,
    parts: &Parts<'_>,
    kind: CertifiedKind,
    index: Option<&Index>,
) {
    let data = match incoming::certification(&parts.certifications) {
        Ok(data) => data,
        Err(fault) => return found.wrong("PEC-PR-12", fault.to_string()),
    };
    found.check("PEC-PR-12", true, "there is one daticert.xml, and it follows its DTD", "");
    let tipo = data.kind.tipo();
    found.check(
        "PEC-PR-13",
        data.kind == kind,
        format!("header and daticert.xml tell of one kind: {tipo}"),
        format!("the header tells of {}, daticert.xml of {tipo}", kind.tipo()),
    );
    let mut enclosed = None;
    match kind {
        CertifiedKind::Transport => {
            let original = incoming::original(message, &parts.originals, &data);
            let holds = "there is one postacert.eml, and it has the identificativo";
            match &original {
                Ok(_) => found.check("PEC-PR-14", true, holds, ""),
                Err(fault) => found.wrong("PEC-PR-14", fault.to_string()),
            }
            let original = original.ok().map(|part| Message::lenient(part.body()));
            if let Some(inner) = &original {
                content::original(found, &data, inner);
            }
            header::envelope(found, message, &data, original.as_ref());
            enclosed = original;
        }
        CertifiedKind::Receipt(kind) => {
            header::receipt(found, message, &data, kind, index);
            if let [original] = &parts.originals[..] {
                let inner = Message::lenient(original.body());
                let said = header::values(&inner, "Message-ID");
                let identifier = data.identifier.in_brackets();
                found.check(
                    "PEC-RC-08",
                    said == [&identifier[..]],
                    "postacert.eml has the identificativo",
                    format!(
                        "the Message-ID of postacert.eml is {}, not {identifier}",
                        shown(&said)
                    ),
                );
                content::original(found, &data, &inner);
            }
            extra::receipt(found, message);
        }
    }
    let receipt = match kind {
        CertifiedKind::Transport => None,
        CertifiedKind::Receipt(kind) => Some(kind),
    };
    extra::lines(found, message);
    extra::foreign(found, message, &data, receipt);
    content::data(found, &data);
    header::certified(found, message, &data, enclosed.as_ref());
    let in_text = text::certified(found, parts, &data);
    if receipt == Some(ReceiptKind::Delivery) {
        content::form(found, &data, parts, in_text);
    }
    found.certification = Some(data);
}

/// Values as a check repeats them: quoted, and no longer than a person reads.
fn shown(values: &[impl AsRef<str>]) -> String {
    let mut out = String::new();
    for value in values {
        let separator = if out.is_empty() { "" } else { ", " };
        let room = SHOWN_CHARACTERS.saturating_sub(out.chars().count());
        if room == 0 {
            return out + ", ...";
        }
        let value = value.as_ref();
        let short: String = value.chars().take(room).collect();
        let dots = if short.len() < value.len() { "..." } else { "" };
        out += &format!("{separator}\"{short}{dots}\"");
    }
    if out.is_empty() { "missing".to_owned() } else { out }
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
mod tests;
