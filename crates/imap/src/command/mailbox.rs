//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE: the mailboxes of an account and those it shows.
//!
//! RFC 3501 §6.3.3 to §6.3.7; USE, RFC 6154 §3; MAILBOXID, RFC 8474 §4.1; OLDNAME, RFC 9051 §6.3.9.7.

use store::{MailboxName, NewMailbox, SEPARATOR, SpecialUse, StoreError};

use crate::enabled::Enabled;
use crate::grammar;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::selected::Tell;

/// Special uses of one CREATE at most, each counted as often as it is named.
const USES_MAX: usize = 20;

/// `create = "CREATE" SP mailbox [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"]`
pub(crate) struct Create {
    name: MailboxName,
    /// As it was typed.
    typed: String,
    special_use: Option<SpecialUse>,
}

impl Create {
    /// What follows the verb.
    pub(crate) fn read(words: &mut Words<'_>, enabled: Enabled) -> Option<Result<Self, Refusal>> {
        words.space()?;
        let name = words.astring()?;
        let uses = if words.space().is_some() { uses(words)? } else { Vec::new() };
        words.end()?;
        Some(Self::new(&name, &uses, enabled))
    }

    /// A separator at the end announces mailboxes below: RFC 3501 §6.3.3. Any mailbox may have them.
    /// A mailbox has at most one of the uses that folders of this server have; the system folders are
    /// there for each, and a client may want one more.
    fn new(wire: &[u8], uses: &[String], enabled: Enabled) -> Result<Self, Refusal> {
        let mut separator = [0; 4];
        let separator = SEPARATOR.encode_utf8(&mut separator).as_bytes();
        let (name, mut typed) =
            grammar::new_name(wire.strip_suffix(separator).unwrap_or(wire), enabled)?;
        if wire.ends_with(separator) {
            typed.push(SEPARATOR);
        }
        let no_such_use = || Refusal::no(Code::UseAttr, "No mailbox can be for that here");
        let special_use = match uses {
            [] => None,
            [one] => {
                let is = |what: &SpecialUse| what.attribute()[1..].eq_ignore_ascii_case(one);
                Some(SpecialUse::ALL.into_iter().find(is).ok_or_else(no_such_use)?)
            }
            _ => return Err(no_such_use()),
        };
        Ok(Self { name, typed, special_use })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = NewMailbox { name: self.name, special_use: self.special_use };
        let mailbox = context.store.create_mailbox(context.account, mailbox, context.at)?;
        if context.enabled.rev2 && mailbox.name.as_str() != self.typed {
            context.out.text("* LIST () \"/\" ");
            context.out.mailbox(&mailbox.name);
            context.out.text(" (\"OLDNAME\" (");
            context.out.utf8_string(&self.typed);
            context.out.text("))\r\n");
        }
        Ok(Done::text("CREATE completed").code(Code::MailboxId(mailbox.id)).into())
    }
}

/// `"(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"`: the attributes without their backslash.
fn uses(words: &mut Words<'_>) -> Option<Vec<String>> {
    words.octet(b'(')?;
    words.skip_name("USE").then_some(())?;
    words.octet(b'(')?;
    let mut uses = Vec::new();
    while words.octet(b')').is_none() {
        if !uses.is_empty() {
            words.space()?;
        }
        words.octet(b'\\')?;
        uses.push(words.atom()?.to_owned());
        if uses.len() > USES_MAX {
            return None;
        }
    }
    words.octet(b')')?;
    Some(uses)
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
