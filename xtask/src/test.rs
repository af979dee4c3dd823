//! `cargo xtask test`: everything that must hold before a change lands.
//!
//! The order saves builds: the documentation and the tests share one debug build with clippy, and
//! the release build comes before the tests, because the scenarios among them start that binary.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::command::Run;
use crate::steps::Steps;
use crate::{fuzz, report, tools};

/// How long each fuzz target runs unless told otherwise: enough to replay its corpus and go on.
pub(crate) const FUZZ_SECONDS: u64 = 5;

/// The release binary that the scenarios start: how they are told where it is.
const BINARY_VARIABLE: &str = "CERALACCA_BIN";

/// Runs every step and tells the totals.
///
/// # Errors
///
/// When a step fails: the error names it and says what to do.
pub(crate) fn run(fuzz_seconds: u64) -> Result<()> {
    let mut steps = Steps::new(9);
    if !steps.step("tools", "Install them, then run `cargo xtask test` again.", tools::provide) {
        return steps.finish();
    }
    steps.step(
        "format",
        "Run `cargo fmt --all`, and the same with `--manifest-path fuzz/Cargo.toml`.",
        || {
            Run::new("cargo fmt --all -- --check").run()?;
            Run::new("cargo fmt --manifest-path fuzz/Cargo.toml -- --check").run()?;
            Ok("rustfmt has nothing to change".to_owned())
        },
    );
    steps.step(
        "clippy",
        "Mend what it says above; `cargo clippy --fix` can do some of it.",
        || {
            Run::new("cargo clippy --locked --workspace --all-targets -- -D warnings").run()?;
            Ok("no warnings".to_owned())
        },
    );
    steps.step("documentation", "Mend the links and comments named above.", || {
        let build = Run::new("cargo doc --locked --workspace --no-deps --document-private-items");
        build.set("RUSTDOCFLAGS", "-D warnings").run()?;
        Ok("no warnings".to_owned())
    });
    steps.step(
        "rules",
        "Cite the rule in the test that proves it, or say in docs/pec-rules.md whose it is.",
        report::check,
    );
    steps.step("dependencies", "deny.toml says what is allowed, and why.", dependencies);
    steps.step(
        "fuzz",
        "The input is under fuzz/artifacts: mend the code, move it to fuzz/corpus.",
        || fuzz::all(fuzz_seconds),
    );
    steps.step("release build", "Mend what the compiler says above.", || {
        Run::new("cargo build --locked --release --bin ceralacca").run()?;
        Ok(release_binary().display().to_string())
    });
    steps.step("tests", "`cargo test -p PACKAGE NAME` runs one of them alone.", tests);
    steps.finish()
}

/// Licences, bans and sources. Offline, because the step `tools` has fetched every crate; the
/// advisories need a database of their own from the network.
fn dependencies() -> Result<String> {
    println!("    advisories are left out: they need a database from the network.");
    println!("    `cargo deny check advisories` looks at them where that can be reached.");
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let deny = Run::new("cargo deny --offline --manifest-path").argument(manifest);
        deny.argument("--config")
            .argument("deny.toml")
            .argument("check")
            .argument("licenses")
            .argument("bans")
            .argument("sources")
            .run()?;
    }
    Ok("licences, bans and sources as deny.toml has them".to_owned())
}

fn tests() -> Result<String> {
    let mut count = Count::default();
    let run = Run::new("cargo test --locked --workspace --no-fail-fast")
        .set(BINARY_VARIABLE, release_binary())
        .run_and_watch(|line| count.add(line));
    println!(
        "    in all: {} passed, {} failed, {} ignored",
        count.passed, count.failed, count.ignored
    );
    run?;
    ensure!(count.passed > 0, "no test ran");
    Ok(format!("{} passed, {} ignored", count.passed, count.ignored))
}

fn release_binary() -> PathBuf {
    xtask::debian::target().join("release").join("ceralacca")
}

/// Tests, summed over the lines `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
#[derive(Debug, Default, PartialEq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Count {
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<_> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out",
        ] {
            count.add(line);
        }
        assert_eq!(count, Count { passed: 13, failed: 2, ignored: 1 });
    }
}
