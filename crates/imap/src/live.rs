//! What all sessions of a mailbox have in common: the list of its messages, and the latest changes.
//!
//! A change is read from the store once, by whichever session asks first, and told to all from here; nobody
//! polls. A session remembers up to which mod-sequence it has told its client, and takes what came
//! after. One that is too far behind, or whose mailbox is gone, reads the store itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use store::{Changes, FlagUpdate, MailboxId, ModSeq, Opened, Store, StoreError, Uid, UidSet};

use crate::uids::Uids;

/// Changed messages and ranges of expunged ones that a view remembers at most: what sessions that are
/// at work can be behind.
const NEWS_MAX: usize = 10_000;

/// The mailboxes that some session has open.
#[derive(Debug, Default)]
pub struct Views {
    mailboxes: Mutex<HashMap<MailboxId, Weak<View>>>,
}

/// A mailbox that some session has open.
#[derive(Debug)]
pub(crate) struct View {
    mailbox: MailboxId,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    mod_seq: ModSeq,
    /// The messages there are at `mod_seq`.
    uids: Arc<Uids>,
    /// The latest changes, each with the mod-sequence that it begins after; they follow each other.
    news: VecDeque<(ModSeq, Arc<Changes>)>,
}

/// A mailbox as a session finds it.
pub(crate) struct Entered {
    pub(crate) view: Arc<View>,
    pub(crate) uids: Arc<Uids>,
    pub(crate) opened: Opened,
}

/// What a session did not know.
pub(crate) struct News {
    pub(crate) changes: Arc<Changes>,
    /// The messages there are at the mod-sequence of these changes, if this is known.
    pub(crate) uids: Option<Arc<Uids>>,
}

impl Views {
    /// Of the mailboxes of a store; those that nobody has open any more are forgotten when they change.
    pub fn of(store: &dyn Store) -> Arc<Self> {
        let views = Arc::new(Self::default());
        let listening = Arc::downgrade(&views);
        store.listen(Box::new(move |mailbox| {
            if let Some(views) = listening.upgrade() {
                views.changed(mailbox);
            }
        }));
        views
    }

    fn changed(&self, mailbox: MailboxId) {
        let mut mailboxes = lock(&self.mailboxes);
        // The last session that had it open is gone.
        if mailboxes.get(&mailbox).is_some_and(|view| view.strong_count() == 0) {
            mailboxes.remove(&mailbox);
        }
    }

    /// Takes part in the view of a mailbox that was just opened.
    pub(crate) fn enter(&self, mailbox: MailboxId, opened: Opened) -> Entered {
        let uids = Arc::new(Uids::of(&opened.uids));
        let mut mailboxes = lock(&self.mailboxes);
        let view = match mailboxes.get(&mailbox).and_then(Weak::upgrade) {
            Some(view) => view,
            None => {
                let (mod_seq, uids) = (opened.status.mod_seq, Arc::clone(&uids));
                let live = Live { mod_seq, uids, news: VecDeque::new() };
                let view = Arc::new(View { mailbox, live: Mutex::new(live) });
                mailboxes.insert(mailbox, Arc::downgrade(&view));
                view
            }
        };
        drop(mailboxes);
        let live = lock(&view.live);
        let uids =
            if live.mod_seq == opened.status.mod_seq { Arc::clone(&live.uids) } else { uids };
        drop(live);
        Entered { view, uids, opened }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever is in there is put in place whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// What happened after `since`.
    pub(crate) fn news(&self, store: &dyn Store, since: ModSeq) -> Result<News, StoreError> {
        // Asked each time, which costs little: what a session has read of a message itself must never be
        // newer than what it is told here.
        let current = store.status(self.mailbox)?.mod_seq;
        let mut live = lock(&self.live);
        if live.mod_seq < current {
            let changes = store.changes(self.mailbox, live.mod_seq)?;
            live.learn(changes);
        }
        if let Some(changes) = live.after(since) {
            return Ok(News { changes, uids: Some(Arc::clone(&live.uids)) });
        }
        drop(live);
        Ok(News { changes: Arc::new(store.changes(self.mailbox, since)?), uids: None })
    }
}

impl Live {
    fn learn(&mut self, changes: Changes) {
        if changes.mod_seq == self.mod_seq {
            return;
        }
        let before = std::mem::replace(&mut self.mod_seq, changes.mod_seq);
        let highest = self.uids.last();
        let uids = Arc::make_mut(&mut self.uids);
        uids.remove(&changes.expunged);
        let arrived = changes.updated.iter().filter(|update| Some(update.uid) > highest);
        arrived.for_each(|update| uids.push(update.uid));
        self.news.push_back((before, Arc::new(changes)));
        let mut kept: usize = self.news.iter().map(|(_, changes)| weight(changes)).sum();
        while kept > NEWS_MAX
            && let Some((_, oldest)) = self.news.pop_front()
        {
            kept -= weight(&oldest);
        }
    }

    /// The changes after `since`, as one; `None` when they are not all here.
    fn after(&self, since: ModSeq) -> Option<Arc<Changes>> {
        if since >= self.mod_seq {
            let nothing =
                Changes { mod_seq: since, updated: Vec::new(), expunged: UidSet::default() };
            return Some(Arc::new(nothing));
        }
        let from = self.news.partition_point(|(_, changes)| changes.mod_seq <= since);
        let (before, first) = self.news.get(from)?;
        if *before > since {
            return None;
        }
        if *before == since && from + 1 == self.news.len() {
            return Some(Arc::clone(first));
        }
        let mut updated: BTreeMap<Uid, &FlagUpdate> = BTreeMap::new();
        let mut expunged = UidSet::default();
        for (_, changes) in self.news.iter().skip(from) {
            updated.extend(changes.updated.iter().map(|update| (update.uid, update)));
            expunged = expunged.union(&changes.expunged);
        }
        // What was new and is gone again was never there.
        let there = |update: &&FlagUpdate| update.mod_seq > since && !expunged.contains(update.uid);
        let updated = updated.into_values().filter(there).cloned().collect();
        Some(Arc::new(Changes { mod_seq: self.mod_seq, updated, expunged }))
    }
}

fn weight(changes: &Changes) -> usize {
    1 + changes.updated.len() + changes.expunged.ranges().len()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use store::Flags;

    use super::*;

    fn uid(number: u32) -> Uid {
        Uid(NonZeroU32::new(number).unwrap())
    }

    fn changes(mod_seq: u64, updated: &[(u32, u64)], gone: &[u32]) -> Changes {
        let update = |&(number, mod_seq): &(u32, u64)| FlagUpdate {
            uid: uid(number),
            flags: Flags::default(),
            mod_seq: ModSeq(mod_seq),
        };
        Changes {
            mod_seq: ModSeq(mod_seq),
            updated: updated.iter().map(update).collect(),
            expunged: gone.iter().map(|&number| uid(number)).collect(),
        }
    }

    fn live() -> Live {
        let uids = Arc::new(Uids::of(&(1..=3).map(uid).collect()));
        let mut live = Live { mod_seq: ModSeq(3), uids, news: VecDeque::new() };
        live.learn(changes(3, &[], &[]));
        live.learn(changes(5, &[(2, 4), (4, 5)], &[]));
        live.learn(changes(8, &[(2, 8), (5, 7)], &[1, 4]));
        live
    }

    /// Up to which change, what changed with which, and what went.
    type Seen = (u64, Vec<(u32, u64)>, Vec<u32>);

    fn seen(live: &Live, since: u64) -> Option<Seen> {
        let changes = live.after(ModSeq(since))?;
        let updated = changes.updated.iter().map(|update| (update.uid.0.get(), update.mod_seq.0));
        let gone = changes.expunged.iter().map(|uid| uid.0.get()).collect();
        Some((changes.mod_seq.0, updated.collect(), gone))
    }

    #[test]
    fn a_session_is_told_what_came_after_what_it_knows() {
        let live = live();
        let list: Vec<u32> = live.uids.iter().map(|uid| uid.0.get()).collect();
        assert_eq!(list, [2, 3, 5]);
        assert_eq!(seen(&live, 8), Some((8, vec![], vec![])));
        assert_eq!(seen(&live, 5), Some((8, vec![(2, 8), (5, 7)], vec![1, 4])));
        // From within a change: what it knows of that already is not told again.
        assert_eq!(seen(&live, 7), Some((8, vec![(2, 8)], vec![1, 4])));
        assert_eq!(seen(&live, 4), Some((8, vec![(2, 8), (5, 7)], vec![1, 4])));
        assert_eq!(seen(&live, 3), Some((8, vec![(2, 8), (5, 7)], vec![1, 4])));
        assert_eq!(seen(&live, 2), None);
        // A session that has seen a later state than this view waits for the view.
        assert_eq!(seen(&live, 9), Some((9, vec![], vec![])));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut live = live();
        let many: Vec<(u32, u64)> = (10..10 + NEWS_MAX as u32).map(|number| (number, 9)).collect();
        live.learn(changes(9, &many, &[]));
        assert_eq!(live.news.len(), 0);
        assert_eq!((seen(&live, 8), live.uids.len()), (None, NEWS_MAX + 3));
        live.learn(changes(10, &[(2, 10)], &[]));
        assert_eq!(seen(&live, 9), Some((10, vec![(2, 10)], vec![])));
    }
}
