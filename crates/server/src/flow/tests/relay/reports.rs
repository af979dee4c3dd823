//! What a user of ours hears of ordinary recipients.

use super::*;
use crate::control;
use crate::flow::wishes::Wishes;

// PEC-BT-15, RFC 3464 §2; doubt D-12
#[test]
fn a_user_gets_a_report_about_ordinary_recipients_only() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    let wishes = Wishes {
        mail: " RET=HDRS ENVID=QQ314159".to_owned(),
        recipients: [(TO.to_owned(), " ORCPT=rfc822;Capo+2Bx@altrove.example".to_owned())].into(),
        ..Wishes::default()
    };
    let to = [BIANCHI, TO];
    let submitted = scene.submit_wishing(ROSSI, &to, &message(ROSSI, &to, "Offerta"), wishes);
    let id = submitted.ok().unwrap();
    scene.run();
    host.next(Script {
        instead: vec![("RCPT", "550 5.1.1 <c>: nobody\r\n".trim_end().to_owned())],
        ..Script::default()
    });
    pass(&scene);
    scene.run();
    let inbox = scene.inbox(ROSSI);
    assert_eq!(inbox.len(), 3);
    let report = String::from_utf8(inbox[2].clone()).unwrap();
    for part in [
        "ANOMALIA MESSAGGIO: Mancato recapito di un messaggio",
        "Content-Type: multipart/report; report-type=delivery-status;",
        "Original-Envelope-Id: QQ314159\r\nReporting-MTA: dns; pec.alfa.example\r\n\r\n\
         Original-Recipient: rfc822;Capo+x@altrove.example\r\n\
         Final-Recipient: rfc822; c@altrove.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "to RCPT: 550 5.1.1 <c>: nobody",
        &format!("Message-ID: <{id}>"),
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    let events = scene.events(&id);
    assert!(events.contains(&"errore-trasmissione".to_owned()), "{events:?}");
    assert_eq!(waiting(&scene), 0);
}

// RFC 6533 §3: in a report of 7 bits an address beyond ASCII has its ASCII form, and hosts are told it so.
#[test]
fn a_recipient_that_its_sender_calls_in_utf8_comes_back_in_ascii() {
    let (scene, host) = (Scene::new(), Host::start());
    route(&scene, host.address);
    let said = format!("RCPT TO:<{TO}> ORCPT=utf-8;nicol\u{f2}@citt\u{e0}.example");
    let Ok(smtp::command::Command::Rcpt { dsn, .. }) =
        smtp::command::Command::parse(said.as_bytes())
    else {
        panic!("{said} is no RCPT")
    };
    let wishes =
        Wishes { recipients: [(TO.to_owned(), dsn.to_string())].into(), ..Wishes::default() };
    scene.submit_wishing(ROSSI, &[TO], &message(ROSSI, &[TO], "Offerta"), wishes).ok().unwrap();
    scene.run();
    let kept = "utf-8;nicol\\x{F2}@citt\\x{E0}.example";
    let told = "RCPT TO:<c@altrove.example> ORCPT=utf-8;nicol\\x{F2}@citt\\x{E0}.example";
    host.next(Script {
        offers: vec!["DSN"],
        instead: vec![(told, "550 5.1.1 so called".to_owned())],
        ..Script::default()
    });
    pass(&scene);
    scene.run();
    let report = String::from_utf8(scene.inbox(ROSSI).pop().unwrap()).unwrap();
    for part in [
        &format!("Original-Recipient: {kept}\r\nFinal-Recipient: rfc822; {TO}\r\n"),
        "550 5.1.1 so called",
        "Content-Type: message/delivery-status\r\n",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    assert!(report.is_ascii());
}

/// Submits to [`TO`] and one of ours, asking for news of both outcomes; what came to the sender's INBOX after
/// the message was offered to the host, receipts of the certified recipient aside.
fn news_of(scene: &Scene, host: &Host, script: Script) -> Vec<String> {
    route(scene, host.address);
    let asked = " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;capo@altrove.example".to_owned();
    let wishes = Wishes { recipients: [(TO.to_owned(), asked)].into(), ..Wishes::default() };
    let to = [BIANCHI, TO];
    scene.submit_wishing(ROSSI, &to, &message(ROSSI, &to, "Offerta"), wishes).ok().unwrap();
    scene.run();
    host.next(script);
    pass(scene);
    scene.run();
    assert_eq!(waiting(scene), 0);
    let inbox = scene.inbox(ROSSI).split_off(2);
    inbox.into_iter().map(|octets| String::from_utf8(octets).unwrap()).collect()
}

// RFC 3461 §5.2.1, §5.2.2: who asked for news of success hears when it goes where nobody gives any.
#[test]
fn who_wants_news_of_success_has_them_of_the_last_host_that_knows_how() {
    let (scene, host) = (Scene::new(), Host::start());
    let news = news_of(&scene, &host, Script::default());
    assert_eq!(news.len(), 1);
    for part in [
        "ANOMALIA MESSAGGIO: Messaggio affidato al sistema di destinazione",
        "a un sistema che non da' altra notizia della consegna.",
        "Original-Recipient: rfc822;capo@altrove.example\r\n\
         Final-Recipient: rfc822; c@altrove.example\r\nAction: relayed\r\nStatus: 2.0.0\r\n",
        "250 2.0.0 taken",
    ] {
        assert!(news[0].contains(part), "no {part:?} in {}", news[0]);
    }
    // A host that takes the wish answers it itself, and a failure is told of as ever.
    let (scene, host) = (Scene::new(), Host::start());
    let news = news_of(&scene, &host, Script { offers: vec!["DSN"], ..Script::default() });
    assert_eq!(news, Vec::<String>::new());
    assert_eq!(host.taken().len(), 1);
    let (scene, host) = (Scene::new(), Host::start());
    let no = ("RCPT", "550 5.1.1 nobody".to_owned());
    let news = news_of(&scene, &host, Script { instead: vec![no], ..Script::default() });
    assert_eq!(news.len(), 1);
    assert!(news[0].contains("Action: failed\r\nStatus: 5.1.1\r\n"), "{}", news[0]);
}

// PEC-BT-15: what an operator gives up has failed, and its sender hears of it.
#[test]
fn who_sent_what_an_operator_gives_up_is_told() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    let to = [BIANCHI, TO];
    let id = scene.submit(ROSSI, &to, &message(ROSSI, &to, "Offerta"));
    scene.run();
    let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap();
    let rules = control::Rules::of(&scene.site.config.load());
    let cancel = control::Request::CancelJob { job: job.id.0 };
    let (said, _) = control::perform(&*scene.site.store, &rules, cancel, scene.site.clock.now());
    let done = control::Response::Done { text: format!("job {} is given up", job.id.0) };
    assert_eq!(said, done);
    // The commit that took the job away holds what tells of it.
    assert_eq!(waiting(&scene), 1);
    scene.run();
    pass(&scene);
    assert_eq!((waiting(&scene), host.taken().len()), (0, 0));
    let inbox = scene.inbox(ROSSI);
    assert_eq!(inbox.len(), 3);
    let report = String::from_utf8(inbox[2].clone()).unwrap();
    for part in [
        "ANOMALIA MESSAGGIO: Mancato recapito di un messaggio",
        "Final-Recipient: rfc822; c@altrove.example\r\nAction: failed\r\nStatus: 5.0.0\r\n\
         Diagnostic-Code: x-ceralacca; given up by the operator\r\n",
        &format!("Message-ID: <{id}>"),
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    let failed = scene.records(&id).into_iter().find(|r| r.event == "errore-trasmissione").unwrap();
    assert_eq!(failed.errore_esteso.as_deref(), Some("given up by the operator"));
}

// RFC 1870 §6.1, §6.3: a host's word about sizes is taken where it says no, and not where it says yes.
#[test]
fn a_host_that_lies_about_size_has_its_answer_told_to_the_sender() {
    let late = "552 5.3.4 too large after all".to_owned();
    for (offers, instead, status, why) in [
        // More than it takes: at MAIL, or at the end of the content.
        (
            vec!["SIZE 999999999"],
            vec![("MAIL", late.clone())],
            "5.3.4",
            "to MAIL: 552 5.3.4 too large",
        ),
        (vec!["SIZE"], vec![(".", late)], "5.3.4", "552 5.3.4 too large"),
        // Less than it would take: nothing is sent.
        (vec!["SIZE 10"], vec![], "5.0.0", "larger than the peer takes"),
    ] {
        let scene = Scene::new();
        let host = Host::start();
        let news = news_of(&scene, &host, Script { offers, instead, ..Script::default() });
        assert_eq!((news.len(), host.taken().len()), (1, 0), "{why}");
        let told = news[0].contains(&format!("Action: failed\r\nStatus: {status}\r\n"));
        assert!(told && news[0].contains(why), "no {why:?} in {}", news[0]);
    }
}
