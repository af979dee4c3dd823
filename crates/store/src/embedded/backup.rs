//! A copy of a store that belongs together, made beside a server that runs.
//!
//! While it is made, the file `pin` is locked: the writer unlinks nothing meanwhile, in whichever
//! process it is. First the index is copied in one snapshot; what that names was durable before it,
//! and is not written to again: a segment only grows, a file of its own never changes. So the octets
//! are copied after, each segment up to where the copied index says that it ends. The folder gets
//! its name when all is flushed: one that is called `.incomplete` is none.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::archive;
use super::keys::Keys;
use super::octets::Files;
use super::opening::known_segments;
use super::schema;
use super::segments::{self, flush_dir};
use crate::StoreError;

/// Octets copied between two words about progress.
const PIECE_OCTETS: u64 = 8 * 1024 * 1024;

/// A lock that lasts as long as this: nothing is unlinked meanwhile.
pub(super) struct Pin {
    _file: File,
}

impl Pin {
    pub(super) fn hold(dir: &Path) -> io::Result<Self> {
        let file = open(&dir.join("pin"))?;
        file.lock_shared()?;
        Ok(Self { _file: file })
    }
}

/// The file that is locked while nothing may be unlinked.
pub(super) fn open(pin: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(pin)
}

/// Copies the store in `dir` to the folder `to`, which must not be there. `tell` hears how many
/// octets of how many are copied. To restore is to copy it back.
///
/// # Errors
///
/// [`StoreError::Medium`], [`StoreError::NoSpace`]: then there is no folder `to`, and one that is
/// called so and `.incomplete` may be removed.
pub fn backup(dir: &Path, to: &Path, tell: &mut dyn FnMut(u64, u64)) -> Result<u64, StoreError> {
    let part = begin(to)?;
    let pin = Pin::hold(dir)?;
    let copied = copy(dir, &part, tell)?;
    drop(pin);
    finish(&part, to)?;
    Ok(copied)
}

/// Makes the folder in which the folder `to` is begun.
pub(super) fn begin(to: &Path) -> Result<PathBuf, StoreError> {
    let exists = |path: &Path| {
        StoreError::Medium(format!("{} is there already: name another folder", path.display()))
    };
    if to.symlink_metadata().is_ok() {
        return Err(exists(to));
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".incomplete");
    let part = to.with_file_name(name);
    match DirBuilder::new().mode(0o700).create(&part) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&part)),
        made => Ok(made.map(|()| part)?),
    }
}

/// Gives it its name, when all in it is flushed.
pub(super) fn finish(part: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(part, to)?;
    Ok(flush_dir(&parent(to))?)
}

/// Copies to `to` those of the octets with a file of their own that are not there yet.
pub(super) fn copy_large(dir: &Path, to: &Path, large: &[(u64, u64)]) -> Result<(), StoreError> {
    let (from, target) = (Files::view(dir, Keys::default()), Files::view(to, Keys::default()));
    let mut progress = Progress { done: 0, total: 0, tell: &mut |_, _| {} };
    for &(blob, _) in large {
        let ((_, source), (folder, copy)) = (from.large_path(blob), target.large_path(blob));
        if !copy.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let part = copy.with_extension("part");
            segments::remove(&part)?;
            copy_file(&source, &part, None, &mut progress)?;
            fs::rename(&part, &copy)?;
            flush_dir(&folder)?;
        }
    }
    Ok(())
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn copy(dir: &Path, part: &Path, tell: &mut dyn FnMut(u64, u64)) -> Result<u64, StoreError> {
    let index = part.join("index.db");
    let Some(text) = index.to_str() else {
        return Err(StoreError::Medium("the folder's name must be UTF-8".into()));
    };
    schema::viewer(&dir.join("index.db"))?.execute("VACUUM INTO ?", [text])?;
    // What is made of a copy is a history of its own.
    archive::forget(&rusqlite::Connection::open(&index)?)?;
    File::open(&index)?.sync_all()?;
    // What is encrypted is copied as it is.
    let (from, target) = (Files::view(dir, Keys::default()), Files::view(part, Keys::default()));
    for folder in [&target.segments, &target.large] {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    let db = schema::viewer(&index)?;
    let known = known_segments(&db)?;
    let large = large(&db)?;
    let octets = known.iter().map(|(_, end)| end).sum::<u64>();
    let mut progress =
        Progress { done: 0, total: octets + large.iter().map(|(_, n)| n).sum::<u64>(), tell };
    for (number, end) in known {
        let (source, copy) =
            (segments::path(&from.segments, number), segments::path(&target.segments, number));
        copy_file(&source, &copy, Some(end), &mut progress)?;
    }
    for (blob, _) in large {
        let ((_, source), (folder, copy)) = (from.large_path(blob), target.large_path(blob));
        if !folder.is_dir() {
            DirBuilder::new().mode(0o700).create(&folder)?;
        }
        copy_file(&source, &copy, None, &mut progress)?;
        flush_dir(&folder)?;
    }
    for folder in [&target.segments, &target.large, part] {
        flush_dir(folder)?;
    }
    Ok(progress.done)
}

/// Octets with a file of their own.
pub(super) fn large(db: &rusqlite::Connection) -> Result<Vec<(u64, u64)>, StoreError> {
    let mut get = db.prepare("SELECT id, stored FROM pieces WHERE segment = 0 ORDER BY id")?;
    let rows = get.query_map([], |row| {
        Ok((row.get(0).map(i64::cast_unsigned)?, row.get(1).map(i64::cast_unsigned)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) struct Progress<'a> {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) tell: &'a mut dyn FnMut(u64, u64),
}

/// Copies the first octets of a file, or all, and makes the copy certain.
pub(super) fn copy_file(
    from: &Path,
    to: &Path,
    octets: Option<u64>,
    progress: &mut Progress<'_>,
) -> Result<(), StoreError> {
    let source = File::open(from)?;
    let mut left = match octets {
        Some(octets) => octets,
        None => source.metadata()?.len(),
    };
    let mut target = File::options().write(true).create_new(true).open(to)?;
    while left > 0 {
        let copied = io::copy(&mut (&source).take(left.min(PIECE_OCTETS)), &mut target)?;
        if copied == 0 {
            return Err(StoreError::Medium(format!("{} is cut short", from.display())));
        }
        left -= copied;
        progress.done += copied;
        (progress.tell)(progress.done.min(progress.total), progress.total);
    }
    Ok(target.sync_all()?)
}
