//! The table of commands and states, `tests/transcripts/smtp/states.txt`: each row becomes a conversation, and
//! no cell of the table may be missing.

use std::collections::BTreeSet;
use std::path::Path;

/// Where the table is.
pub(crate) const FILE: &str = "states.txt";

/// Every command there is, one that is known and not done, and one that is not known.
const COMMANDS: [&str; 15] = [
    "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "HELP",
    "VRFY", "EXPN", "QUIT", "FOO",
];

/// Of any door.
const OUTSIDE: [&str; 2] = ["before EHLO", "after EHLO"];
/// Where mail may be spoken of.
const TRANSACTION: [&str; 5] = [
    "after MAIL",
    "after RCPT",
    "in DATA",
    "in BDAT, between two chunks",
    "after a message that was refused",
];
/// Where there is TLS, without which AUTH is refused.
const AUTH: [&str; 2] = ["in an AUTH exchange", "authenticated"];

/// The doors, and the states that each of them can be in.
const DOORS: [(&str, &[&[&str]]); 5] = [
    ("port 25, in clear", &[&OUTSIDE, &TRANSACTION]),
    ("port 25, after STARTTLS", &[&OUTSIDE, &AUTH, &TRANSACTION]),
    ("port 465", &[&OUTSIDE, &AUTH, &TRANSACTION]),
    ("port 587, in clear", &[&OUTSIDE]),
    ("port 587, after STARTTLS", &[&OUTSIDE, &AUTH, &TRANSACTION]),
];

/// One state, with the way to it and what is said there.
struct State<'t> {
    name: &'t str,
    way: Vec<&'t str>,
    /// With the numbers of their lines.
    rows: Vec<(usize, &'t str)>,
}

fn states(text: &str) -> Vec<State<'_>> {
    let mut states: Vec<State<'_>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("state ") {
            states.push(State { name, way: Vec::new(), rows: Vec::new() });
        } else if let Some(state) = states.last_mut() {
            match line.strip_prefix("| ") {
                Some(row) => state.rows.push((number + 1, row)),
                None => state.way.push(line),
            }
        }
    }
    states
}

/// A conversation for each row, and where it stands.
pub(crate) fn conversations(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for State { name, way, rows } in states(text) {
        for (number, row) in rows {
            let mut conversation = way.join("\n");
            for step in row.split(" ;; ") {
                // A line of its own: what is said step by step goes out step by step.
                conversation += "\n#\n";
                let (said, answer) = match step.split_once(" => ") {
                    Some((said, answer)) => (said, Some(answer)),
                    None => (step, None),
                };
                conversation += &format!("C! {said}\\r\\n\n");
                if let Some(answer) = answer {
                    let (answer, closes) = match answer.strip_suffix(" closes") {
                        Some(answer) => (answer, "S closes\n"),
                        None => (answer, ""),
                    };
                    for line in answer.split(" / ") {
                        conversation += &format!("S: {line}\n");
                    }
                    conversation += closes;
                }
            }
            all.push((format!("{FILE}:{number}, {name}"), conversation));
        }
    }
    all
}

#[test]
fn every_command_is_said_in_every_state_of_every_door() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/smtp");
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap();
    let mut missing = BTreeSet::new();
    for (door, groups) in DOORS {
        for state in groups.iter().copied().flatten() {
            for command in COMMANDS {
                missing.insert((format!("{door}: {state}"), command));
            }
        }
    }
    let mut ways = BTreeSet::new();
    for State { name, way, rows } in states(&text) {
        assert!(ways.insert(way), "{name} is not another state: the way to it is the same");
        for (number, row) in rows {
            let said = row.split(' ').next().unwrap_or_default();
            let command = COMMANDS.into_iter().find(|command| *command == said);
            let cell = (name.to_owned(), command.unwrap_or_else(|| panic!("what is {said}?")));
            assert!(
                missing.remove(&cell),
                "line {number} is of no state, or said before: {cell:?}"
            );
        }
    }
    assert!(missing.is_empty(), "never said: {missing:?}");
}
