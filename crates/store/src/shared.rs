//! One store for many machines: its index in PostgreSQL, its octets in S3 or in files.
//!
//! Any number of nodes have it open at once, and each sees what the others commit. What the trait
//! promises holds across all of them: a call is one transaction of the database, kept on its disk
//! when it returns; UIDs, [`ModSeq`]s, quotas and numbers of the log are given under locks
//! (`txn.rs`). The order is always: octets on their medium, then the commit that names them, then the
//! answer. A node that cannot reach the database refuses everything, and takes nothing on.
//!
//! | file | is |
//! | --- | --- |
//! | `connection.rs` | connections, and waiting for them with a bound |
//! | `schema.rs` | the tables |
//! | `txn.rs` | a call that changes something |
//! | `octets.rs`, `local.rs`, `s3.rs` | octets, and what they lie on |
//! | `hold.rs` | octets that are read for longer than a moment |
//! | `notices.rs` | what nodes tell each other |
//! | `upkeep.rs` | what nothing refers to any more, and goes |
//! | `filling.rs` | a new store, filled from an embedded one |
//! | `back.rs` | a new embedded one, filled from this |
//!
//! Not here, as they are in the embedded store: equal pieces stored once, compression, an index for
//! texts.

mod accounts;
mod annotations;
mod back;
mod check;
mod chunks;
mod connection;
mod filling;
mod hold;
mod jobs;
mod local;
mod log;
mod mailboxes;
mod messages;
mod notices;
mod numbers;
mod octets;
mod opening;
mod pipeline;
mod quarantine;
mod s3;
mod schema;
mod seals;
mod texts;
mod tracker;
mod txn;
mod upkeep;

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use mail::Address;

pub use self::back::bring_back;
pub use self::check::check;
pub use self::filling::{Filled, fill};
pub use self::opening::{Options, Place, Unreachable, check_address, check_schema, look};
pub use self::s3::Bucket;

use self::connection::{Db, Pool};
use self::notices::Ears;
use self::octets::{Medium, Room, SharedSpool, Spools};
use crate::tree::Hash;
use crate::{
    Account, AccountChange, AccountId, Annotations, Appended, BlobId, Candidates, Changes,
    Committed, Compacted, Copied, Digest, Digested, ElsewhereListener, FlagChange, FlagUpdate,
    Held, Infected, Job, JobId, Listener, LogEntry, LogFilter, LogLeaf, LogRecord, Mailbox,
    MailboxId, MailboxName, MailboxStatus, MessageText, ModSeq, NewAccount, NewMailbox, NewMessage,
    NewSeal, Opened, Overdue, Seal, Share, Spool, Store, StoreError, Summary, Timestamp, Tracked,
    Transaction, Uid, UidSet, UidValidity, Upkeep, Usage, Within,
};

/// Octets of a text in an index of the database: its rows have less than a third of a page.
const INDEX_KEY_OCTETS_MAX: usize = 1000;

/// A text as the database takes it, which knows no NUL: hostile mail has some.
fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{2400}").into() } else { text.into() }
}

/// A text as it stands in an index: one that is too long is its hash.
fn index_key(text: &str) -> Cow<'_, str> {
    if text.len() > INDEX_KEY_OCTETS_MAX {
        return format!("blake3:{}", blake3::hash(text.as_bytes()).to_hex()).into();
    }
    plain(text)
}

fn clamp(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A store that other nodes have open too.
pub struct SharedStore {
    pool: Arc<Pool>,
    ears: Arc<Ears>,
    medium: Arc<dyn Medium>,
    leases: Arc<hold::Leases>,
    /// How long octets stay that nothing names.
    quiet: Duration,
    room: Room,
    spools: Arc<Spools>,
    upkeep: Arc<upkeep::Done>,
    threads: Vec<JoinHandle<()>>,
}

impl SharedStore {
    /// Asks in one snapshot: all that `read` asks for is of one commit.
    fn read<T>(&self, read: impl FnOnce(&Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.ears.is_heard()?;
        self.pool.with(|db| db.transaction(connection::SNAPSHOT, || read(db)))
    }

    /// Asks once: a statement is a snapshot of its own.
    fn ask<T>(&self, ask: impl FnOnce(&Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.ears.is_heard()?;
        self.pool.with(ask)
    }

    /// Has `work` done in a transaction, with new octets that are on their medium by then.
    fn write<T>(
        &self,
        octets: Vec<crate::Octets>,
        mut work: impl FnMut(&mut txn::Txn<'_>, &[BlobId]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ears.is_heard()?;
        let length = octets.iter().map(octets::length).sum();
        let _taken = (length > 0).then(|| self.room.take(length));
        let loaded = octets.into_iter().map(octets::load).collect::<Result<Vec<_>, _>>()?;
        let new: Vec<Arc<[u8]>> = loaded.iter().filter_map(|one| one.clone().ok()).collect();
        let (kept, named_by) = if new.is_empty() {
            (Vec::new(), None)
        } else {
            let count = clamp(new.len());
            let (numbers, begun) = self.ask(|db| {
                let next = "SELECT nextval('blob_numbers'), clock_timestamp()
                            FROM generate_series(1, $1::bigint)";
                let rows = db.query(next, &[&count])?;
                let numbers = rows.iter().map(|row| connection::number(row, 0));
                let begun = rows.first().map(|row| connection::get::<SystemTime>(row, 1));
                Ok((numbers.collect::<Result<Vec<_>, _>>()?, begun.transpose()?))
            })?;
            let kept = octets::keep(&*self.medium, &numbers, new)?;
            (kept, begun.map(|begun| begun + self.quiet / 2))
        };
        let mut new = kept.iter().map(|kept| kept.blob);
        let blobs = loaded.into_iter().map(|one| match one {
            Ok(_) => new.next().ok_or(StoreError::NoSuchMessage),
            Err(stored) => Ok(stored),
        });
        let blobs = blobs.collect::<Result<Vec<_>, _>>()?;
        let of = (self.ears.node, &*self.ears.channel);
        match txn::write(&self.pool, of, (&kept, named_by), |txn| work(txn, &blobs)) {
            Ok((done, changed)) => {
                self.ears.tell(changed);
                Ok(done)
            }
            // Nobody knows what became of it: what is left over is found among all there is.
            Err(error @ StoreError::Unavailable(_)) => Err(error),
            Err(error) => {
                self.discard(&kept);
                Err(error)
            }
        }
    }

    /// Has octets that no transaction came to name swept.
    fn discard(&self, kept: &[octets::Kept]) {
        let mut objects: Vec<&str> = kept.iter().map(|kept| &*kept.object).collect();
        objects.sort_unstable();
        objects.dedup();
        if objects.is_empty() {
            return;
        }
        let discard =
            "INSERT INTO garbage SELECT object, now() FROM unnest($1::text[]) AS o (object)
                       ON CONFLICT DO NOTHING";
        if let Err(error) = self.ask(|db| db.execute(discard, &[&objects]).map(drop)) {
            tracing::debug!(%error, "octets of nobody are found later");
        }
    }

    /// The same without new octets.
    fn change<T>(
        &self,
        mut work: impl FnMut(&mut txn::Txn<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write(Vec::new(), |txn, _| work(txn))
    }
}

impl Store for SharedStore {
    fn add_account(&self, account: NewAccount, at: Timestamp) -> Result<AccountId, StoreError> {
        self.change(|txn| accounts::add(txn, &account, at))
    }

    fn account_by_login(&self, login: &str) -> Result<Option<Account>, StoreError> {
        self.ask(|db| accounts::by_login(db, login))
    }

    fn account_by_address(&self, address: &Address) -> Result<Option<Account>, StoreError> {
        self.ask(|db| accounts::by_address(db, address))
    }

    fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.ask(|db| accounts::by_id(db, id))
    }

    fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.ask(accounts::all)
    }

    fn change_account(&self, id: AccountId, change: AccountChange) -> Result<(), StoreError> {
        self.change(|txn| {
            txn.changed.accounts.insert(id);
            accounts::change(txn, id, &change)
        })
    }

    fn remove_account(&self, id: AccountId) -> Result<(), StoreError> {
        self.change(|txn| {
            txn.changed.accounts.insert(id);
            accounts::remove(txn, id)
        })
    }

    fn usage(&self, id: AccountId) -> Result<Usage, StoreError> {
        self.ask(|db| accounts::usage(db, id))
    }

    fn mailboxes(&self, account: AccountId) -> Result<Vec<Mailbox>, StoreError> {
        self.read(|db| mailboxes::all(db, account))
    }

    fn mailbox(&self, account: AccountId, name: &MailboxName) -> Result<Mailbox, StoreError> {
        self.ask(|db| mailboxes::by_name(db, account, name))
    }

    fn mailbox_by_id(&self, mailbox: MailboxId) -> Result<Mailbox, StoreError> {
        self.ask(|db| mailboxes::by_id(db, mailbox))
    }

    fn create_mailbox(
        &self,
        account: AccountId,
        mailbox: NewMailbox,
        at: Timestamp,
    ) -> Result<Mailbox, StoreError> {
        self.change(|txn| {
            txn.changed.names.insert(account);
            let NewMailbox { name, special_use } = &mailbox;
            let id = mailboxes::create(txn, account, name, *special_use, at)?;
            mailboxes::by_id(txn.db, id)
        })
    }

    fn delete_mailbox(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        self.change(|txn| mailboxes::delete(txn, mailbox))
    }

    fn rename_mailbox(
        &self,
        mailbox: MailboxId,
        to: &MailboxName,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(|txn| mailboxes::rename(txn, mailbox, to, at))
    }

    fn subscriptions(&self, account: AccountId) -> Result<Vec<MailboxName>, StoreError> {
        self.read(|db| mailboxes::subscriptions(db, account))
    }

    fn subscribe(
        &self,
        account: AccountId,
        name: &MailboxName,
        subscribed: bool,
    ) -> Result<(), StoreError> {
        self.change(|txn| {
            txn.changed.names.insert(account);
            mailboxes::subscribe(txn, account, name, subscribed)
        })
    }

    fn annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
    ) -> Result<Annotations, StoreError> {
        self.read(|db| annotations::all(db, account, mailbox))
    }

    fn annotate(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        self.change(|txn| {
            txn.changed.names.insert(account);
            annotations::change(txn, account, mailbox, &changes)
        })
    }

    fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, StoreError> {
        self.ask(|db| Ok(numbers::load(db, mailbox)?.status()))
    }

    fn open(&self, mailbox: MailboxId, take_recent: bool) -> Result<Opened, StoreError> {
        let recent = take_recent && self.status(mailbox)?.recent > 0;
        if !recent {
            return self.read(|db| messages::open(db, mailbox));
        }
        let from = self.change(|txn| messages::take_recent(txn, mailbox))?;
        let mut opened = self.read(|db| messages::open(db, mailbox))?;
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
        self.read(|db| {
            numbers::load(db, mailbox)?;
            messages::summaries(db, mailbox, uids, limit)
        })
    }

    fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError> {
        self.read(|db| messages::changes(db, mailbox, since))
    }

    fn read(&self, blob: BlobId, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        let located = self.ask(|db| octets::locate(db, blob, start, end))?;
        octets::read(&*self.medium, located)
    }

    fn hold(&self, blob: BlobId, start: u64, end: u64) -> Result<Arc<dyn Held>, StoreError> {
        let located = self.ask(|db| octets::locate(db, blob, start, end))?;
        Ok(Arc::new(hold::Lease::new(&self.medium, &self.leases, located)))
    }

    fn digested(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
        octets_limit: usize,
    ) -> Result<Vec<Digested>, StoreError> {
        self.read(|db| {
            numbers::load(db, mailbox)?;
            messages::digested(db, mailbox, uids, limit, octets_limit)
        })
    }

    fn keep_digests(&self, digests: Vec<(BlobId, Vec<u8>)>) {
        if let Err(error) = self.ask(|db| messages::keep_digests(db, &digests)) {
            tracing::warn!(%error, "digests could not be kept: they are made again when needed");
        }
    }

    fn find_text(
        &self,
        mailbox: MailboxId,
        text: &str,
        within: Within,
    ) -> Result<Option<Candidates>, StoreError> {
        self.read(|db| texts::find(db, mailbox, text, within))
    }

    fn texts_indexed_to(&self, mailbox: MailboxId) -> Result<Option<u32>, StoreError> {
        self.ask(|db| texts::indexed_to(db, mailbox)).map(Some)
    }

    fn texts_behind(&self) -> Result<Option<Vec<MailboxId>>, StoreError> {
        self.ask(texts::behind).map(Some)
    }

    fn texts_missing(
        &self,
        mailbox: MailboxId,
        blobs: &[BlobId],
    ) -> Result<Vec<BlobId>, StoreError> {
        self.ask(|db| texts::missing(db, mailbox, blobs))
    }

    fn index_texts(
        &self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: Vec<(BlobId, Option<MessageText>)>,
    ) -> Result<(), StoreError> {
        self.ask(|db| db.transaction("BEGIN", || texts::add(db, mailbox, up_to, &texts)))
    }

    fn octets(&self, blob: BlobId) -> Result<u64, StoreError> {
        self.ask(|db| octets::octets(db, blob))
    }

    fn spool(&self) -> Result<Box<dyn Spool>, StoreError> {
        let spools = Arc::clone(&self.spools);
        Ok(Box::new(SharedSpool::new(spools)))
    }

    fn append(&self, mailbox: MailboxId, message: NewMessage) -> Result<Appended, StoreError> {
        let (uid_validity, uids) = self.append_all(mailbox, vec![message])?;
        let uid = uids.first().copied().ok_or(StoreError::OutOfUids)?;
        Ok(Appended { uid_validity, uid })
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
        self.write(octets, |txn, blobs| {
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
        self.write(vec![octets], |txn, blobs| {
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
        self.change(|txn| messages::copy(txn, from, uids, to, at))
    }

    fn move_messages(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        self.change(|txn| messages::transfer(txn, from, uids, to, at))
    }

    fn change_flags(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
    ) -> Result<Vec<FlagUpdate>, StoreError> {
        let changed = self.change(|txn| messages::change_flags(txn, mailbox, uids, change, None));
        changed.map(|(updates, _)| updates)
    }

    fn change_flags_unchanged(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
        unchanged_since: ModSeq,
    ) -> Result<(Vec<FlagUpdate>, Vec<Uid>), StoreError> {
        let since = Some(unchanged_since);
        self.change(|txn| messages::change_flags(txn, mailbox, uids, change, since))
    }

    fn expunge_some(
        &self,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        limit: usize,
    ) -> Result<Vec<Uid>, StoreError> {
        let uids = uids.cloned().unwrap_or_else(UidSet::all);
        self.change(|txn| messages::expunge(txn, mailbox, &uids, limit))
    }

    fn takes_writes(&self) -> Result<(), StoreError> {
        self.ears.is_heard()
    }

    fn compact(&self) -> Result<Compacted, StoreError> {
        self.leases.renew(&self.pool)?;
        upkeep::sweep(&self.pool, &*self.medium, &self.leases, &self.upkeep)
    }

    fn upkeep(&self) -> Upkeep {
        self.upkeep.told()
    }

    fn listen(&self, listener: Listener) {
        self.ears.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn listen_elsewhere(&self, listener: ElsewhereListener) {
        self.ears.elsewhere.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn share(&self) -> Share {
        self.ears.share()
    }

    fn is_reached(&self) -> Result<(), StoreError> {
        self.ears.is_listening()
    }

    fn is_near(&self) -> bool {
        false
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
        self.write(octets, |txn, blobs| pipeline::commit(txn, &step, blobs))
    }

    fn jobs_due(
        &self,
        now: Timestamp,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.ask(|db| jobs::due(db, self.ears.node, now, after, limit))
    }

    fn jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError> {
        self.ask(|db| jobs::all(db, after, limit))
    }

    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.ask(|db| jobs::one(db, id))
    }

    fn take_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.ask(|db| jobs::take_one(db, self.ears.node, id))
    }

    fn lanes(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        self.ask(|db| jobs::lanes(db, after, limit))
    }

    fn lane_due(
        &self,
        now: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.ask(|db| jobs::lane_due(db, self.ears.node, now, destination, limit))
    }

    fn lane_queued(
        &self,
        until: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.ask(|db| jobs::lane_queued(db, self.ears.node, until, destination, limit))
    }

    fn jobs_waiting(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        self.ask(jobs::waiting)
    }

    fn postpone(&self, job: JobId, due: Timestamp, reason: &str) -> Result<(), StoreError> {
        self.change(|txn| jobs::postpone(txn, job, due, reason))
    }

    fn quarantined(&self, after: u64, limit: usize) -> Result<Vec<Infected>, StoreError> {
        self.ask(|db| quarantine::list(db, after, limit))
    }

    fn quarantine_ended(&self, now: Timestamp, limit: usize) -> Result<Vec<Infected>, StoreError> {
        self.ask(|db| quarantine::ended(db, now, limit))
    }

    fn tracked(&self, identificativo: &str) -> Result<Vec<Tracked>, StoreError> {
        self.ask(|db| tracker::tracked(db, identificativo))
    }

    fn overdue(
        &self,
        now: Timestamp,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, StoreError> {
        self.ask(|db| tracker::overdue(db, now, after, limit))
    }

    fn mark(&self, key: &Digest) -> Result<Option<Digest>, StoreError> {
        self.ask(|db| tracker::mark(db, key))
    }

    fn forget_marks(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.ask(|db| tracker::forget(db, before, limit))
    }

    fn log(
        &self,
        filter: &LogFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.read(|db| log::find(db, filter, after, limit))
    }

    fn log_entries(&self, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.ask(|db| log::entries(db, after, limit))
    }

    fn log_leaves(&self, after: u64, limit: usize) -> Result<Vec<LogLeaf>, StoreError> {
        self.ask(|db| log::leaves(db, after, limit))
    }

    fn last_record(&self) -> Result<u64, StoreError> {
        self.ask(log::last)
    }

    fn seals(&self, after: u64, limit: usize) -> Result<Vec<Seal>, StoreError> {
        self.ask(|db| seals::after(db, after, limit))
    }

    fn last_seal(&self) -> Result<Option<Seal>, StoreError> {
        self.ask(seals::last)
    }

    fn seal_of(&self, record: u64) -> Result<Option<Seal>, StoreError> {
        self.ask(|db| seals::of_record(db, record))
    }

    fn unstamped_seals(&self, limit: usize) -> Result<Vec<Seal>, StoreError> {
        self.ask(|db| seals::unstamped(db, limit))
    }

    fn seal_chunks(&self, number: u64) -> Result<Vec<Hash>, StoreError> {
        self.ask(|db| seals::chunks(db, number))
    }

    fn add_seal(&self, seal: NewSeal) -> Result<(), StoreError> {
        self.change(|txn| seals::add(txn, &seal))
    }

    fn stamp_seal(&self, number: u64, stamp: &[u8]) -> Result<(), StoreError> {
        self.ask(|db| seals::stamp(db, number, stamp))
    }

    fn expire_seal(&self, number: u64, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.change(|txn| seals::expire(txn, number, at, limit))
    }
}
