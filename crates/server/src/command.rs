//! The commands of an operator beside those on accounts: what is asked and how the answer is shown.
//! What they do is in [`crate::control`].

pub(crate) mod log;

/// Text from a message, for a terminal: nothing in it moves the cursor or changes a colour.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
