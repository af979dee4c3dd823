//! Mail that nobody certified, brought to port 25.

use mail::{Message, ReversePath};
use store::{AccountChange, LogFilter, Quota};

use super::scene::{AUTHOR, BIANCHI, ROSSI, SERVICE, Scene, VERDI, address, message};
use crate::flow::reception::{self, Arrival, Authenticated, Received};
use crate::flow::wishes::Wishes;
use crate::flow::{Task, octets_of};

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

/// Brings a message whose domain vouches for it, or does not; of these recipients its sender wants to
/// hear nothing.
fn bring_asked(scene: &Scene, from: &str, to: &[&str], unreported: &[&str], vouched: bool) {
    let mut spool = scene.site.store.spool().unwrap();
    spool.write(message(STRANGER, to, "Perché").as_bytes()).unwrap();
    let results = "pec.alfa.example; spf=whatever".to_owned();
    let received = Received {
        reverse_path: match from {
            "" => ReversePath::Null,
            from => ReversePath::Address(address(from)),
        },
        forward_paths: to.iter().copied().map(address).collect(),
        wishes: Wishes {
            mail: " ENVID=QQ+3D1".to_owned(),
            recipients: to
                .iter()
                .map(|of| match unreported.contains(of) {
                    true => ((*of).to_owned(), " NOTIFY=NEVER".to_owned()),
                    false => ((*of).to_owned(), format!(" NOTIFY=FAILURE ORCPT=rfc822;x+2B{of}")),
                })
                .collect(),
            ..Wishes::default()
        },
        arrival: Arrival {
            hello: "mx.example.org".to_owned(),
            peer: [192, 0, 2, 25].into(),
            protocol: "ESMTPS",
            tls: None,
            authenticate: Some(Box::new(move |_| Ok(Authenticated { results, vouched }))),
        },
    };
    assert!(reception::take(&scene.site, received, spool).is_ok());
}

/// The reports that wait for other hosts: to whom, and what they say.
fn reports(scene: &Scene) -> Vec<(String, String)> {
    let report = |job: store::Job| match serde_json::from_slice(&job.payload).unwrap() {
        Task::Relay(relay) => {
            // RFC 3464 §2
            assert_eq!(relay.reverse_path, ReversePath::Null);
            assert_eq!(relay.recipients.len(), 1);
            let text = String::from_utf8(octets_of(&scene.site, &job).unwrap()).unwrap();
            Some((relay.recipients[0].address.to_string(), text))
        }
        _ => None,
    };
    scene.site.store.jobs(None, 99).unwrap().into_iter().filter_map(report).collect()
}

// RFC 3464 §2
#[test]
fn the_sender_of_ordinary_mail_has_a_report_of_who_does_not_take_it() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "deliver");
    bring_asked(&scene, STRANGER, &[BIANCHI, VERDI, "nessuno@pec.beta.example"], &[], true);
    scene.run();
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    let [(to, report)] = &reports(&scene)[..] else { panic!("not one report") };
    assert_eq!(to, STRANGER);
    for part in [
        "From: Mail Delivery System <postmaster@pec.alfa.example>\r\nTo: <info@ordinaria.example>\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;",
        // RFC 3464 §2.2.1, §2.3.1
        "Original-Envelope-Id: QQ=1\r\nReporting-MTA: dns; pec.alfa.example\r\n\r\n\
         Original-Recipient: rfc822;x+verdi@pec.beta.example\r\n\
         Final-Recipient: rfc822; verdi@pec.beta.example\r\nAction: failed\r\nStatus: 5.7.1\r\n\
         Diagnostic-Code: x-ceralacca; 550 5.7.1 This mailbox takes certified mail only\r\n",
        "Final-Recipient: rfc822; nessuno@pec.beta.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Subject: Perch??\r\n",
        "alle seguenti caselle di posta\r\ncertificata",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    assert!(!report.contains("rfc822; bianchi@") && report.is_ascii(), "{report}");
}

/// Whoever forges a sender has nobody told of what he never wrote.
#[test]
fn no_report_goes_to_a_sender_that_nobody_vouches_for_or_who_wants_none() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "deliver");
    bring_asked(&scene, STRANGER, &[BIANCHI, VERDI], &[], false);
    bring_asked(&scene, "", &[BIANCHI, VERDI], &[], true);
    bring_asked(&scene, STRANGER, &[BIANCHI, VERDI], &[VERDI], true);
    bring_asked(&scene, STRANGER, &[BIANCHI], &[], true);
    scene.run();
    assert_eq!(scene.inbox(BIANCHI).len(), 4);
    assert_eq!(reports(&scene), []);
}

#[test]
fn who_took_it_and_had_no_room_in_the_end_is_reported_too() {
    let scene = Scene::new();
    let to = [BIANCHI, VERDI];
    to.iter().for_each(|of| scene.ordinary_mail(of, "deliver"));
    let store = &scene.site.store;
    let verdi = store.account_by_address(&address(VERDI)).unwrap().unwrap();
    let set = |quota| store.change_account(verdi.id, AccountChange::Quota(quota)).unwrap();
    for vouched in [true, false] {
        bring_asked(&scene, STRANGER, &to, &[], vouched);
        set(Quota { octets_max: 0, messages_max: None, receipt_reserve_octets: 0 });
        scene.run();
        set(verdi.quota);
    }
    let [(_, report)] = &reports(&scene)[..] else { panic!("not one report") };
    assert!(report.contains("552 5.2.2 The mailbox is full"), "{report}");
    for part in
        ["Original-Envelope-Id: QQ=1", "Original-Recipient: rfc822;x+verdi@pec.beta.example"]
    {
        assert!(report.contains(part), "no {part} in {report}");
    }
    assert_eq!((scene.inbox(BIANCHI).len(), scene.inbox(VERDI).len()), (2, 0));
}

/// Another host may take no 8 bits and no long lines: RFC 6152 §3, RFC 5321 §4.5.3.1.6.
#[test]
fn what_is_forwarded_leaves_in_seven_bits_or_not_at_all() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "forward:archivio@example.org");
    scene.ordinary_mail(VERDI, "deliver");
    let long = "x".repeat(1_000);
    let text = message(STRANGER, &[BIANCHI, VERDI], "Listino")
        .replace("\r\n\r\n", &format!("\r\nX-Nota: gi\u{e0}\r\n\r\nPerch\u{e9}.\r\n{long}\r\n"));
    scene.bring(STRANGER, &[BIANCHI, VERDI], text.as_bytes()).unwrap();
    scene.run();
    // Who keeps it here has it as it came (PEC-BA-02).
    let [kept] = &scene.inbox(VERDI)[..] else { panic!("not one message") };
    assert!(String::from_utf8(kept.clone()).unwrap().contains(&text));
    let [(to, sent)] = &relays(&scene)[..] else { panic!("not one relay") };
    assert_eq!(to, "archivio@example.org");
    assert!(mail::sevenbit::is_seven_bit(sent));
    let examination = pec::examine(sent);
    let original = examination.parts().unwrap().originals[0].body();
    let original = String::from_utf8(original.to_vec()).unwrap();
    for line in ["X-Nota: =?utf-8?Q?gi=C3=A0?=\r\n", "\r\nPerch=C3=A9.\r\nxxx"] {
        assert!(original.contains(line), "no {line:?} in {original}");
    }
    let (entity, signature) = (examination.entity().unwrap(), examination.signature().unwrap());
    let now = scene.site.clock.now();
    assert!(crypto::verify(signature, entity, &scene.site.trust.load(), now).is_ok());
}

#[test]
fn what_cannot_be_converted_is_not_forwarded_and_its_sender_is_told_at_once() {
    let scene = Scene::new();
    scene.ordinary_mail(BIANCHI, "forward:archivio@example.org");
    let mut text = message(STRANGER, &[BIANCHI], "Listino").into_bytes();
    text.splice(0..0, *b"X-Nota: perch\xe9\r\n");
    let why = "554 5.6.3 8-bit content that cannot be converted: send it in 7 bits (base64 or \
               quoted-printable)";
    assert_eq!(scene.bring(STRANGER, &[BIANCHI], &text), Err(why.to_owned()));
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 0);
}

/// What waits for other hosts: for whom, and its octets.
fn relays(scene: &Scene) -> Vec<(String, Vec<u8>)> {
    let relay = |job: store::Job| match serde_json::from_slice(&job.payload).unwrap() {
        Task::Relay(relay) => {
            let to = relay.recipients[0].address.to_string();
            Some((to, octets_of(&scene.site, &job).unwrap().to_vec()))
        }
        _ => None,
    };
    scene.site.store.jobs(None, 99).unwrap().into_iter().filter_map(relay).collect()
}

/// A certified recipient's receipts tell what became of it; that it goes over TLS alone holds for it too.
// RFC 8689 §4.2.1
#[test]
fn of_certified_recipients_a_sender_can_still_ask_for_tls_all_the_way() {
    let scene = Scene::new();
    let asked = Wishes {
        mail: " ENVID=QQ+3D1".to_owned(),
        require_tls: true,
        recipients: [(BIANCHI.to_owned(), " NOTIFY=NEVER".to_owned())].into(),
    };
    let domain = mail::Domain::parse("pec.alfa.example").unwrap();
    let of = crate::flow::dispatch::wishes_of(&scene.site, &asked, &domain, &[]);
    assert_eq!((of.mail.as_str(), of.require_tls, of.recipients.len()), ("", true, 0));
    let domain = mail::Domain::parse("ordinaria.example").unwrap();
    let of = crate::flow::dispatch::wishes_of(&scene.site, &asked, &domain, &[]);
    assert_eq!((of.mail.as_str(), of.require_tls), (" ENVID=QQ+3D1", true));
}
