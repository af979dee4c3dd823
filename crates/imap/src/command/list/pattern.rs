//! Patterns of LIST: `*` for anything, `%` for anything within a level. RFC 3501 §6.3.8.
//!
//! All ways to match are followed at once, a bit for each, so that no pattern makes a name cost
//! more than its length times the pattern's.

use store::{NAME_OCTETS_MAX, SEPARATOR};

/// A pattern, ready to be matched.
pub(super) struct Pattern {
    /// How many octets stand for themselves.
    literals: usize,
    /// For each octet, bit `i`: literal `i` is that octet.
    places: Vec<[u64; 256]>,
    /// Bit `i`: before literal `i` (or the end) there is a `*`.
    stars: Vec<u64>,
    /// Likewise a `*` or a `%`.
    gaps: Vec<u64>,
    ends_in_percent: bool,
}

impl Pattern {
    /// `None` when it is longer than any name it could match.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (first, rest) = text.split_at(text.find(SEPARATOR).unwrap_or(text.len()));
        let inbox = first.eq_ignore_ascii_case("INBOX");
        let octets = if inbox { ["INBOX", rest].concat() } else { text.to_owned() }.into_bytes();
        let literals = octets.iter().filter(|b| !matches!(b, b'*' | b'%')).count();
        if literals > NAME_OCTETS_MAX {
            return None;
        }
        let words = literals / 64 + 1;
        let (mut stars, mut gaps) = (vec![0; words], vec![0; words]);
        let mut places = vec![[0; 256]; words];
        let mut at = 0;
        for octet in &octets {
            match octet {
                b'*' => {
                    set(&mut stars, at);
                    set(&mut gaps, at);
                }
                b'%' => set(&mut gaps, at),
                _ => {
                    if let Some(word) = places.get_mut(at / 64) {
                        word[usize::from(*octet)] |= 1 << (at % 64);
                    }
                    at += 1;
                }
            }
        }
        Some(Self { literals, places, stars, gaps, ends_in_percent: octets.ends_with(b"%") })
    }

    pub(super) fn ends_in_percent(&self) -> bool {
        self.ends_in_percent
    }

    /// Whether a name matches, to its end.
    pub(super) fn matches(&self, name: &str) -> bool {
        // Bit `i`: the first `i` literals have been matched.
        let mut reached = vec![0u64; self.stars.len()];
        set(&mut reached, 0);
        for octet in name.bytes() {
            let stays = if octet == SEPARATOR as u8 { &self.stars } else { &self.gaps };
            let mut carry = 0;
            for ((word, stays), places) in reached.iter_mut().zip(stays).zip(&self.places) {
                let moved = *word & places[usize::from(octet)];
                *word = (*word & stays) | (moved << 1) | carry;
                carry = moved >> 63;
            }
        }
        reached[self.literals / 64] & (1 << (self.literals % 64)) != 0
    }
}

fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_match_as_they_should() {
        for (pattern, name, expected) in [
            ("*", "a/b/c", true),
            ("%", "a", true),
            ("%", "a/b", false),
            ("%/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("a*c", "a/b/c", true),
            ("*b", "a/b", true),
            ("*%", "a/b", true),
            ("%*", "a/b", true),
            ("a%*b", "a/x/b", true),
            ("inbox", "INBOX", true),
            ("inbox/%", "INBOX/a", true),
            ("Inboxes", "INBOXES", false),
            ("a", "ab", false),
            ("", "", true),
            ("%a%/b", "aa/b", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_longer_than_any_name_is_none() {
        assert!(Pattern::new(&"a".repeat(NAME_OCTETS_MAX)).is_some());
        assert!(Pattern::new(&"a".repeat(NAME_OCTETS_MAX + 1)).is_none());
    }

    #[test]
    fn many_wildcards_cost_little() {
        let pattern = Pattern::new(&format!("{}b", "%*a".repeat(300))).unwrap();
        let name = "a".repeat(NAME_OCTETS_MAX);
        for _ in 0..1_000 {
            assert!(!pattern.matches(&name));
        }
    }

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                naive(&pattern[1..], name) || (!name.is_empty() && naive(pattern, &name[1..]))
            }
            (Some(b'%'), _) => {
                naive(&pattern[1..], name)
                    || (name.first().is_some_and(|&b| b != b'/') && naive(pattern, &name[1..]))
            }
            (Some(p), Some(n)) => p == n && naive(&pattern[1..], &name[1..]),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn it_does_what_trying_all_ways_does(pattern in "[ab/%*]{0,8}", name in "[ab/]{0,10}") {
            let matched = Pattern::new(&pattern).unwrap().matches(&name);
            prop_assert_eq!(matched, naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
