//! What a client that idles takes of the memory, over TLS, signed in, a mailbox selected.

use anyhow::Context as _;

use super::Bench;
use super::figures::{Better, tell};
use super::party::Kind;

/// Users they are of.
const USERS: usize = 50;
/// Of Dovecot so many are enough: each has a process.
const DOVECOT_SESSIONS: usize = 500;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let sessions = bench.size(500, 5_000);
    let mut figures = Vec::new();
    for party in &mut bench.parties {
        for number in 0..USERS {
            party.fill(number, "fermo", &[])?;
        }
        let sessions =
            if party.kind == Kind::Ceralacca { sessions } else { sessions.min(DOVECOT_SESSIONS) };
        // As it is after a start: what other rows took and gave back would hide what these take.
        party.restart_cold()?;
        party.enter(0)?.ok("SELECT fermo")?;
        let before = own_kib(&party.processes()?)?;
        let mut held = Vec::with_capacity(sessions);
        for number in 0..sessions {
            let mut client = party.enter(number % USERS)?;
            client.ok("SELECT fermo")?;
            client.idle()?;
            held.push(client);
        }
        let after = own_kib(&party.processes()?)?;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let each = after.saturating_sub(before) as f64 / sessions as f64;
        figures.push((party.kind, vec![each]));
    }
    tell(&format!("an idle session, of {sessions}"), "KiB", Better::Less, &figures);
    Ok(())
}

/// Memory of these processes; of what several share, each has its part.
fn own_kib(processes: &[u32]) -> anyhow::Result<u64> {
    let mut all = 0;
    for pid in processes {
        // It may have ended just now.
        let Ok(told) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let line = told.lines().find_map(|line| line.strip_prefix("Pss:"));
        let figure = line.context("no Pss")?.trim().trim_end_matches(" kB");
        all += figure.parse::<u64>()?;
    }
    Ok(all)
}
