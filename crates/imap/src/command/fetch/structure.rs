//! BODY and BODYSTRUCTURE: the parts of a message without their octets. RFC 3501 §7.4.2, §9 `body`.
//!
//! Parts nest at most [`mail::mime::DEPTH_MAX`] deep, and so do the calls here.

use mail::Message;
use mail::mime::{Kind, Part, Structure};

use super::envelope;
use crate::response::Output;

/// What stands for a multipart that has no parts, and for what cannot be looked into.
const EMPTY_TEXT: &str = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";

/// Writes the structure of a message.
pub(super) fn write(octets: &[u8], structure: &Structure, extended: bool, out: &mut Output) {
    let lines = Lines::count(octets, structure);
    Writer { octets, structure, lines, extended, out }.part(structure.root());
}

struct Writer<'w> {
    octets: &'w [u8],
    structure: &'w Structure,
    lines: Lines,
    extended: bool,
    out: &'w mut Output,
}

impl Writer<'_> {
    fn part(&mut self, part: &Part) {
        let header = self.octets.get(part.header.clone()).unwrap_or_default();
        let header = Message::lenient(header);
        if part.kind == Kind::Multipart {
            self.multipart(part, &header);
        } else {
            self.single(part, &header);
        }
    }

    /// `body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]`
    fn multipart(&mut self, part: &Part, header: &Message<'_>) {
        self.out.text("(");
        if part.children.is_empty() {
            self.out.text(EMPTY_TEXT);
            self.out.text(if self.extended { " NIL NIL NIL NIL)" } else { ")" });
        }
        for &child in &part.children {
            if let Some(child) = self.structure.parts.get(child) {
                self.part(child);
            }
        }
        self.out.text(" ");
        self.out.string(part.content_type.subtype.as_bytes());
        if self.extended {
            self.out.text(" ");
            self.parameters(&part.content_type.parameters);
            self.disposition_and_after(part, header);
        }
        self.out.text(")");
    }

    /// `body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part]`
    fn single(&mut self, part: &Part, header: &Message<'_>) {
        let kind = part.content_type.kind.as_str();
        let is_text = kind == "text";
        let is_message = part.kind == Kind::Message || part.content_type.is("message", "rfc822");
        self.out.text("(");
        if kind == "multipart" {
            // Without a boundary it is none: RFC 2045 §5.2 has it be plain text.
            self.out.text("\"text\" \"plain\" (\"charset\" \"us-ascii\")");
        } else if !part.content_type_said && part.content_type.parameters.is_empty() && is_text {
            self.out.text("\"text\" \"plain\" (\"charset\" \"us-ascii\")");
        } else {
            self.out.string(kind.as_bytes());
            self.out.text(" ");
            self.out.string(part.content_type.subtype.as_bytes());
            self.out.text(" ");
            self.parameters(&part.content_type.parameters);
        }
        for name in ["Content-ID", "Content-Description"] {
            self.out.text(" ");
            envelope::write_text(header, name, self.out);
        }
        self.out.text(" ");
        self.out.string(part.encoding.as_bytes());
        self.out.text(&format!(" {}", part.body.len()));
        if is_message {
            self.inner_message(part);
        }
        if is_message || is_text || kind == "multipart" {
            self.out.text(&format!(" {}", self.lines.of(part)));
        }
        if self.extended {
            self.out.text(" ");
            envelope::write_text(header, "Content-MD5", self.out);
            self.disposition_and_after(part, header);
        }
        self.out.text(")");
    }

    /// `body-type-msg`: `SP envelope SP body`
    fn inner_message(&mut self, part: &Part) {
        let root = part.children.first().and_then(|&child| self.structure.parts.get(child));
        self.out.text(" ");
        match root {
            Some(root) => {
                let header = self.octets.get(root.header.clone()).unwrap_or_default();
                envelope::write(header, self.out);
                self.out.text(" ");
                self.part(root);
            }
            // Encoded, against RFC 2046 §5.2.1: nothing of it can be told.
            None => {
                self.out.text(envelope::EMPTY);
                self.out.text(" ");
                self.out.text(EMPTY_TEXT);
                self.out.text(if self.extended { " NIL NIL NIL NIL)" } else { ")" });
            }
        }
    }

    /// `body-fld-dsp SP body-fld-lang SP body-fld-loc`, with a space before.
    fn disposition_and_after(&mut self, part: &Part, header: &Message<'_>) {
        match &part.disposition {
            Some(disposition) => {
                self.out.text(" (");
                self.out.string(disposition.kind.as_bytes());
                self.out.text(" ");
                self.parameters(&disposition.parameters);
                self.out.text(")");
            }
            None => self.out.text(" NIL"),
        }
        for name in ["Content-Language", "Content-Location"] {
            self.out.text(" ");
            envelope::write_text(header, name, self.out);
        }
    }

    /// `body-fld-param = "(" string SP string *(SP string SP string) ")" / nil`. What is not ASCII
    /// goes out as RFC 2231 §4 writes it, since a parameter cannot say its charset here.
    fn parameters(&mut self, parameters: &[(String, String)]) {
        if parameters.is_empty() {
            return self.out.text("NIL");
        }
        self.out.text("(");
        for (at, (name, value)) in parameters.iter().enumerate() {
            if at > 0 {
                self.out.text(" ");
            }
            if value.is_ascii() {
                self.out.string(name.as_bytes());
                self.out.text(" ");
                self.out.string(value.as_bytes());
            } else {
                self.out.string(format!("{name}*").as_bytes());
                self.out.text(" ");
                self.out.string(extended_value(value).as_bytes());
            }
        }
        self.out.text(")");
    }
}

/// `extended-initial-value`, RFC 2231 §7.
fn extended_value(value: &str) -> String {
    let mut out = "utf-8''".to_owned();
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// How many lines the bodies of all parts have, counted in one pass: bodies nest, and counting each
/// for itself would read the innermost as often as it is deep.
struct Lines {
    /// Offsets, ascending, and the line ends before each.
    before: Vec<(usize, usize)>,
}

impl Lines {
    fn count(octets: &[u8], structure: &Structure) -> Self {
        let bodies = structure.parts.iter().map(|part| &part.body);
        let mut offsets: Vec<usize> = bodies.flat_map(|body| [body.start, body.end]).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let (mut at, mut lines) = (0, 0);
        let before = offsets
            .into_iter()
            .map(|offset| {
                let piece = octets.get(at..offset).unwrap_or_default();
                lines += piece.iter().filter(|&&b| b == b'\n').count();
                at = offset;
                (offset, lines)
            })
            .collect();
        Self { before }
    }

    fn at(&self, offset: usize) -> usize {
        let found = self.before.binary_search_by_key(&offset, |&(offset, _)| offset);
        found.ok().and_then(|at| self.before.get(at)).map_or(0, |&(_, lines)| lines)
    }

    fn of(&self, part: &Part) -> usize {
        self.at(part.body.end) - self.at(part.body.start)
    }
}

#[cfg(test)]
mod tests {
    use mail::mime;

    use super::*;
    use crate::response::Piece;

    fn structure(message: &[u8], extended: bool) -> String {
        let mut out = Output::default();
        let parts = mime::scan(message).unwrap_or_else(|_| mime::opaque(message));
        write(message, &parts, extended, &mut out);
        match out.into_pieces().pop() {
            Some(Piece::Octets(octets)) => String::from_utf8(octets).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_says_what_it_is_made_of() {
        let cases: [(&str, &str); 7] = [
            ("", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0)"),
            (
                "Content-Type: text/html; charset=utf-8\r\n\r\nuno\r\ndue\r\n",
                "(\"text\" \"html\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" 10 2)",
            ),
            (
                "Content-Type: image/png; name*=utf-8''caff%C3%A8.png\r\nContent-ID: <x@y>\r\n\
                 Content-Transfer-Encoding: BASE64\r\n\r\nAAAA\r\n",
                "(\"image\" \"png\" (\"name*\" \"utf-8''caff%C3%A8.png\") \"<x@y>\" NIL \"base64\" 6)",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nuno\r\n--b\r\n\
                 Content-Type: message/rfc822\r\n\r\nSubject: due\r\n\r\nx\r\n--b--\r\n",
                "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0)\
                 (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 \
                 (NIL \"due\" NIL NIL NIL NIL NIL NIL NIL NIL) \
                 (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 1 0) 2) \"mixed\")",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\nnothing\r\n",
                "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0) \"mixed\")",
            ),
            (
                "Content-Type: multipart/mixed\r\n\r\nnothing\r\n",
                "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 9 1)",
            ),
            (
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==",
                "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 4 \
                 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) \
                 (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0) 0)",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(structure(message.as_bytes(), false), expected, "{message:?}");
        }
    }

    #[test]
    fn extension_data_follows_where_asked_for() {
        let message = b"Content-Type: text/plain; charset=us-ascii\r\n\
            Content-Disposition: attachment; filename=\"a \\\"b\\\".txt\"\r\nContent-Language: it\r\n\
            Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\nContent-Location: x\r\n\r\n";
        assert_eq!(
            structure(message, true),
            "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 \
             \"Q2hlY2sgSW50ZWdyaXR5IQ==\" (\"attachment\" (\"filename\" \"a \\\"b\\\".txt\")) \
             \"it\" \"x\")"
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_one_part() {
        let deep = b"Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
        let text = structure(&deep, false);
        assert!(
            text.starts_with("(\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" "),
            "{text}"
        );
    }
}
