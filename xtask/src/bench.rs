//! `cargo xtask bench`: the benchmarks of package `benches`, one file a question.

use anyhow::{Result, ensure};
use xtask::manifest::Manifest;
use xtask::tree;

use crate::command::Run;

/// Runs one benchmark or all of them, on the release binary.
///
/// # Errors
///
/// When there is none of that name, or one fails.
pub(crate) fn run(name: Option<&str>) -> Result<()> {
    let manifest = Manifest::read(&tree::root(), "benches/Cargo.toml")?;
    let known = manifest.benches();
    let chosen = match name {
        Some(name) => {
            ensure!(known.contains(&name), "no benchmark {name}; there are {}", known.join(", "));
            vec![name]
        }
        None => known,
    };
    ensure!(!chosen.is_empty(), "benches/Cargo.toml names no benchmark");
    Run::new("cargo build --locked --release --bin ceralacca").run()?;
    for (number, name) in chosen.iter().enumerate() {
        println!("\n==> {}/{} {name}", number + 1, chosen.len());
        Run::new("cargo bench --locked --package benches --bench").argument(name).run()?;
    }
    Ok(())
}
