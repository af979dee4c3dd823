//! Whatever a stranger, or a hostile provider with a good key, can bring to port 25 to be taken for
//! what it is not; and that it is not.

use mail::encoding::base64_lines;
use mail::message::write_field;
use pec::incoming::AnomalyReason;
use store::{Store as _, TrackState};

use super::scene::address;
use super::world::{Fate, GAMMA_DOMAIN, GAMMA_NAME, Pair, World, at, keys, kind, message};

use super::smith::{Forge, find, first, replace, rfind};

type Make = fn(&Forge, &str) -> Vec<u8>;

/// An edit of the outer header of a correct envelope, which no signature covers.
macro_rules! outer {
    ($from:literal => $with:literal) => {
        |forge, to| first(&forge.envelope("mallory@g", &[to]), $from, $with)
    };
}

/// An edit of what is signed, signed again by a provider.
macro_rules! inner {
    ($from:literal => $with:literal) => {
        |forge, to| forge.edited(to, $from, $with)
    };
}

/// An edit of the certification data, signed again by a provider.
macro_rules! xml {
    ($from:literal => $with:literal) => {
        |forge, to| forge.certified(to, $from, $with)
    };
}

/// An edit after the signature was made.
macro_rules! damaged {
    ($from:literal => $with:literal) => {
        |forge, to| replace(&forge.envelope("mallory@g", &[to]), $from, $with)
    };
}

fn unsigned(header: &str, to: &str) -> Vec<u8> {
    format!("{header}\r\n{}", message("posta-certificata@a", &[to], "Offerta")).into_bytes()
}

fn signed_by(pair: &Pair, to: &str) -> Vec<u8> {
    Forge::with(pair, GAMMA_NAME, GAMMA_DOMAIN).envelope("mallory@g", &[to])
}

use AnomalyReason::{Form, NotAProvider, NotSigned, NotValid};

/// Each with the reason for which it is not certified (PEC-BA-05).
const FORGERIES: &[(&str, AnomalyReason, Make)] = &[
    // --- without a provider's signature: PEC-PR-01 PEC-PR-08
    ("plain mail", NotSigned, |_, to| message("info@x", &[to], "Offerta").into_bytes()),
    ("plain mail with X-Trasporto", NotSigned, |_, to| {
        unsigned("X-Trasporto: posta-certificata", to)
    }),
    ("plain mail with X-Ricevuta", NotSigned, |_, to| {
        unsigned("X-Ricevuta: avvenuta-consegna", to)
    }),
    ("plain mail that says it is an anomaly", NotSigned, |_, to| {
        unsigned("X-Trasporto: errore", to)
    }),
    ("the parts of an envelope without its signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let examination = pec::examine(&envelope);
        let header = b"From: posta-certificata@pec.gamma.example\r\nX-Trasporto: \
                       posta-certificata\r\n";
        [&header[..], examination.entity().unwrap()].concat()
    }),
    (
        "an envelope that says it is not signed",
        NotSigned,
        outer!("multipart/signed" => "multipart/mixed"),
    ),
    ("an envelope without its boundary", NotSigned, outer!("boundary=" => "edge=")),
    (
        "an envelope of two types",
        NotSigned,
        outer!("X-Trasporto" => "Content-Type: text/plain\r\nX-Trasporto"),
    ),
    (
        "an envelope whose signature has no name",
        NotSigned,
        damaged!("application/pkcs7-signature; name" => "application/octet-stream; name"),
    ),
    ("an envelope with a third part", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let end = rfind(&envelope, b"\r\n--").unwrap();
        let close = &envelope[end..];
        let open = close.trim_ascii_end();
        let open = open.strip_suffix(b"--").unwrap();
        [&envelope[..end], open, b"\r\n\r\nx", close].concat()
    }),
    ("an envelope wrapped by a list", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let head = b"From: lista@ordinaria.example\r\nX-Trasporto: posta-certificata\r\n\
            Content-Type: multipart/mixed; boundary=lista\r\n\r\n--lista\r\n";
        [&head[..], &envelope, b"\r\n--lista--\r\n"].concat()
    }),
    ("an envelope forwarded as an attachment", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let head = b"From: info@ordinaria.example\r\nX-Trasporto: posta-certificata\r\n\
            Content-Type: message/rfc822\r\n\r\n";
        [&head[..], &envelope].concat()
    }),
    ("an opaque signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let examination = pec::examine(&envelope);
        let mut octets = b"X-Trasporto: posta-certificata\r\nContent-Type: \
            application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: \
            base64\r\n\r\n"
            .to_vec();
        octets.extend(base64_lines(examination.signature().unwrap()));
        octets
    }),
    ("nothing for a signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let name = rfind(&envelope, b"smime.p7s").unwrap();
        let start = name + find(&envelope[name..], b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&envelope[start..], b"\r\n--").unwrap();
        [&envelope[..start], &envelope[end..]].concat()
    }),
    ("noise for a signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let name = rfind(&envelope, b"smime.p7s").unwrap();
        let start = name + find(&envelope[name..], b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&envelope[start..], b"\r\n--").unwrap();
        [&envelope[..start], b"Y2lhbyBtb25kbw==", &envelope[end..]].concat()
    }),
    // --- signed by nobody of the circuit: PEC-PR-02
    ("an envelope whose certificate is not in the index", NotAProvider, |_, to| {
        signed_by(&keys().unknown, to)
    }),
    ("an envelope of an impostor with a provider's name", NotAProvider, |_, to| {
        signed_by(&keys().impostor, to)
    }),
    // --- a signature that does not hold: PEC-PR-03
    ("an envelope whose certificate has expired", NotValid, |_, to| signed_by(&keys().expired, to)),
    (
        "an envelope with another text",
        NotValid,
        damaged!("Messaggio di posta certificata" => "Messaggio di posta  certificata"),
    ),
    ("an envelope with another original", NotValid, damaged!("Si allega" => "Si nega")),
    (
        "an envelope with a changed part name",
        NotValid,
        damaged!("name=\"postacert.eml\"" => "name=\"altro.eml\""),
    ),
    ("the signature of another envelope", NotValid, |forge, to| {
        let (one, other) =
            (forge.envelope("mallory@g", &[to]), forge.envelope("mallory@g", &[to, "neri@b"]));
        let signature = pec::examine(&other).signature().unwrap().to_vec();
        let name = rfind(&one, b"smime.p7s").unwrap();
        let start = name + find(&one[name..], b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&one[start..], b"\r\n--").unwrap();
        let signature = base64_lines(&signature);
        [&one[..start], signature.trim_ascii_end(), &one[end..]].concat()
    }),
    ("an envelope with other line ends", NotValid, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        replace(&envelope, "Si allega Offerta.\r\n", "Si allega Offerta.\n")
    }),
    (
        "an envelope with a line more",
        NotValid,
        damaged!("Si allega Offerta.\r\n" => "Si allega Offerta.\r\n\r\n"),
    ),
    // --- a provider's, of a wrong form: PEC-PR-05 PEC-PR-07, the outer header first
    (
        "an envelope that is not said to be one",
        Form,
        outer!("X-Trasporto: posta-certificata\r\n" => ""),
    ),
    (
        "an envelope that says it is an anomaly",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Trasporto: errore"),
    ),
    (
        "an envelope of an unknown transport",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Trasporto: posta certificata"),
    ),
    (
        "an envelope of two transports",
        Form,
        outer!("X-Trasporto:" => "X-Trasporto: errore\r\nX-Trasporto:"),
    ),
    (
        "an envelope that is a receipt too",
        Form,
        outer!("X-Trasporto:" => "X-Ricevuta: accettazione\r\nX-Trasporto:"),
    ),
    (
        "an envelope turned into a delivery receipt",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Ricevuta: avvenuta-consegna"),
    ),
    (
        "an envelope turned into a non-delivery notice",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Ricevuta: errore-consegna"),
    ),
    (
        "a receipt that does not exist",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Ricevuta: mancata-consegna"),
    ),
    (
        "an envelope of two authors",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "<posta-certificata@pec.gamma.example>, x@y.example"),
    ),
    (
        "an envelope in another provider's name",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "<posta-certificata@pec.alfa.example>"),
    ),
    (
        "an envelope of a look-alike author",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "<posta-certificata@pec.gannma.example>"),
    ),
    (
        "an envelope that only displays its author",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "\"posta-certificata@pec.gamma.example\" <x@y.example>"),
    ),
    (
        "an envelope with From twice",
        Form,
        outer!("X-Trasporto:" => "From: x@y.example\r\nX-Trasporto:"),
    ),
    ("an envelope with another Message-ID", Form, outer!("Message-ID: <" => "Message-ID: <x")),
    ("an envelope without Message-ID", Form, outer!("Message-ID: <" => "X-Message-ID: <")),
    (
        "an envelope with two Message-IDs",
        Form,
        outer!("X-Trasporto:" => "Message-ID: <x@y.example>\r\nX-Trasporto:"),
    ),
    (
        "an envelope with eight bits in its header",
        Form,
        outer!("X-Trasporto:" => "X-Nota: citt\u{e0}\r\nX-Trasporto:"),
    ),
    // --- and what is signed: PEC-PR-12 to PEC-PR-16
    ("an envelope without certification data", Form, inner!("daticert.xml" => "altri.xml")),
    ("an envelope without an original", Form, inner!("postacert.eml" => "altro.eml")),
    ("an envelope whose original is a text", Form, inner!("message/rfc822" => "text/plain")),
    (
        "an envelope whose data are no XML by their type",
        Form,
        inner!("application/xml" => "text/plain"),
    ),
    ("an envelope of alternatives", Form, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        forge.resign(&first(&envelope, "multipart/mixed", "multipart/other"))
    }),
    ("an envelope with another identifier within", Form, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let inner = rfind(&envelope, b"\r\nMessage-ID: <").unwrap();
        let edited = first(&envelope[inner..], "Message-ID: <", "Message-ID: <x");
        forge.resign(&[&envelope[..inner], &edited].concat())
    }),
    ("an envelope with its data twice", Form, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let name = find(&envelope, b"application/xml").unwrap();
        let start = rfind(&envelope[..name], b"\r\n--").unwrap();
        let end = name + find(&envelope[name..], b"\r\n--").unwrap();
        forge.resign(&[&envelope[..end], &envelope[start..]].concat())
    }),
    ("data that are no XML", Form, xml!("<postacert" => "<<postacert")),
    ("data that end early", Form, xml!("</postacert>" => "")),
    (
        "data with a document type",
        Form,
        xml!("<postacert" => "<!DOCTYPE p [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><postacert"),
    ),
    ("data of another root", Form, xml!("postacert" => "altro")),
    ("data of an acceptance", Form, xml!("tipo=\"posta-certificata\"" => "tipo=\"accettazione\"")),
    (
        "data of a kind that does not exist",
        Form,
        xml!("tipo=\"posta-certificata\"" => "tipo=\"raccomandata\""),
    ),
    ("data with another identifier", Form, xml!("<identificativo>" => "<identificativo>x")),
    ("data without an identifier", Form, xml!("identificativo" => "altro")),
    ("data without a provider", Form, xml!("gestore-emittente" => "altro")),
    ("data of another sender", Form, xml!("<mittente>mallory@" => "<mittente>mario@")),
    (
        "data of a sender of another provider",
        Form,
        xml!("<mittente>mallory@pec.gamma.example" => "<mittente>rossi@pec.alfa.example"),
    ),
    ("data without a sender", Form, xml!("mittente" => "altro")),
    ("data whose sender is no address", Form, xml!("<mittente>mallory@" => "<mittente>mallory ")),
    ("data without recipients", Form, xml!("destinatari" => "altri")),
    (
        "data of other recipients",
        Form,
        xml!("<destinatari tipo=\"certificato\">" => "<destinatari tipo=\"certificato\">x"),
    ),
    (
        "data of recipients of an unknown kind",
        Form,
        xml!("tipo=\"certificato\"" => "tipo=\"segreto\""),
    ),
    ("data of a day that does not exist", Form, xml!("<giorno>14/09" => "<giorno>31/02")),
    ("data of a time that does not exist", Form, xml!("<ora>09:" => "<ora>25:")),
    ("data without a zone", Form, xml!("zona=\"+0200\"" => "")),
    ("data with text for markup", Form, xml!("<dati>" => "<dati>&x;")),
];

/// A forgery by its name, and the reverse-path it comes with.
pub(super) fn forgery(name: &str, to: &str) -> (Vec<u8>, String) {
    let forge = Forge::gamma();
    if name == "a correct envelope" {
        return (forge.envelope("mallory@g", &[to]), "mallory@g".to_owned());
    }
    let found = FORGERIES.iter().find(|forgery| forgery.0 == name);
    let (_, _, make) = found.unwrap_or_else(|| panic!("{name}: no such forgery"));
    (make(&forge, to), "mallory@g".to_owned())
}

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
    println!("{} forgeries are told for what they are", FORGERIES.len());
    assert!(FORGERIES.len() >= 60, "{}", FORGERIES.len());
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
    for (octets, to) in [(&taken, "ricevute@a"), (&delivered, "rossi@a"), (&failed, "rossi@a")] {
        world.bring(0, "posta-certificata@g", &[to], octets).unwrap();
        world.run(&mut |_| Fate::Arrives);
        // It is delivered as it is, and nobody believes it.
        assert_eq!(std::mem::take(&mut world.events).len(), 1);
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
