//! Mail that is not certified, from other hosts: what its domain says of it decides, and is written
//! down. Names come from a server of the test's own.

use std::path::Path;

use anyhow::{Context, ensure};
use scenarios::dns::Dns;
use scenarios::smtp::stuffed;
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
    let mut smtp = Smtp::connect_clear(demo.address("smtp")?)?;
    smtp.hello()?;
    smtp.command(&format!("MAIL FROM:<{from}>"), "250")?;
    smtp.command(&format!("RCPT TO:<{MARIO}>"), "250")?;
    smtp.command("DATA", "354")?;
    let message = format!(
        "{more}From: {author}\r\nTo: {MARIO}\r\nSubject: ciao\r\nMessage-ID: <{}@x>\r\n\
         Date: Mon, 2 Mar 2026 09:00:00 +0100\r\n\r\nciao\r\n",
        std::process::id()
    );
    smtp.wire.write(&stuffed(message.as_bytes()))?;
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
