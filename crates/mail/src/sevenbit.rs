//! A message with 8-bit octets made safe for 7-bit transport, part by part.
//!
//! Doubt D-10 of the PEC specification: between providers all is 7-bit (PEC-FMT-10), and a
//! `message/rfc822` part cannot be encoded as a whole (RFC 2046 §5.2.1), so what comes with 8-bit
//! octets is converted before it becomes the original message (RFC 6152 §3 describes the task). So
//! are header fields in UTF-8 (RFC 6532), where a form in ASCII says the same.
//! Not here: line ends. They are taken as CRLF, as the incoming side of SMTP makes sure.

use std::ops::Range;

use crate::encoding::{base64_lines, decode_base64, decode_quoted_printable, quoted_printable};
use crate::message::FieldLines;
use crate::mime::{self, Kind, Part, Structure};

mod header;

/// Octets of a line at most, its line end aside: RFC 5322 §2.1.1, RFC 5321 §4.5.3.1.6.
pub const LINE_OCTETS_MAX: usize = 998;

/// Why a message cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SevenBitError {
    /// Octets above 127 in a header field that are no UTF-8, or stand where nothing says them in
    /// ASCII: the local part of an address, an identifier, a boundary.
    #[error("a header field has octets above 127 that cannot be encoded")]
    Header,
    /// The part is inside a `multipart/signed` (or is one): converting it would break a signature.
    #[error("a signed part has octets above 127")]
    Signed,
    /// The structure is past the bounds of [`crate::mime::scan`].
    #[error("the structure of the message is too complex")]
    Structure,
    /// A NUL, RFC 5322 §4.
    #[error("the message has a NUL")]
    Nul,
    /// A line longer than [`LINE_OCTETS_MAX`] where it cannot be encoded.
    #[error("the message has a line that is too long and cannot be encoded")]
    LineTooLong,
    /// Octets above 127 where they cannot be encoded.
    #[error("the message has octets that cannot be converted")]
    Octets,
}

/// Octets that are looked at twice while they are near: a large message is fetched once.
const NEAR_OCTETS: usize = 32 * 1024;

/// Whether a message is safe for 7-bit transport as it is: octets 1 to 127 and no line over 998.
pub fn is_seven_bit(octets: &[u8]) -> bool {
    let is_safe = |near: &[u8]| near.is_ascii() && memchr::memchr(0, near).is_none();
    octets.chunks(NEAR_OCTETS).all(is_safe) && !has_long_line(octets)
}

/// Looks at the last line of as many octets as the longest may have, and at all of them only where that is
/// the only one: most messages have lines of 78.
fn has_long_line(octets: &[u8]) -> bool {
    let is_long = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len() > LINE_OCTETS_MAX;
    let mut rest = octets;
    loop {
        let window = &rest[..rest.len().min(LINE_OCTETS_MAX + 2)];
        match memchr::memrchr(b'\n', window) {
            None => return is_long(window),
            // One line alone may have no CR, and be too long by that octet.
            Some(end) if end > LINE_OCTETS_MAX && memchr::memchr(b'\n', window) == Some(end) => {
                if is_long(&window[..end]) {
                    return true;
                }
                rest = &rest[end + 1..];
            }
            Some(end) => rest = &rest[end + 1..],
        }
    }
}

/// Converts the leaf parts that have 8-bit octets or over-long lines (quoted-printable for text,
/// base64 for the rest) and the header fields in UTF-8, and leaves every other octet as it is.
///
/// A part that is encoded already, and still has such octets or lines, is encoded anew. Of a
/// converted part only the body and the Content-Transfer-Encoding field change; a message of one
/// such part also gets the MIME-Version field that it lacks (RFC 2045 §4). Of an address list in
/// UTF-8 the names of groups and the comments go.
///
/// # Errors
///
/// Any [`SevenBitError`]: the message must be refused.
pub fn make_seven_bit(octets: &[u8]) -> Result<Vec<u8>, SevenBitError> {
    if is_seven_bit(octets) {
        return Ok(octets.to_vec());
    }
    if octets.contains(&0) {
        return Err(SevenBitError::Nul);
    }
    let structure = mime::scan(octets).map_err(|_| SevenBitError::Structure)?;
    let mut edits = Vec::new();
    for (index, part) in structure.parts.iter().enumerate() {
        if !octets[part.header.clone()].is_ascii() {
            // The header of what is signed is outside of the signature; those inside of it are not.
            if part.parent.is_some_and(|parent| is_signed(&structure, parent)) {
                return Err(SevenBitError::Signed);
            }
            encode_header(part, octets, &mut edits)?;
        }
        let body = &octets[part.body.clone()];
        if part.kind != Kind::Leaf || is_seven_bit(body) {
            continue;
        }
        if is_signed(&structure, index) {
            return Err(SevenBitError::Signed);
        }
        let (name, encoded) = encode(part, body, part.body.end < octets.len())?;
        edit_header(&structure, part, octets, name, &mut edits);
        edits.push(Edit { range: part.body.clone(), octets: encoded });
    }
    edits.sort_by_key(|edit| edit.range.start);
    let converted = apply(octets, &edits);
    // What is left stands where nothing can be encoded: preamble, epilogue, a header line.
    if is_seven_bit(&converted) { Ok(converted) } else { Err(left_in(&converted)) }
}

/// Why octets that nothing can encode are not safe.
fn left_in(octets: &[u8]) -> SevenBitError {
    if octets.is_ascii() { SevenBitError::LineTooLong } else { SevenBitError::Octets }
}

/// Whether a part is, or is inside, a `multipart/signed`.
fn is_signed(structure: &Structure, index: usize) -> bool {
    let mut at = Some(index);
    while let Some(part) = at.map(|index| &structure.parts[index]) {
        if part.content_type.is("multipart", "signed") {
            return true;
        }
        at = part.parent;
    }
    false
}

/// The name of a transfer encoding, and the body in it.
fn encode(
    part: &Part,
    body: &[u8],
    more_follows: bool,
) -> Result<(&'static str, Vec<u8>), SevenBitError> {
    // Composite types are never encoded: RFC 2045 §6.4.
    if matches!(part.content_type.kind.as_str(), "multipart" | "message") {
        return Err(left_in(body));
    }
    let in_base64 = |octets: &[u8]| {
        let mut lines = base64_lines(octets);
        if more_follows {
            // The last line end is the delimiter's.
            lines.truncate(lines.len().saturating_sub(2));
        }
        ("base64", lines)
    };
    match part.encoding.as_str() {
        "7bit" | "8bit" | "binary" if part.content_type.kind == "text" => {
            Ok(("quoted-printable", quoted_printable(body)))
        }
        "7bit" | "8bit" | "binary" => Ok(in_base64(body)),
        "quoted-printable" => {
            Ok(("quoted-printable", quoted_printable(&decode_quoted_printable(body))))
        }
        "base64" if body.is_ascii() => Ok(in_base64(&decode_base64(body))),
        _ => Err(left_in(body)),
    }
}

/// The fields of a part that are beyond ASCII.
fn encode_header(part: &Part, octets: &[u8], edits: &mut Vec<Edit>) -> Result<(), SevenBitError> {
    let mut lines = FieldLines::new(&octets[part.header.clone()]);
    while let Some(line) = lines.next() {
        let end = part.header.end - lines.rest().len();
        match line {
            Some(field) if field.octets.is_ascii() => {}
            Some(field) => {
                let octets = header::ascii_field(&field).ok_or(SevenBitError::Header)?;
                edits.push(Edit { range: end - field.octets.len()..end, octets });
            }
            // Whether a line that is no field is ASCII shows at the end.
            None => {}
        }
    }
    Ok(())
}

/// Octets that take the place of a range.
struct Edit {
    range: Range<usize>,
    octets: Vec<u8>,
}

/// The header of a converted part: its new Content-Transfer-Encoding stands where the old one did,
/// or last.
fn edit_header(
    structure: &Structure,
    part: &Part,
    octets: &[u8],
    name: &str,
    edits: &mut Vec<Edit>,
) {
    let header = &octets[part.header.clone()];
    let mut field = format!("Content-Transfer-Encoding: {name}\r\n").into_bytes();
    let mut has_version = false;
    let mut lines = FieldLines::new(header);
    while let Some(line) = lines.next() {
        let end = part.header.end - lines.rest().len();
        let Some(line) = line else { continue };
        if line.name.eq_ignore_ascii_case("content-transfer-encoding") {
            // One that comes again is dropped: readers would differ on which counts.
            let range = end - line.octets.len()..end;
            edits.push(Edit { range, octets: std::mem::take(&mut field) });
        }
        has_version |= line.name.eq_ignore_ascii_case("mime-version");
    }
    let of_message = part.parent.is_none_or(|p| structure.parts[p].kind == Kind::Message);
    if of_message && !has_version {
        field.splice(0..0, *b"MIME-Version: 1.0\r\n");
    }
    if !field.is_empty() {
        edits.push(Edit { range: part.header.end..part.header.end, octets: field });
    }
}

fn apply(octets: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 4);
    let mut at = 0;
    for edit in edits {
        out.extend_from_slice(&octets[at..edit.range.start]);
        out.extend_from_slice(&edit.octets);
        at = edit.range.end;
    }
    out.extend_from_slice(&octets[at..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn converted(message: &str) -> Result<String, SevenBitError> {
        make_seven_bit(message.as_bytes()).map(|octets| String::from_utf8(octets).unwrap())
    }

    #[test]
    fn safe_is_ascii_without_nul_in_lines_of_998() {
        let line = |octets| [&vec![b'x'; octets][..], b"\r\n"].concat();
        for (octets, expected) in [
            (b"".to_vec(), true),
            (b"A: b\r\n\r\nciao\x7f\r\n".to_vec(), true),
            (b"\0".to_vec(), false),
            (b"\x80".to_vec(), false),
            (line(998), true),
            (line(999), false),
            (vec![b'x'; 999], false),
            ([line(998), line(998)].concat(), true),
            ([line(1), line(999), line(1)].concat(), false),
            ([line(1), vec![b'x'; 999]].concat(), false),
        ] {
            assert_eq!(is_seven_bit(&octets), expected);
        }
    }

    #[test]
    fn a_safe_message_stays_as_it_is() {
        let message = "content-type: text/plain\r\nContent-Transfer-Encoding: 8BIT\r\n\r\nciao\r\n";
        assert_eq!(converted(message).unwrap(), message);
    }

    #[test]
    fn text_becomes_quoted_printable() {
        assert_eq!(
            converted(
                "MIME-Version: 1.0\r\n\
                 Content-transfer-encoding:\r\n 8bit\r\n\
                 Content-Type: text/plain; charset=utf-8\r\n\r\n\
                 Perch\u{e9} no\r\n.\r\n"
            )
            .unwrap(),
            "MIME-Version: 1.0\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n\
             Perch=C3=A9 no\r\n=2E\r\n"
        );
    }

    #[test]
    fn fields_that_lack_are_added() {
        assert_eq!(
            converted("Subject: x\r\n\r\n\u{e8}\r\n").unwrap(),
            "Subject: x\r\nMIME-Version: 1.0\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A8\r\n"
        );
        assert_eq!(
            converted("\r\n\u{e8}").unwrap(),
            "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A8"
        );
    }

    #[test]
    fn of_two_encodings_one_stays() {
        assert_eq!(
            converted(
                "Content-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n\
                 Content-Transfer-Encoding: binary\r\n\r\n\u{e8}"
            )
            .unwrap(),
            "Content-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n=C3=A8"
        );
    }

    /// A message of three parts, of which the second is a message.
    fn nested(text: &str, inner: &str, file: &str, signed: bool) -> String {
        let (kind, protocol) = if signed { ("signed", "; protocol=x") } else { ("mixed", "") };
        format!(
            "Content-type:  multipart/{kind}{protocol};\r\n\tboundary=\"--b\"\r\nMIME-Version: 1.0\r\n\r\n\
             preamble \r\n----b \t\r\n{text}\r\n----b\r\n\
             Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
             Subject: inner\r\n{inner}\r\n----b\r\n{file}\r\n----b--\r\nepilogue"
        )
    }

    #[test]
    fn only_the_leaves_change() {
        assert_eq!(
            converted(&nested(
                "\r\n\u{e8}",
                "MIME-Version: 1.0\r\n\r\n\u{e0}\r\n",
                "Content-Type: application/pdf\r\n\r\n\u{e8}\r\n",
                false
            ))
            .unwrap(),
            nested(
                "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A8",
                "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A0\r\n",
                "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nw6gNCg==",
                false
            )
        );
    }

    #[test]
    fn long_lines_are_encoded_also_anew() {
        let long = "x".repeat(999);
        let qp = quoted_printable(long.as_bytes());
        let qp = String::from_utf8(qp).unwrap();
        let base64 = String::from_utf8(base64_lines(&[0; 750])).unwrap();
        let head = |encoding| {
            format!("MIME-Version: 1.0\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
        };
        for (before, after) in [
            (head("7bit") + &long, head("quoted-printable") + &qp),
            (head("Quoted-Printable") + &long, head("quoted-printable") + &qp),
            (head("BASE64") + &"A".repeat(1000), head("base64") + &base64),
        ] {
            assert_eq!(converted(&before).unwrap(), after);
        }
        let safe = "A".repeat(998);
        assert_eq!(converted(&(head("base64") + &safe)).unwrap(), head("base64") + &safe);
    }

    #[test]
    fn header_fields_in_utf_8_are_encoded_beside_a_body_that_is() {
        assert_eq!(
            converted(
                "Subject: citt\u{e0}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Transfer-Encoding: 8bit\r\nX-B: \u{e8}\r\n\r\ngi\u{e0}\r\n"
            )
            .unwrap(),
            "Subject: =?utf-8?Q?citt=C3=A0?=\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\nX-B: =?utf-8?B?w6g=?=\r\n\
             MIME-Version: 1.0\r\n\r\ngi=C3=A0\r\n"
        );
        // The header of a signed message is not what is signed.
        let signed = "Subject: \u{e8}\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n\
                      --b\r\n\r\nciao\r\n--b--\r\n";
        let expected = signed.replace('\u{e8}', "=?utf-8?B?w6g=?=");
        assert_eq!(converted(signed).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_converted_is_refused() {
        let long = "x".repeat(999);
        let plain = "\r\nciao";
        let one_leaf = |fields: &str, body: &str| format!("{fields}\r\n\r\n{body}");
        for (message, expected) in [
            (one_leaf("To: \u{e8}@b.example", "ciao"), SevenBitError::Header),
            (nested("Content-ID: \u{e8}\r\n\r\n", "", plain, false), SevenBitError::Header),
            (nested("X-A: \u{e8}\r\n\r\n", "", plain, true), SevenBitError::Signed),
            (one_leaf("no field \u{e8}", "ciao"), SevenBitError::Octets),
            (nested("\r\n\u{e8}", "", plain, true), SevenBitError::Signed),
            (nested(plain, "\r\n\u{e8}", plain, true), SevenBitError::Signed),
            (one_leaf("Content-Type: multipart/signed", "\u{e8}"), SevenBitError::Signed),
            (one_leaf("A: b", "nul \0"), SevenBitError::Nul),
            (one_leaf(&long, "ciao"), SevenBitError::LineTooLong),
            (one_leaf("Content-Type: multipart/mixed", "\u{e8}"), SevenBitError::Octets),
            (one_leaf("Content-Type: message/partial", "\u{e8}"), SevenBitError::Octets),
            (one_leaf("Content-Transfer-Encoding: x-uue", "\u{e8}"), SevenBitError::Octets),
            (one_leaf("Content-Transfer-Encoding: base64", "\u{e8}"), SevenBitError::Octets),
            (nested(plain, "", plain, false).replace("preamble", "\u{e8}"), SevenBitError::Octets),
            (
                nested(plain, "", plain, false).replace("epilogue", &long),
                SevenBitError::LineTooLong,
            ),
            (
                one_leaf("", &"Content-Type: message/rfc822\r\n\r\n".repeat(100)).split_off(4)
                    + "\u{e8}",
                SevenBitError::Structure,
            ),
        ] {
            assert_eq!(converted(&message), Err(expected), "{message:.60}");
        }
    }

    /// By the definition: each line.
    fn has_one(octets: &[u8]) -> bool {
        octets
            .split(|&octet| octet == b'\n')
            .any(|line| line.strip_suffix(b"\r").unwrap_or(line).len() > LINE_OCTETS_MAX)
    }

    #[test]
    fn long_lines_are_found_wherever_they_are() {
        let max = LINE_OCTETS_MAX;
        for long in max - 2..max + 4 {
            for (before, after) in [(0, 0), (1, 0), (0, 1), (max, max), (max - 1, 5), (5, max - 1)]
            {
                for end in ["\r\n", "\n", "\r\r\n", "\r", ""] {
                    for between in ["\r\n", "\n", "\n\n"] {
                        let [a, b, c] = [before, long, after].map(|count| "x".repeat(count));
                        let text = format!("{a}{between}{b}{end}{c}");
                        let found = has_long_line(text.as_bytes());
                        assert_eq!(
                            found,
                            has_one(text.as_bytes()),
                            "{before} {long} {end:?} {after}"
                        );
                        assert_eq!(is_seven_bit(text.as_bytes()), !found);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_long_line_is_one_by_the_definition(
            lines in proptest::collection::vec((0usize..1100, 0usize..4), 0..6)
        ) {
            let ends = ["\r\n", "\n", "\r", "\r\r\n"];
            let text: String =
                lines.iter().map(|(octets, end)| "x".repeat(*octets) + ends[*end]).collect();
            prop_assert_eq!(has_long_line(text.as_bytes()), has_one(text.as_bytes()));
        }


        // Whatever is converted has the structure it had, and the content.
        #[test]
        fn content_and_structure_stay(
            text in "(\u{e8}|--b|----b|[ -~]|=|\r\n){0,80}",
            inner in "(\u{e8}|[a-z .-]|=|\r\n){0,60}",
            file in "(\u{e8}|--|[a-z]|\r\n){0,60}",
        ) {
            let message = nested(
                &format!("Content-Transfer-Encoding: 8bit\r\n\r\n{text}"),
                &format!("MIME-Version: 1.0\r\n\r\n{inner}"),
                &format!("Content-Type: image/png\r\n\r\n{file}"),
                false,
            );
            let before = mime::scan(message.as_bytes()).unwrap();
            let Ok(octets) = make_seven_bit(message.as_bytes()) else { return Ok(()) };
            prop_assert!(is_seven_bit(&octets));
            let after = mime::scan(&octets).unwrap();
            prop_assert_eq!(before.parts.len(), after.parts.len());
            for (old, new) in before.parts.iter().zip(&after.parts) {
                prop_assert_eq!(old.kind, new.kind);
                prop_assert_eq!(&old.children, &new.children);
                if old.kind == Kind::Leaf {
                    let old = mime::decode_body(old, message.as_bytes());
                    prop_assert_eq!(old, mime::decode_body(new, &octets));
                }
            }
        }

        #[test]
        fn any_octets_are_converted_or_refused(octets: Vec<u8>) {
            if let Ok(octets) = make_seven_bit(&octets) {
                prop_assert!(is_seven_bit(&octets));
            }
        }
    }
}
