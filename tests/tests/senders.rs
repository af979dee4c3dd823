//! Who may send as whom: asked of the program from outside.

use anyhow::ensure;
use scenarios::demo::PASSWORD;
use scenarios::host::Host;
use scenarios::process::{account, open_service_mailbox};
use scenarios::scram::{self, Said};
use scenarios::{Demo, Smtp};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const SERVICE: &str = "ricevute@pec.alfa.example";
const NOT_YOURS: &str =
    "550 5.7.1 Sender address is not one of this account's: correct it in your mail program";

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

/// What AUTH is answered, with this header of channel binding and these octets behind it.
fn scram(smtp: &mut Smtp, mechanism: &str, header: &str, bound: &[u8]) -> anyhow::Result<String> {
    let mut begin = format!("AUTH {mechanism} ");
    scram::sign_in(("mrossi", PASSWORD), header, bound, |text| {
        smtp.wire.write(format!("{}{text}\r\n", std::mem::take(&mut begin)).as_bytes())?;
        let reply = smtp.reply()?;
        Ok(match reply.strip_prefix("334 ") {
            Some(challenge) => Said::Challenge(challenge.to_owned()),
            None => Said::End(reply),
        })
    })
}

// RFC 5802 §6, RFC 9266: who sits in the middle of two TLS connections cannot pass the proof on, nor
// take the better mechanism out of the list.
#[test]
fn a_proof_is_worth_nothing_on_another_connection() -> anyhow::Result<()> {
    const GOOD: &str = "235 2.7.0 Authentication succeeded";
    const WRONG: &str =
        "535 5.7.8 Authentication credentials invalid: check user name and password";
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let plus = "SCRAM-SHA-256-PLUS";
    for (name, mechanism, header, own, reply) in [
        ("bound", plus, "p=tls-exporter,,", true, GOOD),
        ("bound to another connection", plus, "p=tls-exporter,,", false, WRONG),
        ("bound to what was not offered", plus, "p=tls-unique,,", true, WRONG),
        ("not bound at all", plus, "n,,", false, WRONG),
        ("a client that cannot", "SCRAM-SHA-256", "n,,", false, GOOD),
        ("a client that was told we cannot", "SCRAM-SHA-256", "y,,", false, WRONG),
    ] {
        let mut smtp = Smtp::connect(demo.address("submissions")?, &demo.tls())?;
        let offered = smtp.hello()?;
        ensure!(
            offered.contains("250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"),
            "{offered}"
        );
        let bound = match (own, header.starts_with("p=")) {
            (true, _) => smtp.wire.exporter()?.to_vec(),
            (false, true) => vec![7; 32],
            (false, false) => Vec::new(),
        };
        let heard = scram(&mut smtp, mechanism, header, &bound)?;
        ensure!(heard == reply, "{name}: {heard}");
    }
    Ok(())
}

const SENDER_OK: &str = "250 2.1.0 Sender accepted";
const RECIPIENT_OK: &str = "250 2.1.5 Recipient accepted";
const SENDER_OURS: &str = "550 5.7.1 Sender address belongs to this server: authenticate to use it";
const NO_SENDER: &str = "503 5.5.1 Send MAIL first";
const BAD_RECIPIENT: &str = "501 5.1.3 Bad recipient address: RCPT TO:<local-part@domain>";
const NO_RELAY: &str =
    "550 5.7.1 This server does not relay: authenticate, or send to one of its own domains";

/// Every way in which a stranger, or a user, could have us bring mail to where we are not.
#[test]
fn no_form_of_address_makes_a_relay_of_us() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Whatever leaves for one of these domains would come here.
    let host = Host::start("127.0.0.1:0".parse()?, None)?;
    let domains =
        ["other.example", "sub.pec.alfa.example", "alfa.example", "pec.alfa.example.other.example"];
    let routes: String = domains.map(|to| format!("{to:?} = \"{}\"\n", host.address)).concat();
    let changes = [("[ordinary_mail]\n", "[ordinary_mail]\ntrusted = []\n")];
    let routes = format!("\n[routes]\n{routes}");
    let demo = Demo::start_changed(&folder.path().join("demo"), &changes, &routes)?;
    // Whose mail a stranger brings changes nothing, or the worse for him: nobody's, a stranger's, our own
    // user's, our own service's.
    let senders = [
        ("", SENDER_OK),
        ("a@ordinary.example", SENDER_OK),
        (MARIO, SENDER_OURS),
        ("posta-certificata@pec.alfa.example", SENDER_OURS),
    ];
    let elsewhere = [
        "b@other.example",
        "b@sub.pec.alfa.example",
        "b@alfa.example",
        "b@pec.alfa.example.other.example",
        "\"mario.rossi@pec.alfa.example\"@other.example",
        "mario.rossi%pec.alfa.example@other.example",
        "pec.alfa.example!mario.rossi@other.example",
        // A source route is not followed: what counts is where it ends, RFC 5321 appendix C.
        "@pec.alfa.example:b@other.example",
        "@pec.alfa.example,@pec.beta.example:b@other.example",
        "postmaster@other.example",
    ];
    // Local parts are nobody's business but the mailbox's: these stay here.
    let here = [
        "mario.rossi@pec.alfa.example",
        "MARIO.ROSSI@PEC.ALFA.EXAMPLE",
        "nessuno@pec.alfa.example",
        "b%other.example@pec.alfa.example",
        "other.example!b@pec.alfa.example",
        "\"b@other.example\"@pec.alfa.example",
        "\"@other.example:b\"@pec.alfa.example",
        "@other.example:mario.rossi@pec.alfa.example",
        "postmaster",
        "postmaster@pec.beta.example",
    ];
    // None of them is an address.
    let neither = ["b@other.example@pec.alfa.example", "b@[127.0.0.1]", "b@other.example,c@d", "b"];
    let recipients = |elsewhere_told: &'static str, here_told: &'static str| {
        let elsewhere = elsewhere.iter().map(move |to| (*to, elsewhere_told));
        let here = here.iter().map(move |to| (*to, here_told));
        elsewhere.chain(here).chain(neither.iter().map(|to| (*to, BAD_RECIPIENT)))
    };
    for tls in [false, true] {
        for (from, told) in senders {
            let mut smtp = Smtp::connect_clear(demo.address("smtp")?)?;
            smtp.hello()?;
            if tls {
                smtp = smtp.start_tls(&demo.tls())?;
                smtp.hello()?;
            }
            smtp.wire.write(format!("MAIL FROM:<{from}>\r\n").as_bytes())?;
            let heard = smtp.reply()?;
            ensure!(heard == told, "TLS {tls}, from <{from}>: {heard}");
            let (elsewhere, here) = match told == SENDER_OK {
                true => (NO_RELAY, RECIPIENT_OK),
                false => (NO_SENDER, NO_SENDER),
            };
            for (to, told) in recipients(elsewhere, here) {
                smtp.wire.write(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
                let heard = smtp.reply()?;
                ensure!(heard == told, "TLS {tls}, from <{from}> to <{to}>: {heard}");
            }
        }
    }
    // Who has signed in writes to whom he likes, and as nobody else.
    let mut mario = demo.submit_as("mrossi")?;
    for (from, told, to) in [
        ("", NOT_YOURS, NO_SENDER),
        ("a@ordinary.example", NOT_YOURS, NO_SENDER),
        ("anna.bianchi@pec.alfa.example", NOT_YOURS, NO_SENDER),
        ("posta-certificata@pec.alfa.example", NOT_YOURS, NO_SENDER),
        (MARIO, SENDER_OK, RECIPIENT_OK),
    ] {
        mario.wire.write(format!("MAIL FROM:<{from}>\r\n").as_bytes())?;
        let heard = mario.reply()?;
        ensure!(heard == told, "from <{from}>: {heard}");
        // Twenty bad commands would end the connection.
        let bad = if from == MARIO { neither.len() } else { 0 };
        let all = elsewhere.len() + here.len() + bad;
        for (to, told) in recipients(to, to).take(all) {
            mario.wire.write(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
            let heard = mario.reply()?;
            ensure!(heard == told, "from <{from}> to <{to}>: {heard}");
        }
        mario.command("RSET", "250")?;
    }
    // What names a domain of ours stays here, whatever its local part says; what does not, leaves.
    let hidden = ["b%other.example@pec.alfa.example", "other.example!b@pec.alfa.example"];
    for to in [hidden.as_slice(), &["b@other.example"]] {
        let header = format!("From: {MARIO}\r\nTo: {}\r\nSubject: x\r\n", to.join(", "));
        mario.submit(MARIO, to, format!("{header}\r\nhi\r\n").as_bytes())?;
    }
    // Two acceptances, and a notice for each of the hidden ones: they are nobody.
    demo.imap_as("mrossi")?.wait_for_count("INBOX", 4)?;
    let taken = scenarios::wire::until("what leaves", || {
        Ok(Some(host.taken()).filter(|taken| !taken.is_empty()))
    })?;
    let [only] = taken.as_slice() else { anyhow::bail!("{taken:?}") };
    ensure!(only.envelope.iter().any(|line| line.starts_with("RCPT TO:<b@other.example>")));
    // Ports 465 and 587 know no strangers.
    let mut smtp = Smtp::connect(demo.address("submissions")?, &demo.tls())?;
    smtp.hello()?;
    for to in elsewhere.iter().chain(&here).take(9) {
        smtp.wire.write(format!("MAIL FROM:<>\r\nRCPT TO:<{to}>\r\n").as_bytes())?;
        for _ in 0..2 {
            let heard = smtp.reply()?;
            ensure!(heard == "530 5.7.0 Authentication required: send AUTH first", "{to}: {heard}");
        }
    }
    Ok(())
}

// PEC-GEN-02: what is not certified is not taken in where the holder takes certified mail only.
#[test]
fn a_strangers_mail_is_judged_at_its_end() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut stranger = Smtp::connect_clear(demo.address("smtp")?)?;
    stranger.hello()?;
    stranger.command("MAIL FROM:<a@ordinary.example>", "250")?;
    stranger.command("RCPT TO:<b@other.example>", "550 5.7.1")?;
    stranger.command("DATA", "554 5.5.1 No valid recipients")?;
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
