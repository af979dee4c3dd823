//! SEARCH, UID SEARCH: which messages are as asked.
//!
//! RFC 3501 §6.4.4, §7.2.5; ESEARCH, RFC 4731; SEARCHRES, RFC 5182; WITHIN, RFC 5032;
//! PARTIAL, RFC 9394 §3.1; EMAILID and THREADID, RFC 8474 §6. What needs no octets of a message reads none; a body is read only when
//! all else has left the question open. A job looks at as many messages as fit its bounds, and asks
//! for another for the rest.

mod found;
mod key;
mod read;

use std::collections::VecDeque;

use store::{StoreError, Summary, UidSet};

use self::found::{Found, Hit, Returns};
use self::key::{Key, Known, Texts};
use self::read::Reader;
use super::Work;
use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::{Refusal, Status};
use crate::response::Code;
use crate::selected::{Places, Tell};
use crate::source::Source;

/// Messages that one job looks at at most.
const BATCH_MESSAGES: usize = 2_000;
/// Octets that one job reads before it stops.
const BATCH_READ_OCTETS: u64 = 32 * 1024 * 1024;
/// Character sets that a search may be in.
const CHARSETS: [&str; 2] = ["US-ASCII", "UTF-8"];

/// `search = "SEARCH" [SP "RETURN" SP "(" ... ")"] [SP "CHARSET" SP charset] 1*(SP search-key)`
pub(crate) struct Search {
    tag: String,
    key: Key,
    by_uid: bool,
    /// No key names messages by number: then they may be renumbered at the end.
    renumbers: bool,
    /// Some key is about mod-sequences: then the highest is told.
    by_mod_seq: bool,
    charset_known: bool,
    returns: Option<Returns>,
    found: Found,
    /// What is left to look at, once begun.
    left: Option<Places>,
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
        let returns = if words.skip_name("RETURN") {
            let returns = Returns::read(words)?;
            words.space().ok_or_else(Refusal::malformed)?;
            Some(returns)
        } else if enabled.rev2 {
            // There is no SEARCH response any more: RFC 9051 §6.4.4.
            Some(Returns::all())
        } else {
            None
        };
        let mut charset_known = true;
        if words.skip_name("CHARSET") {
            if enabled.utf8 {
                // RFC 9755 §3.
                return Err(Refusal::bad("Texts are in UTF-8 now: name no charset"));
            }
            let charset = words.astring().ok_or_else(Refusal::malformed)?;
            words.space().ok_or_else(Refusal::malformed)?;
            let is = |known: &&str| known.as_bytes().eq_ignore_ascii_case(&charset);
            charset_known = CHARSETS.iter().any(is);
        }
        let mut reader = Reader::new(words, charset_known);
        let key = reader.all()?;
        if enabled.uid_only && (!by_uid || reader.by_number) {
            return Err(Refusal::uid_required());
        }
        let renumbers = by_uid && !reader.by_number;
        let by_mod_seq = reader.by_mod_seq;
        Ok(Self {
            tag: tag.to_owned(),
            key,
            by_uid,
            renumbers,
            by_mod_seq,
            charset_known,
            returns,
            found: Found::new(returns, by_mod_seq),
            left: None,
        })
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.by_mod_seq
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let saves = self.returns.is_some_and(|returns| returns.save);
        match self.go_on(context) {
            Ok(true) => {
                let places = self.found.saved();
                if let Some(places) = places {
                    context.here()?.save(&places);
                }
                let tell = if self.renumbers { Tell::All } else { Tell::NoExpunges };
                let done = Done::text("SEARCH completed").numbered(self.by_uid).tell(tell);
                Ok(done.into())
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
        if !self.charset_known {
            return Err(Refusal::no(Code::BadCharset, "Search in UTF-8"));
        }
        let mut left = match self.left.take() {
            Some(left) => left,
            None => {
                let at = context.at;
                let here = context.here()?;
                self.key.resolve(here, at)?;
                let everything = Places::below(here.uids().len());
                let left = self.key.places().cloned().unwrap_or(everything);
                self.found.begin(&self.tag, self.by_uid, context.out);
                left
            }
        };
        if let Err(error) = self.batch(&mut left, context) {
            // What was found stands; the line has begun and must end.
            self.found.end(context.out);
            return Err(Refusal::selected(error));
        }
        if !left.is_empty() {
            self.left = Some(left);
            return Ok(false);
        }
        self.found.end(context.out);
        Ok(true)
    }

    /// Looks at some of what is left, and writes what it finds.
    fn batch(&mut self, left: &mut Places, context: &mut Context<'_>) -> Result<(), StoreError> {
        let store = context.store;
        let Some(here) = context.selected.as_deref() else { return Ok(()) };
        let batch = left.take(BATCH_MESSAGES);
        let uids: UidSet =
            batch.iter().filter_map(|&place| here.uids().get(place)).copied().collect();
        if uids.is_empty() {
            return Ok(());
        }
        let mut summaries: VecDeque<Summary> =
            store.summaries(here.mailbox, &uids, batch.len())?.into();
        let mut read = 0;
        for (done, &place) in batch.iter().enumerate() {
            if read >= BATCH_READ_OCTETS {
                left.put_back(&batch[done..]);
                break;
            }
            let uid = here.uids().get(place).copied();
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
            let found = match self.matches(known, &mut source) {
                Ok(found) => found,
                // It went while it was looked at.
                Err(StoreError::NoSuchMessage) => false,
                Err(error) => return Err(error),
            };
            read += source.read;
            if found {
                let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
                let number = if self.by_uid { summary.uid.0.get() } else { number };
                let hit = Hit { place, number, mod_seq: summary.mod_seq };
                if self.found.add(hit, context.out) {
                    *left = Places::default();
                    break;
                }
            }
        }
        Ok(())
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
        let (octets, structure) = source.parts()?;
        let texts = Texts::of(octets, structure);
        let known = Known { texts: Some(&texts), ..known };
        Ok(self.key.test(&known).unwrap_or(false))
    }
}
