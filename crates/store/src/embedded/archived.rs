//! Tests of the archive, and of putting a store back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::disk::{Disk, Real};
use super::faults::{copy_dir, picture};
use super::line::Limits;
use super::sealed::under;
use super::stream::{self, Head};
use super::tests::{noise, small};
use super::*;
use crate::contract::*;
use crate::{Charge, FlagChange, Flags, Follow, NewJob, Source, SystemFlags, TrackState};

pub(super) struct Place {
    pub(super) root: TempDir,
    keys: MasterKeys,
}

impl Place {
    pub(super) fn new(keys: MasterKeys) -> Self {
        Self { root: TempDir::new().unwrap(), keys }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn open(&self) -> EmbeddedStore {
        self.open_within(Arc::new(Real), quick())
    }

    pub(super) fn open_within(&self, disk: Arc<dyn Disk>, limits: Limits) -> EmbeddedStore {
        let archive = Some(self.path("archive"));
        let options = Options { archive, keys: self.keys.clone(), ..small() };
        EmbeddedStore::open_within(&self.path("store"), options, disk, limits).unwrap()
    }

    /// Puts the store back, and looks it over.
    pub(super) fn restored(&self, from: &Path, at: Timestamp) -> (Restored, Vec<String>) {
        let to = self.path("restored");
        let restored = restore(from, at, &to, &mut |done, all| assert!(done <= all)).unwrap();
        let mut tell = |seen| assert!(!matches!(seen, crate::Seen::Finding(..)), "{seen:?}");
        check(&to, &self.keys, &mut tell).unwrap();
        let options = Options { keys: self.keys.clone(), ..small() };
        let store = EmbeddedStore::open(&to, options).unwrap();
        let picture = picture(&store);
        append(&store, MailboxId(4), b"and it goes on");
        drop(store);
        fs::remove_dir_all(&to).unwrap();
        (restored, picture)
    }

    fn refused(&self, at: Timestamp) -> String {
        let to = self.path("restored");
        let refused =
            restore(&self.path("archive"), at, &to, &mut |_, _| {}).unwrap_err().to_string();
        assert!(!to.exists());
        fs::remove_dir_all(self.path("restored.incomplete")).or_else(gone).unwrap();
        refused.replace(self.root.path().to_str().unwrap(), "")
    }

    /// The folder of the only history, and of a generation in it; nothing as long as none was begun.
    pub(super) fn begun(&self, number: u64) -> Option<PathBuf> {
        let histories: Vec<_> = fs::read_dir(self.path("archive")).unwrap().collect();
        assert!(histories.len() <= 1);
        let history = histories.first()?.as_ref().unwrap();
        Some(history.path().join(format!("{number:08}")))
    }

    pub(super) fn generation(&self, number: u64) -> PathBuf {
        self.begun(number).unwrap()
    }

    /// Waits until nothing would be lost with the machine.
    pub(super) fn catch_up(store: &EmbeddedStore) {
        let began = std::time::Instant::now();
        while store.upkeep().archive.unwrap().behind_since.is_some() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    /// As if the store had not been closed but had crashed: its archive does not go on where it ends.
    pub(super) fn crash(&self) {
        fs::remove_file(self.path("store/archived")).unwrap();
    }

    /// How many commits the store has.
    pub(super) fn commits(&self) -> u64 {
        let db = rusqlite::Connection::open(self.path("store/index.db")).unwrap();
        let get = "SELECT commits FROM history WHERE id <> x''";
        db.query_row(get, [], |row| row.get(0).map(i64::cast_unsigned)).unwrap()
    }

    /// Waits until all that was committed is archived.
    pub(super) fn settle(&self, generation: u64) -> Head {
        let last = self.commits();
        let began = std::time::Instant::now();
        loop {
            let begun = self.begun(generation);
            let head = begun.and_then(|folder| stream::read_head(&folder).unwrap());
            match head.filter(|head| head.commit >= last) {
                Some(head) => return head,
                None => assert!(began.elapsed() < Duration::from_secs(60)),
            }
            std::thread::yield_now();
        }
    }
}

/// Commits are archived soon; what failed is left alone for longer than a test takes.
pub(super) fn quick() -> Limits {
    Limits { lag: Duration::from_millis(10), ..Limits::default() }
}

fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// A moment, and what the store was then.
pub(super) type Moment = (Timestamp, Vec<String>);

/// Has three threads write, expunge and compact, and notes moments between two calls of any.
pub(super) fn load(store: &EmbeddedStore, seed: u64, moments: usize) -> Vec<Moment> {
    let (still, done) = (RwLock::new(()), AtomicBool::new(false));
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    std::thread::scope(|scope| {
        for thread in 1..4u64 {
            let (still, done, deleted) = (&still, &done, &deleted);
            scope.spawn(move || {
                let mailbox = MailboxId(thread);
                let mut number = seed * 1_000;
                while !done.load(Ordering::SeqCst) {
                    number += 1;
                    let _going = still.read().unwrap();
                    append(store, mailbox, &noise(thread * 7 + number % 9, 15_000));
                    if number.is_multiple_of(5) {
                        let some = UidSet::from_ranges([(uid(1), uid(number as u32 % 90 + 1))]);
                        store.change_flags(mailbox, &some, deleted).unwrap();
                        store.expunge(mailbox, None).unwrap();
                        store.compact().unwrap();
                    }
                }
            });
        }
        let noted = (0..moments).map(|number| {
            let until = store.status(MailboxId(1)).unwrap().uid_next.0.get() + 7;
            while store.status(MailboxId(1)).unwrap().uid_next.0.get() < until {
                std::thread::yield_now();
            }
            let _still = still.write().unwrap();
            append(store, MailboxId(5), &noise(number as u64, 3_000));
            (now(), picture(store))
        });
        let noted = noted.collect();
        done.store(true, Ordering::SeqCst);
        noted
    })
}

fn moments_come_back(keys: MasterKeys) {
    let place = Place::new(keys);
    let before = now();
    let mut moments = Vec::new();
    for generation in 1..3 {
        let store = place.open();
        if generation == 1 {
            let anna = holder("anna@pec.example", octets_max(1 << 40));
            store.add_account(anna, at(0)).unwrap();
        }
        moments.extend(load(&store, generation, 5));
        Place::catch_up(&store);
        drop(store);
        if generation == 1 {
            place.crash();
        }
    }
    assert!(place.generation(2).is_dir());
    let archive = place.path("archive");
    for (number, (time, expected)) in moments.iter().enumerate() {
        let (restored, found) = place.restored(&archive, *time);
        assert_eq!(found, *expected, "moment {number}");
        assert!(restored.time <= *time && restored.missing == 0, "{restored:?}");
    }
    assert!(place.refused(before).starts_with("the medium failed: the archive begins later: "));
}

#[test]
fn a_store_comes_back_as_it_was_at_any_moment() {
    moments_come_back(MasterKeys::default());
}

#[test]
fn so_does_one_that_is_encrypted() {
    moments_come_back(under(1, &[]));
}

/// The machine burns: what the archive has by then is all that there is.
#[test]
fn what_is_archived_does_not_need_the_store() {
    let place = Place::new(MasterKeys::default());
    let store = place.open();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    load(&store, 1, 3);
    let head = place.settle(1);
    let copy = place.path("copy");
    copy_dir(&place.path("archive"), &copy);
    let (restored, found) = place.restored(&copy, now());
    assert_eq!((found, restored.commit), (picture(&store), head.commit));
    // What a batch under way leaves beyond the head is none of it.
    let commits = copy.join(place.generation(1).strip_prefix(place.path("archive")).unwrap());
    let mut octets = fs::read(commits.join("commits")).unwrap();
    octets.extend_from_slice(b"CRA1, and half of what follows");
    fs::write(commits.join("commits"), octets).unwrap();
    assert_eq!(place.restored(&copy, now()).1, picture(&store));
}

// PEC-SLA-08: receipts, and what is under way with the tracker's word of it
#[test]
fn receipts_and_what_is_under_way_survive_the_loss_of_the_site() {
    let place = Place::new(MasterKeys::default());
    let store = place.open();
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let job = NewJob {
        due: at(60),
        payload: b"bring it".to_vec(),
        octets: Some(Source::New(1)),
        lane: None,
    };
    let follow = Follow {
        identificativo: "id".to_owned(),
        recipients: vec![address("bruno@pec.example")],
        at: at(1),
        first: at(100),
        second: at(200),
        about: b"an exchange".to_vec(),
    };
    store
        .commit(Transaction {
            at: at(1),
            octets: vec![inline(b"a receipt"), inline(b"an envelope")],
            deliver: vec![delivery("anna@pec.example", Charge::Receipt)],
            enqueue: vec![job],
            follow: vec![follow],
            ..Transaction::default()
        })
        .unwrap();
    let expected = picture(&store);
    place.settle(1);
    drop(store);
    fs::remove_dir_all(place.path("store")).unwrap();
    let to = place.path("elsewhere");
    restore(&place.path("archive"), now(), &to, &mut |_, _| {}).unwrap();
    let store = EmbeddedStore::open(&to, small()).unwrap();
    assert_eq!(picture(&store), expected);
    let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap();
    let receipts = store.summaries(inbox.id, &UidSet::all(), 9).unwrap();
    assert_eq!(store.read(receipts[0].blob, 0, 99).unwrap(), b"a receipt");
    let [job] = &store.jobs(None, 9).unwrap()[..] else { panic!("one job") };
    assert_eq!(store.read(job.blob.unwrap(), 0, 99).unwrap(), b"an envelope");
    assert_eq!(store.tracked("id").unwrap()[0].state, TrackState::Sent);
    assert_eq!(store.overdue(at(100), None, 9).unwrap().len(), 1);
}

#[test]
fn a_torn_archive_is_found() {
    let place = Place::new(MasterKeys::default());
    {
        let store = place.open();
        store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
        append(&store, MailboxId(1), &noise(1, 40_000));
        append(&store, MailboxId(1), &noise(2, 40_000));
        place.settle(1);
        append(&store, MailboxId(1), &noise(3, 40_000));
    }
    let generation = place.generation(1);
    let history = generation.parent().unwrap().to_owned();
    type Harm = fn(&mut Vec<u8>);
    let flipped: Harm = |octets| {
        let middle = octets.len() / 2;
        octets[middle] ^= 1;
    };
    let cut: Harm = |octets| octets.truncate(octets.len() - 9);
    let emptied: Harm = |octets| octets.clear();
    let unlike: Harm = |octets| octets.splice(..1, *b"x").for_each(drop);
    for (file, harm, why) in [
        (generation.join("commits"), flipped, "commits: a frame does not have its hash"),
        (generation.join("commits"), cut, "commits: it is cut short"),
        (generation.join("commits"), unlike, "commits: a frame has no beginning"),
        (generation.join("index.db"), flipped, "index.db: it does not have its hash"),
        (generation.join("head"), emptied, "head: it has no numbers"),
        (generation.join("base"), unlike, "base: it has no numbers"),
        (history.join("segments/00000002"), cut, "00000002 is cut short"),
    ] {
        let sound = fs::read(&file).unwrap();
        let mut harmed = sound.clone();
        harm(&mut harmed);
        fs::write(&file, harmed).unwrap();
        let refused = place.refused(now());
        assert!(refused.starts_with("the medium failed: the archive is torn: "), "{refused}");
        assert!(refused.ends_with(why), "{refused}");
        fs::write(&file, sound).unwrap();
    }
    fs::rename(generation.join("base"), generation.join("elsewhere")).unwrap();
    assert!(place.refused(now()).ends_with("it has a head and no base"));
    fs::rename(generation.join("elsewhere"), generation.join("base")).unwrap();
    assert_eq!(place.restored(&place.path("archive"), now()).0.missing, 0);
}

/// A store that was put back goes on in a history of its own, and the one before stays.
#[test]
fn a_store_that_was_put_back_has_two_pasts() {
    let place = Place::new(MasterKeys::default());
    let mut moments = Vec::new();
    {
        let store = place.open();
        store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
        moments.extend(load(&store, 1, 2));
        Place::catch_up(&store);
    }
    let back = place.path("back");
    let archive = place.path("archive");
    restore(&archive, moments[0].0, &back, &mut |_, _| {}).unwrap();
    fs::remove_dir_all(place.path("store")).unwrap();
    fs::rename(&back, place.path("store")).unwrap();
    {
        let store = place.open();
        assert_eq!(picture(&store), moments[0].1);
        moments.extend(load(&store, 2, 2));
        Place::catch_up(&store);
    }
    assert_eq!(fs::read_dir(&archive).unwrap().count(), 2);
    // So it is when the folder of the store itself was put back by other means.
    let copy = place.path("copied");
    copy_dir(&place.path("store"), &copy);
    moments.extend(load(&place.open(), 3, 1));
    fs::remove_dir_all(place.path("store")).unwrap();
    fs::rename(&copy, place.path("store")).unwrap();
    {
        let store = place.open();
        moments.extend(load(&store, 4, 1));
        Place::catch_up(&store);
    }
    assert_eq!(fs::read_dir(&archive).unwrap().count(), 3);
    for (number, (time, expected)) in moments.iter().enumerate() {
        assert_eq!(place.restored(&archive, *time).1, *expected, "moment {number}");
    }
}

/// An archive that fails stops nothing, and what it then lacks is told.
#[test]
fn a_store_goes_on_without_its_archive() {
    let place = Place::new(MasterKeys::default());
    let store = place.open();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let first = place.settle(1);
    let (folder, aside) = (place.generation(1), place.path("aside"));
    // Its head cannot be written any more.
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, b"no folder").unwrap();
    load(&store, 1, 4);
    let segments = tests::files(&place.path("store/segments"));
    drop(store);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let store = place.open();
    store.append(MailboxId(1), message(b"m", Flags::default())).unwrap();
    let after = place.settle(2);
    assert!(segments < 90, "{segments} segments: they must go though nothing is archived");
    assert!(after.commit > first.commit + 20);
    let archive = place.path("archive");
    let last = place.restored(&archive, now());
    assert_eq!((last.0.missing, last.1), (0, picture(&store)));
    let between = Timestamp::from_microsecond(first.micros).unwrap();
    let (restored, _) = place.restored(&archive, between);
    assert_eq!(
        (restored.commit, restored.missing),
        (first.commit, after.commit - 1 - first.commit)
    );
}
