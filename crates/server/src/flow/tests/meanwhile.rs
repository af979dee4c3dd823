//! What was decided about a message stays decided: the index, certificates and keys change while it
//! is under way.

use std::sync::Arc;

use jiff::SignedDuration;
use pec::incoming::{AHEAD_MAX, BELIEVED_FOR};
use pec::providers::{Index, ProviderRecord};
use store::{Job, NewJob, Source, Timestamp, Transaction};

use super::scene::{BIANCHI, ROSSI, Scene, VERDI, kinds, message, now, offer};
use super::smith::{Forge, moment};
use super::world::{Fate, GAMMA_DOMAIN, World, at};
use crate::flow::{Task, once, perform};

/// The index loses every record of this domain's.
fn forget(site: &crate::site::Site, domain: &str) {
    let keep = |record: &&ProviderRecord| !record.domains.iter().any(|one| one.as_str() == domain);
    let index = site.providers.load();
    let records = index.records().iter().filter(keep).cloned().collect();
    site.providers.store(Arc::new(Index::new(records, None).unwrap()));
}

fn due(site: &crate::site::Site) -> Vec<Job> {
    site.store.jobs(None, 99).unwrap()
}

// PEC-PR-04 PEC-PC-03: a receipt or a notice for each that was taken in charge
#[test]
fn an_envelope_taken_in_charge_is_delivered_also_when_its_signer_leaves_the_index() {
    let mut world = World::new(at("2026-09-14T07:31:00Z"));
    let envelope = Forge::gamma().envelope("mallory@g", &["rossi@a", "nessuno@a"]);
    world.bring(0, "mallory@g", &["rossi@a", "nessuno@a"], &envelope).unwrap();
    let site = world.hosts[0].site.clone();
    // Before it is even taken in charge: it was found to be an envelope when it came.
    forget(&site, GAMMA_DOMAIN);
    perform(&site, &due(&site)[0]).unwrap();
    world.later(SignedDuration::from_hours(24 * 365 * 9));
    for job in due(&site) {
        if !matches!(serde_json::from_slice(&job.payload).unwrap(), Task::Relay(_)) {
            // Nine years later its certificate, and ours, are over: what is signed is stopped, and
            // not what was proved.
            let why = format!("{:#}", perform(&site, &job).unwrap_err());
            assert!(why.contains("the signing certificate does not hold"), "{why}");
        }
    }
    world.clock.turn_to(at("2026-09-14T08:00:00Z"));
    world.run(&mut |_| Fate::Arrives);
    let inbox = world.hosts[0].inbox("rossi");
    assert_eq!(inbox.len(), 1);
    // The receipts go where the index said then.
    let told: Vec<&String> = world.events.iter().filter(|e| e.starts_with("a -> x")).collect();
    assert_eq!(
        told,
        ["a -> x presa-in-carico", "a -> x avvenuta-consegna", "a -> x errore-consegna 5.1.1"]
    );
    assert!(due(&site).is_empty());
}

// PEC-PR-22 PEC-PR-27: also what the signer may speak for is as it was
#[test]
fn a_receipt_that_arrived_counts_also_when_its_signer_leaves_the_index() {
    let mut world = World::new(at("2026-09-14T07:31:00Z"));
    let id = world.submit(
        "rossi@a",
        &["dora@g"],
        &super::world::message("rossi@a", &["dora@g"], "Offerta"),
    );
    let mut carried = Vec::new();
    world.run(&mut |passage| {
        carried.push(passage.octets().to_vec());
        Fate::Lost
    });
    let receipt = Forge::gamma().receipt(&carried[0], |envelope, provider, _, fresh| {
        let dora = super::scene::address(&World::full("dora@g"));
        pec::receipt::take_charge(envelope, &[dora], provider, moment(), fresh)
    });
    world.bring(0, "posta-certificata@g", &["ricevute@a"], &receipt).unwrap();
    let site = world.hosts[0].site.clone();
    forget(&site, GAMMA_DOMAIN);
    world.run(&mut |_| Fate::Arrives);
    let tracked = site.store.tracked(&id).unwrap();
    assert_eq!(tracked[0].state, store::TrackState::TakenInCharge);
    assert!(due(&site).is_empty());
}

/// What we would not believe ourselves is delivered to nobody, and holds up nothing else.
#[test]
fn what_our_own_tests_do_not_hold_for_ours_waits_alone() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    let index = scene.site.providers.load_full();
    forget(&scene.site, "pec.alfa.example");
    perform(&scene.site, &due(&scene.site)[0]).unwrap();
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione"]);
    let why = format!("{:#}", perform(&scene.site, &due(&scene.site)[0]).unwrap_err());
    assert!(why.contains("an envelope of ours is not held for ours: NotAProvider"), "{why}");
    assert_eq!((due(&scene.site).len(), scene.inbox(BIANCHI).len()), (1, 0));
    scene.site.providers.store(index);
    scene.run();
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
}

/// Jobs as earlier releases wrote them, which do not say what was proved.
#[test]
fn jobs_of_earlier_releases_are_still_done() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    while !due(&scene.site).is_empty() {
        let old: Vec<NewJob> = due(&scene.site).iter().map(as_it_was).collect();
        let consume = due(&scene.site).iter().map(|job| job.id).collect();
        let step = Transaction { at: now(), consume, enqueue: old, ..Transaction::default() };
        scene.site.store.commit(step).unwrap();
        assert!(scene.step());
    }
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
    assert_eq!(scene.site.store.tracked(&id).unwrap()[0].state, store::TrackState::Delivered);
    let scan = format!(
        r#"{{"Scan":{{"identifier":"{id}","reverse_path":"{ROSSI}","recipients":["{BIANCHI}"]}}}}"#
    );
    assert!(matches!(serde_json::from_str(&scan).unwrap(), Task::Scan { origin: None, .. }));
}

fn as_it_was(job: &Job) -> NewJob {
    let mut payload: serde_json::Value = serde_json::from_slice(&job.payload).unwrap();
    for task in payload.as_object_mut().unwrap().values_mut() {
        task.as_object_mut().unwrap().remove("origin");
    }
    NewJob {
        due: Timestamp::UNIX_EPOCH,
        payload: serde_json::to_vec(&payload).unwrap(),
        octets: job.blob.map(Source::Stored),
        lane: None,
    }
}

/// Brings an envelope and a receipt of the third provider's at these times since they were signed, and
/// tells what is in Rossi's INBOX after each.
fn brought(since: &[SignedDuration]) -> Vec<Vec<String>> {
    let signed = at(super::smith::TIME);
    let mut world = World::new(signed);
    let gamma = Forge::gamma();
    let envelope = gamma.envelope("mallory@g", &["rossi@a"]);
    let about = gamma.envelope("rossi@a", &["dora@g"]);
    let receipt = gamma.receipt(&about, |envelope, provider, at, fresh| {
        pec::receipt::take_charge(envelope, &[], provider, at, fresh)
    });
    let site = world.hosts[0].site.clone();
    let mut found = Vec::new();
    for since in since {
        world.clock.turn_to(signed + *since);
        once::forget_old(&site).unwrap();
        world.bring(0, "mallory@g", &["rossi@a"], &envelope).unwrap();
        world.bring(0, "posta-certificata@g", &["ricevute@a"], &receipt).unwrap();
        world.run(&mut |_| Fate::Arrives);
        found.push(std::mem::take(&mut world.events));
    }
    found
}

// PEC-PR-28 PEC-PR-07
#[test]
fn what_is_not_known_again_is_not_believed_either() {
    let second = SignedDuration::from_secs(1);
    let known = brought(&[
        SignedDuration::ZERO,
        BELIEVED_FOR,
        BELIEVED_FOR + second,
        once::KEPT_FOR,
        once::KEPT_FOR + second,
        once::KEPT_FOR + BELIEVED_FOR,
    ]);
    let taken = [
        "a -> x presa-in-carico",
        "a -> x avvenuta-consegna",
        "a -> ricevute presa-in-carico",
        "a -> rossi posta-certificata",
    ];
    assert_eq!(known[0], taken);
    assert_eq!(known[1], [""; 0]);
    for later in &known[2..] {
        assert_eq!(*later, ["a -> ricevute busta-anomalia", "a -> rossi busta-anomalia"]);
    }
}

/// Of a clock that is ahead of ours the mark would be gone too early.
#[test]
fn what_was_certified_tomorrow_is_not_believed() {
    let second = SignedDuration::from_secs(1);
    let early = brought(&[-AHEAD_MAX - second, -AHEAD_MAX]);
    assert_eq!(early[0], ["a -> ricevute busta-anomalia", "a -> rossi busta-anomalia"]);
    assert_eq!(early[1].last().unwrap(), "a -> rossi posta-certificata");
    assert_eq!(early[1].len(), 4);
}

/// A domain came to us, and the index of today still gives it to whom it left: what we sign for it is
/// certified all the same, and our users wait for no index.
// PEC-IDX-09, doubt D-30
#[test]
fn a_domain_that_came_to_us_needs_no_index_of_tomorrow() {
    let scene = Scene::new();
    let providers = scene.site.providers.load();
    let ours = providers.records()[0].clone();
    let (gone, kept): (Vec<_>, Vec<_>) =
        ours.domains.iter().cloned().partition(|domain| domain.as_str() == "pec.beta.example");
    let other = ProviderRecord {
        name: "Gamma PEC S.p.A.".to_owned(),
        certificates: Vec::new(),
        domains: gone,
        ..ours.clone()
    };
    let index = Index::new(vec![ProviderRecord { domains: kept, ..ours }, other], None).unwrap();
    scene.site.providers.store(Arc::new(index));
    scene.submit(VERDI, &[BIANCHI], &message(VERDI, &[BIANCHI], "Trasloco"));
    scene.run();
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["posta-certificata"]);
    assert_eq!(kinds(&scene.certified(VERDI)), ["accettazione", "avvenuta-consegna"]);
}
