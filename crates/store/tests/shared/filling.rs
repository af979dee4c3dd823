//! What an embedded store holds, in a shared one and back: what cases of the contract leave behind is the same in both.

use std::cell::Cell;
use std::fmt::Debug;
use std::path::Path;

use scenarios::postgres::Postgres;
use store::contract::{self, Make, append, at, create, holder, inline, message, octets_max};
use store::embedded::{self, EmbeddedStore};
use store::shared::{Filled, Options, SharedStore, bring_back, fill};
use store::{
    LogFilter, MailboxName, ModSeq, NewJob, Store, StoreError, Timestamp, Transaction, UidSet,
    assert_refused,
};
use tempfile::TempDir;

use crate::{database, in_bucket, in_folder, open, schema, service};

/// Mailboxes of an account that are compared: the contract makes thousands, all empty.
const MAILBOXES: usize = 50;

/// Cases that leave behind something of every kind.
const CASES: [fn(Make<'_>); 14] = [
    contract::accounts::each_property_changes,
    contract::mailboxes::a_name_comes_back_with_a_higher_uid_validity,
    contract::mailboxes::annotations_are_kept_with_what_they_are_about,
    contract::messages::several_are_added_together_or_not_at_all,
    contract::messages::copies_keep_flags_and_dates,
    contract::messages::moves_vanish_here_and_appear_there,
    contract::messages::only_what_is_deleted_is_expunged,
    contract::quarantine::a_step_moves_what_a_job_holds_into_the_quarantine,
    contract::pipeline::a_lane_tells_who_has_waited_longest,
    contract::pipeline::a_job_keeps_its_octets,
    contract::tracker::the_tracker_never_goes_back,
    contract::tracker::what_happened_is_marked_once,
    contract::log::it_is_found_by_any_identifier,
    contract::log::records_of_a_seal_expire_and_the_seal_stays,
];

#[test]
fn what_the_contract_makes_is_moved() {
    CASES.into_iter().for_each(is_moved);
}

fn embedded(directory: &Path) -> EmbeddedStore {
    EmbeddedStore::open(directory, embedded::Options::default()).unwrap()
}

fn moved(directory: &Path, options: &Options) -> Result<Filled, StoreError> {
    fill(directory, embedded::Options::default(), options, &mut |_, _| {})
}

fn moved_back(options: &Options, directory: &Path) -> Result<Filled, StoreError> {
    bring_back(options, directory, embedded::Options::default(), &mut |_, _| {})
}

/// Puts an embedded store through a case, and holds what it has become against what is moved of it.
fn is_moved(case: fn(Make<'_>)) {
    let folder = TempDir::new().unwrap();
    let made = Cell::new(0);
    let directory = |number: i32| folder.path().join(format!("embedded{number}"));
    case(&|| {
        made.set(made.get() + 1);
        Box::new(embedded(&directory(made.get())))
    });
    for number in 1..=made.get() {
        let shared = TempDir::new().unwrap();
        let options = in_folder(database(), &schema(), &shared);
        let filled = moved(&directory(number), &options).unwrap();
        let (source, target) = (embedded(&directory(number)), open(&options));
        let messages = compare(&source, &target);
        let records = source.log_entries(0, 999).unwrap().len() as u64;
        assert_eq!((filled.messages, filled.records), (messages, records));
        grow(&source, &target, "nuova@pec.example");
        // And back again, into a new one.
        drop(target);
        let back = directory(-number);
        let brought = moved_back(&options, &back).unwrap();
        assert_eq!((brought.accounts, brought.records), (filled.accounts + 1, filled.records));
        let keys = embedded::MasterKeys::default();
        let checked = embedded::check(&back, &keys, &mut |seen| {
            assert!(matches!(seen, store::Seen::Progress(..)));
        });
        assert_eq!(checked.unwrap().findings, 0);
        let (back, target) = (embedded(&back), open(&options));
        assert_eq!(compare(&target, &back), messages + 1);
        grow(&target, &back, "altra@pec.example");
    }
}

/// The same of both.
fn same<T: Debug>(source: &dyn Store, target: &dyn Store, ask: impl Fn(&dyn Store) -> T) -> T {
    let asked = ask(source);
    assert_eq!(format!("{asked:?}"), format!("{:?}", ask(target)));
    asked
}

/// Holds all that can be asked of one against the other; how many messages there are.
fn compare(source: &dyn Store, target: &dyn Store) -> u64 {
    let mut messages = 0;
    for account in same(source, target, |store| store.accounts().unwrap()) {
        let id = account.id;
        let there = target.account(id).unwrap().unwrap();
        assert!(account.credentials == there.credentials);
        let login = account.user_id.unwrap_or(account.address.to_string());
        same(source, target, |store| store.account_by_login(&login).unwrap().map(|found| found.id));
        messages += same(source, target, |store| store.usage(id).unwrap()).messages;
        same(source, target, |store| store.subscriptions(id).unwrap());
        same(source, target, |store| store.annotations(id, None).unwrap());
        for mailbox in
            same(source, target, |store| store.mailboxes(id).unwrap()).iter().take(MAILBOXES)
        {
            let at = mailbox.id;
            same(source, target, |store| store.status(at).unwrap());
            same(source, target, |store| store.open(at, false).unwrap());
            same(source, target, |store| store.annotations(id, Some(at)).unwrap());
            for since in 0..5 {
                same(source, target, |store| store.changes(at, ModSeq(since)).unwrap());
            }
            for summary in
                same(source, target, |store| store.summaries(at, &UidSet::all(), 9999).unwrap())
            {
                let read = |store: &dyn Store| store.read(summary.blob, 0, u64::MAX).unwrap();
                assert!(read(source) == read(target));
            }
        }
    }
    for job in same(source, target, |store| store.jobs(None, 9999).unwrap()) {
        let octets =
            |store: &dyn Store| job.blob.map(|blob| store.read(blob, 0, u64::MAX).unwrap());
        assert!(octets(source) == octets(target));
    }
    same(source, target, |store| store.jobs_waiting().unwrap());
    for lane in same(source, target, |store| store.lanes(None, 99).unwrap()) {
        same(source, target, |store| store.lane_due(at(999), &lane, 99).unwrap());
    }
    same(source, target, |store| store.overdue(Timestamp::MAX, None, 999).unwrap());
    for id in (0..20).map(|number| format!("id{number}")) {
        same(source, target, |store| store.tracked(&id).unwrap());
    }
    for key in 0..10 {
        same(source, target, |store| store.mark(&[key; 32]).unwrap());
    }
    same(source, target, |store| store.quarantined(0, 99).unwrap());
    same(source, target, |store| store.log_entries(0, 999).unwrap());
    let found = same(source, target, |store| store.log(&LogFilter::default(), 0, 999).unwrap());
    for (_, record) in found {
        for identifier in [record.identificativo, record.msgid].into_iter().flatten() {
            let filter = LogFilter { message_id: Some(identifier), ..LogFilter::default() };
            same(source, target, |store| store.log(&filter, 0, 999).unwrap());
        }
    }
    same(source, target, |store| store.last_record().unwrap());
    for seal in same(source, target, |store| store.seals(0, 99).unwrap()) {
        same(source, target, |store| store.seal_chunks(seal.number).unwrap());
    }
    same(source, target, |store| store.unstamped_seals(99).unwrap());
    messages
}

/// What comes next is given the same numbers by both.
fn grow(source: &dyn Store, target: &dyn Store, address: &str) {
    let new = || holder(address, octets_max(1 << 40));
    let account = same(source, target, |store| store.add_account(new(), at(500)).unwrap());
    let inbox = |store: &dyn Store| store.mailbox(account, &MailboxName::inbox()).unwrap();
    let inbox = same(source, target, inbox).id;
    same(source, target, |store| append(store, inbox, b"after"));
    same(source, target, |store| create(store, account, "after"));
    same(source, target, |store| {
        let job = NewJob { due: at(1), payload: b"after".to_vec(), octets: None, lane: None };
        store.commit(Transaction { enqueue: vec![job], ..Transaction::default() }).unwrap().enqueued
    });
    same(source, target, |store| store.summaries(inbox, &UidSet::all(), 9).unwrap());
}

#[test]
fn what_was_broken_off_goes_on() {
    const MESSAGES: usize = 300;
    let mut database = Postgres::start().unwrap();
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("embedded");
    let source = embedded(&directory);
    let anna = source.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = source.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    let words = [&[][..], &["$Primo"], &["secondo", "$Primo"]].map(contract::keywords);
    let texts = (0..MESSAGES)
        .map(|number| message(format!("m{number}").as_bytes(), words[number % 3].clone()));
    source.append_all(inbox, texts.collect()).unwrap();
    drop(source);
    let options = in_bucket(&database, "pec", &folder);
    let told = Cell::new(0);
    let refused = fill(&directory, embedded::Options::default(), &options, &mut |_, _| {
        told.set(told.get() + 1);
        if told.get() == 2 {
            database.kill().unwrap();
        }
    });
    assert_refused!(refused, StoreError::Unavailable(_));
    database.run().unwrap();
    // Nobody opens what is not all there.
    let refused = SharedStore::open(&options).unwrap_err().to_string();
    assert!(refused.contains("begun by `store migrate`, which has not ended"), "{refused}");
    // The embedded store went on meanwhile: one came, one went.
    let source = embedded(&directory);
    append(&source, inbox, b"meanwhile");
    let first: UidSet = std::iter::once(contract::uid(1)).collect();
    let deleted = contract::system(store::SystemFlags::DELETED);
    source.change_flags(inbox, &first, &store::FlagChange::Add(deleted)).unwrap();
    source.expunge(inbox, None).unwrap();
    let held = Transaction {
        octets: vec![inline(b"held by a job")],
        enqueue: vec![NewJob {
            due: at(1),
            payload: b"job".to_vec(),
            octets: Some(store::Source::New(0)),
            lane: None,
        }],
        ..Transaction::default()
    };
    source.commit(held).unwrap();
    drop(source);
    let there = || database.ask("SELECT count(*) FROM pec.blobs").unwrap();
    let before: usize = there().parse().unwrap();
    assert!((1..MESSAGES).contains(&before), "{before} moved at first");
    // Another store has as many octets under the same numbers: they are not the same.
    let stranger = folder.path().join("stranger");
    let other = embedded(&stranger);
    let bruno = other.add_account(holder("bruno@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let his = other.mailbox(bruno, &MailboxName::inbox()).unwrap().id;
    let texts =
        (0..MESSAGES).map(|number| message(format!("x{number}").as_bytes(), words[0].clone()));
    other.append_all(his, texts.collect()).unwrap();
    drop(other);
    let refused = moved(&stranger, &options).unwrap_err().to_string();
    assert!(refused.contains("begun from another store"), "{refused}");
    assert_eq!(there(), before.to_string());
    // One octet of what is there is another than was written, and one message is there no more.
    for (number, what) in [(7, Some("m8")), (9, None)] {
        let object = format!("SELECT object FROM pec.blobs ORDER BY id OFFSET {number} LIMIT 1");
        let path = service().folder().join("pec").join(database.ask(&object).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("m{number}"));
        match what {
            Some(what) => std::fs::write(path, what).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }
    let filled = moved(&directory, &options).unwrap();
    assert_eq!((filled.messages, filled.again), (MESSAGES as u64, 2));
    assert_eq!(there(), (MESSAGES + 1).to_string());
    let (source, target) = (embedded(&directory), open(&options));
    assert_eq!(compare(&source, &target), MESSAGES as u64);
    // What went meanwhile is swept like anything else.
    let garbage = database.ask("SELECT count(*) FROM pec.garbage").unwrap();
    assert_eq!(garbage, "3");
    drop((source, target));
    // And nothing is moved on top of a store.
    let refused = moved(&directory, &options).unwrap_err().to_string();
    assert!(refused.contains("there is a store in pec already"), "{refused}");
}

#[test]
fn what_was_broken_off_on_the_way_back_goes_on() {
    const MESSAGES: usize = 300;
    let mut database = Postgres::start().unwrap();
    let folder = TempDir::new().unwrap();
    let options = in_folder(&database, "pec", &folder);
    let store = open(&options);
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    let texts = (0..MESSAGES)
        .map(|number| message(format!("m{number:08}").as_bytes(), contract::keywords(&["$Primo"])));
    store.append_all(inbox, texts.collect()).unwrap();
    let back = folder.path().join("back");
    let refused = moved_back(&options, &back).unwrap_err().to_string();
    assert!(refused.contains("gateways have it open"), "{refused}");
    drop(store);
    let told = Cell::new(0);
    let refused = bring_back(&options, &back, embedded::Options::default(), &mut |_, _| {
        told.set(told.get() + 1);
        if told.get() == 2 {
            database.kill().unwrap();
        }
    });
    assert_refused!(refused, StoreError::Unavailable(_));
    assert!(!back.exists(), "what is not whole has no name");
    database.run().unwrap();
    // One octet of what is there is another than was written; the shared store went on meanwhile.
    let segment = folder.path().join("back.moving/segments/00000001");
    let mut octets = std::fs::read(&segment).unwrap();
    let at = octets.windows(9).position(|text| text == b"m00000007").unwrap();
    octets[at + 8] = b'8';
    std::fs::write(&segment, octets).unwrap();
    let store = open(&options);
    append(&store, inbox, b"meanwhile");
    let first: UidSet = std::iter::once(contract::uid(1)).collect();
    let deleted = contract::system(store::SystemFlags::DELETED);
    store.change_flags(inbox, &first, &store::FlagChange::Add(deleted)).unwrap();
    store.expunge(inbox, None).unwrap();
    drop(store);
    let filled = moved_back(&options, &back).unwrap();
    assert_eq!((filled.messages, filled.again), (MESSAGES as u64, 1));
    let (source, target) = (open(&options), embedded(&back));
    assert_eq!(compare(&source, &target), MESSAGES as u64);
    drop((source, target));
    let refused = moved_back(&options, &back).unwrap_err().to_string();
    assert!(refused.contains("there is something in"), "{refused}");
}
