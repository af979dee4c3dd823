//! Mail that nobody certified, brought to port 25.

use mail::Message;
use store::LogFilter;

use super::scene::{AUTHOR, BIANCHI, ROSSI, SERVICE, Scene, VERDI, message};

const STRANGER: &str = "info@ordinaria.example";

fn field(octets: &[u8], name: &str) -> Option<String> {
    Message::parse(octets).unwrap().field(name).map(|field| field.unfolded())
}

// PEC-GEN-17 PEC-GEN-19 PEC-PR-08
#[test]
fn ordinary_mail_is_refused_unless_the_holder_takes_it_and_the_sender_is_told_why() {
    let scene = Scene::new();
    let text = message(STRANGER, &[BIANCHI], "Listino");
    for (from, to, reply) in [
        (STRANGER, BIANCHI, "550 5.7.1 This mailbox takes certified mail only"),
        ("", BIANCHI, "550 5.7.1 This mailbox takes certified mail only"),
        (STRANGER, "nessuno@pec.beta.example", "550 5.1.1 No such address here: check it"),
        (STRANGER, SERVICE, "550 5.7.1 This mailbox takes certified mail only"),
        (STRANGER, AUTHOR, "550 5.7.1 This mailbox takes certified mail only"),
    ] {
        assert_eq!(scene.bring(from, &[to], text.as_bytes()), Err(reply.to_owned()), "{to}");
    }
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 0);
    scene.ordinary_mail("piena@pec.beta.example", "deliver");
    let long = format!("{text}{}", "x".repeat(5_000));
    assert_eq!(
        scene.bring(STRANGER, &["piena@pec.beta.example"], long.as_bytes()),
        Err("552 5.2.2 The mailbox is full".to_owned())
    );
}

// PEC-BA-01 PEC-BA-02 PEC-BA-03 PEC-BA-04 PEC-BA-06 PEC-BA-07 PEC-BA-08 PEC-BA-09 PEC-MC-02
#[test]
fn what_the_holder_takes_comes_in_an_anomaly_envelope_whole_signed_and_without_any_receipt() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "deliver");
    let text = message(STRANGER, &[BIANCHI], "Listino");
    scene.bring(STRANGER, &[BIANCHI], text.as_bytes()).unwrap();
    scene.run();
    let [octets] = &scene.inbox(BIANCHI)[..] else { panic!("not one message") };
    for (name, value) in [
        ("Return-Path", "<info@ordinaria.example>"),
        ("X-Trasporto", "errore"),
        ("Subject", "ANOMALIA MESSAGGIO: Listino"),
        ("From", "\"Per conto di: info@ordinaria.example\" <posta-certificata@pec.alfa.example>"),
        ("Reply-To", "info@ordinaria.example"),
        ("To", "bianchi@pec.alfa.example"),
        ("Message-ID", "<cliente.1@pc.example>"),
        ("Date", "Mon, 14 Sep 2026 09:30:12 +0200"),
    ] {
        assert_eq!(field(octets, name).as_deref(), Some(value), "{name}");
    }
    let examination = pec::examine(octets);
    let parts = examination.parts().unwrap();
    assert!(parts.certifications.is_empty());
    assert!(parts.originals[0].body().ends_with(text.as_bytes()));
    let readable = parts.text.unwrap().text().unwrap();
    assert!(
        readable
            .contains("il messaggio non proviene da un gestore di posta elettronica certificata"),
        "{readable}"
    );
    let (entity, signature) = (examination.entity().unwrap(), examination.signature().unwrap());
    let now = scene.site.clock.now();
    assert!(crypto::verify(signature, entity, &scene.site.trust.load(), now).is_ok());
    for of in [ROSSI, SERVICE, AUTHOR] {
        assert!(scene.inbox(of).is_empty());
    }
    let records = scene.site.store.log(&LogFilter::default(), 0, 10).unwrap();
    let [(_, record)] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record.event, "anomalia");
    assert_eq!(record.message_id.as_deref(), Some("cliente.1@pc.example"));
    assert_eq!(record.mittente.as_deref(), Some(STRANGER));
    assert_eq!(record.ricezione, [BIANCHI]);
    assert_eq!(record.notes, ["came from 192.0.2.25 with TLSv1_3"]);
}

// PEC-GEN-19 RFC 5321 §4.5.1
#[test]
fn each_recipient_decides_for_himself_and_postmaster_is_always_there() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "deliver");
    let to = [BIANCHI, VERDI, "postmaster@pec.beta.example"];
    scene.bring("", &to, message(STRANGER, &to, "Undelivered").as_bytes()).unwrap();
    scene.run();
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    assert_eq!(field(&scene.inbox(BIANCHI)[0], "Return-Path").as_deref(), Some("<>"));
    assert_eq!(scene.inbox("postmaster@pec.alfa.example").len(), 1);
    assert!(scene.inbox(VERDI).is_empty());
    let records = scene.site.store.log(&LogFilter::default(), 0, 10).unwrap();
    let [(_, refused), (_, anomaly)] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&*refused.event, refused.consegna.as_deref()), ("rifiuto", Some(VERDI)));
    assert_eq!(
        refused.errore_esteso.as_deref(),
        Some("550 5.7.1 This mailbox takes certified mail only")
    );
    assert_eq!(anomaly.ricezione, [BIANCHI, "postmaster@pec.beta.example"]);
}

// RFC 5321 §6.3
#[test]
fn a_message_in_a_loop_is_refused() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "deliver");
    let text = message(STRANGER, &[BIANCHI], "Listino");
    let looped = |hops: usize| format!("{}{text}", "Received: x\r\n".repeat(hops));
    assert!(scene.bring(STRANGER, &[BIANCHI], looped(100).as_bytes()).is_ok());
    assert_eq!(
        scene.bring(STRANGER, &[BIANCHI], looped(101).as_bytes()),
        Err("554 5.4.6 The message passed too many hosts: it is in a loop".to_owned())
    );
}

// PEC-GEN-17: an error report about a receipt is nobody's to read
#[test]
fn an_error_report_to_a_service_address_is_logged_and_dropped() {
    let scene = Scene::new();
    scene.bring("", &[AUTHOR], message(STRANGER, &[AUTHOR], "Failure").as_bytes()).unwrap();
    scene.run();
    assert!(scene.inbox(AUTHOR).is_empty());
    let records = scene.site.store.log(&LogFilter::default(), 0, 10).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].1.event, "rifiuto");
}
