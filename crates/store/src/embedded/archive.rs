//! The archive: what a store was at every commit, in a folder that should be on another disk.
//!
//! ```text
//! 5f02a1c9e0b77d14/           a history: a store, as long as it was never put back to an earlier state
//!     segments/0000002a       octets, as in the store, up to where they were committed
//!     large/                  those with a file of their own, in a store that has any
//!     00000001/               a generation: begun when the store is opened, and once a week
//!         index.db            the index as it was then
//!         base                which commit that was, when, and the hash of the file
//!         commits             the pages of the index that each commit after it wrote (`stream.rs`)
//!         head                the last commit that is whole, when it was, and where `commits` ends
//! ```
//!
//! The writer hands over, after each commit and before anybody is answered, what that wrote to the
//! WAL; it waits for nothing. A thread gathers for [`LAG`], copies what the segments grew by, flushes
//! that, then the pages, then the head: so whatever a head names is there. What the machine takes along
//! when it burns are the commits of the last second, and what the disk of the archive had not flushed.
//! A segment is unlinked only when the archive has what it is to have of it.
//!
//! An archive that cannot be written never stops the store: that is said, and once it can be written
//! again another generation is begun. Not here: putting a store back (`restore.rs`).

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OptionalExtension as _};

use super::opening::known_segments;
use super::segments::{self, flush_dir};
use super::stream::{self, Commit, Head};
use super::wal::Wal;
use super::{backup, schema};
use crate::StoreError;

/// How long commits gather before they are archived: what may be lost with the machine.
pub(super) const LAG: Duration = Duration::from_secs(1);
/// Octets that wait for the archive at most: a disk that is slower is no archive for this load.
const WAITING_OCTETS_MAX: usize = 256 * 1024 * 1024;
/// Octets of pages archived together at most, beyond the first commit's.
const BATCH_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// After this long another generation is begun: so much is gone through at most to put a store back.
const GENERATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an archive that failed is left alone.
const RETRY: Duration = Duration::from_secs(60);

pub(super) const TABLES: &str = "
-- Which history this is, and how many commits it has. No row: it is not archived.
CREATE TABLE IF NOT EXISTS history (id BLOB NOT NULL, commits INTEGER NOT NULL);
";

/// What the archive has to be told next.
enum Item {
    /// Another generation begins: with the index as this connection sees it.
    Base(Box<Connection>, Head),
    Commit(Commit),
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    octets: usize,
    closed: bool,
}

/// Between the writer and the thread that archives.
#[derive(Default)]
struct Line {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// The last commit that is archived.
    done: AtomicU64,
    /// Nothing is archived until another generation is begun.
    broken: AtomicBool,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of all that waits: it would lack what comes between.
    fn break_off(&self, why: &dyn std::fmt::Display) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            tracing::error!(error = %why, "the archive has a gap");
        }
        let mut waiting = self.lock();
        waiting.items.clear();
        waiting.octets = 0;
    }

    fn put(&self, item: Item) {
        let octets = match &item {
            Item::Base(..) => 0,
            Item::Commit(commit) => commit.frames.len(),
        };
        let mut waiting = self.lock();
        if waiting.octets + octets > WAITING_OCTETS_MAX {
            drop(waiting);
            return self.break_off(&"it is slower than the store");
        }
        waiting.octets += octets;
        waiting.items.push_back(item);
        drop(waiting);
        self.changed.notify_all();
    }
}

/// The writer's side.
pub(super) struct Archiving {
    index: PathBuf,
    wal: Wal,
    /// The last commit.
    last: Head,
    begun: Instant,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

impl Archiving {
    /// Begins to archive the store in `store`, whose writer has this connection and has written nothing
    /// yet, to the folder `to`.
    pub(super) fn open(store: &Path, db: &Connection, to: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(to)?;
        let row = db.query_row("SELECT id, commits FROM history", [], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        });
        let known = match row.optional()? {
            // One that is behind its own archive was put back to an earlier state.
            Some((id, commits)) if stream::last_commit(&folder(to, &id))? <= Some(commits) => {
                Some((id, commits))
            }
            _ => None,
        };
        let (id, commits) = match known {
            Some(known) => known,
            None => {
                let id = super::keys::chance::<8>()?.to_vec();
                db.execute_batch("BEGIN IMMEDIATE; DELETE FROM history")?;
                db.execute("INSERT INTO history VALUES (?, 0)", [&id])?;
                db.execute_batch("COMMIT")?;
                (id, 0)
            }
        };
        let history = folder(to, &id);
        let last_time = stream::last_time(&history)?;
        let index = store.join("index.db");
        let line = Arc::new(Line::default());
        let last = Head { commit: commits, micros: last_time.max(now()), length: 0 };
        let mut archiving = Self {
            wal: Wal::follow(db, &index)?,
            index,
            last,
            begun: Instant::now(),
            line: Arc::clone(&line),
            thread: None,
        };
        archiving.begin()?;
        let archive = Archive { store: store.to_owned(), history, line, generation: None };
        let thread = std::thread::Builder::new().name("store-archive".into());
        archiving.thread = Some(thread.spawn(move || archive.run())?);
        Ok(archiving)
    }

    /// Counts a commit, in its transaction.
    pub(super) fn count(db: &Connection) -> Result<(), StoreError> {
        db.prepare_cached("UPDATE history SET commits = commits + 1")?.execute([])?;
        Ok(())
    }

    /// Hands over what a commit wrote, just after it. `ends`: of the segments that it wrote to.
    pub(super) fn committed(&mut self, ends: &[(u64, u64)]) {
        self.last.commit += 1;
        self.last.micros = self.last.micros.max(now());
        let broken = self.line.broken.load(Ordering::Acquire);
        match self.wal.commit() {
            Ok(frames) if !broken => self.line.put(Item::Commit(Commit {
                number: self.last.commit,
                micros: self.last.micros,
                frames,
                ends: ends.to_vec(),
            })),
            Ok(_) => {}
            Err(error) => return self.line.break_off(&error),
        }
        let old = self.begun.elapsed();
        if (broken && old > RETRY || old > GENERATION)
            && let Err(error) = self.begin()
        {
            self.line.break_off(&error);
        }
    }

    /// Begins a generation: with the index as it is now, between two commits.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.begun = Instant::now();
        let db = schema::reader(&self.index)?;
        db.execute_batch("BEGIN")?;
        // Only with the first look is it certain which state is seen.
        db.query_row("SELECT commits FROM history", [], |_| Ok(()))?;
        // What waits is of the generation before, which ends there.
        if self.line.broken.swap(false, Ordering::AcqRel) {
            self.line.done.store(self.last.commit, Ordering::Release);
        }
        self.line.put(Item::Base(Box::new(db), Head { length: 0, ..self.last }));
        Ok(())
    }

    /// The number of the commit that a segment went in.
    pub(super) fn last(&self) -> u64 {
        self.last.commit
    }

    /// Whether the archive has all up to this commit, or will never have it.
    pub(super) fn has(&self, commit: u64) -> bool {
        self.line.broken.load(Ordering::Acquire) || self.line.done.load(Ordering::Acquire) >= commit
    }
}

impl Drop for Archiving {
    fn drop(&mut self) {
        self.line.lock().closed = true;
        self.line.changed.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the archive of the store panicked");
        }
    }
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

/// The folder of a history.
fn folder(archive: &Path, id: &[u8]) -> PathBuf {
    archive.join(id.iter().map(|octet| format!("{octet:02x}")).collect::<String>())
}

/// A generation that is written to.
struct Generation {
    folder: PathBuf,
    commits: File,
    head: Head,
}

/// The thread's own.
struct Archive {
    store: PathBuf,
    history: PathBuf,
    line: Arc<Line>,
    generation: Option<Generation>,
}

impl Archive {
    fn run(mut self) {
        while let Some(items) = self.next() {
            for item in items {
                let done = match item {
                    Batch::Base(db, head) => self.begin(db, head),
                    Batch::Commits(commits) => self.write(commits),
                };
                if let Err(error) = done {
                    self.generation = None;
                    self.line.break_off(&error);
                    break;
                }
            }
        }
    }

    /// What has gathered; nothing when nothing more will.
    fn next(&self) -> Option<Vec<Batch>> {
        let mut waiting = self.line.lock();
        while waiting.items.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.line.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let more = |waiting: &mut Waiting| !waiting.closed && waiting.octets < BATCH_OCTETS_MAX;
        let gathered = self.line.changed.wait_timeout_while(waiting, LAG, more);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let (mut batches, mut octets) = (Vec::new(), 0);
        while octets < BATCH_OCTETS_MAX {
            match waiting.items.pop_front() {
                None => break,
                Some(Item::Base(db, head)) => batches.push(Batch::Base(db, head)),
                Some(Item::Commit(commit)) => {
                    octets += commit.frames.len();
                    match batches.last_mut() {
                        Some(Batch::Commits(commits)) => commits.push(commit),
                        _ => batches.push(Batch::Commits(vec![commit])),
                    }
                }
            }
        }
        waiting.octets -= octets.min(waiting.octets);
        Some(batches)
    }

    /// Begins a generation with the index that a connection sees.
    fn begin(&mut self, db: Box<Connection>, head: Head) -> Result<(), StoreError> {
        self.generation = None;
        DirBuilder::new().recursive(true).mode(0o700).create(self.history.join("segments"))?;
        let number = stream::generations(&self.history)?.last().map_or(1, |(last, _)| last + 1);
        let folder = self.history.join(format!("{number:08}"));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let begun = self.fill(&folder, db, head);
        if begun.is_err()
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::warn!(%error, folder = %folder.display(), "a generation that failed stays in the archive");
        }
        self.generation = Some(begun?);
        tracing::info!(folder = %folder.display(), "the archive has another generation");
        self.line.done.fetch_max(head.commit, Ordering::AcqRel);
        Ok(())
    }

    /// Copies what a generation begins with.
    fn fill(
        &self,
        folder: &Path,
        db: Box<Connection>,
        head: Head,
    ) -> Result<Generation, StoreError> {
        let segments = self.history.join("segments");
        let index = folder.join("index.db");
        {
            let mut copy = Connection::open(&index)?;
            let step = Backup::new(&db, &mut copy)?.step(-1)?;
            if step != StepResult::Done {
                return Err(StoreError::Medium(format!("the index is not copied: {step:?}")));
            }
        }
        let (known, large) = (known_segments(&db)?, backup::large(&db)?);
        // As long as it is open, the WAL of the store grows.
        drop(db);
        for (segment, end) in known {
            self.copy_segment(segment, end)?;
        }
        backup::copy_large(&self.store, &self.history, &large)?;
        flush_dir(&segments)?;
        let copied = File::open(&index)?;
        copied.sync_all()?;
        let commits = File::options().write(true).create_new(true).open(folder.join("commits"))?;
        commits.sync_all()?;
        stream::write_base(folder, head, stream::hash_of(&copied)?)?;
        stream::write_head(folder, head)?;
        for folder in [folder, &self.history, &parent(&self.history)] {
            flush_dir(folder)?;
        }
        Ok(Generation { folder: folder.to_owned(), commits, head })
    }

    fn write(&mut self, batch: Vec<Commit>) -> Result<(), StoreError> {
        let mut ends = std::collections::BTreeMap::new();
        for (segment, end) in batch.iter().flat_map(|commit| &commit.ends) {
            ends.insert(*segment, *end);
        }
        for (segment, end) in ends {
            self.copy_segment(segment, end)?;
        }
        let Some(generation) = &mut self.generation else {
            return Err(StoreError::Medium("the archive has no generation to go on with".into()));
        };
        let Some(last) = batch.last() else { return Ok(()) };
        let frame = stream::frame(&batch)?;
        generation.commits.write_all_at(&frame, generation.head.length)?;
        generation.commits.sync_data()?;
        let length = generation.head.length + frame.len() as u64;
        generation.head = Head { commit: last.number, micros: last.micros, length };
        stream::write_head(&generation.folder, generation.head)?;
        self.line.done.fetch_max(last.number, Ordering::AcqRel);
        Ok(())
    }

    /// Brings the archive's copy of a segment to this length, and makes it certain.
    fn copy_segment(&self, number: u64, end: u64) -> Result<(), StoreError> {
        let folder = self.history.join("segments");
        let copy =
            File::options().append(true).create(true).open(segments::path(&folder, number))?;
        let mut at = copy.metadata()?.len();
        if at >= end {
            return Ok(());
        }
        let new = at == 0;
        let source = File::open(segments::path(&self.store.join("segments"), number))?;
        let mut buffer = vec![0; 1024 * 1024];
        while at < end {
            let octets = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            source.read_exact_at(&mut buffer[..octets], at)?;
            std::io::Write::write_all(&mut &copy, &buffer[..octets])?;
            at += octets as u64;
        }
        copy.sync_data()?;
        if new {
            flush_dir(&folder)?;
        }
        Ok(())
    }
}

/// What is archived in one go.
enum Batch {
    Base(Box<Connection>, Head),
    Commits(Vec<Commit>),
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Of a store that is opened without an archive: what it was is told no further.
pub(super) fn forget(db: &Connection) -> Result<(), StoreError> {
    db.execute("DELETE FROM history", [])?;
    Ok(())
}

/// Removes what a crash left of a file that was written under another name.
pub(super) fn replace(folder: &Path, name: &str, octets: &[u8]) -> Result<(), StoreError> {
    let part = folder.join(format!("{name}.part"));
    let file = File::create(&part)?;
    std::io::Write::write_all(&mut &file, octets)?;
    file.sync_data()?;
    fs::rename(&part, folder.join(name))?;
    Ok(flush_dir(folder)?)
}
