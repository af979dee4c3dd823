//! Words of texts, and what a text that is looked for asks of the words of another.
//!
//! A word is letters and digits that follow each other. A text of one word is in another text where it is in
//! one of its words; a longer one is not there unless each of its parts is in a word, at the end of it where something
//! else comes behind, and at its beginning where something else comes before.

use std::collections::BTreeSet;

/// Characters of a word in the index. A longer one goes in as pieces that overlap by half: whatever is
/// in it and not longer than that is in one of them.
const WORD_CHARS_MAX: usize = 64;
/// Characters of a part that are looked for: what is longer is looked for by its beginning.
const PART_CHARS_MAX: usize = WORD_CHARS_MAX / 2;
/// Fewer are in too many words, or have no trigram.
const PART_CHARS_MIN: usize = 3;
/// Parts of a text that are looked for at most: enough to find few candidates.
const PARTS_MAX: usize = 16;
/// Different words of one text: what has more is no text, and is looked into each time.
pub(super) const WORDS_MAX: usize = 20_000;

/// All different words of a text; `None` when they are too many.
pub(super) fn of(text: &str) -> Option<BTreeSet<&str>> {
    let mut words = BTreeSet::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if word.len() <= WORD_CHARS_MAX {
            words.insert(word);
        } else {
            words.extend(pieces(word));
        }
        if words.len() > WORDS_MAX {
            return None;
        }
    }
    Some(words)
}

/// A long word in pieces: the first begins and the last ends as it does.
fn pieces(word: &str) -> Vec<&str> {
    let mut ends: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
    ends.push(word.len());
    let chars = ends.len() - 1;
    let last = chars.saturating_sub(WORD_CHARS_MAX);
    let starts = (0..last).step_by(WORD_CHARS_MAX / 2).chain([last]);
    starts.map(|start| &word[ends[start]..ends[chars.min(start + WORD_CHARS_MAX)]]).collect()
}

/// A part of a text that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'t> {
    pub(super) text: &'t str,
    /// A word must begin with it.
    pub(super) begins: bool,
    /// A word must end with it.
    pub(super) ends: bool,
}

impl Part<'_> {
    /// Whether it can be as asked in this word.
    pub(super) fn is_in(&self, word: &str) -> bool {
        match (self.begins, self.ends) {
            (true, true) => word == self.text,
            (true, false) => word.starts_with(self.text),
            (false, true) => word.ends_with(self.text),
            (false, false) => word.contains(self.text),
        }
    }
}

/// What must be in the words of a text that holds this one, as far as it can be looked up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted<'t> {
    pub(super) parts: Vec<Part<'t>>,
    /// It is one part and nothing else: where that is, the text is.
    pub(super) exact: bool,
}

/// Nothing, when any text may hold it.
pub(super) fn wanted(text: &str) -> Option<Wanted<'_>> {
    let mut parts = Vec::new();
    let mut exact = true;
    let mut at = 0;
    for run in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = run.trim_end_matches(|c: char| !c.is_alphanumeric());
        let (begins, ends) = (at > 0, word.len() < run.len());
        at += run.len();
        exact &= !begins && !ends;
        if word.is_empty() || parts.len() == PARTS_MAX {
            continue;
        }
        let cut = word.char_indices().nth(PART_CHARS_MAX).map(|(at, _)| &word[..at]);
        exact &= cut.is_none();
        let part = Part { text: cut.unwrap_or(word), begins, ends: ends && cut.is_none() };
        if part.begins && part.ends || part.text.chars().nth(PART_CHARS_MIN - 1).is_some() {
            parts.push(part);
        }
    }
    (!parts.is_empty()).then_some(Wanted { parts, exact })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(text: &str, begins: bool, ends: bool) -> Part<'_> {
        Part { text, begins, ends }
    }

    #[test]
    fn a_text_asks_for_its_words() {
        let long = "a".repeat(PART_CHARS_MAX + 1);
        for (text, parts, exact) in [
            ("fattura", vec![part("fattura", false, false)], true),
            ("perché", vec![part("perché", false, false)], true),
            (" fattura", vec![part("fattura", true, false)], false),
            ("fattura.", vec![part("fattura", false, true)], false),
            ("la di che", vec![part("di", true, true), part("che", true, false)], false),
            ("rossi@pec", vec![part("rossi", false, true), part("pec", true, false)], false),
            (long.as_str(), vec![part(&long[1..], false, false)], false),
        ] {
            assert_eq!(wanted(text), Some(Wanted { parts, exact }), "{text:?}");
        }
        for text in ["", "pe", "a b", "\"--\"", ". a"] {
            assert_eq!(wanted(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_has_too_many_words_has_none() {
        let text = |words: usize| (0..words).map(|number| format!("{number} ")).collect::<String>();
        assert_eq!(of(&text(WORDS_MAX)).unwrap().len(), WORDS_MAX);
        assert_eq!(of(&text(WORDS_MAX + 1)), None);
    }

    fn holds(text: &str, wanted: &Wanted<'_>) -> bool {
        let words = of(text).unwrap();
        wanted.parts.iter().all(|part| words.iter().any(|word| part.is_in(word)))
    }

    proptest! {
        /// Nothing that is there is missed, and one word is found nowhere else.
        #[test]
        fn words_tell_where_a_text_is(
            text in "[ab\u{e9}. ]{0,20}[abc\u{e9}]{0,200}[ab\u{e9}. ]{0,20}",
            other in "[ab\u{e9}. ]{0,12}",
            from in 0usize..200, chars in 0usize..80,
        ) {
            let inner: String = text.chars().skip(from).take(chars).collect();
            for looked_for in [inner.as_str(), &other] {
                let Some(wanted) = wanted(looked_for) else { continue };
                if text.contains(looked_for) {
                    prop_assert!(holds(&text, &wanted));
                } else if wanted.exact {
                    prop_assert!(!holds(&text, &wanted));
                }
            }
        }
    }
}
