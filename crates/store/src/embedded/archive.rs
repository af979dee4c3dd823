//! The archive: what a store was at every commit, in a folder that should be on another disk.
//!
//! ```text
//! 5f02a1c9e0b77d14/           a history: a store, as long as it was never put back to an earlier state
//!     segments/0000002a       octets, as in the store, up to where they were committed
//!     large/                  those with a file of their own, in a store that has any
//!     00000001/               a generation: begun once a week, and when the store was not closed
//!         index.db            the index as it was then
//!         base                which commit that was, when, and the hash of the file
//!         commits             the pages of the index that each commit after it wrote (`stream.rs`)
//!         head                the last commit that is whole, when it was, where `commits` and octets end
//! ```
//!
//! Here is the writer's side. It hands over, after each commit and before anybody is answered, what that
//! wrote to the WAL (`line.rs`), and waits for nothing. A thread (`archiver.rs`) gathers for a second,
//! copies what the segments grew by (`copies.rs`), flushes that, then the pages, then the head: so
//! whatever a head names is there. What the machine takes along when it burns are the commits of the
//! last second, and what the disk of the archive had not flushed. A segment is unlinked only when the
//! archive has what it is to have of it.
//!
//! While a generation is begun, however long its copy of the index takes, commits go to the one before
//! and to its own `commits`. An archive that cannot be written, or not even be looked at when the store
//! is opened, never stops the store: that is said, and tried again after a pause that grows. Not here:
//! putting a store back (`restore.rs`).

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::archiver::{Archiver, Generation};
use super::disk::Disk;
use super::line::{Base, Limits, Line, Look, Looked};
use super::resume::End;
use super::segments::flush_dir;
use super::stream::{self, Commit, Head};
use super::wal::{Wal, Wrote};
use super::{keys, schema};
use crate::StoreError;

pub(super) const TABLES: &str = "
-- Which history this is, and how many commits it has. No row: it is not archived. A row without an id:
-- how many it had when it was first opened without a look at the archive.
CREATE TABLE IF NOT EXISTS history (id BLOB NOT NULL, commits INTEGER NOT NULL);
";

/// Whether the archive was looked at since the store was opened.
enum Seen {
    Yes,
    /// It could not be. The store's last commit was this when that began.
    No(u64),
    /// It is now: that goes into the index with the next commit.
    Now(Looked),
}

/// The writer's side.
pub(super) struct Archiving {
    index: PathBuf,
    to: PathBuf,
    history: Vec<u8>,
    seen: Seen,
    /// None: it is not known where the next commit will be.
    wal: Option<Wal>,
    /// The last commit.
    last: Head,
    /// When the last generation began.
    begun: i64,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

impl Archiving {
    /// Begins to archive the store in `store`, whose writer has this connection and has written nothing
    /// yet, to the folder `to`. That this folder cannot be used is no error: it is tried again.
    pub(super) fn open(
        store: &Path,
        db: &Connection,
        to: &Path,
        end: Option<End>,
        limits: Limits,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let (history, commits) = match known(db)? {
            Some(known) => known,
            None => (begin_history(db)?, 0),
        };
        // As long as the archive was not looked at, it is held against the commit before that.
        let unseen = "SELECT commits FROM history WHERE id = x''";
        let unseen = db.query_row(unseen, [], |row| row.get(0).map(i64::cast_unsigned));
        let before = unseen.optional()?.unwrap_or(commits);
        let now = now();
        let head = Head { commit: commits, micros: now, length: 0, octets: (0, 0) };
        let line = Arc::new(Line::new(limits, head));
        let mut archiving = Self {
            index: store.join("index.db"),
            to: to.to_owned(),
            history,
            seen: Seen::Yes,
            wal: None,
            last: head,
            begun: now,
            line: Arc::clone(&line),
            thread: None,
        };
        let mut whole = None;
        match look(&folder(to, &archiving.history), before) {
            Ok(looked) => {
                db.execute("DELETE FROM history WHERE id = x''", [])?;
                if !looked.same {
                    (archiving.history, archiving.last.commit) = (begin_history(db)?, 0);
                    line.count(archiving.last);
                }
                archiving.last.micros = looked.micros.max(now);
                whole = archiving.resume(db, end.filter(|_| looked.same))?;
                if whole.is_none() {
                    archiving.begin(db, false)?;
                }
            }
            Err(error) => {
                let note = "INSERT INTO history SELECT x'', ?1
                            WHERE NOT EXISTS (SELECT 1 FROM history WHERE id = x'')";
                db.execute(note, [before.cast_signed()])?;
                archiving.seen = Seen::No(before);
                line.not_seen(&error);
            }
        }
        let history = folder(to, &archiving.history);
        let archiver = Archiver::new(store, history, whole, line, disk);
        let thread = std::thread::Builder::new().name("store-archive".into());
        archiving.thread = Some(thread.spawn(move || archiver.run())?);
        Ok(archiving)
    }

    /// Counts a commit, in its transaction.
    pub(super) fn count(&mut self, db: &Connection) -> Result<(), StoreError> {
        if let Seen::Now(looked) = self.seen {
            if looked.same {
                db.execute("DELETE FROM history WHERE id = x''", [])?;
            } else {
                self.history = keys::chance::<8>()?.to_vec();
                db.execute("DELETE FROM history", [])?;
                db.execute("INSERT INTO history VALUES (?, 0)", [&self.history])?;
            }
        }
        db.prepare_cached("UPDATE history SET commits = commits + 1 WHERE id <> x''")?
            .execute([])?;
        Ok(())
    }

    /// Hands over what a commit wrote, just after it. `ends`: of the segments that it wrote to.
    pub(super) fn committed(&mut self, db: &Connection, ends: &[(u64, u64)]) {
        let mut again = false;
        if let Seen::Now(looked) = self.seen {
            if !looked.same {
                self.last.commit = 0;
            }
            self.last.micros = self.last.micros.max(looked.micros);
            (self.seen, again) = (Seen::Yes, true);
        }
        self.last.commit += 1;
        self.last.micros = self.last.micros.max(now());
        self.line.count(self.last);
        again |= match self.hand_over(ends) {
            Ok(too_much) => too_much,
            Err(error) => {
                self.wal = None;
                return self.line.break_off(&error);
            }
        };
        let age = u64::try_from(self.last.micros.saturating_sub(self.begun)).unwrap_or(0);
        let old = Duration::from_micros(age) >= self.line.limits.generation;
        if (again || old && self.line.is_at_ease() || self.line.is_due_again())
            && let Err(error) = self.go_on(db)
        {
            self.wal = None;
            self.line.break_off(&error);
        }
    }

    /// Reads what the last commit wrote, and hands it over. Whether another generation has to begin.
    fn hand_over(&mut self, ends: &[(u64, u64)]) -> Result<bool, StoreError> {
        if self.line.is_broken() {
            self.wal = None;
        }
        let Some(wal) = &mut self.wal else { return Ok(false) };
        let Head { commit: number, micros, .. } = self.last;
        match wal.commit()? {
            Wrote::Frames(frames) => {
                self.line.put(Commit { number, micros, frames, ends: ends.to_vec() });
                Ok(false)
            }
            // The next generation begins with what it did, so nothing is lacking.
            Wrote::TooMuch => Ok(true),
        }
    }

    /// Begins a generation, or has the folder looked at when it was not yet.
    fn go_on(&mut self, db: &Connection) -> Result<(), StoreError> {
        match self.seen {
            Seen::Yes => self.begin(db, true)?,
            Seen::Now(_) => {}
            Seen::No(commits) => match self.line.looked() {
                Some(looked) => self.seen = Seen::Now(looked),
                None => {
                    let history = folder(&self.to, &self.history);
                    self.line.look(Look { history, commits });
                }
            },
        }
        Ok(())
    }

    /// Has the generation go on that ended when the store was closed, if the index is as it was then.
    fn resume(
        &mut self,
        db: &Connection,
        end: Option<End>,
    ) -> Result<Option<Generation>, StoreError> {
        let Some(end) = end else { return Ok(None) };
        let wal = Wal::follow(db, &self.index, self.line.limits.commit_octets_max)?;
        if !wal.is_empty() {
            return Ok(None);
        }
        let history = folder(&self.to, &self.history);
        let resumed = end.find(&history, self.last.commit).and_then(|found| {
            let Some((folder, begun, head)) = found else { return Ok(None) };
            Ok(Some((begun, head, Generation::resume(folder, head)?)))
        });
        match resumed {
            Ok(Some((begun, head, generation))) => {
                (self.wal, self.begun) = (Some(wal), begun);
                self.line.resume(head);
                Ok(Some(generation))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "the archive cannot go on where it ends: another generation begins");
                Ok(None)
            }
        }
    }

    /// Begins a generation: with the index as it is now, between two commits. `exact`: it is just after one.
    fn begin(&mut self, db: &Connection, exact: bool) -> Result<(), StoreError> {
        self.begun = self.last.micros;
        let octets_max = self.line.limits.commit_octets_max;
        let reader = schema::reader(&self.index)?;
        reader.execute_batch("BEGIN")?;
        // Only with the first look is it certain which state is seen.
        reader.query_row("SELECT commits FROM history", [], |_| Ok(()))?;
        if self.wal.is_none() {
            self.wal = Some(Wal::follow(db, &self.index, octets_max)?);
        }
        let history = folder(&self.to, &self.history);
        self.line.begin(Base { db: reader, head: self.last, exact, history });
        Ok(())
    }

    /// The number of the commit that a segment went in.
    pub(super) fn last(&self) -> u64 {
        self.last.commit
    }

    /// Whether the archive has all up to this commit, or will never have it.
    pub(super) fn has(&self, commit: u64) -> bool {
        self.line.has(commit)
    }

    /// How far the archive is.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// After this long without a commit the writer is to ask whether one is wanted.
    pub(super) fn idle(&self) -> Duration {
        self.line.limits.retry
    }

    /// Whether a commit is wanted though there is nothing to commit: to begin again with.
    pub(super) fn wants_a_commit(&self) -> bool {
        matches!(self.seen, Seen::Now(_)) || self.line.is_due_again()
    }
}

impl Drop for Archiving {
    fn drop(&mut self) {
        self.line.close();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the archive of the store panicked");
        }
    }
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

/// The history that a store is in, and how many commits that has.
fn known(db: &Connection) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
    let row = db.query_row("SELECT id, commits FROM history WHERE id <> x''", [], |row| {
        Ok((row.get(0)?, row.get(1).map(i64::cast_unsigned)?))
    });
    Ok(row.optional()?)
}

/// Has a store begin a history of its own.
fn begin_history(db: &Connection) -> Result<Vec<u8>, StoreError> {
    let id = keys::chance::<8>()?.to_vec();
    db.execute_batch("BEGIN IMMEDIATE; DELETE FROM history")?;
    db.execute("INSERT INTO history VALUES (?, 0)", [&id])?;
    db.execute_batch("COMMIT")?;
    Ok(id)
}

/// The folder of a history.
fn folder(archive: &Path, id: &[u8]) -> PathBuf {
    archive.join(id.iter().map(|octet| format!("{octet:02x}")).collect::<String>())
}

/// Looks at the archive of a store that has so many commits, and makes its folder.
pub(super) fn look(history: &Path, commits: u64) -> Result<Looked, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(parent(history))?;
    let last = stream::last_head(history)?;
    // One that is behind its own archive was put back to an earlier state.
    let same = last.is_none_or(|last| last.commit <= commits);
    Ok(Looked { same, micros: last.map_or(i64::MIN, |last| last.micros) })
}

pub(super) fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Of a store that is opened without an archive: what it was is told no further.
pub(super) fn forget(db: &Connection) -> Result<(), StoreError> {
    db.execute("DELETE FROM history", [])?;
    Ok(())
}

/// Writes a file whole under another name, and gives it its own.
pub(super) fn replace(folder: &Path, name: &str, octets: &[u8]) -> Result<(), StoreError> {
    let part = folder.join(format!("{name}.part"));
    let file = File::create(&part)?;
    std::io::Write::write_all(&mut &file, octets)?;
    file.sync_data()?;
    fs::rename(&part, folder.join(name))?;
    Ok(flush_dir(folder)?)
}
