//! Certified mail between two providers, each a process of its own, over SMTP with TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use scenarios::demo::PASSWORD;
use scenarios::pair::pair;
use scenarios::{Demo, Imap};

const MARIO: &str = "mario@pec.alfa.example";
const VERDI: &str = "verdi@pec.beta.example";
const NOBODY: &str = "nessuno@pec.beta.example";

fn field(octets: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(octets);
    let (header, _) = text.split_once("\r\n\r\n")?;
    let prefix = format!("{name}: ");
    header.split("\r\n").find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

fn letter(to: &[&str]) -> Vec<u8> {
    format!(
        "From: {MARIO}\r\nTo: {}\r\nSubject: Offerta\r\nMessage-ID: <1@pc.example>\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\n\r\nSi allega.\r\n",
        to.join(", ")
    )
    .into_bytes()
}

/// What each message of an INBOX is, in any order.
fn kinds(imap: &mut Imap) -> Vec<String> {
    let messages = imap.messages("INBOX").unwrap();
    let kind = |octets: &[u8]| field(octets, "X-Ricevuta").or(field(octets, "X-Trasporto"));
    let mut kinds: Vec<String> = messages.iter().filter_map(|(_, octets)| kind(octets)).collect();
    kinds.sort();
    kinds
}

// PEC-BT-13 PEC-PIC-02 PEC-PR-19 PEC-PC-02
#[test]
fn a_message_crosses_and_all_its_receipts_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (alfa, beta) = pair(folder.path(), &["mario"], &["verdi"]).unwrap();
    let (alfa_runs, beta_runs) =
        (Demo::serve(&alfa.data).unwrap(), Demo::serve(&beta.data).unwrap());
    let mut smtp = alfa_runs.submit_as(MARIO).unwrap();
    let id = smtp.submit(MARIO, &[VERDI, NOBODY], &letter(&[VERDI, NOBODY])).unwrap();

    let mut mario = alfa_runs.imap_as(MARIO).unwrap();
    mario.wait_for_count("INBOX", 3).unwrap();
    assert_eq!(kinds(&mut mario), ["accettazione", "avvenuta-consegna", "errore-consegna"]);
    let mut verdi = beta_runs.imap_as(VERDI).unwrap();
    verdi.wait_for_count("INBOX", 1).unwrap();
    let received = &verdi.messages("INBOX").unwrap()[0].1;
    assert_eq!(field(received, "X-Trasporto").as_deref(), Some("posta-certificata"));
    assert_eq!(field(received, "Return-Path"), Some(format!("<{MARIO}>")));
    assert_eq!(field(received, "Message-ID"), Some(format!("<{id}>")));

    // Who took it in charge says so to the provider, not to the user.
    let service = "ricevute@pec.alfa.example";
    scenarios::process::account(
        &alfa.data,
        &["passwd", service, "--password-stdin"],
        &format!("{PASSWORD}\n"),
    )
    .unwrap();
    let mut service = alfa_runs.imap_as(service).unwrap();
    service.wait_for_count("INBOX", 1).unwrap();
    assert_eq!(kinds(&mut service), ["presa-in-carico"]);

    // The log says how it travelled: encrypted, and whose certificate was seen.
    let log = alfa.command(&["log", "find", "--message-id", &id, "--json"]).unwrap();
    let sent: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &serde_json::Value| record["event"] == "trasmissione")
        .collect();
    assert_eq!(sent.len(), 2, "{log}");
    for record in &sent {
        assert_eq!(record["identificativo"], id);
        assert_eq!(record["mittente"], MARIO);
    }
    // Nothing waits on either side.
    alfa_runs.settle().unwrap();
    beta_runs.settle().unwrap();
    assert_eq!(alfa.command(&["queue", "list"]).unwrap(), "");
    for runs in [alfa_runs, beta_runs] {
        assert!(runs.stop().unwrap().success());
    }
}

// PEC-BT-14 PEC-BT-13: what waits for the other provider waits, and goes when it is there.
#[test]
fn a_message_waits_for_a_provider_that_is_down_also_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (alfa, beta) = pair(folder.path(), &["mario"], &["verdi"]).unwrap();
    let alfa_runs = Demo::serve(&alfa.data).unwrap();
    let id =
        alfa_runs.submit_as(MARIO).unwrap().submit(MARIO, &[VERDI], &letter(&[VERDI])).unwrap();
    let put_off = scenarios::wire::until("a first try", || {
        let list = alfa.command(&["queue", "list", "--json"])?;
        Ok(list
            .lines()
            .find(|line| line.contains("last_error") && line.contains("refused"))
            .map(str::to_owned))
    })
    .unwrap();
    let job: serde_json::Value = serde_json::from_str(&put_off).unwrap();
    assert_eq!(job["step"], "relay");
    assert_eq!(job["message_id"], id);
    assert_eq!(job["recipients"][0], VERDI);
    // An operator can give it up; the log says so.
    let second =
        alfa_runs.submit_as(MARIO).unwrap().submit(MARIO, &[VERDI], &letter(&[VERDI])).unwrap();
    let number = scenarios::wire::until("its job", || {
        let list = alfa.command(&["queue", "list", "--json"])?;
        let line = list.lines().find(|line| line.contains(&second) && line.contains("relay"));
        let job = line.map(serde_json::from_str::<serde_json::Value>).transpose()?;
        Ok(job.map(|job| job["job"].to_string()))
    })
    .unwrap();
    let told = alfa.command(&["queue", "cancel", &number]).unwrap();
    assert_eq!(told, format!("job {number} is given up\n"));
    let log = alfa.command(&["log", "find", "--message-id", &second, "--json"]).unwrap();
    assert!(
        log.contains("errore-trasmissione") && log.contains("given up by the operator"),
        "{log}"
    );
    let given_up = log.lines().find(|line| line.contains("given up")).unwrap();
    let given_up: serde_json::Value = serde_json::from_str(given_up).unwrap();
    assert_eq!(
        (&given_up["mittente"], &given_up["gestore"]),
        (&MARIO.into(), &"alfa PEC S.p.A.".into())
    );
    alfa_runs.kill().unwrap();

    let beta_runs = Demo::serve(&beta.data).unwrap();
    let alfa_runs = Demo::serve(&alfa.data).unwrap();
    let mut verdi = beta_runs.imap_as(VERDI).unwrap();
    verdi.wait_for_count("INBOX", 1).unwrap();
    let mut mario = alfa_runs.imap_as(MARIO).unwrap();
    mario.wait_for_count("INBOX", 3).unwrap();
    assert_eq!(kinds(&mut mario), ["accettazione", "accettazione", "avvenuta-consegna"]);
    assert_eq!(verdi.count("INBOX").unwrap(), 1);
}

// What was acknowledged reaches the other provider, whenever the sender dies.
#[test]
fn a_sender_that_is_killed_again_and_again_sends_everything() {
    const ROUNDS: usize = 4;
    const EACH: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let (alfa, beta) = pair(folder.path(), &["mario"], &["verdi"]).unwrap();
    let beta_runs = Demo::serve(&beta.data).unwrap();
    let mut submitted = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let alfa_runs = Demo::serve(&alfa.data).unwrap();
        let mut smtp = alfa_runs.submit_as(MARIO).unwrap();
        for _ in 0..EACH {
            submitted.insert(smtp.submit(MARIO, &[VERDI], &letter(&[VERDI])).unwrap());
        }
        // In the middle of what it does, each time a little later.
        let mut verdi = beta_runs.imap_as(VERDI).unwrap();
        verdi.wait_for_count("INBOX", (round * EACH + round) as u64).unwrap();
        alfa_runs.kill().unwrap();
    }
    let alfa_runs = Demo::serve(&alfa.data).unwrap();
    alfa_runs.settle().unwrap();
    beta_runs.settle().unwrap();
    let mut verdi = beta_runs.imap_as(VERDI).unwrap();
    let messages = verdi.messages("INBOX").unwrap();
    let identifiers: Vec<String> = messages
        .iter()
        .map(|(_, octets)| field(octets, "Message-ID").unwrap())
        .map(|id| id.trim_matches(['<', '>']).to_owned())
        .collect();
    let distinct: std::collections::BTreeSet<String> = identifiers.iter().cloned().collect();
    assert_eq!(distinct, submitted);
    // A kill may fall between the other's answer and our commit: then one is there twice.
    assert!(identifiers.len() <= submitted.len() + ROUNDS, "{identifiers:?}");
}
