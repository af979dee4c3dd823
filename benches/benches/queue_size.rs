//! A queue of a million messages for other hosts: how long until it is open, and until it is known
//! what is to be sent next.

use std::time::Instant;

use benches::{say, setting};
use store::embedded::{EmbeddedStore, Options};
use store::{Lane, NewJob, Octets, Source, Store, Timestamp, Transaction, Urgency};

/// Jobs added in one transaction.
const AT_ONCE: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let jobs = setting("BENCH_JOBS", 1_000_000);
    let destinations = setting("BENCH_DESTINATIONS", 10_000);
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let store = EmbeddedStore::open(folder.path(), Options::default())?;
    for from in (0..jobs).step_by(AT_ONCE) {
        let enqueue = (from..jobs.min(from + AT_ONCE)).map(|n| job(n, destinations)).collect();
        let octets =
            vec![Octets::Inline(benches::message("a@b.example", "c@d.example", "x", 2000).into())];
        let at = Timestamp::now();
        store.commit(Transaction { at, octets, enqueue, ..Transaction::default() })?;
    }
    drop(store);
    say("jobs queued a second", jobs * 1000 / usize::try_from(began.elapsed().as_millis())?.max(1));
    let began = Instant::now();
    let store = EmbeddedStore::open(folder.path(), Options::default())?;
    say(&format!("open with {jobs} jobs, ms"), began.elapsed().as_millis());
    let now = Timestamp::now();
    let began = Instant::now();
    let first = store.lanes(None, 64)?;
    for lane in &first {
        store.lane_due(now, lane, 4)?;
    }
    say("the next four of each of 64 destinations, ms", began.elapsed().as_millis());
    let began = Instant::now();
    let (mut after, mut seen) = (None, 0);
    loop {
        let lanes = store.lanes(after.as_deref(), 64)?;
        seen += lanes.len();
        after = lanes.last().cloned();
        if after.is_none() {
            break;
        }
    }
    say(&format!("once through {seen} destinations, ms"), began.elapsed().as_millis());
    Ok(())
}

/// A thousand accounts write to all destinations; one in ten is a receipt.
fn job(number: usize, destinations: usize) -> NewJob {
    let urgency = if number.is_multiple_of(10) { Urgency::Receipt } else { Urgency::Envelope };
    let lane = Lane {
        destination: format!("d{}.example", number % destinations),
        urgency,
        account: format!("a{}@pec.alfa.example", number % 1000),
    };
    let octets = Some(Source::New(0));
    NewJob { due: Timestamp::UNIX_EPOCH, payload: vec![b'x'; 300], octets, lane: Some(lane) }
}
