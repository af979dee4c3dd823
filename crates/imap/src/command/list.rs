//! LIST, LSUB, and XLIST by which old programs ask for special uses.
//!
//! RFC 3501 §6.3.8, §6.3.9; CHILDREN, RFC 3348 §3; options, several patterns and `\NonExistent`, RFC 5258
//! §3 and RFC 9051 §6.3.9; STATUS, RFC 5819 §2; SPECIAL-USE, RFC 6154 §2. Special uses stand in
//! LIST and in LSUB, since some clients only look there. Nothing that is there is ever `\Noselect`.

mod options;
mod pattern;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use store::{Mailbox, MailboxName, SpecialUse};

use self::options::{Returned, Selection};
use self::pattern::Pattern;
use super::Work;
use crate::enabled::Enabled;
use crate::grammar;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;

/// Patterns of one LIST at most: each is held against every name.
const PATTERNS_MAX: usize = 20;
/// Lines that one job answers with at most, and as many STATUS.
const BATCH_LINES: usize = 500;

/// What was asked, and what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    List,
    Lsub,
    Xlist,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::List => "LIST",
            Self::Lsub => "LSUB",
            Self::Xlist => "XLIST",
        }
    }

    const fn completed(self) -> &'static str {
        match self {
            Self::List => "LIST completed",
            Self::Lsub => "LSUB completed",
            Self::Xlist => "XLIST completed",
        }
    }
}

/// `list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]`,
/// `lsub = "LSUB" SP mailbox SP list-mailbox`
pub(crate) struct List {
    verb: Verb,
    /// Reference and pattern together, in UTF-8.
    patterns: Vec<String>,
    /// One empty pattern without anything else asks for the separator.
    asks_separator: bool,
    selection: Selection,
    returned: Returned,
    /// What is left to be told, once begun.
    left: VecDeque<Line>,
}

/// A line of the answer.
struct Line {
    name: MailboxName,
    attributes: Vec<&'static str>,
    /// Something below it was selected: RFC 9051 §6.3.9.6.
    child_info: bool,
    mailbox: Option<Mailbox>,
}

impl List {
    /// What follows the verb.
    pub(crate) fn read(
        verb: Verb,
        words: &mut Words<'_>,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        let malformed = Refusal::malformed;
        words.space().ok_or_else(malformed)?;
        let mut extended = false;
        let mut selection = Selection::default();
        if verb == Verb::List && words.next_is(b'(') {
            extended = true;
            selection = Selection::read(words)?;
            words.space().ok_or_else(malformed)?;
        }
        let reference = words.astring().ok_or_else(malformed)?;
        words.space().ok_or_else(malformed)?;
        let mut wire = Vec::new();
        if verb == Verb::List && words.octet(b'(').is_some() {
            extended = true;
            loop {
                wire.push(words.list_mailbox().ok_or_else(malformed)?);
                if words.octet(b')').is_some() {
                    break;
                }
                words.space().ok_or_else(malformed)?;
            }
        } else {
            wire.push(words.list_mailbox().ok_or_else(malformed)?);
        }
        let mut returned = Returned::default();
        if verb == Verb::List && words.space().is_some() {
            extended = true;
            returned = Returned::read(words)?;
        }
        words.end().ok_or_else(malformed)?;
        if wire.len() > PATTERNS_MAX {
            return Err(Refusal::bad("Too many patterns: list in parts"));
        }
        let asks_separator = !extended && wire.iter().all(|pattern| pattern.is_empty());
        let whole = |pattern: &[u8]| grammar::name_text(&[&reference, pattern].concat(), enabled);
        let patterns = match asks_separator {
            true => Vec::new(),
            // What no name can be like is ignored: RFC 9051 §6.3.9.
            false => wire
                .iter()
                .map(|pattern| whole(pattern))
                .filter(|text| !matches!(text, Err(refusal) if !refusal.is_bad()))
                .collect::<Result<_, _>>()?,
        };
        let left = VecDeque::new();
        Ok(Self { verb, patterns, asks_separator, selection, returned, left })
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.returned.status.as_ref().is_some_and(super::status::Items::ask_mod_seq)
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let verb = self.verb;
        if self.asks_separator {
            context.out.untagged(&format!("{} (\\Noselect) \"/\" \"\"", verb.as_str()));
            return Ok(Done::text(verb.completed()).into());
        }
        if self.left.is_empty() {
            self.left = self.find(context)?;
        }
        for line in self.left.drain(..self.left.len().min(BATCH_LINES)) {
            self.returned.write(verb, &self.selection, &line, context)?;
        }
        if self.left.is_empty() {
            Ok(Done::text(verb.completed()).into())
        } else {
            Ok(Flow::More(Work::List(self)))
        }
    }

    /// All lines of the answer.
    fn find(&self, context: &Context<'_>) -> Result<VecDeque<Line>, Refusal> {
        // One that is longer than any name matches nothing.
        let patterns: Vec<Pattern> =
            self.patterns.iter().filter_map(|pattern| Pattern::new(pattern)).collect();
        let matches =
            |name: &MailboxName| patterns.iter().any(|pattern| pattern.matches(name.as_str()));
        let mut known = BTreeMap::new();
        let mut parents = BTreeSet::new();
        for mailbox in context.store.mailboxes(context.account)? {
            parents.extend(mailbox.name.parents());
            known.insert(mailbox.name.clone(), mailbox);
        }
        let by_subscription =
            self.verb == Verb::Lsub || self.selection.subscribed || self.returned.subscribed;
        let subscriptions: BTreeSet<MailboxName> = match by_subscription {
            true => context.store.subscriptions(context.account)?.into_iter().collect(),
            false => BTreeSet::new(),
        };
        let mut lines = Vec::new();
        // Selected are these names, and with RECURSIVEMATCH or in LSUB those above them.
        let mut chosen: BTreeSet<MailboxName> =
            if self.verb == Verb::Lsub || self.selection.subscribed {
                subscriptions.clone()
            } else {
                known.keys().cloned().collect()
            };
        if self.selection.special_use {
            chosen.retain(|name| known.get(name).is_some_and(|is| is.special_use.is_some()));
        }
        let mut above: BTreeSet<MailboxName> = BTreeSet::new();
        if self.selection.recursive {
            above = chosen.iter().flat_map(MailboxName::parents).collect();
        }
        if self.verb == Verb::Lsub {
            lines.extend(self.unsubscribed(&subscriptions, &patterns));
        }
        for name in chosen.union(&above).filter(|name| matches(name)) {
            let mailbox = known.get(name).cloned();
            let mut attributes = Vec::new();
            if self.verb == Verb::Xlist && name.is_inbox() {
                attributes.push("\\Inbox");
            }
            if mailbox.is_none() && self.verb == Verb::List {
                attributes.push("\\NonExistent");
            }
            if by_subscription && self.verb == Verb::List && subscriptions.contains(name) {
                attributes.push("\\Subscribed");
            }
            attributes.push(if parents.contains(name) {
                "\\HasChildren"
            } else {
                "\\HasNoChildren"
            });
            let special_use = mailbox.as_ref().and_then(|mailbox| mailbox.special_use);
            attributes.extend(special_use.map(SpecialUse::attribute));
            let child_info = above.contains(name);
            lines.push(Line { name: name.clone(), attributes, child_info, mailbox });
        }
        lines.sort_by_key(|line| !line.name.is_inbox());
        Ok(lines.into())
    }

    /// With `%` at the end of a pattern of LSUB a name may be subscribed only below what matches: then
    /// that is told, as `\Noselect`, which in LSUB says no more than that it is not itself subscribed
    /// (RFC 3501 §6.3.9).
    fn unsubscribed(
        &self,
        subscriptions: &BTreeSet<MailboxName>,
        patterns: &[Pattern],
    ) -> Vec<Line> {
        let Some(pattern) = patterns.first().filter(|pattern| pattern.ends_in_percent()) else {
            return Vec::new();
        };
        let matches = |name: &&MailboxName| pattern.matches(name.as_str());
        let others = subscriptions.iter().filter(|name| !matches(name));
        let above: BTreeSet<MailboxName> = others.flat_map(MailboxName::parents).collect();
        let unsubscribed = above
            .into_iter()
            .filter(|name| pattern.matches(name.as_str()) && !subscriptions.contains(name));
        let attributes = || vec!["\\Noselect", "\\HasChildren"];
        let line = |name| Line { name, attributes: attributes(), child_info: false, mailbox: None };
        unsubscribed.map(line).collect()
    }
}
