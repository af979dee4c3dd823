//! EXPUNGE, UID EXPUNGE: remove the messages that are marked `\Deleted`.
//!
//! RFC 3501 §6.4.3; UID EXPUNGE, RFC 4315 §2.1; with QRESYNC, RFC 7162 §3.2.7, §3.2.9. How many messages,
//! RFC 9738 §3.1: UID EXPUNGE counts those it removes; EXPUNGE and CLOSE have no such limit.

use store::{SystemFlags, Uid};

use super::Work;
use crate::grammar::MessageSet;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::selected::Places;

/// Messages that are removed at once, while everybody else who writes waits: some milliseconds.
pub(super) const EXPUNGED_AT_ONCE: usize = 1_000;

/// `expunge = "EXPUNGE"`, `uid-expunge = "UID" SP "EXPUNGE" SP sequence-set`
pub(crate) struct Expunge {
    of: Option<MessageSet>,
    /// Some were removed.
    expunged: bool,
    /// There are more of the set than one command removes.
    many: Option<Box<Many>>,
}

/// What is still to be looked at of many, from the highest down.
struct Many {
    left: Places,
    /// How many may still be removed.
    room: usize,
    /// The lowest that was.
    lowest: Option<Uid>,
}

impl Expunge {
    pub(crate) fn all() -> Self {
        Self { of: None, expunged: false, many: None }
    }

    pub(crate) fn of(messages: MessageSet) -> Self {
        Self { of: Some(messages), expunged: false, many: None }
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        if let Some(many) = self.many.take() {
            return self.remove_many(many, context);
        }
        let limit = usize::try_from(context.settings.command_messages_max).unwrap_or(usize::MAX);
        let here = context.here_to_write()?;
        let mailbox = here.mailbox;
        let uids = match &self.of {
            None => None,
            Some(set) => {
                let mut places = here.places(set, true)?;
                if places.len() > limit {
                    places.fall();
                    let many = Many { left: places, room: limit, lowest: None };
                    return self.remove_many(Box::new(many), context);
                }
                if places.is_empty() {
                    return Ok(Done::text("EXPUNGE completed, nothing to expunge").into());
                }
                Some(here.uid_set(&places))
            }
        };
        let gone = context.store.expunge_some(mailbox, uids.as_ref(), EXPUNGED_AT_ONCE);
        let gone = gone.map_err(Refusal::selected)?.len();
        self.expunged |= gone > 0;
        if gone == EXPUNGED_AT_ONCE {
            return Ok(Flow::More(Work::Expunge(self)));
        }
        Ok(Done { expunged: self.expunged, ..Done::text("EXPUNGE completed") }.into())
    }

    /// Removes some of many, or looks whether there are more than may be removed.
    fn remove_many(
        mut self,
        mut many: Box<Many>,
        context: &mut Context<'_>,
    ) -> Result<Flow, Refusal> {
        let here = context.here_to_write()?;
        let mailbox = here.mailbox;
        let looks = many.room == 0;
        let some = many.left.split_off(if looks {
            EXPUNGED_AT_ONCE
        } else {
            many.room.min(EXPUNGED_AT_ONCE)
        });
        let uids = here.uid_set(&some);
        let mut cut = None;
        if uids.is_empty() {
            // All are gone.
        } else if looks {
            let found = context.store.summaries(mailbox, &uids, EXPUNGED_AT_ONCE);
            let found = found.map_err(Refusal::selected)?;
            if found.iter().any(|found| found.flags.system.contains(SystemFlags::DELETED)) {
                let limit = context.settings.command_messages_max;
                cut = Some(Code::MessageLimit(limit, many.lowest));
            }
        } else {
            let gone = context.store.expunge_some(mailbox, Some(&uids), EXPUNGED_AT_ONCE);
            let gone = gone.map_err(Refusal::selected)?;
            many.room = many.room.saturating_sub(gone.len());
            many.lowest = gone.into_iter().min().or(many.lowest);
            self.expunged |= many.lowest.is_some();
        }
        if cut.is_none() && !many.left.is_empty() {
            return Ok(Flow::More(Work::Expunge(Self { many: Some(many), ..self })));
        }
        Ok(Done { expunged: self.expunged, cut, ..Done::text("EXPUNGE completed") }.into())
    }
}
