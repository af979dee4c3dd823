//! Octets that were stored just now, kept in memory for a while: the next step of the pipeline, the
//! librarian, and clients that hear of a new message ask for them within the second.
//!
//! Octets never change under their number, and no number is given twice. Whether anything still
//! refers to them is for the index to say, so whoever reads here asks there first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::segments::Whole;
use crate::BlobId;

/// What is kept in all: some hundreds of messages as they are on average, which is what a second
/// brings.
const OCTETS_MAX: usize = 32 * 1024 * 1024;
/// Larger ones are read from the disk: a few would take the place of all others.
const OCTETS_EACH_MAX: usize = 256 * 1024;

/// The octets of the last commits.
#[derive(Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    octets: HashMap<BlobId, Whole>,
    /// Oldest first.
    order: VecDeque<BlobId>,
    total: usize,
}

impl Recent {
    /// Whether octets of this length are kept at all.
    pub(super) const fn keeps(length: usize) -> bool {
        length <= OCTETS_EACH_MAX
    }

    /// Keeps octets that were committed; the oldest go.
    pub(super) fn put(&self, new: Vec<(BlobId, Whole)>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (blob, whole) in new {
            kept.total += whole.len();
            kept.order.push_back(blob);
            kept.octets.insert(blob, whole);
        }
        while kept.total > OCTETS_MAX {
            let Some(oldest) = kept.order.pop_front() else { return };
            kept.total -= kept.octets.remove(&oldest).map_or(0, |whole| whole.len());
        }
    }

    /// All octets of a blob, if they are still kept.
    pub(super) fn get(&self, blob: BlobId) -> Option<Whole> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).octets.get(&blob).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(length: usize) -> Whole {
        Whole::Shared(vec![7; length].into())
    }

    #[test]
    fn one_past_the_room_pushes_the_oldest_out() {
        let recent = Recent::default();
        let last = OCTETS_MAX.div_ceil(OCTETS_EACH_MAX) as u64;
        for number in 1..=last {
            recent.put(vec![(BlobId(number), whole(OCTETS_EACH_MAX))]);
        }
        assert!((1..=last).all(|number| recent.get(BlobId(number)).is_some()));
        recent.put(vec![(BlobId(last + 1), whole(1))]);
        assert!(recent.get(BlobId(1)).is_none() && recent.get(BlobId(2)).is_some());
        assert_eq!(recent.get(BlobId(last + 1)).map(|whole| whole.len()), Some(1));
    }

    #[test]
    fn one_octet_past_the_bound_is_not_kept() {
        assert!(Recent::keeps(OCTETS_EACH_MAX) && !Recent::keeps(OCTETS_EACH_MAX + 1));
    }
}
