//! Turns at what takes much memory, shared out so that one account cannot have them all.
//!
//! A job of IMAP that looks into texts, or decodes parts, says how much that takes (`imap::Job::holds_octets`), and a
//! command that puts messages in order (`imap::Job::keeps_octets`). How many work at once is bounded, for they keep
//! processors busy, and how much they hold together. A job ends whoever else waits; a command may wait for the turns of
//! its jobs, but no job waits for that of a command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use store::AccountId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs at once, of all sessions, that may hold whole messages in memory.
const TURNS_MAX: usize = 8;
/// The same of one account: its searches wait for each other, and others go on.
const ACCOUNT_TURNS_MAX: usize = 2;
/// KiB that they hold together: two messages of 100 MB, which take 360 MB each to be looked into, or eight
/// of usual sizes with ease.
const HELD_KIB_MAX: u32 = 768 * 1024;
/// And those of one account: room for the largest message, once. What is larger than this has all of it.
const ACCOUNT_HELD_KIB_MAX: u32 = HELD_KIB_MAX / 2;

/// SORT and THREAD at once, of all sessions: each may take 128 MiB until it is done.
const ORDERS_MAX: usize = 6;
/// The same of one account.
const ACCOUNT_ORDERS_MAX: usize = 2;
/// KiB that they hold together, and those of one account.
const ORDERS_HELD_KIB_MAX: u32 = 768 * 1024;
const ACCOUNT_ORDERS_HELD_KIB_MAX: u32 = 256 * 1024;

pub(crate) struct Turns {
    account_turns_max: usize,
    account_held_kib_max: u32,
    all: Arc<Semaphore>,
    held: Arc<Semaphore>,
    /// Of accounts that have a turn or wait for one.
    accounts: Mutex<HashMap<AccountId, Weak<Own>>>,
}

/// One account's.
struct Own {
    turns: Arc<Semaphore>,
    held: Arc<Semaphore>,
}

/// A turn, until it is dropped.
pub(crate) struct Turn {
    _permits: [OwnedSemaphorePermit; 4],
    /// So that others of the account find it.
    _own: Arc<Own>,
}

impl Turns {
    /// For jobs that hold whole messages.
    pub(crate) fn of_jobs() -> Self {
        Self::new(TURNS_MAX, ACCOUNT_TURNS_MAX, HELD_KIB_MAX, ACCOUNT_HELD_KIB_MAX)
    }

    /// For commands that put messages in order.
    pub(crate) fn of_orders() -> Self {
        let (all, of_account) = (ORDERS_HELD_KIB_MAX, ACCOUNT_ORDERS_HELD_KIB_MAX);
        Self::new(ORDERS_MAX, ACCOUNT_ORDERS_MAX, all, of_account)
    }

    fn new(turns: usize, account_turns_max: usize, kib: u32, account_held_kib_max: u32) -> Self {
        Self {
            account_turns_max,
            account_held_kib_max,
            all: Arc::new(Semaphore::new(turns)),
            held: Arc::new(Semaphore::new(kib as usize)),
            accounts: Mutex::default(),
        }
    }

    /// Waits for a turn of this account, with room for so many octets. `None` never comes: nobody closes what
    /// is waited for.
    pub(crate) async fn wait(&self, account: AccountId, octets: u64) -> Option<Turn> {
        let kib = u32::try_from(octets.div_ceil(1024)).unwrap_or(u32::MAX);
        let kib = kib.min(self.account_held_kib_max);
        let own = self.of(account);
        // First its own: who waits for that waits in nobody else's way. Nobody who has what another waits
        // for waits for anything himself but what comes later here.
        let permits = [
            Arc::clone(&own.turns).acquire_owned().await.ok()?,
            Arc::clone(&own.held).acquire_many_owned(kib).await.ok()?,
            Arc::clone(&self.all).acquire_owned().await.ok()?,
            Arc::clone(&self.held).acquire_many_owned(kib).await.ok()?,
        ];
        Some(Turn { _permits: permits, _own: own })
    }

    fn of(&self, account: AccountId) -> Arc<Own> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = accounts.get(&account).and_then(Weak::upgrade) {
            return own;
        }
        accounts.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Own {
            turns: Arc::new(Semaphore::new(self.account_turns_max)),
            held: Arc::new(Semaphore::new(self.account_held_kib_max as usize)),
        });
        accounts.insert(account, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// The turn that can be had at once.
    fn now(turns: &Turns, account: u64, octets: u64) -> Option<Turn> {
        let wait = pin!(turns.wait(AccountId(account), octets));
        match wait.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(turn) => turn,
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn one_turn_too_many_of_an_account_waits_and_others_do_not() {
        let turns = Turns::of_jobs();
        let mut held: Vec<_> =
            (0..ACCOUNT_TURNS_MAX).map(|_| now(&turns, 1, MIB).expect("a turn")).collect();
        assert!(now(&turns, 1, MIB).is_none());
        held.extend((2..).map_while(|account| now(&turns, account, MIB)));
        assert_eq!(held.len(), TURNS_MAX);
        held.remove(0);
        assert!(now(&turns, 1, MIB).is_some());
        drop(held);
        assert!(now(&turns, 1, MIB).is_some());
    }

    #[test]
    fn octets_past_the_part_of_an_account_wait_and_those_of_others_do_not() {
        let turns = Turns::of_jobs();
        let large = u64::from(ACCOUNT_HELD_KIB_MAX) * 1024;
        let half = now(&turns, 1, large / 2).expect("a turn");
        assert!(now(&turns, 1, large / 2 + MIB).is_none());
        let other = now(&turns, 2, large / 2 + MIB).expect("a turn");
        drop(half);
        // What is larger than the part of an account has all of it, alone.
        let largest = now(&turns, 1, u64::MAX).expect("a turn");
        assert!(now(&turns, 1, MIB).is_none());
        // And past all there is, whoever asks waits.
        assert!(now(&turns, 3, large / 2).is_none());
        assert!(now(&turns, 3, large / 2 - 2 * MIB).is_some());
        drop((other, largest));
        assert!(now(&turns, 3, large).is_some());
    }

    /// However many sessions order messages: as many as fit, each with all that one may take.
    #[test]
    fn one_order_too_many_of_an_account_waits_and_those_of_others_do_not() {
        let orders = Turns::of_orders();
        let one = imap::limits::ORDER_OCTETS_MAX as u64;
        let own = ACCOUNT_ORDERS_MAX;
        let held: Vec<_> = (0..100).map_while(|_| now(&orders, 1, one)).collect();
        assert_eq!(held.len(), own);
        let others: Vec<_> = (2..100).map_while(|account| now(&orders, account, one)).collect();
        assert_eq!(held.len() + others.len(), ORDERS_MAX);
        assert_eq!(ORDERS_MAX as u64 * one, u64::from(ORDERS_HELD_KIB_MAX) * 1024);
        drop(held);
        assert!(now(&orders, 1, one).is_some());
    }
}
