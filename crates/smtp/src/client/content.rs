//! Content on its way out: dots doubled at the start of lines (RFC 5321 §4.5.2), and its end.

/// Where in the content the next octet lies.
pub(super) struct Stuffing {
    at_line_start: bool,
    /// The last octet that [`Stuffing::is_clean`] saw.
    last: u8,
}

impl Default for Stuffing {
    fn default() -> Self {
        Self { at_line_start: true, last: b'\n' }
    }
}

impl Stuffing {
    /// Whether every CR and LF of the next piece is half of a CRLF.
    pub(super) fn is_clean(&mut self, octets: &[u8], last: bool) -> bool {
        for &octet in octets {
            if (octet == b'\n') != (self.last == b'\r') {
                return false;
            }
            self.last = octet;
        }
        !(last && self.last == b'\r')
    }

    /// The next piece as it goes over the wire.
    pub(super) fn stuff(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut stuffed = Vec::with_capacity(octets.len() + octets.len() / 64 + 8);
        for &octet in octets {
            if self.at_line_start && octet == b'.' {
                stuffed.push(b'.');
            }
            stuffed.push(octet);
            self.at_line_start = octet == b'\n';
        }
        stuffed
    }

    /// What ends the content, RFC 5321 §4.1.1.4.
    pub(super) fn end(&self) -> &'static [u8] {
        if self.at_line_start { b".\r\n" } else { b"\r\n.\r\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_the_start_of_lines_are_doubled_however_it_is_cut() {
        for (content, wire) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"a.b\r\n.c\r\n..d\r\n", b"a.b\r\n..c\r\n...d\r\n.\r\n"),
        ] {
            for size in 1..=content.len().max(1) {
                let mut stuffing = Stuffing::default();
                let mut sent = Vec::new();
                for piece in content.chunks(size) {
                    assert!(stuffing.is_clean(piece, false));
                    sent.extend(stuffing.stuff(piece));
                }
                assert!(stuffing.is_clean(b"", true));
                sent.extend_from_slice(stuffing.end());
                assert_eq!(sent, wire);
            }
        }
    }

    #[test]
    fn a_bare_cr_or_lf_is_found_however_it_is_cut() {
        for content in [&b"a\nb"[..], b"\n", b"a\r", b"a\rb\r\n", b"a\r\r\n", b"\r\n\n"] {
            for size in 1..=content.len() {
                let mut stuffing = Stuffing::default();
                let mut pieces = content.chunks(size).peekable();
                let mut clean = true;
                while let Some(piece) = pieces.next() {
                    clean &= stuffing.is_clean(piece, pieces.peek().is_none());
                }
                assert!(!clean, "{:?} by {size}", content.escape_ascii());
            }
        }
    }
}
