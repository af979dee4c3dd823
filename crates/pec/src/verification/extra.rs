//! What stands in the outer header beside what repeats something signed: nobody vouches for it, and a
//! mail client may show it or go by it.
//!
//! What tells the contrary of what is signed is wrong; what is merely not ours is a note, for providers
//! add fields of their own, and RFC 6109 §2.1.1 lets receipts inherit some (doubt D-14).

use mail::{Address, Message};

use super::{Verification, header, shown};
use crate::certification::Certification;
use crate::inspect::only;
use crate::receipt::ReceiptKind;

/// The form of the header itself, of a message in which something is certified: two programs must see
/// the same fields in it. RFC 5322 §2.2 has no NUL, and no CR but at the end of a line.
pub(super) fn lines(found: &mut Verification, message: &Message<'_>) {
    let octets = message.header();
    let is_bare = |at: usize| octets.get(at + 1) != Some(&b'\n') && at + 1 < octets.len();
    let stray =
        memchr::memchr(0, octets).is_some() || memchr::memchr_iter(b'\r', octets).any(is_bare);
    let wrong = "the header has NUL or a CR alone: programs see different fields in it";
    found.check("PEC-FMT-10", !stray, "no stray control characters are in the header", wrong);
    let lines = octets.split(|octet| *octet == b'\n');
    let is_field = |line: &[u8]| {
        let name = line.iter().position(|octet| *octet == b':').map(|end| line[..end].trim_ascii());
        name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
    };
    let odd = lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && !line.starts_with(b" ") && !line.starts_with(b"\t"))
        .filter(|line| !is_field(line))
        .count();
    if odd > 0 {
        found.note(format!("lines of the header that are no field: {odd}"));
    }
}

/// Fields that only some kinds have: in others they tell of something that is not certified.
pub(super) fn foreign(
    found: &mut Verification,
    message: &Message<'_>,
    data: &Certification,
    kind: Option<ReceiptKind>,
) {
    let virus = [Some(ReceiptKind::NonAcceptance), Some(ReceiptKind::NonDelivery)];
    let said = header::values(message, "X-VerificaSicurezza");
    // Those two are looked at with their data; a virus notice is about one in any case.
    if !virus.contains(&kind) && kind != Some(ReceiptKind::VirusFound) && !said.is_empty() {
        let text = format!("X-VerificaSicurezza is {}, and this kind has none", shown(&said));
        match said.iter().any(|word| word.eq_ignore_ascii_case("errore")) {
            true => found.wrong("PEC-MCV-02", text),
            false => found.note(text),
        }
    }
    let said = header::values(message, "X-Mittente");
    let is_sender = |said: &String| Address::parse(said).is_ok_and(|said| said == data.sender);
    if kind != Some(ReceiptKind::VirusFound) && !said.iter().all(is_sender) {
        let text = format!("X-Mittente is {}, not the mittente, {}", shown(&said), data.sender);
        found.wrong("PEC-RV-03", text);
    }
}

/// What a receipt's header has that no table of a receipt has.
pub(super) fn receipt(found: &mut Verification, message: &Message<'_>) {
    for name in ["Reply-To", "Cc", "Bcc"] {
        let said = header::values(message, name);
        if !said.is_empty() {
            found.note(format!("{name} is {}: receipts have none", shown(&said)));
        }
    }
    let author = only(message, "From").and_then(|field| field.mailboxes().ok());
    if let Some([author]) = author.as_deref()
        && let Some(name) = author.name.as_deref().filter(|name| !name.trim().is_empty())
        && Address::parse(name.trim()).ok().as_ref() != Some(&author.address)
    {
        found.note(format!("the name that From shows is not signed: {}", shown(&[name])));
    }
    let identifiers = message.all("Message-ID").count();
    if identifiers != 1 {
        found.note(format!("Message-ID is there {identifiers} times"));
    }
}
