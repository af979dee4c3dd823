//! The files of an archive: written whole or known not to be.
//!
//! `base` and `head` are a line each: a commit, its time in microseconds, and of a head where `commits`
//! ends, the last segment and where that ends (heads of older programs have only the first three);
//! of a base the hash of the index, and whether the time is that of the commit. `commits` is frames, each what was archived in one go:
//!
//! ```text
//! "CRA1"  octets (4)  octets as they lie here (4)  BLAKE3 of what follows (32)   little-endian
//! by zstd: for each commit its number (8), its time in microseconds (8), octets (4), and those: the
//! frames that it wrote to the WAL
//! ```
//!
//! What lies beyond the length in `head` is what a crash left, and is not looked at.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::archive::replace;
use crate::StoreError;

const MAGIC: [u8; 4] = *b"CRA1";
/// Octets of a frame before what was compressed.
const FRAME_OCTETS: usize = 44;
/// Octets of a frame at most, compressed or not: a commit of the largest size, and a batch before it.
const FRAME_OCTETS_MAX: u32 = 1536 * 1024 * 1024;
/// Octets of a commit before its frames.
const COMMIT_OCTETS: usize = 20;
/// Fast, and pages that come again are near each other.
const LEVEL: i32 = 1;
/// Octets of `base` and `head` at most.
const LINE_OCTETS_MAX: u64 = 256;

/// A commit: which it is, when it was, and where `commits` and the octets end after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) commit: u64,
    pub(super) micros: i64,
    pub(super) length: u64,
    /// The last segment, and where it ends: of those before it all is archived.
    pub(super) octets: (u64, u64),
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) number: u64,
    pub(super) micros: i64,
    /// What it wrote to the WAL.
    pub(super) frames: Vec<u8>,
    /// Where the segments end that it wrote to: not archived, the index has it.
    pub(super) ends: Vec<(u64, u64)>,
}

pub(super) fn torn(what: &Path, why: &str) -> StoreError {
    StoreError::Medium(format!("the archive is torn: {}: {why}", what.display()))
}

/// The generations of a history, by number.
pub(super) fn generations(history: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    match fs::read_dir(history) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => {
            for entry in entries? {
                let entry = entry?;
                let name = entry.file_name();
                if let Some(number) = name.to_str().and_then(|name| name.parse().ok()) {
                    found.push((number, entry.path()));
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The last commit that a history has, of whichever generation.
pub(super) fn last_head(history: &Path) -> Result<Option<Head>, StoreError> {
    let mut last: Option<Head> = None;
    for (_, folder) in generations(history)? {
        // One without a head was never begun.
        if let Some(head) = read_head(&folder)? {
            last = last.filter(|last| last.commit > head.commit).or(Some(head));
        }
    }
    Ok(last)
}

/// Writes the head of a generation.
pub(super) fn write_head(folder: &Path, head: Head) -> Result<(), StoreError> {
    let Head { commit, micros, length, octets: (segment, end) } = head;
    let line = format!("{commit} {micros} {length} {segment} {end}\n");
    replace(folder, "head", line.as_bytes())
}

/// The head of a generation; nothing when it was never begun.
pub(super) fn read_head(folder: &Path) -> Result<Option<Head>, StoreError> {
    let Some(line) = read_line(&folder.join("head"))? else { return Ok(None) };
    let damaged = || torn(&folder.join("head"), "it has no numbers");
    let mut words = line.split_whitespace();
    let head = (|| {
        let commit = words.next()?.parse().ok()?;
        let micros = words.next()?.parse().ok()?;
        let length = words.next()?.parse().ok()?;
        let octets = match words.next() {
            None => (0, 0),
            Some(segment) => (segment.parse().ok()?, words.next()?.parse().ok()?),
        };
        Some(Head { commit, micros, length, octets })
    })();
    head.filter(|_| words.next().is_none()).map(Some).ok_or_else(damaged)
}

/// What a generation begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) commit: u64,
    pub(super) micros: i64,
    /// That is when the commit was; else it was some time before.
    pub(super) exact: bool,
    /// What its index is known by.
    pub(super) hash: blake3::Hash,
}

/// Writes what a generation begins with.
pub(super) fn write_base(folder: &Path, base: Base) -> Result<(), StoreError> {
    let Base { commit, micros, exact, hash } = base;
    let exact = if exact { " exact" } else { "" };
    replace(folder, "base", format!("{commit} {micros} {hash}{exact}\n").as_bytes())
}

/// What a generation begins with; nothing when it was never begun.
pub(super) fn read_base(folder: &Path) -> Result<Option<Base>, StoreError> {
    let Some(line) = read_line(&folder.join("base"))? else { return Ok(None) };
    let mut words = line.split_whitespace();
    let base = (|| {
        let commit = words.next()?.parse().ok()?;
        let micros = words.next()?.parse().ok()?;
        let hash = blake3::Hash::from_hex(words.next()?).ok()?;
        Some(Base { commit, micros, exact: words.next() == Some("exact"), hash })
    })();
    base.map(Some).ok_or_else(|| torn(&folder.join("base"), "it has no numbers"))
}

pub(super) fn read_line(file: &Path) -> Result<Option<String>, StoreError> {
    let open = match File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        open => open?,
    };
    let mut line = String::new();
    open.take(LINE_OCTETS_MAX).read_to_string(&mut line)?;
    Ok(Some(line))
}

/// What a file is known by.
pub(super) fn hash_of(file: &File) -> Result<blake3::Hash, StoreError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
}

/// Commits as they are archived in one go.
pub(super) fn frame(batch: &[Commit]) -> Result<Vec<u8>, StoreError> {
    let mut octets = Vec::new();
    let too_many = |_| StoreError::Medium("commits are too large to be archived".into());
    for commit in batch {
        octets.extend_from_slice(&commit.number.to_le_bytes());
        octets.extend_from_slice(&commit.micros.to_le_bytes());
        octets.extend_from_slice(
            &u32::try_from(commit.frames.len()).map_err(too_many)?.to_le_bytes(),
        );
        octets.extend_from_slice(&commit.frames);
    }
    let small = zstd::bulk::compress(&octets, LEVEL)?;
    let mut frame = Vec::with_capacity(FRAME_OCTETS + small.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&u32::try_from(octets.len()).map_err(too_many)?.to_le_bytes());
    frame.extend_from_slice(&u32::try_from(small.len()).map_err(too_many)?.to_le_bytes());
    frame.extend_from_slice(blake3::hash(&small).as_bytes());
    frame.extend_from_slice(&small);
    Ok(frame)
}

/// Reads `commits`, frame by frame, up to its head.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    at: u64,
    end: u64,
}

impl Reader {
    pub(super) fn open(folder: &Path, head: Head) -> Result<Self, StoreError> {
        let path = folder.join("commits");
        let file = File::open(&path)?;
        if file.metadata()?.len() < head.length {
            return Err(torn(&path, "it is cut short"));
        }
        Ok(Self { path, file, at: 0, end: head.length })
    }

    /// The commits of the next frame; nothing after the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Commit>>, StoreError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let mut header = [0; FRAME_OCTETS];
        let bad = |why| torn(&self.path, why);
        if self.end - self.at < FRAME_OCTETS as u64 {
            return Err(bad("a frame is cut short"));
        }
        self.file.read_exact_at(&mut header, self.at)?;
        let [length, stored] =
            [4, 8].map(|at| header[at..at + 4].iter().rev().fold(0, |n, o| n << 8 | u32::from(*o)));
        let fits = u64::from(stored) <= self.end - self.at - FRAME_OCTETS as u64;
        if header[..4] != MAGIC || length.max(stored) > FRAME_OCTETS_MAX || !fits {
            return Err(bad("a frame has no beginning"));
        }
        let mut small = vec![0; stored as usize];
        self.file.read_exact_at(&mut small, self.at + FRAME_OCTETS as u64)?;
        if blake3::hash(&small).as_bytes()[..] != header[12..] {
            return Err(bad("a frame does not have its hash"));
        }
        let octets = zstd::bulk::decompress(&small, length as usize)
            .map_err(|_| bad("a frame cannot be expanded"))?;
        let commits = commits(&octets).ok_or_else(|| bad("a frame has other than commits"))?;
        self.at += (FRAME_OCTETS + small.len()) as u64;
        Ok(Some(commits))
    }
}

/// The commits in what was compressed.
fn commits(mut octets: &[u8]) -> Option<Vec<Commit>> {
    let mut commits = Vec::new();
    while !octets.is_empty() {
        let (head, rest) = octets.split_first_chunk::<COMMIT_OCTETS>()?;
        let (number, head) = head.split_first_chunk()?;
        let (micros, length) = head.split_first_chunk()?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (frames, rest) = rest.split_at_checked(length)?;
        commits.push(Commit {
            number: u64::from_le_bytes(*number),
            micros: i64::from_le_bytes(*micros),
            frames: frames.to_vec(),
            ends: Vec::new(),
        });
        octets = rest;
    }
    Some(commits)
}
