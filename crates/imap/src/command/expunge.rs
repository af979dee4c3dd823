//! EXPUNGE, UID EXPUNGE: remove the messages that are marked `\Deleted`.
//!
//! RFC 3501 §6.4.3; UID EXPUNGE, RFC 4315 §2.1; with QRESYNC, RFC 7162 §3.2.7, §3.2.9.

use super::Work;
use crate::grammar::MessageSet;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;

/// Messages that are removed at once, while everybody else who writes waits: some milliseconds.
pub(super) const EXPUNGED_AT_ONCE: usize = 1_000;

/// `expunge = "EXPUNGE"`, `uid-expunge = "UID" SP "EXPUNGE" SP sequence-set`
pub(crate) struct Expunge {
    of: Option<MessageSet>,
    /// Some were removed.
    expunged: bool,
}

impl Expunge {
    pub(crate) fn all() -> Self {
        Self { of: None, expunged: false }
    }

    pub(crate) fn of(messages: MessageSet) -> Self {
        Self { of: Some(messages), expunged: false }
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let here = context.here_to_write()?;
        let mailbox = here.mailbox;
        let uids = match &self.of {
            None => None,
            Some(set) => {
                let places = here.places(set, true)?;
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
}
