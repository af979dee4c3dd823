//! Medians, percentiles and the table they are told in.

use std::time::Duration;

use super::party::{Kind, Party};
use crate::say;

/// What is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    /// Rates.
    More,
    /// Times and sizes.
    Less,
}

/// Figures of each server, one a round.
pub(super) type Figures = Vec<(Kind, Vec<f64>)>;

/// One line of the table: the median of each server, and ours against each other one.
pub(super) fn tell(what: &str, unit: &str, better: Better, figures: &Figures) {
    let medians: Vec<(Kind, f64)> =
        figures.iter().filter_map(|(kind, rounds)| Some((*kind, median(rounds)?))).collect();
    let ours = medians.iter().find(|(kind, _)| *kind == Kind::Ceralacca).map(|(_, figure)| *figure);
    let told = medians.iter().map(|(kind, figure)| {
        let ratio = ours.filter(|_| *kind != Kind::Ceralacca).map(|ours| match better {
            Better::More => ours / figure,
            Better::Less => figure / ours,
        });
        let ratio = ratio.map(|ratio| format!(" (x {})", short(ratio))).unwrap_or_default();
        format!("{:>22}", format!("{}{ratio}", short(*figure)))
    });
    say(&format!("{what}, {unit}"), told.collect::<String>());
}

/// The names of those whose figures follow.
pub(super) fn heading(parties: &[Party]) {
    let names = parties.iter().map(|party| format!("{:>22}", party.kind.word()));
    say("median (x: how much better ours is)", names.collect::<String>());
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure {
        _ if figure >= 100.0 => format!("{figure:.0}"),
        _ if figure >= 10.0 => format!("{figure:.1}"),
        _ if figure >= 0.1 => format!("{figure:.2}"),
        _ => format!("{figure:.4}"),
    }
}

/// The middle one.
pub(super) fn median(rounds: &[f64]) -> Option<f64> {
    percentile(rounds, 50)
}

/// What so many in a hundred are not above.
pub(super) fn percentile(figures: &[f64], hundredth: usize) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * hundredth / 100).min(sorted.len().saturating_sub(1))).copied()
}

/// In milliseconds.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(super) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
