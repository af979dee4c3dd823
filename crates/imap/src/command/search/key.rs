//! A search key: what is asked of a message, and whether it holds, as far as the message is known.
//!
//! RFC 3501 §6.4.4. Texts are compared without case, after encoded words (RFC 2047), transfer
//! encodings and charsets are decoded. Keys nest as deep as the grammar lets them, which is less
//! than ten.

use imap_types::core::AString;
use imap_types::datetime::NaiveDate;
use imap_types::search::SearchKey;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use mail::Message;
use mail::message::decode_charset;
use mail::mime::{self, Kind, Structure};
use store::{Keyword, Summary, SystemFlags};

use crate::grammar::MessageSet;
use crate::refusal::Refusal;
use crate::selected::{Places, Selected};

/// Keys of one search at most: clients that look for messages by a list of them stay below.
const KEYS_MAX: usize = 1_000;
/// Keys of one search that look into texts: each may have to read all of them.
const TEXT_KEYS_MAX: usize = 50;
/// Octets of decoded text of one message that are looked into at most.
const TEXT_OCTETS_MAX: usize = 32 * 1024 * 1024;

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
    /// The day it came.
    Received(Day),
    /// The day in its Date field.
    Sent(Day),
    /// A field of this name holds this text.
    Header {
        name: String,
        text: String,
    },
    Body(String),
    Text(String),
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

/// The texts of a message, in lower case.
pub(super) struct Texts {
    header: String,
    body: String,
}

impl Texts {
    /// Decodes the header, the headers of the parts, and the parts that are text.
    pub(super) fn of(octets: &[u8], structure: &Structure) -> Self {
        let mut header = String::new();
        let mut body = String::new();
        for (at, part) in structure.parts.iter().enumerate() {
            let block = octets.get(part.header.clone()).unwrap_or_default();
            let fields = Message::lenient(block);
            let target = if at == 0 { &mut header } else { &mut body };
            for field in fields.fields() {
                target.push_str(field.name);
                target.push_str(": ");
                target.push_str(&field.decoded());
                target.push('\n');
            }
            let kind = &part.content_type;
            let is_text = kind.kind == "text" || kind.is("application", "xml");
            if part.kind != Kind::Leaf || !is_text || body.len() > TEXT_OCTETS_MAX {
                continue;
            }
            let decoded = mime::decode_body(part, octets);
            let charset = kind.parameter("charset").unwrap_or("utf-8");
            match decode_charset(charset, &decoded) {
                Some(text) => body.push_str(&text),
                None => body.push_str(&String::from_utf8_lossy(&decoded)),
            }
            body.push('\n');
        }
        Self { header: header.to_lowercase(), body: body.to_lowercase() }
    }
}

/// How many keys there are, and may be.
#[derive(Default)]
struct Count {
    keys: usize,
    text_keys: usize,
}

impl Key {
    /// All of them must hold.
    pub(super) fn all_of(keys: &[SearchKey<'_>]) -> Result<Self, Refusal> {
        let mut count = Count::default();
        let keys = keys.iter().map(|key| Self::new(key, &mut count));
        Ok(Self::And(keys.collect::<Result<_, _>>()?))
    }

    fn new(key: &SearchKey<'_>, count: &mut Count) -> Result<Self, Refusal> {
        use SearchKey as Asked;
        count.keys += 1;
        count.text_keys += usize::from(matches!(key, Asked::Body(_) | Asked::Text(_)));
        if count.keys > KEYS_MAX || count.text_keys > TEXT_KEYS_MAX {
            return Err(Refusal::bad("Too much at once: search in parts"));
        }
        let field = |name: &str, text| -> Result<Self, Refusal> {
            Ok(Self::Header { name: name.to_owned(), text: needle(text)? })
        };
        Ok(match key {
            Asked::And(keys) => {
                let keys = keys.as_ref().iter().map(|key| Self::new(key, count));
                Self::And(keys.collect::<Result<_, _>>()?)
            }
            Asked::Or(one, other) => {
                Self::Or(Box::new(Self::new(one, count)?), Box::new(Self::new(other, count)?))
            }
            Asked::Not(key) => Self::Not(Box::new(Self::new(key, count)?)),
            Asked::SequenceSet(set) => {
                Self::Set { set: MessageSet::new(set)?, by_uid: false, places: Places::default() }
            }
            Asked::Uid(set) => {
                Self::Set { set: MessageSet::new(set)?, by_uid: true, places: Places::default() }
            }
            Asked::All => Self::All,
            Asked::Answered => Self::Flag(SystemFlags::ANSWERED, true),
            Asked::Unanswered => Self::Flag(SystemFlags::ANSWERED, false),
            Asked::Deleted => Self::Flag(SystemFlags::DELETED, true),
            Asked::Undeleted => Self::Flag(SystemFlags::DELETED, false),
            Asked::Draft => Self::Flag(SystemFlags::DRAFT, true),
            Asked::Undraft => Self::Flag(SystemFlags::DRAFT, false),
            Asked::Flagged => Self::Flag(SystemFlags::FLAGGED, true),
            Asked::Unflagged => Self::Flag(SystemFlags::FLAGGED, false),
            Asked::Seen => Self::Flag(SystemFlags::SEEN, true),
            Asked::Unseen => Self::Flag(SystemFlags::SEEN, false),
            Asked::Recent => Self::Recent(true),
            Asked::Old => Self::Recent(false),
            Asked::New => Self::New,
            Asked::Keyword(word) => Self::Keyword(Keyword::parse(word.inner()), true),
            Asked::Unkeyword(word) => Self::Keyword(Keyword::parse(word.inner()), false),
            Asked::Larger(octets) => Self::Larger(u64::from(*octets)),
            Asked::Smaller(octets) => Self::Smaller(u64::from(*octets)),
            Asked::Before(day) => Self::Received(Day::Before(date(day)?)),
            Asked::On(day) => Self::Received(Day::On(date(day)?)),
            Asked::Since(day) => Self::Received(Day::Since(date(day)?)),
            Asked::SentBefore(day) => Self::Sent(Day::Before(date(day)?)),
            Asked::SentOn(day) => Self::Sent(Day::On(date(day)?)),
            Asked::SentSince(day) => Self::Sent(Day::Since(date(day)?)),
            Asked::From(text) => field("From", text)?,
            Asked::To(text) => field("To", text)?,
            Asked::Cc(text) => field("Cc", text)?,
            Asked::Bcc(text) => field("Bcc", text)?,
            Asked::Subject(text) => field("Subject", text)?,
            Asked::Header(name, text) => {
                let name = String::from_utf8_lossy(name.as_ref());
                field(name.trim_end_matches(':'), text)?
            }
            Asked::Body(text) => Self::Body(needle(text)?),
            Asked::Text(text) => Self::Text(needle(text)?),
            Asked::Older(_) | Asked::Younger(_) => {
                return Err(Refusal::bad("No such search key: WITHIN is not announced"));
            }
            Asked::ModSequence { .. } => {
                return Err(Refusal::bad("No such search key: CONDSTORE is not announced"));
            }
        })
    }

    /// Finds the messages of each set. A number that is not there is not found, and no mistake.
    pub(super) fn resolve(&mut self, here: &Selected) -> Result<(), Refusal> {
        match self {
            Self::Set { set, by_uid, places } => {
                *places =
                    if *by_uid { here.places(set, true)? } else { here.places_there_are(set) };
            }
            Self::Not(key) => key.resolve(here)?,
            Self::Or(one, other) => {
                one.resolve(here)?;
                other.resolve(here)?;
            }
            Self::And(keys) => {
                for key in keys {
                    key.resolve(here)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Where all matches must be, when a set says so.
    pub(super) fn places(&self) -> Option<&Places> {
        match self {
            Self::Set { places, .. } => Some(places),
            Self::And(keys) => keys.iter().find_map(Self::places),
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
            Self::Received(day) => {
                Some(day.holds(summary.received.to_zoned(known.zone.clone()).date()))
            }
            Self::Sent(day) => Some(sent(known.header?).is_some_and(|sent| day.holds(sent))),
            Self::Header { name, text } => {
                Some(known.header?.all(name).any(|field| contains(&field.decoded(), text)))
            }
            // An empty text is in every message: RFC 3501 §6.4.4 has it so for HEADER.
            Self::Body(text) => Some(text.is_empty() || known.texts?.body.contains(text.as_str())),
            Self::Text(text) => {
                if text.is_empty() {
                    return Some(true);
                }
                let texts = known.texts?;
                Some(texts.header.contains(text.as_str()) || texts.body.contains(text.as_str()))
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

/// What is looked for, in lower case.
fn needle(text: &AString<'_>) -> Result<String, Refusal> {
    let text = std::str::from_utf8(text.as_ref())
        .map_err(|_| Refusal::bad("The text to search for is not UTF-8"))?;
    Ok(text.to_lowercase())
}

fn contains(text: &str, needle: &str) -> bool {
    needle.is_empty() || text.to_lowercase().contains(needle)
}

fn date(day: &NaiveDate) -> Result<Date, Refusal> {
    day.as_ref().to_string().parse().map_err(|_| Refusal::bad("Not a date"))
}

/// The day in the Date field, as it is written there: RFC 3501 §6.4.4, "disregarding time and
/// timezone".
fn sent(header: &Message<'_>) -> Option<Date> {
    Some(header.field("Date")?.date()?.date())
}
