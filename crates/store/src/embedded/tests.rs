//! The embedded store, put through the contract and held against the model.

use std::cell::Cell;

use tempfile::TempDir;

use super::*;
use crate::assert_refused;
use crate::contract::*;
use crate::{FlagChange, Flags};

/// Small segments, so that tests see many.
pub(super) fn small() -> Options {
    Options { segment_octets: 64 * 1024, readers: 4, ..Options::default() }
}

fn run(case: fn(Make<'_>)) {
    let dir = TempDir::new().unwrap();
    let made = Cell::new(0);
    case(&|| {
        made.set(made.get() + 1);
        let dir = dir.path().join(made.get().to_string());
        Box::new(EmbeddedStore::open(&dir, small()).unwrap())
    });
}

crate::contract_cases!(as_tests!(run));

/// Opens the store in a directory, and expects it to be refused.
fn refused(dir: &Path) -> String {
    EmbeddedStore::open(dir, small()).unwrap_err().to_string()
}

fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn one_process_has_a_store_open() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(refused(dir.path()), "the medium failed: in use by another process");
    drop(store);
    EmbeddedStore::open(dir.path(), small()).unwrap();
}

#[test]
fn what_is_not_a_store_of_ours_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedStore::open(dir.path(), small()).unwrap());
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    db.pragma_update(None, "user_version", 3).unwrap();
    drop(db);
    let newer = "the medium failed: the store has format 3, this program knows up to 2";
    assert_eq!(refused(dir.path()), newer);

    let dir = TempDir::new().unwrap();
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    db.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    drop(db);
    assert_eq!(refused(dir.path()), "the medium failed: the database is not a store");
}

#[test]
fn a_store_is_readable_by_its_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("store");
    drop(EmbeddedStore::open(&dir, small()).unwrap());
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Space comes back when the last record of a segment, or a large file, is let go of.
#[test]
fn dead_segments_and_files_are_unlinked() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    let inbox = MailboxId(1);
    for _ in 0..10 {
        append(&store, inbox, &[1; 30_000]);
        append(&store, inbox, &[2; 1_500_000]);
    }
    let segments = dir.path().join("segments");
    assert_eq!((files(&segments), files(&dir.path().join("large"))), (5, 10));
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    // The last is appended to. A call later, so that the writer has done its work after the reply.
    store.expunge(inbox, None).unwrap();
    assert_eq!((files(&segments), files(&dir.path().join("large"))), (1, 0));
    append(&store, inbox, b"m");
    assert_eq!(files(&dir.path().join("spool")), 0);
}

#[test]
fn damaged_octets_are_not_handed_out() {
    use std::os::unix::fs::FileExt as _;
    let dir = TempDir::new().unwrap();
    let options = Options { segment_octets: 4 << 20, readers: 1, ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    append(&store, MailboxId(1), &[1; 100]);
    append(&store, MailboxId(1), &[2; 200_000]);
    let segment = segments::path(&dir.path().join("segments"), 1);
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    let second = record::record_octets(100) + record::HEADER_OCTETS;
    for at in [record::HEADER_OCTETS + 50, second + 70_000] {
        file.write_all_at(&[0], at).unwrap();
    }
    let blobs: Vec<BlobId> = store
        .summaries(MailboxId(1), &UidSet::all(), 9)
        .unwrap()
        .iter()
        .map(|one| one.blob)
        .collect();
    let damaged = |start, end, blob| store.read(blob, start, end).is_err();
    assert!(damaged(0, 10, blobs[0]) && damaged(0, 300_000, blobs[1]));
    // Of a larger one, only the piece.
    assert!(damaged(65_536, 65_537, blobs[1]));
    assert!(!damaged(0, 65_536, blobs[1]) && !damaged(131_072, 200_000, blobs[1]));
}

#[test]
fn a_segment_cut_short_is_noticed_at_once() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    append(&store, MailboxId(1), &[1; 100]);
    drop(store);
    let segment = segments::path(&dir.path().join("segments"), 1);
    std::fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(99).unwrap();
    assert_eq!(refused(dir.path()), "the medium failed: segment 00000001 is cut short");
}

/// `u32::MAX` is never given.
#[test]
fn a_mailbox_runs_out_of_uids() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(99)), at(0)).unwrap();
    drop(store);
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    db.execute("UPDATE mailboxes SET uid_next = ?", [u32::MAX - 1]).unwrap();
    drop(db);
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(append(&store, MailboxId(1), b"m"), uid(u32::MAX - 1));
    let more = store.append(MailboxId(1), message(b"m", Flags::default()));
    assert_refused!(more, StoreError::OutOfUids);
}

/// A store in which every segment holds little that is in use; and how much of it is.
fn mostly_dead(dir: &Path, options: Options) -> EmbeddedStore {
    let store = EmbeddedStore::open(dir, options).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    for number in 0..40 {
        append(&store, MailboxId(1), &[number; 15_000]);
    }
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    let most: UidSet = (1..=40).filter(|one| one % 4 != 0).map(uid).collect();
    store.change_flags(MailboxId(1), &most, &deleted).unwrap();
    store.expunge(MailboxId(1), None).unwrap();
    store
}

fn all_read(store: &EmbeddedStore) {
    for one in store.summaries(MailboxId(1), &UidSet::all(), 99).unwrap() {
        let octets = store.read(one.blob, 0, u64::MAX).unwrap();
        assert!(octets.len() == 15_000 && octets.iter().all(|one| *one == octets[0]));
    }
}

#[test]
fn compaction_brings_dead_octets_back() {
    let dir = TempDir::new().unwrap();
    let store = mostly_dead(dir.path(), small());
    let segments = dir.path().join("segments");
    assert_eq!(files(&segments), 10);
    let mut total = Compacted::default();
    loop {
        let done = store.compact().unwrap();
        if done.segments == 0 {
            break;
        }
        total.segments += done.segments;
        total.moved_octets += done.moved_octets;
        total.freed_octets += done.freed_octets;
    }
    // Four were in each, one of them lives; also the segment that was appended to.
    let record = record::record_octets(15_000);
    assert_eq!((total.segments, total.moved_octets), (10, 10 * record));
    assert_eq!(total.freed_octets, 40 * record);
    assert_eq!(store.upkeep().moved_octets, 10 * record);
    all_read(&store);
    // A call later, so that the writer has done its work after the reply.
    store.expunge(MailboxId(1), None).unwrap();
    assert_eq!(files(&segments), 3);
    drop(store);
    all_read(&EmbeddedStore::open(dir.path(), small()).unwrap());
}

#[test]
fn reads_go_on_while_octets_move() {
    let dir = TempDir::new().unwrap();
    let store = mostly_dead(dir.path(), small());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    all_read(&store);
                }
            });
        }
        for _ in 0..5 {
            while store.compact().unwrap().segments > 0 {}
            // What is there dies again, and comes again.
            store.move_messages(MailboxId(1), &UidSet::all(), MailboxId(2), at(1)).unwrap();
            store.move_messages(MailboxId(2), &UidSet::all(), MailboxId(1), at(1)).unwrap();
            store.delete_mailbox(create(&store, AccountId(1), "a")).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}

/// Nobody asks for it: it is done in the background.
#[test]
fn upkeep_compacts_by_itself() {
    let dir = TempDir::new().unwrap();
    let upkeep_every = Duration::from_millis(20);
    let store = mostly_dead(dir.path(), Options { upkeep_every, ..small() });
    let began = std::time::Instant::now();
    while store.upkeep().freed_octets == 0 && began.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert!(store.upkeep().freed_octets > 0);
    all_read(&store);
}

/// A record that cannot be read stays where it is, with its segment; the others are moved.
#[test]
fn compaction_leaves_what_it_cannot_read() {
    use std::os::unix::fs::FileExt as _;
    let dir = TempDir::new().unwrap();
    let store = mostly_dead(dir.path(), small());
    let segment = segments::path(&dir.path().join("segments"), 1);
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[9], 3 * record::record_octets(15_000) + 100).unwrap();
    while store.compact().unwrap().segments > 0 {}
    assert!(segment.exists());
    let blobs = store.summaries(MailboxId(1), &UidSet::all(), 99).unwrap();
    assert_eq!(blobs.iter().filter(|one| store.read(one.blob, 0, 9).is_err()).count(), 1);
}
