//! What the incoming point decides: what a message is, once its signature has been looked into.
//!
//! PEC-PR, RT §6.4, RFC 6109 §2.2.2. The caller makes the tests of existence, origin and validity
//! (PEC-PR-01 to 03) with a cryptography that this crate does not have; the fourth, of form
//! (PEC-PR-10 to 18), is here. The outer header is outside of what is signed, so its agreement with
//! the signed data is a matter of security, not of style.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use mail::{Address, Domain, Message, ReversePath};
use serde::{Deserialize, Serialize};

use crate::certification::{Certification, CertificationError, CertifiedKind, ErrorKind};
use crate::delivery::Place;
use crate::envelope::X_TRASPORTO_CERTIFIED;
use crate::exchange::{DeliveryForm, Exchange, as_text, as_texts};
use crate::inspect::{Examination, Part, only};
use crate::moment::Moment;
use crate::providers::{Index, ProviderRecord};
use crate::receipt::ReceiptKind;
use crate::subject::Subject;
use crate::verification;
use crate::verification::mandate::{Mandate, mandate, speaks_for};

/// How old the time in certification data may be when a message arrives. Between providers a message
/// waits for 24 hours at most (PEC-BT-14), and then has failed; the rest is for a provider that comes
/// back from a backup, and sends what it had sent weeks ago. What is older than that is no longer
/// known again when it comes twice (PEC-PR-28), so that nobody may believe it once more.
pub const BELIEVED_FOR: SignedDuration = SignedDuration::from_hours(24 * 90);
/// How far that time may be ahead of ours: clocks are a second apart at most (PEC-DT-06), unless
/// somebody's is set to another day.
pub const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Who signed, when origin and validity were proved.
#[derive(Debug, Clone, Copy)]
pub struct SignedBy<'a> {
    /// The records of the index that hold the signing certificate.
    pub records: &'a [&'a ProviderRecord],
    /// The addresses (rfc822Name) in that certificate.
    pub emails: &'a [String],
    /// The index of providers: who manages the domain of a sender.
    pub index: &'a Index,
    /// Whether the form is wrong of a message whose signer does not manage the domain of its author
    /// (doubt D-21).
    pub strict_author: bool,
}

/// Why the first three tests failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginFault {
    /// There is no signature (PEC-PR-01).
    NotSigned,
    /// The signer is no provider of the index (PEC-PR-02).
    NotAProvider,
    /// Signature, path, revocation or validity do not hold (PEC-PR-03).
    NotValid,
}

/// The transaction in which a message came.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The forward-paths that came to us.
    pub forward_paths: &'a [Address],
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// A correct transport envelope.
    Envelope(Box<VerifiedEnvelope>),
    /// A correct receipt.
    Notification(Box<VerifiedNotification>),
    /// A provider signed it, but its form is wrong: it must be propagated, in an anomaly envelope
    /// (PEC-PR-07).
    Anomaly(FormFault),
    /// Ordinary mail (PEC-PR-08).
    Ordinary(OriginFault),
}

/// Why a message is put in an anomaly envelope; the words are in [`crate::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnomalyReason {
    /// It is not signed.
    NotSigned,
    /// The signer is no provider.
    NotAProvider,
    /// The signature does not hold.
    NotValid,
    /// The form is wrong.
    Form,
}

impl From<OriginFault> for AnomalyReason {
    fn from(fault: OriginFault) -> Self {
        match fault {
            OriginFault::NotSigned => Self::NotSigned,
            OriginFault::NotAProvider => Self::NotAProvider,
            OriginFault::NotValid => Self::NotValid,
        }
    }
}

/// What is wrong with the form of a message that a provider signed; for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    /// PEC-FMT-10
    #[error("the header has octets above 127")]
    HeaderNotAscii,
    /// PEC-PR-10, PEC-PR-11
    #[error("neither one X-Trasporto nor one X-Ricevuta of a known value")]
    Kind,
    /// PEC-FMT-01
    #[error("what is signed is no multipart/mixed")]
    Layout,
    /// PEC-PR-12
    #[error("there is not exactly one daticert.xml")]
    CertificationCount,
    /// PEC-PR-12
    #[error(transparent)]
    Certification(#[from] CertificationError),
    /// PEC-PR-13
    #[error("the header and daticert.xml tell of different kinds")]
    KindDiffers,
    /// PEC-PR-14
    #[error("there is not exactly one postacert.eml of type message/rfc822")]
    OriginalCount,
    /// PEC-PR-14
    #[error("the Message-ID fields are not the identificativo")]
    IdentifierDiffers,
    /// PEC-PR-15
    #[error("From is not one address of the certificate")]
    Author,
    /// PEC-PR-06, where that is asked for
    #[error("From is of {0}, which the provider that signed does not manage")]
    AuthorNotManaged(Domain),
    /// PEC-BT-02 to PEC-BT-06, PEC-FMT-07, PEC-DT-05 and their like: the rule, and what is wrong
    #[error("{1} ({0})")]
    Header(&'static str, String),
    /// PEC-PR-16
    #[error("mittente is not the reverse-path")]
    Sender,
    /// PEC-PR-27, doubt D-30; and when it was certified: an index of later may say otherwise
    #[error("{0}")]
    Mandate(String, Moment),
    /// PEC-PR-16
    #[error("{0} is a forward-path and not among the destinatari")]
    Recipient(Address),
    /// [`BELIEVED_FOR`], [`AHEAD_MAX`]
    #[error("it was certified on {0}, too long ago or not yet")]
    Time(Moment),
}

/// What was proved of a message's origin, and what the index said of its signer at that time.
///
/// Index, certificates and revocation lists change while a message is under way; what the incoming
/// point decided does not. So this travels with the message, in its job, and [`recall`] needs no
/// index. Nothing makes one but [`judge`], or reading what [`judge`] made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    signer: String,
    #[serde(with = "as_text")]
    receipts_to: Address,
    manages_author: bool,
    authoritative: bool,
    #[serde(default)]
    remarks: Vec<String>,
}

/// A correct transport envelope: that it exists means that all tests were passed. It can be written
/// into a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedEnvelope {
    exchange: Exchange,
    certification: Certification,
    provenance: Provenance,
    #[serde(with = "as_texts")]
    to: Vec<Address>,
    #[serde(with = "as_texts")]
    cc: Vec<Address>,
    original: Range<usize>,
}

impl VerifiedEnvelope {
    /// What it is about; the form of receipt is the one its `X-TipoRicevuta` asks for.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Its `daticert.xml`.
    pub fn certification(&self) -> &Certification {
        &self.certification
    }

    /// What was proved of its origin.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The name, in the index, of the provider that signed it.
    pub fn signer(&self) -> &str {
        &self.provenance.signer
    }

    /// The service mailbox of that provider (PEC-PIC-04).
    pub fn receipts_to(&self) -> &Address {
        &self.provenance.receipts_to
    }

    /// Whether that provider manages the domain of `From` (PEC-PR-06, doubt D-21).
    pub fn manages_author(&self) -> bool {
        self.provenance.manages_author
    }

    /// Where a recipient is named (PEC-RC-04).
    pub fn place(&self, recipient: &Address) -> Place {
        Place::of(recipient, &self.to, &self.cc)
    }

    /// Its `postacert.eml`, in the octets that were examined; nothing in others that are shorter.
    pub fn original<'a>(&self, examined: &'a [u8]) -> &'a [u8] {
        examined.get(self.original.clone()).unwrap_or_default()
    }
}

/// A correct receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedNotification {
    kind: ReceiptKind,
    certification: Certification,
    provenance: Provenance,
}

impl VerifiedNotification {
    /// Its kind.
    pub fn kind(&self) -> ReceiptKind {
        self.kind
    }

    /// Its `daticert.xml`.
    pub fn certification(&self) -> &Certification {
        &self.certification
    }

    /// What was proved of its origin.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The name, in the index, of the provider that signed it.
    pub fn signer(&self) -> &str {
        &self.provenance.signer
    }

    /// Whether the signer manages the domains of the addresses that it speaks for, and the data do not
    /// contradict themselves, so that a tracker may believe it (PEC-PR-27).
    pub fn is_authoritative(&self) -> bool {
        self.provenance.authoritative && self.contradiction().is_none()
    }

    /// What of its data contradicts its kind: then it is delivered as it is, and closes nobody.
    pub fn contradiction(&self) -> Option<&'static str> {
        let told = self.certification.error;
        match self.kind {
            ReceiptKind::Delivery if told != ErrorKind::None => {
                Some("it attests a delivery, and its data tell of an error")
            }
            ReceiptKind::TakeCharge if told != ErrorKind::None => {
                Some("it attests that a message was taken in charge, and its data tell of an error")
            }
            ReceiptKind::Acceptance if told != ErrorKind::None => {
                Some("it attests an acceptance, and its data tell of an error")
            }
            ReceiptKind::NonDelivery | ReceiptKind::NonAcceptance if told == ErrorKind::None => {
                Some("it tells of an error, and its data of none")
            }
            // Of a virus some say no error at all: PEC-RV-06 has the word from practice only.
            ReceiptKind::VirusFound if !matches!(told, ErrorKind::Virus | ErrorKind::None) => {
                Some("it tells of a virus, and its data of another error")
            }
            _ => None,
        }
    }

    /// The one recipient concerned. Older virus notices have him in `ricezione` (PEC-RV-06).
    pub fn recipient(&self) -> Option<&Address> {
        let data = &self.certification;
        match self.kind {
            ReceiptKind::VirusFound => data.delivery.as_ref().or_else(|| data.taken.first()),
            _ => data.delivery.as_ref(),
        }
    }

    /// Whether the signer manages the domain of `From` (PEC-PR-06, doubt D-21).
    pub fn manages_author(&self) -> bool {
        self.provenance.manages_author
    }
}

/// Tells what a message is, of which origin and validity have been looked into.
pub fn judge(
    examination: &Examination<'_>,
    origin: Result<SignedBy<'_>, OriginFault>,
    routing: &Routing<'_>,
) -> Class {
    let signed_by = match origin {
        Ok(signed_by) => signed_by,
        Err(fault) => return Class::Ordinary(fault),
    };
    if signed_by.records.is_empty() {
        return Class::Ordinary(OriginFault::NotAProvider);
    }
    let prove = |data: &Certification, kind, original: Option<&Message<'_>>| {
        provenance(examination, &signed_by, data, kind, original)
    };
    formal(examination, &prove, routing).unwrap_or_else(Class::Anomaly)
}

/// Tells what a message is that [`judge`] held for correct before: what was proved of its origin
/// stays proved, whatever has become of its signer's certificate and of the index since.
pub fn recall(
    examination: &Examination<'_>,
    provenance: &Provenance,
    routing: &Routing<'_>,
) -> Class {
    let proved = |_: &Certification, _, _: Option<&Message<'_>>| Ok(provenance.clone());
    formal(examination, &proved, routing).unwrap_or_else(Class::Anomaly)
}

/// What is known of a message's origin: found out now, or remembered.
type Prove<'a> = &'a dyn Fn(
    &Certification,
    CertifiedKind,
    Option<&Message<'_>>,
) -> Result<Provenance, FormFault>;

fn formal(
    examination: &Examination<'_>,
    prove: Prove<'_>,
    routing: &Routing<'_>,
) -> Result<Class, FormFault> {
    let message = examination.message();
    if !message.header().is_ascii() {
        return Err(FormFault::HeaderNotAscii);
    }
    let kind = kind(message)?;
    let parts = examination.parts().ok_or(FormFault::Layout)?;
    let certification = certification(&parts.certifications)?;
    if certification.kind != kind {
        return Err(FormFault::KindDiffers);
    }
    match kind {
        CertifiedKind::Receipt(receipt) => {
            let provenance = prove(&certification, kind, None)?;
            let receipt = VerifiedNotification { kind: receipt, certification, provenance };
            Ok(Class::Notification(Box::new(receipt)))
        }
        CertifiedKind::Transport => {
            let original = original(message, &parts.originals, &certification)?;
            check_routing(routing, &certification)?;
            let inner = Message::lenient(original.body());
            let provenance = prove(&certification, kind, Some(&inner))?;
            let asked = message.field("X-TipoRicevuta").map(|field| field.unfolded());
            let subject = inner.field("Subject").map(|field| Subject::of(&field));
            let exchange = Exchange {
                requested: DeliveryForm::requested(asked.as_deref()),
                subject: subject.or_else(|| certification.exchange().subject),
                ..certification.exchange()
            };
            Ok(Class::Envelope(Box::new(VerifiedEnvelope {
                exchange,
                certification,
                provenance,
                to: addresses(message, "To"),
                cc: addresses(message, "Cc"),
                original: original.range.clone(),
            })))
        }
    }
}

impl Class {
    /// What is out of order without deciding it, for the log.
    pub fn remarks(&self) -> Vec<String> {
        match self {
            Self::Envelope(envelope) => envelope.provenance.remarks.clone(),
            Self::Notification(receipt) => {
                let contradiction = receipt.contradiction().map(str::to_owned);
                receipt.provenance.remarks.iter().cloned().chain(contradiction).collect()
            }
            Self::Anomaly(_) | Self::Ordinary(_) => Vec::new(),
        }
    }

    /// The same, unless it was certified at a time at which a message that arrives `now` cannot have
    /// been: then its form is wrong. To be asked once, when another host brings it.
    #[must_use]
    pub fn timely(self, now: Timestamp) -> Self {
        let certified = match &self {
            Self::Envelope(envelope) => envelope.certification.at,
            Self::Notification(receipt) => receipt.certification.at,
            Self::Anomaly(_) | Self::Ordinary(_) => return self,
        };
        let age = now.duration_since(certified.instant());
        if age > BELIEVED_FOR || age < -AHEAD_MAX {
            return Self::Anomaly(FormFault::Time(certified));
        }
        self
    }
}

/// What a signature that holds proves, of a message whose author is in the certificate (PEC-PR-15),
/// whose signer may speak for whom it speaks, and whose outer header, which is not signed, tells
/// nothing else than what is. Nobody speaks for another provider's user, be it as `mittente` or as a
/// recipient (PEC-PR-27, doubt D-30); our own are in the index too.
fn provenance(
    examination: &Examination<'_>,
    signed_by: &SignedBy<'_>,
    certification: &Certification,
    kind: CertifiedKind,
    original: Option<&Message<'_>>,
) -> Result<Provenance, FormFault> {
    let author = author(examination, signed_by.emails)?;
    let (records, index) = (signed_by.records, signed_by.index);
    let record = record(records, certification.sender.domain()).ok_or(FormFault::Author)?;
    let manages_author = speaks_for(index, records, &author);
    if signed_by.strict_author && !manages_author {
        return Err(FormFault::AuthorNotManaged(author.domain().clone()));
    }
    let Mandate { checks, notes } = mandate(index, records, Some(&author), Some(certification));
    if let Some(wrong) = checks.into_iter().find(|check| !check.ok) {
        return Err(FormFault::Mandate(wrong.text, certification.at));
    }
    let message = examination.message();
    if let Some(wrong) = verification::contradiction(message, certification, kind, original) {
        return Err(FormFault::Header(wrong.rule, wrong.text));
    }
    let manages = |address: &Address| speaks_for(index, records, address);
    Ok(Provenance {
        signer: record.name.clone(),
        receipts_to: record.mail_receipt.clone(),
        manages_author,
        authoritative: match kind {
            CertifiedKind::Transport => false,
            CertifiedKind::Receipt(kind) => is_authoritative(kind, certification, &manages),
        },
        remarks: notes,
    })
}

/// The kind that the header tells (PEC-PR-10, PEC-PR-11). Names have no case (PEC-PR-18).
pub(crate) fn kind(message: &Message<'_>) -> Result<CertifiedKind, FormFault> {
    let word = |name| only(message, name).map(|f| f.unfolded().trim().to_ascii_lowercase());
    let there = |name: &str| message.field(name).is_some();
    match (there("X-Trasporto"), there("X-Ricevuta")) {
        (true, false) if word("X-Trasporto").as_deref() == Some(X_TRASPORTO_CERTIFIED) => {
            Ok(CertifiedKind::Transport)
        }
        (false, true) => word("X-Ricevuta")
            .and_then(|word| ReceiptKind::parse(&word))
            .map(CertifiedKind::Receipt)
            .ok_or(FormFault::Kind),
        _ => Err(FormFault::Kind),
    }
}

/// The data in the one `daticert.xml` (PEC-PR-12).
pub(crate) fn certification(parts: &[Part<'_>]) -> Result<Certification, FormFault> {
    let [part] = parts else { return Err(FormFault::CertificationCount) };
    if !part.content_type.is("application", "xml") {
        return Err(FormFault::CertificationCount);
    }
    let octets = part.certification().ok_or(CertificationError::TooLong)?;
    Ok(Certification::parse(&octets)?)
}

/// The author, when it is one of the addresses of the certificate (PEC-PR-15).
pub(crate) fn author(
    examination: &Examination<'_>,
    emails: &[String],
) -> Result<Address, FormFault> {
    let author = examination.author().ok_or(FormFault::Author)?;
    let is_author = |email: &String| Address::parse(email).is_ok_and(|email| email == author);
    if emails.iter().any(is_author) { Ok(author) } else { Err(FormFault::Author) }
}

/// The one `postacert.eml`, which has the identifier of its envelope (PEC-PR-14).
pub(crate) fn original<'p, 'a>(
    message: &Message<'_>,
    parts: &'p [Part<'a>],
    certification: &Certification,
) -> Result<&'p Part<'a>, FormFault> {
    let [part] = parts else { return Err(FormFault::OriginalCount) };
    // RFC 2046 §5.2.1: a message cannot be encoded, and encoded its header would not be read.
    let plain = ["7bit", "8bit", "binary"].contains(&part.encoding.trim());
    if !part.content_type.is("message", "rfc822") || !plain {
        return Err(FormFault::OriginalCount);
    }
    let identifier = certification.identifier.in_brackets();
    let agrees = |message: &Message<'_>| {
        only(message, "Message-ID").is_some_and(|field| field.unfolded().trim() == identifier)
    };
    if agrees(message) && agrees(&Message::lenient(part.body())) {
        Ok(part)
    } else {
        Err(FormFault::IdentifierDiffers)
    }
}

/// The paths of the transaction are those that are certified (PEC-PR-16).
fn check_routing(routing: &Routing<'_>, certification: &Certification) -> Result<(), FormFault> {
    match routing.reverse_path {
        ReversePath::Address(address) if *address == certification.sender => {}
        ReversePath::Address(_) | ReversePath::Null => return Err(FormFault::Sender),
    }
    let named: std::collections::HashSet<&Address> =
        certification.recipients.iter().map(|r| &r.address).collect();
    match routing.forward_paths.iter().find(|path| !named.contains(path)) {
        Some(path) => Err(FormFault::Recipient(path.clone())),
        None => Ok(()),
    }
}

/// Among the records that hold the certificate, the one that manages the sender's domain, else the
/// main one (PEC-IDX-13).
fn record<'a>(records: &[&'a ProviderRecord], sender: &Domain) -> Option<&'a ProviderRecord> {
    let manager = records.iter().find(|record| record.manages(sender));
    let main = || records.iter().find(|record| record.unit.is_none());
    manager.or_else(main).or(records.first()).copied()
}

/// Whether a signer manages the domains of the addresses for which a receipt speaks: those of the
/// recipients, or of the sender when his own provider speaks (PEC-PR-27).
fn is_authoritative(
    kind: ReceiptKind,
    certification: &Certification,
    manages: &dyn Fn(&Address) -> bool,
) -> bool {
    match kind {
        ReceiptKind::Acceptance | ReceiptKind::NonAcceptance | ReceiptKind::LateDelivery => {
            manages(&certification.sender)
        }
        ReceiptKind::TakeCharge
        | ReceiptKind::Delivery
        | ReceiptKind::NonDelivery
        | ReceiptKind::VirusFound => {
            certification.delivery.iter().chain(&certification.taken).all(manages)
        }
    }
}

/// The addresses in a field; none when it is not a list of them, which makes its reader careful
/// (PEC-RC-02).
fn addresses(message: &Message<'_>, name: &str) -> Vec<Address> {
    let list = message.all(name).filter_map(|field| field.addresses().ok());
    list.flatten().collect()
}

#[cfg(test)]
mod tests;
