//! Octets on their way in and out: spools, files of their own, and reading what is stored.
//!
//! Up to [`MEMORY_OCTETS_MAX`] a spool keeps its octets in memory, then it goes on in a file in
//! `spool/`. Up to [`SEGMENT_OCTETS_MAX`] octets go to a segment when they are stored; larger ones
//! stay in their file, which gets its name in `large/` before the commit that names it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};

use super::disk::{Disk, Step};
use super::record::{self, Crcs, HEADER_OCTETS};
use super::segments::{self, Place, Record};
use crate::rules::clip;
use crate::{BlobId, Octets, Spool, Spooled, StoreError};

/// A spool keeps this much in memory: most messages never see a file.
const MEMORY_OCTETS_MAX: usize = 256 * 1024;
/// Octets beyond this get a file of their own: they would fill a segment, and hold up a group.
const SEGMENT_OCTETS_MAX: usize = 1024 * 1024;
/// Files kept open for reading.
const HANDLES_MAX: usize = 128;
/// Files of their own share a directory by this many, so that leftovers are found by looking into
/// the last ones only.
const LARGE_PER_DIR: u64 = 4096;

/// The directories of a store, and what is open in them.
pub(super) struct Files {
    pub(super) segments: PathBuf,
    large: PathBuf,
    spool: PathBuf,
    disk: Arc<dyn Disk>,
    next_spool: AtomicU64,
    handles: Mutex<BTreeMap<(u64, u64), Arc<File>>>,
}

/// Octets as the writer takes them.
pub(super) enum Prepared {
    /// For a segment.
    Record(Record),
    /// A whole record in a file that is flushed already.
    File(SpoolFile),
    /// There already.
    Stored(BlobId),
    /// The record of this number, to be appended once more.
    Moved(u64, Record),
    /// Nothing: whatever comes, this segment is not appended to any more.
    Seal(u64),
}

impl Files {
    /// Makes the directories of a store that are not there.
    pub(super) fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let [segments, large, spool] = ["segments", "large", "spool"].map(|name| dir.join(name));
        for dir in [&segments, &large, &spool] {
            fs::create_dir_all(dir)?;
        }
        // Nothing in a spool outlives the program.
        for entry in fs::read_dir(&spool)? {
            fs::remove_file(entry?.path())?;
        }
        // Also what a crash kept an earlier start from making certain: their names, and in `large`
        // those of directories that files of their own were put into since.
        segments::flush_dir(dir)?;
        segments::flush_dir(&large)?;
        let handles = Mutex::default();
        Ok(Self { segments, large, spool, disk, next_spool: AtomicU64::new(0), handles })
    }

    fn large_path(&self, blob: u64) -> (PathBuf, PathBuf) {
        let dir = self.large.join(format!("{:08x}", blob / LARGE_PER_DIR));
        let path = dir.join(format!("{blob:016x}"));
        (dir, path)
    }

    /// Removes files with numbers above `last`: a crash came between their rename and their commit.
    pub(super) fn remove_large_above(&self, last: u64) -> io::Result<()> {
        for dir in fs::read_dir(&self.large)? {
            let dir = dir?;
            let name = dir.file_name();
            let number = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
            if number.is_none_or(|number| number < last / LARGE_PER_DIR) {
                continue;
            }
            for file in fs::read_dir(dir.path())? {
                let file = file?;
                let name = file.file_name();
                let number = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
                if number.is_some_and(|number| number > last) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    /// Removes the file of a blob that has one of its own.
    pub(super) fn unlink_large(&self, blob: u64) -> io::Result<()> {
        let removed = segments::remove(&self.large_path(blob).1);
        self.forget((0, blob));
        removed
    }

    /// Gives a spooled file its name. The directory is flushed by [`flush_large`](Self::flush_large).
    pub(super) fn adopt(&self, file: &mut SpoolFile, blob: u64) -> io::Result<PathBuf> {
        let (dir, path) = self.large_path(blob);
        if !dir.is_dir() {
            fs::create_dir(&dir)?;
            self.disk.step(Step::Flush)?;
            segments::flush_dir(&self.large)?;
        }
        self.disk.step(Step::Rename)?;
        fs::rename(&file.path, &path)?;
        file.adopted = true;
        Ok(dir)
    }

    /// Makes the names in `dir` certain.
    pub(super) fn flush_large(&self, dir: &Path) -> io::Result<()> {
        self.disk.step(Step::Flush)?;
        segments::flush_dir(dir)
    }

    /// No longer keeps a file open: after it was unlinked, so that who opens it meanwhile sees that
    /// it is, and does not keep it either.
    pub(super) fn forget(&self, key: (u64, u64)) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// A handle for reading: of a segment, or (segment 0) of the file of a blob.
    fn handle(&self, segment: u64, blob: u64) -> io::Result<Arc<File>> {
        let key = if segment == 0 { (0, blob) } else { (segment, 0) };
        if let Some(file) = self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(file));
        }
        let path = match segment {
            0 => self.large_path(blob).1,
            number => segments::path(&self.segments, number),
        };
        let file = Arc::new(File::open(path)?);
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was unlinked since is read once more and its space given back.
        if file.metadata()?.nlink() > 0 {
            while handles.len() >= HANDLES_MAX {
                handles.pop_first();
            }
            handles.insert(key, Arc::clone(&file));
        }
        Ok(file)
    }

    /// Reads octets that are stored at `place`.
    pub(super) fn read(
        &self,
        blob: BlobId,
        (place, octets): (Place, u64),
        start: u64,
        end: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let file = match self.handle(place.segment, blob.0) {
            // Unlinked since its row was read: nobody refers to it any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuchMessage);
            }
            file => file?,
        };
        let range = clip(start, end, octets);
        let id = if place.segment == 0 { 0 } else { blob.0 };
        record::read(&file, place.start, (id, octets), range)
    }

    /// A new spool.
    pub(super) fn spool(self: &Arc<Self>) -> EmbeddedSpool {
        EmbeddedSpool {
            files: Arc::clone(self),
            memory: Vec::new(),
            file: None,
            octets: 0,
            crcs: Crcs::default(),
        }
    }

    /// Makes octets ready for the writer, in the thread that they came in.
    pub(super) fn prepare(self: &Arc<Self>, octets: Octets) -> Result<Prepared, StoreError> {
        match octets {
            Octets::Stored(blob) => Ok(Prepared::Stored(blob)),
            Octets::Inline(octets) if octets.len() > SEGMENT_OCTETS_MAX => {
                let mut spool = self.spool();
                spool.write(&octets)?;
                Ok(spool.end()?.into_prepared()?)
            }
            Octets::Inline(octets) => {
                let table = Crcs::of(&octets).table();
                Ok(Prepared::Record(Record { octets, table }))
            }
            Octets::Spooled(spooled) => match spooled.into_any().downcast::<EmbeddedSpooled>() {
                Ok(spooled) => spooled.into_prepared(),
                Err(_) => Err(StoreError::Medium("spooled by another store".into())),
            },
        }
    }
}

/// Where stored octets are, and how many.
pub(super) fn find(db: &Connection, blob: BlobId) -> Result<(Place, u64), StoreError> {
    let mut find = db.prepare_cached("SELECT segment, start, octets FROM blobs WHERE id = ?")?;
    let row = find.query_row([blob.0.cast_signed()], |row| {
        let [segment, start, octets] = [row.get(0)?, row.get(1)?, row.get(2)?];
        let [segment, start, octets] = [segment, start, octets].map(i64::cast_unsigned);
        Ok((Place { segment, start }, octets))
    });
    row.optional()?.ok_or(StoreError::NoSuchMessage)
}

/// A file in `spool/`: gone when dropped, unless the writer gave it a name.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    file: File,
    pub(super) octets: u64,
    adopted: bool,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if !self.adopted
            && let Err(error) = segments::remove(&self.path)
        {
            tracing::warn!(%error, "a spooled file stays until the next start");
        }
    }
}

/// A message on its way in.
pub(super) struct EmbeddedSpool {
    files: Arc<Files>,
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    octets: u64,
    crcs: Crcs,
}

impl EmbeddedSpool {
    /// Writes what is in memory to the file.
    fn spill(&mut self) -> Result<(), StoreError> {
        if self.memory.is_empty() {
            return Ok(());
        }
        self.files.disk.step(Step::Write)?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let number = self.files.next_spool.fetch_add(1, Ordering::Relaxed);
                let path = self.files.spool.join(format!("{number:016x}"));
                let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
                let file = options.open(&path)?;
                none.insert(SpoolFile { path, file, octets: 0, adopted: false })
            }
        };
        file.file.write_all_at(&self.memory, HEADER_OCTETS + file.octets)?;
        file.octets += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    fn end(mut self) -> Result<EmbeddedSpooled, StoreError> {
        if self.file.is_none() {
            let octets = std::mem::take(&mut self.memory).into();
            return Ok(EmbeddedSpooled::Memory(Record { octets, table: self.crcs.table() }));
        }
        self.spill()?;
        let Some(file) = self.file else { return Err(StoreError::Medium("spool lost".into())) };
        if file.octets > SEGMENT_OCTETS_MAX as u64 {
            self.files.disk.step(Step::Write)?;
            file.file.write_all_at(&record::header(0, file.octets), 0)?;
            file.file.write_all_at(&self.crcs.table(), HEADER_OCTETS + file.octets)?;
            self.files.disk.step(Step::Flush)?;
            file.file.sync_all()?;
        }
        Ok(EmbeddedSpooled::File(file))
    }
}

impl Spool for EmbeddedSpool {
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.octets += octets.len() as u64;
        self.crcs.add(octets);
        for piece in octets.chunks(MEMORY_OCTETS_MAX) {
            if self.memory.len() + piece.len() > MEMORY_OCTETS_MAX {
                self.spill()?;
            }
            self.memory.extend_from_slice(piece);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Spooled>, StoreError> {
        Ok(Box::new(self.end()?))
    }
}

/// A whole message on its way in.
#[derive(Debug)]
pub(super) enum EmbeddedSpooled {
    Memory(Record),
    File(SpoolFile),
}

impl EmbeddedSpooled {
    fn into_prepared(self) -> Result<Prepared, StoreError> {
        match self {
            Self::Memory(record) => Ok(Prepared::Record(record)),
            Self::File(file) if file.octets > SEGMENT_OCTETS_MAX as u64 => Ok(Prepared::File(file)),
            Self::File(_) => {
                let octets: Arc<[u8]> = self.read(0, u64::MAX)?.into();
                let table = Crcs::of(&octets).table();
                Ok(Prepared::Record(Record { octets, table }))
            }
        }
    }
}

impl Spooled for EmbeddedSpooled {
    fn octets(&self) -> u64 {
        match self {
            Self::Memory(record) => record.octets.len() as u64,
            Self::File(file) => file.octets,
        }
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        let range = clip(start, end, self.octets());
        let (start, octets) = (range.start, range.end - range.start);
        match self {
            Self::Memory(record) => {
                Ok(record.octets[range.start as usize..range.end as usize].to_vec())
            }
            Self::File(file) => {
                let mut read = vec![0; octets as usize];
                file.file.read_exact_at(&mut read, HEADER_OCTETS + start)?;
                Ok(read)
            }
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}
