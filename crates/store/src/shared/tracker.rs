//! The tracker, what falls due in it, and the marks of what happened.

use tokio_postgres::Row;

use super::connection::{Db, get, number};
use super::txn::Txn;
use super::{clamp, index_key};
use crate::rules::{self, key, micros, time};
use crate::{Digest, Follow, Mark, Overdue, StoreError, Timestamp, Track, TrackState, Tracked};

fn number_of(state: TrackState) -> i64 {
    TrackState::ALL.iter().position(|known| *known == state).unwrap_or_default() as i64
}

fn state_of(row: &Row, at: usize) -> Result<TrackState, StoreError> {
    let state = usize::try_from(number(row, at)?).ok().and_then(|at| TrackState::ALL.get(at));
    state.copied().ok_or_else(|| StoreError::Medium("a tracked state cannot be read".into()))
}

pub(super) fn follow(txn: &Txn<'_>, message: &Follow) -> Result<(), StoreError> {
    let id = index_key(&message.identificativo);
    if message.recipients.is_empty() {
        return Ok(());
    }
    // Whoever follows the same message waits here, and then finds it followed.
    let followed = "INSERT INTO followed VALUES ($1, 0, $2) ON CONFLICT DO NOTHING";
    let known = "SELECT 1 FROM tracker WHERE identificativo = $1 LIMIT 1";
    if txn.db.execute(followed, &[&id, &message.about])? == 0
        || txn.db.first(known, &[&id])?.is_some()
    {
        // One whose recipients are all closed has no row there: the new one goes again.
        let unused = "DELETE FROM followed WHERE identificativo = $1 AND open = 0";
        return txn.db.execute(unused, &[&id]).map(drop);
    }
    let (at, first, second) = (micros(message.at), micros(message.first), micros(message.second));
    let mut open: i64 = 0;
    for recipient in &message.recipients {
        let recipient = recipient.to_string();
        let key = key(&recipient);
        let key = index_key(&key);
        let entry = "INSERT INTO tracker VALUES ($1, $2, $3, 0, $4, $4) ON CONFLICT DO NOTHING";
        if txn.db.execute(entry, &[&id, &key, &recipient, &at])? > 0 {
            let deadline = "INSERT INTO deadlines VALUES ($1, $2, $3, $4)";
            txn.db.execute(deadline, &[&id, &key, &first, &second])?;
            open += 1;
        }
    }
    let set = "UPDATE followed SET open = $1 WHERE identificativo = $2";
    txn.db.execute(set, &[&open, &id]).map(drop)
}

pub(super) fn track(txn: &Txn<'_>, track: &Track) -> Result<(), StoreError> {
    let key = key(&track.recipient.to_string());
    let (id, key) = (index_key(&track.identificativo), index_key(&key));
    let now = "SELECT state FROM tracker WHERE identificativo = $1 AND recipient_key = $2
               FOR UPDATE";
    let now = txn.db.first(now, &[&id, &key])?.map(|row| state_of(&row, 0)).transpose()?;
    if track.only_from.is_some() && track.only_from != now {
        return Err(StoreError::Overtaken);
    }
    let Some(state) = now.and_then(|now| rules::advance(now, track.state)) else { return Ok(()) };
    let set = "UPDATE tracker SET state = $1, since = $2
               WHERE identificativo = $3 AND recipient_key = $4";
    txn.db.execute(set, &[&number_of(state), &micros(track.at), &id, &key])?;
    if !state.is_final() {
        let set = "UPDATE deadlines SET due = second
                   WHERE identificativo = $1 AND recipient_key = $2";
        return txn.db.execute(set, &[&id, &key]).map(drop);
    }
    let close = "DELETE FROM deadlines WHERE identificativo = $1 AND recipient_key = $2";
    if txn.db.execute(close, &[&id, &key])? > 0 {
        let count = "UPDATE followed SET open = open - 1 WHERE identificativo = $1";
        txn.db.execute(count, &[&id])?;
        let close = "DELETE FROM followed WHERE identificativo = $1 AND open <= 0";
        txn.db.execute(close, &[&id])?;
    }
    Ok(())
}

const ENTRY: &str = "tracker.recipient, tracker.state, tracker.sent, tracker.since, deadlines.due";

fn entry(row: &Row) -> Result<Tracked, StoreError> {
    let recipient: String = get(row, 0)?;
    let damaged = |_| StoreError::Medium("a tracked address cannot be read".into());
    Ok(Tracked {
        recipient: mail::Address::parse(&recipient).map_err(damaged)?,
        state: state_of(row, 1)?,
        sent: time(get(row, 2)?),
        since: time(get(row, 3)?),
        due: get::<Option<i64>>(row, 4)?.map(time),
    })
}

pub(super) fn tracked(db: &Db, identificativo: &str) -> Result<Vec<Tracked>, StoreError> {
    let all = format!(
        "SELECT {ENTRY} FROM tracker LEFT JOIN deadlines USING (identificativo, recipient_key)
         WHERE identificativo = $1"
    );
    let rows = db.query(&all, &[&index_key(identificativo)])?;
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    Ok(entries)
}

pub(super) fn overdue(
    db: &Db,
    now: Timestamp,
    after: Option<&Overdue>,
    limit: usize,
) -> Result<Vec<Overdue>, StoreError> {
    // Row values are compared in the order of the index, so that the page begins where it should.
    let due = format!(
        "SELECT {ENTRY}, identificativo, followed.about
         FROM deadlines JOIN tracker USING (identificativo, recipient_key)
         JOIN followed USING (identificativo)
         WHERE deadlines.due <= $1 AND (deadlines.due, identificativo, recipient_key) > ($2, $3, $4)
         ORDER BY deadlines.due, identificativo, recipient_key LIMIT $5"
    );
    let (since, id, recipient) = match after.map(rules::overdue_key) {
        Some((due, id, recipient)) => (micros(due), id, recipient),
        None => (i64::MIN, String::new(), String::new()),
    };
    let (id, recipient) = (index_key(&id), index_key(&recipient));
    let mut found = Vec::new();
    for row in db.query(&due, &[&micros(now), &since, &id, &recipient, &clamp(limit)])? {
        let entry = entry(&row)?;
        let due = entry.due.unwrap_or(now);
        let (identificativo, about) = (get(&row, 5)?, get(&row, 6)?);
        found.push(Overdue { identificativo, entry, due, about });
    }
    Ok(found)
}

/// Makes a mark, or tells that it was made.
pub(super) fn make(txn: &Txn<'_>, mark: &Mark, at: Timestamp) -> Result<(), StoreError> {
    let make = "INSERT INTO marks VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    match txn.db.execute(make, &[&&mark.key[..], &&mark.value[..], &micros(at)])? {
        0 => Err(StoreError::Marked),
        _ => Ok(()),
    }
}

pub(super) fn mark(db: &Db, key: &Digest) -> Result<Option<Digest>, StoreError> {
    let row = db.first("SELECT value FROM marks WHERE key = $1", &[&&key[..]])?;
    let damaged = |_| StoreError::Medium("a mark cannot be read".into());
    row.map(|row| get::<&[u8]>(&row, 0)?.try_into().map_err(damaged)).transpose()
}

/// Forgets marks that were made before then, the oldest first.
pub(super) fn forget(db: &Db, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
    let forget = "DELETE FROM marks WHERE key IN
                  (SELECT key FROM marks WHERE made < $1 ORDER BY made LIMIT $2)";
    let gone = db.execute(forget, &[&micros(before), &clamp(limit)])?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}
