//! The texts that SEARCH looks into: one for each account that has a message of these octets.
//!
//! A text is found by looking through those of the account. That costs what the account's texts
//! are, and no message is read for it.

use super::connection::{Db, get, number, short};
use super::{clamp, plain};
use crate::{BlobId, Candidates, MailboxId, StoreError, Uid};

/// Characters of a text below which it is looked for in the messages themselves: so short a text is
/// in most of them.
const CHARACTERS_MIN: usize = 3;
/// Candidates at most: a text that is in more messages rules out too little to be worth the memory.
const CANDIDATES_MAX: usize = 1_000_000;

/// The account of a mailbox, and up to which UID the mailbox is indexed.
fn state(db: &Db, mailbox: MailboxId) -> Result<(i64, u32), StoreError> {
    let state = "SELECT account, indexed_to FROM mailboxes WHERE id = $1";
    let row = db.first(state, &[&mailbox.0.cast_signed()])?.ok_or(StoreError::NoSuchMailbox)?;
    Ok((get(&row, 0)?, short(&row, 1)?))
}

pub(super) fn indexed_to(db: &Db, mailbox: MailboxId) -> Result<u32, StoreError> {
    Ok(state(db, mailbox)?.1)
}

pub(super) fn missing(
    db: &Db,
    mailbox: MailboxId,
    blobs: &[BlobId],
) -> Result<Vec<BlobId>, StoreError> {
    let (account, _) = state(db, mailbox)?;
    let ids: Vec<i64> = blobs.iter().map(|blob| blob.0.cast_signed()).collect();
    let known = "SELECT blob FROM texts WHERE blob = ANY($1) AND account = $2";
    let mut known_blobs = std::collections::HashSet::new();
    for row in db.query(known, &[&ids, &account])? {
        known_blobs.insert(BlobId(number(&row, 0)?));
    }
    Ok(blobs.iter().copied().filter(|blob| !known_blobs.contains(blob)).collect())
}

pub(super) fn add(
    db: &Db,
    mailbox: MailboxId,
    up_to: Uid,
    texts: &[(BlobId, Option<String>)],
) -> Result<(), StoreError> {
    let (account, _) = state(db, mailbox)?;
    let blobs: Vec<i64> = texts.iter().map(|(blob, _)| blob.0.cast_signed()).collect();
    let texts: Vec<_> = texts.iter().map(|(_, text)| text.as_deref().map(plain)).collect();
    // Those that are gone by now leave nothing behind.
    let add = "INSERT INTO texts
               SELECT there.id, $3, new.text FROM unnest($1::bigint[], $2::text[]) AS new (id, text)
               JOIN (SELECT id FROM blobs WHERE id = ANY($1) ORDER BY id FOR SHARE) AS there
                   ON there.id = new.id
               ON CONFLICT DO NOTHING";
    db.execute(add, &[&blobs, &texts, &account])?;
    let set = "UPDATE mailboxes SET indexed_to = greatest(indexed_to, $1) WHERE id = $2";
    db.execute(set, &[&i64::from(up_to.0.get()), &mailbox.0.cast_signed()]).map(drop)
}

pub(super) fn find(
    db: &Db,
    mailbox: MailboxId,
    text: &str,
) -> Result<Option<Candidates>, StoreError> {
    let (account, indexed_to) = state(db, mailbox)?;
    if indexed_to == 0 || text.chars().count() < CHARACTERS_MIN {
        return Ok(None);
    }
    let find = "SELECT blob FROM texts
                WHERE account = $1 AND (text IS NULL OR position($2 IN text) > 0)
                ORDER BY blob LIMIT $3";
    let rows = db.query(find, &[&account, &plain(text), &clamp(CANDIDATES_MAX + 1)])?;
    let blobs = rows.iter().map(|row| Ok(BlobId(number(row, 0)?)));
    let blobs = blobs.collect::<Result<Vec<_>, StoreError>>()?;
    Ok((blobs.len() <= CANDIDATES_MAX).then_some(Candidates { indexed_to, blobs }))
}
