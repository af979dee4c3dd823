//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE: the mailboxes of an account and those it shows.
//!
//! RFC 3501 §6.3.3 to §6.3.7.

use imap_types::mailbox::Mailbox;
use store::{MailboxName, NewMailbox, SEPARATOR, StoreError};

use crate::grammar;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::selected::Tell;

/// `create = "CREATE" SP mailbox`
pub(crate) struct Create {
    name: MailboxName,
}

impl Create {
    /// A separator at the end announces mailboxes below: RFC 3501 §6.3.3. Any mailbox may have them.
    pub(crate) fn new(mailbox: &Mailbox<'_>) -> Result<Self, Refusal> {
        let wire = grammar::mailbox_wire(mailbox);
        let mut separator = [0; 4];
        let separator = SEPARATOR.encode_utf8(&mut separator).as_bytes();
        let name = grammar::name(wire.strip_suffix(separator).unwrap_or(wire))?;
        Ok(Self { name })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = NewMailbox { name: self.name, special_use: None };
        context.store.create_mailbox(context.account, mailbox, context.at)?;
        Ok(Done::text("CREATE completed").into())
    }
}

/// `delete = "DELETE" SP mailbox`
pub(crate) struct Delete {
    pub(crate) name: MailboxName,
}

impl Delete {
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = context.store.mailbox(context.account, &self.name)?;
        context.store.delete_mailbox(mailbox.id)?;
        if context.selected.as_ref().is_some_and(|here| here.mailbox == mailbox.id) {
            *context.selected = None;
        }
        Ok(Done::text("DELETE completed").into())
    }
}

/// `rename = "RENAME" SP mailbox SP mailbox`
pub(crate) struct Rename {
    pub(crate) from: MailboxName,
    pub(crate) to: MailboxName,
}

impl Rename {
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = context.store.mailbox(context.account, &self.from)?;
        // RFC 3501 §6.3.5 would move its messages away and leave it empty: that surprises people,
        // and INBOX is a system folder like the others.
        if mailbox.name.is_inbox() {
            return Err(StoreError::SystemMailbox.into());
        }
        context.store.rename_mailbox(mailbox.id, &self.to, context.at)?;
        Ok(Done::text("RENAME completed").into())
    }
}

/// `subscribe = "SUBSCRIBE" SP mailbox`, `unsubscribe = "UNSUBSCRIBE" SP mailbox`
pub(crate) struct Subscribe {
    pub(crate) name: MailboxName,
    pub(crate) subscribed: bool,
}

impl Subscribe {
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        if self.subscribed {
            // Only to what is there; what goes later stays subscribed, RFC 3501 §6.3.6.
            context.store.mailbox(context.account, &self.name)?;
        }
        context.store.subscribe(context.account, &self.name, self.subscribed)?;
        let text = if self.subscribed { "SUBSCRIBE completed" } else { "UNSUBSCRIBE completed" };
        Ok(Done::text(text).tell(Tell::All).into())
    }
}
