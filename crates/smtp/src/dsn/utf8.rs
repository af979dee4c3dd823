//! Original recipients beyond ASCII: the address type `utf-8` of RFC 6533 §3.
//!
//! It is written in ASCII (`utf-8-addr-xtext`), which goes anywhere, or in UTF-8 (`utf-8-addr-unitext`), where
//! the transaction says SMTPUTF8. What is kept is the first form, whichever came: so any next hop takes it,
//! and a report stays in 7 bits (`message/delivery-status`, where §3 wants that form).

use std::fmt::Write as _;

use mail::{Address, Domain};

/// Hexadecimal digits of an embedded character at most: those of U+10FFFF.
const DIGITS_MAX: usize = 6;

/// The address in `utf-8-addr-xtext`, when what came is one of the two forms and stands for an address.
pub(super) fn in_ascii(text: &str) -> Option<String> {
    let address = dequoted(text)?;
    if !is_mailbox(&address) {
        return None;
    }
    let mut quoted = String::with_capacity(text.len());
    for c in address.chars() {
        match is_qchar(c) {
            true => quoted.push(c),
            // To a string nothing fails.
            false => write!(quoted, "\\x{{{:02X}}}", u32::from(c)).ok()?,
        }
    }
    Some(quoted)
}

/// `QCHAR = %x21-2a / %x2c-3c / %x3e-5b / %x5d-7e`
const fn is_qchar(c: char) -> bool {
    matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\')
}

/// What `1*(QUCHAR / EmbeddedUnicodeChar)` stands for.
fn dequoted(text: &str) -> Option<String> {
    let (mut address, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            let (digits, after) = rest.strip_prefix("\\x{")?.split_once('}')?;
            address.push(embedded(digits)?);
            rest = after;
        } else if is_qchar(c) || !c.is_ascii() {
            address.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            return None;
        }
    }
    Some(address)
}

/// `HEXPOINT`: in as few digits as there can be, two at least; of ASCII only what could not stand there
/// itself. Its control characters are part of no address, and are left out here.
fn embedded(digits: &str) -> Option<char> {
    let is_short = digits.len() == 2 || (digits.len() > 2 && !digits.starts_with('0'));
    if !is_short || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    (matches!(c, ' ' | '+' | '=' | '\\') || !c.is_ascii()).then_some(c)
}

/// `Mailbox` of RFC 6531 §3.3: what it has beyond ASCII may stand wherever a letter may.
fn is_mailbox(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_domain = match domain.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(literal) => !literal.is_empty() && literal.bytes().all(|b| b.is_ascii_graphic()),
        None => Domain::from_unicode(domain).is_ok(),
    };
    let letters: String = local.chars().map(|c| if c.is_ascii() { c } else { 'x' }).collect();
    is_domain && Address::parse(&format!("{letters}@x.example")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_either_form_is_kept_in_ascii() {
        for (came, kept) in [
            ("anna@b.example", "anna@b.example"),
            ("nicol\\x{F2}@b.example", "nicol\\x{F2}@b.example"),
            ("nicol\\x{f2}@b.example", "nicol\\x{F2}@b.example"),
            ("nicol\u{f2}@citt\u{e0}.example", "nicol\\x{F2}@citt\\x{E0}.example"),
            ("a\\x{2B}b\\x{3D}c@b.example", "a\\x{2B}b\\x{3D}c@b.example"),
            ("\"a\\x{20}\\x{5C}\\x{20}b\"@b.example", "\"a\\x{20}\\x{5C}\\x{20}b\"@b.example"),
            ("\u{4e2d}\u{1f4e7}@b.example", "\\x{4E2D}\\x{1F4E7}@b.example"),
            ("\\x{10FFFD}@b.example", "\\x{10FFFD}@b.example"),
            ("\\x{D7FB}@[192.0.2.1]", "\\x{D7FB}@[192.0.2.1]"),
        ] {
            assert_eq!(in_ascii(came).as_deref(), Some(kept), "{came}");
            assert_eq!(in_ascii(kept).as_deref(), Some(kept), "{kept}");
        }
    }

    #[test]
    fn what_is_neither_form_or_no_address_is_refused() {
        for bad in [
            // No xtext on top of it, and nothing that is none.
            "",
            "a+2Bb@b.example",
            "a=b@b.example",
            "a b@b.example",
            "a\u{7f}@b.example",
            // Not closed, not begun, empty.
            "\\x{E8@b.example",
            "\\xE8@b.example",
            "\\X{E8}@b.example",
            "\\x{}@b.example",
            "a\\@b.example",
            // One digit; a zero too many; no digit; a sign; beyond all; half of a pair.
            "\\x{8}@b.example",
            "\\x{0E8}@b.example",
            "\\x{G8}@b.example",
            "\\x{+E8}@b.example",
            "\\x{110000}@b.example",
            "\\x{1000000}@b.example",
            "\\x{D800}@b.example",
            // Letters stand for themselves, and control characters are in no address.
            "\\x{41}@b.example",
            "\\x{0A}@b.example",
            "\\x{7F}@b.example",
            // No address.
            "\u{e8}",
            "@b.example",
            "\u{e8}@",
            "\u{e8}..a@b.example",
            "a\\x{20}b@b.example",
            "\u{e8}@-b.example",
            "\u{e8}@[]",
        ] {
            assert_eq!(in_ascii(bad), None, "{bad}");
        }
    }
}
