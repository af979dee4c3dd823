//! Intervals sealed under a clock of our own, and logs that somebody laid hands on.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use crypto::{Authority, Certificate, LocalSigner, Trust, stamp};
use store::embedded::{EmbeddedStore, Options};
use store::memory::MemoryStore;
use store::{LogRecord, Seal, Transaction};

use super::check::{Believed, Found, Leaves, Shelf, check, leaves};
use super::history::History;
use super::*;

const CA: &[u8] = include_bytes!("../../../../certs/ca.pem");
const CA_KEY: &[u8] = include_bytes!("../../../../certs/ca.key");
const PROVIDER: &str = "Gestore A S.p.A.";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Who signs, who stamps, and who is believed.
struct Keys {
    identity: Identity,
    signer: LocalSigner,
    stamper: Identity,
    stamper_key: LocalSigner,
    trust: Trust,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let authority = Authority::from_pem(CA, CA_KEY).unwrap();
        let ca = Certificate::from_pem(CA).unwrap();
        let a = include_bytes!("../../../../certs/provider-a.pem");
        let a_key = include_bytes!("../../../../certs/provider-a.key");
        let (stamper, key) = authority
            .issue_stamper(PROVIDER, "posta-certificata@a.example", at("2026-01-01T00:00:00Z"))
            .unwrap();
        Keys {
            identity: Identity::new(Certificate::from_pem(a).unwrap(), vec![ca.clone()]).unwrap(),
            signer: LocalSigner::from_pem(a_key).unwrap(),
            stamper: Identity::new(stamper, vec![ca.clone()]).unwrap(),
            stamper_key: LocalSigner::from_pem(key.as_bytes()).unwrap(),
            trust: Trust::new(vec![ca], Vec::new()).unwrap(),
        }
    })
}

fn believed() -> Believed<'static> {
    Believed { signers: &keys().trust, stampers: &keys().trust }
}

fn sealer(store: &dyn Store) -> Sealer<'_> {
    Sealer {
        store,
        provider: PROVIDER,
        signing: Box::new(|_| (&keys().identity, &keys().signer)),
        every: SignedDuration::from_hours(24),
    }
}

fn record(time: &str, identificativo: &str) -> LogRecord {
    LogRecord {
        time: at(time),
        event: "accettazione".into(),
        identificativo: Some(identificativo.into()),
        message_id: Some(format!("ricevuta.{identificativo}")),
        mittente: Some("mario@pec.alfa.example".into()),
        ..LogRecord::default()
    }
}

fn write(store: &dyn Store, times: &[&str]) {
    let log = times.iter().map(|time| record(time, &format!("{time}@a.example"))).collect();
    store.commit(Transaction { log, ..Transaction::default() }).unwrap();
}

fn stamp_all(store: &dyn Store, now: Timestamp) {
    for seal in store.unstamped_seals(100).unwrap() {
        let token = stamp(&keys().stamper, &keys().stamper_key, &seal.signature, now).unwrap();
        store.stamp_seal(seal.number, &token).unwrap();
    }
}

/// Each seal: its interval, its first record and how many it has.
fn told(store: &dyn Store) -> Vec<(String, String, u64, u64)> {
    let said = store.seals(0, 100).unwrap().into_iter().map(|seal| {
        let said = Statement::parse(&seal.octets).unwrap();
        let day = |at: Timestamp| at.strftime("%d %H:%M").to_string();
        (day(said.since), day(said.until), said.first, said.records)
    });
    said.collect()
}

/// A store in this process.
struct Direct<'s>(&'s dyn Store);

impl Shelf for Direct<'_> {
    fn seals(&mut self, after: u64) -> anyhow::Result<Vec<Seal>> {
        Ok(self.0.seals(after, 2)?)
    }

    fn chunks(&mut self, seal: u64) -> anyhow::Result<Vec<Hash>> {
        Ok(self.0.seal_chunks(seal)?)
    }

    fn leaves(&mut self, after: u64) -> anyhow::Result<Leaves> {
        leaves(self.0, after)
    }

    fn last_record(&mut self) -> anyhow::Result<u64> {
        Ok(self.0.last_record()?)
    }
}

fn checked(store: &dyn Store, now: &str) -> Found {
    check(&mut Direct(store), believed(), None, at(now)).unwrap()
}

fn span(since: &str, until: &str, first: u64, records: u64) -> (String, String, u64, u64) {
    (since.to_owned(), until.to_owned(), first, records)
}

// PEC-LOG-03: no interval is longer than a day, and none is left out
#[test]
fn each_day_is_sealed_once_it_is_over_and_nothing_is_left_between() {
    let store = MemoryStore::new();
    let sealer = sealer(&store);
    assert_eq!(sealer.seal_due(at("2026-11-20T12:00:00Z")).unwrap(), 0, "nothing to begin with");
    write(&store, &["2026-11-20T09:00:00Z", "2026-11-20T23:59:59Z"]);
    assert_eq!(sealer.seal_due(at("2026-11-20T23:59:59Z")).unwrap(), 0, "the day is not over");
    write(&store, &["2026-11-21T00:00:00Z"]);
    assert_eq!(sealer.seal_due(at("2026-11-21T00:00:00Z")).unwrap(), 1);
    assert_eq!(told(&store), [span("20 00:00", "21 00:00", 1, 2)]);
    // Committed late, of the day before: in the next.
    write(&store, &["2026-11-20T23:59:58Z", "2026-11-21T10:00:00Z"]);
    // Down for days; then both what was before and the days without anything.
    write(&store, &["2026-11-25T10:00:00Z"]);
    assert_eq!(sealer.seal_due(at("2026-11-27T08:00:00Z")).unwrap(), 4);
    assert_eq!(sealer.seal_due(at("2026-11-27T08:00:00Z")).unwrap(), 0, "and not again");
    let expected = [
        span("20 00:00", "21 00:00", 1, 2),
        span("21 00:00", "22 00:00", 3, 3),
        span("22 00:00", "25 00:00", 6, 0),
        span("25 00:00", "26 00:00", 6, 1),
        span("26 00:00", "27 00:00", 7, 0),
    ];
    assert_eq!(told(&store), expected);
    stamp_all(&store, at("2026-11-27T08:00:01Z"));
    let found = checked(&store, "2026-11-27T09:00:00Z");
    assert_eq!(found.faults, []);
    // The server was down, and stamps what it missed now.
    assert!(found.notes[0].contains("and 1 more") && found.notes.len() == 1, "{:?}", found.notes);
    assert_eq!((found.seals, found.records, found.unsealed), (5, 6, 0));
}

#[test]
fn a_record_of_a_wrong_clock_holds_nothing_up() {
    let store = MemoryStore::new();
    write(&store, &["2026-11-20T09:00:00Z", "2099-01-01T00:00:00Z", "2026-11-20T10:00:00Z"]);
    write(&store, &["2026-11-21T00:00:01Z"]);
    assert_eq!(sealer(&store).seal_due(at("2026-11-21T01:00:00Z")).unwrap(), 1);
    assert_eq!(told(&store), [span("20 00:00", "21 00:00", 1, 3)]);
    // Set back to before the last seal: the next interval is as long as it takes to come past it.
    assert_eq!(sealer(&store).seal_due(at("2026-11-19T00:00:00Z")).unwrap(), 0);
    assert!(sealer(&store).seal_now(at("2026-11-19T00:00:00Z")).unwrap());
    assert_eq!(told(&store)[1..], [span("21 00:00", "21 00:00", 4, 1)]);
}

#[test]
fn a_shorter_interval_is_sealed_when_it_is_asked_for() {
    let store = MemoryStore::new();
    assert!(!sealer(&store).seal_now(at("2026-11-20T09:30:00Z")).unwrap());
    write(&store, &["2026-11-20T09:00:00Z"]);
    assert!(sealer(&store).seal_now(at("2026-11-20T09:30:00Z")).unwrap());
    assert!(!sealer(&store).seal_now(at("2026-11-20T09:31:00Z")).unwrap(), "nothing new");
    write(&store, &["2026-11-20T10:00:00Z"]);
    assert_eq!(sealer(&store).seal_due(at("2026-11-21T00:00:01Z")).unwrap(), 1);
    let expected = [span("20 00:00", "20 09:30", 1, 1), span("20 09:30", "21 00:00", 2, 1)];
    assert_eq!(told(&store), expected);
}

#[test]
fn nothing_is_sealed_that_cannot_be_signed() {
    let store = MemoryStore::new();
    write(&store, &["2026-11-20T09:00:00Z"]);
    let other = LocalSigner::from_pem(include_bytes!("../../../../certs/provider-b.key")).unwrap();
    let strange = Sealer { signing: Box::new(|_| (&keys().identity, &other)), ..sealer(&store) };
    assert!(strange.seal_due(at("2026-11-21T01:00:00Z")).is_err());
    assert_eq!(store.last_seal().unwrap(), None);
    assert_eq!(sealer(&store).seal_due(at("2026-11-21T01:00:00Z")).unwrap(), 1);
}

// --- what somebody did to the database

/// Three days of records on disk: 1100 on the first (two chunks), 3 on the second, 2 that are open.
fn prepare(folder: &Path) {
    let store = EmbeddedStore::open(folder, Options::default()).unwrap();
    let first: Vec<_> =
        (0..1100).map(|n| format!("2026-11-20T09:{:02}:{:02}Z", n / 60, n % 60)).collect();
    write(&store, &first.iter().map(String::as_str).collect::<Vec<_>>());
    write(&store, &["2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"]);
    write(&store, &["2026-11-22T09:00:00Z", "2026-11-22T10:00:00Z"]);
    assert_eq!(sealer(&store).seal_due(at("2026-11-22T11:00:00Z")).unwrap(), 2);
    stamp_all(&store, at("2026-11-22T11:00:00Z"));
    assert_eq!(checked(&store, "2026-11-22T12:00:00Z").faults, []);
}

/// What is found after these statements, and the hashes of these records computed anew: the seal and the
/// record of the first finding, and its words.
fn after(statements: &str, hashed: &Range<i64>) -> (Option<u64>, Option<u64>, String) {
    static PREPARED: OnceLock<tempfile::TempDir> = OnceLock::new();
    let prepared = PREPARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(prepared.path().join("index.db"), folder.path().join("index.db")).unwrap();
    let db = rusqlite::Connection::open(folder.path().join("index.db")).unwrap();
    db.execute_batch(statements).unwrap();
    // Whoever alters a record can hash it too.
    for number in hashed.clone() {
        let get = "SELECT record FROM log WHERE number = ?";
        let record: String = db.query_row(get, [number], |row| row.get(0)).unwrap();
        let leaf = Hash::leaf(number.cast_unsigned(), record.as_bytes());
        let set = "UPDATE log SET leaf = ? WHERE number = ?";
        db.execute(set, rusqlite::params![leaf.0, number]).unwrap();
    }
    drop(db);
    let store = EmbeddedStore::open(folder.path(), Options::default()).unwrap();
    let found = checked(&store, "2026-11-22T12:00:00Z");
    let first = found.faults.into_iter().next();
    first.map(|first| (first.seal, first.record, first.text)).unwrap_or_default()
}

/// PEC-LOG-02: altered, dropped, put in later, moved; with and without the hashes beside.
#[test]
fn the_first_record_that_is_not_what_was_sealed_is_named() {
    let shift = |by: &str, from: u64| {
        format!(
            "UPDATE log SET number = -number WHERE number >= {from};
             UPDATE log SET number = -number {by} WHERE number < 0;"
        )
    };
    let insert = || {
        format!(
            "{} INSERT INTO log SELECT 1050, time, identificativo, record, leaf FROM log
             WHERE number = 1;",
            shift("+ 1", 1050)
        )
    };
    let edit = "UPDATE log SET record = replace(record, 'mario', 'maria')";
    for (statements, hashed, seal, record, words) in [
        (format!("{edit} WHERE number = 700"), 0..0, 1, 700, "was altered"),
        (format!("{edit} WHERE number = 1102"), 0..0, 2, 1102, "was altered"),
        (format!("{edit} WHERE number = 700"), 700..701, 1, 1, "records 1 to 1024"),
        (format!("{edit} WHERE number = 1050"), 1..1106, 1, 1025, "records 1025 to 1100"),
        ("UPDATE log SET time = time + 1 WHERE number = 5".into(), 0..0, 1, 5, "to another time"),
        ("UPDATE log SET record = 'x' WHERE number = 8".into(), 8..9, 1, 8, "is none"),
        ("UPDATE log SET leaf = x'00' WHERE number = 9".into(), 0..0, 1, 9, "was altered"),
        ("DELETE FROM log WHERE number = 1101".into(), 0..0, 2, 1101, "record 1101 is missing"),
        ("DELETE FROM log WHERE number = 1100".into(), 0..0, 1, 1100, "record 1100 is missing"),
        ("DELETE FROM log WHERE number > 1100".into(), 0..0, 2, 1101, "and all that followed it"),
        (
            format!("DELETE FROM log WHERE number = 3; {}", shift("- 1", 4)),
            0..0,
            1,
            3,
            "dropped before it",
        ),
        (insert(), 0..0, 1, 1050, "was altered, or is another's"),
        (insert(), 1050..1051, 1, 1051, "another was put in later"),
        (insert(), 1..1107, 1, 1025, "put in later"),
        (
            "UPDATE log SET number = -7 WHERE number = 7; UPDATE log SET number = 7 WHERE number = 8;
             UPDATE log SET number = 8 WHERE number = -7;"
                .into(),
            0..0,
            1,
            7,
            "dropped before it",
        ),
    ] {
        let (of, at, text) = after(&statements, &hashed);
        assert_eq!((of, at), (Some(seal), Some(record)), "{statements}: {text}");
        assert!(text.contains(words), "{statements}: {text}");
    }
}

/// An authority's times have whole seconds, and its clock is not ours: but a stamp of the day before is
/// of no interval that ended since.
#[test]
fn a_stamp_may_be_a_minute_early_and_no_more() {
    for (stamped, faults) in [("00:29:01Z", 0), ("00:29:00Z", 0), ("00:28:59Z", 1)] {
        let store = MemoryStore::new();
        write(&store, &["2026-11-20T00:20:00Z"]);
        assert!(sealer(&store).seal_now(at("2026-11-20T00:30:00Z")).unwrap());
        stamp_all(&store, at(&format!("2026-11-20T{stamped}")));
        let found = checked(&store, "2026-11-20T01:00:00Z");
        assert_eq!(found.faults.len(), faults, "{stamped}: {:?}", found.faults);
        assert_eq!(Direct(&store).leaves(u64::MAX).unwrap().leaves, []);
    }
}

/// PEC-LOG-02 PEC-LOG-03: a log that was written anew and sealed again agrees with itself; but nobody can
/// have it stamped at another time than now.
#[test]
fn a_stamp_that_came_long_after_its_interval_is_told_with_its_time() {
    let told = |stamped: &dyn Fn(Timestamp) -> Timestamp| {
        let store = MemoryStore::new();
        for day in 12..=16 {
            let log = vec![record(&format!("2026-05-{day}T09:00:00Z"), "mine@a.example")];
            store.commit(Transaction { log, ..Transaction::default() }).unwrap();
            let until = at(&format!("2026-05-{}T00:00:00Z", day + 1));
            assert_eq!(sealer(&store).seal_due(until).unwrap(), 1);
            stamp_all(&store, stamped(until));
        }
        let found = checked(&store, "2026-05-17T01:00:00Z");
        let history = History::of(&store, PROVIDER, "mine@a.example", at("2026-05-17T01:00:00Z"));
        let history = history.unwrap().check(believed());
        assert_eq!((&found.faults, &history.faults), (&vec![], &vec![]));
        assert_eq!((&found.notes, &found.stamps), (&history.notes, &history.stamps));
        found
    };
    let found = told(&|until| until + SignedDuration::from_hours(25));
    assert_eq!(found.notes, [""; 0]);
    let found =
        told(&|until| until + SignedDuration::from_hours(25) + SignedDuration::from_secs(1));
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    let found = told(&|_| at("2026-11-28T10:00:00Z"));
    let late = "stamped more than 25 hours after the interval had ended, and proved since then only: \
                seal 1, until 2026-05-13 00:00:00 UTC, on 2026-11-28 10:00:00 UTC; \
                seal 2, until 2026-05-14 00:00:00 UTC, on 2026-11-28 10:00:00 UTC; \
                seal 3, until 2026-05-15 00:00:00 UTC, on 2026-11-28 10:00:00 UTC; and 2 more";
    assert_eq!(found.notes, [late]);
    assert_eq!(found.stamps.len(), 5);
    let last = serde_json::to_value(&found).unwrap()["stamps"][4].to_string();
    let expected = r#"{"seal":5,"stamped":"2026-11-28T10:00:00Z","until":"2026-05-17T00:00:00Z"}"#;
    assert_eq!(last, expected);
}

/// PEC-LOG-03
#[test]
fn a_seal_that_was_altered_dropped_or_truncated_is_named() {
    for (statements, seal, words) in [
        (
            "UPDATE seals SET statement = replace(statement, '1100', '1099') WHERE number = 1",
            1,
            "altered",
        ),
        (
            "UPDATE seals SET statement = CAST(replace(CAST(statement AS TEXT), 'Gestore A', 'Gestore B') AS BLOB) WHERE number = 2",
            2,
            "altered",
        ),
        ("UPDATE seals SET signature = zeroblob(100) WHERE number = 2", 2, "altered"),
        ("UPDATE seals SET signature = substr(signature, 1, 900) WHERE number = 2", 2, "altered"),
        (
            "UPDATE seals SET signature = (SELECT signature FROM seals WHERE number = 1), stamp = NULL WHERE number = 2",
            2,
            "altered",
        ),
        (
            "UPDATE seals SET stamp = (SELECT stamp FROM seals WHERE number = 2) WHERE number = 1",
            1,
            "of something else",
        ),
        ("UPDATE seals SET stamp = substr(stamp, 1, 900) WHERE number = 1", 1, "not a time stamp"),
        (
            "UPDATE seals SET stamp = NULL WHERE number = 1",
            1,
            "has no time stamp, and a later one has",
        ),
        (
            "UPDATE seals SET chunks = x'' WHERE number = 1",
            1,
            "hashes kept with seal 1 were altered",
        ),
        (
            "UPDATE seals SET expired = 0 WHERE number = 2; DELETE FROM log WHERE number BETWEEN 1101 AND 1103",
            2,
            "before their 30 months",
        ),
        ("DELETE FROM seals WHERE number = 1", 2, "the seal before seal 2 is missing"),
        ("UPDATE seals SET number = 3 WHERE number = 2", 3, "seal 3 was seal 2"),
    ] {
        let (of, _, text) = after(statements, &(0..0));
        assert_eq!(of, Some(seal), "{statements}: {text}");
        assert!(text.contains(words), "{statements}: {text}");
    }
    // The last seal is gone, or all are: then records are there that should be sealed by now.
    for (statements, first) in
        [("DELETE FROM seals WHERE number = 2", 1101), ("DELETE FROM seals", 1)]
    {
        let (seal, record, text) = after(statements, &(0..0));
        assert_eq!((seal, record), (None, Some(first)), "{text}");
        assert!(text.contains("are not sealed, though their interval ended"), "{text}");
    }
    // What is not sealed yet is whole in itself.
    let (seal, record, text) = after("DELETE FROM log WHERE number = 1105", &(0..0));
    assert_eq!((seal, record), (None, Some(1105)));
    assert_eq!(text, "record 1105 is missing: the last one written was 1105");
    let (_, record, text) = after(
        "UPDATE log SET record = replace(record, 'mario', 'maria') WHERE number = 1104",
        &(0..0),
    );
    assert_eq!(record, Some(1104), "{text}");
    assert_eq!(after("", &(0..0)), (None, None, String::new()));
}

#[test]
fn one_day_is_looked_at_alone() {
    let store = MemoryStore::new();
    write(&store, &["2026-11-20T09:00:00Z"]);
    write(&store, &["2026-11-21T09:00:00Z", "2026-11-21T09:30:00Z"]);
    sealer(&store).seal_due(at("2026-11-22T01:00:00Z")).unwrap();
    let day = |day: &str| {
        let day = Some(at(&format!("{day}T00:00:00Z")));
        check(&mut Direct(&store), believed(), day, at("2026-11-22T02:00:00Z")).unwrap()
    };
    let found = day("2026-11-21");
    assert_eq!((found.seals, found.records, found.faults), (1, 2, vec![]));
    assert_eq!(found.notes, ["no time stamp yet: seal 2"]);
    assert_eq!(day("2026-11-22").notes, ["no seal is of that day"]);
}

// --- proofs that leave this machine

/// PEC-LOG-01 PEC-LOG-03
#[test]
fn a_history_proves_each_record_and_no_other() {
    let store = MemoryStore::new();
    let many: Vec<_> =
        (0..1500).map(|n| format!("2026-11-20T09:{:02}:{:02}Z", n / 60, n % 60)).collect();
    write(&store, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let mine = |time: &str| record(time, "mine@a.example");
    let log = vec![mine("2026-11-20T10:00:00Z")];
    store.commit(Transaction { log, ..Transaction::default() }).unwrap();
    write(&store, &["2026-11-21T08:00:00Z"]);
    let log = vec![mine("2026-11-21T09:00:00Z"), mine("2026-11-21T09:00:01Z")];
    store.commit(Transaction { log, ..Transaction::default() }).unwrap();
    let now = at("2026-11-22T01:00:00Z");
    sealer(&store).seal_due(now).unwrap();
    stamp_all(&store, now);
    let log = vec![mine("2026-11-22T02:00:00Z")];
    store.commit(Transaction { log, ..Transaction::default() }).unwrap();

    let history = History::of(&store, PROVIDER, "mine@a.example", now).unwrap();
    let octets = history.octets().unwrap();
    let history = History::read(&octets).unwrap();
    let found = history.check(believed());
    assert_eq!((found.faults, found.seals, found.records, found.unsealed), (vec![], 2, 3, 1));
    let note = "no seal covers 1 of the records, the first is 1505: nothing proves them, anybody can \
                have written them";
    assert_eq!(found.notes, [note]);
    assert_eq!(history.log().unwrap().len(), 4);

    // Whatever is altered in it is named.
    let text = String::from_utf8(octets).unwrap();
    let faults = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let altered = History::read(text.replacen(from, to, 1).as_bytes());
        altered.map(|history| history.check(believed()).faults).unwrap_or_default()
    };
    let first = history.records[0].number;
    let path = history.records[0].path[0].to_string();
    let other = Hash::of(b"other").to_string();
    for (from, to) in [
        ("mario", "maria"),
        (&format!("\"number\": {first},"), &format!("\"number\": {},", first - 1)),
        (&path[..], &other[..]),
        ("\"seal\": 1", "\"seal\": 2"),
    ] {
        let found = faults(from, to);
        assert_eq!(found.len(), 1, "{from}: {found:?}");
        assert!(found[0].text.ends_with("it or its proof was altered"), "{found:?}");
    }
    let found = faults("2026-11-21T00:00:00Z", "2026-11-21T00:00:01Z");
    assert!(found[0].text.contains("seal 1 is not what was signed"), "{found:?}");
    let nobody = Trust::new(Vec::new(), Vec::new()).unwrap();
    let strangers = history.check(Believed { signers: &nobody, stampers: &nobody });
    assert!(!strangers.faults.is_empty());
    let none = History::of(&store, PROVIDER, "nobody@a.example", now).unwrap();
    assert_eq!(none.check(believed()).faults[0].text, "there is no record of the log");
    assert!(History::read(b"{}").is_err());
}

/// A log that grows while it is looked at, and counts its records otherwise than they are.
struct Busy<'s> {
    store: &'s dyn Store,
    to_come: u32,
    /// Added to what it says of its last record.
    off_by: i64,
}

impl Shelf for Busy<'_> {
    fn seals(&mut self, after: u64) -> anyhow::Result<Vec<Seal>> {
        Direct(self.store).seals(after)
    }

    fn chunks(&mut self, seal: u64) -> anyhow::Result<Vec<Hash>> {
        Direct(self.store).chunks(seal)
    }

    fn leaves(&mut self, after: u64) -> anyhow::Result<Leaves> {
        let page = leaves(self.store, after);
        if self.to_come > 0 {
            self.to_come -= 1;
            write(self.store, &["2026-11-21T10:00:00Z"]);
        }
        page
    }

    fn last_record(&mut self) -> anyhow::Result<u64> {
        Ok(self.store.last_record()?.saturating_add_signed(self.off_by))
    }
}

/// `log verify` beside a server that runs: what is written meanwhile is neither missing nor too much,
/// and one record more or less than it says is.
#[test]
fn a_log_that_grows_while_it_is_looked_at_is_whole() {
    for (to_come, off_by, unsealed, fault) in [
        (4, 0, 5, None),
        (4, -1, 5, Some("record 8 is missing: the last one written was 3")),
        (0, 0, 1, None),
        (0, -1, 1, Some("record 4 is missing: the last one written was 2")),
        (0, 1, 1, Some("record 4 is missing: the last one written was 4")),
    ] {
        let store = MemoryStore::new();
        write(&store, &["2026-11-20T09:00:00Z", "2026-11-20T10:00:00Z"]);
        assert_eq!(sealer(&store).seal_due(at("2026-11-21T00:00:01Z")).unwrap(), 1);
        write(&store, &["2026-11-21T09:00:00Z"]);
        let mut busy = Busy { store: &store, to_come, off_by };
        let found = check(&mut busy, believed(), None, at("2026-11-21T12:00:00Z")).unwrap();
        let faults: Vec<&str> = found.faults.iter().map(|fault| &*fault.text).collect();
        assert_eq!(faults, Vec::from_iter(fault), "{to_come} {off_by}");
        assert_eq!((found.records, found.unsealed), (2, unsealed));
    }
}

#[test]
fn a_seal_that_continues_nothing_is_an_error_and_one_that_somebody_else_made_is_none() {
    let store = MemoryStore::default();
    write(&store, &["2026-06-01T10:00:00Z"]);
    let now = at("2026-06-01T12:00:00Z");
    let sealer = sealer(&store);
    let close = |gap: u64| {
        let mut begun = sealer.begin(now).unwrap();
        begun.number += gap;
        let contents = sealer.read(begun.first, None, now).unwrap();
        sealer.close(&mut begun, now, contents)
    };
    // Tried again it would be refused again, for ever.
    assert!(close(1).is_err());
    assert_eq!(store.last_seal().unwrap(), None);
    let (mut one, mut other) = (sealer.begin(now).unwrap(), sealer.begin(now).unwrap());
    for begun in [&mut one, &mut other] {
        let contents = sealer.read(1, None, now).unwrap();
        sealer.close(begun, now, contents).unwrap();
    }
    assert_eq!(store.last_seal().unwrap().unwrap().number, 1);
}
