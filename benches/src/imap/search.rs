//! SEARCH TEXT and BODY: a word that few messages hold, one that half of them do, one that none does. And SEARCH by a
//! keyword, as receipts have them: every server is given the same ones.

use std::time::Instant;

use anyhow::ensure;

use super::Bench;
use super::corpus;
use super::figures::{Better, millis, tell};

/// What marks a delivery receipt; so many messages have it, and the rest has not.
const KEYWORD: &str = "$PecConsegna";
const MARKED_OF: usize = 100;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let size = bench.size(1_000, 10_000);
    let mut names = Vec::new();
    for party in &mut bench.parties {
        let name = party.mailbox_of(size)?;
        let numbers: Vec<String> =
            (1..=size).step_by(MARKED_OF).map(|number| number.to_string()).collect();
        let mut client = party.enter(0)?;
        client.ok(&format!("SELECT {name}"))?;
        client.ok(&format!("STORE {} +FLAGS.SILENT ({KEYWORD})", numbers.join(",")))?;
        party.settle()?;
        names.push(name);
    }
    let rare = corpus::rare(0);
    for (what, key, expected) in [
        ("KEYWORD", format!("KEYWORD {KEYWORD}"), Some(size.div_ceil(MARKED_OF))),
        ("TEXT, in one message", format!("TEXT {rare}"), Some(1)),
        ("BODY, in one message", format!("BODY {rare}"), Some(1)),
        ("TEXT, in most", "TEXT ordinanza".to_owned(), None),
        ("BODY, in most", "BODY ordinanza".to_owned(), None),
        ("TEXT, in none", "TEXT inesistentissimo".to_owned(), Some(0)),
        ("BODY, in none", "BODY inesistentissimo".to_owned(), Some(0)),
    ] {
        let mut figures: Vec<_> =
            bench.parties.iter().map(|party| (party.kind, Vec::new())).collect();
        let mut answers = Vec::new();
        for _ in 0..bench.rounds {
            for ((party, name), (_, times)) in bench.parties.iter().zip(&names).zip(&mut figures) {
                let mut client = party.enter(0)?;
                client.ok(&format!("EXAMINE {name}"))?;
                let began = Instant::now();
                let found = client.text(&format!("SEARCH {key}"))?;
                times.push(millis(began.elapsed()));
                let found = found.lines().find_map(|line| line.strip_prefix("* SEARCH"));
                answers.push(found.unwrap_or_default().trim().to_owned());
            }
        }
        answers.dedup();
        ensure!(answers.len() == 1, "{key}: the servers do not agree");
        let found = answers.first().map_or(0, |found| found.split_whitespace().count());
        ensure!(expected.is_none_or(|expected| expected == found), "{key}: {found} found");
        tell(&format!("SEARCH {what} ({found} of {size})"), "ms", Better::Less, &figures);
    }
    for (party, name) in bench.parties.iter().zip(&names) {
        let mut client = party.enter(0)?;
        client.ok(&format!("SELECT {name}"))?;
        client.ok(&format!("STORE 1:* -FLAGS.SILENT ({KEYWORD})"))?;
    }
    Ok(())
}
