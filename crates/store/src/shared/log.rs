//! The log, written in the transaction of its event, and found again (PEC-LOG-01).
//!
//! Records are numbered without gaps whatever node writes them: the counter is locked from the last
//! step of a transaction to its commit, so that a lower number is never seen later than a higher one.

use tokio_postgres::Row;

use super::connection::{Db, Value, get, number};
use super::{clamp, index_key};
use crate::rules::{self, key, micros, time};
use crate::tree::Hash;
use crate::{LogEntry, LogFilter, LogLeaf, LogRecord, StoreError};

pub(super) fn write(db: &Db, records: &[LogRecord]) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    let texts = records.iter().map(rules::canonical).collect::<Result<Vec<_>, _>>()?;
    let count = "UPDATE counters SET value = value + $1 WHERE name = 'record' RETURNING value";
    let last = db.first(count, &[&(records.len() as i64)])?;
    let last = last.map_or_else(|| Err(no_counter()), |row| number(&row, 0))?;
    let first = last + 1 - records.len() as u64;
    let (mut numbers, mut times, mut of, mut leaves) = (vec![], vec![], vec![], vec![]);
    let (mut named, mut named_in) = (Vec::new(), Vec::new());
    let (mut parties, mut party_in, mut party_at) = (Vec::new(), Vec::new(), Vec::new());
    for ((at, record), text) in (first..).zip(records).zip(&texts) {
        let signed = at.cast_signed();
        numbers.push(signed);
        times.push(micros(record.time));
        of.push(record.identificativo.as_deref().map(index_key));
        leaves.push(Hash::leaf(at, text.as_bytes()).0);
        for identifier in rules::identifiers(record) {
            named.push(index_key(identifier));
            named_in.push(signed);
        }
        for party in rules::parties(record) {
            parties.push(index_key(&party).into_owned());
            party_in.push(signed);
            party_at.push(micros(record.time));
        }
    }
    let octets: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    let leaves: Vec<&[u8]> = leaves.iter().map(|leaf| &leaf[..]).collect();
    let insert = "INSERT INTO log (number, time, identificativo, record, leaf)
                  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[],
                      $5::bytea[])";
    db.execute(insert, &[&numbers, &times, &of, &octets, &leaves])?;
    let insert = "INSERT INTO log_identifiers
                  SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING";
    db.execute(insert, &[&named, &named_in])?;
    let insert = "INSERT INTO log_parties
                  SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
                  ON CONFLICT DO NOTHING";
    db.execute(insert, &[&parties, &party_at, &party_in]).map(drop)
}

fn no_counter() -> StoreError {
    StoreError::Medium("the log has no counter".into())
}

/// The number of the last record that was ever written.
pub(super) fn last(db: &Db) -> Result<u64, StoreError> {
    let last = db.first("SELECT value FROM counters WHERE name = 'record'", &[])?;
    last.map_or_else(|| Err(no_counter()), |row| number(&row, 0))
}

/// Removes the first records from `first` and before `end`, and all by which they are found.
pub(super) fn remove(db: &Db, (first, end): (i64, i64), limit: usize) -> Result<usize, StoreError> {
    let of = "SELECT number FROM log WHERE number >= $1 AND number < $2 ORDER BY number LIMIT $3";
    let rows = db.query(of, &[&first, &end, &clamp(limit)])?;
    let numbers: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let gone = "DELETE FROM log WHERE number = ANY($1) RETURNING number, record";
    let (mut named, mut named_in) = (Vec::new(), Vec::new());
    let (mut parties, mut party_in, mut party_at) = (Vec::new(), Vec::new(), Vec::new());
    for row in db.query(gone, &[&numbers])? {
        let number: i64 = get(&row, 0)?;
        let record = read(number, get(&row, 1)?)?;
        for identifier in rules::identifiers(&record) {
            named.push(index_key(identifier).into_owned());
            named_in.push(number);
        }
        for party in rules::parties(&record) {
            parties.push(index_key(&party).into_owned());
            party_in.push(number);
            party_at.push(micros(record.time));
        }
    }
    let delete = "DELETE FROM log_identifiers USING unnest($1::text[], $2::bigint[]) AS gone (i, n)
                  WHERE identifier = gone.i AND number = gone.n";
    db.execute(delete, &[&named, &named_in])?;
    let delete = "DELETE FROM log_parties
                  USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS gone (p, t, n)
                  WHERE party = gone.p AND time = gone.t AND number = gone.n";
    db.execute(delete, &[&parties, &party_at, &party_in])?;
    Ok(numbers.len())
}

fn read(number: i64, octets: &[u8]) -> Result<LogRecord, StoreError> {
    serde_json::from_slice(octets)
        .map_err(|error| StoreError::Medium(format!("log record {number}: {error}")))
}

pub(super) fn find(
    db: &Db,
    filter: &LogFilter,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, LogRecord)>, StoreError> {
    let number = i64::try_from(after).unwrap_or(i64::MAX);
    let after = if number == 0 {
        (i64::MIN, 0)
    } else {
        let time = db.first("SELECT time FROM log WHERE number = $1", &[&number])?;
        let Some(row) = time else { return Ok(Vec::new()) };
        (get(&row, 0)?, number)
    };
    let since = filter.since.map_or(i64::MIN, micros);
    let until = filter.until.map(micros);
    let account = filter.account.as_ref().map(|account| key(&account.to_string()));
    let account = account.as_deref().map(index_key);
    let id = filter.message_id.as_deref().map(index_key);
    // By whom its records are numbered and ordered in time.
    let (find, by) = match (&id, &account) {
        (Some(_), account) => {
            let party = match account {
                Some(_) => {
                    "EXISTS (SELECT 1 FROM log_parties AS p WHERE p.party = $7
                            AND p.time = log.time AND p.number = log.number)"
                }
                None => "$7::text IS NULL",
            };
            let find = format!(
                "WITH found (number) AS (
                    SELECT number FROM log_identifiers WHERE identifier = $6
                    UNION
                    SELECT same.number FROM log_identifiers AS asked
                    JOIN log AS named ON named.number = asked.number
                    JOIN log_identifiers AS other ON other.identifier = named.identificativo
                    JOIN log AS same ON same.number = other.number
                        AND same.identificativo = named.identificativo
                    WHERE asked.identifier = $6)
                 SELECT log.number, log.record FROM found
                 JOIN log ON log.number = found.number WHERE {party} AND"
            );
            (find, "log")
        }
        (None, Some(_)) => {
            let find = "SELECT log.number, log.record FROM log_parties AS p
                        JOIN log ON log.number = p.number
                        WHERE $6::text IS NULL AND p.party = $7 AND";
            (find.to_owned(), "p")
        }
        (None, None) => {
            let find = "SELECT log.number, log.record FROM log
                        WHERE $6::text IS NULL AND $7::text IS NULL AND";
            (find.to_owned(), "log")
        }
    };
    let find = format!(
        "{find} {by}.time >= $1 AND ({by}.time, {by}.number) > ($2, $3)
         AND ($4::bigint IS NULL OR {by}.time < $4) ORDER BY {by}.time, {by}.number LIMIT $5"
    );
    let values: [Value<'_>; 7] = [&since, &after.0, &after.1, &until, &clamp(limit), &id, &account];
    let mut records = Vec::new();
    for row in db.query(&find, &values)? {
        let number: i64 = get(&row, 0)?;
        records.push((number.cast_unsigned(), read(number, get(&row, 1)?)?));
    }
    Ok(records)
}

/// The rows after a number.
fn after(db: &Db, columns: &str, after: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
    let all = format!("SELECT {columns} FROM log WHERE number > $1 ORDER BY number LIMIT $2");
    db.query(&all, &[&i64::try_from(after).unwrap_or(i64::MAX), &clamp(limit)])
}

pub(super) fn entries(db: &Db, from: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
    let rows = after(db, "number, time, record, leaf", from, limit)?;
    let entry = |row: &Row| {
        Ok(LogEntry {
            number: number(row, 0)?,
            time: time(get(row, 1)?),
            octets: get(row, 2)?,
            leaf: get(row, 3)?,
        })
    };
    rows.iter().map(entry).collect()
}

pub(super) fn leaves(db: &Db, from: u64, limit: usize) -> Result<Vec<LogLeaf>, StoreError> {
    let rows = after(db, "number, time, leaf", from, limit)?;
    let leaf = |row: &Row| {
        let number = number(row, 0)?;
        let none = |_| StoreError::Medium(format!("log record {number} has a hash that is none"));
        let leaf = Hash(get::<&[u8]>(row, 2)?.try_into().map_err(none)?);
        Ok(LogLeaf { number, time: time(get(row, 1)?), leaf })
    };
    rows.iter().map(leaf).collect()
}
