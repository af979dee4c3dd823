//! One header field: its value read, and a field written.
//!
//! RFC 5322 §2.2 (fields), §2.2.3 (folding), §4.5 (white space before the colon). Not here: what the
//! value of a structured field means.

use jiff::Zoned;
use mail_builder::headers::{Header as _, raw::Raw};

use super::address_list::{self, NamedAddress};
use super::date;
use super::words::decode_words;
use crate::{Address, AddressError};

/// One header field, as it stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written; names are compared without case.
    pub name: &'a str,
    /// The octets after the colon, folding included, without the CRLF that ends the field.
    pub value: &'a [u8],
    /// The whole field: name, colon, value and the CRLF that ends it.
    pub octets: &'a [u8],
}

impl<'a> Field<'a> {
    /// `field-name ":" body`, with its continuation lines and its line end.
    pub(crate) fn parse(octets: &'a [u8]) -> Option<Self> {
        let colon = octets.iter().position(|&b| b == b':')?;
        let name = octets[..colon].trim_ascii_end();
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let value = super::without_line_end(&octets[colon + 1..]);
        Some(Self { name: std::str::from_utf8(name).ok()?, value, octets })
    }
}

impl Field<'_> {
    /// The value on one line, trimmed, with its encoded words as they are (RFC 5322 §2.2.3).
    /// Octets that are no UTF-8 become U+FFFD.
    pub fn unfolded(&self) -> String {
        unfold(self.value)
    }

    /// The value for a reader: unfolded, its encoded words decoded (RFC 2047 §6.1). Control
    /// characters, also those that come out of encoded words, become spaces.
    pub fn decoded(&self) -> String {
        // Most values: nothing is folded, encoded or to be replaced.
        if self.value.iter().all(|b| matches!(b, b' '..=b'~'))
            && memchr::memmem::find(self.value, b"=?").is_none()
        {
            return String::from_utf8_lossy(self.value).trim().to_owned();
        }
        let text = decode_words(&self.unfolded());
        without_controls(&text).trim().to_owned()
    }

    /// The addresses in a field such as From, To or Cc, groups flattened, in their order; none in
    /// an empty field.
    ///
    /// # Errors
    ///
    /// The field is not an address list of RFC 5322 §3.4, obsolete forms of §4.4 aside.
    pub fn addresses(&self) -> Result<Vec<Address>, AddressError> {
        Ok(self.mailboxes()?.into_iter().map(|mailbox| mailbox.address).collect())
    }

    /// As [`addresses`](Self::addresses), each with its display name (decoded).
    ///
    /// # Errors
    ///
    /// As [`addresses`](Self::addresses).
    pub fn mailboxes(&self) -> Result<Vec<NamedAddress>, AddressError> {
        address_list::strict(self.value)
    }

    /// The date and time in a field such as Date or Received, with the offset that it names (RFC 5322
    /// §3.3, obsolete forms of §4.3 included); `None` when it is none.
    pub fn date(&self) -> Option<Zoned> {
        date::read(&self.unfolded())
    }
}

/// A value on one line: line ends gone, a bare CR a space, trimmed.
pub(crate) fn unfold(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let text = text.replace("\r\n", "").replace('\n', "").replace('\r', " ");
    text.trim_matches([' ', '\t']).to_owned()
}

/// A text in which each control character is a space.
pub(crate) fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes `name: value` and CRLF, folded at white space so that lines stay within 78 characters
/// where they can (RFC 5322 §2.1.1). `value` is printable ASCII on one line or already folded.
///
/// Nothing in a value can end the field: a line end that no white space follows, and any other
/// control character, is written as a space, and a character above 127 as `?`.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let value = safe(value);
    let lines = value.trim_matches([' ', '\t', '\n']).split('\n');
    let lines: Vec<_> =
        lines.map(|line| line.trim_end_matches([' ', '\t'])).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        out.extend_from_slice(b"\r\n");
        return;
    }
    out.push(b' ');
    Raw::new(lines.join("\r\n")).write_header(out, name.len() + 2);
}

/// A value with `\n` for each line end that folds, and nothing else that is not printable ASCII
/// but tabs.
fn safe(value: &str) -> String {
    let value = value.replace("\r\n", "\n");
    let mut next = value.chars().skip(1);
    let folds = |next: Option<char>| matches!(next, Some(' ' | '\t'));
    value
        .chars()
        .map(|c| match (c, next.next()) {
            ('\n', after) if folds(after) => '\n',
            ('\t' | ' '..='~', _) => c,
            (c, _) if c.is_ascii() => ' ',
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(octets: &[u8]) -> Field<'_> {
        Field::parse(octets).unwrap()
    }

    #[test]
    fn a_value_is_unfolded_and_trimmed() {
        for (octets, expected) in [
            (&b"A:  one\r\n two \r\n"[..], "one two"),
            (b"A: one\n\ttwo\n", "one\ttwo"),
            (b"A:\r\n =?utf-8?q?x?=\r\n", "=?utf-8?q?x?="),
            (b"A: a\rb", "a b"),
            (b"A: caff\xe8", "caff\u{fffd}"),
            (b"A:", ""),
        ] {
            assert_eq!(field(octets).unfolded(), expected);
        }
    }

    /// Values that need no decoding are told in another way than others, and alike.
    #[test]
    fn a_decoded_value_is_the_same_both_ways() {
        for value in ["", " ", "  one  two ", "a = ?b", "x=", "?=", "~ !"] {
            let plain = format!("A:{value}\r\n");
            let field = field(plain.as_bytes());
            let text = decode_words(&field.unfolded());
            assert_eq!(field.decoded(), without_controls(&text).trim(), "{value:?}");
        }
    }

    #[test]
    fn a_decoded_value_has_no_control_characters() {
        let value = field(b"Subject: =?utf-8?q?Citt=C3=A0=0D=0ABcc:_x?= \x07 fine\r\n").decoded();
        assert_eq!(value, "Citt\u{e0}  Bcc: x   fine");
    }

    fn written(name: &str, value: &str) -> String {
        let mut out = Vec::new();
        write_field(&mut out, name, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_field_is_folded_at_white_space() {
        assert_eq!(written("Subject", "ciao"), "Subject: ciao\r\n");
        assert_eq!(written("Subject", ""), "Subject:\r\n");
        let words = "parola ".repeat(20);
        let text = written("Subject", &words);
        assert_eq!(
            text,
            format!(
                "Subject: {}\r\n {}\r\n",
                "parola ".repeat(10).trim_end(),
                "parola ".repeat(10).trim_end()
            )
        );
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
        assert_eq!(field(text.as_bytes()).unfolded(), words.trim_end());
        // A word that fits nowhere stays whole.
        let long = "x".repeat(100);
        assert_eq!(written("A", &long), format!("A: {long}\r\n"));
    }

    #[test]
    fn folding_that_is_there_stays() {
        assert_eq!(written("A", "one\r\n two"), "A: one\r\n two\r\n");
        assert_eq!(written("A", "one\n\ttwo"), "A: one\r\n\ttwo\r\n");
    }

    #[test]
    fn a_value_cannot_end_its_field() {
        for (value, expected) in [
            ("x\r\nBcc: y", "A: x Bcc: y\r\n"),
            ("x\rBcc: y", "A: x Bcc: y\r\n"),
            ("x\n\nBcc: y", "A: x  Bcc: y\r\n"),
            ("x\r\n\r\n body", "A: x\r\n body\r\n"),
            ("x\r\n \r\n body", "A: x\r\n body\r\n"),
            ("x\r\n", "A: x\r\n"),
            ("nul\0 \u{e8}", "A: nul  ?\r\n"),
        ] {
            assert_eq!(written("A", value), expected, "{value:?}");
        }
    }
}
