//! The pipeline's steps in the index, and its jobs.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::messages::{self, Incoming};
use super::txn::Txn;
use super::{accounts, lanes, log, mailboxes, quarantine, tracker};
use crate::rules::{self, micros, time};
use crate::{
    Amended, BlobId, Committed, Delivery, Follow, InfectedId, Job, JobId, LogRecord, MailboxName,
    Mark, NewInfected, NewJob, Source, StoreError, Timestamp, Track,
};

/// All of a transaction but its octets, which are there already.
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) consume: Vec<JobId>,
    pub(super) amend: Vec<Amended>,
    pub(super) deliver: Vec<Delivery>,
    pub(super) enqueue: Vec<NewJob>,
    pub(super) follow: Vec<Follow>,
    pub(super) track: Vec<Track>,
    pub(super) once: Vec<Mark>,
    pub(super) log: Vec<LogRecord>,
    pub(super) quarantine: Vec<NewInfected>,
    pub(super) discard: Vec<InfectedId>,
}

pub(super) fn commit(
    txn: &mut Txn<'_>,
    step: Step,
    new: &[BlobId],
) -> Result<Committed, StoreError> {
    let at = step.at;
    let mut done = Committed::default();
    for job in step.consume {
        consume(txn, job)?;
    }
    for amended in step.amend {
        postpone(txn, amended.job, amended.due, &amended.reason)?;
        txn.db
            .prepare_cached("UPDATE jobs SET payload = ? WHERE id = ?")?
            .execute(params![amended.payload, amended.job.0.cast_signed()])?;
    }
    // The row of a blob lives until the command settles, so that what a consumed job held can be
    // named here.
    for blob in new {
        txn.octets(*blob)?;
    }
    for delivery in &step.deliver {
        let account = accounts::by_address(txn.db, &delivery.to)?;
        let account = account.ok_or(StoreError::NoSuchAccount)?.id;
        let mailbox = match mailboxes::find(txn.db, account, &delivery.mailbox)? {
            Some(mailbox) => mailbox,
            None => mailboxes::find(txn.db, account, &MailboxName::inbox())?
                .ok_or(StoreError::NoSuchMailbox)?,
        };
        let blob = blob(txn, delivery.octets, new)?;
        let flags = messages::fitting(txn.db, mailbox, &delivery.flags)?;
        let message = Incoming { blob, flags: &flags, received: at, saved: at };
        done.delivered.push(messages::add(txn, mailbox, &message, delivery.charge)?);
    }
    for job in step.enqueue {
        let blob = job.octets.map(|source| blob(txn, source, new)).transpose()?;
        done.enqueued.push(enqueue(txn, &job, blob, at)?);
    }
    for infected in &step.quarantine {
        let blob = blob(txn, infected.octets, new)?;
        let id = quarantine::add(txn, &infected.infection, blob, at, infected.keep_until)?;
        done.quarantined.push(id);
    }
    for id in step.discard {
        quarantine::discard(txn, id, at)?;
    }
    for message in &step.follow {
        tracker::follow(txn.db, message)?;
    }
    for entry in &step.track {
        tracker::track(txn.db, entry)?;
    }
    for mark in &step.once {
        tracker::make(txn.db, mark, at)?;
    }
    for record in &step.log {
        log::write(txn, record)?;
    }
    Ok(done)
}

fn blob(txn: &Txn<'_>, source: Source, new: &[BlobId]) -> Result<BlobId, StoreError> {
    let blob = match source {
        Source::New(at) => new.get(at).copied().ok_or(StoreError::NoSuchMessage)?,
        Source::Stored(blob) => blob,
    };
    txn.octets(blob).map(|_| blob)
}

// --- jobs

pub(super) const JOB: &str = "id, due, queued, attempts, last_error, payload, blob";

pub(super) fn job(row: &Row<'_>) -> Result<Job, rusqlite::Error> {
    Ok(Job {
        id: JobId(row.get::<_, i64>(0)?.cast_unsigned()),
        due: time(row.get(1)?),
        queued: time(row.get(2)?),
        attempts: row.get(3)?,
        last_error: row.get(4)?,
        payload: row.get(5)?,
        blob: row.get::<_, Option<i64>>(6)?.map(|blob| BlobId(blob.cast_unsigned())),
    })
}

fn consume(txn: &mut Txn<'_>, job: JobId) -> Result<(), StoreError> {
    let gone = txn
        .db
        .prepare_cached("DELETE FROM jobs WHERE id = ? RETURNING blob")?
        .query_row([job.0.cast_signed()], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    if let Some(blob) = gone.ok_or(StoreError::JobGone(job))? {
        txn.refer(BlobId(blob.cast_unsigned()), -1);
    }
    txn.counters.jobs -= 1;
    Ok(())
}

fn enqueue(
    txn: &mut Txn<'_>,
    job: &NewJob,
    blob: Option<BlobId>,
    at: Timestamp,
) -> Result<JobId, StoreError> {
    txn.counters.job += 1;
    txn.counters.jobs += 1;
    let id = JobId(txn.counters.job);
    txn.db
        .prepare_cached(&format!("INSERT INTO jobs ({JOB}) VALUES (?, ?, ?, 0, NULL, ?, ?)"))?
        .execute(params![
            id.0.cast_signed(),
            micros(job.due),
            micros(at),
            job.payload,
            blob.map(|blob| blob.0.cast_signed()),
        ])?;
    if let Some(blob) = blob {
        txn.refer(blob, 1);
    }
    if let Some(lane) = &job.lane {
        lanes::enter(txn, id, lane, job.due, at)?;
    }
    Ok(id)
}

pub(super) fn postpone(
    txn: &Txn<'_>,
    job: JobId,
    due: Timestamp,
    reason: &str,
) -> Result<(), StoreError> {
    // One that is in a lane waits there for its time now, no longer for its turn.
    let set = "UPDATE jobs SET due = ?1, attempts = min(attempts + 1, 4294967295), last_error = ?2,
                   class = iif(class IS NULL, NULL, ?3), turn = iif(turn IS NULL, NULL, ?1)
               WHERE id = ?4";
    let set = txn.db.prepare_cached(set)?.execute(params![
        micros(due),
        reason,
        rules::CLASS_PUT_OFF,
        job.0.cast_signed()
    ])?;
    if set == 0 { Err(StoreError::JobGone(job)) } else { Ok(()) }
}

pub(super) fn jobs_due(
    db: &Connection,
    now: Timestamp,
    after: Option<JobId>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    // The index of due times holds the numbers too: those that wait for later cost nothing.
    let get = format!(
        "SELECT {JOB} FROM jobs WHERE id IN (
             SELECT id FROM jobs INDEXED BY jobs_due
             WHERE destination IS NULL AND due <= ? AND id > ?
             ORDER BY id LIMIT ?)
         ORDER BY id"
    );
    let after = after.map_or(0, |job| job.0.cast_signed());
    let mut get = db.prepare_cached(&get)?;
    let jobs = get.query_map(params![micros(now), after, clamp(limit)], job)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

pub(super) fn jobs(
    db: &Connection,
    after: Option<JobId>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let get = format!("SELECT {JOB} FROM jobs WHERE id > ? ORDER BY id LIMIT ?");
    let after = after.map_or(0, |job| job.0.cast_signed());
    let mut get = db.prepare_cached(&get)?;
    let jobs = get.query_map(params![after, clamp(limit)], job)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

pub(super) fn one_job(db: &Connection, id: JobId) -> Result<Option<Job>, StoreError> {
    let get = format!("SELECT {JOB} FROM jobs WHERE id = ?");
    Ok(db.prepare_cached(&get)?.query_row([id.0.cast_signed()], job).optional()?)
}

pub(super) fn jobs_waiting(db: &Connection) -> Result<(u64, Option<Timestamp>), StoreError> {
    let get =
        "SELECT (SELECT jobs FROM counters), (SELECT min(due) FROM jobs WHERE destination IS NULL)";
    Ok(db.prepare_cached(get)?.query_row([], |row| {
        let jobs: i64 = row.get(0)?;
        Ok((jobs.cast_unsigned(), row.get::<_, Option<i64>>(1)?.map(time)))
    })?)
}

pub(super) fn clamp(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
