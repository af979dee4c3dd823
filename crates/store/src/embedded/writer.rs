//! The one thread that writes: it takes the commands that have gathered and does them as a group.
//!
//! A group is: all new octets appended, one flush; one transaction of the index with a savepoint a
//! command, so that a refused command rolls back alone; the commit. Only then are listeners called
//! and callers answered. Nobody waits for a group to fill: on an idle machine it is one command.
//!
//! A flush or a commit that fails leaves nobody knowing what is on disk. The group fails, and the
//! store refuses every further write until it is opened again, which looks at what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::Shared;
use super::disk::{Disk, Step};
use super::octets::{Prepared, SpoolFile};
use super::record::record_octets;
use super::segments::{AppendError, Place, Record, Segments};
use crate::{BlobId, MailboxId, StoreError};

/// Commands in a group at most: what one flush and one commit are shared by.
pub(super) const GROUP_COMMANDS_MAX: usize = 256;
/// Octets in a group at most, beyond the first command's: bounds memory and the wait for the flush.
const GROUP_OCTETS_MAX: u64 = 8 * 1024 * 1024;
/// After this long without a command the WAL is copied into the database.
const IDLE: Duration = Duration::from_millis(500);

/// Answers a caller; dropped instead, the caller learns that its command failed with its group.
pub(super) type Reply = Box<dyn FnOnce() + Send>;

/// What a command does in the transaction of its group: what comes of it, and the answer.
pub(super) type Run = Box<dyn FnOnce(&mut Txn<'_>, &[BlobId]) -> (Outcome, Reply) + Send>;

/// What comes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is part of the commit.
    Kept,
    /// It is rolled back alone.
    Refused,
    /// So it is, for want of room in the index.
    NoSpace,
}

/// One call of the store that writes.
pub(super) struct Command {
    pub(super) octets: Vec<Prepared>,
    pub(super) run: Run,
}

impl Command {
    fn octets(&self) -> u64 {
        let octets = |prepared: &Prepared| match prepared {
            Prepared::Record(record) | Prepared::Moved(_, record) => record.octets.len() as u64,
            Prepared::File(_) | Prepared::Stored(_) | Prepared::Seal(_) => 0,
        };
        self.octets.iter().map(octets).sum()
    }
}

/// The last number given of each kind, and how many jobs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) account: u64,
    pub(super) mailbox: u64,
    pub(super) blob: u64,
    pub(super) job: u64,
    pub(super) record: u64,
    pub(super) uid_validity: u32,
    pub(super) jobs: u64,
}

impl Counters {
    pub(super) fn load(db: &Connection) -> Result<Self, StoreError> {
        let get = "SELECT account, mailbox, blob, job, record, uid_validity, jobs FROM counters";
        Ok(db.query_row(get, [], |row| {
            let number = |at| row.get(at).map(i64::cast_unsigned);
            Ok(Self {
                account: number(0)?,
                mailbox: number(1)?,
                blob: number(2)?,
                job: number(3)?,
                record: number(4)?,
                uid_validity: row.get(5)?,
                jobs: number(6)?,
            })
        })?)
    }

    fn save(&self, db: &Connection) -> Result<(), StoreError> {
        let set = "UPDATE counters SET account = ?, mailbox = ?, blob = ?, job = ?, record = ?,
                   uid_validity = ?, jobs = ?";
        let last = [self.account, self.mailbox, self.blob, self.job, self.record];
        let [account, mailbox, blob, job, record] = last.map(u64::cast_signed);
        let jobs = self.jobs.cast_signed();
        db.prepare_cached(set)?.execute((
            account,
            mailbox,
            blob,
            job,
            record,
            self.uid_validity,
            jobs,
        ))?;
        Ok(())
    }
}

/// What commands that were kept want done at the end of their group.
#[derive(Default)]
struct Effects {
    changed: BTreeSet<MailboxId>,
    /// Octets in use in each segment: so many more, or fewer.
    live: BTreeMap<u64, i64>,
    /// Files of their own that nothing refers to.
    doomed: Vec<u64>,
}

impl Effects {
    fn merge(&mut self, other: Self) {
        self.changed.extend(other.changed);
        self.doomed.extend(other.doomed);
        for (segment, octets) in other.live {
            *self.live.entry(segment).or_default() += octets;
        }
    }
}

/// A command's view of the transaction that it is in.
pub(super) struct Txn<'a> {
    pub(super) db: &'a Connection,
    pub(super) counters: &'a mut Counters,
    effects: Effects,
    new: BTreeMap<u64, (Place, u64)>,
    refs: BTreeMap<u64, i64>,
}

impl Txn<'_> {
    /// Listeners are to hear of this mailbox.
    pub(super) fn changed(&mut self, mailbox: MailboxId) {
        self.effects.changed.insert(mailbox);
    }

    /// How many octets a blob has, new or stored.
    pub(super) fn octets(&self, blob: BlobId) -> Result<u64, StoreError> {
        match self.new.get(&blob.0) {
            Some((_, octets)) => Ok(*octets),
            None => super::octets::find(self.db, blob).map(|(_, octets)| octets),
        }
    }

    /// One more refers to a blob (+1), or one fewer (-1).
    pub(super) fn refer(&mut self, blob: BlobId, by: i64) {
        *self.refs.entry(blob.0).or_default() += by;
    }

    /// Brings the table of blobs up to date with what refers to them: a command's last step.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        for (blob, by) in std::mem::take(&mut self.refs) {
            if let Some((place, octets)) = self.new.get(&blob).copied() {
                if by > 0 {
                    self.new.remove(&blob);
                    self.insert(blob, place, octets, by)?;
                }
            } else if by != 0 {
                self.adjust(blob, by)?;
            }
        }
        // New, and named by nothing.
        let unused = std::mem::take(&mut self.new).into_iter();
        let files = unused.filter(|(_, (place, _))| place.segment == 0).map(|(blob, _)| blob);
        self.effects.doomed.extend(files);
        Ok(())
    }

    /// Has the index name the new place of a record that was appended once more, if it is still at
    /// the old one: else the copy is as dead as that.
    pub(super) fn relocate(&mut self, number: u64, from: Place) -> Result<(), StoreError> {
        let Some((to, octets)) = self.new.remove(&number) else { return Ok(()) };
        let set = "UPDATE blobs SET segment = ?, start = ?
                   WHERE id = ? AND segment = ? AND start = ?";
        let values = [to.segment, to.start, number, from.segment, from.start];
        if self.db.prepare_cached(set)?.execute(values.map(u64::cast_signed))? == 1 {
            let octets = record_octets(octets).cast_signed();
            *self.effects.live.entry(from.segment).or_default() -= octets;
            *self.effects.live.entry(to.segment).or_default() += octets;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        blob: u64,
        place: Place,
        octets: u64,
        refs: i64,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO blobs (id, segment, start, octets, refs) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(
                [blob, place.segment, place.start, octets, refs.cast_unsigned()]
                    .map(u64::cast_signed),
            )?;
        if place.segment > 0 {
            let live = self.effects.live.entry(place.segment).or_default();
            *live += record_octets(octets).cast_signed();
        }
        Ok(())
    }

    fn adjust(&mut self, blob: u64, by: i64) -> Result<(), StoreError> {
        let row: (i64, i64, i64) = self
            .db
            .prepare_cached(
                "UPDATE blobs SET refs = refs + ? WHERE id = ? RETURNING refs, segment, octets",
            )?
            .query_row([by, blob.cast_signed()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let (refs, segment, octets) = row;
        if refs > 0 {
            return Ok(());
        }
        self.db.prepare_cached("DELETE FROM blobs WHERE id = ?")?.execute([blob.cast_signed()])?;
        if segment == 0 {
            self.effects.doomed.push(blob);
        } else {
            let live = self.effects.live.entry(segment.cast_unsigned()).or_default();
            *live -= record_octets(octets.cast_unsigned()).cast_signed();
        }
        Ok(())
    }
}

/// Why a group failed.
enum Failure {
    /// Before anything could have become visible: the next group may do better.
    Harmless(StoreError),
    /// As harmless, but what was written may turn up again after a crash: it is left in its place.
    Left(StoreError),
    /// A flush or a commit: nobody knows what is on disk.
    Fatal(StoreError),
}

/// The thread's own.
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) segments: Segments,
    pub(super) counters: Counters,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) shared: Arc<Shared>,
    /// Doomed files that are gone: their rows go with the next group.
    pub(super) gone: Vec<u64>,
    /// Files that got their names for this group.
    pub(super) adopted: Vec<u64>,
}

/// A group that is committed.
#[derive(Default)]
struct Done {
    effects: Effects,
    replies: Vec<Reply>,
    segments: Vec<u64>,
}

impl Writer {
    /// Works until nobody can send any more.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut checkpointed = true;
        loop {
            let first = if checkpointed {
                commands.recv().map_err(RecvTimeoutError::from)
            } else {
                commands.recv_timeout(IDLE)
            };
            match first {
                Ok(first) => {
                    checkpointed = false;
                    self.group(gather(first, commands));
                }
                Err(RecvTimeoutError::Timeout) => {
                    checkpointed = true;
                    self.checkpoint("PASSIVE");
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.checkpoint("TRUNCATE");
    }

    /// Copies the WAL into the database. That it cannot now is no harm: it is done again.
    fn checkpoint(&self, mode: &str) {
        let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
        if let Err(error) = self.db.query_row(&checkpoint, [], |_| Ok(())) {
            tracing::warn!(%error, "the index could not be checkpointed");
        }
    }

    fn group(&mut self, commands: Vec<Command>) {
        // Dropped commands answer their callers with the failure that is kept, once this is let go.
        let shared = Arc::clone(&self.shared);
        let mut failure_kept = shared.fault.lock();
        if failure_kept.fatal {
            return;
        }
        let counters = self.counters;
        self.segments.begin();
        self.adopted.clear();
        match self.try_group(commands) {
            Ok(done) => {
                // A crash is all that can come between, and a test wants to be it.
                match self.disk.step(Step::Committed) {
                    Ok(()) => self.finish(done),
                    Err(error) => shared.fault.set(&mut failure_kept, &error.into(), true),
                }
            }
            Err(failure) => {
                self.counters = counters;
                match failure {
                    Failure::Left(_) => self.segments.give_up(),
                    _ => self.segments.roll_back(),
                }
                if !self.db.is_autocommit()
                    && let Err(error) = self.db.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "a transaction could not be rolled back");
                }
                let (cause, fatal) = match failure {
                    Failure::Harmless(cause) => (cause, !self.db.is_autocommit()),
                    Failure::Left(cause) => (cause, !self.db.is_autocommit()),
                    Failure::Fatal(cause) => (cause, true),
                };
                tracing::error!(%cause, fatal, "a group of writes failed");
                if !fatal {
                    self.unlink_large(&self.adopted);
                }
                shared.fault.set(&mut failure_kept, &cause, fatal);
            }
        }
    }

    fn try_group(&mut self, commands: Vec<Command>) -> Result<Done, Failure> {
        let (commands, placed, mut dropped_files) = self.place(commands)?;
        let harmless = |error: rusqlite::Error| Failure::Harmless(error.into());
        let begin = || self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([]);
        begin().map_err(harmless)?;
        let mut done = Done::default();
        for (run, blobs) in commands {
            self.command(run, &blobs, &placed, &mut done, &mut dropped_files)?;
        }
        done.effects.doomed.append(&mut dropped_files);
        self.index(&mut done).map_err(Failure::Harmless)?;
        self.disk.step(Step::Commit).map_err(|error| uncommitted(error.into()))?;
        let commit = || self.db.prepare_cached("COMMIT")?.execute([]);
        commit().map_err(|error| {
            // The commit is on disk, and cannot be told to those who read: the table of the WAL in
            // shared memory found no room to grow. The next commit is written over it; a crash
            // before that makes it come true.
            if error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
                return Failure::Left(StoreError::NoSpace);
            }
            uncommitted(error.into())
        })?;
        Ok(done)
    }

    /// Writes the new octets of a group, flushes them, and gives files their names.
    #[expect(clippy::type_complexity, reason = "what the group needs next, named where it is used")]
    fn place(
        &mut self,
        commands: Vec<Command>,
    ) -> Result<(Vec<(Run, Vec<BlobId>)>, BTreeMap<u64, (Place, u64)>, Vec<u64>), Failure> {
        let mut records: Vec<(u64, Record)> = Vec::new();
        let mut files: Vec<(u64, SpoolFile)> = Vec::new();
        let mut runs = Vec::with_capacity(commands.len());
        for command in commands {
            let mut blobs = Vec::with_capacity(command.octets.len());
            for prepared in command.octets {
                let prepared = match prepared {
                    Prepared::Stored(blob) => {
                        blobs.push(blob);
                        continue;
                    }
                    Prepared::Moved(number, record) => {
                        blobs.push(BlobId(number));
                        records.push((number, record));
                        continue;
                    }
                    Prepared::Seal(number) => {
                        self.segments.seal(number);
                        continue;
                    }
                    new => new,
                };
                self.counters.blob += 1;
                blobs.push(BlobId(self.counters.blob));
                match prepared {
                    Prepared::Record(record) => records.push((self.counters.blob, record)),
                    Prepared::File(file) => files.push((self.counters.blob, file)),
                    Prepared::Stored(_) | Prepared::Moved(..) | Prepared::Seal(_) => {}
                }
            }
            runs.push((command.run, blobs));
        }
        let named = |error: std::io::Error| uncommitted(error.into());
        let mut placed = BTreeMap::new();
        let places = self.segments.append(&records).map_err(|error| match error {
            AppendError::Write(error) => Failure::Harmless(error.into()),
            AppendError::Flush(error) => Failure::Fatal(error.into()),
        })?;
        for ((blob, record), place) in records.iter().zip(places) {
            placed.insert(*blob, (place, record.octets.len() as u64));
        }
        self.segments.flush().map_err(|error| match StoreError::from(error) {
            // Nothing that was certain is less so: this file is not written to any more.
            StoreError::NoSpace => Failure::Left(StoreError::NoSpace),
            other => Failure::Fatal(other),
        })?;
        let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
        let mut own = Vec::new();
        for (blob, mut file) in files {
            let octets = file.octets;
            dirs.insert(self.shared.files.adopt(&mut file, blob).map_err(named)?);
            self.adopted.push(blob);
            placed.insert(blob, (Place { segment: 0, start: 0 }, octets));
            own.push(blob);
        }
        for dir in dirs {
            self.shared.files.flush_large(&dir).map_err(named)?;
        }
        Ok((runs, placed, own))
    }

    fn command(
        &mut self,
        run: Run,
        blobs: &[BlobId],
        placed: &BTreeMap<u64, (Place, u64)>,
        done: &mut Done,
        own: &mut Vec<u64>,
    ) -> Result<(), Failure> {
        let step = |sql| -> Result<(), Failure> {
            let done = self.db.prepare_cached(sql).and_then(|mut step| step.execute([]));
            done.map(|_| ()).map_err(|error| Failure::Harmless(error.into()))
        };
        let counters = self.counters;
        step("SAVEPOINT command")?;
        let new = blobs.iter().filter_map(|blob| Some((blob.0, *placed.get(&blob.0)?))).collect();
        let mut txn = Txn {
            db: &self.db,
            counters: &mut self.counters,
            effects: Effects::default(),
            new,
            refs: BTreeMap::new(),
        };
        let (outcome, reply) = run(&mut txn, blobs);
        let effects = txn.effects;
        if self.db.is_autocommit() {
            // The database gave the whole transaction up by itself: full, or failing.
            let cause = StoreError::Medium("the index gave up a transaction".into());
            return Err(match outcome {
                Outcome::NoSpace => Failure::Harmless(StoreError::NoSpace),
                Outcome::Kept | Outcome::Refused => Failure::Fatal(cause),
            });
        }
        if outcome == Outcome::Kept {
            // What the command did not use, it has doomed itself.
            own.retain(|file| !blobs.iter().any(|blob| blob.0 == *file));
            done.effects.merge(effects);
        } else {
            self.counters = counters;
            step("ROLLBACK TO command")?;
        }
        step("RELEASE command")?;
        done.replies.push(reply);
        Ok(())
    }

    /// The rows that a group as a whole changes.
    fn index(&mut self, done: &mut Done) -> Result<(), StoreError> {
        let db = &self.db;
        for (segment, end) in self.segments.ends() {
            let set = "INSERT INTO segments (id, end, live) VALUES (?1, ?2, 0)
                       ON CONFLICT (id) DO UPDATE SET end = ?2";
            db.prepare_cached(set)?.execute([segment.cast_signed(), end.cast_signed()])?;
        }
        for (segment, octets) in &done.effects.live {
            db.prepare_cached("UPDATE segments SET live = live + ? WHERE id = ?")?
                .execute([*octets, segment.cast_signed()])?;
        }
        let freed = done.effects.live.values().any(|octets| *octets < 0);
        if freed || self.segments.ends().len() > 1 {
            let active = self.segments.active().unwrap_or_default().cast_signed();
            let delete = "DELETE FROM segments WHERE live = 0 AND id < ? RETURNING id";
            let mut delete = db.prepare_cached(delete)?;
            let ids = delete.query_map([active], |row| row.get(0).map(i64::cast_unsigned))?;
            done.segments = ids.collect::<Result<_, _>>()?;
        }
        for blob in &done.effects.doomed {
            db.prepare_cached("INSERT OR IGNORE INTO doomed VALUES (?)")?
                .execute([blob.cast_signed()])?;
        }
        for blob in &self.gone {
            db.prepare_cached("DELETE FROM doomed WHERE blob = ?")?
                .execute([blob.cast_signed()])?;
        }
        self.counters.save(db)
    }

    /// Unlinks files of their own, and tells which are gone.
    fn unlink_large(&self, blobs: &[u64]) -> Vec<u64> {
        let mut gone = Vec::with_capacity(blobs.len());
        for &blob in blobs {
            match self.shared.files.unlink_large(blob) {
                Ok(()) => gone.push(blob),
                Err(error) => tracing::warn!(%error, blob, "a file stays until the next start"),
            }
        }
        gone
    }

    /// After the commit: what nothing refers to goes, listeners hear, callers are answered.
    fn finish(&mut self, done: Done) {
        self.shared.tell(&done.effects.changed);
        done.replies.into_iter().for_each(|reply| reply());
        self.gone = self.unlink_large(&done.effects.doomed);
        for segment in done.segments {
            if let Err(error) = self.segments.unlink(segment) {
                tracing::warn!(%error, segment, "a segment stays until the next start");
            }
            self.shared.files.forget((segment, 0));
        }
    }
}

/// Of a name or a commit that failed: for want of room it has not happened, else nobody knows.
fn uncommitted(error: StoreError) -> Failure {
    match error {
        StoreError::NoSpace => Failure::Harmless(error),
        other => Failure::Fatal(other),
    }
}

fn gather(first: Command, commands: &Receiver<Command>) -> Vec<Command> {
    let mut octets = first.octets();
    let mut group = vec![first];
    while group.len() < GROUP_COMMANDS_MAX && octets < GROUP_OCTETS_MAX {
        let Ok(next) = commands.try_recv() else { break };
        octets += next.octets();
        group.push(next);
    }
    group
}

/// Why writes fail, for the callers whose command was dropped.
#[derive(Default)]
pub(super) struct Fault {
    kept: Mutex<FailureKept>,
    /// As in [`FailureKept`], for who cannot wait for the group that is under way.
    fatal: AtomicBool,
}

/// The last failure.
#[derive(Default)]
pub(super) struct FailureKept {
    cause: String,
    fatal: bool,
    no_space: bool,
}

impl Fault {
    /// The writer holds it while it works on a group, so that nobody reads the failure too early.
    fn lock(&self) -> MutexGuard<'_, FailureKept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a failure, with the lock that the group was worked on under.
    fn set(&self, kept: &mut FailureKept, cause: &StoreError, fatal: bool) {
        let rest = if fatal { "; no more writes until the store is opened again" } else { "" };
        let no_space = matches!(cause, StoreError::NoSpace) && !fatal;
        *kept = FailureKept { cause: format!("{cause}{rest}"), fatal, no_space };
        self.fatal.store(fatal, Ordering::Release);
    }

    /// Whether nothing is written any more.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    /// What a caller is told whose command was dropped.
    pub(super) fn error(&self) -> StoreError {
        let kept = self.lock();
        if kept.no_space {
            return StoreError::NoSpace;
        }
        let gone = "the writer is gone";
        let cause = if kept.cause.is_empty() { gone } else { kept.cause.as_str() };
        StoreError::Medium(cause.to_owned())
    }
}
