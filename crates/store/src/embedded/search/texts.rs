//! The index of the texts of one account.
//!
//! Each different word of its messages is kept once (`words`), with its trigrams, so that a text is found in
//! the middle of words too; and for each word, by its number, which octets it is in, in their header or in their
//! parts (`places`). Trigrams and places are FTS5 tables that keep nothing else. A text that is one word is
//! thus found for sure, without reading any message; of a longer one it is known where all of its words
//! are, and whoever asks confirms.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::remove;
use super::words::{self, Part};
use crate::{BlobId, Candidates, MailboxId, MessageText, StoreError, Uid, Within};

/// The version of these databases, and of the texts in them. Version 1 had the trigrams of each message.
const VERSION: i64 = 2;
/// Words that a part of a text is in at most, before all messages are read instead.
const FOUND_WORDS_MAX: usize = 10_000;
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
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE trigrams USING fts5 (
    word, content = '', contentless_delete = 1, detail = none,
    tokenize = 'trigram case_sensitive 1');
CREATE VIRTUAL TABLE places USING fts5 (
    header, body, content = '', contentless_delete = 1, detail = column, tokenize = 'ascii');
CREATE VIRTUAL TABLE placed USING fts5vocab (places, row);
";

/// The index of one account.
pub(in super::super) struct Texts {
    path: PathBuf,
    db: Connection,
    /// It could not be begun anew when that had to be: there is nothing behind the connection.
    pub(super) is_lost: bool,
    /// The last number given to octets.
    pub(super) now: u64,
}

impl Texts {
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
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
        Ok(Self { path, db, is_lost: false, now: 0 })
    }

    pub(super) fn begin_anew(&mut self) -> Result<(), StoreError> {
        self.is_lost = true;
        self.db = Connection::open_in_memory()?;
        remove(&self.path)?;
        self.db = connect(&self.path)?;
        self.is_lost = false;
        Ok(())
    }

    pub(super) fn is_damaged(&self) -> bool {
        let check = self.db.query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0));
        let check = check.and_then(|_| {
            self.db.query_row("SELECT count(*) FROM places_data", [], |row| row.get::<_, i64>(0))
        });
        matches!(
            check.map_err(|error| error.sqlite_error_code()),
            Err(Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
        )
    }

    pub(super) fn last_blob(&self) -> Result<u64, StoreError> {
        let get = "SELECT last_blob FROM state";
        let last: i64 = self.db.prepare_cached(get)?.query_row([], |row| row.get(0))?;
        Ok(last.cast_unsigned())
    }

    pub(in super::super) fn indexed_to(&self, mailbox: MailboxId) -> Result<u32, StoreError> {
        let get = "SELECT indexed_to FROM mailboxes WHERE id = ?";
        let mut get = self.db.prepare_cached(get)?;
        Ok(get.query_row([mailbox.0.cast_signed()], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    pub(in super::super) fn missing(&self, blobs: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
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
    pub(in super::super) fn add(
        &mut self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: &[(BlobId, Option<MessageText>)],
    ) -> Result<(), StoreError> {
        let now = self.now.cast_signed();
        let txn = self.db.transaction()?;
        for (blob, text) in texts {
            let blob = blob.0.cast_signed();
            let found = text.as_ref().and_then(|MessageText { header, body }| {
                Some([words::of(header)?, words::of(body)?])
            });
            let new = txn
                .prepare_cached("INSERT OR IGNORE INTO texts VALUES (?, ?)")?
                .execute(params![blob, found.is_some()])?;
            if let (1, Some([header, body])) = (new, found) {
                let (header, body) = (numbers(&txn, &header)?, numbers(&txn, &body)?);
                txn.prepare_cached("INSERT INTO places (rowid, header, body) VALUES (?, ?, ?)")?
                    .execute(params![blob, header, body])?;
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
    pub(in super::super) fn prune(
        &mut self,
        is_there: &dyn Fn(BlobId) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
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
                if !is_there(BlobId(blob.cast_unsigned()))? {
                    txn.prepare_cached("DELETE FROM places WHERE rowid = ?")?.execute([blob])?;
                    txn.prepare_cached("DELETE FROM texts WHERE blob = ?")?.execute([blob])?;
                    left -= 1;
                }
            }
        }
        // What is counted in no text any more. The terms of `places` are the numbers of words.
        txn.execute_batch(
            "CREATE TEMP TABLE unused AS SELECT id FROM words
                 WHERE id NOT IN (SELECT CAST(term AS INTEGER) FROM placed);
             DELETE FROM trigrams WHERE rowid IN (SELECT id FROM unused);
             DELETE FROM words WHERE id IN (SELECT id FROM unused);
             DROP TABLE unused;",
        )?;
        txn.execute("UPDATE state SET pruned = ?", [left])?;
        Ok(txn.commit()?)
    }

    pub(in super::super) fn find(
        &self,
        mailbox: MailboxId,
        text: &str,
        within: Within,
    ) -> Result<Option<Candidates>, StoreError> {
        let Some(wanted) = words::wanted(text) else { return Ok(None) };
        let indexed_to = self.indexed_to(mailbox)?;
        if indexed_to == 0 {
            return Ok(None);
        }
        let mut found: Option<Vec<BlobId>> = None;
        for part in &wanted.parts {
            let Some(words) = self.words_with(part)? else { continue };
            let places = self.places(&words, within)?;
            found = Some(match found {
                None => places,
                Some(mut found) => {
                    found.retain(|blob| places.binary_search(blob).is_ok());
                    found
                }
            });
        }
        let Some(found) = found.filter(|found| found.len() <= CANDIDATES_MAX) else {
            return Ok(None);
        };
        let get = "SELECT blob FROM texts WHERE NOT whole ORDER BY blob";
        let mut get = self.db.prepare_cached(get)?;
        let too_long = get.query_map([], blob)?.collect::<Result<Vec<_>, _>>()?;
        let (sure, mut unsure) = if wanted.exact { (found, vec![]) } else { (vec![], found) };
        unsure.extend(too_long);
        unsure.sort_unstable();
        Ok(Some(Candidates { indexed_to, sure, unsure }))
    }

    /// The numbers of the words that a part can be in; nothing when they are too many.
    fn words_with(&self, part: &Part<'_>) -> Result<Option<Vec<i64>>, StoreError> {
        if part.begins && part.ends {
            return Ok(Some(number(&self.db, part.text)?.into_iter().collect()));
        }
        let chars: Vec<char> = part.text.chars().collect();
        let trigrams =
            chars.windows(3).map(|trigram| format!("\"{}\"", String::from_iter(trigram)));
        let query = trigrams.collect::<Vec<_>>().join(" AND ");
        let get =
            "SELECT words.id, words.word FROM trigrams JOIN words ON words.id = trigrams.rowid
                   WHERE trigrams MATCH ?";
        let mut get = self.db.prepare_cached(get)?;
        let mut rows = get.query([query])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let word = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if !part.is_in(word) {
                continue;
            }
            if found.len() == FOUND_WORDS_MAX {
                return Ok(None);
            }
            found.push(row.get(0)?);
        }
        Ok(Some(found))
    }

    /// The octets that some of these words are in, ascending.
    fn places(&self, words: &[i64], within: Within) -> Result<Vec<BlobId>, StoreError> {
        let mut get = self.db.prepare_cached("SELECT rowid FROM places WHERE places MATCH ?")?;
        let mut found = Vec::new();
        for word in words {
            let query = match within {
                Within::Message => format!("\"{word}\""),
                Within::Header => format!("header : \"{word}\""),
                Within::Body => format!("body : \"{word}\""),
            };
            for place in get.query_map([query], blob)? {
                found.push(place?);
            }
            if found.len() > CANDIDATES_MAX * 2 {
                found.sort_unstable();
                found.dedup();
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

fn blob(row: &rusqlite::Row<'_>) -> rusqlite::Result<BlobId> {
    Ok(BlobId(row.get::<_, i64>(0)?.cast_unsigned()))
}

/// The number of a word, if it has one.
fn number(db: &Connection, word: &str) -> Result<Option<i64>, StoreError> {
    let mut get = db.prepare_cached("SELECT id FROM words WHERE word = ?")?;
    Ok(get.query_row([word], |row| row.get(0)).optional()?)
}

/// The numbers of words as the text that FTS5 reads; words that are new get one.
fn numbers(db: &Connection, words: &BTreeSet<&str>) -> Result<String, StoreError> {
    let mut numbers = String::new();
    for word in words {
        let number = match number(db, word)? {
            Some(number) => number,
            None => {
                db.prepare_cached("INSERT INTO words (word) VALUES (?)")?.execute([word])?;
                let number = db.last_insert_rowid();
                db.prepare_cached("INSERT INTO trigrams (rowid, word) VALUES (?, ?)")?
                    .execute(params![number, word])?;
                number
            }
        };
        // To a String nothing can fail to be written.
        let _ = write!(numbers, "{number} ");
    }
    Ok(numbers)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = Connection::open(path)?;
    // A commit flushes nothing, so that no delivery's flush waits for it: a crash of the machine takes
    // back the latest ones whole, with the UID up to which they had come.
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "cache_size", -1_000)?;
    super::super::schema::prepare_once(&db)?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;

    use super::super::Indexes;
    use super::*;
    use crate::AccountId;

    const MAILBOX: MailboxId = MailboxId(7);

    fn uid(number: u32) -> Uid {
        Uid(NonZeroU32::new(number).unwrap())
    }

    /// Where it is for sure, and where it may be.
    fn found_within(texts: &Texts, text: &str, within: Within) -> Option<(Vec<u64>, Vec<u64>)> {
        let found = texts.find(MAILBOX, text, within).unwrap()?;
        let numbers = |blobs: Vec<BlobId>| blobs.iter().map(|blob| blob.0).collect();
        Some((numbers(found.sure), numbers(found.unsure)))
    }

    fn found(texts: &Texts, text: &str) -> Option<(Vec<u64>, Vec<u64>)> {
        found_within(texts, text, Within::Message)
    }

    fn known(texts: &Texts) -> Vec<String> {
        let mut get = texts.db.prepare("SELECT word FROM words ORDER BY word").unwrap();
        let words = get.query_map([], |row| row.get(0)).unwrap();
        words.collect::<Result<_, _>>().unwrap()
    }

    fn add(texts: &mut Texts, up_to: u32, new: &[(u64, Option<(&str, &str)>)]) {
        let text = |(header, body): (&str, &str)| MessageText {
            header: header.to_owned(),
            body: body.to_owned(),
        };
        let new: Vec<_> = new.iter().map(|(blob, new)| (BlobId(*blob), new.map(text))).collect();
        texts.add(MAILBOX, uid(up_to), &new).unwrap();
    }

    #[test]
    fn a_text_is_found_where_its_words_are() {
        let dir = tempfile::tempdir().unwrap();
        let indexes = Indexes::open(dir.path()).unwrap();
        let account = AccountId(300);
        let use_it = |work: &mut dyn FnMut(&mut Texts)| {
            indexes
                .with(
                    account,
                    || Ok(99),
                    |texts| {
                        work(texts);
                        Ok(())
                    },
                )
                .unwrap();
        };
        let many = (0..=words::WORDS_MAX).map(|number| format!("{number} ")).collect::<String>();
        use_it(&mut |texts| {
            assert_eq!((texts.indexed_to(MAILBOX).unwrap(), found(texts, "perché")), (0, None));
            add(
                texts,
                4,
                &[
                    (3, Some(("subject: perché \"no\"\n", "della causa"))),
                    (5, Some(("subject: nulla\0 di che", "perché e perciò"))),
                    (8, None),
                    (9, Some(("perc\nché", "nullaosta"))),
                    (10, Some(("", many.as_str()))),
                ],
            );
            for (text, sure, unsure) in [
                ("perché", &[3, 5][..], &[8, 10][..]),
                ("erch", &[3, 5], &[8, 10]),
                ("nulla", &[5, 9], &[8, 10]),
                ("nulla ", &[], &[5, 8, 10]),
                ("perché e", &[], &[3, 5, 8, 10]),
                ("la causa", &[], &[3, 8, 10]),
                ("e perciò", &[], &[5, 8, 10]),
                ("\"no\"", &[], &[3, 8, 10]),
                ("nowhere", &[], &[8, 10]),
                ("osta or nulla", &[], &[8, 10]),
            ] {
                let expected = Some((sure.to_vec(), unsure.to_vec()));
                assert_eq!(found(texts, text), expected, "{text:?}");
            }
            for text in ["pe", "", "* a"] {
                assert_eq!(found(texts, text), None, "{text:?}");
            }
            let within = |within| found_within(texts, "perché", within).unwrap().0;
            assert_eq!((within(Within::Header), within(Within::Body)), (vec![3], vec![5]));
            let blobs = [3, 4, 8].map(BlobId);
            assert_eq!(texts.missing(&blobs).unwrap(), [BlobId(4)]);
            assert_eq!(texts.find(MailboxId(8), "perché", Within::Message).unwrap(), None);
        });
        // Opened again it is the same; where the store is an earlier one it is begun anew.
        let indexes = Indexes::open(dir.path()).unwrap();
        let to =
            |last| indexes.with(account, || Ok(last), |texts| texts.indexed_to(MAILBOX)).unwrap();
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
            .with(
                account,
                || Ok(9),
                |texts| {
                    add(texts, 1, &[(1, Some(("testo", "")))]);
                    Ok(())
                },
            )
            .unwrap();
        let path = indexes.path(account);
        // Closed, so that nothing of it is left in its journal.
        drop(indexes);
        fs::write(path, b"this is no database, and long enough to be looked at").unwrap();
        let indexes = Indexes::open(dir.path()).unwrap();
        assert_eq!(indexes.with(account, || Ok(9), |texts| texts.indexed_to(MAILBOX)).unwrap(), 0);
    }

    /// What cannot be begun anew is tried again when it is needed next.
    #[test]
    fn an_index_that_could_not_be_begun_anew_is_not_lost_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let account = AccountId(1);
        let indexes = Indexes::open(dir.path()).unwrap();
        let to = |last| indexes.with(account, || Ok(last), |texts| texts.indexed_to(MAILBOX));
        let add_one = |texts: &mut Texts| {
            add(texts, 1, &[(1, Some(("testo", "")))]);
            Ok(())
        };
        indexes.with(account, || Ok(9), add_one).unwrap();
        // Where its file should be there is what cannot be removed.
        let path = indexes.path(account);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        to(8).unwrap_err();
        to(8).unwrap_err();
        fs::remove_dir(&path).unwrap();
        assert_eq!(to(8).unwrap(), 0);
        indexes.with(account, || Ok(8), add_one).unwrap();
        assert_eq!(to(8).unwrap(), 1);
    }

    #[test]
    fn what_is_gone_is_taken_out_once_it_is_much() {
        let dir = tempfile::tempdir().unwrap();
        let indexes = Indexes::open(dir.path()).unwrap();
        indexes
            .with(
                AccountId(1),
                || Ok(99_999),
                |texts| {
                    let many: Vec<_> = (1..=STALE_MAX as u64)
                        .map(|blob| (blob, Some(("testo", if blob == 9 { "unico" } else { "" }))))
                        .collect();
                    add(texts, 1, &many);
                    texts.prune(&|blob| Ok(blob.0 < 3)).unwrap();
                    assert_eq!(found(texts, "testo").unwrap().0.len(), STALE_MAX as usize);
                    assert_eq!(known(texts), ["testo", "unico"]);
                    add(texts, 2, &[(5_000, Some(("testo", ""))), (5_001, None)]);
                    texts.prune(&|blob| Ok(blob.0 < 3 || blob.0 == 5_001)).unwrap();
                    assert_eq!(found(texts, "testo").unwrap(), (vec![1, 2], vec![5_001]));
                    // And words that are nowhere any more.
                    assert_eq!(known(texts), ["testo"]);
                    assert_eq!(found(texts, "unico").unwrap(), (vec![], vec![5_001]));
                    add(texts, 3, &[(5_002, Some(("unico", "")))]);
                    assert_eq!(found(texts, "unico").unwrap(), (vec![5_002], vec![5_001]));
                    Ok(())
                },
            )
            .unwrap();
    }
}
