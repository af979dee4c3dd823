//! The commands of an operator beside those on accounts: what is asked and how the answer is shown.
//! What they do is in [`crate::control`].

pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod store;

use std::io::Write;

use ::store::Timestamp;
use serde::Serialize;

/// Prints what was done: an object for programs, or the sentence for people. True, as the command's
/// outcome.
///
/// # Errors
///
/// When nobody can read it.
fn say(as_json: bool, done: &impl Serialize, text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", serde_json::to_string(done)?)?,
        false => writeln!(out, "{text}")?,
    }
    Ok(true)
}

/// Text from a message, for a terminal: nothing in it moves the cursor or changes a colour.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A time for people: the legal time of Italy, which receipts attest too (PEC-DT-01).
pub(crate) fn shown(time: Timestamp) -> String {
    in_rome("%Y-%m-%d %H:%M:%S %:z", time)
}

/// The same for programs.
fn rfc3339(time: Timestamp) -> String {
    in_rome("%Y-%m-%dT%H:%M:%S%:z", time)
}

/// A time in UTC, for what has UTC days.
pub(crate) fn in_utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn in_rome(form: &str, time: Timestamp) -> String {
    time.to_zoned(pec::moment::rome().clone()).strftime(form).to_string()
}

/// The first of some addresses, and how many more there are; a program reads them all.
fn named<'a>(addresses: impl ExactSizeIterator<Item = &'a String>) -> String {
    /// Addresses that a line for people has room for.
    const NAMED_MAX: usize = 3;
    let count = addresses.len();
    let first: Vec<&str> = addresses.take(NAMED_MAX).map(String::as_str).collect();
    match count.saturating_sub(NAMED_MAX) {
        0 if count == 0 => "-".to_owned(),
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
