//! What a client asks for that opens a mailbox for the first time: of every message what a list shows.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Bench;
use super::client::Client;
use super::figures::{Better, millis, tell};

const COMMAND: &str = "FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE)";

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let sizes = if bench.full { vec![10_000, 100_000] } else { vec![bench.size(1_000, 0)] };
    for size in sizes {
        let mut names = Vec::new();
        for party in &mut bench.parties {
            let name = party.mailbox_of(size)?;
            party.settle()?;
            // The first time, which makes what the later ones find, is not counted.
            whole(&mut party.enter(0)?, &name, size)?;
            names.push(name);
        }
        let mut warm: Vec<_> = bench.parties.iter().map(|party| (party.kind, Vec::new())).collect();
        let mut cold = warm.clone();
        for _ in 0..bench.rounds {
            for ((party, name), (_, times)) in bench.parties.iter().zip(&names).zip(&mut warm) {
                times.push(millis(whole(&mut party.enter(0)?, name, size)?));
            }
        }
        tell(&format!("FETCH 1:* of {size}, warm"), "ms", Better::Less, &warm);
        for _ in 0..bench.rounds {
            for ((party, name), (_, times)) in bench.parties.iter_mut().zip(&names).zip(&mut cold) {
                party.restart_cold()?;
                times.push(millis(whole(&mut party.enter(0)?, name, size)?));
            }
        }
        tell(&format!("FETCH 1:* of {size}, cold"), "ms", Better::Less, &cold);
    }
    Ok(())
}

/// From the command on; the mailbox is open then.
fn whole(client: &mut Client, name: &str, size: usize) -> anyhow::Result<Duration> {
    client.ok(&format!("EXAMINE {name}"))?;
    let began = Instant::now();
    let answer = client.ok(COMMAND)?;
    let took = began.elapsed();
    ensure!(answer.untagged == size, "{} answers for {size} messages", answer.untagged);
    Ok(took)
}
