//! COPY, MOVE and their UID forms: add messages to another mailbox, and for MOVE take them from here.
//!
//! RFC 3501 §6.4.7; MOVE, RFC 6851 §3; COPYUID, RFC 4315 §3; OVERQUOTA, RFC 9208 §4.3.1.

use imap_types::mailbox::Mailbox;
use store::MailboxName;

use crate::enabled::Enabled;
use crate::grammar::{self, MessageSet};
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;

/// `copy = "COPY" SP sequence-set SP mailbox`, `move = "MOVE" SP sequence-set SP mailbox`
pub(crate) struct Copy {
    messages: MessageSet,
    target: MailboxName,
    by_uid: bool,
    moves: bool,
}

impl Copy {
    pub(crate) fn new(
        messages: MessageSet,
        target: &Mailbox<'_>,
        by_uid: bool,
        moves: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        if enabled.uid_only && !by_uid {
            return Err(Refusal::uid_required());
        }
        Ok(Self { messages, target: grammar::mailbox(target, enabled)?, by_uid, moves })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let here = if self.moves { context.here_to_write()? } else { context.here()? };
        let from = here.mailbox;
        let places = here.places(&self.messages, self.by_uid)?;
        let uids = here.uid_set(&places);
        // TRYCREATE is for commands that add to a mailbox; elsewhere its absence is NONEXISTENT.
        let target = context.store.mailbox(context.account, &self.target);
        let target = target.map_err(Refusal::try_create)?;
        let (text, none) = if self.moves {
            ("MOVE completed", "MOVE completed, nothing to move")
        } else {
            ("COPY completed", "COPY completed, nothing to copy")
        };
        if uids.is_empty() {
            return Ok(Done::text(none).into());
        }
        // All or none: RFC 3501 §6.4.7 wants the target as it was when any one copy fails.
        let copied = if self.moves {
            context.store.move_messages(from, &uids, target.id, context.at)
        } else {
            context.store.copy(from, &uids, target.id, context.at)
        };
        let copied = copied.map_err(Refusal::try_create)?;
        if copied.uids.is_empty() {
            return Ok(Done::text(none).into());
        }
        let (were, are) = copied.uids.into_iter().unzip();
        let code = Code::CopyUid(copied.uid_validity, were, are);
        if self.moves {
            // Before the EXPUNGEs, so that a client knows what went where: RFC 6851 §4.3.
            context.out.untagged(&format!("OK [{code}] Moved"));
            return Ok(Done { expunged: true, ..Done::text(text) }.into());
        }
        Ok(Done::text(text).code(code).into())
    }
}
