//! Several nodes on one database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use scenarios::postgres::Postgres;
use scenarios::wire::until_within;
use store::contract::{
    append, at, create, deliver, delivery, holder, inline, message, octets_max, uid,
};
use store::shared::{Options, Place, SharedStore, Unreachable, look};
use store::{
    AccountChange, AccountId, Charge, Elsewhere, Lane, LogRecord, MailboxId, MailboxName, Mark,
    NewJob, NewMailbox, Share, State, Store, StoreError, Timestamp, Transaction, UidSet, Urgency,
    assert_refused,
};
use tempfile::TempDir;

use crate::{database, in_bucket, in_folder, noise, open, schema};

/// How long what happens at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn two() -> (TempDir, SharedStore, SharedStore) {
    let folder = TempDir::new().unwrap();
    let options = in_folder(database(), &schema(), &folder);
    let (one, other) = (open(&options), open(&options));
    (folder, one, other)
}

fn anna(store: &dyn Store) -> (AccountId, MailboxId) {
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    (anna, store.mailbox(anna, &MailboxName::inbox()).unwrap().id)
}

fn job(payload: &[u8]) -> NewJob {
    NewJob { due: at(1), payload: payload.to_vec(), octets: None, lane: None }
}

#[test]
fn one_node_hears_what_another_commits() {
    let (_folder, one, other) = two();
    let (_, inbox) = anna(&one);
    let (tell, heard) = channel();
    other.listen(Box::new(move |mailbox| tell.send(mailbox).unwrap()));
    append(&one, inbox, b"m");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), inbox);
    // It is there when it is heard of, with its octets.
    let summary = other.summaries(inbox, &UidSet::all(), 9).unwrap().remove(0);
    assert_eq!(other.read(summary.blob, 0, 9).unwrap(), b"m");
    // What was refused is not heard of, and a node hears its own changes once.
    deliver(&one, "nobody@pec.example", b"m", Charge::Quota).unwrap_err();
    append(&other, inbox, b"n");
    append(&one, inbox, b"o");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), inbox);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), inbox);
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn uids_numbers_and_quotas_are_right_under_two_nodes() {
    const THREADS: usize = 4;
    const EACH: usize = 30;
    let (_folder, one, other) = two();
    let (anna, inbox) = anna(&one);
    // Room for all but ten.
    let max = (THREADS * 2 * EACH - 10) as u64 * 10;
    one.change_account(anna, AccountChange::Quota(octets_max(max))).unwrap();
    let done: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = [&one, &other]
            .into_iter()
            .cycle()
            .take(THREADS * 2)
            .enumerate()
            .map(|(thread, node)| {
                scope.spawn(move || {
                    let once = |number: &usize| {
                        let step = Transaction {
                            at: at(1),
                            octets: vec![inline(&[b'x'; 10])],
                            deliver: vec![delivery("anna@pec.example", Charge::Quota)],
                            log: vec![LogRecord {
                                time: at(1),
                                event: format!("{thread} {number}"),
                                ..LogRecord::default()
                            }],
                            ..Transaction::default()
                        };
                        match node.commit(step) {
                            Ok(_) => true,
                            Err(StoreError::OverQuota(id)) => {
                                assert_eq!(id, anna);
                                false
                            }
                            Err(error) => panic!("{error}"),
                        }
                    };
                    (0..EACH).filter(once).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(done, THREADS * 2 * EACH - 10);
    let usage = other.usage(anna).unwrap();
    assert_eq!((usage.octets, usage.messages), (max, done as u64));
    let opened = other.open(inbox, false).unwrap();
    assert_eq!((opened.uids.count(), opened.uids.ranges().len()), (done as u64, 1));
    assert_eq!(opened.status.mod_seq.0, done as u64);
    let numbers: Vec<u64> =
        one.log_entries(0, 999).unwrap().iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=done as u64).collect::<Vec<_>>());
}

#[test]
fn a_job_is_given_to_one_node_until_that_is_gone() {
    let (_folder, one, other) = two();
    let step = Transaction { at: at(0), enqueue: vec![job(b"a"), job(b"b")], ..Default::default() };
    let ids = one.commit(step).unwrap().enqueued;
    let due = |node: &SharedStore| -> Vec<_> {
        node.jobs_due(at(2), None, 9).unwrap().iter().map(|job| job.id).collect()
    };
    assert_eq!(due(&one), ids);
    assert_eq!(due(&one), ids, "what a node has it is given again");
    assert_eq!(due(&other), [], "and nobody else");
    one.postpone(ids[0], at(2), "later").unwrap();
    assert_eq!(due(&other), ids[..1], "what was put off is anybody's");
    drop(one);
    assert_eq!(due(&other), ids, "what a node had that left is too");
    let consume =
        |ids: &[store::JobId]| Transaction { consume: ids.to_vec(), ..Default::default() };
    other.commit(consume(&ids)).unwrap();
    assert_refused!(other.commit(consume(&ids[..1])), StoreError::JobGone(_));
}

#[test]
fn one_job_is_taken_by_one_node() {
    let (_folder, one, other) = two();
    let step = Transaction { at: at(0), enqueue: vec![job(b"a"), job(b"b")], ..Default::default() };
    let ids = one.commit(step).unwrap().enqueued;
    let take = |node: &SharedStore, id| node.take_job(id).unwrap().map(|job| job.id);
    assert_eq!(take(&one, ids[0]), Some(ids[0]));
    assert_eq!(take(&one, ids[0]), Some(ids[0]), "what a node has it may take again");
    assert_eq!(take(&other, ids[0]), None);
    let due: Vec<_> = other.jobs_due(at(2), None, 9).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(due, ids[1..]);
    assert_eq!(take(&one, ids[1]), None, "nor what it was given by a look");
    drop(one);
    assert_eq!(take(&other, ids[0]), Some(ids[0]), "what a node had that left is anybody's");
    assert_eq!(take(&other, store::JobId(999)), None);
}

#[test]
fn a_step_of_two_nodes_is_done_once() {
    let (_folder, one, other) = two();
    let (_, inbox) = anna(&one);
    for number in 0..20u8 {
        let step = Transaction { at: at(0), enqueue: vec![job(b"a")], ..Default::default() };
        let id = one.commit(step).unwrap().enqueued[0];
        let done: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = [&one, &other]
                .map(|node| {
                    scope.spawn(move || {
                        let step = Transaction {
                            at: at(2),
                            consume: vec![id],
                            octets: vec![inline(b"m")],
                            deliver: vec![delivery("anna@pec.example", Charge::Quota)],
                            once: vec![Mark { key: [number; 32], value: [1; 32] }],
                            ..Transaction::default()
                        };
                        match node.commit(step) {
                            Ok(_) => 1,
                            Err(StoreError::JobGone(_)) => 0,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .into_iter()
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(done, 1);
    }
    assert_eq!(other.status(inbox).unwrap().messages, 20);
}

#[test]
fn calls_that_stand_in_each_others_way_are_done_again() {
    let (_folder, one, other) = two();
    let (anna, inbox) = anna(&one);
    let archive = create(&one, anna, "archive");
    let bruno = one.add_account(holder("bruno@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let his = one.mailbox(bruno, &MailboxName::inbox()).unwrap().id;
    append(&one, inbox, b"m");
    append(&one, his, b"n");
    let first: UidSet = std::iter::once(uid(1)).collect();
    // Copies in both directions between two accounts, deliveries to both, and the same octets.
    std::thread::scope(|scope| {
        let first = &first;
        for (thread, node) in [&one, &other, &one, &other].into_iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..15 {
                    let (from, to) = if thread % 2 == 0 { (inbox, his) } else { (his, inbox) };
                    node.copy(from, first, to, at(1)).unwrap();
                    let mut step = Transaction {
                        at: at(1),
                        octets: vec![inline(b"both")],
                        deliver: vec![
                            delivery("anna@pec.example", Charge::Quota),
                            delivery("bruno@pec.example", Charge::Quota),
                        ],
                        ..Transaction::default()
                    };
                    if thread % 2 == 0 {
                        step.deliver.reverse();
                    }
                    node.commit(step).unwrap();
                    node.move_messages(inbox, first, archive, at(1)).unwrap();
                    node.move_messages(archive, &UidSet::all(), inbox, at(1)).unwrap();
                }
            });
        }
    });
    let messages: u64 =
        [inbox, his, archive].map(|mailbox| other.status(mailbox).unwrap().messages).iter().sum();
    let held = |id| other.usage(id).unwrap().messages;
    assert_eq!(messages, held(anna) + held(bruno));
    for mailbox in [inbox, his, archive] {
        let opened = other.open(mailbox, false).unwrap();
        assert_eq!(opened.uids.count(), opened.status.messages);
        for summary in other.summaries(mailbox, &UidSet::all(), 999).unwrap() {
            assert_eq!(other.read(summary.blob, 0, 99).unwrap().len() as u64, summary.octets);
        }
    }
}

#[test]
fn without_its_database_a_node_refuses_and_goes_on_after() {
    let mut database = Postgres::start().unwrap();
    let folder = TempDir::new().unwrap();
    let options = in_folder(&database, "pec", &folder);
    let (one, other) = (open(&options), Arc::new(open(&options)));
    let (_, inbox) = anna(&one);
    append(&one, inbox, b"before");
    let (tell, heard) = channel();
    other.listen(Box::new(move |mailbox| tell.send(mailbox).unwrap()));
    database.kill().unwrap();
    let begun = Instant::now();
    let new = message(b"lost", store::Flags::default());
    assert_refused!(one.append(inbox, new), StoreError::Unavailable(_));
    assert_refused!(one.status(inbox), StoreError::Unavailable(_));
    assert!(begun.elapsed() < PATIENCE);
    database.run().unwrap();
    let until = Instant::now() + PATIENCE;
    let given = loop {
        let new = message(b"after", store::Flags::default());
        match one.append(inbox, new) {
            Ok(appended) => break appended.uid,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    assert_eq!(given, uid(2));
    // The other node hears of all that it may have missed, other mailboxes of the last seconds included.
    while heard.recv_timeout(PATIENCE).unwrap() != inbox {}
    let told = other.summaries(inbox, &UidSet::all(), 9).unwrap();
    let octets: Vec<_> = told.iter().map(|m| other.read(m.blob, 0, 99).unwrap()).collect();
    assert_eq!(octets, [&b"before"[..], b"after"]);
    let until = Instant::now() + PATIENCE;
    while let Err(error) = other.takes_writes() {
        assert!(Instant::now() < until, "{error}");
        scenarios::wire::pause();
    }
}

/// What was acknowledged is there, once, however often the database dies under load; what was not may
/// be there, once.
#[test]
fn deaths_of_the_database_lose_nothing_and_double_nothing() {
    const DEATHS: usize = 4;
    let mut database = Postgres::start().unwrap();
    let folder = TempDir::new().unwrap();
    let options = in_folder(&database, "pec", &folder);
    let nodes = [open(&options), open(&options)];
    let (anna, inbox) = anna(&nodes[0]);
    let stopping = std::sync::atomic::AtomicBool::new(false);
    let acknowledged: BTreeSet<String> = std::thread::scope(|scope| {
        let stopping = &stopping;
        let writers: Vec<_> = nodes
            .iter()
            .enumerate()
            .flat_map(|(number, node)| [(number, 0, node), (number, 1, node)])
            .map(|(number, thread, node)| {
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for count in 0.. {
                        if stopping.load(std::sync::atomic::Ordering::Relaxed) {
                            break;
                        }
                        let text = format!("{number}.{thread}.{count}");
                        let step = Transaction {
                            at: at(1),
                            octets: vec![inline(text.as_bytes())],
                            deliver: vec![delivery("anna@pec.example", Charge::Quota)],
                            log: vec![LogRecord {
                                time: at(1),
                                event: text.clone(),
                                ..LogRecord::default()
                            }],
                            ..Transaction::default()
                        };
                        match node.commit(step) {
                            Ok(_) => kept.push(text),
                            Err(StoreError::Unavailable(_)) => {
                                scenarios::wire::pause();
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                    kept
                })
            })
            .collect();
        for _ in 0..DEATHS {
            let reached = nodes[0].last_record().unwrap_or(0);
            let until = Instant::now() + PATIENCE;
            while nodes[0].last_record().is_ok_and(|last| last < reached + 20) {
                assert!(Instant::now() < until, "nothing is written");
                scenarios::wire::pause();
            }
            database.kill().unwrap();
            database.run().unwrap();
            let until = Instant::now() + PATIENCE;
            while nodes.iter().any(|node| node.status(inbox).is_err()) {
                assert!(Instant::now() < until, "the nodes do not come back");
                scenarios::wire::pause();
            }
        }
        stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let messages = nodes[1].summaries(inbox, &UidSet::all(), usize::MAX).unwrap();
    let read = |message: &store::Summary| {
        String::from_utf8(nodes[1].read(message.blob, 0, 99).unwrap()).unwrap()
    };
    let there: BTreeSet<String> = messages.iter().map(read).collect();
    assert_eq!(there.len(), messages.len(), "something is there twice");
    assert_eq!(acknowledged.difference(&there).count(), 0, "something is missing");
    assert!(acknowledged.len() >= DEATHS * 20);
    let logged: BTreeSet<String> = nodes[0]
        .log_entries(0, usize::MAX)
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_slice::<LogRecord>(&entry.octets).unwrap().event)
        .collect();
    assert_eq!(logged, there, "mail and log are of the same commits");
    let usage = nodes[0].usage(anna).unwrap();
    let octets: usize = there.iter().map(String::len).sum();
    assert_eq!((usage.octets, usage.messages), (octets as u64, there.len() as u64));
    scenarios::say(&format!(
        "{DEATHS} deaths of the database: {} acknowledged, {} there",
        acknowledged.len(),
        there.len()
    ));
}

#[test]
fn hostile_texts_are_only_texts() {
    let (_folder, one, _) = two();
    let (_, inbox) = anna(&one);
    let nul = "a\0b".to_owned();
    let long = "x".repeat(1 << 20);
    for text in [nul, long, "'; DROP TABLE log; --".to_owned()] {
        let record = LogRecord {
            time: at(1),
            event: "consegna".into(),
            identificativo: Some(text.clone()),
            msgid: Some(text.clone()),
            mittente: Some(text.clone()),
            ..LogRecord::default()
        };
        let step = Transaction {
            at: at(1),
            enqueue: vec![job(text.as_bytes())],
            log: vec![record.clone()],
            ..Transaction::default()
        };
        let id = one.commit(step).unwrap().enqueued[0];
        one.postpone(id, at(1), &text).unwrap();
        let filter = store::LogFilter { message_id: Some(text.clone()), ..Default::default() };
        let found = one.log(&filter, 0, 9).unwrap();
        assert_eq!(found.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), [record]);
        assert!(one.account_by_login(&text).unwrap().is_none());
        assert!(one.tracked(&text).unwrap().is_empty());
        assert!(one.lane_due(at(1), &text, 9).unwrap().is_empty());
        one.find_text(inbox, &text, store::Within::Message).unwrap();
    }
}

#[test]
fn octets_that_are_dead_are_swept_from_s3() {
    let folder = TempDir::new().unwrap();
    let name = schema();
    let options = in_bucket(database(), &name, &folder);
    let store = open(&options);
    let (_, inbox) = anna(&store);
    append(&store, inbox, b"dead");
    append(&store, inbox, b"alive");
    let objects = || crate::service_objects(&options);
    assert_eq!(objects(), 2);
    let one: UidSet = std::iter::once(uid(1)).collect();
    let deleted = store::contract::system(store::SystemFlags::DELETED);
    store.change_flags(inbox, &one, &store::FlagChange::Add(deleted)).unwrap();
    store.expunge(inbox, None).unwrap();
    // Who was on the way to it still finds it.
    assert_eq!(store.compact().unwrap().segments, 0);
    assert_eq!(objects(), 2);
    database()
        .ask(&format!("UPDATE {name}.garbage SET since = since - interval '2 minutes'"))
        .unwrap();
    let compacted = store.compact().unwrap();
    assert_eq!((compacted.segments, compacted.freed_octets), (1, 4));
    assert_eq!(objects(), 1);
    let left = store.summaries(inbox, &UidSet::all(), 9).unwrap().remove(0);
    assert_eq!(store.read(left.blob, 0, 9).unwrap(), b"alive");
}

/// A node says what it reads from, and then no other sweeps it.
#[test]
fn what_one_node_reads_no_other_sweeps() {
    let folder = TempDir::new().unwrap();
    let name = schema();
    let options = in_bucket(database(), &name, &folder);
    let (one, other) = (open(&options), open(&options));
    let (_, inbox) = anna(&one);
    let octets: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    append(&one, inbox, &octets);
    let blob = one.summaries(inbox, &UidSet::all(), 9).unwrap()[0].blob;
    let held = one.hold(blob, 100_000, 700_000).unwrap();
    let deleted = store::contract::system(store::SystemFlags::DELETED);
    one.change_flags(inbox, &UidSet::all(), &store::FlagChange::Add(deleted)).unwrap();
    one.expunge(inbox, None).unwrap();
    let later = || {
        let later = "garbage SET since = since - interval '2 minutes'";
        database().ask(&format!("UPDATE {name}.{later}")).unwrap();
    };
    later();
    assert_eq!(one.compact().unwrap().segments, 0);
    assert_eq!(other.compact().unwrap().segments, 0);
    assert!(held.read(150_000, 650_000).unwrap() == octets[150_000..650_000]);
    assert_refused!(other.read(blob, 0, 1), StoreError::NoSuchMessage);
    drop(held);
    later();
    assert_eq!(other.compact().unwrap().segments, 1);
    assert_eq!(crate::service_objects(&options), 0);
}

#[test]
fn damaged_octets_are_not_told() {
    let folder = TempDir::new().unwrap();
    let store = open(&in_folder(database(), &schema(), &folder));
    let (_, inbox) = anna(&store);
    let whole = noise(100_000);
    append(&store, inbox, &whole);
    let blob = store.summaries(inbox, &UidSet::all(), 9).unwrap()[0].blob;
    let segments = std::fs::read_dir(folder.path().join("segments")).unwrap();
    let mut segments = segments.map(|segment| segment.unwrap().path());
    let path = segments.find(|path| !path.ends_with("store.id")).unwrap();
    let mut octets = std::fs::read(&path).unwrap();
    octets[99_999] ^= 1;
    std::fs::write(&path, octets).unwrap();
    assert_eq!(store.read(blob, 0, 65_536).unwrap(), whole[..65_536]);
    assert_refused!(store.read(blob, 65_000, 66_000), StoreError::Medium(_));
}

#[test]
fn a_node_hears_what_another_does_to_accounts_and_names() {
    let (_folder, one, other) = two();
    let (anna, _) = anna(&one);
    let (tell, heard) = channel();
    other.listen_elsewhere(Box::new(move |what| tell.send(what).unwrap()));
    one.change_account(anna, AccountChange::State(State::Suspended)).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Elsewhere::Account(anna));
    let name = MailboxName::parse("Pratiche").unwrap();
    let new = NewMailbox { name: name.clone(), special_use: None };
    let made = one.create_mailbox(anna, new, at(1)).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Elsewhere::Names(anna));
    let to = MailboxName::parse("Archiviate").unwrap();
    one.rename_mailbox(made.id, &to, at(1)).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Elsewhere::Names(anna));
    one.subscribe(anna, &to, true).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Elsewhere::Names(anna));
    let entry = ("/private/comment".to_owned(), Some(b"x".to_vec()));
    one.annotate(anna, None, vec![entry]).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Elsewhere::Names(anna));
    // What was refused is not heard of, nor what the node does itself.
    one.rename_mailbox(made.id, &MailboxName::inbox(), at(1)).unwrap_err();
    other.change_account(anna, AccountChange::State(State::Active)).unwrap();
    one.remove_account(anna).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Elsewhere::Account(anna));
}

#[test]
fn what_is_done_once_is_done_by_one_node_and_then_by_the_next() {
    let folder = TempDir::new().unwrap();
    let options = in_folder(database(), &schema(), &folder);
    let waits = |store: &SharedStore, share: Share| {
        until_within("its part", PATIENCE, || Ok((store.share() == share).then_some(()))).unwrap();
    };
    let one = open(&options);
    waits(&one, Share::ALL);
    // One that is open for a command has no part, and takes none from others.
    let command = open(&Options { serves: false, ..options.clone() });
    let other = open(&options);
    waits(&other, Share::new(1, 2));
    waits(&one, Share::new(0, 2));
    assert_eq!(command.share(), Share::NONE);
    drop(one);
    waits(&other, Share::ALL);
}

#[test]
fn a_job_that_a_node_is_at_is_not_given_up_by_another() {
    let (_folder, one, other) = two();
    let lane = Lane {
        destination: "x.example".to_owned(),
        account: "anna".to_owned(),
        urgency: Urgency::Envelope,
    };
    let relay = NewJob { lane: Some(lane), ..job(b"a") };
    let step = Transaction { at: at(0), enqueue: vec![relay], ..Default::default() };
    let id = one.commit(step).unwrap().enqueued[0];
    let queued = |node: &SharedStore| {
        let queued = node.lane_queued(Timestamp::MAX, "x.example", 9).unwrap();
        queued.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let due = one.lane_due(at(2), "x.example", 9).unwrap();
    assert_eq!(due.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
    assert_eq!((queued(&other), queued(&one)), (vec![], vec![id]));
    drop(one);
    assert_eq!(queued(&other), [id]);
}

#[test]
fn a_store_whose_octets_are_elsewhere_is_not_opened() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let options = in_folder(database(), &schema(), &folder);
    assert!(!look(&options).unwrap(), "its tables are not there yet");
    let store = open(&options);
    let (_, inbox) = anna(&store);
    append(&store, inbox, b"m");
    assert!(look(&options).unwrap());
    // A disk that is not mounted, a folder that is empty, and that of another store.
    let at = |folder: &std::path::Path| Options {
        octets: Place::Folder(folder.to_owned()),
        ..options.clone()
    };
    let of_another = TempDir::new().unwrap();
    drop(open(&Options { schema: schema(), ..at(of_another.path()) }));
    for (folder, why) in [
        (elsewhere.path().join("missing"), "is not there"),
        (elsewhere.path().to_owned(), "the octets of this store are not there"),
        (of_another.path().to_owned(), "the octets there are of another store"),
    ] {
        let refused = look(&at(&folder)).unwrap_err();
        assert!(matches!(refused, Unreachable::Octets(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
        SharedStore::open(&at(&folder)).unwrap_err();
    }
    // A bucket that is not there is no empty one.
    let mut bucket = in_bucket(database(), &options.schema, &folder);
    if let Place::Bucket(bucket) = &mut bucket.octets {
        bucket.name = "another".to_owned();
    }
    let refused = look(&bucket).unwrap_err();
    assert!(matches!(refused, Unreachable::Octets(_)), "{refused:?}");
}

#[test]
fn a_database_that_is_silent_is_refused_to_wait_for() {
    let database = Postgres::start().unwrap();
    let folder = TempDir::new().unwrap();
    let store = open(&in_folder(&database, "pec", &folder));
    let (_, inbox) = anna(&store);
    database.freeze(true).unwrap();
    until_within("a refusal of all writes", PATIENCE, || Ok(store.takes_writes().err())).unwrap();
    // Nobody waits out the time of a statement from now on.
    let begun = Instant::now();
    assert_refused!(store.status(inbox), StoreError::Unavailable(_));
    let new = message(b"lost", store::Flags::default());
    assert_refused!(store.append(inbox, new), StoreError::Unavailable(_));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(store.share(), Share::NONE);
    database.freeze(false).unwrap();
    until_within("the database", PATIENCE, || Ok(store.status(inbox).ok())).unwrap();
    append(&store, inbox, b"after");
}
