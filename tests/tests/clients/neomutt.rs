//! NeoMutt on a terminal of its own: its keys are pushed, what it did is looked for on the server.

use std::path::Path;
use std::process::Command;

use scenarios::demo::PASSWORD;
use scenarios::tools::{run, tool};

use super::lab::{Lab, MARIO, VERDI};

/// Opens Mario's INBOX with these keys pushed, and yields its own log of the session.
fn neomutt(lab: &Lab, keys: &str) -> String {
    let folder = lab.folder.path();
    let settings = folder.join("neomuttrc");
    let text = include_str!("../../clients/neomuttrc")
        .replace("{imaps}", &lab.port("imaps"))
        .replace("{submissions}", &lab.port("submissions"))
        .replace("{password}", PASSWORD)
        .replace("{from}", MARIO)
        .replace("{ca}", lab.ca())
        .replace("{folder}", folder.to_str().unwrap());
    std::fs::write(&settings, text).unwrap();
    std::fs::write(folder.join("body"), "Buongiorno, in allegato nulla.\n").unwrap();
    let log = folder.join("debug0");
    // Of an earlier session.
    let _ = std::fs::remove_file(&log);
    tool("neomutt", "neomutt").unwrap();
    let command = format!(
        "neomutt -n -F {} -d 2 -l {} -e 'push \"{keys}\"'",
        settings.display(),
        folder.join("debug").display()
    );
    let mut terminal = on_a_terminal(&command, folder);
    let told = run(&mut terminal).unwrap();
    assert_eq!(told.status, Some(0), "{told}");
    std::fs::read_to_string(&log).unwrap_or_else(|error| panic!("no log: {error}: {told}"))
}

/// `script` gives it a terminal, and throws away what it draws.
fn on_a_terminal(command: &str, folder: &Path) -> Command {
    let mut terminal = tool("script", "bsdutils").unwrap();
    terminal.args(["--quiet", "--return", "--command", command, "/dev/null"]);
    terminal.env("TERM", "xterm").env("HOME", folder).env("LC_ALL", "C.UTF-8");
    terminal
}

/// The commands that it sent, without tags and passwords.
fn commands(log: &str) -> Vec<&str> {
    let sent = log.lines().filter_map(|line| line.split_once("> a0").map(|(_, sent)| sent));
    sent.filter_map(|sent| sent.split_once(' ').map(|(_, command)| command)).collect()
}

/// It sends over 465, keeps its own copy by APPEND, reads what came, flags, files and deletes it, is
/// told of more while it idles, and finds all of it in its cache the next time, by QRESYNC.
#[test]
fn neomutt_spends_a_day() {
    let lab = Lab::new();
    let log = neomutt(&lab, &format!("<mail>{VERDI}<enter>Offerta<enter><send-message><quit>"));
    assert!(log.contains("Mail sent"), "{log}");
    lab.wait_for("mrossi", 2);
    let mut imap = lab.demo.imap_as("mrossi").unwrap();
    let copies = imap.messages("Posta inviata").unwrap();
    let copy = String::from_utf8(copies[0].1.clone()).unwrap();
    assert_eq!(copies.len(), 1);
    assert!(copy.contains("\r\nSubject: Offerta\r\n"), "{copy}");
    assert!(copy.ends_with("\r\n\r\nBuongiorno, in allegato nulla.\r\n"), "{copy}");
    let received = lab.demo.imap_as("sverdi").unwrap().messages("INBOX").unwrap();
    let received = String::from_utf8(received[0].1.clone()).unwrap();
    assert!(received.contains("Buongiorno, in allegato nulla."), "{received}");

    // Reads the delivery receipt, pipes it out, marks it, files the acceptance, and throws nothing away.
    let read = lab.folder.path().join("read.eml");
    let log = neomutt(
        &lab,
        &format!(
            "<last-entry><display-message><exit><pipe-message>cat > {}<enter><flag-message>\
             <first-entry><save-message>+Archivio<enter><sync-mailbox><quit>",
            read.display()
        ),
    );
    let said = commands(&log);
    assert!(said.contains(&"SELECT \"INBOX\" (CONDSTORE)"), "{said:?}");
    let delivery = String::from_utf8(imap.messages("INBOX").unwrap()[0].1.clone()).unwrap();
    assert!(delivery.contains("\r\nX-Ricevuta: avvenuta-consegna\r\n"), "{delivery}");
    let shown = std::fs::read_to_string(read).unwrap();
    assert!(shown.contains("X-Ricevuta: avvenuta-consegna"), "{shown}");
    assert_eq!(lab.flags("mrossi", "INBOX"), [vec!["$PecConsegna", r"\Flagged", r"\Seen"]]);
    let archive = imap.fetch_all("Archivio", "BODY.PEEK[HEADER.FIELDS (X-Ricevuta)]").unwrap();
    assert_eq!(archive.len(), 1);
    assert_eq!(archive[0].1, b"X-Ricevuta: accettazione\r\n\r\n");
}

/// Where the server keeps a copy, a client that forgets has one, and one that does not has its own.
#[test]
fn there_is_one_copy_of_what_neomutt_sends_whether_it_keeps_one_or_not() {
    let lab = Lab::with_configuration("\n[submission]\nkeep_sent_copy = true\n");
    let send = |more: &str, subject: &str| {
        let keys = format!("{more}<mail>{VERDI}<enter>{subject}<enter><send-message><quit>");
        let log = neomutt(&lab, &keys);
        assert!(log.contains("Mail sent"), "{log}");
    };
    let mut imap = lab.demo.imap_as("mrossi").unwrap();
    let octets = |imap: &mut scenarios::Imap| {
        let replies = imap.ok("GETQUOTA \"\"").unwrap();
        String::from_utf8(replies.untagged[0].clone()).unwrap()
    };
    send("<enter-command>unset copy<enter>", "Senza copia");
    lab.wait_for("mrossi", 2);
    assert_eq!(imap.count("Posta inviata").unwrap(), 1);
    send("", "Con copia");
    lab.wait_for("mrossi", 4);
    let subjects = imap.fetch_all("Posta inviata", "BODY.PEEK[HEADER.FIELDS (Subject)]").unwrap();
    let subjects: Vec<_> =
        subjects.iter().map(|(uid, field)| (*uid, String::from_utf8_lossy(field))).collect();
    // The third UID: the second was the server's, for as long as the client took to say APPEND.
    assert_eq!(subjects[0], (1, "Subject: Senza copia\r\n\r\n".into()));
    assert_eq!(subjects[1..], [(3, "Subject: Con copia\r\n\r\n".into())]);
    let flags = lab.flags("mrossi", "Posta inviata");
    assert!(flags[0].contains(&"$PecCopia".to_owned()), "{flags:?}");
    assert!(!flags[1].contains(&"$PecCopia".to_owned()), "{flags:?}");
    for flags in &flags {
        assert!(flags.contains(&r"\Seen".to_owned()), "{flags:?}");
    }
    // What is charged is what is there.
    let all = ["INBOX", "Posta inviata"].map(|mailbox| imap.messages(mailbox).unwrap());
    let there: usize = all.iter().flatten().map(|(_, octets)| octets.len()).sum();
    let charged = octets(&mut imap);
    let expected = format!("(STORAGE {} ", there.div_ceil(1024));
    assert!(charged.contains(&expected), "{charged} is not {there} octets");
}
