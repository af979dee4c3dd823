//! The queue of jobs, and the tracker of certified recipients.

use mail::Address;

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

/// What is known about a certified recipient of a message that our user sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrackState {
    /// The envelope left.
    Sent,
    /// The recipient's provider has it (PEC-PR-23).
    TakenInCharge,
    /// It was delivered (PEC-PR-25).
    Delivered,
    /// It cannot be delivered (PEC-PR-25).
    Failed,
}

/// A change of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The PEC msgid.
    pub identificativo: String,
    /// The recipient.
    pub recipient: Address,
    /// What is known now. [`TrackState::Sent`] opens an entry; the others change one that is there
    /// and does not go back: a final state stays, and a message or recipient unknown to the tracker changes nothing
    /// (PEC-PR-27, PEC-PR-28).
    pub state: TrackState,
    /// When.
    pub at: Timestamp,
}

/// An entry of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The recipient.
    pub recipient: Address,
    /// What is known.
    pub state: TrackState,
    /// When the envelope left.
    pub sent: Timestamp,
    /// Since when the state is what it is.
    pub since: Timestamp,
}
