//! Infected messages at both points, and a scanner that is down.

use std::sync::Arc;

use jiff::SignedDuration;
use mail::Message;
use pec::certification::{CertifiedKind, ErrorKind};
use pec::receipt::ReceiptKind;
use smtp::Reply;
use store::{Octets, Source, TrackState, Transaction};

use super::scene::*;
use super::smith::{Forge, moment};
use super::world::{self, Fate, World, at};
use crate::antivirus::tests::Told;
use crate::antivirus::{Antivirus, Place};
use crate::flow::access::{self, Refusal, Submitted, Trace};
use crate::flow::wishes::Wishes;
use crate::flow::{Task, perform};
use crate::quarantine;

/// A provider that has its messages scanned.
fn scanned() -> (Scene, Told) {
    let (scene, clamd) = (Scene::new(), Told::start());
    let mut config = (*scene.site.config.load_full()).clone();
    config.antivirus =
        Antivirus { clamd: Some(Place::Tcp(clamd.place.clone())), ..Antivirus::default() };
    scene.site.config.store(Arc::new(config));
    (scene, clamd)
}

/// What a message with this body is, to these recipients.
fn text(to: &[&str], body: &str) -> String {
    format!(
        "From: {ROSSI}\r\nTo: {}\r\nSubject: Istanza\r\nMessage-ID: <v1@pc.example>\r\n\r\n{body}\r\n",
        to.join(", ")
    )
}

/// Submits it, and tells the refusal.
fn refused(scene: &Scene, to: &[&str], message: &str) -> Reply {
    let mut spool = scene.site.store.spool().unwrap();
    spool.write(message.as_bytes()).unwrap();
    let trace =
        Trace { hello: "pc.example".to_owned(), peer: [192, 0, 2, 10].into(), protocol: "ESMTPSA" };
    let submitted = Submitted {
        reverse_path: address(ROSSI),
        forward_paths: to.iter().copied().map(address).collect(),
        wishes: Wishes::default(),
        trace,
    };
    match access::take(&scene.site, &submitted, spool) {
        Err(Refusal::Say(reply)) => reply,
        Err(Refusal::Fault(error)) => panic!("{error:#}"),
        Ok(id) => panic!("taken as {id}"),
    }
}

// PEC-AP-26 PEC-AP-27 PEC-NA-05 PEC-NA-07 PEC-NA-08 PEC-GEN-06 PEC-VIR-01 PEC-VIR-03
#[test]
fn a_virus_at_the_access_point_refuses_the_message_and_keeps_it() {
    let (scene, _clamd) = scanned();
    let message = text(&[BIANCHI, VERDI], "EICAR");
    let id = scene.submit(ROSSI, &[BIANCHI, VERDI], &message);
    scene.run();

    let notices = scene.inbox(ROSSI);
    let [notice] = &notices[..] else { panic!("{} messages", notices.len()) };
    let header = Message::parse(notice).unwrap();
    let field = |name| header.field(name).map(|field| field.unfolded());
    assert_eq!(field("X-Ricevuta").as_deref(), Some("non-accettazione"));
    assert_eq!(field("X-VerificaSicurezza").as_deref(), Some("errore"));
    assert_eq!(field("Subject").unwrap(), "AVVISO DI NON ACCETTAZIONE PER VIRUS: Istanza");
    assert_eq!(field("X-Riferimento-Message-ID").as_deref(), Some("<v1@pc.example>"));
    let data = certification(notice);
    assert_eq!(data.kind, CertifiedKind::Receipt(ReceiptKind::NonAcceptance));
    assert_eq!((data.error, data.error_text.as_deref()), (ErrorKind::Virus, Some("Eicar-Test")));
    assert_eq!(data.identifier.as_str(), id);
    assert!(!notice.windows(5).any(|window| window == b"EICAR"));
    for of in [BIANCHI, VERDI, SERVICE] {
        assert!(scene.inbox(of).is_empty(), "{of}");
    }
    assert!(scene.site.store.tracked(&id).unwrap().is_empty());

    let kept = scene.site.store.quarantined(0, 9).unwrap();
    let [kept] = &kept[..] else { panic!("{} in quarantine", kept.len()) };
    assert_eq!(scene.site.store.read(kept.blob, 0, u64::MAX).unwrap(), message.as_bytes());
    assert_eq!(kept.infection.point, "accesso");
    assert_eq!(kept.infection.virus, "Eicar-Test");
    assert_eq!(kept.infection.identificativo.as_deref(), Some(&*id));
    assert_eq!(kept.infection.msgid.as_deref(), Some("v1@pc.example"));
    assert_eq!(kept.infection.destinatari, [BIANCHI, VERDI]);
    let records = scene.records(&id);
    let [record] = &records[..] else { panic!("{} records", records.len()) };
    assert_eq!(record.event, "non-accettazione");
    assert_eq!(record.errore.as_deref(), Some("virus"));
    assert_eq!(record.errore_esteso.as_deref(), Some("Eicar-Test"));
    // PEC-VIR-02: the log vouches for the octets.
    assert_eq!(record.notes, [format!("in quarantine, SHA-256 {}", kept.infection.sha256)]);
    assert_eq!(kept.infection.sha256, crypto::sha256_hex(message.as_bytes()));
}

/// Also when the form is wrong: the virus decides, and the message is kept.
// PEC-AP-26
#[test]
fn a_virus_counts_before_a_wrong_form() {
    let (scene, _clamd) = scanned();
    let id = scene.submit(ROSSI, &[BIANCHI], "Subject: =\r\n\r\nEICAR\r\n");
    scene.run();
    assert_eq!(scene.certified(ROSSI)[0].error, ErrorKind::Virus);
    assert_eq!(scene.site.store.quarantined(0, 9).unwrap().len(), 1);
    assert_eq!(scene.events(&id), ["non-accettazione"]);
}

#[test]
fn nothing_is_accepted_while_nobody_scans() {
    let (scene, clamd) = scanned();
    *clamd.says.lock().unwrap() = Some(b"");
    let reply = refused(&scene, &[BIANCHI], &text(&[BIANCHI], "Ciao."));
    assert_eq!(
        reply.to_string(),
        "451 4.7.0 Messages cannot be scanned for viruses now, try again later"
    );
    assert!(scene.site.store.jobs_due(now(), None, 9).unwrap().is_empty());
    assert!(scene.site.store.log(&store::LogFilter::default(), 0, 9).unwrap().is_empty());
    *clamd.says.lock().unwrap() = None;
    scene.submit(ROSSI, &[BIANCHI], &text(&[BIANCHI], "Ciao."));
}

#[test]
fn what_is_too_large_to_scan_is_refused_unless_it_is_refused_anyway() {
    let (scene, clamd) = scanned();
    *clamd.says.lock().unwrap() = Some(b"INSTREAM size limit exceeded. ERROR\0");
    let reply = refused(&scene, &[BIANCHI], &text(&[BIANCHI], "Ciao."));
    assert_eq!(reply.to_string(), "552 5.3.4 The message is too large to be scanned for viruses");
    let id = scene.submit(ROSSI, &[BIANCHI], "Subject: =\r\n\r\nSenza From\r\n");
    assert_eq!(scene.events(&id), ["non-accettazione"]);
}

/// Found by the recipients' provider only: take-charge first, then one notice a recipient to the
/// sender's provider, and one to the sender.
// PEC-PR-09 PEC-PR-20 PEC-PR-24 PEC-PR-31 PEC-RV-01 PEC-RV-02 PEC-MCV-01 PEC-LOG-09 PEC-VIR-03
#[test]
fn a_virus_at_the_incoming_point_goes_no_further() {
    let (scene, clamd) = scanned();
    let id = scene.submit(ROSSI, &[BIANCHI, VERDI], &text(&[BIANCHI, VERDI], "Ciao."));
    *clamd.says.lock().unwrap() = Some(b"stream: Worm.Nuovo FOUND\0");
    scene.run();

    for of in [BIANCHI, VERDI] {
        assert!(scene.inbox(of).is_empty(), "{of}");
    }
    let service = scene.certified(SERVICE);
    let kinds: Vec<_> = service.iter().map(|data| data.kind).collect();
    let receipt = CertifiedKind::Receipt;
    let found = receipt(ReceiptKind::VirusFound);
    assert_eq!(kinds, [receipt(ReceiptKind::TakeCharge), found, found]);
    let of = |data: &[pec::Certification]| -> Vec<String> {
        let mut of: Vec<_> =
            data.iter().flat_map(|data| &data.delivery).map(ToString::to_string).collect();
        of.sort();
        of
    };
    assert_eq!(of(&service[1..]), [BIANCHI, VERDI]);
    let told = scene.certified(ROSSI);
    assert_eq!(told[0].kind, receipt(ReceiptKind::Acceptance));
    assert_eq!(of(&told[1..]), [BIANCHI, VERDI]);
    for data in &told[1..] {
        assert_eq!(data.kind, receipt(ReceiptKind::NonDelivery));
        assert_eq!(data.error, ErrorKind::Virus);
        assert_eq!(data.error_text.as_deref(), Some("Worm.Nuovo"));
        assert_eq!(data.identifier.as_str(), id);
    }
    let tracked = scene.site.store.tracked(&id).unwrap();
    assert!(tracked.iter().all(|entry| entry.state == TrackState::Failed), "{tracked:?}");

    let kept = scene.site.store.quarantined(0, 9).unwrap();
    let [kept] = &kept[..] else { panic!("{} in quarantine", kept.len()) };
    let octets = scene.site.store.read(kept.blob, 0, u64::MAX).unwrap();
    let envelope = certification(&octets);
    assert_eq!(envelope.kind, CertifiedKind::Transport);
    assert_eq!(kept.infection.point, "ricezione");
    assert_eq!(kept.infection.destinatari, [BIANCHI, VERDI]);
    assert_eq!(kept.infection.sha256, crypto::sha256_hex(&octets));
    let records = scene.records(&id);
    let count = |event: &str| records.iter().filter(|record| record.event == event).count();
    assert_eq!((count("rilevazione-virus"), count("errore-consegna")), (2, 2));
    assert_eq!(count("avvenuta-consegna"), 0);
}

// PEC-PR-28 PEC-LOG-09
#[test]
fn the_same_virus_notice_twice_tells_the_user_once() {
    let (scene, clamd) = scanned();
    let id = scene.submit(ROSSI, &[BIANCHI], &text(&[BIANCHI], "Ciao."));
    *clamd.says.lock().unwrap() = Some(b"stream: Worm.Nuovo FOUND\0");
    scene.run();
    let before = scene.inbox(ROSSI).len();
    assert_eq!(before, 2);
    let again = scene.inbox(SERVICE).pop().unwrap();
    let octets = vec![Octets::Inline(again.into())];
    let task = Task::Notify { to: address(SERVICE), arrived: None, origin: None };
    let enqueue = vec![task.queued(Some(Source::New(0))).unwrap()];
    let transaction = Transaction { octets, enqueue, ..Transaction::default() };
    scene.site.store.commit(transaction).unwrap();
    scene.run();
    assert_eq!(scene.inbox(ROSSI).len(), before);
    let records = scene.records(&id);
    let told = records.iter().filter(|record| record.event == "errore-consegna").count();
    assert_eq!(told, 1);
}

/// The sender's provider has the take-charge receipt, and the envelope waits.
// PEC-PR-31
#[test]
fn an_envelope_waits_for_the_scanner() {
    let (scene, clamd) = scanned();
    scene.submit(ROSSI, &[BIANCHI], &text(&[BIANCHI], "Ciao."));
    // Certified and taken in charge, in one step.
    assert!(scene.step());
    *clamd.says.lock().unwrap() = Some(b"");
    let due = scene.site.store.jobs_due(now(), None, 9).unwrap();
    let is_scan = |job: &&store::Job| {
        matches!(serde_json::from_slice(&job.payload).unwrap(), Task::Scan { .. })
    };
    let scan = due.iter().find(is_scan).unwrap();
    for _ in 0..2 {
        let error = perform(&scene.site, scan).unwrap_err().to_string();
        assert!(error.contains("does not scan"), "{error}");
    }
    assert!(scene.inbox(BIANCHI).is_empty());
    *clamd.says.lock().unwrap() = None;
    scene.run();
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["posta-certificata"]);
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
}

// PEC-VIR-01 PEC-GEN-06
#[test]
fn what_is_kept_goes_after_thirty_months_and_not_before() {
    let (scene, _clamd) = scanned();
    let id = scene.submit(ROSSI, &[BIANCHI], &text(&[BIANCHI], "EICAR"));
    let kept = || scene.site.store.quarantined(0, 9).unwrap();
    let until = kept()[0].keep_until;
    assert_eq!(until, "2029-03-14T08:30:12Z".parse().unwrap());
    scene.clock.turn_to("2029-03-14T08:30:11.999999Z".parse().unwrap());
    quarantine::remove_ended(&scene.site).unwrap();
    assert_eq!(kept().len(), 1);
    scene.clock.turn_to(until);
    quarantine::remove_ended(&scene.site).unwrap();
    assert!(kept().is_empty());
    assert_eq!(scene.events(&id), ["non-accettazione", "eliminazione-virus"]);
}

// PEC-GEN-18
#[test]
fn ordinary_mail_with_a_virus_is_refused_and_none_comes_in_unscanned() {
    const STRANGER: &str = "info@ordinaria.example";
    let (scene, clamd) = scanned();
    scene.ordinary_mail(BIANCHI, "deliver");
    let text = format!("{}EICAR\r\n", message(STRANGER, &[BIANCHI], "Listino"));
    let bring = || scene.bring(STRANGER, &[BIANCHI], text.as_bytes()).map(|_| ());
    let infected = "554 5.7.0 The message has a virus: clean it and send it again".to_owned();
    assert_eq!(bring(), Err(infected));
    *clamd.says.lock().unwrap() = Some(b"");
    let later = "451 4.7.0 Messages cannot be scanned for viruses now, try again later".to_owned();
    assert_eq!(bring(), Err(later));
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 0);
    *clamd.says.lock().unwrap() = Some(b"stream: OK\0");
    assert_eq!(bring(), Ok(()));
}

/// The first notice of late delivery leaves the outcome open; the second is one.
// PEC-PR-24 PEC-MCV-01 PEC-TO-04
#[test]
fn a_virus_notice_counts_after_the_first_notice_of_late_delivery_and_not_after_the_second() {
    for (hours, state, told) in [(13, TrackState::Failed, true), (24, TrackState::Expired, false)] {
        let mut world = World::new(at("2026-09-14T07:31:00Z"));
        let text = world::message("rossi@a", &["dora@g"], "Offerta");
        let id = world.submit("rossi@a", &["dora@g"], &text);
        let mut carried = Vec::new();
        world.run(&mut |passage| {
            carried.push(passage.octets().to_vec());
            Fate::Lost
        });
        let notice = Forge::gamma().receipt(&carried[0], |envelope, provider, _, fresh| {
            let dora = address(&World::full("dora@g"));
            pec::receipt::virus_found(envelope, &dora, "Worm.Nuovo", provider, moment(), fresh)
        });
        world.later(SignedDuration::from_hours(hours));
        world.run(&mut |_| Fate::Arrives);
        world.events.clear();
        world.bring(0, "posta-certificata@g", &["ricevute@a"], &notice).unwrap();
        world.run(&mut |_| Fate::Arrives);
        let tracked = world.hosts[0].site.store.tracked(&id).unwrap();
        assert_eq!(tracked[0].state, state, "after {hours} hours");
        let about_it: Vec<&String> =
            world.events.iter().filter(|event| event.starts_with("a -> rossi")).collect();
        assert_eq!(about_it.len(), usize::from(told), "after {hours} hours: {:?}", world.events);
        let inbox = world.hosts[0].inbox("rossi");
        let last = certification(inbox.last().unwrap());
        let kind = if told { ReceiptKind::NonDelivery } else { ReceiptKind::LateDelivery };
        assert_eq!(last.kind, CertifiedKind::Receipt(kind));
        assert_eq!(last.error == ErrorKind::Virus, told);
        // The provider keeps what it was told, either way (PEC-PR-22).
        assert_eq!(world.hosts[0].inbox("ricevute").len(), 1);
    }
}

// PEC-RV-06 PEC-PR-24 PEC-TO-05 PEC-LOG-09 PEC-PR-28
#[test]
fn an_older_virus_notice_is_the_one_outcome_too() {
    let mut world = World::new(at("2026-09-14T07:31:00Z"));
    let text = world::message("rossi@a", &["dora@g"], "Offerta");
    let id = world.submit("rossi@a", &["dora@g"], &text);
    let mut carried = Vec::new();
    world.run(&mut |passage| {
        carried.push(passage.octets().to_vec());
        Fate::Lost
    });
    let forge = Forge::gamma();
    let notice = |virus: &str| {
        let notice = forge.receipt(&carried[0], |envelope, provider, _, fresh| {
            let dora = address(&World::full("dora@g"));
            pec::receipt::virus_found(envelope, &dora, virus, provider, moment(), fresh)
        });
        // Of the time before RT had `consegna` there.
        forge.with_data(&notice, "consegna>", "ricezione>")
    };
    world.events.clear();
    for notice in [notice("Worm.Nuovo"), notice("Worm.Altro")] {
        world.bring(0, "posta-certificata@g", &["ricevute@a"], &notice).unwrap();
        world.run(&mut |_| Fate::Arrives);
    }
    assert_eq!(world.hosts[0].site.store.tracked(&id).unwrap()[0].state, TrackState::Failed);
    for _ in 0..30 {
        world.later(SignedDuration::from_hours(1));
        world.run(&mut |_| Fate::Arrives);
    }
    // The two notices are two messages; the outcome is one, and nothing is late.
    let mut events = std::mem::take(&mut world.events);
    events.sort();
    assert_eq!(
        events,
        [
            "a -> ricevute rilevazione-virus Worm.Altro",
            "a -> ricevute rilevazione-virus Worm.Nuovo",
            "a -> rossi errore-consegna Worm.Nuovo",
        ]
    );
}
