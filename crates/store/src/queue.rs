//! The queue of jobs.

use crate::{BlobId, Source, Timestamp};

/// The number of a job; later jobs have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A step of the pipeline that is still to be done. The store does not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Not to be done before.
    pub due: Timestamp,
    /// When it was queued.
    pub queued: Timestamp,
    /// How often it failed.
    pub attempts: u32,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// What is to be done.
    pub payload: Vec<u8>,
    /// The octets it is about; kept as long as the job.
    pub blob: Option<BlobId>,
}

/// How urgent it is to reach another host for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A receipt: somebody counts the hours to it.
    Receipt,
    /// A transport envelope.
    Envelope,
    /// Anything else.
    Ordinary,
}

/// Another host has to be reached for the job: it waits in that host's lane, where it slows nobody
/// else down.
///
/// In a lane the more urgent go first, and among equals accounts take turns: one that queues a
/// thousand does not hold up another's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The domain it goes to, in lower case.
    pub destination: String,
    /// How urgent it is.
    pub urgency: Urgency,
    /// Who takes turns.
    pub account: String,
}

/// A job to be queued.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Not to be done before.
    pub due: Timestamp,
    /// What is to be done.
    pub payload: Vec<u8>,
    /// The octets it is about.
    pub octets: Option<Source>,
    /// Its lane; `None`: it is done here, by the pipeline.
    pub lane: Option<Lane>,
}

/// A job that a step has done a part of and that stays, with its number, its age, its octets and
/// its lane. That it was tried is counted, as [`postpone`](crate::Store::postpone) counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amended {
    /// Which.
    pub job: JobId,
    /// When the rest is due.
    pub due: Timestamp,
    /// The rest.
    pub payload: Vec<u8>,
    /// Why it is not all done.
    pub reason: String,
}
