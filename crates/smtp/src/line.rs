//! Command lines out of a stream of octets: only CRLF ends one (RFC 5321 §2.3.8).
//!
//! A line that is too long is dropped as it comes, so that nothing is kept of it.

use memchr::memchr;

use crate::dsn::{ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX};

/// Octets of a command line at most, with its CRLF: RFC 5321 §4.5.3.1.4.
pub(crate) const COMMAND_OCTETS_MAX: usize = 512;
/// MAIL may be longer by 26 for SIZE (RFC 1870 §3), by 500 for AUTH (RFC 4954 §3), by 17 for BODY,
/// by 11 for REQUIRETLS, by 10 for SMTPUTF8 (RFC 6531 §3.1), and by what RET and ENVID take at most (RFC 3461 §4.3, §4.4).
pub(crate) const MAIL_OCTETS_MAX: usize =
    COMMAND_OCTETS_MAX + 26 + 500 + 17 + 11 + 10 + 9 + 7 + ENVID_OCTETS_MAX;
/// RCPT may be longer by what NOTIFY and ORCPT take at most (RFC 3461 §4.1, §4.2).
pub(crate) const RCPT_OCTETS_MAX: usize = COMMAND_OCTETS_MAX + 29 + 7 + ORCPT_OCTETS_MAX;
/// AUTH, and each line of its exchange: RFC 4954 §4 deems this enough for every mechanism.
pub(crate) const AUTH_OCTETS_MAX: usize = 12_288;

/// What kind of line is awaited: it decides the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Command,
    SaslResponse,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its CRLF. No CR, LF or NUL is in it.
    Whole(Vec<u8>),
    /// It holds a bare CR, a bare LF or a NUL: it is one line all the same, and never two.
    Bare,
    /// It was longer than its kind may be; `auth` when it was an AUTH line.
    TooLong { auth: bool },
}

/// What came in and was not looked at yet.
#[derive(Default)]
pub(crate) struct LineBuffer {
    octets: Vec<u8>,
    /// Where the first octet that is not consumed lies.
    start: usize,
    /// Up to here no LF ends a line.
    scanned: usize,
    /// A line that is too long is being dropped; whether it was an AUTH line.
    dropping: Option<bool>,
}

impl LineBuffer {
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.octets.extend_from_slice(octets);
    }

    /// All that waits.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.octets[self.start..]
    }

    /// Takes `count` octets that were used as content.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.octets.len());
        self.scanned = self.start;
        if self.start == self.octets.len() {
            self.clear();
        }
    }

    /// Forgets everything, and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next line, when it is all there.
    pub(crate) fn next_line(&mut self, expect: Expect) -> Option<Line> {
        let end = self.find_end();
        let length = end.unwrap_or(self.octets.len()) - self.start;
        if self.dropping.is_none() {
            let max = self.octets_max(expect);
            // At the limit without its end, it can only pass it.
            if length > max || (end.is_none() && length == max) {
                self.dropping = Some(max == AUTH_OCTETS_MAX);
            }
        }
        match (end, self.dropping) {
            (Some(end), None) => {
                let line = &self.octets[self.start..end - 2];
                let bare = line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0));
                let line = if bare { Line::Bare } else { Line::Whole(line.to_vec()) };
                self.consume(length);
                Some(line)
            }
            (Some(_), Some(auth)) => {
                self.consume(length);
                self.dropping = None;
                Some(Line::TooLong { auth })
            }
            (None, None) => None,
            (None, Some(_)) => {
                // A CR at the very end may be the first half of the CRLF.
                let kept = usize::from(self.octets.last() == Some(&b'\r'));
                let dropping = self.dropping;
                self.consume(length - kept);
                self.dropping = dropping;
                None
            }
        }
    }

    /// Where the octet after the next CRLF lies.
    fn find_end(&mut self) -> Option<usize> {
        while let Some(found) = memchr(b'\n', &self.octets[self.scanned..]) {
            let lf = self.scanned + found;
            self.scanned = lf + 1;
            if lf > self.start && self.octets[lf - 1] == b'\r' {
                return Some(lf + 1);
            }
        }
        self.scanned = self.octets.len();
        None
    }

    fn octets_max(&self, expect: Expect) -> usize {
        let begins = |verb: &[u8]| {
            let line = self.pending();
            line.len() > verb.len()
                && line[..verb.len()].eq_ignore_ascii_case(verb)
                && matches!(line[verb.len()], b' ' | b'\t')
        };
        match expect {
            Expect::SaslResponse => AUTH_OCTETS_MAX,
            Expect::Command if begins(b"AUTH") => AUTH_OCTETS_MAX,
            Expect::Command if begins(b"MAIL") => MAIL_OCTETS_MAX,
            Expect::Command if begins(b"RCPT") => RCPT_OCTETS_MAX,
            Expect::Command => COMMAND_OCTETS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(segments: &[&[u8]], expect: Expect) -> Vec<Line> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for segment in segments {
            buffer.push(segment);
            while let Some(line) = buffer.next_line(expect) {
                lines.push(line);
            }
        }
        lines
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn only_crlf_ends_a_line() {
        use Line::Bare;
        let table: [(&[u8], &[Line]); 9] = [
            (b"NOOP\r\nQUIT\r\n", &[whole("NOOP"), whole("QUIT")]),
            (b"\r\n", &[whole("")]),
            (b"NOOP\nQUIT\r\n", &[Bare]),
            (b"NOOP\rQUIT\r\n", &[Bare]),
            (b"NOOP\r\r\n", &[Bare]),
            (b"NOOP\n\r\n", &[Bare]),
            (b"\n\r\n\r\n", &[Bare, whole("")]),
            (b"NO\0OP\r\nX\r\n", &[Bare, whole("X")]),
            (b"NOOP\n", &[]),
        ];
        for (octets, expected) in table {
            assert_eq!(lines(&[octets], Expect::Command), expected, "{:?}", octets.escape_ascii());
            let single: Vec<&[u8]> = octets.chunks(1).collect();
            assert_eq!(lines(&single, Expect::Command), expected, "{:?}", octets.escape_ascii());
        }
    }

    #[test]
    fn each_kind_of_line_has_its_limit_and_one_past_it_is_dropped() {
        let table = [
            ("NOOP ", Expect::Command, COMMAND_OCTETS_MAX, false),
            ("RCPT TO:", Expect::Command, RCPT_OCTETS_MAX, false),
            ("mail FROM:", Expect::Command, MAIL_OCTETS_MAX, false),
            ("auth PLAIN ", Expect::Command, AUTH_OCTETS_MAX, true),
            ("", Expect::SaslResponse, AUTH_OCTETS_MAX, true),
        ];
        for (start, expect, max, auth) in table {
            let fits = format!("{start}{}\r\n", "a".repeat(max - start.len() - 2));
            let past = format!("{start}a{}", &fits[start.len()..]);
            assert_eq!(fits.len(), max);
            for size in [1, 7, max, max + 2] {
                let stream = format!("{past}{fits}{past}");
                let segments: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
                let too_long = || Line::TooLong { auth };
                let expected = [too_long(), whole(fits.trim_end()), too_long()];
                assert!(lines(&segments, expect) == expected, "{start:?} by {size}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut buffer = LineBuffer::default();
        for _ in 0..10_000 {
            buffer.push(&[b'\r'; 1000]);
            assert_eq!(buffer.next_line(Expect::Command), None);
            assert!(buffer.octets.capacity() <= 4096);
        }
        buffer.push(b"\nNOOP\r\n");
        assert_eq!(buffer.next_line(Expect::Command), Some(Line::TooLong { auth: false }));
        assert_eq!(buffer.next_line(Expect::Command), Some(whole("NOOP")));
    }
}
