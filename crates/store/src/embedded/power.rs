//! The power is lost, or a call fails, at any step: from seeds, against a model.
//!
//! A run does random calls one after the other. At some step the disk as it may be after a power loss
//! is put aside: of each file what was flushed, and of what was written since, sector by sector,
//! either that, or what was there, or nothing that anybody wrote. A store that is opened on it must
//! be in the state after the last call that was answered or, whole, after the one under way. Some
//! runs have a step fail too: without room, or for no reason known; after the latter nothing more is
//! written until the store is opened again.
//!
//! What SQLite does between two of our steps is taken as one: what it wrote in a commit or a
//! checkpoint may be there in any part. A seed that failed once stays in [`FAILED`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::disk::Disk;
use super::disk::Step;
use super::faults::picture;
use super::sealed::under;
use super::tests::{noise, small};
use super::*;
use crate::contract::*;
use crate::memory::MemoryStore;
use crate::{FlagChange, Flags, NewJob, Source, SystemFlags};

/// Seeds of runs that once failed.
const FAILED: &[u64] = &[108, 284, 437];
/// Runs in each of two threads.
const RUNS: u64 = 1000;
/// Calls in a run.
const CALLS: u64 = 24;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Steps before the loss from which on the disk is watched closely.
const WATCHED: usize = 24;

/// A reproducible source of chance.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// What is in the files of a store now.
fn contents(dir: &Path) -> Contents {
    let mut all = Contents::new();
    for folder in ["", "segments", "large"] {
        for entry in fs::read_dir(dir.join(folder)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let kept = name.starts_with("index.db") && !name.ends_with("-shm");
            if path.is_file() && (kept || !folder.is_empty()) {
                let inside = path.strip_prefix(dir).unwrap().to_owned();
                all.insert(inside, fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// What is the disk's, as far as a test can know.
struct Watch {
    chance: Chance,
    /// What was flushed last, and the step before this.
    flushed: Contents,
    before: Option<Step>,
    /// The step that failed.
    failed: Option<Step>,
    /// The disk after the power loss, and how many calls were answered before.
    lost: Option<(Contents, usize)>,
}

struct Unreliable {
    dir: PathBuf,
    steps: AtomicUsize,
    lose_at: usize,
    fail_at: Option<(usize, ErrorKind)>,
    answered: Arc<AtomicUsize>,
    watch: Mutex<Watch>,
}

impl Disk for Unreliable {
    fn step(&self, step: Step) -> std::io::Result<()> {
        let number = self.steps.fetch_add(1, Ordering::SeqCst);
        let mut watch = self.watch.lock().unwrap();
        if watch.lost.is_none() && number + WATCHED >= self.lose_at {
            let now = contents(&self.dir);
            if number + WATCHED == self.lose_at || watch.flushed.is_empty() {
                watch.flushed.clone_from(&now);
            }
            if number == self.lose_at {
                let flushed = std::mem::take(&mut watch.flushed);
                let before = watch.before;
                let lost = mixed(&flushed, &now, before, &mut watch.chance);
                watch.lost = Some((lost, self.answered.load(Ordering::SeqCst)));
            } else {
                let before = watch.before.replace(step);
                promote(&mut watch.flushed, now, before);
            }
        }
        match self.fail_at {
            Some((at, kind)) if at == number => {
                watch.failed = Some(step);
                Err(Error::new(kind, "given the disk fails here"))
            }
            _ => Ok(()),
        }
    }
}

/// After a step that made something certain, it is.
fn promote(flushed: &mut Contents, now: Contents, done: Option<Step>) {
    let certain = |path: &Path| match done {
        Some(Step::Flush) => path.starts_with("segments"),
        Some(Step::Commit) => path.starts_with("index.db-wal"),
        Some(Step::Checkpoint) => !path.starts_with("segments"),
        Some(Step::Write | Step::Committed) | None => false,
        Some(Step::ArchiveIndex | Step::ArchiveOctets | Step::ArchiveFlush) => false,
    };
    flushed.retain(|path, _| now.contains_key(path) || !certain(path));
    for (path, octets) in now {
        if certain(&path) {
            flushed.insert(path, octets);
        }
    }
}

/// What a power loss may leave of what was flushed and what was written since.
///
/// SQLite flushes the database before it gives the WAL up, which is one step here: so of these two
/// either the one is as it was, or the other as it is.
fn mixed(
    flushed: &Contents,
    now: &Contents,
    before: Option<Step>,
    chance: &mut Chance,
) -> Contents {
    let (mut flushed, mut now) = (flushed.clone(), now.clone());
    if before == Some(Step::Checkpoint) {
        let (wal, database) = (PathBuf::from("index.db-wal"), PathBuf::from("index.db"));
        if chance.below(2) == 0 {
            match flushed.get(&wal) {
                Some(was) => now.insert(wal, was.clone()),
                None => now.remove(&wal),
            };
        } else if let Some(is) = now.get(&database) {
            flushed.insert(database, is.clone());
        }
    }
    let mut left = Contents::new();
    let paths: BTreeSet<&PathBuf> = flushed.keys().chain(now.keys()).collect();
    for path in paths {
        let (old, new) = (flushed.get(path), now.get(path));
        // A name that came or went since may be there or not.
        if (old.is_none() || new.is_none()) && chance.below(2) == 0 {
            continue;
        }
        let (old, new) = (old.or(new).unwrap(), new.or(old).unwrap());
        let mut file = Vec::with_capacity(new.len().max(old.len()));
        let length = if chance.below(2) == 0 { old.len() } else { new.len() };
        // Some disks keep an order, some none; some have all of it.
        let manner = chance.below(4);
        for at in (0..length).step_by(SECTOR) {
            let part = |of: &[u8]| of.get(at..(at + SECTOR).min(of.len())).unwrap_or(&[]).to_vec();
            let (was, is) = (part(old), part(new));
            let mut sector = match manner {
                _ if was == is => is,
                0 => was,
                1 => is,
                // Nothing that anybody wrote; but what stood there before stays.
                2 if chance.below(16) == 0 => garbled(&was, &is),
                _ if chance.below(2) == 0 => was,
                _ => is,
            };
            sector.resize(SECTOR.min(length - at), 0);
            file.extend_from_slice(&sector);
        }
        left.insert(path.clone(), file);
    }
    left
}

/// A write that was torn within its sector: octets that it did not mean to change are as they were.
fn garbled(was: &[u8], is: &[u8]) -> Vec<u8> {
    let same = |at: usize| was.get(at).copied().filter(|old| is.get(at) == Some(old));
    (0..was.len().max(is.len())).map(|at| same(at).unwrap_or(0xa5)).collect()
}

#[derive(Debug)]
enum Call {
    Append(u64, u64, usize),
    Copy(u64, u64),
    Move(u64, u64),
    Delete(u64, u32),
    Expunge(u64),
    Step(u64, usize, Option<u64>),
    Compact,
    Reopen,
}

fn call(chance: &mut Chance) -> Call {
    let mailbox = |chance: &mut Chance| 1 + chance.below(3);
    match chance.below(20) {
        0..6 => {
            let length = [40, 900, 6_000, 30_000, 90_000][chance.below(5) as usize];
            Call::Append(mailbox(chance), chance.below(6), length)
        }
        6 => Call::Copy(mailbox(chance), mailbox(chance)),
        7 => Call::Move(mailbox(chance), mailbox(chance)),
        8..11 => Call::Delete(mailbox(chance), 1 + chance.below(6) as u32),
        11..14 => Call::Expunge(mailbox(chance)),
        14..17 => {
            let length = [60, 5_000, 70_000][chance.below(3) as usize];
            let consume = (chance.below(2) == 0).then(|| 1 + chance.below(4));
            Call::Step(chance.below(6), length, consume)
        }
        17 | 18 => Call::Compact,
        _ => Call::Reopen,
    }
}

/// Octets of which some are those of others too.
fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut body = format!("Subject: {seed}\r\n\r\n").into_bytes();
    body.extend_from_slice(&noise(seed, length));
    body
}

fn perform(store: &dyn Store, call: &Call) -> Result<(), StoreError> {
    let m = |number: &u64| MailboxId(*number);
    match call {
        Call::Append(to, seed, length) => {
            store.append(m(to), message(&body(*seed, *length), Flags::default())).map(drop)
        }
        Call::Copy(from, to) => store.copy(m(from), &uids(&[1, 2, 3]), m(to), at(3)).map(drop),
        Call::Move(from, to) => {
            store.move_messages(m(from), &uids(&[2, 4]), m(to), at(4)).map(drop)
        }
        Call::Delete(of, first) => {
            let deleted = FlagChange::Add(system(SystemFlags::DELETED));
            let some = UidSet::from_ranges([(uid(*first), uid(first + 3))]);
            store.change_flags(m(of), &some, &deleted).map(drop)
        }
        Call::Expunge(of) => store.expunge(m(of), None).map(drop),
        Call::Step(seed, length, consume) => {
            let job =
                NewJob { due: at(1), payload: vec![1], octets: Some(Source::New(0)), lane: None };
            let step = Transaction {
                at: at(5),
                consume: consume.iter().copied().map(JobId).collect(),
                octets: vec![inline(&body(*seed, *length))],
                deliver: vec![delivery("anna@pec.example", Charge::Quota)],
                enqueue: vec![job],
                log: vec![LogRecord { event: format!("{seed}"), ..LogRecord::default() }],
                ..Transaction::default()
            };
            store.commit(step).map(drop)
        }
        Call::Compact => {
            while store.compact()?.segments > 0 {}
            Ok(())
        }
        Call::Reopen => Ok(()),
    }
}

fn options(keys: &MasterKeys) -> Options {
    Options { segment_octets: 32 * 1024, readers: 1, keys: keys.clone(), ..small() }
}

fn temporary() -> TempDir {
    // In memory where that is possible: what is flushed here is told by the steps.
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// One run: whether the power was lost in it, and whether a step failed. One that is `sealed` begins in
/// clear, is encrypted from the second opening on, and has another master key each time.
fn run(seed: u64, sealed: bool) -> (bool, bool) {
    let mut chance = Chance(seed);
    let dir = temporary();
    let new = || holder("anna@pec.example", octets_max(400_000));
    let model = MemoryStore::new();
    model.add_account(new(), at(0)).unwrap();
    let clear = options(&MasterKeys::default());
    EmbeddedStore::open(dir.path(), clear).unwrap().add_account(new(), at(0)).unwrap();

    let answered = Arc::new(AtomicUsize::new(0));
    let kind = if chance.below(2) == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
    let fail_at = (chance.below(3) == 0).then(|| (chance.below(80) as usize, kind));
    let lose_at = chance.below(110) as usize;
    let watch = Watch {
        chance: Chance(seed ^ 0xffff),
        flushed: Contents::new(),
        before: None,
        failed: None,
        lost: None,
    };
    let disk = Arc::new(Unreliable {
        dir: dir.path().to_owned(),
        steps: AtomicUsize::new(0),
        lose_at,
        fail_at,
        answered: Arc::clone(&answered),
        watch: Mutex::new(watch),
    });
    let opened = Cell::new(0);
    let keys = || match sealed {
        true => under(opened.get() + 1, &(0..=opened.get()).collect::<Vec<_>>()),
        false => MasterKeys::default(),
    };
    let open = || {
        opened.set(opened.get() + 1);
        EmbeddedStore::open_on(dir.path(), options(&keys()), Arc::clone(&disk) as _).unwrap()
    };
    let lost = || disk.watch.lock().unwrap().lost.is_some();

    // What the model says after each call.
    let mut states = vec![picture(&model)];
    let mut failed = false;
    let mut store = Some(open());
    for _ in 0..CALLS {
        if lost() {
            break;
        }
        let call = call(&mut chance);
        if matches!(call, Call::Reopen) || store.as_ref().unwrap().takes_writes().is_err() {
            drop(store.take());
            store = Some(open());
        }
        match perform(store.as_ref().unwrap(), &call) {
            Err(StoreError::NoSpace | StoreError::Medium(_)) => {
                failed = true;
                let found = picture(store.as_ref().unwrap());
                if found == *states.last().unwrap() {
                    continue;
                }
                // It has happened, and nobody could be told.
                assert_eq!(disk.watch.lock().unwrap().failed, Some(Step::Committed), "{call:?}");
                perform(&model, &call).unwrap();
                assert_eq!(found, picture(&model), "{call:?}");
            }
            answer => {
                let expected = perform(&model, &call);
                assert_eq!(format!("{answer:?}"), format!("{expected:?}"), "{call:?}");
            }
        }
        states.push(picture(&model));
        answered.fetch_add(1, Ordering::SeqCst);
    }
    drop(store);
    let again = EmbeddedStore::open(dir.path(), options(&keys())).unwrap();
    assert_eq!(picture(&again), *states.last().unwrap(), "opened again");
    drop(again);

    let Some((left, answered)) = disk.watch.lock().unwrap().lost.take() else {
        return (false, failed);
    };
    let after = temporary();
    for (path, octets) in left {
        let path = after.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, octets).unwrap();
    }
    let store = EmbeddedStore::open(after.path(), options(&keys())).unwrap();
    let found = picture(&store);
    // A call that failed may be under way too, and has a state of its own only when it did not.
    let allowed = &states[answered..states.len().min(answered + 2)];
    assert!(allowed.contains(&found), "after {answered} calls of {}: {found:#?}", states.len() - 1);
    let mut tell = |seen| assert!(!matches!(seen, crate::Seen::Finding(..)), "{seen:?}");
    check(after.path(), &keys(), &mut tell).unwrap();
    append(&store, MailboxId(4), b"and it goes on");
    (true, failed)
}

#[test]
fn a_power_loss_at_any_step_loses_nothing_acknowledged() {
    let seed = std::env::var("STORE_SEED").ok().and_then(|seed| seed.parse().ok());
    if let Some(seed) = seed {
        run(seed, false);
        run(seed, true);
        return;
    }
    for seed in FAILED {
        run(*seed, false);
        run(*seed, true);
    }
    let (mut lost, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            scope.spawn(move || {
                let (mut lost, mut failed) = (0, 0);
                for seed in (thread..2 * RUNS).step_by(2) {
                    let Ok((l, f)) = std::panic::catch_unwind(|| run(seed, seed % 8 > 5)) else {
                        panic!("seed {seed} failed: again with STORE_SEED={seed}");
                    };
                    lost += u64::from(l);
                    failed += u64::from(f);
                }
                (lost, failed)
            })
        });
        for thread in threads {
            let (l, f) = thread.join().unwrap();
            lost += l;
            failed += f;
        }
    });
    println!("{} runs: the power was lost in {lost}, a step failed in {failed}", 2 * RUNS);
    assert!(lost > RUNS && failed > RUNS / 8, "{lost} {failed}");
}
