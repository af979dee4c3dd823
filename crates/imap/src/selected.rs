//! A session's view of its mailbox: which message has which number, and how it learns of changes.
//!
//! RFC 3501 §2.3.1.2 (message sequence numbers), §5.2 and §7.4.1 (when a client may be told what).
//! The view changes only when the client has been told so. Not here: the mailbox itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::{FlagUpdate, Flags, Keyword, MailboxId, ModSeq, Store, StoreError, Uid, UidSet};

use crate::enabled::Enabled;
use crate::grammar::MessageSet;
use crate::live::{Entered, News, View};
pub(crate) use crate::places::Places;
use crate::refusal::Refusal;
use crate::response::{Code, Output, SYSTEM_FLAGS, mod_seq};
use crate::uids::Uids;

/// What a client may be told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Everything.
    All,
    /// Everything but what renumbers messages: RFC 3501 §7.4.1, during FETCH, STORE and SEARCH.
    NoExpunges,
    /// Nothing: the command says all itself, or nothing is selected any more.
    Nothing,
}

/// What a client hears of its mailbox without having asked for it just now: everything, unless NOTIFY
/// says otherwise (RFC 5465 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hears {
    /// Messages come and go.
    pub(crate) messages: bool,
    pub(crate) flags: bool,
    /// New ones are kept in mind: something is to be fetched of them.
    pub(crate) collects: bool,
    /// Changes of flags always come with UIDs: RFC 5465 §5.1.
    pub(crate) uids: bool,
}

impl Default for Hears {
    fn default() -> Self {
        Self { messages: true, flags: true, collects: false, uids: false }
    }
}

/// A mailbox that is open.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) mailbox: MailboxId,
    pub(crate) read_only: bool,
    /// What the client has enabled. With CONDSTORE, changes of flags come with mod-sequences and
    /// UIDs: RFC 7162 §3.1, §3.2.4.
    pub(crate) enabled: Enabled,
    pub(crate) hears: Hears,
    /// Came, and were told, and nothing was fetched of them: as ranges, so that any number of them is kept
    /// in mind.
    arrived: UidSet,
    /// What all sessions of this mailbox have in common.
    view: Arc<View>,
    /// The messages that the client knows; a message's number is its place, from 1. The same list as the
    /// view's, as long as the client knows what everybody knows.
    uids: Arc<Uids>,
    /// Messages from this one on are `\Recent` here.
    recent_from: Uid,
    /// The highest UID ever seen: what comes above it is new.
    seen_to: u32,
    /// Everything up to here has been told, but for `gone`.
    mod_seq: ModSeq,
    /// Up to where everything has been told, while something that went may not be.
    held: Option<ModSeq>,
    /// Keywords that FLAGS has announced.
    keywords: BTreeSet<Keyword>,
    /// Expunged, and the client not told yet.
    gone: UidSet,
    /// Changes that this command has told itself.
    told: BTreeSet<(Uid, ModSeq)>,
    /// What the last search saved, RFC 5182 §2.1. As UIDs: what is expunged leaves it by itself.
    saved: UidSet,
}

impl Selected {
    pub(crate) fn new(mailbox: MailboxId, entered: Entered, read_only: bool) -> Self {
        let Entered { view, uids, opened } = entered;
        Self {
            mailbox,
            read_only,
            enabled: Enabled::default(),
            hears: Hears::default(),
            arrived: UidSet::default(),
            recent_from: opened.recent_from,
            seen_to: opened.status.uid_next.0.get() - 1,
            mod_seq: opened.status.mod_seq,
            held: None,
            keywords: opened.keywords.into_iter().collect(),
            gone: UidSet::default(),
            told: BTreeSet::new(),
            saved: UidSet::default(),
            view,
            uids,
        }
    }

    /// Up to which change the client has been told everything, but for what it may not be told yet.
    pub(crate) fn told_to(&self) -> ModSeq {
        self.mod_seq
    }

    /// `OK [HIGHESTMODSEQ n]`: up to which change the client has been told everything.
    pub(crate) fn highest_mod_seq(&self) -> String {
        format!("OK [HIGHESTMODSEQ {}] The last change", mod_seq(self.mod_seq))
    }

    /// The messages the client knows, by number.
    pub(crate) fn uids(&self) -> &Uids {
        &self.uids
    }

    /// Whether a message is `\Recent` in this session. What comes while two sessions have the mailbox
    /// open is so in both: RFC 3501 §2.3.2 leaves open which of them sees it, and wants it so where
    /// nobody can tell who was first. IMAP4rev2 knows no such flag: RFC 9051 §2.3.2.
    pub(crate) fn is_recent(&self, uid: Uid) -> bool {
        uid >= self.recent_from && !self.enabled.rev2
    }

    pub(crate) fn recent_count(&self) -> usize {
        self.uids.len() - self.uids.below(self.recent_from.0.get())
    }

    /// The place of a message, from 0.
    pub(crate) fn place(&self, uid: Uid) -> Option<usize> {
        self.uids.place(uid)
    }

    /// Those UIDs of a set of the client's that are not messages here: what can have vanished.
    pub(crate) fn absent(&self, uids: &UidSet, of: Option<&MessageSet>) -> UidSet {
        let mut absent = self.uids.absent(uids);
        if let Some(MessageSet::Ranges(set)) = of {
            // `*` is at most the last UID there ever was.
            let bound = |bound: Option<u32>| bound.unwrap_or(u32::MAX);
            let asked = set.iter().map(|&(a, b)| (bound(a).min(bound(b)), bound(a).max(bound(b))));
            absent = intersection(&absent, asked.collect());
        }
        let uid = |number: u32| std::num::NonZeroU32::new(number).map(Uid);
        UidSet::from_ranges(absent.into_iter().filter_map(|(a, b)| Some((uid(a)?, uid(b)?))))
    }

    /// The places of a set's messages. A UID that is not there is no error (RFC 3501 §6.4.8); a
    /// number that is not there is the client's mistake.
    pub(crate) fn places(&self, set: &MessageSet, by_uid: bool) -> Result<Places, Refusal> {
        let MessageSet::Ranges(set) = set else { return Ok(self.saved()) };
        let mut ranges = Vec::with_capacity(set.len());
        let last = self.uids.len();
        for &(from, to) in set {
            if by_uid {
                // `*` is the last message there is, also in 559:* when 559 is past it.
                let highest = self.uids.last().map_or(0, |uid| uid.0.get());
                let (from, to) = (from.unwrap_or(highest), to.unwrap_or(highest));
                let (from, to) = (from.min(to), from.max(to));
                ranges.push(self.uids.below(from)..self.uids.up_to(to));
            } else {
                let number = |bound: Option<u32>| match bound {
                    Some(number) => usize::try_from(number).unwrap_or(usize::MAX),
                    None => last,
                };
                let starred = from.is_none() || to.is_none();
                let (from, to) = (number(from), number(to));
                let (from, to) = (from.min(to), from.max(to));
                if last == 0 && starred {
                    continue;
                }
                if to > last {
                    return Err(Refusal::bad("There is no message of that number"));
                }
                ranges.push(from.saturating_sub(1)..to);
            }
        }
        Ok(Places::new(ranges))
    }

    /// The places of those numbers of a set that there are.
    pub(crate) fn places_there_are(&self, set: &MessageSet) -> Places {
        let MessageSet::Ranges(set) = set else { return self.saved() };
        let last = self.uids.len();
        let place = |bound: Option<u32>| match bound {
            Some(number) => usize::try_from(number).unwrap_or(usize::MAX),
            None => last,
        };
        let ranges = set.iter().map(|&(from, to)| {
            let (from, to) = (place(from), place(to));
            from.min(to).max(1) - 1..from.max(to).min(last)
        });
        Places::new(ranges.collect())
    }

    /// Leaves of these messages no more than one command looks at, those with the highest UIDs, to be taken
    /// from the highest down; which code tells that some were left out: RFC 9738 §3.1.
    pub(crate) fn cut(&self, places: &mut Places, limit: u64) -> Option<Code> {
        let lowest = places.keep_highest(limit)?;
        places.fall();
        Some(Code::MessageLimit(limit, self.uids.get(lowest)))
    }

    /// Makes these messages what `$` stands for.
    pub(crate) fn save(&mut self, places: &Places) {
        self.saved = self.uid_set(places);
    }

    fn saved(&self) -> Places {
        let place = |range: &(u32, u32)| self.uids.below(range.0)..self.uids.up_to(range.1);
        Places::new(self.saved.ranges().iter().map(place).collect())
    }

    /// As a set of UIDs.
    pub(crate) fn uid_set(&self, places: &Places) -> UidSet {
        let bounds = places.ranges().filter_map(|range| {
            Some((self.uids.get(range.start)?, self.uids.get(range.end.checked_sub(1)?)?))
        });
        UidSet::from_ranges(bounds)
    }

    /// Remembers that the client hears of these changes from the command itself.
    pub(crate) fn told(&mut self, updates: &[FlagUpdate]) {
        self.told.extend(updates.iter().map(|update| (update.uid, update.mod_seq)));
    }

    /// Announces keywords that no FLAGS response has named yet: before a client sees them used.
    pub(crate) fn announce_keywords<'f>(
        &mut self,
        flags: impl Iterator<Item = &'f Flags>,
        out: &mut Output,
    ) {
        let before = self.keywords.len();
        for keyword in flags.flat_map(|flags| &flags.keywords) {
            if !self.keywords.contains(keyword) {
                self.keywords.insert(keyword.clone());
            }
        }
        if self.keywords.len() > before {
            self.write_flags(out);
        }
    }

    /// `FLAGS` and `PERMANENTFLAGS`, RFC 3501 §7.2.6, §7.1.
    pub(crate) fn write_flags(&self, out: &mut Output) {
        let system = SYSTEM_FLAGS.iter().map(|&(_, name)| name);
        let words: Vec<&str> = system.chain(self.keywords.iter().map(Keyword::as_str)).collect();
        let words = words.join(" ");
        out.untagged(&format!("FLAGS ({words})"));
        if self.read_only {
            out.untagged("OK [PERMANENTFLAGS ()] Nothing can be changed here");
        } else {
            out.untagged(&format!("OK [PERMANENTFLAGS ({words} \\*)] These are kept"));
        }
    }

    /// Tells what happened to the mailbox since the last time.
    pub(crate) fn sync(
        &mut self,
        store: &dyn Store,
        tell: Tell,
        by_uid: bool,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        if tell == Tell::Nothing || !self.hears.messages {
            return Ok(());
        }
        let News { changes, uids } = self.view.news(store, self.mod_seq)?;
        let told_to = std::mem::replace(&mut self.mod_seq, changes.mod_seq);
        self.gone = self.gone.union(&self.uids.common(&changes.expunged));
        let gone =
            if tell == Tell::All { std::mem::take(&mut self.gone) } else { UidSet::default() };
        self.tell_expunged(&gone, out);
        let new = changes.updated.partition_point(|update| update.uid.0.get() <= self.seen_to);
        let (changed, arrived) = changes.updated.split_at(new);
        match uids.filter(|_| self.gone.is_empty()) {
            // Whoever knows what everybody knows shares the list.
            Some(uids) => self.uids = uids,
            None if gone.is_empty() && arrived.is_empty() => {}
            None => {
                let known = Arc::make_mut(&mut self.uids);
                known.remove(&gone);
                arrived.iter().for_each(|update| known.push(update.uid));
            }
        }
        if let Some(last) = arrived.last() {
            self.seen_to = last.uid.0.get();
            if self.hears.collects {
                let uids = arrived.iter().map(|update| update.uid).collect();
                self.arrived = self.arrived.union(&uids);
            }
            self.write_exists(out);
        }
        self.announce_keywords(changes.updated.iter().map(|update| &update.flags), out);
        for update in changed {
            let Some(place) = self.place(update.uid) else { continue };
            if !self.hears.flags
                || self.gone.contains(update.uid)
                || self.told.contains(&(update.uid, update.mod_seq))
            {
                continue;
            }
            self.write_flag_update(place, update, by_uid, out);
        }
        self.told = BTreeSet::new();
        self.hold_back(told_to, out);
        Ok(())
    }

    /// While something that went is not told, who has enabled QRESYNC must not take a later change for
    /// the last that it knows: RFC 7162 §3.2, §6.
    fn hold_back(&mut self, told_to: ModSeq, out: &mut Output) {
        if self.gone.is_empty() {
            self.held = None;
        } else if self.enabled.qresync {
            let held = *self.held.get_or_insert(told_to);
            if held < self.mod_seq {
                out.untagged(&format!("OK [HIGHESTMODSEQ {}] Not all is told", mod_seq(held)));
            }
        }
    }

    /// Whether something is to be fetched of new messages.
    pub(crate) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The new messages as a set, and forgets them.
    pub(crate) fn take_arrived(&mut self) -> UidSet {
        std::mem::take(&mut self.arrived)
    }

    /// `EXISTS`, and `RECENT` to who knows it.
    pub(crate) fn write_exists(&self, out: &mut Output) {
        out.untagged(&format!("{} EXISTS", self.uids.len()));
        if !self.enabled.rev2 {
            out.untagged(&format!("{} RECENT", self.recent_count()));
        }
    }

    /// `* 3 FETCH (`, or by UID to a client that knows no numbers: RFC 9586 §3.3.
    pub(crate) fn begin_fetch(&self, place: usize, uid: Uid, out: &mut Output) {
        out.text("* ");
        if self.enabled.uid_only {
            out.number(uid.0.get().into());
            out.text(" UIDFETCH (");
        } else {
            out.number(place as u64 + 1);
            out.text(" FETCH (");
        }
    }

    /// `* 3 FETCH (FLAGS (...))`, with the UID when the command was a UID command (RFC 3501 §6.4.8).
    pub(crate) fn write_flag_update(
        &self,
        place: usize,
        update: &FlagUpdate,
        with_uid: bool,
        out: &mut Output,
    ) {
        self.begin_fetch(place, update.uid, out);
        if (with_uid || self.enabled.condstore || self.hears.uids) && !self.enabled.uid_only {
            out.text(&format!("UID {} ", update.uid.0));
        }
        out.text("FLAGS ");
        out.flags(&update.flags, self.is_recent(update.uid));
        if self.enabled.condstore {
            out.text(&format!(" MODSEQ ({})", mod_seq(update.mod_seq)));
        }
        out.text(")\r\n");
    }

    /// The same to a client that knows the flags, since it set them: RFC 7162 §3.1.3.
    pub(crate) fn write_mod_seq(&self, place: usize, update: &FlagUpdate, out: &mut Output) {
        self.begin_fetch(place, update.uid, out);
        if !self.enabled.uid_only {
            out.text(&format!("UID {} ", update.uid.0));
        }
        out.text(&format!("MODSEQ ({}))\r\n", mod_seq(update.mod_seq)));
    }

    /// From the last to the first: no number changes before it has been told.
    fn tell_expunged(&self, gone: &UidSet, out: &mut Output) {
        if self.enabled.vanishes() {
            return out.vanished(false, gone);
        }
        for &(first, last) in gone.ranges().iter().rev() {
            for place in (self.uids.below(first)..self.uids.up_to(last)).rev() {
                out.text("* ");
                out.number(place as u64 + 1);
                out.text(" EXPUNGE\r\n");
            }
        }
    }
}

/// What is in both of two lists of ranges, ends included; the first ascends.
fn intersection(one: &[(u32, u32)], mut other: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    other.sort_unstable();
    let mut both = Vec::new();
    let mut from = 0;
    for &(first, last) in &other {
        from += one[from..].partition_point(|&(_, end)| end < first);
        for &(start, end) in one[from..].iter().take_while(|&&(start, _)| start <= last) {
            both.push((start.max(first), end.min(last)));
        }
    }
    both
}
