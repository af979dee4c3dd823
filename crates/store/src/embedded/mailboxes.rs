//! Mailboxes in the index: names, subscriptions, and the numbers that are kept as they change.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::accounts;
use super::messages;
use super::txn::Txn;
pub(super) use crate::numbers::Numbers;
use crate::rules::{self, micros, time, uid};
use crate::{
    AccountId, MAILBOXES_MAX, Mailbox, MailboxId, MailboxName, SUBSCRIPTIONS_MAX, SpecialUse,
    StoreError, Timestamp, UidSet, UidValidity,
};

const COLUMNS: &str = "id, account, name, special_use, system, uid_validity, created";

fn mailbox(row: &Row<'_>) -> Result<Mailbox, StoreError> {
    let special_use: Option<usize> = row.get::<_, Option<u8>>(3)?.map(usize::from);
    Ok(Mailbox {
        id: MailboxId(row.get::<_, i64>(0)?.cast_unsigned()),
        account: AccountId(row.get::<_, i64>(1)?.cast_unsigned()),
        name: name(&row.get::<_, String>(2)?)?,
        special_use: special_use.and_then(|at| SpecialUse::ALL.get(at).copied()),
        system: row.get(4)?,
        uid_validity: UidValidity(uid(row.get(5)?).0),
        created: time(row.get(6)?),
    })
}

fn name(text: &str) -> Result<MailboxName, StoreError> {
    MailboxName::parse(text)
        .ok_or_else(|| StoreError::Medium("a mailbox's name cannot be read".into()))
}

pub(super) fn by_id(db: &Connection, id: MailboxId) -> Result<Mailbox, StoreError> {
    let mut get = db.prepare_cached(&format!("SELECT {COLUMNS} FROM mailboxes WHERE id = ?"))?;
    let mut rows = get.query([id.0.cast_signed()])?;
    rows.next()?.map(mailbox).transpose()?.ok_or(StoreError::NoSuchMailbox)
}

pub(super) fn by_name(
    db: &Connection,
    account: AccountId,
    name: &MailboxName,
) -> Result<Mailbox, StoreError> {
    let get = format!("SELECT {COLUMNS} FROM mailboxes WHERE account = ? AND name = ?");
    let mut get = db.prepare_cached(&get)?;
    let mut rows = get.query(params![account.0.cast_signed(), name.as_str()])?;
    rows.next()?.map(mailbox).transpose()?.ok_or(StoreError::NoSuchMailbox)
}

/// The number of a mailbox, by its name.
pub(super) fn find(
    db: &Connection,
    account: AccountId,
    name: &MailboxName,
) -> Result<Option<MailboxId>, StoreError> {
    let find = "SELECT id FROM mailboxes WHERE account = ? AND name = ?";
    let found = db
        .prepare_cached(find)?
        .query_row(params![account.0.cast_signed(), name.as_str()], |row| row.get(0));
    Ok(found.optional()?.map(|id: i64| MailboxId(id.cast_unsigned())))
}

pub(super) fn all(db: &Connection, account: AccountId) -> Result<Vec<Mailbox>, StoreError> {
    accounts::exists(db, account)?;
    let get =
        format!("SELECT {COLUMNS} FROM mailboxes WHERE account = ? ORDER BY name <> 'INBOX', name");
    let mut get = db.prepare_cached(&get)?;
    let mut rows = get.query([account.0.cast_signed()])?;
    let mut mailboxes = Vec::new();
    while let Some(row) = rows.next()? {
        mailboxes.push(mailbox(row)?);
    }
    Ok(mailboxes)
}

/// The mailboxes below a name: those that begin with it and a separator.
fn below(db: &Connection, of: &Mailbox) -> Result<Vec<(MailboxId, MailboxName)>, StoreError> {
    // "/" is followed by "0": the range holds what begins with "name/".
    let get = "SELECT id, name FROM mailboxes WHERE account = ? AND name > ? AND name < ?";
    let (from, until) = (format!("{}/", of.name), format!("{}0", of.name));
    let mut get = db.prepare_cached(get)?;
    let mut rows = get.query(params![of.account.0.cast_signed(), from, until])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id = MailboxId(row.get::<_, i64>(0)?.cast_unsigned());
        found.push((id, name(&row.get::<_, String>(1)?)?));
    }
    Ok(found)
}

pub(super) fn add(
    txn: &mut Txn<'_>,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
    system: bool,
    at: Timestamp,
) -> Result<MailboxId, StoreError> {
    let count = "SELECT count(*) FROM mailboxes WHERE account = ?";
    let count: i64 =
        txn.db.prepare_cached(count)?.query_row([account.0.cast_signed()], |row| row.get(0))?;
    if count >= MAILBOXES_MAX as i64 {
        return Err(StoreError::TooManyMailboxes);
    }
    let uid_validity = rules::next_uid_validity(txn.counters.uid_validity, at)?;
    txn.counters.uid_validity = uid_validity.0.get();
    txn.counters.mailbox += 1;
    let id = MailboxId(txn.counters.mailbox);
    let special_use =
        special_use.and_then(|what| SpecialUse::ALL.iter().position(|known| *known == what));
    txn.db
        .prepare_cached(&format!(
            "INSERT INTO mailboxes ({COLUMNS}, uid_next, mod_seq, recent_from, messages, unseen,
                                    recent, deleted, octets, deleted_octets)
             VALUES (?, ?, ?, ?, ?, ?, ?, 1, 0, 1, 0, 0, 0, 0, 0, 0)"
        ))?
        .execute(params![
            id.0.cast_signed(),
            account.0.cast_signed(),
            name.as_str(),
            special_use.map(|at| at as i64),
            system,
            uid_validity.0.get(),
            micros(at),
        ])?;
    Ok(id)
}

fn add_parents(
    txn: &mut Txn<'_>,
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
    txn: &mut Txn<'_>,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
    at: Timestamp,
) -> Result<MailboxId, StoreError> {
    accounts::exists(txn.db, account)?;
    if find(txn.db, account, name)?.is_some() {
        return Err(StoreError::MailboxExists);
    }
    add_parents(txn, account, name, at)?;
    add(txn, account, name, special_use, false, at)
}

pub(super) fn delete(txn: &mut Txn<'_>, id: MailboxId) -> Result<(), StoreError> {
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
    let numbers = Numbers::load(txn.db, id)?;
    accounts::give_back(txn, numbers.account, numbers.octets, numbers.messages)?;
    messages::release_all(txn, id)?;
    for table in [
        "DELETE FROM messages WHERE mailbox = ?",
        "DELETE FROM expunged WHERE mailbox = ?",
        "DELETE FROM keywords WHERE mailbox = ?",
        "DELETE FROM annotations WHERE mailbox = ?",
        "DELETE FROM mailboxes WHERE id = ?",
    ] {
        txn.db.prepare_cached(table)?.execute([id.0.cast_signed()])?;
    }
    txn.changed(id);
    Ok(())
}

pub(super) fn rename(
    txn: &mut Txn<'_>,
    id: MailboxId,
    to: &MailboxName,
    at: Timestamp,
) -> Result<(), StoreError> {
    let from = by_id(txn.db, id)?;
    if from.system && !from.name.is_inbox() {
        return Err(StoreError::SystemMailbox);
    }
    if find(txn.db, from.account, to)?.is_some() {
        return Err(StoreError::MailboxExists);
    }
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
        txn.db
            .prepare_cached("UPDATE mailboxes SET name = ? WHERE id = ?")?
            .execute(params![name.as_str(), id.0.cast_signed()])?;
    }
    add_parents(txn, from.account, to, at)
}

pub(super) fn subscriptions(
    db: &Connection,
    account: AccountId,
) -> Result<Vec<MailboxName>, StoreError> {
    accounts::exists(db, account)?;
    let mut get =
        db.prepare_cached("SELECT name FROM subscriptions WHERE account = ? ORDER BY name")?;
    let mut rows = get.query([account.0.cast_signed()])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        names.push(name(&row.get::<_, String>(0)?)?);
    }
    Ok(names)
}

pub(super) fn subscribe(
    db: &Connection,
    account: AccountId,
    name: &MailboxName,
    subscribed: bool,
) -> Result<(), StoreError> {
    accounts::exists(db, account)?;
    let account = account.0.cast_signed();
    let entry = params![account, name.as_str()];
    if !subscribed {
        let delete = "DELETE FROM subscriptions WHERE account = ? AND name = ?";
        db.prepare_cached(delete)?.execute(entry)?;
        return Ok(());
    }
    if db.prepare_cached("INSERT OR IGNORE INTO subscriptions VALUES (?, ?)")?.execute(entry)? > 0 {
        let count = "SELECT count(*) FROM subscriptions WHERE account = ?";
        let count: i64 = db.prepare_cached(count)?.query_row([account], |row| row.get(0))?;
        if count > SUBSCRIPTIONS_MAX as i64 {
            return Err(StoreError::TooManyMailboxes);
        }
    }
    Ok(())
}

impl Numbers {
    pub(super) fn load(db: &Connection, id: MailboxId) -> Result<Self, StoreError> {
        let mut get = db.prepare_cached(
            "SELECT account, uid_validity, uid_next, mod_seq, recent_from, messages, unseen,
                    recent, deleted, octets, deleted_octets FROM mailboxes WHERE id = ?",
        )?;
        let numbers = get.query_row([id.0.cast_signed()], |row| {
            let number = |at| row.get(at).map(i64::cast_unsigned);
            Ok(Self {
                id,
                account: AccountId(number(0)?),
                uid_validity: UidValidity(uid(row.get(1)?).0),
                uid_next: row.get(2)?,
                mod_seq: number(3)?,
                recent_from: row.get(4)?,
                messages: number(5)?,
                unseen: number(6)?,
                recent: number(7)?,
                deleted: number(8)?,
                octets: number(9)?,
                deleted_octets: number(10)?,
            })
        });
        numbers.optional()?.ok_or(StoreError::NoSuchMailbox)
    }

    /// Saves them; listeners are to hear of it.
    pub(super) fn save(&self, txn: &mut Txn<'_>) -> Result<(), StoreError> {
        self.save_quietly(txn)?;
        txn.changed(self.id);
        Ok(())
    }

    /// Saves them where no message changed.
    pub(super) fn save_quietly(&self, txn: &Txn<'_>) -> Result<(), StoreError> {
        let counts = [self.messages, self.unseen, self.recent, self.deleted];
        let [messages, unseen, recent, deleted] = counts.map(u64::cast_signed);
        txn.db
            .prepare_cached(
                "UPDATE mailboxes SET uid_next = ?, mod_seq = ?, recent_from = ?, messages = ?,
                 unseen = ?, recent = ?, deleted = ?, octets = ?, deleted_octets = ?
                 WHERE id = ?",
            )?
            .execute(params![
                self.uid_next,
                self.mod_seq.cast_signed(),
                self.recent_from,
                messages,
                unseen,
                recent,
                deleted,
                self.octets.cast_signed(),
                self.deleted_octets.cast_signed(),
                self.id.0.cast_signed(),
            ])?;
        Ok(())
    }
}
