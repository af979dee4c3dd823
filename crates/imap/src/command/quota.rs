//! GETQUOTA, GETQUOTAROOT, SETQUOTA: what an account holds and may hold.
//!
//! RFC 9208 §4.1; STORAGE, §5.1; MESSAGE, §5.2, which is named only where messages are limited. Each account has one quota root, with an empty name, over all its mailboxes. Only
//! the provider sets quotas, and not by IMAP.

use imap_types::mailbox::Mailbox;
use store::MailboxName;

use crate::enabled::Enabled;
use crate::grammar;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;

/// STORAGE counts in units of so many octets, RFC 9208 §5.1.
const STORAGE_UNIT_OCTETS: u64 = 1024;

/// `getquota = "GETQUOTA" SP quota-root-name`, `getquotaroot = "GETQUOTAROOT" SP mailbox`
pub(crate) struct GetQuota {
    /// The mailbox whose root is asked for.
    mailbox: Option<MailboxName>,
}

/// The answer to any SETQUOTA.
pub(crate) fn not_to_be_set() -> Refusal {
    Refusal::no(Code::NoPerm, "Quotas are set by your provider")
}

impl GetQuota {
    pub(crate) fn of_root(root: &[u8]) -> Result<Self, Refusal> {
        if root.is_empty() {
            Ok(Self { mailbox: None })
        } else {
            Err(Refusal::no(Code::NonExistent, "The one quota root is \"\""))
        }
    }

    pub(crate) fn of_mailbox(mailbox: &Mailbox<'_>, enabled: Enabled) -> Result<Self, Refusal> {
        Ok(Self { mailbox: Some(grammar::mailbox(mailbox, enabled)?) })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let text = if let Some(name) = &self.mailbox {
            let mailbox = context.store.mailbox(context.account, name)?;
            context.out.text("* QUOTAROOT ");
            context.out.mailbox(&mailbox.name);
            context.out.text(" \"\"\r\n");
            "GETQUOTAROOT completed"
        } else {
            "GETQUOTA completed"
        };
        let usage = context.store.usage(context.account)?;
        let used = usage.octets.div_ceil(STORAGE_UNIT_OCTETS);
        let limit = usage.quota.octets_max / STORAGE_UNIT_OCTETS;
        let mut resources = format!("STORAGE {used} {limit}");
        if let Some(messages_max) = usage.quota.messages_max {
            resources.push_str(&format!(" MESSAGE {} {messages_max}", usage.messages));
        }
        context.out.untagged(&format!("QUOTA \"\" ({resources})"));
        Ok(Done::text(text).into())
    }
}
