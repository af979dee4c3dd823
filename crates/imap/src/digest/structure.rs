//! BODY and BODYSTRUCTURE: the parts of a message without their octets. RFC 3501 §7.4.2, §9 `body`.
//!
//! Parts nest at most [`mail::mime::DEPTH_MAX`] deep, and so do the calls here.

use std::ops::Range;

use mail::Message;
use mail::mime::{Kind, Part, Structure};
use store::StoreError;

use super::{STRUCTURE_OCTETS_MAX, envelope};
use crate::response::Output;
use crate::source::Source;

/// What stands for a multipart that has no parts, and for what cannot be looked into.
const EMPTY_TEXT: &str = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";

/// A structure, written with its extension data.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) octets: Vec<u8>,
    /// Where that data is: without it, it is what BODY answers.
    pub(super) extensions: Vec<Range<usize>>,
}

/// Writes the structure of a message, of which only headers are read; `None` when it would be longer
/// than a response should be.
pub(super) fn write(
    structure: &Structure,
    source: &mut Source<'_>,
) -> Result<Option<Written>, StoreError> {
    let mut out = Output::default();
    let mut writer = Writer { source, structure, extensions: Vec::new(), out: &mut out };
    match writer.part(structure.root()) {
        Ok(()) => {
            let extensions = writer.extensions;
            Ok(Some(Written { octets: out.into_octets(), extensions }))
        }
        Err(Stop::TooLong) => Ok(None),
        Err(Stop::Store(error)) => Err(error),
    }
}

/// Why it ended early.
enum Stop {
    TooLong,
    Store(StoreError),
}

struct Writer<'w, 's> {
    source: &'w mut Source<'s>,
    structure: &'w Structure,
    extensions: Vec<Range<usize>>,
    out: &'w mut Output,
}

impl Writer<'_, '_> {
    fn part(&mut self, part: &Part) -> Result<(), Stop> {
        if self.out.held_octets() > STRUCTURE_OCTETS_MAX {
            return Err(Stop::TooLong);
        }
        let header = self.header(part)?;
        let header = Message::lenient(&header);
        if part.kind == Kind::Multipart {
            self.multipart(part, &header)
        } else {
            self.single(part, &header)
        }
    }

    fn header(&mut self, part: &Part) -> Result<Vec<u8>, Stop> {
        let Range { start, end } = part.header;
        self.source.slice(start as u64, end as u64).map_err(Stop::Store)
    }

    /// Writes extension data.
    fn extension(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.out.held_octets();
        write(self);
        self.extensions.push(start..self.out.held_octets());
    }

    /// `body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]`
    fn multipart(&mut self, part: &Part, header: &Message<'_>) -> Result<(), Stop> {
        self.out.text("(");
        if part.children.is_empty() {
            self.empty_text();
        }
        for &child in &part.children {
            if let Some(child) = self.structure.parts.get(child) {
                self.part(child)?;
            }
        }
        self.out.text(" ");
        self.out.string(part.content_type.subtype.as_bytes());
        self.extension(|writer| {
            writer.out.text(" ");
            writer.parameters(&part.content_type.parameters);
            writer.disposition_and_after(part, header);
        });
        self.out.text(")");
        Ok(())
    }

    fn empty_text(&mut self) {
        self.out.text(EMPTY_TEXT);
        self.extension(|writer| writer.out.text(" NIL NIL NIL NIL"));
        self.out.text(")");
    }

    /// `body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part]`
    fn single(&mut self, part: &Part, header: &Message<'_>) -> Result<(), Stop> {
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
            self.inner_message(part)?;
        }
        if is_message || is_text || kind == "multipart" {
            self.out.text(&format!(" {}", part.lines));
        }
        self.extension(|writer| {
            writer.out.text(" ");
            envelope::write_text(header, "Content-MD5", writer.out);
            writer.disposition_and_after(part, header);
        });
        self.out.text(")");
        Ok(())
    }

    /// `body-type-msg`: `SP envelope SP body`
    fn inner_message(&mut self, part: &Part) -> Result<(), Stop> {
        let root = part.children.first().and_then(|&child| self.structure.parts.get(child));
        self.out.text(" ");
        match root {
            Some(root) => {
                let header = self.header(root)?;
                envelope::write(&Message::lenient(&header), self.out);
                self.out.text(" ");
                self.part(root)?;
            }
            // Encoded, against RFC 2046 §5.2.1: nothing of it can be told.
            None => {
                self.out.text(envelope::EMPTY);
                self.out.text(" ");
                self.empty_text();
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use store::memory::MemoryStore;
    use store::{Flags, MailboxName, NewAccount, NewMessage, Octets, Store as _, Timestamp};

    use super::*;
    use crate::digest::Digest;

    /// What the store keeps, and what comes of it.
    fn structure(message: &[u8], extended: bool) -> String {
        let store = MemoryStore::new();
        let at = Timestamp::UNIX_EPOCH;
        let account = NewAccount {
            address: mail::Address::parse("a@b.example").unwrap(),
            user_id: None,
            owner: store::Owner::Holder,
            role: store::Role::None,
            credentials: None,
            quota: store::Quota {
                octets_max: u64::MAX >> 1,
                messages_max: None,
                receipt_reserve_octets: 0,
            },
            ordinary_mail: None,
        };
        let account = store.add_account(account, at).unwrap();
        let inbox = store.mailbox(account, &MailboxName::inbox()).unwrap().id;
        let octets = Octets::Inline(message.into());
        let new = NewMessage { octets, flags: Flags::default(), received: at, at };
        store.append(inbox, new).unwrap();
        let summary = store.summaries(inbox, &store::UidSet::all(), 1).unwrap().remove(0);
        let mut source = Source::new(&store, summary.blob, summary.octets);
        let digest = Digest::make(&mut source).unwrap();
        assert_eq!(Digest::read(digest.octets().to_vec()).as_ref(), Some(&digest));
        let mut out = Output::default();
        digest.write_structure(extended, &mut out);
        String::from_utf8(out.into_octets()).unwrap()
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

    #[test]
    fn a_structure_that_is_too_long_to_tell_is_one_part() {
        let parts = |count: usize| {
            let name = "x".repeat(900);
            let part = format!("--b\r\nContent-ID: <{name}>\r\n\r\n\r\n");
            format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(count))
        };
        assert!(structure(parts(1_000).as_bytes(), false).ends_with("\"mixed\")"));
        let text = structure(parts(1_200).as_bytes(), false);
        assert!(
            text.starts_with("(\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" "),
            "{text}"
        );
    }
}
