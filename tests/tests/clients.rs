//! Real clients against a demo provider: Python's smtplib and imaplib, curl, swaks, Thunderbird; the
//! libraries imapflow, IMAPClient and async-imap; mbsync, OfflineIMAP and NeoMutt. What they do is told
//! by their own logs and checked on the server by another client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod clients {
    mod android;
    pub(crate) mod lab;
    mod libraries;
    mod maildir;
    mod neomutt;
    mod rust;
    mod scram;
}

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use clients::lab::{COMUNE, Lab, MARIO, VERDI};
use scenarios::demo::PASSWORD;
use scenarios::tools::{self, run, script, tool};

/// A client in IDLE is told by itself: long before the two minutes after which the server next says
/// anything on its own. How fast is a benchmark's question (`receipt_latency`).
const IDLE_WAIT: Duration = Duration::from_secs(30);

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

/// Debian's Thunderbird under Xvfb: see `tests/thunderbird/run`.
#[test]
fn thunderbird_sends_and_reads() {
    let needed = [("thunderbird", "thunderbird"), ("Xvfb", "xvfb"), ("certutil", "libnss3-tools")];
    for (program, package) in needed {
        tool(program, package).unwrap();
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
