//! STATUS: the numbers of a mailbox without opening it.
//!
//! RFC 3501 §6.3.10; DELETED and DELETED-STORAGE, RFC 9208 §4.1.4; SIZE, RFC 8438.

use imap_types::mailbox::Mailbox;
use imap_types::status::StatusDataItemName as Item;
use store::MailboxName;

use crate::grammar;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;

/// `status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"`
pub(crate) struct Status {
    name: MailboxName,
    items: Vec<Item>,
}

impl Status {
    pub(crate) fn new(mailbox: &Mailbox<'_>, items: &[Item]) -> Result<Self, Refusal> {
        if items.is_empty() {
            return Err(Refusal::bad("STATUS of what? Name an item"));
        }
        if items.contains(&Item::HighestModSeq) {
            return Err(Refusal::bad("No such item: CONDSTORE is not announced"));
        }
        let mut once: Vec<Item> = Vec::new();
        for item in items {
            if !once.contains(item) {
                once.push(item.clone());
            }
        }
        Ok(Self { name: grammar::mailbox(mailbox)?, items: once })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = context.store.mailbox(context.account, &self.name)?;
        let status = context.store.status(mailbox.id)?;
        let values: Vec<String> = self
            .items
            .iter()
            .map(|item| match item {
                Item::Messages => format!("MESSAGES {}", status.messages),
                Item::Recent => format!("RECENT {}", status.recent),
                Item::UidNext => format!("UIDNEXT {}", status.uid_next.0),
                Item::UidValidity => format!("UIDVALIDITY {}", status.uid_validity.0),
                Item::Unseen => format!("UNSEEN {}", status.unseen),
                Item::Deleted => format!("DELETED {}", status.deleted),
                Item::DeletedStorage => format!("DELETED-STORAGE {}", status.deleted_octets),
                Item::Size => format!("SIZE {}", status.octets),
                Item::HighestModSeq => format!("HIGHESTMODSEQ {}", status.mod_seq.0),
            })
            .collect();
        context.out.text("* STATUS ");
        context.out.mailbox(&mailbox.name);
        context.out.text(&format!(" ({})\r\n", values.join(" ")));
        Ok(Done::text("STATUS completed").into())
    }
}
