//! EXPUNGE, UID EXPUNGE: remove the messages that are marked `\Deleted`.
//!
//! RFC 3501 §6.4.3; UID EXPUNGE, RFC 4315 §2.1; with QRESYNC, RFC 7162 §3.2.7, §3.2.9.

use crate::grammar::MessageSet;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;

/// `expunge = "EXPUNGE"`, `uid-expunge = "UID" SP "EXPUNGE" SP sequence-set`
pub(crate) struct Expunge {
    of: Option<MessageSet>,
}

impl Expunge {
    pub(crate) fn all() -> Self {
        Self { of: None }
    }

    pub(crate) fn of(messages: MessageSet) -> Self {
        Self { of: Some(messages) }
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
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
        let gone = context.store.expunge(mailbox, uids.as_ref()).map_err(Refusal::selected)?;
        let done = Done::text("EXPUNGE completed");
        Ok(Done { expunged: !gone.is_empty(), ..done }.into())
    }
}
