//! `cargo xtask fuzz`: the targets of the workspace `fuzz`, on the stable toolchain.
//!
//! What `cargo fuzz` does on a nightly toolchain is a handful of compiler flags, given here. The
//! address sanitizer is not among them: our own crates have no unsafe code to find with it.

use std::fs;

use anyhow::{Context, Result, ensure};
use xtask::manifest::Manifest;
use xtask::tree;

use crate::command::Run;

/// Coverage for libFuzzer: counters in line, a table of places, and what comparisons compared.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Ccodegen-units=1";
/// An input longer than this teaches no grammar of ours anything new.
const INPUT_OCTETS_MAX: usize = 64 * 1024;
/// A target that holds more has lost a bound.
const RESIDENT_MIB_MAX: usize = 1024;
/// One input that takes longer has found something quadratic.
const INPUT_SECONDS_MAX: usize = 5;

/// Runs one target or all of them.
///
/// # Errors
///
/// When a target does not build or finds an input that it should not.
pub(crate) fn run(seconds: u64, target: Option<&str>) -> Result<()> {
    let counted = match target {
        None => all(seconds)?,
        Some(target) => {
            let targets = targets()?;
            let known = targets.iter().any(|known| known == target);
            ensure!(known, "no fuzz target {target}; there are {}", targets.join(", "));
            some(&[target.to_owned()], seconds)?
        }
    };
    println!("{counted}");
    Ok(())
}

/// Runs all targets, `seconds` each, and tells how many inputs they were given.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn all(seconds: u64) -> Result<String> {
    some(&targets()?, seconds)
}

/// The targets, as `fuzz/Cargo.toml` names them.
fn targets() -> Result<Vec<String>> {
    let manifest = Manifest::read(&tree::root(), "fuzz/Cargo.toml")?;
    Ok(manifest.binaries().into_iter().map(str::to_owned).collect())
}

fn some(targets: &[String], seconds: u64) -> Result<String> {
    let host = host()?;
    // With `--target` the flags reach the program only, not its build scripts.
    Run::new("cargo build --release --manifest-path fuzz/Cargo.toml --bins --target")
        .argument(&host)
        .set("RUSTFLAGS", COVERAGE)
        .set("CARGO_TARGET_DIR", "fuzz/target")
        .run()?;
    let mut inputs = 0;
    for target in targets {
        let ran = one(&host, target, seconds)?;
        println!("    {target}: {ran} inputs");
        inputs += ran;
    }
    Ok(format!("{} targets, {inputs} inputs", targets.len()))
}

fn one(host: &str, target: &str, seconds: u64) -> Result<u64> {
    let root = tree::root();
    let found = format!("fuzz/target/corpus/{target}");
    let artifacts = format!("fuzz/artifacts/{target}");
    for folder in [&found, &artifacts] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {folder}"))?;
    }
    let log = root.join(format!("fuzz/target/{target}.log"));
    let run = Run::new(&format!("fuzz/target/{host}/release/{target} -print_final_stats=1"))
        .argument(format!("-max_total_time={seconds}"))
        .argument(format!("-max_len={INPUT_OCTETS_MAX}"))
        .argument(format!("-rss_limit_mb={RESIDENT_MIB_MAX}"))
        .argument(format!("-timeout={INPUT_SECONDS_MAX}"))
        .argument(format!("-artifact_prefix={artifacts}/"))
        // What is found goes to the first folder; the seeds beside the sources stay as they are.
        .argument(found)
        .argument(format!("fuzz/corpus/{target}"))
        .log_to(&log)?;
    let outcome = run.run();
    let told = fs::read_to_string(&log).unwrap_or_default();
    if outcome.is_err() {
        println!("{told}");
    }
    outcome.with_context(|| format!("target {target} failed: see {artifacts}"))?;
    Ok(executed(&told))
}

/// The number in libFuzzer's `stat::number_of_executed_units: 1234`.
fn executed(told: &str) -> u64 {
    let line = told.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// The triple of this machine, as rustc names it.
fn host() -> Result<String> {
    let told = Run::new("rustc -vV").quietly().context("`rustc -vV` does not run")?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_inputs_is_read() {
        let told = "Done 7 runs in 1 second(s)\nstat::number_of_executed_units: 7\nstat::x: 1\n";
        assert_eq!(executed(told), 7);
        assert_eq!(executed(""), 0);
    }
}
