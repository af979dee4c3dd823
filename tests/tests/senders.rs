//! Who may send as whom: asked of the program from outside.

use anyhow::ensure;
use scenarios::process::{account, open_service_mailbox};
use scenarios::{Demo, Smtp};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const SERVICE: &str = "ricevute@pec.alfa.example";
const NOT_YOURS: &str =
    "550 5.7.1 Sender address is not one of your account: correct it in your mail program";

fn signed_in(demo: &Demo, login: &str, password: &str) -> anyhow::Result<Smtp> {
    let mut smtp = Smtp::connect(demo.address("submissions")?, &demo.tls())?;
    smtp.hello()?;
    smtp.login(login, password)?;
    Ok(smtp)
}

/// What `MAIL FROM` with this address is answered.
fn mail_from(smtp: &mut Smtp, address: &str) -> anyhow::Result<String> {
    smtp.wire.write(format!("MAIL FROM:<{address}>\r\n").as_bytes())?;
    let reply = smtp.reply()?;
    smtp.command("RSET", "250")?;
    Ok(reply)
}

// PEC-AP-02
#[test]
fn who_has_signed_in_writes_as_himself_only() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut mario = demo.submit_as("mrossi")?;
    for other in
        ["anna.bianchi@pec.alfa.example", "posta-certificata@pec.alfa.example", "a@b.example", ""]
    {
        ensure!(mail_from(&mut mario, other)? == NOT_YOURS, "{other}");
    }
    ensure!(mail_from(&mut mario, MARIO)? == "250 2.1.0 Sender accepted");
    ensure!(mail_from(&mut mario, &MARIO.to_uppercase())? == "250 2.1.0 Sender accepted");
    Ok(())
}

// PEC-GEN-07 PEC-AP-02
#[test]
fn nobody_writes_as_a_service_address_not_even_who_reads_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    open_service_mailbox(&demo.data, "ricevute-di-prova")?;
    let mut service = signed_in(&demo, SERVICE, "ricevute-di-prova")?;
    ensure!(mail_from(&mut service, SERVICE)? == NOT_YOURS);
    Ok(())
}

// PEC-GEN-02: strangers relay nothing, and what is not certified is not taken in by this release.
#[test]
fn a_stranger_on_port_25_sends_nowhere() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut stranger = Smtp::connect_clear(demo.address("smtp")?)?;
    stranger.hello()?;
    stranger.command("MAIL FROM:<a@ordinary.example>", "250")?;
    for (to, reply) in [
        (MARIO, "550 5.7.1 This mailbox takes certified mail only"),
        (
            "b@other.example",
            "550 5.7.1 This server does not relay: authenticate, or send to one of its own domains",
        ),
    ] {
        stranger.wire.write(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
        ensure!(stranger.reply()? == reply, "{to}");
    }
    stranger.command("DATA", "554")?;
    Ok(())
}

// A receipt is never dropped, so nothing is accepted whose receipts could only wait.
#[test]
fn a_sender_whose_mailbox_has_no_room_for_receipts_is_told_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut imap = demo.imap_as("mrossi")?;
    let message = "x".repeat(2 * 1024 * 1024);
    imap.wire
        .write(format!("a APPEND Bozze {{{}+}}\r\n{message}\r\n", message.len()).as_bytes())?;
    let appended = String::from_utf8(imap.response()?)?;
    ensure!(appended.starts_with("a OK [APPENDUID "), "{appended}");
    account(&demo.data, &["quota", MARIO, "64KiB"], "")?;
    let mut mario = demo.submit_as("mrossi")?;
    ensure!(
        mail_from(&mut mario, MARIO)?
            == "452 4.2.2 Your mailbox is full, and receipts must fit: delete messages and try again"
    );
    imap.ok("SELECT Bozze")?;
    imap.ok("STORE 1 +FLAGS (\\Deleted)")?;
    imap.ok("EXPUNGE")?;
    ensure!(mail_from(&mut mario, MARIO)? == "250 2.1.0 Sender accepted");
    Ok(())
}
