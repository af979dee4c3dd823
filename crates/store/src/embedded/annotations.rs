//! Annotations in the index. Those of an account itself stand at mailbox 0, which no mailbox is.

use rusqlite::{Connection, params};

use super::accounts;
use super::txn::Txn;
use crate::annotation::{self, Annotations};
use crate::numbers::Numbers;
use crate::{AccountId, MailboxId, StoreError};

fn key(mailbox: Option<MailboxId>) -> i64 {
    mailbox.map_or(0, |mailbox| mailbox.0.cast_signed())
}

/// Refuses a mailbox that is not the account's.
fn check(
    db: &Connection,
    account: AccountId,
    mailbox: Option<MailboxId>,
) -> Result<(), StoreError> {
    match mailbox {
        Some(mailbox) if Numbers::load(db, mailbox)?.account != account => {
            Err(StoreError::NoSuchMailbox)
        }
        Some(_) => Ok(()),
        None => accounts::by_id(db, account)?.map(drop).ok_or(StoreError::NoSuchAccount),
    }
}

pub(super) fn all(
    db: &Connection,
    account: AccountId,
    mailbox: Option<MailboxId>,
) -> Result<Annotations, StoreError> {
    check(db, account, mailbox)?;
    let get = "SELECT entry, value FROM annotations WHERE account = ? AND mailbox = ?";
    let mut get = db.prepare_cached(get)?;
    let rows = get
        .query_map((account.0.cast_signed(), key(mailbox)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn change(
    txn: &mut Txn<'_>,
    account: AccountId,
    mailbox: Option<MailboxId>,
    changes: Vec<(String, Option<Vec<u8>>)>,
) -> Result<(), StoreError> {
    let mut annotations = all(txn.db, account, mailbox)?;
    let (owner, at) = (account.0.cast_signed(), key(mailbox));
    let sum = "SELECT coalesce(sum(length(CAST(entry AS BLOB)) + length(value)), 0)
               FROM annotations WHERE account = ? AND mailbox <> ?";
    let elsewhere: i64 = txn.db.prepare_cached(sum)?.query_row((owner, at), |row| row.get(0))?;
    let elsewhere = usize::try_from(elsewhere).unwrap_or(usize::MAX);
    if !annotation::change(&mut annotations, changes, elsewhere)? {
        return Ok(());
    }
    txn.db
        .prepare_cached("DELETE FROM annotations WHERE account = ? AND mailbox = ?")?
        .execute((owner, at))?;
    let mut insert = txn.db.prepare_cached("INSERT INTO annotations VALUES (?, ?, ?, ?)")?;
    for (entry, value) in &annotations {
        insert.execute(params![owner, at, entry, value])?;
    }
    drop(insert);
    if let Some(mailbox) = mailbox {
        // RFC 7162 §3.2: a change of the mailbox, also to who knows nothing of annotations.
        let mut numbers = Numbers::load(txn.db, mailbox)?;
        numbers.mod_seq += 1;
        numbers.save(txn)?;
    }
    Ok(())
}
