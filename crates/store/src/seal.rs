//! The seals of the log: what is signed and time-stamped of each of its intervals (PEC-LOG-03).
//!
//! DM 2 Nov 2005 art. 10: intervals of at most 24 hours, without gaps, each with a time stamp. An
//! interval of ours is a run of records that continues the one before it, so there can be none between;
//! its seal is a [`Statement`] with the root of the [tree](crate::tree) over them and the hash of the
//! statement before, signed by the provider and stamped by an authority. Not here: signatures.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::tree::Hash;

/// Octets of a statement at most: the longest name of a provider leaves it below 1 KiB.
pub const STATEMENT_OCTETS_MAX: usize = 4096;

/// How a statement is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The one there is.
    #[serde(rename = "ceralacca-log-seal-1")]
    One,
}

/// A record as it is kept, to be sealed, proved and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number: from 1, without gaps.
    pub number: u64,
    /// The time under which it is found.
    pub time: Timestamp,
    /// Its canonical octets: what was written in the commit of the event, a
    /// [`LogRecord`](crate::LogRecord) in JSON.
    pub octets: Vec<u8>,
    /// [`Hash::leaf`] as it was computed in that commit.
    pub leaf: Vec<u8>,
}

/// A record's place and hash alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLeaf {
    /// Its number.
    pub number: u64,
    /// The time under which it is found.
    pub time: Timestamp,
    /// As in [`LogEntry::leaf`].
    pub leaf: Hash,
}

/// What a seal says, as it is signed: JSON on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Its first field says that it is one, and of which version.
    pub format: Format,
    /// Whose log it is.
    pub provider: String,
    /// The seal's number: from 1, without gaps.
    pub number: u64,
    /// Where the interval begins: the end of the one before.
    pub since: Timestamp,
    /// Where it ends.
    pub until: Timestamp,
    /// The number of its first record.
    pub first: u64,
    /// How many records it has; none where nothing happened.
    pub records: u64,
    /// [`root`](crate::tree::root) over their leaves.
    pub root: Hash,
    /// The [`Hash::of`] the statement before; none in the first.
    pub previous: Option<Hash>,
}

/// Not a statement, or one of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the statement of a seal: {0}")]
pub struct NoStatement(String);

impl Statement {
    /// What seal `number` of this provider says of an interval without records.
    pub fn new(provider: &str, number: u64, (since, until): (Timestamp, Timestamp)) -> Self {
        Self {
            format: Format::One,
            provider: provider.to_owned(),
            number,
            since,
            until,
            first: 1,
            records: 0,
            root: crate::tree::root(&[]),
            previous: None,
        }
    }

    /// As it is signed.
    ///
    /// # Errors
    ///
    /// [`NoStatement`] when it would be longer than any reader takes.
    pub fn octets(&self) -> Result<Vec<u8>, NoStatement> {
        let octets = serde_json::to_vec(self).map_err(|error| NoStatement(error.to_string()))?;
        if octets.len() > STATEMENT_OCTETS_MAX {
            return Err(NoStatement("longer than any".to_owned()));
        }
        Ok(octets)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`NoStatement`] when it is none, or numbers in it cannot be.
    pub fn parse(octets: &[u8]) -> Result<Self, NoStatement> {
        let refused = |why: &str| NoStatement(why.to_owned());
        if octets.len() > STATEMENT_OCTETS_MAX {
            return Err(refused("longer than any"));
        }
        let read: Self =
            serde_json::from_slice(octets).map_err(|error| NoStatement(error.to_string()))?;
        if read.number == 0 || read.first == 0 || read.first.checked_add(read.records).is_none() {
            return Err(refused("numbers that cannot be"));
        }
        if read.until < read.since {
            return Err(refused("an end before its beginning"));
        }
        Ok(read)
    }

    /// The number after its last record: the first of the next interval.
    pub const fn end(&self) -> u64 {
        // Checked when it was read; saturating for one that was only made.
        self.first.saturating_add(self.records)
    }
}

/// A seal to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeal {
    /// What it says.
    pub statement: Statement,
    /// The same as it was signed.
    pub octets: Vec<u8>,
    /// The signature over them: a detached CMS.
    pub signature: Vec<u8>,
    /// The roots of its [chunks](crate::tree::CHUNK_LEAVES), in order.
    pub chunks: Vec<Hash>,
}

/// A seal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its number.
    pub number: u64,
    /// Its statement, as it was signed.
    pub octets: Vec<u8>,
    /// The signature over it.
    pub signature: Vec<u8>,
    /// The time stamp of the signature: an RFC 3161 token, when the authority has given it.
    pub stamp: Option<Vec<u8>>,
    /// When its records were removed, after their 30 months (PEC-LOG-02); the seal stays.
    pub expired: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        let at = |text: &str| text.parse().unwrap();
        let interval = (at("2026-11-26T00:00:00Z"), at("2026-11-27T00:00:00Z"));
        Statement {
            first: 11,
            records: 4,
            root: Hash::of(b"root"),
            previous: Some(Hash::of(b"previous")),
            ..Statement::new("Alfa PEC S.p.A.", 3, interval)
        }
    }

    #[test]
    fn a_statement_is_read_as_it_was_written() {
        let octets = statement().octets().unwrap();
        let told = String::from_utf8(octets.clone()).unwrap();
        let expected = format!(
            r#"{{"format":"ceralacca-log-seal-1","provider":"Alfa PEC S.p.A.","number":3,"since":"2026-11-26T00:00:00Z","until":"2026-11-27T00:00:00Z","first":11,"records":4,"root":"{}","previous":"{}"}}"#,
            Hash::of(b"root"),
            Hash::of(b"previous"),
        );
        assert_eq!(told, expected);
        assert_eq!(Statement::parse(&octets).unwrap(), statement());
        assert_eq!(statement().end(), 15);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let text = String::from_utf8(statement().octets().unwrap()).unwrap();
        for (from, to) in [
            ("{", "["),
            ("seal-1", "seal-2"),
            ("\"number\":3", "\"number\":0"),
            ("\"first\":11", "\"first\":0"),
            ("\"records\":4", "\"records\":18446744073709551615"),
            ("\"records\":4", "\"records\":-1"),
            ("\"records\":4", "\"records\":4,\"more\":1"),
            ("until\":\"2026", "until\":\"2025"),
            ("root\":\"", "root\":\"0"),
        ] {
            assert!(text.contains(from));
            let other = text.replacen(from, to, 1);
            assert!(Statement::parse(other.as_bytes()).is_err(), "{other}");
        }
        let longest = format!("{text}{}", " ".repeat(STATEMENT_OCTETS_MAX - text.len()));
        assert!(Statement::parse(longest.as_bytes()).is_ok());
        assert!(Statement::parse(format!("{longest} ").as_bytes()).is_err());
        let long = Statement { provider: "a".repeat(STATEMENT_OCTETS_MAX), ..statement() };
        assert!(long.octets().is_err());
    }
}
