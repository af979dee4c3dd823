//! What a process has to do with others that have the same store open.

use crate::{AccountId, MailboxId};

/// What another process did to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// The account was changed or removed.
    Account(AccountId),
    /// Names, subscriptions or annotations of the account changed.
    Names(AccountId),
    /// Something may have been missed: any of these, of any account.
    Missed,
    /// Nothing is heard any more, and has not been for seconds: who waits to be told should wait elsewhere.
    CutOff,
}

/// Called after another process's commit with what it did to an account, and when nothing is heard of others any more. It must not block, and must not
/// call the store.
pub type ElsewhereListener = Box<dyn Fn(Elsewhere) + Send + Sync>;

/// The part that one process has in the work that is done once for all who have the store open.
///
/// Two may think for a moment that they have the same part, when one is thought dead and is not: what
/// they do is right all the same, and only done twice. Nothing relies on it but speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    place: u64,
    of: u64,
}

impl Share {
    /// All of it.
    pub const ALL: Self = Self { place: 0, of: 1 };
    /// Nothing of it.
    pub const NONE: Self = Self { place: 0, of: 0 };

    /// That of the process at this place, counted from 0, among so many; nothing beyond the last.
    #[must_use]
    pub const fn new(place: u64, of: u64) -> Self {
        if place < of { Self { place, of } } else { Self::NONE }
    }

    /// Whether what only one does is for this one.
    #[must_use]
    pub const fn leads(self) -> bool {
        self.of > 0 && self.place == 0
    }

    /// Whether what one does for a mailbox is for this one.
    #[must_use]
    pub const fn has(self, mailbox: MailboxId) -> bool {
        match mailbox.0.checked_rem(self.of) {
            Some(place) => place == self.place,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mailbox_is_one_processs_and_one_leads() {
        for of in 1..5 {
            let shares: Vec<_> = (0..of).map(|place| Share::new(place, of)).collect();
            assert_eq!(shares.iter().filter(|share| share.leads()).count(), 1);
            for mailbox in (0..20).map(MailboxId) {
                assert_eq!(shares.iter().filter(|share| share.has(mailbox)).count(), 1);
            }
        }
        assert_eq!(Share::new(0, 1), Share::ALL);
        for none in [Share::NONE, Share::new(0, 0), Share::new(2, 2)] {
            assert!(!none.leads() && !none.has(MailboxId(0)));
        }
    }
}
