//! Who is told what: sessions of changed mailboxes and of changed accounts.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use store::{AccountId, Elsewhere, MailboxId};
use tokio::sync::{broadcast, watch};

/// Changes of accounts that a session may be behind; one that falls further back looks at its
/// account anyhow.
const ACCOUNT_CHANGES: usize = 64;

/// Where the store's and the operator's changes are handed on to sessions.
pub(crate) struct Hub {
    mailboxes: Mutex<HashMap<MailboxId, watch::Sender<()>>>,
    watched: Mutex<Watched>,
    accounts: broadcast::Sender<Option<AccountId>>,
    cut_off: watch::Sender<()>,
}

/// Accounts with sessions that want to hear of all their mailboxes (NOTIFY).
#[derive(Default)]
struct Watched {
    owners: HashMap<MailboxId, AccountId>,
    senders: HashMap<AccountId, watch::Sender<()>>,
}

impl Watched {
    fn tell(&mut self, account: AccountId) {
        if self.senders.get(&account).is_some_and(|sender| sender.send(()).is_err()) {
            // The last session that watched is gone.
            self.senders.remove(&account);
            self.owners.retain(|_, owner| *owner != account);
        }
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            mailboxes: Mutex::default(),
            watched: Mutex::default(),
            accounts: broadcast::channel(ACCOUNT_CHANGES).0,
            cut_off: watch::channel(()).0,
        }
    }

    /// Something in this mailbox changed. Called by the store's writer: returns at once.
    pub(crate) fn mailbox_changed(&self, mailbox: MailboxId) {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if mailboxes.get(&mailbox).is_some_and(|sender| sender.send(()).is_err()) {
            // The last session that had it open is gone.
            mailboxes.remove(&mailbox);
        }
        drop(mailboxes);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = watched.owners.get(&mailbox).copied() {
            watched.tell(account);
        }
    }

    /// Names, subscriptions or annotations of this account changed.
    pub(crate) fn names_changed(&self, account: AccountId) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).tell(account);
    }

    /// To be told from now on of changes of these mailboxes, which are the account's, and of its names.
    pub(crate) fn watch_all(
        &self,
        account: AccountId,
        mailboxes: &[MailboxId],
    ) -> watch::Receiver<()> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.owners.extend(mailboxes.iter().map(|mailbox| (*mailbox, account)));
        watched.senders.entry(account).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// To be told of changes of a mailbox from now on.
    pub(crate) fn watch_mailbox(&self, mailbox: MailboxId) -> watch::Receiver<()> {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        mailboxes.entry(mailbox).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// This account's credentials or state changed: its sessions end.
    pub(crate) fn account_changed(&self, account: AccountId) {
        // No session, nobody to tell.
        let _ = self.accounts.send(Some(account));
    }

    /// Another process that has the store open did something to an account.
    pub(crate) fn changed_elsewhere(&self, what: Elsewhere) {
        match what {
            Elsewhere::Account(account) => self.account_changed(account),
            Elsewhere::Names(account) => self.names_changed(account),
            Elsewhere::CutOff => {
                // Whether anybody waits or not.
                self.cut_off.send_replace(());
            }
            Elsewhere::Missed => {
                // Each session looks at its own account.
                let _ = self.accounts.send(None);
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                let accounts: Vec<AccountId> = watched.senders.keys().copied().collect();
                accounts.into_iter().for_each(|account| watched.tell(account));
            }
        }
    }

    /// To be told when nothing is heard any more of what others do.
    pub(crate) fn watch_cut_off(&self) -> watch::Receiver<()> {
        self.cut_off.subscribe()
    }

    /// To be told of changes of accounts from now on; of none in particular when some may have been missed.
    pub(crate) fn watch_accounts(&self) -> broadcast::Receiver<Option<AccountId>> {
        self.accounts.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_is_told_and_a_mailbox_nobody_watches_is_forgotten() {
        let hub = Hub::new();
        let mut watcher = hub.watch_mailbox(MailboxId(1));
        hub.mailbox_changed(MailboxId(2));
        assert!(!watcher.has_changed().unwrap());
        hub.mailbox_changed(MailboxId(1));
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        drop(watcher);
        hub.mailbox_changed(MailboxId(1));
        assert!(hub.mailboxes.lock().unwrap().is_empty());
    }

    #[test]
    fn what_others_do_to_accounts_is_told_like_what_is_done_here() {
        let hub = Hub::new();
        let mut sessions = hub.watch_accounts();
        let mut watcher = hub.watch_all(AccountId(1), &[MailboxId(1)]);
        hub.changed_elsewhere(Elsewhere::Account(AccountId(1)));
        assert_eq!(sessions.try_recv(), Ok(Some(AccountId(1))));
        hub.changed_elsewhere(Elsewhere::Names(AccountId(2)));
        assert!(!watcher.has_changed().unwrap());
        hub.changed_elsewhere(Elsewhere::Names(AccountId(1)));
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        assert!(sessions.is_empty());
        hub.changed_elsewhere(Elsewhere::Missed);
        assert_eq!(sessions.try_recv(), Ok(None));
        assert!(watcher.has_changed().unwrap());
        let cut_off = hub.watch_cut_off();
        assert!(!cut_off.has_changed().unwrap());
        hub.changed_elsewhere(Elsewhere::CutOff);
        assert!(cut_off.has_changed().unwrap());
    }

    #[test]
    fn who_watches_an_account_hears_of_each_of_its_mailboxes_and_of_no_other() {
        let hub = Hub::new();
        let mut watcher = hub.watch_all(AccountId(1), &[MailboxId(1), MailboxId(2)]);
        hub.mailbox_changed(MailboxId(3));
        hub.names_changed(AccountId(2));
        assert!(!watcher.has_changed().unwrap());
        hub.mailbox_changed(MailboxId(2));
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        hub.names_changed(AccountId(1));
        assert!(watcher.has_changed().unwrap());
        drop(watcher);
        hub.mailbox_changed(MailboxId(1));
        let watched = hub.watched.lock().unwrap();
        assert!(watched.owners.is_empty() && watched.senders.is_empty());
    }
}
