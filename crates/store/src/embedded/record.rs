//! A record: some octets as they lie on disk, in a segment or in a file of their own.
//!
//! ```text
//! "CRL1"  blob (8)  octets (8)  CRC of these 20 (4)   header, 24 octets, little-endian
//! the octets
//! a CRC for each 64 KiB of them, the last for what is left (4 each)
//! ```
//!
//! The CRCs are CRC-32C. A piece of a large message is thus checked without reading the rest. In a
//! file of its own `blob` is 0: its name tells.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use crate::StoreError;

const MAGIC: [u8; 4] = *b"CRL1";
/// Octets before the payload.
pub(super) const HEADER_OCTETS: u64 = 24;
/// Octets that share a CRC.
pub(super) const CHUNK_OCTETS: u64 = 64 * 1024;
/// Records up to this are read whole: one call costs less than two.
const READ_WHOLE_OCTETS: u64 = 128 * 1024;

/// Octets of a whole record.
pub(super) fn record_octets(octets: u64) -> u64 {
    HEADER_OCTETS + octets + octets.div_ceil(CHUNK_OCTETS) * 4
}

/// The header of a record.
pub(super) fn header(blob: u64, octets: u64) -> [u8; HEADER_OCTETS as usize] {
    let mut header = [0; HEADER_OCTETS as usize];
    header[..4].copy_from_slice(&MAGIC);
    header[4..12].copy_from_slice(&blob.to_le_bytes());
    header[12..20].copy_from_slice(&octets.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What the header at `start` says, number and octets; nothing when there is no sound one.
pub(super) fn read_header(file: &File, start: u64) -> Result<Option<(u64, u64)>, StoreError> {
    let read = pread(file, start, HEADER_OCTETS)?;
    let Ok(read) = <[u8; HEADER_OCTETS as usize]>::try_from(read) else { return Ok(None) };
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&read[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let (blob, octets) = (number(4), number(12));
    Ok((read == header(blob, octets)).then_some((blob, octets)))
}

/// The CRCs of octets that come piece by piece.
#[derive(Debug, Default)]
pub(super) struct Crcs {
    done: Vec<u32>,
    open: u32,
    open_octets: u64,
}

impl Crcs {
    /// Of these octets.
    pub(super) fn of(octets: &[u8]) -> Self {
        let mut crcs = Self::default();
        crcs.add(octets);
        crcs
    }

    /// Takes the next octets in.
    pub(super) fn add(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let room = usize::try_from(CHUNK_OCTETS - self.open_octets).unwrap_or(usize::MAX);
            let (now, rest) = octets.split_at(room.min(octets.len()));
            self.open = crc32c::crc32c_append(self.open, now);
            self.open_octets += now.len() as u64;
            if self.open_octets == CHUNK_OCTETS {
                self.done.push(self.open);
                (self.open, self.open_octets) = (0, 0);
            }
            octets = rest;
        }
    }

    /// As they lie on disk.
    pub(super) fn table(&self) -> Vec<u8> {
        let last = (self.open_octets > 0).then_some(self.open);
        self.done.iter().copied().chain(last).flat_map(u32::to_le_bytes).collect()
    }
}

/// Reads `range` of the payload of the record at `start` of `file`, and checks what it reads.
pub(super) fn read(
    file: &File,
    start: u64,
    (blob, octets): (u64, u64),
    range: Range<u64>,
) -> Result<Vec<u8>, StoreError> {
    if octets <= READ_WHOLE_OCTETS {
        let whole = pread(file, start, record_octets(octets))?;
        let (head, rest) = whole.split_at(HEADER_OCTETS as usize);
        if head != header(blob, octets) {
            return Err(damaged());
        }
        let (payload, table) = rest.split_at(octets as usize);
        check(payload, table)?;
        return Ok(payload[range.start as usize..range.end as usize].to_vec());
    }
    let first = range.start / CHUNK_OCTETS;
    let last = range.end.div_ceil(CHUNK_OCTETS).max(first);
    let from = first * CHUNK_OCTETS;
    let until = (last * CHUNK_OCTETS).min(octets).max(from);
    let payload_at = start + HEADER_OCTETS;
    let mut payload = pread(file, payload_at + from, until - from)?;
    let table = pread(file, payload_at + octets + first * 4, (last - first) * 4)?;
    check(&payload, &table)?;
    payload.truncate((range.end - from) as usize);
    payload.drain(..(range.start - from) as usize);
    Ok(payload)
}

fn pread(file: &File, at: u64, octets: u64) -> Result<Vec<u8>, StoreError> {
    let octets = usize::try_from(octets).map_err(|_| damaged())?;
    let mut read = vec![0; octets];
    file.read_exact_at(&mut read, at)?;
    Ok(read)
}

fn check(payload: &[u8], table: &[u8]) -> Result<(), StoreError> {
    if Crcs::of(payload).table() == table { Ok(()) } else { Err(damaged()) }
}

fn damaged() -> StoreError {
    StoreError::Medium("stored octets do not have their checksum".into())
}
