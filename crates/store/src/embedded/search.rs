//! The indexes of texts: which messages hold a text, by the words in it.
//!
//! One database an account, `search/00/0000002a.db`, apart from the index: filling it takes time that no
//! delivery should wait for, a search costs what its account holds, and nothing in it is needed. One that is
//! missing, damaged or of another version is begun anew. What is in one is told in `search/texts.rs`.

mod texts;
#[cfg(test)]
mod torn;
mod words;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use self::texts::Texts;
use crate::{AccountId, StoreError};

/// Databases that are open at a time: each holds a file and up to 1 MiB of cache.
const OPEN_MAX: usize = 64;

/// The indexes of all accounts.
pub(super) struct Indexes {
    dir: PathBuf,
    /// The one used last comes last.
    open: Mutex<Vec<(AccountId, Arc<Mutex<Texts>>)>>,
}

impl Indexes {
    pub(super) fn open(store: &Path) -> Result<Self, StoreError> {
        let dir = store.join("search");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir, open: Mutex::default() })
    }

    /// Removes all of them, of a store that keeps none any more.
    pub(super) fn remove_all(store: &Path) -> Result<(), StoreError> {
        match fs::remove_dir_all(store.join("search")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn path(&self, account: AccountId) -> PathBuf {
        self.dir.join(format!("{:02x}", account.0 % 256)).join(format!("{:08x}.db", account.0))
    }

    /// Does something with the index of an account. `last_blob` is the last number given to octets, asked
    /// when nobody else is at the index: one that knows higher ones is of another store, one that was put
    /// back from a copy.
    pub(super) fn with<T>(
        &self,
        account: AccountId,
        last_blob: impl FnOnce() -> Result<u64, StoreError>,
        work: impl FnOnce(&mut Texts) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let texts = self.take(account)?;
        let mut texts = lock(&texts);
        let last_blob = last_blob()?;
        if texts.is_lost {
            texts.begin_anew()?;
        }
        let done = texts.last_blob().and_then(|known| {
            if known > last_blob {
                tracing::warn!(
                    account = account.0,
                    "an index of texts is of a later store: begun anew"
                );
                texts.begin_anew()?;
            }
            texts.now = last_blob;
            work(&mut texts)
        });
        match done {
            Err(error) if texts.is_damaged() => {
                tracing::warn!(account = account.0, %error, "an index of texts is damaged: begun anew");
                texts.begin_anew()?;
                Err(error)
            }
            done => done,
        }
    }

    fn take(&self, account: AccountId) -> Result<Arc<Mutex<Texts>>, StoreError> {
        let mut open = lock(&self.open);
        let texts = match open.iter().position(|(known, _)| *known == account) {
            Some(at) => open.remove(at).1,
            None => {
                if open.len() >= OPEN_MAX {
                    open.remove(0);
                }
                Arc::new(Mutex::new(Texts::open(self.path(account))?))
            }
        };
        open.push((account, Arc::clone(&texts)));
        Ok(texts)
    }

    /// Forgets an account.
    pub(super) fn remove(&self, account: AccountId) -> Result<(), StoreError> {
        let mut open = lock(&self.open);
        open.retain(|(known, _)| *known != account);
        remove(&self.path(account))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        super::segments::remove(Path::new(&name))?;
    }
    Ok(())
}
