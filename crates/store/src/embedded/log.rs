//! The log in the index: written in the transaction of its event, and found again (PEC-LOG-01).
//!
//! Each question has one way through the tables: by identifier, else by account and time, else by time
//! alone; none of them reads more than it answers, however long the log is.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::pipeline::clamp;
use super::txn::Txn;
use crate::rules::{self, key, micros, time};
use crate::tree::Hash;
use crate::{LogEntry, LogFilter, LogLeaf, LogRecord, StoreError};

pub(super) fn write(txn: &mut Txn<'_>, record: &LogRecord) -> Result<(), StoreError> {
    txn.counters.record += 1;
    let number = txn.counters.record;
    let text = rules::canonical(record)?;
    let leaf = Hash::leaf(number, text.as_bytes());
    let write = "INSERT INTO log (number, time, identificativo, record, leaf)
                 VALUES (?, ?, ?, ?, ?)";
    txn.db.prepare_cached(write)?.execute(params![
        number.cast_signed(),
        micros(record.time),
        record.identificativo,
        text,
        leaf.0
    ])?;
    let mut insert = txn.db.prepare_cached("INSERT INTO log_identifiers VALUES (?, ?)")?;
    for identifier in rules::identifiers(record) {
        insert.execute(params![identifier, number.cast_signed()])?;
    }
    write_parties(txn.db, number, record)
}

fn write_parties(db: &Connection, number: u64, record: &LogRecord) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached("INSERT INTO log_parties VALUES (?, ?, ?)")?;
    for party in rules::parties(record) {
        insert.execute(params![party, micros(record.time), number.cast_signed()])?;
    }
    Ok(())
}

/// Computes anew what a log of the first format does not have.
pub(super) fn rebuild(db: &Connection) -> Result<(), StoreError> {
    let mut all = db.prepare("SELECT number, record FROM log")?;
    let mut set = db.prepare("UPDATE log SET leaf = ? WHERE number = ?")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let (number, text): (i64, String) = (row.get(0)?, row.get(1)?);
        let leaf = Hash::leaf(number.cast_unsigned(), text.as_bytes());
        set.execute(params![leaf.0, number])?;
        write_parties(db, number.cast_unsigned(), &read(number, text.as_bytes())?)?;
    }
    Ok(())
}

fn read(number: i64, octets: &[u8]) -> Result<LogRecord, StoreError> {
    serde_json::from_slice(octets)
        .map_err(|error| StoreError::Medium(format!("log record {number}: {error}")))
}

/// Removes a record and all by which it is found.
pub(super) fn remove(db: &Connection, number: i64) -> Result<(), StoreError> {
    let text: String = db
        .prepare_cached("DELETE FROM log WHERE number = ? RETURNING record")?
        .query_row([number], |row| row.get(0))?;
    let record = read(number, text.as_bytes())?;
    let mut delete =
        db.prepare_cached("DELETE FROM log_identifiers WHERE identifier = ? AND number = ?")?;
    for identifier in rules::identifiers(&record) {
        delete.execute(params![identifier, number])?;
    }
    let delete = "DELETE FROM log_parties WHERE party = ? AND time = ? AND number = ?";
    let mut delete = db.prepare_cached(delete)?;
    for party in rules::parties(&record) {
        delete.execute(params![party, micros(record.time), number])?;
    }
    Ok(())
}

/// A question in SQL, with its values in order.
fn question(filter: &LogFilter, after: (i64, i64), limit: usize) -> (String, Vec<Value>) {
    let since = filter.since.map(micros).unwrap_or(i64::MIN).max(after.0);
    let until = filter.until.map(micros);
    let account = filter.account.as_ref().map(|account| key(&account.to_string()));
    // By whom its records are numbered and ordered in time.
    let by;
    let (mut find, mut values) = match (&filter.message_id, account) {
        (Some(id), account) => {
            by = "log";
            let mut find = "WITH found (number) AS (
                SELECT number FROM log_identifiers WHERE identifier = ?
                UNION
                SELECT same.number FROM log_identifiers AS asked
                JOIN log AS named ON named.number = asked.number
                JOIN log_identifiers AS other ON other.identifier = named.identificativo
                JOIN log AS same ON same.number = other.number
                    AND same.identificativo = named.identificativo
                WHERE asked.identifier = ?)
                SELECT log.number, log.record FROM found
                CROSS JOIN log ON log.number = found.number WHERE"
                .to_owned();
            let mut values = vec![Value::from(id.clone()), Value::from(id.clone())];
            if let Some(account) = account {
                find += " EXISTS (SELECT 1 FROM log_parties AS of WHERE of.party = ?
                          AND of.time = log.time AND of.number = log.number) AND";
                values.push(account.into());
            }
            (find, values)
        }
        (None, Some(account)) => {
            by = "of";
            let find = "SELECT log.number, log.record FROM log_parties AS of
                        CROSS JOIN log ON log.number = of.number WHERE of.party = ? AND";
            (find.to_owned(), vec![account.into()])
        }
        (None, None) => {
            by = "log";
            let find = "SELECT log.number, log.record FROM log INDEXED BY log_time WHERE";
            (find.to_owned(), vec![])
        }
    };
    find += &format!(" {by}.time >= ? AND ({by}.time > ? OR {by}.number > ?)");
    values.extend([since.into(), after.0.into(), after.1.into()]);
    if let Some(until) = until {
        find += &format!(" AND {by}.time < ?");
        values.push(until.into());
    }
    find += &format!(" ORDER BY {by}.time, {by}.number LIMIT ?");
    values.push(clamp(limit).into());
    (find, values)
}

pub(super) fn find(
    db: &Connection,
    filter: &LogFilter,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, LogRecord)>, StoreError> {
    let number = i64::try_from(after).unwrap_or(i64::MAX);
    let after = if number == 0 {
        (i64::MIN, 0)
    } else {
        let time = "SELECT time FROM log WHERE number = ?";
        let time = db.prepare_cached(time)?.query_row([number], |row| row.get(0)).optional()?;
        let Some(time) = time else { return Ok(Vec::new()) };
        (time, number)
    };
    let (find, values) = question(filter, after, limit);
    let mut find = db.prepare_cached(&find)?;
    let mut rows = find.query(params_from_iter(values))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let text: String = row.get(1)?;
        records.push((number.cast_unsigned(), read(number, text.as_bytes())?));
    }
    Ok(records)
}

pub(super) fn entries(
    db: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let get = "SELECT number, time, record, leaf FROM log WHERE number > ? ORDER BY number LIMIT ?";
    let mut get = db.prepare_cached(get)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let entries = get.query_map(params![after, clamp(limit)], |row| {
        Ok(LogEntry {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            time: time(row.get(1)?),
            octets: raw(row, 2)?,
            leaf: raw(row, 3)?,
        })
    })?;
    Ok(entries.collect::<Result<_, _>>()?)
}

/// The octets of a column, whichever type somebody made it.
pub(super) fn raw(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(octets) | ValueRef::Blob(octets) => octets.to_vec(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Vec::new(),
    })
}

pub(super) fn leaves(
    db: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<LogLeaf>, StoreError> {
    let get = "SELECT number, time, leaf FROM log WHERE number > ? ORDER BY number LIMIT ?";
    let mut get = db.prepare_cached(get)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = get.query(params![after, clamp(limit)])?;
    let mut leaves = Vec::new();
    while let Some(row) = rows.next()? {
        let number = row.get::<_, i64>(0)?.cast_unsigned();
        let leaf = raw(row, 2)?.try_into();
        let no_hash = |_| StoreError::Medium(format!("log record {number} has no hash"));
        leaves.push(LogLeaf {
            number,
            time: time(row.get(1)?),
            leaf: Hash(leaf.map_err(no_hash)?),
        });
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedStore;
    use crate::embedded::tests::small;

    /// PEC-LOG-01: it must be possible to find the data on request, whatever the log has grown to.
    #[test]
    fn every_question_goes_through_an_index_and_sorts_no_more_than_it_found() {
        let dir = tempfile::TempDir::new().unwrap();
        drop(EmbeddedStore::open(dir.path(), small()).unwrap());
        let db = Connection::open(dir.path().join("index.db")).unwrap();
        let (id, account) = (Some("a@b".to_owned()), mail::Address::parse("a@b.example").ok());
        let (since, until) = (Some(crate::Timestamp::UNIX_EPOCH), Some(crate::Timestamp::MAX));
        for (message_id, account, driver) in [
            (id.clone(), account.clone(), "SEARCH log USING INTEGER PRIMARY KEY"),
            (id, None, "SEARCH log USING INTEGER PRIMARY KEY"),
            (None, account, "SEARCH of USING PRIMARY KEY (party=? AND time>? AND time<?)"),
            (None, None, "SEARCH log USING INDEX log_time (time>? AND time<?)"),
        ] {
            let filter = LogFilter { message_id: message_id.clone(), account, since, until };
            let (sql, values) = question(&filter, (7, 7), 100);
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map(params_from_iter(values), |row| row.get::<_, String>(3));
            let steps: Vec<String> = steps.unwrap().collect::<Result<_, _>>().unwrap();
            let plan = steps.join("\n");
            assert!(plan.contains(driver), "{plan}");
            assert!(!steps.iter().any(|s| s.starts_with("SCAN ") && !s.starts_with("SCAN found")));
            // Only what an identifier found is sorted; the rest comes in order.
            let sorts = steps.iter().any(|step| step.contains("FOR ORDER BY"));
            assert_eq!(sorts, message_id.is_some(), "{plan}");
        }
    }
}
