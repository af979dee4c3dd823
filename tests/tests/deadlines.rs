//! A provider that is not there, and the two notices that its silence costs (RT §6.3.5), of a real
//! process that is killed between them; with deadlines of seconds instead of hours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use scenarios::pair::{Made, pair};
use scenarios::{Demo, receipts, wire};
use serde_json::Value;

const MARIO: &str = "mario@pec.alfa.example";
const VERDI: &str = "verdi@pec.beta.example";
/// When the notices are due, from the acceptance on.
const FIRST: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(8);

/// What listens where the other provider should: it accepts and says nothing, ever.
struct Silent {
    port: u16,
    stop: Option<Receiver<()>>,
}

impl Silent {
    fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (ended, stop) = channel();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((socket, _)) = listener.accept() {
                // Who stops us says so with one octet.
                let mut octet = [0];
                let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
                if matches!(std::io::Read::read(&mut &socket, &mut octet), Ok(1)) {
                    break;
                }
                held.push(socket);
            }
            drop(listener);
            let _ = ended.send(());
        });
        Self { port, stop: Some(stop) }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let mut last = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        std::io::Write::write_all(&mut last, b"x").unwrap();
        self.stop.take().unwrap().recv().unwrap();
    }
}

/// The messages of Mario's INBOX, by what they are.
fn inbox(runs: &Demo, kind: &str) -> Vec<Vec<u8>> {
    let all = runs.imap_as(MARIO).unwrap().messages("INBOX").unwrap();
    let field = format!("\r\nX-Ricevuta: {kind}\r\n");
    let is = |octets: &[u8]| String::from_utf8_lossy(octets).contains(&field);
    all.into_iter().map(|(_, octets)| octets).filter(|octets| is(octets)).collect()
}

fn records(alfa: &Made, id: &str, event: &str) -> Vec<Value> {
    let log = alfa.command(&["log", "find", "--message-id", id, "--json"]).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|record| record["event"] == event).collect()
}

/// The clock says so, and the program is not there to see it.
fn wait_until(due: Instant) {
    wire::until("a deadline", || Ok((Instant::now() >= due).then_some(()))).unwrap();
}

// PEC-TO-01 PEC-TO-02 PEC-TO-04 PEC-TO-06 PEC-TO-07 PEC-TO-08 PEC-TO-11 PEC-TO-12
#[test]
fn silence_is_told_of_twice_whatever_dies_meanwhile_and_a_late_receipt_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (alfa, beta) = pair(folder.path(), &["mario"], &["verdi"]).unwrap();
    let deadlines = format!(
        "[deadlines]\nfirst = \"{}s\"\nsecond = \"{}s\"",
        FIRST.as_secs(),
        SECOND.as_secs()
    );
    alfa.configure(&deadlines).unwrap();
    let ca = alfa.data.join("ca.pem");
    let silent = Silent::listen(beta.smtp);
    let letter = format!(
        "From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Offerta\r\nMessage-ID: <1@pc.example>\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\n\r\nSi allega.\r\n"
    );

    let runs = Demo::serve(&alfa.data).unwrap();
    let mut smtp = runs.submit_as(MARIO).unwrap();
    let id = smtp.submit(MARIO, &[VERDI], letter.as_bytes()).unwrap();
    let accepted = Instant::now();
    runs.imap_as(MARIO).unwrap().wait_for_count("INBOX", 2).unwrap();
    runs.kill().unwrap();
    // The second is due while nobody is there to give it, and the first was given.
    wait_until(accepted + SECOND);
    let runs = Demo::serve(&alfa.data).unwrap();
    runs.imap_as(MARIO).unwrap().wait_for_count("INBOX", 3).unwrap();
    // Killed at once, and again: nothing is given twice, however often it is looked for.
    runs.kill().unwrap();
    let runs = Demo::serve(&alfa.data).unwrap();

    assert_eq!(inbox(&runs, "accettazione").len(), 1);
    let notices = inbox(&runs, "preavviso-errore-consegna");
    let [first, second] = &notices[..] else { panic!("{} notices", notices.len()) };
    for (notice, hours) in [(first, "nelle prime dodici ore"), (second, "nelle ventiquattro ore")] {
        let xml = receipts::certified(&ca, notice).unwrap();
        for part in [
            "<postacert tipo=\"preavviso-errore-consegna\" errore=\"altro\">",
            &format!("<identificativo>{id}</identificativo>"),
            &format!("<consegna>{VERDI}</consegna>"),
            hours,
        ] {
            assert!(xml.contains(part), "{part}: {xml}");
        }
        let text = String::from_utf8_lossy(notice);
        assert!(text.contains("X-Riferimento-Message-ID: <1@pc.example>\r\n"), "{text}");
        assert!(!text.contains("postacert.eml"), "without the original: {text}");
    }
    let told = records(&alfa, &id, "preavviso-errore-consegna");
    let ids: Vec<&str> = told.iter().map(|record| record["message_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{told:?}");
    for (notice, id) in notices.iter().zip(ids) {
        let field = format!("\r\nMessage-ID: <{id}>\r\n");
        assert!(String::from_utf8_lossy(notice).contains(&field), "{id}");
    }

    // The other provider comes back: what it says late is told like anything else.
    drop(silent);
    let beta_runs = Demo::serve(&beta.data).unwrap();
    wire::until("the message, tried again", || {
        alfa.command(&["queue", "retry"])?;
        Ok((beta_runs.imap_as(VERDI)?.count("INBOX")? == 1).then_some(()))
    })
    .unwrap();
    runs.imap_as(MARIO).unwrap().wait_for_count("INBOX", 4).unwrap();
    let [late] = &inbox(&runs, "avvenuta-consegna")[..] else { panic!("no receipt") };
    let xml = receipts::certified(&beta.data.join("ca.pem"), late).unwrap();
    assert!(xml.contains(&format!("<identificativo>{id}</identificativo>")), "{xml}");
    // And nothing more follows.
    runs.settle().unwrap();
    assert_eq!(inbox(&runs, "preavviso-errore-consegna").len(), 2);
    assert_eq!(records(&alfa, &id, "preavviso-errore-consegna").len(), 2);
    for runs in [runs, beta_runs] {
        assert!(runs.stop().unwrap().success());
    }
}
