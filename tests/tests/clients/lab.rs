//! The provider that all clients are let loose on, and its state as another client sees it.

use std::path::PathBuf;

use scenarios::Demo;

pub(crate) const MARIO: &str = "mario.rossi@pec.alfa.example";
pub(crate) const VERDI: &str = "studio.verdi@pec.beta.example";
pub(crate) const COMUNE: &str = "comune@pec.beta.example";

/// A demo provider and a folder beside it.
pub(crate) struct Lab {
    pub(crate) demo: Demo,
    pub(crate) folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start(&folder.path().join("demo")).unwrap();
        Self { demo, folder }
    }

    /// With this at the end of its configuration.
    pub(crate) fn with_configuration(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start_changed(&folder.path().join("demo"), &[], more).unwrap();
        Self { demo, folder }
    }

    pub(crate) fn port(&self, service: &str) -> String {
        self.demo.address(service).unwrap().port().to_string()
    }

    pub(crate) fn ca(&self) -> &str {
        self.demo.ready["ca"].as_str().unwrap()
    }

    /// A file with a message for the clients that send files.
    pub(crate) fn message(&self, subject: &str, message_id: &str) -> PathBuf {
        let path = self.folder.path().join("message.eml");
        let text = format!(
            "From: {MARIO}\r\nTo: {COMUNE}\r\nSubject: {subject}\r\nMessage-ID: {message_id}\r\n\r\n\
             Buongiorno.\r\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// One header field of each message of an INBOX, in the order of the UIDs.
    pub(crate) fn headers(&self, login: &str, field: &str) -> Vec<String> {
        let mut imap = self.demo.imap_as(login).unwrap();
        let item = format!("BODY.PEEK[HEADER.FIELDS ({field})]");
        let headers = imap.fetch_all("INBOX", &item).unwrap();
        headers.into_iter().map(|(_, octets)| value(&octets)).collect()
    }

    /// What Mario's INBOX begins with in most of these tests: an acceptance and a delivery receipt.
    pub(crate) fn two_receipts(&self) {
        self.submit("mrossi", MARIO, VERDI, "Offerta");
        self.wait_for("mrossi", 2);
    }

    /// Has a certified message sent, as somebody else than the client in the test.
    pub(crate) fn submit(&self, login: &str, from: &str, to: &str, subject: &str) {
        let message = format!(
            "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\
             Message-ID: <{subject}@client.example>\r\n\r\nBuongiorno.\r\n"
        );
        self.demo.submit_as(login).unwrap().submit(from, &[to], message.as_bytes()).unwrap();
    }

    /// The flags of each message of a mailbox, each list in the order of its words, but for `\Recent`: who
    /// saw it first is no matter here.
    pub(crate) fn flags(&self, login: &str, mailbox: &str) -> Vec<Vec<String>> {
        let mut imap = self.demo.imap_as(login).unwrap();
        imap.ok(&format!("EXAMINE \"{mailbox}\"")).unwrap();
        let replies = imap.ok("UID FETCH 1:* (FLAGS)").unwrap();
        let lines = replies.untagged.iter().map(|line| String::from_utf8_lossy(line));
        lines
            .map(|line| {
                let (_, flags) = line.split_once("FLAGS (").unwrap();
                let words = flags.split(')').next().unwrap().split_whitespace();
                let words = words.filter(|word| *word != r"\Recent");
                let mut words: Vec<String> = words.map(str::to_owned).collect();
                words.sort();
                words
            })
            .collect()
    }

    pub(crate) fn wait_for(&self, login: &str, count: u64) {
        self.demo.imap_as(login).unwrap().wait_for_count("INBOX", count).unwrap();
    }
}

/// The value of a header field fetched alone, unfolded.
fn value(field: &[u8]) -> String {
    let text = String::from_utf8(field.to_vec()).unwrap().replace("\r\n ", " ");
    text.split_once(": ").map_or("", |(_, value)| value.trim_end()).to_owned()
}
