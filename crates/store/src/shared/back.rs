//! A new embedded store, filled with what a shared one holds, which stays as it is.
//!
//! As long as it takes nobody has the shared store open: that is seen at the beginning, and a lock of the database keeps
//! all others out. Octets first, each read back and held against its hash; broken off, it goes on after the
//! last of them, once what is there has been read again. Then all rows in one transaction. Texts that SEARCH
//! looks into and digests are made again.

mod tables;

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use self::tables::{Kind, TABLES, Table};
use super::connection::{Db, get, number};
use super::filling::{Filled, PORTION_BLOBS, PORTION_OCTETS, Told};
use super::octets::{self, Medium};
use super::opening::{self, Options};
use super::{clamp, schema};
use crate::embedded::{self, Moved, Taking};
use crate::tree::Hash;
use crate::{BlobId, StoreError};

/// Rows that are read at a time: a log record has some kilooctets, the chunks of a seal more.
const ROWS_AT_ONCE: usize = 200;

/// Fills a new embedded store in `directory` with the shared one of `options`, which nobody else has open. `tell`
/// hears how many octets of how many are there. After an error it is called again.
///
/// # Errors
///
/// [`StoreError::Medium`] when there is a store already, when the shared one is in use, damaged or not there, or what
/// was written is not what is read; [`StoreError::Unavailable`] when the database or what octets are on does not
/// answer.
pub fn bring_back(
    options: &Options,
    directory: &Path,
    opened: embedded::Options,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Filled, StoreError> {
    let (io, pool) = opening::pool(options)?;
    let db = pool.connect(|_| ())?;
    schema::lock_out(&db)?;
    let none = || StoreError::Medium(format!("there is no store in {}", options.schema));
    schema::look(&db, &options.schema)?.ok_or_else(none)?;
    // Tables of an older format are brought to this one.
    let name = schema::make(&db, &options.schema)?;
    if db.first("SELECT 1 FROM nodes WHERE alive_until > now() LIMIT 1", &[])?.is_some() {
        return Err(StoreError::Medium("gateways have it open".into()));
    }
    let medium = opening::medium(options, 0, io)?;
    opening::is_of(medium.owner()?.as_deref(), Some(&name), opening::has_octets(&db)?)?;
    let row = db.first("SELECT coalesce(sum(octets), 0)::bigint FROM blobs", &[])?;
    let octets = row.map_or(Ok(0), |row| number(&row, 0))?;
    let source = Source { db: &db, medium: &*medium };
    let taking = Taking::begin(directory, opened, &name)?;
    let mut told = Told { done: 0, all: octets, tell };
    let again = source.check(&taking, &mut told)?;
    source.move_octets(&taking, &mut told)?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
                 SET LOCAL idle_in_transaction_session_timeout = 0";
    let filled = db.transaction(begin, || taking.finish(|index| move_rows(&db, index)))?;
    Ok(Filled { octets, again, ..filled })
}

/// From where octets come.
struct Source<'a> {
    db: &'a Db,
    medium: &'a dyn Medium,
}

impl Source<'_> {
    fn read(&self, blob: u64) -> Result<Vec<u8>, StoreError> {
        octets::read(self.medium, octets::locate(self.db, BlobId(blob), 0, u64::MAX)?)
    }

    /// Looks at all that an earlier run moved; how many were moved again.
    fn check(&self, taking: &Taking, told: &mut Told<'_>) -> Result<u64, StoreError> {
        let (mut last, mut again) = (0, 0);
        loop {
            let some = taking.moved(last, PORTION_BLOBS)?;
            let Some(end) = some.last() else { return Ok(again) };
            last = end.source;
            for moved in some {
                let blob = moved.source;
                if let Err(StoreError::NoSuchMessage) = octets::octets(self.db, BlobId(blob)) {
                    // It went since.
                    taking.remove(&moved)?;
                    continue;
                }
                let octets = self.read(blob)?;
                if Hash::of(&octets) != moved.hash {
                    let text = format!("octets {blob} are not those that were moved");
                    return Err(StoreError::Medium(text));
                }
                let length = octets.len() as u64;
                if !is_there(taking, &moved)? {
                    tracing::warn!(
                        blob,
                        "octets are not there as they were moved: they are moved again"
                    );
                    taking.remove(&moved)?;
                    taking.add(vec![(blob, octets)])?;
                    again += 1;
                }
                told.add(length);
            }
        }
    }

    /// Moves what is not there yet.
    fn move_octets(&self, taking: &Taking, told: &mut Told<'_>) -> Result<(), StoreError> {
        let next = "SELECT id, octets FROM blobs WHERE id > $1 ORDER BY id LIMIT $2";
        let mut last = taking.last()?;
        loop {
            told.add(0);
            let rows = self.db.query(next, &[&last.cast_signed(), &clamp(PORTION_BLOBS)])?;
            let (mut portion, mut octets) = (Vec::new(), 0);
            for row in &rows {
                let (id, length) = (number(row, 0)?, number(row, 1)?);
                if octets > 0 && octets + length > PORTION_OCTETS {
                    break;
                }
                let read = self.read(id)?;
                if read.len() as u64 != length {
                    let text = format!("octets {id} are not as many as they should be");
                    return Err(StoreError::Medium(text));
                }
                octets += length;
                portion.push((id, read));
                last = id;
            }
            if portion.is_empty() {
                return Ok(());
            }
            taking.add(portion)?;
            told.done += octets;
        }
    }
}

/// Whether octets are read as they were written.
fn is_there(taking: &Taking, moved: &Moved) -> Result<bool, StoreError> {
    match taking.read(moved.blob) {
        Ok(octets) => Ok(Hash::of(&octets) == moved.hash),
        Err(StoreError::NoSuchMessage | StoreError::Medium(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves all but octets, in the transactions that are open.
fn move_rows(db: &Db, index: &Connection) -> Result<Filled, StoreError> {
    let mut filled = Filled::default();
    for (at, table) in TABLES.iter().enumerate() {
        let rows = move_table(db, index, at, table)?;
        match table.name {
            "accounts" => filled.accounts = rows,
            "messages" => filled.messages = rows,
            "log" => filled.records = rows,
            "blobs" => {
                let there: i64 =
                    index.query_row("SELECT count(*) FROM blobs", [], |row| row.get(0))?;
                if there.cast_unsigned() != rows {
                    let text = format!("octets of {there} of {rows} messages are there");
                    return Err(StoreError::Medium(text));
                }
            }
            _ => {}
        }
    }
    let last = |name: &str| -> Result<i64, StoreError> {
        let last = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}");
        db.first(&last, &[])?.map_or(Ok(0), |row| get(&row, 0))
    };
    let counter = |name: &str| -> Result<i64, StoreError> {
        let row = db.first("SELECT value FROM counters WHERE name = $1", &[&name])?;
        row.map_or(Ok(0), |row| get(&row, 0))
    };
    let set = "UPDATE counters SET account = ?, mailbox = ?, blob = ?, job = ?, record = ?,
                   uid_validity = ?, jobs = (SELECT count(*) FROM jobs)";
    let numbers = [
        last("account_numbers")?,
        last("mailbox_numbers")?,
        last("blob_numbers")?,
        last("job_numbers")?,
        counter("record")?,
        counter("uid_validity")?,
    ];
    index.execute(set, numbers)?;
    index.execute("DELETE FROM sqlite_sequence WHERE name = 'quarantine'", [])?;
    let infected = "INSERT INTO sqlite_sequence (name, seq) VALUES ('quarantine', ?)";
    index.execute(infected, [last("infected_numbers")?])?;
    Ok(filled)
}

/// Moves the rows of a table; how many.
fn move_table(db: &Db, index: &Connection, at: usize, table: &Table) -> Result<u64, StoreError> {
    db.batch(&format!("DECLARE moving_{at} NO SCROLL CURSOR FOR {}", table.rows))?;
    let fetch = format!("FETCH {ROWS_AT_ONCE} FROM moving_{at}");
    let mut write = index.prepare(table.write)?;
    let mut count = 0;
    loop {
        let rows = db.query(&fetch, &[])?;
        if rows.is_empty() {
            return Ok(count);
        }
        for row in &rows {
            let values = table.columns.iter().enumerate().map(|(at, kind)| {
                Ok(match kind {
                    Kind::Number => {
                        get::<Option<i64>>(row, at)?.map_or(Value::Null, Value::Integer)
                    }
                    Kind::Text => get::<Option<String>>(row, at)?.map_or(Value::Null, Value::Text),
                    Kind::Octets => {
                        get::<Option<Vec<u8>>>(row, at)?.map_or(Value::Null, Value::Blob)
                    }
                })
            });
            let values = values.collect::<Result<Vec<_>, StoreError>>()?;
            if write.execute(params_from_iter(values))? != 1 {
                let text = format!("a row of {} could not be written", table.name);
                return Err(StoreError::Medium(text));
            }
            count += 1;
        }
    }
}
