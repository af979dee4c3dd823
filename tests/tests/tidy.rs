//! The tree as `ARCHITECTURE.md` draws it: who imports whom, what is cited, what is left undone.
//!
//! Each test reads the sources and names every place that is not as it should be.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read the tree fails")]

mod tidy {
    mod standards;
}

use std::collections::{BTreeMap, BTreeSet};

use xtask::manifest::Manifest;
use xtask::rules;
use xtask::rust::Source;
use xtask::tree::{self, File};

/// Who may import whom, tests aside: package, folder, and the packages of ours that it may name.
const PICTURE: &[(&str, &str, &[&str])] = &[
    ("mail", "crates/mail", &[]),
    ("crypto", "crates/crypto", &[]),
    ("store", "crates/store", &["mail"]),
    ("smtp", "crates/smtp", &["mail"]),
    ("pec", "crates/pec", &["mail"]),
    ("imap", "crates/imap", &["mail", "store"]),
    ("server", "crates/server", &["mail", "crypto", "store", "smtp", "imap", "pec"]),
    ("scenarios", "tests", &["xtask"]),
    ("benches", "benches", &["mail", "crypto", "store", "smtp", "imap", "pec", "scenarios"]),
    ("xtask", "xtask", &[]),
    ("fuzz", "fuzz", &["mail", "smtp", "imap", "pec", "store"]),
];
/// Crates without IO, clock or randomness: a `clippy.toml` of their own keeps them so.
const PURE: &[&str] = &["mail", "smtp", "imap", "pec"];
/// The only file that may hold unsafe code: two functions that openssl-sys does not declare.
const UNSAFE: &[&str] = &["crates/crypto/src/ffi.rs"];
/// The only test code that may sleep: the pause between two looks at a condition.
const MAY_SLEEP: &[&str] = &["tests/src/wire.rs", "crates/store/tests/shared/nodes.rs"];
/// Past this a file holds more than one idea.
const LINES_MAX: usize = 700;

fn files() -> Vec<File> {
    tree::files(&tree::root()).unwrap()
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.is(".rs")).collect()
}

/// Fails with every place named, when there is one.
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn at(file: &File, line: usize) -> String {
    format!("{}:{line}", file.path)
}

/// Whether a line of code has one of these words in it.
fn names(code: &str, words: &[&str]) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| words.contains(&word))
}

#[test]
fn every_package_imports_what_the_picture_allows() {
    let ours: Vec<_> = PICTURE.iter().map(|(name, _, _)| *name).collect();
    let mut wrong = Vec::new();
    for (name, folder, may) in PICTURE {
        let manifest = Manifest::read(&tree::root(), &format!("{folder}/Cargo.toml")).unwrap();
        assert_eq!(manifest.package(), Some(*name), "{folder} is named as the picture has it");
        for import in manifest.dependencies() {
            if ours.contains(&import) && !may.contains(&import) {
                wrong.push(format!("{name} imports {import}"));
            }
        }
        for import in manifest.dev_dependencies() {
            if import == "server" {
                wrong.push(format!("the tests of {name} import server"));
            }
        }
        if *name != "fuzz" && !manifest.takes_workspace_lints() {
            wrong.push(format!("{name} does not take the lints of the workspace"));
        }
        if PURE.contains(name) && !tree::root().join(folder).join("clippy.toml").is_file() {
            wrong.push(format!("{name} has no clippy.toml that keeps clock and sockets away"));
        }
    }
    none("against the picture", &wrong);
    let drawn: BTreeSet<_> =
        PICTURE.iter().map(|(_, folder, _)| format!("{folder}/Cargo.toml")).collect();
    let there = files().into_iter().filter(|file| file.is("/Cargo.toml")).map(|file| file.path);
    let unknown: Vec<_> = there.filter(|path| !drawn.contains(path)).collect();
    none("packages that the picture does not know", &unknown);
}

#[test]
fn imap_reaches_the_store_through_its_root_alone() {
    let mut wrong = Vec::new();
    for file in program_files("crates/imap/src/") {
        for (line, code) in program_lines(&file) {
            let squeezed: String = code.split_whitespace().collect();
            let named = ["store::memory", "store::embedded", "store::shared", "store::contract"];
            if named.iter().any(|inner| squeezed.contains(inner)) {
                wrong.push(at(&file, line));
            }
        }
    }
    none("imap names an implementation of the store", &wrong);
}

/// Sources below a folder that are not test code from first to last.
fn program_files(folder: &str) -> Vec<File> {
    let files = rust_files();
    let tests = rules::test_files(&files);
    files
        .into_iter()
        .filter(|file| file.path.starts_with(folder) && !tests.contains(&file.path))
        .collect()
}

/// Lines of code, blanked of comments and literals, that are not test code.
fn program_lines(file: &File) -> Vec<(usize, String)> {
    let source = Source::new(&file.text);
    let tests = source.test_lines();
    let lines = source.code().lines().enumerate().map(|(at, line)| (at + 1, line.to_owned()));
    lines.filter(|(line, _)| !tests.iter().any(|test| test.contains(line))).collect()
}

#[test]
fn every_document_that_is_cited_stands_in_the_standards() {
    let known = tree_text("docs/standards.md");
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    for file in files().iter().filter(|file| file.is(".rs") || file.is(".txt")) {
        for (line, text) in file.lines() {
            for document in documents(text) {
                if !known.contains(&document) {
                    unknown.entry(document).or_insert_with(|| at(file, line));
                }
            }
        }
    }
    let unknown: Vec<_> =
        unknown.iter().map(|(document, place)| format!("{document}, cited at {place}")).collect();
    none("not in docs/standards.md", &unknown);
}

/// The documents that a line cites, in the one shape that the citation has.
fn documents(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("RFC ") {
        let number: String = line[at + 4..].chars().take_while(char::is_ascii_digit).collect();
        if !number.is_empty() {
            found.push(format!("| RFC {number} |"));
        }
    }
    for law in ["DM 2 Nov 2005", "DPR 68/2005", "RT §", "NOTA "] {
        if line.contains(law) {
            found.push(format!("| {} |", law.trim_end_matches([' ', '§'])));
        }
    }
    found
}

#[test]
fn citations_have_one_shape() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        for (line, text) in file.lines() {
            // RFC822 without a blank is a word of IMAP.
            let number = |rest: &str| {
                rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.starts_with("822")
            };
            let glued = text.match_indices("RFC").any(|(at, _)| number(&text[at + 3..]));
            // What a client is told is in ASCII, and spells the word out.
            let comment = text.trim_start().starts_with("//");
            let spelled = comment
                && text.split("RFC ").skip(1).any(|rest| {
                    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',');
                    [" section", " Section", " sec."].iter().any(|word| rest.starts_with(word))
                });
            if glued || spelled {
                wrong.push(at(&file, line));
            }
        }
    }
    none("a citation reads RFC, number, §, section", &wrong);
}

#[test]
fn every_rule_that_is_cited_is_a_rule() {
    let known = rules::rules(&tree_text(rules::RULES)).unwrap();
    let known: BTreeSet<_> = known.into_iter().map(|rule| rule.id).collect();
    let unknown: Vec<_> = rules::citations(&files())
        .into_iter()
        .filter(|citation| !known.contains(&citation.id))
        .map(|citation| format!("{}:{}: {}", citation.path, citation.line, citation.id))
        .collect();
    none("not in docs/pec-rules.md", &unknown);
}

/// The rules that a cell of docs/pec.md means: `PEC-GEN-01, AP-03 to AP-17, NA`.
fn meant<'r>(cell: &str, known: &'r [rules::Rule]) -> Result<Vec<&'r str>, String> {
    let mut meant = Vec::new();
    for item in cell.split(", ").filter(|item| !item.starts_with("and ")) {
        let item = item.trim().trim_start_matches("PEC-");
        let (first, last) = item.split_once(" to ").unwrap_or((item, item));
        let place = |id: &str| known.iter().position(|rule| rule.id == format!("PEC-{id}"));
        let of_family = known.iter().filter(|rule| rule.family() == item);
        let all: Vec<&str> = match (place(first), place(last)) {
            (Some(first), Some(last)) if first <= last => {
                known[first..=last].iter().map(|rule| rule.id.as_str()).collect()
            }
            _ => of_family.map(|rule| rule.id.as_str()).collect(),
        };
        if all.is_empty() {
            return Err(format!("{item} in docs/pec.md is neither a rule nor a group of them"));
        }
        meant.extend(all);
    }
    Ok(meant)
}

#[test]
fn an_auditor_is_told_of_every_rule() {
    let text = tree_text(rules::RULES);
    let known = rules::rules(&text).unwrap();
    let mut told: BTreeSet<String> =
        rules::without(&text).unwrap().into_iter().map(|without| without.id).collect();
    for line in tree_text("docs/pec.md").lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        if let [_, cell, ..] = cells[..]
            && cell.starts_with("PEC-")
        {
            told.extend(meant(cell, &known).unwrap().into_iter().map(str::to_owned));
        }
    }
    let missing: Vec<String> =
        known.into_iter().map(|rule| rule.id).filter(|id| !told.contains(id)).collect();
    none("no row of docs/pec.md says how it is met", &missing);
}

#[test]
fn every_doubt_that_is_cited_is_told() {
    let told = tree_text("docs/doubts.md");
    let mut unknown = Vec::new();
    for file in rust_files() {
        for (line, text) in file.lines() {
            for (at_word, _) in text.match_indices("doubt D-") {
                let id: String = text[at_word + "doubt ".len()..].chars().take(4).collect();
                let number = id.ends_with(|c: char| c.is_ascii_digit());
                if number && !told.contains(&format!("| {id} |")) {
                    unknown.push(format!("{}: {id}", at(&file, line)));
                }
            }
        }
    }
    none("not in docs/doubts.md", &unknown);
}

#[test]
fn no_file_holds_more_than_one_idea() {
    let long = rust_files().into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, of {LINES_MAX} at most", file.path))
    });
    none("look for the second idea", &long.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone() {
    // Spelled apart, so that this file passes its own test.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|word| word.concat());
    let macros = [["todo", "!"], ["unimplemented", "!"], ["dbg", "!"]].map(|word| word.concat());
    let ignored = ["#[", "ignore"].concat();
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| !file.is(".lock")) {
        for (line, text) in file.lines() {
            let word = |word: &String| {
                text.split(|c: char| !c.is_ascii_alphanumeric()).any(|found| found == word)
            };
            if words.iter().any(word) {
                wrong.push(at(file, line));
            }
        }
    }
    for file in rust_files() {
        let source = Source::new(&file.text);
        for (line, code) in source.code().lines().enumerate() {
            if macros.iter().chain([&ignored]).any(|word| code.contains(word.as_str())) {
                wrong.push(at(&file, line + 1));
            }
        }
    }
    none("finish it or leave it out", &wrong);
}

#[test]
fn no_path_of_one_machine() {
    // Spelled apart, so that this file passes its own test.
    let folders = ["work", "farm", "root", "home"].map(|name| format!("/{name}/"));
    // The stranger of our examples, who has a home of his own.
    let example = format!("{}me/", folders[3]);
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| !file.is(".lock")) {
        for (line, text) in file.lines() {
            for folder in &folders {
                let absolute = text.match_indices(folder.as_str()).any(|(at, _)| {
                    let name = |c: char| c.is_ascii_alphanumeric() || "._-}".contains(c);
                    !text[..at].ends_with(name) && !text[at..].starts_with(&example)
                });
                if absolute {
                    wrong.push(at(file, line));
                }
            }
        }
    }
    none("a path that only one machine has", &wrong);
}

#[test]
fn tests_do_not_sleep() {
    let files = rust_files();
    let tests = rules::test_files(&files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !MAY_SLEEP.contains(&file.path.as_str())) {
        let source = Source::new(&file.text);
        let regions = source.test_lines();
        for (line, code) in source.code().lines().enumerate() {
            let line = line + 1;
            let in_test =
                tests.contains(&file.path) || regions.iter().any(|lines| lines.contains(&line));
            if in_test && names(code, &["sleep", "sleep_until"]) {
                wrong.push(at(file, line));
            }
        }
    }
    none("wait for the event, or let the test own the clock", &wrong);
}

#[test]
fn unsafe_code_stands_where_it_is_known() {
    let mut wrong = Vec::new();
    for file in rust_files().iter().filter(|file| !UNSAFE.contains(&file.path.as_str())) {
        for (line, code) in Source::new(&file.text).code().lines().enumerate() {
            if names(code, &["unsafe", "unsafe_code"]) {
                wrong.push(at(file, line + 1));
            }
        }
    }
    none("unsafe code", &wrong);
}

#[test]
fn every_fuzz_target_has_a_corpus() {
    let root = tree::root();
    let manifest = Manifest::read(&root, "fuzz/Cargo.toml").unwrap();
    let targets: BTreeSet<_> = manifest.binaries().into_iter().map(str::to_owned).collect();
    assert!(!targets.is_empty());
    let corpora = std::fs::read_dir(root.join("fuzz/corpus")).unwrap();
    let mut corpora: BTreeMap<_, _> = corpora
        .map(|entry| {
            let entry = entry.unwrap();
            let seeds = std::fs::read_dir(entry.path()).unwrap().count();
            (entry.file_name().into_string().unwrap(), seeds)
        })
        .collect();
    for target in &targets {
        assert!(corpora.remove(target).is_some_and(|seeds| seeds > 0), "{target} has no corpus");
    }
    assert!(corpora.is_empty(), "no target for the corpora {corpora:?}");
}

#[test]
fn the_papers_name_files_that_exist() {
    let there = files();
    let root = tree::root();
    let names: BTreeSet<_> = there.iter().filter_map(|file| file.path.rsplit('/').next()).collect();
    let mut missing = Vec::new();
    for paper in there.iter().filter(|file| file.is(".md")) {
        let folder = paper.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, text) in paper.lines() {
            for path in linked(text) {
                if !root.join(folder).join(path).exists() {
                    missing.push(format!("{}: {path}", at(paper, line)));
                }
            }
            for path in quoted(text) {
                let found = if path.contains('/') {
                    root.join(&path).exists()
                } else {
                    names.contains(path.as_str())
                };
                if !found {
                    missing.push(format!("{}: {path}", at(paper, line)));
                }
            }
        }
    }
    none("named and not there", &missing);
}

/// Targets of Markdown links into the tree, without their anchors.
fn linked(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

/// Files of ours between backquotes: Rust sources, and paths that begin with a folder of ours.
/// `flow/{certify,deliver}.rs` names two.
fn quoted(line: &str) -> Vec<String> {
    const FOLDERS: &[&str] =
        &["crates/", "docs/", "tests/", "benches/", "xtask/", "fuzz/", "certs/", ".ci/"];
    // What runs leave there is no part of the tree.
    const LEFT: &[&str] = &["fuzz/artifacts", "fuzz/target"];
    let mut found = Vec::new();
    for name in line.split('`').skip(1).step_by(2) {
        let of_ours =
            FOLDERS.iter().any(|folder| name.starts_with(folder)) || name.ends_with(".rs");
        let pattern = name.contains(['*', ' ', '<', '…']);
        if !of_ours || pattern || LEFT.iter().any(|left| name.starts_with(left)) {
            continue;
        }
        match (name.split_once('{'), name.split_once('}')) {
            (Some((before, rest)), Some((_, after))) => {
                let inside = rest.split('}').next().unwrap_or_default();
                found.extend(inside.split(',').map(|one| format!("{before}{one}{after}")));
            }
            _ => found.push(name.to_owned()),
        }
    }
    found
}

fn tree_text(path: &str) -> String {
    std::fs::read_to_string(tree::root().join(path)).unwrap_or_else(|_| panic!("{path} is missing"))
}

/// What the program says when something is wrong, with its level: the last text of each `warn!` and `error!`.
fn complaints(file: &File) -> Vec<(usize, &'static str, String)> {
    let source = Source::new(&file.text);
    let (code, tests) = (source.code(), source.test_lines());
    let mut found = Vec::new();
    for (macro_name, level) in [("warn!(", "WARN"), ("error!(", "ERROR")] {
        for (start, _) in code.match_indices(macro_name) {
            let line = code[..start].matches('\n').count() + 1;
            let is_whole = !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if !is_whole || tests.iter().any(|test| test.contains(&line)) {
                continue;
            }
            let start = start + macro_name.len();
            let mut depth = 1;
            let end = code[start..].find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let said = &file.text[start..start + end.unwrap()];
            let text = said.rsplit('"').nth(1).unwrap_or_default();
            // What only passes on a text of another's is told in the other's words.
            if !text.starts_with('{') {
                found.push((line, level, text.to_owned()));
            }
        }
    }
    found
}

#[test]
fn an_operator_is_told_what_to_do_about_every_complaint() {
    let files = files();
    let book = files.iter().find(|file| file.path == "docs/operating.md").unwrap();
    let mut found = Vec::new();
    let mut count = 0;
    for file in ["crates/server/src", "crates/store/src"].into_iter().flat_map(program_files) {
        for (line, level, text) in complaints(&file) {
            count += 1;
            let name = format!("`{text}`");
            let is_told =
                |row: &str| row.starts_with('|') && row.contains(level) && row.contains(&name);
            if !book.text.lines().any(is_told) {
                found.push(format!("{}: {level} {name}", at(&file, line)));
            }
        }
    }
    assert!(count >= 90, "{count}: are they found?");
    none("no row of docs/operating.md is about", &found);
}

#[test]
fn names_are_found_in_prose() {
    assert_eq!(linked("see [a](docs/a.md#b), [c](https://d.example), [e](#f)"), ["docs/a.md"]);
    assert_eq!(
        quoted("`crates/x/src/{a,b}.rs`, `flow.rs`, `ca.pem`, `fuzz/artifacts/x`, `tests/*.rs`"),
        ["crates/x/src/a.rs", "crates/x/src/b.rs", "flow.rs"]
    );
    assert_eq!(
        documents("RFC 9051 §6.4.7, RFC 2034 §4; DM 2 Nov 2005 art. 6; RT §6.3; an RFC of its own"),
        ["| RFC 9051 |", "| RFC 2034 |", "| DM 2 Nov 2005 |", "| RT |"]
    );
}
