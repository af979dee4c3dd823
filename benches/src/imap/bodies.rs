//! Messages read whole: many short ones one after the other, and some that are very long.

use std::time::Instant;

use anyhow::ensure;

use super::Bench;
use super::corpus;
use super::figures::{Better, rate, tell};

/// A long one.
const LARGE_OCTETS: usize = 30_000_000;
const LARGE: usize = 4;

/// One command a message, the next when the answer is there: what a client does that opens one after the other.
pub(super) fn one_by_one(bench: &mut Bench) -> anyhow::Result<()> {
    let size = bench.size(1_000, 10_000);
    let mut figures = Vec::new();
    for party in &mut bench.parties {
        party.mailbox_of(size)?;
        party.settle()?;
        figures.push((party.kind, Vec::new()));
    }
    for _ in 0..bench.rounds {
        for (party, (_, rates)) in bench.parties.iter().zip(&mut figures) {
            let mut client = party.enter(0)?;
            client.ok(&format!("EXAMINE di{size}"))?;
            let began = Instant::now();
            for number in 1..=size {
                let answer = client.ok(&format!("FETCH {number} (BODY.PEEK[])"))?;
                ensure!(answer.octets > 3_000, "a short answer for {number}");
            }
            rates.push(rate(size, began.elapsed()));
        }
    }
    tell(&format!("messages read one by one from {size}"), "a second", Better::More, &figures);
    Ok(())
}

/// Whole.
pub(super) fn large(bench: &mut Bench) -> anyhow::Result<()> {
    let octets = if bench.full { LARGE_OCTETS } else { LARGE_OCTETS / 10 };
    let texts: Vec<Vec<u8>> = (0..LARGE).map(|number| corpus::large(number, octets)).collect();
    let mut figures = Vec::new();
    for party in &mut bench.parties {
        for (at, text) in texts.iter().enumerate() {
            party.fill(0, &format!("lungo{at}"), std::slice::from_ref(text))?;
        }
        figures.push((party.kind, Vec::new()));
    }
    for _ in 0..bench.rounds {
        for (party, (_, rates)) in bench.parties.iter().zip(&mut figures) {
            let mut client = party.enter(0)?;
            let mut read = 0;
            let mut took = std::time::Duration::ZERO;
            for at in 0..LARGE {
                client.ok(&format!("EXAMINE lungo{at}"))?;
                let began = Instant::now();
                read += client.ok("FETCH 1 (BODY.PEEK[])")?.octets;
                took += began.elapsed();
            }
            ensure!(read >= LARGE * octets, "only {read} octets");
            rates.push(rate(read, took) / 1e6);
        }
    }
    tell(&format!("bodies of {} MB", octets / 1_000_000), "MB/s", Better::More, &figures);
    Ok(())
}
