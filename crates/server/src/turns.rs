//! Turns at what takes much memory, shared out so that one account cannot have them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use store::AccountId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs at once, of all sessions, that may hold a whole message in memory: parts are found, and texts
/// searched, in at most so many messages of 100 MB at a time.
const TURNS_MAX: usize = 8;
/// The same of one account: its searches wait for each other, and others go on.
const ACCOUNT_TURNS_MAX: usize = 2;

pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// Of accounts that have a turn or wait for one.
    accounts: Mutex<HashMap<AccountId, Weak<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(TURNS_MAX)), accounts: Mutex::default() }
    }
}

/// A turn, until it is dropped.
pub(crate) struct Turn {
    _account: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    /// Waits for a turn of this account. `None` never comes: nobody closes what is waited for.
    pub(crate) async fn wait(&self, account: AccountId) -> Option<Turn> {
        let own = self.of(account).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _account: own, _of_all: of_all })
    }

    fn of(&self, account: AccountId) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = accounts.get(&account).and_then(Weak::upgrade) {
            return turns;
        }
        accounts.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(ACCOUNT_TURNS_MAX));
        accounts.insert(account, Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// The turn that can be had at once.
    fn now(turns: &Turns, account: u64) -> Option<Turn> {
        let wait = pin!(turns.wait(AccountId(account)));
        match wait.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(turn) => turn,
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn one_turn_too_many_of_an_account_waits_and_others_do_not() {
        let turns = Turns::default();
        let mut held: Vec<_> =
            (0..ACCOUNT_TURNS_MAX).map(|_| now(&turns, 1).expect("a turn")).collect();
        assert!(now(&turns, 1).is_none());
        held.extend((2..).map_while(|account| now(&turns, account)));
        assert_eq!(held.len(), TURNS_MAX);
        held.remove(0);
        assert!(now(&turns, 1).is_some());
        drop(held);
        assert!(now(&turns, 1).is_some());
    }
}
