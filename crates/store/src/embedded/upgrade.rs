//! From format 2 to 3: octets that lay whole become pieces.
//!
//! It runs in the transaction of the whole upgrade (`schema.rs`). There is no way back but a backup:
//! what the new format keeps, the old program could not read.

use rusqlite::{Connection, params};

use super::{list, schema};
use crate::StoreError;

/// What lay whole becomes one piece under the same number, where it is, shared with nobody.
pub(super) fn to_pieces(db: &Connection) -> Result<(), StoreError> {
    db.execute_batch("ALTER TABLE blobs RENAME TO blobs_2")?;
    db.execute_batch(schema::OCTETS)?;
    db.execute_batch(
        "INSERT INTO pieces (id, hash, segment, start, octets, stored, codec, refs)
         SELECT id, NULL, segment, start, octets, octets, 0, 1 FROM blobs_2;
         ALTER TABLE counters ADD COLUMN piece INTEGER NOT NULL DEFAULT 0;
         UPDATE counters SET piece = blob;",
    )?;
    {
        let mut get = db.prepare("SELECT id, octets, refs FROM blobs_2")?;
        let mut put = db.prepare("INSERT INTO blobs VALUES (?, ?, ?, ?)")?;
        let mut rows = get.query([])?;
        while let Some(row) = rows.next()? {
            let (id, octets, refs): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let pieces = match octets {
                0 => Vec::new(),
                _ => list::write(&[(id.cast_unsigned(), octets.cast_unsigned())]),
            };
            put.execute(params![id, octets, refs, pieces])?;
        }
    }
    // Nothing is made of no octets; its record dies with its row.
    db.execute_batch(
        "UPDATE segments SET live = live - 24 * (SELECT count(*) FROM pieces
             WHERE octets = 0 AND segment = segments.id);
         DELETE FROM pieces WHERE octets = 0;
         DROP TABLE blobs_2;",
    )?;
    Ok(())
}
