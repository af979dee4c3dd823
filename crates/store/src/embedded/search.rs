//! The indexes of texts: which messages may hold a text, by the trigrams in it.
//!
//! One database an account, `search/00/0000002a.db`, apart from the index: filling it takes time that no
//! delivery should wait for, a search costs what its account holds, and nothing in it is needed. One that is
//! missing, damaged or of another version is begun anew. Texts come in lower case, and an FTS5 table keeps
//! for each of their trigrams in which octets it is: a superset of the matches, which whoever asks
//! confirms.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{AccountId, BlobId, Candidates, MailboxId, StoreError, Uid};

/// The version of these databases, and of the texts in them.
const VERSION: i64 = 1;
/// Databases that are open at a time: each holds a file and up to 1 MiB of cache.
const OPEN_MAX: usize = 64;
/// Trigrams of a text that are looked up at most: enough to find few candidates.
const TRIGRAMS_MAX: usize = 64;
/// Candidates at most: a text that is in more messages rules out too little to be worth the memory.
const CANDIDATES_MAX: usize = 1_000_000;
/// Octets in the index beyond those in use, before those that are gone are taken out.
const STALE_MAX: i64 = 1_000;

const TABLES: &str = "
CREATE TABLE state (last_blob INTEGER NOT NULL, pruned INTEGER NOT NULL);
INSERT INTO state VALUES (0, 0);
-- Up to which UID messages are indexed.
CREATE TABLE mailboxes (id INTEGER PRIMARY KEY, indexed_to INTEGER NOT NULL);
-- Which octets are. Those that are not `whole` were too long: they are always candidates.
CREATE TABLE texts (blob INTEGER PRIMARY KEY, whole INTEGER NOT NULL);
CREATE INDEX texts_too_long ON texts (blob) WHERE NOT whole;
CREATE VIRTUAL TABLE trigrams USING fts5 (
    text, content = '', contentless_delete = 1, detail = none,
    tokenize = 'trigram case_sensitive 1');
";

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

    /// Does something with the index of an account. `last_blob` is the last number given to octets: an
    /// index that knows higher ones is of another store, one that was put back from a copy.
    pub(super) fn with<T>(
        &self,
        account: AccountId,
        last_blob: u64,
        work: impl FnOnce(&mut Texts) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let texts = self.take(account)?;
        let mut texts = lock(&texts);
        if texts.last_blob()? > last_blob {
            tracing::warn!(
                account = account.0,
                "an index of texts is of a later store: begun anew"
            );
            texts.begin_anew()?;
        }
        texts.now = last_blob;
        match work(&mut texts) {
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
    for suffix in ["", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        super::segments::remove(Path::new(&name))?;
    }
    Ok(())
}

/// The index of one account.
pub(super) struct Texts {
    path: PathBuf,
    db: Connection,
    now: u64,
}

impl Texts {
    fn open(path: PathBuf) -> Result<Self, StoreError> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let db = match connect(&path) {
            Ok(db) => db,
            Err(error) => {
                tracing::warn!(%error, "an index of texts cannot be used: begun anew");
                remove(&path)?;
                connect(&path)?
            }
        };
        Ok(Self { path, db, now: 0 })
    }

    fn begin_anew(&mut self) -> Result<(), StoreError> {
        self.db = Connection::open_in_memory()?;
        remove(&self.path)?;
        self.db = connect(&self.path)?;
        Ok(())
    }

    fn is_damaged(&self) -> bool {
        let check = self.db.query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0));
        let check = check.and_then(|_| {
            self.db.query_row("SELECT count(*) FROM trigrams_data", [], |row| row.get::<_, i64>(0))
        });
        matches!(
            check.map_err(|error| error.sqlite_error_code()),
            Err(Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
        )
    }

    fn last_blob(&self) -> Result<u64, StoreError> {
        let get = "SELECT last_blob FROM state";
        let last: i64 = self.db.prepare_cached(get)?.query_row([], |row| row.get(0))?;
        Ok(last.cast_unsigned())
    }

    pub(super) fn indexed_to(&self, mailbox: MailboxId) -> Result<u32, StoreError> {
        let get = "SELECT indexed_to FROM mailboxes WHERE id = ?";
        let mut get = self.db.prepare_cached(get)?;
        Ok(get.query_row([mailbox.0.cast_signed()], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    pub(super) fn missing(&self, blobs: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let mut get = self.db.prepare_cached("SELECT 1 FROM texts WHERE blob = ?")?;
        let mut missing = Vec::new();
        for blob in blobs {
            if !get.exists([blob.0.cast_signed()])? {
                missing.push(*blob);
            }
        }
        Ok(missing)
    }

    /// Adds texts, and notes how far a mailbox is indexed with them, in one transaction.
    pub(super) fn add(
        &mut self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: &[(BlobId, Option<String>)],
    ) -> Result<(), StoreError> {
        let now = self.now.cast_signed();
        let txn = self.db.transaction()?;
        for (blob, text) in texts {
            let blob = blob.0.cast_signed();
            let new = txn
                .prepare_cached("INSERT OR IGNORE INTO texts VALUES (?, ?)")?
                .execute(params![blob, text.is_some()])?;
            if let (1, Some(text)) = (new, text) {
                // A NUL would end it.
                let text = text.replace('\0', " ");
                txn.prepare_cached("INSERT INTO trigrams (rowid, text) VALUES (?, ?)")?
                    .execute(params![blob, text])?;
            }
        }
        txn.prepare_cached(
            "INSERT INTO mailboxes VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET indexed_to = max(indexed_to, ?2)",
        )?
        .execute(params![mailbox.0.cast_signed(), up_to.0.get()])?;
        txn.prepare_cached("UPDATE state SET last_blob = ?")?.execute([now])?;
        Ok(txn.commit()?)
    }

    /// Takes out what is not there any more, once that is half of it.
    pub(super) fn prune(&mut self, is_there: &dyn Fn(BlobId) -> bool) -> Result<(), StoreError> {
        let get = "SELECT (SELECT count(*) FROM texts), pruned FROM state";
        let (count, pruned): (i64, i64) =
            self.db.prepare_cached(get)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count <= pruned * 2 + STALE_MAX {
            return Ok(());
        }
        let txn = self.db.transaction()?;
        let mut left = count;
        {
            let mut get = txn.prepare("SELECT blob FROM texts")?;
            let blobs = get.query_map([], |row| row.get::<_, i64>(0))?;
            for blob in blobs.collect::<Result<Vec<_>, _>>()? {
                if !is_there(BlobId(blob.cast_unsigned())) {
                    txn.prepare_cached("DELETE FROM trigrams WHERE rowid = ?")?.execute([blob])?;
                    txn.prepare_cached("DELETE FROM texts WHERE blob = ?")?.execute([blob])?;
                    left -= 1;
                }
            }
        }
        txn.execute("UPDATE state SET pruned = ?", [left])?;
        Ok(txn.commit()?)
    }

    pub(super) fn find(
        &self,
        mailbox: MailboxId,
        text: &str,
    ) -> Result<Option<Candidates>, StoreError> {
        let Some(query) = query(text) else { return Ok(None) };
        let indexed_to = self.indexed_to(mailbox)?;
        if indexed_to == 0 {
            return Ok(None);
        }
        let get = "SELECT rowid FROM trigrams WHERE trigrams MATCH ?1
                   UNION SELECT blob FROM texts WHERE NOT whole ORDER BY 1 LIMIT ?2";
        let mut get = self.db.prepare_cached(get)?;
        let blobs = get.query_map(params![query, CANDIDATES_MAX as i64 + 1], |row| {
            Ok(BlobId(row.get::<_, i64>(0)?.cast_unsigned()))
        })?;
        let blobs = blobs.collect::<Result<Vec<_>, _>>()?;
        Ok((blobs.len() <= CANDIDATES_MAX).then_some(Candidates { indexed_to, blobs }))
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "TRUNCATE")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "cache_size", -1_000)?;
    super::schema::prepare_once(&db)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            db.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?
        }
        VERSION => {}
        other => return Err(StoreError::Medium(format!("version {other}, not {VERSION}"))),
    }
    Ok(db)
}

/// All trigrams of a text, which FTS5 is asked for; `None` when it has none.
fn query(text: &str) -> Option<String> {
    let text: Vec<char> = text.chars().collect();
    // A NUL is no part of what is indexed.
    let trigrams = text.windows(3).filter(|trigram| !trigram.contains(&'\0')).take(TRIGRAMS_MAX);
    let quoted: Vec<String> = trigrams
        .map(|trigram| format!("\"{}\"", trigram.iter().collect::<String>().replace('"', "\"\"")))
        .collect();
    (!quoted.is_empty()).then(|| quoted.join(" AND "))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const MAILBOX: MailboxId = MailboxId(7);

    fn uid(number: u32) -> Uid {
        Uid(NonZeroU32::new(number).unwrap())
    }

    fn found(texts: &Texts, text: &str) -> Option<Vec<u64>> {
        let found = texts.find(MAILBOX, text).unwrap()?;
        Some(found.blobs.iter().map(|blob| blob.0).collect())
    }

    fn add(texts: &mut Texts, up_to: u32, new: &[(u64, Option<&str>)]) {
        let new: Vec<_> =
            new.iter().map(|(blob, text)| (BlobId(*blob), text.map(str::to_owned))).collect();
        texts.add(MAILBOX, uid(up_to), &new).unwrap();
    }

    #[test]
    fn a_text_is_looked_for_where_all_its_trigrams_are() {
        let dir = tempfile::tempdir().unwrap();
        let indexes = Indexes::open(dir.path()).unwrap();
        let account = AccountId(300);
        let use_it = |work: &mut dyn FnMut(&mut Texts)| {
            indexes
                .with(account, 99, |texts| {
                    work(texts);
                    Ok(())
                })
                .unwrap();
        };
        use_it(&mut |texts| {
            assert_eq!((texts.indexed_to(MAILBOX).unwrap(), found(texts, "perché")), (0, None));
            add(
                texts,
                4,
                &[
                    (3, Some("subject: perché \"no\"\n")),
                    (5, Some("nulla\0 di che")),
                    (8, None),
                    (9, Some("perc\nché")),
                ],
            );
            for (text, expected) in [
                ("perché", Some(vec![3, 8])),
                ("\"no\"", Some(vec![3, 8])),
                ("la di", Some(vec![8])),
                ("nulla", Some(vec![5, 8])),
                ("nowhere", Some(vec![8])),
                ("* OR a", Some(vec![8])),
                ("pe", None),
                ("", None),
            ] {
                assert_eq!(found(texts, text), expected, "{text:?}");
            }
            let blobs = [3, 4, 8].map(BlobId);
            assert_eq!(texts.missing(&blobs).unwrap(), [BlobId(4)]);
            assert_eq!(texts.find(MailboxId(8), "perché").unwrap(), None);
        });
        // Opened again it is the same; where the store is an earlier one it is begun anew.
        let indexes = Indexes::open(dir.path()).unwrap();
        let to = |last| indexes.with(account, last, |texts| texts.indexed_to(MAILBOX)).unwrap();
        assert_eq!((to(99), to(98), to(99)), (4, 0, 0));
        indexes.remove(account).unwrap();
        assert!(!indexes.path(account).exists());
    }

    #[test]
    fn a_damaged_index_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let account = AccountId(1);
        let indexes = Indexes::open(dir.path()).unwrap();
        indexes
            .with(account, 9, |texts| {
                add(texts, 1, &[(1, Some("testo"))]);
                Ok(())
            })
            .unwrap();
        fs::write(indexes.path(account), b"this is no database, and long enough to be looked at")
            .unwrap();
        let indexes = Indexes::open(dir.path()).unwrap();
        assert_eq!(indexes.with(account, 9, |texts| texts.indexed_to(MAILBOX)).unwrap(), 0);
    }

    #[test]
    fn what_is_gone_is_taken_out_once_it_is_much() {
        let dir = tempfile::tempdir().unwrap();
        let indexes = Indexes::open(dir.path()).unwrap();
        indexes
            .with(AccountId(1), 99_999, |texts| {
                let many: Vec<_> =
                    (1..=STALE_MAX as u64).map(|blob| (blob, Some("testo"))).collect();
                add(texts, 1, &many);
                texts.prune(&|blob| blob.0 < 3).unwrap();
                assert_eq!(found(texts, "testo").unwrap().len(), STALE_MAX as usize);
                add(texts, 2, &[(5_000, Some("testo")), (5_001, None)]);
                texts.prune(&|blob| blob.0 < 3 || blob.0 == 5_001).unwrap();
                assert_eq!(found(texts, "testo").unwrap(), [1, 2, 5_001]);
                Ok(())
            })
            .unwrap();
    }
}
