//! `cargo xtask rules`: each rule of certified mail with the tests that prove it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use xtask::rules::{self, Citation, Rule};
use xtask::tree;

/// Prints the rules of `families` (all, when none is named), or only those without a test.
///
/// # Errors
///
/// When the rules or the sources cannot be read, or a family has no rule.
pub(crate) fn run(families: &[String], missing: bool) -> Result<()> {
    let root = tree::root();
    let text = fs::read_to_string(root.join(rules::RULES))
        .with_context(|| format!("cannot read {}", rules::RULES))?;
    let rules = rules::rules(&text)?;
    let known: BTreeSet<_> = rules.iter().map(Rule::family).collect();
    for family in families {
        let there = known.contains(family.to_uppercase().as_str());
        ensure!(there, "no family {family}; there are {}", Vec::from_iter(known).join(", "));
    }
    let proofs = proofs(rules::citations(&tree::files(&root)?));
    let chosen: Vec<_> = rules
        .iter()
        .filter(|rule| {
            families.is_empty() || families.iter().any(|f| f.eq_ignore_ascii_case(rule.family()))
        })
        .collect();
    print!("{}", table(&chosen, &proofs, missing));
    Ok(())
}

/// For each rule that is proved, where.
fn proofs(citations: Vec<Citation>) -> BTreeMap<String, BTreeSet<String>> {
    let mut proofs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Citation { id, path, test, .. } in citations {
        if let Some(test) = test {
            proofs.entry(id).or_default().insert(format!("{path}: {test}"));
        }
    }
    proofs
}

fn table(rules: &[&Rule], proofs: &BTreeMap<String, BTreeSet<String>>, missing: bool) -> String {
    let mut told = String::new();
    let mut families: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for rule in rules {
        let tests = proofs.get(&rule.id);
        let (proved, all) = families.entry(rule.family()).or_default();
        *all += 1;
        *proved += usize::from(tests.is_some());
        if missing && tests.is_some() {
            continue;
        }
        told += &format!("{:<11} {:<6} {}\n", rule.id, rule.level, rule.text);
        match tests {
            Some(tests) => tests.iter().for_each(|test| told += &format!("            {test}\n")),
            None => told += "            no test\n",
        }
    }
    told += "\nfamily  rules  with a test  without\n";
    for (family, (proved, all)) in &families {
        told += &format!("{family:<6} {all:>6} {proved:>12} {:>8}\n", all - proved);
    }
    let proved: usize = families.values().map(|(proved, _)| proved).sum();
    told += &format!("{:<6} {:>6} {proved:>12} {:>8}\n", "all", rules.len(), rules.len() - proved);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_stands_with_its_tests_and_the_totals_below() {
        let rule = |id: &str| Rule { id: id.into(), text: "Do it.".into(), level: "MUST".into() };
        let cited = |test: Option<&str>| Citation {
            id: "PEC-QQ-01".into(),
            path: "a.rs".into(),
            line: 1,
            test: test.map(str::to_owned),
        };
        let rules = [rule("PEC-QQ-01"), rule("PEC-QQ-02")];
        let rules: Vec<_> = rules.iter().collect();
        let proofs = proofs(vec![cited(None), cited(Some("proves")), cited(Some("proves"))]);
        let first = "PEC-QQ-01   MUST   Do it.\n            a.rs: proves\n";
        let second = "PEC-QQ-02   MUST   Do it.\n            no test\n";
        let totals = "\nfamily  rules  with a test  without\n\
                      QQ          2            1        1\n\
                      all         2            1        1\n";
        assert_eq!(table(&rules, &proofs, false), format!("{first}{second}{totals}"));
        assert_eq!(table(&rules, &proofs, true), format!("{second}{totals}"));
    }
}
