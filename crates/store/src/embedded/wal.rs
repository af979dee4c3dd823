//! What a commit wrote to the WAL of the index, read just after it by the one who writes.
//!
//! The WAL is a header and frames, each with one page (SQLite's file format, §4). A header that says
//! other salts begins another log, from its start; else a commit follows the one before it. The last
//! frame of a commit has the size of the database. Nobody else writes, so what is read between two
//! commits is what the first of them wrote.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::StoreError;

const HEADER_OCTETS: usize = 32;
/// Octets of a frame before its page.
pub(super) const FRAME_OCTETS: usize = 24;
/// What a commit wrote.
pub(super) enum Wrote {
    /// These frames.
    Frames(Vec<u8>),
    /// More than is handed over.
    TooMuch,
}

/// Where the next commit will be.
pub(super) struct Wal {
    path: std::path::PathBuf,
    file: Option<File>,
    salts: [u8; 8],
    next: u64,
    page: usize,
    octets_max: usize,
}

impl Wal {
    /// Follows the WAL from where it ends now. Of a commit that writes more than so many octets it is only
    /// told that it does.
    pub(super) fn follow(
        db: &Connection,
        index: &Path,
        octets_max: usize,
    ) -> Result<Self, StoreError> {
        let mut path = index.as_os_str().to_owned();
        path.push("-wal");
        let page: i64 = db.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let page = usize::try_from(page).map_err(|_| unlike("it has no page size"))?;
        let frames: i64 =
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(1))?;
        let next =
            HEADER_OCTETS as u64 + frames.max(0).cast_unsigned() * (FRAME_OCTETS + page) as u64;
        let mut wal = Self { path: path.into(), file: None, salts: [0; 8], next, page, octets_max };
        if frames > 0 {
            wal.salts = wal.header()?;
        }
        Ok(wal)
    }

    /// Whether nothing was written since the WAL was last cut off.
    pub(super) fn is_empty(&self) -> bool {
        self.next == HEADER_OCTETS as u64
    }

    fn file(&mut self) -> Result<&File, StoreError> {
        Ok(match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        })
    }

    /// The salts of the log that is written now.
    fn header(&mut self) -> Result<[u8; 8], StoreError> {
        let page = self.page;
        let mut header = [0; HEADER_OCTETS];
        self.file()?.read_exact_at(&mut header, 0)?;
        let [a, b, c, d, ..] = header;
        if u32::from_be_bytes([a, b, c, d]) & !1 != 0x377f_0682 {
            return Err(unlike("it has another mark"));
        }
        let size = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if size as usize != page {
            return Err(unlike("it has pages of another size"));
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        Ok(salts)
    }

    /// What the commit wrote that was just done. After an error nobody knows where the next will be.
    pub(super) fn commit(&mut self) -> Result<Wrote, StoreError> {
        let salts = self.header()?;
        if salts != self.salts {
            (self.salts, self.next) = (salts, HEADER_OCTETS as u64);
        }
        let length = FRAME_OCTETS + self.page;
        let (mut frames, mut too_much) = (Vec::new(), false);
        loop {
            if frames.len() + length > self.octets_max {
                (frames, too_much) = (Vec::new(), true);
            }
            let from = frames.len();
            // Of one that writes too much only the end is looked for.
            frames.resize(from + if too_much { FRAME_OCTETS } else { length }, 0);
            let at = self.next;
            self.file()?.read_exact_at(&mut frames[from..], at)?;
            let frame = &frames[from..from + FRAME_OCTETS];
            if frame[8..16] != self.salts {
                return Err(unlike("a commit breaks off"));
            }
            self.next += length as u64;
            let last = frame[4..8] != [0; 4];
            if too_much {
                frames.clear();
            }
            match (last, too_much) {
                (false, _) => {}
                (true, true) => return Ok(Wrote::TooMuch),
                (true, false) => return Ok(Wrote::Frames(frames)),
            }
        }
    }
}

fn unlike(why: &str) -> StoreError {
    StoreError::Medium(format!("the log of the index is not what it should be: {why}"))
}
