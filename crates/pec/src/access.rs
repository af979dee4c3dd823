//! What the access point decides: whether a message is accepted, and what it then is.
//!
//! PEC-AP, RT §6.3, §6.3.1, RFC 6109 §3.1.1. To hold an [`Accepted`] is to have passed. Not here:
//! authentication and the right to a reverse-path (the session refuses those itself), the virus
//! check, and the octets of notices and envelopes.

mod original;

use std::borrow::Cow;
use std::collections::HashSet;

use mail::message::{FIELDS_MAX, HEADER_OCTETS_MAX, MessageError};
use mail::sevenbit::{self, LINE_OCTETS_MAX, SevenBitError};
use mail::{Address, Domain, Message};
use serde::{Deserialize, Serialize};

pub use original::{Trace, trace_field};

use crate::certification::ErrorKind;
use crate::exchange::{DeliveryForm, Exchange, PecId, Provider, Recipient, RecipientKind};
use crate::moment::Moment;
use crate::subject::Subject;
use crate::text;

/// Size times recipients that every provider lets through, DM 2 Nov 2005 art. 12 c. 2: 30 MB, in
/// the larger reading of the unit (PEC-AP-15, doubt D-20).
pub const PRODUCT_OCTETS_GUARANTEED: u64 = 30 * 1024 * 1024;
/// Recipients that every provider lets a holder name, ibidem.
pub const RECIPIENTS_GUARANTEED: usize = 50;
/// Fields that a header has once at most: RFC 5322 §3.6, and those of MIME, which two readers would
/// take differently.
const ONCE: [&str; 14] = [
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// What a user submitted, in an authenticated session.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// The reverse-path.
    pub reverse_path: &'a Address,
    /// The forward-paths.
    pub forward_paths: &'a [Address],
    /// The message as it came in DATA, CRLF line ends.
    pub octets: &'a [u8],
    /// The `Received` field of this submission ([`trace_field`]); it goes before the message.
    pub trace: &'a [u8],
}

/// Octets of a submitted header at most: what a reader looks at, but for the room that the fields
/// need which are added to it.
pub const HEADER_OCTETS: usize = HEADER_OCTETS_MAX - 8 * 1024;
/// Fields of a submitted header at most, likewise.
pub const FIELDS: usize = FIELDS_MAX - 16;

/// How much a provider takes from its own users, never below what the law guarantees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    product_octets: u64,
    recipients: usize,
    /// Whether an address in `To` or `Cc` that is no forward-path refuses the message too (doubt
    /// D-04).
    strict_recipients: bool,
}

impl Limits {
    /// Size times recipients, recipients, and whether `To` and `Cc` must all be forward-paths. What
    /// is below the guaranteed least counts as that (PEC-AP-15, PEC-AP-16).
    pub fn new(product_octets: u64, recipients: usize, strict_recipients: bool) -> Self {
        Self {
            product_octets: product_octets.max(PRODUCT_OCTETS_GUARANTEED),
            recipients: recipients.max(RECIPIENTS_GUARANTEED),
            strict_recipients,
        }
    }

    /// Whether so many octets may go to so many recipients (PEC-AP-08).
    pub fn allow(&self, octets: usize, recipients: usize) -> bool {
        (octets as u64).saturating_mul(recipients.max(1) as u64) <= self.product_octets
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(PRODUCT_OCTETS_GUARANTEED, 500, true)
    }
}

/// What is wrong with a field of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldFault {
    /// It is not there.
    Missing,
    /// It is no list of addresses, or names none.
    NoAddress,
    /// It names several, where one belongs.
    Several,
}

/// Why the access point refuses a message; the words for the sender are in [`text::refusal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No `From`, or not one address (PEC-AP-03, PEC-AP-12).
    From(FieldFault),
    /// No `To`, or no address in it (PEC-AP-04).
    To(FieldFault),
    /// `Cc` is no list of addresses.
    Cc,
    /// `From` is not the reverse-path (PEC-AP-05).
    Sender,
    /// A forward-path that is in neither `To` nor `Cc` (PEC-AP-06, PEC-AP-13).
    Hidden(Address),
    /// An address in `To` or `Cc` that is no forward-path (PEC-AP-13, doubt D-04).
    NotRouted(Address),
    /// An address in `Bcc` (PEC-AP-07).
    Bcc,
    /// Too large, times its recipients (PEC-AP-08).
    Size {
        /// Octets that a message to so many may have.
        octets_max: u64,
        /// To how many it goes.
        recipients: usize,
    },
    /// More recipients than this (PEC-AP-16).
    Recipients(usize),
    /// No forward-path.
    NoRecipient,
    /// A header of more octets than this (PEC-AP-09).
    HeaderTooLong(usize),
    /// A header of more fields than this (PEC-AP-09).
    TooManyFields(usize),
    /// A line of the header that is no field (PEC-AP-09).
    NotAField,
    /// Control characters in the header, RFC 5322 §2.2 (PEC-AP-09).
    Control,
    /// A field that may stand once stands twice (PEC-AP-09).
    Repeated(&'static str),
    /// Octets above 127 in a header, where no form in ASCII says the same (PEC-FMT-10).
    HeaderNotAscii,
    /// Octets above 127 in what is signed, where they cannot be converted.
    SignedNotAscii,
    /// A NUL, RFC 5322 §4.
    Nul,
    /// A line longer than this, where it cannot be encoded: RFC 5322 §2.1.1.
    LineTooLong(usize),
    /// Octets above 127 where they cannot be converted: beside the parts of a multipart.
    NotConvertible,
    /// Octets above 127 in a structure too complex to convert.
    Structure,
    /// An address of the service itself, to which no user may write.
    ServiceAddress(Address),
}

/// A message that the access point accepted, and when: all that a job needs beside the octets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    exchange: Exchange,
    at: Moment,
}

impl Accepted {
    /// What it is about.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// When it was accepted: the one time of its receipt, envelope and log record.
    pub fn at(&self) -> Moment {
        self.at
    }
}

/// An accepted message with the octets of its `postacert.eml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    accepted: Accepted,
    original: Vec<u8>,
    remarks: Vec<String>,
}

impl Submission {
    /// What was accepted, and when.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// What it is about.
    pub fn exchange(&self) -> &Exchange {
        &self.accepted.exchange
    }

    /// The original message with its new identifier.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// What is out of order without making it less certifiable, for the log (doubt D-31).
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Both, for who keeps them apart.
    pub fn into_parts(self) -> (Accepted, Vec<u8>) {
        (self.accepted, self.original)
    }
}

/// A message that was refused: what its notice needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonAcceptance {
    exchange: Exchange,
    at: Moment,
    reason: String,
    /// The reason is a virus' name.
    #[serde(default)]
    infected: bool,
}

impl NonAcceptance {
    /// What could be read of the message; its recipients are the forward-paths.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// When it was refused.
    pub fn at(&self) -> Moment {
        self.at
    }

    /// Why, in Italian; of an infected message, the virus' name.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether it was refused for a virus.
    pub fn is_infected(&self) -> bool {
        self.infected
    }

    /// The value of `errore`.
    pub fn error(&self) -> ErrorKind {
        if self.infected { ErrorKind::Virus } else { ErrorKind::Other }
    }
}

/// The access point's formal checks, RT §6.3.1, RFC 6109 §3.1.1, and what becomes of a message that
/// passes. `kind` looks a domain up in the index of providers, whole and in lower case (PEC-AP-18,
/// PEC-AP-19); `identifier` is fresh, for refused messages too.
///
/// # Errors
///
/// A [`NonAcceptance`], which the sender must be told of (PEC-AP-10).
pub fn admit(
    draft: &Draft<'_>,
    provider: &Provider,
    limits: &Limits,
    kind: &dyn Fn(&Domain) -> RecipientKind,
    identifier: PecId,
    at: Moment,
) -> Result<Submission, Box<NonAcceptance>> {
    let checked = judge(draft, provider, limits, kind, identifier, at)?;
    Ok(checked.submission(draft.octets.to_vec()))
}

/// The same, of octets that are given away: of a large message no second copy is made.
///
/// # Errors
///
/// As [`admit`].
pub fn admit_given(
    octets: Vec<u8>,
    paths: &Paths<'_>,
    provider: &Provider,
    limits: &Limits,
    kind: &dyn Fn(&Domain) -> RecipientKind,
    (identifier, at): (PecId, Moment),
) -> Result<Submission, Box<NonAcceptance>> {
    let checked = judge(&paths.draft(&octets), provider, limits, kind, identifier, at)?;
    Ok(checked.submission(octets))
}

/// What is said of a draft beside its octets.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// The reverse-path.
    pub reverse_path: &'a Address,
    /// The forward-paths.
    pub forward_paths: &'a [Address],
    /// As that of a [`Draft`].
    pub trace: &'a [u8],
}

impl<'a> Paths<'a> {
    /// With these octets.
    pub fn draft(&self, octets: &'a [u8]) -> Draft<'a> {
        let Self { reverse_path, forward_paths, trace } = *self;
        Draft { reverse_path, forward_paths, octets, trace }
    }
}

/// A message that passed, before its octets are those of `postacert.eml`.
struct Checked {
    accepted: Accepted,
    remarks: Vec<String>,
    header: Vec<u8>,
    /// The octets, where they had to be converted.
    converted: Option<Vec<u8>>,
    /// Where the body begins in them, or in those of the draft.
    body: usize,
}

impl Checked {
    /// With the octets that it was made from.
    fn submission(self, octets: Vec<u8>) -> Submission {
        let Self { accepted, remarks, header, converted, body } = self;
        let mut original = converted.unwrap_or(octets);
        // The body is moved once, by as much as the header grows.
        original.splice(..body, header);
        Submission { accepted, original, remarks }
    }
}

fn judge(
    draft: &Draft<'_>,
    provider: &Provider,
    limits: &Limits,
    kind: &dyn Fn(&Domain) -> RecipientKind,
    identifier: PecId,
    at: Moment,
) -> Result<Checked, Box<NonAcceptance>> {
    let recipients = recipients(draft.forward_paths, kind);
    let message = Message::lenient(draft.octets);
    let exchange = original::exchange(draft.reverse_path, recipients, &message, identifier);
    match check(draft, &exchange, provider, limits) {
        Ok(octets) => {
            let checked = Message::lenient(&octets);
            let header = original::header(&checked, draft.trace, &exchange);
            let body = octets.len() - checked.body().len();
            let remarks = remarks(&message, draft.reverse_path);
            let converted = match octets {
                Cow::Borrowed(_) => None,
                Cow::Owned(octets) => Some(octets),
            };
            Ok(Checked { accepted: Accepted { exchange, at }, remarks, header, converted, body })
        }
        Err(refusal) => {
            let reason = text::refusal(&refusal);
            Err(Box::new(NonAcceptance { exchange, at, reason, infected: false }))
        }
    }
}

/// What becomes of a message in which a virus was found, whatever its form: it is refused, RT
/// §6.4.3.1 (PEC-AP-26). `identifier` is fresh.
pub fn refuse_infected(
    draft: &Draft<'_>,
    kind: &dyn Fn(&Domain) -> RecipientKind,
    identifier: PecId,
    at: Moment,
    virus: &str,
) -> Box<NonAcceptance> {
    let recipients = recipients(draft.forward_paths, kind);
    let message = Message::lenient(draft.octets);
    let exchange = original::exchange(draft.reverse_path, recipients, &message, identifier);
    Box::new(NonAcceptance { exchange, at, reason: virus.to_owned(), infected: true })
}

/// Each forward-path once, with its kind.
fn recipients(
    forward_paths: &[Address],
    kind: &dyn Fn(&Domain) -> RecipientKind,
) -> Vec<Recipient> {
    let mut seen = HashSet::new();
    let first = forward_paths.iter().filter(|address| seen.insert(*address));
    first.map(|a| Recipient { address: a.clone(), kind: kind(a.domain()) }).collect()
}

/// All checks; the octets are those to certify, made safe for 7-bit transport.
fn check<'a>(
    draft: &Draft<'a>,
    exchange: &Exchange,
    provider: &Provider,
    limits: &Limits,
) -> Result<Cow<'a, [u8]>, Refusal> {
    let recipients = &exchange.recipients;
    if recipients.is_empty() {
        return Err(Refusal::NoRecipient);
    }
    if recipients.len() > limits.recipients {
        return Err(Refusal::Recipients(limits.recipients));
    }
    if !limits.allow(draft.octets.len(), recipients.len()) {
        let octets_max = limits.product_octets / recipients.len() as u64;
        return Err(Refusal::Size { octets_max, recipients: recipients.len() });
    }
    let form = |error| match error {
        MessageError::HeaderTooLong => Refusal::HeaderTooLong(HEADER_OCTETS),
        MessageError::TooManyFields => Refusal::TooManyFields(FIELDS),
        MessageError::NotAField => Refusal::NotAField,
    };
    // Before anything is converted: how much there is to convert is bounded here.
    let came = Message::parse(draft.octets).map_err(form)?;
    // A bare CR or a NUL would not be the same to all who read it.
    let control = |b: &u8| b.is_ascii_control() && !b"\r\n\t".contains(b);
    let bare_cr = |pair: &[u8]| pair[0] == b'\r' && pair[1] != b'\n';
    if came.header().iter().any(control) || came.header().windows(2).any(bare_cr) {
        return Err(Refusal::Control);
    }
    let octets = in_seven_bits(draft.octets)?;
    let message = Message::parse(&octets).map_err(form)?;
    // A subject that has to be encoded again stands in the envelope longer than it was.
    let subject = message.field("Subject").map_or(0, |field| field.value.len());
    let grown = exchange.subject.as_ref().map_or(0, Subject::octets).saturating_sub(subject);
    if message.header().len() + grown > HEADER_OCTETS {
        return Err(Refusal::HeaderTooLong(HEADER_OCTETS));
    }
    if message.fields().len() > FIELDS {
        return Err(Refusal::TooManyFields(FIELDS));
    }
    let repeated = |name: &&&str| message.all(name).nth(1).is_some();
    if let Some(name) = ONCE.iter().find(repeated) {
        return Err(Refusal::Repeated(name));
    }
    check_paths(&message, draft.reverse_path, recipients, limits.strict_recipients)?;
    if let Some(recipient) = recipients.iter().find(|r| provider.is_service_address(&r.address)) {
        return Err(Refusal::ServiceAddress(recipient.address.clone()));
    }
    Ok(octets)
}

/// What is certified travels in 7 bits (PEC-FMT-10): all that is looked at is what will be.
fn in_seven_bits(octets: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if sevenbit::is_seven_bit(octets) {
        return Ok(Cow::Borrowed(octets));
    }
    sevenbit::make_seven_bit(octets).map(Cow::Owned).map_err(|error| match error {
        SevenBitError::Header => Refusal::HeaderNotAscii,
        SevenBitError::Signed => Refusal::SignedNotAscii,
        SevenBitError::Structure => Refusal::Structure,
        SevenBitError::Nul => Refusal::Nul,
        SevenBitError::LineTooLong => Refusal::LineTooLong(LINE_OCTETS_MAX),
        SevenBitError::Octets => Refusal::NotConvertible,
    })
}

/// The checks that compare the header with the paths of the transaction.
fn check_paths(
    message: &Message<'_>,
    reverse_path: &Address,
    recipients: &[Recipient],
    strict: bool,
) -> Result<(), Refusal> {
    use FieldFault::{Missing, NoAddress, Several};
    let from = message.field("From").ok_or(Refusal::From(Missing))?;
    let from = from.addresses().map_err(|_| Refusal::From(NoAddress))?;
    let [author] = &from[..] else {
        return Err(Refusal::From(if from.is_empty() { NoAddress } else { Several }));
    };
    let to = message.field("To").ok_or(Refusal::To(Missing))?;
    let to = to.addresses().map_err(|_| Refusal::To(NoAddress))?;
    if to.is_empty() {
        return Err(Refusal::To(NoAddress));
    }
    let cc = match message.field("Cc") {
        Some(field) if !field.unfolded().is_empty() => {
            field.addresses().map_err(|_| Refusal::Cc)?
        }
        _ => Vec::new(),
    };
    if author != reverse_path {
        return Err(Refusal::Sender);
    }
    // A `Bcc` field that names nobody hides nobody, RFC 5322 §3.6.3.
    if let Some(bcc) = message.field("Bcc") {
        let names_nobody = || bcc.addresses().is_ok_and(|list| list.is_empty());
        if !bcc.unfolded().is_empty() && !names_nobody() {
            return Err(Refusal::Bcc);
        }
    }
    let named: HashSet<&Address> = to.iter().chain(&cc).collect();
    if let Some(hidden) = recipients.iter().find(|r| !named.contains(&r.address)) {
        return Err(Refusal::Hidden(hidden.address.clone()));
    }
    if strict {
        let routed: HashSet<&Address> = recipients.iter().map(|r| &r.address).collect();
        if let Some(missing) = to.iter().chain(&cc).find(|a| !routed.contains(*a)) {
            return Err(Refusal::NotRouted(missing.clone()));
        }
    }
    Ok(())
}

/// What RFC 5322 asks beyond what is certified: a date (§3.6.1), and as `Sender` who sends (§3.6.2).
/// The original is not to be modified and its reader sees the time of acceptance, so it is accepted
/// as it is (doubt D-31).
fn remarks(message: &Message<'_>, reverse_path: &Address) -> Vec<String> {
    let mut remarks = Vec::new();
    match message.field("Date") {
        None => remarks.push("the message has no Date".to_owned()),
        Some(field) if field.date().is_none() => {
            remarks.push("the Date of the message is none".to_owned());
        }
        Some(_) => {}
    }
    if let Some(sender) = message.field("Sender")
        && !sender.addresses().is_ok_and(|list| matches!(&list[..], [one] if one == reverse_path))
    {
        remarks.push("the Sender of the message is not who sent it".to_owned());
    }
    remarks
}

/// What is asked for with `X-TipoRicevuta`.
fn requested(message: &Message<'_>) -> DeliveryForm {
    let value = message.field("X-TipoRicevuta").map(|field| field.unfolded());
    DeliveryForm::requested(value.as_deref())
}

fn subject(message: &Message<'_>) -> Option<Subject> {
    message.field("Subject").map(|field| Subject::of(&field))
}

#[cfg(test)]
mod tests;
