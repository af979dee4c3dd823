//! What commands cost as mailboxes grow: those that ask for the same of any mailbox should cost the same, those that ask
//! for all of it in proportion. And how long another session waits for its own small command meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::client::Client;
use super::corpus;
use super::figures::{Better, Figures, millis, percentile, tell};
use super::party::{Door, Kind, Party};

/// Messages that a small command is about.
const SOME: usize = 20;
/// Mailboxes above this are made by copying one of this size, and at ours only.
const COPIED_ABOVE: usize = 100_000;
/// Messages of one COPY at most: ours takes no more at once, and announces that as SAVELIMIT.
const COPIED_AT_ONCE: usize = 100_000;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let largest = bench.size(10_000, 100_000);
    let sizes = [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= largest);
    for size in sizes {
        let rounds = bench.rounds;
        let parties = bench
            .parties
            .iter_mut()
            .filter(|party| size <= COPIED_ABOVE || party.kind == Kind::Ceralacca);
        let mut told: Vec<(&'static str, Figures)> = Vec::new();
        for party in parties {
            for (what, figures) in measure(party, size, rounds)? {
                match told.iter_mut().find(|(known, _)| *known == what) {
                    Some((_, known)) => known.push((party.kind, figures)),
                    None => told.push((what, vec![(party.kind, figures)])),
                }
            }
        }
        for (what, figures) in told {
            tell(&format!("of {size}: {what}"), "ms", Better::Less, &figures);
        }
    }
    Ok(())
}

type Measured = Vec<(&'static str, Vec<f64>)>;

fn measure(party: &mut Party, size: usize, rounds: usize) -> anyhow::Result<Measured> {
    let name = made(party, size)?;
    let mut client = party.enter(0)?;
    let mut measured: Measured = Vec::new();
    // Asked once before, so that each server has made what it makes once.
    for counted in [false, true] {
        for round in 0..if counted { rounds } else { 1 } {
            for (what, command) in small(size, round) {
                let command = command.replace("{}", &name);
                let began = Instant::now();
                client.ok(&command)?;
                if counted {
                    add(&mut measured, what, millis(began.elapsed()));
                }
            }
        }
    }
    client.ok("CLOSE")?;
    for round in 0..rounds.min(3) {
        for (what, figure) in whole(party, &name, size, round)? {
            add(&mut measured, what, figure);
        }
    }
    Ok(measured)
}

fn add(measured: &mut Measured, what: &'static str, figure: f64) {
    match measured.iter_mut().find(|(known, _)| *known == what) {
        Some((_, figures)) => figures.push(figure),
        None => measured.push((what, vec![figure])),
    }
}

/// Commands that ask for a little, in their order.
fn small(size: usize, round: usize) -> Vec<(&'static str, String)> {
    let first = size / 2 + round * SOME;
    let some = format!("{first}:{}", first + SOME - 1);
    vec![
        ("SELECT", "SELECT {}".to_owned()),
        ("STATUS", "STATUS {} (MESSAGES UNSEEN UIDNEXT SIZE)".to_owned()),
        ("FETCH of 20 for a list", format!("FETCH {some} (UID FLAGS ENVELOPE BODYSTRUCTURE)")),
        ("FETCH of one body", format!("FETCH {first} (BODY.PEEK[])")),
        ("STORE of 20", format!("STORE {some} +FLAGS (\\Flagged)")),
        ("STORE of 20 back", format!("STORE {some} -FLAGS (\\Flagged)")),
        ("SEARCH of 20", format!("SEARCH {some} UNSEEN")),
        ("NOOP", "NOOP".to_owned()),
    ]
}

/// Commands that ask for all, each with the longest wait of another session meanwhile.
fn whole(
    party: &mut Party,
    name: &str,
    size: usize,
    round: usize,
) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let copies = format!("copia{size}x{round}");
    let moved = format!("via{size}x{round}");
    party.fill(0, &copies, &[])?;
    party.fill(0, &moved, &[])?;
    party.fill(1, "accanto", &[])?;
    let door = party.door()?;
    let mut client = party.enter(0)?;
    let mut figures = Vec::new();
    for (what, wait, before, commands) in [
        (
            "COPY of all",
            "another's APPEND during COPY",
            format!("SELECT {name}"),
            portions(size, &copies),
        ),
        (
            "STORE of all",
            "another's APPEND during STORE",
            format!("SELECT {copies}"),
            vec!["STORE 1:* +FLAGS.SILENT (\\Flagged)".to_owned()],
        ),
        (
            "SEARCH of all",
            "another's APPEND during SEARCH",
            format!("SELECT {copies}"),
            vec!["SEARCH UNSEEN".to_owned()],
        ),
        (
            "MOVE of all",
            "another's APPEND during MOVE",
            format!("SELECT {copies}"),
            vec![format!("MOVE 1:* {moved}")],
        ),
        (
            "STORE \\Deleted of all",
            "another's APPEND during STORE",
            format!("SELECT {moved}"),
            vec!["STORE 1:* +FLAGS.SILENT (\\Deleted)".to_owned()],
        ),
        (
            "EXPUNGE of all",
            "another's APPEND during EXPUNGE",
            format!("SELECT {moved}"),
            vec!["EXPUNGE".to_owned()],
        ),
    ] {
        client.ok(&before)?;
        let (took, longest) = meanwhile(&door, &mut client, &commands)?;
        figures.push((what, millis(took)));
        figures.push((wait, longest));
    }
    client.ok("CLOSE")?;
    for mailbox in [copies, moved] {
        ensure!(client.count(&mailbox)? == Some(0), "{mailbox} is not empty");
        client.ok(&format!("DELETE {mailbox}"))?;
    }
    Ok(figures)
}

/// Copies of all messages, as many in each command as one takes.
fn portions(size: usize, to: &str) -> Vec<String> {
    let portion = |first: usize| {
        let last = size.min(first + COPIED_AT_ONCE - 1);
        format!("COPY {first}:{last} {to}")
    };
    (1..=size).step_by(COPIED_AT_ONCE).map(portion).collect()
}

/// How long commands took, one after the other, and the longest APPEND of another user while they ran.
fn meanwhile(
    door: &Door,
    client: &mut Client,
    commands: &[String],
) -> anyhow::Result<(Duration, f64)> {
    let over = AtomicBool::new(false);
    let mut other = door.enter(1)?;
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| -> anyhow::Result<Vec<f64>> {
            let text = corpus::message(7);
            let mut times = Vec::new();
            // Once at least, however short the command is.
            loop {
                let began = Instant::now();
                other.with_literals(&[("APPEND accanto", &text)])?;
                times.push(millis(began.elapsed()));
                if over.load(Ordering::Relaxed) {
                    return Ok(times);
                }
                scenarios::wire::pause();
            }
        });
        let began = Instant::now();
        let done = commands.iter().try_for_each(|command| client.ok(command).map(drop));
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        let times = beside.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        done?;
        Ok((took, percentile(&times, 100).context("no APPEND")?))
    })
}

/// A mailbox with so many messages; the largest by copying.
fn made(party: &mut Party, size: usize) -> anyhow::Result<String> {
    if size <= COPIED_ABOVE {
        return party.mailbox_of(size);
    }
    let from = party.mailbox_of(COPIED_ABOVE)?;
    let name = format!("di{size}");
    let mut client = party.enter(0)?;
    if client.count(&name)? == Some(size) {
        return Ok(name);
    }
    party.fill(0, &name, &[])?;
    client.ok(&format!("EXAMINE {from}"))?;
    for _ in 0..size / COPIED_ABOVE {
        client.ok(&format!("COPY 1:* {name}"))?;
    }
    ensure!(client.count(&name)? == Some(size), "{name} is not full");
    Ok(name)
}
