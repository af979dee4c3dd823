//! What `docs/standards.md` says of IMAP, section by section, and what the conversations say.

use std::collections::{BTreeMap, BTreeSet};

use crate::{files, none, tree_text};

#[test]
fn every_section_that_a_conversation_names_is_listed() {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files() {
        let conversation = file.path.strip_prefix("tests/transcripts/imap/");
        let Some(name) = conversation.and_then(|name| name.strip_suffix(".txt")) else { continue };
        for (_, line) in file.lines().filter(|(_, line)| line.starts_with('#')) {
            for section in sections(line) {
                named.entry(section).or_default().insert(name.to_owned());
            }
        }
    }
    let rows = named.iter().map(|(section, names)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("| {section} | {} |", names.join(", "))
    });
    let rows: BTreeSet<String> = rows.collect();
    let standards = tree_text("docs/standards.md");
    let listed = standards.lines().filter(|line| line.starts_with("| RFC ") && line.contains(" §"));
    let listed = listed.filter(|line| line.matches('|').count() == 3);
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    let wrong: Vec<String> = rows.symmetric_difference(&listed).cloned().collect();
    none("section by section, docs/standards.md does not say what the conversations do", &wrong);
}

/// Sections of which a conversation must say that it shows them: of IMAP4rev2 every command, every response that is
/// ever sent, and what is said of states, numbers, names and order; of the rest what a client does with it.
const SHOWN: [(u32, &str); 20] = [
    (2177, "3"),
    (2342, "5"),
    (2971, "3.1 3.2"),
    (
        3501,
        "2.2.1 4.3 5.1.3 5.2 6.1.1 6.1.2 6.1.3 6.2.1 6.2.2 6.2.3 6.3.1 6.3.2 6.3.3 6.3.4 6.3.5 6.3.6 \
         6.3.7 6.3.8 6.3.9 6.3.10 6.3.11 6.4.1 6.4.2 6.4.3 6.4.4 6.4.5 6.4.6 6.4.7 6.4.8 7.2.6 7.4.1 7.4.2",
    ),
    (3502, "6.3.11"),
    (3516, "4.2 4.3 4.4"),
    (3691, "2"),
    (4315, "2.1 3"),
    (4731, "3.1 3.2"),
    (5182, "2.1 2.2 2.4"),
    (5256, "3"),
    (5258, "3"),
    (5464, "4.2 4.2.1 4.2.2 4.3"),
    (5465, "3.1 5.1 5.2 5.3 5.4 5.5 5.6 5.7 6.1 6.1.2"),
    (6851, "3.1 3.2 3.3 4.1 4.3 4.4"),
    (
        7162,
        "3.1 3.1.2.1 3.1.3 3.1.4.1 3.1.5 3.1.6 3.1.7 3.1.8 3.2.3 3.2.4 3.2.5.1 3.2.5.2 3.2.6 3.2.7 3.2.8 3.2.9 3.2.10 \
         3.2.11",
    ),
    (
        9051,
        "2.2.1 2.3.1 2.3.2 2.3.6 3.1 3.2 3.3 3.4 4.1.1 4.3 5.1 5.1.1 5.2 5.3 5.5 6.1.1 6.1.2 6.1.3 6.2.1 \
         6.2.2 6.2.3 6.3.1 6.3.2 6.3.3 6.3.4 6.3.5 6.3.6 6.3.7 6.3.8 6.3.9 6.3.10 6.3.11 6.3.12 6.3.13 6.4.1 \
         6.4.2 6.4.3 6.4.4 6.4.5 6.4.6 6.4.7 6.4.8 6.4.9 7.1.1 7.1.2 7.1.3 7.1.5 7.2.1 7.2.2 7.3.1 7.3.2 7.3.3 \
         7.3.4 7.3.5 7.4.1 7.5.1 7.5.2 7.6",
    ),
    (9208, "4.1.1 4.1.2 4.1.4 4.2.1 4.2.2 4.3.1 5.1 5.2"),
    (9394, "3.1 3.2 3.3"),
    (9738, "3 3.1 3.2 3.3 3.4"),
];

#[test]
fn every_section_that_is_to_be_shown_is() {
    let standards = tree_text("docs/standards.md");
    let mut missing = Vec::new();
    for (document, sections) in SHOWN {
        for section in sections.split_whitespace() {
            let row = format!("\n| RFC {document} §{section} | ");
            if !standards.contains(&row) {
                missing.push(format!("RFC {document} §{section}"));
            }
        }
    }
    none("section by section, docs/standards.md names no conversation for", &missing);
}

/// The sections that a line names, as in `RFC 9208 §4.1, §5.1`: the second is of the same document.
fn sections(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut document, mut before) = (None, "");
    for word in
        line.split_whitespace().map(|word| word.trim_matches([',', '.', ';', ':', '(', ')']))
    {
        if before == "RFC" {
            document = word.parse::<u32>().ok();
        } else if word == "RT" {
            document = None;
        }
        if let (Some(section), Some(document)) = (word.strip_prefix('§'), document) {
            found.push(format!("RFC {document} §{section}"));
        }
        before = word;
    }
    found
}

#[test]
fn sections_are_found_in_a_line() {
    let line = "# A (RFC 9208 §4.1, §5.1); RFC 2971 and RT §6.3, but RFC 3501 §2.2.1: it";
    assert_eq!(sections(line), ["RFC 9208 §4.1", "RFC 9208 §5.1", "RFC 3501 §2.2.1"]);
}
