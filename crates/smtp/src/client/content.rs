//! Content on its way out: dots doubled at the start of lines (RFC 5321 §4.5.2), and its end.

use memchr::{memchr_iter, memmem};

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
        let (Some(&first), Some(&end)) = (octets.first(), octets.last()) else {
            return !(last && self.last == b'\r');
        };
        let before = std::mem::replace(&mut self.last, end);
        if before == b'\r' && first != b'\n' {
            return false;
        }
        // Each LF with its CR before it, and no more CRs than those: one that ends the piece waits.
        let mut pairs = usize::from(end == b'\r');
        for at in memchr_iter(b'\n', octets) {
            match at.checked_sub(1).map(|before| octets[before]) {
                Some(b'\r') => pairs += 1,
                None if before == b'\r' => {}
                _ => return false,
            }
        }
        memchr_iter(b'\r', octets).count() == pairs && !(last && end == b'\r')
    }

    /// The next piece as it goes over the wire: as it is, where no line begins with a dot.
    pub(super) fn stuff(&mut self, octets: Vec<u8>) -> Vec<u8> {
        let Some(&end) = octets.last() else { return octets };
        let at_line_start = std::mem::replace(&mut self.at_line_start, end == b'\n');
        let first = (at_line_start && octets[0] == b'.').then_some(0);
        let later = memmem::find_iter(&octets, b"\n.").map(|line_end| line_end + 1);
        let mut dots = first.into_iter().chain(later).peekable();
        if dots.peek().is_none() {
            drop(dots);
            return octets;
        }
        let mut stuffed = Vec::with_capacity(octets.len() + octets.len() / 64 + 8);
        let mut from = 0;
        for dot in dots {
            // The dot itself is the first octet of what follows.
            stuffed.extend_from_slice(&octets[from..=dot]);
            from = dot;
        }
        stuffed.extend_from_slice(&octets[from..]);
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
            (b".\r\n.\r\n\r\n.", b"..\r\n..\r\n\r\n..\r\n.\r\n"),
        ] {
            for size in 1..=content.len().max(1) {
                let mut stuffing = Stuffing::default();
                let mut sent = Vec::new();
                for piece in content.chunks(size) {
                    assert!(stuffing.is_clean(piece, false));
                    sent.extend(stuffing.stuff(piece.to_vec()));
                }
                assert!(stuffing.is_clean(b"", true));
                sent.extend_from_slice(stuffing.end());
                assert_eq!(sent, wire);
            }
        }
    }

    #[test]
    fn a_bare_cr_or_lf_is_found_however_it_is_cut() {
        for content in [
            &b"a\nb"[..],
            b"\n",
            b"a\r",
            b"a\rb\r\n",
            b"a\r\r\n",
            b"\r\n\n",
            b"\r\r",
            b"\r\n\r",
            b"\n\r",
            b"a\r\nb\n\rc\r\n",
        ] {
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
