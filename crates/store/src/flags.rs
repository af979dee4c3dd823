//! Flags and keywords of messages; RFC 9051 §2.3.2.

use std::collections::BTreeSet;
use std::fmt;

/// Octets of a keyword at most.
pub const KEYWORD_OCTETS_MAX: usize = 128;
/// Different keywords in one mailbox at most.
pub const KEYWORDS_MAX: usize = 1_000;

/// A keyword; equal to another when they are, case aside. Keeps the case it came with.
#[derive(Debug, Clone)]
pub struct Keyword(String);

impl Keyword {
    /// A keyword of printable ASCII without the characters that IMAP's atoms exclude
    /// (RFC 9051 §9, `flag-keyword`); `None` otherwise.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b);
        let fits = !text.is_empty() && text.len() <= KEYWORD_OCTETS_MAX;
        (fits && text.bytes().all(ok)).then(|| Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl PartialOrd for Keyword {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Keyword {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.to_ascii_lowercase().cmp(&other.0.to_ascii_lowercase())
    }
}

/// The flags that IMAP defines, `\Recent` aside: that one is a session's, not a message's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SystemFlags(pub u8);

impl SystemFlags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// `\Seen`
    pub const SEEN: Self = Self(1);
    /// `\Answered`
    pub const ANSWERED: Self = Self(2);
    /// `\Flagged`
    pub const FLAGGED: Self = Self(4);
    /// `\Deleted`
    pub const DELETED: Self = Self(8);
    /// `\Draft`
    pub const DRAFT: Self = Self(16);

    /// Whether all of `other` are in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The flags of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    /// IMAP's own.
    pub system: SystemFlags,
    /// The users'.
    pub keywords: BTreeSet<Keyword>,
}

/// What STORE does to the flags of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagChange {
    /// These and no others.
    Replace(Flags),
    /// These too.
    Add(Flags),
    /// These no longer.
    Remove(Flags),
}
