//! A call that changes something, as one transaction of the database.
//!
//! Locks are taken in one order, so that calls wait for each other and seldom stand in each other's
//! way: the accounts it touches by number, then jobs, tracker and marks, then octets by number, then
//! the counter of the log, which is held for the commit alone. A mailbox is changed by whoever holds
//! its account: so UIDs, [`ModSeq`](crate::ModSeq)s and quotas are exact whatever node does it. Where
//! two calls do stand in each other's way the database breaks one off, and it is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::connection::{Db, Ended, Pool, get, number};
use super::notices::Changed;
use super::octets::Kept;
use super::{log, notices};
use crate::{AccountId, BlobId, LogRecord, MailboxId, StoreError};

/// How often a call is done again that the database broke off.
const TRIES_MAX: u32 = 12;
/// How long is asked what became of a commit whose answer was lost.
const VERDICT_TIME_MAX: Duration = Duration::from_secs(15);

/// A call's view of its transaction.
pub(super) struct Txn<'a> {
    pub(super) db: &'a Db,
    /// Listeners are to hear of this.
    pub(super) changed: Changed,
    /// Octets that are new, and not yet in a table.
    new: BTreeMap<u64, &'a Kept>,
    refs: BTreeMap<u64, i64>,
    log: Vec<LogRecord>,
}

impl Txn<'_> {
    /// The next number of a sequence. A transaction that is not kept leaves a gap.
    pub(super) fn next(&self, sequence: &str) -> Result<u64, StoreError> {
        let row = self.db.first(&format!("SELECT nextval('{sequence}')"), &[])?;
        row.map_or_else(
            || Err(StoreError::Medium("a sequence ended".into())),
            |row| number(&row, 0),
        )
    }

    /// Locks accounts, in their order; tells which of them are there.
    pub(super) fn lock(
        &self,
        accounts: &BTreeSet<AccountId>,
    ) -> Result<BTreeSet<AccountId>, StoreError> {
        let ids: Vec<i64> = accounts.iter().map(|id| id.0.cast_signed()).collect();
        let lock = "SELECT id FROM accounts WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        let rows = self.db.query(lock, &[&ids])?;
        rows.iter().map(|row| Ok(AccountId(number(row, 0)?))).collect()
    }

    /// Locks the accounts of mailboxes, in their order.
    pub(super) fn lock_mailboxes(&self, mailboxes: &[MailboxId]) -> Result<(), StoreError> {
        let ids: Vec<i64> = mailboxes.iter().map(|id| id.0.cast_signed()).collect();
        let lock = "SELECT id FROM accounts
                    WHERE id IN (SELECT account FROM mailboxes WHERE id = ANY($1))
                    ORDER BY id FOR UPDATE";
        self.db.query(lock, &[&ids]).map(drop)
    }

    /// How many octets a blob has, new or stored.
    pub(super) fn octets(&self, blob: BlobId) -> Result<u64, StoreError> {
        match self.new.get(&blob.0) {
            Some(new) => Ok(new.octets),
            None => super::octets::octets(self.db, blob),
        }
    }

    /// One more refers to a blob (+1), or one fewer (-1).
    pub(super) fn refer(&mut self, blob: BlobId, by: i64) {
        *self.refs.entry(blob.0).or_default() += by;
    }

    /// Writes a record of the log with the commit.
    pub(super) fn write_log(&mut self, record: LogRecord) {
        self.log.push(record);
    }

    /// Brings blobs up to date with what refers to them, and writes the log: the last steps.
    fn settle(&mut self, node: u64, channel: &str) -> Result<(), StoreError> {
        let (mut ids, mut by) = (Vec::new(), Vec::new());
        for (blob, refs) in std::mem::take(&mut self.refs) {
            match self.new.get(&blob) {
                Some(new) if refs > 0 => insert(self.db, new, refs)?,
                Some(_) => {}
                None if refs != 0 => {
                    ids.push(blob.cast_signed());
                    by.push(refs);
                }
                // Somebody lets go and another takes hold: it must be there all the same.
                None => {}
            }
        }
        if !ids.is_empty() {
            adjust(self.db, &ids, &by)?;
        }
        log::write(self.db, &std::mem::take(&mut self.log))?;
        notices::tell(self.db, channel, node, &self.changed)
    }
}

fn insert(db: &Db, new: &Kept, refs: i64) -> Result<(), StoreError> {
    let insert = "INSERT INTO blobs (id, octets, refs, object, start, chunks)
                  VALUES ($1, $2, $3, $4, $5, $6)";
    db.execute(
        insert,
        &[
            &new.blob.0.cast_signed(),
            &new.octets.cast_signed(),
            &refs,
            &new.object,
            &new.start.cast_signed(),
            &new.chunks,
        ],
    )?;
    Ok(())
}

fn adjust(db: &Db, ids: &[i64], by: &[i64]) -> Result<(), StoreError> {
    let lock = "SELECT id FROM blobs WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    if db.query(lock, &[&ids])?.len() != ids.len() {
        // They went between the look and the lock.
        return Err(StoreError::NoSuchMessage);
    }
    let adjust = "UPDATE blobs SET refs = refs + new.by
                  FROM unnest($1::bigint[], $2::bigint[]) AS new (id, by)
                  WHERE blobs.id = new.id RETURNING blobs.id, blobs.refs";
    let mut dead = Vec::new();
    for row in db.query(adjust, &[&ids, &by])? {
        if get::<i64>(&row, 1)? <= 0 {
            dead.push(get::<i64>(&row, 0)?);
        }
    }
    if dead.is_empty() {
        return Ok(());
    }
    db.execute("DELETE FROM digests WHERE blob = ANY($1)", &[&dead])?;
    db.execute("DELETE FROM texts WHERE blob = ANY($1)", &[&dead])?;
    let remove = "WITH gone AS (DELETE FROM blobs WHERE id = ANY($1) RETURNING object)
                  INSERT INTO garbage SELECT DISTINCT object, now() FROM gone ORDER BY object
                  ON CONFLICT (object) DO UPDATE SET since = now()";
    db.execute(remove, &[&dead]).map(drop)
}

/// What a transaction made, and the mailboxes that it changed.
pub(super) type Done<T> = (T, BTreeSet<MailboxId>);

/// Does `work` in a transaction, again when the database broke it off.
///
/// New octets are named by the time that is given with them, on the database's clock, or the call is refused: a node
/// that stood still may come when they are swept already.
pub(super) fn write<T>(
    pool: &Pool,
    (node, channel): (u64, &str),
    (new, named_by): (&[Kept], Option<SystemTime>),
    mut work: impl FnMut(&mut Txn<'_>) -> Result<T, StoreError>,
) -> Result<Done<T>, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut again = false;
        let token = token(node, tries);
        let ended = pool.with(|db| {
            let mut txn = Txn {
                db,
                changed: Changed::default(),
                new: new.iter().map(|kept| (kept.blob.0, kept)).collect(),
                refs: BTreeMap::new(),
                log: Vec::new(),
            };
            let ended = db.numbered_transaction(|| {
                let done = work(&mut txn)?;
                txn.settle(node, channel)?;
                // The last question before the commit: what it waited for is behind it.
                leave(txn.db, token, named_by)?;
                Ok((done, std::mem::take(&mut txn.changed.mailboxes)))
            });
            again = db.take_again();
            ended
        });
        match ended {
            Ok(Ended::Kept(done)) => return Ok(done),
            Ok(Ended::Unknown { number, made, error }) => {
                return verdict(pool, &number, token).map_or(Err(error), |()| Ok(made));
            }
            Err(_) if again && tries < TRIES_MAX => {
                // Whoever won is done by then; each node waits another while.
                thread::sleep(Duration::from_millis(u64::from(tries) * (3 + node % 5)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Does `work` in a transaction, once. When it fails nothing was kept, or nobody could be asked.
pub(super) fn once<T>(
    pool: &Pool,
    work: impl FnOnce(&Db) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let token = token(0, 0);
    let ended = pool.with(|db| {
        db.numbered_transaction(|| {
            let made = work(db)?;
            leave(db, token, None)?;
            Ok(made)
        })
    })?;
    match ended {
        Ended::Kept(made) => Ok(made),
        Ended::Unknown { number, made, error } => {
            verdict(pool, &number, token).map_or(Err(error), |()| Ok(made))
        }
    }
}

/// A number that no other transaction leaves.
fn token(node: u64, tries: u32) -> i64 {
    RandomState::new().hash_one((node, tries)).cast_signed()
}

/// Leaves a token, by which is asked what became of the transaction, unless the time is over.
fn leave(db: &Db, token: i64, by: Option<SystemTime>) -> Result<(), StoreError> {
    let leave = "INSERT INTO verdicts (token) SELECT $1::bigint
                 WHERE $2::timestamptz IS NULL OR clock_timestamp() <= $2";
    match db.execute(leave, &[&token, &by])? {
        0 => Err(StoreError::Unavailable(
            "it took so long that its octets may be gone: try again".into(),
        )),
        _ => Ok(()),
    }
}

/// Whether the transaction that left this token, and whose answer was lost, was kept. By its number is only
/// asked whether it goes on still.
fn verdict(pool: &Pool, transaction: &str, token: i64) -> Option<()> {
    let until = Instant::now() + VERDICT_TIME_MAX;
    while Instant::now() < until {
        let told = pool.with(|db| {
            let find = "SELECT 1 FROM verdicts WHERE token = $1";
            let is_there = || Ok(db.first(find, &[&token])?.is_some());
            if is_there()? {
                return Ok(Some(true));
            }
            let row = db.first("SELECT txid_status($1::text::bigint)", &[&transaction])?;
            let status = row.map_or(Ok(None), |row| get::<Option<String>>(&row, 0))?;
            if status.as_deref() == Some("in progress") { Ok(None) } else { is_there().map(Some) }
        });
        match told {
            Ok(Some(true)) => return Some(()),
            Ok(Some(false)) => return None,
            Ok(None) | Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
    None
}
