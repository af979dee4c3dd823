//! Octets that were stored just now, kept in memory for a while: the next step of the pipeline, the
//! librarian, and clients that hear of a new message ask for them within the second.
//!
//! Octets never change under their number, and no number is given twice. Whether anything still
//! refers to them is for the index to say, so whoever reads here asks there first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::octets::Hash;
use super::segments::Whole;
use crate::BlobId;

/// Larger ones are read from the disk: a few would take the place of all others.
const OCTETS_EACH_MAX: usize = 256 * 1024;
/// Pieces whose hashes are remembered, twice so many at most: those of the last some thousand messages.
const PIECES_MAX: usize = 32 * 1024;

/// The octets of the last commits.
pub(super) struct Recent {
    octets_max: usize,
    kept: Mutex<Kept>,
}

/// What a command brought.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) octets: Vec<(BlobId, Whole)>,
    pub(super) pieces: Vec<Hash>,
}

impl Brought {
    pub(super) fn extend(&mut self, other: Self) {
        self.octets.extend(other.octets);
        self.pieces.extend(other.pieces);
    }
}

#[derive(Default)]
struct Kept {
    octets: HashMap<BlobId, Whole>,
    /// Oldest first.
    order: VecDeque<BlobId>,
    total: usize,
    /// Pieces that came last, and those that came before them.
    pieces: [HashSet<Hash>; 2],
}

impl Recent {
    /// Keeps at most so many octets.
    pub(super) fn new(octets_max: usize) -> Self {
        Self { octets_max, kept: Mutex::default() }
    }

    /// Whether octets of this length are kept at all.
    pub(super) const fn keeps(length: usize) -> bool {
        length <= OCTETS_EACH_MAX
    }

    /// Keeps what was committed; the oldest goes.
    pub(super) fn put(&self, new: Brought) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for hash in new.pieces {
            if kept.pieces[0].len() >= PIECES_MAX {
                kept.pieces[1] = std::mem::take(&mut kept.pieces[0]);
            }
            kept.pieces[0].insert(hash);
        }
        for (blob, whole) in new.octets {
            kept.total += whole.len();
            kept.order.push_back(blob);
            kept.octets.insert(blob, whole);
        }
        while kept.total > self.octets_max {
            let Some(oldest) = kept.order.pop_front() else { return };
            kept.total -= kept.octets.remove(&oldest).map_or(0, |whole| whole.len());
        }
    }

    /// Which of these pieces came lately, and so are most probably there.
    pub(super) fn knows<'a>(&self, pieces: impl Iterator<Item = &'a Hash>) -> Vec<bool> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.map(|hash| kept.pieces.iter().any(|known| known.contains(hash))).collect()
    }

    /// All octets of a blob, if they are still kept.
    pub(super) fn get(&self, blob: BlobId) -> Option<Whole> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).octets.get(&blob).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(number: u64, length: usize) -> Brought {
        let whole = Whole::Shared(vec![7; length].into());
        Brought { octets: vec![(BlobId(number), whole)], pieces: vec![] }
    }

    fn hash(number: usize) -> Hash {
        *blake3::hash(&number.to_be_bytes()).as_bytes()
    }

    #[test]
    fn one_past_the_room_pushes_the_oldest_out() {
        let last = 3;
        let recent = Recent::new(last as usize * OCTETS_EACH_MAX);
        for number in 1..=last {
            recent.put(octets(number, OCTETS_EACH_MAX));
        }
        assert!((1..=last).all(|number| recent.get(BlobId(number)).is_some()));
        recent.put(octets(last + 1, 1));
        assert!(recent.get(BlobId(1)).is_none() && recent.get(BlobId(2)).is_some());
        assert_eq!(recent.get(BlobId(last + 1)).map(|whole| whole.len()), Some(1));
    }

    #[test]
    fn twice_the_pieces_are_known_and_one_past_it_the_oldest_are_not() {
        let recent = Recent::new(0);
        let put = |pieces| recent.put(Brought { octets: vec![], pieces });
        put((0..2 * PIECES_MAX).map(hash).collect());
        assert_eq!(recent.knows([hash(0), hash(2 * PIECES_MAX)].iter()), [true, false]);
        put(vec![hash(2 * PIECES_MAX)]);
        let asked = [hash(0), hash(PIECES_MAX), hash(2 * PIECES_MAX)];
        assert_eq!(recent.knows(asked.iter()), [false, true, true]);
    }

    #[test]
    fn one_octet_past_the_bound_is_not_kept() {
        assert!(Recent::keeps(OCTETS_EACH_MAX) && !Recent::keeps(OCTETS_EACH_MAX + 1));
    }
}
