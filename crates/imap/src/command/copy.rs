//! COPY, MOVE and their UID forms: add messages to another mailbox, and for MOVE take them from here.
//!
//! RFC 3501 §6.4.7; MOVE, RFC 6851 §3; COPYUID, RFC 4315 §3; OVERQUOTA, RFC 9208 §4.3.1; how many a COPY
//! takes, and how many a MOVE, RFC 9738 §3.1.

use imap_types::mailbox::Mailbox;
use store::{Copied, MailboxId, MailboxName, UidSet};

use super::Work;
use crate::enabled::Enabled;
use crate::grammar::{self, MessageSet};
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::selected::Places;

/// Messages that are moved at once, while everybody else who writes waits: some milliseconds.
const MOVED_AT_ONCE: usize = 1_000;

/// `copy = "COPY" SP sequence-set SP mailbox`, `move = "MOVE" SP sequence-set SP mailbox`
pub(crate) struct Copy {
    messages: MessageSet,
    target: MailboxName,
    by_uid: bool,
    moves: bool,
    /// What is left to be moved, once begun.
    left: Option<Places>,
    /// How many there are.
    all: usize,
    /// Some were moved.
    moved: bool,
    /// Those below were left where they are.
    cut: Option<Code>,
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
        let target = grammar::mailbox(target, enabled)?;
        Ok(Self { messages, target, by_uid, moves, left: None, all: 0, moved: false, cut: None })
    }

    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        self.left.as_ref().map(|left| (self.all - left.len(), self.all))
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let limit = context.settings.command_messages_max;
        let here = if self.moves { context.here_to_write()? } else { context.here()? };
        let from = here.mailbox;
        let mut left = match self.left.take() {
            Some(left) => left,
            None => {
                let mut left = here.places(&self.messages, self.by_uid)?;
                if self.moves {
                    self.cut = here.cut(&mut left, limit);
                }
                self.all = left.len();
                left
            }
        };
        let some =
            if self.moves { left.split_off(MOVED_AT_ONCE) } else { std::mem::take(&mut left) };
        let uids = here.uid_set(&some);
        // TRYCREATE is for commands that add to a mailbox; elsewhere its absence is NONEXISTENT.
        let target = context.store.mailbox(context.account, &self.target);
        let target = target.map_err(Refusal::try_create)?;
        if self.moves {
            self.move_some(&uids, from, target.id, context)?;
            if !left.is_empty() {
                self.left = Some(left);
                return Ok(Flow::More(Work::Copy(Box::new(self))));
            }
            let text =
                if self.moved { "MOVE completed" } else { "MOVE completed, nothing to move" };
            return Ok(Done { expunged: self.moved, cut: self.cut, ..Done::text(text) }.into());
        }
        let nothing = Done::text("COPY completed, nothing to copy");
        if uids.is_empty() {
            return Ok(nothing.into());
        }
        let limit = context.settings.saved_max();
        let beyond = uids.count().saturating_sub(limit);
        if beyond > 0 {
            // The lowest that could be copied with all above it: RFC 9738 §3.1.
            let lowest = uids.iter().nth(usize::try_from(beyond).unwrap_or(usize::MAX));
            return Err(Refusal::too_many(limit, lowest));
        }
        // All or none: RFC 3501 §6.4.7 wants the target as it was when any one copy fails.
        let copied = context.store.copy(from, &uids, target.id, context.at);
        Ok(match copied_uid(copied.map_err(Refusal::try_create)?) {
            Some(code) => Done::text("COPY completed").code(code).into(),
            None => nothing.into(),
        })
    }

    /// Each message is moved or left as it was, and not all of them or none: RFC 9051 §6.4.8. So that no
    /// other session waits for thousands.
    fn move_some(
        &mut self,
        uids: &UidSet,
        from: MailboxId,
        to: MailboxId,
        context: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        if uids.is_empty() {
            return Ok(());
        }
        let moved = context.store.move_messages(from, uids, to, context.at);
        if let Some(code) = copied_uid(moved.map_err(Refusal::try_create)?) {
            // Before the EXPUNGEs, so that a client knows what went where: RFC 6851 §4.3.
            context.out.untagged(&format!("OK [{code}] Moved"));
            self.moved = true;
        }
        Ok(())
    }
}

/// Which became which, when any did.
fn copied_uid(copied: Copied) -> Option<Code> {
    if copied.uids.is_empty() {
        return None;
    }
    let (were, are) = copied.uids.into_iter().unzip();
    Some(Code::CopyUid(copied.uid_validity, were, are))
}
