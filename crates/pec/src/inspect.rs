//! A signed message, opened: where its parts are, before anything is believed.
//!
//! PEC-PR-01, PEC-FMT-06, PEC-SIG-08, PEC-SIG-09; RFC 1847 §2.1, RFC 2046 §5.1. Octets are read in
//! place and never written again. Only the tree that a provider makes is walked, its three levels:
//! what is inside `postacert.eml` is the sender's, may be as deep as it likes, and may hold files
//! with our names. Not here: what the parts must say, which is [`crate::incoming`]'s to judge.

use std::borrow::Cow;
use std::ops::Range;

use mail::encoding::{decode_base64, decode_quoted_printable};
use mail::mime::{ContentType, Disposition};
use mail::{Address, Message};
use memchr::memmem;

use crate::certification::CERTIFICATION_OCTETS_MAX;

/// Parts of one multipart that are looked at: a provider may add to its three.
const PARTS_MAX: usize = 64;
/// Octets of a signature in base64 at most: a CMS structure with a dozen certificates is 30 KB.
const SIGNATURE_OCTETS_MAX: usize = 1024 * 1024;
/// Octets of a text part at most; a list of [`crate::certification::RECIPIENTS_MAX`] fits.
const TEXT_OCTETS_MAX: usize = 2 * 1024 * 1024;

/// A message looked at from outside.
#[derive(Debug, Clone)]
pub struct Examination<'a> {
    message: Message<'a>,
    signed: Option<Signed>,
}

#[derive(Debug, Clone)]
struct Signed {
    entity: Range<usize>,
    signature: Vec<u8>,
}

/// Looks for a `multipart/signed` of S/MIME at the top of a message (PEC-PR-01).
pub fn examine(octets: &[u8]) -> Examination<'_> {
    let message = Message::lenient(octets);
    let signed = find_signed(&message);
    Examination { message, signed }
}

impl<'a> Examination<'a> {
    /// The message.
    pub fn message(&self) -> &Message<'a> {
        &self.message
    }

    /// The octets that a signature covers: the first part, whole (PEC-SIG-08).
    pub fn entity(&self) -> Option<&'a [u8]> {
        let signed = self.signed.as_ref()?;
        Some(&self.message.octets()[signed.entity.clone()])
    }

    /// The detached CMS signature, DER or BER.
    pub fn signature(&self) -> Option<&[u8]> {
        self.signed.as_ref().map(|signed| &signed.signature[..])
    }

    /// The one address in the one `From`, when it is so.
    pub fn author(&self) -> Option<Address> {
        let field = only(&self.message, "From")?;
        match &field.addresses().ok()?[..] {
            [author] => Some(author.clone()),
            _ => None,
        }
    }

    /// The parts of the signed `multipart/mixed`; `None` when there is no such thing, or when two readers
    /// may see different ones.
    pub fn parts(&self) -> Option<Parts<'a>> {
        let signed = self.signed.as_ref()?;
        let octets = self.message.octets();
        let entity = Part::read(octets, signed.entity.clone());
        if entity.is_ambiguous || !entity.content_type.is("multipart", "mixed") {
            return None;
        }
        let children = entity.split(octets)?;
        let mut parts = Parts::default();
        for (index, range) in children.into_iter().enumerate() {
            let part = Part::read(octets, range);
            if part.is_ambiguous {
                return None;
            }
            match part.name.as_deref() {
                Some("daticert.xml") => parts.certifications.push(part),
                Some("postacert.eml") => parts.originals.push(part),
                _ if index == 0 => parts.text = readable(octets, part),
                _ => {}
            }
        }
        Some(parts)
    }
}

/// The parts that PEC names, as they stand (PEC-FMT-06: by name, not by place).
#[derive(Debug, Clone, Default)]
pub struct Parts<'a> {
    /// The `text/plain` that people read.
    pub text: Option<Part<'a>>,
    /// The parts named `daticert.xml`; there should be one.
    pub certifications: Vec<Part<'a>>,
    /// The parts named `postacert.eml`.
    pub originals: Vec<Part<'a>>,
}

/// One part.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// Its media type; `text/plain` when it says none.
    pub content_type: ContentType,
    /// Its name in lower case, from `filename` or `name`.
    pub name: Option<String>,
    /// Its transfer encoding in lower case.
    pub encoding: String,
    /// Where its body is in the message.
    pub range: Range<usize>,
    body: &'a [u8],
    /// Something that says what it is, or how it is written, is there twice: which counts is up to
    /// whoever reads it.
    is_ambiguous: bool,
}

impl<'a> Part<'a> {
    fn read(octets: &'a [u8], range: Range<usize>) -> Self {
        let part = Message::lenient(&octets[range.clone()]);
        let content_type = part.field("Content-Type").and_then(|f| ContentType::parse(f.value));
        let content_type = content_type.unwrap_or_else(|| ContentType {
            kind: "text".into(),
            subtype: "plain".into(),
            parameters: Vec::new(),
        });
        let disposition =
            part.field("Content-Disposition").and_then(|f| Disposition::parse(f.value));
        let name = disposition.as_ref().and_then(|d| d.parameter("filename"));
        let name = name.or_else(|| content_type.parameter("name"));
        let name = name.map(|name| name.trim().to_ascii_lowercase());
        let encoding = part.field("Content-Transfer-Encoding").map(|f| f.unfolded());
        let encoding = encoding.map_or_else(|| "7bit".to_owned(), |e| e.to_ascii_lowercase());
        let body = part.body();
        let fields = ["Content-Type", "Content-Disposition", "Content-Transfer-Encoding"];
        let is_ambiguous = fields.iter().any(|name| part.all(name).nth(1).is_some())
            || ["name", "boundary", "charset"].iter().any(|name| content_type.has_twice(name))
            || disposition.is_some_and(|disposition| disposition.has_twice("filename"));
        let range = range.end - body.len()..range.end;
        Self { range, content_type, name, encoding, body, is_ambiguous }
    }

    /// The body without its transfer encoding; `None` past so many octets, encoded.
    pub fn decoded(&self, octets_max: usize) -> Option<Cow<'a, [u8]>> {
        if self.body.len() > octets_max {
            return None;
        }
        Some(match &self.encoding[..] {
            "base64" => Cow::Owned(decode_base64(self.body)),
            "quoted-printable" => Cow::Owned(decode_quoted_printable(self.body)),
            _ => Cow::Borrowed(self.body),
        })
    }

    /// The certification data in it: base64 needs a third more room.
    pub fn certification(&self) -> Option<Cow<'a, [u8]>> {
        self.decoded(CERTIFICATION_OCTETS_MAX * 3 / 2)
    }

    /// The text in it, in the charset it says.
    pub fn text(&self) -> Option<String> {
        let octets = self.decoded(TEXT_OCTETS_MAX)?;
        let charset = self.content_type.parameter("charset").unwrap_or("us-ascii");
        mail::message::decode_charset(charset, &octets)
    }

    /// The body as it stands.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The parts of a multipart; `None` when it has no boundary, or too many parts.
    fn split(&self, octets: &[u8]) -> Option<Vec<Range<usize>>> {
        let boundary = self.content_type.parameter("boundary").filter(|b| !b.is_empty())?;
        split(octets, self.range.clone(), boundary)
    }
}

/// The `text/plain` in the first part: itself, or a part of a `multipart/alternative`.
fn readable<'a>(octets: &'a [u8], part: Part<'a>) -> Option<Part<'a>> {
    if part.content_type.is("text", "plain") {
        return Some(part);
    }
    if part.content_type.kind != "multipart" {
        return None;
    }
    let children = part.split(octets)?.into_iter();
    children.map(|range| Part::read(octets, range)).find(|p| p.content_type.is("text", "plain"))
}

/// Two parts, of which the second is a CMS signature.
fn find_signed(message: &Message<'_>) -> Option<Signed> {
    let octets = message.octets();
    only(message, "Content-Type")?;
    let root = Part::read(octets, 0..octets.len());
    if root.is_ambiguous || !root.content_type.is("multipart", "signed") {
        return None;
    }
    let parts = root.split(octets)?;
    let [entity, signature] = &parts[..] else { return None };
    let signature = Part::read(octets, signature.clone());
    if signature.is_ambiguous {
        return None;
    }
    let subtype = &signature.content_type.subtype[..];
    // The second is the older name, still seen (PEC-SIG-05).
    let known = ["pkcs7-signature", "x-pkcs7-signature"].contains(&subtype);
    if signature.content_type.kind != "application" || !known {
        return None;
    }
    let signature = signature.decoded(SIGNATURE_OCTETS_MAX)?.into_owned();
    (!signature.is_empty()).then(|| Signed { entity: entity.clone(), signature })
}

/// The field of this name, when there is exactly one.
pub(crate) fn only<'a>(message: &Message<'a>, name: &str) -> Option<mail::Field<'a>> {
    let mut fields = message.all(name);
    let first = fields.next();
    if fields.next().is_some() { None } else { first }
}

/// The parts between the delimiters of one boundary, RFC 2046 §5.1.1: a delimiter counts at the
/// start of a line, and the line end before it is its own. Text before the first and after the last
/// is no part; a multipart that is not closed ends with its octets.
fn split(octets: &[u8], range: Range<usize>, boundary: &str) -> Option<Vec<Range<usize>>> {
    let body = &octets[range.clone()];
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut start: Option<usize> = None;
    for at in memmem::find_iter(body, delimiter.as_bytes()) {
        if at > 0 && body[at - 1] != b'\n' {
            continue;
        }
        let after = &body[at + delimiter.len()..];
        let (closes, rest) = match after.strip_prefix(b"--") {
            Some(rest) => (true, rest),
            None => (false, after),
        };
        // Linear white space may follow, and nothing else: what goes on is a longer boundary.
        let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let line_end = match &rest[blanks..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            [] => 0,
            _ => continue,
        };
        if let Some(start) = start {
            if parts.len() == PARTS_MAX {
                return None;
            }
            parts.push(range.start + start..range.start + before_line_end(body, at).max(start));
        }
        start = (!closes).then(|| body.len() - rest.len() + blanks + line_end);
        if closes {
            break;
        }
    }
    if let Some(start) = start {
        parts.push(range.start + start..range.end);
    }
    Some(parts)
}

/// Where the line before the one at `at` ends, without its line end.
fn before_line_end(body: &[u8], at: usize) -> usize {
    match &body[..at] {
        [.., b'\r', b'\n'] => at - 2,
        [.., b'\n'] => at - 1,
        _ => at,
    }
}

/// A message with CRLF line ends, as it was when it was signed: some stores keep LF (PEC-SIG-09).
pub fn with_crlf(octets: &[u8]) -> Cow<'_, [u8]> {
    let bare = |at: usize| at == 0 || octets[at - 1] != b'\r';
    if !memchr::memchr_iter(b'\n', octets).any(bare) {
        return Cow::Borrowed(octets);
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut from = 0;
    for at in memchr::memchr_iter(b'\n', octets).filter(|&at| bare(at)) {
        out.extend_from_slice(&octets[from..at]);
        out.extend_from_slice(b"\r\n");
        from = at + 1;
    }
    out.extend_from_slice(&octets[from..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn signed(message: &[u8]) -> Option<(String, Vec<u8>)> {
        let examination = examine(message);
        let entity = String::from_utf8(examination.entity()?.to_vec()).unwrap();
        Some((entity, examination.signature()?.to_vec()))
    }

    const SMALL: &str = "From: a@b.example\r\n\
        Content-Type: multipart/signed; protocol=\"x\"; boundary=\"=_a.b\"\r\n\r\npreamble\r\n\
        --=_a.b\r\nA: b\r\n\r\nbody\r\n\r\n--=_a.b \t\r\n\
        Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        Y2lhbw==\r\n--=_a.b--\r\nepilogue\r\n";

    // PEC-PR-01 PEC-SIG-05 PEC-SIG-08
    #[test]
    fn the_signed_octets_are_the_first_part_without_the_crlf_of_the_delimiter() {
        let small = Some(("A: b\r\n\r\nbody\r\n".to_owned(), b"ciao".to_vec()));
        assert_eq!(signed(SMALL.as_bytes()), small);
        let older = SMALL.replace("application/pkcs7", "application/x-pkcs7");
        assert_eq!(signed(older.as_bytes()), small);
        let open = SMALL.replace("--=_a.b--\r\nepilogue\r\n", "");
        assert_eq!(signed(open.as_bytes()), small);
        // What only looks like a delimiter is none.
        let inside =
            SMALL.replace("body", "--=_a.bc\r\n x--=_a.b\r\n--=_a.b-\r\n --=_a.b\r\n--=_a");
        assert!(signed(inside.as_bytes()).unwrap().0.ends_with("--=_a\r\n"));
        let (entity, signature) = signed(ENVELOPE).unwrap();
        assert!(entity.starts_with("Content-Type: multipart/mixed;"));
        assert!(entity.ends_with("------=_MIX_0004_PecSpecExample--"));
        assert_eq!(&signature[..2], b"\x30\x82");
    }

    // PEC-PR-01
    #[test]
    fn what_is_no_signed_message_has_no_signature() {
        for message in [
            "",
            "\r\n",
            "Content-Type: text/plain\r\n\r\nciao",
            &SMALL.replace("multipart/signed", "multipart/mixed"),
            &SMALL.replace("; boundary=\"=_a.b\"", ""),
            &SMALL.replace("application/pkcs7-signature", "text/plain"),
            &SMALL.replace("Y2lhbw==", ""),
            &SMALL.replace("--=_a.b \t\r\n", ""),
            // A third part
            &SMALL.replace("--=_a.b--", "--=_a.b\r\n\r\nx\r\n--=_a.b--"),
            // Two types: two readers could take two
            &SMALL.replace("From:", "Content-Type: text/plain\r\nFrom:"),
            // Wrapped, as by a mailing list
            &format!(
                "Content-Type: multipart/mixed; boundary=l\r\n\r\n--l\r\n{SMALL}\r\n--l--\r\n"
            ),
        ] {
            assert_eq!(signed(message.as_bytes()), None, "{message}");
        }
        assert_eq!(signed(ORIGINAL), None);
    }

    #[test]
    fn parts_and_signatures_are_bounded() {
        let parts = |count: usize| {
            let part = "--=_a.b\r\n\r\nx\r\n".repeat(count);
            SMALL.replace("preamble\r\n", &part)
        };
        assert_eq!(signed(parts(PARTS_MAX + 1).as_bytes()), None);
        assert_eq!(signed(parts(1_000_000).as_bytes()), None);
        let long = SMALL.replace("Y2lhbw==", &"A".repeat(SIGNATURE_OCTETS_MAX + 1));
        assert_eq!(signed(long.as_bytes()), None);
        // Ten thousand parts inside each other are one part here.
        let mut nested = String::from("A: b\r\n\r\n");
        for depth in 0..10_000 {
            nested += &format!(
                "--b{depth}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n",
                depth + 1
            );
        }
        let deep = SMALL.replace("A: b\r\n\r\n", &nested);
        assert_eq!(signed(deep.as_bytes()).unwrap().0.len(), nested.len() + "body\r\n".len());
    }

    // PEC-PR-12 PEC-SIG-08: what two readers may read in two ways is read by nobody
    #[test]
    fn what_is_said_twice_is_said_by_nobody() {
        for (from, to) in [
            ("boundary=\"----=_SIG", "boundary=x; boundary=\"----=_SIG"),
            ("boundary=\"----=_SIG", "BOUNDARY=\"x\";\r\n\tboundary=\"----=_SIG"),
            ("name=\"smime.p7s\"", "name=\"smime.p7s\"; name=x"),
        ] {
            assert!(signed(&with(ENVELOPE, from, to)).is_none(), "{to}");
        }
        let xml = "Content-Type: application/xml; name=\"daticert.xml\"";
        for (from, to) in [
            ("boundary=\"----=_MIX", "boundary=x; boundary=\"----=_MIX"),
            (xml, &format!("Content-Type: text/plain\r\n{xml}")),
            (xml, &format!("Content-Transfer-Encoding: 7bit\r\n{xml}")),
            (xml, &format!("Content-Disposition: inline; filename=x\r\n{xml}")),
            ("filename=\"daticert.xml\"", "filename=\"daticert.xml\"; filename=x"),
            ("name=\"postacert.eml\"", "name=\"postacert.eml\"; name=x"),
        ] {
            let octets = with(ENVELOPE, from, to);
            let examination = examine(&octets);
            assert!(examination.signature().is_some() && examination.parts().is_none(), "{to}");
        }
        // A name in two charsets is one name.
        let both = "filename=\"daticert.xml\"; filename*=utf-8''daticert.xml";
        let octets = with(ENVELOPE, "filename=\"daticert.xml\"", both);
        assert_eq!(examine(&octets).parts().unwrap().certifications.len(), 1);
    }

    // PEC-FMT-06
    #[test]
    fn parts_are_found_by_their_names() {
        let examination = examine(ENVELOPE);
        let parts = examination.parts().unwrap();
        assert_eq!(parts.originals[0].body(), ORIGINAL);
        assert_eq!(&ENVELOPE[parts.originals[0].range.clone()], ORIGINAL);
        let xml = parts.certifications[0].certification().unwrap();
        assert_eq!(xml, &include_bytes!("../examples/daticert/posta-certificata.xml")[..]);
        let text = parts.text.unwrap().text().unwrap();
        assert!(text.starts_with("Messaggio di posta certificata\r\nIl giorno 14/09/2026"));
        // A text without an alternative, unquoted names, other places (as other providers write)
        let plain = with(ENVELOPE, "multipart/alternative", "multipart/related");
        assert!(examine(&plain).parts().unwrap().text.is_some());
        let none = with(ENVELOPE, "text/plain; charset=\"iso", "text/other; charset=\"iso");
        assert!(examine(&none).parts().unwrap().text.is_none());
    }

    // PEC-SIG-09
    #[test]
    fn lf_line_ends_become_crlf_and_crlf_stay() {
        let lf = with(ENVELOPE, "\r\n", "\n");
        assert_eq!(with_crlf(&lf), ENVELOPE);
        assert!(matches!(with_crlf(ENVELOPE), Cow::Borrowed(_)));
        assert_eq!(with_crlf(b"\na\r\n\nb\rc"), &b"\r\na\r\n\r\nb\rc"[..]);
        assert_eq!(with_crlf(b""), &b""[..]);
    }
}
