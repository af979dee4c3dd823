//! Media types and dispositions with their parameters.
//!
//! RFC 2045 §5.1 (grammar), RFC 2183 §2, RFC 2231 §3, §4 (parameters in pieces, and in other
//! charsets). Read leniently where programs err: values without quotes that need them, parameters
//! without a separator, a quote that is not closed.

use std::collections::BTreeMap;

use crate::encoding::decode_escapes;
use crate::message::{decode_charset, without_controls};

/// Parameters, or pieces of them, of one field at most. A file name of 255 octets in the smallest
/// pieces that programs send needs fewer than twenty.
pub(super) const PARAMETERS_MAX: usize = 300;

/// A media type with its parameters; type, subtype and parameter names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// `text`, `multipart`, ...
    pub kind: String,
    /// `plain`, `signed`, ...
    pub subtype: String,
    /// Name and value (unquoted, RFC 2231 pieces joined and decoded), in their order.
    pub parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Reads the value of a Content-Type field; `None` when it is not one.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: value };
        let kind = reader.token()?;
        reader.skip(b'/')?;
        let subtype = reader.token()?;
        Some(Self { kind, subtype, parameters: reader.parameters() })
    }

    /// A type without parameters.
    pub(crate) fn plain(kind: &str, subtype: &str) -> Self {
        Self { kind: kind.to_owned(), subtype: subtype.to_owned(), parameters: Vec::new() }
    }

    /// Whether this is `kind/subtype`, both given in lower case.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }

    /// The value of a parameter, its name given in lower case; of the first, when there are several.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.parameters, name)
    }

    /// Whether a parameter is there more than once, which the grammar does not exclude: which one counts
    /// is up to whoever reads it. Pieces of one, and one in two charsets, are one (RFC 2231 §3, §4).
    pub fn has_twice(&self, name: &str) -> bool {
        is_twice(&self.parameters, name)
    }
}

/// A disposition with its parameters (RFC 2183 §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// `inline`, `attachment`, ... in lower case.
    pub kind: String,
    /// As in [`ContentType`].
    pub parameters: Vec<(String, String)>,
}

impl Disposition {
    /// Reads the value of a Content-Disposition field; `None` when it is not one.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: value };
        let kind = reader.token()?;
        Some(Self { kind, parameters: reader.parameters() })
    }

    /// The value of a parameter, its name given in lower case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.parameters, name)
    }

    /// As of a [`ContentType`].
    pub fn has_twice(&self, name: &str) -> bool {
        is_twice(&self.parameters, name)
    }
}

fn is_twice(parameters: &[(String, String)], name: &str) -> bool {
    parameters.iter().filter(|(n, _)| n == name).nth(1).is_some()
}

fn find<'p>(parameters: &'p [(String, String)], name: &str) -> Option<&'p str> {
    parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The first token of a value, in lower case: all there is of a Content-Transfer-Encoding.
pub(crate) fn first_token(value: &[u8]) -> Option<String> {
    Reader { rest: value }.token()
}

/// The rest of a value that is being read.
struct Reader<'v> {
    rest: &'v [u8],
}

/// A parameter as written: RFC 2231 §7.
struct Piece {
    name: String,
    /// The number of a piece: `name*2`.
    section: Option<u32>,
    /// The value is percent-encoded: `name*`, `name*2*`.
    extended: bool,
    value: Vec<u8>,
}

impl Reader<'_> {
    fn skip_blanks(&mut self) {
        while let Some(&first) = self.rest.first() {
            match first {
                b' ' | b'\t' | b'\r' | b'\n' => self.rest = &self.rest[1..],
                b'(' => self.rest = &self.rest[comment_length(self.rest)..],
                _ => return,
            }
        }
    }

    fn skip(&mut self, octet: u8) -> Option<()> {
        self.skip_blanks();
        self.rest = self.rest.strip_prefix(&[octet])?;
        Some(())
    }

    /// `token`, RFC 2045 §5.1, in lower case.
    fn token(&mut self) -> Option<String> {
        self.skip_blanks();
        let length = self.rest.iter().take_while(|&&b| is_token(b)).count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        let token = std::str::from_utf8(token).ok()?;
        (!token.is_empty()).then(|| token.to_ascii_lowercase())
    }

    fn parameters(&mut self) -> Vec<(String, String)> {
        let mut pieces = Vec::new();
        while pieces.len() < PARAMETERS_MAX {
            self.skip_blanks();
            let Some(&first) = self.rest.first() else { break };
            if !is_token(first) {
                self.rest = &self.rest[1..];
                continue;
            }
            let Some(name) = self.token() else { break };
            if self.skip(b'=').is_some() {
                let value = self.value();
                pieces.push(Piece::new(name, value));
            }
        }
        join(pieces)
    }

    fn value(&mut self) -> Vec<u8> {
        self.skip_blanks();
        if let Some(rest) = self.rest.strip_prefix(b"\"") {
            self.rest = rest;
            return self.quoted();
        }
        // Up to the semicolon, with what programs forget to quote: blanks, slashes, equals signs.
        let mut value = Vec::new();
        loop {
            let word = |b: &&u8| !matches!(**b, b';' | b' ' | b'\t' | b'\r' | b'\n');
            let length = self.rest.iter().take_while(word).count();
            value.extend_from_slice(&self.rest[..length]);
            self.rest = &self.rest[length..];
            self.skip_blanks();
            let more = matches!(self.rest.first(), Some(&next) if next != b';');
            if !more || self.starts_parameter() {
                return value;
            }
            value.push(b' ');
        }
    }

    /// Whether what comes is `name=`: a semicolon was forgotten.
    fn starts_parameter(&self) -> bool {
        let length = self.rest.iter().take_while(|&&b| is_token(b)).count();
        length > 0 && self.rest.get(length) == Some(&b'=')
    }

    fn quoted(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        let mut at = 0;
        while let Some(&octet) = self.rest.get(at) {
            at += 1;
            match octet {
                b'"' => break,
                b'\\' => {
                    value.extend(self.rest.get(at));
                    at += 1;
                }
                // Folding: the line end goes, the blank after it stays.
                b'\r' | b'\n' => {}
                octet => value.push(octet),
            }
        }
        self.rest = self.rest.get(at..).unwrap_or_default();
        value
    }
}

/// The length of a comment, which may hold comments (RFC 5322 §3.2.2).
fn comment_length(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut octets = text.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth -= 1,
            b'\\' => {
                octets.next();
            }
            _ => {}
        }
    }
    text.len()
}

/// `token`, RFC 2045 §5.1.
fn is_token(b: u8) -> bool {
    b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

impl Piece {
    /// Parts `name*2*` in name, number and star. A star that is of no such form is of the name.
    fn new(written: String, value: Vec<u8>) -> Self {
        let (name, extended) = match written.strip_suffix('*') {
            Some(name) => (name, true),
            None => (written.as_str(), false),
        };
        let (name, section) = match name.rsplit_once('*') {
            Some((name, number)) => (name, section(number)),
            None => (name, None),
        };
        if name.is_empty() || (section.is_none() && written.trim_end_matches('*').contains('*')) {
            return Self { name: written, section: None, extended: false, value };
        }
        Self { name: name.to_owned(), section, extended, value }
    }
}

/// The number of a piece: digits, no leading zero (RFC 2231 §7 `other-sections`). One past
/// [`PARAMETERS_MAX`] can never be reached.
fn section(digits: &str) -> Option<u32> {
    let canonical = digits == "0" || !digits.starts_with('0');
    let digits_only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !(canonical && digits_only) {
        return None;
    }
    Some(digits.parse().unwrap_or(u32::MAX))
}

/// Joins the pieces of each parameter, in the order in which the parameters first came. An extended
/// or divided parameter takes the place of a plain one of the same name.
fn join(pieces: Vec<Piece>) -> Vec<(String, String)> {
    let mut divided: BTreeMap<&str, Vec<&Piece>> = BTreeMap::new();
    for piece in pieces.iter().filter(|piece| piece.section.is_some() || piece.extended) {
        divided.entry(&piece.name).or_default().push(piece);
    }
    let mut parameters = Vec::new();
    for piece in &pieces {
        let value = match divided.get_mut(piece.name.as_str()).map(std::mem::take) {
            None => text(None, &piece.value),
            // Where the name came first, its pieces were taken.
            Some(parts) if parts.is_empty() => continue,
            Some(parts) => joined(parts),
        };
        parameters.push((piece.name.clone(), value));
    }
    parameters
}

/// The value of one parameter from its pieces: those from 0 on without a gap, or else the one
/// without a number.
fn joined(mut pieces: Vec<&Piece>) -> String {
    pieces.sort_by_key(|piece| piece.section);
    pieces.dedup_by_key(|piece| piece.section);
    if pieces.iter().any(|piece| piece.section == Some(0)) {
        pieces.retain(|piece| piece.section.is_some());
    }
    let mut charset = None;
    let mut octets = Vec::new();
    for (expected, piece) in (0_u32..).zip(&pieces) {
        if piece.section.is_some_and(|section| section != expected) {
            break;
        }
        if !piece.extended {
            octets.extend_from_slice(&piece.value);
            continue;
        }
        let mut encoded = piece.value.as_slice();
        if expected == 0 {
            // `charset'language'`, in the first piece only: RFC 2231 §4.1.
            let mut fields = encoded.splitn(3, |&b| b == b'\'');
            if let (Some(name), Some(_), Some(rest)) = (fields.next(), fields.next(), fields.next())
            {
                charset = std::str::from_utf8(name).ok();
                encoded = rest;
            }
        }
        decode_escapes(b'%', encoded, &mut octets);
    }
    text(charset, &octets)
}

/// Octets in a charset, UTF-8 when it is not known; control characters become spaces.
fn text(charset: Option<&str>, octets: &[u8]) -> String {
    let text = charset.and_then(|charset| decode_charset(charset, octets));
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(octets).into_owned());
    without_controls(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mime::{Part, scan};

    fn parameters(text: &str) -> Vec<(String, String)> {
        Disposition::parse(format!("attachment{text}").as_bytes()).unwrap().parameters
    }

    #[test]
    fn a_media_type_is_read() {
        for (value, expected) in [
            ("text/plain", Some(("text", "plain", vec![]))),
            (" Text / HTML ;", Some(("text", "html", vec![]))),
            // RFC 2045 §5.1
            (
                "text/plain; charset=us-ascii (Plain text)",
                Some(("text", "plain", vec![("charset", "us-ascii")])),
            ),
            (
                "(a (b) \\)) multipart/signed; MicAlg=\"sha-256\"\r\n\t;boundary=----=_a/b",
                Some((
                    "multipart",
                    "signed",
                    vec![("micalg", "sha-256"), ("boundary", "----=_a/b")],
                )),
            ),
            ("text", None),
            ("text plain", None),
            ("/plain", None),
            ("", None),
            ("(text/plain", None),
        ] {
            let read = ContentType::parse(value.as_bytes());
            let read = read.as_ref().map(|t| {
                let parameters = t.parameters.iter();
                let parameters = parameters.map(|(n, v)| (n.as_str(), v.as_str())).collect();
                (t.kind.as_str(), t.subtype.as_str(), parameters)
            });
            assert_eq!(read, expected, "{value}");
        }
    }

    #[test]
    fn parameters_are_read_leniently() {
        for (text, expected) in [
            ("; a=b", vec![("a", "b")]),
            (";; a = b ;;c=d;", vec![("a", "b"), ("c", "d")]),
            ("; a=\"b\\\"c\\\\;\"; d=\"\"", vec![("a", "b\"c\\;"), ("d", "")]),
            ("; a=\"one\r\n two\"", vec![("a", "one two")]),
            ("; a=\"not closed", vec![("a", "not closed")]),
            ("; name=due parole.pdf; x=y", vec![("name", "due parole.pdf"), ("x", "y")]),
            ("; name=file(1).pdf", vec![("name", "file(1).pdf")]),
            (" a=b c=d", vec![("a", "b"), ("c", "d")]),
            ("; a; b=", vec![("b", "")]),
            ("; a=1; a=2", vec![("a", "1"), ("a", "2")]),
            ("; a=\"\u{7}\0\"", vec![("a", "  ")]),
            // RFC 2231 §3, §4, §4.1
            ("; url*0=\"ftp://\"; URL*1=\"cs.example\"", vec![("url", "ftp://cs.example")]),
            ("; title*=us-ascii'en-us'This%20is%20%2A", vec![("title", "This is *")]),
            (
                "; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*0*=us-ascii'en'This%20; title*2=\"it's!\"",
                vec![("title", "This ***fun*** it's!")],
            ),
            // A character that is split between pieces
            ("; a*0*=utf-8''%C3; a*1*=%A8", vec![("a", "\u{e8}")]),
            ("; a*=iso-8859-1''%E8", vec![("a", "\u{e8}")]),
            ("; a*=x-unknown''%C3%A8", vec![("a", "\u{e8}")]),
            ("; a*=%C3%A8%", vec![("a", "\u{e8}%")]),
            ("; a*=''%0D%0AX:%20y", vec![("a", "  X: y")]),
            // The divided or extended one wins, where the name first came
            ("; a=old; b=c; a*=utf-8''new", vec![("a", "new"), ("b", "c")]),
            ("; a*=utf-8''whole; a*0=pieces", vec![("a", "pieces")]),
            // Gaps, other starts, pieces that come twice
            ("; a*0=x; a*2=z", vec![("a", "x")]),
            ("; a*1=x", vec![("a", "")]),
            ("; a*0=x; a*0=y; a*1=z", vec![("a", "xz")]),
            ("; a*99999*=x", vec![("a", "")]),
            ("; a*99999999999999999999=x; b=c", vec![("a", ""), ("b", "c")]),
            // Not of the form
            ("; a*01=x; *=y; b*c=z", vec![("a*01", "x"), ("*", "y"), ("b*c", "z")]),
        ] {
            let read = parameters(text);
            let read: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn parameters_are_bounded() {
        let many = |n: usize| (0..n).map(|i| format!("; a*{i}*=x")).collect::<String>();
        assert_eq!(parameters(&many(PARAMETERS_MAX))[0].1.len(), PARAMETERS_MAX);
        assert_eq!(parameters(&many(PARAMETERS_MAX + 1))[0].1.len(), PARAMETERS_MAX);
        assert_eq!(parameters(&many(100_000))[0].1.len(), PARAMETERS_MAX);
        assert_eq!(parameters(&"; a=b".repeat(100_000)).len(), PARAMETERS_MAX);
        for piece in ["(", "\"", ";", "=", "a*0*=", "a ", "\\", "a=b c"] {
            assert!(parameters(&piece.repeat(50_000)).len() <= PARAMETERS_MAX);
        }
    }

    fn part(fields: &str) -> Part {
        scan(format!("{fields}\r\n\r\n").as_bytes()).unwrap().parts.remove(0)
    }

    #[test]
    fn a_file_name_is_found_and_decoded() {
        for (fields, expected) in [
            ("Content-Type: text/plain", None),
            ("Content-Type: application/pdf; name=a.pdf", Some("a.pdf")),
            (
                "Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment;\r\n filename=\"b c.pdf\"",
                Some("b c.pdf"),
            ),
            ("Content-Type: x/y; name=a\r\nContent-Disposition: inline; filename=\"\"", Some("a")),
            (
                "Content-Disposition: attachment; filename*0*=UTF-8''citt%C3%A0; filename*1=\" nuova.pdf\"",
                Some("citt\u{e0} nuova.pdf"),
            ),
            // As Outlook sends it
            (
                "Content-Type: application/pdf;\r\n\tname=\"=?iso-8859-1?Q?citt=E0_nuova=2Epdf?=\"",
                Some("citt\u{e0} nuova.pdf"),
            ),
            (
                "Content-Disposition: attachment;\r\n filename=\"=?utf-8?B?Y2l0dMOg?=\r\n =?utf-8?Q?.pdf=0A?=\"",
                Some("citt\u{e0}.pdf"),
            ),
        ] {
            assert_eq!(part(fields).file_name().as_deref(), expected, "{fields}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read(value in "([a-z]|=|;|\\*|[0-3]|'|%|\"|\\\\|\\(|\\)|/|\r\n | |\\PC){0,60}") {
            let value = format!("a/b{value}");
            for (name, text) in ContentType::parse(value.as_bytes()).unwrap_or_else(|| ContentType::plain("", "")).parameters {
                prop_assert!(!name.is_empty());
                prop_assert!(!text.chars().any(char::is_control));
            }
        }

        #[test]
        fn what_is_quoted_is_read_back(text in "[ -~]{0,40}") {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            let value = format!("a/b; name=\"{quoted}\"; c=d");
            let read = ContentType::parse(value.as_bytes()).unwrap();
            prop_assert_eq!(read.parameter("name"), Some(text.as_str()));
            prop_assert_eq!(read.parameter("c"), Some("d"));
        }
    }
}
