//! Which rule of certified mail is proved by which test.
//!
//! The rules are the rows of `docs/pec-rules.md`; its last table lists those that no test can prove, with whose
//! they are and why. A test names the rules that it proves: in a
//! comment in it or right above it, as `PEC-AP-03`, or in its own name, as `pec_ap_03`. A citation
//! in the program itself says where a rule is obeyed, and proves nothing.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use crate::rust::{Source, TestItem};
use crate::tree::File;

/// Where the rules stand.
pub const RULES: &str = "docs/pec-rules.md";

/// The heading above the table of those that no test proves.
const WITHOUT: &str = "## Without a test";

/// The chores, whose examples are no citations.
const HERE: &str = "xtask/";

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id, as `PEC-AP-03`.
    pub id: String,
    /// Its text, shortened.
    pub text: String,
    /// How binding it is: `MUST`, `MUST*`, `SHOULD`, `MAY` or nothing.
    pub level: String,
}

impl Rule {
    /// The family: `AP` of `PEC-AP-03`.
    pub fn family(&self) -> &str {
        self.id.split('-').nth(1).unwrap_or_default()
    }
}

/// Why a rule has no test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Nothing for software to do: it binds the organisation, the authority or the user's client.
    Organisation,
    /// Whoever runs the program has to see to it.
    Operator,
    /// Not built or not proved yet: a complaint as long as it is so.
    Open,
}

impl Whose {
    /// Its word in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Operator => "operator",
            Self::Open => "open",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Organisation, Self::Operator, Self::Open].into_iter().find(|one| one.word() == word)
    }
}

/// A rule that no test proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub whose: Whose,
    /// Why, in a sentence.
    pub why: String,
}

/// Reads the table of rules without a test.
///
/// # Errors
///
/// When a row has no rule's id, no word of [`Whose`] or no reason, or a rule stands twice.
pub fn without(text: &str) -> Result<Vec<Without>> {
    let Some((_, text)) = text.split_once(WITHOUT) else { return Ok(Vec::new()) };
    let mut found: Vec<Without> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| PEC-")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", id, whose, why, ""] = cells.as_slice() else {
            bail!("{RULES}: not a rule, whose it is and why: {line}");
        };
        ensure!(cited(id).as_slice() == [*id], "{RULES}: {id} is no rule's id");
        ensure!(!found.iter().any(|one| one.id == *id), "{RULES}: {id} stands twice");
        ensure!(!why.is_empty(), "{RULES}: {id} has no reason");
        let whose = Whose::parse(whose).with_context(|| {
            format!("{RULES}: {id} is of nobody: write organisation or operator")
        })?;
        found.push(Without { id: (*id).into(), whose, why: (*why).into() });
    }
    Ok(found)
}

/// What is wrong with what is proved and what is said to need no proof: a sentence each.
pub fn complaints(rules: &[Rule], proved: &BTreeSet<String>, without: &[Without]) -> Vec<String> {
    let said: BTreeSet<&str> = without.iter().map(|one| one.id.as_str()).collect();
    let known: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    let neither =
        rules.iter().filter(|rule| !proved.contains(&rule.id) && !said.contains(rule.id.as_str()));
    let neither = neither.map(|rule| {
        format!("{}: no test cites it, and {RULES} does not say why none can", rule.id)
    });
    let unknown = without.iter().filter(|one| !known.contains(one.id.as_str()));
    let unknown = unknown.map(|one| format!("{}: no rule has this id", one.id));
    let open = without.iter().filter(|one| one.whose == Whose::Open);
    let open = open.map(|one| format!("{}: it is open: {}", one.id, one.why));
    let both = without.iter().filter(|one| proved.contains(&one.id));
    let both = both.map(|one| {
        format!("{}: a test cites it, and {RULES} has it among those that none proves", one.id)
    });
    neither.chain(unknown).chain(open).chain(both).collect()
}

/// A place where a rule is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Citation {
    /// The rule's id.
    pub id: String,
    /// The file.
    pub path: String,
    /// The line.
    pub line: usize,
    /// The test, or the table of a test, when the citation is in one.
    pub test: Option<String>,
}

/// Reads the table rows of `docs/pec-rules.md`: those whose first cell is a rule's id.
///
/// # Errors
///
/// When there is none, or an id stands twice.
pub fn rules(text: &str) -> Result<Vec<Rule>> {
    let mut found: Vec<Rule> = Vec::new();
    let mut ids = BTreeSet::new();
    let (text, _) = text.split_once(WITHOUT).unwrap_or((text, ""));
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", first, text, rest @ ..] = cells.as_slice() else { continue };
        let first = first.trim_matches('`');
        if cited(first).as_slice() != [first] {
            continue;
        }
        ensure!(ids.insert(first.to_owned()), "{RULES}: {first} stands twice");
        let level = rest.first().copied().unwrap_or_default();
        found.push(Rule { id: first.into(), text: (*text).into(), level: level.into() });
    }
    ensure!(!found.is_empty(), "{RULES} has no row whose first cell is a rule's id");
    Ok(found)
}

/// All citations in the tree, save for the list of rules itself and the examples here.
pub fn citations(files: &[File]) -> Vec<Citation> {
    let test_files = test_files(files);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path != RULES && !file.path.starts_with(HERE)) {
        if file.is(".rs") {
            rust_citations(file, test_files.contains(&file.path), &mut found);
        } else {
            let in_tests = file.path.starts_with("tests/");
            for (line, text) in file.lines() {
                for id in cited(text) {
                    let test = in_tests.then(|| heading(file, line));
                    found.push(Citation { id, path: file.path.clone(), line, test });
                }
            }
        }
    }
    found
}

fn rust_citations(file: &File, all_of_it: bool, found: &mut Vec<Citation>) {
    let source = Source::new(&file.text);
    let regions = if all_of_it { vec![1..=file.text.lines().count()] } else { source.test_lines() };
    let items: Vec<TestItem> = regions.iter().flat_map(|lines| source.items(lines)).collect();
    for (line, text) in file.lines() {
        for id in cited(text) {
            // In test code and yet in no test, it speaks of all of them and proves nothing.
            let test = items.iter().find(|item| item.lines.contains(&line));
            let test = test.map(|item| item.name.clone());
            found.push(Citation { id, path: file.path.clone(), line, test });
        }
    }
    for item in &items {
        for id in cited(&item.name.to_uppercase().replace('_', "-")) {
            let test = Some(item.name.clone());
            found.push(Citation { id, path: file.path.clone(), line: *item.lines.start(), test });
        }
    }
}

/// Rust files that are test code from their first line to the last.
pub fn test_files(files: &[File]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| file.is(".rs")) {
        // The contract of the store is a set of tests that each store's own tests call.
        let contract = file.path.starts_with("crates/store/src/contract");
        if contract || file.path.starts_with("tests/") || file.path.contains("/tests/") {
            found.insert(file.path.clone());
        }
        let folder = module_folder(&file.path);
        for name in Source::new(&file.text).test_modules() {
            let below = format!("{folder}/{name}/");
            let modules = files
                .iter()
                .map(|file| &file.path)
                .filter(|path| **path == format!("{folder}/{name}.rs") || path.starts_with(&below));
            found.extend(modules.cloned());
        }
    }
    found
}

/// The folder in which a module's own modules live.
fn module_folder(path: &str) -> &str {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    for name in ["/mod", "/lib", "/main"] {
        if let Some(folder) = stem.strip_suffix(name) {
            return folder;
        }
    }
    stem
}

/// What a line of a transcript or script belongs to: the first line of its paragraph, or the
/// nearest `def` above.
fn heading(file: &File, line: usize) -> String {
    let above: Vec<_> = file.text.lines().take(line).collect();
    if file.is(".py") {
        let def = above.iter().rev().find_map(|line| line.trim_start().strip_prefix("def "));
        return def.and_then(|def| def.split('(').next()).unwrap_or("(the file)").to_owned();
    }
    let paragraph = above.iter().rev().take_while(|line| !line.trim().is_empty()).last();
    paragraph.map_or("", |line| line.trim_start_matches(['#', ' '])).to_owned()
}

/// The ids that a line names, in their order: `PEC-AP-21/22` names two.
pub fn cited(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, prefix) in line.match_indices("PEC-") {
        let rest = &line[at + prefix.len()..];
        let Some((family, rest)) = rest.split_once('-') else { continue };
        if family.is_empty() || !family.bytes().all(|octet| octet.is_ascii_uppercase()) {
            continue;
        }
        let mut rest = rest;
        while let Some(number) = rest.get(..2).filter(|n| n.bytes().all(|o| o.is_ascii_digit())) {
            found.push(format!("PEC-{family}-{number}"));
            match rest[2..].strip_prefix('/') {
                Some(next) => rest = next,
                None => break,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_wherever_it_stands() {
        for (line, ids) in [
            ("// PEC-QQ-03.", vec!["PEC-QQ-03"]),
            ("(PEC-QQ-21/22, PEC-RR-01)", vec!["PEC-QQ-21", "PEC-QQ-22", "PEC-RR-01"]),
            ("PEC-QQ PEC-qq-01 PEC--01 PEC-QQ-1 PEC-QQ-è", vec![]),
        ] {
            assert_eq!(cited(line), ids, "{line}");
        }
    }

    #[test]
    fn rows_are_rules_and_prose_is_not() {
        let text = "About PEC-QQ-01.\n\n| Id | Rule | Level | Marks |\n|---|---|---|---|\n\
                    | PEC-QQ-01 | Do it. | MUST | N |\n| `PEC-QQ-02` | Or not. | | D |\n";
        let rule = |id: &str, text: &str, level: &str| Rule {
            id: id.into(),
            text: text.into(),
            level: level.into(),
        };
        let found = rules(text).unwrap();
        assert_eq!(found, [rule("PEC-QQ-01", "Do it.", "MUST"), rule("PEC-QQ-02", "Or not.", "")]);
        assert_eq!(found[0].family(), "QQ");
        assert!(rules("nothing").is_err());
        let twice = rules("| PEC-QQ-01 | a | | |\n| PEC-QQ-01 | b | | |");
        assert!(twice.unwrap_err().to_string().ends_with("PEC-QQ-01 stands twice"));
    }

    #[test]
    fn a_rule_is_proved_or_it_is_said_why_none_can() {
        let text = "| PEC-QQ-01 | Do it. | | |\n| PEC-QQ-02 | Do it. | | |\n| PEC-QQ-03 | Do it. | | |\n\n\
                    ## Without a test\n\n| Rule | Whose | Why |\n|---|---|---|\n\
                    | PEC-QQ-02 | operator | It is a contract. |\n";
        let (all, some) = (rules(text).unwrap(), without(text).unwrap());
        assert_eq!(all.len(), 3);
        let expected = Without {
            id: "PEC-QQ-02".into(),
            whose: Whose::Operator,
            why: "It is a contract.".into(),
        };
        assert_eq!(some, [expected]);
        let proved = BTreeSet::from(["PEC-QQ-01".to_owned()]);
        let told = complaints(&all, &proved, &some);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("PEC-QQ-03: no test cites it"), "{told:?}");
        assert_eq!(complaints(&all[..2], &proved, &some), [""; 0]);
        let told = complaints(&all[..1], &proved, &some);
        assert_eq!(told, ["PEC-QQ-02: no rule has this id"]);
        let both = BTreeSet::from(["PEC-QQ-01".to_owned(), "PEC-QQ-02".to_owned()]);
        assert_eq!(
            complaints(&all[..2], &both, &some),
            [format!(
                "PEC-QQ-02: a test cites it, and {RULES} has it among those that none proves"
            )]
        );
        let open = Without { whose: Whose::Open, ..some[0].clone() };
        assert_eq!(
            complaints(&all[..2], &proved, &[open]),
            ["PEC-QQ-02: it is open: It is a contract."]
        );
        for wrong in [
            "| PEC-QQ-02 | operator | |",
            "| PEC-QQ-02 | nobody | Because. |",
            "| PEC-QQ-02 | operator |",
            "| PEC-QQ-2x | operator | Because. |",
            "| PEC-QQ-02 | open | a |\n| PEC-QQ-02 | open | b |",
        ] {
            assert!(without(&format!("## Without a test\n{wrong}\n")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_citation_belongs_to_the_test_it_stands_in() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let program = "// PEC-QQ-01\nfn obey() {}\n#[cfg(test)]\nmod checks;\n\
                       #[cfg(test)]\nmod tests {\n// PEC-QQ-02\n#[test]\nfn proves() {\n\
                       // PEC-QQ-03\n}\n#[test]\nfn pec_qq_04_holds() {}\n}\n";
        let transcript = "# One. PEC-QQ-06\nC: x\n\n# Two.\n# PEC-QQ-07\nC: y\n";
        let files = [
            file("crates/a/src/b.rs", program),
            file("crates/a/src/b/checks.rs", "/// PEC-QQ-05\nfn checks() {}\n"),
            file("tests/transcripts/pec/c.txt", transcript),
            file("tests/clients/d.py", "def test_it():\n    # PEC-QQ-08\n"),
            file("docs/e.md", "PEC-QQ-09"),
            file("crates/a/tests/f.rs", "//! PEC-QQ-10\n\n#[test]\nfn proves() {}\n"),
        ];
        let found = citations(&files);
        let found: Vec<_> =
            found.iter().map(|one| (one.id.as_str(), one.test.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("PEC-QQ-01", None),
                ("PEC-QQ-02", Some("proves")),
                ("PEC-QQ-03", Some("proves")),
                ("PEC-QQ-04", Some("pec_qq_04_holds")),
                ("PEC-QQ-05", Some("checks")),
                ("PEC-QQ-06", Some("One. PEC-QQ-06")),
                ("PEC-QQ-07", Some("Two.")),
                ("PEC-QQ-08", Some("test_it")),
                ("PEC-QQ-09", None),
                ("PEC-QQ-10", None),
            ]
        );
    }
}
