use mail::ReversePath;

use super::*;
use crate::access::Limits;
use crate::envelope::{enclose, enclose_anomaly};
use crate::incoming::AnomalyReason;
use crate::inspect::examine;
use crate::testing::*;

fn verified_by(octets: &[u8], email: &str) -> Verification {
    let (index, _) = Index::from_ldif(INDEX).unwrap();
    let known = Known { emails: Some(&[email.to_owned()]), index: Some(&index) };
    verify(&examine(octets), &known)
}

fn broken(octets: &[u8], email: &str) -> Vec<&'static str> {
    let checks = verified_by(octets, email).checks.into_iter();
    checks.filter(|check| !check.ok).map(|check| check.rule).collect()
}

/// What is wrong, in words.
fn complaints(octets: &[u8], email: &str) -> Vec<String> {
    let checks = verified_by(octets, email).checks.into_iter();
    checks.filter(|check| !check.ok).map(|check| check.text).collect()
}

// PEC-FMT-11
#[test]
fn the_examples_hold_and_their_texts_say_what_their_data_say() {
    for (octets, email, word) in [
        (ACCEPTANCE, ALFA, "accettazione"),
        (ENVELOPE, ALFA, "posta-certificata"),
        (TAKE_CHARGE, BETA, "presa-in-carico"),
        (DELIVERY, BETA, "avvenuta-consegna"),
        (DELIVERY_COPY, BETA, "avvenuta-consegna"),
        (DELIVERY_BRIEF, BETA, "avvenuta-consegna"),
        (DELIVERY_CONCISE, BETA, "avvenuta-consegna"),
        (NON_DELIVERY, BETA, "errore-consegna"),
        (NON_ACCEPTANCE, ALFA, "non-accettazione"),
        (NON_ACCEPTANCE_VIRUS, ALFA, "non-accettazione"),
        (VIRUS_FOUND, BETA, "rilevazione-virus"),
        (NON_DELIVERY_VIRUS, ALFA, "errore-consegna"),
        (LATE_FIRST, ALFA, "preavviso-errore-consegna"),
        (LATE_SECOND, ALFA, "preavviso-errore-consegna"),
    ] {
        let found = verified_by(octets, email);
        assert!(found.holds(), "{word}: {:?}", found.checks);
        assert_eq!(found.notes, Vec::<String>::new());
        assert_eq!(found.kind.unwrap().word(), word);
        assert_eq!(found.certification.unwrap().identifier.as_str(), IDENTIFIER);
        let text = found.checks.iter().any(|check| check.rule == "PEC-FMT-11");
        assert!(text, "{word}: its text was compared");
    }
    let found = verified_by(ANOMALY, BETA);
    assert!(found.holds(), "{:?}", found.checks);
    assert_eq!(found.kind, Some(SystemKind::Anomaly));
    assert_eq!(found.notes, ["nothing in an anomaly envelope is certified"]);
}

// PEC-PR-13 PEC-PR-14 PEC-PR-15
#[test]
fn what_does_not_hold_is_named() {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let once = |from: &str, to: &str| {
        let text = text(DELIVERY);
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    for (octets, rules) in [
        (once("avvenuta-consegna", "errore-consegna"), vec!["PEC-PR-13"]),
        (once("From: posta-certificata@", "From: altro@"), vec!["PEC-PR-15"]),
        (once("To: mario.rossi@", "To: altro@"), vec!["PEC-GEN-15"]),
        (once("Subject: CONSEGNA", "Subject: ACCETTAZIONE"), vec!["PEC-FMT-07"]),
        (once("<20260914.093001.7f3a@", "<altro@"), vec!["PEC-AP-22"]),
        (once("X-Ricevuta: ", "X-Altro: "), vec!["PEC-PR-11"]),
    ] {
        assert_eq!(broken(&octets, BETA), rules);
    }
    let octets = with(DELIVERY, "=\"daticert.xml\"", "=\"altro.xml\"");
    assert_eq!(broken(&octets, BETA), ["PEC-PR-12"]);
    let octets = with(DELIVERY, "ed indirizzato a \"protocollo@", "ed indirizzato a \"altro@");
    assert_eq!(broken(&octets, BETA), ["PEC-FMT-11"]);
    let octets = with(ENVELOPE, "postacert.eml", "altro.eml");
    assert_eq!(broken(&octets, ALFA), ["PEC-PR-14"]);
    assert_eq!(broken(ORIGINAL, ALFA), ["PEC-PR-11", "PEC-PR-15", "PEC-FMT-01"]);
    // PEC-BA-06
    let part = "message/rfc822; name=\"postacert.eml\"";
    let octets = with(ANOMALY, part, "application/xml; name=\"postacert.xml\"");
    let octets = with(&octets, "\"postacert.xml\"", "\"daticert.xml\"");
    let octets = with(&octets, "filename=\"postacert.eml\"", "filename=\"daticert.xml\"");
    assert_eq!(broken(&octets, BETA), ["PEC-BA-06", "PEC-BA-07"]);
}

#[test]
fn what_other_providers_do_otherwise_is_a_note() {
    let other = with(DELIVERY, "Ricevuta di avvenuta consegna\r\nIl", "-- Ricevuta --\r\nIl");
    let found = verified_by(&other, BETA);
    assert!(found.holds());
    assert_eq!(found.notes, ["the text is not of our model: it was not compared"]);
    let found = verify(&examine(DELIVERY), &Known::default());
    assert_eq!(found.notes, ["the addresses of the certificate are not known"]);
}

/// Every example of what providers send, with the address of who signed it.
const EXAMPLES: [(&[u8], &str, &str); 15] = [
    (ACCEPTANCE, ALFA, "accettazione"),
    (ENVELOPE, ALFA, "posta-certificata"),
    (TAKE_CHARGE, BETA, "presa-in-carico"),
    (DELIVERY, BETA, "avvenuta-consegna"),
    (DELIVERY_COPY, BETA, "avvenuta-consegna, copy"),
    (DELIVERY_BRIEF, BETA, "avvenuta-consegna, breve"),
    (DELIVERY_CONCISE, BETA, "avvenuta-consegna, sintetica"),
    (NON_DELIVERY, BETA, "errore-consegna"),
    (NON_ACCEPTANCE, ALFA, "non-accettazione"),
    (NON_ACCEPTANCE_VIRUS, ALFA, "non-accettazione, virus"),
    (VIRUS_FOUND, BETA, "rilevazione-virus"),
    (NON_DELIVERY_VIRUS, ALFA, "errore-consegna, virus"),
    (LATE_FIRST, ALFA, "preavviso, 12 h"),
    (LATE_SECOND, ALFA, "preavviso, 24 h"),
    (ANOMALY, BETA, "anomalia"),
];

/// The message with another value for a field of its outer header, or none, or a field more.
fn edited(octets: &[u8], name: &str, value: Option<&str>) -> Vec<u8> {
    let message = Message::lenient(octets);
    let (mut out, mut is_written) = (Vec::new(), false);
    let mut write = |out: &mut Vec<u8>| {
        if let Some(value) = value.filter(|_| !is_written) {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            is_written = true;
        }
    };
    for field in message.fields() {
        if field.name.eq_ignore_ascii_case(name) {
            write(&mut out);
        } else {
            out.extend_from_slice(field.octets);
        }
    }
    write(&mut out);
    [&out[..], b"\r\n", message.body()].concat()
}

/// The message with a field twice.
fn doubled(octets: &[u8], name: &str) -> Vec<u8> {
    let field = Message::lenient(octets).field(name).unwrap();
    [field.octets, octets].concat()
}

// PEC-FMT-07 PEC-DT-05 PEC-GEN-15 PEC-PIC-04 PEC-RV-03 PEC-BT-02 PEC-BA-02: in each kind of message
#[test]
fn a_field_that_is_edited_is_named_whatever_the_kind() {
    for (octets, email, kind) in EXAMPLES {
        let to = match kind {
            "posta-certificata" => "PEC-BT-02",
            "anomalia" => "PEC-BA-02",
            "presa-in-carico" => "PEC-PIC-04",
            "rilevazione-virus" => "PEC-RV-03",
            _ => "PEC-GEN-15",
        };
        for (name, value, rule) in [
            ("To", "anna.bianchi@pec.comune.example", to),
            ("Subject", "Saluti", "PEC-FMT-07"),
            ("Date", "Mon, 14 Sep 2026 09:30:59 +0200", "PEC-DT-05"),
            ("Date", "Mon, 7 Sep 2026 09:30:12 +0200", "PEC-DT-05"),
            ("From", "posta-certificata@altro.example", "PEC-PR-15"),
            ("Sender", "anna.bianchi@pec.rossi.example", "PEC-BT-05"),
        ] {
            assert!(broken(&edited(octets, name, Some(value)), email).contains(&rule), "{kind}");
            // What only adds a field leaves all others as they are.
            if ["To", "Date"].contains(&name) {
                let failed = broken(&edited(octets, name, Some(value)), email);
                assert_eq!(failed, [rule], "{kind}: {name}: {value}");
            }
            if name != "Sender" {
                let without = edited(octets, name, None);
                assert!(broken(&without, email).contains(&rule), "{kind} without {name}");
                let twice = doubled(octets, name);
                assert!(broken(&twice, email).contains(&rule), "{kind} with two {name}");
            }
        }
        let as_it_was = Message::lenient(octets).field("To").unwrap().unfolded();
        assert_eq!(broken(&edited(octets, "To", Some(&as_it_was)), email), [""; 0], "{kind}");
        if kind != "anomalia" {
            let msgid = edited(octets, "X-Riferimento-Message-ID", Some("<altro@pc.example>"));
            assert_eq!(broken(&msgid, email), ["PEC-AP-22"], "{kind}");
            let without = edited(octets, "X-Riferimento-Message-ID", None);
            assert_eq!(broken(&without, email), ["PEC-AP-22"], "{kind}");
        }
    }
}

// PEC-BT-02 PEC-BT-03 PEC-BT-05 PEC-BT-06: an envelope shows what its original and its data say
#[test]
fn a_transport_envelope_that_is_edited_is_named() {
    let from = |name: &str| format!("{name} <{ALFA}>");
    for (name, value, rules) in [
        ("From", Some(from("\"Per conto di: anna.bianchi@pec.rossi.example\"")), vec!["PEC-BT-03"]),
        ("From", Some(from("\"mario.rossi@pec.rossi.example\"")), vec!["PEC-BT-03"]),
        ("From", Some(ALFA.into()), vec!["PEC-BT-03"]),
        ("Reply-To", Some("evil@pec.example".into()), vec!["PEC-BT-03"]),
        ("Reply-To", Some(format!("{SENDER}, evil@pec.example")), vec!["PEC-BT-03"]),
        ("Reply-To", Some(format!("Il ministero <{SENDER}>")), vec!["PEC-BT-03"]),
        ("To", Some(format!("\"Altri\" <{PROTOCOLLO}>, {ORDINARY}")), vec!["PEC-BT-02"]),
        ("Cc", Some("altro@pec.comune.example".into()), vec!["PEC-BT-02"]),
        ("Cc", None, vec!["PEC-BT-02"]),
        ("X-TipoRicevuta", Some("breve".into()), vec!["PEC-BT-06"]),
        ("X-TipoRicevuta", Some("sintetica".into()), vec!["PEC-BT-06"]),
        ("Sender", Some(SENDER.into()), vec!["PEC-BT-05"]),
        ("Message-ID", Some("<altro@alfapec.example>".into()), vec!["PEC-PR-14"]),
        // What says the same.
        ("From", Some(from("=?utf-8?q?Per_conto_di=3A_MARIO.rossi=40pec.rossi.example?=")), vec![]),
        ("Reply-To", Some(format!("<{SENDER}>")), vec![]),
        // An answer goes to the provider then: noted.
        ("Reply-To", None, vec![]),
        ("To", Some(format!("\"Protocollo\"\r\n\t<{PROTOCOLLO}>,\r\n {ORDINARY}")), vec![]),
        ("X-TipoRicevuta", None, vec![]),
        ("x-tiporicevuta", Some("Completa".into()), vec![]),
        ("Sender", Some(ALFA.into()), vec![]),
        ("Date", Some("Mon, 14 Sep 2026 09:30:12 +0200 (CEST)".into()), vec![]),
        ("Date", Some("Mon, 14 Sep 2026 07:30:12 GMT".into()), vec![]),
        ("X-Attachment", Some("x".into()), vec![]),
    ] {
        let octets = edited(ENVELOPE, name, value.as_deref());
        assert_eq!(broken(&octets, ALFA), rules, "{name}: {value:?}");
    }
    for name in ["Reply-To", "Cc", "X-TipoRicevuta"] {
        assert_eq!(broken(&doubled(ENVELOPE, name), ALFA).len(), 1, "two {name}");
    }
}

fn enclosed(octets: &[u8]) -> Vec<u8> {
    let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
    let submission = submit(octets, &forward, &Limits::default()).unwrap();
    enclose(submission.accepted(), submission.original(), &alfa(), 7).seal(b"x")
}

// PEC-BT-02 PEC-BT-06: what our envelopes inherit holds, whatever the original has
#[test]
fn what_is_inherited_holds_and_its_edits_do_not() {
    for (field, name, other, rule) in [
        ("Reply-To:  \"Uff., altro\"\r\n\t<altro@pec.rossi.example>", "Reply-To", SENDER, "BT-02"),
        ("Reply-To: =?utf-8?q?Citt=C3=A0?= <altro@pec.rossi.example>", "Reply-To", SENDER, "BT-02"),
        ("Reply-To:", "Reply-To", "evil@pec.example", "BT-02"),
        ("X-Altro: x", "Reply-To", "evil@pec.example", "BT-03"),
    ] {
        let octets = enclosed(&with(SUBMITTED, "Cc: ", &format!("{field}\r\nCc: ")));
        assert_eq!(broken(&octets, ALFA), [""; 0], "{field}");
        let rule = format!("PEC-{rule}");
        assert_eq!(broken(&edited(&octets, name, Some(other)), ALFA), [&rule[..]], "{field}");
        assert_eq!(broken(&edited(&octets, name, None), ALFA), [""; 0], "{field}");
    }
    for (form, other) in [("breve", None), ("SINTETICA", Some("breve")), ("complet", Some("breve"))]
    {
        let octets = enclosed(&with(SUBMITTED, "Ricevuta: completa", &format!("Ricevuta: {form}")));
        assert_eq!(broken(&octets, ALFA), [""; 0], "{form}");
        let octets = edited(&octets, "X-TipoRicevuta", other);
        assert_eq!(broken(&octets, ALFA), ["PEC-BT-06"], "{form}");
    }
    // No copy was asked for: who adds one is found.
    let octets =
        enclosed(&with(&with(SUBMITTED, "Cc: ", ", "), "example\r\n, uff", "example, uff"));
    assert_eq!(broken(&octets, ALFA), [""; 0]);
    assert_eq!(broken(&edited(&octets, "Cc", Some(ORDINARY)), ALFA), ["PEC-BT-02"]);
}

// PEC-BA-02 PEC-BA-03 PEC-DT-05
#[test]
fn an_anomaly_envelope_that_is_edited_is_named() {
    let from = |sender: &str| format!("\"Per conto di: {sender}\" <{BETA}>");
    for (name, value, rules) in [
        // Who answers would answer to another than the one in From.
        ("From", Some(from("evil@pec.example")), vec!["PEC-BA-03", "PEC-BA-03"]),
        ("From", Some(BETA.to_owned()), vec!["PEC-BA-03", "PEC-BA-03", "PEC-BA-03"]),
        ("Reply-To", Some("evil@pec.example".into()), vec!["PEC-BA-03"]),
        ("Reply-To", None, vec!["PEC-BA-03"]),
        ("To", Some("altro@pec.comune.example".into()), vec!["PEC-BA-02"]),
        ("Cc", Some("altro@pec.comune.example".into()), vec!["PEC-BA-02"]),
        ("Message-ID", Some("<altro@ordinaria.example>".into()), vec!["PEC-BA-02"]),
        ("Date", Some("Mon, 14 Sep 2026 10:00:06 +0200".into()), vec!["PEC-DT-05"]),
        ("Date", Some("Mon, 14 Sep 2026 10:00:05 +0200 (CEST)".into()), vec![]),
    ] {
        let octets = edited(ANOMALY, name, value.as_deref());
        assert_eq!(broken(&octets, BETA), rules, "{name}: {value:?}");
    }
}

// PEC-BA-02: what came may be of any form, and is inherited as it is
#[test]
fn an_anomaly_envelope_of_anything_holds() {
    for (received, sender, notes) in [
        (&b"From: a@b.example\r\nTo: c@d.example\r\nTo: e@f.example\r\n\r\nx\r\n"[..], ORDINARY, 1),
        (b"To: a\xe8@b\nReply-To: x\nReply-To: y\nSubject: citt\xe0\n\nciao\n", ORDINARY, 2),
        (b"Subject: a\rb\0c\r\nTo: d\re\0f\r\n \r\n g@h\r\n\r\nx", "", 1),
        (b"", "", 1),
        (b"no header at all", ORDINARY, 1),
    ] {
        let sender = Address::parse(sender).map_or(ReversePath::Null, ReversePath::Address);
        let forward = addresses(&[PROTOCOLLO]);
        let (reason, at) = (AnomalyReason::Form, at("10:00:05"));
        let envelope = enclose_anomaly(received, &sender, &forward, reason, &beta(), at, 7);
        let found = verified_by(&envelope.seal(b"x"), BETA);
        assert!(found.holds(), "{received:?}: {:?}", found.checks);
        assert_eq!(found.notes.len(), notes, "{:?}", found.notes);
    }
}

// PEC-NA-05 PEC-MCV-02 PEC-RV-03
#[test]
fn a_notice_of_a_virus_says_so_in_its_header() {
    let field = "X-VerificaSicurezza";
    for (octets, email, rule) in
        [(NON_ACCEPTANCE_VIRUS, ALFA, "PEC-NA-05"), (NON_DELIVERY_VIRUS, ALFA, "PEC-MCV-02")]
    {
        assert_eq!(broken(&edited(octets, field, None), email), [rule]);
        assert_eq!(broken(&edited(octets, field, Some("nessuno")), email), [rule]);
    }
    for (octets, email, rule) in
        [(NON_ACCEPTANCE, ALFA, "PEC-NA-05"), (NON_DELIVERY, BETA, "PEC-MCV-02")]
    {
        assert_eq!(broken(&edited(octets, field, Some("errore")), email), [rule]);
    }
    for value in [None, Some(ORDINARY)] {
        assert_eq!(broken(&edited(VIRUS_FOUND, "X-Mittente", value), BETA), ["PEC-RV-03"]);
    }
}

// PEC-PIC-04
#[test]
fn a_service_mailbox_is_known_from_the_index_or_not_at_all() {
    let unknown = |octets: &[u8]| {
        let emails = [BETA.to_owned()];
        verify(&examine(octets), &Known { emails: Some(&emails), index: None })
    };
    let note = "the service mailbox of the sender's provider is not known";
    assert_eq!(unknown(TAKE_CHARGE).notes, [note]);
    let other = edited(TAKE_CHARGE, "To", Some("altro@pec.example"));
    assert!(unknown(TAKE_CHARGE).holds() && unknown(&other).holds());
    assert!(!unknown(&edited(TAKE_CHARGE, "To", Some("a@pec.example, b@pec.example"))).holds());
    let other = edited(TAKE_CHARGE, "To", Some("presaincarico@betacert.example"));
    assert_eq!(broken(&other, BETA), ["PEC-PIC-04"]);
}

#[test]
fn what_does_not_hold_is_told_with_both_values() {
    let signer = "posta-certificata@altro.example";
    for (octets, email, told) in [
        (
            edited(ENVELOPE, "Reply-To", Some("evil@pec.example")),
            ALFA,
            "Reply-To is \"evil@pec.example\", not the mittente, mario.rossi@pec.rossi.example",
        ),
        (
            edited(ENVELOPE, "X-TipoRicevuta", Some("breve")),
            ALFA,
            "X-TipoRicevuta is \"breve\", not completa",
        ),
        (
            edited(ENVELOPE, "Cc", None),
            ALFA,
            "Cc is missing, that of the original \"ufficio@pec.comune.example\"",
        ),
        (
            edited(DELIVERY, "To", Some("x@y.example")),
            BETA,
            "To is \"x@y.example\", not the mittente, mario.rossi@pec.rossi.example",
        ),
        (
            edited(DELIVERY, "Date", Some("Mon, 14 Sep 2026 09:30:16 +0200")),
            BETA,
            "Date is \"Mon, 14 Sep 2026 09:30:16 +0200\", \
             not the time that is signed, 14/09/2026 09:30:15 (+0200)",
        ),
        (
            edited(DELIVERY, "X-Ricevuta", Some("errore-consegna")),
            BETA,
            "the header tells of errore-consegna, daticert.xml of avvenuta-consegna",
        ),
        (
            DELIVERY.to_vec(),
            signer,
            "From is \"posta-certificata@betacert.example\", \
             the certificate is of \"posta-certificata@altro.example\"",
        ),
        (edited(DELIVERY, "X-Altro", Some("citt\u{e0}")), BETA, "the header has octets above 127"),
    ] {
        assert_eq!(complaints(&octets, email), [told]);
    }
    // However long the value that is wrong.
    let long = edited(DELIVERY, "Subject", Some(&"x ".repeat(50_000)));
    assert!(complaints(&long, BETA)[0].len() < 3 * SHOWN_CHARACTERS);
    let many = (0..1_000).map(|_| "To: a@b.example\r\n").collect::<String>();
    assert!(complaints(&[many.as_bytes(), DELIVERY].concat(), BETA)[0].len() < 600);
}
