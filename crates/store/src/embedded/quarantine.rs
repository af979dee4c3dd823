//! Infected messages in the index; their octets are stored as all others are.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::txn::Txn;
use crate::rules::{micros, time};
use crate::{BlobId, Infected, InfectedId, Infection, StoreError, Timestamp};

const INFECTED: &str = "SELECT q.id, q.found, q.keep_until, q.blob, b.octets, q.infection
                        FROM quarantine AS q JOIN blobs AS b ON b.id = q.blob";

pub(super) fn add(
    txn: &mut Txn<'_>,
    infection: &Infection,
    blob: BlobId,
    found: Timestamp,
    keep_until: Timestamp,
) -> Result<InfectedId, StoreError> {
    let text = serde_json::to_string(infection)
        .map_err(|error| StoreError::Medium(format!("an infection cannot be written: {error}")))?;
    txn.db
        .prepare_cached(
            "INSERT INTO quarantine (found, keep_until, blob, infection) VALUES (?, ?, ?, ?)",
        )?
        .execute(params![micros(found), micros(keep_until), blob.0.cast_signed(), text])?;
    txn.refer(blob, 1);
    Ok(InfectedId(txn.db.last_insert_rowid().cast_unsigned()))
}

pub(super) fn discard(txn: &mut Txn<'_>, id: InfectedId, now: Timestamp) -> Result<(), StoreError> {
    let row: Option<(i64, i64)> = txn
        .db
        .prepare_cached("SELECT keep_until, blob FROM quarantine WHERE id = ?")?
        .query_row([id.0.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (keep_until, blob) = row.ok_or(StoreError::NoSuchMessage)?;
    if micros(now) < keep_until {
        return Err(StoreError::StillKept(id));
    }
    txn.db.prepare_cached("DELETE FROM quarantine WHERE id = ?")?.execute([id.0.cast_signed()])?;
    txn.refer(BlobId(blob.cast_unsigned()), -1);
    Ok(())
}

pub(super) fn list(db: &Connection, after: u64, limit: usize) -> Result<Vec<Infected>, StoreError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut get = db.prepare_cached(&format!("{INFECTED} WHERE q.id > ? ORDER BY q.id LIMIT ?"))?;
    read(get.query(params![after, limit])?)
}

pub(super) fn ended(
    db: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Infected>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let get = format!("{INFECTED} WHERE q.keep_until <= ? ORDER BY q.keep_until, q.id LIMIT ?");
    let mut get = db.prepare_cached(&get)?;
    read(get.query(params![micros(now), limit])?)
}

fn read(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Infected>, StoreError> {
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(infected(row)?);
    }
    Ok(all)
}

fn infected(row: &Row<'_>) -> Result<Infected, StoreError> {
    let number = |at| row.get(at).map(i64::cast_unsigned);
    let id = number(0)?;
    let text: String = row.get(5)?;
    let infection = serde_json::from_str(&text)
        .map_err(|error| StoreError::Medium(format!("infected message {id}: {error}")))?;
    Ok(Infected {
        id: InfectedId(id),
        found: time(row.get(1)?),
        keep_until: time(row.get(2)?),
        blob: BlobId(number(3)?),
        octets: number(4)?,
        infection,
    })
}
