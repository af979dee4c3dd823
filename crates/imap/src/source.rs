//! A stored message, read as far as a command needs it and no further.
//!
//! Its header is read in growing pieces; all of it only to make its [`Digest`], once, and then piece by
//! piece. No message is held whole but a short one. Not here: what is made of it.

use std::ops::Range;
use std::sync::Arc;

use mail::message::HEADER_OCTETS_MAX;
use mail::mime::{self, Structure};
use store::{BlobId, Held, Store, StoreError};

use crate::digest::{self, Digest};

/// A message up to this is held whole once its parts are looked for.
const WHOLE_OCTETS_MAX: u64 = 1024 * 1024;
/// Octets of a longer one that are read at once.
const PIECE_OCTETS: u64 = 256 * 1024;
/// Octets that are read at first to find the end of a header; most headers fit.
const FIRST_READ_OCTETS: u64 = 8 * 1024;
/// Octets of a longer header that are read at once while its end is looked for.
const NEXT_READ_OCTETS: u64 = 64 * 1024;

/// A message.
pub(crate) struct Source<'s> {
    store: &'s dyn Store,
    pub(crate) blob: BlobId,
    pub(crate) octets: u64,
    /// The beginning of it, once read.
    head: Vec<u8>,
    /// Where the body starts, once known.
    body_start: Option<u64>,
    structure: Option<Structure>,
    digest: Option<Digest>,
    /// The digest was made here and now.
    made: bool,
    /// What is held of it, for who sends it piece by piece.
    held: Option<(Range<u64>, Arc<dyn Held>)>,
    /// Octets read from the store so far.
    pub(crate) read: u64,
}

impl<'s> Source<'s> {
    pub(crate) fn new(store: &'s dyn Store, blob: BlobId, octets: u64) -> Self {
        Self {
            store,
            blob,
            octets,
            head: Vec::new(),
            body_start: None,
            structure: None,
            digest: None,
            made: false,
            held: None,
            read: 0,
        }
    }

    /// The same with the digest that the store has kept.
    pub(crate) fn with_digest(mut self, kept: Option<Vec<u8>>) -> Self {
        self.digest = kept.and_then(Digest::read);
        self
    }

    /// What its octets say.
    pub(crate) fn digest(&mut self) -> Result<&Digest, StoreError> {
        if self.digest.is_none() {
            self.digest = Some(Digest::make(self)?);
            self.made = true;
        }
        self.digest.as_ref().ok_or(StoreError::NoSuchMessage)
    }

    /// The digest, when it was made here and the store should keep it.
    pub(crate) fn made_digest(&self) -> Option<(BlobId, Vec<u8>)> {
        let digest = self.digest.as_ref().filter(|_| self.made)?;
        Some((self.blob, digest.octets().to_vec()))
    }

    /// Octets `start..end`.
    pub(crate) fn slice(&mut self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        if let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end))
            && let Some(octets) = self.head.get(from..to)
        {
            return Ok(octets.to_vec());
        }
        self.read += end.saturating_sub(start);
        self.store.read(self.blob, start, end)
    }

    /// Octets `start..end`, to be sent later, whoever removes the message meanwhile.
    pub(crate) fn hold(&mut self, start: u64, end: u64) -> Result<Arc<dyn Held>, StoreError> {
        let held = match self.held.take() {
            Some((range, held)) if range.start <= start && end <= range.end => (range, held),
            // Many parts of a message are held together: each alone would take as much as all.
            Some(_) => (0..self.octets, self.store.hold(self.blob, 0, self.octets)?),
            None => (start..end, self.store.hold(self.blob, start, end)?),
        };
        Ok(Arc::clone(&self.held.insert(held).1))
    }

    /// Where the body starts: after the empty line, or at the end when there is none.
    pub(crate) fn body_start(&mut self) -> Result<u64, StoreError> {
        if let Some(body_start) = self.body_start {
            return Ok(body_start);
        }
        // Of a header that is longer than is ever read, only its end is looked for.
        let mut line = LineScan::default();
        let mut at = 0;
        let mut piece_octets = FIRST_READ_OCTETS;
        let body_start = loop {
            if at >= self.octets {
                break self.octets;
            }
            let piece = self.slice(at, self.octets.min(at.saturating_add(piece_octets)))?;
            if piece.is_empty() {
                break self.octets;
            }
            let end = line.find(&piece);
            if self.head.len() as u64 == at && self.head.len() < HEADER_OCTETS_MAX {
                self.head.extend_from_slice(&piece);
            }
            if let Some(end) = end {
                break at + end as u64;
            }
            at += piece.len() as u64;
            piece_octets = NEXT_READ_OCTETS;
        };
        self.body_start = Some(body_start);
        Ok(body_start)
    }

    /// The header with the empty line after it, as far as a header is looked at.
    pub(crate) fn header(&mut self) -> Result<&[u8], StoreError> {
        let body_start = usize::try_from(self.body_start()?).unwrap_or(usize::MAX);
        Ok(&self.head[..self.head.len().min(body_start)])
    }

    /// Its parts. What is too deep, or has too many, is one opaque part.
    pub(crate) fn structure(&mut self) -> Result<&Structure, StoreError> {
        if self.structure.is_none() {
            if self.octets <= WHOLE_OCTETS_MAX && (self.head.len() as u64) < self.octets {
                self.head = self.store.read(self.blob, 0, self.octets)?;
                self.read += self.octets;
            }
            let (found, lines) = match self.head.len() as u64 == self.octets {
                true => {
                    let lines = self.head.iter().filter(|&&octet| octet == b'\n').count();
                    (mime::scan(&self.head).ok(), lines)
                }
                false => {
                    self.read += self.octets;
                    let (store, blob) = (self.store, self.blob);
                    let read = |start, end| store.read(blob, start, end);
                    digest::scan(self.octets, read, PIECE_OCTETS)?
                }
            };
            self.structure = Some(match found {
                Some(structure) => structure,
                None => self.opaque_of(lines)?,
            });
        }
        self.structure.as_ref().ok_or(StoreError::NoSuchMessage)
    }

    /// The same, handed over: asked for again, it is made again.
    pub(crate) fn take_structure(&mut self) -> Result<Structure, StoreError> {
        self.structure()?;
        self.structure.take().ok_or(StoreError::NoSuchMessage)
    }

    /// All of it as one opaque part, for what cannot be told otherwise.
    pub(crate) fn opaque(&mut self) -> Result<Structure, StoreError> {
        let lines = self.structure()?.root().lines;
        let mut structure = self.opaque_of(0)?;
        structure.parts.iter_mut().for_each(|root| root.lines = lines);
        Ok(structure)
    }

    fn opaque_of(&mut self, lines: usize) -> Result<Structure, StoreError> {
        let body_start = usize::try_from(self.body_start()?).unwrap_or(usize::MAX);
        let end = usize::try_from(self.octets).unwrap_or(usize::MAX);
        let header = self.header()?;
        let in_header = header.iter().filter(|&&octet| octet == b'\n').count();
        let mut structure = mime::opaque(header);
        for root in &mut structure.parts {
            root.body = body_start..end;
            root.lines = lines.saturating_sub(in_header);
        }
        Ok(structure)
    }
}

/// Looks for an empty line in pieces that may part anywhere.
#[derive(Default)]
struct LineScan {
    /// Something but a CR stands on the current line.
    filled: bool,
    /// A CR stands at its start.
    cr: bool,
}

impl LineScan {
    /// Where the octets after the empty line start.
    fn find(&mut self, piece: &[u8]) -> Option<usize> {
        for (at, &octet) in piece.iter().enumerate() {
            match octet {
                b'\n' if !self.filled => return Some(at + 1),
                b'\n' => *self = Self::default(),
                b'\r' if !self.filled && !self.cr => self.cr = true,
                _ => self.filled = true,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_is_found_wherever_the_pieces_part() {
        for (text, expected) in [
            (&b"A: b\r\n\r\nbody"[..], Some(8)),
            (b"A: b\n\nbody", Some(6)),
            (b"\r\nbody", Some(2)),
            (b"A: b\r\n\r\r\nC: d\r\n\r\n", Some(17)),
            (b"A: b\r\nC: d\r\n", None),
        ] {
            for cut in 0..text.len() {
                let mut scan = LineScan::default();
                let (first, second) = text.split_at(cut);
                let found = scan.find(first).or_else(|| Some(cut + scan.find(second)?));
                assert_eq!(found, expected, "{text:?} cut at {cut}");
            }
        }
    }
}
