//! Octets on their way in and out, whatever they lie on.
//!
//! They are on their medium, and stay there through a loss of power, before the transaction that
//! names them begins. What no transaction came to name is swept away later. How they lie there is told in `chunks.rs`.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::chunks::{self, CHUNK_OCTETS, Chunk, damaged};
use super::connection::{Db, get, number};
use crate::inflow::Inflow;
use crate::rules::clip;
use crate::{BlobId, Octets, Spool, Spooled, StoreError};

/// Octets in memory on their way to the medium: two of the largest messages, or thousands of small
/// ones. A larger one goes alone.
const ROOM_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// What holds the name of the store: no object of ours is named so.
pub(super) const OWNER: &str = "store.id";
/// Octets of that name at most.
pub(super) const OWNER_OCTETS_MAX: u64 = 100;

/// A store's name as it was read.
pub(super) fn owner(octets: Vec<u8>) -> Result<String, StoreError> {
    let is_name = |text: &String| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let text = String::from_utf8(octets).ok().filter(is_name);
    text.ok_or_else(|| StoreError::Medium(format!("{OWNER} there is not of this program")))
}

/// Where some octets begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) object: String,
    pub(super) start: u64,
}

/// What octets lie on.
pub(super) trait Medium: Send + Sync {
    /// Keeps each of these, and tells where: when it returns they survive a loss of power.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSpace`], [`StoreError::Unavailable`], [`StoreError::Medium`]: none is of use.
    fn put(&self, octets: Vec<Arc<[u8]>>) -> Result<Vec<Place>, StoreError>;
    /// Octets of an object.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMessage`] when there is no such object.
    fn read(&self, object: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError>;
    /// Whether nobody writes to an object any more, and nobody will.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn is_over(&self, object: &str) -> Result<bool, StoreError>;
    /// Removes an object that is [over](Self::is_over), and to which nothing refered after it was; how many octets
    /// that freed.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn remove(&self, object: &str) -> Result<u64, StoreError>;
    /// Whether it can be reached and is there, without changing anything, and the name of the store whose
    /// octets it has, if it has one.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn owner(&self) -> Result<Option<String>, StoreError>;
    /// Gives it to the store of this name, unless it is somebody's.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn give_to(&self, store: &str) -> Result<(), StoreError>;
    /// Looks at some objects after `after` in their order: which of them were there before anything
    /// that is under way now began, and the last of them; nothing when there are no more.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn old(&self, after: Option<&str>) -> Result<(Vec<String>, Option<String>), StoreError>;
}

/// Octets that are on their medium and in no table yet.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) blob: BlobId,
    pub(super) octets: u64,
    pub(super) object: String,
    pub(super) start: u64,
    /// What the database is to know of its chunks.
    pub(super) chunks: Vec<u8>,
}

/// What was kept, as it is read.
pub(super) fn read_back(medium: &dyn Medium, kept: &Kept) -> Result<Vec<u8>, StoreError> {
    let at = Place { object: kept.object.clone(), start: kept.start };
    read(medium, located(at, kept.octets, &kept.chunks, 0..kept.octets)?)
}

/// Octets in memory; nothing where they are stored already.
pub(super) fn load(octets: Octets) -> Result<Result<Arc<[u8]>, BlobId>, StoreError> {
    Ok(match octets {
        Octets::Inline(octets) => Ok(octets),
        Octets::Owned(octets) => Ok(octets.into()),
        Octets::Spooled(spooled) => Ok(spooled.into_octets()?.into()),
        Octets::Stored(blob) => Err(blob),
    })
}

/// How long octets are before they are loaded.
pub(super) fn length(octets: &Octets) -> u64 {
    match octets {
        Octets::Inline(octets) => octets.len() as u64,
        Octets::Owned(octets) => octets.len() as u64,
        Octets::Spooled(spooled) => spooled.octets(),
        Octets::Stored(_) => 0,
    }
}

/// Puts octets on the medium under numbers of their own.
pub(super) fn keep(
    medium: &dyn Medium,
    numbers: &[u64],
    octets: Vec<Arc<[u8]>>,
) -> Result<Vec<Kept>, StoreError> {
    let lengths: Vec<u64> = octets.iter().map(|one| one.len() as u64).collect();
    let shrunk = octets.into_iter().map(chunks::shrink).collect::<Result<Vec<_>, _>>()?;
    let (stored, tables): (Vec<_>, Vec<_>) = shrunk.into_iter().unzip();
    let places = medium.put(stored)?;
    let described = numbers.iter().zip(lengths).zip(tables);
    let kept = described.zip(places).map(|(((number, octets), chunks), place)| {
        let Place { object, start } = place;
        Kept { blob: BlobId(*number), octets, object, start, chunks }
    });
    Ok(kept.collect())
}

/// How many octets a blob has.
pub(super) fn octets(db: &Db, blob: BlobId) -> Result<u64, StoreError> {
    let row = db.first("SELECT octets FROM blobs WHERE id = $1", &[&blob.0.cast_signed()])?;
    row.map_or(Err(StoreError::NoSuchMessage), |row| number(&row, 0))
}

/// Where some octets of a blob are: whole chunks of them.
pub(super) struct Located {
    object: String,
    /// Where in the object the first chunk begins.
    at: u64,
    chunks: Vec<Chunk>,
    /// Which octets of the blob those chunks are.
    covered: Range<u64>,
    /// Which of them are asked for.
    wanted: Range<u64>,
}

impl Located {
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    /// About how many octets of memory it takes.
    pub(super) fn weight(&self) -> usize {
        self.object.len() + size_of_val(&*self.chunks)
    }

    /// Octets `start..end` of the blob, as far as they are among these.
    pub(super) fn part(&self, start: u64, end: u64) -> Result<Self, StoreError> {
        let start = start.clamp(self.wanted.start, self.wanted.end);
        let wanted = start..end.clamp(start, self.wanted.end);
        let covered = cover(&wanted, self.covered.end);
        let number = |octets: u64| ((octets - self.covered.start).div_ceil(CHUNK_OCTETS)) as usize;
        let (from, until) = (number(covered.start), number(covered.end));
        let (before, chunks) = match (self.chunks.get(..from), self.chunks.get(from..until)) {
            (Some(before), Some(chunks)) => (before, chunks.to_vec()),
            _ => return Err(damaged()),
        };
        let at = self.at + chunks::stored(before);
        Ok(Self { object: self.object.clone(), at, chunks, covered, wanted })
    }
}

/// The whole chunks that have these octets, of a blob or a part of one that ends at `end`.
fn cover(wanted: &Range<u64>, end: u64) -> Range<u64> {
    let first = wanted.start / CHUNK_OCTETS * CHUNK_OCTETS;
    first..wanted.end.next_multiple_of(CHUNK_OCTETS).min(end).max(first)
}

/// Where these octets are, of `octets` that begin at a place.
fn located(
    place: Place,
    octets: u64,
    table: &[u8],
    wanted: Range<u64>,
) -> Result<Located, StoreError> {
    let covered = cover(&wanted, octets);
    let which = covered.start / CHUNK_OCTETS..covered.end.div_ceil(CHUNK_OCTETS);
    let (skipped, chunks) = chunks::known(octets, table, which)?;
    Ok(Located { object: place.object, at: place.start + skipped, chunks, covered, wanted })
}

pub(super) fn locate(db: &Db, blob: BlobId, start: u64, end: u64) -> Result<Located, StoreError> {
    let find = "SELECT octets, object, start, chunks FROM blobs WHERE id = $1";
    let row = db.first(find, &[&blob.0.cast_signed()])?.ok_or(StoreError::NoSuchMessage)?;
    let octets = number(&row, 0)?;
    let place = Place { object: get(&row, 1)?, start: number(&row, 2)? };
    located(place, octets, get(&row, 3)?, clip(start, end, octets))
}

/// Reads what was located, and checks it.
pub(super) fn read(medium: &dyn Medium, located: Located) -> Result<Vec<u8>, StoreError> {
    let Located { object, at, chunks, covered, wanted } = located;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let stored = medium.read(&object, at..at + chunks::stored(&chunks))?;
    let mut octets = chunks::expand(&chunks, &stored, covered.end - covered.start)?;
    octets.truncate((wanted.end - covered.start) as usize);
    octets.drain(..(wanted.start - covered.start) as usize);
    Ok(octets)
}

/// Room for octets in memory.
#[derive(Default)]
pub(super) struct Room {
    taken: Mutex<u64>,
    given: Condvar,
}

/// Some of it, until it is dropped.
pub(super) struct Taken<'a> {
    room: &'a Room,
    octets: u64,
}

impl Room {
    /// Waits until there is room.
    pub(super) fn take(&self, octets: u64) -> Taken<'_> {
        let full = |taken: &mut u64| *taken > 0 && *taken + octets > ROOM_OCTETS_MAX;
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.given.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        *taken += octets;
        Taken { room: self, octets }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.octets;
        self.room.given.notify_all();
    }
}

/// Where spools of this node go on when they are too long for memory.
pub(super) struct Spools {
    pub(super) folder: PathBuf,
    pub(super) next: AtomicU64,
}

impl Spools {
    /// A file without a name: it is gone when it is closed, however that comes.
    fn file(&self) -> Result<File, StoreError> {
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = self.folder.join(format!("{}-{number}", std::process::id()));
            match options.open(&path) {
                // Of a process that died before it removed the name.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                file => {
                    std::fs::remove_file(&path)?;
                    return Ok(file?);
                }
            }
        }
    }
}

/// A message on its way in.
pub(super) struct SharedSpool {
    spools: Arc<Spools>,
    /// Empty once there is a file.
    memory: Inflow,
    file: Option<(File, u64)>,
}

impl SharedSpool {
    /// A new one.
    pub(super) fn new(spools: Arc<Spools>) -> Self {
        Self { spools, memory: Inflow::default(), file: None }
    }
}

impl Spool for SharedSpool {
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        if self.file.is_none() {
            if self.memory.keep(octets) {
                return Ok(());
            }
            let (file, mut end) = (self.spools.file()?, 0);
            for piece in self.memory.take() {
                file.write_all_at(&piece, end)?;
                end += piece.len() as u64;
            }
            self.file = Some((file, end));
        }
        if let Some((file, end)) = &mut self.file {
            file.write_all_at(octets, *end)?;
            *end += octets.len() as u64;
        }
        Ok(())
    }

    fn keep_nothing(&mut self) {
        self.memory.shut();
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Spooled>, StoreError> {
        let Self { memory, file, .. } = *self;
        Ok(Box::new(match file {
            Some((file, octets)) => SharedSpooled::File(file, octets),
            None => SharedSpooled::Memory(memory.into_octets()),
        }))
    }
}

/// A whole message on its way in.
enum SharedSpooled {
    Memory(Vec<u8>),
    File(File, u64),
}

impl Spooled for SharedSpooled {
    fn octets(&self) -> u64 {
        match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::File(_, octets) => *octets,
        }
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        let range = clip(start, end, self.octets());
        match self {
            Self::Memory(octets) => Ok(octets[range.start as usize..range.end as usize].to_vec()),
            Self::File(file, _) => {
                let mut read = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut read, range.start)?;
                Ok(read)
            }
        }
    }

    fn into_octets(self: Box<Self>) -> Result<Vec<u8>, StoreError> {
        match *self {
            Self::Memory(octets) => Ok(octets),
            Self::File(..) => self.read(0, u64::MAX),
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflow::MEMORY_OCTETS_MAX;

    #[test]
    fn a_spool_one_octet_past_its_memory_goes_on_in_a_file_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let next = AtomicU64::new(0);
        let spools = Arc::new(Spools { folder: folder.path().to_owned(), next });
        let whole: Vec<u8> = (0..=255).cycle().take(3 * MEMORY_OCTETS_MAX + 5).collect();
        for (octets, in_file) in
            [(MEMORY_OCTETS_MAX, false), (MEMORY_OCTETS_MAX + 1, true), (whole.len(), true)]
        {
            let mut spool = Box::new(SharedSpool::new(Arc::clone(&spools)));
            for piece in whole[..octets].chunks(20_003) {
                spool.write(piece).unwrap();
                let held = spool.memory.held();
                assert!(held <= MEMORY_OCTETS_MAX, "{held}");
                assert!(spool.file.is_none() || held == 0, "{held} beside a file");
            }
            assert_eq!(spool.file.is_some(), in_file, "{octets}");
            let spooled = spool.finish().unwrap();
            assert_eq!(spooled.octets(), octets as u64);
            let edge = octets as u64 - 2;
            assert_eq!(spooled.read(edge, u64::MAX).unwrap(), whole[octets - 2..octets]);
            assert!(spooled.into_octets().unwrap() == whole[..octets]);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
