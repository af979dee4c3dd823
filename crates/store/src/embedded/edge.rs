//! Many at once at the edge of a quota, and a store that fails in the midst of it, again and again:
//! never an octet or a message over, and none lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;

use super::disk::Disk;
use super::disk::Step;
use super::tests::{noise, small};
use super::*;
use crate::contract::*;
use crate::{FlagChange, Flags, Quota, SystemFlags};

const OWNER: &str = "anna@pec.example";
const QUOTA: Quota =
    Quota { octets_max: 60_000, messages_max: Some(40), receipt_reserve_octets: 0 };
/// Threads at work, and calls of each in a round.
const THREADS: u64 = 24;
const CALLS: u64 = 40;
const ROUNDS: u64 = 6;

/// Fails the commit of this number, or none.
struct FailsOnce {
    at: usize,
    commits: AtomicUsize,
}

impl Disk for FailsOnce {
    fn step(&self, step: Step) -> std::io::Result<()> {
        if step == Step::Commit && self.commits.fetch_add(1, Ordering::SeqCst) == self.at {
            return Err(std::io::Error::other("given the disk fails here"));
        }
        Ok(())
    }
}

/// One call on the account's mailboxes, whichever comes by chance.
fn one(store: &EmbeddedStore, chance: u64) -> Result<(), StoreError> {
    let mailbox = |chance: u64| MailboxId(1 + chance % 4);
    let (from, to) = (mailbox(chance >> 8), mailbox(chance >> 16));
    let some = || -> Result<UidSet, StoreError> {
        let uids = store.open(from, false)?.uids;
        let some = (chance >> 24) % uids.count().max(1);
        Ok(uids.iter().skip(some as usize).take(1).collect())
    };
    // Lengths of which many make the limit exactly.
    let length = [1_000, 2_500, 500, 4_000, 1_500][(chance >> 32) as usize % 5];
    match chance % 8 {
        0..3 => {
            let octets = noise(chance >> 40, length);
            store.append(from, message(&octets, Flags::default())).map(drop)
        }
        3 => deliver(store, OWNER, &noise(chance >> 40, length), Charge::Quota).map(drop),
        4 => store.copy(from, &some()?, to, at(1)).map(drop),
        5 => store.move_messages(from, &some()?, to, at(1)).map(drop),
        6 => {
            let deleted = FlagChange::Add(system(SystemFlags::DELETED));
            store.change_flags(from, &some()?, &deleted).map(drop)
        }
        _ => store.expunge(from, None).map(drop),
    }
}

/// What the mailboxes hold, message by message.
fn counted(store: &EmbeddedStore) -> (u64, u64) {
    let mut held = (0, 0);
    for mailbox in store.mailboxes(AccountId(1)).unwrap() {
        for one in store.summaries(mailbox.id, &UidSet::all(), usize::MAX).unwrap() {
            held = (held.0 + one.octets, held.1 + 1);
            assert_eq!(store.read(one.blob, 0, u64::MAX).unwrap().len() as u64, one.octets);
        }
    }
    held
}

#[test]
fn hundreds_at_the_edge_neither_pass_it_nor_lose_an_octet() {
    let dir = TempDir::new().unwrap();
    let owner = holder(OWNER, QUOTA);
    EmbeddedStore::open(dir.path(), small()).unwrap().add_account(owner, at(0)).unwrap();
    let (done, full, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 0..ROUNDS {
        let at = if round % 2 == 0 { 20 + 13 * round as usize } else { usize::MAX };
        let disk = Arc::new(FailsOnce { at, commits: AtomicUsize::new(0) });
        let store = EmbeddedStore::open_on(dir.path(), small(), disk).unwrap();
        let over = AtomicBool::new(false);
        let watching = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while watching.load(Ordering::SeqCst) {
                    let (octets, messages) = held(&store, AccountId(1));
                    if octets > QUOTA.octets_max || messages > 40 {
                        over.store(true, Ordering::SeqCst);
                    }
                }
            });
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (store, done, full, failed) = (&store, &done, &full, &failed);
                    scope.spawn(move || {
                        let mut state = (round * THREADS + thread) * 2 + 1;
                        for _ in 0..CALLS {
                            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                            match one(store, state >> 7) {
                                Ok(()) => done.fetch_add(1, Ordering::SeqCst),
                                Err(StoreError::OverQuota(_)) => {
                                    full.fetch_add(1, Ordering::SeqCst)
                                }
                                Err(StoreError::Medium(_)) => failed.fetch_add(1, Ordering::SeqCst),
                                Err(other) => panic!("{other}"),
                            };
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            watching.store(false, Ordering::SeqCst);
            watcher.join().unwrap();
        });
        assert!(!over.into_inner(), "a reader saw the account over its quota");
        drop(store);
        let store = EmbeddedStore::open(dir.path(), small()).unwrap();
        assert_eq!(held(&store, AccountId(1)), counted(&store));
        let mut tell = |seen| assert!(!matches!(seen, crate::Seen::Finding(..)), "{seen:?}");
        check(dir.path(), &MasterKeys::default(), &mut tell).unwrap();
    }
    let (done, full, failed) = (done.into_inner(), full.into_inner(), failed.into_inner());
    println!("{done} calls done, {full} refused over quota, {failed} failed with their store");
    assert!(done > 500 && full > 50 && failed > 50, "{done} {full} {failed}");
}
