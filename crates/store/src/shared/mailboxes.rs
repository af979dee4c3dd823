//! Mailboxes and subscriptions.

use tokio_postgres::Row;

use super::connection::{Db, get, number, short};
use super::txn::Txn;
use super::{accounts, messages, numbers};
use crate::rules::{self, micros, time, uid};
use crate::{
    AccountId, MAILBOXES_MAX, Mailbox, MailboxId, MailboxName, SUBSCRIPTIONS_MAX, SpecialUse,
    StoreError, Timestamp, UidSet, UidValidity,
};

const COLUMNS: &str = "id, account, name, special_use, system, uid_validity, created";

fn mailbox(row: &Row) -> Result<Mailbox, StoreError> {
    let special_use = get::<Option<i64>>(row, 3)?.and_then(|at| usize::try_from(at).ok());
    Ok(Mailbox {
        id: MailboxId(number(row, 0)?),
        account: AccountId(number(row, 1)?),
        name: name(get(row, 2)?)?,
        special_use: special_use.and_then(|at| SpecialUse::ALL.get(at).copied()),
        system: get(row, 4)?,
        uid_validity: UidValidity(uid(short(row, 5)?).0),
        created: time(get(row, 6)?),
    })
}

fn name(text: &str) -> Result<MailboxName, StoreError> {
    MailboxName::parse(text)
        .ok_or_else(|| StoreError::Medium("a mailbox's name cannot be read".into()))
}

pub(super) fn by_id(db: &Db, id: MailboxId) -> Result<Mailbox, StoreError> {
    let find = format!("SELECT {COLUMNS} FROM mailboxes WHERE id = $1");
    let row = db.first(&find, &[&id.0.cast_signed()])?.ok_or(StoreError::NoSuchMailbox)?;
    mailbox(&row)
}

pub(super) fn by_name(
    db: &Db,
    account: AccountId,
    name: &MailboxName,
) -> Result<Mailbox, StoreError> {
    let find = format!("SELECT {COLUMNS} FROM mailboxes WHERE account = $1 AND name = $2");
    let row = db.first(&find, &[&account.0.cast_signed(), &name.as_str()])?;
    mailbox(&row.ok_or(StoreError::NoSuchMailbox)?)
}

/// The number of a mailbox, by its name.
pub(super) fn find(
    db: &Db,
    account: AccountId,
    name: &MailboxName,
) -> Result<Option<MailboxId>, StoreError> {
    let find = "SELECT id FROM mailboxes WHERE account = $1 AND name = $2";
    let row = db.first(find, &[&account.0.cast_signed(), &name.as_str()])?;
    row.map(|row| Ok(MailboxId(number(&row, 0)?))).transpose()
}

pub(super) fn all(db: &Db, account: AccountId) -> Result<Vec<Mailbox>, StoreError> {
    accounts::exists(db, account)?;
    let all = format!(
        "SELECT {COLUMNS} FROM mailboxes WHERE account = $1 ORDER BY name <> 'INBOX', name"
    );
    db.query(&all, &[&account.0.cast_signed()])?.iter().map(mailbox).collect()
}

/// The mailboxes below a name: those that begin with it and a separator.
fn below(db: &Db, of: &Mailbox) -> Result<Vec<(MailboxId, MailboxName)>, StoreError> {
    // "/" is followed by "0": the range holds what begins with "name/".
    let below = "SELECT id, name FROM mailboxes WHERE account = $1 AND name > $2 AND name < $3";
    let (from, until) = (format!("{}/", of.name), format!("{}0", of.name));
    let rows = db.query(below, &[&of.account.0.cast_signed(), &from, &until])?;
    rows.iter().map(|row| Ok((MailboxId(number(row, 0)?), name(get(row, 1)?)?))).collect()
}

/// A UIDVALIDITY that no mailbox has or had.
fn uid_validity(txn: &Txn<'_>, at: Timestamp) -> Result<UidValidity, StoreError> {
    let last = "SELECT value FROM counters WHERE name = 'uid_validity' FOR UPDATE";
    let last = txn.db.first(last, &[])?.map_or(Ok(0), |row| short(&row, 0))?;
    let next = rules::next_uid_validity(last, at)?;
    let set = "UPDATE counters SET value = $1 WHERE name = 'uid_validity'";
    txn.db.execute(set, &[&i64::from(next.0.get())])?;
    Ok(next)
}

/// Adds a mailbox to an account, which is locked.
pub(super) fn add(
    txn: &Txn<'_>,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
    system: bool,
    at: Timestamp,
) -> Result<MailboxId, StoreError> {
    let count = "SELECT count(*) FROM mailboxes WHERE account = $1";
    let count = txn.db.first(count, &[&account.0.cast_signed()])?;
    if count.map_or(Ok(0), |row| number(&row, 0))? >= MAILBOXES_MAX as u64 {
        return Err(StoreError::TooManyMailboxes);
    }
    let uid_validity = uid_validity(txn, at)?;
    let id = MailboxId(txn.next("mailbox_numbers")?);
    let special_use =
        special_use.and_then(|what| SpecialUse::ALL.iter().position(|known| *known == what));
    let insert = format!(
        "INSERT INTO mailboxes ({COLUMNS}, uid_next, mod_seq, recent_from, messages, unseen,
             recent, deleted, octets, deleted_octets, keywords, indexed_to, touched)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 0, 1, 0, 0, 0, 0, 0, 0, '{{}}', 0, now())"
    );
    txn.db.execute(
        &insert,
        &[
            &id.0.cast_signed(),
            &account.0.cast_signed(),
            &name.as_str(),
            &special_use.map(|at| at as i64),
            &system,
            &i64::from(uid_validity.0.get()),
            &micros(at),
        ],
    )?;
    Ok(id)
}

fn add_parents(
    txn: &Txn<'_>,
    account: AccountId,
    name: &MailboxName,
    at: Timestamp,
) -> Result<(), StoreError> {
    for parent in name.parents() {
        if find(txn.db, account, &parent)?.is_none() {
            add(txn, account, &parent, None, false, at)?;
        }
    }
    Ok(())
}

pub(super) fn create(
    txn: &Txn<'_>,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
    at: Timestamp,
) -> Result<MailboxId, StoreError> {
    accounts::lock(txn, account)?;
    if find(txn.db, account, name)?.is_some() {
        return Err(StoreError::MailboxExists);
    }
    add_parents(txn, account, name, at)?;
    add(txn, account, name, special_use, false, at)
}

pub(super) fn delete(txn: &mut Txn<'_>, id: MailboxId) -> Result<(), StoreError> {
    txn.lock_mailboxes(&[id])?;
    let mailbox = by_id(txn.db, id)?;
    if mailbox.system {
        return Err(StoreError::SystemMailbox);
    }
    if !below(txn.db, &mailbox)?.is_empty() {
        return Err(StoreError::HasChildren);
    }
    remove(txn, id)
}

/// Removes a mailbox with what is in it, and gives back what that was charged.
pub(super) fn remove(txn: &mut Txn<'_>, id: MailboxId) -> Result<(), StoreError> {
    let numbers = numbers::load(txn.db, id)?;
    accounts::give_back(txn, numbers.account, numbers.octets, numbers.messages)?;
    messages::release_all(txn, id)?;
    for delete in [
        "DELETE FROM messages WHERE mailbox = $1",
        "DELETE FROM expunged WHERE mailbox = $1",
        "DELETE FROM annotations WHERE mailbox = $1",
        "DELETE FROM mailboxes WHERE id = $1",
    ] {
        txn.db.execute(delete, &[&id.0.cast_signed()])?;
    }
    txn.changed.mailboxes.insert(id);
    Ok(())
}

pub(super) fn rename(
    txn: &mut Txn<'_>,
    id: MailboxId,
    to: &MailboxName,
    at: Timestamp,
) -> Result<(), StoreError> {
    txn.lock_mailboxes(&[id])?;
    let from = by_id(txn.db, id)?;
    if from.system && !from.name.is_inbox() {
        return Err(StoreError::SystemMailbox);
    }
    if find(txn.db, from.account, to)?.is_some() {
        return Err(StoreError::MailboxExists);
    }
    txn.changed.names.insert(from.account);
    if from.name.is_inbox() {
        let target = create(txn, from.account, to, None, at)?;
        messages::transfer(txn, id, &UidSet::all(), target, at)?;
        return Ok(());
    }
    let mut moved = below(txn.db, &from)?;
    moved.push((id, from.name.clone()));
    for (id, name) in moved {
        let name = name.moved(&from.name, to);
        if !rules::name_fits(&name) {
            return Err(StoreError::TooManyMailboxes);
        }
        let set = "UPDATE mailboxes SET name = $1 WHERE id = $2";
        txn.db.execute(set, &[&name.as_str(), &id.0.cast_signed()])?;
    }
    add_parents(txn, from.account, to, at)
}

pub(super) fn subscriptions(db: &Db, account: AccountId) -> Result<Vec<MailboxName>, StoreError> {
    accounts::exists(db, account)?;
    let all = "SELECT name FROM subscriptions WHERE account = $1 ORDER BY name";
    db.query(all, &[&account.0.cast_signed()])?.iter().map(|row| name(get(row, 0)?)).collect()
}

pub(super) fn subscribe(
    txn: &Txn<'_>,
    account: AccountId,
    name: &MailboxName,
    subscribed: bool,
) -> Result<(), StoreError> {
    accounts::lock(txn, account)?;
    let (account, name) = (account.0.cast_signed(), name.as_str());
    if !subscribed {
        let delete = "DELETE FROM subscriptions WHERE account = $1 AND name = $2";
        return txn.db.execute(delete, &[&account, &name]).map(drop);
    }
    let insert = "INSERT INTO subscriptions VALUES ($1, $2) ON CONFLICT DO NOTHING";
    if txn.db.execute(insert, &[&account, &name])? > 0 {
        let count = "SELECT count(*) FROM subscriptions WHERE account = $1";
        let count = txn.db.first(count, &[&account])?.map_or(Ok(0), |row| number(&row, 0))?;
        if count > SUBSCRIPTIONS_MAX as u64 {
            return Err(StoreError::TooManyMailboxes);
        }
    }
    Ok(())
}
