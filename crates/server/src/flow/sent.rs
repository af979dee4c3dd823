//! A copy of what a user sent, in the mailbox for sent mail: for clients that keep none.
//!
//! It comes with the commit of the acceptance, so that there is exactly one for each accepted message, and
//! it is what the client handed over, octet for octet. It counts as every message does: where it has no
//! room, the message is not taken. A client that appends a copy itself gets its own in the place of this
//! one (`imap::COPY_KEYWORD`); one that did so before it sent gets no other.

use std::collections::BTreeSet;

use mail::Address;
use store::{Charge, Delivery, Source, SpecialUse, Store, StoreError, SystemFlags};

use crate::{keywords, librarian};

/// The latest messages of *Posta inviata* among which the client's own copy is looked for before a message
/// is taken: one that was appended first was appended just now.
pub(super) const JUST_NOW: u32 = 32;

/// The copy of a message of this sender; none where a copy is already.
pub(super) fn copy(
    store: &dyn Store,
    sender: &Address,
    octets: &[u8],
    source: Source,
) -> Result<Option<Delivery>, StoreError> {
    let account = store.account_by_address(sender)?.ok_or(StoreError::NoSuchAccount)?;
    let mailboxes = store.mailboxes(account.id)?;
    let sent = mailboxes.into_iter().find(|one| one.special_use == Some(SpecialUse::Sent));
    let Some(sent) = sent else { return Ok(None) };
    if let Some(message_id) = imap::message_id(octets)
        && !librarian::copies(store, sent.id, &BTreeSet::from([message_id]), JUST_NOW)?.is_empty()
    {
        return Ok(None);
    }
    let mut flags = keywords::flags(&[imap::COPY_KEYWORD]);
    flags.system = SystemFlags::SEEN;
    let to = sender.clone();
    Ok(Some(Delivery { to, mailbox: sent.name, octets: source, flags, charge: Charge::Quota }))
}
