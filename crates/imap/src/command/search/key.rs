//! A search key: what is asked of a message, and whether it holds, as far as the message is known.
//!
//! RFC 3501 §6.4.4; OLDER and YOUNGER, RFC 5032 §2. Texts are compared without case, after encoded words (RFC 2047), transfer
//! encodings and charsets are decoded. Keys nest as deep as they are read, which is bounded.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use mail::Message;
use store::{Candidates, Keyword, MailboxId, Store, Summary, SystemFlags, Timestamp, Within};

use crate::grammar::MessageSet;
use crate::refusal::Refusal;
use crate::response::{email_id, mod_seq};
use crate::selected::{Places, Selected};
use crate::texts::Texts;

/// What is asked.
pub(super) enum Key {
    All,
    /// These flags are set, or not.
    Flag(SystemFlags, bool),
    Recent(bool),
    /// `\Recent` and not `\Seen`
    New,
    /// `None`: a keyword that none can have.
    Keyword(Option<Keyword>, bool),
    Set {
        set: MessageSet,
        by_uid: bool,
        places: Places,
    },
    Larger(u64),
    Smaller(u64),
    /// Its mod-sequence is this or higher.
    ModSeq(u64),
    /// It came so many seconds ago or earlier; when that is, once the search has begun.
    Older {
        seconds: u32,
        before: Option<i64>,
    },
    /// It came so many seconds ago or later.
    Younger {
        seconds: u32,
        after: Option<i64>,
    },
    /// Its octets have this name.
    EmailId(String),
    /// The day it came.
    Received(Day),
    /// The day it came into this mailbox.
    Saved(Day),
    /// The day in its Date field.
    Sent(Day),
    /// A field of this name holds this text.
    Header {
        name: String,
        text: Needle,
    },
    Body(Needle),
    Text(Needle),
    Not(Box<Key>),
    Or(Box<Key>, Box<Key>),
    And(Vec<Key>),
}

/// A day, and how another must lie to it.
#[derive(Clone, Copy)]
pub(super) enum Day {
    Before(Date),
    On(Date),
    Since(Date),
}

impl Day {
    fn holds(self, day: Date) -> bool {
        match self {
            Self::Before(limit) => day < limit,
            Self::On(limit) => day == limit,
            Self::Since(limit) => day >= limit,
        }
    }
}

/// What is known of a message so far.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) place: usize,
    pub(super) summary: &'k Summary,
    pub(super) recent: bool,
    pub(super) zone: &'k TimeZone,
    pub(super) header: Option<&'k Message<'k>>,
    pub(super) texts: Option<&'k Texts>,
}

/// A text that is looked for, in lower case.
pub(super) struct Needle {
    text: String,
    /// Where it can be, as far as the store's index knows.
    candidates: Option<Candidates>,
}

impl Needle {
    pub(super) fn new(text: String) -> Self {
        Self { text, candidates: None }
    }

    /// Whether the index knows that it is nowhere in this message.
    fn is_ruled_out(&self, summary: &Summary) -> bool {
        self.candidates.as_ref().is_some_and(|candidates| candidates.rules_out(summary))
    }

    /// Whether the index knows that it is in this message, where the key says.
    fn is_proved(&self, summary: &Summary) -> bool {
        self.candidates.as_ref().is_some_and(|candidates| candidates.proves(summary))
    }

    fn look_up(
        &mut self,
        store: &dyn Store,
        mailbox: MailboxId,
        within: Within,
    ) -> Result<(), Refusal> {
        let found = store.find_text(mailbox, &self.text, within);
        self.candidates = found.map_err(Refusal::selected)?;
        Ok(())
    }

    fn is_in(&self, text: &str) -> bool {
        text.contains(self.text.as_str())
    }
}

impl Key {
    /// Finds the messages of each set, as of `at`. A number that is not there is not found, and no
    /// mistake.
    pub(super) fn resolve(
        &mut self,
        here: &Selected,
        at: Timestamp,
        store: &dyn Store,
    ) -> Result<(), Refusal> {
        match self {
            Self::Header { text, .. } => text.look_up(store, here.mailbox, Within::Header)?,
            Self::Body(text) => text.look_up(store, here.mailbox, Within::Body)?,
            Self::Text(text) => text.look_up(store, here.mailbox, Within::Message)?,
            Self::Set { set, by_uid, places } => {
                *places =
                    if *by_uid { here.places(set, true)? } else { here.places_there_are(set) };
            }
            Self::Older { seconds, before: limit } | Self::Younger { seconds, after: limit } => {
                // To the second: RFC 5032 §2.
                *limit = Some(at.as_second() - i64::from(*seconds));
            }
            Self::Not(key) => key.resolve(here, at, store)?,
            Self::Or(one, other) => {
                one.resolve(here, at, store)?;
                other.resolve(here, at, store)?;
            }
            Self::And(keys) => {
                for key in keys {
                    key.resolve(here, at, store)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the texts of a message may be needed.
    pub(super) fn reads_texts(&self) -> bool {
        match self {
            Self::Body(needle) | Self::Text(needle) => !needle.text.is_empty(),
            Self::Not(key) => key.reads_texts(),
            Self::Or(one, other) => one.reads_texts() || other.reads_texts(),
            Self::And(keys) => keys.iter().any(Self::reads_texts),
            _ => false,
        }
    }

    /// Where all matches must be, when sets say so.
    pub(super) fn places(&self) -> Option<Places> {
        match self {
            Self::Set { places, .. } => Some(places.clone()),
            Self::And(keys) => {
                let sets = keys.iter().filter_map(Self::places);
                sets.reduce(|one, other| one.common(&other))
            }
            _ => None,
        }
    }

    /// Whether it holds; `None` when more must be known.
    pub(super) fn test(&self, known: &Known<'_>) -> Option<bool> {
        let summary = known.summary;
        match self {
            Self::All => Some(true),
            Self::Flag(flag, wanted) => Some(summary.flags.system.contains(*flag) == *wanted),
            Self::Recent(wanted) => Some(known.recent == *wanted),
            Self::New => Some(known.recent && !summary.flags.system.contains(SystemFlags::SEEN)),
            Self::Keyword(keyword, wanted) => {
                let has =
                    keyword.as_ref().is_some_and(|word| summary.flags.keywords.contains(word));
                Some(has == *wanted)
            }
            Self::Set { places, .. } => Some(places.contains(known.place)),
            Self::Larger(octets) => Some(summary.octets > *octets),
            Self::Smaller(octets) => Some(summary.octets < *octets),
            Self::ModSeq(from) => Some(mod_seq(summary.mod_seq) >= *from),
            Self::Older { before, .. } => before.map(|at| summary.received.as_second() <= at),
            Self::Younger { after, .. } => after.map(|at| summary.received.as_second() >= at),
            Self::EmailId(id) => Some(email_id(summary.blob) == *id),
            Self::Received(day) => {
                Some(day.holds(summary.received.to_zoned(known.zone.clone()).date()))
            }
            Self::Saved(day) => Some(day.holds(summary.saved.to_zoned(known.zone.clone()).date())),
            Self::Sent(day) => Some(sent(known.header?).is_some_and(|sent| day.holds(sent))),
            // An empty text is in every message: RFC 3501 §6.4.4 has it so for HEADER.
            Self::Body(needle) | Self::Text(needle) if needle.text.is_empty() => Some(true),
            Self::Header { text, .. } | Self::Body(text) | Self::Text(text)
                if text.is_ruled_out(summary) =>
            {
                Some(false)
            }
            Self::Body(text) | Self::Text(text) if text.is_proved(summary) => Some(true),
            Self::Header { name, text } => {
                let mut fields = known.header?.all(name);
                Some(fields.any(|field| text.is_in(&field.decoded().to_lowercase())))
            }
            Self::Body(needle) => Some(needle.is_in(&known.texts?.body)),
            Self::Text(needle) => {
                let texts = known.texts?;
                Some(needle.is_in(&texts.header) || needle.is_in(&texts.body))
            }
            Self::Not(key) => key.test(known).map(|holds| !holds),
            Self::Or(one, other) => match (one.test(known), other.test(known)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::And(keys) => {
                let mut all = Some(true);
                for key in keys {
                    match key.test(known) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => all = None,
                    }
                }
                all
            }
        }
    }
}

/// The day in the Date field, as it is written there: RFC 3501 §6.4.4, "disregarding time and
/// timezone".
fn sent(header: &Message<'_>) -> Option<Date> {
    Some(header.field("Date")?.date()?.date())
}
