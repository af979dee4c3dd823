//! What the law asks of a provider as a whole, proved on the message's way through all points.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::SignedDuration;
use mail::{Address, Message, ReversePath};
use pec::certification::CertifiedKind;
use pec::exchange::PecId;
use store::{LogRecord, State, StoreError, Transaction};

use super::scene::{
    AUTHOR, BIANCHI, POSTMASTER, ROSSI, SERVICE, Scene, Unsteady, VERDI, address, certification,
    kinds, message, now, offer,
};
use crate::flow::dispatch::{Content, Relay, with_return_path};
use crate::flow::{Task, deadlines};

use super::smith::{Forge, moment};
use super::world::{Fate, World, at};

const NOBODY: &str = "nessuno@pec.beta.example";

/// Everything that an exchange of Rossi's with three recipients left in mailboxes.
fn exchanged() -> (Scene, String, Vec<Vec<u8>>) {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI, VERDI, NOBODY]);
    scene.run();
    let all = [ROSSI, BIANCHI, VERDI, SERVICE].iter().flat_map(|of| scene.inbox(of)).collect();
    (scene, id, all)
}

fn field(octets: &[u8], name: &str) -> Option<String> {
    Message::parse(octets).unwrap().field(name).map(|field| field.unfolded())
}

// PEC-SIG-01 PEC-SIG-04 PEC-GEN-08
#[test]
fn whatever_the_system_makes_is_signed_and_its_author_is_the_certificate_s() {
    let (scene, _, all) = exchanged();
    // Acceptance, two deliveries and one non-delivery; two envelopes; one take-charge.
    assert_eq!(all.len(), 7);
    for octets in all {
        let examination = pec::examine(&octets);
        let (entity, signature) = (examination.entity().unwrap(), examination.signature().unwrap());
        let verified = crypto::verify(signature, entity, &scene.site.trust.load(), now()).unwrap();
        assert_eq!(examination.author(), Some(address(AUTHOR)));
        assert_eq!(verified.signer.emails(), [AUTHOR]);
    }
}

// PEC-BT-07 PEC-RC-10
#[test]
fn envelopes_keep_the_senders_reverse_path_and_receipts_have_the_services() {
    let (_, _, all) = exchanged();
    for octets in all {
        let envelope = field(&octets, "X-Trasporto").is_some();
        let expected = if envelope { ROSSI } else { AUTHOR };
        assert_eq!(field(&octets, "Return-Path"), Some(format!("<{expected}>")));
    }
}

// PEC-BT-12
#[test]
fn one_envelope_is_made_for_a_message_and_all_recipients_get_that_one() {
    let (scene, id, _) = exchanged();
    assert_eq!(scene.inbox(BIANCHI), scene.inbox(VERDI));
    let envelopes = scene.events(&id).iter().filter(|e| *e == "posta-certificata").count();
    assert_eq!(envelopes, 1);
}

/// What waits for other hosts.
fn relays(scene: &Scene) -> Vec<(Relay, Vec<u8>)> {
    let jobs = scene.site.store.jobs(None, 100).unwrap();
    let relay = |job: &store::Job| match serde_json::from_slice(&job.payload).unwrap() {
        Task::Relay(relay) => Some((relay, crate::flow::octets_of(&scene.site, job).unwrap())),
        _ => None,
    };
    jobs.iter().filter_map(relay).collect()
}

// PEC-BT-12 PEC-GEN-16
#[test]
fn other_hosts_get_the_envelope_once_for_each_domain_whether_certified_or_not() {
    let scene = Scene::new();
    let elsewhere = ["a@Altrove.example", "b@altrove.example", "c@posta.example"];
    let id = offer(&scene, &[BIANCHI, elsewhere[0], elsewhere[2], elsewhere[1]]);
    scene.run();
    let relays = relays(&scene);
    let seen: Vec<(&str, Vec<String>)> = relays
        .iter()
        .map(|(relay, _)| {
            assert_eq!(relay.reverse_path, ReversePath::Address(address(ROSSI)));
            assert_eq!(relay.account, address(ROSSI));
            assert_eq!(relay.content, Content::Envelope(PecId::parse(&id).unwrap()));
            let of = relay.recipients.iter().map(|to| to.address.to_string());
            (&*relay.domain, of.collect())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("altrove.example", vec!["a@altrove.example".into(), "b@altrove.example".into()]),
            ("posta.example", vec!["c@posta.example".into()])
        ]
    );
    // One envelope for all, and Return-Path is the last hop's: what we deliver ourselves has it.
    let placed = &scene.inbox(BIANCHI)[0];
    for (_, octets) in &relays {
        assert_eq!(with_return_path(&ReversePath::Address(address(ROSSI)), octets), *placed);
        assert_eq!(field(octets, "Return-Path"), None);
    }
}

// PEC-PC-04
#[test]
fn no_delivery_receipt_exists_before_the_envelope_is_in_the_mailbox() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    loop {
        let attested = scene.events(&id).iter().filter(|e| *e == "avvenuta-consegna").count();
        let received = kinds(&scene.certified(ROSSI));
        assert_eq!(attested, scene.inbox(BIANCHI).len());
        assert!(!received.contains(&"avvenuta-consegna") || scene.inbox(BIANCHI).len() == 1);
        if !scene.step() {
            break;
        }
    }
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
}

// PEC-PC-04
#[test]
fn a_commit_that_fails_leaves_neither_envelope_nor_receipt() {
    let scene = Scene::new();
    // To three, so that each is delivered to in a step of its own.
    offer(&scene, &[BIANCHI, VERDI, POSTMASTER]);
    loop {
        let due = scene.site.store.jobs_due(now(), None, 1).unwrap();
        // Somebody else does the job first: this step's commit must then change nothing.
        let thief = Transaction { at: now(), consume: vec![due[0].id], ..Transaction::default() };
        let payload = String::from_utf8(due[0].payload.clone()).unwrap();
        if payload.starts_with("{\"Deliver\"")
            && payload.contains(&format!("\"recipient\":\"{BIANCHI}\""))
        {
            scene.site.store.commit(thief).unwrap();
            crate::flow::perform(&scene.site, &due[0]).unwrap();
            break;
        }
        assert!(scene.step());
    }
    scene.run();
    assert!(scene.inbox(BIANCHI).is_empty());
    let receipts = scene.certified(ROSSI);
    assert_eq!(kinds(&receipts), ["accettazione", "avvenuta-consegna", "avvenuta-consegna"]);
    assert!(receipts.iter().all(|data| data.delivery != Some(address(BIANCHI))));
}

// PEC-PC-05
#[test]
fn the_receipt_comes_whether_or_not_anybody_reads() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    scene.run();
    let before = scene.certified(ROSSI).len();
    let account = scene.site.store.account_by_address(&address(BIANCHI)).unwrap().unwrap();
    let inbox = scene.site.store.mailbox(account.id, &store::MailboxName::inbox()).unwrap();
    let seen = store::Flags { system: store::SystemFlags::SEEN, ..store::Flags::default() };
    let change = store::FlagChange::Add(seen);
    scene.site.store.change_flags(inbox.id, &store::UidSet::all(), &change).unwrap();
    scene.run();
    assert_eq!(scene.certified(ROSSI).len(), before);
}

// PEC-PR-26
#[test]
fn receipts_get_no_receipt() {
    let (scene, id, all) = exchanged();
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 0);
    for octets in all {
        // Each is about the one message, none about another receipt.
        assert_eq!(certification(&octets).identifier.as_str(), id);
    }
}

// PEC-GEN-13
#[test]
fn to_and_cc_only_tell_who_is_primary() {
    let scene = Scene::new();
    let text = message(ROSSI, &[BIANCHI], "Offerta")
        .replace("\r\nSubject:", &format!("\r\nCc: {VERDI}\r\nSubject:"));
    scene.submit(ROSSI, &[BIANCHI, VERDI], &text);
    scene.run();
    let receipts: Vec<(Address, bool)> = scene
        .inbox(ROSSI)
        .iter()
        .filter_map(|octets| {
            let with_original = !pec::examine(octets).parts().unwrap().originals.is_empty();
            certification(octets).delivery.map(|recipient| (recipient, with_original))
        })
        .collect();
    assert!(receipts.contains(&(address(BIANCHI), true)), "{receipts:?}");
    assert!(receipts.contains(&(address(VERDI), false)), "{receipts:?}");
}

// PEC-GEN-01 PEC-GEN-04
#[test]
fn every_domain_has_its_points_and_nothing_reaches_a_user_past_the_incoming_point() {
    let scene = Scene::new();
    for (from, to) in [(ROSSI, VERDI), (VERDI, ROSSI)] {
        let id = scene.submit(from, &[to], &message(from, &[to], "Offerta"));
        scene.run();
        let events = scene.events(&id);
        let at = |event: &str| events.iter().position(|e| e == event).unwrap();
        assert!(at("accettazione") < at("presa-in-carico"));
        assert!(at("presa-in-carico") < at("avvenuta-consegna"));
    }
}

/// The records of one exchange that went well but for one recipient.
fn records() -> Vec<LogRecord> {
    let (scene, id, _) = exchanged();
    scene.records(&id)
}

fn of<'a>(records: &'a [LogRecord], events: &'a [&str]) -> impl Iterator<Item = &'a LogRecord> {
    records.iter().filter(move |record| events.contains(&record.event.as_str()))
}

// PEC-LOG-05
#[test]
fn sender_and_recipients_are_the_same_in_every_record_of_a_message() {
    let records = records();
    assert!(records.len() > 8);
    for record in &records {
        assert_eq!(record.mittente.as_deref(), Some(ROSSI));
        let recipients: Vec<&str> = record.destinatari.iter().map(|r| &*r.address).collect();
        assert_eq!(recipients, [BIANCHI, VERDI, NOBODY]);
        assert_eq!(record.oggetto.as_deref(), Some("Offerta"));
    }
}

// PEC-LOG-06
#[test]
fn a_sent_message_has_one_envelope_record_and_one_acceptance_record() {
    let records = records();
    assert_eq!(of(&records, &["posta-certificata"]).count(), 1);
    assert_eq!(of(&records, &["accettazione"]).count(), 1);
}

// PEC-LOG-07 PEC-LOG-10
#[test]
fn every_certified_recipient_is_taken_in_charge_once() {
    let records = records();
    let mut taken: Vec<&String> =
        of(&records, &["presa-in-carico"]).flat_map(|record| &record.ricezione).collect();
    taken.sort();
    assert_eq!(taken, [BIANCHI, NOBODY, VERDI]);
}

// PEC-LOG-08 PEC-LOG-10
#[test]
fn every_certified_recipient_is_delivered_to_or_not_once() {
    let records = records();
    let ends = of(&records, &["avvenuta-consegna", "errore-consegna"]);
    let mut ends: Vec<(&str, &str)> =
        ends.map(|record| (record.consegna.as_deref().unwrap(), &*record.event)).collect();
    ends.sort_unstable();
    assert_eq!(
        ends,
        [(BIANCHI, "avvenuta-consegna"), (NOBODY, "errore-consegna"), (VERDI, "avvenuta-consegna")]
    );
}

// PEC-LOG-04
#[test]
fn a_refused_submission_is_logged_with_its_reason() {
    let scene = Scene::new();
    let id = scene.submit(ROSSI, &[VERDI], &message(ROSSI, &[BIANCHI], "Offerta"));
    let records = scene.records(&id);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].event, "non-accettazione");
    assert_eq!(records[0].errore.as_deref(), Some("altro"));
    assert!(records[0].errore_esteso.as_deref().unwrap().contains(VERDI));
}

// PEC-MC-06
#[test]
fn the_kinds_of_failure_have_their_words() {
    let scene = Scene::new();
    let verdi = scene.site.store.account_by_address(&address(VERDI)).unwrap().unwrap();
    let suspended = store::AccountChange::State(State::Suspended);
    scene.site.store.change_account(verdi.id, suspended).unwrap();
    offer(&scene, &[VERDI, NOBODY]);
    scene.run();
    let mut errors: Vec<(String, &str)> = scene
        .certified(ROSSI)
        .iter()
        .filter_map(|data| Some((data.delivery.as_ref()?.to_string(), data.error.errore())))
        .collect();
    errors.sort();
    assert_eq!(errors, [(NOBODY.to_owned(), "no-dest"), (VERDI.to_owned(), "altro")]);
}

// PEC-SIG-04
#[test]
fn a_key_that_is_not_the_certificates_signs_nothing_that_leaves() {
    let scene = Scene::with_a_strange_key();
    let id = offer(&scene, &[BIANCHI]);
    let due = scene.site.store.jobs_due(now(), None, 1).unwrap();
    let error = crate::flow::perform(&scene.site, &due[0]).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "the message cannot be signed: the signing key is not the certificate's: see `ceralacca check`"
    );
    assert!(scene.inbox(ROSSI).is_empty());
    // The message is kept as it was accepted: with the right key it goes on.
    assert_eq!(scene.events(&id), ["accettazione", "posta-certificata"]);
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 1);
}

#[test]
fn a_job_is_due_though_the_clock_was_set_back() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    let an_hour_ago = now() - SignedDuration::from_hours(1);
    assert_eq!(scene.site.store.jobs_due(an_hour_ago, None, 1).unwrap().len(), 1);
}

// PEC-GEN-10
#[test]
fn nothing_is_delivered_before_it_was_accepted_though_the_clock_was_set_back() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    scene.clock.turn_to(now() - SignedDuration::from_hours(1));
    scene.run();
    for data in scene.certified(ROSSI) {
        assert_eq!(data.at.instant(), now());
    }
    assert_eq!(scene.certified(SERVICE)[0].at.instant(), now());
}

#[test]
fn a_job_that_nobody_can_read_is_a_failure_and_stays() {
    let scene = Scene::new();
    let job = store::NewJob { due: now(), payload: b"{}".to_vec(), octets: None, lane: None };
    let transaction = Transaction { at: now(), enqueue: vec![job], ..Transaction::default() };
    scene.site.store.commit(transaction).unwrap();
    let due = scene.site.store.jobs_due(now(), None, 1).unwrap();
    let error = crate::flow::perform(&scene.site, &due[0]).unwrap_err();
    assert_eq!(error.to_string(), "the job cannot be read");
    assert!(error.downcast_ref::<StoreError>().is_none());
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 1);
}

#[test]
fn a_suspended_sender_has_no_envelope_under_way_lost() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    let rossi = scene.site.store.account_by_address(&address(ROSSI)).unwrap().unwrap();
    let suspended = store::AccountChange::State(State::Suspended);
    scene.site.store.change_account(rossi.id, suspended).unwrap();
    scene.run();
    // What was accepted is carried to its end, and its receipts are kept for the holder.
    assert_eq!(kinds(&scene.certified(BIANCHI)), [CertifiedKind::Transport.tipo()]);
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
}

// PEC-TO-01 PEC-TO-07
#[test]
fn a_notice_that_panics_holds_up_no_other_and_is_given_at_the_next_look() {
    let signer = Arc::new(Unsteady::new());
    let scene = Scene::signing_by(signer.clone());
    offer(&scene, &[BIANCHI, VERDI, POSTMASTER]);
    // Certified, and never taken in charge.
    assert!(scene.step());
    scene.clock.turn_to(now() + SignedDuration::from_hours(12));
    signer.panics.store(1, Ordering::SeqCst);
    let mut late = Vec::new();
    for _ in 0..3 {
        deadlines::give_due(&scene.site, &|| false);
        let kinds = kinds(&scene.certified(ROSSI));
        late.push(kinds.iter().filter(|kind| **kind == "preavviso-errore-consegna").count());
    }
    assert_eq!(late, [2, 3, 3]);
}

// PEC-BT-13 PEC-PR-29: between providers TLS is a must, and mail that came without is taken all the same;
// that it did is written down, whoever it is from and whatever it is.
#[test]
fn what_came_in_clear_is_taken_and_its_log_record_says_so() {
    for (tls, note) in [
        (None, "came from 192.0.2.25 in clear"),
        (
            Some("TLSv1_3 TLS13_AES_256_GCM_SHA384"),
            "came from 192.0.2.25 with TLSv1_3 TLS13_AES_256_GCM_SHA384",
        ),
    ] {
        let mut world = World::new(at("2026-09-14T07:31:00Z"));
        world.tls = tls;
        let text = super::world::message("rossi@a", &["dora@g"], "Offerta");
        world.submit("rossi@a", &["dora@g"], &text);
        let mut sent = Vec::new();
        world.run(&mut |passage| {
            sent.push(passage.octets().to_vec());
            Fate::Lost
        });
        let noted = |world: &World, event: &str| {
            let log = world.hosts[0].log();
            let mut of = log.iter().filter(|record| record.event == event);
            of.any(|record| record.notes.iter().any(|said| said == note))
        };
        // Of a provider: a receipt for one of our users, and an envelope.
        let receipt = Forge::gamma().receipt(&sent[0], |envelope, provider, _, fresh| {
            let dora = address(&World::full("dora@g"));
            pec::receipt::take_charge(envelope, &[dora], provider, moment(), fresh)
        });
        world.bring(0, "posta-certificata@g", &["ricevute@a"], &receipt).unwrap();
        let envelope = Forge::gamma().envelope("dora@g", &["rossi@a"]);
        world.bring(0, "dora@g", &["rossi@a"], &envelope).unwrap();
        world.run(&mut |_| Fate::Lost);
        for event in ["presa-in-carico", "posta-certificata"] {
            assert!(noted(&world, event), "{note} of {event}: {:?}", world.hosts[0].log());
        }
    }
}
