//! The outer header of a message of the circuit, compared with what is signed.
//!
//! No signature covers it, and it is what a mail client shows: from whom, to whom, when, about what,
//! and where an answer goes. So each field that repeats something signed must repeat it right:
//! PEC-BT-02 to PEC-BT-06, PEC-BA-02, PEC-BA-03, PEC-GEN-15, PEC-FMT-07, PEC-DT-05. Not here: fields
//! that repeat nothing, as `Received`.

use mail::{Address, Field, Message};

use super::{Verification, events, shown};
use crate::certification::{Certification, ErrorKind};
use crate::envelope::ANOMALY_PREFIX;
use crate::exchange::DeliveryForm;
use crate::inspect::only;
use crate::moment::Moment;
use crate::providers::Index;
use crate::receipt::ReceiptKind;

/// What stands before the sender in the display name of an envelope's author (PEC-BT-03).
const ON_BEHALF_OF: &str = "Per conto di:";

/// What an envelope inherits from the message in it, and what its data tell (PEC-BT-02 to 06).
pub(super) fn envelope(
    found: &mut Verification,
    message: &Message<'_>,
    data: &Certification,
    original: Option<&Message<'_>>,
) {
    let sender = data.sender.to_string();
    let author = on_behalf_of(message);
    found.check(
        "PEC-BT-03",
        author.as_deref().is_some_and(|said| is_address(said, &data.sender)),
        "From names the mittente",
        format!("From is {}, not {ON_BEHALF_OF} {sender}", shown(&values(message, "From"))),
    );
    check_sender(found, message);
    let asked: Vec<_> = values(message, "X-TipoRicevuta");
    let forms: Vec<_> = asked.iter().map(|word| DeliveryForm::requested(Some(word))).collect();
    let inner = original.and_then(|o| o.field("X-TipoRicevuta")).map(|field| field.unfolded());
    let requested = data.requested.unwrap_or_else(|| DeliveryForm::requested(inner.as_deref()));
    // No field means the complete form (PEC-RC-01).
    let ok = forms == [requested] || (forms.is_empty() && requested == DeliveryForm::Complete);
    found.check(
        "PEC-BT-06",
        ok,
        "X-TipoRicevuta is the form that is certified",
        format!("X-TipoRicevuta is {}, not {}", shown(&asked), requested.tipo()),
    );
    let Some(original) = original else { return };
    inherited(found, "PEC-BT-02", "To", message, original);
    inherited(found, "PEC-BT-02", "Cc", message, original);
    if message.field("Reply-To").is_none() {
        // An answer goes to the provider then, and to nobody else.
        found.note("there is no Reply-To");
    } else if original.field("Reply-To").is_some() {
        inherited(found, "PEC-BT-02", "Reply-To", message, original);
    } else {
        // Some providers certify more than the address as `risposte`.
        let said = only(message, "Reply-To").map(|field| one_line(&field.decoded()));
        let ok = said.is_some_and(|said| said == one_line(&data.replies_to))
            || is_bare(message, "Reply-To", |said| *said == data.sender);
        let said = shown(&values(message, "Reply-To"));
        let wrong = format!("Reply-To is {said}, not the mittente, {sender}");
        found.check("PEC-BT-03", ok, "Reply-To is the mittente", wrong);
    }
}

/// To whom a receipt goes, and what else its kind has.
pub(super) fn receipt(
    found: &mut Verification,
    message: &Message<'_>,
    data: &Certification,
    kind: ReceiptKind,
    index: Option<&Index>,
) {
    let to = only(message, "To").and_then(|field| field.addresses().ok()).unwrap_or_default();
    let said = shown(&values(message, "To"));
    if kind.is_for_providers() {
        let rule = if kind == ReceiptKind::VirusFound { "PEC-RV-03" } else { "PEC-PIC-04" };
        match service_mailboxes(index, data) {
            Some(mailboxes) => found.check(
                rule,
                matches!(&to[..], [to] if mailboxes.contains(&to)),
                "To is the service mailbox of the sender's provider",
                format!("To is {said}, not the service mailbox of the sender's provider"),
            ),
            None => {
                let wrong = format!("To is {said}, not one address");
                found.check(rule, to.len() == 1, "To is one address", wrong);
                found.note("the service mailbox of the sender's provider is not known");
            }
        }
    } else {
        found.check(
            "PEC-GEN-15",
            to == [data.sender.clone()],
            "the receipt is addressed to the sender",
            format!("To is {said}, not the mittente, {}", data.sender),
        );
    }
    check_sender(found, message);
    if kind == ReceiptKind::VirusFound {
        let said = values(message, "X-Mittente");
        found.check(
            "PEC-RV-03",
            matches!(&said[..], [said] if is_address(said, &data.sender)),
            "X-Mittente is the mittente",
            format!("X-Mittente is {}, not {}", shown(&said), data.sender),
        );
    }
    let rule = match kind {
        ReceiptKind::NonAcceptance => "PEC-NA-05",
        ReceiptKind::NonDelivery => "PEC-MCV-02",
        ReceiptKind::Acceptance
        | ReceiptKind::TakeCharge
        | ReceiptKind::Delivery
        | ReceiptKind::LateDelivery
        | ReceiptKind::VirusFound => return,
    };
    let said = values(message, "X-VerificaSicurezza");
    let said_shown = shown(&said);
    let is_told = matches!(&said[..], [word] if word.eq_ignore_ascii_case("errore"));
    if data.error == ErrorKind::Virus {
        let wrong = format!("X-VerificaSicurezza is {said_shown}, and the data tell of a virus");
        found.check(rule, is_told, "X-VerificaSicurezza tells of the virus", wrong);
    } else if !said.is_empty() {
        let wrong = format!("X-VerificaSicurezza is {said_shown}, and the data tell of no virus");
        found.wrong(rule, wrong);
    }
}

/// What an anomaly envelope inherits (PEC-BA-02), and what it says of the message in it.
pub(super) fn anomaly(found: &mut Verification, message: &Message<'_>, original: &Message<'_>) {
    inherited(found, "PEC-BA-02", "To", message, original);
    inherited(found, "PEC-BA-02", "Cc", message, original);
    // A host on the way may add one to a message that has none.
    if original.field("Message-ID").is_some() {
        inherited(found, "PEC-BA-02", "Message-ID", message, original);
    }
    check_sender(found, message);
    let sender = on_behalf_of(message);
    let wrong =
        format!("From is {}, not {ON_BEHALF_OF} and the sender", shown(&values(message, "From")));
    found.check("PEC-BA-03", sender.is_some(), "From names a sender", wrong);
    let sender = sender.unwrap_or_default();
    if original.field("Reply-To").is_some() {
        inherited(found, "PEC-BA-03", "Reply-To", message, original);
    } else {
        let said = values(message, "Reply-To");
        let ok = if sender.is_empty() {
            said.is_empty()
        } else {
            is_bare(message, "Reply-To", |said| is_address(&sender, said))
        };
        let wrong = format!("Reply-To is {}, not the sender, {}", shown(&said), shown(&[&sender]));
        found.check("PEC-BA-03", ok, "Reply-To is the sender", wrong);
    }
    check_subject(found, message, &[ANOMALY_PREFIX], &[&subject(original)]);
}

fn subject(message: &Message<'_>) -> String {
    message.field("Subject").map(|field| field.decoded()).unwrap_or_default()
}

/// The fields that repeat what is certified, of an envelope, whose message inside is signed too, or of
/// a receipt.
pub(super) fn certified(
    found: &mut Verification,
    message: &Message<'_>,
    data: &Certification,
    original: Option<&Message<'_>>,
) {
    let said = values(message, "X-Riferimento-Message-ID");
    let msgid: Vec<String> = data.msgid.iter().map(|msgid| one_line(msgid)).collect();
    if !said.is_empty() || !msgid.is_empty() {
        found.check(
            "PEC-AP-22",
            said == msgid,
            "X-Riferimento-Message-ID is the msgid",
            format!("X-Riferimento-Message-ID is {}, the msgid is {}", shown(&said), shown(&msgid)),
        );
    }
    let prefixes: Vec<_> = events(data).iter().map(|event| event.prefix()).collect();
    let certified = data.subject.as_deref().unwrap_or_default();
    // The one inside is signed too, and read by us: where encodings are in it, it may stand for what
    // another program made of it.
    let inner = original.and_then(|original| original.field("Subject"));
    match inner.filter(|field| !is_plain(&field.unfolded()) || !is_plain(certified)) {
        Some(inner) => {
            check_subject(found, message, &prefixes, &[certified, &inner.decoded()]);
        }
        None => check_subject(found, message, &prefixes, &[certified]),
    }
    check_date(found, message, data.at);
}

/// `Date` is the instant that is signed (PEC-DT-05), to the second.
pub(super) fn check_date(found: &mut Verification, message: &Message<'_>, at: Moment) {
    let date = only(message, "Date").and_then(|field| field.date());
    let said = shown(&values(message, "Date"));
    found.check(
        "PEC-DT-05",
        date.is_some_and(|date| Moment::of(date.timestamp()).instant() == at.instant()),
        "Date is the time that is signed",
        format!("Date is {said}, not the time that is signed, {at}"),
    );
}

/// The subject is one of these prefixes and one of these (PEC-FMT-07). White space does not count:
/// folding may have changed it. How encoded words and octets above 127 are read differs from program to
/// program: where there are any, the letters and digits of ASCII decide, and a difference in the rest is
/// noted.
fn check_subject(
    found: &mut Verification,
    message: &Message<'_>,
    prefixes: &[&str],
    inner: &[&str],
) {
    let field = only(message, "Subject");
    let said = field.map(|field| one_line(&field.decoded()));
    let said_text = said.as_deref().unwrap_or_default();
    let expected: Vec<String> = prefixes
        .iter()
        .flat_map(|prefix| inner.iter().map(move |inner| (prefix, inner)))
        .flat_map(|(prefix, inner)| {
            [" ", ""].map(|gap| one_line(&format!("{prefix}:{gap}{inner}")))
        })
        .collect();
    let ok = expected.iter().any(|expected| said_text == expected);
    let raw = field.map(|field| field.unfolded()).unwrap_or_default();
    let plain = is_plain(&raw) && inner.iter().all(|inner| is_plain(inner));
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let wrong = format!(
        "Subject is {}, not {}",
        shown(&said.iter().collect::<Vec<_>>()),
        shown(&expected.iter().take(1).collect::<Vec<_>>())
    );
    if !ok && !plain && expected.iter().any(|expected| letters(said_text) == letters(expected)) {
        found.note(wrong);
        return;
    }
    found.check(
        "PEC-FMT-07",
        ok,
        "the subject is the prefix of this kind and that of the original",
        wrong,
    );
}

/// Whether all programs read it alike: it has no encoded word, and no octet above 127.
pub(super) fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.contains("=?")
}

/// A `Sender` field, when there is one, is the author (PEC-BT-05; RFC 6109 §2.1 says it of all).
fn check_sender(found: &mut Verification, message: &Message<'_>) {
    let said = values(message, "Sender");
    if said.is_empty() {
        return;
    }
    let addresses =
        |name| only(message, name).and_then(|field| field.addresses().ok()).unwrap_or_default();
    let ok = addresses("Sender").len() == 1 && addresses("Sender") == addresses("From");
    let wrong = format!("Sender is {}, not the address in From", shown(&said));
    found.check("PEC-BT-05", ok, "Sender is the address in From", wrong);
}

/// A field is that of the message inside. Where that has several, the first is inherited.
fn inherited(
    found: &mut Verification,
    rule: &'static str,
    name: &str,
    message: &Message<'_>,
    original: &Message<'_>,
) {
    let (outer, inner) = (values(message, name), values(original, name));
    if outer.is_empty() && inner.is_empty() {
        return;
    }
    // Folded anew or quoted in another way, they are the same.
    let mailboxes = |of: Option<Field<'_>>| of.and_then(|field| field.mailboxes().ok());
    let outer_mailboxes = mailboxes(only(message, name)).filter(|list| !list.is_empty());
    let ok = outer == inner
        || (outer.len() == 1 && outer.first() == inner.first())
        || (outer_mailboxes.is_some() && outer_mailboxes == mailboxes(original.field(name)));
    let holds = format!("{name} is that of the original");
    let wrong = format!("{name} is {}, that of the original {}", shown(&outer), shown(&inner));
    found.check(rule, ok, holds, wrong);
}

/// The sender on whose behalf the one `From` says it is, in the one place that shows it.
pub(super) fn on_behalf_of(message: &Message<'_>) -> Option<String> {
    let mailboxes = only(message, "From")?.mailboxes().ok()?;
    let [author] = &mailboxes[..] else { return None };
    let sender = author.name.as_deref()?.trim().strip_prefix(ON_BEHALF_OF)?;
    Some(sender.trim().to_owned())
}

/// Whether a field is one address without a name, of which this holds.
fn is_bare(message: &Message<'_>, name: &str, holds: impl Fn(&Address) -> bool) -> bool {
    let mailboxes = only(message, name).and_then(|field| field.mailboxes().ok());
    let mailboxes = mailboxes.unwrap_or_default();
    matches!(&mailboxes[..], [one] if one.name.is_none() && holds(&one.address))
}

fn is_address(text: &str, address: &Address) -> bool {
    Address::parse(text).is_ok_and(|said| said == *address)
}

/// The service mailboxes of the provider that manages the sender's domain, those of its other
/// environments too: which one received the message is not certified. `None` when the index has no
/// such provider, or is missing.
fn service_mailboxes<'i>(
    index: Option<&'i Index>,
    data: &Certification,
) -> Option<Vec<&'i Address>> {
    let provider = &index?.by_domain(data.sender.domain())?.name;
    let records = index?.records().iter().filter(|record| record.name == *provider);
    Some(records.map(|record| &record.mail_receipt).collect())
}

/// The values of a field, each on one line.
pub(super) fn values(message: &Message<'_>, name: &str) -> Vec<String> {
    message.all(name).map(|field| one_line(&field.unfolded())).collect()
}

/// A text in which white space and control characters are one space each time: folding is free, and
/// an envelope cannot inherit what would end its header. What XML has no character for is `?` there.
pub(super) fn one_line(text: &str) -> String {
    let text = text.replace(['\u{fffe}', '\u{ffff}'], "?");
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
