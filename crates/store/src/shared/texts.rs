//! The texts that SEARCH looks into: one for each account that has a message of these octets.
//!
//! A text is found by looking through those of the account. That costs what the account's texts
//! are, and no message is read for it.

use super::connection::{Db, get, number, short};
use super::{clamp, plain};
use crate::{BlobId, Candidates, MailboxId, MessageText, StoreError, Uid, Within};

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

/// The mailboxes with messages after those that are indexed, or that had some.
pub(super) fn behind(db: &Db) -> Result<Vec<MailboxId>, StoreError> {
    let behind = "SELECT id FROM mailboxes WHERE messages > 0 AND indexed_to < uid_next - 1";
    db.query(behind, &[])?.iter().map(|row| Ok(MailboxId(number(row, 0)?))).collect()
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
    texts: &[(BlobId, Option<MessageText>)],
) -> Result<(), StoreError> {
    let (account, _) = state(db, mailbox)?;
    let blobs: Vec<i64> = texts.iter().map(|(blob, _)| blob.0.cast_signed()).collect();
    let headers: Vec<_> =
        texts.iter().map(|(_, text)| text.as_ref().map(|text| plain(&text.header))).collect();
    let bodies: Vec<_> =
        texts.iter().map(|(_, text)| text.as_ref().map(|text| plain(&text.body))).collect();
    // The mailbox before its octets, as all who write: nobody waits for another in a ring.
    let set = "UPDATE mailboxes SET indexed_to = greatest(indexed_to, $1) WHERE id = $2";
    db.execute(set, &[&i64::from(up_to.0.get()), &mailbox.0.cast_signed()])?;
    // Those that are gone by now leave nothing behind.
    let add = "INSERT INTO texts
               SELECT there.id, $4, new.header, new.body
               FROM unnest($1::bigint[], $2::text[], $3::text[]) AS new (id, header, body)
               JOIN (SELECT id FROM blobs WHERE id = ANY($1) ORDER BY id FOR SHARE) AS there
                   ON there.id = new.id
               ON CONFLICT DO NOTHING";
    db.execute(add, &[&blobs, &headers, &bodies, &account]).map(drop)
}

pub(super) fn find(
    db: &Db,
    mailbox: MailboxId,
    text: &str,
    within: Within,
) -> Result<Option<Candidates>, StoreError> {
    let (account, indexed_to) = state(db, mailbox)?;
    if indexed_to == 0 || text.chars().count() < CHARACTERS_MIN {
        return Ok(None);
    }
    let (in_header, in_body) = match within {
        Within::Message => (true, true),
        Within::Header => (true, false),
        Within::Body => (false, true),
    };
    let find = "SELECT blob, header IS NOT NULL FROM texts
                WHERE account = $1 AND (header IS NULL
                    OR $3 AND position($2 IN header) > 0 OR $4 AND position($2 IN body) > 0)
                ORDER BY blob LIMIT $5";
    let most = clamp(CANDIDATES_MAX + 1);
    let rows = db.query(find, &[&account, &plain(text), &in_header, &in_body, &most])?;
    if rows.len() > CANDIDATES_MAX {
        return Ok(None);
    }
    let (mut sure, mut unsure) = (Vec::new(), Vec::new());
    for row in rows {
        let blob = BlobId(number(&row, 0)?);
        // What a text cannot hold here was replaced in it, and may be what was found.
        let is_sure = get(&row, 1)? && text.chars().all(char::is_alphanumeric);
        if is_sure { sure.push(blob) } else { unsure.push(blob) }
    }
    Ok(Some(Candidates { indexed_to, sure, unsure }))
}
