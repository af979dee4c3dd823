//! Mail in and out beside Postfix with Dovecot's LMTP, in one run, on one file system, both durable.
//!
//! `BENCH_ROWS` chooses among `submission`, `delivery`, `relay`, `large`, `memory`, `slow`; `BENCH_RUNS`
//! says how often each side is measured, in turn. It wants root, which Postfix and Dovecot want.

use benches::smtp::submission::CONNECTIONS;
use benches::smtp::{
    Bodies, Figures, Mailboxes, connections, delivery, large, relay, side_by_side, submission,
};
use benches::{say, setting};
use scenarios::Demo;

fn main() -> anyhow::Result<()> {
    let runs = setting("BENCH_RUNS", 5);
    let rows = std::env::var("BENCH_ROWS").unwrap_or_default();
    let wanted = |row: &str| rows.is_empty() || rows.split(',').any(|one| one == row);
    scenarios::demo::raise_descriptor_limit()?;
    let folder = benches::smtp::folder()?;
    let bodies = Bodies::random(setting("BENCH_BODY_OCTETS", 200_000_000))?;
    // Its certificate is Postfix's and Dovecot's too, and clients trust it.
    let demo = Demo::start(&folder.path().join("demo"))?;
    if wanted("submission") {
        let mailboxes = Mailboxes::start(folder.path(), &demo)?;
        let what = format!("answered 250 a second, {CONNECTIONS} connections");
        let mut delivered = Vec::new();
        side_by_side(
            &what,
            runs,
            || submission::ours(&bodies),
            || {
                let (answered, all) = submission::theirs(&bodies, &demo, &mailboxes, true)?;
                delivered.push(all);
                Ok(answered)
            },
        )?;
        say("of these, Postfix's delivered a second", Figures::of(delivered)?);
        let held = (0..runs).map(|_| Ok(submission::theirs(&bodies, &demo, &mailboxes, false)?.0));
        let held = held.collect::<anyhow::Result<Vec<f64>>>()?;
        say("answered a second when it delivers nothing", Figures::of(held)?);
        mailboxes.stop()?;
    }
    if wanted("delivery") {
        let mailboxes = Mailboxes::start(folder.path(), &demo)?;
        let receipts = delivery::Receipts::sign(&bodies, setting("BENCH_MESSAGES", 3000))?;
        let load = (setting("BENCH_MESSAGES", 3000), receipts.octets());
        let what = format!("delivered a second, {} octets each", load.1);
        side_by_side(
            &what,
            runs,
            || receipts.ours(),
            || delivery::theirs(&bodies, &demo, &mailboxes, load),
        )?;
        mailboxes.stop()?;
    }
    if wanted("relay") {
        side_by_side(
            "relayed a second",
            runs,
            || relay::ours(&bodies),
            || relay::theirs(&bodies, &demo),
        )?;
    }
    if wanted("large") {
        side_by_side(
            "100 MB, MB a second",
            runs,
            || large::ours(&bodies),
            || large::theirs(&bodies, &demo),
        )?;
        let all = |one: &dyn Fn() -> anyhow::Result<f64>| {
            Figures::of((0..runs).map(|_| one()).collect::<anyhow::Result<Vec<f64>>>()?)
        };
        say("the disk alone, MB a second", all(&|| large::disk(&bodies))?);
        say("TLS alone, MB a second", all(&|| large::tls(&demo))?);
    }
    if wanted("memory") {
        say("KiB for a connection in the middle of a message", connections::memory(&bodies)?);
    }
    if wanted("slow") {
        let (mut beside, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            alone.push(connections::beside(&bodies, 0)?);
            beside.push(connections::beside(&bodies, connections::SLOW)?);
        }
        let (beside, alone) = (Figures::of(beside)?, Figures::of(alone)?);
        say("answered a second, nobody else connected", &alone);
        say("answered a second beside 10,000 slow connections", &beside);
        say("ratio", format!("{:.2}", beside.median / alone.median));
    }
    demo.stop()?;
    Ok(())
}
