//! Segments: files that octets are appended to, a group at a time, with one flush for all of them.
//!
//! Only the writer appends, to the segment with the highest number, from where the index says that
//! it ends: what a crash left beyond is written over. A segment in which no record is in use is
//! unlinked once the commit that freed it is done. Not here: copying the records still in use out of
//! a segment that is mostly dead (`compact.rs`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Step};
use super::record::{self, record_octets};

/// Octets that are written at once, and one record more: some thousand small records, and no second
/// copy in memory of a large message.
const RUN_OCTETS: usize = 1024 * 1024;

/// Octets ready to be appended: their CRCs were made where they came in.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) octets: Bytes,
    pub(super) table: Vec<u8>,
}

/// Some octets of others: a piece is not copied before it is written.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    pub(super) whole: Whole,
    pub(super) range: Range<usize>,
}

/// Octets that pieces are parts of: as they came, for large ones are not copied.
#[derive(Debug, Clone)]
pub(super) enum Whole {
    Shared(Arc<[u8]>),
    Owned(Arc<Vec<u8>>),
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(octets) => octets,
            Self::Owned(octets) => octets,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.whole[self.range.clone()]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(octets: Vec<u8>) -> Self {
        let range = 0..octets.len();
        Self { whole: Whole::Owned(Arc::new(octets)), range }
    }
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) start: u64,
}

/// The segment that is appended to.
#[derive(Clone)]
struct Active {
    number: u64,
    file: Arc<File>,
    end: u64,
}

/// Why octets could not be appended.
pub(super) enum AppendError {
    /// A write: it is done again at the same place.
    Write(io::Error),
    /// A flush, of a new segment or of its name: nobody knows what is on disk.
    Flush(io::Error),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// The writer's side of the segments.
pub(super) struct Segments {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    octets_max: u64,
    /// The highest number in use.
    last: u64,
    active: Option<Active>,
    /// As it was when the group began.
    before: (u64, Option<Active>),
    /// Written to and not flushed.
    dirty: Vec<(u64, Arc<File>)>,
    /// Where segments end that this group wrote to.
    ends: Vec<(u64, u64)>,
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08x}"))
}

impl Segments {
    /// The segments in `dir` as the index knows them (`number`, `end`), by number: each must be
    /// there, as long as it says.
    pub(super) fn open(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        octets_max: u64,
        known: &[(u64, u64)],
    ) -> io::Result<Self> {
        for (number, end) in known {
            if fs::metadata(path(&dir, *number))?.len() < *end {
                return Err(io::Error::other(format!("segment {number:08x} is cut short")));
            }
        }
        let active = match known.last() {
            Some(&(number, end)) => {
                let file = OpenOptions::new().write(true).open(path(&dir, number))?;
                Some(Active { number, file: Arc::new(file), end })
            }
            None => None,
        };
        let last = active.as_ref().map_or(0, |active| active.number);
        let before = (last, active.clone());
        Ok(Self { dir, disk, octets_max, last, active, before, dirty: vec![], ends: vec![] })
    }

    /// Removes the files that the index does not know.
    pub(super) fn remove_unknown(&self, known: &[(u64, u64)]) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
            if !known.iter().any(|(known, _)| Some(*known) == number) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The segment that is appended to.
    pub(super) fn active(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.number)
    }

    /// Has the next record begin another segment, if this one is appended to.
    pub(super) fn seal(&mut self, number: u64) {
        self.active.take_if(|active| active.number == number);
    }

    /// Begins a group.
    pub(super) fn begin(&mut self) {
        self.before = (self.last, self.active.clone());
        self.dirty.clear();
        self.ends.clear();
    }

    /// Writes the records of a group, each under its number; not flushed yet.
    pub(super) fn append(&mut self, records: &[(u64, Record)]) -> Result<Vec<Place>, AppendError> {
        let mut places = Vec::with_capacity(records.len());
        let mut run = Vec::new();
        for (blob, record) in records {
            let octets = record.octets.len() as u64;
            let mut target = match &self.active {
                Some(active) => active.clone(),
                None => self.roll()?,
            };
            let start = target.end + run.len() as u64;
            if start + record_octets(octets) > self.octets_max && start > 0 {
                self.write(&mut run)?;
                target = self.roll()?;
            }
            places.push(Place { segment: target.number, start: target.end + run.len() as u64 });
            run.extend_from_slice(&record::header(*blob, octets));
            run.extend_from_slice(&record.octets);
            run.extend_from_slice(&record.table);
            if run.len() >= RUN_OCTETS {
                self.write(&mut run)?;
            }
        }
        self.write(&mut run)?;
        Ok(places)
    }

    /// Writes what has gathered at the end of the active segment.
    fn write(&mut self, run: &mut Vec<u8>) -> io::Result<()> {
        let Some(active) = self.active.as_mut().filter(|_| !run.is_empty()) else { return Ok(()) };
        self.disk.step(Step::Write)?;
        active.file.write_all_at(run, active.end)?;
        active.end += run.len() as u64;
        run.clear();
        let (number, end) = (active.number, active.end);
        if self.dirty.last().is_none_or(|(last, _)| *last != number) {
            self.dirty.push((number, Arc::clone(&active.file)));
        }
        self.ends.retain(|(segment, _)| *segment != number);
        self.ends.push((number, end));
        Ok(())
    }

    /// Starts the next segment: its space is taken and its name is on disk before its first use.
    fn roll(&mut self) -> Result<Active, AppendError> {
        self.disk.step(Step::Write)?;
        let number = self.last + 1;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path(&self.dir, number))?;
        reserve(&file, self.octets_max)?;
        let certain = self.disk.step(Step::Flush).and_then(|()| file.sync_all());
        let certain = certain.and_then(|()| flush_dir(&self.dir));
        // Nothing is in it yet: without room for its name it is begun again when there is some.
        certain.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Write(error),
            _ => AppendError::Flush(error),
        })?;
        let active = Active { number, file: Arc::new(file), end: 0 };
        self.last = number;
        self.active = Some(active.clone());
        Ok(active)
    }

    /// Makes what was appended certain. After an error nobody knows what is on disk.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        for (_, file) in self.dirty.drain(..) {
            self.disk.step(Step::Flush)?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Where each segment ends that this group wrote to.
    pub(super) fn ends(&self) -> &[(u64, u64)] {
        &self.ends
    }

    /// Leaves what the group wrote where it is, dead: the next one begins another segment. For when
    /// nobody knows for certain that the group is gone.
    pub(super) fn give_up(&mut self) {
        self.active = None;
        self.dirty.clear();
        self.ends.clear();
    }

    /// Forgets the group: the next one is written over it.
    pub(super) fn roll_back(&mut self) {
        (self.last, self.active) = self.before.clone();
        self.dirty.clear();
        self.ends.clear();
    }

    /// Removes the file of a segment in which nothing is in use.
    pub(super) fn unlink(&self, number: u64) -> io::Result<()> {
        remove(&path(&self.dir, number))
    }
}

/// Takes the space on disk now, so that a flush has only octets to write. Where the file system
/// cannot, the file grows as it is written.
fn reserve(file: &File, octets: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, octets) {
        // Without room for all of it the segment grows as it is written, as far as it goes.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOSPC) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the names in a directory certain.
pub(super) fn flush_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
