//! Spools: messages on their way in, in memory or in a file.
//!
//! Up to [`MEMORY_OCTETS_MAX`](crate::inflow::MEMORY_OCTETS_MAX) a spool keeps its octets in memory, then it goes on in a file in `spool/`, and
//! keeps nothing: what a connection takes of the memory does not depend on what it sends.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::Step;
use super::keys::{PASSING_MORE_OCTETS, PassingKey};
use super::octets::Files;
use super::segments;
use crate::inflow::Inflow;
use crate::rules::clip;
use crate::{Spool, Spooled, StoreError};

/// Room behind a message that is read back whole: what the trace and an identifier of ours add to its header
/// fits in, and no second place of its size is needed.
const HEADER_GROWS_OCTETS: usize = 16 * 1024;
/// A thread that reads has at least this to do.
const SHARE_OCTETS_MIN: usize = 4 * 1024 * 1024;
/// Octets that are encrypted at once on their way to the file.
const SEALED_OCTETS_MAX: usize = 256 * 1024;

/// A file in `spool/`: gone when dropped.
pub(super) struct SpoolFile {
    path: PathBuf,
    file: File,
    octets: u64,
    /// Where a store is encrypted, what is written to the file is too.
    sealed: Option<(PassingKey, Vec<SealedWrite>)>,
}

/// Where encrypted octets lie in their file, and which they are.
type SealedWrite = (u64, Range<u64>);

impl SpoolFile {
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        let Some((key, writes)) = &mut self.sealed else {
            self.file.write_all_at(octets, self.octets)?;
            self.octets += octets.len() as u64;
            return Ok(());
        };
        for part in octets.chunks(SEALED_OCTETS_MAX) {
            let place = self.octets + (writes.len() * PASSING_MORE_OCTETS) as u64;
            self.file.write_all_at(&key.seal(part)?, place)?;
            let end = self.octets + part.len() as u64;
            writes.push((place, self.octets..end));
            self.octets = end;
        }
        Ok(())
    }

    /// All of it, with room before which nothing has to be moved when a header grows. Of much, several
    /// cores bring a part each: most of the time goes into giving out memory.
    fn read_all(&self) -> Result<Vec<u8>, StoreError> {
        let octets = usize::try_from(self.octets).map_err(|_| {
            StoreError::Medium("a spooled message is larger than the memory".into())
        })?;
        if self.sealed.is_some() {
            return self.read(0..self.octets);
        }
        let mut read = vec![0; octets + HEADER_GROWS_OCTETS];
        read.truncate(octets);
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        let share = octets.div_ceil(threads).max(SHARE_OCTETS_MIN);
        let mut shares = read.chunks_mut(share).zip((0u64..).step_by(share));
        let first = shares.next();
        std::thread::scope(|scope| {
            let bring = |(octets, at): (&mut [u8], u64)| self.file.read_exact_at(octets, at);
            let others: Vec<_> = shares.map(|share| scope.spawn(move || bring(share))).collect();
            first.map_or(Ok(()), bring)?;
            for other in others {
                let ended = |_| StoreError::Medium("a thread that reads a spool ended".into());
                other.join().map_err(ended)??;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(read)
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let Some((key, writes)) = &self.sealed else {
            let mut read = vec![0; (range.end - range.start) as usize];
            self.file.read_exact_at(&mut read, range.start)?;
            return Ok(read);
        };
        let mut all = Vec::with_capacity((range.end - range.start) as usize);
        let first = writes.partition_point(|(_, of)| of.end <= range.start);
        for (place, of) in writes[first..].iter().take_while(|(_, of)| of.start < range.end) {
            let mut sealed = vec![0; (of.end - of.start) as usize + PASSING_MORE_OCTETS];
            self.file.read_exact_at(&mut sealed, *place)?;
            let octets = key.open(&sealed)?;
            let (from, until) = (range.start.max(of.start), range.end.min(of.end));
            all.extend_from_slice(&octets[(from - of.start) as usize..(until - of.start) as usize]);
        }
        Ok(all)
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if let Err(error) = segments::remove(&self.path) {
            tracing::warn!(%error, "a spooled file stays until the next start");
        }
    }
}

/// What all spools have in common.
#[derive(Default)]
pub(super) struct Spools {
    next_file: AtomicU64,
}

/// A message on its way in.
pub(super) struct EmbeddedSpool {
    files: Arc<Files>,
    /// Empty once there is a file.
    memory: Inflow,
    file: Option<SpoolFile>,
}

impl EmbeddedSpool {
    /// A new one.
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files, memory: Inflow::default(), file: None }
    }

    /// A file, with what was in memory.
    fn spill(&mut self) -> Result<SpoolFile, StoreError> {
        let files = &self.files;
        files.disk.step(Step::Write)?;
        let number = files.spools.next_file.fetch_add(1, Ordering::Relaxed);
        let path = files.spool.join(format!("{number:016x}"));
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let file = options.open(&path)?;
        let mut file = SpoolFile { path, file, octets: 0, sealed: None };
        if files.keys.encrypt() {
            file.sealed = Some((PassingKey::new()?, Vec::new()));
        }
        for piece in self.memory.take() {
            file.write(&piece)?;
        }
        Ok(file)
    }
}

impl Spool for EmbeddedSpool {
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        if let Some(file) = &mut self.file {
            self.files.disk.step(Step::Write)?;
            return file.write(octets);
        }
        if self.memory.keep(octets) {
            return Ok(());
        }
        let mut file = self.spill()?;
        file.write(octets)?;
        self.file = Some(file);
        Ok(())
    }

    fn keep_nothing(&mut self) {
        self.memory.shut();
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Spooled>, StoreError> {
        let Self { memory, file, .. } = *self;
        Ok(Box::new(match file {
            Some(file) => EmbeddedSpooled::File(file),
            None => EmbeddedSpooled::Memory(memory.into_octets()),
        }))
    }
}

/// A whole message on its way in.
pub(super) enum EmbeddedSpooled {
    Memory(Vec<u8>),
    File(SpoolFile),
}

impl EmbeddedSpooled {
    /// All octets, without a copy when they are in memory.
    fn into_octets(self) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Memory(octets) => Ok(octets),
            Self::File(file) => file.read_all(),
        }
    }
}

impl Spooled for EmbeddedSpooled {
    fn octets(&self) -> u64 {
        match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::File(file) => file.octets,
        }
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        let range = clip(start, end, self.octets());
        match self {
            Self::Memory(octets) => Ok(octets[range.start as usize..range.end as usize].to_vec()),
            Self::File(file) => file.read(range),
        }
    }

    fn into_octets(self: Box<Self>) -> Result<Vec<u8>, StoreError> {
        (*self).into_octets()
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::disk::Real;
    use super::super::keys::{self, Keys};
    use super::super::sealed::under;
    use super::*;
    use crate::inflow::MEMORY_OCTETS_MAX;

    fn files(dir: &Path) -> Arc<Files> {
        Arc::new(Files::open(dir, Arc::new(Real), Keys::default()).unwrap())
    }

    fn spool_files(dir: &Path) -> usize {
        fs::read_dir(dir.join("spool")).unwrap().count()
    }

    #[test]
    fn a_spool_one_octet_past_its_memory_goes_on_in_a_file_that_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let whole: Vec<u8> = (0..=255).cycle().take(3 * MEMORY_OCTETS_MAX + 5).collect();
        for (octets, in_file) in
            [(MEMORY_OCTETS_MAX, 0), (MEMORY_OCTETS_MAX + 1, 1), (whole.len(), 1)]
        {
            let mut spool = Box::new(EmbeddedSpool::new(Arc::clone(&files)));
            for piece in whole[..octets].chunks(20_003) {
                spool.write(piece).unwrap();
                let held = spool.memory.held();
                assert!(held <= MEMORY_OCTETS_MAX, "{held}");
                assert!(spool.file.is_none() || held == 0, "{held} beside a file");
            }
            assert_eq!(spool_files(dir.path()), in_file, "{octets}");
            let spooled = spool.finish().unwrap();
            assert!(spooled.into_octets().unwrap() == whole[..octets]);
            assert_eq!(spool_files(dir.path()), 0);
        }
        // Who has no memory for it has a file from the first octet on, and what came before goes there.
        for before in [0, 7] {
            let mut spool = Box::new(EmbeddedSpool::new(Arc::clone(&files)));
            spool.write(&whole[..before]).unwrap();
            spool.keep_nothing();
            spool.write(&whole[before..=before]).unwrap();
            assert_eq!((spool_files(dir.path()), spool.memory.held()), (1, 0));
            let spooled: Box<dyn Spooled> = spool.finish().unwrap();
            assert!(spooled.into_octets().unwrap() == whole[..=before]);
        }
        let mut dropped = Box::new(EmbeddedSpool::new(files));
        dropped.write(&whole).unwrap();
        assert_eq!(spool_files(dir.path()), 1);
        drop(dropped);
        assert_eq!(spool_files(dir.path()), 0);
    }

    #[test]
    fn the_file_of_a_spool_is_encrypted_where_the_store_is() {
        let dir = tempfile::tempdir().unwrap();
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE segments (id INTEGER); CREATE TABLE digests (blob INTEGER)")
            .unwrap();
        db.execute_batch("CREATE TABLE blobs (id INTEGER)").unwrap();
        db.execute_batch(keys::TABLES).unwrap();
        let mark = b"q8ZrT5mKx2WnV7cJ";
        let whole = mark.repeat(150_000);
        for encrypted in [false, true] {
            let masters = if encrypted { under(1, &[]) } else { keys::MasterKeys::default() };
            let keys = Keys::open(&db, &masters, &Real).unwrap();
            let files = Arc::new(Files::open(dir.path(), Arc::new(Real), keys).unwrap());
            let mut spool = Box::new(EmbeddedSpool::new(Arc::clone(&files)));
            spool.write(&whole[..600_000]).unwrap();
            for part in whole[600_000..].chunks(70_001) {
                spool.write(part).unwrap();
            }
            let path = dir.path().join("spool").join("0000000000000000");
            let written = fs::read(path).unwrap();
            assert!(written.len() >= 600_000, "{}", written.len());
            let holds = written.windows(mark.len()).any(|window| window == mark);
            assert_eq!(holds, !encrypted);
            let spooled = spool.finish().unwrap();
            let edge = MEMORY_OCTETS_MAX as u64;
            for (start, end) in
                [(0, u64::MAX), (edge - 1, edge + 2), (edge, edge + 1), (599_999, 800_000)]
            {
                let expected = &whole[start as usize..(end as usize).min(whole.len())];
                assert!(spooled.read(start, end).unwrap() == expected, "{start}");
            }
        }
    }
}
