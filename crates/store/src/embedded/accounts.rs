//! Accounts in the index: rows, logins and what they hold.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::mailboxes;
use super::txn::Txn;
use crate::rules::{key, micros, time};
use crate::{
    Account, AccountChange, AccountId, Charge, Credentials, MailboxName, NewAccount, Owner, Quota,
    Role, SpecialUse, State, StoreError, Timestamp, Usage,
};

const COLUMNS: &str = "id, address, user_id, owner, role, state, phc, scram, octets_max,
                       messages_max, reserve, ordinary_mail, created";

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    let address: String = row.get(1)?;
    let damaged = |_| StoreError::Medium("an account's address cannot be read".into());
    let phc: Option<String> = row.get(6)?;
    let scram: Option<String> = row.get(7)?;
    Ok(Account {
        id: AccountId(row.get::<_, i64>(0)?.cast_unsigned()),
        address: mail::Address::parse(&address).map_err(damaged)?,
        user_id: row.get(2)?,
        owner: if row.get(3)? { Owner::Provider } else { Owner::Holder },
        role: match row.get(4)? {
            1 => Role::Author,
            2 => Role::ServiceMailbox,
            _ => Role::None,
        },
        state: if row.get(5)? { State::Suspended } else { State::Active },
        credentials: phc.zip(scram).map(|(phc, scram)| Credentials { phc, scram }),
        quota: quota(row, 8)?,
        ordinary_mail: row.get(11)?,
        created: time(row.get(12)?),
    })
}

/// The quota in the three columns from `at` on.
fn quota(row: &Row<'_>, at: usize) -> Result<Quota, rusqlite::Error> {
    Ok(Quota {
        octets_max: row.get::<_, i64>(at)?.cast_unsigned(),
        messages_max: row.get::<_, Option<i64>>(at + 1)?.map(i64::cast_unsigned),
        receipt_reserve_octets: row.get::<_, i64>(at + 2)?.cast_unsigned(),
    })
}

pub(super) fn by_id(db: &Connection, id: AccountId) -> Result<Option<Account>, StoreError> {
    let mut get = db.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE id = ?"))?;
    let mut rows = get.query([id.0.cast_signed()])?;
    rows.next()?.map(account).transpose()
}

pub(super) fn by_login(db: &Connection, login: &str) -> Result<Option<Account>, StoreError> {
    let mut get = db.prepare_cached("SELECT account FROM logins WHERE login = ?")?;
    let id: Option<i64> = get.query_row([key(login)], |row| row.get(0)).optional()?;
    id.map_or(Ok(None), |id| by_id(db, AccountId(id.cast_unsigned())))
}

pub(super) fn by_address(
    db: &Connection,
    address: &mail::Address,
) -> Result<Option<Account>, StoreError> {
    // A user ID may look like an address of somebody else.
    Ok(by_login(db, &address.to_string())?.filter(|account| account.address == *address))
}

pub(super) fn all(db: &Connection) -> Result<Vec<Account>, StoreError> {
    let mut get = db.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts"))?;
    let mut rows = get.query([])?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next()? {
        accounts.push(account(row)?);
    }
    accounts.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(accounts)
}

pub(super) fn exists(db: &Connection, id: AccountId) -> Result<(), StoreError> {
    let mut get = db.prepare_cached("SELECT 1 FROM accounts WHERE id = ?")?;
    if get.exists([id.0.cast_signed()])? { Ok(()) } else { Err(StoreError::NoSuchAccount) }
}

pub(super) fn usage(db: &Connection, id: AccountId) -> Result<Usage, StoreError> {
    let mut get = db.prepare_cached(
        "SELECT octets, messages, octets_max, messages_max, reserve FROM accounts WHERE id = ?",
    )?;
    let usage = get.query_row([id.0.cast_signed()], |row| {
        Ok(Usage {
            octets: row.get::<_, i64>(0)?.cast_unsigned(),
            messages: row.get::<_, i64>(1)?.cast_unsigned(),
            quota: quota(row, 2)?,
        })
    });
    usage.optional()?.ok_or(StoreError::NoSuchAccount)
}

/// Counts messages to an account, or refuses them.
pub(super) fn charge(
    txn: &Txn<'_>,
    id: AccountId,
    octets: u64,
    messages: u64,
    charge: Charge,
) -> Result<(), StoreError> {
    if !usage(txn.db, id)?.has_room(octets, messages, charge) {
        return Err(StoreError::OverQuota(id));
    }
    count(txn, id, octets.cast_signed(), messages.cast_signed())
}

/// Gives back what messages were charged.
pub(super) fn give_back(
    txn: &Txn<'_>,
    id: AccountId,
    octets: u64,
    messages: u64,
) -> Result<(), StoreError> {
    count(txn, id, -octets.cast_signed(), -messages.cast_signed())
}

fn count(txn: &Txn<'_>, id: AccountId, octets: i64, messages: i64) -> Result<(), StoreError> {
    let count = "UPDATE accounts SET octets = octets + ?, messages = messages + ? WHERE id = ?";
    txn.db.prepare_cached(count)?.execute([octets, messages, id.0.cast_signed()])?;
    Ok(())
}

pub(super) fn add(
    txn: &mut Txn<'_>,
    new: NewAccount,
    at: Timestamp,
) -> Result<AccountId, StoreError> {
    let address = new.address.to_string();
    txn.counters.account += 1;
    let id = AccountId(txn.counters.account);
    let mut logins = vec![key(&address)];
    logins.extend(new.user_id.as_deref().map(key));
    logins.dedup();
    for login in logins {
        if by_login(txn.db, &login)?.is_some() {
            return Err(StoreError::AccountExists);
        }
        txn.db
            .prepare_cached("INSERT INTO logins VALUES (?, ?)")?
            .execute(params![login, id.0.cast_signed()])?;
    }
    let role = match new.role {
        Role::None => 0,
        Role::Author => 1,
        Role::ServiceMailbox => 2,
    };
    let (phc, scram) = new.credentials.map(|c| (c.phc, c.scram)).unzip();
    txn.db
        .prepare_cached(&format!(
            "INSERT INTO accounts ({COLUMNS}, octets, messages)
             VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, 0, 0)"
        ))?
        .execute(params![
            id.0.cast_signed(),
            address,
            new.user_id,
            new.owner == Owner::Provider,
            role,
            phc,
            scram,
            new.quota.octets_max.cast_signed(),
            new.quota.messages_max.map(u64::cast_signed),
            new.quota.receipt_reserve_octets.cast_signed(),
            new.ordinary_mail,
            micros(at),
        ])?;
    let inbox = (MailboxName::inbox(), None);
    for (name, special_use) in std::iter::once(inbox).chain(SpecialUse::folders()) {
        mailboxes::add(txn, id, &name, special_use, true, at)?;
        mailboxes::subscribe(txn.db, id, &name, true)?;
    }
    Ok(id)
}

pub(super) fn change(
    txn: &Txn<'_>,
    id: AccountId,
    change: AccountChange,
) -> Result<(), StoreError> {
    exists(txn.db, id)?;
    let id = id.0.cast_signed();
    match change {
        AccountChange::Credentials(credentials) => {
            let (phc, scram) = credentials.map(|c| (c.phc, c.scram)).unzip();
            let set = "UPDATE accounts SET phc = ?, scram = ? WHERE id = ?";
            txn.db.prepare_cached(set)?.execute(params![phc, scram, id])?;
        }
        AccountChange::Quota(quota) => {
            let set = "UPDATE accounts SET octets_max = ?, messages_max = ?, reserve = ?
                       WHERE id = ?";
            txn.db.prepare_cached(set)?.execute(params![
                quota.octets_max.cast_signed(),
                quota.messages_max.map(u64::cast_signed),
                quota.receipt_reserve_octets.cast_signed(),
                id
            ])?;
        }
        AccountChange::State(state) => {
            let set = "UPDATE accounts SET state = ? WHERE id = ?";
            txn.db.prepare_cached(set)?.execute(params![state == State::Suspended, id])?;
        }
        AccountChange::OrdinaryMail(policy) => {
            let set = "UPDATE accounts SET ordinary_mail = ? WHERE id = ?";
            txn.db.prepare_cached(set)?.execute(params![policy, id])?;
        }
    }
    Ok(())
}

pub(super) fn remove(txn: &mut Txn<'_>, id: AccountId) -> Result<(), StoreError> {
    let account = by_id(txn.db, id)?.ok_or(StoreError::NoSuchAccount)?;
    for mailbox in mailboxes::all(txn.db, id)? {
        mailboxes::remove(txn, mailbox.id)?;
    }
    for login in account.user_id.into_iter().chain([account.address.to_string()]) {
        txn.db.prepare_cached("DELETE FROM logins WHERE login = ?")?.execute([key(&login)])?;
    }
    for table in [
        "DELETE FROM subscriptions WHERE account = ?",
        "DELETE FROM annotations WHERE account = ?",
        "DELETE FROM accounts WHERE id = ?",
    ] {
        txn.db.prepare_cached(table)?.execute([id.0.cast_signed()])?;
    }
    Ok(())
}
