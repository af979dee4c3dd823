//! The embedded store, put through the contract and held against the model.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::assert_refused;
use crate::contract::*;
use crate::{FlagChange, Flags};

/// Small segments, so that tests see many; and what is read is read from the disk.
pub(super) fn small() -> Options {
    Options { segment_octets: 64 * 1024, readers: 4, recent_octets: 0, ..Options::default() }
}

/// Octets that nothing makes smaller, different for each seed and beginning with it.
pub(super) fn noise(seed: u64, octets: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(octets + 8);
    noise.push(seed as u8);
    while noise.len() < octets {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(octets);
    // In one line: it is one piece where it is not too long.
    noise.iter_mut().filter(|octet| **octet == b'\n').for_each(|octet| *octet = b'\r');
    noise
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

pub(super) fn files(dir: &Path) -> usize {
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
    db.pragma_update(None, "user_version", 8).unwrap();
    drop(db);
    let newer = "the medium failed: the store has format 8, this program knows up to 7";
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

/// What several cores bring back from a spool, and cut, hash and shrink at once, is what it was; and is the same
/// pieces when it comes again.
#[test]
fn a_message_that_several_cores_work_on_is_kept_as_it_came() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    let lines: Vec<u8> =
        (0..150_000).flat_map(|line| format!("{line:>74}\r\n").into_bytes()).collect();
    let whole = [&b"Subject: x\r\n\r\n"[..], &lines, &noise(7, 3_000_001)].concat();
    let mut pieces = 0;
    for _ in 0..2 {
        let mut spool = store.spool().unwrap();
        for part in whole.chunks(48 * 1024) {
            spool.write(part).unwrap();
        }
        let octets = spool.finish().unwrap().into_octets().unwrap();
        assert!(octets == whole);
        append(&store, MailboxId(1), &octets);
        let kept = store.summaries(MailboxId(1), &UidSet::all(), 9).unwrap().pop().unwrap();
        assert!(store.read(kept.blob, 0, u64::MAX).unwrap() == whole);
        let now = stats(dir.path()).unwrap().pieces;
        assert!(now > 100 && (pieces == 0 || pieces == now), "{now} after {pieces}");
        pieces = now;
    }
}

/// Space comes back when the last record of a segment is let go of.
#[test]
fn dead_segments_are_unlinked() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    let inbox = MailboxId(1);
    for number in 0..10 {
        append(&store, inbox, &noise(number, 30_000));
        append(&store, inbox, &noise(100 + number, 150_000));
    }
    let segments = dir.path().join("segments");
    assert!(files(&segments) >= 27, "{}", files(&segments));
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    // The last is appended to. A call later, so that the writer has done its work after the reply.
    store.expunge(inbox, None).unwrap();
    assert_eq!((files(&segments), files(&dir.path().join("large"))), (1, 0));
    assert_eq!(stats(dir.path()).unwrap().pieces, 0);
    append(&store, inbox, b"m");
    assert_eq!(files(&dir.path().join("spool")), 0);
}

/// What somebody still reads stays where it is, whatever else goes, and goes once he has done.
#[test]
fn segments_are_unlinked_when_nobody_reads_from_them_any_more() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    let inbox = MailboxId(1);
    let octets = noise(1, 150_000);
    append(&store, inbox, &octets);
    let blob = store.summaries(inbox, &UidSet::all(), 9).unwrap()[0].blob;
    // Between the two, so that the last segments are only half dead, and compacted.
    append(&store, inbox, &noise(2, 1_000));
    let held = store.hold(blob, 0, u64::MAX).unwrap();
    let segments = dir.path().join("segments");
    let before = files(&segments);
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    store.change_flags(inbox, &uids(&[1]), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    while store.compact().unwrap().segments > 0 {}
    store.expunge(inbox, None).unwrap();
    assert!(files(&segments) >= before, "{} of {before}", files(&segments));
    assert!(held.read(0, u64::MAX).unwrap() == octets);
    drop(held);
    // With the next that is written, and once the writer has done its work after the reply.
    append(&store, inbox, b"m");
    store.expunge(inbox, None).unwrap();
    assert!(files(&segments) <= 2, "{} of {before}", files(&segments));
    // Also when the program ended before that.
    append(&store, inbox, &octets);
    let blob = store.summaries(inbox, &uids(&[4]), 9).unwrap()[0].blob;
    let held = store.hold(blob, 0, u64::MAX).unwrap();
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    drop(store);
    assert!(held.read(0, u64::MAX).unwrap() == octets);
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert!(files(&segments) <= 1, "{}", files(&segments));
    append(&store, inbox, b"m");
}

#[test]
fn damaged_octets_are_not_handed_out() {
    use std::os::unix::fs::FileExt as _;
    let dir = TempDir::new().unwrap();
    let options = Options { segment_octets: 4 << 20, readers: 1, ..small() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    append(&store, MailboxId(1), &noise(1, 100));
    append(&store, MailboxId(1), &noise(2, 200_000));
    let blobs: Vec<BlobId> = store
        .summaries(MailboxId(1), &UidSet::all(), 9)
        .unwrap()
        .iter()
        .map(|one| one.blob)
        .collect();
    let piece = |blob, at| {
        let part = |db: &rusqlite::Connection| octets::locate(db, blob, at, at + 1);
        store.shared.readers.read(part).unwrap().remove(0)
    };
    let (second, within) = piece(blobs[1], 70_000);
    let segment = segments::path(&dir.path().join("segments"), 1);
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    for (part, at) in [(piece(blobs[0], 50).0, 50), (second, within.start)] {
        file.write_all_at(&[0xa5], part.place.start + record::HEADER_OCTETS + at).unwrap();
    }
    let damaged = |start, end, blob| store.read(blob, start, end).is_err();
    assert!(damaged(0, 10, blobs[0]) && damaged(0, 300_000, blobs[1]));
    // Of a larger one, only the piece.
    let from = 70_000 - within.start;
    let until = from + second.octets;
    assert!(damaged(from, from + 1, blobs[1]) && damaged(until - 1, until, blobs[1]));
    assert!(!damaged(0, from, blobs[1]) && !damaged(until, 200_000, blobs[1]));
}

#[test]
fn a_segment_cut_short_is_noticed_at_once() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let anna = holder("anna@pec.example", octets_max(1 << 40));
    store.add_account(anna, at(0)).unwrap();
    append(&store, MailboxId(1), &noise(1, 100));
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
pub(super) fn mostly_dead(dir: &Path, options: Options) -> EmbeddedStore {
    let store = EmbeddedStore::open(dir, options).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    for number in 0..40 {
        append(&store, MailboxId(1), &noise(number, 15_000));
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
        assert_eq!(octets, noise(octets[0].into(), 15_000));
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

/// What was stored just now is read without the disk, for as long as something refers to it.
#[test]
fn what_was_stored_just_now_is_in_memory_and_gone_with_its_message() {
    let dir = TempDir::new().unwrap();
    let options = Options { recent_octets: 1 << 20, ..small() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    append(&store, MailboxId(1), &noise(1, 900));
    let segment = segments::path(&dir.path().join("segments"), 1);
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(store.read(BlobId(1), 0, 900).unwrap(), noise(1, 900));
    assert_eq!(store.read(BlobId(1), 890, 2000).unwrap(), noise(1, 900)[890..]);
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    store.change_flags(MailboxId(1), &UidSet::all(), &deleted).unwrap();
    store.expunge(MailboxId(1), None).unwrap();
    assert!(matches!(store.read(BlobId(1), 0, 9), Err(StoreError::NoSuchMessage)));
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

/// What a certified exchange keeps of one message: each octet once, and each message whole.
#[test]
fn what_is_the_same_is_stored_once() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    for who in ["anna@pec.example", "bruno@pec.example"] {
        store.add_account(holder(who, octets_max(1 << 40)), at(0)).unwrap();
    }
    let attachment = noise(1, 300_000);
    let enclosed = |head: &str| {
        let mut message = format!("Subject: {head}\r\n\r\n--x\r\n\r\n").into_bytes();
        message.extend_from_slice(&attachment);
        message.extend_from_slice(b"\r\n--x--\r\n");
        message
    };
    let inbox = MailboxId(1);
    let his = store.mailbox(AccountId(2), &MailboxName::inbox()).unwrap().id;
    let messages = ["originale", "busta", "ricevuta"].map(enclosed);
    append(&store, inbox, &messages[0]);
    append(&store, his, &messages[1]);
    append(&store, inbox, &messages[2]);
    let figures = stats(dir.path()).unwrap();
    let octets = messages.iter().map(|one| one.len() as u64).sum::<u64>();
    assert_eq!(figures.message_octets, octets);
    assert!(figures.stored_octets() < 302_000, "{figures:?}");
    assert_eq!(held(&store, AccountId(2)), (messages[1].len() as u64, 1));
    // They are shared, and let go of one by one.
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    store.change_flags(inbox, &uids(&[1]), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    let read = |mailbox, at: usize| {
        let all = store.summaries(mailbox, &UidSet::all(), 9).unwrap();
        store.read(all[at].blob, 0, u64::MAX).unwrap()
    };
    assert!(read(inbox, 0) == messages[2] && read(his, 0) == messages[1]);
    for (start, end) in [(0, 10), (30, 70_000), (299_990, 400_000), (150_000, 150_001), (5, 5)] {
        let blob = store.summaries(his, &UidSet::all(), 9).unwrap()[0].blob;
        let expected = &messages[1][start.min(messages[1].len())..end.min(messages[1].len())];
        assert_eq!(store.read(blob, start as u64, end as u64).unwrap(), expected);
    }
    store.remove_account(AccountId(2)).unwrap();
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    assert_eq!(stats(dir.path()).unwrap().pieces, 0);
}

/// One group lets go of a piece and another message comes to need it: it stays.
#[test]
fn a_piece_that_is_let_go_of_and_needed_at_once_is_there() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let body = noise(1, 20_000);
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    std::thread::scope(|scope| {
        for mailbox in (1..=4).map(MailboxId) {
            let (store, body, deleted) = (&store, &body, &deleted);
            scope.spawn(move || {
                for _ in 0..100 {
                    let uid = append(store, mailbox, body);
                    let one = uids(&[uid.0.get()]);
                    let blob = store.summaries(mailbox, &one, 1).unwrap()[0].blob;
                    assert_eq!(store.read(blob, 0, u64::MAX).unwrap(), *body);
                    store.change_flags(mailbox, &one, deleted).unwrap();
                    store.expunge(mailbox, None).unwrap();
                }
            });
        }
    });
    let figures = stats(dir.path()).unwrap();
    assert_eq!((figures.pieces, figures.live_octets), (0, 0));
}

/// A store of format 2, where octets lay whole and large ones in files of their own, is brought
/// forward when it is opened.
#[test]
fn a_store_of_format_2_is_brought_forward() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let bodies = [noise(1, 900), noise(2, 50_000), noise(3, 100), Vec::new()];
    for body in &bodies {
        append(&store, MailboxId(1), body);
    }
    drop(store);
    let large = dir.path().join("large").join("00000000");
    std::fs::create_dir(&large).unwrap();
    let own = large.join(format!("{:016x}", 3));
    let crcs = record::Crcs::of(&bodies[2]).table();
    std::fs::write(&own, [&record::header(0, 100)[..], &bodies[2], &crcs].concat()).unwrap();
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    let record = record::record_octets(100);
    db.execute_batch(&format!(
        "CREATE TABLE blobs_2 (
             id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, start INTEGER NOT NULL,
             octets INTEGER NOT NULL, refs INTEGER NOT NULL);
         INSERT INTO blobs_2 SELECT p.id, p.segment, p.start, p.octets, b.refs
             FROM pieces p JOIN blobs b ON b.id = p.id;
         UPDATE blobs_2 SET segment = 0, start = 0 WHERE id = 3;
         INSERT INTO blobs_2 VALUES (4, 1, (SELECT end FROM segments), 0, 1);
         UPDATE segments SET live = live - {record} + 24, end = end + 24;
         DROP TABLE blobs; DROP TABLE pieces; ALTER TABLE blobs_2 RENAME TO blobs;
         ALTER TABLE counters DROP COLUMN piece; DROP TABLE annotations;
         DROP INDEX jobs_due; DROP INDEX jobs_lane; DROP INDEX jobs_turn; DROP INDEX jobs_age;
         ALTER TABLE jobs DROP COLUMN destination; ALTER TABLE jobs DROP COLUMN class;
         ALTER TABLE jobs DROP COLUMN account; ALTER TABLE jobs DROP COLUMN turn;
         CREATE INDEX jobs_due ON jobs (due); PRAGMA user_version = 2;"
    ))
    .unwrap();
    drop(db);
    assert!(stats(dir.path()).unwrap_err().to_string().contains("has format 2"));
    for _ in 0..2 {
        let store = EmbeddedStore::open(dir.path(), small()).unwrap();
        let all = store.summaries(MailboxId(1), &UidSet::all(), 9).unwrap();
        let read = all.iter().take(4).map(|one| store.read(one.blob, 0, u64::MAX).unwrap());
        assert!(read.eq(bodies.iter().cloned()));
        let mut tell = |seen| assert!(!matches!(seen, crate::Seen::Finding(..)), "{seen:?}");
        assert_eq!(check(dir.path(), &MasterKeys::default(), &mut tell).unwrap().findings, 0);
        append(&store, MailboxId(1), &bodies[0]);
    }
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let deleted = FlagChange::Add(system(crate::SystemFlags::DELETED));
    store.change_flags(MailboxId(1), &UidSet::all(), &deleted).unwrap();
    store.expunge(MailboxId(1), None).unwrap();
    store.expunge(MailboxId(1), None).unwrap();
    assert!(!own.exists());
    assert_eq!(stats(dir.path()).unwrap().pieces, 0);
}
