//! Infected messages: kept apart, written once, never removed before their time.

use super::*;
use crate::{Infected, InfectedId, Infection, NewInfected, NewJob, assert_refused};

fn infection(virus: &str) -> Infection {
    Infection {
        point: "accesso".to_owned(),
        virus: virus.to_owned(),
        mittente: "anna@pec.example".to_owned(),
        destinatari: vec!["b@x.example".to_owned()],
        ..Infection::default()
    }
}

fn keep(store: &dyn Store, virus: &str, octets: &[u8], found: i64, until: i64) -> InfectedId {
    let quarantine = vec![NewInfected {
        octets: Source::New(0),
        keep_until: at(until),
        infection: infection(virus),
    }];
    let octets = vec![inline(octets)];
    let transaction = Transaction { at: at(found), octets, quarantine, ..Transaction::default() };
    store.commit(transaction).unwrap().quarantined[0]
}

fn discard(store: &dyn Store, id: InfectedId, now: i64) -> Result<(), StoreError> {
    let discard = vec![id];
    store.commit(Transaction { at: at(now), discard, ..Transaction::default() }).map(|_| ())
}

/// PEC-VIR-01, PEC-VIR-02, PEC-GEN-06
pub fn an_infected_message_is_kept_as_it_came(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    for (virus, octets) in [("Eicar-1", vec![7; 700]), ("Eicar-2", vec![8; 1_200_000])] {
        keep(&*store, virus, &octets, 10, 1000);
    }
    let all = store.quarantined(0, 9).unwrap();
    let told: Vec<_> =
        all.iter().map(|one| (one.id.0, &*one.infection.virus, one.octets)).collect();
    assert_eq!(told, [(1, "Eicar-1", 700), (2, "Eicar-2", 1_200_000)]);
    let first = Infected {
        id: InfectedId(1),
        found: at(10),
        keep_until: at(1000),
        blob: all[0].blob,
        octets: 700,
        infection: infection("Eicar-1"),
    };
    assert_eq!(all[0], first);
    assert_eq!(store.read(all[1].blob, 0, u64::MAX).unwrap(), vec![8; 1_200_000]);
    assert_eq!(store.quarantined(1, 9).unwrap(), all[1..]);
    assert_eq!(store.quarantined(0, 1).unwrap(), all[..1]);
    // Nobody's mailbox has it, and nobody is charged for it.
    assert_eq!((held(&*store, anna), store.status(inbox).unwrap().messages), ((0, 0), 0));
}

/// PEC-VIR-01
pub fn no_infected_message_goes_before_its_time(make: Make<'_>) {
    let store = make();
    let id = keep(&*store, "Eicar", b"infected", 10, 1000);
    let blob = store.quarantined(0, 9).unwrap()[0].blob;
    assert!(store.quarantine_ended(at(999), 9).unwrap().is_empty());
    assert_refused!(discard(&*store, id, 999), StoreError::StillKept(kept) if kept == id);
    assert_eq!(store.read(blob, 0, 99).unwrap(), b"infected");
    let ended = store.quarantine_ended(at(1000), 9).unwrap();
    assert_eq!(ended, store.quarantined(0, 9).unwrap());
    discard(&*store, id, 1000).unwrap();
    assert!(store.quarantined(0, 9).unwrap().is_empty());
    assert_refused!(store.read(blob, 0, 99), StoreError::NoSuchMessage);
    assert_refused!(discard(&*store, id, 1000), StoreError::NoSuchMessage);
    // Its number is nobody else's.
    assert_eq!(keep(&*store, "Eicar", b"infected", 1100, 2000), InfectedId(2));
}

/// The octets of a job that is done live on in the quarantine; a step refused leaves nothing there.
pub fn a_step_moves_what_a_job_holds_into_the_quarantine(make: Make<'_>) {
    let store = make();
    let octets = Some(Source::New(0));
    let job = NewJob { due: at(0), payload: vec![1], octets, lane: None };
    let octets = vec![inline(b"infected")];
    let transaction = Transaction { octets, enqueue: vec![job], ..Transaction::default() };
    let job = store.commit(transaction).unwrap().enqueued[0];
    let blob = store.jobs_due(at(9), None, 9).unwrap()[0].blob.unwrap();
    let step = |deliver| Transaction {
        at: at(10),
        consume: vec![job],
        deliver,
        quarantine: vec![NewInfected {
            octets: Source::Stored(blob),
            keep_until: at(1000),
            infection: infection("Eicar"),
        }],
        ..Transaction::default()
    };
    let nobody = step(vec![Delivery {
        octets: Source::Stored(blob),
        ..delivery("nobody@pec.example", Charge::Quota)
    }]);
    assert_refused!(store.commit(nobody), StoreError::NoSuchAccount);
    assert!(store.quarantined(0, 9).unwrap().is_empty());
    store.commit(step(Vec::new())).unwrap();
    assert!(store.jobs_due(at(9), None, 9).unwrap().is_empty());
    assert_eq!(store.read(blob, 0, 99).unwrap(), b"infected");
}
