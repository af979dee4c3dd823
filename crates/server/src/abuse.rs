//! The rule by which an account that suddenly behaves like a spammer's is suspended (`[abuse]`): a
//! burst of messages, many recipients who are not there, mail in the middle of the night.
//!
//! `account resume` lets it go on. What was counted is kept in memory. In which countries accounts sign in
//! is in [`abroad`].

pub(crate) mod abroad;
pub(crate) mod countries;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::{Account, AccountChange, AccountId, LogRecord, State, Transaction};

use crate::config::Abuse;
use crate::site::Site;

/// Over which a burst is counted.
const BURST_WINDOW: Duration = Duration::from_secs(600);
/// Over which recipients who are not there are counted.
const UNKNOWN_WINDOW: Duration = Duration::from_secs(3_600);
/// Over which messages of the night are counted: one night.
const NIGHT_WINDOW: Duration = Duration::from_secs(12 * 3_600);
/// Accounts that are watched at once, at most; beyond, those seen longest ago are forgotten. As many that the
/// rule caught are known: those that the store knows to be suspended are refused by that, too.
const ACCOUNTS_MAX: usize = 50_000;

/// What an account did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It sent a message, at this hour of the legal day.
    Message { hour: i8 },
    /// It named a recipient of ours who is not there.
    UnknownRecipient,
}

/// What the rule says of a deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// It is one too many, for this reason: the account is to be suspended.
    Freeze(String),
    /// One before it was: whichever session that was in.
    Frozen(String),
}

/// Counts what accounts do.
#[derive(Default)]
pub(crate) struct Watch {
    seen: Mutex<HashMap<AccountId, Seen>>,
    frozen: Mutex<HashMap<AccountId, Frozen>>,
}

/// An account that the rule caught: from then on nothing is taken in any of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) reason: String,
    since: Instant,
    /// The store knows that it is suspended.
    written: bool,
}

struct Seen {
    last: Instant,
    burst: Count,
    unknown: Count,
    night: Count,
}

#[derive(Clone, Copy)]
struct Count {
    began: Instant,
    counted: u32,
}

impl Count {
    /// One more in this window; whether they are more than `max` now (0: no rule).
    fn passes(&mut self, max: u32, window: Duration, now: Instant) -> bool {
        if now.duration_since(self.began) >= window {
            *self = Self { began: now, counted: 0 };
        }
        self.counted = self.counted.saturating_add(1);
        max != 0 && self.counted > max
    }
}

impl Watch {
    /// Notes a deed, and holds it against the rule.
    pub(crate) fn note(
        &self,
        account: AccountId,
        deed: Deed,
        rule: &Abuse,
        now: Instant,
    ) -> Verdict {
        if !rule.is_set() {
            return Verdict::Fine;
        }
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = frozen.get(&account) {
            return Verdict::Frozen(known.reason.clone());
        }
        let Some(reason) = self.count(account, deed, rule, now) else { return Verdict::Fine };
        if frozen.len() >= ACCOUNTS_MAX {
            frozen.retain(|_, one| !one.written);
        }
        frozen.insert(account, Frozen { reason: reason.clone(), since: now, written: false });
        Verdict::Freeze(reason)
    }

    /// Whether the rule caught it, and why.
    pub(crate) fn frozen(&self, account: AccountId) -> Option<Frozen> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).get(&account).cloned()
    }

    /// The store knows it.
    fn written(&self, account: AccountId) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = frozen.get_mut(&account) {
            one.written = true;
        }
    }

    /// It could not be suspended, and goes on.
    fn thaw(&self, account: AccountId) {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).remove(&account);
    }

    /// Whether it goes on: it was known as `before` when the store was asked, which knows it as active. That is
    /// an operator's word if the store had been told before.
    pub(crate) fn resume(&self, account: AccountId, before: Option<&Frozen>) -> Option<Frozen> {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some_and(|before| before.written) && frozen.get(&account) == before {
            frozen.remove(&account);
        }
        frozen.get(&account).cloned()
    }

    /// One more deed; the reason to suspend its account, if it is one too many.
    fn count(&self, account: AccountId, deed: Deed, rule: &Abuse, now: Instant) -> Option<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= ACCOUNTS_MAX && !seen.contains_key(&account) {
            seen.retain(|_, one| now.duration_since(one.last) < BURST_WINDOW);
            if seen.len() >= ACCOUNTS_MAX {
                seen.clear();
            }
        }
        let none = Count { began: now, counted: 0 };
        let one = seen.entry(account).or_insert(Seen {
            last: now,
            burst: none,
            unknown: none,
            night: none,
        });
        one.last = now;
        let reason = match deed {
            Deed::Message { hour } => {
                let night =
                    rule.is_night(hour) && one.night.passes(rule.night_messages, NIGHT_WINDOW, now);
                if one.burst.passes(rule.burst, BURST_WINDOW, now) {
                    Some(format!("more than {} messages in ten minutes", rule.burst))
                } else {
                    night.then(|| format!("more than {} messages at night", rule.night_messages))
                }
            }
            Deed::UnknownRecipient => {
                one.unknown.passes(rule.unknown_recipients, UNKNOWN_WINDOW, now).then(|| {
                    let count = rule.unknown_recipients;
                    format!("more than {count} recipients that do not exist in an hour")
                })
            }
        };
        if reason.is_some() {
            // Resumed, it begins anew.
            seen.remove(&account);
        }
        reason
    }
}

/// Suspends an account, and writes down why. Blocks.
///
/// # Errors
///
/// When the store cannot do it: then the account goes on, and the log says so.
pub(crate) fn freeze(site: &Arc<Site>, account: &Account, reason: &str) -> anyhow::Result<()> {
    let suspend = AccountChange::State(State::Suspended);
    if let Err(error) = site.store.change_account(account.id, suspend) {
        site.watch.thaw(account.id);
        return Err(error.into());
    }
    site.watch.written(account.id);
    metrics::counter!("ceralacca_accounts_frozen_total").increment(1);
    tracing::warn!(target: "smtp", account = %account.address, reason, "an account is suspended by the rule of [abuse]: see `account resume`");
    site.hub.account_changed(account.id);
    write_down(site, account, "sospensione", reason)
}

/// A log record about what an account was seen to do. Blocks.
fn write_down(site: &Site, account: &Account, event: &str, reason: &str) -> anyhow::Result<()> {
    let at = site.clock.now();
    let record = LogRecord {
        time: at,
        event: event.to_owned(),
        mittente: Some(account.address.to_string()),
        gestore: Some(site.provider.name.clone()),
        errore_esteso: Some(reason.to_owned()),
        ..LogRecord::default()
    };
    site.store.commit(Transaction { at, log: vec![record], ..Transaction::default() })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: AccountId = AccountId(1);
    const RULE: Abuse =
        Abuse { burst: 2, unknown_recipients: 1, night: Some((22, 6)), night_messages: 1 };

    #[test]
    fn one_past_each_rule_is_a_reason_and_then_it_begins_anew() {
        let (watch, began) = (Watch::default(), Instant::now());
        let at = |secs, deed| {
            let told = watch.note(ANNA, deed, &RULE, began + Duration::from_secs(secs));
            match told {
                Verdict::Fine => None,
                Verdict::Freeze(reason) => {
                    // Whatever session asks: nothing more until it goes on.
                    assert_eq!(
                        watch.note(ANNA, deed, &RULE, began),
                        Verdict::Frozen(reason.clone())
                    );
                    let frozen = watch.frozen(ANNA).unwrap();
                    assert_eq!((&frozen.reason, frozen.written), (&reason, false));
                    // What the store said before it was told is no word of an operator's.
                    assert_eq!(watch.resume(ANNA, None), Some(frozen.clone()));
                    assert_eq!(watch.resume(ANNA, Some(&frozen)), Some(frozen.clone()));
                    watch.written(ANNA);
                    assert!(watch.resume(ANNA, Some(&frozen)).is_some());
                    let written = watch.frozen(ANNA);
                    assert_eq!(watch.resume(ANNA, written.as_ref()), None);
                    Some(reason)
                }
                Verdict::Frozen(reason) => panic!("still frozen: {reason}"),
            }
        };
        let by_day = Deed::Message { hour: 12 };
        assert_eq!((at(0, by_day), at(1, by_day)), (None, None));
        assert_eq!(at(2, by_day).as_deref(), Some("more than 2 messages in ten minutes"));
        assert_eq!((at(3, by_day), at(4, by_day)), (None, None));
        assert_eq!(at(603, by_day), None, "the window is over");
        assert_eq!(at(700, Deed::UnknownRecipient), None);
        assert_eq!(
            at(701, Deed::UnknownRecipient).as_deref(),
            Some("more than 1 recipients that do not exist in an hour")
        );
        assert_eq!(at(5_000, Deed::Message { hour: 23 }), None);
        assert_eq!(
            at(9_000, Deed::Message { hour: 5 }).as_deref(),
            Some("more than 1 messages at night")
        );
        assert_eq!(at(20_000, Deed::Message { hour: 6 }), None);
    }

    #[test]
    fn one_account_past_the_bound_makes_those_forgotten_that_were_seen_longest_ago() {
        let (watch, began) = (Watch::default(), Instant::now());
        let note = |account: u64, secs: u64| {
            let at = began + Duration::from_secs(secs);
            let told = watch.note(AccountId(account), Deed::Message { hour: 12 }, &RULE, at);
            (told != Verdict::Fine).then_some(told)
        };
        let watched = || watch.seen.lock().unwrap().len();
        let max = ACCOUNTS_MAX as u64;
        // One that sends, and as many others as there is room for, most of them long ago.
        for account in 2..=max {
            assert_eq!(note(account, 0), None);
        }
        assert_eq!((note(1, 600), note(1, 600)), (None, None));
        assert_eq!(watched(), ACCOUNTS_MAX);
        assert_eq!(note(max + 1, 600), None);
        assert_eq!(watched(), 2, "of the others the window is over");
        assert!(note(1, 601).is_some(), "what it had sent is not forgotten");
        // All of them at once: then nobody is watched any more, and memory stays within its bound.
        for account in 10..10 + 2 * max {
            assert_eq!(note(account, 601), None);
            assert!(watched() <= ACCOUNTS_MAX);
        }
    }

    #[test]
    fn without_a_rule_nothing_is_noted() {
        let watch = Watch::default();
        for _ in 0..1_000 {
            let deed = Deed::Message { hour: 3 };
            let told = watch.note(ANNA, deed, &Abuse::default(), Instant::now());
            assert_eq!(told, Verdict::Fine);
        }
        assert!(watch.seen.lock().unwrap().is_empty());
    }
}
