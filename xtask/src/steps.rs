//! A chore of several steps: each named before it runs, and all told at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The steps done so far.
pub(crate) struct Steps {
    total: usize,
    started: Instant,
    done: Vec<Done>,
}

struct Done {
    name: &'static str,
    took: Duration,
    /// What it counted, or what to do about its failure.
    outcome: Result<String, String>,
}

impl Steps {
    /// Before the first of `total` steps.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, started: Instant::now(), done: Vec::new() }
    }

    /// Runs a step and says how it went; `advice` is for whoever reads that it failed. The steps
    /// behind it run all the same, so that one run tells everything.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        advice: &str,
        work: impl FnOnce() -> Result<String>,
    ) -> bool {
        println!("\n==> {}/{} {name}", self.done.len() + 1, self.total);
        let started = Instant::now();
        let outcome = work().map_err(|error| format!("{error:#}\n    {advice}"));
        let took = started.elapsed();
        match &outcome {
            Ok(counted) => println!("    {name}: ok, {counted} ({})", shown(took)),
            Err(complaint) => println!("    {name}: FAILED after {}: {complaint}", shown(took)),
        }
        let passed = outcome.is_ok();
        self.done.push(Done { name, took, outcome });
        passed
    }

    /// All steps with their totals.
    ///
    /// # Errors
    ///
    /// When one failed: the error names it and says what to do.
    pub(crate) fn finish(self) -> Result<()> {
        println!(
            "\n==> {} of {} steps in {}",
            self.done.len(),
            self.total,
            shown(self.started.elapsed())
        );
        for Done { name, took, outcome } in &self.done {
            let told = outcome.as_deref().unwrap_or("FAILED");
            println!("    {name:<14} {:>8}  {told}", shown(*took));
        }
        let failed: Vec<_> = self
            .done
            .iter()
            .filter_map(|step| Some((step.name, step.outcome.as_ref().err()?)))
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let told: Vec<_> =
            failed.iter().map(|(name, complaint)| format!("\n  {name}: {complaint}")).collect();
        bail!("{} of {} steps failed:{}", failed.len(), self.total, told.concat())
    }
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}
