//! The seals of the log in the index (PEC-LOG-02, PEC-LOG-03).

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::log::raw;
use super::pipeline::clamp;
use super::txn::Txn;
use crate::rules::{micros, time};
use crate::tree::Hash;
use crate::{NewSeal, Seal, StoreError, Timestamp};

const SEAL: &str = "number, statement, signature, stamp, expired";

fn seal(row: &Row<'_>) -> rusqlite::Result<Seal> {
    Ok(Seal {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        octets: raw(row, 1)?,
        signature: raw(row, 2)?,
        stamp: match row.get_ref(3)? {
            ValueRef::Null => None,
            _ => Some(raw(row, 3)?),
        },
        expired: row.get::<_, Option<i64>>(4)?.map(time),
    })
}

pub(super) fn after(db: &Connection, after: u64, limit: usize) -> Result<Vec<Seal>, StoreError> {
    let get = format!("SELECT {SEAL} FROM seals WHERE number > ? ORDER BY number LIMIT ?");
    let mut get = db.prepare_cached(&get)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let seals = get.query_map(params![after, clamp(limit)], seal)?;
    Ok(seals.collect::<Result<_, _>>()?)
}

pub(super) fn last(db: &Connection) -> Result<Option<Seal>, StoreError> {
    let get = format!("SELECT {SEAL} FROM seals ORDER BY number DESC LIMIT 1");
    Ok(db.prepare_cached(&get)?.query_row([], seal).optional()?)
}

pub(super) fn of_record(db: &Connection, record: u64) -> Result<Option<Seal>, StoreError> {
    // Several may begin at one record: those of intervals in which nothing happened.
    let get = format!(
        "SELECT {SEAL} FROM seals WHERE first <= ?1 AND records > ?1 - first
         ORDER BY first DESC LIMIT 1"
    );
    let record = i64::try_from(record).unwrap_or(i64::MAX);
    Ok(db.prepare_cached(&get)?.query_row([record], seal).optional()?)
}

pub(super) fn unstamped(db: &Connection, limit: usize) -> Result<Vec<Seal>, StoreError> {
    let get = format!("SELECT {SEAL} FROM seals WHERE stamp IS NULL ORDER BY number LIMIT ?");
    let mut get = db.prepare_cached(&get)?;
    let seals = get.query_map([clamp(limit)], seal)?;
    Ok(seals.collect::<Result<_, _>>()?)
}

pub(super) fn chunks(db: &Connection, number: u64) -> Result<Vec<Hash>, StoreError> {
    let get = "SELECT chunks FROM seals WHERE number = ?";
    let number_signed = number.cast_signed();
    let octets =
        db.prepare_cached(get)?.query_row([number_signed], |row| raw(row, 0)).optional()?;
    let (chunks, rest) = octets.as_deref().unwrap_or_default().as_chunks();
    if !rest.is_empty() {
        return Err(StoreError::Medium(format!("seal {number} has chunks that are none")));
    }
    Ok(chunks.iter().copied().map(Hash).collect())
}

pub(super) fn add(txn: &Txn<'_>, new: &NewSeal) -> Result<(), StoreError> {
    let said = &new.statement;
    let last = "SELECT number, first + records FROM seals ORDER BY number DESC LIMIT 1";
    let last = txn.db.prepare_cached(last)?.query_row([], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
    });
    let (number, first) = last.optional()?.unwrap_or((0, 1));
    if (said.number, said.first) != (number + 1, first) || said.end() > txn.counters.record + 1 {
        return Err(StoreError::SealOutOfOrder);
    }
    let chunks: Vec<u8> = new.chunks.iter().flat_map(|chunk| chunk.0).collect();
    let add = "INSERT INTO seals (number, first, records, statement, signature, chunks)
               VALUES (?, ?, ?, ?, ?, ?)";
    txn.db.prepare_cached(add)?.execute(params![
        said.number.cast_signed(),
        said.first.cast_signed(),
        said.records.cast_signed(),
        new.octets,
        new.signature,
        chunks,
    ])?;
    Ok(())
}

pub(super) fn stamp(db: &Connection, number: u64, stamp: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE seals SET stamp = ? WHERE number = ? AND stamp IS NULL")?
        .execute(params![stamp, number.cast_signed()])?;
    Ok(())
}

pub(super) fn expire(
    db: &Connection,
    number: u64,
    at: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let mark = "UPDATE seals SET expired = coalesce(expired, ?) WHERE number = ?
                RETURNING first, first + records";
    let covered: Option<(i64, i64)> = db
        .prepare_cached(mark)?
        .query_row(params![micros(at), number.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((first, end)) = covered else { return Ok(0) };
    let of = "SELECT number FROM log WHERE number >= ? AND number < ? ORDER BY number LIMIT ?";
    let mut of = db.prepare_cached(of)?;
    let numbers = of.query_map(params![first, end, clamp(limit)], |row| row.get(0))?;
    let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
    for number in &numbers {
        super::log::remove(db, *number)?;
    }
    Ok(numbers.len())
}
