//! What is wrong with a configuration, and where: file, line, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, doubtful or not done by this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line, counted from 1; 0 when it is about the whole file.
    pub(crate) line: usize,
    /// What is the matter.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) suggestion: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}; {}", self.what, self.suggestion)
    }
}

/// All that is wrong with a configuration: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigErrors(pub(crate) Vec<Complaint>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{complaint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
