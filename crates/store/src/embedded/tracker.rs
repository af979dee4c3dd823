//! The tracker in the index, what falls due in it, and the marks of what happened.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::pipeline::clamp;
use crate::rules::{self, key, micros, time};
use crate::{Digest, Follow, Mark, Overdue, StoreError, Timestamp, Track, TrackState, Tracked};

fn state_of(number: u8) -> TrackState {
    match number {
        0 => TrackState::Sent,
        1 => TrackState::TakenInCharge,
        2 => TrackState::Delivered,
        4 => TrackState::Warned,
        5 => TrackState::TakenLate,
        6 => TrackState::Expired,
        _ => TrackState::Failed,
    }
}

fn number_of(state: TrackState) -> u8 {
    match state {
        TrackState::Sent => 0,
        TrackState::TakenInCharge => 1,
        TrackState::Delivered => 2,
        TrackState::Failed => 3,
        TrackState::Warned => 4,
        TrackState::TakenLate => 5,
        TrackState::Expired => 6,
    }
}

pub(super) fn follow(db: &Connection, message: &Follow) -> Result<(), StoreError> {
    let id = &message.identificativo;
    let known = "SELECT 1 FROM tracker WHERE identificativo = ? LIMIT 1";
    let known: Option<i64> =
        db.prepare_cached(known)?.query_row([id], |row| row.get(0)).optional()?;
    if known.is_some() || message.recipients.is_empty() {
        return Ok(());
    }
    let (at, first, second) = (micros(message.at), micros(message.first), micros(message.second));
    let mut open = 0_i64;
    let mut entry = db.prepare_cached("INSERT OR IGNORE INTO tracker VALUES (?, ?, ?, 0, ?, ?)")?;
    let mut deadline = db.prepare_cached("INSERT OR IGNORE INTO deadlines VALUES (?, ?, ?, ?)")?;
    for recipient in &message.recipients {
        let recipient = recipient.to_string();
        let recipient_key = key(&recipient);
        if entry.execute(params![id, recipient_key, recipient, at, at])? > 0 {
            deadline.execute(params![id, recipient_key, first, second])?;
            open += 1;
        }
    }
    db.prepare_cached("INSERT INTO followed VALUES (?, ?, ?)")?.execute(params![
        id,
        open,
        message.about
    ])?;
    Ok(())
}

pub(super) fn track(db: &Connection, track: &Track) -> Result<(), StoreError> {
    let recipient_key = key(&track.recipient.to_string());
    let entry = params![track.identificativo, recipient_key];
    let get = "SELECT state FROM tracker WHERE identificativo = ? AND recipient_key = ?";
    let now: Option<u8> = db.prepare_cached(get)?.query_row(entry, |row| row.get(0)).optional()?;
    let now = now.map(state_of);
    if track.only_from.is_some() && track.only_from != now {
        return Err(StoreError::Overtaken);
    }
    let Some(state) = now.and_then(|now| rules::advance(now, track.state)) else { return Ok(()) };
    let set = "UPDATE tracker SET state = ?, since = ?
               WHERE identificativo = ? AND recipient_key = ?";
    db.prepare_cached(set)?.execute(params![
        number_of(state),
        micros(track.at),
        track.identificativo,
        recipient_key
    ])?;
    if !state.is_final() {
        let set = "UPDATE deadlines SET due = second
                   WHERE identificativo = ? AND recipient_key = ?";
        db.prepare_cached(set)?.execute(entry)?;
        return Ok(());
    }
    let close = "DELETE FROM deadlines WHERE identificativo = ? AND recipient_key = ?";
    // An entry of a release that had no deadlines has nothing to close.
    if db.prepare_cached(close)?.execute(entry)? > 0 {
        let count = "UPDATE followed SET open = open - 1 WHERE identificativo = ? RETURNING open";
        let open: Option<i64> = db
            .prepare_cached(count)?
            .query_row([&track.identificativo], |row| row.get(0))
            .optional()?;
        if open.is_some_and(|open| open <= 0) {
            db.prepare_cached("DELETE FROM followed WHERE identificativo = ?")?
                .execute([&track.identificativo])?;
        }
    }
    Ok(())
}

const ENTRY: &str = "tracker.recipient, tracker.state, tracker.sent, tracker.since, deadlines.due";

fn entry(row: &Row<'_>) -> Result<Tracked, StoreError> {
    let recipient: String = row.get(0)?;
    let damaged = |_| StoreError::Medium("a tracked address cannot be read".into());
    Ok(Tracked {
        recipient: mail::Address::parse(&recipient).map_err(damaged)?,
        state: state_of(row.get(1)?),
        sent: time(row.get(2)?),
        since: time(row.get(3)?),
        due: row.get::<_, Option<i64>>(4)?.map(time),
    })
}

pub(super) fn tracked(db: &Connection, identificativo: &str) -> Result<Vec<Tracked>, StoreError> {
    let get = format!(
        "SELECT {ENTRY} FROM tracker LEFT JOIN deadlines USING (identificativo, recipient_key)
         WHERE tracker.identificativo = ?"
    );
    let mut get = db.prepare_cached(&get)?;
    let mut rows = get.query([identificativo])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(row)?);
    }
    entries.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    Ok(entries)
}

pub(super) fn overdue(
    db: &Connection,
    now: Timestamp,
    after: Option<&Overdue>,
    limit: usize,
) -> Result<Vec<Overdue>, StoreError> {
    // Row values are compared in the order of the index, so that the page begins where it should.
    let get = format!(
        "SELECT {ENTRY}, deadlines.identificativo, followed.about
         FROM deadlines INDEXED BY deadlines_due
         JOIN tracker USING (identificativo, recipient_key)
         JOIN followed USING (identificativo)
         WHERE deadlines.due <= ?
             AND (deadlines.due, deadlines.identificativo, deadlines.recipient_key) > (?, ?, ?)
         ORDER BY deadlines.due, deadlines.identificativo, deadlines.recipient_key LIMIT ?"
    );
    let (due, id, recipient) = match after.map(rules::overdue_key) {
        Some((due, id, recipient)) => (micros(due), id, recipient),
        None => (i64::MIN, String::new(), String::new()),
    };
    let mut get = db.prepare_cached(&get)?;
    let mut rows = get.query(params![micros(now), due, id, recipient, clamp(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = entry(row)?;
        let due = entry.due.unwrap_or(now);
        found.push(Overdue { identificativo: row.get(5)?, entry, due, about: row.get(6)? });
    }
    Ok(found)
}

/// Makes a mark, or tells that it was made.
pub(super) fn make(db: &Connection, mark: &Mark, at: Timestamp) -> Result<(), StoreError> {
    let made = db
        .prepare_cached("INSERT OR IGNORE INTO marks VALUES (?, ?, ?)")?
        .execute(params![&mark.key[..], &mark.value[..], micros(at)])?;
    if made == 0 { Err(StoreError::Marked) } else { Ok(()) }
}

pub(super) fn mark(db: &Connection, key: &Digest) -> Result<Option<Digest>, StoreError> {
    let get = "SELECT value FROM marks WHERE key = ?";
    Ok(db.prepare_cached(get)?.query_row([&key[..]], |row| row.get(0)).optional()?)
}

/// Forgets marks that were made before then, the oldest first.
pub(super) fn forget(
    db: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let forget = "DELETE FROM marks WHERE key IN
                  (SELECT key FROM marks INDEXED BY marks_made WHERE made < ? ORDER BY made LIMIT ?)";
    Ok(db.prepare_cached(forget)?.execute(params![micros(before), clamp(limit)])?)
}
