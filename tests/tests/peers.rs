//! Other people's mail servers, in both directions: Postfix as Debian has it, with a folder of its
//! own, started and stopped by the test. It wants root, as Postfix does.

use std::path::{Path, PathBuf};
use std::process::Command;

use scenarios::Demo;
use scenarios::pair::Made;
use scenarios::tools::{run, tool};
use scenarios::wire::until;

const MARIO: &str = "mario@pec.alfa.example";
const DOMAIN: &str = "posta.example";

/// A Postfix that takes everything for [`DOMAIN`] into one Maildir, and sends mail for
/// `pec.alfa.example` to a port of the loopback.
struct Postfix {
    folder: PathBuf,
    port: u16,
}

impl Postfix {
    fn start(folder: &Path, pec_smtp: u16, tls: &Path, more: &str) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = folder.join("postfix");
        for name in ["queue", "data", "mail/box"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let at = folder.display();
        let (key, certificate) = (tls.join("tls.key"), tls.join("tls.pem"));
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\n\
             maillog_file = {at}/mail.log\nmaillog_file_prefixes = {at}\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = mx.{DOMAIN}\n\
             mydestination =\nmynetworks = 127.0.0.0/8\nalias_maps =\nalias_database =\nbiff = no\n\
             virtual_mailbox_domains = {DOMAIN}\nvirtual_mailbox_base = {at}/mail\n\
             virtual_mailbox_maps = static:box/\nvirtual_uid_maps = static:1000\n\
             virtual_gid_maps = static:1000\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n\
             smtpd_tls_security_level = may\nsmtpd_tls_key_file = {}\nsmtpd_tls_cert_file = {}\n\
             smtp_tls_security_level = encrypt\n\
             transport_maps = inline:{{ pec.alfa.example=smtp:[127.0.0.1]:{pec_smtp} }}\n{more}\n",
            key.display(),
            certificate.display(),
        );
        std::fs::write(folder.join("main.cf"), main)?;
        let service = |name: &str, limit: &str, program: &str| {
            format!("{name} unix - - n - {limit} {program}\n")
        };
        let mut master = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        for (name, limit, program) in [
            ("cleanup", "0", "cleanup"),
            ("rewrite", "-", "trivial-rewrite"),
            ("bounce", "0", "bounce"),
            ("defer", "0", "bounce"),
            ("trace", "0", "bounce"),
            ("proxymap", "-", "proxymap"),
            ("smtp", "-", "smtp"),
            ("error", "-", "error"),
            ("retry", "-", "error"),
            ("anvil", "1", "anvil"),
            ("scache", "1", "scache"),
        ] {
            master += &service(name, limit, program);
        }
        master += "qmgr unix n - n 300 1 qmgr\nvirtual unix - n n - - virtual\n\
                   tlsmgr unix - - n 1000? 1 tlsmgr\npostlog unix-dgram n - n - 1 postlogd\n";
        std::fs::write(folder.join("master.cf"), master)?;
        let path = |name: &str| folder.join(name).display().to_string();
        done(Command::new("chown").args(["postfix", &path("data")]))?;
        done(Command::new("chown").args(["-R", "1000:1000", &path("mail")]))?;
        // Postfix' own users go through all folders above.
        done(Command::new("chmod").args(["a+rx", &at.to_string()]))?;
        let this = Self { folder, port };
        done(this.command(&["start"])?)?;
        until("Postfix", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok()))?;
        Ok(this)
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = tool("postfix", "postfix")?;
        command.arg("-c").arg(&self.folder).args(arguments);
        Ok(command)
    }

    /// The messages that it delivered.
    fn delivered(&self) -> anyhow::Result<Vec<String>> {
        let Ok(folder) = std::fs::read_dir(self.folder.join("mail/box/new")) else {
            return Ok(Vec::new());
        };
        folder.map(|entry| Ok(std::fs::read_to_string(entry?.path())?)).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // It is no child of ours, and would stay.
        let _ = self.command(&["abort"]).map(|mut command| command.output());
    }
}

fn done(mut command: impl std::borrow::BorrowMut<Command>) -> anyhow::Result<()> {
    run(command.borrow_mut())?.ok().map(drop)
}

/// Alfa with Mario, who takes ordinary mail, and a Postfix that each other knows.
fn scene(folder: &Path, more: &str) -> anyhow::Result<(Demo, Made, Postfix)> {
    // Users of Postfix' own go through it.
    done(Command::new("chmod").arg("a+rx").arg(folder))?;
    let alfa = Made::new(folder, "alfa", &["mario"])?;
    let postfix = Postfix::start(folder, alfa.smtp, &alfa.data, more)?;
    let text = std::fs::read_to_string(alfa.config())?;
    let text = text.replace("policy = \"reject\"", "policy = \"deliver\"");
    std::fs::write(alfa.config(), text)?;
    alfa.configure(&format!("[routes]\n\"{DOMAIN}\" = \"127.0.0.1:{}\"", postfix.port))?;
    let runs = Demo::serve(&alfa.data)?;
    Ok((runs, alfa, postfix))
}

fn letter(to: &str, body: &str) -> Vec<u8> {
    format!(
        "From: {MARIO}\r\nTo: {to}\r\nSubject: Offerta\r\nMessage-ID: <1@pc.example>\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\n\r\n{body}\r\n"
    )
    .into_bytes()
}

// PEC-GEN-16
#[test]
fn an_ordinary_recipient_at_a_postfix_gets_the_transport_envelope() {
    let folder = tempfile::tempdir().unwrap();
    let (runs, alfa, postfix) = scene(folder.path(), "").unwrap();
    let to = format!("carlo@{DOMAIN}");
    // Dots at the start of lines, and more than one chunk.
    let body = ".\r\n..due\r\nSi allega quanto richiesto.\r\n".repeat(20_000);
    let mut smtp = runs.submit_as(MARIO).unwrap();
    let id = smtp.submit(MARIO, &[&to], &letter(&to, &body)).unwrap();
    let received = until("the envelope", || Ok(postfix.delivered()?.pop())).unwrap();
    let received = received.replace('\n', "\r\n");
    assert!(received.contains("\r\nX-Trasporto: posta-certificata\r\n"), "{}", &received[..2000]);
    assert!(received.starts_with(&format!("Return-Path: <{MARIO}>\r\n")), "{}", &received[..200]);
    assert!(received.contains(&body), "the content is not what was sent");
    // What Postfix wrote above it is its own; the rest is as it was signed.
    let signed = folder.path().join("received.eml");
    std::fs::write(&signed, &received).unwrap();
    let verified = alfa.command(&["verify", signed.to_str().unwrap()]).unwrap();
    assert!(verified.contains(&id), "{verified}");
    let log = alfa.command(&["log", "find", "--message-id", &id, "--json"]).unwrap();
    let sent = log.lines().find(|line| line.contains("\"trasmissione\"")).unwrap();
    // TLS was offered, so it was used; the authority of this test vouches for the certificate.
    assert!(sent.contains("TLSv1_3") && sent.contains("verified"), "{sent}");
}

// PEC-BT-15
#[test]
fn a_postfix_that_refuses_a_recipient_makes_the_sender_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = "smtpd_recipient_restrictions = check_recipient_access inline:{ \
                  nessuno@posta.example=REJECT } , permit_mynetworks, reject";
    let (runs, _alfa, postfix) = scene(folder.path(), refuse).unwrap();
    let (nobody, carlo) = (format!("nessuno@{DOMAIN}"), format!("carlo@{DOMAIN}"));
    let both = format!("{nobody}, {carlo}");
    let mut smtp = runs.submit_as(MARIO).unwrap();
    smtp.submit(MARIO, &[&nobody, &carlo], &letter(&both, "Si allega.")).unwrap();
    until("the envelope", || Ok(postfix.delivered()?.pop())).unwrap();
    let mut mario = runs.imap_as(MARIO).unwrap();
    mario.wait_for_count("INBOX", 2).unwrap();
    let messages = mario.messages("INBOX").unwrap();
    let report = String::from_utf8_lossy(&messages[1].1).into_owned();
    let failed =
        format!("Final-Recipient: rfc822; {nobody}\r\nAction: failed\r\nStatus: 5.7.1\r\n");
    assert!(report.contains(&failed), "{report}");
    assert!(!report.contains(&format!("Final-Recipient: rfc822; {carlo}")), "{report}");
}

// PEC-GEN-18, PEC-BA-01
#[test]
fn ordinary_mail_from_a_postfix_comes_in_an_anomaly_envelope() {
    let folder = tempfile::tempdir().unwrap();
    let (runs, _alfa, postfix) = scene(folder.path(), "").unwrap();
    let address = format!("127.0.0.1:{}", postfix.port).parse().unwrap();
    let mut smtp = scenarios::Smtp::connect_clear(address).unwrap();
    smtp.hello().unwrap();
    let from = format!("carlo@{DOMAIN}");
    let text = format!("From: {from}\r\nTo: {MARIO}\r\nSubject: Ciao\r\n\r\nCiao.\r\n");
    smtp.command(&format!("MAIL FROM:<{from}>"), "250").unwrap();
    smtp.command(&format!("RCPT TO:<{MARIO}>"), "250").unwrap();
    smtp.command("DATA", "354").unwrap();
    smtp.command(&format!("{text}."), "250").unwrap();
    let mut mario = runs.imap_as(MARIO).unwrap();
    mario.wait_for_count("INBOX", 1).unwrap();
    let messages = mario.messages("INBOX").unwrap();
    let received = String::from_utf8_lossy(&messages[0].1).into_owned();
    assert!(received.contains("\r\nSubject: ANOMALIA MESSAGGIO: Ciao\r\n"), "{received}");
    assert!(received.contains(&format!("Return-Path: <{from}>")), "{received}");
}
