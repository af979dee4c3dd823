//! STATUS: the numbers of a mailbox without opening it.
//!
//! RFC 3501 §6.3.10; SIZE, RFC 8438 §2; DELETED and DELETED-STORAGE, RFC 9208 §4.1.4; APPENDLIMIT, RFC
//! 7889 §3.1; HIGHESTMODSEQ, RFC 7162 §3.1.7; MAILBOXID, RFC 8474 §4.3. The items of extensions are read here, since imap-codec does not speak them all.

use store::{Mailbox, MailboxName, MailboxStatus, StoreError};

use crate::enabled::Enabled;
use crate::grammar;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::{mailbox_id, mod_seq};

/// Items of one STATUS at most, each counted as often as it is named.
const ITEMS_MAX: usize = 100;

/// One number of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    DeletedStorage,
    Size,
    AppendLimit,
    HighestModSeq,
    MailboxId,
}

impl Item {
    const ALL: [Self; 11] = [
        Self::Messages,
        Self::Recent,
        Self::UidNext,
        Self::UidValidity,
        Self::Unseen,
        Self::Deleted,
        Self::DeletedStorage,
        Self::Size,
        Self::AppendLimit,
        Self::HighestModSeq,
        Self::MailboxId,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Deleted => "DELETED",
            Self::DeletedStorage => "DELETED-STORAGE",
            Self::Size => "SIZE",
            Self::AppendLimit => "APPENDLIMIT",
            Self::HighestModSeq => "HIGHESTMODSEQ",
            Self::MailboxId => "MAILBOXID",
        }
    }

    fn value(self, mailbox: &Mailbox, status: &MailboxStatus, append_octets_max: u64) -> String {
        let number = match self {
            Self::Messages => status.messages,
            Self::Recent => status.recent,
            Self::UidNext => u64::from(status.uid_next.0.get()),
            Self::UidValidity => u64::from(status.uid_validity.0.get()),
            Self::Unseen => status.unseen,
            Self::Deleted => status.deleted,
            Self::DeletedStorage => status.deleted_octets,
            Self::Size => status.octets,
            Self::AppendLimit => append_octets_max,
            Self::HighestModSeq => mod_seq(status.mod_seq),
            Self::MailboxId => return format!("({})", mailbox_id(mailbox.id)),
        };
        number.to_string()
    }
}

/// The items of a STATUS, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Items(Vec<Item>);

impl Items {
    /// `"(" status-att *(SP status-att) ")"`
    pub(crate) fn read(words: &mut Words<'_>) -> Option<Result<Self, Refusal>> {
        words.octet(b'(')?;
        if words.octet(b')').is_some() {
            return Some(Err(Refusal::bad("STATUS of what? Name an item")));
        }
        let mut items = Vec::new();
        let mut unknown = false;
        for _ in 0..ITEMS_MAX {
            let name = words.name()?;
            match Item::ALL.into_iter().find(|item| item.as_str() == name) {
                Some(item) if items.contains(&item) => {}
                Some(item) => items.push(item),
                None => unknown = true,
            }
            if words.octet(b')').is_some() {
                let refusal = Refusal::bad("No such item of STATUS");
                return Some(if unknown { Err(refusal) } else { Ok(Self(items)) });
            }
            words.space()?;
        }
        None
    }

    pub(crate) fn ask_mod_seq(&self) -> bool {
        self.0.contains(&Item::HighestModSeq)
    }

    /// `* STATUS "INBOX" (...)`
    pub(crate) fn write(
        &self,
        mailbox: &Mailbox,
        context: &mut Context<'_>,
    ) -> Result<(), StoreError> {
        let status = context.store.status(mailbox.id)?;
        let append_octets_max = context.settings.append_octets_max;
        let value = |item: &Item| {
            let value = item.value(mailbox, &status, append_octets_max);
            format!("{} {value}", item.as_str())
        };
        let values: Vec<String> = self.0.iter().map(value).collect();
        context.out.text("* STATUS ");
        context.out.mailbox(&mailbox.name);
        context.out.text(&format!(" ({})\r\n", values.join(" ")));
        Ok(())
    }
}

/// `status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"`
pub(crate) struct Status {
    name: MailboxName,
    items: Items,
}

impl Status {
    /// What follows the verb.
    pub(crate) fn read(words: &mut Words<'_>, enabled: Enabled) -> Option<Result<Self, Refusal>> {
        words.space()?;
        let name = words.astring()?;
        words.space()?;
        let items = Items::read(words)?;
        words.end()?;
        Some(items.and_then(|items| Ok(Self { name: grammar::name(&name, enabled)?, items })))
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.items.ask_mod_seq()
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = context.store.mailbox(context.account, &self.name)?;
        self.items.write(&mailbox, context)?;
        Ok(Done::text("STATUS completed").into())
    }
}
