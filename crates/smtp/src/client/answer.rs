//! A peer's replies out of a stream of octets, RFC 5321 §4.2.
//!
//! Hostile peers answer too: every length is bounded, only CRLF ends a line, and the lines of one
//! reply must have one code. What is kept of the text is printable ASCII, fit for a log and a DSN.

use std::fmt;

use memchr::memchr;

/// Octets of a reply line at most, with its CRLF. RFC 5321 §4.5.3.1.5 says 512; servers that write
/// long URLs are borne with.
pub const ANSWER_LINE_OCTETS_MAX: usize = 2048;
/// Lines of one reply at most: an EHLO answer has one for each extension, and none has so many.
pub const ANSWER_LINES_MAX: usize = 128;
/// Octets of one reply at most, in all its lines.
pub const ANSWER_OCTETS_MAX: usize = 16 * 1024;
/// Octets of a reply's text that are kept.
pub const ANSWER_TEXT_OCTETS_MAX: usize = 1024;

/// An enhanced status code, RFC 3463 §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnhancedStatus {
    /// 2, 4 or 5: the first digit of the reply's code.
    pub class: u8,
    /// What kind of trouble.
    pub subject: u16,
    /// Which.
    pub detail: u16,
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// What a peer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReply {
    /// 200 to 559.
    pub code: u16,
    /// The enhanced code at the head of the text, when there is one of the reply's class.
    pub status: Option<EnhancedStatus>,
    /// The lines' texts without the enhanced code, parted by spaces, at most
    /// [`ANSWER_TEXT_OCTETS_MAX`] octets of printable ASCII.
    pub text: String,
}

impl PeerReply {
    /// Whether it says yes: 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it says that trying again is of no use: 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl fmt::Display for PeerReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

/// Why a peer's octets are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// [`ANSWER_LINE_OCTETS_MAX`].
    #[error("a reply line is too long")]
    LineTooLong,
    /// [`ANSWER_LINES_MAX`] or [`ANSWER_OCTETS_MAX`].
    #[error("a reply has too many lines")]
    TooManyLines,
    /// A line ends with a bare LF or has a bare CR.
    #[error("a reply line does not end with CRLF")]
    LineEnd,
    /// No code of 200 to 559 at its head, or something else than a space or hyphen behind it.
    #[error("a reply has no code")]
    Code,
    /// Two lines of one reply have two codes.
    #[error("a reply has two codes")]
    TwoCodes,
}

/// A reply with its lines, as EHLO's is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) reply: PeerReply,
    /// The text of each line, sanitized.
    pub(crate) lines: Vec<String>,
}

/// What came in, and the reply that is not whole yet.
#[derive(Default)]
pub(crate) struct AnswerBuffer {
    octets: Vec<u8>,
    start: usize,
    lines: Vec<String>,
    code: Option<u16>,
    total: usize,
}

impl AnswerBuffer {
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.start);
        self.start = 0;
        self.octets.extend_from_slice(octets);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next reply that is all there.
    pub(crate) fn next(&mut self) -> Result<Option<Lines>, AnswerError> {
        loop {
            let rest = &self.octets[self.start..];
            let Some(lf) = memchr(b'\n', rest) else {
                // The last octet may be the CR of a CRLF: within the limit, one more may come.
                if rest.len() >= ANSWER_LINE_OCTETS_MAX {
                    return Err(AnswerError::LineTooLong);
                }
                return Ok(None);
            };
            if lf + 1 > ANSWER_LINE_OCTETS_MAX {
                return Err(AnswerError::LineTooLong);
            }
            let line = rest[..lf].strip_suffix(b"\r").ok_or(AnswerError::LineEnd)?;
            if line.contains(&b'\r') {
                return Err(AnswerError::LineEnd);
            }
            let (code, last, text) = read_line(line).ok_or(AnswerError::Code)?;
            self.start += lf + 1;
            self.total += lf + 1;
            if self.code.replace(code).is_some_and(|before| before != code) {
                return Err(AnswerError::TwoCodes);
            }
            self.lines.push(text);
            if self.lines.len() > ANSWER_LINES_MAX || self.total > ANSWER_OCTETS_MAX {
                return Err(AnswerError::TooManyLines);
            }
            if last {
                self.code = None;
                self.total = 0;
                let lines = std::mem::take(&mut self.lines);
                return Ok(Some(Lines { reply: whole(code, &lines), lines }));
            }
        }
    }
}

/// `Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF`,
/// `Reply-code = %x32-35 %x30-35 %x30-39` (RFC 5321 §4.2).
fn read_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let (code, rest) = line.split_at_checked(3)?;
    let digits = matches!(code, [b'2'..=b'5', b'0'..=b'5', b'0'..=b'9']);
    if !digits {
        return None;
    }
    let code = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let (last, text) = match rest.split_first() {
        None => (true, &[][..]),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    let plain = |octet: &u8| if matches!(octet, b' '..=b'~') { char::from(*octet) } else { '?' };
    Some((code, last, text.iter().map(plain).collect()))
}

fn whole(code: u16, lines: &[String]) -> PeerReply {
    let mut status = None;
    let mut text = String::new();
    for line in lines {
        let (found, rest) = split_status(code, line);
        status = status.or(found);
        let rest = rest.trim();
        if !rest.is_empty() && text.len() < ANSWER_TEXT_OCTETS_MAX {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(rest);
        }
    }
    text.truncate(ANSWER_TEXT_OCTETS_MAX);
    PeerReply { code, status, text }
}

/// `status-code = class "." subject "." detail` (RFC 3463 §2), of the class of the reply.
fn split_status(code: u16, line: &str) -> (Option<EnhancedStatus>, &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let read = || {
        let mut parts = word.split('.');
        let class: u8 = number(parts.next()?, 1)?.try_into().ok()?;
        let (subject, detail) = (number(parts.next()?, 3)?, number(parts.next()?, 3)?);
        let fits = matches!(class, 2 | 4 | 5) && u16::from(class) == code / 100;
        (fits && parts.next().is_none()).then_some(EnhancedStatus { class, subject, detail })
    };
    match read() {
        Some(status) => (Some(status), rest),
        None => (None, line),
    }
}

fn number(text: &str, digits_max: usize) -> Option<u16> {
    let fits = (1..=digits_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(segments: &[&[u8]]) -> Result<Vec<String>, AnswerError> {
        let mut buffer = AnswerBuffer::default();
        let mut replies = Vec::new();
        for segment in segments {
            buffer.push(segment);
            while let Some(lines) = buffer.next()? {
                replies.push(lines.reply.to_string());
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        for (octets, expected) in [
            (&b"250 OK\r\n"[..], &["250 OK"][..]),
            (b"250\r\n", &["250"]),
            (b"220 a\r\n221 b\r\n", &["220 a", "221 b"]),
            (b"250-a\r\n250-\r\n250 c\r\n", &["250 a c"]),
            (b"250-2.1.0 a\r\n250 2.1.0 b\r\n", &["250 2.1.0 a b"]),
            (b"550 5.1.1 no\x07 \xe8\r\n", &["550 5.1.1 no? ?"]),
            (b"550 4.1.1 other class\r\n", &["550 4.1.1 other class"]),
            (b"550 5.1234.1 no code\r\n", &["550 5.1234.1 no code"]),
            (b"354 go\r\n", &["354 go"]),
        ] {
            assert_eq!(replies(&[octets]).unwrap(), expected, "{:?}", octets.escape_ascii());
            let single: Vec<&[u8]> = octets.chunks(1).collect();
            assert_eq!(replies(&single).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        use AnswerError::{Code, LineEnd, TwoCodes};
        for (octets, expected) in [
            (&b"250 OK\n"[..], LineEnd),
            (b"250 O\rK\r\n", LineEnd),
            (b"\r\n", Code),
            (b"25\r\n", Code),
            (b"199 x\r\n", Code),
            (b"660 x\r\n", Code),
            (b"260 x\r\n", Code),
            (b"250_x\r\n", Code),
            (b"2500\r\n", Code),
            (b"250-a\r\n251 b\r\n", TwoCodes),
        ] {
            assert_eq!(replies(&[octets]), Err(expected), "{:?}", octets.escape_ascii());
        }
    }

    #[test]
    fn one_past_each_bound_is_refused() {
        let fits = format!("250 {}\r\n", "a".repeat(ANSWER_LINE_OCTETS_MAX - 6));
        assert_eq!(fits.len(), ANSWER_LINE_OCTETS_MAX);
        assert_eq!(replies(&[fits.as_bytes()]).unwrap()[0].len(), 4 + ANSWER_TEXT_OCTETS_MAX);
        let past = format!("250 a{}", &fits[4..]);
        assert_eq!(replies(&[past.as_bytes()]), Err(AnswerError::LineTooLong));
        // Three megabytes without an end are not waited for.
        let endless = vec![b'2'; ANSWER_LINE_OCTETS_MAX];
        assert_eq!(replies(&[&endless]), Err(AnswerError::LineTooLong));
        let many = format!("{}250 a\r\n", "250-a\r\n".repeat(ANSWER_LINES_MAX - 1));
        assert!(replies(&[many.as_bytes()]).is_ok());
        let past = format!("250-a\r\n{many}");
        assert_eq!(replies(&[past.as_bytes()]), Err(AnswerError::TooManyLines));
        let long = format!("250-{}\r\n", "a".repeat(1018));
        let many = long.repeat(ANSWER_OCTETS_MAX / 1024);
        assert!(replies(&[many.as_bytes()]).is_ok());
        let past = format!("{many}250 \r\n");
        assert_eq!(replies(&[past.as_bytes()]), Err(AnswerError::TooManyLines));
    }
}
