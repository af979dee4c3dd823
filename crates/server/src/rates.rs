//! How much an account, an address and a network of strangers, and a destination may send in a minute, an hour and a
//! day: `[limits]` says it, and who passes it is told when to come again.
//!
//! What was counted is in memory, and written down now and then and at a stop ([`kept`]): a restart forgets
//! nothing, and a crash the last minute.

mod kept;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail::Domain;
use smtp::{Reply, Status};
use store::AccountId;

use crate::limits::{customer, neighbours};

/// Whose messages are counted at once, at most. Beyond, those who sent least are forgotten: many
/// others cannot make somebody forgotten who sends much.
const SUBJECTS_MAX: usize = 50_000;
/// The times over which is counted, and what they are called.
const WINDOWS: [(Duration, &str); 3] = [
    (Duration::from_secs(60), "a minute"),
    (Duration::from_secs(3_600), "an hour"),
    (Duration::from_secs(86_400), "a day"),
];

/// How many in a minute, an hour and a day; 0: as many as there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rate(pub(crate) [u32; 3]);

/// Who sends, or where to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Account(AccountId),
    /// Of IPv6 a /64.
    Address(IpAddr),
    /// A /24, of IPv6 a /48.
    Network(IpAddr),
    Destination(Domain),
}

impl Subject {
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(customer(address))
    }

    pub(crate) fn network(address: IpAddr) -> Self {
        Self::Network(neighbours(address))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Account(_) => "your account",
            Self::Address(_) => "your address",
            Self::Network(_) => "your network",
            Self::Destination(_) => "this server to that domain",
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Messages,
    Recipients,
}

/// One too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exceeded {
    whose: &'static str,
    what: What,
    window: &'static str,
    /// When there is room again.
    pub(crate) retry_after: Duration,
}

impl Exceeded {
    /// What the client is told.
    pub(crate) fn reply(&self) -> Reply {
        let what = match self.what {
            What::Messages => "messages",
            What::Recipients => "recipients",
        };
        let Self { whose, window, .. } = self;
        let secs = self.retry_after.as_secs() + 1;
        Reply::refusal(
            450,
            Status(4, 7, 1),
            &format!("Too many {what} of {whose} in {window}: try again in {secs} seconds"),
        )
    }
}

/// The counts of all.
#[derive(Default)]
pub(crate) struct Rates {
    tallies: Mutex<HashMap<Subject, Tally>>,
    /// Something was counted since it was written down.
    changed: AtomicBool,
}

#[derive(Clone, Copy)]
struct Tally {
    messages: Count,
    recipients: Count,
}

impl Tally {
    fn new(now: Instant) -> Self {
        Self { messages: Count::new(now), recipients: Count::new(now) }
    }

    fn of(&mut self, what: What) -> &mut Count {
        match what {
            What::Messages => &mut self.messages,
            What::Recipients => &mut self.recipients,
        }
    }

    fn of_the_day(&self) -> u32 {
        self.messages.counted[2].max(self.recipients.counted[2])
    }

    fn is_over(&self, now: Instant) -> bool {
        [self.messages, self.recipients]
            .iter()
            .all(|count| now.duration_since(count.began[2]) >= WINDOWS[2].0)
    }
}

/// Of the minute, the hour and the day that is running.
#[derive(Clone, Copy)]
struct Count {
    began: [Instant; 3],
    counted: [u32; 3],
}

impl Count {
    const fn new(now: Instant) -> Self {
        Self { began: [now; 3], counted: [0; 3] }
    }

    /// One more, or how long until there is room and in which window.
    fn add(&mut self, rate: Rate, now: Instant) -> Result<(), (Duration, &'static str)> {
        for (at, (length, name)) in WINDOWS.into_iter().enumerate() {
            let since = now.duration_since(self.began[at]);
            if since >= length {
                self.began[at] = now;
                self.counted[at] = 0;
            } else if rate.0[at] != 0 && self.counted[at] >= rate.0[at] {
                return Err((length - since, name));
            }
        }
        self.counted = self.counted.map(|counted| counted.saturating_add(1));
        Ok(())
    }
}

impl Rates {
    /// Counts one more; or nothing, when it would be one too many.
    ///
    /// # Errors
    ///
    /// Which limit it would pass.
    pub(crate) fn count(
        &self,
        subject: Subject,
        what: What,
        rate: Rate,
        now: Instant,
    ) -> Result<(), Exceeded> {
        if rate == Rate::default() {
            return Ok(());
        }
        let whose = subject.name();
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if tallies.len() >= SUBJECTS_MAX && !tallies.contains_key(&subject) {
            make_room(&mut tallies, now);
        }
        let tally = tallies.entry(subject).or_insert_with(|| Tally::new(now));
        self.changed.store(true, Ordering::Relaxed);
        tally.of(what).add(rate, now).map_err(|(retry_after, window)| {
            metrics::counter!("ceralacca_rate_limited_total").increment(1);
            Exceeded { whose, what, window, retry_after }
        })
    }
}

fn make_room(tallies: &mut HashMap<Subject, Tally>, now: Instant) {
    tallies.retain(|_, tally| !tally.is_over(now));
    let mut least = 1;
    while tallies.len() >= SUBJECTS_MAX {
        tallies.retain(|_, tally| tally.of_the_day() > least);
        least *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> Subject {
        Subject::Account(AccountId(1))
    }

    #[test]
    fn one_past_each_limit_is_told_when_to_come_again() {
        let (rates, began) = (Rates::default(), Instant::now());
        let rate = Rate([2, 3, 4]);
        let at = |secs| {
            let now = began + Duration::from_secs(secs);
            rates.count(anna(), What::Messages, rate, now).map_err(|over| over.reply().to_string())
        };
        assert_eq!((at(0), at(10)), (Ok(()), Ok(())));
        let told = |window, secs| {
            Err(format!(
                "450 4.7.1 Too many messages of your account in {window}: try again in {secs} \
                 seconds"
            ))
        };
        assert_eq!(at(20), told("a minute", 41));
        assert_eq!(at(60), Ok(()));
        // Nothing was counted of what was refused.
        assert_eq!(at(61), told("an hour", 3_540));
        assert_eq!(at(3_600), Ok(()));
        assert_eq!(at(3_601), told("a day", 82_800));
        assert_eq!(at(86_400), Ok(()));
    }

    #[test]
    fn each_is_counted_alone_and_none_where_there_is_no_limit() {
        let (rates, now) = (Rates::default(), Instant::now());
        let one = Rate([1, 0, 0]);
        assert!(rates.count(anna(), What::Messages, one, now).is_ok());
        assert!(rates.count(anna(), What::Recipients, one, now).is_ok());
        assert!(rates.count(Subject::Account(AccountId(2)), What::Messages, one, now).is_ok());
        let counted = |subject: Subject| rates.count(subject, What::Messages, one, now).is_ok();
        let address = |text: &str| Subject::address(text.parse().unwrap());
        assert!(counted(address("2001:db8::1")) && !counted(address("2001:db8::2")));
        assert!(counted(address("2001:db8:0:1::1")));
        assert!(counted(address("192.0.2.1")) && counted(address("192.0.2.2")));
        assert!(!counted(address("::ffff:192.0.2.2")));
        let network = |text: &str| Subject::network(text.parse().unwrap());
        assert!(counted(network("2001:db8::1")) && !counted(network("2001:db8:0:1::1")));
        assert!(counted(network("2001:db8:1::1")));
        assert!(counted(network("192.0.2.1")) && !counted(network("::ffff:192.0.2.255")));
        assert!(counted(network("192.0.3.0")));
        for _ in 0..1000 {
            assert!(rates.count(anna(), What::Messages, Rate::default(), now).is_ok());
        }
        assert!(rates.count(anna(), What::Messages, one, now).is_err());
    }

    #[test]
    fn one_subject_past_the_bound_makes_those_forgotten_who_sent_least() {
        let (rates, now) = (Rates::default(), Instant::now());
        let rate = Rate([0, 0, 3]);
        for _ in 0..3 {
            assert!(rates.count(anna(), What::Messages, rate, now).is_ok());
        }
        for number in 0..SUBJECTS_MAX as u64 + 1 {
            let other = Subject::Account(AccountId(10 + number));
            assert!(rates.count(other, What::Messages, rate, now).is_ok());
            assert!(rates.tallies.lock().unwrap().len() <= SUBJECTS_MAX);
        }
        assert!(rates.count(anna(), What::Messages, rate, now).is_err());
    }
}
