//! Infected messages; their octets are stored as all others are.

use tokio_postgres::Row;

use super::clamp;
use super::connection::{Db, get, number};
use super::txn::Txn;
use crate::rules::{micros, time};
use crate::{BlobId, Infected, InfectedId, NewInfected, StoreError, Timestamp};

const INFECTED: &str = "SELECT q.id, q.found, q.keep_until, q.blob, b.octets, q.infection
                        FROM quarantine AS q JOIN blobs AS b ON b.id = q.blob";

pub(super) fn add(
    txn: &mut Txn<'_>,
    new: &NewInfected,
    blob: BlobId,
    found: Timestamp,
) -> Result<InfectedId, StoreError> {
    let text = serde_json::to_string(&new.infection)
        .map_err(|error| StoreError::Medium(format!("an infection cannot be written: {error}")))?;
    let id = InfectedId(txn.next("infected_numbers")?);
    let (number, blob_number) = (id.0.cast_signed(), blob.0.cast_signed());
    let insert = "INSERT INTO quarantine VALUES ($1, $2, $3, $4, $5)";
    let (found, until) = (micros(found), micros(new.keep_until));
    txn.db.execute(insert, &[&number, &found, &until, &blob_number, &text])?;
    txn.refer(blob, 1);
    Ok(id)
}

pub(super) fn discard(txn: &mut Txn<'_>, id: InfectedId, now: Timestamp) -> Result<(), StoreError> {
    let find = "SELECT keep_until, blob FROM quarantine WHERE id = $1 FOR UPDATE";
    let row = txn.db.first(find, &[&id.0.cast_signed()])?.ok_or(StoreError::NoSuchMessage)?;
    if micros(now) < get::<i64>(&row, 0)? {
        return Err(StoreError::StillKept(id));
    }
    txn.db.execute("DELETE FROM quarantine WHERE id = $1", &[&id.0.cast_signed()])?;
    txn.refer(BlobId(number(&row, 1)?), -1);
    Ok(())
}

pub(super) fn list(db: &Db, after: u64, limit: usize) -> Result<Vec<Infected>, StoreError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let list = format!("{INFECTED} WHERE q.id > $1 ORDER BY q.id LIMIT $2");
    db.query(&list, &[&after, &clamp(limit)])?.iter().map(infected).collect()
}

pub(super) fn ended(db: &Db, now: Timestamp, limit: usize) -> Result<Vec<Infected>, StoreError> {
    let ended = format!("{INFECTED} WHERE q.keep_until <= $1 ORDER BY q.keep_until, q.id LIMIT $2");
    db.query(&ended, &[&micros(now), &clamp(limit)])?.iter().map(infected).collect()
}

fn infected(row: &Row) -> Result<Infected, StoreError> {
    let id = number(row, 0)?;
    let infection = serde_json::from_str(get(row, 5)?)
        .map_err(|error| StoreError::Medium(format!("infected message {id}: {error}")))?;
    Ok(Infected {
        id: InfectedId(id),
        found: time(get(row, 1)?),
        keep_until: time(get(row, 2)?),
        blob: BlobId(number(row, 3)?),
        octets: number(row, 4)?,
        infection,
    })
}
