//! Accounts: rows, logins and what they hold.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::connection::{Db, get, number};
use super::txn::Txn;
use super::{mailboxes, plain};
use crate::rules::{key, micros, time};
use crate::{
    Account, AccountChange, AccountId, Charge, Credentials, MailboxName, NewAccount, Owner, Quota,
    Role, SpecialUse, State, StoreError, Timestamp, Usage,
};

const COLUMNS: &str = "id, address, user_id, owner, role, state, phc, scram, octets_max,
                       messages_max, reserve, ordinary_mail, created";

fn account(row: &Row) -> Result<Account, StoreError> {
    let address: String = get(row, 1)?;
    let damaged = |_| StoreError::Medium("an account's address cannot be read".into());
    let (phc, scram): (Option<String>, Option<String>) = (get(row, 6)?, get(row, 7)?);
    Ok(Account {
        id: AccountId(number(row, 0)?),
        address: mail::Address::parse(&address).map_err(damaged)?,
        user_id: get(row, 2)?,
        owner: if number(row, 3)? == 1 { Owner::Provider } else { Owner::Holder },
        role: match number(row, 4)? {
            1 => Role::Author,
            2 => Role::ServiceMailbox,
            _ => Role::None,
        },
        state: if number(row, 5)? == 1 { State::Suspended } else { State::Active },
        credentials: phc.zip(scram).map(|(phc, scram)| Credentials { phc, scram }),
        quota: quota(row, 8)?,
        ordinary_mail: get(row, 11)?,
        created: time(get(row, 12)?),
    })
}

/// The quota in the three columns from `at` on.
fn quota(row: &Row, at: usize) -> Result<Quota, StoreError> {
    Ok(Quota {
        octets_max: number(row, at)?,
        messages_max: get::<Option<i64>>(row, at + 1)?.map(i64::cast_unsigned),
        receipt_reserve_octets: number(row, at + 2)?,
    })
}

pub(super) fn by_id(db: &Db, id: AccountId) -> Result<Option<Account>, StoreError> {
    let get = format!("SELECT {COLUMNS} FROM accounts WHERE id = $1");
    db.first(&get, &[&id.0.cast_signed()])?.as_ref().map(account).transpose()
}

pub(super) fn by_login(db: &Db, login: &str) -> Result<Option<Account>, StoreError> {
    let get = format!(
        "SELECT {COLUMNS} FROM accounts WHERE id = (SELECT account FROM logins WHERE login = $1)"
    );
    db.first(&get, &[&plain(&key(login))])?.as_ref().map(account).transpose()
}

pub(super) fn by_address(db: &Db, address: &mail::Address) -> Result<Option<Account>, StoreError> {
    // A user ID may look like an address of somebody else.
    Ok(by_login(db, &address.to_string())?.filter(|account| account.address == *address))
}

pub(super) fn all(db: &Db) -> Result<Vec<Account>, StoreError> {
    let rows = db.query(&format!("SELECT {COLUMNS} FROM accounts"), &[])?;
    let mut accounts = rows.iter().map(account).collect::<Result<Vec<_>, _>>()?;
    accounts.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(accounts)
}

pub(super) fn exists(db: &Db, id: AccountId) -> Result<(), StoreError> {
    let found = db.first("SELECT 1 FROM accounts WHERE id = $1", &[&id.0.cast_signed()])?;
    found.map(drop).ok_or(StoreError::NoSuchAccount)
}

/// Locks an account that must be there.
pub(super) fn lock(txn: &Txn<'_>, id: AccountId) -> Result<(), StoreError> {
    let there = txn.lock(&BTreeSet::from([id]))?.contains(&id);
    if there { Ok(()) } else { Err(StoreError::NoSuchAccount) }
}

pub(super) fn usage(db: &Db, id: AccountId) -> Result<Usage, StoreError> {
    let get = "SELECT octets, messages, octets_max, messages_max, reserve FROM accounts
               WHERE id = $1";
    let row = db.first(get, &[&id.0.cast_signed()])?.ok_or(StoreError::NoSuchAccount)?;
    Ok(Usage { octets: number(&row, 0)?, messages: number(&row, 1)?, quota: quota(&row, 2)? })
}

/// Counts messages to an account, which is locked, or refuses them.
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
    let count = "UPDATE accounts SET octets = octets + $1, messages = messages + $2 WHERE id = $3";
    txn.db.execute(count, &[&octets, &messages, &id.0.cast_signed()]).map(drop)
}

pub(super) fn add(
    txn: &mut Txn<'_>,
    new: &NewAccount,
    at: Timestamp,
) -> Result<AccountId, StoreError> {
    let address = new.address.to_string();
    let id = AccountId(txn.next("account_numbers")?);
    let mut logins = vec![key(&address)];
    logins.extend(new.user_id.as_deref().map(key));
    logins.dedup();
    for login in logins {
        let insert = "INSERT INTO logins VALUES ($1, $2) ON CONFLICT DO NOTHING";
        if txn.db.execute(insert, &[&plain(&login), &id.0.cast_signed()])? == 0 {
            return Err(StoreError::AccountExists);
        }
    }
    let role: i64 = match new.role {
        Role::None => 0,
        Role::Author => 1,
        Role::ServiceMailbox => 2,
    };
    let (phc, scram) = new.credentials.clone().map(|c| (c.phc, c.scram)).unzip();
    let insert = format!(
        "INSERT INTO accounts ({COLUMNS}, octets, messages)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9, $10, $11, $12, 0, 0)"
    );
    txn.db.execute(
        &insert,
        &[
            &id.0.cast_signed(),
            &address,
            &new.user_id,
            &i64::from(new.owner == Owner::Provider),
            &role,
            &phc,
            &scram,
            &new.quota.octets_max.cast_signed(),
            &new.quota.messages_max.map(u64::cast_signed),
            &new.quota.receipt_reserve_octets.cast_signed(),
            &new.ordinary_mail,
            &micros(at),
        ],
    )?;
    let inbox = (MailboxName::inbox(), None);
    for (name, special_use) in std::iter::once(inbox).chain(SpecialUse::folders()) {
        mailboxes::add(txn, id, &name, special_use, true, at)?;
        mailboxes::subscribe(txn, id, &name, true)?;
    }
    Ok(id)
}

pub(super) fn change(
    txn: &Txn<'_>,
    id: AccountId,
    change: &AccountChange,
) -> Result<(), StoreError> {
    lock(txn, id)?;
    let id = id.0.cast_signed();
    match change {
        AccountChange::Credentials(credentials) => {
            let (phc, scram) = credentials.clone().map(|c| (c.phc, c.scram)).unzip();
            let set = "UPDATE accounts SET phc = $1, scram = $2 WHERE id = $3";
            txn.db.execute(set, &[&phc, &scram, &id])?;
        }
        AccountChange::Quota(quota) => {
            let set = "UPDATE accounts SET octets_max = $1, messages_max = $2, reserve = $3
                       WHERE id = $4";
            txn.db.execute(
                set,
                &[
                    &quota.octets_max.cast_signed(),
                    &quota.messages_max.map(u64::cast_signed),
                    &quota.receipt_reserve_octets.cast_signed(),
                    &id,
                ],
            )?;
        }
        AccountChange::State(state) => {
            let set = "UPDATE accounts SET state = $1 WHERE id = $2";
            txn.db.execute(set, &[&i64::from(*state == State::Suspended), &id])?;
        }
        AccountChange::OrdinaryMail(policy) => {
            let set = "UPDATE accounts SET ordinary_mail = $1 WHERE id = $2";
            txn.db.execute(set, &[policy, &id])?;
        }
    }
    Ok(())
}

pub(super) fn remove(txn: &mut Txn<'_>, id: AccountId) -> Result<(), StoreError> {
    lock(txn, id)?;
    for mailbox in mailboxes::all(txn.db, id)? {
        mailboxes::remove(txn, mailbox.id)?;
    }
    for table in ["logins", "subscriptions", "annotations"] {
        let delete = format!("DELETE FROM {table} WHERE account = $1");
        txn.db.execute(&delete, &[&id.0.cast_signed()])?;
    }
    txn.db.execute("DELETE FROM accounts WHERE id = $1", &[&id.0.cast_signed()]).map(drop)
}
