//! Mailboxes: their names, numbers and special uses.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use crate::{AccountId, Timestamp};

/// Octets of a mailbox name at most.
pub const NAME_OCTETS_MAX: usize = 1_000;
/// Levels of a mailbox name at most.
pub const NAME_DEPTH_MAX: usize = 20;
/// Mailboxes of one account at most.
pub const MAILBOXES_MAX: usize = 10_000;
/// Names that one account subscribes to at most: it may keep some of mailboxes that are gone.
pub const SUBSCRIPTIONS_MAX: usize = 12_000;
/// What parts the levels of a name.
pub const SEPARATOR: char = '/';

/// The number of a mailbox, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(pub u64);

/// A message's unique identifier in its mailbox (RFC 9051 §2.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub NonZeroU32);

/// What tells one life of a mailbox name from another (RFC 9051 §2.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UidValidity(pub NonZeroU32);

/// A mailbox's count of changes (RFC 7162 §3.1.2). The first change makes it 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ModSeq(pub u64);

/// The name of a mailbox in UTF-8, its levels parted by [`SEPARATOR`]; `INBOX` is in upper case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(String);

impl MailboxName {
    /// Reads a name: no empty level, no control character, no `%` nor `*`, within the bounds.
    /// `None` otherwise. `inbox` in any case becomes `INBOX`, also as the first level. Letters and their
    /// accents become one, NFC, so that a name is the same however it was typed: RFC 9051 §5.1 has names
    /// in Net-Unicode, RFC 5198 §2.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > NAME_OCTETS_MAX {
            return None;
        }
        let composed: Cow<'_, str> = match is_nfc_quick(text.chars()) {
            IsNormalized::Yes => text.into(),
            IsNormalized::No | IsNormalized::Maybe => text.nfc().collect::<String>().into(),
        };
        let text = &*composed;
        if text.len() > NAME_OCTETS_MAX || text.split(SEPARATOR).count() > NAME_DEPTH_MAX {
            return None;
        }
        let level_ok = |level: &str| !level.is_empty() && level.trim() == level;
        let char_ok = |c: char| !c.is_control() && c != '%' && c != '*' && c != '\u{fffd}';
        if !text.split(SEPARATOR).all(level_ok) || !text.chars().all(char_ok) {
            return None;
        }
        let (first, rest) = text.split_at(text.find(SEPARATOR).unwrap_or(text.len()));
        let first = if first.eq_ignore_ascii_case("INBOX") { "INBOX" } else { first };
        Some(Self(format!("{first}{rest}")))
    }

    /// `INBOX`.
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// Whether this is `INBOX`.
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names above this one, the topmost first.
    pub fn parents(&self) -> Vec<Self> {
        self.0.match_indices(SEPARATOR).map(|(at, _)| Self(self.0[..at].to_owned())).collect()
    }

    /// Whether this is below `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with(SEPARATOR))
    }

    /// This name with its part `from` (itself, or a name above it) replaced by `to`.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Self {
        match self.0.strip_prefix(&from.0) {
            Some(rest) => Self(format!("{}{rest}", to.0)),
            None => self.clone(),
        }
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a mailbox is for (RFC 6154 §2), and the Italian name that an account's has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialUse {
    /// `\Sent`, `Posta inviata`
    Sent,
    /// `\Drafts`, `Bozze`
    Drafts,
    /// `\Junk`, `Posta indesiderata`
    Junk,
    /// `\Trash`, `Cestino`
    Trash,
    /// `\Archive`, `Archivio`
    Archive,
}

impl SpecialUse {
    /// All of them, in the order accounts get them.
    pub const ALL: [Self; 5] = [Self::Sent, Self::Drafts, Self::Junk, Self::Trash, Self::Archive];

    /// The attribute in LIST.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Sent => "\\Sent",
            Self::Drafts => "\\Drafts",
            Self::Junk => "\\Junk",
            Self::Trash => "\\Trash",
            Self::Archive => "\\Archive",
        }
    }

    /// The name of the folder that every account has for it.
    pub const fn folder_name(self) -> &'static str {
        match self {
            Self::Sent => "Posta inviata",
            Self::Drafts => "Bozze",
            Self::Junk => "Posta indesiderata",
            Self::Trash => "Cestino",
            Self::Archive => "Archivio",
        }
    }

    /// The folders that every account has beside INBOX, with what they are for.
    pub(crate) fn folders() -> impl Iterator<Item = (MailboxName, Option<Self>)> {
        let folder = |what: Self| MailboxName::parse(what.folder_name()).map(|n| (n, Some(what)));
        Self::ALL.into_iter().filter_map(folder)
    }
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Its number.
    pub id: MailboxId,
    /// Whose it is.
    pub account: AccountId,
    /// Its name.
    pub name: MailboxName,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
    /// Made with the account: can be neither renamed nor deleted.
    pub system: bool,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// When it was made.
    pub created: Timestamp,
}

/// A mailbox to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMailbox {
    /// Its name.
    pub name: MailboxName,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
}

/// The numbers of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxStatus {
    /// Messages in it.
    pub messages: u64,
    /// Those without `\Seen`.
    pub unseen: u64,
    /// Those that no session has been told as `\Recent`.
    pub recent: u64,
    /// Those with `\Deleted`.
    pub deleted: u64,
    /// Octets of all messages.
    pub octets: u64,
    /// Octets of those with `\Deleted`.
    pub deleted_octets: u64,
    /// The UID that the next message gets; above every UID given. `u32::MAX` is never given.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The highest [`ModSeq`] of the mailbox.
    pub mod_seq: ModSeq,
}

/// A set of UIDs as ascending ranges that neither touch nor overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// From ranges (ends included, either order, any overlap).
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Uid, Uid)>) -> Self {
        let mut sorted: Vec<(u32, u32)> =
            ranges.into_iter().map(|(a, b)| (a.min(b).0.get(), a.max(b).0.get())).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match ranges.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => ranges.push((start, end)),
            }
        }
        Self { ranges }
    }

    /// Every UID there can be.
    pub fn all() -> Self {
        Self { ranges: vec![(1, u32::MAX)] }
    }

    /// The ranges, ends included.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs are in it.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The UIDs in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        let numbers = self.ranges.iter().flat_map(|&(first, last)| first..=last);
        numbers.filter_map(NonZeroU32::new).map(Uid)
    }

    /// Those of this set and of another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let uid = |number| NonZeroU32::new(number).map(Uid);
        let ranges = self.ranges.iter().chain(&other.ranges);
        Self::from_ranges(ranges.filter_map(|&(first, last)| Some((uid(first)?, uid(last)?))))
    }

    /// The UIDs below `next` that are not in it.
    #[must_use]
    pub fn gaps_below(&self, next: Uid) -> Self {
        let mut gaps = Vec::new();
        let mut first = 1;
        for &(start, end) in self.ranges.iter().filter(|(start, _)| *start < next.0.get()) {
            if first < start {
                gaps.push((first, start - 1));
            }
            first = end.saturating_add(1);
        }
        if first < next.0.get() {
            gaps.push((first, next.0.get() - 1));
        }
        Self { ranges: gaps }
    }

    /// Whether a UID is in it.
    pub fn contains(&self, uid: Uid) -> bool {
        let uid = uid.0.get();
        let at = self.ranges.partition_point(|&(_, end)| end < uid);
        self.ranges.get(at).is_some_and(|&(start, _)| start <= uid)
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        Self::from_ranges(uids.into_iter().map(|uid| (uid, uid)))
    }
}
