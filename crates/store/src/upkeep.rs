//! What a store does for itself beside what it is asked.

use crate::Timestamp;

/// A piece of work that brought space back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Segments looked through: none when there was nothing to do.
    pub segments: u64,
    /// Octets that were copied elsewhere.
    pub moved_octets: u64,
    /// Octets of the segments that are gone.
    pub freed_octets: u64,
}

/// What was done since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// Octets that were copied out of segments mostly dead.
    pub moved_octets: u64,
    /// Octets of segments that went.
    pub freed_octets: u64,
    /// Octets that were read and held against their checksums.
    pub scrubbed_octets: u64,
    /// How often that found some that do not have theirs.
    pub damaged: u64,
    /// How far the archive is; `None`: the store has none.
    pub archive: Option<Archived>,
}

/// How far the archive of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// When the first commit was that would be lost with the machine, or a little later; `None`: none
    /// would.
    pub behind_since: Option<Timestamp>,
}
