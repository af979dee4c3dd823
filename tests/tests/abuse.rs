//! Limits on who sends how much, and the rule that suspends an account: asked of the program from
//! outside.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, ensure};
use scenarios::process::account;
use scenarios::smtp::stuffed;
use scenarios::wire::{self, Wire};
use scenarios::{Demo, Smtp, outside};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const COMUNE: &str = "comune@pec.beta.example";
/// What the demo's configuration says of limits.
const LIMITS: &str = "unthrottled = [\"127.0.0.0/8\"]";
/// Another address of this machine, as a stranger's or a balancer's.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn limited(data: &Path, limits: &str, more: &str) -> anyhow::Result<Demo> {
    Demo::start_changed(data, &[(LIMITS, limits)], more)
}

/// A refusal that says when to come again; the number of seconds is what it is.
fn is_put_off(reply: &str, words: &str) -> bool {
    let rest = reply.strip_prefix(words).and_then(|rest| rest.strip_prefix(": try again in "));
    let secs = rest.and_then(|rest| rest.strip_suffix(" seconds"));
    secs.and_then(|secs| secs.parse::<u32>().ok()).is_some_and(|secs| (1..=86_401).contains(&secs))
}

fn say(smtp: &mut Smtp, command: &str) -> anyhow::Result<String> {
    smtp.wire.write(format!("{command}\r\n").as_bytes())?;
    smtp.reply()
}

#[test]
fn one_past_each_limit_is_put_off_and_others_are_not() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let limits = "unthrottled = []\naccount_messages = [0, 3, 0]\naccount_recipients = [0, 0, 4]\n\
                  account_sessions_max = 2\naddress_messages = [0, 1, 0]\n\
                  address_recipients = [0, 0, 1]\nnetwork_messages = [0, 0, 2]\n\
                  destination_recipients = [0, 1, 0]\n";
    let demo = limited(&folder.path().join("demo"), limits, "")?;
    let mut mario = demo.submit_as("mrossi")?;
    let from = format!("MAIL FROM:<{MARIO}>");
    let (ours, there) = (format!("RCPT TO:<{COMUNE}>"), "RCPT TO:<b@altrove.example>");
    say(&mut mario, &from)?;
    ensure!(say(&mut mario, &ours)? == "250 2.1.5 Recipient accepted");
    ensure!(say(&mut mario, there)? == "250 2.1.5 Recipient accepted");
    let told = say(&mut mario, there)?;
    let words = "450 4.7.1 Too many recipients of this server to that domain in an hour";
    ensure!(is_put_off(&told, words), "{told}");
    ensure!(say(&mut mario, &ours)? == "250 2.1.5 Recipient accepted");
    let told = say(&mut mario, &ours)?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many recipients of your account in a day"), "{told}");
    for _ in 0..2 {
        say(&mut mario, "RSET")?;
        ensure!(say(&mut mario, &from)? == "250 2.1.0 Sender accepted");
    }
    say(&mut mario, "RSET")?;
    let told = say(&mut mario, &from)?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many messages of your account in an hour"), "{told}");
    // His sessions are counted too; another account's are not his.
    let second = demo.submit_as("mrossi")?;
    let refused = demo.submit_as("mrossi").err().context("a third session")?.to_string();
    ensure!(
        refused.ends_with(
            "454 4.7.0 Too many sessions of this account: close some, or try again in 300 seconds"
        ),
        "{refused}"
    );
    let mut anna = demo.submit_as("abianchi")?;
    let her = "MAIL FROM:<anna.bianchi@pec.alfa.example>";
    ensure!(say(&mut anna, her)? == "250 2.1.0 Sender accepted");
    drop(second);
    wire::until("room for another session", || Ok(demo.submit_as("mrossi").ok()))?;
    // Strangers are counted by where they come from.
    let mut stranger = Smtp::connect_clear(demo.address("smtp")?)?;
    stranger.hello()?;
    ensure!(say(&mut stranger, "MAIL FROM:<>")? == "250 2.1.0 Sender accepted");
    ensure!(say(&mut stranger, &ours)? == "250 2.1.5 Recipient accepted");
    let told = say(&mut stranger, &ours)?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many recipients of your address in a day"), "{told}");
    say(&mut stranger, "RSET")?;
    let told = say(&mut stranger, "MAIL FROM:<>")?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many messages of your address in an hour"), "{told}");
    let mut other = Smtp { wire: wire::connect_from(ELSEWHERE, demo.address("smtp")?)? };
    other.expect("220")?;
    other.hello()?;
    ensure!(say(&mut other, "MAIL FROM:<>")? == "250 2.1.0 Sender accepted");
    // And by the network that their addresses are in.
    let third = wire::connect_from(Ipv4Addr::new(127, 0, 0, 3), demo.address("smtp")?)?;
    let mut third = Smtp { wire: third };
    third.expect("220")?;
    third.hello()?;
    let told = say(&mut third, "MAIL FROM:<>")?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many messages of your network in a day"), "{told}");
    // Another start gives nobody another hour's or day's worth.
    ensure!(demo.stop()?.success());
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut mario = demo.submit_as("mrossi")?;
    let told = say(&mut mario, &from)?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many messages of your account in an hour"), "{told}");
    let mut anna = demo.submit_as("abianchi")?;
    ensure!(say(&mut anna, her)? == "250 2.1.0 Sender accepted");
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn a_domain_elsewhere_gets_so_many_messages_however_many_recipients_each_has() -> anyhow::Result<()>
{
    let folder = tempfile::tempdir()?;
    let limits = "unthrottled = []\ndestination_messages = [0, 2, 0]\n";
    let demo = limited(&folder.path().join("demo"), limits, "")?;
    let mut mario = demo.submit_as("mrossi")?;
    let from = format!("MAIL FROM:<{MARIO}>");
    for _ in 0..2 {
        say(&mut mario, &from)?;
        for name in ["a", "b", "c"] {
            let told = say(&mut mario, &format!("RCPT TO:<{name}@altrove.example>"))?;
            ensure!(told == "250 2.1.5 Recipient accepted", "{told}");
        }
        say(&mut mario, "RSET")?;
    }
    say(&mut mario, &from)?;
    let told = say(&mut mario, "RCPT TO:<a@altrove.example>")?;
    let words = "450 4.7.1 Too many messages of this server to that domain in an hour";
    ensure!(is_put_off(&told, words), "{told}");
    for to in ["a@lontano.example", COMUNE] {
        let told = say(&mut mario, &format!("RCPT TO:<{to}>"))?;
        ensure!(told == "250 2.1.5 Recipient accepted", "{told}");
    }
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn an_account_that_bursts_is_suspended_and_resume_lets_it_go_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let rule = "\n[abuse]\nburst = 2\nunknown_recipients = 1\n";
    // The rule is the operator's: also networks that limits leave alone are held to it.
    let demo = limited(&data, LIMITS, rule)?;
    let mut mario = demo.submit_as("mrossi")?;
    let from = format!("MAIL FROM:<{MARIO}>");
    for _ in 0..2 {
        ensure!(say(&mut mario, &from)? == "250 2.1.0 Sender accepted");
        say(&mut mario, "RSET")?;
    }
    let suspended = |why: &str| {
        format!("550 5.7.1 This account is suspended, more than {why}: ask your provider")
    };
    // What was sent ahead is not taken either.
    mario.wire.write(format!("{from}\r\n{from}\r\nRCPT TO:<{MARIO}>\r\n").as_bytes())?;
    ensure!(mario.reply()? == suspended("2 messages in ten minutes"));
    ensure!(mario.reply()? == suspended("2 messages in ten minutes"));
    ensure!(mario.reply()? == "503 5.5.1 Send MAIL first");
    // Its sessions end, and it cannot sign in.
    ensure!(mario.reply()? == "421 4.7.0 Your account was changed, closing: sign in again");
    let refused = demo.submit_as("mrossi").err().context("signed in")?.to_string();
    ensure!(refused.contains("525 5.7.13 This account is suspended"), "{refused}");
    let shown = account(&data, &["show", MARIO], "")?;
    ensure!(shown.contains("suspended"), "{shown}");
    let page = demo.page("/metrics")?.1;
    ensure!(page.contains("ceralacca_accounts_frozen_total 1"), "{page}");
    let found = scenarios::process::run(
        &[
            "log",
            "find",
            "--account",
            MARIO,
            "--json",
            "--config",
            data.join("ceralacca.toml").to_str().context("a path that is no text")?,
        ],
        "",
    )?;
    let found = String::from_utf8(found.stdout)?;
    ensure!(
        found.contains("\"event\":\"sospensione\"")
            && found.contains("more than 2 messages in ten minutes"),
        "{found}"
    );
    account(&data, &["resume", MARIO], "")?;
    let mut mario = demo.submit_as("mrossi")?;
    ensure!(say(&mut mario, &from)? == "250 2.1.0 Sender accepted");
    // And the other rule: recipients of ours who are not there.
    let to = |number| format!("RCPT TO:<nessuno{number}@pec.beta.example>\r\n");
    mario.wire.write(format!("{}{}{}DATA\r\n", to(0), to(1), to(2)).as_bytes())?;
    ensure!(mario.reply()? == "250 2.1.5 Recipient accepted");
    for _ in ["the second", "the third", "DATA"] {
        let told = mario.reply()?;
        ensure!(told == suspended("1 recipients that do not exist in an hour"), "{told}");
    }
    ensure!(mario.reply()? == "421 4.7.0 Your account was changed, closing: sign in again");
    ensure!(demo.stop()?.success());
    Ok(())
}

/// What each of several sessions of one account had sent ahead counts for the account, not for the session.
#[test]
fn sessions_of_an_account_burst_together_and_are_suspended_once() -> anyhow::Result<()> {
    const SESSIONS: usize = 8;
    const BURST: usize = 3;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let demo = limited(&data, LIMITS, &format!("\n[abuse]\nburst = {BURST}\n"))?;
    let message = "From: mario.rossi@pec.alfa.example\r\nTo: comune@pec.beta.example\r\n\
                   Subject: x\r\n\r\nx\r\n";
    let one = format!(
        "MAIL FROM:<{MARIO}>\r\nRCPT TO:<{COMUNE}>\r\nBDAT {} LAST\r\n{message}",
        message.len()
    );
    let sessions = (0..SESSIONS).map(|_| demo.submit_as("mrossi"));
    let mut sessions = sessions.collect::<anyhow::Result<Vec<_>>>()?;
    for session in &mut sessions {
        session.wire.write(one.repeat(BURST + 1).as_bytes())?;
    }
    let (mut taken, mut refused) = (0, 0);
    for session in &mut sessions {
        // Until the session ends.
        while let Ok(reply) = session.reply() {
            taken += usize::from(reply.starts_with("250 2.0.0 Accepted as "));
            let why = "more than 3 messages in ten minutes";
            refused += usize::from(
                reply == format!("550 5.7.1 This account is suspended, {why}: ask your provider"),
            );
        }
    }
    ensure!(taken <= BURST && refused > 0, "{taken} taken, {refused} refused");
    let page = demo.page("/metrics")?.1;
    ensure!(page.contains("ceralacca_accounts_frozen_total 1\n"), "{page}");
    let found = outside::told(&demo, &["log", "find", "--account", MARIO])?;
    let frozen = found.iter().filter(|record| record["event"] == "sospensione").count();
    ensure!(frozen == 1, "{found:?}");
    // And an operator lets all of it go on.
    account(&data, &["resume", MARIO], "")?;
    let mut mario = demo.submit_as("mrossi")?;
    ensure!(say(&mut mario, &format!("MAIL FROM:<{MARIO}>"))? == "250 2.1.0 Sender accepted");
    ensure!(demo.stop()?.success());
    Ok(())
}

/// From the other address of this machine.
fn sign_in_elsewhere(demo: &Demo, login: &str) -> anyhow::Result<()> {
    let wire = wire::connect_from(ELSEWHERE, demo.address("submissions")?)?;
    let mut smtp = Smtp { wire: wire.start_tls(&demo.tls())? };
    smtp.expect("220")?;
    smtp.hello()?;
    smtp.login(login, "ceralacca-demo")
}

#[test]
fn an_account_that_signs_in_from_a_new_country_is_told_of_or_suspended() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let nets = folder.path().join("nets.csv");
    std::fs::write(&nets, "# test\n127.0.0.0/8,IT\n127.0.0.2/32,FR\n")?;
    let rule = format!("\n[abuse]\ncountries = \"{}\"\nnew_country = \"warn\"\n", nets.display());
    let demo = limited(&data, LIMITS, &rule)?;
    let told = |demo: &Demo, outcome: &str| -> anyhow::Result<Option<String>> {
        let name = format!("ceralacca_new_countries_total{{outcome=\"{outcome}\"}} ");
        let page = demo.page("/metrics")?.1;
        Ok(page.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned))
    };
    // Where it signs in first, by whatever protocol, it is at home.
    demo.imap_as("mrossi")?;
    demo.submit_as("mrossi")?;
    ensure!(told(&demo, "warned")?.is_none());
    for _ in 0..2 {
        sign_in_elsewhere(&demo, "mrossi")?;
        ensure!(told(&demo, "warned")?.as_deref() == Some("1"));
    }
    let found = outside::told(&demo, &["log", "find", "--account", MARIO])?;
    let found: Vec<_> =
        found.iter().filter(|record| record["event"] == "accesso-paese-nuovo").collect();
    ensure!(found.len() == 1, "{found:?}");
    ensure!(found[0]["errore_esteso"] == "signed in from FR, where it never was", "{found:?}");
    demo.submit_as("abianchi")?;
    // Read again, the rule is another; and where accounts were is known after a restart.
    let file = data.join("ceralacca.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("new_country = \"warn\"", "new_country = \"suspend\""))?;
    ensure!(demo.stop()?.success());
    let demo = Demo::start(&data)?;
    sign_in_elsewhere(&demo, "mrossi")?;
    let refused = sign_in_elsewhere(&demo, "abianchi").err().context("signed in")?.to_string();
    ensure!(refused.contains("525 5.7.13 This account is suspended"), "{refused}");
    ensure!(told(&demo, "suspended")?.as_deref() == Some("1") && told(&demo, "warned")?.is_none());
    let anna = "anna.bianchi@pec.alfa.example";
    let found = outside::told(&demo, &["log", "find", "--account", anna])?;
    let frozen =
        found.iter().find(|record| record["event"] == "sospensione").context("no record")?;
    ensure!(frozen["errore_esteso"] == "signed in from FR, where it never was", "{frozen}");
    ensure!(demo.submit_as("abianchi").is_err() && demo.imap_as("abianchi").is_err());
    account(&data, &["resume", anna], "")?;
    sign_in_elsewhere(&demo, "abianchi")?;
    // A file that says nothing keeps the server from starting, and is named.
    std::fs::write(&nets, "127.0.0.0/8;IT\n")?;
    ensure!(demo.stop()?.success());
    let refused = Demo::start(&data).err().context("started")?.to_string();
    ensure!(
        refused.contains("line 1: `127.0.0.0/8;IT` is not like `192.0.2.0/24,IT`"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn a_machine_signs_in_from_its_own_networks_only_and_has_limits_of_its_own() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let machines =
        format!("\n[machines.\"{MARIO}\"]\nnetworks = [\"127.0.0.2/32\"]\nmessages = [1, 0, 0]\n");
    let demo = limited(&folder.path().join("demo"), "unthrottled = []", &machines)?;
    let refused = demo.submit_as("mrossi").err().context("signed in")?.to_string();
    ensure!(
        refused.ends_with("535 5.7.8 This account may not sign in from your address"),
        "{refused}"
    );
    ensure!(demo.imap_as("mrossi").is_err());
    let wire = wire::connect_from(ELSEWHERE, demo.address("submissions")?)?;
    let mut smtp = Smtp { wire: wire.start_tls(&demo.tls())? };
    smtp.expect("220")?;
    smtp.hello()?;
    smtp.login("mrossi", "ceralacca-demo")?;
    let from = format!("MAIL FROM:<{MARIO}>");
    ensure!(say(&mut smtp, &from)? == "250 2.1.0 Sender accepted");
    say(&mut smtp, "RSET")?;
    let told = say(&mut smtp, &from)?;
    ensure!(is_put_off(&told, "450 4.7.1 Too many messages of your account in a minute"), "{told}");
    demo.submit_as("abianchi")?;
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn a_balancer_says_whose_its_connections_are_and_nobody_else_may() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let changes = [
        ("\naddress = ", "\nproxy_from = [\"127.0.0.2\"]\naddress = "),
        // Nobody is to be asked about the host that the balancer names.
        ("[ordinary_mail]\n", "[ordinary_mail]\ntrusted = [\"198.51.100.0/24\"]\n"),
    ];
    let demo = Demo::start_changed(&data, &changes, "")?;
    let balanced = |service: &str, header: &[u8]| -> anyhow::Result<Wire> {
        let mut wire = wire::connect_from(ELSEWHERE, demo.address(service)?)?;
        wire.write(header)?;
        Ok(wire)
    };
    const FIRST: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n";
    // Version 2: signature, PROXY over TCP of IPv4, twelve octets of addresses.
    const SECOND: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\0\x19";
    for (number, header) in [FIRST, SECOND].into_iter().enumerate() {
        let mut smtp = Smtp { wire: balanced("smtp", header)? };
        smtp.expect("220")?;
        smtp.hello()?;
        smtp.command("MAIL FROM:<a@ordinary.example>", "250")?;
        smtp.command(&format!("RCPT TO:<{MARIO}>"), "250")?;
        smtp.command("DATA", "354")?;
        smtp.wire.write(&stuffed(b"From: a@ordinary.example\r\nSubject: ciao\r\n\r\nciao\r\n"))?;
        let reply = smtp.reply()?;
        ensure!(reply.starts_with("250 "), "{reply}");
        let mut imap = demo.imap_as(MARIO)?;
        imap.wait_for_count("INBOX", number as u64 + 1)?;
        let (_, octets) = imap.messages("INBOX")?.pop().context("nothing arrived")?;
        ensure!(String::from_utf8(octets)?.contains("[198.51.100.7]"));
    }
    // From a balancer, what has no header is no connection.
    let mut none = balanced("smtp", b"EHLO client.example\r\n")?;
    none.closed()?;
    // The header goes before TLS.
    let mut smtp = Smtp { wire: balanced("submissions", FIRST)?.start_tls(&demo.tls())? };
    smtp.expect("220")?;
    // From anybody else the header is a bad command.
    let mut direct = Smtp::connect_clear(demo.address("smtp")?)?;
    ensure!(
        say(&mut direct, "PROXY TCP4 198.51.100.7 192.0.2.1 4711 25")?
            == "500 5.5.2 Command not recognized: see HELP"
    );
    ensure!(demo.stop()?.success());
    Ok(())
}

/// RFC 4422 appendix A: a machine shows its certificate in the handshake, and needs no password.
#[test]
fn a_machine_signs_in_with_its_certificate_and_with_no_other() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let (pinned, other) = (identity("robot")?, identity("altro")?);
    let machines = format!("\n[machines.\"{MARIO}\"]\ncertificate = \"robot.pem\"\n");
    let demo = Demo::start_changed(&data, &[], &machines)?;
    std::fs::write(data.join("robot.pem"), &pinned.0)?;
    let ca = std::fs::read(demo.ready["ca"].as_str().context("no ca")?)?;
    // Whether EXTERNAL is offered to who shows this certificate, and what it is answered.
    let external = |shown: Option<&(String, String)>,
                    said: &str|
     -> anyhow::Result<(bool, String)> {
        let tls = match shown {
            Some((certificate, key)) => wire::showing(&ca, certificate.as_bytes(), key.as_bytes())?,
            None => wire::trusting(&ca)?,
        };
        let mut smtp = Smtp::connect(demo.address("submissions")?, &tls)?;
        let offered = smtp.hello()?.contains("250-AUTH EXTERNAL ");
        let reply = say(&mut smtp, &format!("AUTH EXTERNAL {said}"))?;
        if reply.starts_with("235") {
            smtp.command(&format!("MAIL FROM:<{MARIO}>"), "250")?;
        }
        Ok((offered, reply))
    };
    const GOOD: &str = "235 2.7.0 Authentication succeeded";
    const WRONG: &str =
        "535 5.7.8 Authentication credentials invalid: check user name and password";
    const NONE: &str = "504 5.5.4 Mechanism not supported: use one that EHLO announced";
    let own = &pinned;
    ensure!(external(Some(own), "=")? == (true, GOOD.to_owned()));
    // As itself by either name, and as nobody else.
    ensure!(external(Some(own), "bXJvc3Np")? == (true, GOOD.to_owned()));
    ensure!(external(Some(own), "Y29tdW5l")? == (true, WRONG.to_owned()));
    ensure!(external(Some(&other), "=")? == (true, WRONG.to_owned()));
    ensure!(external(None, "=")? == (false, NONE.to_owned()));
    // The key must be that of the certificate, or there is no handshake.
    let stolen = (pinned.0.clone(), other.1.clone());
    ensure!(external(Some(&stolen), "=").is_err());
    ensure!(demo.stop()?.success());
    Ok(())
}

/// A certificate that nobody issued but its owner, and its key, in PEM.
fn identity(name: &str) -> anyhow::Result<(String, String)> {
    use openssl::asn1::Asn1Time;
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::{X509, X509NameBuilder};
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*BigNum::from_u32(1)?.to_asn1_integer()?)?;
    certificate.set_subject_name(&subject)?;
    certificate.set_issuer_name(&subject)?;
    certificate.set_pubkey(&key)?;
    certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    certificate.set_not_after(&*Asn1Time::days_from_now(30)?)?;
    certificate.sign(&key, MessageDigest::sha256())?;
    let certificate = String::from_utf8(certificate.build().to_pem()?)?;
    Ok((certificate, String::from_utf8(key.private_key_to_pem_pkcs8()?)?))
}
