//! Search keys, read.
//!
//! RFC 3501 §9, `search-key`; OLDER and YOUNGER, RFC 5032 §3; `$`, RFC 5182 §2.1; MODSEQ, RFC 7162
//! §3.1.5; SAVEDON and its like, RFC 8514 §4.3; EMAILID, RFC 8474 §6; UIDAFTER and UIDBEFORE, RFC 9738 §3.2. All of them are read
//! here: what extensions add stands in the midst of nested keys, where it cannot be cut out for
//! imap-codec.

use jiff::civil::Date;
use store::{Keyword, SystemFlags};

use super::key::{Day, Key, Needle};
use crate::grammar::MessageSet;
use crate::grammar::words::Words;
use crate::refusal::Refusal;
use crate::selected::Places;

/// Keys of one search at most: clients that look for messages by a list of them stay below.
const KEYS_MAX: usize = 1_000;
/// Keys of one search that look into texts: each may have to read all of them.
const TEXT_KEYS_MAX: usize = 50;
/// How deep keys may stand within keys. "Any of these" can only be asked as one OR within the other, so
/// that a client asks for this many addresses or identifiers at once. Reading and matching recurse as deep.
const KEY_DEPTH_MAX: usize = 100;
/// Octets of an object identifier at most: RFC 8474 §7.
const OBJECT_ID_OCTETS_MAX: usize = 255;
/// The months of RFC 3501 §9, `date-month`.
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// Reads the keys of one search.
pub(super) struct Reader<'w, 'o> {
    words: &'w mut Words<'o>,
    /// Texts are in UTF-8; otherwise the search is refused for its charset, whatever they are.
    utf8: bool,
    keys: usize,
    text_keys: usize,
    /// Some key names messages by number.
    pub(super) by_number: bool,
    /// Some key is about mod-sequences.
    pub(super) by_mod_seq: bool,
}

impl<'w, 'o> Reader<'w, 'o> {
    pub(super) fn new(words: &'w mut Words<'o>, utf8: bool) -> Self {
        Self { words, utf8, keys: 0, text_keys: 0, by_number: false, by_mod_seq: false }
    }

    /// `search-key *(SP search-key)` to the end of the command: all of them must hold.
    pub(super) fn all(&mut self) -> Result<Key, Refusal> {
        let mut keys = vec![self.key(KEY_DEPTH_MAX)?];
        while self.words.space().is_some() {
            keys.push(self.key(KEY_DEPTH_MAX)?);
        }
        self.words.end().ok_or_else(Refusal::malformed)?;
        Ok(Key::And(keys))
    }

    fn key(&mut self, depth_left: usize) -> Result<Key, Refusal> {
        let depth_left = depth_left.checked_sub(1).ok_or_else(too_much)?;
        if self.words.octet(b'(').is_some() {
            self.count()?;
            let mut keys = vec![self.key(depth_left)?];
            while self.words.octet(b')').is_none() {
                self.space()?;
                keys.push(self.key(depth_left)?);
            }
            return Ok(Key::And(keys));
        }
        if self.words.skip_name("NOT") {
            self.count()?;
            return Ok(Key::Not(Box::new(self.key(depth_left)?)));
        }
        if self.words.skip_name("OR") {
            self.count()?;
            let one = Box::new(self.key(depth_left)?);
            self.space()?;
            return Ok(Key::Or(one, Box::new(self.key(depth_left)?)));
        }
        self.leaf()
    }

    /// A key that holds no other. A function of its own, so that what recurses takes little stack.
    fn leaf(&mut self) -> Result<Key, Refusal> {
        if self.words.next_is_set() {
            self.count()?;
            self.by_number |= !self.words.next_is(b'$');
            return self.set(false);
        }
        let name = self.words.name().ok_or_else(Refusal::malformed)?;
        self.count()?;
        if let Some(key) = plain(&name) {
            return Ok(key);
        }
        self.space()?;
        Ok(match name.as_str() {
            "UID" => self.set(true)?,
            "UIDAFTER" => match self.nz_number()?.checked_add(1) {
                Some(first) => uids(vec![(Some(first), Some(u32::MAX))]),
                None => uids(Vec::new()),
            },
            "UIDBEFORE" => match self.nz_number()? {
                1 => uids(Vec::new()),
                end => uids(vec![(Some(1), Some(end - 1))]),
            },
            "KEYWORD" => Key::Keyword(self.keyword()?, true),
            "UNKEYWORD" => Key::Keyword(self.keyword()?, false),
            "LARGER" => Key::Larger(self.number()?),
            "SMALLER" => Key::Smaller(self.number()?),
            "MODSEQ" => self.mod_seq()?,
            "OLDER" => Key::Older { seconds: self.nz_number()?, before: None },
            "YOUNGER" => Key::Younger { seconds: self.nz_number()?, after: None },
            "BEFORE" => Key::Received(Day::Before(self.date()?)),
            "ON" => Key::Received(Day::On(self.date()?)),
            "SINCE" => Key::Received(Day::Since(self.date()?)),
            "SAVEDBEFORE" => Key::Saved(Day::Before(self.date()?)),
            "SAVEDON" => Key::Saved(Day::On(self.date()?)),
            "SAVEDSINCE" => Key::Saved(Day::Since(self.date()?)),
            "SENTBEFORE" => Key::Sent(Day::Before(self.date()?)),
            "SENTON" => Key::Sent(Day::On(self.date()?)),
            "SENTSINCE" => Key::Sent(Day::Since(self.date()?)),
            "FROM" | "TO" | "CC" | "BCC" | "SUBJECT" => {
                Key::Header { name, text: Needle::new(self.needle()?) }
            }
            "HEADER" => {
                let name = self.words.astring().ok_or_else(Refusal::malformed)?;
                let name = String::from_utf8_lossy(&name).trim_end_matches(':').to_owned();
                self.space()?;
                Key::Header { name, text: Needle::new(self.needle()?) }
            }
            "EMAILID" => Key::EmailId(self.object_id()?),
            "THREADID" => {
                // No message has one.
                self.object_id()?;
                Key::Not(Box::new(Key::All))
            }
            "BODY" => Key::Body(Needle::new(self.text()?)),
            "TEXT" => Key::Text(Needle::new(self.text()?)),
            _ => return Err(Refusal::malformed()),
        })
    }

    fn count(&mut self) -> Result<(), Refusal> {
        self.keys += 1;
        if self.keys <= KEYS_MAX { Ok(()) } else { Err(too_much()) }
    }

    fn space(&mut self) -> Result<(), Refusal> {
        self.words.space().ok_or_else(Refusal::malformed)
    }

    fn set(&mut self, by_uid: bool) -> Result<Key, Refusal> {
        let set = self.words.set().ok_or_else(Refusal::malformed)?;
        Ok(Key::Set { set, by_uid, places: Places::default() })
    }

    fn number(&mut self) -> Result<u64, Refusal> {
        self.words.number().ok_or_else(Refusal::malformed)
    }

    /// `[entry-name SP entry-type-req SP] mod-sequence-valzer`: which flag changed is not kept, so that
    /// the first two do not matter (RFC 7162 §3.1.5).
    fn mod_seq(&mut self) -> Result<Key, Refusal> {
        if self.words.next_is(b'"') {
            let entry = self.words.string().ok_or_else(Refusal::malformed)?;
            let flag = entry.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"/flags/"));
            self.space()?;
            let kind = self.words.name().ok_or_else(Refusal::malformed)?;
            if !flag || entry.len() == 7 || !["PRIV", "SHARED", "ALL"].contains(&kind.as_str()) {
                return Err(Refusal::malformed());
            }
            self.space()?;
        }
        self.by_mod_seq = true;
        Ok(Key::ModSeq(self.number()?))
    }

    /// `objectid`, RFC 8474 §7
    fn object_id(&mut self) -> Result<String, Refusal> {
        let id = self.words.atom().ok_or_else(Refusal::malformed)?;
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if id.len() > OBJECT_ID_OCTETS_MAX || !id.bytes().all(ok) {
            return Err(Refusal::malformed());
        }
        Ok(id.to_owned())
    }

    /// `nz-number`, `uniqueid`
    fn nz_number(&mut self) -> Result<u32, Refusal> {
        let seconds = u32::try_from(self.number()?).ok().filter(|seconds| *seconds > 0);
        seconds.ok_or_else(Refusal::malformed)
    }

    /// `flag-keyword`; one that is too long is none that a message can have.
    fn keyword(&mut self) -> Result<Option<Keyword>, Refusal> {
        Ok(Keyword::parse(self.words.atom().ok_or_else(Refusal::malformed)?))
    }

    /// `date`
    fn date(&mut self) -> Result<Date, Refusal> {
        let text = self.words.astring().ok_or_else(Refusal::malformed)?;
        std::str::from_utf8(&text).ok().and_then(date).ok_or_else(Refusal::malformed)
    }

    /// What is looked for in all of a message's text.
    fn text(&mut self) -> Result<String, Refusal> {
        self.text_keys += 1;
        let text = self.needle()?;
        if self.text_keys > TEXT_KEYS_MAX {
            return Err(too_much());
        }
        Ok(text)
    }

    /// What is looked for, in lower case.
    fn needle(&mut self) -> Result<String, Refusal> {
        let text = self.words.astring().ok_or_else(Refusal::malformed)?;
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_lowercase()),
            Err(_) if self.utf8 => Err(Refusal::bad("The text to search for is not UTF-8")),
            Err(_) => Ok(String::new()),
        }
    }
}

/// The messages with these UIDs.
fn uids(ranges: Vec<(Option<u32>, Option<u32>)>) -> Key {
    Key::Set { set: MessageSet::Ranges(ranges), by_uid: true, places: Places::default() }
}

fn too_much() -> Refusal {
    Refusal::bad("Too much at once: search in parts")
}

/// The keys that are one word.
fn plain(name: &str) -> Option<Key> {
    Some(match name {
        // When a message was saved is known in every mailbox: RFC 8514 §4.3.
        "ALL" | "SAVEDATESUPPORTED" => Key::All,
        "ANSWERED" => Key::Flag(SystemFlags::ANSWERED, true),
        "UNANSWERED" => Key::Flag(SystemFlags::ANSWERED, false),
        "DELETED" => Key::Flag(SystemFlags::DELETED, true),
        "UNDELETED" => Key::Flag(SystemFlags::DELETED, false),
        "DRAFT" => Key::Flag(SystemFlags::DRAFT, true),
        "UNDRAFT" => Key::Flag(SystemFlags::DRAFT, false),
        "FLAGGED" => Key::Flag(SystemFlags::FLAGGED, true),
        "UNFLAGGED" => Key::Flag(SystemFlags::FLAGGED, false),
        "SEEN" => Key::Flag(SystemFlags::SEEN, true),
        "UNSEEN" => Key::Flag(SystemFlags::SEEN, false),
        "RECENT" => Key::Recent(true),
        "OLD" => Key::Recent(false),
        "NEW" => Key::New,
        _ => return None,
    })
}

/// `date-text`
fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fits = matches!(day.len(), 1 | 2) && year.len() == 4 && digits(day) && digits(year);
    if !fits || parts.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    Date::new(year.parse().ok()?, i8::try_from(month).ok()? + 1, day.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_in_one_way() {
        for (text, expected) in [
            ("2-Mar-2026", Some("2026-03-02")),
            ("02-mar-2026", Some("2026-03-02")),
            ("29-FEB-2024", Some("2024-02-29")),
            ("29-Feb-2026", None),
            ("0-Feb-2026", None),
            ("+1-Feb-2026", None),
            ("1-February-2026", None),
            ("1-Feb-26", None),
            ("1-Feb-2026-", None),
            ("2026-02-01", None),
            ("", None),
        ] {
            assert_eq!(date(text).map(|date| date.to_string()).as_deref(), expected, "{text:?}");
        }
    }

    /// One past each bound.
    #[test]
    fn keys_are_bounded() {
        let read = |text: &str| {
            let text = format!("{text}\r\n");
            Reader::new(&mut Words::new(text.as_bytes()), true).all().map(|_| ())
        };
        let too_much = Err(Refusal::bad("Too much at once: search in parts"));
        let listed = |key: &str, count: usize| vec![key; count].join(" ");
        assert_eq!(read(&listed("ALL", KEYS_MAX)), Ok(()));
        assert_eq!(read(&listed("ALL", KEYS_MAX + 1)), too_much);
        assert_eq!(read(&listed("BODY x", TEXT_KEYS_MAX)), Ok(()));
        assert_eq!(read(&listed("TEXT x", TEXT_KEYS_MAX + 1)), too_much);
        let nested = |depth| format!("{}ALL{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(read(&nested(KEY_DEPTH_MAX - 1)), Ok(()));
        assert_eq!(read(&nested(KEY_DEPTH_MAX)), too_much);
        let negated = |depth| format!("{}ALL", "NOT ".repeat(depth));
        assert_eq!(read(&negated(KEY_DEPTH_MAX - 1)), Ok(()));
        assert_eq!(read(&negated(KEY_DEPTH_MAX)), too_much);
        // "Any of these".
        let any = |count| format!("{}SUBJECT x", "OR SUBJECT x ".repeat(count - 1));
        assert_eq!(read(&any(KEY_DEPTH_MAX)), Ok(()));
        assert_eq!(read(&any(KEY_DEPTH_MAX + 1)), too_much);
    }

    /// Half of the stack of a thread that serves is enough, also where nothing is optimised.
    #[test]
    fn keys_that_stand_deep_take_little_stack() {
        let read = || {
            let text = format!("{}SUBJECT x\r\n", "OR (NOT FROM x) ".repeat(KEY_DEPTH_MAX - 3));
            Reader::new(&mut Words::new(text.as_bytes()), true).all().is_ok()
        };
        let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(read);
        assert!(thread.unwrap().join().unwrap());
    }

    #[test]
    fn what_is_no_key_is_malformed() {
        for text in [
            "",
            "FROBBED",
            "NOT",
            "OR ALL",
            "UID",
            "UID x",
            "()",
            "(ALL",
            "ALL)",
            "ALL ",
            "FROM",
            "OLDER 0",
            "YOUNGER -1",
            "LARGER x",
            "HEADER a",
            "MODSEQ",
            "MODSEQ x",
            "MODSEQ -1",
            "MODSEQ 9223372036854775808",
            "MODSEQ \"/flags/\" all 1",
            "MODSEQ \"/flags/x\" none 1",
            "MODSEQ \"flags\" all 1",
            "KEYWORD",
            "SINCE yesterday",
            "$x",
        ] {
            let text = format!("{text}\r\n");
            let read = Reader::new(&mut Words::new(text.as_bytes()), true).all().map(|_| ());
            assert_eq!(read, Err(Refusal::malformed()), "{text:?}");
        }
    }
}
