//! The octets between DATA and its end: framing and dot-unstuffing, RFC 5321 §4.1.1.4 and §4.5.2.
//!
//! Only CRLF ends a line, and only CRLF.CRLF ends the content (RFC 5321 §2.3.8, §4.1.1.4). A bare
//! CR, a bare LF or a NUL makes the whole message refused at its true end: nothing is mended,
//! because servers that disagree about line ends can be made to see two messages in one.
//! Lines may have any length here: none of them is kept.
//!
//! Chunks (RFC 3030 §2) are held to the same line ends; their length says where they end, and a dot
//! is a dot.

use memchr::memchr3;

/// Why a message will not be taken, whatever else it holds. The first one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    BareCr,
    BareLf,
    Nul,
    TooLarge,
}

/// Where in a line the next octet lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    /// After a dot at the start of a line, which is not content.
    Dot,
    /// After that dot and a CR: LF now is the end.
    DotCr,
    Middle,
    /// After a CR, which is content once LF follows.
    Cr,
}

pub(crate) struct Content {
    at: At,
    /// Whether a dot at the start of a line is not content.
    dots: bool,
    octets_max: u64,
    octets: u64,
    discarded: u64,
    fault: Option<Fault>,
}

/// What [`Content::feed`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fed {
    /// Octets of the input that belong to this message; what follows are commands.
    pub(crate) consumed: usize,
    pub(crate) ended: bool,
}

impl Content {
    /// Of a message that may have `octets_max` octets, counted as RFC 1870 §5 does: with CRLFs,
    /// without doubled dots and without the end.
    pub(crate) fn new(octets_max: u64) -> Self {
        Self { at: At::LineStart, dots: true, octets_max, octets: 0, discarded: 0, fault: None }
    }

    /// Of a message that comes in chunks.
    pub(crate) fn in_chunks(octets_max: u64) -> Self {
        Self { dots: false, ..Self::new(octets_max) }
    }

    /// The last chunk is over: a CR at its very end was a bare one.
    pub(crate) fn end_chunks(&mut self) {
        if self.at == At::Cr {
            self.fail(Fault::BareCr);
        }
    }

    /// A chunk will not be taken whose length alone passes the limit.
    pub(crate) fn refuse_beyond(&mut self, more: u64) {
        if self.octets.saturating_add(more) > self.octets_max {
            self.fail(Fault::TooLarge);
        }
    }

    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Octets that came after the fault.
    pub(crate) fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Reads on, and appends content to `out` as long as there is no fault.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        let mut next = 0;
        while let Some(&octet) = input.get(next) {
            match (self.at, octet) {
                (At::LineStart, b'.') if self.dots => {
                    self.at = At::Dot;
                    next += 1;
                }
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    next += 1;
                }
                (At::DotCr, b'\n') => {
                    return Fed { consumed: next + 1, ended: true };
                }
                (At::Cr, b'\n') => {
                    self.take(b"\r\n", out);
                    self.at = At::LineStart;
                    next += 1;
                }
                (At::DotCr | At::Cr, _) => {
                    self.fail(Fault::BareCr);
                    self.at = At::Middle;
                }
                (At::LineStart | At::Dot | At::Middle, _) => {
                    self.at = At::Middle;
                    next += self.run(&input[next..], out);
                }
            }
        }
        Fed { consumed: next, ended: false }
    }

    /// Reads as far as nothing but octets and whole lines come, and one step past it.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut from = 0;
        while let Some(here) = next_special(input, from) {
            match (input[here], input.get(here + 1), input.get(here + 2)) {
                // The next line has no dot in front: it is of the same run.
                (b'\r', Some(b'\n'), Some(octet)) if *octet != b'.' || !self.dots => {
                    from = here + 2;
                    continue;
                }
                (b'\r', Some(b'\n'), _) => {
                    self.take(&input[..here + 2], out);
                    self.at = At::LineStart;
                    return here + 2;
                }
                (b'\r', _, _) => {
                    self.take(&input[..here], out);
                    self.at = At::Cr;
                }
                (b'\n', _, _) => {
                    self.take(&input[..here], out);
                    self.fail(Fault::BareLf);
                }
                _ => {
                    self.take(&input[..here], out);
                    self.fail(Fault::Nul);
                }
            }
            return here + 1;
        }
        self.take(input, out);
        input.len()
    }

    fn take(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let count = octets.len() as u64;
        if self.fault.is_some() {
            self.discarded += count;
        } else if self.octets + count > self.octets_max {
            self.discarded = self.octets + count - self.octets_max;
            self.octets = self.octets_max;
            self.fail(Fault::TooLarge);
        } else {
            self.octets += count;
            out.extend_from_slice(octets);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// Where the next CR, LF or NUL lies. Looked at by hand first: empty lines would make a search for
/// every other octet.
fn next_special(input: &[u8], from: usize) -> Option<usize> {
    match input.get(from)? {
        b'\r' | b'\n' | 0 => Some(from),
        _ => memchr3(b'\r', b'\n', 0, &input[from..]).map(|found| from + found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of some segmentations makes of a stream; they must agree.
    fn read(octets: &[u8], max: u64) -> (Result<Vec<u8>, Fault>, Option<usize>) {
        let outcomes: Vec<_> = [1, 2, 3, 5, 16, octets.len().max(1)]
            .into_iter()
            .map(|size| {
                let mut content = Content::new(max);
                let (mut out, mut consumed) = (Vec::new(), 0);
                let mut end = None;
                for segment in octets.chunks(size) {
                    let fed = content.feed(segment, &mut out);
                    consumed += fed.consumed;
                    if fed.ended {
                        end = Some(consumed);
                        break;
                    }
                    assert_eq!(fed.consumed, segment.len());
                }
                if content.fault().is_none() {
                    assert_eq!(content.octets(), out.len() as u64);
                }
                (content.fault().map_or(Ok(out), Err), end)
            })
            .collect();
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{}", octets.escape_ascii());
        outcomes[0].clone()
    }

    #[test]
    fn the_end_and_the_dots_in_front_of_lines() {
        let table: [(&[u8], &[u8]); 9] = [
            (b".\r\n", b""),
            (b"\r\n.\r\n", b"\r\n"),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"..x\r\n.\r\n", b".x\r\n"),
            (b".x\r\n.\r\n", b"x\r\n"),
            (b"a\r\n..b\r\nc.\r\n...\r\n.\r\n", b"a\r\n.b\r\nc.\r\n..\r\n"),
            (b"a.\r\nb\r\n.\r\n", b"a.\r\nb\r\n"),
            (b"\r\n\r\n..\r\n\r\n.\r\n", b"\r\n\r\n.\r\n\r\n"),
        ];
        for (wire, content) in table {
            let expected = (Ok(content.to_vec()), Some(wire.len()));
            assert_eq!(read(wire, 100), expected, "{}", wire.escape_ascii());
            let behind = [wire, b"QUIT\r\n"].concat();
            assert_eq!(read(&behind, 100), expected, "{}", behind.escape_ascii());
        }
    }

    #[test]
    fn a_bare_line_end_or_nul_is_a_fault_and_never_an_end() {
        use Fault::{BareCr, BareLf, Nul};
        let table: [(&[u8], Fault); 14] = [
            (b"a\n.\r\n", BareLf),
            (b"a\n.\n", BareLf),
            (b"a\r\n.\n", BareLf),
            (b"a\r\n.\r", BareCr),
            (b"a\r.\r\n", BareCr),
            (b"a\r.\r", BareCr),
            (b"a\n.\r", BareLf),
            (b"a\r.\n", BareCr),
            (b"a\r\r\n.\r\r\n", BareCr),
            (b".\n", BareLf),
            (b"\n", BareLf),
            (b"a\0", Nul),
            (b"a\r\n\0.\r\n", Nul),
            (b"a\r\n.\0\r\n", Nul),
        ];
        for (wire, fault) in table {
            // Another octet shows that a CR at the very end was bare.
            let open = [wire, b"b"].concat();
            assert_eq!(read(&open, 100), (Err(fault), None), "{}", open.escape_ascii());
            let ended = [wire, b"b\r\n.\r\n"].concat();
            let expected = (Err(fault), Some(ended.len()));
            assert_eq!(read(&ended, 100), expected, "{}", ended.escape_ascii());
        }
    }

    /// As `read`, of one chunk that is cut anywhere.
    fn read_chunk(octets: &[u8], max: u64) -> Result<Vec<u8>, Fault> {
        let outcomes: Vec<_> = [1, 2, 3, octets.len().max(1)]
            .into_iter()
            .map(|size| {
                let mut content = Content::in_chunks(max);
                let mut out = Vec::new();
                for segment in octets.chunks(size) {
                    let consumed = segment.len();
                    assert_eq!(content.feed(segment, &mut out), Fed { consumed, ended: false });
                }
                content.end_chunks();
                content.fault().map_or(Ok(out), Err)
            })
            .collect();
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{}", octets.escape_ascii());
        outcomes[0].clone()
    }

    #[test]
    fn in_chunks_a_dot_is_a_dot_and_line_ends_are_what_they_are() {
        use Fault::{BareCr, BareLf, Nul, TooLarge};
        let whole: [&[u8]; 7] =
            [b"", b"a", b".\r\n", b"..\r\n.\r\n", b"\r\n.\r\n", b"a\r\n.\r\nQUIT\r\n", b"a\r\n.b"];
        for octets in whole {
            assert_eq!(read_chunk(octets, 100), Ok(octets.to_vec()), "{}", octets.escape_ascii());
        }
        for (octets, fault) in [
            (&b"a\r"[..], BareCr),
            (b"a\r\n\r", BareCr),
            (b"a\r.\r\n", BareCr),
            (b"a\n", BareLf),
            (b"\n.\r\n", BareLf),
            (b"a\0", Nul),
            (b"12345678901", TooLarge),
        ] {
            assert_eq!(read_chunk(octets, 10), Err(fault), "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn one_octet_past_the_limit_is_too_large() {
        let exact = b"..34\r\n78\r\n.\r\n";
        assert_eq!(read(exact, 9), (Ok(b".34\r\n78\r\n".to_vec()), Some(13)));
        assert_eq!(read(exact, 8), (Err(Fault::TooLarge), Some(13)));
        assert_eq!(read(b"1\r\n.\r\n", 0), (Err(Fault::TooLarge), Some(6)));
        assert_eq!(read(b".\r\n", 0), (Ok(Vec::new()), Some(3)));
        // The first fault counts.
        assert_eq!(read(b"123\n\r\n.\r\n", 3), (Err(Fault::BareLf), Some(9)));
        assert_eq!(read(b"1234\n\r\n.\r\n", 3), (Err(Fault::TooLarge), Some(10)));
    }
}
