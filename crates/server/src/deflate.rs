//! The two streams of COMPRESS=DEFLATE. RFC 4978 §3, §4.
//!
//! What comes is inflated as far as it goes, whatever kind of flush its sender did (iOS flushes
//! partially). What goes is deflated an answer at a time, each by a compressor of its own: a stream that
//! ends on a byte can be gone on with by another, and between answers nothing but the client's window
//! is held.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Octets that are inflated at once. A few octets can stand for a thousand times as many: they are
/// taken out one piece after the other, each when the session has room for it, so that no ratio needs
/// a bound of its own.
const INFLATED_OCTETS: usize = 32 * 1024;
/// Octets that a compressor is given room for at once.
const DEFLATED_OCTETS: usize = 8 * 1024;
/// How hard is tried: more costs time and saves a few percent of text.
const LEVEL: u32 = 3;

/// What comes, on its way to being inflated.
pub(crate) struct Inflate {
    stream: Decompress,
    /// Came, and not all inflated.
    came: Vec<u8>,
    at: usize,
    /// The last piece was full: more may be in the stream itself.
    more: bool,
}

impl Inflate {
    pub(crate) fn new() -> Self {
        Self { stream: Decompress::new(false), came: Vec::new(), at: 0, more: false }
    }

    /// Takes octets that came: when there is nothing more of those before.
    pub(crate) fn take(&mut self, octets: Vec<u8>) {
        self.came = octets;
        self.at = 0;
    }

    /// The next of what came; empty until more does.
    ///
    /// # Errors
    ///
    /// When it is not what DEFLATE makes, or ends.
    pub(crate) fn next(&mut self) -> io::Result<Vec<u8>> {
        if self.at == self.came.len() && !self.more {
            return Ok(Vec::new());
        }
        let mut octets = Vec::with_capacity(INFLATED_OCTETS);
        let before = self.stream.total_in();
        let rest = self.came.get(self.at..).unwrap_or_default();
        let status = self.stream.decompress_vec(rest, &mut octets, FlushDecompress::Sync);
        let status = status.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if status == Status::StreamEnd {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the compressed stream ended"));
        }
        let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
        self.at = self.at.saturating_add(taken).min(self.came.len());
        self.more = octets.len() == octets.capacity();
        if self.at == self.came.len() {
            self.came = Vec::new();
            self.at = 0;
        }
        Ok(octets)
    }
}

/// These octets deflated, and flushed so that all of them can be inflated.
pub(crate) fn deflated(octets: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = Compress::new(Compression::new(LEVEL), false);
    let mut out = Vec::new();
    loop {
        let taken = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let rest = octets.get(taken..).unwrap_or_default();
        out.reserve(DEFLATED_OCTETS);
        stream.compress_vec(rest, &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
        let all = stream.total_in() == octets.len() as u64;
        if all && out.len() < out.capacity() {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(inflate: &mut Inflate, octets: &[u8]) -> Vec<u8> {
        inflate.take(octets.to_vec());
        let mut all = Vec::new();
        loop {
            let piece = inflate.next().unwrap();
            assert!(piece.len() <= INFLATED_OCTETS);
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[test]
    fn one_answer_after_the_other_is_one_stream() {
        let mut inflate = Inflate::new();
        let long = b"* 1 FETCH (FLAGS ())\r\n".repeat(20_000);
        for answer in [&b"* OK x\r\n"[..], &long, b"", b"a OK y\r\n", &long] {
            let deflated = deflated(answer).unwrap();
            assert!(deflated.len() < answer.len() / 10 + 40);
            assert_eq!(inflated(&mut inflate, &deflated), answer);
        }
    }

    /// As iOS does, and octet by octet.
    #[test]
    fn what_was_flushed_partially_is_there_at_once() {
        let mut client = Compress::new(Compression::new(6), false);
        let mut inflate = Inflate::new();
        for command in ["a1 NOOP\r\n", "a2 UID FETCH 1:* FLAGS\r\n", "a3 NOOP\r\n"] {
            let mut out = Vec::with_capacity(1_000);
            client.compress_vec(command.as_bytes(), &mut out, FlushCompress::Partial).unwrap();
            let pieces = out.iter().map(|octet| inflated(&mut inflate, &[*octet]));
            assert_eq!(pieces.collect::<Vec<_>>().concat(), command.as_bytes());
        }
    }

    #[test]
    fn a_little_that_stands_for_much_comes_in_pieces() {
        let much = vec![0; 4 * 1024 * 1024];
        let mut client = Compress::new(Compression::new(9), false);
        let mut out = Vec::with_capacity(1 << 20);
        client.compress_vec(&much, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.len() < 20_000);
        assert_eq!(inflated(&mut Inflate::new(), &out).len(), much.len());
    }

    #[test]
    fn what_is_not_deflated_is_an_error() {
        let mut inflate = Inflate::new();
        inflate.take(b"a1 NOOP\r\n".to_vec());
        assert!((0..3).any(|_| inflate.next().is_err()));
        let mut ended = Vec::with_capacity(100);
        let mut client = Compress::new(Compression::new(6), false);
        client.compress_vec(b"a1 NOOP\r\n", &mut ended, FlushCompress::Finish).unwrap();
        let mut inflate = Inflate::new();
        inflate.take(ended);
        assert!((0..3).any(|_| inflate.next().is_err()));
    }
}
