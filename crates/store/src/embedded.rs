//! The default store: an index in SQLite, and octets in append-only segments, in one directory.
//!
//! | In the directory | Is |
//! | --- | --- |
//! | `lock` | locked by the one process that has the store open |
//! | `index.db` and its `-wal`, `-shm` | everything but octets; synchronous, so a commit is on disk |
//! | `segments/` | octets in pieces, each once (`pieces.rs`), a group at a time (`segments.rs`) |
//! | `large/` | octets beyond 1 MiB that an older version stored, a file each |
//! | `archived` | while the store is closed, and its archive has everything: where that ends |
//! | `pin` | locked by whoever copies the store: nothing is unlinked meanwhile |
//! | `search/` | an index of texts for each account, made again where it is missing |
//! | `spool/` | what is still coming in; emptied when the store is opened |
//!
//! The order is always: octets on disk, then the commit that names them, then the answer. One
//! thread writes (`writer.rs`); reads have connections of their own and wait for nobody. No name
//! that a user chose is ever a path. What a crash may leave is in `docs/crash-states.md`.

mod accounts;
mod annotations;
mod archive;
mod archiver;
mod backup;
mod check;
mod compact;
mod copies;
mod disk;
mod hold;
mod keys;
mod lanes;
mod line;
mod list;
mod log;
mod mailboxes;
mod messages;
mod names;
mod octets;
mod opening;
mod options;
mod pieces;
mod pipeline;
mod quarantine;
mod readers;
mod recent;
mod record;
mod restore;
mod resume;
mod schema;
mod seals;
mod search;
mod segments;
mod spool;
mod stats;
mod stream;
mod taking;
mod tracker;
mod txn;
mod upgrade;
mod upkeep;
mod wal;
mod wipe;
mod writer;

#[cfg(test)]
mod archived;
#[cfg(test)]
mod care;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod generations;
#[cfg(test)]
mod model;
#[cfg(test)]
mod power;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use mail::Address;

pub use self::backup::backup;
pub use self::check::check;
pub use self::keys::{KEY_OCTETS, KnownKey, MasterKey, MasterKeys, SecretKey};
pub use self::options::Options;
pub use self::pieces::{PIECE_OCTETS_MAX, cut};
pub use self::restore::{Restored, restore};
pub use self::stats::{Stats, stats};
pub(crate) use self::taking::{Moved, Taking};

use self::octets::Files;
use self::readers::Readers;
use self::recent::Recent;
use self::spool::EmbeddedSpool;
use self::txn::Counters;
use self::upkeep::{Done, Pace};
use self::writer::{Command, Fault, Outcome};
use crate::tree::Hash;
use crate::{
    Account, AccountChange, AccountId, Annotations, Appended, BlobId, Candidates, Changes, Charge,
    Committed, Compacted, Copied, Digest, Digested, FlagChange, FlagUpdate, Held, Infected, Job,
    JobId, Listener, LogEntry, LogFilter, LogLeaf, LogRecord, Mailbox, MailboxId, MailboxName,
    MailboxStatus, MessageText, ModSeq, NewAccount, NewMailbox, NewMessage, NewSeal, Opened,
    Overdue, Seal, Spool, Store, StoreError, Summary, Timestamp, Tracked, Transaction, Uid, UidSet,
    UidValidity, Upkeep, Usage, Within,
};

/// Commands that wait for the writer at most; then callers wait to be heard.
const QUEUE_MAX: usize = 1024;

/// A store in a directory of this machine.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// None where the store is encrypted: it would tell what is in messages.
    texts: Option<search::Indexes>,
    commands: Option<SyncSender<Command>>,
    writer: Option<JoinHandle<()>>,
    pace: Arc<Pace>,
    upkeep: Option<JoinHandle<()>>,
    /// Held as long as the store is open.
    _lock: File,
}

/// What the writer shares with everybody.
struct Shared {
    files: Arc<Files>,
    readers: Readers,
    recent: Recent,
    room: octets::Room,
    stuck: compact::Stuck,
    done: Done,
    /// How far the archive is, where there is one.
    archive: Option<Arc<line::Line>>,
    listeners: RwLock<Vec<Listener>>,
    fault: Fault,
}

impl Shared {
    fn tell(&self, changed: &BTreeSet<MailboxId>) {
        for listener in &*self.listeners.read().unwrap_or_else(PoisonError::into_inner) {
            changed.iter().for_each(|mailbox| listener(*mailbox));
        }
    }
}

impl Store for EmbeddedStore {
    fn add_account(&self, account: NewAccount, at: Timestamp) -> Result<AccountId, StoreError> {
        self.write(vec![], move |txn, _| accounts::add(txn, account, at))
    }

    fn account_by_login(&self, login: &str) -> Result<Option<Account>, StoreError> {
        self.shared.readers.read(|db| accounts::by_login(db, login))
    }

    fn account_by_address(&self, address: &Address) -> Result<Option<Account>, StoreError> {
        self.shared.readers.read(|db| accounts::by_address(db, address))
    }

    fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.shared.readers.read(|db| accounts::by_id(db, id))
    }

    fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.shared.readers.read(accounts::all)
    }

    fn change_account(&self, id: AccountId, change: AccountChange) -> Result<(), StoreError> {
        self.write(vec![], move |txn, _| accounts::change(txn, id, change))
    }

    fn remove_account(&self, id: AccountId) -> Result<(), StoreError> {
        self.write(vec![], move |txn, _| accounts::remove(txn, id))?;
        self.texts.as_ref().map_or(Ok(()), |texts| texts.remove(id))
    }

    fn usage(&self, id: AccountId) -> Result<Usage, StoreError> {
        self.shared.readers.read(|db| accounts::usage(db, id))
    }

    fn mailboxes(&self, account: AccountId) -> Result<Vec<Mailbox>, StoreError> {
        self.shared.readers.read(|db| mailboxes::all(db, account))
    }

    fn mailbox(&self, account: AccountId, name: &MailboxName) -> Result<Mailbox, StoreError> {
        self.shared.readers.read(|db| mailboxes::by_name(db, account, name))
    }

    fn mailbox_by_id(&self, mailbox: MailboxId) -> Result<Mailbox, StoreError> {
        self.shared.readers.read(|db| mailboxes::by_id(db, mailbox))
    }

    fn create_mailbox(
        &self,
        account: AccountId,
        mailbox: NewMailbox,
        at: Timestamp,
    ) -> Result<Mailbox, StoreError> {
        self.write(vec![], move |txn, _| {
            let NewMailbox { name, special_use } = mailbox;
            let id = mailboxes::create(txn, account, &name, special_use, at)?;
            mailboxes::by_id(txn.db, id)
        })
    }

    fn delete_mailbox(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        self.write(vec![], move |txn, _| mailboxes::delete(txn, mailbox))
    }

    fn rename_mailbox(
        &self,
        mailbox: MailboxId,
        to: &MailboxName,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let to = to.clone();
        self.write(vec![], move |txn, _| mailboxes::rename(txn, mailbox, &to, at))
    }

    fn subscriptions(&self, account: AccountId) -> Result<Vec<MailboxName>, StoreError> {
        self.shared.readers.read(|db| mailboxes::subscriptions(db, account))
    }

    fn subscribe(
        &self,
        account: AccountId,
        name: &MailboxName,
        subscribed: bool,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(vec![], move |txn, _| mailboxes::subscribe(txn.db, account, &name, subscribed))
    }

    fn annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
    ) -> Result<Annotations, StoreError> {
        self.shared.readers.read(|db| annotations::all(db, account, mailbox))
    }

    fn annotate(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        self.write(vec![], move |txn, _| annotations::change(txn, account, mailbox, changes))
    }

    fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, StoreError> {
        self.shared.readers.read(|db| Ok(mailboxes::Numbers::load(db, mailbox)?.status()))
    }

    fn open(&self, mailbox: MailboxId, take_recent: bool) -> Result<Opened, StoreError> {
        let recent = take_recent && self.status(mailbox)?.recent > 0;
        if !recent {
            return self.shared.readers.read(|db| messages::open(db, mailbox));
        }
        let from = match self.write(vec![], move |txn, _| messages::take_recent(txn, mailbox)) {
            // What cannot be written can still be read: they are `\Recent` once more.
            Err(StoreError::NoSpace | StoreError::Medium(_)) => {
                return self.shared.readers.read(|db| messages::open(db, mailbox));
            }
            from => from?,
        };
        let mut opened = self.shared.readers.read(|db| messages::open(db, mailbox))?;
        opened.recent_from = from;
        opened.status.recent = opened.uids.iter().filter(|uid| *uid >= from).count() as u64;
        Ok(opened)
    }

    fn summaries(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        self.shared.readers.read(|db| {
            mailboxes::Numbers::load(db, mailbox)?;
            messages::summaries(db, mailbox, uids, limit)
        })
    }

    fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError> {
        self.shared.readers.read(|db| messages::changes(db, mailbox, since))
    }

    fn read(&self, blob: BlobId, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        hold::read(&self.shared, blob, start..end)
    }

    fn hold(&self, blob: BlobId, start: u64, end: u64) -> Result<Arc<dyn Held>, StoreError> {
        Ok(Arc::new(hold::hold(&self.shared, blob, start..end)?))
    }

    fn digested(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
        octets_limit: usize,
    ) -> Result<Vec<Digested>, StoreError> {
        self.shared.readers.read(|db| {
            mailboxes::Numbers::load(db, mailbox)?;
            messages::digested(db, mailbox, uids, limit, octets_limit, &self.shared.files.keys)
        })
    }

    fn keep_digests(&self, digests: Vec<(BlobId, Vec<u8>)>) {
        let Some(commands) = &self.commands else { return };
        let keys = &self.shared.files.keys;
        let sealed: Result<Vec<_>, StoreError> = digests
            .into_iter()
            .map(|(blob, digest)| Ok((blob, keys.seal_digest(digest)?)))
            .collect();
        let digests = match sealed {
            Ok(digests) => digests,
            Err(error) => {
                tracing::warn!(%error, "digests could not be kept");
                return;
            }
        };
        let command = Command {
            octets: Vec::new(),
            run: Box::new(move |txn, _| {
                let outcome = match messages::keep_digests(txn, &digests) {
                    Ok(()) => Outcome::Kept,
                    Err(error) => {
                        tracing::warn!(%error, "digests could not be kept");
                        Outcome::Refused
                    }
                };
                (outcome, Box::new(|| ()))
            }),
        };
        if commands.try_send(command).is_err() {
            tracing::debug!("the writer is busy: digests are made again when they are needed");
        }
    }

    fn find_text(
        &self,
        mailbox: MailboxId,
        text: &str,
        within: Within,
    ) -> Result<Option<Candidates>, StoreError> {
        self.ask_texts(mailbox, |texts| texts.find(mailbox, text, within))
    }

    fn texts_indexed_to(&self, mailbox: MailboxId) -> Result<Option<u32>, StoreError> {
        self.in_texts(mailbox, |texts| texts.indexed_to(mailbox))
    }

    fn texts_missing(
        &self,
        mailbox: MailboxId,
        blobs: &[BlobId],
    ) -> Result<Vec<BlobId>, StoreError> {
        let missing = self.in_texts(mailbox, |texts| texts.missing(blobs))?;
        Ok(missing.unwrap_or_else(|| blobs.to_vec()))
    }

    fn index_texts(
        &self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: Vec<(BlobId, Option<MessageText>)>,
    ) -> Result<(), StoreError> {
        let there = |blob| match self.shared.readers.read(|db| octets::octets(db, blob)) {
            Ok(_) => Ok(true),
            Err(StoreError::NoSuchMessage) => Ok(false),
            Err(error) => Err(error),
        };
        self.in_texts(mailbox, |index| {
            index.add(mailbox, up_to, &texts)?;
            index.prune(&there)
        })
        .map(drop)
    }

    fn octets(&self, blob: BlobId) -> Result<u64, StoreError> {
        self.shared.readers.read(|db| octets::octets(db, blob))
    }

    fn spool(&self) -> Result<Box<dyn Spool>, StoreError> {
        Ok(Box::new(EmbeddedSpool::new(Arc::clone(&self.shared.files))))
    }

    fn append(&self, mailbox: MailboxId, message: NewMessage) -> Result<Appended, StoreError> {
        let NewMessage { octets, flags, received, at } = message;
        self.write(vec![octets], move |txn, blobs| {
            let blob = blobs.first().copied().ok_or(StoreError::NoSuchMessage)?;
            let message = messages::Incoming { blob, flags: &flags, received, saved: at };
            messages::add(txn, mailbox, &message, Charge::Quota)
        })
    }

    fn append_all(
        &self,
        mailbox: MailboxId,
        messages: Vec<NewMessage>,
    ) -> Result<(UidValidity, Vec<Uid>), StoreError> {
        let parts = messages
            .into_iter()
            .map(|message| (message.octets, (message.flags, message.received, message.at)));
        let (octets, rest): (Vec<_>, Vec<_>) = parts.unzip();
        self.write(octets, move |txn, blobs| {
            let incoming = blobs.iter().zip(&rest).map(|(blob, (flags, received, at))| {
                messages::Incoming { blob: *blob, flags, received: *received, saved: *at }
            });
            messages::add_all(txn, mailbox, &incoming.collect::<Vec<_>>())
        })
    }

    fn replace(
        &self,
        mailbox: MailboxId,
        message: NewMessage,
        gone: (MailboxId, Uid),
    ) -> Result<Appended, StoreError> {
        let NewMessage { octets, flags, received, at } = message;
        self.write(vec![octets], move |txn, blobs| {
            let blob = blobs.first().copied().ok_or(StoreError::NoSuchMessage)?;
            let message = messages::Incoming { blob, flags: &flags, received, saved: at };
            messages::replace(txn, mailbox, &message, gone)
        })
    }

    fn copy(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        let uids = uids.clone();
        self.write(vec![], move |txn, _| messages::copy(txn, from, &uids, to, at))
    }

    fn move_messages(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        let uids = uids.clone();
        self.write(vec![], move |txn, _| messages::transfer(txn, from, &uids, to, at))
    }

    fn change_flags(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
    ) -> Result<Vec<FlagUpdate>, StoreError> {
        let (uids, change) = (uids.clone(), change.clone());
        self.write(vec![], move |txn, _| messages::change_flags(txn, mailbox, &uids, &change))
    }

    fn change_flags_unchanged(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
        unchanged_since: ModSeq,
    ) -> Result<(Vec<FlagUpdate>, Vec<Uid>), StoreError> {
        let (uids, change) = (uids.clone(), change.clone());
        self.write(vec![], move |txn, _| {
            let (same, changed) = messages::unchanged(txn.db, mailbox, &uids, unchanged_since)?;
            Ok((messages::change_flags(txn, mailbox, &same, &change)?, changed))
        })
    }

    fn expunge_some(
        &self,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        limit: usize,
    ) -> Result<Vec<Uid>, StoreError> {
        let uids = uids.cloned().unwrap_or_else(UidSet::all);
        self.write(vec![], move |txn, _| messages::expunge(txn, mailbox, &uids, limit))
    }

    fn takes_writes(&self) -> Result<(), StoreError> {
        let gone = self.writer.as_ref().is_none_or(JoinHandle::is_finished);
        if gone || self.shared.fault.is_fatal() { Err(self.shared.fault.error()) } else { Ok(()) }
    }

    fn compact(&self) -> Result<Compacted, StoreError> {
        match &self.commands {
            Some(commands) => compact::one(&self.shared, commands, true, &|_| !self.pace.stopped()),
            None => Err(self.shared.fault.error()),
        }
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep {
            archive: self.shared.archive.as_ref().map(|line| line.told()),
            ..self.shared.done.told()
        }
    }

    fn listen(&self, listener: Listener) {
        self.shared.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let Transaction {
            at,
            consume,
            amend,
            octets,
            deliver,
            enqueue,
            follow,
            track,
            once,
            log,
            quarantine,
            discard,
        } = transaction;
        let step = pipeline::Step {
            at,
            consume,
            amend,
            deliver,
            enqueue,
            follow,
            track,
            once,
            log,
            quarantine,
            discard,
        };
        self.write(octets, move |txn, blobs| pipeline::commit(txn, step, blobs))
    }

    fn jobs_due(
        &self,
        now: Timestamp,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.shared.readers.read(|db| pipeline::jobs_due(db, now, after, limit))
    }

    fn jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError> {
        self.shared.readers.read(|db| pipeline::jobs(db, after, limit))
    }

    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.shared.readers.read(|db| pipeline::one_job(db, id))
    }

    fn lanes(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        self.shared.readers.read(|db| lanes::lanes(db, after, limit))
    }

    fn lane_due(
        &self,
        now: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.shared.readers.read(|db| lanes::due(db, now, destination, limit))
    }

    fn lane_queued(
        &self,
        until: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.shared.readers.read(|db| lanes::queued(db, until, destination, limit))
    }

    fn jobs_waiting(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        self.shared.readers.read(pipeline::jobs_waiting)
    }

    fn postpone(&self, job: JobId, due: Timestamp, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        self.write(vec![], move |txn, _| pipeline::postpone(txn, job, due, &reason))
    }

    fn quarantined(&self, after: u64, limit: usize) -> Result<Vec<Infected>, StoreError> {
        self.shared.readers.read(|db| quarantine::list(db, after, limit))
    }

    fn quarantine_ended(&self, now: Timestamp, limit: usize) -> Result<Vec<Infected>, StoreError> {
        self.shared.readers.read(|db| quarantine::ended(db, now, limit))
    }

    fn tracked(&self, identificativo: &str) -> Result<Vec<Tracked>, StoreError> {
        self.shared.readers.read(|db| tracker::tracked(db, identificativo))
    }

    fn overdue(
        &self,
        now: Timestamp,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, StoreError> {
        self.shared.readers.read(|db| tracker::overdue(db, now, after, limit))
    }

    fn mark(&self, key: &Digest) -> Result<Option<Digest>, StoreError> {
        self.shared.readers.read(|db| tracker::mark(db, key))
    }

    fn forget_marks(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.write(vec![], move |txn, _| tracker::forget(txn.db, before, limit))
    }

    fn log(
        &self,
        filter: &LogFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.shared.readers.read(|db| log::find(db, filter, after, limit))
    }

    fn log_entries(&self, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.shared.readers.read(|db| log::entries(db, after, limit))
    }

    fn log_leaves(&self, after: u64, limit: usize) -> Result<Vec<LogLeaf>, StoreError> {
        self.shared.readers.read(|db| log::leaves(db, after, limit))
    }

    fn last_record(&self) -> Result<u64, StoreError> {
        self.shared.readers.read(|db| Counters::load(db).map(|counters| counters.record))
    }

    fn seals(&self, after: u64, limit: usize) -> Result<Vec<Seal>, StoreError> {
        self.shared.readers.read(|db| seals::after(db, after, limit))
    }

    fn last_seal(&self) -> Result<Option<Seal>, StoreError> {
        self.shared.readers.read(seals::last)
    }

    fn seal_of(&self, record: u64) -> Result<Option<Seal>, StoreError> {
        self.shared.readers.read(|db| seals::of_record(db, record))
    }

    fn unstamped_seals(&self, limit: usize) -> Result<Vec<Seal>, StoreError> {
        self.shared.readers.read(|db| seals::unstamped(db, limit))
    }

    fn seal_chunks(&self, number: u64) -> Result<Vec<Hash>, StoreError> {
        self.shared.readers.read(|db| seals::chunks(db, number))
    }

    fn add_seal(&self, seal: NewSeal) -> Result<(), StoreError> {
        self.write(vec![], move |txn, _| seals::add(txn, &seal))
    }

    fn stamp_seal(&self, number: u64, stamp: &[u8]) -> Result<(), StoreError> {
        let stamp = stamp.to_vec();
        self.write(vec![], move |txn, _| seals::stamp(txn.db, number, &stamp))
    }

    fn expire_seal(&self, number: u64, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.write(vec![], move |txn, _| seals::expire(txn.db, number, at, limit))
    }
}
