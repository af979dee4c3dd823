//! The lanes: jobs that another host has to be reached for, by destination.
//!
//! Three indexes answer every question in as many steps as it returns rows: one of the order of a
//! lane, one of each account's last turn in it, one of its jobs by age.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::pipeline::{JOB, clamp, job};
use super::txn::Txn;
use crate::rules::{self, micros};
use crate::{Job, JobId, Lane, StoreError, Timestamp};

/// Gives a job that was just added its place.
pub(super) fn enter(
    txn: &Txn<'_>,
    job: JobId,
    lane: &Lane,
    due: Timestamp,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (class, turn) = if micros(due) > micros(at) {
        (rules::CLASS_PUT_OFF, micros(due))
    } else {
        let class = rules::class_of(lane.urgency);
        let get = "SELECT (SELECT min(turn) FROM jobs WHERE destination = ?1 AND class = ?2),
                          (SELECT max(turn) FROM jobs
                           WHERE destination = ?1 AND class = ?2 AND account = ?3)";
        let (first, own) = txn
            .db
            .prepare_cached(get)?
            .query_row(params![lane.destination, class, lane.account], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        (class, rules::turn(first, own))
    };
    let set = "UPDATE jobs SET destination = ?, class = ?, account = ?, turn = ? WHERE id = ?";
    txn.db.prepare_cached(set)?.execute(params![
        lane.destination,
        class,
        lane.account,
        turn,
        job.0.cast_signed()
    ])?;
    Ok(())
}

/// The destinations that have a lane, by name: from each the index is asked for the next.
pub(super) fn lanes(
    db: &Connection,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let get = "SELECT destination FROM jobs INDEXED BY jobs_lane WHERE destination > ?
               ORDER BY destination LIMIT 1";
    let mut get = db.prepare_cached(get)?;
    let mut found: Vec<String> = Vec::new();
    while found.len() < limit {
        let last = found.last().map(String::as_str).or(after).unwrap_or_default();
        match get.query_row([last], |row| row.get(0)).optional()? {
            Some(next) => found.push(next),
            None => break,
        }
    }
    Ok(found)
}

/// The jobs of a lane that are due, in their order.
pub(super) fn due(
    db: &Connection,
    now: Timestamp,
    destination: &str,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let fresh = format!(
        "SELECT {JOB} FROM jobs INDEXED BY jobs_lane WHERE destination = ? AND class < ?
         ORDER BY class, turn, id LIMIT ?"
    );
    let put_off = format!(
        "SELECT {JOB} FROM jobs INDEXED BY jobs_lane
         WHERE destination = ? AND class = ? AND turn <= ? ORDER BY turn, id LIMIT ?"
    );
    let mut fresh = db.prepare_cached(&fresh)?;
    let fresh = fresh
        .query_map(params![destination, rules::CLASS_PUT_OFF, clamp(limit)], job)?
        .collect::<Result<Vec<_>, _>>()?;
    let mut put_off = db.prepare_cached(&put_off)?;
    let put_off = put_off
        .query_map(params![destination, rules::CLASS_PUT_OFF, micros(now), clamp(limit)], job)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(rules::mix(fresh, put_off, limit))
}

/// The jobs of a lane that were queued until then, the oldest first.
pub(super) fn queued(
    db: &Connection,
    until: Timestamp,
    destination: &str,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let get = format!(
        "SELECT {JOB} FROM jobs INDEXED BY jobs_age WHERE destination = ? AND queued <= ?
         ORDER BY queued, id LIMIT ?"
    );
    let mut get = db.prepare_cached(&get)?;
    let found = get.query_map(params![destination, micros(until), clamp(limit)], job)?;
    Ok(found.collect::<Result<Vec<_>, _>>()?)
}
