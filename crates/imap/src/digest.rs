//! What a message's octets say, made once and kept beside them: so that a list of messages, their
//! structure, their order and their threads are told without reading any.
//!
//! A [`Digest`] is what the store keeps ([`store::Store::keep_digests`]) without looking into it. Its first
//! octet is a version: what another version made is made anew. Responses are in it as they are sent.

use std::ops::Range;

use mail::Message;
use mail::mime::{self, Kind, Structure};
use store::StoreError;

use crate::response::Output;
use crate::source::Source;

mod envelope;
mod keys;
mod structure;

pub(crate) use keys::Keys;

/// What made it. Goes up when anything in here is made in another way.
const VERSION: u8 = 1;
/// Octets of a structure's response at most; a message whose structure takes more is one opaque part. Two
/// thousand parts with names of usual length stay below.
const STRUCTURE_OCTETS_MAX: usize = 1024 * 1024;

/// The sections, in their order.
const ENVELOPE: usize = 0;
const STRUCTURE: usize = 1;
const CUTS: usize = 2;
const PARTS: usize = 3;
const KEYS: usize = 4;
const SECTIONS: usize = 5;

/// What the octets of one message say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    octets: Vec<u8>,
    sections: [Range<usize>; SECTIONS],
}

/// A transfer encoding, RFC 2045 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `7bit`, `8bit`, `binary`
    Plain,
    Base64,
    QuotedPrintable,
    Unknown,
}

impl Encoding {
    const ALL: [Self; 4] = [Self::Plain, Self::Base64, Self::QuotedPrintable, Self::Unknown];

    fn named(name: &str) -> Self {
        match name {
            "7bit" | "8bit" | "binary" => Self::Plain,
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            _ => Self::Unknown,
        }
    }
}

/// Where a part is, and what it holds. Ranges are offsets in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartAt {
    pub(crate) parent: Option<usize>,
    pub(crate) kind: Kind,
    pub(crate) encoding: Encoding,
    pub(crate) header: Range<u64>,
    pub(crate) body: Range<u64>,
}

impl Digest {
    /// Reads what was kept; `None` for what another version made, or what is damaged.
    pub(crate) fn read(octets: Vec<u8>) -> Option<Self> {
        let mut rest = Reader(octets.strip_prefix(&[VERSION])?);
        let mut lengths = [0_usize; SECTIONS];
        for length in &mut lengths {
            *length = usize::try_from(rest.number()?).ok()?;
        }
        let mut start = octets.len() - rest.0.len();
        let mut sections: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
        for (section, length) in sections.iter_mut().zip(lengths) {
            let end = start.checked_add(length)?;
            *section = start..end;
            start = end;
        }
        (start == octets.len()).then_some(Self { octets, sections })
    }

    /// Reads the message and makes it.
    pub(crate) fn make(source: &mut Source<'_>) -> Result<Self, StoreError> {
        source.structure()?;
        let header = source.header()?.to_vec();
        let message = Message::lenient(&header);
        let mut envelope = Output::default();
        envelope::write(&message, &mut envelope);
        let keys = Keys::of(&message).written();
        let whole = source.structure()?.clone();
        let (structure, written) = match structure::write(&whole, source)? {
            Some(written) => (whole, written),
            None => {
                let opaque = source.opaque()?;
                let written = structure::write(&opaque, source)?.unwrap_or_default();
                (opaque, written)
            }
        };
        let cuts = ranges(&written.extensions);
        let parts = parts_written(&structure);
        let sections = [envelope.into_octets(), written.octets, cuts, parts, keys];
        let mut octets = vec![VERSION];
        for section in &sections {
            put_number(&mut octets, section.len() as u64);
        }
        sections.iter().for_each(|section| octets.extend_from_slice(section));
        // What was just written can be read.
        Self::read(octets).ok_or_else(|| StoreError::Medium("a digest cannot be read".into()))
    }

    /// As it is kept.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    fn section(&self, at: usize) -> &[u8] {
        self.octets.get(self.sections[at].clone()).unwrap_or_default()
    }

    /// `envelope`, RFC 3501 §9.
    pub(crate) fn envelope(&self) -> &[u8] {
        self.section(ENVELOPE)
    }

    /// `body`, RFC 3501 §9, with its extension data or without.
    pub(crate) fn write_structure(&self, extended: bool, out: &mut Output) {
        let whole = self.section(STRUCTURE);
        if extended {
            return out.push(whole);
        }
        let mut cuts = Reader(self.section(CUTS));
        let mut at = 0;
        while let Some((start, end)) = cuts.range() {
            out.push(whole.get(at..start as usize).unwrap_or_default());
            at = end as usize;
        }
        out.push(whole.get(at..).unwrap_or_default());
    }

    /// The parts; index 0 is the root.
    pub(crate) fn parts(&self) -> Vec<PartAt> {
        let mut rest = Reader(self.section(PARTS));
        let mut parts = Vec::new();
        while let Some(part) = rest.part() {
            parts.push(part);
        }
        parts
    }

    /// What it is sorted and threaded by.
    pub(crate) fn keys(&self) -> Keys {
        Keys::read(self.section(KEYS)).unwrap_or_default()
    }
}

/// The parts of a structure as places.
#[cfg(test)]
pub(crate) fn parts_of(structure: &Structure) -> Vec<PartAt> {
    let octets = parts_written(structure);
    let mut rest = Reader(&octets);
    std::iter::from_fn(|| rest.part()).collect()
}

fn parts_written(structure: &Structure) -> Vec<u8> {
    let mut octets = Vec::new();
    for part in &structure.parts {
        let kind = match part.kind {
            Kind::Leaf => 0,
            Kind::Multipart => 1,
            Kind::Message => 2,
        };
        put_number(&mut octets, kind);
        put_number(&mut octets, Encoding::named(&part.encoding) as u64);
        put_number(&mut octets, part.parent.map_or(0, |parent| parent as u64 + 1));
        put_number(&mut octets, part.header.start as u64);
        // What follows lies behind: small numbers.
        put_number(&mut octets, part.header.len() as u64);
        put_number(&mut octets, (part.body.start - part.header.end) as u64);
        put_number(&mut octets, part.body.len() as u64);
    }
    octets
}

fn ranges(ranges: &[Range<usize>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for range in ranges {
        put_number(&mut octets, range.start as u64);
        put_number(&mut octets, range.end as u64);
    }
    octets
}

/// A number, seven bits an octet, the lowest first.
fn put_number(octets: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        octets.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    octets.push(number as u8);
}

fn put_text(octets: &mut Vec<u8>, text: &str) {
    put_number(octets, text.len() as u64);
    octets.extend_from_slice(text.as_bytes());
}

/// Reads back what was put; `None` at the end, and where it is damaged.
struct Reader<'o>(&'o [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&octet, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn range(&mut self) -> Option<(u64, u64)> {
        Some((self.number()?, self.number()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn part(&mut self) -> Option<PartAt> {
        let kind = match self.number()? {
            0 => Kind::Leaf,
            1 => Kind::Multipart,
            2 => Kind::Message,
            _ => return None,
        };
        let encoding = *Encoding::ALL.get(usize::try_from(self.number()?).ok()?)?;
        let parent = usize::try_from(self.number()?).ok()?.checked_sub(1);
        let header = self.number()?;
        let header = header..header.checked_add(self.number()?)?;
        let body = header.end.checked_add(self.number()?)?;
        let body = body..body.checked_add(self.number()?)?;
        Some(PartAt { parent, kind, encoding, header, body })
    }
}

/// Makes a message's structure, reading it piece by piece.
pub(crate) fn scan(
    octets: u64,
    mut read: impl FnMut(u64, u64) -> Result<Vec<u8>, StoreError>,
    piece_octets: u64,
) -> Result<(Option<Structure>, usize), StoreError> {
    let mut scanner = mime::Scanner::new();
    let mut at = 0;
    while at < octets {
        let piece = read(at, octets.min(at + piece_octets))?;
        if piece.is_empty() {
            break;
        }
        scanner.push(&piece);
        at += piece.len() as u64;
    }
    let lines = scanner.lines();
    Ok((scanner.finish().ok(), lines))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_texts_are_read_back() {
        let mut octets = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        numbers.iter().for_each(|&number| put_number(&mut octets, number));
        put_text(&mut octets, "perché");
        let mut reader = Reader(&octets);
        assert_eq!(numbers.map(|_| reader.number().unwrap()), numbers);
        assert_eq!(reader.text().as_deref(), Some("perché"));
        assert_eq!(reader.number(), None);
        assert_eq!(Reader(&[0xff; 11]).number(), None);
        assert_eq!(Reader(&[5, b'a']).text(), None);
    }

    #[test]
    fn what_another_version_made_is_not_read() {
        let mut octets = vec![VERSION];
        octets.extend([0; SECTIONS]);
        let digest = Digest::read(octets.clone()).unwrap();
        assert_eq!((digest.envelope(), digest.parts()), (&b""[..], vec![]));
        assert_eq!(digest.keys(), Keys::default());
        octets[0] = VERSION + 1;
        assert_eq!(Digest::read(octets), None);
        assert_eq!(Digest::read(vec![VERSION, 1, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_octets_are_read(octets: Vec<u8>) {
            let octets = [&[VERSION][..], &octets].concat();
            if let Some(digest) = Digest::read(octets) {
                digest.parts();
                digest.keys();
                digest.write_structure(false, &mut Output::default());
            }
        }
    }
}
