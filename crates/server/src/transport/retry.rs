//! When a message is tried again: growing delays, scattered, and an end.

use std::time::Duration;

use store::Timestamp;

/// The delay after the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// Each further one is so many times as long,
const GROWTH: u32 = 2;
/// up to this.
const MAX: Duration = Duration::from_secs(30 * 60);

/// When a message that was queued at `queued` and has failed `attempts` times before is tried again,
/// or `None` when its time is over (PEC-BT-14). `scatter` is any number: delays differ by up to a
/// quarter either way, so that what failed together is not tried together for ever.
pub(super) fn next(
    queued: Timestamp,
    now: Timestamp,
    attempts: u32,
    idle_max: Duration,
    scatter: u64,
) -> Option<Timestamp> {
    let end = queued.checked_add(idle_max).unwrap_or(Timestamp::MAX);
    if now >= end {
        return None;
    }
    let delay = FIRST.saturating_mul(GROWTH.saturating_pow(attempts.min(20))).min(MAX);
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let scattered = millis - millis / 4 + scatter % (millis / 2 + 1);
    let at = now.checked_add(Duration::from_millis(scattered)).unwrap_or(end);
    // The last try is when its time ends, not when the delay would have it.
    Some(at.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn delays_grow_and_are_scattered_by_a_quarter() {
        for (attempts, secs) in [(0, 2), (1, 4), (5, 64), (9, 1024), (10, 1800), (u32::MAX, 1800)] {
            let delay = |scatter| {
                let due = next(at(0), at(0), attempts, DAY, scatter).unwrap();
                due.duration_since(at(0)).as_millis()
            };
            let millis = secs * 1000;
            assert_eq!(delay(0), millis * 3 / 4);
            assert_eq!(delay(u64::try_from(millis / 2).unwrap()), millis * 5 / 4);
            for scatter in [1, 7, u64::MAX] {
                assert!((millis * 3 / 4..=millis * 5 / 4).contains(&delay(scatter)));
            }
        }
    }

    // PEC-BT-14
    #[test]
    fn after_a_day_in_the_queue_nothing_is_tried_again() {
        let day = 24 * 3_600;
        assert_eq!(next(at(0), at(day - 1), 30, DAY, 0), Some(at(day)));
        assert_eq!(next(at(0), at(day), 30, DAY, 0), None);
        assert_eq!(next(at(5), at(day + 4), 0, DAY, 9), Some(at(day + 5)));
    }
}
