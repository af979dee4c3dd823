//! A new shared store, filled with what an embedded one holds, which stays as it is.
//!
//! Octets first, a portion at a time, each read back and held against its hash, which is kept with it. Broken off, it
//! goes on after the last portion, once it has read what is there again, in the source and here (`again.rs`). Then all rows, numbers and names in one transaction, which ends with the version that lets
//! nodes open the store: before it there is none, after it there is all of it. What can be made again
//! (digests, texts that SEARCH looks into) is left out.

mod again;
mod tables;

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement};

use self::tables::{Kind, TABLES, Table};
use super::connection::{Db, Pool, Value, get, number};
use super::octets::{self, Medium};
use super::opening::{self, Options};
use super::{clamp, index_key, plain, schema, txn};
use crate::embedded::{self, EmbeddedStore};
use crate::tree::Hash;
use crate::{BlobId, Store as _, StoreError};

/// Octets of a portion, unless one message has more.
pub(super) const PORTION_OCTETS: u64 = 16 * 1024 * 1024;
/// Messages of a portion.
pub(super) const PORTION_BLOBS: usize = 256;
/// Rows that are written with one statement.
const ROWS_AT_ONCE: usize = 1000;
/// Octets of them: a log record or what is followed has some kilooctets.
const ROWS_OCTETS: usize = 8 * 1024 * 1024;
/// References that are held against each other at a time.
const REFS_AT_ONCE: usize = 10_000;

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// Accounts.
    pub accounts: u64,
    /// Messages in mailboxes.
    pub messages: u64,
    /// Records of the log.
    pub records: u64,
    /// Octets: of a message that several mailboxes have, once.
    pub octets: u64,
    /// Messages, each once, that an earlier run had moved, that were not there as it wrote them, and were moved again.
    pub again: u64,
}

/// Fills the new store of `options` with the embedded one in `directory`, which nobody else has open.
/// `tell` hears how many octets of how many are there. After an error it is called again.
///
/// # Errors
///
/// [`StoreError::Medium`] when there is a store already, when the embedded one is in use or damaged or another than
/// the one it was begun with, or what was written is not what is read; [`StoreError::Unavailable`] when the database or what octets are on
/// does not answer.
pub fn fill(
    directory: &Path,
    opened: embedded::Options,
    options: &Options,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Filled, StoreError> {
    let source = EmbeddedStore::open(directory, opened)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let index = Connection::open_with_flags(directory.join("index.db"), flags)?;
    let (io, pool) = opening::pool(options)?;
    let (name, node, has_octets) = pool.with(|db| {
        let name = schema::begin_filling(db, &options.schema)?;
        let next = db.first("SELECT nextval('node_numbers')", &[])?;
        Ok((name, next.map_or(Ok(0), |row| number(&row, 0))?, opening::has_octets(db)?))
    })?;
    let medium = opening::medium(options, node, io)?;
    opening::own(&*medium, &name, has_octets)?;
    let count = "SELECT coalesce(sum(octets), 0) FROM blobs";
    let octets = index.query_row(count, [], |row| row.get::<_, i64>(0))?.cast_unsigned();
    let there = There { source: &source, pool: &pool, medium: &*medium };
    let mut told = Told { done: 0, all: octets, tell };
    let again = there.check(&mut told)?;
    there.move_octets(&index, &mut told)?;
    let filled = txn::once(&pool, |db| move_rows(db, &index))?;
    Ok(Filled { octets, again, ..filled })
}

/// How far it is.
pub(super) struct Told<'a> {
    pub(super) done: u64,
    pub(super) all: u64,
    pub(super) tell: &'a mut dyn FnMut(u64, u64),
}

impl Told<'_> {
    pub(super) fn add(&mut self, octets: u64) {
        self.done += octets;
        (self.tell)(self.done.min(self.all), self.all);
    }
}

/// From where octets come, and where they go.
struct There<'a> {
    source: &'a EmbeddedStore,
    pool: &'a Pool,
    medium: &'a dyn Medium,
}

impl There<'_> {
    /// Moves what is not there yet.
    fn move_octets(&self, index: &Connection, told: &mut Told<'_>) -> Result<(), StoreError> {
        let there = "SELECT coalesce(max(id), 0)::bigint FROM blobs";
        let mut last = self.pool.with(|db| {
            let row = db.first(there, &[])?;
            row.map_or(Ok(0), |row| get::<i64>(&row, 0))
        })?;
        let mut next = index.prepare("SELECT id, octets FROM blobs WHERE id > ? ORDER BY id")?;
        loop {
            told.add(0);
            let mut portion: Vec<(u64, u64)> = Vec::new();
            let mut rows = next.query([last])?;
            let mut octets = 0;
            while portion.len() < PORTION_BLOBS
                && let Some(row) = rows.next()?
            {
                let (id, length) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.cast_unsigned());
                if octets > 0 && octets + length > PORTION_OCTETS {
                    break;
                }
                octets += length;
                portion.push((id.cast_unsigned(), length));
                last = id;
            }
            if portion.is_empty() {
                return Ok(());
            }
            self.move_portion(&portion)?;
            told.done += octets;
        }
    }

    fn move_portion(&self, portion: &[(u64, u64)]) -> Result<(), StoreError> {
        let (mut numbers, mut hashes, mut all) = (Vec::new(), Vec::new(), Vec::<Arc<[u8]>>::new());
        for &(id, length) in portion {
            let octets = self.source.read(BlobId(id), 0, u64::MAX)?;
            if octets.len() as u64 != length {
                let text = format!("octets {id} are not as many as they should be");
                return Err(StoreError::Medium(text));
            }
            numbers.push(id);
            hashes.push(Hash::of(&octets));
            all.push(octets.into());
        }
        let kept = octets::keep(self.medium, &numbers, all)?;
        for (kept, hash) in kept.iter().zip(&hashes) {
            if Hash::of(&octets::read_back(self.medium, kept)?) != *hash {
                let text = format!("octets {} are not read as they were written", kept.blob.0);
                return Err(StoreError::Medium(text));
            }
        }
        let ids: Vec<i64> = kept.iter().map(|kept| kept.blob.0.cast_signed()).collect();
        let lengths: Vec<i64> = kept.iter().map(|kept| kept.octets.cast_signed()).collect();
        let objects: Vec<&str> = kept.iter().map(|kept| &*kept.object).collect();
        let starts: Vec<i64> = kept.iter().map(|kept| kept.start.cast_signed()).collect();
        let chunks: Vec<&[u8]> = kept.iter().map(|kept| &*kept.chunks).collect();
        let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.0[..]).collect();
        // What refers to them is counted at the end.
        let insert = "WITH new AS (
                          SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[],
                              $5::bytea[], $6::bytea[]) AS new (id, octets, object, start, chunks, hash)),
                      moved AS (INSERT INTO moved SELECT id, hash FROM new)
                      INSERT INTO blobs (id, octets, refs, object, start, chunks)
                      SELECT id, octets, 0, object, start, chunks FROM new";
        let values: [Value<'_>; 6] = [&ids, &lengths, &objects, &starts, &chunks, &hashes];
        self.pool.with(|db| db.execute(insert, &values).map(drop))
    }
}

/// Moves all but octets, in the transaction that is open.
fn move_rows(db: &Db, index: &Connection) -> Result<Filled, StoreError> {
    let mut filled = Filled::default();
    count_references(db, index)?;
    for table in TABLES {
        let rows = move_table(db, index, table)?;
        match table.name {
            "accounts" => filled.accounts = rows,
            "messages" => filled.messages = rows,
            "log" => filled.records = rows,
            _ => {}
        }
    }
    let last = "SELECT account, mailbox, blob, job, record, uid_validity,
                    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'quarantine'), 0)
                FROM counters";
    let last: [i64; 7] = index.query_row(last, [], |row| {
        let mut last = [0; 7];
        for (at, number) in last.iter_mut().enumerate() {
            *number = row.get(at)?;
        }
        Ok(last)
    })?;
    let [account, mailbox, blob, job, record, uid_validity, infected] = last;
    for (sequence, last) in [
        ("account_numbers", account),
        ("mailbox_numbers", mailbox),
        ("blob_numbers", blob),
        ("job_numbers", job),
        ("infected_numbers", infected),
    ] {
        let set = "SELECT setval($1::text::regclass, greatest($2::bigint, 1), $2::bigint > 0)";
        db.query(set, &[&sequence, &last])?;
    }
    for (name, value) in [("record", record), ("uid_validity", uid_validity)] {
        db.execute("UPDATE counters SET value = $1 WHERE name = $2", &[&value, &name])?;
    }
    schema::filled(db)?;
    Ok(filled)
}

/// Counts what refers to each of the octets that were moved, and lets go of those that went since.
fn count_references(db: &Db, index: &Connection) -> Result<(), StoreError> {
    let all = "SELECT id, refs, octets FROM blobs WHERE id > ? ORDER BY id LIMIT ?";
    let mut all = index.prepare(all)?;
    let (mut last, mut there) = (0_i64, 0_u64);
    loop {
        let (mut ids, mut refs, mut octets) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = all.query([last, clamp(REFS_AT_ONCE)])?;
        while let Some(row) = rows.next()? {
            ids.push(row.get::<_, i64>(0)?);
            refs.push(row.get::<_, i64>(1)?);
            octets.push(row.get::<_, i64>(2)?);
        }
        let end =
            if ids.len() < REFS_AT_ONCE { i64::MAX } else { ids.last().copied().unwrap_or(0) };
        let gone = "WITH gone AS (
                        DELETE FROM blobs WHERE id > $1 AND id <= $2 AND id <> ALL($3)
                        RETURNING object)
                    INSERT INTO garbage SELECT DISTINCT object, now() FROM gone
                    ON CONFLICT DO NOTHING";
        db.execute(gone, &[&last, &end, &ids])?;
        // Octets of another length came from another store, when this was begun.
        let set = "UPDATE blobs SET refs = new.refs
                   FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS new (id, refs, octets)
                   WHERE blobs.id = new.id AND blobs.octets = new.octets";
        there += db.execute(set, &[&ids, &refs, &octets])?;
        last = end;
        if end == i64::MAX {
            break;
        }
    }
    let expected = index.query_row("SELECT count(*) FROM blobs", [], |row| row.get::<_, i64>(0))?;
    if there == expected.cast_unsigned() {
        return Ok(());
    }
    Err(StoreError::Medium(format!("octets of {there} of {expected} messages are there")))
}

/// The values of a column.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Octets(Vec<Option<Vec<u8>>>),
}

impl Column {
    const fn new(kind: Kind) -> Self {
        match kind {
            Kind::Number => Self::Numbers(Vec::new()),
            Kind::Text | Kind::Key | Kind::Numbered => Self::Texts(Vec::new()),
            Kind::Octets => Self::Octets(Vec::new()),
        }
    }

    /// What it is in the database.
    const fn array(&self) -> &'static str {
        match self {
            Self::Numbers(_) => "bigint[]",
            Self::Texts(_) => "text[]",
            Self::Octets(_) => "bytea[]",
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Numbers(numbers) => numbers,
            Self::Texts(texts) => texts,
            Self::Octets(octets) => octets,
        }
    }

    /// Adds a value; how many octets it has.
    fn push(&mut self, kind: Kind, value: ValueRef<'_>) -> Result<usize, StoreError> {
        let wrong = |_| StoreError::Medium("a row of the index cannot be read".into());
        match self {
            Self::Numbers(numbers) => {
                numbers.push(value.as_i64_or_null().map_err(wrong)?);
                Ok(size_of::<i64>())
            }
            Self::Texts(texts) => {
                let text = value.as_str_or_null().map_err(wrong)?;
                let text = match (text, kind) {
                    (Some(text), Kind::Key) => Some(index_key(text).into_owned()),
                    (Some(text), Kind::Numbered) => Some(named(text)?),
                    (text, _) => text.map(|text| plain(text).into_owned()),
                };
                let length = text.as_ref().map_or(0, String::len);
                texts.push(text);
                Ok(length)
            }
            Self::Octets(all) => {
                let octets = value.as_bytes_or_null().map_err(wrong)?;
                all.push(octets.map(<[u8]>::to_vec));
                Ok(octets.map_or(0, <[u8]>::len))
            }
        }
    }
}

/// The keywords that [`Kind::Numbered`] has the numbers of.
fn named(text: &str) -> Result<String, StoreError> {
    let damaged = || StoreError::Medium("a message has a keyword without a name".into());
    let (numbers, known) = text.split_once(' ').ok_or_else(damaged)?;
    let known: Vec<&str> = known.split(' ').collect();
    let (numbers, []) = numbers.as_bytes().as_chunks::<4>() else { return Err(damaged()) };
    let named = numbers.iter().map(|digits| {
        let number = std::str::from_utf8(digits).ok()?;
        let number = u16::from_str_radix(number, 16).ok()?.swap_bytes();
        known.get(usize::from(number)).copied()
    });
    Ok(named.collect::<Option<Vec<&str>>>().ok_or_else(damaged)?.join(" "))
}

/// Moves the rows of a table; how many.
fn move_table(db: &Db, index: &Connection, table: &Table) -> Result<u64, StoreError> {
    let mut statement: Statement<'_> = index.prepare(table.rows)?;
    let mut rows = statement.query([])?;
    let (mut read, mut written) = (0_u64, 0_u64);
    loop {
        let mut columns: Vec<Column> =
            table.columns.iter().map(|(_, kind, _)| Column::new(*kind)).collect();
        let (mut count, mut octets) = (0, 0);
        while count < ROWS_AT_ONCE
            && octets < ROWS_OCTETS
            && let Some(row) = rows.next()?
        {
            for (at, (column, (_, kind, _))) in columns.iter_mut().zip(table.columns).enumerate() {
                octets += column.push(*kind, row.get_ref(at)?)?;
            }
            count += 1;
        }
        if count == 0 {
            break;
        }
        read += count as u64;
        let names: Vec<&str> = table.columns.iter().map(|(name, ..)| *name).collect();
        let made: Vec<&str> = table.columns.iter().map(|(.., made)| *made).collect();
        let arrays = columns.iter().enumerate();
        let arrays: Vec<String> =
            arrays.map(|(at, column)| format!("${}::{}", at + 1, column.array())).collect();
        let (names, made, arrays) = (names.join(", "), made.join(", "), arrays.join(", "));
        let insert = format!(
            "INSERT INTO {} ({names}) SELECT {made} FROM unnest({arrays}) AS new ({names})
             ON CONFLICT DO NOTHING",
            table.name
        );
        let values: Vec<Value<'_>> = columns.iter().map(Column::value).collect();
        written += db.execute(&insert, &values)?;
    }
    // Of two identifiers that the database cannot tell apart one row is enough.
    if written != read && !["log_identifiers", "log_parties"].contains(&table.name) {
        let text = format!("{written} of {read} rows of {} could be written", table.name);
        return Err(StoreError::Medium(text));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_keywords_become_keywords() {
        assert_eq!(named("0000 $Seen").unwrap(), "$Seen");
        assert_eq!(named("01000000 a b").unwrap(), "b a");
        for text in ["", "0000", "0100 a", "00 a", "xx00 a", "00000 a"] {
            assert!(named(text).is_err(), "{text}");
        }
    }
}
