//! Jobs of the pipeline and of the lanes, and who of the nodes has taken them.
//!
//! Who asks for jobs that are due gets some that no other node has, and has them from then on: until
//! they are done or put off, or until that node is alive no longer. What a node has it is given again
//! as often as it asks. A job whose node was thought dead and was not is done by two: the commit
//! consumes it, so that one of them finds it gone.

use tokio_postgres::Row;

use super::connection::{Db, Value, get, number};
use super::txn::Txn;
use super::{clamp, plain};
use crate::rules::{self, micros, time};
use crate::{Amended, BlobId, Job, JobId, Lane, NewJob, StoreError, Timestamp};

const JOB: &str = "id, due, queued, attempts, last_error, payload, blob";

/// A job that no other node has; `$1` is this one.
const FREE: &str = "(node IS NULL OR node = $1 OR NOT EXISTS (
    SELECT 1 FROM nodes WHERE nodes.id = jobs.node AND nodes.alive_until > now()))";

fn job(row: &Row) -> Result<Job, StoreError> {
    Ok(Job {
        id: JobId(number(row, 0)?),
        due: time(get(row, 1)?),
        queued: time(get(row, 2)?),
        attempts: u32::try_from(number(row, 3)?).unwrap_or(u32::MAX),
        last_error: get(row, 4)?,
        payload: get(row, 5)?,
        blob: get::<Option<i64>>(row, 6)?.map(|blob| BlobId(blob.cast_unsigned())),
    })
}

pub(super) fn consume(txn: &mut Txn<'_>, job: JobId) -> Result<(), StoreError> {
    let gone = "DELETE FROM jobs WHERE id = $1 RETURNING blob";
    let gone = txn.db.first(gone, &[&job.0.cast_signed()])?.ok_or(StoreError::JobGone(job))?;
    if let Some(blob) = get::<Option<i64>>(&gone, 0)? {
        txn.refer(BlobId(blob.cast_unsigned()), -1);
    }
    Ok(())
}

pub(super) fn amend(txn: &Txn<'_>, amended: &Amended) -> Result<(), StoreError> {
    postpone(txn, amended.job, amended.due, &amended.reason)?;
    let set = "UPDATE jobs SET payload = $1 WHERE id = $2";
    txn.db.execute(set, &[&amended.payload, &amended.job.0.cast_signed()]).map(drop)
}

pub(super) fn enqueue(
    txn: &mut Txn<'_>,
    job: &NewJob,
    blob: Option<BlobId>,
    at: Timestamp,
) -> Result<JobId, StoreError> {
    let id = JobId(txn.next("job_numbers")?);
    let place = job.lane.as_ref().map(|lane| place(txn, lane, job.due, at)).transpose()?;
    let insert = format!(
        "INSERT INTO jobs ({JOB}, destination, account, class, turn)
         VALUES ($1, $2, $3, 0, NULL, $4, $5, $6, $7, $8, $9)"
    );
    txn.db.execute(
        &insert,
        &[
            &id.0.cast_signed(),
            &micros(job.due),
            &micros(at),
            &job.payload,
            &blob.map(|blob| blob.0.cast_signed()),
            &job.lane.as_ref().map(|lane| plain(&lane.destination)),
            &job.lane.as_ref().map(|lane| plain(&lane.account)),
            &place.map(|(class, _)| class),
            &place.map(|(_, turn)| turn),
        ],
    )?;
    if let Some(blob) = blob {
        txn.refer(blob, 1);
    }
    Ok(id)
}

/// Where in its lane a job comes: its class, and its turn there. Nodes that queue at the same moment
/// do not see each other's: then two jobs of an account may have the same turn.
fn place(
    txn: &Txn<'_>,
    lane: &Lane,
    due: Timestamp,
    at: Timestamp,
) -> Result<(i64, i64), StoreError> {
    if micros(due) > micros(at) {
        return Ok((i64::from(rules::CLASS_PUT_OFF), micros(due)));
    }
    let class = i64::from(rules::class_of(lane.urgency));
    let turns = "SELECT (SELECT min(turn) FROM jobs WHERE destination = $1 AND class = $2),
                        (SELECT max(turn) FROM jobs
                         WHERE destination = $1 AND class = $2 AND account = $3)";
    let values = (plain(&lane.destination), plain(&lane.account));
    let (first, own) = match txn.db.first(turns, &[&values.0, &class, &values.1])? {
        Some(row) => (get(&row, 0)?, get(&row, 1)?),
        None => (None, None),
    };
    Ok((class, rules::turn(first, own)))
}

pub(super) fn postpone(
    txn: &Txn<'_>,
    job: JobId,
    due: Timestamp,
    reason: &str,
) -> Result<(), StoreError> {
    // One that is in a lane waits there for its time now, no longer for its turn.
    let set = "UPDATE jobs SET due = $1::bigint, attempts = least(attempts + 1, 4294967295),
                   last_error = $2::text, node = NULL,
                   class = CASE WHEN class IS NULL THEN NULL ELSE $3::bigint END,
                   turn = CASE WHEN turn IS NULL THEN NULL ELSE $1::bigint END
               WHERE id = $4";
    let put_off = i64::from(rules::CLASS_PUT_OFF);
    match txn.db.execute(set, &[&micros(due), &plain(reason), &put_off, &job.0.cast_signed()])? {
        0 => Err(StoreError::JobGone(job)),
        _ => Ok(()),
    }
}

/// Takes the jobs that `which` finds and tells them in that order. Those that somebody works on in a
/// transaction just now are left out.
fn take(
    db: &Db,
    node: u64,
    which: &str,
    order: &str,
    values: &[Value<'_>],
) -> Result<Vec<Job>, StoreError> {
    let take = format!(
        "WITH free AS (
             SELECT id FROM jobs WHERE {which} AND {FREE} ORDER BY {order} LIMIT $2
             FOR UPDATE SKIP LOCKED),
         taken AS (
             UPDATE jobs SET node = $1 FROM free
             WHERE jobs.id = free.id AND jobs.node IS DISTINCT FROM $1)
         SELECT {JOB} FROM jobs WHERE id IN (SELECT id FROM free) ORDER BY {order}"
    );
    let node = node.cast_signed();
    let mut all: Vec<Value<'_>> = vec![&node];
    all.extend(values);
    db.query(&take, &all)?.iter().map(job).collect()
}

pub(super) fn due(
    db: &Db,
    node: u64,
    now: Timestamp,
    after: Option<JobId>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let after = after.map_or(0, |job| job.0.cast_signed());
    let which = "destination IS NULL AND due <= $3 AND id > $4";
    take(db, node, which, "id", &[&clamp(limit), &micros(now), &after])
}

pub(super) fn all(db: &Db, after: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError> {
    let after = after.map_or(0, |job| job.0.cast_signed());
    let all = format!("SELECT {JOB} FROM jobs WHERE id > $1 ORDER BY id LIMIT $2");
    db.query(&all, &[&after, &clamp(limit)])?.iter().map(job).collect()
}

pub(super) fn one(db: &Db, id: JobId) -> Result<Option<Job>, StoreError> {
    let one = format!("SELECT {JOB} FROM jobs WHERE id = $1");
    db.first(&one, &[&id.0.cast_signed()])?.as_ref().map(job).transpose()
}

/// One job, unless another node has it or works on it in a transaction just now.
pub(super) fn take_one(db: &Db, node: u64, id: JobId) -> Result<Option<Job>, StoreError> {
    Ok(take(db, node, "id = $3", "id", &[&1_i64, &id.0.cast_signed()])?.pop())
}

pub(super) fn waiting(db: &Db) -> Result<(u64, Option<Timestamp>), StoreError> {
    let waiting = "SELECT (SELECT count(*) FROM jobs),
                          (SELECT min(due) FROM jobs WHERE destination IS NULL)";
    let Some(row) = db.first(waiting, &[])? else { return Ok((0, None)) };
    Ok((number(&row, 0)?, get::<Option<i64>>(&row, 1)?.map(time)))
}

/// The destinations that have a lane, by name: from each the index is asked for the next.
pub(super) fn lanes(db: &Db, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
    let lanes = "WITH RECURSIVE lane (destination, place) AS (
            (SELECT destination, 1::bigint FROM jobs WHERE destination > $1
             ORDER BY destination LIMIT 1)
            UNION ALL
            SELECT (SELECT destination FROM jobs WHERE destination > lane.destination
                    ORDER BY destination LIMIT 1), place + 1
            FROM lane WHERE lane.destination IS NOT NULL AND place < $2)
        SELECT destination FROM lane WHERE destination IS NOT NULL ORDER BY place LIMIT $2";
    let rows = db.query(lanes, &[&plain(after.unwrap_or_default()), &clamp(limit)])?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The jobs of a lane that are due, in their order.
pub(super) fn lane_due(
    db: &Db,
    node: u64,
    now: Timestamp,
    destination: &str,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let (destination, put_off) = (plain(destination), i64::from(rules::CLASS_PUT_OFF));
    let limited = clamp(limit);
    let which = "destination = $3 AND class < $4";
    let fresh = take(db, node, which, "class, turn, id", &[&limited, &destination, &put_off])?;
    let which = "destination = $3 AND class = $4 AND turn <= $5";
    let values: [Value<'_>; 4] = [&limited, &destination, &put_off, &micros(now)];
    let waited = take(db, node, which, "turn, id", &values)?;
    Ok(rules::mix(fresh, waited, limit))
}

/// The jobs of a lane that were queued until then, the oldest first: those that no other node is at.
pub(super) fn lane_queued(
    db: &Db,
    node: u64,
    until: Timestamp,
    destination: &str,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let which = "destination = $3 AND queued <= $4";
    let values: [Value<'_>; 3] = [&clamp(limit), &plain(destination), &micros(until)];
    take(db, node, which, "queued, id", &values)
}
