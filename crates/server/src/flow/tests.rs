//! The life of a message through all points of one provider.

mod days;
mod doors;
mod duties;
mod forge;
mod forgeries;
mod marks;
mod meanwhile;
mod ordinary;
mod queue;
mod relay;
mod scene;
mod sent;
mod smith;
mod transcripts;
mod virus;
mod world;

use mail::{Address, Message};
use pec::certification::CertifiedKind;
use pec::receipt::ReceiptKind;
use store::{AccountChange, LogFilter, Quota, State, TrackState};

use scene::{
    BIANCHI, BODY, POSTMASTER, ROSSI, SERVICE, Scene, VERDI, address, certification, kinds,
    message, now, offer,
};

// PEC-GEN-09 PEC-AP-28 PEC-PR-19 PEC-PR-21 PEC-PC-02 PEC-PR-25
#[test]
fn a_message_within_one_domain_goes_through_every_point() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    scene.run();
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["posta-certificata"]);
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    for data in [ROSSI, BIANCHI, SERVICE].iter().flat_map(|of| scene.certified(of)) {
        assert_eq!(data.identifier.as_str(), id);
        assert_eq!(data.msgid.as_deref(), Some("<cliente.1@pc.example>"));
        assert_eq!(data.sender, address(ROSSI));
    }
    assert_eq!(
        scene.events(&id),
        [
            "accettazione",
            "posta-certificata",
            "presa-in-carico",
            "consegna",
            "consegna",
            "avvenuta-consegna",
            "consegna"
        ]
    );
    let tracked = scene.site.store.tracked(&id).unwrap();
    assert_eq!(tracked.len(), 1);
    assert_eq!(tracked[0].state, TrackState::Delivered);
}

// PEC-AP-29
#[test]
fn what_was_acknowledged_is_stored_with_its_identity_before_any_step() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    assert_eq!(scene.events(&id), ["accettazione", "posta-certificata"]);
    let due = scene.site.store.jobs_due(now(), None, 100).unwrap();
    assert_eq!(due.len(), 1);
    let original = super::octets_of(&scene.site, &due[0]).unwrap();
    let original = Message::parse(&original).unwrap();
    assert_eq!(original.field("Message-ID").unwrap().unfolded(), format!("<{id}>"));
    assert_eq!(original.body(), BODY.as_bytes());
    assert_eq!(scene.site.store.tracked(&id).unwrap()[0].state, TrackState::Sent);
}

// PEC-GEN-09
#[test]
fn for_a_few_recipients_of_ours_all_points_are_in_one_commit_and_one_past_it_in_several() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI, VERDI]);
    assert!(scene.step());
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 0);
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["posta-certificata"]);
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    assert_eq!(
        kinds(&scene.certified(ROSSI)),
        ["accettazione", "avvenuta-consegna", "avvenuta-consegna"]
    );
    // A third recipient: the sender has the acceptance receipt before any delivery is tried.
    offer(&scene, &[BIANCHI, VERDI, POSTMASTER]);
    assert!(scene.step());
    assert_eq!(
        kinds(&scene.certified(ROSSI)),
        ["accettazione", "accettazione", "avvenuta-consegna", "avvenuta-consegna"]
    );
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    scene.run();
    assert_eq!((scene.inbox(BIANCHI).len(), scene.inbox(ROSSI).len()), (2, 7));
}

// PEC-MC-01 PEC-RA-01
#[test]
fn where_one_of_two_mailboxes_is_full_nothing_else_waits_for_it() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI, "piena@pec.beta.example"]);
    scene.run();
    assert_eq!(
        kinds(&scene.certified(ROSSI)),
        ["accettazione", "avvenuta-consegna", "errore-consegna"]
    );
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    let tracked = scene.site.store.tracked(&id).unwrap();
    assert!(tracked.len() == 2 && tracked.iter().all(|one| one.state.is_final()), "{tracked:?}");
}

// PEC-PC-03 PEC-PIC-01 PEC-PR-23
#[test]
fn every_recipient_gets_the_envelope_and_the_sender_a_receipt_for_each() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI, VERDI]);
    scene.run();
    assert_eq!(
        kinds(&scene.certified(ROSSI)),
        ["accettazione", "avvenuta-consegna", "avvenuta-consegna"]
    );
    let taken = &scene.certified(SERVICE)[..];
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].taken, [address(BIANCHI), address(VERDI)]);
    let mut delivered: Vec<Address> =
        scene.certified(ROSSI).into_iter().filter_map(|data| data.delivery).collect();
    delivered.sort();
    assert_eq!(delivered, [address(BIANCHI), address(VERDI)]);
    assert_eq!(scene.inbox(BIANCHI), scene.inbox(VERDI));
    assert_eq!(scene.site.store.tracked(&id).unwrap().len(), 2);
}

// PEC-GEN-05 PEC-MBX-02: octet by octet, below a trace of ours
#[test]
fn what_came_is_what_lies_in_the_mailbox() {
    let mut world = world::World::new(world::at("2026-09-14T07:30:12Z"));
    let text = format!(
        "X-Odd:  kept \t as\r\n  it  is\r\n{}.\r\n.. \t \r\n\r\n",
        world::message("rossi@a", &["verdi@b"], "Offerta")
    );
    world.submit("rossi@a", &["verdi@b"], &text);
    let (mut envelope, mut receipt) = (Vec::new(), Vec::new());
    world.run(&mut |passage| {
        match &passage.kind[..] {
            kind if kind.starts_with("posta-certificata") => envelope = passage.octets().to_vec(),
            kind if kind.starts_with("avvenuta-consegna") => receipt = passage.octets().to_vec(),
            _ => {}
        }
        world::Fate::Arrives
    });
    let placed = |host: usize, local: &str| world.hosts[host].inbox(local).pop().unwrap();
    for (sent, placed, from) in [
        (&envelope, placed(1, "verdi"), "rossi@pec.alfa.example"),
        (&receipt, placed(0, "rossi"), "posta-certificata@pec.beta.example"),
    ] {
        assert!(!sent.is_empty());
        let above = placed.strip_suffix(&sent[..]).expect("the octets that came, at the end");
        let names: Vec<String> = Message::parse(above)
            .unwrap()
            .fields()
            .iter()
            .map(|field| field.name.to_owned())
            .collect();
        assert_eq!(names, ["Return-Path", "Received"]);
        assert!(above.starts_with(format!("Return-Path: <{from}>\r\n").as_bytes()));
    }
}

// PEC-RC-08 PEC-BT-01
#[test]
fn the_octets_submitted_are_the_octets_in_postacert() {
    let scene = Scene::new();
    let odd = "X-Odd:  kept \t as\r\n  it  is\r\n";
    let text = format!("{odd}{}", message(ROSSI, &[BIANCHI], "Offerta"));
    let id = scene.submit(ROSSI, &[BIANCHI], &text);
    scene.run();
    // All of it but the identifier, which PEC-AP-21 has replaced, below the trace of acceptance.
    let of_client = Message::parse(text.as_bytes()).unwrap().field("Message-ID").unwrap();
    let of_client = std::str::from_utf8(of_client.octets).unwrap();
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let header = format!("{header}\r\n").replace(of_client, "");
    let msgid = of_client.strip_prefix("Message-ID:").unwrap();
    let expected =
        format!("{header}Message-ID: <{id}>\r\nX-Riferimento-Message-ID:{msgid}\r\n{body}");
    for octets in [&scene.inbox(BIANCHI)[0], &scene.inbox(ROSSI)[1]] {
        let examination = pec::examine(octets);
        let original = String::from_utf8(examination.parts().unwrap().originals[0].body().to_vec());
        let original = original.unwrap();
        let (trace, rest) = original.split_at(original.find("X-Odd").unwrap());
        assert!(trace.starts_with("Received: from "), "{trace}");
        assert_eq!(Message::lenient(trace.as_bytes()).fields().len(), 1, "{trace}");
        assert_eq!(rest, expected);
    }
}

// PEC-AP-10 PEC-NA-04
#[test]
fn what_fails_a_formal_check_is_answered_with_a_notice_and_goes_nowhere() {
    let scene = Scene::new();
    let id = scene.submit(ROSSI, &[BIANCHI, VERDI], &message(ROSSI, &[BIANCHI], "Offerta"));
    scene.run();
    let notices = scene.certified(ROSSI);
    assert_eq!(kinds(&notices), ["non-accettazione"]);
    assert_eq!(notices[0].recipients.len(), 2);
    assert!(notices[0].error_text.as_deref().unwrap().contains(VERDI));
    assert!(scene.inbox(BIANCHI).is_empty() && scene.inbox(VERDI).is_empty());
    assert!(scene.inbox(SERVICE).is_empty());
    assert!(pec::examine(&scene.inbox(ROSSI)[0]).parts().unwrap().originals.is_empty());
    assert_eq!(scene.events(&id), ["non-accettazione"]);
}

// PEC-MC-01 PEC-MC-03 PEC-PR-30
#[test]
fn a_recipient_that_is_not_there_full_or_suspended_gets_the_sender_a_notice() {
    let scene = Scene::new();
    let store = &scene.site.store;
    let verdi = store.account_by_address(&address(VERDI)).unwrap().unwrap();
    store.change_account(verdi.id, AccountChange::State(State::Suspended)).unwrap();
    for (to, code) in [
        ("nessuno@pec.alfa.example", "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido"),
        ("piena@pec.beta.example", "5.2.2 - Alfa PEC S.p.A. - casella piena"),
        (VERDI, "5.2.1 - Alfa PEC S.p.A. - casella disattivata"),
    ] {
        let id = offer(&scene, &[to]);
        scene.run();
        let notices = scene.certified(ROSSI);
        let notice = notices.last().unwrap();
        assert_eq!(notice.kind, CertifiedKind::Receipt(ReceiptKind::NonDelivery));
        assert_eq!(notice.identifier.as_str(), id);
        assert_eq!(notice.delivery, Some(address(to)));
        assert_eq!(notice.error_text.as_deref(), Some(code));
        assert_eq!(store.tracked(&id).unwrap()[0].state, TrackState::Failed);
    }
    assert!(scene.inbox("piena@pec.beta.example").is_empty());
}

// RFC 5321 §4.5.1
#[test]
fn postmaster_of_every_domain_reaches_the_account_that_is_named_for_it() {
    let scene = Scene::new();
    let to = "Postmaster@pec.beta.example";
    offer(&scene, &[to]);
    scene.run();
    assert_eq!(kinds(&scene.certified("postmaster@pec.alfa.example")), ["posta-certificata"]);
    let receipts = scene.certified(ROSSI);
    assert_eq!(kinds(&receipts), ["accettazione", "avvenuta-consegna"]);
    // The receipt names whom the sender wrote to.
    assert!(receipts.iter().any(|data| data.delivery == Some(address(to))));
}

// PEC-PR-28
#[test]
fn a_step_that_is_done_again_does_nothing() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    // Each job is done twice, as if the memory of it had been lost with the process.
    loop {
        let due = scene.site.store.jobs_due(now(), None, 100).unwrap();
        if due.is_empty() {
            break;
        }
        for job in due {
            super::perform(&scene.site, &job).unwrap();
            super::perform(&scene.site, &job).unwrap();
        }
    }
    assert_eq!(scene.inbox(ROSSI).len(), 2);
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    assert_eq!(scene.inbox(SERVICE).len(), 1);
}

// PEC-GEN-10 PEC-DT-07
#[test]
fn receipt_envelope_and_log_of_an_acceptance_have_one_time() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    scene.run();
    let records = scene.site.store.log(&LogFilter::default(), 0, 100).unwrap();
    for (_, record) in records.iter().filter(|(_, r)| r.identificativo.as_deref() == Some(&id)) {
        assert_eq!(record.time, now());
    }
    for octets in [&scene.inbox(ROSSI)[0], &scene.inbox(BIANCHI)[0]] {
        let message = Message::parse(octets).unwrap();
        assert_eq!(message.field("Date").unwrap().unfolded(), "Mon, 14 Sep 2026 09:30:12 +0200");
        let data = certification(octets);
        assert_eq!((data.at.date(), data.at.time()), ("14/09/2026".into(), "09:30:12".into()));
    }
}

// PEC-PIC-02 PEC-PR-22 PEC-GEN-07
#[test]
fn the_service_mailbox_holds_take_charge_receipts_and_users_hold_none() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    scene.submit(BIANCHI, &[SERVICE], &message(BIANCHI, &[SERVICE], "Risposta automatica"));
    scene.run();
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    for of in [ROSSI, BIANCHI] {
        assert!(!kinds(&scene.certified(of)).contains(&"presa-in-carico"));
    }
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["non-accettazione", "posta-certificata"]);
}

#[test]
fn a_receipt_that_finds_the_mailbox_full_waits_and_comes_when_there_is_room() {
    let scene = Scene::new();
    let store = &scene.site.store;
    let rossi = store.account_by_address(&address(ROSSI)).unwrap().unwrap();
    let none = Quota { octets_max: 0, messages_max: None, receipt_reserve_octets: 0 };
    store.change_account(rossi.id, AccountChange::Quota(none)).unwrap();
    offer(&scene, &[BIANCHI]);
    for _ in 0..5 {
        for job in store.jobs_due(now(), None, 100).unwrap() {
            // Receipts for the full mailbox fail; everything else is done.
            let _ = super::perform(&scene.site, &job);
        }
    }
    assert!(scene.inbox(ROSSI).is_empty());
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    assert_eq!(store.jobs_waiting().unwrap().0, 2);
    store.change_account(rossi.id, AccountChange::Quota(rossi.quota)).unwrap();
    scene.run();
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
}

#[test]
fn every_signed_message_verifies_against_the_authority() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    offer(&scene, &["nessuno@pec.alfa.example"]);
    scene.run();
    let all = [ROSSI, BIANCHI, SERVICE].iter().flat_map(|of| scene.inbox(of));
    let mut count = 0;
    for octets in all {
        let examination = pec::examine(&octets);
        let (entity, signature) = (examination.entity().unwrap(), examination.signature().unwrap());
        let verified = crypto::verify(signature, entity, &scene.site.trust.load(), now()).unwrap();
        assert_eq!(verified.signer.emails(), ["posta-certificata@pec.alfa.example"]);
        count += 1;
    }
    assert_eq!(count, 7);
}

/// Tells a count where `cargo test` shows it of a test that passes too.
fn tell(count: usize, what: &str) {
    let told = format!("{count} {what}\n");
    std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
}
