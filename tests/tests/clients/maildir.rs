//! Programs that keep a Maildir and an account the same: mbsync and OfflineIMAP.

use std::path::{Path, PathBuf};

use scenarios::demo::PASSWORD;
use scenarios::tools::{run, tool};

use super::lab::{Lab, MARIO, VERDI};

/// What such a program has in a Maildir after a run, with the flags in each name.
struct Maildir {
    folder: PathBuf,
    settings: PathBuf,
    program: Program,
}

#[derive(Clone, Copy)]
enum Program {
    Mbsync,
    OfflineImap,
}

impl Maildir {
    fn new(lab: &Lab, login: &str, program: Program) -> Self {
        let folder = lab.folder.path().join("maildir");
        std::fs::create_dir(&folder).unwrap();
        let settings = lab.folder.path().join("settings");
        let text = match program {
            Program::Mbsync => include_str!("../../clients/mbsyncrc"),
            Program::OfflineImap => include_str!("../../clients/offlineimaprc"),
        };
        let text = text
            .replace("{port}", &lab.port("imaps"))
            .replace("{login}", login)
            .replace("{password}", PASSWORD)
            .replace("{ca}", lab.ca())
            .replace("{maildir}", folder.to_str().unwrap())
            .replace("{metadata}", lab.folder.path().join("metadata").to_str().unwrap());
        std::fs::write(&settings, text).unwrap();
        Self { folder, settings, program }
    }

    fn sync(&self) {
        let told = match self.program {
            Program::Mbsync => {
                let mut mbsync = tool("mbsync", "isync").unwrap();
                run(mbsync.arg("--config").arg(&self.settings).arg("all"))
            }
            Program::OfflineImap => {
                let mut offlineimap = tool("offlineimap", "offlineimap3").unwrap();
                run(offlineimap.args(["-o", "-u", "quiet", "-c"]).arg(&self.settings))
            }
        };
        let told = told.unwrap();
        assert_eq!((told.status, told.err.as_str()), (Some(0), ""), "{told}");
    }

    /// Path and flags of each message of a mailbox, in the order of their UIDs.
    fn messages(&self, mailbox: &str) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for part in ["new", "cur"] {
            for entry in std::fs::read_dir(self.folder.join(mailbox).join(part)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let flags = name.split_once(":2,").map_or("", |(_, flags)| flags).to_owned();
                let uid = name.split_once("U=").unwrap().1;
                let uid: u32 = uid.split([':', ',']).next().unwrap().parse().unwrap();
                found.push((uid, path, flags));
            }
        }
        found.sort();
        found.into_iter().map(|(_, path, flags)| (path, flags)).collect()
    }

    fn flags(&self, mailbox: &str) -> Vec<String> {
        self.messages(mailbox).into_iter().map(|(_, flags)| flags).collect()
    }

    /// Gives a message other flags, as a local mail program does.
    fn mark(&self, path: &Path, flags: &str) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let base = name.split(":2,").next().unwrap();
        let cur = path.parent().unwrap().with_file_name("cur");
        std::fs::rename(path, cur.join(format!("{base}:2,{flags}"))).unwrap();
    }
}

/// OfflineIMAP writes a message again: each field folded as it likes, and an empty line where a multipart
/// ends inside another. So its copy is not what was signed; the server's stays as it is.
fn unfolded(message: &str) -> String {
    let unfolded = message.replace("\r\n\t", " ").replace("\r\n ", " ");
    unfolded.replace("--\r\n\r\n--", "--\r\n--")
}

/// Both mark each message that they copy with a field of their own, to find it again.
fn without_mark(message: &str) -> String {
    let is_mark = |line: &&str| line.starts_with("X-TUID: ") || line.starts_with("X-OfflineIMAP: ");
    message.split_inclusive('\n').filter(|line| !is_mark(line)).collect()
}

/// A mailbox is the same on both sides: what is delivered, marked, written and deleted on one shows
/// on the other after a run, and a run with nothing to do changes nothing.
fn two_sides_stay_the_same(program: Program) {
    let lab = Lab::new();
    let mut smtp = lab.demo.submit_as("mrossi").unwrap();
    for number in 1..=4 {
        let message =
            format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Atto {number}\r\n\r\nciao\r\n");
        smtp.submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
    }
    lab.wait_for("sverdi", 4);
    let mut imap = lab.demo.imap_as("sverdi").unwrap();
    let maildir = Maildir::new(&lab, "sverdi", program);
    maildir.sync();
    let mut mailboxes: Vec<_> = std::fs::read_dir(&maildir.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    mailboxes.sort();
    assert_eq!(
        mailboxes,
        ["Archivio", "Bozze", "Cestino", "INBOX", "Posta indesiderata", "Posta inviata"]
    );
    let served = imap.messages("INBOX").unwrap();
    let local = maildir.messages("INBOX");
    assert_eq!(local.len(), 4);
    for ((_, octets), (path, _)) in served.iter().zip(&local) {
        let kept = without_mark(&std::fs::read_to_string(path).unwrap()).replace('\n', "\r\n");
        let served = String::from_utf8_lossy(octets);
        match program {
            Program::Mbsync => assert!(kept == served, "not the same octets:\n{kept}"),
            Program::OfflineImap => {
                assert_eq!(unfolded(&kept), unfolded(&served), "beside its own folding");
            }
        }
    }

    // Marked here and there, deleted here and there, written here.
    imap.ok("SELECT INBOX").unwrap();
    imap.ok(r"UID STORE 1 +FLAGS (\Flagged)").unwrap();
    maildir.mark(&local[1].0, "RS");
    imap.ok(r"UID STORE 3 +FLAGS (\Deleted)").unwrap();
    imap.ok("UID EXPUNGE 3").unwrap();
    match program {
        Program::Mbsync => maildir.mark(&local[3].0, "ST"),
        // To it, a message that is only marked so is still there.
        Program::OfflineImap => std::fs::remove_file(&local[3].0).unwrap(),
    }
    let draft = "From: studio.verdi@pec.beta.example\nSubject: Bozza\n\nTesto\n";
    std::fs::write(maildir.folder.join("Bozze/cur/1.draft.here:2,D"), draft).unwrap();
    maildir.sync();
    assert_eq!(maildir.flags("INBOX"), ["F", "RS"]);
    imap.ok("SELECT INBOX").unwrap();
    let flags = imap.ok("UID FETCH 1:* (FLAGS)").unwrap().untagged;
    let flags: Vec<_> = flags.iter().map(|line| String::from_utf8_lossy(line)).collect();
    assert_eq!(
        flags,
        [
            r"* 1 FETCH (UID 1 FLAGS (\Flagged $PecBusta))",
            r"* 2 FETCH (UID 2 FLAGS (\Answered \Seen $PecBusta))"
        ]
    );
    let uploaded = imap.messages("Bozze").unwrap();
    assert_eq!(uploaded.len(), 1);
    let uploaded = String::from_utf8(uploaded[0].1.clone()).unwrap().replace("\r\n", "\n");
    assert_eq!(without_mark(&uploaded), draft);

    // Nothing to do, nothing done.
    let before = (maildir.messages("INBOX"), maildir.messages("Bozze"));
    maildir.sync();
    assert_eq!((maildir.messages("INBOX"), maildir.messages("Bozze")), before);
    assert_eq!(imap.count("Bozze").unwrap(), 1);
    // A new message reaches the other side.
    smtp.submit(
        MARIO,
        &[VERDI],
        format!("From: {MARIO}\r\nTo: {VERDI}\r\n\r\nciao\r\n").as_bytes(),
    )
    .unwrap();
    imap.wait_for_count("INBOX", 3).unwrap();
    maildir.sync();
    assert_eq!(maildir.flags("INBOX"), ["F", "RS", ""]);
}

#[test]
fn mbsync_keeps_two_sides_the_same() {
    two_sides_stay_the_same(Program::Mbsync);
}

#[test]
fn offlineimap_keeps_two_sides_the_same() {
    two_sides_stay_the_same(Program::OfflineImap);
}
