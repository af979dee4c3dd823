//! Reading octets: at once, or piece by piece for as long as somebody wants.
//!
//! What is held knows its pieces' places, and holds the segments that they are in: those are not
//! unlinked, although the index may have forgotten them. Nothing of that is on disk: a segment that is
//! only held is one of those that the next start removes. Not here: when nothing else keeps a segment
//! (`writer.rs`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::octets::{self, Files, Part};
use crate::rules::clip;
use crate::{BlobId, Held, StoreError};

/// How often octets may be moved while one call looks for them: compaction takes longer than a look.
const MOVES_MAX: usize = 16;

/// A file that octets are in: a segment, or 0 and the number of octets with a file of their own.
pub(super) type Place = (u64, u64);

/// Which files are held, and how often.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<Place, usize>>);

impl Leases {
    /// The files that are held: none is let go of, and no other held, until this is dropped.
    pub(super) fn held(&self) -> MutexGuard<'_, BTreeMap<Place, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Octets of a blob from `start` on, and how to read them.
pub(super) struct Lease {
    files: Arc<Files>,
    parts: Vec<HeldPart>,
}

struct HeldPart {
    /// Where in the blob the range begins.
    at: u64,
    part: Part,
    /// In the piece.
    range: Range<u64>,
}

impl HeldPart {
    fn end(&self) -> u64 {
        self.at + (self.range.end - self.range.start)
    }

    fn file(&self) -> Place {
        match self.part.place.segment {
            0 => (0, self.part.number),
            segment => (segment, 0),
        }
    }
}

impl Lease {
    fn new(files: &Arc<Files>, start: u64, found: Vec<(Part, Range<u64>)>) -> Self {
        let mut at = start;
        let parts = found.into_iter().map(|(part, range)| {
            let begins = at;
            at += range.end - range.start;
            HeldPart { at: begins, part, range }
        });
        let lease = Self { files: Arc::clone(files), parts: parts.collect() };
        let mut held = lease.files.leases.held();
        for part in &lease.parts {
            *held.entry(part.file()).or_default() += 1;
        }
        drop(held);
        lease
    }

    /// Whether all of it is where the index said: from now on it stays there.
    fn is_there(&self) -> Result<bool, StoreError> {
        let mut last = None;
        for part in &self.parts {
            let file = part.file();
            if last != Some(file) && !self.files.path(file).try_exists()? {
                return Ok(false);
            }
            last = Some(file);
        }
        Ok(true)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.files.leases.held();
        for part in &self.parts {
            if let Some(times) = held.get_mut(&part.file()) {
                *times -= 1;
                if *times == 0 {
                    held.remove(&part.file());
                }
            }
        }
    }
}

impl Held for Lease {
    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        let mut octets = Vec::new();
        let first = self.parts.partition_point(|part| part.end() <= start);
        for held in self.parts.iter().skip(first).take_while(|held| held.at < end) {
            let from = held.range.start + start.saturating_sub(held.at);
            let until = held.range.end - held.end().saturating_sub(end);
            let read = self.files.read(&held.part, from..until)?;
            if octets.is_empty() { octets = read } else { octets.extend_from_slice(&read) }
        }
        Ok(octets)
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.parts.len() * size_of::<HeldPart>()
    }
}

/// Holds octets of a blob.
pub(super) fn hold(shared: &Shared, blob: BlobId, range: Range<u64>) -> Result<Lease, StoreError> {
    for _ in 0..MOVES_MAX {
        let find = |db: &_| octets::locate(db, blob, range.start, range.end);
        let lease = Lease::new(&shared.files, range.start, shared.readers.read(find)?);
        if lease.is_there()? {
            return Ok(lease);
        }
        // A segment was unlinked since: they are gone, or were moved just then.
    }
    Err(StoreError::NoSuchMessage)
}

/// Octets of a blob.
pub(super) fn read(
    shared: &Shared,
    blob: BlobId,
    range: Range<u64>,
) -> Result<Vec<u8>, StoreError> {
    let Range { start, end } = range;
    if let Some(whole) = shared.recent.get(blob) {
        let octets = shared.readers.read(|db| octets::octets(db, blob))?;
        let range = clip(start, end, octets);
        return Ok(whole[range.start as usize..range.end as usize].to_vec());
    }
    let parts = shared.readers.read(|db| octets::locate(db, blob, start, end))?;
    let mut octets = Vec::new();
    for (mut part, range) in parts {
        let mut moves = 0;
        let read = loop {
            match shared.files.read(&part, range.clone()) {
                // Its segment was unlinked since: it is gone, or it was moved just then.
                Err(StoreError::NoSuchMessage) if moves < MOVES_MAX => moves += 1,
                read => break read?,
            }
            part = shared.readers.read(|db| Part::find(db, part.number))?;
        };
        if octets.is_empty() { octets = read } else { octets.extend_from_slice(&read) }
    }
    Ok(octets)
}
