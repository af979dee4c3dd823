//! Subjects: of the original, and with the prefixes of PEC before them.
//!
//! PEC-FMT-07, RT §6.3.2 to §6.5.3. Messages are never classified by them.

use mail::Field;
use mail::message::encode_words;
use serde::{Deserialize, Serialize};

/// Characters of a line at most where a value is not broken, RFC 2047 §2.
const LINE_CHARACTERS: usize = 76;
/// Characters of a line that must not be passed, RFC 5322 §2.1.1.
const LINE_CHARACTERS_MAX: usize = 998;

/// The subject of an original message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    text: String,
    value: String,
}

impl Subject {
    /// The subject in a field. Its value is kept as it was, when it can stand in a header field of
    /// ours; when it cannot (raw octets above 127, over-long lines), its text is encoded again.
    pub fn of(field: &Field<'_>) -> Self {
        let text = field.decoded();
        let kept = std::str::from_utf8(field.value).ok().map(str::trim_ascii);
        let value = match kept {
            Some(value) if is_safe(value) => value.to_owned(),
            _ => encoded(&text),
        };
        Self { text, value }
    }

    /// A subject of which only the text is known (`oggetto`).
    pub fn from_text(text: &str) -> Self {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { value: encoded(&text), text }
    }

    /// Octets of its value, without the prefix.
    pub(crate) fn octets(&self) -> usize {
        self.value.len()
    }

    /// As people read it, on one line.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A text as a value that may start on a line of its own.
fn encoded(text: &str) -> String {
    encode_words(text, LINE_CHARACTERS).trim_ascii().to_owned()
}

/// Whether each line of a value, the first aside, continues the field, and all is printable.
fn is_safe(value: &str) -> bool {
    let mut lines = value.split("\r\n");
    let printable = |line: &str| {
        line.len() <= LINE_CHARACTERS_MAX - "Subject: ".len()
            && line.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t')
    };
    lines.next().is_some_and(printable)
        && lines.all(|line| {
            line.starts_with([' ', '\t']) && !line.trim_ascii().is_empty() && printable(line)
        })
}

/// Writes the `Subject` field of a message of ours: prefix, a space, the original value as it was.
/// Without an original subject, the prefix and its colon only.
pub fn write_subject(out: &mut Vec<u8>, prefix: &str, subject: Option<&Subject>) {
    let start = out.len();
    out.extend_from_slice(b"Subject: ");
    out.extend_from_slice(prefix.as_bytes());
    out.push(b':');
    if let Some(Subject { value, .. }) = subject.filter(|s| !s.value.is_empty()) {
        let first_line = value.split("\r\n").next().map_or(0, str::len);
        let fits = out.len() - start + 1 + first_line <= LINE_CHARACTERS;
        out.extend_from_slice(if fits { &b" "[..] } else { b"\r\n " });
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use mail::Message;

    use super::*;

    fn subject(header: &[u8]) -> Subject {
        Subject::of(&Message::parse(header).unwrap().field("Subject").unwrap())
    }

    fn written(prefix: &str, subject: Option<&Subject>) -> String {
        let mut out = Vec::new();
        write_subject(&mut out, prefix, subject);
        String::from_utf8(out).unwrap()
    }

    // PEC-FMT-07
    #[test]
    fn a_prefix_a_space_and_the_value_as_it_was() {
        let folded = subject(b"Subject: =?utf-8?q?Istanza_?=\r\n =?utf-8?q?citt=C3=A0?=\r\n\r\n");
        assert_eq!(folded.text(), "Istanza citt\u{e0}");
        assert_eq!(
            written("CONSEGNA", Some(&folded)),
            "Subject: CONSEGNA: =?utf-8?q?Istanza_?=\r\n =?utf-8?q?citt=C3=A0?=\r\n"
        );
        let plain = subject(b"Subject:Richiesta  informazioni \r\n\r\n");
        assert_eq!(
            written("ANOMALIA MESSAGGIO", Some(&plain)),
            "Subject: ANOMALIA MESSAGGIO: Richiesta  informazioni\r\n"
        );
        let long = subject(format!("Subject: {}\r\n\r\n", "parola ".repeat(10)).as_bytes());
        let text = written("POSTA CERTIFICATA", Some(&long));
        assert!(text.starts_with("Subject: POSTA CERTIFICATA:\r\n parola "), "{text}");
    }

    #[test]
    fn without_a_subject_the_prefix_stands_alone() {
        assert_eq!(written("ACCETTAZIONE", None), "Subject: ACCETTAZIONE:\r\n");
        let empty = subject(b"Subject:   \r\n\r\n");
        assert_eq!(written("ACCETTAZIONE", Some(&empty)), "Subject: ACCETTAZIONE:\r\n");
    }

    #[test]
    fn what_cannot_stand_in_a_field_is_encoded_again() {
        for (header, text, value) in [
            (&b"Subject: citt\xc3\xa0\r\n\r\n"[..], "citt\u{e0}", "=?utf-8?Q?citt=C3=A0?="),
            (b"Subject: a\r\n \r\n b\r\n\r\n", "a  b", "a  b"),
            (b"Subject: a\rBcc: b\r\n\r\n", "a Bcc: b", "a Bcc: b"),
        ] {
            let subject = subject(header);
            assert_eq!(subject.text(), text);
            assert_eq!(
                written("X", Some(&subject)).trim_ascii_end(),
                format!("Subject: X: {value}")
            );
        }
        let one_line = Subject::from_text("a\r\nBcc: vittima@pec.example");
        assert_eq!(one_line.text(), "a  Bcc: vittima@pec.example");
        assert_eq!(written("X", Some(&one_line)), "Subject: X: a  Bcc: vittima@pec.example\r\n");
        let long = subject(format!("Subject: {}\r\n\r\n", "x".repeat(1_200)).as_bytes());
        assert!(written("X", Some(&long)).split("\r\n").all(|line| line.len() <= 998));
        // A line that fits alone still fits beside nothing else.
        let edge = subject(format!("Subject: {}\r\n\r\n", "x".repeat(985)).as_bytes());
        assert!(written("X", Some(&edge)).split("\r\n").all(|line| line.len() <= 998));
    }
}
