//! How octets lie in an object: in chunks of 64 KiB, each made smaller on its own where that is worth it, so that
//! a part of a long message is read without the rest.
//!
//! What is known of each chunk is in the database, beside the octets' name: how it was made smaller, how many octets
//! lie there, and their CRC-32C. Tables of format 1 know a checksum only: their chunks lie as they are.

use std::ops::Range;
use std::sync::Arc;

use crate::StoreError;
use crate::codec::{self, Codec};

/// Octets of a chunk as a reader sees it; the last of a message may have fewer.
pub(super) const CHUNK_OCTETS: u64 = 64 * 1024;
/// Octets that a chunk takes in the database: its codec (1), how many lie there (4), and their CRC-32C (4), little-endian.
const KNOWN_OCTETS: usize = 9;
/// The same in format 1: their CRC-32C.
const KNOWN_OCTETS_1: usize = 4;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    codec: Codec,
    stored: u32,
    crc: u32,
}

/// What lies in the object, and what the database is to know of it.
pub(super) fn shrink(octets: Arc<[u8]>) -> Result<(Arc<[u8]>, Vec<u8>), StoreError> {
    let chunks = octets.chunks(CHUNK_OCTETS as usize).map(codec::shrink);
    let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
    let mut known = Vec::with_capacity(chunks.len() * KNOWN_OCTETS);
    for (codec, stored) in &chunks {
        let length = u32::try_from(stored.len()).map_err(|_| damaged())?;
        known.push(codec.number());
        known.extend_from_slice(&length.to_le_bytes());
        known.extend_from_slice(&crc32c::crc32c(stored).to_le_bytes());
    }
    if chunks.iter().all(|(codec, _)| *codec == Codec::Plain) {
        drop(chunks);
        return Ok((octets, known));
    }
    let length = chunks.iter().map(|(_, stored)| stored.len()).sum();
    let mut all = Vec::with_capacity(length);
    for (_, stored) in chunks {
        all.extend_from_slice(&stored);
    }
    Ok((all.into(), known))
}

/// The chunks `which` of `octets` octets, and where in the object the first of them begins.
pub(super) fn known(
    octets: u64,
    table: &[u8],
    which: Range<u64>,
) -> Result<(u64, Vec<Chunk>), StoreError> {
    let count = octets.div_ceil(CHUNK_OCTETS) as usize;
    let (from, until) = (which.start as usize, which.end as usize);
    if until > count || from > until {
        return Err(damaged());
    }
    if table.len() == count * KNOWN_OCTETS_1 {
        let chunks = table.chunks_exact(KNOWN_OCTETS_1).enumerate().map(|(at, crc)| {
            let stored = (octets - at as u64 * CHUNK_OCTETS).min(CHUNK_OCTETS);
            Some(Chunk {
                codec: Codec::Plain,
                stored: u32::try_from(stored).ok()?,
                crc: word(crc)?,
            })
        });
        let chunks: Option<Vec<_>> = chunks.skip(from).take(until - from).collect();
        return Ok((from as u64 * CHUNK_OCTETS, chunks.ok_or_else(damaged)?));
    }
    if table.len() != count * KNOWN_OCTETS {
        return Err(damaged());
    }
    let chunks = table.chunks_exact(KNOWN_OCTETS).take(until).map(|known| {
        let (codec, rest) = known.split_first()?;
        let (stored, crc) = rest.split_at_checked(4)?;
        Some(Chunk { codec: Codec::of_number(*codec)?, stored: word(stored)?, crc: word(crc)? })
    });
    let mut chunks = chunks.collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    let skipped = chunks.drain(..from).map(|chunk| u64::from(chunk.stored)).sum();
    Ok((skipped, chunks))
}

/// How many octets of the object these chunks are.
pub(super) fn stored(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| u64::from(chunk.stored)).sum()
}

/// What these chunks were before they were made smaller, `octets` in all: each is held against its checksum.
pub(super) fn expand(chunks: &[Chunk], stored: &[u8], octets: u64) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::with_capacity(usize::try_from(octets).map_err(|_| damaged())?);
    let mut rest = stored;
    for chunk in chunks {
        let (one, after) = rest.split_at_checked(chunk.stored as usize).ok_or_else(damaged)?;
        rest = after;
        if crc32c::crc32c(one) != chunk.crc {
            return Err(damaged());
        }
        let left = octets - all.len() as u64;
        match chunk.codec {
            Codec::Plain => all.extend_from_slice(one),
            codec => all.extend(codec::expand(codec, one.to_vec(), left.min(CHUNK_OCTETS))?),
        }
    }
    match rest.is_empty() && all.len() as u64 == octets {
        true => Ok(all),
        false => Err(damaged()),
    }
}

fn word(octets: &[u8]) -> Option<u32> {
    octets.try_into().ok().map(u32::from_le_bytes)
}

pub(super) fn damaged() -> StoreError {
    StoreError::Medium("stored octets do not have their checksum".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(octets: usize) -> Arc<[u8]> {
        b"Si trasmette quanto richiesto.\r\n".iter().copied().cycle().take(octets).collect()
    }

    #[test]
    fn a_long_text_takes_little_and_a_part_of_it_is_read_alone() {
        let octets = text(200_000);
        let (stored, table) = shrink(Arc::clone(&octets)).unwrap();
        assert!(stored.len() * 20 < octets.len(), "{}", stored.len());
        assert_eq!(table.len(), 4 * KNOWN_OCTETS);
        let (at, chunks) = known(200_000, &table, 1..3).unwrap();
        let end = at + self::stored(&chunks);
        let part = expand(&chunks, &stored[at as usize..end as usize], 2 * CHUNK_OCTETS).unwrap();
        assert_eq!(part, octets[CHUNK_OCTETS as usize..3 * CHUNK_OCTETS as usize]);
    }

    #[test]
    fn what_format_1_knew_is_read_as_it_was() {
        let octets = text(100_000);
        let table: Vec<u8> = octets
            .chunks(CHUNK_OCTETS as usize)
            .flat_map(|chunk| crc32c::crc32c(chunk).to_le_bytes())
            .collect();
        let (at, chunks) = known(100_000, &table, 1..2).unwrap();
        assert_eq!((at, stored(&chunks)), (CHUNK_OCTETS, 100_000 - CHUNK_OCTETS));
        let part = expand(&chunks, &octets[at as usize..], 100_000 - CHUNK_OCTETS).unwrap();
        assert_eq!(part, octets[at as usize..]);
    }

    #[test]
    fn what_is_damaged_is_told() {
        let octets = text(100_000);
        let (stored, table) = shrink(octets).unwrap();
        let (_, chunks) = known(100_000, &table, 0..2).unwrap();
        let refused = |stored: &[u8], octets: u64| {
            let error = expand(&chunks, stored, octets).unwrap_err();
            assert_eq!(error.to_string(), damaged().to_string());
        };
        for place in [0, stored.len() / 2, stored.len() - 1] {
            let mut other = stored.to_vec();
            other[place] ^= 1;
            refused(&other, 100_000);
        }
        refused(&stored[..stored.len() - 1], 100_000);
        refused(&[&stored[..], b"x"].concat(), 100_000);
        for (octets, table, which) in [
            (100_000, &table[1..], 0..2),
            (100_000, &table[..], 0..3),
            (100_000, &[9; 2 * KNOWN_OCTETS][..], 0..2),
            (300_000, &table[..], 0..1),
        ] {
            assert_eq!(known(octets, table, which).unwrap_err().to_string(), damaged().to_string());
        }
    }

    proptest! {
        #[test]
        fn what_is_shrunk_expands(
            seed in proptest::collection::vec(any::<u8>(), 1..300), times in 0_usize..2_000
        ) {
            let octets: Arc<[u8]> = seed.repeat(times).into();
            let (stored, table) = shrink(Arc::clone(&octets)).unwrap();
            let length = octets.len() as u64;
            let (at, chunks) = known(length, &table, 0..length.div_ceil(CHUNK_OCTETS)).unwrap();
            prop_assert_eq!((at, self::stored(&chunks)), (0, stored.len() as u64));
            prop_assert_eq!(expand(&chunks, &stored, length).unwrap(), &octets[..]);
        }
    }
}
