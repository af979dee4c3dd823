//! Whatever a stranger, or a hostile provider with a good key, can bring to port 25 to be taken for
//! what it is not; and that it is not.

use mail::message::write_field;
use store::{Store as _, TrackState};

use super::forgeries::FORGERIES;
use super::scene::address;
use super::smith::{Forge, first, replace};
use super::world::{Fate, World, at, keys, kind, message};

fn open_world() -> World {
    let world = World::new(at("2026-09-14T07:30:12Z"));
    for local in ["verdi", "neri"] {
        let policy = store::AccountChange::OrdinaryMail(Some("deliver".to_owned()));
        world.hosts[1].change(local, policy);
    }
    world
}

// PEC-PR-01 PEC-PR-02 PEC-PR-03 PEC-PR-05 PEC-PR-07 PEC-PR-08 PEC-PR-10 PEC-PR-11 PEC-PR-12
// PEC-PR-13 PEC-PR-14 PEC-PR-15 PEC-PR-16 PEC-PR-17 PEC-BA-01 PEC-BA-05 PEC-BA-09 PEC-XML-03
// PEC-BT-02 PEC-BT-03 PEC-BT-05 PEC-BT-06 PEC-FMT-07 PEC-DT-05
#[test]
fn no_forgery_is_certified_and_each_is_told_for_what_it_is() {
    let mut world = open_world();
    let forge = Forge::gamma();
    for (number, (name, reason, make)) in FORGERIES.iter().enumerate() {
        let octets = make(&forge, "verdi@b");
        assert_eq!(world.bring(1, "mallory@g", &["verdi@b"], &octets), Ok(()), "{name}");
        world.run(&mut |_| Fate::Arrives);
        let events = std::mem::take(&mut world.events);
        assert_eq!(events, ["b -> verdi busta-anomalia"], "{name}");
        let inbox = world.hosts[1].inbox("verdi");
        assert_eq!(inbox.len(), number + 1);
        let examination = pec::examine(&inbox[number]);
        let text = examination.parts().unwrap().text.unwrap().text().unwrap();
        let said = pec::text::anomaly_reason(*reason);
        assert!(text.contains(said), "{name}: {text}");
    }
    super::tell(FORGERIES.len(), "forgeries are told for what they are");
    assert!(FORGERIES.len() >= 80, "{}", FORGERIES.len());
}

// PEC-PR-16 PEC-PR-19 PEC-GEN-17
#[test]
fn the_paths_of_the_transaction_must_be_those_that_are_certified() {
    let mut world = open_world();
    let forge = Forge::gamma();
    for (from, to, event) in [
        ("x@g", "verdi@b", "b -> verdi busta-anomalia"),
        ("", "verdi@b", "b -> verdi busta-anomalia"),
        ("mallory@g", "neri@b", "b -> neri busta-anomalia"),
    ] {
        let envelope = forge.envelope("mallory@g", &["verdi@b"]);
        assert_eq!(world.bring(1, from, &[to], &envelope), Ok(()));
        world.run(&mut |_| Fate::Arrives);
        assert_eq!(std::mem::take(&mut world.events), [event]);
    }
    // As it should be, it is certified.
    let envelope = forge.envelope("mallory@g", &["verdi@b"]);
    world.bring(1, "mallory@g", &["verdi@b"], &envelope).unwrap();
    world.run(&mut |_| Fate::Arrives);
    let mut events = std::mem::take(&mut world.events);
    events.sort();
    assert_eq!(
        events,
        ["b -> verdi posta-certificata", "b -> x avvenuta-consegna", "b -> x presa-in-carico"]
    );
}

// PEC-PR-28 PEC-AP-20
#[test]
fn the_same_envelope_is_neither_delivered_nor_answered_twice_whatever_its_outer_header() {
    let mut world = open_world();
    let forge = Forge::gamma();
    let envelope = forge.envelope("mallory@g", &["verdi@b", "neri@b"]);
    let again = first(&envelope, "Subject: ", "X-Altro: x\r\nSubject: ");
    for (octets, to) in [
        (&envelope, &["verdi@b"][..]),
        (&envelope, &["verdi@b"]),
        (&again, &["verdi@b", "verdi@b"]),
        (&again, &["neri@b", "verdi@b"]),
    ] {
        world.bring(1, "mallory@g", to, octets).unwrap();
        world.run(&mut |_| Fate::Arrives);
    }
    let mut events = std::mem::take(&mut world.events);
    events.sort();
    assert_eq!(
        events,
        [
            "b -> neri posta-certificata",
            "b -> verdi posta-certificata",
            "b -> x avvenuta-consegna",
            "b -> x avvenuta-consegna",
            "b -> x presa-in-carico",
            "b -> x presa-in-carico"
        ]
    );
    let repeated = world.hosts[1].log().into_iter().filter(|record| record.event == "doppione");
    assert_eq!(repeated.count(), 3);
}

// PEC-PR-28 PEC-BT-03: whoever has a copy of an envelope cannot take its place
#[test]
fn an_edited_copy_that_comes_first_does_not_keep_the_envelope_out() {
    let mut world = open_world();
    let envelope = Forge::gamma().envelope("mallory@g", &["verdi@b"]);
    let edited = first(&envelope, "conto di: mallory@pec.gamma", "conto di: capo@pec.beta");
    for octets in [&edited, &envelope, &edited, &envelope] {
        world.bring(1, "mallory@g", &["verdi@b"], octets).unwrap();
        world.run(&mut |_| Fate::Arrives);
    }
    let mut events = std::mem::take(&mut world.events);
    events.sort();
    assert_eq!(
        events,
        [
            "b -> verdi busta-anomalia",
            "b -> verdi busta-anomalia",
            "b -> verdi posta-certificata",
            "b -> x avvenuta-consegna",
            "b -> x presa-in-carico",
        ]
    );
    let repeated = world.hosts[1].log().into_iter().filter(|record| record.event == "doppione");
    assert_eq!(repeated.count(), 1);
}

// PEC-PR-05 PEC-PR-07: doubt D-30
#[test]
fn no_provider_sends_in_the_name_of_another_ones_user() {
    let mut world = open_world();
    let forge = Forge::gamma();
    // A user of the very provider, and of a third.
    for sender in ["neri@b", "rossi@a"] {
        let envelope = forge.envelope(sender, &["verdi@b"]);
        world.bring(1, sender, &["verdi@b"], &envelope).unwrap();
        world.run(&mut |_| Fate::Arrives);
        assert_eq!(std::mem::take(&mut world.events), ["b -> verdi busta-anomalia"], "{sender}");
    }
    assert!(world.hosts[1].inbox("neri").is_empty());
    // Of a domain that no provider has yet, it is certified, and the log says so.
    let envelope = forge.envelope("info@x", &["verdi@b"]);
    world.bring(1, "info@x", &["verdi@b"], &envelope).unwrap();
    world.run(&mut |_| Fate::Arrives);
    assert!(world.events.contains(&"b -> verdi posta-certificata".to_owned()));
    let note = "no provider of the index manages ordinaria.example";
    for event in ["posta-certificata", "presa-in-carico"] {
        let log = world.hosts[1].log();
        let record = log.iter().find(|record| record.event == event).unwrap();
        assert!(record.notes.iter().any(|said| said == note), "{:?}", record.notes);
    }
}

// PEC-PR-06: doubt D-21
#[test]
fn an_author_of_a_domain_that_the_signer_does_not_manage_is_noted_or_refused() {
    for (strict, expected, notes) in
        [(false, "b -> verdi posta-certificata", 2), (true, "b -> verdi busta-anomalia", 0)]
    {
        let mut world = open_world();
        // The certificate is gamma's, and so is the author; the index gives the domain to nobody.
        let site = &world.hosts[1].site;
        let mut records = site.providers.load().records().to_vec();
        let domain = mail::Domain::parse("pec.altra.example").unwrap();
        records[2].domains = vec![domain];
        site.use_index(pec::providers::Index::new(records, None).unwrap(), Vec::new());
        let mut config = crate::config::Config::clone(&site.config.load());
        config.trust.strict_author = strict;
        site.config.store(std::sync::Arc::new(config));
        let sender = "mallory@pec.altra.example";
        let envelope = Forge::gamma().envelope(sender, &["verdi@b"]);
        world.bring(1, sender, &["verdi@b"], &envelope).unwrap();
        world.run(&mut |_| Fate::Arrives);
        assert!(world.events.contains(&expected.to_owned()), "{:?}", world.events);
        let note = "pec.gamma.example is no domain of the signer (PEC-PR-06)";
        let noted = |record: &&store::LogRecord| {
            ["posta-certificata", "presa-in-carico"].contains(&&record.event[..])
                && record.notes.iter().any(|said| said == note)
        };
        assert_eq!(world.hosts[1].log().iter().filter(noted).count(), notes);
    }
}

// PEC-SIG-07: doubt D-06
#[test]
fn a_signature_with_sha1_is_noted_or_refused() {
    for (sha1, digest, expected, notes) in [
        (true, "sha1", "b -> verdi posta-certificata", 2),
        (false, "sha1", "b -> verdi busta-anomalia", 0),
        (false, "sha256", "b -> verdi posta-certificata", 0),
    ] {
        let mut world = open_world();
        let site = &world.hosts[1].site;
        let mut config = crate::config::Config::clone(&site.config.load());
        config.trust.sha1 = sha1;
        site.config.store(std::sync::Arc::new(config));
        let envelope = Forge::gamma().envelope("mallory@g", &["verdi@b"]);
        let envelope = Forge::resign_with(&keys().providers[2], &envelope, digest);
        world.bring(1, "mallory@g", &["verdi@b"], &envelope).unwrap();
        world.run(&mut |_| Fate::Arrives);
        assert!(world.events.contains(&expected.to_owned()), "{sha1}: {:?}", world.events);
        let noted = |record: &&store::LogRecord| {
            ["posta-certificata", "presa-in-carico"].contains(&&record.event[..])
                && record.notes.iter().any(|said| said == "it is signed with SHA-1")
        };
        assert_eq!(world.hosts[1].log().iter().filter(noted).count(), notes, "{sha1}");
    }
}

// PEC-PR-25 PEC-PR-27 PEC-RC-07 PEC-MC-06
#[test]
fn a_receipt_that_contradicts_itself_closes_nobody() {
    let (mut world, id, envelope) = waiting();
    let beta = Forge::with(&keys().providers[1], "Beta Certificata S.r.l.", "pec.beta.example");
    let verdi = address("verdi@pec.beta.example");
    let failure = pec::delivery::Failure::UnknownMailbox;
    let delivered = beta.receipt(&envelope, |seen, provider, at, fresh| {
        let hashed = pec::reduce::Hashed::default();
        pec::receipt::delivery(seen, &envelope, &verdi, hashed, provider, at, fresh)
    });
    let failed = beta.receipt(&envelope, |envelope, provider, at, fresh| {
        pec::receipt::non_delivery(envelope, &verdi, &failure, provider, at, fresh)
    });
    let none = "errore=\"nessuno\"";
    for (receipt, from, with, note) in [
        (
            &delivered,
            none,
            "errore=\"no-dest\"",
            "it attests a delivery, and its data tell of an error",
        ),
        (&failed, "errore=\"no-dest\"", none, "it tells of an error, and its data of none"),
    ] {
        let octets = beta.with_data(receipt, from, with);
        world.bring(0, "posta-certificata@b", &["rossi@a"], &octets).unwrap();
        world.run(&mut |_| Fate::Arrives);
        // It is delivered as it is: PEC-PR-21.
        assert_eq!(std::mem::take(&mut world.events).len(), 1);
        assert_eq!(world.hosts[0].store.tracked(&id).unwrap()[0].state, TrackState::Sent);
        let record = world.hosts[0].log().pop().unwrap();
        assert!(record.notes.iter().any(|said| said == note), "{:?}", record.notes);
    }
    world.bring(0, "posta-certificata@b", &["rossi@a"], &delivered).unwrap();
    world.run(&mut |_| Fate::Arrives);
    assert_eq!(world.hosts[0].store.tracked(&id).unwrap()[0].state, TrackState::Delivered);
}

// PEC-GEN-11
#[test]
fn what_the_text_says_decides_nothing() {
    let mut world = open_world();
    let forge = Forge::gamma();
    let text = "Messaggio di posta certificata";
    for said in [
        "Ricevuta di avvenuta consegna",
        "Anomalia nel messaggio",
        "<postacert tipo=\"errore-consegna\"/>",
        "",
    ] {
        let envelope = forge.edited("verdi@b", text, said);
        world.bring(1, "mallory@g", &["verdi@b"], &envelope).unwrap();
        world.run(&mut |_| Fate::Arrives);
        let mut events = std::mem::take(&mut world.events);
        events.sort();
        assert_eq!(
            events,
            ["b -> verdi posta-certificata", "b -> x avvenuta-consegna", "b -> x presa-in-carico"],
            "{said}"
        );
    }
    // Nor does that of a receipt: what closes the recipient are its data.
    let (mut world, id, envelope) = waiting();
    let beta = Forge::with(&keys().providers[1], "Beta Certificata S.r.l.", "pec.beta.example");
    let verdi = address("verdi@pec.beta.example");
    let delivered = beta.receipt(&envelope, |seen, provider, at, fresh| {
        let hashed = pec::reduce::Hashed::default();
        pec::receipt::delivery(seen, &envelope, &verdi, hashed, provider, at, fresh)
    });
    let told = beta.resign(&replace(&delivered, "Ricevuta di avvenuta", "Avviso di mancata"));
    world.bring(0, "posta-certificata@b", &["rossi@a"], &told).unwrap();
    world.run(&mut |_| Fate::Arrives);
    assert_eq!(world.hosts[0].store.tracked(&id).unwrap()[0].state, TrackState::Delivered);
}

// PEC-AP-20 PEC-PR-07 PEC-PR-28
#[test]
fn another_envelope_with_a_used_identifier_is_an_anomaly() {
    let mut world = open_world();
    let forge = Forge::gamma();
    let envelope = forge.envelope("mallory@g", &["verdi@b"]);
    let other = forge.resign(&replace(&envelope, "Si allega", "Si nega"));
    for octets in [&envelope, &other, &envelope] {
        world.bring(1, "mallory@g", &["verdi@b"], octets).unwrap();
        world.run(&mut |_| Fate::Arrives);
    }
    let kinds: Vec<String> = world.hosts[1].inbox("verdi").iter().map(|o| kind(o)).collect();
    assert_eq!(kinds, ["posta-certificata", "busta-anomalia"]);
}

/// Rossi's message to Verdi under way, nothing heard of it; its PEC msgid, and its envelope.
fn waiting() -> (World, String, Vec<u8>) {
    let mut world = World::new(at("2026-09-14T07:30:12Z"));
    let id = world.submit("rossi@a", &["verdi@b"], &message("rossi@a", &["verdi@b"], "Offerta"));
    let mut envelope = None;
    world.run(&mut |passage| {
        envelope = Some(passage.octets().to_vec());
        Fate::Lost
    });
    world.events.clear();
    (world, id, envelope.unwrap())
}

// PEC-PR-06 PEC-PR-27 PEC-PR-21
#[test]
fn a_receipt_of_a_provider_that_may_not_speak_for_the_recipient_changes_nothing() {
    let (mut world, id, envelope) = waiting();
    let forge = Forge::gamma();
    let verdi = address("verdi@pec.beta.example");
    let failure = pec::delivery::Failure::UnknownMailbox;
    let taken = forge.receipt(&envelope, |envelope, provider, at, fresh| {
        pec::receipt::take_charge(envelope, std::slice::from_ref(&verdi), provider, at, fresh)
    });
    let delivered = forge.receipt(&envelope, |seen, provider, at, fresh| {
        let hashed = pec::reduce::Hashed::default();
        pec::receipt::delivery(seen, &envelope, &verdi, hashed, provider, at, fresh)
    });
    let failed = forge.receipt(&envelope, |envelope, provider, at, fresh| {
        pec::receipt::non_delivery(envelope, &verdi, &failure, provider, at, fresh)
    });
    for (octets, to, event) in [
        (&taken, "ricevute@a", "a -> ricevute busta-anomalia"),
        (&delivered, "rossi@a", "a -> rossi busta-anomalia"),
        (&failed, "rossi@a", "a -> rossi busta-anomalia"),
    ] {
        world.bring(0, "posta-certificata@g", &[to], octets).unwrap();
        world.run(&mut |_| Fate::Arrives);
        // Its reader sees that it is none, and nobody believes it.
        assert_eq!(std::mem::take(&mut world.events), [event]);
        let tracked = world.hosts[0].store.tracked(&id).unwrap();
        assert_eq!(tracked[0].state, TrackState::Sent);
    }
    // A receipt for providers never reaches a user, whoever it was sent to: PEC-PR-22.
    let other = forge.receipt(&envelope, |envelope, provider, at, fresh| {
        pec::receipt::take_charge(envelope, &[], provider, at, fresh)
    });
    world.bring(0, "posta-certificata@g", &["rossi@a"], &other).unwrap();
    world.run(&mut |_| Fate::Arrives);
    assert_eq!(std::mem::take(&mut world.events), ["a -> ricevute presa-in-carico"]);
}

// PEC-PR-21 PEC-PR-27
#[test]
fn a_receipt_about_nothing_is_delivered_and_changes_nothing_and_one_for_nobody_is_dropped() {
    let mut world = World::new(at("2026-09-14T07:30:12Z"));
    let forge = Forge::gamma();
    let verdi = address("mallory@pec.gamma.example");
    let failure = pec::delivery::Failure::Full;
    let sender = |from: &str| {
        let envelope = forge.envelope(from, &["mallory@g"]);
        forge.receipt(&envelope, |envelope, provider, at, fresh| {
            pec::receipt::non_delivery(envelope, &verdi, &failure, provider, at, fresh)
        })
    };
    let notice = sender("rossi@a");
    for _ in 0..2 {
        world.bring(0, "posta-certificata@g", &["rossi@a"], &notice).unwrap();
    }
    // Doubt D-22; and nobody sends as a service address: PEC-GEN-07.
    for nobody in ["nessuno@a", "ricevute@a", "posta-certificata@a"] {
        world.bring(0, "posta-certificata@g", &[nobody], &sender(nobody)).unwrap();
    }
    world.run(&mut |_| Fate::Arrives);
    assert_eq!(std::mem::take(&mut world.events), ["a -> rossi errore-consegna 5.2.2"]);
    let mut events: Vec<String> =
        world.hosts[0].log().into_iter().map(|record| record.event).collect();
    events.sort();
    assert_eq!(events, ["consegna", "doppione", "rifiuto", "rifiuto", "rifiuto"]);
}

// PEC-PR-13: the outer header of a receipt is not signed
#[test]
fn an_edited_receipt_is_an_anomaly_and_the_tracker_does_not_count_it() {
    let (mut world, id, envelope) = waiting();
    let beta = Forge::with(&keys().providers[1], "Beta Certificata S.r.l.", "pec.beta.example");
    let verdi = address("verdi@pec.beta.example");
    let failure = pec::delivery::Failure::UnknownMailbox;
    let failed = beta.receipt(&envelope, |envelope, provider, at, fresh| {
        pec::receipt::non_delivery(envelope, &verdi, &failure, provider, at, fresh)
    });
    let mut expected = Vec::new();
    for (from, with) in [
        ("X-Ricevuta: errore-consegna", "X-Ricevuta: avvenuta-consegna"),
        ("X-Ricevuta: errore-consegna", "X-Ricevuta: presa-in-carico"),
        ("X-Ricevuta: errore-consegna", "X-Trasporto: posta-certificata"),
        ("From: posta-certificata@pec.beta.example", "From: posta-certificata@pec.alfa.example"),
        ("AVVISO DI MANCATA CONSEGNA: Offerta", "CONSEGNA: Offerta"),
        ("To: rossi@", "To: bianchi@"),
        ("Date: Mon, 14 Sep", "Date: Sun, 13 Sep"),
    ] {
        let edited = first(&failed, from, with);
        world.bring(0, "posta-certificata@b", &["rossi@a"], &edited).unwrap();
        expected.push("a -> rossi busta-anomalia");
    }
    world.run(&mut |_| Fate::Arrives);
    assert_eq!(std::mem::take(&mut world.events), expected);
    assert_eq!(world.hosts[0].store.tracked(&id).unwrap()[0].state, TrackState::Sent);
    // As it was made, it closes the recipient.
    world.bring(0, "posta-certificata@b", &["rossi@a"], &failed).unwrap();
    world.run(&mut |_| Fate::Arrives);
    assert_eq!(std::mem::take(&mut world.events), ["a -> rossi errore-consegna 5.1.1"]);
    assert_eq!(world.hosts[0].store.tracked(&id).unwrap()[0].state, TrackState::Failed);
}

// PEC-AP-25: what a user submits cannot forge the fields of the service either
#[test]
fn a_user_cannot_submit_what_looks_like_a_receipt() {
    let mut world = World::new(at("2026-09-14T07:30:12Z"));
    let mut text = Vec::new();
    for (name, value) in [
        ("X-Ricevuta", "avvenuta-consegna"),
        ("X-Trasporto", "posta-certificata"),
        ("X-VerificaSicurezza", "errore"),
        ("X-Mittente", "bianchi@pec.alfa.example"),
        ("X-Riferimento-Message-ID", "<altro@pc.example>"),
    ] {
        write_field(&mut text, name, value);
    }
    text.extend_from_slice(message("rossi@a", &["verdi@b"], "Offerta").as_bytes());
    world.submit("rossi@a", &["verdi@b"], std::str::from_utf8(&text).unwrap());
    world.run(&mut |_| Fate::Arrives);
    let inbox = world.hosts[1].inbox("verdi");
    assert_eq!(kind(&inbox[0]), "posta-certificata");
    let examination = pec::examine(&inbox[0]);
    let original = examination.parts().unwrap().originals[0].body().to_vec();
    let original = String::from_utf8(original).unwrap();
    for name in ["X-Ricevuta", "X-Trasporto", "X-VerificaSicurezza", "X-Mittente", "<altro@"] {
        assert!(!original.contains(name), "{original}");
    }
}
