//! What a certified message costs where gateways share a store, beside the embedded store in the same run:
//! processor time of the gateway, of its signer and of the database, transactions, flushes and journal
//! there, and room; and how many a second through one gateway and through two, all on the same cores.
//!
//! The database and the octets are on this machine's disk. `BENCH_MESSAGES`, `BENCH_CONNECTIONS` and
//! `BENCH_OCTETS` change the load.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use benches::throughput::{Load, certified_through};
use benches::{say, setting};
use scenarios::nodes::Nodes;
use scenarios::postgres::processor_time_of;
use scenarios::{Demo, process, wire};

/// How long the database's own counters may be behind.
const COUNTERS_LAG: Duration = Duration::from_secs(12);
/// Before anything is counted: statements are planned, accounts have been signed in to.
const WARM: usize = 100;

fn main() -> anyhow::Result<()> {
    let load = Load::of(setting("BENCH_MESSAGES", 1500));
    say("messages, octets each, connections", &load);

    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    run("embedded", &load, &Place::Embedded(&demo), &[&demo])?;
    demo.stop()?;

    let nodes = Nodes::in_folder()?;
    let one = nodes.start_first()?;
    run("shared, one gateway", &load, &Place::Shared(&nodes), &[&one])?;
    let other = Demo::serve(&nodes.folders[1])?;
    run("shared, two gateways", &load, &Place::Shared(&nodes), &[&one, &other])?;
    one.stop()?;
    other.stop()?;
    Ok(())
}

/// Where the store is.
enum Place<'a> {
    /// In a folder of one gateway.
    Embedded(&'a Demo),
    /// In a database, with octets in a folder.
    Shared(&'a Nodes),
}

fn run(what: &str, load: &Load, place: &Place<'_>, demos: &[&Demo]) -> anyhow::Result<()> {
    certified_through(demos, &Load::of(WARM))?;
    let before = Counted::of(place, demos)?;
    let rate = certified_through(demos, load)?;
    let after = Counted::of(place, demos)?;
    let rates = format!("{:.0}, {:.0}", rate.acknowledged, rate.certified);
    say(&format!("{what}: acknowledged, certified a second"), rates);
    tell(what, load, &before, &after);
    Ok(())
}

/// What was counted since the beginning.
struct Counted {
    gateways: Duration,
    signers: Duration,
    stored_octets: u64,
    database: Option<Database>,
}

/// Of the database.
struct Database {
    time: Duration,
    transactions: u64,
    flushes: u64,
    journal_octets: u64,
    octets: u64,
}

impl Counted {
    fn of(place: &Place<'_>, demos: &[&Demo]) -> anyhow::Result<Self> {
        for demo in demos {
            demo.settle()?;
        }
        let (mut gateways, mut signers) = (Duration::ZERO, Duration::ZERO);
        for demo in demos {
            gateways += processor_time_of(demo.pid())?;
            signers += processor_time_of(demo.signer()?.context("no signer")?)?;
        }
        let (stored_octets, database) = match place {
            Place::Embedded(demo) => (taken(demo)?, None),
            Place::Shared(nodes) => {
                let octets = nodes.octets.as_deref().context("octets are in a folder")?;
                (size(octets)?, Some(Database::of(nodes)?))
            }
        };
        Ok(Self { gateways, signers, stored_octets, database })
    }
}

impl Database {
    fn of(nodes: &Nodes) -> anyhow::Result<Self> {
        let time = nodes.database.processor_time()?;
        let ask = |what: &str| -> anyhow::Result<u64> { Ok(nodes.database.ask(what)?.parse()?) };
        let journal_octets = ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")?;
        let began = Instant::now();
        while began.elapsed() < COUNTERS_LAG {
            wire::pause();
        }
        Ok(Self {
            time,
            journal_octets,
            transactions: ask(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'",
            )?,
            flushes: ask("SELECT wal_sync FROM pg_stat_wal")?,
            octets: ask("SELECT pg_database_size('postgres')")?,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures to print")]
fn tell(place: &str, load: &Load, before: &Counted, after: &Counted) {
    let messages = load.messages() as f64;
    let time = |what: &str, before: Duration, after: Duration| {
        let each = after.saturating_sub(before).as_secs_f64() * 1000.0 / messages;
        say(&format!("{place}: ms of a core a message, {what}"), format!("{each:.2}"));
    };
    let each = |what: &str, before: u64, after: u64| {
        let each = after.saturating_sub(before) as f64 / messages;
        say(&format!("{place}: {what} a message"), format!("{each:.1}"));
    };
    time("gateways", before.gateways, after.gateways);
    time("signers", before.signers, after.signers);
    each("octets beside the database", before.stored_octets, after.stored_octets);
    if let (Some(before), Some(after)) = (&before.database, &after.database) {
        time("database", before.time, after.time);
        each("transactions", before.transactions, after.transactions);
        each("flushes", before.flushes, after.flushes);
        each("octets of journal", before.journal_octets, after.journal_octets);
        each("octets of tables", before.octets, after.octets);
    }
}

/// Octets of the files of a folder.
fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut octets = 0;
    for entry in std::fs::read_dir(folder)? {
        octets += entry?.metadata()?.len();
    }
    Ok(octets)
}

/// What an embedded store takes, the index with it.
fn taken(demo: &Demo) -> anyhow::Result<u64> {
    let config = demo.data.join("ceralacca.toml");
    let config = config.to_str().context("a path that is no text")?;
    let told = process::run(&["store", "stats", "--json", "--config", config], "")?;
    let told = String::from_utf8(told.stdout)?;
    let figure = |name: &str| -> anyhow::Result<u64> {
        let (_, rest) = told.split_once(&format!("\"{name}\":")).context("no such figure")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        Ok(digits.parse()?)
    };
    Ok(figure("stored_octets")? + figure("index_octets")?)
}
