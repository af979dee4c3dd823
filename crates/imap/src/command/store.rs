//! STORE, UID STORE: change the flags of messages.
//!
//! RFC 3501 §6.4.6; UNCHANGEDSINCE, RFC 7162 §3.1.3, which goes by the last change of any flag; how many
//! messages, RFC 9738 §3.1.

use imap_types::command::StoreModifier;
use imap_types::flag::{Flag, StoreResponse, StoreType};
use store::FlagChange;

use super::Work;
use crate::enabled::Enabled;
use crate::grammar::{self, MessageSet};
use crate::job::{Context, Done, Flow, tell_cut};
use crate::refusal::Refusal;
use crate::response::{Code, since};
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
    /// How many there are.
    all: usize,
    /// Some were gone.
    missed: bool,
    /// Only where nothing changed since: RFC 7162 §3.1.3.
    unchanged_since: Option<u64>,
    /// Something had changed there: numbers or UIDs.
    modified: Vec<u32>,
    /// Those below were left as they are.
    cut: Option<Code>,
}

impl Store {
    /// The same on conditions; of several of a kind the last counts.
    pub(crate) fn with(mut self, modifiers: &[StoreModifier]) -> Self {
        for StoreModifier::UnchangedSince(mod_seq) in modifiers {
            self.unchanged_since = Some(*mod_seq);
        }
        self
    }

    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        self.left.as_ref().map(|left| (self.all - left.len(), self.all))
    }

    pub(crate) fn is_conditional(&self) -> bool {
        self.unchanged_since.is_some()
    }

    pub(crate) fn new(
        messages: MessageSet,
        kind: StoreType,
        response: StoreResponse,
        flags: &[Flag<'_>],
        by_uid: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        if enabled.uid_only && !by_uid {
            return Err(Refusal::uid_required());
        }
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
            all: 0,
            missed: false,
            unchanged_since: None,
            modified: Vec::new(),
            cut: None,
        })
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let limit = context.settings.command_messages_max;
        let here = context.here_to_write()?;
        let mailbox = here.mailbox;
        let mut left = match self.left.take() {
            Some(left) => left,
            None => {
                let mut left = here.places(&self.messages, self.by_uid)?;
                self.cut = here.cut(&mut left, limit);
                self.all = left.len();
                left
            }
        };
        let batch = left.take(BATCH_MESSAGES);
        let uids = batch.iter().filter_map(|&place| here.uids().get(place)).collect();
        let (mut updates, others) = match self.unchanged_since {
            None => context.store.change_flags(mailbox, &uids, &self.change).map(|u| (u, vec![])),
            Some(mod_seq) => {
                let since = since(mod_seq);
                context.store.change_flags_unchanged(mailbox, &uids, &self.change, since)
            }
        }
        .map_err(Refusal::selected)?;
        let (Some(here), out) = (context.selected.as_deref_mut(), &mut *context.out) else {
            return Err(Refusal::nothing_selected());
        };
        if self.cut.is_some() {
            // From the highest to the lowest: RFC 9738 §3.1.
            updates.reverse();
        }
        self.missed |= updates.len() + others.len() < batch.len();
        for uid in others {
            let number = here.place(uid).and_then(|place| u32::try_from(place + 1).ok());
            self.modified.extend(if self.by_uid { Some(uid.0.get()) } else { number });
        }
        here.told(&updates);
        here.announce_keywords(updates.iter().map(|update| &update.flags), out);
        for update in &updates {
            match here.place(update.uid) {
                Some(place) if !self.silent => {
                    here.write_flag_update(place, update, self.by_uid, out);
                }
                Some(place) if here.enabled.condstore => here.write_mod_seq(place, update, out),
                _ => {}
            }
        }
        if !left.is_empty() {
            here.sync(context.store, Tell::NoExpunges, self.by_uid, out)
                .map_err(Refusal::selected)?;
            self.left = Some(left);
            return Ok(Flow::More(Work::Store(Box::new(self))));
        }
        self.modified.sort_unstable();
        if self.missed && !self.by_uid {
            if let Some(cut) = &self.cut {
                tell_cut(cut, out);
            }
            // RFC 2180 §4.2.1: the flags of those that are left were changed.
            let code = match self.modified.is_empty() {
                true => Code::ExpungeIssued,
                false => Code::Modified(self.modified),
            };
            return Err(Refusal::no(code, "Some of the messages are gone"));
        }
        if !self.modified.is_empty() {
            let done = Done::text("STORE completed, but for what had changed");
            let done = done.code(Code::Modified(self.modified)).cut(self.cut);
            return Ok(done.numbered(self.by_uid).into());
        }
        Ok(Done::text("STORE completed").cut(self.cut).numbered(self.by_uid).into())
    }
}
