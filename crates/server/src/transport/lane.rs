//! What is known about a destination while mail for it is under way: how many connections it is
//! good for, and until when it is left alone. In memory only: after a restart it is found out again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use store::{JobId, Timestamp};

/// Connections to one destination that are tried at first.
const WINDOW_FIRST: u32 = 2;
/// And at most: hosts that are polite to each other stay below some twenty.
pub(super) const WINDOW_MAX: u32 = 20;
/// Destinations that are remembered at most; of more, those that nothing is under way for are
/// forgotten, and simply tried.
pub(super) const LANES_MAX: usize = 65_536;
/// How long a destination that cannot be reached is left alone at first; each further failure
/// doubles it.
const HOLD_FIRST: Duration = Duration::from_secs(1);
/// And at most. Its messages have longer delays of their own; this only bounds how late the first
/// new one finds out that the destination is back.
const HOLD_MAX: Duration = Duration::from_secs(300);

/// One destination.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) under_way: HashSet<JobId>,
    connections: u32,
    /// Connections it is good for: grows with each message it takes, shrinks when it fails.
    window: u32,
    failures: u32,
    held_until: Option<Timestamp>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            under_way: HashSet::new(),
            connections: 0,
            window: WINDOW_FIRST,
            failures: 0,
            held_until: None,
        }
    }
}

impl Lane {
    /// Whether it is left alone now.
    pub(super) fn is_held(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    /// Somebody asks that it be tried at once: one connection finds out whether it is back, and how
    /// long the next hold is stays as it was.
    pub(super) fn release(&mut self) {
        self.held_until = None;
    }

    /// How many more connections it is good for now.
    pub(super) fn room(&self, now: Timestamp) -> u32 {
        if self.is_held(now) {
            return 0;
        }
        // After a failure one connection finds out whether it is back.
        let window = if self.failures > 0 { 1 } else { self.window };
        window.saturating_sub(self.connections)
    }

    pub(super) fn enter(&mut self) {
        self.connections += 1;
    }

    pub(super) fn leave(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    /// It took a message, or said no to it in good order.
    pub(super) fn works(&mut self) {
        self.failures = 0;
        self.held_until = None;
        self.window = (self.window + 1).min(WINDOW_MAX);
    }

    /// It could not be reached, or broke off.
    pub(super) fn fails(&mut self, now: Timestamp) {
        let hold = HOLD_FIRST.saturating_mul(1 << self.failures.min(16)).min(HOLD_MAX);
        self.failures = self.failures.saturating_add(1);
        self.window = (self.window / 2).max(1);
        self.held_until = now.checked_add(hold).ok();
    }

    fn is_idle(&self) -> bool {
        self.connections == 0 && self.under_way.is_empty()
    }
}

/// Makes room for another destination: of those that nothing is under way for, the ones that are not
/// held are forgotten first.
pub(super) fn make_room(lanes: &mut HashMap<String, Lane>, now: Timestamp) {
    if lanes.len() < LANES_MAX {
        return;
    }
    lanes.retain(|_, lane| !lane.is_idle() || lane.is_held(now));
    if lanes.len() >= LANES_MAX {
        lanes.retain(|_, lane| !lane.is_idle());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn concurrency_grows_with_success_and_shrinks_with_failure_within_its_bounds() {
        let mut lane = Lane::default();
        assert_eq!(lane.room(at(0)), WINDOW_FIRST);
        lane.enter();
        assert_eq!(lane.room(at(0)), WINDOW_FIRST - 1);
        for _ in 0..2 * WINDOW_MAX {
            lane.works();
        }
        assert_eq!(lane.room(at(0)), WINDOW_MAX - 1);
        lane.leave();
        lane.fails(at(0));
        assert_eq!(lane.room(at(0)), 0, "it is left alone");
        assert_eq!(lane.room(at(1)), 1, "one finds out whether it is back");
        lane.works();
        assert_eq!(lane.room(at(1)), WINDOW_MAX / 2 + 1);
        for _ in 0..40 {
            lane.fails(at(0));
        }
        let hold = i64::try_from(HOLD_MAX.as_secs()).unwrap();
        assert_eq!((lane.room(at(hold - 1)), lane.room(at(hold))), (0, 1));
    }

    #[test]
    fn a_destination_that_is_released_is_tried_once_and_held_for_as_long_as_it_would_have_been() {
        let mut lane = Lane::default();
        for _ in 0..3 {
            lane.fails(at(0));
        }
        assert!(lane.is_held(at(3)) && lane.room(at(3)) == 0);
        lane.release();
        assert!(!lane.is_held(at(0)) && lane.room(at(0)) == 1);
        lane.fails(at(3));
        assert!(lane.is_held(at(10)) && !lane.is_held(at(11)));
    }

    #[test]
    fn one_destination_past_the_bound_makes_the_idle_ones_forgotten() {
        let mut lanes: HashMap<String, Lane> = HashMap::new();
        for number in 0..LANES_MAX {
            lanes.insert(format!("{number}.example"), Lane::default());
        }
        lanes.get_mut("7.example").unwrap().enter();
        lanes.get_mut("8.example").unwrap().fails(at(0));
        make_room(&mut lanes, at(0));
        let mut left: Vec<&str> = lanes.keys().map(String::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["7.example", "8.example"]);
    }
}
