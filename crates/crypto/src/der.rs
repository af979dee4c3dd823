//! As much DER as a signature needs: to write one, and to look at what one says of itself.
//!
//! ITU-T X.690 §8.1, §10. Definite lengths and tags of one octet only: OpenSSL reads the BER that
//! others send, and what this reader is given was written again by it. No recursion anywhere.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0C;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xA0;
/// `[6]`, primitive: the URI of a GeneralName.
pub(crate) const URI: u8 = 0x86;

/// One element of `tag` that holds `parts`, one after another.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let octets: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(octets + 10);
    out.push(tag);
    push_length(&mut out, octets);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// X.690 §8.1.3: one octet below 128, else the count of the octets that follow.
fn push_length(out: &mut Vec<u8>, octets: usize) {
    match u8::try_from(octets) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let digits = octets.to_be_bytes();
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            // At most 8 octets of length: the cast cannot lose anything.
            out.push(0x80 | (digits.len() - zeros) as u8);
            out.extend_from_slice(&digits[zeros..]);
        }
    }
}

/// One element as it was read.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    /// What it holds.
    pub(crate) body: &'a [u8],
    /// Tag, length and all.
    pub(crate) whole: &'a [u8],
}

/// The elements that follow each other in some octets. Ends at the first that is not whole.
#[derive(Clone)]
pub(crate) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(crate) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, if it has this tag; otherwise nothing, and nothing is consumed.
    pub(crate) fn read(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = self.clone();
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// As [`read`](Self::read), then what is inside.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Elements<'a>> {
        self.read(tag).map(|element| Elements(element.body))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let octets = self.0;
        let (&tag, rest) = octets.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            // 0x80 is the indefinite length: never in DER.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
                (length, rest)
            }
            _ => return None,
        };
        let (body, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some(Element { tag, body, whole: &octets[..octets.len() - after.len()] })
    }
}

#[cfg(test)]
mod tests {
    use super::{Elements, INTEGER, OCTET_STRING, SEQUENCE, element};

    #[test]
    fn what_is_written_is_read_back() {
        for octets in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let body = vec![7; octets];
            let written = element(SEQUENCE, &[&element(OCTET_STRING, &[&body])]);
            let mut elements = Elements::new(&written);
            let mut inside = elements.enter(SEQUENCE).unwrap();
            assert!(inside.read(INTEGER).is_none());
            assert_eq!(inside.read(OCTET_STRING).unwrap().body, body);
            assert!(inside.next().is_none() && elements.next().is_none());
        }
    }

    #[test]
    fn what_is_not_whole_is_not_read() {
        for hostile in [
            &b""[..],
            b"\x30",
            b"\x30\x01",
            b"\x30\x80\x00\x00",
            b"\x30\x85\x00\x00\x00\x00\x00",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x82\x01",
            b"\x30\xff",
        ] {
            assert!(Elements::new(hostile).next().is_none(), "{hostile:?}");
        }
    }
}
