//! SELECT, EXAMINE, CLOSE, UNSELECT: open a mailbox, and leave it.
//!
//! RFC 3501 §6.3.1, §6.3.2, §6.4.2; UNSELECT, RFC 3691; HIGHESTMODSEQ, RFC 7162 §3.1.2.1.

use imap_types::command::SelectParameter;
use imap_types::mailbox::Mailbox;
use store::MailboxName;

use crate::grammar;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::selected::{Selected, Tell};

/// `select = "SELECT" SP mailbox`, `examine = "EXAMINE" SP mailbox`
pub(crate) struct Select {
    name: MailboxName,
    read_only: bool,
    /// With the parameter CONDSTORE, RFC 7162 §3.1.8.
    pub(crate) condstore: bool,
}

impl Select {
    pub(crate) fn new(
        mailbox: &Mailbox<'_>,
        parameters: &[SelectParameter],
        read_only: bool,
    ) -> Result<Self, Refusal> {
        if parameters.iter().any(|parameter| *parameter != SelectParameter::CondStore) {
            return Err(Refusal::bad("No such parameter: QRESYNC is not announced"));
        }
        let condstore = !parameters.is_empty();
        Ok(Self { name: grammar::mailbox(mailbox)?, read_only, condstore })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        // Also when it fails, nothing is selected any more: RFC 3501 §6.3.1.
        if context.selected.take().is_some() {
            // What follows is about another mailbox: RFC 7162 §3.2.11.
            context.out.untagged("OK [CLOSED] The mailbox before is closed");
        }
        let mailbox = context.store.mailbox(context.account, &self.name)?;
        let opened = context.store.open(mailbox.id, !self.read_only)?;
        let status = opened.status;
        let first_unseen = opened.first_unseen;
        let mut selected = Selected::new(mailbox.id, opened, self.read_only);
        selected.condstore = context.condstore;
        let out = &mut *context.out;
        selected.write_flags(out);
        out.untagged(&format!("{} EXISTS", selected.uids().len()));
        out.untagged(&format!("{} RECENT", selected.recent_count()));
        if let Some(place) = first_unseen.and_then(|uid| selected.place(uid)) {
            out.untagged(&format!("OK [UNSEEN {}] The first not seen", place + 1));
        }
        out.untagged(&format!("OK [UIDVALIDITY {}] UIDs are valid", status.uid_validity.0));
        out.untagged(&format!("OK [UIDNEXT {}] The next UID", status.uid_next.0));
        out.untagged(&selected.highest_mod_seq());
        *context.selected = Some(Box::new(selected));
        let done = if self.read_only {
            Done::text("EXAMINE completed").code(Code::ReadOnly)
        } else {
            Done::text("SELECT completed").code(Code::ReadWrite)
        };
        Ok(done.tell(Tell::Nothing).into())
    }
}

/// Leaves the mailbox; CLOSE first removes what is marked `\Deleted`, and says nothing of it.
pub(crate) fn close(expunge: bool, context: &mut Context<'_>) -> Result<Flow, Refusal> {
    let here = context.here()?;
    let (mailbox, read_only) = (here.mailbox, here.read_only);
    if expunge && !read_only {
        context.store.expunge(mailbox, None).map_err(Refusal::selected)?;
    }
    *context.selected = None;
    let text = if expunge { "CLOSE completed" } else { "UNSELECT completed" };
    Ok(Done::text(text).into())
}
