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

use store::{StoreError, Summary, Timestamp, UidSet};

use self::found::{Found, Hit, Returns};
use self::key::{Key, Known};
use self::read::Reader;
use super::Work;
use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::{Refusal, Status};
use crate::response::{Code, Output};
use crate::selected::{Places, Tell};
use crate::source::Source;
use crate::texts::Texts;

/// Messages that one job looks at at most.
const BATCH_MESSAGES: usize = 2_000;
/// Octets that one job reads before it stops.
const BATCH_READ_OCTETS: u64 = 32 * 1024 * 1024;
/// Seconds after which a SEARCH, SORT or THREAD is given up between two of its jobs: one command shall not
/// keep a core busy for ever.
const SEARCH_SECS_MAX: i64 = 120;
/// Character sets that a search may be in.
const CHARSETS: [&str; 2] = ["US-ASCII", "UTF-8"];

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
    /// When that was.
    begun: Option<Timestamp>,
    /// Those below are not looked at.
    cut: Option<Code>,
}

impl Query {
    /// Whether it may read whole messages: headers and what the index knows are little.
    pub(super) fn reads_texts(&self) -> bool {
        self.key.reads_texts()
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
        Ok(Self { key, renumbers, by_mod_seq, charset_known, left: None, begun: None, cut: None })
    }

    /// Makes ready to look; whether this is the first time. What counts for the limit of one command is how
    /// many messages are looked at, not how many are found: RFC 9738 §3.1. Then the highest are looked at; an
    /// order of some would be the order of none, so that `whole` refuses (§3.3).
    pub(super) fn begin(
        &mut self,
        whole: bool,
        context: &mut Context<'_>,
    ) -> Result<bool, Refusal> {
        if !self.charset_known {
            return Err(Refusal::no(Code::BadCharset, "Search in UTF-8"));
        }
        let (at, store) = (context.at, context.store);
        if let Some(begun) = self.begun {
            if at.as_second() - begun.as_second() > SEARCH_SECS_MAX {
                return Err(Refusal::no(Code::Limit, "It takes too long: search in parts"));
            }
            return Ok(false);
        }
        self.begun = Some(at);
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
        self.left = Some(left);
        Ok(true)
    }

    /// Looks at some of what is left and hands on what is found, in the order of numbers, until that
    /// says to stop. Whether all is done.
    pub(super) fn look(
        &mut self,
        context: &mut Context<'_>,
        found: &mut dyn FnMut(usize, &Summary, &mut Output) -> bool,
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
            let matches = match self.matches(known, &mut source) {
                Ok(matches) => matches,
                // It went while it was looked at.
                Err(StoreError::NoSuchMessage) => false,
                Err(error) => return Err(error),
            };
            read += source.read;
            if matches && found(place, &summary, context.out) {
                return Ok(true);
            }
        }
        let done = left.is_empty();
        self.left = Some(left);
        Ok(done)
    }

    /// Learns more of a message until the answer is known.
    fn matches(&self, known: Known<'_>, source: &mut Source<'_>) -> Result<bool, StoreError> {
        if let Some(answer) = self.key.test(&known) {
            return Ok(answer);
        }
        let header = source.header()?.to_vec();
        let header = mail::Message::lenient(&header);
        let known = Known { header: Some(&header), ..known };
        if let Some(answer) = self.key.test(&known) {
            return Ok(answer);
        }
        let texts = Texts::read(source)?;
        let known = Known { texts: Some(&texts), ..known };
        Ok(self.key.test(&known).unwrap_or(false))
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

    pub(crate) fn reads_texts(&self) -> bool {
        self.query.reads_texts()
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
                let done = Done::text("SEARCH completed").numbered(self.by_uid).tell(tell);
                Ok(done.cut(self.query.cut).into())
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

    /// Does a part of it; whether that was the last.
    fn go_on(&mut self, context: &mut Context<'_>) -> Result<bool, Refusal> {
        let goes_on = self.query.begun.is_some();
        match self.query.begin(false, context) {
            Ok(true) => self.found.begin(&self.tag, self.by_uid, context.out),
            Ok(false) => {}
            Err(refusal) => {
                // As below.
                if goes_on {
                    self.found.end(context.out);
                }
                return Err(refusal);
            }
        }
        let (found, by_uid) = (&mut self.found, self.by_uid);
        let done = self.query.look(context, &mut |place, summary, out| {
            found.add(Hit::of(place, summary, by_uid), out)
        });
        match done {
            Ok(false) => Ok(false),
            // What was found stands; the line has begun and must end.
            done => {
                self.found.end(context.out);
                done.map_err(Refusal::selected)
            }
        }
    }
}
