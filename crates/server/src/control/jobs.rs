//! The queue as an operator sees it: what is to be done, for whom, and why it was not done yet.
//!
//! A job can be hastened and never cancelled: it is a certified message or its receipt, and must not
//! vanish.

use mail::{Address, Message};
use serde::{Deserialize, Serialize};
use store::{BlobId, Job, JobId, Store, StoreError, Timestamp};

use super::page::{PAGE_MEMBERS_MAX, page};
use super::{Response, fault};
use crate::flow::Task;

/// Octets of a message that are looked through for its identifier: more than any header that
/// clients write.
const HEAD_OCTETS_MAX: u64 = 64 * 1024;

/// A job as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobView {
    pub(crate) job: u64,
    /// `certify`, `refuse`, `incoming`, `deliver`, `relay`, `notify`, `place`; `unknown` when this version
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

/// Makes a job that was put off due now; the queue looks for such by itself, twice a second.
pub(super) fn retry(store: &dyn Store, number: u64, now: Timestamp) -> Result<Response, String> {
    let job = find(store, number)?;
    let text = match hasten(store, &job, now)? {
        true => format!("job {number} is due now"),
        false => format!("job {number} was due already"),
    };
    Ok(Response::Done { text })
}

/// The same for all after number `after`, as far as a page of them reaches.
pub(super) fn retry_all(store: &dyn Store, after: u64, now: Timestamp) -> Result<Response, String> {
    let jobs = jobs_after(store, after, PAGE_MEMBERS_MAX)?;
    let mut count = 0;
    for job in &jobs {
        count += u64::from(hasten(store, job, now)?);
    }
    let full = jobs.len() >= PAGE_MEMBERS_MAX;
    Ok(Response::Retried { count, next: jobs.last().map(|job| job.id.0).filter(|_| full) })
}

/// Whether it was put off, and is due now.
fn hasten(store: &dyn Store, job: &Job, now: Timestamp) -> Result<bool, String> {
    if job.due <= now {
        return Ok(false);
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
    store.jobs_due(Timestamp::MAX, after, limit).map_err(|error| fault(&error))
}

fn find(store: &dyn Store, number: u64) -> Result<Job, String> {
    let next = jobs_after(store, number.saturating_sub(1), 1)?.into_iter().next();
    next.filter(|job| job.id.0 == number).ok_or_else(|| {
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
        Some(Task::Deliver { identifier, recipient, .. }) => {
            let identifier = identifier.as_str().to_owned();
            ("deliver", Some(identifier), vec![recipient.to_string()])
        }
        Some(Task::Relay(relay)) => {
            let to = relay.recipients.iter().map(|recipient| recipient.address.to_string());
            ("relay", None, to.collect())
        }
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
