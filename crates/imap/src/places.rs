//! Some of the messages of a view, by their places: what a command still has to do.

use std::ops::Range;

/// Places in a view, from 0: ascending ranges that do not overlap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// Those that are taken next come last.
    ranges: Vec<Range<usize>>,
    /// Taken from the highest down.
    falls: bool,
}

impl Places {
    pub(crate) fn new(mut ranges: Vec<Range<usize>>) -> Self {
        ranges.retain(|range| range.start < range.end);
        ranges.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        // Taken from the end, so that taking is cheap.
        merged.reverse();
        Self { ranges: merged, falls: false }
    }

    /// All places below `end`.
    pub(crate) fn below(end: usize) -> Self {
        Self::new(std::iter::once(0..end).collect())
    }

    /// As ranges, in no order that counts.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &Range<usize>> {
        self.ranges.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Some of them, by their place among all.
    pub(crate) fn part(&self, wanted: &Range<usize>) -> Self {
        let mut before = 0;
        let mut ranges = Vec::new();
        for range in self.ranges.iter().rev() {
            let start = wanted.start.saturating_sub(before).min(range.len());
            let end = wanted.end.saturating_sub(before).min(range.len());
            ranges.push(range.start + start..range.start + end);
            before += range.len();
        }
        Self::new(ranges)
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        let at = self.ranges.partition_point(|range| range.start > place);
        self.ranges.get(at).is_some_and(|range| range.contains(&place))
    }

    /// Leaves the highest `limit` places; the lowest of them, when others went.
    pub(crate) fn keep_highest(&mut self, limit: u64) -> Option<usize> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let beyond = self.len().checked_sub(limit).filter(|beyond| *beyond > 0)?;
        self.split_off(beyond);
        self.ranges.last().map(|range| range.start)
    }

    /// From now on the highest are taken first.
    pub(crate) fn fall(&mut self) {
        if !std::mem::replace(&mut self.falls, true) {
            self.ranges.reverse();
        }
    }

    /// Those that are in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut ours, mut others) =
            (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        // Both from the highest range down.
        while let (Some(one), Some(two)) = (ours.peek(), others.peek()) {
            both.push(one.start.max(two.start)..one.end.min(two.end));
            if one.start > two.start {
                ours.next()
            } else {
                others.next()
            };
        }
        Self::new(both)
    }

    /// Takes at most `limit` places out, the lowest first (or the highest), as places.
    pub(crate) fn split_off(&mut self, limit: usize) -> Self {
        let mut taken = Vec::new();
        let mut room = limit;
        while room > 0
            && let Some(range) = self.ranges.last_mut()
        {
            let count = range.len().min(room);
            room -= count;
            taken.push(take_some(range, count, self.falls));
            if range.start == range.end {
                self.ranges.pop();
            }
        }
        Self::new(taken)
    }

    /// Takes at most `limit` places, the lowest first (or the highest).
    pub(crate) fn take(&mut self, limit: usize) -> Vec<usize> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(range) = self.ranges.last_mut() else { break };
            let count = range.len().min(limit - taken.len());
            let some = take_some(range, count, self.falls);
            if self.falls {
                taken.extend(some.rev())
            } else {
                taken.extend(some)
            }
            if range.start == range.end {
                self.ranges.pop();
            }
        }
        taken
    }

    /// Gives a place back: the next [`take`](Self::take) begins with it.
    pub(crate) fn put_back(&mut self, places: &[usize]) {
        if let (Some(&first), Some(&last)) = (places.first(), places.last()) {
            let (low, high) = (first.min(last), first.max(last));
            if high - low + 1 == places.len() {
                self.ranges.push(low..high + 1);
            } else {
                self.ranges.extend(places.iter().rev().map(|&place| place..place + 1));
            }
        }
    }
}

/// Takes so many from the beginning of a range, or from its end.
fn take_some(range: &mut Range<usize>, count: usize, from_end: bool) -> Range<usize> {
    if from_end {
        let start = range.end - count;
        let taken = start..range.end;
        range.end = start;
        taken
    } else {
        let end = range.start + count;
        let taken = range.start..end;
        range.start = end;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn places(numbers: &BTreeSet<usize>) -> Places {
        Places::new(numbers.iter().map(|&number| number..number + 1).collect())
    }

    fn all(mut places: Places) -> Vec<usize> {
        places.take(usize::MAX)
    }

    proptest! {
        #[test]
        fn they_are_a_sorted_list_from_either_end(
            these in prop::collection::btree_set(0_usize..60, 0..40),
            others in prop::collection::btree_set(0_usize..60, 0..40),
            limit in 0_usize..50,
        ) {
            let common = all(places(&these).common(&places(&others)));
            prop_assert_eq!(common, (&these & &others).into_iter().collect::<Vec<_>>());

            let mut highest = places(&these);
            let lowest = highest.keep_highest(limit as u64);
            let mut expected: Vec<usize> = these.iter().rev().take(limit).copied().collect();
            let cut = these.len() > limit;
            prop_assert_eq!(lowest, expected.last().copied().filter(|_| cut));
            highest.fall();
            prop_assert_eq!(all(highest.clone()), expected.clone());

            // Some are done, the rest of a batch is given back, some are split off.
            let batch = highest.take(7);
            let (done, rest) = batch.split_at(batch.len() / 2);
            highest.put_back(rest);
            let split = all(highest.split_off(5));
            let left = expected.split_off(done.len());
            prop_assert_eq!(done, expected);
            let mut ascending: Vec<usize> = left.iter().take(5).copied().collect();
            ascending.reverse();
            prop_assert_eq!(split, ascending);
            prop_assert_eq!(highest.len(), left.len().saturating_sub(5));
            prop_assert_eq!(all(highest), left.into_iter().skip(5).collect::<Vec<_>>());
        }
    }
}
