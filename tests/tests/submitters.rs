//! Programs that submit mail for other programs: msmtp, nodemailer and lettre, by STARTTLS and by
//! implicit TLS, each with the mechanisms it has. Each message gets its two receipts. Python's
//! smtplib writes headers in UTF-8.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::fmt::Write as _;
use std::path::Path;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport as _};
use scenarios::Demo;
use scenarios::demo::PASSWORD;
use scenarios::tools::{run, tool};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const COMUNE: &str = "comune@pec.beta.example";

fn demo() -> (tempfile::TempDir, Demo) {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(&folder.path().join("demo")).unwrap();
    (folder, demo)
}

fn port(demo: &Demo, service: &str) -> u16 {
    demo.address(service).unwrap().port()
}

fn ca(demo: &Demo) -> &str {
    demo.ready["ca"].as_str().unwrap()
}

/// So many messages were certified, delivered and receipted.
fn all_arrived(demo: &Demo, count: u64) {
    demo.imap_as(COMUNE).unwrap().wait_for_count("INBOX", count).unwrap();
    demo.imap_as(MARIO).unwrap().wait_for_count("INBOX", 2 * count).unwrap();
}

#[test]
fn msmtp_sends_by_starttls_and_by_tls() {
    let (folder, demo) = demo();
    let message = format!("From: {MARIO}\nTo: {COMUNE}\nSubject: Con msmtp\n\nBuongiorno.\n.\n");
    let file = folder.path().join("message.eml");
    std::fs::write(&file, message).unwrap();
    let send = |service: &str, auth: &str, password: &str| {
        let mut settings = format!(
            "account default\nhost localhost\nport {}\nfrom {MARIO}\nauth {auth}\nuser mrossi\n\
             password {password}\ntls on\ntls_trust_file {}\n",
            port(&demo, service),
            ca(&demo)
        );
        let starttls = if service == "submission" { "on" } else { "off" };
        writeln!(settings, "tls_starttls {starttls}").unwrap();
        let config = folder.path().join("msmtprc");
        std::fs::write(&config, settings).unwrap();
        // It will not read a file with a password that others may read.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&config, mode).unwrap();
        let mut msmtp = tool("msmtp", "msmtp").unwrap();
        msmtp.arg(format!("--file={}", config.display())).args(["--timeout=60", COMUNE]);
        msmtp.stdin(std::fs::File::open(&file).unwrap());
        run(&mut msmtp).unwrap()
    };
    send("submission", "plain", PASSWORD).ok().unwrap();
    send("submissions", "login", PASSWORD).ok().unwrap();
    send("submissions", "scram-sha-256", PASSWORD).ok().unwrap();
    all_arrived(&demo, 3);
    // EX_NOPERM of sysexits, and the server's words.
    let told = send("submissions", "plain", "sbagliata");
    assert_eq!(told.status, Some(77), "{told}");
    assert!(told.err.contains("535 5.7.8 Authentication credentials invalid"), "{told}");
}

#[test]
fn nodemailer_sends_by_starttls_and_by_tls() {
    const SCRIPT: &str = "
const [ca, from, to, password, ...ways] = process.argv.slice(2);
const nodemailer = require('nodemailer');
const fs = require('fs');
(async () => {
    for (const way of ways) {
        const [port, secure, method] = way.split(',');
        const transport = nodemailer.createTransport({
            host: 'localhost', port: Number(port), secure: secure === 'tls', requireTLS: true,
            authMethod: method, auth: { user: 'mrossi', pass: password },
            tls: { ca: fs.readFileSync(ca) },
        });
        const sent = await transport.sendMail({
            from, to, subject: 'Con nodemailer, perché sì', text: 'Buongiorno.\\n.\\n..\\n',
            attachments: [{ filename: 'dati.bin', content: Buffer.alloc(100000, 255) }],
            dsn: { id: 'a1', return: 'headers', notify: ['failure', 'delay'], recipient: to },
        });
        console.log(sent.response);
    }
})().catch(error => { console.error(String(error)); process.exit(1); });
";
    let (folder, demo) = demo();
    let script = folder.path().join("send.js");
    std::fs::write(&script, SCRIPT).unwrap();
    // Where Debian has its modules.
    assert!(
        Path::new("/usr/share/nodejs/nodemailer").exists(),
        "nodemailer is missing: run `sudo apt-get install node-nodemailer`"
    );
    let send = |password: &str, ways: &[String]| {
        let mut node = tool("node", "nodejs").unwrap();
        node.env("NODE_PATH", "/usr/share/nodejs");
        node.arg(&script).args([ca(&demo), MARIO, COMUNE, password]).args(ways);
        run(&mut node).unwrap()
    };
    let ways = [
        format!("{},starttls,PLAIN", port(&demo, "submission")),
        format!("{},tls,LOGIN", port(&demo, "submissions")),
    ];
    let said = send(PASSWORD, &ways).ok().unwrap();
    assert_eq!(said.lines().filter(|line| line.starts_with("250 2.0.0 Accepted as ")).count(), 2);
    all_arrived(&demo, 2);
    let told = send("sbagliata", &ways[..1]);
    assert_eq!(told.status, Some(1), "{told}");
    assert!(told.err.contains("535 5.7.8 Authentication credentials invalid"), "{told}");
}

#[test]
fn lettre_sends_by_starttls_and_by_tls_and_keeps_a_connection() {
    let (_folder, demo) = demo();
    let certificate = Certificate::from_pem(&std::fs::read(ca(&demo)).unwrap()).unwrap();
    let tls = TlsParameters::builder("localhost".to_owned())
        .add_root_certificate(certificate)
        .build()
        .unwrap();
    let transport = |service: &str, mechanism, password: &str| {
        let tls = match service {
            "submission" => Tls::Required(tls.clone()),
            _ => Tls::Wrapper(tls.clone()),
        };
        SmtpTransport::builder_dangerous("localhost")
            .port(port(&demo, service))
            .tls(tls)
            .authentication(vec![mechanism])
            .credentials(Credentials::new("mrossi".to_owned(), password.to_owned()))
            .build()
    };
    let message = Message::builder()
        .from(MARIO.parse().unwrap())
        .to(COMUNE.parse().unwrap())
        .subject("Con lettre, perché sì")
        .body("Buongiorno.\r\n.\r\n".to_owned())
        .unwrap();
    for (service, mechanism) in
        [("submission", Mechanism::Plain), ("submissions", Mechanism::Login)]
    {
        let transport = transport(service, mechanism, PASSWORD);
        for _ in 0..2 {
            let response = transport.send(&message).unwrap();
            assert!(response.message().any(|line| line.contains("Accepted as ")), "{response:?}");
        }
    }
    all_arrived(&demo, 4);
    let error = transport("submissions", Mechanism::Plain, "sbagliata").send(&message).unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("credentials"), "{error}");
}

/// What a header says in UTF-8 is certified in encoded words, and says the same.
// PEC-FMT-10
#[test]
fn smtplib_sends_a_header_in_utf_8_where_it_is_announced() {
    const SCRIPT: &str = "
import email.message, email.policy, smtplib, ssl, sys
ca, port, user, password, to = sys.argv[1:]
smtp = smtplib.SMTP_SSL('localhost', int(port), context=ssl.create_default_context(cafile=ca))
smtp.ehlo()
assert smtp.has_extn('smtputf8') and smtp.has_extn('8bitmime'), smtp.esmtp_features
smtp.login(user, password)
message = email.message.EmailMessage(policy=email.policy.SMTPUTF8)
message['From'] = user
message['To'] = 'Città di Forlì <' + to + '>'
message['Subject'] = 'Perché la città tace'
message.set_content('Già fatto.', cte='8bit')
message.add_attachment(b'x', maintype='application', subtype='pdf', filename='perché.pdf')
octets = message.as_bytes()
assert 'Subject: Perché la città tace\\r\\n'.encode() in octets, octets
smtp.sendmail(user, [to], octets, mail_options=['SMTPUTF8', 'BODY=8BITMIME'])
try:
    smtp.sendmail(user, ['nicolò@pec.beta.example'], octets, mail_options=['SMTPUTF8'])
except smtplib.SMTPRecipientsRefused as error:
    print(list(error.recipients.values()))
smtp.quit()
";
    let folder = tempfile::tempdir().unwrap();
    let changes = [("[limits]\n", "[limits]\nutf8 = true\n")];
    let demo = Demo::start_changed(&folder.path().join("demo"), &changes, "").unwrap();
    let mut python = tool("python3", "python3").unwrap();
    python.args(["-B", "-c", SCRIPT, ca(&demo), &port(&demo, "submissions").to_string()]);
    let refused = run(python.args([MARIO, PASSWORD, COMUNE])).unwrap().ok().unwrap();
    assert_eq!(
        refused.trim(),
        "[(553, b'5.6.7 What an address has before its @ must be ASCII here')]"
    );
    all_arrived(&demo, 1);
    let (_, envelope) = demo.imap_as(COMUNE).unwrap().messages("INBOX").unwrap().remove(0);
    let envelope = String::from_utf8(envelope).unwrap();
    assert!(envelope.is_ascii());
    for line in [
        "Subject: POSTA CERTIFICATA: =?utf-8?Q?Perch=C3=A9_la_citt=C3=A0?= tace\r\n",
        "\r\nTo: =?utf-8?Q?Citt=C3=A0_di_Forl=C3=AC?= <comune@pec.beta.example>\r\n",
        "\r\nSubject: =?utf-8?Q?Perch=C3=A9_la_citt=C3=A0?= tace\r\n",
        " with UTF8SMTPSA id\r\n ",
        "filename*=UTF-8''perch%C3%A9.pdf\r\n",
        "\r\nGi=C3=A0 fatto.\r\n",
    ] {
        assert!(envelope.contains(line), "{line:?} is not in {envelope}");
    }
}
