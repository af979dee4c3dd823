//! SEARCH, UID SEARCH: which messages are as asked.
//!
//! RFC 3501 §6.4.4, §7.2.5. What needs no octets of a message reads none; a body is read only when
//! all else has left the question open. A job looks at as many messages as fit its bounds, and asks
//! for another for the rest.

mod key;

use std::collections::VecDeque;

use imap_types::core::Charset;
use imap_types::search::SearchKey;
use store::{StoreError, Summary, UidSet};

use self::key::{Key, Known, Texts};
use super::Work;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::selected::Places;
use crate::source::Source;

/// Messages that one job looks at at most.
const BATCH_MESSAGES: usize = 2_000;
/// Octets that one job reads before it stops.
const BATCH_READ_OCTETS: u64 = 32 * 1024 * 1024;
/// Characters sets that a search may be in.
const CHARSETS: [&str; 2] = ["US-ASCII", "UTF-8"];

/// `search = "SEARCH" [SP "CHARSET" SP astring] 1*(SP search-key)`
pub(crate) struct Search {
    key: Key,
    by_uid: bool,
    /// What is left to look at, once begun.
    left: Option<Places>,
}

impl Search {
    pub(crate) fn new(
        charset: Option<&Charset<'_>>,
        keys: &[SearchKey<'_>],
        by_uid: bool,
    ) -> Result<Self, Refusal> {
        let known = |charset: &Charset<'_>| {
            CHARSETS.iter().any(|known| known.eq_ignore_ascii_case(charset.as_ref()))
        };
        if charset.is_some_and(|charset| !known(charset)) {
            return Err(Refusal::no(Code::BadCharset, "Search in UTF-8"));
        }
        Ok(Self { key: Key::all_of(keys)?, by_uid, left: None })
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mut left = match self.left.take() {
            Some(left) => left,
            None => {
                let here = context.here()?;
                self.key.resolve(here)?;
                let everything = Places::below(here.uids().len());
                let left = self.key.places().cloned().unwrap_or(everything);
                context.out.text("* SEARCH");
                left
            }
        };
        if let Err(error) = self.batch(&mut left, context) {
            // What was found stands; the line has begun and must end.
            context.out.text("\r\n");
            return Err(Refusal::selected(error));
        }
        if !left.is_empty() {
            self.left = Some(left);
            return Ok(Flow::More(Work::Search(Box::new(self))));
        }
        context.out.text("\r\n");
        Ok(Done::text("SEARCH completed").numbered(self.by_uid).into())
    }

    /// Looks at some of what is left, and writes what it finds.
    fn batch(&self, left: &mut Places, context: &mut Context<'_>) -> Result<(), StoreError> {
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
                let number = if self.by_uid { summary.uid.0.get() as usize } else { place + 1 };
                context.out.text(&format!(" {number}"));
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
