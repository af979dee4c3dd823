//! A client's own copy of what it sent takes the place of the one that the server kept for it.
//!
//! Where the server keeps a copy of each accepted message in the mailbox for sent mail, it marks that with
//! [`COPY_KEYWORD`]. Most clients then append theirs: the two have one Message-ID, and the client's, with
//! the flags and the date that it gave, comes in the place of the server's, in one commit (the store's
//! `replace`). So there is one copy, and it counts once.

use std::collections::BTreeSet;

use mail::message::HEADER_OCTETS_MAX;
use store::{MailboxId, NewMessage, Octets, SpecialUse, Uid, UidSet};

use crate::job::Context;
use crate::refusal::Refusal;
use crate::texts;

/// The keyword of a copy that the server kept.
pub const COPY_KEYWORD: &str = "$PecCopia";

/// The latest messages of the mailbox among which the server's copy is looked for: a client appends its
/// own within moments.
const LATEST_MESSAGES: u32 = 100;

/// The server's copy of this message, in the mailbox that it is appended to.
pub(crate) fn of(
    context: &Context<'_>,
    mailbox: MailboxId,
    message: &NewMessage,
) -> Result<Option<Uid>, Refusal> {
    let store = context.store;
    let target = store.mailbox_by_id(mailbox).map_err(Refusal::try_create)?;
    if target.special_use != Some(SpecialUse::Sent) {
        return Ok(None);
    }
    let latest = texts::latest(store.status(mailbox)?.uid_next, LATEST_MESSAGES);
    let mut kept = store.summaries(mailbox, &latest, LATEST_MESSAGES as usize)?;
    kept.retain(|one| one.flags.keywords.iter().any(|word| word.as_str() == COPY_KEYWORD));
    let Octets::Spooled(spooled) = &message.octets else { return Ok(None) };
    if kept.is_empty() {
        return Ok(None);
    }
    let beginning = spooled.read(0, HEADER_OCTETS_MAX as u64)?;
    let Some(message_id) = texts::message_id(&beginning) else { return Ok(None) };
    let kept: UidSet = kept.into_iter().map(|one| one.uid).collect();
    let identifiers = BTreeSet::from([message_id]);
    // One that cannot be read is left alone; the librarian, who reads all, tells the log of it.
    let same = texts::with_message_id(store, mailbox, &kept, &identifiers, &mut |_, _| {})?;
    Ok(same.iter().next())
}
