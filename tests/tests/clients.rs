//! Real clients against a demo provider: Python's smtplib and imaplib, curl, swaks, mbsync,
//! Thunderbird. What they do is told by their own logs and checked on the server by another client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use scenarios::Demo;
use scenarios::demo::PASSWORD;
use scenarios::tools::{self, run, script, tool};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";
const COMUNE: &str = "comune@pec.beta.example";

/// A client in IDLE is told by itself: long before the two minutes after which the server next says
/// anything on its own. How fast is a benchmark's question (`receipt_latency`).
const IDLE_WAIT: Duration = Duration::from_secs(30);

struct Lab {
    demo: Demo,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start(&folder.path().join("demo")).unwrap();
        Self { demo, folder }
    }

    fn port(&self, service: &str) -> String {
        self.demo.address(service).unwrap().port().to_string()
    }

    fn ca(&self) -> &str {
        self.demo.ready["ca"].as_str().unwrap()
    }

    /// A file with a message for the clients that send files.
    fn message(&self, subject: &str, message_id: &str) -> PathBuf {
        let path = self.folder.path().join("message.eml");
        let text = format!(
            "From: {MARIO}\r\nTo: {COMUNE}\r\nSubject: {subject}\r\nMessage-ID: {message_id}\r\n\r\n\
             Buongiorno.\r\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// One header field of each message of an INBOX, in the order of the UIDs.
    fn headers(&self, login: &str, field: &str) -> Vec<String> {
        let mut imap = self.demo.imap_as(login).unwrap();
        let item = format!("BODY.PEEK[HEADER.FIELDS ({field})]");
        let headers = imap.fetch_all("INBOX", &item).unwrap();
        headers.into_iter().map(|(_, octets)| value(&octets)).collect()
    }

    fn wait_for(&self, login: &str, count: u64) {
        self.demo.imap_as(login).unwrap().wait_for_count("INBOX", count).unwrap();
    }
}

/// The value of a header field fetched alone, unfolded.
fn value(field: &[u8]) -> String {
    let text = String::from_utf8(field.to_vec()).unwrap().replace("\r\n ", " ");
    text.split_once(": ").map_or("", |(_, value)| value.trim_end()).to_owned()
}

/// Every way in that a submission has, with every mechanism: the same two receipts come, each with
/// the identifier by which a client joins them to what it sent.
// PEC-SEC-05
#[test]
fn smtplib_submits_on_every_port_with_every_mechanism() {
    let lab = Lab::new();
    let ways = [
        ("tls", "submissions", "PLAIN", "mrossi"),
        ("tls", "submissions", "LOGIN", MARIO),
        ("tls", "submissions", "SCRAM-SHA-256", MARIO),
        ("starttls", "submission", "PLAIN", MARIO),
        ("starttls", "submission", "LOGIN", "mrossi"),
        ("starttls", "submission", "SCRAM-SHA-256", "mrossi"),
        ("starttls", "smtp", "PLAIN", "mrossi"),
        ("starttls", "smtp", "LOGIN", MARIO),
        ("starttls", "smtp", "SCRAM-SHA-256", "mrossi"),
    ];
    let (mut sent, mut subjects) = (Vec::new(), Vec::new());
    for (number, (mode, service, mechanism, login)) in ways.into_iter().enumerate() {
        let subject = format!("{service} {mechanism}");
        let message_id = format!("<{number}@client.example>");
        let mut submit = script("submit.py").unwrap();
        submit.args([mode, &lab.port(service), mechanism, lab.ca(), login, PASSWORD]);
        submit.args([MARIO, VERDI, &subject, &message_id]);
        let mut said = String::new();
        if mode == "starttls" {
            // PEC-AP-01: no credentials, and so no message, before the channel is protected.
            said += "in clear: no AUTH\n";
        }
        said += "offered: LOGIN PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS\n\
                 auth: 235 2.7.0 Authentication succeeded\n";
        if mechanism == "SCRAM-SHA-256" {
            said += "the server proved that it knows the password: True\n";
        }
        said += "refused: {}\nquit: 221 b'2.0.0 Closing, goodbye'\n";
        assert_eq!(run(&mut submit).unwrap().ok().unwrap(), said);
        lab.wait_for("mrossi", 2 * (number as u64 + 1));
        sent.extend([message_id.clone(), message_id]);
        subjects.extend([format!("ACCETTAZIONE: {subject}"), format!("CONSEGNA: {subject}")]);
    }
    assert_eq!(lab.headers("mrossi", "Subject"), subjects);
    assert_eq!(lab.headers("mrossi", "X-Riferimento-Message-ID"), sent);
    assert_eq!(lab.headers("sverdi", "Subject").len(), ways.len());
}

/// RFC 4954 §6: a wrong password is 535, and nothing is sent.
#[test]
fn smtplib_is_refused_with_a_wrong_password() {
    let lab = Lab::new();
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
        let mut submit = script("submit.py").unwrap();
        submit.args(["tls", &lab.port("submissions"), mechanism, lab.ca(), "mrossi", "sbagliata"]);
        submit.args([MARIO, VERDI, "Mai spedito", "<mai@client.example>"]);
        let told = run(&mut submit).unwrap();
        assert_eq!(told.status, Some(1), "{told}");
        assert!(told.err.contains("SMTPAuthenticationError: (535, b'5.7.8 "), "{told}");
    }
    assert_eq!(lab.headers("sverdi", "Subject"), Vec::<String>::new());
}

#[test]
fn imaplib_tours_a_mailbox() {
    let lab = Lab::new();
    let mut tour = script("mailbox.py").unwrap();
    tour.args([&lab.port("imaps"), lab.ca(), "abianchi", PASSWORD]);
    assert_eq!(run(&mut tour).unwrap().ok().unwrap(), include_str!("../clients/mailbox.txt"));
}

/// The sender's client hears of both receipts, the recipient's of the envelope, while they idle.
#[test]
fn a_client_in_idle_is_told_at_once() {
    let lab = Lab::new();
    let idle = |login: &str, exists: &str| {
        let mut client = script("idle.py").unwrap();
        client.args([&lab.port("imaps"), lab.ca(), login, PASSWORD, exists]);
        let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "idling");
        (client, said)
    };
    let (mut sender, sender_said) = idle("mrossi", "2");
    let (mut recipient, recipient_said) = idle("sverdi", "1");
    let mut smtp = lab.demo.submit_as("mrossi").unwrap();
    let message = format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Subito\r\n\r\nciao\r\n");
    smtp.submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
    let accepted = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    for (said, last) in [(sender_said, "* 2 EXISTS"), (recipient_said, "* 1 EXISTS")] {
        let lines: Vec<String> = said.map(Result::unwrap).collect();
        assert_eq!(lines.last().unwrap(), "tag OK IDLE completed", "{lines:?}");
        let told = lines.iter().find_map(|line| line.strip_suffix(last)).unwrap();
        let told: f64 = told.trim().parse().unwrap();
        let after = told - accepted.as_secs_f64();
        assert!(after < IDLE_WAIT.as_secs_f64(), "{last} came {after} s after 250");
    }
    assert!(sender.wait().unwrap().success());
    assert!(recipient.wait().unwrap().success());
}

#[test]
fn curl_sends_and_reads() {
    let lab = Lab::new();
    let curl = |service: &str, scheme: &str, path: &str, login: &str| {
        let mut curl = tool("curl", "curl").unwrap();
        curl.args(["-sS", "--ssl-reqd", "--max-time", "60", "--cacert", lab.ca()]);
        curl.args(["--user", &format!("{login}:{PASSWORD}")]);
        curl.arg(format!("{scheme}://localhost:{}/{path}", lab.port(service)));
        curl
    };
    let message = lab.message("Con curl", "<curl@client.example>");
    for (service, scheme, mechanism) in [
        ("submissions", "smtps", "PLAIN"),
        ("submission", "smtp", "LOGIN"),
        ("smtp", "smtp", "PLAIN"),
    ] {
        let mut send = curl(service, scheme, "client.example", "mrossi");
        send.args(["--login-options", &format!("AUTH={mechanism}"), "--mail-from", MARIO]);
        send.args(["--mail-rcpt", COMUNE]).arg("--upload-file").arg(&message);
        assert_eq!(run(&mut send).unwrap().ok().unwrap(), "");
    }
    lab.wait_for("comune", 3);
    lab.wait_for("mrossi", 6);
    let read = |path: &str, more: &[&str]| {
        run(curl("imaps", "imaps", path, "comune").args(more)).unwrap().ok().unwrap()
    };
    assert_eq!(
        read("", &[]),
        "* LIST (\\HasNoChildren) \"/\" \"INBOX\"\r\n\
         * LIST (\\HasNoChildren \\Archive) \"/\" \"Archivio\"\r\n\
         * LIST (\\HasNoChildren \\Drafts) \"/\" \"Bozze\"\r\n\
         * LIST (\\HasNoChildren \\Trash) \"/\" \"Cestino\"\r\n\
         * LIST (\\HasNoChildren \\Junk) \"/\" \"Posta indesiderata\"\r\n\
         * LIST (\\HasNoChildren \\Sent) \"/\" \"Posta inviata\"\r\n"
    );
    assert_eq!(read("INBOX?SUBJECT%20curl", &[]), "* SEARCH 1 2 3\r\n");
    assert_eq!(
        read("INBOX;UID=2;SECTION=HEADER.FIELDS%20(SUBJECT%20X-Trasporto)", &[]),
        "X-Trasporto: posta-certificata\r\nSubject: POSTA CERTIFICATA: Con curl\r\n\r\n"
    );
    let whole = read("INBOX;UID=3", &[]);
    let mut imap = lab.demo.imap_as("comune").unwrap();
    assert_eq!(whole.as_bytes(), imap.messages("INBOX").unwrap()[2].1, "the same octets");
    assert_eq!(read("Bozze", &["--upload-file", message.to_str().unwrap()]), "");
    let draft = imap.messages("Bozze").unwrap();
    assert_eq!(draft[0].1, std::fs::read(&message).unwrap(), "the draft as it was");
    let status = ["--request", "STATUS Bozze (MESSAGES)"];
    let told = run(curl("imap", "imap", "", "comune").args(status)).unwrap().ok().unwrap();
    assert_eq!(told, "* STATUS \"Bozze\" (MESSAGES 1)\r\n");
}

/// 67: login denied; 60: the peer's certificate cannot be authenticated; 64: TLS failed.
#[test]
fn curl_is_refused_without_password_or_trust() {
    let lab = Lab::new();
    let url = format!("imaps://localhost:{}/", lab.port("imaps"));
    let curl = |arguments: &[&str]| {
        let mut curl = tool("curl", "curl").unwrap();
        curl.args(["-sS", "--max-time", "60", &url]).args(arguments);
        let told = run(&mut curl).unwrap();
        (told.status.unwrap(), told.text())
    };
    let nothing = String::new();
    assert_eq!(curl(&["--cacert", lab.ca(), "--user", "comune:sbagliata"]), (67, nothing.clone()));
    assert_eq!(curl(&["--user", &format!("comune:{PASSWORD}")]), (60, nothing));
}

/// swaks checks the certificate against the authority, and tries every mechanism that it has:
/// those that send the password as it is or prove it by SCRAM are ours, the older digests are not.
#[test]
fn swaks_sends_with_each_mechanism_that_is_offered() {
    let lab = Lab::new();
    let swaks = |service: &str, arguments: &[&str]| {
        let mut swaks = tool("swaks", "swaks libnet-ssleay-perl").unwrap();
        swaks.args([
            "--server",
            "localhost",
            "--port",
            &lab.port(service),
            "--helo",
            "swaks.example",
        ]);
        swaks.args(["--tls-verify", "--from", MARIO, "--to", VERDI, "--auth-user", "mrossi"]);
        swaks.args(["--auth-password", PASSWORD, "--timeout", "60"]).args(arguments);
        run(&mut swaks).unwrap()
    };
    let ca = ["--tls-ca-path", lab.ca()];
    let mut subjects = Vec::new();
    for mechanism in ["PLAIN", "LOGIN"] {
        for (service, tls) in
            [("submissions", "--tls-on-connect"), ("submission", "--tls"), ("smtp", "--tls")]
        {
            let subject = format!("{service} {mechanism}");
            let header = format!("Subject: {subject}");
            let arguments = [&ca[..], &[tls, "--auth", mechanism, "--header", &header]].concat();
            let said = swaks(service, &arguments).ok().unwrap();
            assert!(said.contains("\n<~  250 2.0.0 Accepted as 20"), "{said}");
            subjects.push(format!("POSTA CERTIFICATA: {subject}"));
        }
    }
    lab.wait_for("sverdi", 6);
    // 28: the mechanism is not offered. Nothing was tried, and nothing sent.
    for mechanism in ["CRAM-MD5", "CRAM-SHA1"] {
        let arguments = [&ca[..], &["--tls", "--auth", mechanism]].concat();
        let told = swaks("submission", &arguments);
        assert_eq!(told.status, Some(28), "{told}");
    }
    // 29: TLS was wanted and did not come about, because nobody vouches for the certificate.
    assert_eq!(swaks("submission", &["--tls", "--auth", "PLAIN"]).status, Some(29));
    // PEC-AP-01: in clear there is no AUTH, and without it no message.
    assert_eq!(swaks("submission", &["--auth", "PLAIN"]).status, Some(28));
    let told = swaks("submission", &["--auth-hide-password", "--quit-after", "RCPT"]);
    assert_ne!(told.status, Some(0), "{told}");
    assert_eq!(lab.headers("sverdi", "Subject"), subjects);
}

/// What mbsync has in a Maildir after a run, with the flags in each name.
struct Maildir {
    folder: PathBuf,
    settings: PathBuf,
}

impl Maildir {
    fn new(lab: &Lab, login: &str) -> Self {
        let folder = lab.folder.path().join("maildir");
        std::fs::create_dir(&folder).unwrap();
        let settings = lab.folder.path().join("mbsyncrc");
        let text = include_str!("../clients/mbsyncrc")
            .replace("{port}", &lab.port("imaps"))
            .replace("{login}", login)
            .replace("{password}", PASSWORD)
            .replace("{ca}", lab.ca())
            .replace("{maildir}", folder.to_str().unwrap());
        std::fs::write(&settings, text).unwrap();
        Self { folder, settings }
    }

    fn sync(&self) {
        let mut mbsync = tool("mbsync", "isync").unwrap();
        mbsync.arg("--config").arg(&self.settings).arg("all");
        let told = run(&mut mbsync).unwrap();
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

/// mbsync marks each message that it copies with a field of its own, to find it again.
fn without_tuid(message: &str) -> String {
    let kept: Vec<_> =
        message.split_inclusive('\n').filter(|line| !line.starts_with("X-TUID: ")).collect();
    kept.concat()
}

/// A mailbox is the same on both sides: what is delivered, marked, written and deleted on one shows
/// on the other after a run, and a run with nothing to do changes nothing.
#[test]
fn mbsync_keeps_two_sides_the_same() {
    let lab = Lab::new();
    let mut smtp = lab.demo.submit_as("mrossi").unwrap();
    for number in 1..=4 {
        let message =
            format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Atto {number}\r\n\r\nciao\r\n");
        smtp.submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
    }
    lab.wait_for("sverdi", 4);
    let mut imap = lab.demo.imap_as("sverdi").unwrap();
    let maildir = Maildir::new(&lab, "sverdi");
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
        let kept = without_tuid(&std::fs::read_to_string(path).unwrap());
        assert!(kept.replace('\n', "\r\n").as_bytes() == octets, "not the same octets:\n{kept}");
    }

    // Marked here and there, deleted here and there, written here.
    imap.ok("SELECT INBOX").unwrap();
    imap.ok(r"UID STORE 1 +FLAGS (\Flagged)").unwrap();
    maildir.mark(&local[1].0, "RS");
    imap.ok(r"UID STORE 3 +FLAGS (\Deleted)").unwrap();
    imap.ok("UID EXPUNGE 3").unwrap();
    maildir.mark(&local[3].0, "ST");
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
    assert_eq!(without_tuid(&uploaded), draft);

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

/// Debian's Thunderbird under Xvfb: see `tests/thunderbird/run`. It is large, so where it is not
/// installed this says so and proves nothing.
#[test]
fn thunderbird_sends_and_reads() {
    let needed = [("thunderbird", "thunderbird"), ("Xvfb", "xvfb"), ("certutil", "libnss3-tools")];
    if let Some(missing) = needed.into_iter().find_map(|(program, of)| tool(program, of).err()) {
        scenarios::say(&format!("thunderbird not run: {missing}"));
        return;
    }
    let program = scenarios::demo::program().unwrap();
    let mut thunderbird = tool("python3", "python3").unwrap();
    thunderbird.arg("-B").arg(tools::here().join("thunderbird/run")).arg(program);
    let seen = run(&mut thunderbird).unwrap().ok().unwrap();
    let mut seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    scenarios::say(&seen.to_string());
    let seen = seen.as_object_mut().unwrap();
    let waited = seen.remove("receipts_after_secs").unwrap().as_f64().unwrap();
    // Two seconds of it are Thunderbird's own: so long after its last action it says IDLE.
    assert!(waited < 20.0, "the receipts took {waited} s");
    seen.remove("secs").unwrap();
    seen.remove("version").unwrap();
    let expected = serde_json::json!({
        "folders": [
            "INBOX: Inbox", "Archivio: Archive", "Bozze: Drafts", "Cestino: Trash",
            "Posta indesiderata: Junk", "Posta inviata: SentMail",
        ],
        "inbox": ["ACCETTAZIONE: Offerta da Thunderbird", "CONSEGNA: Offerta da Thunderbird"],
        "sent": ["Offerta da Thunderbird"],
        "acceptance": {
            "sentence": "Ricevuta di accettazione",
            "attachments": ["daticert.xml"],
            "signature": "message-signed-ok.svg",
        },
        "delivery": {
            "sentence": "Ricevuta di avvenuta consegna",
            "attachments": ["daticert.xml", "postacert.eml"],
            "signature": "message-signed-ok.svg",
        },
    });
    assert_eq!(*seen, *expected.as_object().unwrap());
}
