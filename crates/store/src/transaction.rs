//! A step of the pipeline as one commit.

use mail::Address;

use crate::{
    Amended, Appended, BlobId, Charge, Flags, Follow, InfectedId, JobId, LogRecord, MailboxName,
    Mark, NewInfected, NewJob, Octets, Timestamp, Track,
};

/// Octets that a transaction speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Those at this place of [`Transaction::octets`].
    New(usize),
    /// Stored already. They must be held by a job that this transaction consumes or by a message.
    Stored(BlobId),
}

/// A message for an account.
#[derive(Debug)]
pub struct Delivery {
    /// Whose.
    pub to: Address,
    /// Which of its mailboxes; INBOX when it is not there.
    pub mailbox: MailboxName,
    /// Its octets.
    pub octets: Source,
    /// Its flags.
    pub flags: Flags,
    /// Which limit it is held against.
    pub charge: Charge,
}

/// What is consumed and what is produced: all of it or nothing.
#[derive(Debug, Default)]
pub struct Transaction {
    /// When (also the internal date of deliveries).
    pub at: Timestamp,
    /// Jobs that this step does.
    pub consume: Vec<JobId>,
    /// Jobs of which this step does a part. One may not be consumed too.
    pub amend: Vec<Amended>,
    /// Octets that are new: each stored once, however often it is named below.
    pub octets: Vec<Octets>,
    /// Messages.
    pub deliver: Vec<Delivery>,
    /// Jobs.
    pub enqueue: Vec<NewJob>,
    /// Messages to follow.
    pub follow: Vec<Follow>,
    /// Tracker states.
    pub track: Vec<Track>,
    /// What must not have happened before, each once.
    pub once: Vec<Mark>,
    /// Log records.
    pub log: Vec<LogRecord>,
    /// Infected messages.
    pub quarantine: Vec<NewInfected>,
    /// Infected messages whose time is over.
    pub discard: Vec<InfectedId>,
}

/// What a transaction made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// For each delivery, where it is.
    pub delivered: Vec<Appended>,
    /// For each job, its number.
    pub enqueued: Vec<JobId>,
    /// For each infected message, its number.
    pub quarantined: Vec<InfectedId>,
}
