//! Whether the log of certified mail stays as quick to look through when it grows: what finding one
//! message, one account's day and one minute costs in a log of a year's span, and how fast all of it is
//! hashed, which is what sealing and `log verify` do.
//!
//! `BENCH_RECORDS` records (a million) are spread evenly over a year; the year at 100 messages a second
//! is told beside, extrapolated: by lookups' logarithm not at all, by hashing in proportion.

use std::time::{Duration, Instant};

use benches::{say, setting, spread};
use store::embedded::{EmbeddedStore, Options};
use store::tree::{self, CHUNK_LEAVES, Hash};
use store::{LogFilter, LogRecord, LoggedRecipient, Store, Timestamp, Transaction};

/// Records of one message to one recipient here: acceptance, envelope, take-charge, delivery and both
/// receipts' arrivals.
const PER_MESSAGE: usize = 6;
const EVENTS: [&str; PER_MESSAGE] = [
    "accettazione",
    "posta-certificata",
    "presa-in-carico",
    "consegna",
    "avvenuta-consegna",
    "presa-in-carico",
];
const ACCOUNTS: usize = 10_000;
const YEAR_SECS: usize = 365 * 86_400;
const IN_A_COMMIT: usize = 600;
/// What the extrapolation is for.
const MESSAGES_A_SECOND: usize = 100;

fn main() -> anyhow::Result<()> {
    let records = setting("BENCH_RECORDS", 1_000_000);
    let rounds = setting("BENCH_ROUNDS", 200);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let store = EmbeddedStore::open(&path, Options::default())?;
    let began = Instant::now();
    for first in (0..records).step_by(IN_A_COMMIT) {
        let log = (first..records.min(first + IN_A_COMMIT)).map(|at| record(at, records));
        store.commit(Transaction { log: log.collect(), ..Transaction::default() })?;
    }
    let per_second = |time: Duration| records as f64 / time.as_secs_f64();
    say("records written a second", format!("{:.0}", per_second(began.elapsed())));
    drop(store);
    let octets = std::fs::metadata(path.join("index.db"))?.len();
    say("octets on disk a record", octets / records as u64);
    let store = EmbeddedStore::open(&path, Options::default())?;

    let pick = |round: usize| round.wrapping_mul(2_654_435_761) % (records / PER_MESSAGE);
    find(&store, "one message", rounds, |round| LogFilter {
        message_id: Some(format!("{}@pec.alfa.example", pick(round))),
        ..LogFilter::default()
    })?;
    find(&store, "one message by a receipt", rounds, |round| LogFilter {
        message_id: Some(format!("r{}.3@pec.alfa.example", pick(round))),
        ..LogFilter::default()
    })?;
    let since = |round: usize| moment(pick(round) * PER_MESSAGE, records);
    find(&store, "one account's week", rounds, |round| LogFilter {
        account: mail::Address::parse(&account(round % ACCOUNTS)).ok(),
        since: Some(since(round)),
        until: since(round).checked_add(jiff::SignedDuration::from_hours(7 * 24)).ok(),
        ..LogFilter::default()
    })?;
    find(&store, "one minute", rounds, |round| LogFilter {
        since: Some(since(round)),
        until: since(round).checked_add(jiff::SignedDuration::from_mins(1)).ok(),
        ..LogFilter::default()
    })?;

    let began = Instant::now();
    let (mut after, mut leaves, mut chunks) = (0, Vec::new(), Vec::new());
    loop {
        let entries = store.log_entries(after, 4 * CHUNK_LEAVES)?;
        let Some(last) = entries.last() else { break };
        after = last.number;
        leaves.extend(entries.iter().map(|entry| Hash::leaf(entry.number, &entry.octets)));
        chunks.extend(leaves.chunks(CHUNK_LEAVES).map(tree::root));
        leaves.clear();
    }
    let root = tree::root(&chunks);
    let rate = per_second(began.elapsed());
    say(&format!("records hashed a second (root {:.8})", root.to_string()), format!("{rate:.0}"));
    let day = (MESSAGES_A_SECOND * PER_MESSAGE * 86_400) as f64;
    say("a day at 100 messages a second, hashed, minutes", format!("{:.0}", day / rate / 60.0));
    say("a year of them, hours", format!("{:.0}", day * 365.0 / rate / 3600.0));
    Ok(())
}

fn find(
    store: &dyn Store,
    what: &str,
    rounds: usize,
    filter: impl Fn(usize) -> LogFilter,
) -> anyhow::Result<()> {
    let (mut times, mut found) = (Vec::with_capacity(rounds), 0);
    for round in 0..rounds {
        let filter = filter(round);
        let began = Instant::now();
        found += store.log(&filter, 0, 100)?.len();
        times.push(began.elapsed());
    }
    if let Some((least, median, most)) = spread(times) {
        let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1000.0);
        say(
            &format!("{what}, ms (min median max; {} records each)", found / rounds),
            format!("{} {} {}", ms(least), ms(median), ms(most)),
        );
    }
    Ok(())
}

fn account(number: usize) -> String {
    format!("utente{number}@pec.alfa.example")
}

fn moment(at: usize, records: usize) -> Timestamp {
    let millis = (at as i64) * (YEAR_SECS as i64) * 1000 / (records as i64);
    Timestamp::from_millisecond(1_767_225_600_000 + millis).unwrap_or(Timestamp::MAX)
}

fn record(at: usize, records: usize) -> LogRecord {
    let (message, step) = (at / PER_MESSAGE, at % PER_MESSAGE);
    let recipient = account(message.wrapping_mul(7919) % ACCOUNTS);
    LogRecord {
        time: moment(at, records),
        event: EVENTS[step].to_owned(),
        identificativo: Some(format!("{message}@pec.alfa.example")),
        message_id: Some(format!("r{message}.{step}@pec.alfa.example")),
        mittente: Some(account(message % ACCOUNTS)),
        destinatari: vec![LoggedRecipient {
            address: recipient.clone(),
            tipo: "certificato".into(),
        }],
        oggetto: Some("Trasmissione della documentazione richiesta".to_owned()),
        gestore: Some("Alfa PEC S.p.A.".to_owned()),
        consegna: (step == 3 || step == 4).then_some(recipient),
        msgid: Some(format!("{message}@client.example")),
        ..LogRecord::default()
    }
}
