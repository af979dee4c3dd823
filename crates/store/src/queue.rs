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

/// A job to be queued.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Not to be done before.
    pub due: Timestamp,
    /// What is to be done.
    pub payload: Vec<u8>,
    /// The octets it is about.
    pub octets: Option<Source>,
}
