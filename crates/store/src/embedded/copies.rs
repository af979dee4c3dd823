//! What the archive has of the segments: copies that grow as they do.
//!
//! Of a copy that is there when the store is opened only that is believed which the last head says:
//! beyond that a crash may have left anything, so it is held against the segment. What is believed was
//! flushed. What could not be flushed is written again: a second flush that succeeds proves nothing.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Step};
use super::segments::{self, flush_dir};
use super::stream;
use crate::StoreError;

/// Octets copied at most before something else has its turn.
const PIECE_OCTETS: u64 = 8 * 1024 * 1024;
/// Octets compared, and copied, at a time.
const BUFFER_OCTETS: usize = 1024 * 1024;

/// How much of a segment is copied, and of that flushed.
#[derive(Clone, Copy)]
struct Copied {
    octets: u64,
    flushed: u64,
    /// So much was flushed before this program looked at it.
    vouched: u64,
}

/// The copies in one history.
pub(super) struct Copies {
    source: PathBuf,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// What the last head says: the last segment, and where it ended.
    believed: (u64, u64),
    known: BTreeMap<u64, Copied>,
}

impl Copies {
    /// The copies of the segments of `store` that are in `history`.
    pub(super) fn open(
        store: &Path,
        history: &Path,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let folder = history.join("segments");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let believed = stream::last_head(history)?.map_or((0, 0), |head| head.octets);
        let source = store.join("segments");
        Ok(Self { source, folder, disk, believed, known: BTreeMap::new() })
    }

    /// Brings the copy of a segment nearer to this length. Whether it has it, for certain.
    pub(super) fn bring(&mut self, number: u64, end: u64) -> Result<bool, StoreError> {
        let mut copied = match self.known.get(&number) {
            Some(copied) => *copied,
            None => self.look(number, end)?,
        };
        if copied.flushed >= end {
            return Ok(true);
        }
        let copy = File::options().write(true).open(segments::path(&self.folder, number))?;
        let until = end.min(copied.octets + PIECE_OCTETS);
        if copied.octets < until {
            let source = File::open(segments::path(&self.source, number))?;
            let mut buffer = vec![0; BUFFER_OCTETS];
            while copied.octets < until {
                let octets = piece(&mut buffer, until - copied.octets);
                source.read_exact_at(octets, copied.octets)?;
                copy.write_all_at(octets, copied.octets)?;
                copied.octets += octets.len() as u64;
            }
        }
        if copied.octets >= end {
            self.flush(number, &copy, &mut copied)?;
        }
        self.known.insert(number, copied);
        Ok(copied.flushed >= end)
    }

    fn flush(&mut self, number: u64, copy: &File, copied: &mut Copied) -> Result<(), StoreError> {
        let flushed = self.disk.step(Step::ArchiveFlush).and_then(|()| copy.sync_data());
        if let Err(error) = flushed {
            // Nobody knows what of this is on disk, but for what a generation may say that it has.
            self.known.remove(&number);
            copy.set_len(copied.flushed.max(copied.vouched))?;
            return Err(error.into());
        }
        let length = copy.metadata()?.len();
        if length != copied.octets {
            return Err(unlike(number, length, copied.octets));
        }
        copied.flushed = copied.octets;
        Ok(())
    }

    /// Looks at a copy for the first time, and makes one where there is none. What of it is not what the
    /// segment has is let go of.
    fn look(&self, number: u64, end: u64) -> Result<Copied, StoreError> {
        let path = segments::path(&self.folder, number);
        let options = || File::options().read(true).write(true).to_owned();
        let copy = match options().open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                options().create_new(true).open(&path)?;
                flush_dir(&self.folder)?;
                return Ok(Copied { octets: 0, flushed: 0, vouched: 0 });
            }
            copy => copy?,
        };
        let length = copy.metadata()?.len();
        let believed = match number.cmp(&self.believed.0) {
            std::cmp::Ordering::Less => length,
            std::cmp::Ordering::Equal => length.min(self.believed.1),
            std::cmp::Ordering::Greater => 0,
        };
        if believed > end {
            return Err(unlike(number, believed, end));
        }
        let octets = if believed < length {
            let source = File::open(segments::path(&self.source, number))?;
            let same = same(&source, &copy, believed, length.min(end))?;
            copy.set_len(same)?;
            same
        } else {
            length
        };
        // It may have been written by a program that stopped before it was flushed.
        // A head of an older program vouches for something, and does not say how much.
        let vouched = if self.believed == (0, 0) { octets } else { believed };
        Ok(Copied { octets, flushed: 0, vouched })
    }
}

/// The first octets of a buffer, no more than are left.
fn piece(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let octets = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    &mut buffer[..octets]
}

/// Up to where two files are the same, between these places.
fn same(one: &File, other: &File, from: u64, until: u64) -> Result<u64, StoreError> {
    let (mut left, mut right) = (vec![0; BUFFER_OCTETS], vec![0; BUFFER_OCTETS]);
    let mut at = from;
    while at < until {
        let (left, right) = (piece(&mut left, until - at), piece(&mut right, until - at));
        one.read_exact_at(left, at)?;
        other.read_exact_at(right, at)?;
        if left != right {
            let same = left.iter().zip(&*right).take_while(|(one, other)| one == other);
            return Ok(at + same.count() as u64);
        }
        at += left.len() as u64;
    }
    Ok(at)
}

fn unlike(number: u64, length: u64, end: u64) -> StoreError {
    StoreError::Medium(format!(
        "the archive has {length} octets of segment {number:08x}, and should have {end}"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::disk::Real;
    use super::*;

    const SEGMENT: [u8; 9] = *b"a segment";

    /// A store with one segment, number 2, and what an archive has of it; the last head says this. What
    /// is there after it was brought, or tried to be.
    fn brought(
        copy: Option<&[u8]>,
        head: &str,
        disk: Arc<dyn Disk>,
    ) -> (Result<bool, String>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let [store, history] = ["store", "history"].map(|name| dir.path().join(name));
        for folder in [&store, &history] {
            fs::create_dir_all(folder.join("segments")).unwrap();
        }
        fs::write(segments::path(&store.join("segments"), 2), SEGMENT).unwrap();
        let path = segments::path(&history.join("segments"), 2);
        if let Some(copy) = copy {
            fs::write(&path, copy).unwrap();
        }
        fs::create_dir(history.join("00000001")).unwrap();
        fs::write(history.join("00000001/head"), head).unwrap();
        let mut copies = Copies::open(&store, &history, disk).unwrap();
        let done = copies.bring(2, SEGMENT.len() as u64).map_err(|error| error.to_string());
        (done, fs::read(path).unwrap())
    }

    #[test]
    fn a_copy_becomes_what_the_segment_is() {
        for (copy, head) in [
            (None, "1 1 0 2 4\n"),
            (Some(&b"a se"[..]), "1 1 0 2 4\n"),
            // What no head vouches for is compared, as of an older program's.
            (Some(b"a se????"), "1 1 0 2 4\n"),
            (Some(b"a se????????????"), "1 1 0 2 4\n"),
            (Some(b"????"), "1 1 0 1 9999\n"),
            (Some(b"a ????"), "1 1 0\n"),
            (Some(b"a segment"), "1 1 0\n"),
        ] {
            let expected = (Ok(true), SEGMENT.to_vec());
            assert_eq!(brought(copy, head, Arc::new(Real)), expected, "{copy:?} {head}");
        }
    }

    /// More than the segment has was vouched for: that is another store's.
    #[test]
    fn a_copy_of_something_else_is_refused() {
        let refused = "the medium failed: the archive has 10 octets of segment 00000002, and should \
                       have 9";
        for head in ["1 1 0 2 10\n", "1 1 0 3 5\n"] {
            let (done, left) = brought(Some(b"a segment."), head, Arc::new(Real));
            assert_eq!((done, &left[..]), (Err(refused.to_owned()), &b"a segment."[..]), "{head}");
        }
    }

    struct FlushesNothing;

    impl Disk for FlushesNothing {
        fn step(&self, _: Step) -> std::io::Result<()> {
            Err(std::io::Error::other("given it cannot be flushed"))
        }
    }

    /// What could not be flushed goes; what a generation has stays.
    #[test]
    fn a_copy_that_cannot_be_flushed_is_what_it_was() {
        for (copy, head, left) in [
            (None, "1 1 0 2 4\n", &b""[..]),
            (Some(&b"a segm"[..]), "1 1 0 2 4\n", b"a se"),
            (Some(b"a segment"), "1 1 0 3 4\n", b"a segment"),
            (Some(b"a segm"), "1 1 0\n", b"a segm"),
        ] {
            let (done, found) = brought(copy, head, Arc::new(FlushesNothing));
            let why = "the medium failed: given it cannot be flushed".to_owned();
            assert_eq!((done, &found[..]), (Err(why), left), "{copy:?} {head}");
        }
    }
}
