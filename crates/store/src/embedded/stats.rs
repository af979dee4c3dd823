//! What a store holds and what it takes on disk. Read beside a server that runs.

use std::fs;
use std::path::Path;

use super::{record, schema};
use crate::StoreError;

/// Figures of a store, of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// The version of the tables and records.
    pub format: u64,
    /// Accounts.
    pub accounts: u64,
    /// Mailboxes of all accounts.
    pub mailboxes: u64,
    /// Messages in all mailboxes.
    pub messages: u64,
    /// Their octets, as users and quotas count them.
    pub message_octets: u64,
    /// Jobs in the queue.
    pub jobs: u64,
    /// Their octets.
    pub job_octets: u64,
    /// Pieces, each different one once.
    pub pieces: u64,
    /// Their octets: what is left by sharing.
    pub distinct_octets: u64,
    /// What compression saves of these.
    pub shrunk_octets: u64,
    /// Segments.
    pub segments: u64,
    /// What is in use in segments, with headers and checksums.
    pub live_octets: u64,
    /// What nothing refers to, in segments.
    pub dead_octets: u64,
    /// Files of their own, which an older format had for octets beyond 1 MiB.
    pub files: u64,
    /// What they take.
    pub file_octets: u64,
    /// The index.
    pub index_octets: u64,
    /// Of it, what is not used.
    pub index_free_octets: u64,
    /// The index's log of what was written last.
    pub log_octets: u64,
}

impl Stats {
    /// What is stored, dead octets aside, beside the index.
    pub fn stored_octets(&self) -> u64 {
        self.live_octets + self.file_octets
    }

    /// What messages and jobs would take as they are, less what they take.
    pub fn saved_octets(&self) -> u64 {
        (self.message_octets + self.job_octets).saturating_sub(self.stored_octets())
    }
}

/// The figures of the store in `dir`.
///
/// # Errors
///
/// [`StoreError::Medium`] when it cannot be read.
pub fn stats(dir: &Path) -> Result<Stats, StoreError> {
    let index = dir.join("index.db");
    let db = schema::viewer(&index)?;
    db.execute_batch("BEGIN")?;
    let one = |sql: &str| -> Result<u64, StoreError> {
        Ok(db.query_row(sql, [], |row| row.get(0).map(i64::cast_unsigned))?)
    };
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let live_octets = one("SELECT ifnull(sum(live), 0) FROM segments")?;
    let mut files = db.prepare("SELECT stored FROM pieces WHERE segment = 0")?;
    let files = files.query_map([], |row| row.get(0).map(i64::cast_unsigned))?;
    let files = files.collect::<Result<Vec<u64>, _>>()?;
    let page = one("PRAGMA page_size")?;
    let stats = Stats {
        format: one("PRAGMA user_version")?,
        accounts: one("SELECT count(*) FROM accounts")?,
        mailboxes: one("SELECT count(*) FROM mailboxes")?,
        messages: one("SELECT ifnull(sum(messages), 0) FROM accounts")?,
        message_octets: one("SELECT ifnull(sum(octets), 0) FROM accounts")?,
        jobs: one("SELECT jobs FROM counters")?,
        job_octets: one(
            "SELECT ifnull(sum(b.octets), 0) FROM jobs j JOIN blobs b ON b.id = j.blob",
        )?,
        distinct_octets: one("SELECT ifnull(sum(octets), 0) FROM pieces")?,
        pieces: one("SELECT count(*) FROM pieces")?,
        shrunk_octets: one("SELECT ifnull(sum(octets - stored), 0) FROM pieces")?,
        segments: one("SELECT count(*) FROM segments")?,
        live_octets,
        dead_octets: one("SELECT ifnull(sum(end), 0) FROM segments")?.saturating_sub(live_octets),
        files: files.len() as u64,
        file_octets: files.into_iter().map(record::record_octets).sum(),
        index_octets: one("PRAGMA page_count")? * page,
        index_free_octets: one("PRAGMA freelist_count")? * page,
        log_octets: size(&dir.join("index.db-wal")),
    };
    db.execute_batch("COMMIT")?;
    Ok(stats)
}
