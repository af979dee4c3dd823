//! A stored message, read as far as a command needs it and no further.
//!
//! Its header is read in growing pieces; the whole of it only for its structure, and then dropped
//! with the [`Source`], which no job keeps. Not here: what is made of it.

use mail::message::HEADER_OCTETS_MAX;
use mail::mime::{self, Structure};
use store::{BlobId, Store, StoreError};

/// Octets of a message whose parts are looked for; a longer one is shown as one opaque part. It is
/// above what this server takes in, so that only a changed configuration can pass it.
pub(crate) const STRUCTURE_OCTETS_MAX: u64 = 128 * 1024 * 1024;
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
    /// Octets read from the store so far.
    pub(crate) read: u64,
}

impl<'s> Source<'s> {
    pub(crate) fn new(store: &'s dyn Store, blob: BlobId, octets: u64) -> Self {
        let head = Vec::new();
        Self { store, blob, octets, head, body_start: None, structure: None, read: 0 }
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
            let piece = self.store.read(self.blob, at, at.saturating_add(piece_octets))?;
            if piece.is_empty() {
                break self.octets;
            }
            self.read += piece.len() as u64;
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

    /// All of it and its parts. What is too long or too deep is one opaque part.
    pub(crate) fn parts(&mut self) -> Result<(&[u8], &Structure), StoreError> {
        if self.structure.is_none() {
            let structure = if self.octets > STRUCTURE_OCTETS_MAX {
                let body_start = usize::try_from(self.body_start()?).unwrap_or(usize::MAX);
                let mut structure = mime::opaque(self.header()?);
                if let Some(root) = structure.parts.first_mut() {
                    root.body = body_start..usize::try_from(self.octets).unwrap_or(usize::MAX);
                }
                structure
            } else {
                self.head = self.store.read(self.blob, 0, self.octets)?;
                self.read += self.octets;
                mime::scan(&self.head).unwrap_or_else(|_| mime::opaque(&self.head))
            };
            self.structure = Some(structure);
        }
        match &self.structure {
            Some(structure) => Ok((&self.head, structure)),
            None => Err(StoreError::NoSuchMessage),
        }
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
