//! Putting a store back, from its archive (`archive.rs`), to what it was at some time.
//!
//! Of all generations the one that began last before that time is taken: its index, and onto that
//! the pages of each commit up to the time, in their order and without a gap. Then the octets of every
//! segment that this index knows, up to where it says that they end. The archive is only read. Each
//! part of the index is held against its hash; octets have their own checksums, which `check` looks at.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::Connection;

use super::backup::{self, Progress};
use super::keys::Keys;
use super::octets::Files;
use super::opening::known_segments;
use super::segments::{self, flush_dir};
use super::stream::{self, Base, Commit, Head, Reader, torn};
use super::{archive, wal};
use crate::StoreError;

/// What a store was put back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The last commit that is in it, as its history counts them.
    pub commit: u64,
    /// When that was, or when the archive was begun anew after it.
    pub time: Timestamp,
    /// Commits that came after it, maybe before the time that was asked for, and that the archive does
    /// not have: a crash or a gap came between.
    pub missing: u64,
    /// Octets of messages.
    pub octets: u64,
}

/// A generation, and where its history is.
struct Generation {
    history: PathBuf,
    folder: PathBuf,
    base: Base,
    head: Head,
}

/// Puts the store that is archived in `archive` back to the last commit at or before `at`, into the
/// folder `to`, which must not be there. `tell` hears how many octets of how many are copied.
///
/// # Errors
///
/// [`StoreError::Medium`]: the archive begins later, or is torn: then it is said where, and there is no
/// folder `to`. [`StoreError::NoSpace`].
pub fn restore(
    archive: &Path,
    at: Timestamp,
    to: &Path,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Restored, StoreError> {
    let all = generations(archive)?;
    let micros = at.as_microsecond();
    let Some(chosen) = all.iter().rposition(|one| one.base.micros <= micros) else {
        return Err(StoreError::Medium(match all.first() {
            Some(first) => format!("the archive begins later: {}", time(first.base.micros)?),
            None => format!("there is no archive in {}", archive.display()),
        }));
    };
    let generation = &all[chosen];
    let part = backup::begin(to)?;
    let mut restored = pages(generation, micros, &part)?;
    let whole = restored.commit == generation.head.commit;
    if let Some(next) =
        all.get(chosen + 1).filter(|next| whole && next.history == generation.history)
    {
        let after = restored.commit + u64::from(next.base.exact);
        restored.missing = next.base.commit.saturating_sub(after);
    }
    restored.octets = octets(generation, &part, tell)?;
    backup::finish(&part, to)?;
    Ok(restored)
}

/// All generations that were begun, by the time at which they were.
fn generations(archive: &Path) -> Result<Vec<Generation>, StoreError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(archive)? {
        let history = entry?.path();
        if !history.is_dir() {
            continue;
        }
        for (_, folder) in stream::generations(&history)? {
            let history = history.clone();
            match (stream::read_base(&folder)?, stream::read_head(&folder)?) {
                (Some(base), Some(head)) => all.push(Generation { history, folder, base, head }),
                // The head comes last: without it nothing was ever said to be there.
                (_, None) => {}
                (None, Some(_)) => return Err(torn(&folder, "it has a head and no base")),
            }
        }
    }
    all.sort_by_key(|one| (one.base.micros, one.base.commit));
    Ok(all)
}

fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros)
        .map_err(|_| StoreError::Medium("the archive is torn: a time that cannot be".into()))
}

/// Puts the index together.
fn pages(generation: &Generation, until: i64, part: &Path) -> Result<Restored, StoreError> {
    let Generation { folder, base, head, .. } = generation;
    let source = folder.join("index.db");
    let target = part.join("index.db");
    fs::copy(&source, &target)?;
    let index = File::options().read(true).write(true).open(&target)?;
    if stream::hash_of(&index)? != base.hash {
        return Err(torn(&source, "it does not have its hash"));
    }
    let mut page = [0; 2];
    index.read_exact_at(&mut page, 16)?;
    // 65536 is written as 1 (SQLite's file format, §1.3.2).
    let page = match usize::from(u16::from_be_bytes(page)) {
        1 => 65_536,
        page => page,
    };
    let mut done = Head { commit: base.commit, micros: base.micros, ..*head };
    let mut commits = Reader::open(folder, *head)?;
    'all: while let Some(frame) = commits.next()? {
        for commit in frame {
            if commit.micros > until {
                break 'all;
            }
            if commit.number != done.commit + 1 {
                return Err(torn(folder, "a commit is missing"));
            }
            apply(&index, &commit, page).ok_or_else(|| torn(folder, "a commit has no pages"))??;
            (done.commit, done.micros) = (commit.number, commit.micros);
        }
    }
    if head.micros <= until && done.commit != head.commit {
        return Err(torn(folder, "the last commits are missing"));
    }
    index.sync_all()?;
    drop(index);
    let db = Connection::open(&target)?;
    // What is put back is a history of its own: it goes on differently.
    archive::forget(&db)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(Restored { commit: done.commit, time: time(done.micros)?, missing: 0, octets: 0 })
}

/// Writes the pages of a commit; nothing when these are no pages.
fn apply(index: &File, commit: &Commit, page: usize) -> Option<Result<(), StoreError>> {
    let frames = commit.frames.chunks_exact(wal::FRAME_OCTETS + page);
    if !frames.remainder().is_empty() {
        return None;
    }
    let mut pages = 0;
    for frame in frames {
        let (header, octets) = frame.split_at(wal::FRAME_OCTETS);
        let number = |at: usize| header[at..at + 4].iter().fold(0, |n, o| n << 8 | u64::from(*o));
        let at = number(0).checked_sub(1)? * page as u64;
        if let Err(error) = index.write_all_at(octets, at) {
            return Some(Err(error.into()));
        }
        pages = number(4);
    }
    // The last frame of a commit says how many pages the database has.
    (pages > 0).then(|| Ok(index.set_len(pages * page as u64)?))
}

/// Copies the octets that the index knows.
fn octets(
    generation: &Generation,
    part: &Path,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<u64, StoreError> {
    let db = Connection::open(part.join("index.db"))?;
    let (known, large) = (known_segments(&db)?, backup::large(&db)?);
    let source = Files::view(&generation.history, Keys::default());
    let target = Files::view(part, Keys::default());
    for folder in [&target.segments, &target.large] {
        fs::create_dir(folder)?;
    }
    let total = known.iter().chain(&large).map(|(_, octets)| octets).sum();
    let mut progress = Progress { done: 0, total, tell };
    for (number, end) in known {
        let from = segments::path(&source.segments, number);
        backup::copy_file(
            &from,
            &segments::path(&target.segments, number),
            Some(end),
            &mut progress,
        )
        .map_err(|error| match error {
            StoreError::Medium(why) => torn(&from, &why),
            other => other,
        })?;
    }
    for (blob, _) in large {
        let ((_, from), (folder, copy)) = (source.large_path(blob), target.large_path(blob));
        fs::create_dir_all(&folder)?;
        backup::copy_file(&from, &copy, None, &mut progress)?;
        flush_dir(&folder)?;
    }
    for folder in [&target.segments, &target.large, part] {
        flush_dir(folder)?;
    }
    Ok(progress.done)
}
