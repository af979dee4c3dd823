//! A disk that fails when a test says so, and the images that a crash would leave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;

use super::disk::Disk;
use super::disk::Step;
use super::opening::known_segments;
use super::tests::{noise, small};
use super::*;
use crate::contract::*;
use crate::memory::MemoryStore;
use crate::{
    FlagChange, Flags, Infection, NewInfected, NewJob, Quota, Source, SystemFlags, assert_refused,
};

/// Fails one step of one kind, the one with this number.
struct FailsAt {
    kind: Step,
    number: usize,
    seen: AtomicUsize,
    with: ErrorKind,
}

impl Disk for FailsAt {
    fn step(&self, step: Step) -> std::io::Result<()> {
        if step == self.kind && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.number {
            return Err(std::io::Error::new(self.with, "given the disk fails here"));
        }
        Ok(())
    }
}

/// What one step of the script does, to any store.
type Act = fn(&dyn Store, AccountId, MailboxId) -> Result<(), StoreError>;

/// Appends of every kind of octets, what takes them away, and a step of the pipeline.
const SCRIPT: [Act; 11] = [
    |store, _, inbox| store.append(inbox, message(&noise(1, 900), Flags::default())).map(|_| ()),
    |store, _, inbox| store.append(inbox, message(&noise(2, 50_000), Flags::default())).map(|_| ()),
    |store, _, inbox| {
        store.append(inbox, message(&noise(3, 150_000), Flags::default())).map(|_| ())
    },
    |store, anna, _| {
        let new = NewMailbox { name: name("a/b"), special_use: None };
        store.create_mailbox(anna, new, at(2)).map(|_| ())
    },
    |store, anna, inbox| {
        let to = store.mailbox(anna, &name("a/b"))?.id;
        store.copy(inbox, &uids(&[1, 3]), to, at(3)).map(|_| ())
    },
    |store, _, inbox| {
        let deleted = FlagChange::Add(system(SystemFlags::DELETED));
        store.change_flags(inbox, &uids(&[2, 3]), &deleted).map(|_| ())
    },
    |store, _, inbox| store.expunge(inbox, None).map(|_| ()),
    |store, _, _| {
        let job = NewJob { due: at(1), payload: vec![1], octets: Some(Source::New(0)), lane: None };
        let step = Transaction {
            octets: vec![inline(&[4; 5_000])],
            deliver: vec![delivery("anna@pec.example", Charge::Quota)],
            enqueue: vec![job],
            ..Transaction::default()
        };
        store.commit(step).map(|_| ())
    },
    // The first segment is mostly dead by now: what lives in it is moved.
    |store, _, _| {
        while store.compact()?.segments > 0 {}
        Ok(())
    },
    |store, _, inbox| store.append(inbox, message(&noise(5, 800), Flags::default())).map(|_| ()),
    |store, _, _| {
        let quarantine = vec![NewInfected {
            octets: Source::New(0),
            keep_until: at(99),
            infection: Infection { virus: "Eicar".into(), ..Infection::default() },
        }];
        let octets = vec![inline(&noise(6, 6_000))];
        store.commit(Transaction { octets, quarantine, ..Transaction::default() }).map(|_| ())
    },
];

/// All that a store says of itself, octets included.
pub(super) fn picture(store: &dyn Store) -> Vec<String> {
    let mut picture = Vec::new();
    for account in store.accounts().unwrap() {
        picture.push(format!("{account:?} {:?}", store.usage(account.id).unwrap()));
        picture.push(format!("{:?}", store.subscriptions(account.id).unwrap()));
        for mailbox in store.mailboxes(account.id).unwrap() {
            picture.push(format!("{mailbox:?} {:?}", store.open(mailbox.id, false).unwrap()));
            picture.push(format!("{:?}", store.changes(mailbox.id, ModSeq(0)).unwrap()));
            for mut summary in store.summaries(mailbox.id, &UidSet::all(), usize::MAX).unwrap() {
                let octets = store.read(summary.blob, 0, u64::MAX).unwrap();
                summary.blob = BlobId(0);
                picture.push(format!("{summary:?} {}", crc32c::crc32c(&octets)));
            }
        }
    }
    for mut job in store.jobs(None, usize::MAX).unwrap() {
        let octets = job.blob.map(|blob| crc32c::crc32c(&store.read(blob, 0, u64::MAX).unwrap()));
        job.blob = None;
        picture.push(format!("{job:?} {octets:?}"));
    }
    for lane in store.lanes(None, usize::MAX).unwrap() {
        let due = store.lane_due(Timestamp::MAX, &lane, 1_000).unwrap();
        picture.push(format!("{lane} {:?}", due.iter().map(|job| job.id).collect::<Vec<_>>()));
    }
    for mut infected in store.quarantined(0, usize::MAX).unwrap() {
        let octets = crc32c::crc32c(&store.read(infected.blob, 0, u64::MAX).unwrap());
        infected.blob = BlobId(0);
        picture.push(format!("{infected:?} {octets}"));
    }
    picture.push(format!("{:?}", store.jobs_waiting().unwrap()));
    picture.push(format!("{:?}", store.tracked("id").unwrap()));
    picture.push(format!("{:?}", store.overdue(Timestamp::MAX, None, usize::MAX).unwrap()));
    let marks = (0u8..9).map(|n| store.mark(&[n; 32]).unwrap());
    picture.push(format!("{:?}", marks.collect::<Vec<_>>()));
    picture.push(format!("{:?}", store.log(&LogFilter::default(), 0, usize::MAX).unwrap()));
    picture
}

/// Plays the script on a disk that fails, until it failed and to the end: what was acknowledged is
/// what a model did too. Returns whether the fault was met.
fn play(kind: Step, number: usize, with: ErrorKind) -> bool {
    let dir = TempDir::new().unwrap();
    let model = MemoryStore::new();
    let quota = || holder("anna@pec.example", octets_max(1 << 40));
    let anna = EmbeddedStore::open(dir.path(), small()).unwrap().add_account(quota(), at(0));
    assert_eq!(model.add_account(quota(), at(0)).unwrap(), anna.unwrap());
    let disk = Arc::new(FailsAt { kind, number, seen: AtomicUsize::new(0), with });
    let mut met = false;
    {
        let store = EmbeddedStore::open_on(dir.path(), small(), disk).unwrap();
        let anna = store.accounts().unwrap()[0].id;
        let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
        for act in SCRIPT {
            match act(&store, anna, inbox) {
                Ok(()) => act(&model, anna, inbox).unwrap(),
                // Full: refused and nothing else, and the next try finds room.
                Err(StoreError::NoSpace) if !met => {
                    met = true;
                    assert!(store.takes_writes().is_ok(), "{kind:?} {number}");
                    act(&store, anna, inbox).unwrap();
                    act(&model, anna, inbox).unwrap();
                }
                Err(StoreError::Medium(_)) => {
                    if met && kind != Step::Write {
                        continue;
                    }
                    met = true;
                    if kind == Step::Write {
                        // Nothing could have become visible: the next try is as good as the first.
                        act(&store, anna, inbox).unwrap();
                        act(&model, anna, inbox).unwrap();
                    } else {
                        store.takes_writes().unwrap_err();
                        let more = store.append(inbox, message(b"m", Flags::default()));
                        assert_refused!(more, StoreError::Medium(_));
                    }
                }
                Err(StoreError::NoSuchMailbox) if met => {}
                Err(other) => panic!("{kind:?} {number}: {other}"),
            }
        }
        // Readers see the last acknowledged state all the while.
        assert_eq!(picture(&store), picture(&model), "{kind:?} {number}, open");
    }
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(picture(&store), picture(&model), "{kind:?} {number}, opened again");
    append(&store, store.mailboxes(AccountId(1)).unwrap()[0].id, b"and it goes on");
    met
}

/// Each step of a kind fails in turn, until the script has no more of them.
fn each(kind: Step) -> usize {
    (1..).take_while(|number| play(kind, *number, ErrorKind::Other)).count()
}

/// A disk that is full at any step refuses that, and takes the next: no restart is needed.
#[test]
fn a_full_disk_is_full_only_as_long_as_it_is() {
    for (kind, least) in [(Step::Write, 5), (Step::Flush, 5), (Step::Commit, SCRIPT.len())] {
        let full = |number: &usize| play(kind, *number, ErrorKind::StorageFull);
        assert!((1..).take_while(full).count() >= least, "{kind:?}");
    }
}

/// A session begins with a write, and must not need it.
#[test]
fn a_mailbox_opens_though_nothing_can_be_written() {
    for with in [ErrorKind::StorageFull, ErrorKind::Other] {
        let dir = TempDir::new().unwrap();
        let disk = FailsAt { kind: Step::Commit, number: 3, seen: AtomicUsize::new(0), with };
        let store = EmbeddedStore::open_on(dir.path(), small(), Arc::new(disk)).unwrap();
        store.add_account(holder("anna@pec.example", octets_max(99)), at(0)).unwrap();
        append(&store, MailboxId(1), b"m");
        for _ in 0..2 {
            let opened = store.open(MailboxId(1), true).unwrap();
            assert_eq!((opened.uids, opened.status.recent), (std::iter::once(uid(1)).collect(), 1));
        }
    }
}

/// The index itself finds no room: the command that needs it is refused, and the rest goes on.
#[test]
fn an_index_without_room_refuses_and_goes_on() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedStore::open(dir.path(), small()).unwrap());
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    append(&store, MailboxId(1), b"before");
    let room = |pages: u32| {
        store.write(vec![], move |txn, _| {
            txn.db.pragma_update(None, "max_page_count", pages)?;
            Ok(())
        })
    };
    room(1).unwrap();
    let log = |octets: usize| {
        let record = LogRecord { event: "x".repeat(octets), ..LogRecord::default() };
        store.commit(Transaction { log: vec![record], ..Transaction::default() })
    };
    assert_refused!(log(200_000), StoreError::NoSpace);
    assert_eq!(store.read(BlobId(1), 0, 99).unwrap(), b"before");
    assert_refused!(log(200_000), StoreError::NoSpace);
    // What needs no page more is done all the while.
    store.takes_writes().unwrap();
    append(&store, MailboxId(1), b"between");
    room(u32::MAX).unwrap();
    log(200_000).unwrap();
    assert_eq!(held(&store, anna), (13, 2));
    drop(store);
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(store.log(&LogFilter::default(), 0, 9).unwrap().len(), 1);
}

#[test]
fn a_failed_flush_is_never_taken_for_done() {
    assert!(each(Step::Flush) >= 5);
}

#[test]
fn a_failed_commit_leaves_the_last_acknowledged_state() {
    assert_eq!(each(Step::Commit), SCRIPT.len());
}

#[test]
fn a_failed_write_fails_its_group_and_no_other() {
    assert!(each(Step::Write) >= 5);
}

/// A crash between the commit and the answer: it is done, though nobody was told.
#[test]
fn what_is_committed_stays_though_nobody_was_told() {
    let dir = TempDir::new().unwrap();
    let quota = holder("anna@pec.example", octets_max(99));
    EmbeddedStore::open(dir.path(), small()).unwrap().add_account(quota, at(0)).unwrap();
    let inbox = MailboxId(1);
    {
        let disk = FailsAt {
            kind: Step::Committed,
            number: 1,
            seen: AtomicUsize::new(0),
            with: ErrorKind::Other,
        };
        let store = EmbeddedStore::open_on(dir.path(), small(), Arc::new(disk)).unwrap();
        let told = store.append(inbox, message(b"m", Flags::default()));
        assert_refused!(told, StoreError::Medium(_));
    }
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(store.status(inbox).unwrap().messages, 1);
    assert_eq!(held(&store, AccountId(1)), (1, 1));
}

/// A message that its sender was told is kept: where, and the CRC of its octets.
type Acknowledged = (MailboxId, Uid, u64);
/// A directory as it was at some step, and what was acknowledged by then.
type Image = (PathBuf, Vec<Acknowledged>);

/// Copies the directory at some steps, in the thread that writes: what a power loss there leaves.
struct Camera {
    dir: PathBuf,
    images: PathBuf,
    every: usize,
    steps: AtomicUsize,
    on: AtomicBool,
    /// What was acknowledged before each image.
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    taken: Mutex<Vec<Image>>,
}

impl Disk for Camera {
    fn step(&self, _: Step) -> std::io::Result<()> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        // Spools take steps in other threads; an image is of one instant all the same, since
        // only files that the index does not know yet change meanwhile.
        let writer = std::thread::current().name() == Some("store-writer");
        if writer && step.is_multiple_of(self.every) && self.on.load(Ordering::SeqCst) {
            let acknowledged = self.acknowledged.lock().unwrap().clone();
            let image = self.images.join(step.to_string());
            copy_dir(&self.dir, &image);
            self.taken.lock().unwrap().push((image, acknowledged));
        }
        Ok(())
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else if !path.to_string_lossy().ends_with("-shm") {
            // The file of a spool may go meanwhile.
            match fs::copy(&path, &target) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
            }
        }
    }
}

/// Octets that say themselves whose they are, with a body that other threads have too.
fn signed(thread: u64, number: u64, length: usize) -> Vec<u8> {
    let mut octets = format!("{thread}/{number}\r\n\r\n").into_bytes();
    octets.extend_from_slice(&noise(number, length));
    octets
}

/// What was never flushed may be anything: fill it with something else.
fn garble(image: &Path) {
    let db = rusqlite::Connection::open(image.join("index.db")).unwrap();
    let ends: Vec<(u64, u64)> = known_segments(&db).unwrap();
    drop(db);
    for (number, end) in ends {
        let path = segments::path(&image.join("segments"), number);
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end)).unwrap();
        file.write_all(&[0x5a; 3_000]).unwrap();
    }
    fs::write(image.join("segments").join("0000ffff"), b"begun, never used").unwrap();
    fs::write(image.join("spool").join("7"), b"half a message").unwrap();
}

/// Opens an image and proves what must hold in it.
fn examine(image: &Path, acknowledged: &[Acknowledged]) {
    garble(image);
    let store = EmbeddedStore::open(image, small()).unwrap();
    let mut tell = |seen| assert!(!matches!(seen, crate::Seen::Finding(..)), "{seen:?}");
    check(image, &MasterKeys::default(), &mut tell).unwrap();
    let mut found = BTreeMap::new();
    for account in store.accounts().unwrap() {
        let (mut octets, mut messages) = (0, 0);
        for mailbox in store.mailboxes(account.id).unwrap() {
            let summaries = store.summaries(mailbox.id, &UidSet::all(), usize::MAX).unwrap();
            for one in &summaries {
                let read = store.read(one.blob, 0, u64::MAX).unwrap();
                assert_eq!(read.len() as u64, one.octets);
                found.insert((mailbox.id, one.uid), u64::from(crc32c::crc32c(&read)));
                octets += one.octets;
            }
            messages += summaries.len() as u64;
            let status = store.status(mailbox.id).unwrap();
            assert_eq!(status.messages, summaries.len() as u64);
            assert_eq!(status.octets, summaries.iter().map(|one| one.octets).sum::<u64>());
            assert!(summaries.iter().all(|one| one.uid < status.uid_next));
            assert!(summaries.iter().all(|one| one.mod_seq <= status.mod_seq));
        }
        assert_eq!(held(&store, account.id), (octets, messages));
        assert!(octets <= account.quota.octets_max);
    }
    for (mailbox, uid, crc) in acknowledged {
        assert_eq!(found.get(&(*mailbox, *uid)), Some(crc), "{mailbox:?} {uid:?}");
    }
    // A step of the pipeline is whole: every delivery has the job that came with it.
    let delivered = found.keys().filter(|(mailbox, _)| *mailbox == MailboxId(1)).count() as u64;
    assert_eq!(store.jobs_waiting().unwrap().0, delivered);
    append(&store, MailboxId(2), b"and it goes on");
}

#[test]
fn a_crash_at_any_step_loses_nothing_acknowledged() {
    let (dir, images) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let camera = Arc::new(Camera {
        dir: dir.path().to_owned(),
        images: images.path().to_owned(),
        every: 12,
        steps: AtomicUsize::new(0),
        on: AtomicBool::new(false),
        acknowledged: Arc::clone(&acknowledged),
        taken: Mutex::default(),
    });
    let disk: Arc<dyn Disk> = Arc::clone(&camera) as _;
    let store = EmbeddedStore::open_on(dir.path(), small(), disk).unwrap();
    let quota = Quota { octets_max: 2_000_000, messages_max: None, receipt_reserve_octets: 0 };
    store.add_account(holder("anna@pec.example", quota), at(0)).unwrap();
    camera.on.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let junk = MailboxId(6);
            let deleted = FlagChange::Add(system(SystemFlags::DELETED));
            for number in 0..30u8 {
                match store.append(junk, message(&noise(number.into(), 15_000), Flags::default())) {
                    Ok(_) | Err(StoreError::OverQuota(_)) => {}
                    Err(other) => panic!("{other}"),
                }
                if number % 6 == 5 {
                    store.change_flags(junk, &UidSet::all(), &deleted).unwrap();
                    store.expunge(junk, None).unwrap();
                    store.compact().unwrap();
                }
            }
        });
        for thread in 0..4u64 {
            let (store, acknowledged) = (&store, &acknowledged);
            scope.spawn(move || {
                for number in 0..20u64 {
                    let length = [300, 20_000, 300_000, 64][(number % 4) as usize];
                    let octets = signed(thread, number, length);
                    let crc = u64::from(crc32c::crc32c(&octets));
                    let ours = MailboxId(2 + thread);
                    let done = if number % 2 == 0 {
                        store.append(ours, message(&octets, Flags::default())).map(|to| (ours, to))
                    } else {
                        let job = NewJob { due: at(1), payload: vec![], octets: None, lane: None };
                        let step = Transaction {
                            octets: vec![inline(&octets)],
                            deliver: vec![delivery("anna@pec.example", Charge::Quota)],
                            enqueue: vec![job],
                            ..Transaction::default()
                        };
                        store.commit(step).map(|done| (MailboxId(1), done.delivered[0]))
                    };
                    match done {
                        Ok((mailbox, to)) => {
                            acknowledged.lock().unwrap().push((mailbox, to.uid, crc));
                        }
                        Err(StoreError::OverQuota(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    camera.on.store(false, Ordering::SeqCst);
    drop(store);
    let taken = std::mem::take(&mut *camera.taken.lock().unwrap());
    assert!(taken.len() >= 10, "{} images", taken.len());
    for (image, acknowledged) in &taken {
        examine(image, acknowledged);
    }
}
