//! Cutting octets into pieces that come again: each different piece is stored once.
//!
//! The same attachment is in what a user sent, in the transport envelope and in the complete
//! delivery receipt, each time between other octets. So the cut follows the structure of a message:
//! header fields and delimiters of MIME parts (RFC 2046 §5.1) go together, and a body is on its own,
//! from its first octet to the line break that belongs to the next delimiter. A large body is cut
//! further where its content says so (FastCDC), so that documents that are alike in part share that.
//!
//! This is no parser of messages: any octets are cut, every octet is in one piece, and what is read
//! as structure and is none costs a cut in the wrong place. Not here: what becomes of the pieces.

use std::ops::Range;

use fastcdc::v2020::FastCDC;
use memchr::memmem;

/// A body of at least this is a piece of its own: a row of the index costs about a tenth of it.
const BODY_OCTETS_MIN: usize = 1024;
/// A piece has at most this: it is read and expanded as a whole.
pub const PIECE_OCTETS_MAX: usize = 64 * 1024;
/// A line of a header field has at most this (RFC 5322 §2.1.1).
const FIELD_OCTETS_MAX: usize = 1000;
/// Pieces of a body beyond that, on average, and at least.
const CUT_OCTETS: (usize, usize) = (32 * 1024, 16 * 1024);
/// A delimiter line has at most this, with its two hyphens (RFC 2046 §5.1.1), and its line break.
const DELIMITER_OCTETS_MAX: usize = 74 + 2;
/// Bodies in base64 of this size are cut once after their head: such is a signature, which begins
/// with the signer's certificate, the same each time, and ends differently.
const SIGNATURE_OCTETS: Range<usize> = 3 * 1024..8 * 1024;
/// Where that cut is: within the certificate, which is rarely shorter.
const HEAD_OCTETS: usize = 2 * 1024;

/// Where the pieces of `octets` are: in order, without gaps, none empty.
pub fn cut(octets: &[u8]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    cut_each(octets, |piece| pieces.push(piece));
    pieces
}

/// The same, each told as soon as it is known.
pub(super) fn cut_each(octets: &[u8], piece: impl FnMut(Range<usize>)) {
    let mut cutter = Cutter { octets, piece, from: 0 };
    let (mut begun, mut line) = (0, 0);
    let (mut in_header, mut has_message) = (true, false);
    let delimiter = memmem::Finder::new(b"\n--");
    while line < octets.len() {
        if !in_header && !octets[line..].starts_with(b"--") {
            // Of a body only lines that may be delimiters say anything.
            let Some(at) = delimiter.find(&octets[line..]) else { break };
            line += at + 1;
        }
        let end = memchr::memchr(b'\n', &octets[line..]).map_or(octets.len(), |at| line + at + 1);
        let text = &octets[line..end];
        if in_header {
            if text == b"\r\n" || text == b"\n" {
                // The content of a message in a message begins with a header of its own.
                in_header = std::mem::take(&mut has_message);
                begun = end;
            } else {
                has_message |= is_of_message(text);
            }
        } else if text.starts_with(b"--") && text.len() <= DELIMITER_OCTETS_MAX {
            // The line break before a delimiter is part of it.
            let body = if octets[begun..line].ends_with(b"\r\n") { line - 2 } else { line };
            cutter.body(begun..body);
            (in_header, has_message) = (true, false);
        }
        line = end;
    }
    if !in_header {
        cutter.body(begun..octets.len());
    }
    cutter.rest();
}

/// Whether a header field says that what follows is a message (RFC 2046 §5.2.1).
fn is_of_message(line: &[u8]) -> bool {
    const TYPE: &[u8] = b"message/rfc822";
    line.len() <= FIELD_OCTETS_MAX
        && line.windows(TYPE.len()).any(|window| window.eq_ignore_ascii_case(TYPE))
}

struct Cutter<'a, F> {
    octets: &'a [u8],
    /// Hears of each piece.
    piece: F,
    /// Up to here everything is in a piece.
    from: usize,
}

impl<F: FnMut(Range<usize>)> Cutter<'_, F> {
    /// A body, which is on its own unless it is small.
    fn body(&mut self, body: Range<usize>) {
        if body.len() < BODY_OCTETS_MIN {
            return;
        }
        self.until(body.start);
        if SIGNATURE_OCTETS.contains(&body.len()) && is_base64(&self.octets[body.clone()]) {
            self.until(body.start + HEAD_OCTETS);
        }
        self.until(body.end);
    }

    fn rest(&mut self) {
        self.until(self.octets.len());
    }

    /// All up to here is in pieces.
    fn until(&mut self, end: usize) {
        let all = std::mem::replace(&mut self.from, end)..end;
        if all.is_empty() {
            return;
        }
        if all.len() <= PIECE_OCTETS_MAX {
            (self.piece)(all);
            return;
        }
        let (average, least) = CUT_OCTETS;
        let chunks = FastCDC::new(&self.octets[all.clone()], least, average, PIECE_OCTETS_MAX);
        for chunk in chunks {
            let start = all.start + chunk.offset;
            (self.piece)(start..start + chunk.length);
        }
    }
}

/// Whether the first line is one of base64 (RFC 2045 §6.8) and full.
fn is_base64(body: &[u8]) -> bool {
    let end = memchr::memchr(b'\n', body).unwrap_or(body.len());
    let line = body[..end].strip_suffix(b"\r").unwrap_or(&body[..end]);
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    (60..=76).contains(&line.len()) && line.iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something that looks like base64, and differs from seed to seed.
    fn base64(seed: u64, octets: usize) -> String {
        let mut text = String::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        while text.len() < octets {
            for _ in 0..76 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                text.push(char::from(digits[(state >> 58) as usize]));
            }
            text += "\r\n";
        }
        text
    }

    fn original(attachment: &str) -> String {
        format!(
            "From: a@pec.example\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\
             Testo.\r\n--x\r\nContent-Type: application/pdf\r\n\r\n{attachment}\r\n--x--\r\n"
        )
    }

    fn enclosed(original: &str, signature: &str) -> String {
        format!(
            "From: \"Per conto di\" <p@pec.example>\r\nContent-Type: multipart/signed\r\n\r\n--s\r\n\
             Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\nMessaggio di posta\r\n\
             --m\r\nContent-Type: Message/RFC822; name=\"postacert.eml\"\r\n\r\nReceived: x\r\n\
             {original}\r\n--m--\r\n--s\r\nContent-Type: application/pkcs7-signature\r\n\r\n\
             {signature}\r\n--s--\r\n"
        )
    }

    fn texts(octets: &str) -> Vec<&str> {
        cut(octets.as_bytes()).into_iter().map(|piece| &octets[piece]).collect()
    }

    #[test]
    fn a_body_is_the_same_piece_wherever_it_is() {
        let attachment = base64(1, 20_000);
        let original = original(&attachment);
        let pieces = texts(&original);
        assert_eq!(pieces.len(), 3);
        // The last line break before the delimiter belongs to that.
        assert_eq!(pieces[1], attachment);
        let envelope = enclosed(&original, "MII");
        let pieces = texts(&envelope);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1], attachment);
    }

    #[test]
    fn the_body_of_a_plain_message_ends_where_it_ended_before_it_was_enclosed() {
        let body = "Si trasmette quanto richiesto, e si resta in attesa.\r\n".repeat(40);
        let original = format!("From: a@pec.example\r\nSubject: x\r\n\r\n{body}");
        assert_eq!(texts(&original)[1], body);
        assert_eq!(texts(&enclosed(&original, "MII"))[1], body);
    }

    #[test]
    fn a_large_body_is_cut_by_content_and_from_its_beginning() {
        let attachment = base64(2, 1_400_000);
        let original = original(&attachment);
        let envelope = enclosed(&original, "MII");
        let first: Vec<&str> = texts(&original);
        let second: Vec<&str> = texts(&envelope);
        assert!(first.len() > 20 && first.len() < 90, "{}", first.len());
        assert_eq!(first[1..first.len() - 1], second[1..second.len() - 1]);
        // And what is alike in part shares that part.
        let changed = attachment[..700_000].to_owned() + "x" + &attachment[700_000..];
        let third = self::original(&changed);
        let third: Vec<&str> = texts(&third);
        let same = first.iter().filter(|piece| third.contains(piece)).count();
        assert!(same + 5 > first.len(), "{same} of {}", first.len());
    }

    #[test]
    fn signatures_share_their_beginning() {
        let certificate = base64(3, 3000);
        let [one, two] =
            [4, 5].map(|seed| enclosed("x", &(certificate.clone() + &base64(seed, 900))));
        let (one, two) = (texts(&one), texts(&two));
        assert_eq!(one[1], two[1]);
        assert_eq!(one[1].len(), HEAD_OCTETS);
        assert_ne!(one[2], two[2]);
    }

    proptest! {
        #[test]
        fn every_octet_is_in_one_piece(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("\r\n".to_owned()), Just("\n".to_owned()), Just("--x\r\n".to_owned()),
                    Just("Content-Type: message/rfc822\r\n".to_owned()), Just("x".repeat(700)),
                    "[ -~]{0,90}\r\n", (0u64..9, 0usize..90_000).prop_map(|(s, n)| base64(s, n)),
                ],
                0..30,
            )
        ) {
            let octets = lines.concat();
            let mut at = 0;
            for piece in cut(octets.as_bytes()) {
                prop_assert_eq!(piece.start, at);
                prop_assert!(!piece.is_empty() && piece.len() <= PIECE_OCTETS_MAX);
                at = piece.end;
            }
            prop_assert_eq!(at, octets.len());
        }
    }
}
