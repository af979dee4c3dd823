//! `cargo xtask rules`: each rule of certified mail with the tests that prove it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use xtask::rules::{self, Citation, Rule, Whose, Without};
use xtask::tree;

/// Prints the rules of `families` (all, when none is named), or only those without a test.
///
/// # Errors
///
/// When the rules or the sources cannot be read, or a family has no rule.
pub(crate) fn run(families: &[String], missing: bool) -> Result<()> {
    let Known { rules, proofs, without } = known()?;
    let families_known: BTreeSet<_> = rules.iter().map(Rule::family).collect();
    for family in families {
        let there = families_known.contains(family.to_uppercase().as_str());
        let all = || Vec::from_iter(families_known.iter().copied()).join(", ");
        ensure!(there, "no family {family}; there are {}", all());
    }
    let chosen: Vec<_> = rules
        .iter()
        .filter(|rule| {
            families.is_empty() || families.iter().any(|f| f.eq_ignore_ascii_case(rule.family()))
        })
        .collect();
    print!("{}", table(&chosen, &proofs, &without, missing));
    Ok(())
}

/// Every rule is cited by a test, or it is said why none can: how many of each.
///
/// # Errors
///
/// When one is in neither: it is named.
pub(crate) fn check() -> Result<String> {
    let Known { rules, proofs, without } = known()?;
    let proved: BTreeSet<String> = proofs.keys().cloned().collect();
    let complaints = rules::complaints(&rules, &proved, &without);
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n    "));
    }
    let of = |whose| without.iter().filter(|one| one.whose == whose).count();
    let with = rules.iter().filter(|rule| proved.contains(&rule.id)).count();
    Ok(format!(
        "{} rules: {with} with a test; {} the organisation's, {} the operator's",
        rules.len(),
        of(Whose::Organisation),
        of(Whose::Operator)
    ))
}

/// The rules, what proves them, and what is said of the others.
struct Known {
    rules: Vec<Rule>,
    proofs: BTreeMap<String, BTreeSet<String>>,
    without: Vec<Without>,
}

fn known() -> Result<Known> {
    let root = tree::root();
    let text = fs::read_to_string(root.join(rules::RULES))
        .with_context(|| format!("cannot read {}", rules::RULES))?;
    Ok(Known {
        rules: rules::rules(&text)?,
        proofs: proofs(rules::citations(&tree::files(&root)?)),
        without: rules::without(&text)?,
    })
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

fn table(
    rules: &[&Rule],
    proofs: &BTreeMap<String, BTreeSet<String>>,
    without: &[Without],
    missing: bool,
) -> String {
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
            None => match without.iter().find(|one| one.id == rule.id) {
                Some(Without { whose, why, .. }) => {
                    told += &format!("            {}: {why}\n", whose.word());
                }
                None => told += "            no test\n",
            },
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
        let rules = [rule("PEC-QQ-01"), rule("PEC-QQ-02"), rule("PEC-QQ-03")];
        let rules: Vec<_> = rules.iter().collect();
        let proofs = proofs(vec![cited(None), cited(Some("proves")), cited(Some("proves"))]);
        let first = "PEC-QQ-01   MUST   Do it.\n            a.rs: proves\n";
        let second = "PEC-QQ-02   MUST   Do it.\n            no test\n\
                      PEC-QQ-03   MUST   Do it.\n            operator: Because.\n";
        let without =
            [Without { id: "PEC-QQ-03".into(), whose: Whose::Operator, why: "Because.".into() }];
        let totals = "\nfamily  rules  with a test  without\n\
                      QQ          3            1        2\n\
                      all         3            1        2\n";
        assert_eq!(table(&rules, &proofs, &without, false), format!("{first}{second}{totals}"));
        assert_eq!(table(&rules, &proofs, &without, true), format!("{second}{totals}"));
    }
}
