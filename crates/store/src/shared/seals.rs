//! The seals of the log (PEC-LOG-02, PEC-LOG-03).

use tokio_postgres::Row;

use super::connection::{Db, get, number};
use super::txn::Txn;
use super::{clamp, log};
use crate::rules::{micros, time};
use crate::tree::Hash;
use crate::{NewSeal, Seal, StoreError, Timestamp};

const SEAL: &str = "number, statement, signature, stamp, expired";

fn seal(row: &Row) -> Result<Seal, StoreError> {
    Ok(Seal {
        number: number(row, 0)?,
        octets: get(row, 1)?,
        signature: get(row, 2)?,
        stamp: get(row, 3)?,
        expired: get::<Option<i64>>(row, 4)?.map(time),
    })
}

pub(super) fn after(db: &Db, after: u64, limit: usize) -> Result<Vec<Seal>, StoreError> {
    let all = format!("SELECT {SEAL} FROM seals WHERE number > $1 ORDER BY number LIMIT $2");
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    db.query(&all, &[&after, &clamp(limit)])?.iter().map(seal).collect()
}

pub(super) fn last(db: &Db) -> Result<Option<Seal>, StoreError> {
    let last = format!("SELECT {SEAL} FROM seals ORDER BY number DESC LIMIT 1");
    db.first(&last, &[])?.as_ref().map(seal).transpose()
}

pub(super) fn of_record(db: &Db, record: u64) -> Result<Option<Seal>, StoreError> {
    // Several may begin at one record: those of intervals in which nothing happened.
    let of = format!(
        "SELECT {SEAL} FROM seals WHERE first <= $1 AND records > $1 - first
         ORDER BY first DESC LIMIT 1"
    );
    let record = i64::try_from(record).unwrap_or(i64::MAX);
    db.first(&of, &[&record])?.as_ref().map(seal).transpose()
}

pub(super) fn unstamped(db: &Db, limit: usize) -> Result<Vec<Seal>, StoreError> {
    let all = format!("SELECT {SEAL} FROM seals WHERE stamp IS NULL ORDER BY number LIMIT $1");
    db.query(&all, &[&clamp(limit)])?.iter().map(seal).collect()
}

pub(super) fn chunks(db: &Db, number: u64) -> Result<Vec<Hash>, StoreError> {
    let chunks = "SELECT chunks FROM seals WHERE number = $1";
    let Some(row) = db.first(chunks, &[&number.cast_signed()])? else { return Ok(Vec::new()) };
    let (chunks, rest) = get::<&[u8]>(&row, 0)?.as_chunks();
    if !rest.is_empty() {
        return Err(StoreError::Medium(format!("seal {number} has chunks that are none")));
    }
    Ok(chunks.iter().copied().map(Hash).collect())
}

pub(super) fn add(txn: &Txn<'_>, new: &NewSeal) -> Result<(), StoreError> {
    let said = &new.statement;
    let last = "SELECT number, first + records FROM seals ORDER BY number DESC LIMIT 1";
    let last = txn.db.first(last, &[])?.map(|row| Ok((number(&row, 0)?, number(&row, 1)?)));
    let (last, first) = last.unwrap_or(Ok::<_, StoreError>((0, 1)))?;
    if (said.number, said.first) != (last + 1, first) || said.end() > log::last(txn.db)? + 1 {
        return Err(StoreError::SealOutOfOrder);
    }
    let chunks: Vec<u8> = new.chunks.iter().flat_map(|chunk| chunk.0).collect();
    // Of two nodes that seal at once, one finds its number taken.
    let add = "INSERT INTO seals (number, first, records, statement, signature, chunks)
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let numbers = [said.number, said.first, said.records].map(u64::cast_signed);
    match txn.db.execute(
        add,
        &[&numbers[0], &numbers[1], &numbers[2], &new.octets, &new.signature, &chunks],
    )? {
        0 => Err(StoreError::SealOutOfOrder),
        _ => Ok(()),
    }
}

pub(super) fn stamp(db: &Db, number: u64, stamp: &[u8]) -> Result<(), StoreError> {
    let set = "UPDATE seals SET stamp = $1 WHERE number = $2 AND stamp IS NULL";
    db.execute(set, &[&stamp, &number.cast_signed()]).map(drop)
}

pub(super) fn expire(
    txn: &Txn<'_>,
    number: u64,
    at: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let mark = "UPDATE seals SET expired = coalesce(expired, $1) WHERE number = $2
                RETURNING first, first + records";
    let Some(row) = txn.db.first(mark, &[&micros(at), &number.cast_signed()])? else {
        return Ok(0);
    };
    log::remove(txn.db, (get(&row, 0)?, get(&row, 1)?), limit)
}
