//! What is done to the disk, step by step, so that a test can make any step fail.

use std::io;

/// A step that changes what is on disk, or makes it certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Octets are about to be written.
    Write,
    /// Written octets, or a directory, are about to be flushed.
    Flush,
    /// The WAL is about to be copied into the database.
    Checkpoint,
    /// A group is about to be committed to the index.
    Commit,
    /// It is committed; nobody has been told yet.
    Committed,
    /// A part of the index is about to be copied to the archive. Not now (`WouldBlock`): a little later.
    ArchiveIndex,
    /// The same, of octets.
    ArchiveOctets,
    /// The archive's copy of a segment is about to be flushed.
    ArchiveFlush,
}

/// Asked before each step; an error makes it fail, without having been done.
pub(super) trait Disk: Send + Sync {
    /// About to do `step`.
    fn step(&self, step: Step) -> io::Result<()>;
}

/// A disk that does what it is asked, or says so itself.
pub(super) struct Real;

impl Disk for Real {
    fn step(&self, _: Step) -> io::Result<()> {
        Ok(())
    }
}
