//! ENVELOPE: the fields of a header that a list of messages shows. RFC 3501 §7.4.2, §2.3.5.
//!
//! Values are as written, encoded words kept; octets that are not ASCII go out as a literal.

use mail::Message;
use mail::message::{ListItem, lenient_address_list};

use crate::response::Output;

/// An envelope without anything in it.
pub(super) const EMPTY: &str = "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)";

/// `envelope = "(" env-date SP env-subject SP env-from SP env-sender SP env-reply-to SP env-to SP
/// env-cc SP env-bcc SP env-in-reply-to SP env-message-id ")"`
pub(super) fn write(message: &Message<'_>, out: &mut Output) {
    out.text("(");
    write_text(message, "Date", out);
    out.text(" ");
    write_text(message, "Subject", out);
    let from = addresses(message, "From");
    write_addresses(&from, out);
    for name in ["Sender", "Reply-To"] {
        let said = addresses(message, name);
        // Absent or empty: as From, RFC 3501 §7.4.2.
        write_addresses(if said.is_empty() { &from } else { &said }, out);
    }
    for name in ["To", "Cc", "Bcc"] {
        write_addresses(&addresses(message, name), out);
    }
    for name in ["In-Reply-To", "Message-ID"] {
        out.text(" ");
        write_text(message, name, out);
    }
    out.text(")");
}

/// The value of the first field of this name, on one line.
pub(super) fn write_text(message: &Message<'_>, name: &str, out: &mut Output) {
    let value = message.field(name).map(|field| unfold(field.value));
    out.nstring(value.as_deref());
}

/// A value without its line ends, RFC 5322 §2.2.3; its other octets as they are.
fn unfold(value: &[u8]) -> Vec<u8> {
    let line: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    line.trim_ascii().to_vec()
}

fn addresses(message: &Message<'_>, name: &str) -> Vec<ListItem> {
    message.field(name).map(|field| lenient_address_list(field.value)).unwrap_or_default()
}

/// `"(" 1*address ")" / nil`, with a space before it.
fn write_addresses(items: &[ListItem], out: &mut Output) {
    if items.is_empty() {
        return out.text(" NIL");
    }
    out.text(" (");
    for item in items {
        match item {
            ListItem::Mailbox { name, local, domain } => {
                out.text("(");
                out.nstring(name.as_ref().map(String::as_bytes));
                out.text(" NIL ");
                out.string(local.as_bytes());
                out.text(" ");
                // Never NIL, which would make it the start of a group.
                out.string(domain.as_bytes());
                out.text(")");
            }
            ListItem::GroupStart(name) => {
                out.text("(NIL NIL ");
                out.string(name.as_bytes());
                out.text(" NIL)");
            }
            ListItem::GroupEnd => out.text("(NIL NIL NIL NIL)"),
        }
    }
    out.text(")");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Piece;

    fn envelope(header: &[u8]) -> String {
        let mut out = Output::default();
        write(&Message::lenient(header), &mut out);
        match out.into_pieces().pop() {
            Some(Piece::Octets(octets)) => String::from_utf8(octets).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_envelope_tells_what_the_header_says() {
        let cases: [(&str, &str); 6] = [
            ("", EMPTY),
            (
                "From: a@b.example\r\nSubject: uno\r\n due\r\n\r\n",
                "(NIL \"uno due\" ((NIL NIL \"a\" \"b.example\")) ((NIL NIL \"a\" \"b.example\")) \
                 ((NIL NIL \"a\" \"b.example\")) NIL NIL NIL NIL NIL)",
            ),
            (
                "From: \"Rossi, Mario\" <m@a.example>\r\nSender:\r\nReply-To: r@a.example\r\n",
                "(NIL NIL ((\"Rossi, Mario\" NIL \"m\" \"a.example\")) \
                 ((\"Rossi, Mario\" NIL \"m\" \"a.example\")) ((NIL NIL \"r\" \"a.example\")) \
                 NIL NIL NIL NIL NIL)",
            ),
            (
                "To: Amici: a@b.example, c@d.example;, undisclosed-recipients:;\r\n",
                "(NIL NIL NIL NIL NIL ((NIL NIL \"Amici\" NIL)(NIL NIL \"a\" \"b.example\")\
                 (NIL NIL \"c\" \"d.example\")(NIL NIL NIL NIL)\
                 (NIL NIL \"undisclosed-recipients\" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)",
            ),
            (
                "Subject: =?utf-8?Q?Perch=C3=A9?=\r\nMessage-ID: <1@a>\r\nSubject: second\r\n",
                "(NIL \"=?utf-8?Q?Perch=C3=A9?=\" NIL NIL NIL NIL NIL NIL NIL \"<1@a>\")",
            ),
            (
                "Subject: perch\u{e9}\r\n",
                "(NIL {7}\r\nperch\u{e9} NIL NIL NIL NIL NIL NIL NIL NIL)",
            ),
        ];
        for (header, expected) in cases {
            assert_eq!(envelope(header.as_bytes()), expected, "{header:?}");
        }
    }

    #[test]
    fn hostile_headers_end_somewhere() {
        for header in
            ["From: (\\", "From: \"", "To: <", "Cc: a:b:c;;", "Bcc: =?utf-8?Q?", "From: \0"]
        {
            assert!(envelope(header.as_bytes()).ends_with(')'), "{header:?}");
        }
    }
}
