//! Annotations. Those of an account itself stand at mailbox 0, which no mailbox is.

use super::accounts;
use super::connection::{Db, get};
use super::numbers;
use super::txn::Txn;
use crate::annotation::{self, Annotations};
use crate::{AccountId, MailboxId, StoreError};

fn key(mailbox: Option<MailboxId>) -> i64 {
    mailbox.map_or(0, |mailbox| mailbox.0.cast_signed())
}

pub(super) fn all(
    db: &Db,
    account: AccountId,
    mailbox: Option<MailboxId>,
) -> Result<Annotations, StoreError> {
    match mailbox {
        Some(mailbox) if numbers::load(db, mailbox)?.account != account => {
            return Err(StoreError::NoSuchMailbox);
        }
        Some(_) => {}
        None => accounts::exists(db, account)?,
    }
    let all = "SELECT entry, value FROM annotations WHERE account = $1 AND mailbox = $2";
    let rows = db.query(all, &[&account.0.cast_signed(), &key(mailbox)])?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

pub(super) fn change(
    txn: &mut Txn<'_>,
    account: AccountId,
    mailbox: Option<MailboxId>,
    changes: &[(String, Option<Vec<u8>>)],
) -> Result<(), StoreError> {
    txn.lock(&[account].into())?;
    let mut annotations = all(txn.db, account, mailbox)?;
    let (owner, at) = (account.0.cast_signed(), key(mailbox));
    let sum = "SELECT coalesce(sum(octet_length(entry) + octet_length(value)), 0)::bigint
               FROM annotations WHERE account = $1 AND mailbox <> $2";
    let elsewhere = txn.db.first(sum, &[&owner, &at])?;
    let elsewhere: i64 = elsewhere.map_or(Ok(0), |row| get(&row, 0))?;
    let elsewhere = usize::try_from(elsewhere).unwrap_or(usize::MAX);
    if !annotation::change(&mut annotations, changes.to_vec(), elsewhere)? {
        return Ok(());
    }
    let delete = "DELETE FROM annotations WHERE account = $1 AND mailbox = $2";
    txn.db.execute(delete, &[&owner, &at])?;
    for (entry, value) in &annotations {
        let insert = "INSERT INTO annotations VALUES ($1, $2, $3, $4)";
        txn.db.execute(insert, &[&owner, &at, entry, value])?;
    }
    if let Some(mailbox) = mailbox {
        // RFC 7162 §3.2: a change of the mailbox, also to who knows nothing of annotations.
        let mut numbers = numbers::load(txn.db, mailbox)?;
        numbers.mod_seq += 1;
        numbers::save(txn, &numbers)?;
    }
    Ok(())
}
