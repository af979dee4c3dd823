//! STORE, UID STORE: change the flags of messages.
//!
//! RFC 3501 §6.4.6.

use imap_types::flag::{Flag, StoreResponse, StoreType};
use store::FlagChange;

use super::Work;
use crate::grammar::{self, MessageSet};
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::selected::{Places, Tell};

/// Messages that one job changes at most.
const BATCH_MESSAGES: usize = 2_000;

/// `store = "STORE" SP sequence-set SP store-att-flags`
pub(crate) struct Store {
    messages: MessageSet,
    change: FlagChange,
    silent: bool,
    by_uid: bool,
    /// What is left of it, once begun.
    left: Option<Places>,
    /// Some were gone.
    missed: bool,
}

impl Store {
    pub(crate) fn new(
        messages: MessageSet,
        kind: StoreType,
        response: StoreResponse,
        flags: &[Flag<'_>],
        by_uid: bool,
    ) -> Result<Self, Refusal> {
        let flags = grammar::flags(flags)?;
        Ok(Self {
            messages,
            change: match kind {
                StoreType::Replace => FlagChange::Replace(flags),
                StoreType::Add => FlagChange::Add(flags),
                StoreType::Remove => FlagChange::Remove(flags),
            },
            silent: response == StoreResponse::Silent,
            by_uid,
            left: None,
            missed: false,
        })
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let here = context.here_to_write()?;
        let mailbox = here.mailbox;
        let mut left = match self.left.take() {
            Some(left) => left,
            None => here.places(&self.messages, self.by_uid)?,
        };
        let batch = left.take(BATCH_MESSAGES);
        let uids = batch.iter().filter_map(|&place| here.uids().get(place)).copied().collect();
        let updates = context.store.change_flags(mailbox, &uids, &self.change);
        let updates = updates.map_err(Refusal::selected)?;
        let (Some(here), out) = (context.selected.as_deref_mut(), &mut *context.out) else {
            return Err(Refusal::nothing_selected());
        };
        self.missed |= updates.len() < batch.len();
        here.told(&updates);
        here.announce_keywords(updates.iter().map(|update| &update.flags), out);
        if !self.silent {
            for update in &updates {
                if let Some(place) = here.place(update.uid) {
                    here.write_flag_update(place, update, self.by_uid, out);
                }
            }
        }
        if !left.is_empty() {
            here.sync(context.store, Tell::NoExpunges, self.by_uid, out)
                .map_err(Refusal::selected)?;
            self.left = Some(left);
            return Ok(Flow::More(Work::Store(Box::new(self))));
        }
        if self.missed && !self.by_uid {
            // RFC 2180 §4.2.1: the flags of those that are left were changed.
            return Err(Refusal::no(Code::ExpungeIssued, "Some of the messages are gone"));
        }
        Ok(Done::text("STORE completed").numbered(self.by_uid).into())
    }
}
