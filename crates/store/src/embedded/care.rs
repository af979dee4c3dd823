//! Tests of what cares for a store: checks, scrubbing, figures and copies.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::faults::picture;
use super::tests::{files, mostly_dead, noise, small};
use super::*;
use crate::contract::*;
use crate::{FlagChange, Flags, NewJob, Part, Seen, Source, SystemFlags};

/// All that a check finds.
fn findings(dir: &Path) -> Vec<(Part, String)> {
    let mut found = Vec::new();
    let checked = check(dir, &MasterKeys::default(), &mut |seen| {
        if let Seen::Finding(part, text) = seen {
            found.push((part, text));
        }
    });
    assert_eq!(checked.unwrap().findings, found.len() as u64);
    found
}

/// A store with a little of everything.
fn varied(dir: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(dir, small()).unwrap();
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = MailboxId(1);
    append(&store, inbox, &noise(1, 900));
    append(&store, inbox, &noise(2, 50_000));
    append(&store, inbox, &noise(3, 200_000));
    store.append(inbox, message(b"seen", system(SystemFlags::SEEN))).unwrap();
    store.append(inbox, message(b"deleted", system(SystemFlags::DELETED))).unwrap();
    store.copy(inbox, &uids(&[1, 3, 5]), create(&store, anna, "other"), at(1)).unwrap();
    store.expunge(inbox, None).unwrap();
    let job = NewJob { due: at(1), payload: vec![1], octets: Some(Source::New(0)), lane: None };
    let step = Transaction {
        octets: vec![inline(&[4; 5_000])],
        deliver: vec![delivery("anna@pec.example", Charge::Quota)],
        enqueue: vec![job],
        log: vec![LogRecord { event: "consegna".into(), ..LogRecord::default() }],
        ..Transaction::default()
    };
    store.commit(step).unwrap();
    store
}

#[test]
fn a_sound_store_has_no_findings_open_or_not() {
    let dir = TempDir::new().unwrap();
    let store = varied(dir.path());
    assert_eq!(findings(dir.path()), []);
    drop(store);
    assert_eq!(findings(dir.path()), []);
    let empty = TempDir::new().unwrap();
    drop(EmbeddedStore::open(empty.path(), small()).unwrap());
    assert_eq!(findings(empty.path()), []);
}

#[test]
fn each_inconsistency_is_named() {
    let broken = [
        (
            "UPDATE accounts SET octets = octets + 1",
            Part::Account,
            "account anna@pec.example says 456812 octets in 8 messages, its mailboxes hold 456811 in 8",
        ),
        (
            "DELETE FROM logins",
            Part::Account,
            "nobody can sign in as anna@pec.example: the name is not there",
        ),
        (
            "INSERT INTO logins VALUES ('bruno', 9)",
            Part::Account,
            "the login bruno is of account 9, which is not there",
        ),
        (
            "UPDATE mailboxes SET unseen = 0 WHERE id = 1",
            Part::Mailbox,
            "mailbox 1 (INBOX) says 5 messages, 255904 octets, 0 unseen, 5 recent, 0 deleted of 0 octets; \
          counted: 5, 255904, 4, 5, 0, 0",
        ),
        (
            "UPDATE mailboxes SET uid_next = 6 WHERE id = 1",
            Part::Mailbox,
            "mailbox 1 (INBOX) gives UID 6 next and has a message with UID 6",
        ),
        (
            "UPDATE messages SET mod_seq = 99 WHERE mailbox = 1 AND uid = 1",
            Part::Mailbox,
            "mailbox 1 (INBOX) has MODSEQ 7 and a message with 99",
        ),
        (
            "INSERT INTO expunged VALUES (1, 7, 1, 1)",
            Part::Message,
            "message 1 of mailbox 1 is there and told to be expunged",
        ),
        (
            "UPDATE messages SET octets = 901 WHERE mailbox = 1 AND uid = 1",
            Part::Message,
            "message 1 of mailbox 1 is charged 901 octets and has 900",
        ),
        (
            "DELETE FROM blobs WHERE id = 4",
            Part::Message,
            "message 4 of mailbox 1 has no octets: blob 4 is not there",
        ),
        (
            "UPDATE jobs SET blob = 77",
            Part::References,
            "job 1 is about blob 77, which is not there",
        ),
        (
            "UPDATE blobs SET refs = 9 WHERE id = 1",
            Part::References,
            "blob 1 is said to be referred to 9 times, and is 2",
        ),
        (
            "UPDATE segments SET live = live - 1 WHERE id = 1",
            Part::Segment,
            "segment 00000001 says ",
        ),
        ("UPDATE counters SET job = 0", Part::Counters, "the last job given is 0, and there is 1"),
        (
            "UPDATE pieces SET refs = 5 WHERE id = 1",
            Part::References,
            "piece 1 is said to be in 5 places, and is in 1",
        ),
        (
            "DELETE FROM pieces WHERE id = 1",
            Part::References,
            "blob 1 is made of piece 1, which is not there",
        ),
        (
            "UPDATE pieces SET octets = 9 WHERE id = 1",
            Part::References,
            "piece 1 of blob 1 is not 900 octets long",
        ),
        (
            "UPDATE blobs SET pieces = x'01' WHERE id = 1",
            Part::References,
            "blob 1 has no list of its pieces",
        ),
        (
            "UPDATE blobs SET pieces = x'018407018407' WHERE id = 1",
            Part::References,
            "blob 1 has 900 octets, and its pieces another number",
        ),
        (
            "UPDATE counters SET piece = 0",
            Part::Counters,
            "the last piece given is 0, and there is ",
        ),
        (
            "UPDATE counters SET jobs = 3",
            Part::Counters,
            "3 jobs are said to wait, and there are 1",
        ),
    ];
    for (sql, part, text) in broken {
        let dir = TempDir::new().unwrap();
        drop(varied(dir.path()));
        let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        let found = findings(dir.path());
        let named = found.iter().any(|(at, said)| *at == part && said.starts_with(text));
        assert!(named, "{sql}: {found:?}");
    }
}

#[test]
fn damaged_and_missing_octets_are_named_with_who_has_them() {
    let dir = TempDir::new().unwrap();
    let store = varied(dir.path());
    let segment = segments::path(&dir.path().join("segments"), 1);
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0xa5], record::HEADER_OCTETS + 10).unwrap();
    let found = findings(dir.path());
    let text = "piece 1 is damaged: the medium failed: stored octets do not have their checksum; \
                anna@pec.example, INBOX, UID 1; anna@pec.example, other, UID 1";
    assert_eq!(found, [(Part::Octets, text.to_owned())]);
    file.set_len(60).unwrap();
    let found = findings(dir.path());
    let is = |part, text: &str| found.iter().any(|(p, t)| *p == part && t.starts_with(text));
    assert!(is(Part::Segment, "segment 00000001 has 60 octets of"), "{found:?}");
    assert!(is(Part::Octets, "piece 2 is damaged"), "{found:?}");
    drop(store);
}

#[test]
fn scrubbing_tells_of_damage() {
    let dir = TempDir::new().unwrap();
    drop(varied(dir.path()));
    let segment = segments::path(&dir.path().join("segments"), 1);
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0xa5], record::HEADER_OCTETS + 10).unwrap();
    let options = Options { upkeep_every: Duration::from_millis(20), ..small() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    let began = std::time::Instant::now();
    while store.upkeep().damaged == 0 && began.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert_eq!(store.upkeep().damaged, 1);
}

/// An index of texts only saves reading: one that cannot be had fails no search.
#[test]
fn without_its_index_of_texts_a_search_reads_messages() {
    let dir = TempDir::new().unwrap();
    let store = varied(dir.path());
    let inbox = MailboxId(1);
    let blob = store.summaries(inbox, &UidSet::all(), 1).unwrap()[0].blob;
    let text = MessageText { header: "oggetto".into(), body: "testo".into() };
    store.index_texts(inbox, uid(4), vec![(blob, Some(text))]).unwrap();
    let find = |store: &EmbeddedStore| store.find_text(inbox, "oggetto", Within::Message);
    assert_eq!(find(&store).unwrap().unwrap().sure, [blob]);
    drop(store);
    let index = dir.path().join("search/01/00000001.db");
    std::fs::remove_file(&index).unwrap();
    std::fs::create_dir(&index).unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(find(&store).unwrap(), None);
    let nowhere = store.find_text(MailboxId(999), "oggetto", Within::Message);
    assert!(matches!(nowhere, Err(StoreError::NoSuchMailbox)), "{nowhere:?}");
    std::fs::remove_dir(&index).unwrap();
    assert_eq!(find(&store).unwrap(), None);
    assert_eq!(store.texts_indexed_to(inbox).unwrap(), Some(0));
}

#[test]
fn figures_say_what_is_shared_and_what_is_dead() {
    let dir = TempDir::new().unwrap();
    let store = mostly_dead(dir.path(), small());
    store.copy(MailboxId(1), &UidSet::all(), MailboxId(2), at(1)).unwrap();
    let record = record::record_octets(15_000);
    let figures = stats(dir.path()).unwrap();
    assert_eq!((figures.accounts, figures.messages, figures.message_octets), (1, 20, 300_000));
    assert_eq!(figures.distinct_octets, 150_000);
    assert_eq!((figures.live_octets, figures.dead_octets), (10 * record, 30 * record));
    assert_eq!(figures.saved_octets(), 300_000 - 10 * record);
    while store.compact().unwrap().segments > 0 {}
    let figures = stats(dir.path()).unwrap();
    assert_eq!((figures.live_octets, figures.dead_octets), (10 * record, 0));
}

/// The copy is of one instant, and everything acknowledged before it is in it.
#[test]
fn a_copy_made_under_load_is_a_store_that_holds() {
    let dir = TempDir::new().unwrap();
    let copies = TempDir::new().unwrap();
    let store = mostly_dead(dir.path(), small());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let deleted = FlagChange::Add(system(SystemFlags::DELETED));
            let mut number = 0u32;
            while !done.load(Ordering::SeqCst) {
                number += 1;
                append(&store, MailboxId(2), &noise(number.into(), 15_000));
                append(&store, MailboxId(3), &noise((number % 3).into(), 300_000));
                if number.is_multiple_of(4) {
                    for mailbox in [MailboxId(2), MailboxId(3)] {
                        store.change_flags(mailbox, &UidSet::all(), &deleted).unwrap();
                        store.expunge(mailbox, None).unwrap();
                    }
                    store.compact().unwrap();
                }
            }
        });
        for number in 0..5 {
            append(&store, MailboxId(4), &[number; 700]);
            let to = copies.path().join(number.to_string());
            backup(dir.path(), &to, &mut |_, _| {}).unwrap();
            assert_eq!(findings(&to), []);
            let copy = EmbeddedStore::open(&to, small()).unwrap();
            assert_eq!(copy.status(MailboxId(1)).unwrap().messages, 10);
            assert_eq!(copy.status(MailboxId(4)).unwrap().messages, u64::from(number) + 1);
            picture(&copy);
            append(&copy, MailboxId(2), b"and it goes on");
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(findings(dir.path()), []);
    // A copy of what is quiet says the same, word for word.
    let to = copies.path().join("quiet");
    let copied = backup(dir.path(), &to, &mut |done, all| assert!(done <= all)).unwrap();
    assert!(copied > 10 * 15_000);
    assert_eq!(picture(&EmbeddedStore::open(&to, small()).unwrap()), picture(&store));
    let again = backup(dir.path(), &to, &mut |_, _| {}).unwrap_err().to_string();
    assert!(again.ends_with("is there already: name another folder"), "{again}");
}

#[test]
fn nothing_is_unlinked_while_it_is_copied() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    for number in 0..10 {
        append(&store, MailboxId(1), &noise(number, 30_000));
    }
    let count = || files(&dir.path().join("segments"));
    let before = count();
    let pin = backup::Pin::hold(dir.path()).unwrap();
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    store.change_flags(MailboxId(1), &UidSet::all(), &deleted).unwrap();
    store.expunge(MailboxId(1), None).unwrap();
    store.expunge(MailboxId(1), None).unwrap();
    assert_eq!(count(), before);
    // Nor by a store that is opened meanwhile.
    drop(store);
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert_eq!(count(), before);
    drop(pin);
    drop(store);
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    assert!(count() <= 1);
    store.append(MailboxId(1), message(b"m", Flags::default())).unwrap();
}

/// Who adds a table that refers to octets must say so, or a check finds faults where there are none.
#[test]
fn every_table_that_refers_to_octets_is_known_to_the_check() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedStore::open(dir.path(), small()).unwrap());
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    let get = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
               WHERE t.type = 'table' AND c.name = 'blob'
                   -- What a digest is of goes first, and takes it along.
                   AND t.name NOT IN ('counters', 'doomed', 'digests') ORDER BY 1";
    let mut get = db.prepare(get).unwrap();
    let rows = get.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut known: Vec<(String, String)> =
        schema::BLOB_HOLDERS.iter().map(|(t, c)| ((*t).to_owned(), (*c).to_owned())).collect();
    known.sort();
    assert_eq!(rows.collect::<Result<Vec<(String, String)>, _>>().unwrap(), known);
}
