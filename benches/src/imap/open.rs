//! SELECT of a large mailbox, by a client that just came.

use std::time::Instant;

use super::Bench;
use super::figures::{Better, millis, tell};

/// Times in each round.
const REPEATED: usize = 5;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let size = bench.size(1_000, 100_000);
    let mut figures = Vec::new();
    for party in &mut bench.parties {
        let name = party.mailbox_of(size)?;
        party.settle()?;
        party.enter(0)?.ok(&format!("SELECT {name}"))?;
        figures.push((party.kind, Vec::new()));
    }
    for _ in 0..bench.rounds {
        for (party, (_, times)) in bench.parties.iter().zip(&mut figures) {
            for _ in 0..REPEATED {
                let mut client = party.enter(0)?;
                let began = Instant::now();
                client.ok(&format!("SELECT di{size}"))?;
                times.push(millis(began.elapsed()));
            }
        }
    }
    tell(&format!("SELECT of {size}"), "ms", Better::Less, &figures);
    Ok(())
}
