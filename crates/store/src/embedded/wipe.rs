//! Getting rid of what lay in the index in clear before the store had its first key.
//!
//! What SQLite deletes stays in free pages, in gaps of pages that are used, and in the WAL, until
//! something else is written there. So a store that has keys overwrites what it deletes; and when it
//! gets its first, the whole index is written anew once, and the WAL cut off. That is noted in the
//! commit that makes the keys, and done again at the next start when it could not be done.

use rusqlite::Connection;

use super::disk::{Disk, Step};
use crate::StoreError;

/// What the index has as long as it was not written anew. Not in `schema.rs`: few stores ever have it.
const NOTE: &str = "unwiped";

/// Has the writer overwrite what it deletes from now on.
pub(super) fn overwrite_deleted(db: &Connection) -> Result<(), StoreError> {
    Ok(db.pragma_update(None, "secure_delete", "ON")?)
}

/// Notes, in the transaction that is open, that there was something in clear; nothing in a store that
/// never had anything.
pub(super) fn note(db: &Connection) -> Result<(), StoreError> {
    let any = "SELECT EXISTS (SELECT 1 FROM blobs) OR EXISTS (SELECT 1 FROM segments)
                   OR (SELECT freelist_count > 0 FROM pragma_freelist_count)";
    if db.query_row(any, [], |row| row.get(0))? {
        db.execute_batch(&format!("CREATE TABLE {NOTE} (since INTEGER)"))?;
    }
    Ok(())
}

/// Writes the index anew, if it has the note.
pub(super) fn wipe(db: &Connection, disk: &dyn Disk) -> Result<(), StoreError> {
    let noted = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)";
    if !db.query_row(noted, [NOTE], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    let octets: i64 = db.query_row(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        [],
        |row| row.get(0),
    )?;
    tracing::info!(octets, "the index is written anew, so that nothing is left in it in clear");
    // The copy that this makes is as large as the index: not in memory.
    db.pragma_update(None, "temp_store", "FILE")?;
    let wiped = write_anew(db, disk);
    db.pragma_update(None, "temp_store", "MEMORY")?;
    if let Err(error) = wiped {
        tracing::error!(%error, "the index may still have digests in clear: it is written anew at the next start");
        return Ok(());
    }
    Ok(db.execute_batch(&format!("DROP TABLE {NOTE}"))?)
}

fn write_anew(db: &Connection, disk: &dyn Disk) -> Result<(), StoreError> {
    disk.step(Step::Commit)?;
    db.execute_batch("VACUUM")?;
    disk.step(Step::Checkpoint)?;
    match db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))? {
        false => Ok(()),
        true => Err(StoreError::Medium("somebody else reads it".into())),
    }
}
