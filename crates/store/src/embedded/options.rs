//! What may be chosen when a store is opened, and what is usual.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::MasterKeys;

/// What may be chosen when a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Octets of a segment; taken on disk when it is begun.
    pub segment_octets: u64,
    /// Connections for reading, which is how many reads go on at a time.
    pub readers: usize,
    /// Octets that stay in memory after they were stored: some hundreds of messages as they are on
    /// average, which is what a second brings.
    pub recent_octets: usize,
    /// How often upkeep in the background looks for something to do.
    pub upkeep_every: Duration,
    /// How often everything that is stored is read and held against its checksums.
    pub scrub_every: Duration,
    /// What upkeep reads or copies in a second at most: a tenth of what a slow disk does.
    pub upkeep_octets_a_second: u64,
    /// The master keys: none, and the store is not encrypted.
    pub keys: MasterKeys,
    /// Where what the store was at every commit is kept: a folder on another disk. `None`: nowhere.
    pub archive: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_octets: 256 * 1024 * 1024,
            readers: 8,
            recent_octets: 32 * 1024 * 1024,
            upkeep_every: Duration::from_secs(60),
            scrub_every: Duration::from_secs(7 * 24 * 3600),
            upkeep_octets_a_second: 8 * 1024 * 1024,
            keys: MasterKeys::default(),
            archive: None,
        }
    }
}
