//! Octets on their way in and out: pieces made ready, and reading what is stored.
//!
//! Before they are stored, octets are cut into pieces (`pieces.rs`) in the thread that they came in, and
//! large ones in several; a piece that is stored already is not stored again, and the others are made
//! smaller (`codec.rs`). A store of format 2 kept octets beyond 1 MiB in files of their own, in `large/`:
//! they are read there as pieces in segments are, and no new ones come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::disk::{Disk, Real};
use super::hold::Leases;
use super::keys::Keys;
use super::readers::Readers;
use super::recent::Recent;
use super::record::{self, Crcs};
use super::segments::{self, Bytes, Place, Record, Whole};
use super::spool::{EmbeddedSpooled, Spools};
use super::{backup, list, pieces};
use crate::codec::{self, Codec};
use crate::rules::clip;
use crate::{BlobId, Octets, Spooled as _, StoreError};

/// Octets from which on pieces are made ready on several cores: below, starting threads costs more.
const PARALLEL_OCTETS_MIN: usize = 4 * 1024 * 1024;
/// And on so many at most.
const PARALLEL_MAX: usize = 4;
/// Pieces that a core takes at once: enough that they do not stand in line for the next.
const SHARE_PIECES: usize = 16;
/// Files kept open for reading.
const HANDLES_MAX: usize = 128;
/// Octets on their way to the writer at most: two messages of the largest size that is usual, or
/// some thousands as they are on average.
const ROOM_OCTETS: u64 = 256 * 1024 * 1024;
/// Files of their own share a directory by this many, so that leftovers are found by looking into
/// the last ones only.
const LARGE_PER_DIR: u64 = 4096;

/// What a piece is known by: BLAKE3 of its octets.
pub(super) type Hash = [u8; 32];

/// The directories of a store, and what is open in them.
pub(super) struct Files {
    pub(super) segments: PathBuf,
    pub(super) large: PathBuf,
    pub(super) spool: PathBuf,
    pin: PathBuf,
    pub(super) keys: Keys,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) spools: Spools,
    pub(super) leases: Leases,
    handles: Mutex<BTreeMap<(u64, u64), Arc<File>>>,
}

/// Nobody copies the store as long as this is held, and files may be unlinked.
pub(super) struct Unpinned(File);

impl Drop for Unpinned {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of copies is not given back");
        }
    }
}

/// Octets as the writer takes them.
pub(super) enum Prepared {
    /// In pieces.
    New(Vec<Piece>),
    /// There already.
    Stored(BlobId),
    /// The record of this number, to be appended once more.
    Moved(u64, Record),
    /// Nothing: whatever comes, this segment is not appended to any more.
    Seal(u64),
}

/// A piece on its way to a segment, or to what is there already.
pub(super) struct Piece {
    pub(super) hash: Hash,
    whole: Whole,
    range: Range<usize>,
    /// Nothing as long as the piece seems to be stored already.
    packed: Option<Packed>,
}

/// What was done to a piece before it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) codec: Codec,
    /// Encrypted, after it was made smaller.
    pub(super) sealed: bool,
}

impl Form {
    /// In the number of an encrypted one.
    const SEALED: u8 = 0x40;

    /// As it is in the index.
    pub(super) const fn number(self) -> u8 {
        self.codec.number() | if self.sealed { Self::SEALED } else { 0 }
    }

    fn of_number(number: u8) -> Option<Self> {
        let codec = Codec::of_number(number & !Self::SEALED)?;
        Some(Self { codec, sealed: number & Self::SEALED != 0 })
    }
}

/// A piece as it will lie on disk.
pub(super) struct Packed {
    pub(super) codec: Form,
    pub(super) record: Record,
}

impl Piece {
    /// How long it is.
    pub(super) fn octets(&self) -> u64 {
        self.range.len() as u64
    }

    /// How much of it has to be written, as far as is known.
    pub(super) fn stored_octets(&self) -> u64 {
        self.packed.as_ref().map_or(0, |packed| packed.record.octets.len() as u64)
    }

    /// What it is a piece of.
    pub(super) fn whole(&self) -> &Whole {
        &self.whole
    }

    fn pack(&self, keys: &Keys) -> Result<Packed, StoreError> {
        let (codec, small) = codec::shrink(&self.whole[self.range.clone()])?;
        let sealed = keys.seal_piece(&small)?;
        let codec = Form { codec, sealed: sealed.is_some() };
        let octets = match (sealed, small) {
            (Some(sealed), _) => Bytes::from(sealed),
            (None, Cow::Owned(small)) => Bytes::from(small),
            (None, Cow::Borrowed(_)) => {
                Bytes { whole: self.whole.clone(), range: self.range.clone() }
            }
        };
        let table = Crcs::of(&octets).table();
        Ok(Packed { codec, record: Record { octets, table } })
    }

    /// As it will lie on disk: made now, when what was there is gone.
    pub(super) fn packed(mut self, keys: &Keys) -> Result<Packed, StoreError> {
        self.packed.take().map_or_else(|| self.pack(keys), Ok)
    }
}

/// How many octets are new.
pub(super) fn length(octets: &Octets) -> u64 {
    match octets {
        Octets::Inline(octets) => octets.len() as u64,
        Octets::Owned(octets) => octets.len() as u64,
        Octets::Spooled(spooled) => spooled.octets(),
        Octets::Stored(_) => 0,
    }
}

/// Octets on their way to the writer, in all threads: what a burst of large messages may take of
/// the memory.
#[derive(Default)]
pub(super) struct Room {
    taken: Mutex<u64>,
    freed: Condvar,
}

/// So many octets of [`Room`], given back when dropped.
pub(super) struct Taken<'a> {
    room: &'a Room,
    octets: u64,
}

impl Room {
    /// Waits until there is room; what is larger than all of it waits to be alone.
    pub(super) fn take(&self, octets: u64) -> Taken<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut u64| *taken > 0 && *taken + octets > ROOM_OCTETS;
        let taken = self.freed.wait_while(taken, full);
        *taken.unwrap_or_else(PoisonError::into_inner) += octets;
        Taken { room: self, octets }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.octets;
        self.room.freed.notify_all();
    }
}

impl Files {
    /// Makes the directories of a store that are not there.
    pub(super) fn open(dir: &Path, disk: Arc<dyn Disk>, keys: Keys) -> io::Result<Self> {
        let files = Self { disk, ..Self::view(dir, keys) };
        for dir in [&files.segments, &files.large, &files.spool] {
            fs::create_dir_all(dir)?;
        }
        // Nothing in a spool outlives the program.
        for entry in fs::read_dir(&files.spool)? {
            fs::remove_file(entry?.path())?;
        }
        // Also what a crash kept an earlier start from making certain: their names, and in `large`
        // those of directories that files of their own were put into since.
        segments::flush_dir(dir)?;
        segments::flush_dir(&files.large)?;
        Ok(files)
    }

    /// The directories of a store, to look into them.
    pub(super) fn view(dir: &Path, keys: Keys) -> Self {
        let [segments, large, spool, pin] =
            ["segments", "large", "spool", "pin"].map(|name| dir.join(name));
        let (disk, spools, handles) = (Arc::new(Real), Spools::default(), Mutex::default());
        let leases = Leases::default();
        Self { segments, large, spool, pin, keys, disk, spools, leases, handles }
    }

    /// Whether files may be unlinked, as long as this is held: somebody may be copying them.
    pub(super) fn unpinned(&self) -> io::Result<Option<Unpinned>> {
        let file = backup::open(&self.pin)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Unpinned(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn large_path(&self, blob: u64) -> (PathBuf, PathBuf) {
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

    /// No longer keeps a file open: after it was unlinked, so that who opens it meanwhile sees that
    /// it is, and does not keep it either.
    pub(super) fn forget(&self, key: (u64, u64)) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Where a segment is, or (segment 0) the file of a blob.
    pub(super) fn path(&self, (segment, blob): (u64, u64)) -> PathBuf {
        match segment {
            0 => self.large_path(blob).1,
            number => segments::path(&self.segments, number),
        }
    }

    /// A handle for reading: of a segment, or (segment 0) of the file of a blob.
    fn handle(&self, segment: u64, blob: u64) -> io::Result<Arc<File>> {
        let key = if segment == 0 { (0, blob) } else { (segment, 0) };
        if let Some(file) = self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.path(key))?);
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

    /// Reads octets `range` of a piece.
    pub(super) fn read(&self, part: &Part, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let file = match self.handle(part.place.segment, part.number) {
            // Unlinked since its row was read: it is elsewhere now, or nobody refers to it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuchMessage);
            }
            file => file?,
        };
        part.read(&file, &self.keys, range)
    }

    /// Makes octets ready for the writer, in the thread that they came in.
    pub(super) fn prepare(
        &self,
        octets: Octets,
        known: (&Recent, &Readers),
    ) -> Result<Prepared, StoreError> {
        let whole = match octets {
            Octets::Stored(blob) => return Ok(Prepared::Stored(blob)),
            Octets::Inline(octets) => Whole::Shared(octets),
            Octets::Owned(octets) => Whole::Owned(Arc::new(octets)),
            Octets::Spooled(spooled) => match spooled.into_any().downcast::<EmbeddedSpooled>() {
                Ok(spooled) => Whole::Owned(Arc::new(spooled.into_octets()?)),
                Err(_) => return Err(StoreError::Medium("spooled by another store".into())),
            },
        };
        let threads = match whole.len() {
            ..PARALLEL_OCTETS_MIN => 1,
            _ => std::thread::available_parallelism()
                .map_or(1, |cores| cores.get().min(PARALLEL_MAX)),
        };
        if threads == 1 {
            let ranges = pieces::cut(&whole);
            return Ok(Prepared::New(self.prepare_share(&whole, &ranges, known)?));
        }
        self.prepare_large(&whole, threads, known).map(Prepared::New)
    }

    /// Makes the pieces of much ready: this thread finds out where they are, others take them from it as
    /// they come, and then it helps.
    fn prepare_large(
        &self,
        whole: &Whole,
        threads: usize,
        known: (&Recent, &Readers),
    ) -> Result<Vec<Piece>, StoreError> {
        let (sender, receiver) = std::sync::mpsc::channel::<(usize, Vec<Range<usize>>)>();
        let receiver = Mutex::new(receiver);
        let next = || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        let work = || {
            let mut done = Vec::new();
            while let Some((number, ranges)) = next() {
                done.push((number, self.prepare_share(whole, &ranges, known)?));
            }
            Ok::<_, StoreError>(done)
        };
        let ended = || StoreError::Medium("a thread that makes pieces ready ended".into());
        let mut shares = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let (mut number, mut share) = (0, Vec::with_capacity(SHARE_PIECES));
            pieces::cut_each(whole, |piece| {
                share.push(piece);
                if share.len() == SHARE_PIECES {
                    let full = std::mem::replace(&mut share, Vec::with_capacity(SHARE_PIECES));
                    // Who receives lives as long as this function.
                    let _ = sender.send((number, full));
                    number += 1;
                }
            });
            let _ = sender.send((number, share));
            drop(sender);
            let mut shares = work()?;
            for other in others {
                shares.append(&mut other.join().map_err(|_| ended())??);
            }
            Ok::<_, StoreError>(shares)
        })?;
        shares.sort_unstable_by_key(|(number, _)| *number);
        Ok(shares.into_iter().flat_map(|(_, pieces)| pieces).collect())
    }

    /// Makes some pieces ready.
    fn prepare_share(
        &self,
        whole: &Whole,
        ranges: &[Range<usize>],
        (recent, readers): (&Recent, &Readers),
    ) -> Result<Vec<Piece>, StoreError> {
        let mut pieces: Vec<Piece> = ranges
            .iter()
            .map(|range| {
                let hash = self.keys.hash(&whole[range.clone()]);
                Piece { hash, whole: whole.clone(), range: range.clone(), packed: None }
            })
            .collect();
        // What is there now will be there most often when the writer looks: it is not shrunk twice.
        // Of a small message the index is not asked: to shrink what it has costs less than most questions.
        let known = if Recent::keeps(whole.len()) {
            recent.knows(pieces.iter().map(|piece| &piece.hash))
        } else {
            let is_there = |db: &_, piece: &Piece| Ok(by_hash(db, &piece.hash)?.is_some());
            readers.read(|db| pieces.iter().map(|piece| is_there(db, piece)).collect())?
        };
        for (piece, known) in pieces.iter_mut().zip(known) {
            if !known {
                piece.packed = Some(piece.pack(&self.keys)?);
            }
        }
        Ok(pieces)
    }
}

/// The number of the piece with this hash, if there is one.
pub(super) fn by_hash(db: &Connection, hash: &Hash) -> Result<Option<u64>, StoreError> {
    let mut find = db.prepare_cached("SELECT id FROM pieces WHERE hash = ?")?;
    let id = find.query_row([&hash[..]], |row| row.get(0).map(i64::cast_unsigned));
    Ok(id.optional()?)
}

/// How many octets are stored under a number.
pub(super) fn octets(db: &Connection, blob: BlobId) -> Result<u64, StoreError> {
    let mut find = db.prepare_cached("SELECT octets FROM blobs WHERE id = ?")?;
    let octets = find.query_row([blob.0.cast_signed()], |row| row.get(0).map(i64::cast_unsigned));
    octets.optional()?.ok_or(StoreError::NoSuchMessage)
}

/// A stored piece: where it is, and what was done to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) place: Place,
    /// Its length, and its length on disk.
    pub(super) octets: u64,
    pub(super) stored: u64,
    pub(super) codec: Form,
}

/// The columns that make a [`Part`].
pub(super) const PART: &str = "id, segment, start, octets, stored, codec";

impl Part {
    pub(super) fn of(row: &Row<'_>) -> Result<Self, StoreError> {
        let number = |at| row.get(at).map(i64::cast_unsigned);
        let unknown = || StoreError::Medium("a piece was shrunk in a way that is not known".into());
        Ok(Self {
            number: number(0)?,
            place: Place { segment: number(1)?, start: number(2)? },
            octets: number(3)?,
            stored: number(4)?,
            codec: Form::of_number(row.get(5)?).ok_or_else(unknown)?,
        })
    }

    /// By its number.
    pub(super) fn find(db: &Connection, number: u64) -> Result<Self, StoreError> {
        let find = format!("SELECT {PART} FROM pieces WHERE id = ?");
        let mut find = db.prepare_cached(&find)?;
        let mut rows = find.query([number.cast_signed()])?;
        rows.next()?.map_or(Err(StoreError::NoSuchMessage), Self::of)
    }

    /// What its record's header says.
    pub(super) fn header(&self) -> (u64, u64) {
        // A file of its own says by its name which it is.
        (if self.place.segment == 0 { 0 } else { self.number }, self.stored)
    }

    pub(super) fn read(
        &self,
        file: &File,
        keys: &Keys,
        range: Range<u64>,
    ) -> Result<Vec<u8>, StoreError> {
        let Form { codec, sealed } = self.codec;
        if codec == Codec::Plain && !sealed {
            return record::read(file, self.place.start, self.header(), range);
        }
        let mut stored = record::read(file, self.place.start, self.header(), 0..self.stored)?;
        if sealed {
            stored = keys.open_piece(&stored)?;
        }
        let mut octets = codec::expand(codec, stored, self.octets)?;
        octets.truncate(range.end as usize);
        octets.drain(..range.start as usize);
        Ok(octets)
    }
}

/// The pieces that hold octets `start..end` of a blob, each with the range of it that does.
pub(super) fn locate(
    db: &Connection,
    blob: BlobId,
    start: u64,
    end: u64,
) -> Result<Vec<(Part, Range<u64>)>, StoreError> {
    let mut find = db.prepare_cached("SELECT octets, pieces FROM blobs WHERE id = ?")?;
    let mut rows = find.query([blob.0.cast_signed()])?;
    let Some(row) = rows.next()? else { return Err(StoreError::NoSuchMessage) };
    let range = clip(start, end, row.get(0).map(i64::cast_unsigned)?);
    let list = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
    let (mut at, mut parts) = (0, Vec::new());
    for (number, octets) in list::read(list)? {
        let (from, until) = (range.start.max(at), range.end.min(at + octets));
        if from < until {
            parts.push((Part::find(db, number)?, from - at..until - at));
        }
        at += octets;
        if at >= range.end {
            break;
        }
    }
    Ok(parts)
}
