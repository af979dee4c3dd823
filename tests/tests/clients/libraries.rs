//! Libraries that other people's programs read mail with: imapflow of Node, IMAPClient of Python. Each
//! spends a day in an account, says what it saw, and the store is looked at after it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use scenarios::demo::PASSWORD;
use scenarios::tools;

use super::lab::{Lab, MARIO, VERDI};

/// Runs a script in Mario's account, and has something delivered there when it idles.
fn day(lab: &Lab, mut script: Command) -> String {
    lab.two_receipts();
    script.args([&lab.port("imaps"), lab.ca(), "mrossi", PASSWORD]);
    let mut client = script.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(client.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "idling" {
            lab.submit("sverdi", VERDI, MARIO, "Risposta");
        }
        said += &format!("{line}\n");
    }
    assert!(client.wait().unwrap().success(), "{said}");
    said
}

/// Messages of a mailbox, as text.
fn texts(lab: &Lab, mailbox: &str) -> Vec<String> {
    let messages = lab.demo.imap_as("mrossi").unwrap().messages(mailbox).unwrap();
    messages.into_iter().map(|(_, octets)| String::from_utf8(octets).unwrap()).collect()
}

#[test]
fn imapflow_spends_a_day() {
    let lab = Lab::new();
    let said = day(&lab, tools::node("imapflow.mjs", "imapflow").unwrap());
    assert_eq!(said, include_str!("../../clients/imapflow.txt"));
    let kept = [r"$PecAccettazione", "Protocollato", r"\Seen"];
    assert_eq!(lab.flags("mrossi", "Attivit&AOA-"), [kept]);
    assert_eq!(lab.flags("mrossi", "INBOX"), [["$PecConsegna"], ["$PecBusta"]]);
    assert_eq!(lab.flags("mrossi", "Bozze"), [[r"\Draft"]]);
    let draft = "From: a@example.org\r\nSubject: Bozza\r\n\r\nPerché no?\r\n";
    assert_eq!(texts(&lab, "Bozze"), [draft]);
}

#[test]
fn imapclient_spends_a_day() {
    let lab = Lab::new();
    let said = day(&lab, tools::script_with("imapclient_day.py", "imapclient").unwrap());
    assert_eq!(said, include_str!("../../clients/imapclient_day.txt"));
    let folder = "Attivit&AOA- &- affari";
    let kept = vec!["$PecAccettazione", "Protocollato", r"\Seen"];
    assert_eq!(lab.flags("mrossi", folder), [vec![r"\Draft"], kept]);
    assert_eq!(lab.flags("mrossi", "INBOX"), [["$PecConsegna"], ["$PecBusta"]]);
    let draft = "From: a@example.org\r\nSubject: Bozza\r\n\r\nPerché no?\r\n";
    assert_eq!(texts(&lab, folder)[0], draft);
}
