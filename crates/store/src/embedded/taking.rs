//! A new store that is filled from another: octets as they come, then all rows at once.
//!
//! It is made in a folder beside its own, with `.moving` behind the name, and gets its name when it is whole:
//! nobody opens what is not. Beside its octets it has, until then, the numbers that they had in the source, and the
//! hash of what was read there.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};

use super::segments::flush_dir;
use super::{EmbeddedStore, Options, schema};
use crate::tree::Hash;
use crate::{BlobId, Octets, Store as _, StoreError};

/// Octets that were moved.
pub(crate) struct Moved {
    /// Their number in the source.
    pub(crate) source: u64,
    /// Their number here, for now.
    pub(crate) blob: BlobId,
    /// The hash of what was read in the source.
    pub(crate) hash: Hash,
}

/// The store as far as it is.
pub(crate) struct Taking {
    directory: PathBuf,
    store: EmbeddedStore,
}

impl Taking {
    /// Begins, or goes on with what was begun from the source of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`] when there is a store already, or what was begun is of another source or in use.
    pub(crate) fn begin(directory: &Path, options: Options, of: &str) -> Result<Self, StoreError> {
        if directory.symlink_metadata().is_ok() {
            let text = format!("there is something in {} already", directory.display());
            return Err(StoreError::Medium(text));
        }
        let folder = moving(directory)?;
        // What was written is read from where it lies, and not from memory.
        let options = Options { recent_octets: 0, archive: None, ..options };
        let store = EmbeddedStore::open(&folder, options)?;
        let (of, told) = (of.to_owned(), folder.display().to_string());
        let whole = directory.display().to_string();
        store.write(Vec::new(), move |txn, _| {
            let count = |of: &str| -> Result<i64, StoreError> {
                Ok(txn.db.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0))?)
            };
            if count("sqlite_schema WHERE name = 'moving'")? == 0 && count("accounts")? > 0 {
                let text = format!("the store in {told} is whole: rename it to {whole}");
                return Err(StoreError::Medium(text));
            }
            txn.db.execute_batch(
                "CREATE TABLE IF NOT EXISTS moving (source TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS moved (
                     source INTEGER PRIMARY KEY, blob INTEGER NOT NULL UNIQUE, hash BLOB NOT NULL)",
            )?;
            let known = txn.db.query_row("SELECT source FROM moving", [], |row| row.get(0));
            let known: Option<String> = known.optional()?;
            match known {
                None => {
                    txn.db.execute("INSERT INTO moving VALUES (?)", [&of])?;
                    Ok(())
                }
                Some(known) if known == of => Ok(()),
                Some(_) => Err(StoreError::Medium(format!(
                    "what is in {told} was begun from another store: remove it to begin anew"
                ))),
            }
        })?;
        Ok(Self { directory: directory.to_owned(), store })
    }

    /// What was moved, in the order of the source, so many after a number of the source.
    pub(crate) fn moved(&self, after: u64, limit: usize) -> Result<Vec<Moved>, StoreError> {
        self.store.shared.readers.read(|db| {
            let next =
                "SELECT source, blob, hash FROM moved WHERE source > ? ORDER BY source LIMIT ?";
            let mut next = db.prepare_cached(next)?;
            let rows = next.query_map(
                (after.cast_signed(), i64::try_from(limit).unwrap_or(i64::MAX)),
                |row| {
                    let (source, blob) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
                    let (blob, hash) = (BlobId(blob.cast_unsigned()), Hash(row.get(2)?));
                    Ok(Moved { source: source.cast_unsigned(), blob, hash })
                },
            )?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
    }

    /// The last number of the source that was moved; 0: nothing was.
    pub(crate) fn last(&self) -> Result<u64, StoreError> {
        self.store.shared.readers.read(|db| {
            let last = "SELECT coalesce(max(source), 0) FROM moved";
            Ok(db.query_row(last, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
        })
    }

    /// What lies here of some octets.
    pub(crate) fn read(&self, blob: BlobId) -> Result<Vec<u8>, StoreError> {
        self.store.read(blob, 0, u64::MAX)
    }

    /// Keeps octets, each with its number in the source, and reads them back.
    pub(crate) fn add(&self, portion: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        let kept: Vec<(u64, Hash)> =
            portion.iter().map(|(source, octets)| (*source, Hash::of(octets))).collect();
        let octets = portion.into_iter().map(|(_, octets)| Octets::Owned(octets)).collect();
        let numbers = kept.clone();
        let blobs = self.store.write(octets, move |txn, blobs| {
            for (blob, (source, hash)) in blobs.iter().zip(numbers) {
                // What refers to it is counted at the end.
                txn.refer(*blob, 1);
                let insert = "INSERT INTO moved VALUES (?, ?, ?)";
                let values = (source.cast_signed(), blob.0.cast_signed(), &hash.0[..]);
                txn.db.prepare_cached(insert)?.execute(values)?;
            }
            Ok(blobs.to_vec())
        })?;
        for (blob, (source, hash)) in blobs.into_iter().zip(kept) {
            if Hash::of(&self.read(blob)?) != hash {
                let text = format!("octets {source} are not read as they were written");
                return Err(StoreError::Medium(text));
            }
        }
        Ok(())
    }

    /// Lets go of octets.
    pub(crate) fn remove(&self, moved: &Moved) -> Result<(), StoreError> {
        let (source, blob) = (moved.source, moved.blob);
        self.store.write(Vec::new(), move |txn, _| {
            txn.db.execute("DELETE FROM moved WHERE source = ?", [source.cast_signed()])?;
            txn.refer(blob, -1);
            Ok(())
        })
    }

    /// Gives octets the numbers that they have in the source, has all else written, and the store its name.
    pub(crate) fn finish<T>(
        self,
        rows: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Self { directory, store } = self;
        let folder = moving(&directory)?;
        drop(store);
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| StoreError::Medium("in use by another process".into()))?;
        let db = schema::writer(&folder.join("index.db"))?;
        // By way of numbers that none has.
        db.execute_batch(
            "BEGIN IMMEDIATE;
             UPDATE blobs SET id = -(SELECT source FROM moved WHERE moved.blob = blobs.id);
             UPDATE blobs SET id = -id;
             DROP TABLE moved; DROP TABLE moving;",
        )?;
        let made = rows(&db)?;
        db.execute_batch("COMMIT")?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        drop(db);
        std::fs::rename(&folder, &directory)?;
        if let Some(parent) = directory.parent() {
            flush_dir(parent)?;
        }
        Ok(made)
    }
}

/// Where a store is until it is whole.
fn moving(directory: &Path) -> Result<PathBuf, StoreError> {
    let name = directory.file_name();
    let mut name =
        name.ok_or_else(|| StoreError::Medium("the store has no name".into()))?.to_owned();
    name.push(".moving");
    Ok(directory.with_file_name(name))
}
