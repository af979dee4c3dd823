//! IMAP side by side with Dovecot: what each row of `cargo xtask bench imap` needs.
//!
//! The same client code, over TLS, does the same to each server, in turns: so what else goes on in the machine meets
//! all of them. A row tells the median of each, and what ours is as a part of the better of the others: above 1
//! is faster (or smaller), whatever is measured.

mod append;
mod bodies;
mod client;
mod corpus;
mod delivery;
mod fetch;
mod figures;
mod growth;
mod idle;
mod login;
mod mix;
mod open;
mod party;
mod search;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use self::party::{Kind, Party};
use crate::setting;

/// What a row is run with.
struct Bench {
    parties: Vec<Party>,
    /// Each figure is the median of so many.
    rounds: usize,
    /// Sizes are those of the goals, and not those of a quick look.
    full: bool,
}

impl Bench {
    /// `full` sizes, or those of a quick look; `BENCH_SIZE` instead of both.
    fn size(&self, quick: usize, full: usize) -> usize {
        setting("BENCH_SIZE", if self.full { full } else { quick })
    }
}

/// One row, or several that belong together.
type Row = fn(&mut Bench) -> anyhow::Result<()>;

const ROWS: [(&str, Row); 11] = [
    ("fetch", fetch::run),
    ("select", open::run),
    ("mix", mix::run),
    ("append", append::run),
    ("messages", bodies::one_by_one),
    ("large", bodies::large),
    ("search", search::run),
    ("login", login::run),
    ("idle", idle::run),
    ("delivery", delivery::run),
    ("growth", growth::run),
];

/// Runs the rows that `BENCH_ROWS` names (parted by commas), or all.
///
/// `BENCH_FULL=1` takes the sizes of the goals; `BENCH_ROUNDS` is 5; `BENCH_FOLDER` keeps the mailboxes for the next
/// run; `BENCH_SERVERS` names those that take part.
///
/// # Errors
///
/// When a server does not start or answers something unexpected.
pub fn run() -> anyhow::Result<()> {
    scenarios::demo::raise_descriptor_limit()?;
    let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let rows = text("BENCH_ROWS").unwrap_or_else(|| ROWS.map(|(name, _)| name).join(","));
    let chosen = rows.split(',').map(|name| {
        let known = ROWS.iter().find(|(known, _)| *known == name);
        known.with_context(|| {
            format!("no row {name}; there are {}", ROWS.map(|row| row.0).join(" "))
        })
    });
    let chosen = chosen.collect::<anyhow::Result<Vec<_>>>()?;
    let temporary = tempfile::tempdir()?;
    let folder = text("BENCH_FOLDER").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    party::enterable(&folder)?;
    let servers = text("BENCH_SERVERS").unwrap_or_else(|| Kind::ALL.map(Kind::word).join(","));
    let kinds =
        Kind::ALL.into_iter().filter(|kind| servers.split(',').any(|word| word == kind.word()));
    let parties =
        kinds.map(|kind| Party::prepare(kind, &folder)).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!parties.is_empty(), "no server of {servers}");
    let mut bench =
        Bench { parties, rounds: setting("BENCH_ROUNDS", 5), full: text("BENCH_FULL").is_some() };
    figures::heading(&bench.parties);
    for (_, row) in chosen {
        row(&mut bench)?;
    }
    bench.parties.into_iter().try_for_each(Party::stop)
}
