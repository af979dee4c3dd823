//! Accounts, mailboxes, messages, the queue, the tracker and the log of certified mail.
//!
//! This root holds the trait and its words: all that other crates may name. Every call happens
//! whole and durably, or not at all: when it returns `Ok`, what it did is on disk. Calls may block;
//! time is an argument, and kept to the microsecond. A change of a mailbox counts one [`ModSeq`] up,
//! however many messages it touches. Not here: what a mailbox means to IMAP, what a job means to
//! the pipeline.

pub mod contract;
pub mod embedded;
pub mod memory;
pub mod shared;

mod account;
mod annotation;
mod checked;
mod codec;
mod error;
mod flags;
mod inflow;
mod log;
mod mailbox;
mod message;
mod nodes;
mod numbers;
mod quarantine;
mod queue;
mod quota;
mod rules;
mod seal;
mod tracker;
mod transaction;
pub mod tree;
mod upkeep;

use std::sync::Arc;

pub use account::{Account, AccountChange, AccountId, Credentials, NewAccount, Owner, Role, State};
pub use annotation::{
    ANNOTATION_OCTETS_MAX, ANNOTATIONS_MAX, ANNOTATIONS_OCTETS_MAX, Annotations, ENTRY_OCTETS_MAX,
};
pub use checked::{Checked, Part, Seen};
pub use error::StoreError;
pub use flags::{FlagChange, Flags, KEYWORD_OCTETS_MAX, KEYWORDS_MAX, Keyword, SystemFlags};
pub use jiff::Timestamp;
pub use log::{LogFilter, LogRecord, LoggedRecipient};
pub use mailbox::{
    MAILBOXES_MAX, Mailbox, MailboxId, MailboxName, MailboxStatus, ModSeq, NAME_DEPTH_MAX,
    NAME_OCTETS_MAX, NewMailbox, SEPARATOR, SUBSCRIPTIONS_MAX, SpecialUse, Uid, UidSet,
    UidValidity,
};
pub use message::{
    Appended, BlobId, Candidates, Changes, Copied, Digested, FlagUpdate, Held, MessageText,
    NewMessage, Octets, Opened, Spool, Spooled, Summary, Within,
};
pub use nodes::{Elsewhere, ElsewhereListener, Share};
pub use quarantine::{Infected, InfectedId, Infection, NewInfected};
pub use queue::{Amended, Job, JobId, Lane, NewJob, Urgency};
pub use quota::{Charge, Quota, Usage};
pub use seal::{
    Format, LogEntry, LogLeaf, NewSeal, NoStatement, STATEMENT_OCTETS_MAX, Seal, Statement,
};
pub use tracker::{Digest, Follow, Mark, Overdue, Track, TrackState, Tracked};
pub use transaction::{Committed, Delivery, Source, Transaction};
pub use upkeep::{Archived, Compacted, Upkeep};

/// Called after a commit with each mailbox whose messages or flags it changed, or which it deleted.
/// It must not block, and must not call the store.
pub type Listener = Box<dyn Fn(MailboxId) + Send + Sync>;

/// Everything that ceralacca keeps.
///
/// Each call happens whole and durably, or not at all. A reader sees either nothing or all of a
/// commit. Calls may block and may come from any thread.
pub trait Store: Send + Sync {
    // --- accounts

    /// Adds an account with its system folders (INBOX and [`SpecialUse`]), all subscribed.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountExists`] when the address or the user ID is taken, case aside.
    fn add_account(&self, account: NewAccount, at: Timestamp) -> Result<AccountId, StoreError>;
    /// The account that signs in as `login`: its address or its user ID, case aside.
    fn account_by_login(&self, login: &str) -> Result<Option<Account>, StoreError>;
    /// The account with this address.
    fn account_by_address(&self, address: &mail::Address) -> Result<Option<Account>, StoreError>;
    /// An account by its number.
    fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError>;
    /// All accounts, by address.
    fn accounts(&self) -> Result<Vec<Account>, StoreError>;
    /// Changes one property of an account.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchAccount`].
    fn change_account(&self, id: AccountId, change: AccountChange) -> Result<(), StoreError>;
    /// Removes an account with its mailboxes and messages. Queue, tracker and log keep theirs.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchAccount`].
    fn remove_account(&self, id: AccountId) -> Result<(), StoreError>;
    /// What an account holds and may hold.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchAccount`].
    fn usage(&self, id: AccountId) -> Result<Usage, StoreError>;

    // --- mailboxes

    /// The mailboxes of an account, INBOX first, then by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchAccount`].
    fn mailboxes(&self, account: AccountId) -> Result<Vec<Mailbox>, StoreError>;
    /// One mailbox. INBOX is found in any case.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`].
    fn mailbox(&self, account: AccountId, name: &MailboxName) -> Result<Mailbox, StoreError>;
    /// One mailbox, by its number.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`].
    fn mailbox_by_id(&self, mailbox: MailboxId) -> Result<Mailbox, StoreError>;
    /// Creates a mailbox, and the parents that it lacks (RFC 9051 §6.3.4). The UIDVALIDITY of a
    /// name that existed before is higher than it was.
    ///
    /// # Errors
    ///
    /// [`StoreError::MailboxExists`], [`StoreError::TooManyMailboxes`],
    /// [`StoreError::NoSuchAccount`].
    fn create_mailbox(
        &self,
        account: AccountId,
        mailbox: NewMailbox,
        at: Timestamp,
    ) -> Result<Mailbox, StoreError>;
    /// Deletes a mailbox with its messages.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`], [`StoreError::SystemMailbox`], [`StoreError::HasChildren`].
    fn delete_mailbox(&self, mailbox: MailboxId) -> Result<(), StoreError>;
    /// Renames a mailbox and what is below it, and creates the parents that the new name lacks. It
    /// keeps its UIDVALIDITY, which no other mailbox ever had; subscriptions stay as they are.
    /// Renaming INBOX moves its messages to a new mailbox (RFC 9051 §6.3.6).
    ///
    /// # Errors
    ///
    /// [`StoreError::SystemMailbox`] (not for INBOX), [`StoreError::MailboxExists`],
    /// [`StoreError::NoSuchMailbox`], [`StoreError::TooManyMailboxes`].
    fn rename_mailbox(
        &self,
        mailbox: MailboxId,
        to: &MailboxName,
        at: Timestamp,
    ) -> Result<(), StoreError>;
    /// The names an account subscribes to, also those that no longer exist (RFC 9051 §6.3.7), by
    /// name.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchAccount`].
    fn subscriptions(&self, account: AccountId) -> Result<Vec<MailboxName>, StoreError>;
    /// Subscribes to a name, or no longer. To do what is done already is no error.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchAccount`], [`StoreError::TooManyMailboxes`] past
    /// [`SUBSCRIPTIONS_MAX`].
    fn subscribe(
        &self,
        account: AccountId,
        name: &MailboxName,
        subscribed: bool,
    ) -> Result<(), StoreError>;
    /// What clients keep beside a mailbox or, for `None`, beside the account.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`], also when it is another account's; [`StoreError::NoSuchAccount`].
    fn annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
    ) -> Result<Annotations, StoreError>;
    /// Changes entries there or, for `None`, removes them, all or none. What changes a mailbox's
    /// counts as a change of the mailbox. They go with it.
    ///
    /// # Errors
    ///
    /// As [`annotations`](Self::annotations); [`StoreError::TooManyAnnotations`] when they would be too
    /// many or too long.
    fn annotate(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError>;
    /// The numbers of a mailbox, kept as they change: costs the same at any size.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`].
    fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, StoreError>;

    // --- messages

    /// Opens a mailbox: its status, the UIDs in it, and which of them are `\Recent` for this
    /// session; `take_recent` makes them no longer so for the next (SELECT does, EXAMINE not).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`].
    fn open(&self, mailbox: MailboxId, take_recent: bool) -> Result<Opened, StoreError>;
    /// The messages of a set that exist, by UID, at most `limit` of them: call again from the last.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`] when it was deleted.
    fn summaries(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError>;
    /// What happened to a mailbox after `since`: which messages came or changed, and which UIDs went.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`] when it was deleted.
    fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError>;
    /// Octets `start..end` of stored octets, `end` clipped to their length. Bounded by what the
    /// caller asks for: large messages are read in pieces.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMessage`] when they are gone; [`StoreError::Medium`] when the checksum
    /// of what is read does not hold.
    fn read(&self, blob: BlobId, start: u64, end: u64) -> Result<Vec<u8>, StoreError>;
    /// Octets `start..end` of stored octets, to be read piece by piece however long that takes: what is
    /// held can be read although nothing refers to it any more, and its space comes back only when it is
    /// let go of. Where several processes share a store, that holds as long as this one reaches the
    /// database: one that is cut off for a minute may find them gone.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMessage`] when they are gone.
    fn hold(&self, blob: BlobId, start: u64, end: u64) -> Result<Arc<dyn Held>, StoreError>;
    /// As [`summaries`](Self::summaries), each with the digest of its octets when one is kept; ends early
    /// once the digests have so many octets.
    ///
    /// # Errors
    ///
    /// As [`summaries`](Self::summaries).
    fn digested(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
        octets_limit: usize,
    ) -> Result<Vec<Digested>, StoreError>;
    /// Keeps what was made of stored octets beside them, as long as they are there; the store does not
    /// look into it. This is for speed: it returns before it is done, and what cannot be kept now is
    /// left out.
    fn keep_digests(&self, digests: Vec<(BlobId, Vec<u8>)>);
    /// Where a text can be, in lower case, among the messages of a mailbox; `None` when the store cannot
    /// tell: then it can be anywhere.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`] when it was deleted.
    fn find_text(
        &self,
        mailbox: MailboxId,
        text: &str,
        within: Within,
    ) -> Result<Option<Candidates>, StoreError> {
        let _ = (mailbox, text, within);
        Ok(None)
    }
    /// The UID up to which the texts of a mailbox are indexed, 0 when none are; `None` when the store has
    /// no index.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`] when it was deleted.
    fn texts_indexed_to(&self, mailbox: MailboxId) -> Result<Option<u32>, StoreError> {
        let _ = mailbox;
        Ok(None)
    }
    /// The mailboxes with messages whose texts may not be indexed; `None` when only asking each tells.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn texts_behind(&self) -> Result<Option<Vec<MailboxId>>, StoreError> {
        Ok(None)
    }
    /// Which of these octets are not in the index that the mailbox belongs to.
    ///
    /// # Errors
    ///
    /// As [`texts_indexed_to`](Self::texts_indexed_to).
    fn texts_missing(
        &self,
        mailbox: MailboxId,
        blobs: &[BlobId],
    ) -> Result<Vec<BlobId>, StoreError> {
        let _ = mailbox;
        Ok(blobs.to_vec())
    }
    /// Puts texts (`None` for what is too long) into the index, and notes that all
    /// messages of the mailbox are in there up to this UID.
    ///
    /// # Errors
    ///
    /// As [`texts_indexed_to`](Self::texts_indexed_to).
    fn index_texts(
        &self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: Vec<(BlobId, Option<MessageText>)>,
    ) -> Result<(), StoreError> {
        let _ = (mailbox, up_to, texts);
        Ok(())
    }
    /// How many octets are stored there.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMessage`].
    fn octets(&self, blob: BlobId) -> Result<u64, StoreError>;
    /// A place to write a message to piece by piece before it is appended. What is not appended is
    /// gone when the spool is dropped, and after a crash.
    fn spool(&self) -> Result<Box<dyn Spool>, StoreError>;
    /// Adds a message, charges its octets to the quota, and gives it the mailbox's next UID.
    ///
    /// # Errors
    ///
    /// [`StoreError::OverQuota`] when usage would pass the limit, [`StoreError::NoSuchMailbox`],
    /// [`StoreError::NoSuchMessage`] when it names stored octets that are gone,
    /// [`StoreError::TooManyKeywords`], [`StoreError::OutOfUids`]: then nothing is added.
    fn append(&self, mailbox: MailboxId, message: NewMessage) -> Result<Appended, StoreError>;
    /// Adds messages in their order as one change, all or none.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append): then none is added.
    fn append_all(
        &self,
        mailbox: MailboxId,
        messages: Vec<NewMessage>,
    ) -> Result<(UidValidity, Vec<Uid>), StoreError>;
    /// Adds a message to `mailbox` and removes another, of the same account, in one commit. What
    /// goes makes room for what comes.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); [`StoreError::NoSuchMessage`] when there is nothing to remove,
    /// [`StoreError::NoSuchMailbox`] also when the two mailboxes are not of one account: then
    /// nothing is added nor removed.
    fn replace(
        &self,
        mailbox: MailboxId,
        message: NewMessage,
        gone: (MailboxId, Uid),
    ) -> Result<Appended, StoreError>;
    /// Copies the messages of a set that exist, all or none, in the order of their UIDs, with their
    /// flags and internal dates.
    ///
    /// # Errors
    ///
    /// [`StoreError::OverQuota`], [`StoreError::NoSuchMailbox`], [`StoreError::TooManyKeywords`],
    /// [`StoreError::OutOfUids`].
    fn copy(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError>;
    /// Moves them: they appear in the target and vanish here in one commit. Charges nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`], also when the two are not of one account;
    /// [`StoreError::TooManyKeywords`], [`StoreError::OutOfUids`].
    fn move_messages(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError>;
    /// Changes flags of the messages of a set that exist, and tells the new flags of those. A
    /// message that has the flags already keeps its [`ModSeq`].
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`], [`StoreError::TooManyKeywords`].
    fn change_flags(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
    ) -> Result<Vec<FlagUpdate>, StoreError>;
    /// Changes them where nothing changed after `unchanged_since` (RFC 7162 §3.1.3), each message for
    /// itself: tells the new flags of those, and the UIDs of the others, ascending, which it leaves
    /// as they are.
    ///
    /// # Errors
    ///
    /// As [`change_flags`](Self::change_flags).
    fn change_flags_unchanged(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
        unchanged_since: ModSeq,
    ) -> Result<(Vec<FlagUpdate>, Vec<Uid>), StoreError>;
    /// Removes messages flagged `\Deleted`, of a set or of all, the lowest UIDs first and at most `limit`,
    /// and tells their UIDs. Whoever writes waits as long: call again while it tells `limit` of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMailbox`].
    fn expunge_some(
        &self,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        limit: usize,
    ) -> Result<Vec<Uid>, StoreError>;
    /// The same, however many they are.
    ///
    /// # Errors
    ///
    /// As [`expunge_some`](Self::expunge_some).
    fn expunge(&self, mailbox: MailboxId, uids: Option<&UidSet>) -> Result<Vec<Uid>, StoreError> {
        self.expunge_some(mailbox, uids, usize::MAX)
    }
    /// Whether it can still write, without writing: what a monitor asks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`]: a flush or a commit failed, and nothing is written any more until it
    /// is opened again.
    fn takes_writes(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Brings back the space of octets that nothing refers to, one piece of work at a time: call
    /// again until nothing was done. A store that keeps no dead octets has nothing to do.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`], [`StoreError::NoSpace`]: what was done until then stays done.
    fn compact(&self) -> Result<Compacted, StoreError> {
        Ok(Compacted::default())
    }
    /// What was done in the background since the store was opened.
    fn upkeep(&self) -> Upkeep {
        Upkeep::default()
    }
    /// Asks to be told of changed mailboxes.
    fn listen(&self, listener: Listener);
    /// Asks to be told of what other processes do to accounts, where others have the store open.
    fn listen_elsewhere(&self, listener: ElsewhereListener) {
        drop(listener);
    }
    /// The part that this process has in what is done once for all.
    fn share(&self) -> Share {
        Share::ALL
    }
    /// Whether a client may be told that nothing happened: not by a process that knows that it is cut off from
    /// what it would hear of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when it is.
    fn is_reached(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Whether short reads take less than handing them to another thread: no network is between.
    fn is_near(&self) -> bool {
        true
    }

    // --- the pipeline

    /// A step of the pipeline: consumes jobs and produces deliveries, jobs, log records and tracker
    /// states in one commit.
    ///
    /// # Errors
    ///
    /// [`StoreError::JobGone`] when a job to consume or amend is not there any more: somebody did this step
    /// already. [`StoreError::OverQuota`] names the account at fault; [`StoreError::NoSuchAccount`]
    /// when a delivery is to none; [`StoreError::NoSuchMessage`] when a [`Source`] is nothing;
    /// [`StoreError::Overtaken`] when a [`Track::only_from`] is not so; [`StoreError::Marked`] when a
    /// mark is there already; [`StoreError::StillKept`] when an infected message must stay. In all these cases nothing has happened.
    fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError>;
    /// The jobs of the pipeline, those in no [`Lane`], due at `now`, by number, which is oldest
    /// first, at most `limit`, with a number above `after`.
    fn jobs_due(
        &self,
        now: Timestamp,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;
    /// All jobs, due or not and of whatever lane, by number, at most `limit`, with a number above
    /// `after`.
    fn jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError>;
    /// One job.
    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError>;
    /// One job, which no other process that has the store open works on from now on; `None` also when
    /// one does already. Jobs that [`lane_due`](Self::lane_due) and its like return are taken so too.
    fn take_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.job(id)
    }
    /// The destinations that have a lane with jobs in it, by name, after `after`, at most `limit`.
    /// Costs as much as it returns, however many jobs wait.
    fn lanes(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError>;
    /// The jobs of one lane that are due at `now`, in the order in which they are to be done, at
    /// most `limit`. Those that were put off are at most half of them while others wait. Costs as
    /// much as it returns, however many jobs wait.
    fn lane_due(
        &self,
        now: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;
    /// The jobs of one lane that were queued at or before `until`, due or not, the oldest first, at
    /// most `limit`. Costs as much as it returns, however many jobs wait.
    fn lane_queued(
        &self,
        until: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;
    /// How many jobs wait, and when the first of those in no lane is due.
    fn jobs_waiting(&self) -> Result<(u64, Option<Timestamp>), StoreError>;
    /// Puts a job off: its step failed, which is counted, and is tried again at `due`.
    ///
    /// # Errors
    ///
    /// [`StoreError::JobGone`].
    fn postpone(&self, job: JobId, due: Timestamp, reason: &str) -> Result<(), StoreError>;
    /// Infected messages by number, at most `limit`, with a number above `after`.
    fn quarantined(&self, after: u64, limit: usize) -> Result<Vec<Infected>, StoreError>;
    /// Those that need not be kept any longer at `now`, at most `limit`, oldest first.
    fn quarantine_ended(&self, now: Timestamp, limit: usize) -> Result<Vec<Infected>, StoreError>;
    /// What became of each certified recipient of a message, by address.
    fn tracked(&self, identificativo: &str) -> Result<Vec<Tracked>, StoreError>;
    /// The entries of the tracker whose notice is due at `now`, the longest due first, at most
    /// `limit`, after `after` in that order.
    fn overdue(
        &self,
        now: Timestamp,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, StoreError>;
    /// The value of a mark, when it was made.
    fn mark(&self, key: &Digest) -> Result<Option<Digest>, StoreError>;
    /// Forgets marks that were made before then, at most `limit`; how many it forgot. Costs as much
    /// as it forgets, however many there are.
    fn forget_marks(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
    /// Log records by their time, then by their number, at most `limit`, after the one with number
    /// `after` (0: from the first). Nothing follows a record that is not there any more.
    fn log(
        &self,
        filter: &LogFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogRecord)>, StoreError>;

    // --- the sealed log

    /// Log records as they are kept, by number, at most `limit` of those after number `after`. They
    /// are given as they are found, whatever somebody did to them: who asks checks.
    fn log_entries(&self, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError>;
    /// The same, their places and hashes alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`] also when a hash is none.
    fn log_leaves(&self, after: u64, limit: usize) -> Result<Vec<LogLeaf>, StoreError>;
    /// The number of the last log record that was ever written; 0 before the first.
    fn last_record(&self) -> Result<u64, StoreError>;
    /// Seals by number, at most `limit` of those after number `after`.
    fn seals(&self, after: u64, limit: usize) -> Result<Vec<Seal>, StoreError>;
    /// The last seal.
    fn last_seal(&self) -> Result<Option<Seal>, StoreError>;
    /// The seal that covers a record.
    fn seal_of(&self, record: u64) -> Result<Option<Seal>, StoreError>;
    /// Seals that wait for their time stamp, by number, at most `limit`.
    fn unstamped_seals(&self, limit: usize) -> Result<Vec<Seal>, StoreError>;
    /// The roots of a seal's chunks; none when there is no such seal.
    fn seal_chunks(&self, number: u64) -> Result<Vec<tree::Hash>, StoreError>;
    /// Keeps a seal.
    ///
    /// # Errors
    ///
    /// [`StoreError::SealOutOfOrder`] when it is not the next after the last one, or its records are
    /// not those that follow: then nothing is kept.
    fn add_seal(&self, seal: NewSeal) -> Result<(), StoreError>;
    /// Keeps the time stamp of a seal; one that has its stamp keeps that.
    fn stamp_seal(&self, number: u64, stamp: &[u8]) -> Result<(), StoreError>;
    /// Removes at most `limit` records of a seal, and tells how many: until none is left. The seal
    /// stays, with the time at which this began. Whether they may go is for the caller to know
    /// (PEC-LOG-02).
    fn expire_seal(&self, number: u64, at: Timestamp, limit: usize) -> Result<usize, StoreError>;
}
