//! Mail that is not certified, from other hosts: what its domain says of it decides, and is written
//! down. Names come from a server of the test's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use base64::Engine as _;
use scenarios::dns::Dns;
use scenarios::outside::told;
use scenarios::smtp::stuffed;
use scenarios::tools::{here, tool};
use scenarios::{Demo, Smtp};

const MARIO: &str = "mario.rossi@pec.alfa.example";
/// What the demo's configuration says of ordinary mail.
const POLICY: &str = "[ordinary_mail]\npolicy = \"deliver\"\n";

/// A demo that trusts no network, and asks this server for names.
fn demo(data: &Path, dns: &Dns, more: &str) -> anyhow::Result<Demo> {
    let names = format!("\n[dns]\nnameservers = [\"{}\"]\n", dns.address);
    let policy = format!("{POLICY}trusted = []\n{more}");
    Demo::start_changed(data, &[(POLICY, &policy)], &names)
}

/// One message from there; what its end of data is answered.
fn bring(demo: &Demo, from: &str, author: &str, more: &str) -> anyhow::Result<String> {
    let message = format!(
        "{more}From: {author}\r\nTo: {MARIO}\r\nSubject: ciao\r\nMessage-ID: <{}@x>\r\n\
         Date: Mon, 2 Mar 2026 09:00:00 +0100\r\n\r\nciao\r\n",
        std::process::id()
    );
    send(Smtp::connect_clear(demo.address("smtp")?)?, from, message.as_bytes())
}

/// Octets for Mario, on a connection that nothing was said on; what their end is answered.
fn send(mut smtp: Smtp, from: &str, octets: &[u8]) -> anyhow::Result<String> {
    smtp.hello()?;
    smtp.command(&format!("MAIL FROM:<{from}>"), "250")?;
    smtp.command(&format!("RCPT TO:<{MARIO}>"), "250")?;
    smtp.command("DATA", "354")?;
    smtp.wire.write(&stuffed(octets))?;
    smtp.reply()
}

/// The last message in Mario's INBOX, unfolded.
fn arrived(demo: &Demo, count: u64) -> anyhow::Result<String> {
    let mut imap = demo.imap_as(MARIO)?;
    imap.wait_for_count("INBOX", count)?;
    let (_, octets) = imap.messages("INBOX")?.pop().context("nothing arrived")?;
    Ok(String::from_utf8(octets)?.replace("\r\n\t", " ").replace("\r\n ", " "))
}

#[test]
fn what_the_domain_does_not_permit_is_refused_in_words_that_say_what_to_mend() -> anyhow::Result<()>
{
    let dns = Dns::start(&[
        ("chiuso.example", "v=spf1 ip4:192.0.2.1 -all"),
        ("morbido.example", "v=spf1 ip4:192.0.2.1 ~all"),
        ("aperto.example", "v=spf1 ip4:127.0.0.0/8 -all"),
        ("_dmarc.severo.example", "v=DMARC1; p=reject"),
        ("_dmarc.mite.example", "v=DMARC1; p=none"),
        ("_dmarc.aperto.example", "v=DMARC1; p=reject"),
    ])?;
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &dns, "")?;
    let spf = "550 5.7.23 Recipient address rejected: Failed SPF check for chiuso.example: 127.0.0.1 \
               is not permitted; add it to the SPF record or send through a host that the record names";
    ensure!(bring(&demo, "a@chiuso.example", "a@chiuso.example", "")? == spf);
    let dmarc = "550 5.7.26 Recipient address rejected: Failed DMARC check for severo.example: \
                 neither SPF nor DKIM vouches for it; sign as severo.example or send through a host \
                 that its SPF record names";
    ensure!(bring(&demo, "", "a@severo.example", "")? == dmarc);
    // Who may send as one domain may not write as another that is severe.
    ensure!(bring(&demo, "a@aperto.example", "a@severo.example", "")? == dmarc);
    let taken = |count, from: &str, author: &str, results: &[&str]| -> anyhow::Result<()> {
        let reply = bring(&demo, from, author, "")?;
        ensure!(reply.starts_with("250 2.0.0 Accepted as "), "{from}: {reply}");
        let arrived = arrived(&demo, count)?;
        for result in results {
            ensure!(arrived.contains(result), "{from}: no {result} in {arrived}");
        }
        Ok(())
    };
    let ours = "Authentication-Results: pec.alfa.example;";
    taken(1, "a@aperto.example", "a@aperto.example", &[ours, "spf=pass", "dmarc=pass"])?;
    taken(2, "a@morbido.example", "a@morbido.example", &[ours, "spf=softfail", "dmarc=none"])?;
    taken(
        3,
        "a@nessuno.example",
        "a@mite.example",
        &[ours, "spf=none", "dkim=none", "dmarc=fail"],
    )?;
    ensure!(dns.asked() > 0);
    Ok(())
}

/// Our users' mail never comes from outside: whoever says that it does writes in their name.
#[test]
fn a_stranger_is_nobody_of_ours() -> anyhow::Result<()> {
    let dns = Dns::start(&[])?;
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &dns, "")?;
    let mut stranger = Smtp::connect_clear(demo.address("smtp")?)?;
    stranger.hello()?;
    for from in [MARIO, "MARIO.ROSSI@PEC.ALFA.EXAMPLE", "nessuno@pec.beta.example"] {
        stranger.wire.write(format!("MAIL FROM:<{from}>\r\n").as_bytes())?;
        let refused = "550 5.7.1 Sender address belongs to this server: authenticate to use it";
        ensure!(stranger.reply()? == refused, "{from}");
    }
    // Others, and nobody: RFC 5321 §4.5.5.
    for from in ["a@sub.pec.alfa.example", ""] {
        stranger.command(&format!("MAIL FROM:<{from}>"), "250 2.1.0 Sender accepted")?;
        stranger.command("RSET", "250")?;
    }
    Ok(())
}

#[test]
fn an_outage_refuses_nothing_and_is_written_down() -> anyhow::Result<()> {
    let dns = Dns::start(&[("chiuso.example", "v=spf1 -all")])?;
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &dns, "")?;
    dns.fail(true);
    let reply = bring(&demo, "a@chiuso.example", "a@chiuso.example", "")?;
    ensure!(reply.starts_with("250 "), "{reply}");
    let arrived = arrived(&demo, 1)?;
    ensure!(arrived.contains("spf=temperror"), "{arrived}");
    Ok(())
}

#[test]
fn the_operator_may_have_it_written_down_only_and_forged_results_go() -> anyhow::Result<()> {
    let dns = Dns::start(&[
        ("chiuso.example", "v=spf1 -all"),
        ("_dmarc.chiuso.example", "v=DMARC1; p=reject"),
    ])?;
    let folder = tempfile::tempdir()?;
    let more = "spf = \"record\"\ndmarc = \"record\"\n";
    let demo = demo(&folder.path().join("demo"), &dns, more)?;
    let forged = "Authentication-Results: pec.alfa.example; spf=pass smtp.mailfrom=falso\r\n\
                  Authentication-Results: altrove.example; spf=pass smtp.mailfrom=altrui\r\n";
    let reply = bring(&demo, "a@chiuso.example", "a@chiuso.example", forged)?;
    ensure!(reply.starts_with("250 "), "{reply}");
    let arrived = arrived(&demo, 1)?;
    ensure!(arrived.contains("spf=fail") && arrived.contains("dmarc=fail"), "{arrived}");
    ensure!(arrived.contains("altrui") && !arrived.contains("falso"), "{arrived}");
    Ok(())
}

/// Each signature costs a question and a hash of the whole body: one past the bound, none is made.
#[test]
fn a_message_with_too_many_signatures_is_not_looked_into() -> anyhow::Result<()> {
    let dns = Dns::start(&[("aperto.example", "v=spf1 +all")])?;
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &dns, "")?;
    let signatures = |count: usize| {
        (0..count)
            .map(|number| {
                format!(
                    "DKIM-Signature: v=1; a=rsa-sha256; d=aperto.example; s=s{number}; h=From; \
                     l={number}; bh=AAAA; b=AAAA\r\n"
                )
            })
            .collect::<String>()
    };
    for (number, (count, result)) in [(10, "dkim=neutral"), (11, "dkim=policy")].iter().enumerate()
    {
        let reply = bring(&demo, "a@aperto.example", "a@aperto.example", &signatures(*count))?;
        ensure!(reply.starts_with("250 "), "{reply}");
        let arrived = arrived(&demo, number as u64 + 1)?;
        ensure!(arrived.contains(result), "{count}: {arrived}");
    }
    Ok(())
}

/// A host that hands messages on, and seals what it found.
struct Sealer {
    host: &'static str,
    key: PathBuf,
}

impl Sealer {
    /// With a key of its own, which DNS has the other half of.
    fn new(host: &'static str, folder: &Path, dns: &Dns) -> anyhow::Result<Self> {
        let rsa = openssl::rsa::Rsa::generate(2048)?;
        let key = folder.join(format!("{host}.key"));
        std::fs::write(&key, rsa.private_key_to_pem()?)?;
        let public = base64::prelude::BASE64_STANDARD.encode(rsa.public_key_to_der()?);
        dns.set(&format!("s1._domainkey.{host}"), &format!("v=DKIM1; k=rsa; p={public}"));
        Ok(Self { host, key })
    }

    /// The message with one more set of ARC, by Python's dkim (RFC 8617 §5.1).
    fn seal(&self, message: &[u8], status: &str) -> anyhow::Result<Vec<u8>> {
        // Debian's own, for which Debian has the packages.
        let mut command = tool("/usr/bin/python3", "python3-dkim python3-authres")?;
        command.arg("-B").arg(here().join("clients/arc_sign.py")).arg(self.host);
        command.arg(&self.key).arg(status).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("python")?;
        child.stdin.take().context("no standard input")?.write_all(message)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{} does not seal", self.host);
        Ok(output.stdout)
    }
}

// RFC 8617 §4.4, §5.2: what hosts on the way say that they found, and whether they said it.
#[test]
fn a_chain_of_arc_is_checked_and_what_came_of_it_is_written_down() -> anyhow::Result<()> {
    let dns = Dns::start(&[("x.example", "v=spf1 ip4:192.0.2.1 ~all")])?;
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &dns, "")?;
    let list = Sealer::new("lista.example", folder.path(), &dns)?;
    let forwarder = Sealer::new("inoltro.example", folder.path(), &dns)?;
    let message = format!(
        "From: a@x.example\r\nTo: {MARIO}\r\nSubject: ciao\r\nMessage-ID: <arc@x.example>\r\n\
         Date: Mon, 2 Mar 2026 09:00:00 +0100\r\n\r\nciao\r\n"
    );
    let once = list.seal(message.as_bytes(), "none")?;
    let twice = forwarder.seal(&once, "pass")?;
    let changed = |octets: &[u8], from: &str, to: &str| {
        let text = String::from_utf8_lossy(octets);
        assert!(text.contains(from), "no {from} in {text}");
        text.replacen(from, to, 1).into_bytes()
    };
    for (number, (what, octets, result)) in [
        ("no set", message.clone().into_bytes(), "none"),
        ("one set", once.clone(), "pass"),
        ("two sets", twice.clone(), "pass"),
        ("another body", changed(&twice, "\r\n\r\nciao\r\n", "\r\n\r\naddio\r\n"), "fail"),
        ("another subject", changed(&twice, "Subject: ciao", "Subject: addio"), "fail"),
        (
            "other results of the first",
            changed(&twice, "i=1; lista.example; spf=pass", "i=1; lista.example; spf=fail"),
            "fail",
        ),
        ("a set too few", changed(&twice, "ARC-Seal: i=1", "X-Seal: i=1"), "fail"),
        ("a chain that had failed", forwarder.seal(&once, "fail")?, "fail"),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = send(Smtp::connect_clear(demo.address("smtp")?)?, "a@x.example", &octets)?;
        ensure!(reply.starts_with("250 "), "{what}: {reply}");
        let arrived = arrived(&demo, number as u64 + 1)?;
        let results = arrived.split("Authentication-Results: pec.alfa.example;").nth(1);
        let (results, _) =
            results.and_then(|rest| rest.split_once("\r\n")).context("no results")?;
        let expected = format!("; arc={result}");
        ensure!(results.contains(&expected), "{what}: no{expected} in {results}");
        // The log record has the same.
        let records = told(&demo, &["log", "find", "--message-id", "arc@x.example"])?;
        let notes = records.last().context("no record")?["notes"].to_string();
        ensure!(notes.contains(&format!("arc={result}")), "{what}: {notes}");
    }
    Ok(())
}

// PEC-PR-29: TLS is not asked of strangers; that it was not there is written down.
#[test]
fn whether_a_message_came_in_clear_is_in_its_log_record() -> anyhow::Result<()> {
    let dns = Dns::start(&[])?;
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &dns, "")?;
    for (count, tls) in [(1, false), (2, true)] {
        let mut smtp = Smtp::connect_clear(demo.address("smtp")?)?;
        if tls {
            smtp.hello()?;
            smtp = smtp.start_tls(&demo.tls())?;
        }
        let message = format!(
            "From: a@x.example\r\nTo: {MARIO}\r\nSubject: ciao\r\nMessage-ID: <{count}@x.example>\r\n\
             Date: Mon, 2 Mar 2026 09:00:00 +0100\r\n\r\nciao\r\n"
        );
        let reply = send(smtp, "a@x.example", message.as_bytes())?;
        ensure!(reply.starts_with("250 "), "{reply}");
        arrived(&demo, count)?;
        let id = format!("{count}@x.example");
        let records = told(&demo, &["log", "find", "--message-id", &id])?;
        let note = records.last().context("no record")?["notes"][0].to_string();
        let clear = "\"came from 127.0.0.1 in clear\"";
        let good = match tls {
            true => note.starts_with("\"came from 127.0.0.1 with TLSv1_3 TLS13_"),
            false => note == clear,
        };
        ensure!(good, "TLS {tls}: {note}");
    }
    Ok(())
}
