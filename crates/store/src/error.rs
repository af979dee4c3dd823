//! Why the store did not do what it was asked.

use crate::{AccountId, InfectedId, JobId};

/// Why the store did not do what it was asked: then nothing has happened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such account, or it was removed meanwhile.
    #[error("no such account")]
    NoSuchAccount,
    /// The address or the user ID is taken.
    #[error("the address or the user ID is taken")]
    AccountExists,
    /// There is no such mailbox, or it was deleted meanwhile.
    #[error("no such mailbox")]
    NoSuchMailbox,
    /// A mailbox of that name is there already.
    #[error("the mailbox exists")]
    MailboxExists,
    /// A system folder can be neither renamed nor deleted.
    #[error("a system folder stays")]
    SystemMailbox,
    /// A mailbox with mailboxes below it cannot be deleted.
    #[error("the mailbox has children")]
    HasChildren,
    /// The account has as many mailboxes or subscriptions as it may, or a rename would make the
    /// name of a mailbox below longer or deeper than names may be.
    #[error("too many mailboxes")]
    TooManyMailboxes,
    /// The annotations of the mailbox or account would be too many, or too long.
    #[error("too many annotations")]
    TooManyAnnotations,
    /// The mailbox has as many different keywords as it may.
    #[error("too many keywords")]
    TooManyKeywords,
    /// The message or its octets are gone.
    #[error("no such message")]
    NoSuchMessage,
    /// The account's usage would pass its quota.
    #[error("over quota")]
    OverQuota(AccountId),
    /// The mailbox has given out its last UID.
    #[error("no UID is left in the mailbox")]
    OutOfUids,
    /// The job was consumed already.
    #[error("the job is gone")]
    JobGone(JobId),
    /// The seal does not continue the last one: somebody sealed meanwhile.
    #[error("the seal does not continue the last one")]
    SealOutOfOrder,
    /// There is no room on the disk: the next try may do better, and what is there can be read.
    #[error("no space is left on the disk")]
    NoSpace,
    /// The tracker's entry is not in the state that the transaction is for.
    #[error("the recipient is in another state by now")]
    Overtaken,
    /// It happened already.
    #[error("it happened already")]
    Marked,
    /// The infected message must be kept longer.
    #[error("the infected message must be kept longer")]
    StillKept(InfectedId),
    /// The database, or what the octets lie on, cannot be reached or is overloaded: the next try may
    /// do better. Nobody but the log learns the cause.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The disk or the database failed. Nobody but the log learns the cause.
    #[error("the medium failed: {0}")]
    Medium(String),
}
