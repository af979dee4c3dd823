//! What an earlier run moved, looked over before the next goes on.
//!
//! Its hash is held against the octets of the source, which must be the same store, and against what is read where
//! they were put. What is not there as it was written is moved again.

use super::super::connection::{Db, get, number};
use super::super::octets::{self, Located};
use super::{PORTION_BLOBS, There, Told};
use crate::tree::Hash;
use crate::{BlobId, Store as _, StoreError};

/// What is there, by its number: how long it is, and its hash when it was moved; none where a run of an older
/// program did not keep it.
struct Moved {
    blob: BlobId,
    octets: u64,
    hash: Option<Vec<u8>>,
}

impl There<'_> {
    /// Looks at all that is there; how many were moved again.
    pub(super) fn check(&self, told: &mut Told<'_>) -> Result<u64, StoreError> {
        let (mut last, mut again) = (0, 0);
        loop {
            let some = self.pool.with(|db| moved(db, last))?;
            let Some(end) = some.last() else { return Ok(again) };
            last = end.blob.0;
            for moved in some {
                let octets = match self.source.read(moved.blob, 0, u64::MAX) {
                    // It went since: so it does here, at the end.
                    Err(StoreError::NoSuchMessage) => continue,
                    octets => octets?,
                };
                let (blob, hash) = (moved.blob.0, Hash::of(&octets));
                if moved.hash.as_ref().is_some_and(|kept| hash.0 != kept[..]) {
                    return Err(StoreError::Medium(format!(
                        "octets {blob} are not those that were moved: what is there was begun from another \
                         store. Remove that schema, and what the octets are on, to begin anew"
                    )));
                }
                if moved.hash.is_none() || !self.is_there(&moved, hash)? {
                    tracing::warn!(
                        blob,
                        "octets are not there as they were moved: they are moved again"
                    );
                    self.pool.with(|db| remove(db, moved.blob))?;
                    self.move_portion(&[(blob, octets.len() as u64)])?;
                    again += 1;
                }
                told.add(moved.octets);
            }
        }
    }

    /// Whether octets are read as they were written.
    fn is_there(&self, moved: &Moved, hash: Hash) -> Result<bool, StoreError> {
        let read = self.pool.with(|db| octets::locate(db, moved.blob, 0, u64::MAX));
        match read.and_then(|located: Located| octets::read(self.medium, located)) {
            Ok(octets) => Ok(Hash::of(&octets) == hash),
            Err(StoreError::NoSuchMessage | StoreError::Medium(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The next of what is there.
fn moved(db: &Db, after: u64) -> Result<Vec<Moved>, StoreError> {
    let next = "SELECT id, octets, hash FROM blobs LEFT JOIN moved ON moved.blob = blobs.id
                WHERE id > $1 ORDER BY id LIMIT $2";
    let rows = db.query(next, &[&after.cast_signed(), &super::clamp(PORTION_BLOBS)])?;
    let rows = rows.iter().map(|row| {
        Ok(Moved { blob: BlobId(number(row, 0)?), octets: number(row, 1)?, hash: get(row, 2)? })
    });
    rows.collect()
}

/// Lets go of one.
fn remove(db: &Db, blob: BlobId) -> Result<(), StoreError> {
    let remove = "WITH one AS (DELETE FROM moved WHERE blob = $1),
                       gone AS (DELETE FROM blobs WHERE id = $1 RETURNING object)
                  INSERT INTO garbage SELECT object, now() FROM gone ON CONFLICT DO NOTHING";
    db.execute(remove, &[&blob.0.cast_signed()]).map(drop)
}
