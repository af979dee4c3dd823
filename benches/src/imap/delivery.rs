//! From the last octet of a message to the EXISTS that an idling client reads.

use std::time::Instant;

use anyhow::Context as _;
use scenarios::smtp::Smtp;
use scenarios::wire;

use super::Bench;
use super::client::Client;
use super::corpus;
use super::figures::{Better, Figures, millis, percentile, tell};
use super::party::{Kind, Party, user};
use crate::smtp::Bodies;
use crate::smtp::delivery::Receipts;

const MAILBOX: &str = "INBOX";
/// What a certified message brings to its sender: acceptance and delivery.
const RECEIPTS: usize = 2;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let messages = bench.size(20, 300);
    let (mut appended, mut delivered, mut submitted): (Figures, Figures, Figures) =
        Default::default();
    for party in &mut bench.parties {
        // Dovecot gathers what comes for half a second before it tells: fewer are enough.
        let messages = if party.kind == Kind::Ceralacca { messages } else { messages.min(60) };
        appended.push((party.kind, by_append(party, messages)?));
        let by_smtp = by_smtp(party, messages)?;
        let by_host = match party.kind {
            Kind::Ceralacca => by_host(messages)?,
            _ => by_smtp.clone(),
        };
        delivered.push((party.kind, by_host));
        submitted.push((party.kind, by_smtp));
    }
    for (what, figures) in [
        ("APPEND to EXISTS", &appended),
        ("delivery by another host to EXISTS", &delivered),
        ("submission to EXISTS of its receipt", &submitted),
    ] {
        tell(&format!("{what}, median"), "ms", Better::Less, figures);
        let worst = |(kind, times): &(_, Vec<f64>)| Some((*kind, vec![percentile(times, 99)?]));
        let worst: Figures = figures.iter().filter_map(worst).collect();
        tell(&format!("{what}, p99"), "ms", Better::Less, &worst);
    }
    Ok(())
}

/// Another session of the same user adds it.
fn by_append(party: &mut Party, messages: usize) -> anyhow::Result<Vec<f64>> {
    let mut idling = party.enter(0)?;
    let mut adding = party.enter(0)?;
    idling.ok(&format!("SELECT {MAILBOX}"))?;
    let mut times = Vec::new();
    for number in 0..messages {
        let text = corpus::plain(number, 20_000);
        idling.idle()?;
        let tag = adding.next_tag();
        let mut octets = format!("{tag} APPEND {MAILBOX} {{{}+}}\r\n", text.len()).into_bytes();
        octets.extend_from_slice(&text);
        octets.extend_from_slice(b"\r\n");
        adding.send(&octets)?;
        times.push(told(&mut idling, Instant::now())?);
        adding.answered("APPEND")?;
        idling.done()?;
    }
    Ok(times)
}

/// To ours by another provider: receipts that it signed, verified and delivered here.
fn by_host(messages: usize) -> anyhow::Result<Vec<f64>> {
    let bodies = Bodies::random(messages * 30_000)?;
    let told = Receipts::sign(&bodies, messages)?.until_told()?;
    Ok(told.into_iter().map(millis).collect())
}

/// By SMTP: to Dovecot with LMTP; to ours as certified mail, whose acceptance receipt, signed, is what the sender waits
/// for.
fn by_smtp(party: &mut Party, messages: usize) -> anyhow::Result<Vec<f64>> {
    let mut idling = party.enter(0)?;
    idling.ok(&format!("SELECT {MAILBOX}"))?;
    let mut smtp = match (party.demo(), party.lmtp()) {
        (Some(demo), _) => demo.submit_as(&user(0))?,
        (None, lmtp) => {
            let mut lmtp = Smtp::connect_clear(lmtp.context("no LMTP")?)?;
            lmtp.command("LHLO client.example", "250")?;
            lmtp
        }
    };
    let (from, to) = match party.demo() {
        Some(_) => (user(0), user(1)),
        None => (user(1), user(0)),
    };
    let mut times = Vec::new();
    for number in 0..messages {
        let text = crate::message(&from, &to, &format!("consegna{number}"), 20_000);
        let all = count(&mut idling)? + if party.demo().is_some() { RECEIPTS } else { 1 };
        idling.idle()?;
        smtp.command(&format!("MAIL FROM:<{from}>"), "250")?;
        smtp.command(&format!("RCPT TO:<{to}>"), "250")?;
        smtp.command("DATA", "354")?;
        smtp.wire.write(&[text.as_slice(), b".\r\n"].concat())?;
        times.push(told(&mut idling, Instant::now())?);
        smtp.expect("250")?;
        idling.done()?;
        // What comes after the first is not the next one's.
        while count(&mut idling)? < all {
            wire::pause();
        }
    }
    Ok(times)
}

fn count(client: &mut Client) -> anyhow::Result<usize> {
    client.ok("NOOP")?;
    client.count(MAILBOX)?.context("no mailbox")
}

fn told(idling: &mut Client, since: Instant) -> anyhow::Result<f64> {
    idling.until(b" EXISTS\r\n")?;
    Ok(millis(since.elapsed()))
}
