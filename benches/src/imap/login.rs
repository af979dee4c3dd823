//! Clients that come, sign in and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::{Better, rate, tell};
use super::party::{Door, USERS};

/// At once.
const CLIENTS: usize = 8;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(bench.size(1, 4) as u64);
    let mut figures: Vec<_> = bench.parties.iter().map(|party| (party.kind, Vec::new())).collect();
    for party in &bench.parties {
        // Each user once: credentials that were verified are remembered for a while.
        (0..USERS).try_for_each(|number| party.enter(number).map(drop))?;
    }
    for _ in 0..bench.rounds {
        for (party, (_, rates)) in bench.parties.iter().zip(&mut figures) {
            rates.push(come_and_go(&party.door()?, seconds)?);
        }
    }
    tell(&format!("logins with TLS, {CLIENTS} at once"), "a second", Better::More, &figures);
    Ok(())
}

fn come_and_go(door: &Door, seconds: Duration) -> anyhow::Result<f64> {
    let began = Instant::now();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let visit = || -> anyhow::Result<()> {
            while began.elapsed() < seconds {
                let number = done.fetch_add(1, Ordering::Relaxed);
                door.enter(number % USERS)?.ok("LOGOUT")?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(visit)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        })
    })?;
    Ok(rate(done.into_inner(), began.elapsed()))
}
