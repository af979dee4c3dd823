//! The thread that archives: it writes what waits on the line to generations, and begins them.
//!
//! A generation is whole when its copy of the index and of all octets is there. Until then commits go
//! to the one before it too, if there is one, and nothing is claimed but by that. The copy is made in
//! pieces, and between two of them what has gathered is archived: so it may take as long as it takes,
//! and nothing has to wait for it in memory. A store that is closed does not wait for it either.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::archive::{look, parent};
use super::backup;
use super::copies::Copies;
use super::disk::{Disk, Step};
use super::line::{Base, Line, Look, Meanwhile, Work};
use super::opening::known_segments;
use super::resume::End;
use super::segments::flush_dir;
use super::stream::{self, Commit, Head};
use crate::StoreError;

/// Pages of the index that are copied before something else has its turn: 8 MiB.
const PIECE_PAGES: i32 = 2048;
/// Octets of it that are hashed before.
const PIECE_OCTETS: usize = 8 * 1024 * 1024;

/// A generation that is written to.
pub(super) struct Generation {
    folder: PathBuf,
    commits: File,
    head: Head,
}

impl Generation {
    /// One that ended when the store was closed.
    pub(super) fn resume(folder: PathBuf, head: Head) -> Result<Self, StoreError> {
        let commits = File::options().write(true).open(folder.join("commits"))?;
        Ok(Self { folder, commits, head })
    }

    fn create(folder: &Path, head: Head) -> Result<Self, StoreError> {
        let commits = File::options().write(true).create_new(true).open(folder.join("commits"))?;
        Ok(Self { folder: folder.to_owned(), commits, head })
    }

    /// Writes commits, if they are what comes next. Whether they are.
    fn write(&mut self, batch: &[Commit], frame: &[u8]) -> Result<bool, StoreError> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(true) };
        if first.number != self.head.commit + 1 {
            return Ok(false);
        }
        self.commits.write_all_at(frame, self.head.length)?;
        self.commits.sync_data()?;
        let ends = batch.iter().flat_map(|commit| &commit.ends).copied();
        self.head = Head {
            commit: last.number,
            micros: last.micros,
            length: self.head.length + frame.len() as u64,
            octets: ends.fold(self.head.octets, std::cmp::max),
        };
        Ok(true)
    }

    fn write_head(&self) -> Result<(), StoreError> {
        stream::write_head(&self.folder, self.head)
    }
}

/// Why a generation was not begun.
enum Cut {
    /// The store is being closed.
    Closed,
    /// Another is begun in its place, or all was given up.
    Another,
    Failed(StoreError),
}

impl<E: Into<StoreError>> From<E> for Cut {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The thread's own.
pub(super) struct Archiver {
    store: PathBuf,
    line: Arc<Line>,
    disk: Arc<dyn Disk>,
    history: PathBuf,
    /// None: it is to be looked at what there is.
    copies: Option<Copies>,
    /// The generation that claims what is archived.
    whole: Option<Generation>,
    /// The one that is begun.
    begun: Option<Generation>,
}

impl Archiver {
    pub(super) fn new(
        store: &Path,
        history: PathBuf,
        whole: Option<Generation>,
        line: Arc<Line>,
        disk: Arc<dyn Disk>,
    ) -> Self {
        Self { store: store.to_owned(), line, disk, history, copies: None, whole, begun: None }
    }

    /// Works until nothing more will come.
    pub(super) fn run(mut self) {
        self.work();
        if let Some(whole) = &self.whole
            && self.line.has_everything(whole.head.commit)
            && let Err(error) = End::leave(&self.store, &whole.folder, whole.head.commit)
        {
            tracing::warn!(%error, "the archive cannot go on where it ends: another generation begins");
        }
    }

    fn work(&mut self) {
        while let Some(work) = self.line.take() {
            match work {
                Work::Look(Look { history, commits }) => match look(&history, commits) {
                    Ok(looked) => self.line.seen(looked),
                    Err(error) => self.line.not_seen(&error),
                },
                Work::Commits(batch) => {
                    if let Err(error) = self.write(&batch) {
                        self.line.break_off(&error);
                    }
                }
                Work::Base(base) => match self.begin(*base) {
                    Ok(()) | Err(Cut::Another) => {}
                    Err(Cut::Closed) if self.whole.is_some() => {}
                    Err(Cut::Closed) => {
                        tracing::info!("the store is closed before its archive is begun");
                        return;
                    }
                    Err(Cut::Failed(error)) if self.whole.is_some() => {
                        self.copies = None;
                        self.line.not_begun(&error);
                    }
                    Err(Cut::Failed(error)) => {
                        self.copies = None;
                        self.line.break_off(&error);
                    }
                },
            }
        }
    }

    /// Begins a generation with the index that a connection sees.
    fn begin(&mut self, base: Base) -> Result<(), Cut> {
        let Base { db, head, exact, history } = base;
        if self.history != history {
            (self.history, self.copies, self.whole) = (history, None, None);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.history)?;
        let number = stream::generations(&self.history)?.last().map_or(1, |(last, _)| last + 1);
        let folder = self.history.join(format!("{number:08}"));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let filled = Generation::create(&folder, head).map_err(Cut::from).and_then(|begun| {
            self.begun = Some(begun);
            self.fill(&folder, db, head, exact)
        });
        let begun = self.begun.take();
        if let Err(cut) = filled {
            drop(begun);
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(%error, folder = %folder.display(), "a generation that failed stays in the archive");
            }
            return Err(cut);
        }
        self.whole = begun;
        let head = self.whole.as_ref().map_or(head, |whole| whole.head);
        tracing::info!(folder = %folder.display(), "the archive has another generation");
        self.line.whole(head);
        Ok(())
    }

    /// Copies what a generation begins with, and says that it is whole.
    fn fill(&mut self, folder: &Path, db: Connection, head: Head, exact: bool) -> Result<(), Cut> {
        let index = folder.join("index.db");
        let copied = self.copy_index(&db, &index)?;
        let (known, large) = (known_segments(&db)?, backup::large(&db)?);
        // As long as it is open, the WAL of the store grows.
        drop(db);
        for &(segment, end) in &known {
            loop {
                self.between(Step::ArchiveOctets)?;
                if self.copies()?.bring(segment, end)? {
                    break;
                }
            }
        }
        for one in large.chunks(1) {
            self.between(Step::ArchiveOctets)?;
            backup::copy_large(&self.store, &self.history, one)?;
        }
        let hash = self.hash(&copied)?;
        let Some(begun) = &mut self.begun else { return Err(Cut::Another) };
        // Commits since the base may have gone to later segments.
        begun.head.octets = known.iter().copied().fold(begun.head.octets, std::cmp::max);
        let Head { commit, micros, .. } = head;
        stream::write_base(folder, stream::Base { commit, micros, exact, hash })?;
        begun.write_head()?;
        for folder in [folder, &self.history, &parent(&self.history)] {
            flush_dir(folder)?;
        }
        Ok(())
    }

    /// Copies the index that a connection sees, and makes the copy certain.
    fn copy_index(&mut self, db: &Connection, index: &Path) -> Result<File, Cut> {
        let mut copy = Connection::open(index)?;
        // Not by this connection: it would flush everything at the end.
        copy.pragma_update(None, "synchronous", "OFF")?;
        let copied = File::open(index)?;
        {
            let pages = Backup::new(db, &mut copy)?;
            loop {
                self.between(Step::ArchiveIndex)?;
                match pages.step(PIECE_PAGES)? {
                    StepResult::Done => break,
                    StepResult::More => copied.sync_data()?,
                    other => {
                        let why = format!("the index is not copied: {other:?}");
                        return Err(StoreError::Medium(why).into());
                    }
                }
            }
        }
        drop(copy);
        copied.sync_all()?;
        Ok(copied)
    }

    /// What a copy of the index is known by.
    fn hash(&mut self, copied: &File) -> Result<blake3::Hash, Cut> {
        let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
        let mut piece = vec![0; PIECE_OCTETS];
        loop {
            self.between(Step::ArchiveIndex)?;
            let octets = copied.read_at(&mut piece, at)?;
            if octets == 0 {
                return Ok(hasher.finalize());
            }
            hasher.update(&piece[..octets]);
            at += octets as u64;
        }
    }

    /// Between two pieces: archives what has gathered, and looks whether to go on.
    fn between(&mut self, step: Step) -> Result<(), Cut> {
        loop {
            match self.line.meanwhile() {
                Meanwhile::Closed => return Err(Cut::Closed),
                Meanwhile::Another => return Err(Cut::Another),
                Meanwhile::Commits(batch) => {
                    self.write(&batch)?;
                    continue;
                }
                Meanwhile::Nothing => {}
            }
            match self.disk.step(step) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.line.wait(),
                step => return Ok(step?),
            }
        }
    }

    fn copies(&mut self) -> Result<&mut Copies, StoreError> {
        match &mut self.copies {
            Some(copies) => Ok(copies),
            none => {
                let copies = Copies::open(&self.store, &self.history, Arc::clone(&self.disk))?;
                Ok(none.insert(copies))
            }
        }
    }

    /// Archives commits. What cannot be written to is given up.
    fn write(&mut self, batch: &[Commit]) -> Result<(), StoreError> {
        let written = self.try_write(batch);
        if written.is_err() {
            (self.whole, self.begun, self.copies) = (None, None, None);
        }
        written
    }

    fn try_write(&mut self, batch: &[Commit]) -> Result<(), StoreError> {
        let mut ends = BTreeMap::new();
        for (segment, end) in batch.iter().flat_map(|commit| &commit.ends) {
            ends.insert(*segment, *end);
        }
        for (segment, end) in ends {
            while !self.copies()?.bring(segment, end)? {}
        }
        let frame = stream::frame(batch)?;
        if let Some(begun) = &mut self.begun
            && !begun.write(batch, &frame)?
        {
            return Err(StoreError::Medium("the archive lacks a commit".into()));
        }
        if let Some(whole) = &mut self.whole {
            if whole.write(batch, &frame)? {
                whole.write_head()?;
                self.line.claim(whole.head);
            } else {
                // It ends where a commit is lacking.
                self.whole = None;
            }
        }
        if self.whole.is_none() && self.begun.is_none() {
            return Err(StoreError::Medium("the archive has no generation to go on with".into()));
        }
        Ok(())
    }
}
