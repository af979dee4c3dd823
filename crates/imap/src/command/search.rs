//! SEARCH, UID SEARCH: which messages are as asked.
//!
//! RFC 3501 §6.4.4, §7.2.5; ESEARCH, RFC 4731; SEARCHRES, RFC 5182; WITHIN, RFC 5032;
//! PARTIAL, RFC 9394 §3.1; EMAILID and THREADID, RFC 8474 §6; how many messages, RFC 9738 §3.1. What needs no octets of a message reads none; a body is read only when
//! all else has left the question open. A job looks at as many messages as fit its bounds, and asks
//! for another for the rest.

pub(super) mod found;
mod key;
mod read;

use std::collections::VecDeque;

use store::{StoreError, Summary, UidSet};

use self::found::{Found, Hit, Returns};
use self::key::{Key, Known};
use self::read::Reader;
use super::Work;
use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::{Refusal, Status};
use crate::response::Code;
use crate::selected::{Places, Tell};
use crate::session::limits;
use crate::source::Source;
use crate::texts::{MEMORY_OCTETS_LEAST, Texts, memory_octets};

/// Messages that one job looks at at most.
const BATCH_MESSAGES: usize = 2_000;
/// Octets that one job reads before it stops.
const BATCH_READ_OCTETS: u64 = 32 * 1024 * 1024;
/// What a client hears when a text was longer than is looked into.
const PARTLY: &str = "Completed, but of texts beyond 32 MiB only the beginning was looked into";
/// Character sets that a search may be in.
const CHARSETS: [&str; 2] = ["US-ASCII", "UTF-8"];

/// That the command was not at work for too long.
pub(super) fn check_time(context: &Context<'_>) -> Result<(), Refusal> {
    match context.worked > limits::WORK_TIME_MAX {
        true => Err(Refusal::no(Code::Limit, "It takes too long: search in parts")),
        false => Ok(()),
    }
}

/// Which messages are asked for, and which of them are still to be looked at.
pub(super) struct Query {
    key: Key,
    /// No key names messages by number: then they may be renumbered at the end.
    pub(super) renumbers: bool,
    /// Some key is about mod-sequences: then the highest is told.
    pub(super) by_mod_seq: bool,
    charset_known: bool,
    /// What is left to look at, once begun.
    left: Option<Places>,
    /// How many that was at the beginning.
    all: usize,
    /// Octets of memory that the next job may take for a message.
    room: u64,
    /// Some text was not looked into to its end.
    partly: bool,
    /// Those below are not looked at.
    cut: Option<Code>,
}

impl Query {
    /// Octets of memory that the next job may take for whole messages: headers and what the index knows are
    /// little.
    pub(super) fn holds_octets(&self) -> u64 {
        if self.key.reads_texts() { self.room } else { 0 }
    }

    /// How many messages were looked at, and of how many.
    pub(super) fn progress(&self) -> Option<(usize, usize)> {
        self.left.as_ref().map(|left| (self.all - left.len(), self.all))
    }

    /// What to say at the end.
    pub(super) fn completed(&self, text: &'static str) -> &'static str {
        if self.partly { PARTLY } else { text }
    }

    /// `charset`
    pub(super) fn read_charset(words: &mut Words<'_>) -> Result<bool, Refusal> {
        let charset = words.astring().ok_or_else(Refusal::malformed)?;
        words.space().ok_or_else(Refusal::malformed)?;
        let is = |known: &&str| known.as_bytes().eq_ignore_ascii_case(&charset);
        Ok(CHARSETS.iter().any(is))
    }

    /// `search-key *(SP search-key)` to the end of the command.
    pub(super) fn read(
        words: &mut Words<'_>,
        charset_known: bool,
        by_uid: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        let mut reader = Reader::new(words, charset_known);
        let key = reader.all()?;
        if enabled.uid_only && (!by_uid || reader.by_number) {
            return Err(Refusal::uid_required());
        }
        let renumbers = by_uid && !reader.by_number;
        let by_mod_seq = reader.by_mod_seq;
        let (left, all, room) = (None, 0, MEMORY_OCTETS_LEAST);
        let (partly, cut) = (false, None);
        Ok(Self { key, renumbers, by_mod_seq, charset_known, left, all, room, partly, cut })
    }

    /// Makes ready to look. What counts for the limit of one command is how
    /// many messages are looked at, not how many are found: RFC 9738 §3.1. Then the highest are looked at; an
    /// order of some would be the order of none, so that `whole` refuses (§3.3).
    pub(super) fn begin(&mut self, whole: bool, context: &mut Context<'_>) -> Result<(), Refusal> {
        if !self.charset_known {
            return Err(Refusal::no(Code::BadCharset, "Search in UTF-8"));
        }
        let (at, store) = (context.at, context.store);
        if self.left.is_some() {
            return check_time(context);
        }
        let limit = context.settings.command_messages_max;
        let here = context.here()?;
        self.key.resolve(here, at, store)?;
        let everything = Places::below(here.uids().len());
        let mut left = self.key.places().unwrap_or(everything);
        if let Some(lowest) = left.keep_highest(limit) {
            if whole {
                return Err(Refusal::too_many(limit, None));
            }
            self.cut = Some(Code::MessageLimit(limit, here.uids().get(lowest)));
        }
        self.all = left.len();
        self.left = Some(left);
        Ok(())
    }

    /// Looks at some of what is left and hands on what is found, in the order of numbers, until that
    /// says to stop. Whether all is done.
    pub(super) fn look(
        &mut self,
        context: &mut Context<'_>,
        found: &mut dyn FnMut(usize, &Summary) -> bool,
    ) -> Result<bool, StoreError> {
        let store = context.store;
        let Some(here) = context.selected.as_deref() else { return Ok(true) };
        let Some(mut left) = self.left.take() else { return Ok(true) };
        let batch = left.take(BATCH_MESSAGES);
        let uids: UidSet = batch.iter().filter_map(|&place| here.uids().get(place)).collect();
        if uids.is_empty() {
            return Ok(true);
        }
        let mut summaries: VecDeque<Summary> =
            store.summaries(here.mailbox, &uids, batch.len())?.into();
        let mut read = 0;
        let room = std::mem::replace(&mut self.room, MEMORY_OCTETS_LEAST);
        for (done, &place) in batch.iter().enumerate() {
            if read >= BATCH_READ_OCTETS {
                left.put_back(&batch[done..]);
                break;
            }
            let uid = here.uids().get(place);
            let Some(summary) = summaries.pop_front_if(|summary| Some(summary.uid) == uid) else {
                continue;
            };
            let known = Known {
                place,
                summary: &summary,
                recent: here.is_recent(summary.uid),
                zone: &context.settings.zone,
                header: None,
                texts: None,
            };
            let mut source = Source::new(store, summary.blob, summary.octets);
            let matches = match self.matches(known, &mut source, room) {
                Ok(Some(matches)) => matches,
                Ok(None) => {
                    self.room = memory_octets(summary.octets);
                    left.put_back(&batch[done..]);
                    break;
                }
                // It went while it was looked at.
                Err(StoreError::NoSuchMessage) => false,
                Err(error) => return Err(error),
            };
            read += source.read;
            if matches && found(place, &summary) {
                return Ok(true);
            }
        }
        let done = left.is_empty();
        self.left = Some(left);
        Ok(done)
    }

    /// Learns more of a message until the answer is known; `None` when there is not the room for it.
    fn matches(
        &mut self,
        known: Known<'_>,
        source: &mut Source<'_>,
        room: u64,
    ) -> Result<Option<bool>, StoreError> {
        if let Some(answer) = self.key.test(&known) {
            return Ok(Some(answer));
        }
        let header = source.header()?.to_vec();
        let header = mail::Message::lenient(&header);
        let known = Known { header: Some(&header), ..known };
        if let Some(answer) = self.key.test(&known) {
            return Ok(Some(answer));
        }
        if memory_octets(source.octets) > room {
            return Ok(None);
        }
        let texts = Texts::read(source)?;
        let known = Known { texts: Some(&texts), ..known };
        let matches = self.key.test(&known).unwrap_or(false);
        self.partly |= texts.cut;
        Ok(Some(matches))
    }
}

/// `search = "SEARCH" [SP "RETURN" SP "(" ... ")"] [SP "CHARSET" SP charset] 1*(SP search-key)`
pub(crate) struct Search {
    tag: String,
    query: Query,
    by_uid: bool,
    returns: Option<Returns>,
    found: Found,
}

impl Search {
    /// What follows the verb.
    pub(crate) fn read(
        tag: &str,
        words: &mut Words<'_>,
        by_uid: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        words.space().ok_or_else(Refusal::malformed)?;
        let returns = match Returns::read_if_said(words)? {
            // There is no SEARCH response any more: RFC 9051 §6.4.4.
            None if enabled.rev2 => Some(Returns::all()),
            said => said,
        };
        let mut charset_known = true;
        if words.skip_name("CHARSET") {
            if enabled.utf8 {
                // RFC 9755 §3.
                return Err(Refusal::bad("Texts are in UTF-8 now: name no charset"));
            }
            charset_known = Query::read_charset(words)?;
        }
        let query = Query::read(words, charset_known, by_uid, enabled)?;
        let found = Found::new(returns, query.by_mod_seq);
        Ok(Self { tag: tag.to_owned(), query, by_uid, returns, found })
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.query.by_mod_seq
    }

    pub(crate) fn holds_octets(&self) -> u64 {
        if self.found.is_told() { 0 } else { self.query.holds_octets() }
    }

    /// How far it has come; nothing once the response has begun.
    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        if self.found.is_told() { None } else { self.query.progress() }
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let saves = self.returns.is_some_and(|returns| returns.save);
        match self.go_on(context) {
            Ok(true) => {
                let places = self.found.saved();
                if let Some(places) = places {
                    context.here()?.save(&places);
                }
                let tell = if self.query.renumbers { Tell::All } else { Tell::NoExpunges };
                let done = Done::text(self.query.completed("SEARCH completed"));
                Ok(done.numbered(self.by_uid).tell(tell).cut(self.query.cut).into())
            }
            Ok(false) => Ok(Flow::More(Work::Search(Box::new(self)))),
            Err(refusal) => {
                // A search that failed has found nothing: RFC 5182 §2.1.
                if saves && refusal.status == Status::No {
                    context.here()?.save(&Places::default());
                }
                Err(refusal)
            }
        }
    }

    /// Does a part of it; whether that was the last. Nothing is told before all is found, so that a search
    /// that fails tells nothing, and how far it has come can be told meanwhile.
    fn go_on(&mut self, context: &mut Context<'_>) -> Result<bool, Refusal> {
        if !self.found.is_told() {
            self.query.begin(false, context)?;
            let (found, by_uid) = (&mut self.found, self.by_uid);
            let mut take = |place, summary: &Summary| found.add(Hit::of(place, summary, by_uid));
            if !self.query.look(context, &mut take).map_err(Refusal::selected)? {
                return Ok(false);
            }
        }
        let Some(here) = context.selected.as_deref() else {
            return Err(Refusal::nothing_selected());
        };
        Ok(self.found.tell(&self.tag, self.by_uid, here.uids(), context.out))
    }
}
