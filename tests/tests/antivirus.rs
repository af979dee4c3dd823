//! A real clamd beside a demo provider: what is infected goes nowhere but into the quarantine, its
//! sender is told, and while clamd is down nothing is certified.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scenarios::demo::{PASSWORD, free_port_base};
use scenarios::peers::{self, Clamd};
use scenarios::process::{self, SERVICE_MAILBOX};
use scenarios::{Demo, Smtp, receipts};
use serde_json::Value;

const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";
const COMUNE: &str = "comune@pec.beta.example";
/// What only the second signature finds, and only in a transport envelope: as a scanner would that
/// learned of a virus meanwhile.
const WORM: &str = "questo-e-il-verme-di-prova";

fn signatures() -> [(&'static str, String); 2] {
    let envelope = peers::hex("X-Trasporto: posta-certificata");
    [
        ("prova.ndb", format!("Prova.Eicar:0:*:{}\n", peers::hex(&peers::eicar()))),
        ("prova.ldb", format!("Prova.Verme;Target:0;(0&1);{};{envelope}\n", peers::hex(WORM))),
    ]
}

/// A message with an attachment, and a first field that no scanner knows.
fn message(subject: &str, to: &[&str], attachment: &str) -> String {
    format!(
        "X-Nota: prova\r\nFrom: {MARIO}\r\nTo: {}\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@client.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
         Si allega.\r\n--b\r\nContent-Type: application/octet-stream; name=\"a.com\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        to.join(", "),
        STANDARD.encode(attachment)
    )
}

/// A demo provider that has its messages scanned at `place`.
fn start(data: &Path, place: &str) -> Demo {
    let base = free_port_base().unwrap();
    // The first start makes the folder.
    let made = Demo::start_with(data, base, &[]).unwrap();
    process::open_service_mailbox(data, PASSWORD).unwrap();
    assert!(made.stop().unwrap().success());
    let file = data.join("ceralacca.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[antivirus]\nclamd = \"{place}\"\n")).unwrap();
    Demo::start_with(data, base, &[]).unwrap()
}

fn quarantine(data: &Path, arguments: &[&str]) -> Vec<u8> {
    let config = data.join("ceralacca.toml");
    let arguments = [&["quarantine"], arguments, &["--config", config.to_str().unwrap()]].concat();
    let output = process::run(&arguments, "").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn kept(data: &Path) -> Vec<Value> {
    let listed = String::from_utf8(quarantine(data, &["list", "--json"])).unwrap();
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn certified(ca: &Path, octets: &[u8]) -> String {
    receipts::certified(ca, octets).unwrap()
}

fn header(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ")
}

fn inbox(demo: &Demo, login: &str, count: u64) -> Vec<Vec<u8>> {
    let mut imap = demo.imap_as(login).unwrap();
    imap.wait_for_count("INBOX", count).unwrap();
    imap.messages("INBOX").unwrap().into_iter().map(|(_, octets)| octets).collect()
}

/// Submits, and tells the reply to the end of data.
fn end_of_data(smtp: &mut Smtp, message: &str) -> String {
    for (command, code) in [
        (format!("MAIL FROM:<{MARIO}>"), "250"),
        (format!("RCPT TO:<{VERDI}>"), "250"),
        ("DATA".into(), "354"),
    ] {
        smtp.command(&command, code).unwrap();
    }
    smtp.wire.write(&scenarios::smtp::stuffed(message.as_bytes())).unwrap();
    smtp.reply().unwrap()
}

// PEC-AP-26 PEC-AP-27 PEC-NA-05 PEC-NA-06 PEC-NA-07 PEC-NA-08 PEC-GEN-06 PEC-VIR-01 PEC-VIR-02
// PEC-VIR-03 PEC-PR-20 PEC-PR-24 PEC-PR-31 PEC-RV-01 PEC-RV-02 PEC-RV-03 PEC-RV-05 PEC-RV-06
// PEC-MCV-01 PEC-MCV-02 PEC-MCV-04 PEC-MCV-05 PEC-LOG-09
#[test]
fn what_is_infected_is_kept_and_told_of_and_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let mut clamd = Clamd::start(folder.path(), &signatures()).unwrap();
    let demo = start(&data, &clamd.place());
    let ca = data.join("ca.pem");
    let mut smtp = demo.submit_as("mrossi").unwrap();

    // Found at the access point.
    let infected = message("infetto", &[VERDI, COMUNE], &peers::eicar());
    let id = smtp.submit(MARIO, &[VERDI, COMUNE], infected.as_bytes()).unwrap();
    let [notice] = &inbox(&demo, "mrossi", 1)[..] else { panic!("not one notice") };
    let head = header(notice);
    for field in [
        "X-Ricevuta: non-accettazione",
        "X-VerificaSicurezza: errore",
        "Subject: AVVISO DI NON ACCETTAZIONE PER VIRUS: infetto",
        "X-Riferimento-Message-ID: <infetto@client.example>",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    let xml = certified(&ca, notice);
    let begin = "<postacert tipo=\"non-accettazione\" errore=\"virus\">";
    assert!(xml.contains(begin) && xml.contains(&id) && xml.contains("Prova.Eicar"), "{xml}");

    // Found at the incoming point, in the envelope: a notice a recipient, and one to the sender.
    let worm = message("verme", &[VERDI, COMUNE], "nulla").replace("Si allega.", WORM);
    let id = smtp.submit(MARIO, &[VERDI, COMUNE], worm.as_bytes()).unwrap();
    let service = inbox(&demo, SERVICE_MAILBOX, 3);
    let mario = inbox(&demo, "mrossi", 4);
    demo.settle().unwrap();
    assert!(header(&service[0]).contains("X-Ricevuta: presa-in-carico"));
    let mut told = Vec::new();
    for notice in &service[1..] {
        let head = header(notice);
        assert!(head.contains("X-Ricevuta: rilevazione-virus"), "{head}");
        assert!(head.contains(&format!("X-Mittente: {MARIO}")), "{head}");
        assert!(head.contains("Subject: PROBLEMA DI SICUREZZA: verme"), "{head}");
        told.push(certified(&ca, notice));
    }
    for recipient in [VERDI, COMUNE] {
        let consegna = format!("<consegna>{recipient}</consegna>");
        assert_eq!(told.iter().filter(|xml| xml.contains(&consegna)).count(), 1, "{recipient}");
    }
    assert!(header(&mario[1]).contains("X-Ricevuta: accettazione"));
    let mut told = Vec::new();
    for notice in &mario[2..] {
        let head = header(notice);
        assert!(head.contains("X-Ricevuta: errore-consegna"), "{head}");
        assert!(head.contains("X-VerificaSicurezza: errore"), "{head}");
        assert!(head.contains("Subject: AVVISO DI MANCATA CONSEGNA PER VIRUS: verme"), "{head}");
        let xml = certified(&ca, notice);
        assert!(xml.contains("<postacert tipo=\"errore-consegna\" errore=\"virus\">"), "{xml}");
        assert!(xml.contains(&id) && xml.contains("Prova.Verme"), "{xml}");
        told.push(xml);
    }
    for recipient in [VERDI, COMUNE] {
        let consegna = format!("<consegna>{recipient}</consegna>");
        assert_eq!(told.iter().filter(|xml| xml.contains(&consegna)).count(), 1, "{recipient}");
    }
    for login in ["sverdi", "comune"] {
        assert_eq!(demo.imap_as(login).unwrap().count("INBOX").unwrap(), 0);
    }

    // Down: nothing is certified. Up again: what is clean is delivered.
    clamd.stop();
    let clean = message("pulito", &[VERDI], "nulla");
    assert_eq!(
        end_of_data(&mut smtp, &clean),
        "451 4.7.0 Messages cannot be scanned for viruses now, try again later"
    );
    clamd.resume().unwrap();
    smtp.submit(MARIO, &[VERDI], clean.as_bytes()).unwrap();
    assert!(header(&inbox(&demo, "sverdi", 1)[0]).contains("Subject: POSTA CERTIFICATA: pulito"));

    // The quarantine, with the server running and stopped.
    let running = kept(&data);
    assert_eq!(running.len(), 2, "{running:?}");
    assert_eq!(running[0]["point"], "accesso");
    assert_eq!(running[0]["virus"], "Prova.Eicar.UNOFFICIAL");
    assert_eq!(running[0]["mittente"], MARIO);
    assert_eq!(running[1]["point"], "ricezione");
    assert_eq!(running[1]["identificativo"], id);
    let original = quarantine(&data, &["export", "1"]);
    assert!(original == infected.as_bytes(), "not as it was received");
    let report = quarantine(&data, &["report", "--json"]);
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["Prova.Verme.UNOFFICIAL"]["count"], 2, "{report}");
    demo.settle().unwrap();
    assert!(demo.stop().unwrap().success());
    assert_eq!(kept(&data), running);
    let out = folder.path().join("1.eml");
    quarantine(&data, &["export", "1", "--output", out.to_str().unwrap()]);
    assert!(std::fs::read(&out).unwrap() == infected.as_bytes());
}
