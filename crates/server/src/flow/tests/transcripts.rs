//! The flows of certified mail, as they are written down in `tests/transcripts/pec`, between two
//! providers and with a clock of their own. How to read and write them is in the README there.

use std::path::Path;

use jiff::SignedDuration;

use super::forgeries::forgery;
use super::world::{Fate, Passage, World, at, message};

/// One conversation: what it shows, and its lines.
struct Transcript<'a> {
    title: String,
    lines: Vec<&'a str>,
}

fn parse(text: &str) -> Vec<Transcript<'_>> {
    let mut transcripts: Vec<Transcript<'_>> = Vec::new();
    let mut fresh = true;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            fresh = true;
        } else if let Some(words) = line.strip_prefix('#') {
            if fresh {
                transcripts.push(Transcript { title: String::new(), lines: Vec::new() });
                fresh = false;
            }
            transcripts.last_mut().unwrap().title += words;
        } else {
            fresh = true;
            transcripts.last_mut().expect("a transcript begins with its title").lines.push(line);
        }
    }
    transcripts
}

/// An event as it is compared: single blanks, no quotes around what is only for the eye.
fn event(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn duration(text: &str) -> SignedDuration {
    let (count, unit) = text.split_at(text.len() - 1);
    let count: i64 = count.parse().unwrap();
    match unit {
        "h" => SignedDuration::from_hours(count),
        "m" => SignedDuration::from_mins(count),
        "s" => SignedDuration::from_secs(count),
        _ => panic!("{text} is no duration"),
    }
}

impl Transcript<'_> {
    fn play(&self) {
        let mut world = World::new(at("2026-09-14T07:30:12Z"));
        let mut lines = self.lines.iter().peekable();
        while let Some(line) = lines.next() {
            if let Some(fact) = line.strip_prefix("given ") {
                given(&mut world, fact);
                continue;
            }
            let rest = line.strip_prefix("at ").unwrap_or_else(|| panic!("{line}: no `at`"));
            let (time, action) = rest.split_once(' ').unwrap_or((rest, ""));
            match time.strip_prefix(['+', '-']) {
                Some(by) if time.starts_with('+') => world.later(duration(by)),
                Some(by) => world.later(-duration(by)),
                None => world.clock.turn_to(time.parse().unwrap()),
            }
            act(&mut world, action.trim());
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| line.contains(" -> ")) {
                expected.push(event(line));
            }
            // A line that says how a message fares on its way makes it so.
            let mut fates: Vec<String> =
                expected.iter().filter(|event| event.ends_with(')')).cloned().collect();
            world.run(&mut |passage: &Passage| {
                let to = passage.to.map_or("x", |to| ["a", "b"][to]);
                let plain = format!("{} -> {to} {}", ["a", "b"][passage.from], passage.kind);
                let found = fates.iter().position(|fate| fate.starts_with(&format!("{plain} (")));
                let Some(found) = found else { return Fate::Arrives };
                match fates.remove(found).rsplit_once('(').unwrap().1 {
                    "lost)" => Fate::Lost,
                    "twice)" => Fate::Twice,
                    "held)" => Fate::Held,
                    "down)" => Fate::Down,
                    "altered)" => Fate::Altered,
                    "damaged)" => Fate::Damaged,
                    other => panic!("({other} is nothing that happens on the way"),
                }
            });
            let mut seen = std::mem::take(&mut world.events);
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{}: {line}", self.title);
        }
    }
}

fn given(world: &mut World, fact: &str) {
    let words: Vec<&str> = fact.split(' ').collect();
    let host = |of: &str| usize::from(of.ends_with("@b"));
    let local = |of: &str| of.split('@').next().unwrap().to_owned();
    match words[..] {
        [of, "is", "suspended"] => {
            world.hosts[host(of)].suspend(&local(of));
        }
        [of, "takes", "ordinary", "mail"] => {
            let policy = store::AccountChange::OrdinaryMail(Some("deliver".to_owned()));
            world.hosts[host(of)].change(&local(of), policy);
        }
        [host @ ("a" | "b"), "scans"] => world.hosts[usize::from(host == "b")].scan(),
        _ => panic!("given {fact}: unknown"),
    }
}

fn act(world: &mut World, action: &str) {
    if action.is_empty() {
        return;
    }
    if let Some((from, rest)) = action.split_once(" sends \"") {
        let (subject, to) = rest.split_once("\" to ").unwrap();
        let (to, field) = match to.split_once(" without naming ") {
            Some((named, hidden)) => {
                let named: Vec<&str> = named.split(", ").collect();
                ([&named[..], &[hidden]].concat(), named)
            }
            None => {
                let to: Vec<&str> = to.split(", ").collect();
                (to.clone(), to)
            }
        };
        world.submit(from, &to, &message(from, &field, subject));
    } else if let Some((name, to)) =
        action.strip_prefix("somebody brings \"").and_then(|rest| rest.split_once("\" to "))
    {
        let (octets, reverse_path) = forgery(name, to);
        let host = usize::from(to.ends_with("@b"));
        match world.bring(host, &reverse_path, &[to], &octets) {
            Ok(()) => world.events.push(format!("x -> {to} taken")),
            Err(reply) => world.events.push(format!("x -> {to} {reply}")),
        }
    } else {
        match action {
            "what is held arrives" => world.release(),
            "a starts again" => world.restart(0),
            "b starts again" => world.restart(1),
            _ => panic!("{action}: unknown"),
        }
    }
}

// PEC-TO-01 PEC-TO-02 PEC-TO-03 PEC-TO-04 PEC-TO-05 PEC-TO-06 PEC-TO-07 PEC-TO-13 PEC-LOG-12
// PEC-GEN-16 PEC-BT-13 PEC-PR-07 PEC-PR-08 PEC-PR-26 PEC-PR-28 PEC-PIC-04
#[test]
fn the_flows_happen_as_they_are_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/pec");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        for transcript in parse(&std::fs::read_to_string(&path).unwrap()) {
            transcript.play();
            count += 1;
        }
    }
    super::tell(count, "transcripts of certified mail between two providers");
    assert!(count >= 20, "{count}");
}
