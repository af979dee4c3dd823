//! How many messages a second are answered `250`, durably, at 64 connections with TLS.
//!
//! Ours are submissions of a user who has signed in: the formal checks are made, the original, its log
//! record and its job are committed. Certifying is switched off for the measure by stopping the process
//! that signs (SIGSTOP): the program is the one that is shipped. Postfix answers when the message is in
//! its queue, and delivers meanwhile, which its numbers are told with and without.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use scenarios::{Demo, Smtp};

use super::{
    ACCOUNTS, Bodies, Mailboxes, OCTETS, STRANGER, Until, clients, folder, load, postfix, rate,
    send,
};

/// Connections at once.
pub const CONNECTIONS: usize = 64;
/// How long a run is: shorter than a stopped signer is waited for.
const TIME: Duration = Duration::from_secs(6);
const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";

/// Ours, in one run.
///
/// # Errors
///
/// When a message is refused.
pub fn ours(bodies: &Bodies) -> anyhow::Result<f64> {
    let folder = folder()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut clients = super::signed_in(&demo, "mrossi", CONNECTIONS)?;
    stop_signing(&demo)?;
    let (count, took) = load(&mut clients, Until::Time(TIME), |smtp, number| {
        send(smtp, FROM, TO, &bodies.message(FROM, TO, number, OCTETS))
    })?;
    demo.kill()?;
    Ok(rate(count, took))
}

/// From now on nothing is signed, and nothing that waits for a signature goes on.
///
/// # Errors
///
/// When there is no process that signs.
pub fn stop_signing(demo: &Demo) -> anyhow::Result<()> {
    let signer = demo.signer()?.context("nobody signs")?;
    let signer = Pid::from_raw(i32::try_from(signer)?).context("no such process")?;
    Ok(kill_process(signer, Signal::STOP)?)
}

/// Postfix's, in one run: answered a second, and delivered a second.
///
/// # Errors
///
/// When a message is refused or does not arrive.
pub fn theirs(
    bodies: &Bodies,
    demo: &Demo,
    mailboxes: &Mailboxes,
    delivers: bool,
) -> anyhow::Result<(f64, f64)> {
    let mut more = mailboxes.transport();
    if !delivers {
        more += "defer_transports = lmtp\n";
    }
    let mta = postfix(&demo.data, &more)?;
    let mut clients = clients(mta.listen(), &demo.tls(), CONNECTIONS)?;
    let before = mailboxes.messages()?;
    let began = Instant::now();
    let (count, took) = load(&mut clients, Until::Time(TIME), |smtp, number| {
        one_to_postfix(smtp, number, bodies, OCTETS)
    })?;
    let answered = rate(count, took);
    if !delivers {
        return Ok((answered, 0.0));
    }
    scenarios::wire::until_within("the last delivery", Duration::from_secs(120), || {
        Ok((mailboxes.messages()? >= before + count).then_some(()))
    })?;
    Ok((answered, rate(count, began.elapsed())))
}

/// One message to one of Postfix's accounts.
///
/// # Errors
///
/// When it is refused.
pub fn one_to_postfix(
    smtp: &mut Smtp,
    number: usize,
    bodies: &Bodies,
    octets: usize,
) -> anyhow::Result<()> {
    let to = format!("u{}@ordinary.example", number % ACCOUNTS);
    send(smtp, STRANGER, &to, &bodies.message(STRANGER, &to, number, octets))
}
