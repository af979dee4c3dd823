//! The log: found, kept as it was hashed, sealed, and removed when its time is over.

use super::*;
use crate::tree::{self, Hash};
use crate::{LogFilter, LogRecord, LoggedRecipient, NewSeal, Seal, Statement, assert_refused};

pub(super) fn record(event: &str, second: i64) -> LogRecord {
    LogRecord { time: at(second), event: event.into(), ..LogRecord::default() }
}

fn numbers(store: &dyn Store, filter: LogFilter) -> Vec<u64> {
    store.log(&filter, 0, 99).unwrap().iter().map(|(number, _)| *number).collect()
}

fn write_log(store: &dyn Store, log: Vec<LogRecord>) {
    store.commit(Transaction { log, ..Transaction::default() }).unwrap();
}

pub fn it_is_found_by_any_identifier(make: Make<'_>) {
    // PEC-LOG-01: every field comes back.
    let store = make();
    let full = LogRecord {
        identificativo: Some("pec1".into()),
        message_id: Some("m1".into()),
        mittente: Some("a@x.example".into()),
        destinatari: vec![LoggedRecipient {
            address: "b@x.example".into(),
            tipo: "certificato".into(),
        }],
        oggetto: Some("Perch\u{e9}?\r\n".into()),
        gestore: Some("Esempio S.p.A.".into()),
        consegna: Some("b@x.example".into()),
        ricezione: vec!["c@x.example".into()],
        errore: Some("no-dest".into()),
        errore_esteso: Some("5.1.1".into()),
        msgid: Some("client1".into()),
        notes: vec!["no CRL".into()],
        ..record("accettazione", 1)
    };
    let named = |identificativo: &str, message_id: &str| LogRecord {
        identificativo: Some(identificativo.into()),
        message_id: Some(message_id.into()),
        ..record("posta-certificata", 2)
    };
    let lonely = LogRecord { message_id: Some("m4".into()), ..record("rifiuto", 3) };
    // The last one is about pec1 without being of it.
    let log =
        vec![full.clone(), named("pec1", "m2"), named("pec2", "m3"), lonely, named("pec3", "pec1")];
    write_log(&*store, log);
    assert_eq!(store.log(&LogFilter::default(), 0, 1).unwrap(), [(1, full)]);
    let by = |id: &str| {
        numbers(&*store, LogFilter { message_id: Some(id.into()), ..LogFilter::default() })
    };
    assert_eq!(by("m2"), [1, 2]);
    assert_eq!(by("client1"), [1, 2]);
    assert_eq!(by("pec1"), [1, 2, 5]);
    assert_eq!(by("m3"), [3]);
    assert_eq!(by("m4"), [4]);
    assert_eq!(by("M4"), [0; 0]);
    let page = store.log(&LogFilter::default(), 2, 2).unwrap();
    assert_eq!(page.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 5]);
}

pub fn it_is_found_by_account_and_period(make: Make<'_>) {
    let store = make();
    let mut log: Vec<LogRecord> = (0..5).map(|second| record("consegna", second * 10)).collect();
    log[0].mittente = Some("Anna@x.example".into());
    log[1].destinatari =
        vec![LoggedRecipient { address: "anna@X.example".into(), tipo: "esterno".into() }];
    log[2].consegna = Some("anna@x.example".into());
    log[3].ricezione = vec!["b@x.example".into(), "ANNA@x.example".into()];
    log[4].gestore = Some("anna@x.example".into());
    write_log(&*store, log);
    let anna = || LogFilter { account: Some(address("anna@x.example")), ..LogFilter::default() };
    assert_eq!(numbers(&*store, anna()), [1, 2, 3, 4]);
    let period = LogFilter { since: Some(at(10)), until: Some(at(30)), ..LogFilter::default() };
    assert_eq!(numbers(&*store, period.clone()), [2, 3]);
    assert_eq!(numbers(&*store, LogFilter { until: Some(at(11)), ..anna() }), [1, 2]);
    assert_eq!(numbers(&*store, LogFilter { since: Some(at(30)), ..LogFilter::default() }), [4, 5]);
    let nobody = LogFilter { account: Some(address("nobody@x.example")), ..period };
    assert_eq!(numbers(&*store, nobody), [0; 0]);
}

pub fn it_is_told_by_time_in_pages(make: Make<'_>) {
    let store = make();
    // A step that began earlier may be committed later.
    let log = [30, 10, 20, 10, 40].map(|second| LogRecord {
        mittente: Some("anna@x.example".into()),
        identificativo: Some("pec1".into()),
        ..record("consegna", second)
    });
    write_log(&*store, log.into());
    let anna = LogFilter { account: Some(address("anna@x.example")), ..LogFilter::default() };
    let pec = LogFilter { message_id: Some("pec1".into()), ..LogFilter::default() };
    for filter in [LogFilter::default(), anna, pec] {
        assert_eq!(numbers(&*store, filter.clone()), [2, 4, 3, 1, 5]);
        let (mut told, mut after) = (Vec::new(), 0);
        while let Some((number, _)) = store.log(&filter, after, 1).unwrap().pop() {
            told.push(number);
            after = number;
        }
        assert_eq!(told, [2, 4, 3, 1, 5]);
        assert_eq!(store.log(&filter, 99, 9).unwrap(), [], "nothing follows what is not there");
    }
}

/// PEC-LOG-01 PEC-LOG-02
pub fn records_are_kept_as_they_were_hashed(make: Make<'_>) {
    let store = make();
    assert_eq!((store.last_record().unwrap(), store.log_entries(0, 9).unwrap().len()), (0, 0));
    write_log(&*store, vec![record("accettazione", 1), record("consegna", 2)]);
    write_log(&*store, vec![record("consegna", 3)]);
    let entries = store.log_entries(0, 9).unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.number, entry.time)).collect();
    assert_eq!(told, [(1, at(1)), (2, at(2)), (3, at(3))]);
    for entry in &entries {
        assert_eq!(entry.leaf, Hash::leaf(entry.number, &entry.octets).0);
        let read: LogRecord = serde_json::from_slice(&entry.octets).unwrap();
        assert_eq!(read.time, entry.time);
    }
    let leaves = store.log_leaves(1, 1).unwrap();
    assert_eq!((leaves.len(), leaves[0].number, leaves[0].time), (1, 2, at(2)));
    assert_eq!(leaves[0].leaf.0[..], entries[1].leaf[..]);
    assert_eq!(store.last_record().unwrap(), 3);
}

/// A seal over the next so many records.
fn next_seal(store: &dyn Store, records: usize) -> NewSeal {
    let (number, first, previous) = match store.last_seal().unwrap() {
        None => (1, 1, None),
        Some(last) => {
            let said = Statement::parse(&last.octets).unwrap();
            (last.number + 1, said.end(), Some(Hash::of(&last.octets)))
        }
    };
    let leaves = store.log_leaves(first - 1, records).unwrap();
    let leaves: Vec<_> = leaves.iter().map(|leaf| leaf.leaf).collect();
    let chunks: Vec<_> = leaves.chunks(tree::CHUNK_LEAVES).map(tree::root).collect();
    let statement = Statement {
        first,
        records: records as u64,
        root: tree::root(&chunks),
        previous,
        ..Statement::new("Alfa", number, (at(0), at(1)))
    };
    let octets = statement.octets().unwrap();
    NewSeal { statement, octets, signature: vec![1, 2], chunks }
}

fn numbered(seals: Vec<Seal>) -> Vec<u64> {
    seals.iter().map(|seal| seal.number).collect()
}

/// PEC-LOG-03
pub fn seals_continue_each_other(make: Make<'_>) {
    let store = make();
    assert_eq!(store.last_seal().unwrap(), None);
    write_log(&*store, (0..5).map(|second| record("consegna", second)).collect());
    let first = next_seal(&*store, 2);
    store.add_seal(first.clone()).unwrap();
    let kept = Seal {
        number: 1,
        octets: first.octets.clone(),
        signature: vec![1, 2],
        stamp: None,
        expired: None,
    };
    assert_eq!(store.last_seal().unwrap(), Some(kept.clone()));
    // Again, or with a gap, or over what is not there.
    assert_refused!(store.add_seal(first.clone()), StoreError::SealOutOfOrder);
    let next = next_seal(&*store, 1);
    for (number, first, records) in [(3, 3, 1), (2, 2, 1), (2, 4, 1), (2, 3, 4)] {
        let mut wrong = next.clone();
        wrong.statement = Statement { number, first, records, ..wrong.statement };
        assert_refused!(store.add_seal(wrong), StoreError::SealOutOfOrder);
    }
    assert_eq!(store.seals(0, 9).unwrap(), [kept]);
    let empty = next_seal(&*store, 0);
    store.add_seal(empty).unwrap();
    let last = next_seal(&*store, 2);
    store.add_seal(last.clone()).unwrap();
    assert_eq!(numbered(store.seals(0, 2).unwrap()), [1, 2]);
    assert_eq!(numbered(store.seals(2, 9).unwrap()), [3]);
    for (record, seal) in [(1, Some(1)), (2, Some(1)), (3, Some(3)), (4, Some(3)), (5, None)] {
        let found = store.seal_of(record).unwrap();
        assert_eq!(found.map(|seal| seal.number), seal, "record {record}");
    }
    assert_eq!(store.seal_chunks(3).unwrap(), last.chunks);
    assert_eq!(store.seal_chunks(2).unwrap(), []);
    assert_eq!(store.seal_chunks(9).unwrap(), []);
}

pub fn a_seal_is_stamped_once(make: Make<'_>) {
    let store = make();
    for _ in 0..3 {
        store.add_seal(next_seal(&*store, 0)).unwrap();
    }
    assert_eq!(numbered(store.unstamped_seals(2).unwrap()), [1, 2]);
    store.stamp_seal(2, b"stamp").unwrap();
    store.stamp_seal(2, b"another").unwrap();
    store.stamp_seal(9, b"of none").unwrap();
    assert_eq!(numbered(store.unstamped_seals(9).unwrap()), [1, 3]);
    let stamps = store.seals(0, 9).unwrap().into_iter().map(|seal| seal.stamp);
    assert_eq!(stamps.collect::<Vec<_>>(), [None, Some(b"stamp".to_vec()), None]);
}

/// PEC-LOG-02
pub fn records_of_a_seal_expire_and_the_seal_stays(make: Make<'_>) {
    let store = make();
    let of = |id: &str, second| LogRecord {
        identificativo: Some(id.into()),
        mittente: Some("anna@x.example".into()),
        ..record("consegna", second)
    };
    write_log(&*store, (0..5).map(|second| of("pec1", second)).collect());
    store.add_seal(next_seal(&*store, 3)).unwrap();
    let before = store.last_seal().unwrap().unwrap();
    assert_eq!(store.expire_seal(1, at(70), 2).unwrap(), 2);
    assert_eq!(store.expire_seal(1, at(80), 2).unwrap(), 1);
    assert_eq!(store.expire_seal(1, at(90), 2).unwrap(), 0);
    assert_eq!(store.expire_seal(9, at(90), 2).unwrap(), 0);
    let after = store.last_seal().unwrap().unwrap();
    assert_eq!(after, Seal { expired: Some(at(70)), ..before });
    let anna = LogFilter { account: Some(address("anna@x.example")), ..LogFilter::default() };
    let pec = LogFilter { message_id: Some("pec1".into()), ..LogFilter::default() };
    for filter in [LogFilter::default(), anna, pec] {
        assert_eq!(numbers(&*store, filter), [4, 5]);
    }
    assert_eq!(store.last_record().unwrap(), 5);
    // The next one continues as if nothing had gone.
    store.add_seal(next_seal(&*store, 2)).unwrap();
}
