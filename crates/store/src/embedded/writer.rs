//! The one thread that writes: it takes the commands that have gathered and does them as a group.
//!
//! A group is: all new pieces appended, one flush; one transaction of the index with a savepoint a
//! command, so that a refused command rolls back alone; the commit. Only then are listeners called
//! and callers answered. Nobody waits for a group to fill: on an idle machine it is one command.
//!
//! A flush or a commit that fails leaves nobody knowing what is on disk. The group fails, and the
//! store refuses every further write until it is opened again, which looks at what is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::Shared;
use super::archive::Archiving;
use super::disk::{Disk, Step};
use super::octets::{Hash, Packed, Piece, Prepared, by_hash};
use super::recent::{Brought, Recent};
use super::segments::{AppendError, Record, Segments};
use super::txn::{Counters, Effects, NewBlob, NewPiece, Placed, Txn, count_piece};
use crate::{BlobId, StoreError};

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
            Prepared::New(pieces) => pieces.iter().map(Piece::stored_octets).sum(),
            Prepared::Moved(_, record) => record.octets.len() as u64,
            Prepared::Stored(_) | Prepared::Seal(_) => 0,
        };
        self.octets.iter().map(octets).sum()
    }
}

/// A command whose octets are on disk.
struct Ready {
    run: Run,
    blobs: Vec<BlobId>,
    new: BTreeMap<u64, NewBlob>,
    /// What of its octets stays in memory for a while.
    brought: Brought,
}

/// The commands of a group, and what of their octets is new.
struct Sorted {
    ready: Vec<Ready>,
    /// What has to be appended, each under its number.
    records: Vec<(u64, Record)>,
    /// What the index is to be told of the new pieces among them.
    new: BTreeMap<u64, NewPiece>,
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
    /// What nothing refers to any more, and is still there.
    pub(super) unlink: Unlink,
    /// Hears of each commit, where the store is archived.
    pub(super) archive: Option<Archiving>,
}

/// Files to unlink, when nobody copies them.
#[derive(Default)]
pub(super) struct Unlink {
    /// Each with the commit that it went in, where the store is archived.
    segments: Vec<(u64, u64)>,
    files: Vec<u64>,
}

/// How long a command is waited for; nothing: for ever. The archive may want a commit after a while: not of a store
/// that takes none any more.
fn idle(checkpointed: bool, fatal: bool, archive: Option<Duration>) -> Option<Duration> {
    match archive {
        _ if !checkpointed => Some(IDLE),
        _ if fatal => None,
        archive => archive,
    }
}

/// A group that is committed.
#[derive(Default)]
struct Done {
    effects: Effects,
    replies: Vec<Reply>,
    segments: Vec<u64>,
    brought: Brought,
}

impl Writer {
    /// Works until nobody can send any more.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut checkpointed = true;
        loop {
            let archive = self.archive.as_ref().map(Archiving::idle);
            let idle = idle(checkpointed, self.shared.fault.is_fatal(), archive);
            let first = match idle {
                Some(idle) => commands.recv_timeout(idle),
                None => commands.recv().map_err(RecvTimeoutError::from),
            };
            match first {
                Ok(first) => {
                    checkpointed = false;
                    self.group(gather(first, commands));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !checkpointed {
                        checkpointed = true;
                        self.checkpoint("PASSIVE");
                    }
                    if !self.shared.fault.is_fatal()
                        && self.archive.as_ref().is_some_and(Archiving::wants_a_commit)
                    {
                        checkpointed = false;
                        self.group(Vec::new());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // It may have a snapshot of the index, beyond which nothing can be truncated.
        self.archive = None;
        self.checkpoint("TRUNCATE");
    }

    /// Copies the WAL into the database. That it cannot now is no harm: it is done again.
    fn checkpoint(&self, mode: &str) {
        let checkpoint = || -> Result<(), StoreError> {
            self.disk.step(Step::Checkpoint)?;
            let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
            Ok(self.db.query_row(&checkpoint, [], |_| Ok(()))?)
        };
        if let Err(error) = checkpoint() {
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
        match self.try_group(commands) {
            Ok(done) => {
                // A crash is all that can come between, and a test wants to be it.
                match self.disk.step(Step::Committed) {
                    Ok(()) => {
                        if let Some(archive) = &mut self.archive {
                            archive.committed(&self.db, self.segments.ends());
                        }
                        self.finish(done);
                    }
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
                shared.fault.set(&mut failure_kept, &cause, fatal);
            }
        }
    }

    fn try_group(&mut self, commands: Vec<Command>) -> Result<Done, Failure> {
        let (commands, placed) = self.place(commands)?;
        let harmless = |error: rusqlite::Error| Failure::Harmless(error.into());
        let begin = || self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([]);
        begin().map_err(harmless)?;
        let mut done = Done::default();
        for ready in commands {
            self.command(ready, &placed, &mut done)?;
        }
        self.index(&placed, &mut done).map_err(Failure::Harmless)?;
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

    /// Writes the new pieces of a group and flushes them. A piece that is in the index, or that an
    /// earlier command of the group brings, is written no second time.
    fn place(
        &mut self,
        commands: Vec<Command>,
    ) -> Result<(Vec<Ready>, BTreeMap<u64, Placed>), Failure> {
        let Sorted { ready, records, mut new } = self.sort(commands)?;
        let places = self.segments.append(&records).map_err(|error| match error {
            AppendError::Write(error) => Failure::Harmless(error.into()),
            AppendError::Flush(error) => Failure::Fatal(error.into()),
        })?;
        self.segments.flush().map_err(|error| match StoreError::from(error) {
            // Nothing that was certain is less so: this file is not written to any more.
            StoreError::NoSpace => Failure::Left(StoreError::NoSpace),
            other => Failure::Fatal(other),
        })?;
        let placed = records.into_iter().zip(places).map(|((number, record), place)| {
            let stored = record.octets.len() as u64;
            (number, Placed { place, stored, new: new.remove(&number) })
        });
        Ok((ready, placed.collect()))
    }

    /// Finds out which pieces of a group are new. One snapshot for all these questions: each alone
    /// would lock the index, and look whether somebody else changed it.
    fn sort(&mut self, commands: Vec<Command>) -> Result<Sorted, Failure> {
        let step = |db: &Connection, sql| -> Result<(), Failure> {
            let done = db.prepare_cached(sql).and_then(|mut step| step.execute([]));
            done.map(|_| ()).map_err(|error| Failure::Harmless(error.into()))
        };
        step(&self.db, "BEGIN")?;
        let sorted = self.sort_in_snapshot(commands);
        step(&self.db, "COMMIT")?;
        sorted
    }

    fn sort_in_snapshot(&mut self, commands: Vec<Command>) -> Result<Sorted, Failure> {
        let mut records: Vec<(u64, Record)> = Vec::new();
        let mut new_pieces: BTreeMap<u64, NewPiece> = BTreeMap::new();
        let mut in_group: BTreeMap<Hash, u64> = BTreeMap::new();
        let mut ready = Vec::with_capacity(commands.len());
        for command in commands {
            let (mut blobs, mut new) = (Vec::with_capacity(command.octets.len()), BTreeMap::new());
            let mut brought = Brought::default();
            for prepared in command.octets {
                let pieces = match prepared {
                    Prepared::New(pieces) => pieces,
                    Prepared::Stored(blob) => {
                        blobs.push(blob);
                        continue;
                    }
                    Prepared::Moved(number, record) => {
                        records.push((number, record));
                        continue;
                    }
                    Prepared::Seal(number) => {
                        self.segments.seal(number);
                        continue;
                    }
                };
                let whole = pieces.first().map(|piece| piece.whole().clone());
                let mut blob = NewBlob { octets: 0, pieces: Vec::with_capacity(pieces.len()) };
                for piece in pieces {
                    let (hash, octets) = (piece.hash, piece.octets());
                    brought.pieces.push(hash);
                    let known = match in_group.get(&hash) {
                        Some(number) => Some(*number),
                        None => by_hash(&self.db, &hash).map_err(Failure::Harmless)?,
                    };
                    let number = match known {
                        Some(number) => number,
                        None => {
                            let Packed { codec, record } =
                                piece.packed(&self.shared.files.keys).map_err(Failure::Harmless)?;
                            self.counters.piece += 1;
                            let number = self.counters.piece;
                            records.push((number, record));
                            new_pieces.insert(number, NewPiece { hash, octets, codec });
                            in_group.insert(hash, number);
                            number
                        }
                    };
                    blob.octets += octets;
                    blob.pieces.push((number, octets));
                }
                self.counters.blob += 1;
                blobs.push(BlobId(self.counters.blob));
                if let Some(whole) = whole.filter(|whole| Recent::keeps(whole.len())) {
                    brought.octets.push((BlobId(self.counters.blob), whole));
                }
                new.insert(self.counters.blob, blob);
            }
            ready.push(Ready { run: command.run, blobs, new, brought });
        }
        Ok(Sorted { ready, records, new: new_pieces })
    }

    fn command(
        &mut self,
        ready: Ready,
        placed: &BTreeMap<u64, Placed>,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let Ready { run, blobs, new, brought } = ready;
        let step = |sql| -> Result<(), Failure> {
            let done = self.db.prepare_cached(sql).and_then(|mut step| step.execute([]));
            done.map(|_| ()).map_err(|error| Failure::Harmless(error.into()))
        };
        let counters = self.counters;
        step("SAVEPOINT command")?;
        let mut txn = Txn {
            db: &self.db,
            counters: &mut self.counters,
            effects: Effects::default(),
            new,
            placed,
            refs: BTreeMap::new(),
        };
        let (outcome, reply) = run(&mut txn, &blobs);
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
            done.effects.merge(effects);
            done.brought.extend(brought);
        } else {
            self.counters = counters;
            step("ROLLBACK TO command")?;
        }
        step("RELEASE command")?;
        done.replies.push(reply);
        Ok(())
    }

    /// The rows that a group as a whole changes.
    fn index(&mut self, placed: &BTreeMap<u64, Placed>, done: &mut Done) -> Result<(), StoreError> {
        let db = &self.db;
        for piece in std::mem::take(&mut done.effects.pieces) {
            let new = placed.get(&piece).is_some_and(|placed| placed.new.is_some());
            count_piece(db, piece, new, &mut done.effects)?;
        }
        for (segment, end) in self.segments.ends() {
            let set = "INSERT INTO segments (id, end, live) VALUES (?1, ?2, 0)
                       ON CONFLICT (id) DO UPDATE SET end = ?2";
            db.prepare_cached(set)?.execute([segment.cast_signed(), end.cast_signed()])?;
            self.shared.files.keys.note_segment(db, *segment)?;
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
        if let Some(archive) = &mut self.archive {
            archive.count(db)?;
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
        self.shared.recent.put(done.brought);
        self.shared.tell(&done.effects.changed);
        done.replies.into_iter().for_each(|reply| reply());
        self.gone.clear();
        self.unlink.files.extend(done.effects.doomed);
        let commit = self.archive.as_ref().map_or(0, Archiving::last);
        self.unlink.segments.extend(done.segments.into_iter().map(|segment| (commit, segment)));
        self.unlink();
    }

    /// Unlinks what nothing refers to, unless somebody copies the store or reads on: then later.
    fn unlink(&mut self) {
        if self.unlink.files.is_empty() && self.unlink.segments.is_empty() {
            return;
        }
        let _unpinned = match self.shared.files.unpinned() {
            Ok(Some(unpinned)) => unpinned,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "files stay until the next start");
                return;
            }
        };
        // Nobody begins to read on until this is done.
        let held = self.shared.files.leases.held();
        let files = std::mem::take(&mut self.unlink.files);
        let (kept, files): (Vec<u64>, _) =
            files.into_iter().partition(|blob| held.contains_key(&(0, *blob)));
        self.unlink.files = kept;
        self.gone = self.unlink_large(&files);
        // Of what the archive has not yet, it is to have the rest.
        let archived =
            |commit: u64| self.archive.as_ref().is_none_or(|archive| archive.has(commit));
        let (gone, kept) = std::mem::take(&mut self.unlink.segments)
            .into_iter()
            .partition(|(commit, segment)| archived(*commit) && !held.contains_key(&(*segment, 0)));
        self.unlink.segments = kept;
        let gone: Vec<(u64, u64)> = gone;
        for (_, segment) in gone {
            if let Err(error) = self.segments.unlink(segment) {
                tracing::warn!(%error, segment, "a segment stays until the next start");
            }
            self.shared.files.forget((segment, 0));
        }
    }
}

/// Of a commit that failed: for want of room it has not happened, else nobody knows.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_takes_nothing_any_more_wakes_for_commands_alone() {
        let archive = Some(Duration::from_secs(60));
        assert_eq!(idle(false, false, archive), Some(IDLE));
        assert_eq!(idle(true, false, archive), archive);
        assert_eq!(idle(true, false, None), None);
        assert_eq!(idle(false, true, archive), Some(IDLE), "once more, for the WAL");
        assert_eq!(idle(true, true, archive), None);
    }
}
