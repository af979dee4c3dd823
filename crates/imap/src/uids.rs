//! The messages of a mailbox in their order: which UID has which place.
//!
//! UIDs are given one after the other, so that a mailbox is mostly runs of them: a million messages of
//! which none went are one run, and finding a place costs the same at any size.

use store::{Uid, UidSet};

/// UIDs, ascending; a message's place is counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Uids {
    runs: Vec<Run>,
}

/// UIDs without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
    /// How many UIDs come before.
    before: u32,
}

impl Run {
    fn len(self) -> u32 {
        self.last - self.first + 1
    }
}

impl Uids {
    /// Those of a set.
    pub(crate) fn of(set: &UidSet) -> Self {
        let mut uids = Self::default();
        set.ranges().iter().for_each(|&(first, last)| uids.add(first, last));
        uids.runs.shrink_to_fit();
        uids
    }

    /// Adds those of a range above all there are.
    fn add(&mut self, first: u32, last: u32) {
        match self.runs.last_mut() {
            Some(run) if first <= run.last => {}
            Some(run) if run.last + 1 == first => run.last = last,
            _ => {
                let before = u32::try_from(self.len()).unwrap_or(u32::MAX);
                self.runs.push(Run { first, last, before });
            }
        }
    }

    /// Adds one above all there are.
    pub(crate) fn push(&mut self, uid: Uid) {
        self.add(uid.0.get(), uid.0.get());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.runs.last().map_or(0, |run| (run.before + run.len()) as usize)
    }

    /// The one at this place.
    pub(crate) fn get(&self, place: usize) -> Option<Uid> {
        let place = u32::try_from(place).ok()?;
        let at = self.runs.partition_point(|run| run.before <= place).checked_sub(1)?;
        let run = self.runs.get(at)?;
        let uid = run.first.checked_add(place - run.before).filter(|uid| *uid <= run.last)?;
        std::num::NonZeroU32::new(uid).map(Uid)
    }

    /// The place of one.
    pub(crate) fn place(&self, uid: Uid) -> Option<usize> {
        let place = self.below(uid.0.get());
        (self.get(place) == Some(uid)).then_some(place)
    }

    /// How many are below this number: the place of the first that is not.
    pub(crate) fn below(&self, number: u32) -> usize {
        let at = self.runs.partition_point(|run| run.last < number);
        match self.runs.get(at) {
            Some(run) => (run.before + number.saturating_sub(run.first)) as usize,
            None => self.len(),
        }
    }

    /// How many are not above this number.
    pub(crate) fn up_to(&self, number: u32) -> usize {
        number.checked_add(1).map_or(self.len(), |next| self.below(next))
    }

    /// The highest.
    pub(crate) fn last(&self) -> Option<Uid> {
        self.get(self.len().checked_sub(1)?)
    }

    /// All of them, in their order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// Those of a set that are here.
    pub(crate) fn common(&self, set: &UidSet) -> UidSet {
        let mut common = Vec::new();
        for &(first, last) in set.ranges() {
            let at = self.runs.partition_point(|run| run.last < first);
            let runs = self.runs[at..].iter().take_while(|run| run.first <= last);
            common.extend(runs.filter_map(|run| {
                let bound = |number: u32| std::num::NonZeroU32::new(number).map(Uid);
                Some((bound(run.first.max(first))?, bound(run.last.min(last))?))
            }));
        }
        UidSet::from_ranges(common)
    }

    /// The ranges of a set that are not here.
    pub(crate) fn absent(&self, set: &UidSet) -> Vec<(u32, u32)> {
        let mut absent = Vec::new();
        for &(first, last) in set.ranges() {
            let mut start = Some(first);
            let at = self.runs.partition_point(|run| run.last < first);
            for run in self.runs[at..].iter().take_while(|run| run.first <= last) {
                if let Some(start) = start.filter(|start| *start < run.first) {
                    absent.push((start, run.first - 1));
                }
                start = run.last.checked_add(1);
            }
            absent.extend(start.filter(|start| *start <= last).map(|start| (start, last)));
        }
        absent
    }

    /// Takes those of a set out.
    pub(crate) fn remove(&mut self, set: &UidSet) {
        if set.is_empty() {
            return;
        }
        let mut left = Self::default();
        let ranges = set.ranges();
        for run in &self.runs {
            // One past the last UID there can be is no UID.
            let mut first = Some(run.first);
            let at = ranges.partition_point(|&(_, end)| end < run.first);
            for &(start, end) in ranges[at..].iter().take_while(|(start, _)| *start <= run.last) {
                if let Some(first) = first.filter(|first| *first < start) {
                    left.add(first, start - 1);
                }
                first = end.checked_add(1);
            }
            if let Some(first) = first.filter(|first| *first <= run.last) {
                left.add(first, run.last);
            }
        }
        *self = left;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn uid(number: u32) -> Uid {
        Uid(NonZeroU32::new(number).unwrap())
    }

    fn set(numbers: &BTreeSet<u32>) -> UidSet {
        numbers.iter().map(|&number| uid(number)).collect()
    }

    #[test]
    fn a_mailbox_of_which_nothing_went_is_one_run() {
        let mut uids = Uids::default();
        (1..=1_000_000).for_each(|number| uids.push(uid(number)));
        assert_eq!((uids.runs.len(), uids.len()), (1, 1_000_000));
        assert_eq!(uids.place(uid(500_000)), Some(499_999));
        uids.remove(&UidSet::from_ranges([(uid(10), uid(19))]));
        assert_eq!((uids.runs.len(), uids.len()), (2, 999_990));
        assert_eq!((uids.get(9), uids.place(uid(15))), (Some(uid(20)), None));
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_list(
            there in prop::collection::btree_set(1_u32..60, 0..40),
            gone in prop::collection::btree_set(1_u32..60, 0..40),
            new in prop::collection::btree_set(60_u32..80, 0..5),
        ) {
            let mut uids = Uids::of(&set(&there));
            let common: Vec<(u32, u32)> = set(&(&there & &gone)).ranges().to_vec();
            let found = uids.common(&set(&gone));
            prop_assert_eq!(found.ranges(), &common[..]);
            let absent = set(&(&gone - &there));
            prop_assert_eq!(uids.absent(&set(&gone)), absent.ranges());
            uids.remove(&set(&gone));
            new.iter().for_each(|&number| uids.push(uid(number)));
            let expected: Vec<u32> = (&there - &gone).union(&new).copied().collect();
            let found: Vec<u32> = uids.iter().map(|uid| uid.0.get()).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(uids.last().map(|uid| uid.0.get()), expected.last().copied());
            for number in 1..82 {
                let below = expected.iter().filter(|&&one| one < number).count();
                prop_assert_eq!(uids.below(number), below);
                prop_assert_eq!(uids.up_to(number), expected.iter().filter(|&&one| one <= number).count());
                prop_assert_eq!(uids.place(uid(number)), expected.binary_search(&number).ok());
            }
            prop_assert_eq!(uids.get(expected.len()), None);
        }
    }
}
