//! Octets to commands: imap-codec's parser, and in front of it what it does not speak.
//!
//! RFC 3501 §9. What imap-codec does not speak is read by its command from `words`; its verb decides.
//! Not here: lines and literals (see `session/framing.rs`), and what a command means.

pub(crate) mod items;
pub(crate) mod words;

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder as _;
use imap_types::core::Tag;
use imap_types::flag::Flag;
use imap_types::mailbox::Mailbox;
use imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};
use store::{Flags, Keyword, MailboxName, SystemFlags};
use unicode_normalization::UnicodeNormalization as _;

use self::items::Asked;
use self::words::Words;
use crate::command::append::{Append, Arguments};
use crate::command::fetch::Fetch;
use crate::command::{self, Command, Work};
use crate::enabled::Enabled;
use crate::mutf7;
use crate::refusal::Refusal;

/// Elements of one sequence set at most: more than a line of this server's length can hold in the
/// form that clients send, and few enough to sort.
pub(crate) const SET_ELEMENTS_MAX: usize = 16_384;
/// Octets of a tag at most.
pub(crate) const TAG_OCTETS_MAX: usize = 256;

/// A command with its tag.
pub(crate) struct Tagged {
    pub(crate) tag: String,
    pub(crate) command: Result<Command, Refusal>,
}

/// Reads a whole command. `None` when there is not even a tag to answer to.
pub(crate) fn parse(octets: &[u8], enabled: Enabled) -> Option<Tagged> {
    let tag = tag(octets)?;
    let command = body(&tag, octets, enabled);
    Some(Tagged { tag, command })
}

fn body(tag: &str, octets: &[u8], enabled: Enabled) -> Result<Command, Refusal> {
    let rest = &octets[tag.len() + 1..];
    if let Some(command) = command::extended(tag, rest, enabled) {
        return command;
    }
    let saved = saved_set(rest);
    let rewritten = match saved {
        Some(at) => [&rest[..at], b"1", &rest[at + 1..]].concat(),
        None => rest.to_vec(),
    };
    let (rewritten, fetch) = match items::cut(&rewritten) {
        Some((rewritten, asked)) => (rewritten, asked),
        None => (rewritten, Asked::default()),
    };
    let octets = [tag.as_bytes(), b" ", &rewritten].concat();
    match CommandCodec::default().decode(&octets) {
        Ok((b"", parsed)) => {
            let cut = Cut { saved: saved.is_some(), fetch };
            command::interpret(parsed.body, cut, enabled)
        }
        Ok(_) | Err(_) => Err(Refusal::malformed()),
    }
}

/// Whether these items can be fetched of messages.
pub(crate) fn can_be_fetched(items: &[u8], enabled: Enabled) -> bool {
    fetch(items, enabled).is_some()
}

/// The UID FETCH of these items, of a message that is still to be said.
pub(crate) fn fetch(items: &[u8], enabled: Enabled) -> Option<Fetch> {
    let octets = [b"n UID FETCH 1 ", items, b"\r\n"].concat();
    match body("n", &octets, enabled) {
        Ok(Command::Work(_, Work::Fetch(fetch))) => Some(*fetch),
        _ => None,
    }
}

/// What imap-codec was not given to read.
#[derive(Default)]
pub(crate) struct Cut {
    /// The messages are those of `$`.
    pub(crate) saved: bool,
    /// What a FETCH asks beside.
    pub(crate) fetch: Asked,
}

/// Where `$` stands for the messages of a command: RFC 5182 §3, which imap-codec does not speak.
fn saved_set(rest: &[u8]) -> Option<usize> {
    let mut words = Words::new(rest);
    let mut verb = words.name()?;
    words.space()?;
    if verb == "UID" {
        verb = words.name()?;
        words.space()?;
    }
    let at = rest.len() - words.left();
    let takes_set = ["FETCH", "STORE", "COPY", "MOVE", "EXPUNGE"].contains(&verb.as_str());
    let found = takes_set && words.octet(b'$').is_some();
    (found && (words.next_is(b' ') || words.end().is_some())).then_some(at)
}

/// The tag that a line begins with, when a space and something else follow.
pub(crate) fn tag(octets: &[u8]) -> Option<String> {
    let end = octets.iter().take(TAG_OCTETS_MAX + 1).position(|&b| b == b' ')?;
    let tag = Tag::try_from(&octets[..end]).ok()?;
    Some(tag.inner().to_owned())
}

/// Whether this begins a command that may have literals before anybody has signed in.
pub(crate) fn takes_literals(octets: &[u8]) -> bool {
    let rest = tag(octets).and_then(|tag| octets.get(tag.len() + 1..));
    let verb = rest.and_then(|rest| Words::new(rest).name());
    verb.is_some_and(|verb| ["LOGIN", "AUTHENTICATE", "ID"].contains(&verb.as_str()))
}

/// The tag of what is no command: as far as the line goes when it holds nothing else.
pub(crate) fn tag_of_malformed(octets: &[u8]) -> Option<String> {
    tag(octets).or_else(|| {
        let tag = octets.trim_ascii_end();
        if tag.len() > TAG_OCTETS_MAX {
            None
        } else {
            Some(Tag::try_from(tag).ok()?.inner().to_owned())
        }
    })
}

/// The beginning of an APPEND or REPLACE up to the announcement of its message.
pub(crate) struct AppendHead {
    pub(crate) tag: String,
    pub(crate) append: Result<(Append, Arguments), Refusal>,
}

/// What `octets`, which end in the announcement of a literal, begin. `None` when that is no message.
pub(crate) fn append_head(octets: &[u8], enabled: Enabled) -> Option<AppendHead> {
    let tag = tag(octets)?;
    let append = Append::head(octets.get(tag.len() + 1..)?, enabled)?;
    Some(AppendHead { tag, append })
}

/// A sequence set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MessageSet {
    /// Bounds, `None` for `*`.
    Ranges(Vec<(Option<u32>, Option<u32>)>),
    /// `$`: what the last search saved, RFC 5182 §2.1.
    Saved,
}

impl MessageSet {
    pub(crate) fn new(set: &SequenceSet) -> Result<Self, Refusal> {
        let elements = set.0.as_ref();
        if elements.len() > SET_ELEMENTS_MAX {
            return Err(Refusal::bad("Too many elements in a sequence set: send it in parts"));
        }
        let bound = |bound: SeqOrUid| match bound {
            SeqOrUid::Value(number) => Some(number.get()),
            SeqOrUid::Asterisk => None,
        };
        let ranges = elements
            .iter()
            .map(|element| match *element {
                Sequence::Single(one) => (bound(one), bound(one)),
                Sequence::Range(from, to) => (bound(from), bound(to)),
            })
            .collect();
        Ok(Self::Ranges(ranges))
    }

    /// How many messages it names at most; `None` where that depends on the mailbox.
    pub(crate) fn count(&self) -> Option<u64> {
        let Self::Ranges(ranges) = self else { return None };
        ranges
            .iter()
            .map(|bounds| match *bounds {
                (Some(from), Some(to)) => Some(u64::from(from.abs_diff(to)) + 1),
                (None, None) => Some(1),
                _ => None,
            })
            .sum()
    }
}

/// A mailbox name as it came.
pub(crate) fn mailbox_wire<'m>(mailbox: &'m Mailbox<'_>) -> &'m [u8] {
    match mailbox {
        Mailbox::Inbox => b"INBOX",
        Mailbox::Other(other) => other.as_ref(),
    }
}

/// `mailbox`, RFC 3501 §9, §5.1.
pub(crate) fn mailbox(mailbox: &Mailbox<'_>, enabled: Enabled) -> Result<MailboxName, Refusal> {
    name(mailbox_wire(mailbox), enabled)
}

/// A name as it came.
pub(crate) fn name(wire: &[u8], enabled: Enabled) -> Result<MailboxName, Refusal> {
    MailboxName::parse(&name_text(wire, enabled)?).ok_or_else(Refusal::bad_name)
}

/// The text of a name or pattern: modified UTF-7, or UTF-8 to a client that has enabled it (RFC 9051
/// §5.1, RFC 9755 §3). Composed, as names are kept: a pattern finds them however it was typed.
pub(crate) fn name_text(wire: &[u8], enabled: Enabled) -> Result<String, Refusal> {
    Ok(typed_text(wire, enabled)?.nfc().collect())
}

/// The same as it was typed.
fn typed_text(wire: &[u8], enabled: Enabled) -> Result<String, Refusal> {
    if enabled.speaks_utf8() {
        let text = std::str::from_utf8(wire).map_err(|_| Refusal::no_utf8())?;
        return Ok(text.to_owned());
    }
    mutf7::decode(wire).ok_or_else(Refusal::bad_name)
}

/// A name that is to be, and the text of it as it was typed. What was named otherwise by another program
/// keeps its name, so that it can be renamed or deleted.
pub(crate) fn new_name(wire: &[u8], enabled: Enabled) -> Result<(MailboxName, String), Refusal> {
    let name = name(wire, enabled)?;
    if name.as_str().chars().any(deceives) {
        return Err(Refusal::bad_name());
    }
    Ok((name, typed_text(wire, enabled)?))
}

/// Characters that are none, those that nobody sees, and those that have a name read in another order than it
/// is written: two names would look alike. Line and paragraph separators no name may hold, RFC 9755 §3; the others are
/// Unicode's default ignorables, but for those that scripts and emoji need (joiners and variation selectors).
const fn deceives(c: char) -> bool {
    let is_none = matches!(c, '\u{fdd0}'..='\u{fdef}') || c as u32 & 0xfffe == 0xfffe;
    is_none
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}'
            | '\u{e01f0}'..='\u{e0fff}')
}

/// `flag-list`: `\Recent` is no flag that a client may set, RFC 3501 §2.3.2.
pub(crate) fn flags(list: &[Flag<'_>]) -> Result<Flags, Refusal> {
    let mut flags = Flags::default();
    for flag in list {
        let system = match flag {
            Flag::Answered => SystemFlags::ANSWERED,
            Flag::Deleted => SystemFlags::DELETED,
            Flag::Draft => SystemFlags::DRAFT,
            Flag::Flagged => SystemFlags::FLAGGED,
            Flag::Seen => SystemFlags::SEEN,
            Flag::Extension(_) => return Err(Refusal::bad("Not a flag that can be set")),
            Flag::Keyword(atom) => {
                let keyword = Keyword::parse(atom.inner())
                    .ok_or_else(|| Refusal::bad("A keyword is too long"))?;
                flags.keywords.insert(keyword);
                continue;
            }
        };
        flags.system = flags.system.with(system);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_made_of_what_nobody_sees() {
        let made = |text: &str| {
            let utf8 = Enabled { utf8: true, ..Enabled::default() };
            new_name(text.as_bytes(), utf8).is_ok()
        };
        for c in "\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202e}\u{2060}\
                  \u{2066}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{fffe}\u{fdd0}\u{1d173}\u{e0041}"
            .chars()
        {
            assert!(!made(&format!("z{c}y")), "{}", c.escape_unicode());
        }
        // What scripts and emoji need, and an ideographic variation.
        for name in ["می\u{200c}خواهم", "❤\u{fe0f}", "👩\u{200d}⚕\u{fe0f}", "葛\u{e0100}"]
        {
            assert!(made(name), "{}", name.escape_unicode());
        }
    }
}
