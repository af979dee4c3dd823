//! `cargo xtask`: the project's own chores.
//!
//! `test` is everything that must hold before a change lands; `rules` shows which rule of certified
//! mail is proved where; `fuzz` and `bench` run what `test` has no time for. All of it stands on
//! the stable toolchain and on programs that Debian packages.
#![expect(clippy::print_stdout, reason = "a chore tells its progress to whoever started it")]
#![expect(clippy::print_stderr, reason = "and its complaints on standard error")]

mod bench;
mod command;
mod fuzz;
mod report;
mod steps;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own chores
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check everything: format, lints, documentation, licences, fuzz targets, every test
    ///
    /// On Debian and as root, it installs what is missing; elsewhere it names it.
    #[command(after_help = "Example: cargo xtask test")]
    Test {
        /// Seconds for each fuzz target, on its corpus
        #[arg(long, default_value_t = test::FUZZ_SECONDS, value_name = "N")]
        fuzz_seconds: u64,
    },
    /// Print each rule of docs/pec-rules.md with the tests that prove it
    #[command(after_help = "Example: cargo xtask rules --family AP,RA --missing")]
    Rules {
        /// Only these families
        #[arg(long, value_delimiter = ',', value_name = "AP,RA,...")]
        family: Vec<String>,
        /// Only the rules without a test
        #[arg(long)]
        missing: bool,
    },
    /// Run the fuzz targets, each on its corpus
    #[command(after_help = "Example: cargo xtask fuzz --seconds 600 imap_command")]
    Fuzz {
        /// Seconds for each target
        #[arg(long, default_value_t = 60, value_name = "N")]
        seconds: u64,
        /// Only this target
        target: Option<String>,
    },
    /// Run the benchmarks, or one of them
    #[command(after_help = "Example: cargo xtask bench certified_throughput")]
    Bench {
        /// Only this one
        name: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test { fuzz_seconds } => test::run(fuzz_seconds),
        Chore::Rules { family, missing } => report::run(&family, missing),
        Chore::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref()),
        Chore::Bench { name } => bench::run(name.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
