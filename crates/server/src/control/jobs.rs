//! The queue as an operator sees it: what is to be done, for whom, and why it was not done yet.
//!
//! A job can be hastened. One that another host has to be reached for can be given up: the log says
//! so, the sender of a certified message hears of it by the notices of late delivery, and of ordinary
//! recipients by a report (PEC-BT-15). The others
//! cannot: each is a certified message or its receipt, and must not vanish.

use mail::{Address, Message};
use serde::{Deserialize, Serialize};
use store::{BlobId, Job, JobId, LogRecord, Source, Store, StoreError, Timestamp, Transaction};

use super::page::{PAGE_MEMBERS_MAX, page};
use super::{Response, fault};
use crate::flow::Task;
use crate::flow::dispatch::{Relay, RelayRecipient};
use crate::transport;

/// Octets of a message that are looked through for its identifier: more than any header that
/// clients write.
const HEAD_OCTETS_MAX: u64 = 64 * 1024;

/// A job as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobView {
    pub(crate) job: u64,
    /// `certify`, `refuse`, `incoming`, `scan`, `deliver`, `relay`, `report`, `notify`, `place`; `unknown` when this version
    /// cannot read it.
    pub(crate) step: String,
    /// The PEC identifier, or that of the receipt it is about: `log find --message-id` takes it.
    pub(crate) message_id: Option<String>,
    pub(crate) recipients: Vec<String>,
    pub(crate) queued: Timestamp,
    pub(crate) due: Timestamp,
    /// How often it was put off: after a failure, or to be hastened.
    pub(crate) attempts: u32,
    pub(crate) last_error: Option<String>,
    /// Octets of the message.
    pub(crate) octets: Option<u64>,
}

/// The jobs after number `after`, oldest first, as many as a page holds.
pub(super) fn list(store: &dyn Store, after: u64) -> Result<Response, String> {
    let jobs = jobs_after(store, after, PAGE_MEMBERS_MAX)?;
    let views: Result<Vec<_>, String> =
        jobs.iter().map(|job| Ok((job.id.0, view(store, job)?))).collect();
    let (jobs, next) = page(views?).map_err(|error| error.to_string())?;
    Ok(Response::Jobs { jobs, next })
}

/// One job.
pub(super) fn show(store: &dyn Store, number: u64) -> Result<Response, String> {
    let job = find(store, number)?;
    Ok(Response::Jobs { jobs: vec![view(store, &job)?], next: None })
}

/// What a running server knows of destinations and the store does not: which ones could not be reached,
/// and are left alone for a while, with all that waits for them.
pub(crate) trait Holds: Send + Sync {
    /// Whether this one is.
    fn is_held(&self, destination: &str) -> bool;
    /// This one, or all, may be tried at once.
    fn release(&self, destination: Option<&str>);
    /// Does `work` while this server does not send this job; `false`, and nothing is done, when it is
    /// being sent already.
    fn unless_sent(&self, destination: &str, job: JobId, work: &mut dyn FnMut()) -> bool;
}

/// Without a server there are none.
pub(super) struct NoHolds;

impl Holds for NoHolds {
    fn is_held(&self, _destination: &str) -> bool {
        false
    }

    fn release(&self, _destination: Option<&str>) {}

    fn unless_sent(&self, _destination: &str, _job: JobId, work: &mut dyn FnMut()) -> bool {
        work();
        true
    }
}

/// Makes a job that was put off due now, and its destination one that may be tried; the queue looks for
/// such by itself, twice a second.
pub(super) fn retry(
    store: &dyn Store,
    holds: &dyn Holds,
    number: u64,
    now: Timestamp,
) -> Result<Response, String> {
    let job = find(store, number)?;
    let hastened = hasten(store, holds, &job, now)?;
    if let Some(destination) = destination(&job) {
        holds.release(Some(&destination));
    }
    Ok(Response::Retried { count: u64::from(hastened), next: None })
}

/// The same for all after number `after`, as far as a page of them reaches.
pub(super) fn retry_all(
    store: &dyn Store,
    holds: &dyn Holds,
    after: u64,
    now: Timestamp,
) -> Result<Response, String> {
    let jobs = jobs_after(store, after, PAGE_MEMBERS_MAX)?;
    let mut count = 0;
    for job in &jobs {
        count += u64::from(hasten(store, holds, job, now)?);
    }
    let full = jobs.len() >= PAGE_MEMBERS_MAX;
    if !full {
        // Not before: the jobs of a later page wait for the same destinations, and are counted too.
        holds.release(None);
    }
    Ok(Response::Retried { count, next: jobs.last().map(|job| job.id.0).filter(|_| full) })
}

/// Why a recipient does not get what was given up.
const GIVEN_UP: &str = "given up by the operator";

/// Gives up a message that waits for another host: a log record for each recipient, and what tells the
/// sender, in the commit that takes the job away. Not while it is being sent, here or by another server of
/// the same store: the host may have it before its sender is told that it never arrived.
pub(super) fn cancel(
    store: &dyn Store,
    holds: &dyn Holds,
    provider: &str,
    number: u64,
    now: Timestamp,
) -> Result<Response, String> {
    let Some(destination) = destination(&find(store, number)?) else {
        return Err(format!(
            "job {number} is not for another host and cannot be given up: see what it is with \
             `ceralacca queue show {number}`"
        ));
    };
    let mut given_up = Err(format!("job {number} is being sent now: try again"));
    holds.unless_sent(&destination, JobId(number), &mut || {
        given_up = give_up(store, provider, number, now);
    });
    given_up
}

/// The same, of a job that this server does not send.
fn give_up(
    store: &dyn Store,
    provider: &str,
    number: u64,
    now: Timestamp,
) -> Result<Response, String> {
    let done = || format!("job {number} was done meanwhile");
    // As it is now: an attempt may have ended since it was looked at, and have brought it to some.
    let job = match store.take_job(JobId(number)).map_err(|error| fault(&error))? {
        Some(job) => job,
        None if store.job(JobId(number)).map_err(|error| fault(&error))?.is_none() => {
            return Err(done());
        }
        None => {
            return Err(format!(
                "job {number} is with another server of this store, which may be sending it now: \
                 try again there"
            ));
        }
    };
    let Ok(Task::Relay(relay)) = serde_json::from_slice(&job.payload) else {
        return Err(done());
    };
    let record = |to: &RelayRecipient| LogRecord {
        time: now,
        errore: Some("altro".to_owned()),
        errore_esteso: Some(GIVEN_UP.to_owned()),
        ..transport::record(provider, &relay, "errore-trasmissione", &to.address)
    };
    let log = relay.recipients.iter().map(record).collect();
    let told = |to: &RelayRecipient| RelayRecipient {
        last: Some(GIVEN_UP.to_owned()),
        address: to.address.clone(),
    };
    let recipients = relay.recipients.iter().map(told).collect();
    // Who is ordinary, and what the sender wishes, the step knows: here no server may be running.
    let report = Task::Report(Relay { recipients, ..relay.clone() })
        .queued(job.blob.map(Source::Stored))
        .map_err(|error| error.to_string())?;
    let step = Transaction {
        at: now,
        consume: vec![job.id],
        log,
        enqueue: vec![report],
        ..Transaction::default()
    };
    match store.commit(step) {
        Ok(_) => Ok(Response::Done { text: format!("job {number} is given up") }),
        Err(StoreError::JobGone(_)) => Err(done()),
        Err(error) => Err(fault(&error)),
    }
}

/// Where a job goes, if it is for another host.
fn destination(job: &Job) -> Option<String> {
    match serde_json::from_slice(&job.payload) {
        Ok(Task::Relay(relay)) => Some(relay.domain),
        _ => None,
    }
}

/// Whether it was put off, by itself or with its destination, and is due now.
fn hasten(store: &dyn Store, holds: &dyn Holds, job: &Job, now: Timestamp) -> Result<bool, String> {
    if job.due <= now {
        return Ok(destination(job).is_some_and(|destination| holds.is_held(&destination)));
    }
    let reason = job.last_error.as_deref().unwrap_or_default();
    match store.postpone(job.id, now, reason) {
        Ok(()) => Ok(true),
        // Done meanwhile, which is better.
        Err(StoreError::JobGone(_)) => Ok(false),
        Err(error) => Err(fault(&error)),
    }
}

fn jobs_after(store: &dyn Store, after: u64, limit: usize) -> Result<Vec<Job>, String> {
    let after = Some(JobId(after)).filter(|after| after.0 > 0);
    store.jobs(after, limit).map_err(|error| fault(&error))
}

fn find(store: &dyn Store, number: u64) -> Result<Job, String> {
    store.job(JobId(number)).map_err(|error| fault(&error))?.ok_or_else(|| {
        format!("there is no job {number}, or it is done: see `ceralacca queue list`")
    })
}

fn view(store: &dyn Store, job: &Job) -> Result<JobView, String> {
    let task: Option<Task> = serde_json::from_slice(&job.payload).ok();
    let texts = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect();
    let (step, identifier, recipients) = match &task {
        None => ("unknown", None, Vec::new()),
        Some(Task::Certify { accepted, .. }) => {
            let exchange = accepted.exchange();
            let recipients = exchange.recipients.iter().map(|r| r.address.to_string()).collect();
            ("certify", Some(exchange.identifier.as_str().to_owned()), recipients)
        }
        Some(Task::Refuse { refused, notice }) => {
            let sender = refused.exchange().sender.to_string();
            ("refuse", Some(notice.as_str().to_owned()), vec![sender])
        }
        Some(Task::Incoming { forward_paths, .. }) => ("incoming", None, texts(forward_paths)),
        Some(Task::Scan { identifier, recipients, .. }) => {
            ("scan", Some(identifier.as_str().to_owned()), texts(recipients))
        }
        Some(Task::Deliver { identifier, recipient, .. }) => {
            let identifier = identifier.as_str().to_owned();
            ("deliver", Some(identifier), vec![recipient.to_string()])
        }
        Some(Task::Relay(relay)) => {
            let to = relay.recipients.iter().map(|recipient| recipient.address.to_string());
            ("relay", None, to.collect())
        }
        Some(Task::Report(relay)) => ("report", None, vec![relay.account.to_string()]),
        Some(Task::Notify { to, .. }) => ("notify", None, vec![to.to_string()]),
        Some(Task::Enclose(anomaly)) => ("enclose", None, texts(&anomaly.forward_paths)),
        Some(Task::Place { to }) => ("place", None, vec![to.to_string()]),
    };
    let (octets, named) = match job.blob {
        Some(blob) => look_at(store, blob)?,
        None => (None, None),
    };
    Ok(JobView {
        job: job.id.0,
        step: step.to_owned(),
        message_id: identifier.or(named),
        recipients,
        queued: job.queued,
        // What is due at once has no time of its own.
        due: job.due.max(job.queued),
        attempts: job.attempts,
        last_error: job.last_error.clone().filter(|error| !error.is_empty()),
        octets,
    })
}

/// How long a message is, and its identifier; neither when its job was done meanwhile.
fn look_at(store: &dyn Store, blob: BlobId) -> Result<(Option<u64>, Option<String>), String> {
    let looked = store.octets(blob).and_then(|octets| {
        let head = store.read(blob, 0, octets.min(HEAD_OCTETS_MAX))?;
        Ok((Some(octets), message_id(&head)))
    });
    match looked {
        Err(StoreError::NoSuchMessage) => Ok((None, None)),
        other => other.map_err(|error| fault(&error)),
    }
}

/// The identifier in a message that begins so, without angle brackets.
fn message_id(head: &[u8]) -> Option<String> {
    let field = Message::lenient(head).field("Message-ID")?;
    let text = field.unfolded();
    let text = text.trim();
    let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    Some(inner.unwrap_or(text).to_owned())
}
