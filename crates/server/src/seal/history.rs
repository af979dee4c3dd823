//! The history of one message, with the proof that each record of it is under a seal: what leaves this
//! machine and proves itself elsewhere.
//!
//! A JSON document. A record is there as its canonical octets, so that its hash can be computed; with
//! the path of RFC 9162 §2.1.3 from it to the root that its seal's statement has; and with the seal,
//! signature and time stamp. It proves that these records were in the log at the time of the stamp. It
//! cannot prove that there are no others: for that, the whole log is looked at ([`check`](super::check)).

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use store::tree::{self, CHUNK_LEAVES, Hash};
use store::{LogFilter, LogRecord, Seal, Statement, Store, Timestamp};

use super::check::{Believed, Found, look_at_seal};

/// Records of one message at most: five for each of 2000 recipients.
pub(crate) const RECORDS_MAX: usize = 10_000;
/// Octets of a document at most: 10,000 records of 4 KiB with their paths.
pub(crate) const HISTORY_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// How a history is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Format {
    /// The one there is.
    #[serde(rename = "ceralacca-log-history-1")]
    One,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    format: Format,
    /// Whose log it is from.
    pub(crate) provider: String,
    /// The identifier that was asked for.
    pub(crate) message_id: String,
    /// When.
    pub(crate) made: Timestamp,
    /// By time.
    pub(crate) records: Vec<Proved>,
    /// Those that cover them.
    pub(crate) seals: Vec<SealText>,
}

/// A record and its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proved {
    /// Its number in the log.
    pub(crate) number: u64,
    /// Its canonical octets, which are JSON too.
    pub(crate) record: String,
    /// The seal that covers it; none yet, when it is of an interval that has not ended.
    pub(crate) seal: Option<u64>,
    /// From it to the seal's root.
    pub(crate) path: Vec<Hash>,
}

/// A seal as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealText {
    number: u64,
    /// As it was signed.
    statement: String,
    /// A detached CMS in base64.
    signature: String,
    /// An RFC 3161 token in base64.
    stamp: Option<String>,
}

impl SealText {
    /// A statement that is no text was altered, and stays altered.
    pub(crate) fn of(seal: &Seal) -> Self {
        Self {
            number: seal.number,
            statement: String::from_utf8_lossy(&seal.octets).into_owned(),
            signature: STANDARD.encode(&seal.signature),
            stamp: seal.stamp.as_ref().map(|stamp| STANDARD.encode(stamp)),
        }
    }

    /// As it is kept.
    ///
    /// # Errors
    ///
    /// When signature or stamp are not in base64.
    pub(crate) fn seal(&self) -> anyhow::Result<Seal> {
        Ok(Seal {
            number: self.number,
            octets: self.statement.clone().into_bytes(),
            signature: STANDARD.decode(&self.signature)?,
            stamp: self.stamp.as_ref().map(|stamp| STANDARD.decode(stamp)).transpose()?,
            expired: None,
        })
    }
}

impl History {
    /// Of the message with this identifier, without angle brackets.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or there are too many records to be one message's.
    pub(crate) fn of(
        store: &dyn Store,
        provider: &str,
        message_id: &str,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let filter = LogFilter { message_id: Some(message_id.to_owned()), ..LogFilter::default() };
        let found = store.log(&filter, 0, RECORDS_MAX + 1)?;
        if found.len() > RECORDS_MAX {
            bail!(
                "more than {RECORDS_MAX} records have {message_id}: name the message by its PEC \
                 identifier"
            );
        }
        let (mut records, mut seals) = (Vec::with_capacity(found.len()), BTreeMap::new());
        for (number, _) in found {
            let entry = store.log_entries(number - 1, 1)?.pop();
            let entry = entry.filter(|entry| entry.number == number);
            let entry = entry.context("a record went while it was read: try again")?;
            let seal = store.seal_of(number)?;
            let path = match &seal {
                Some(seal) => path(store, seal, number)?,
                None => Vec::new(),
            };
            records.push(Proved {
                number,
                record: String::from_utf8(entry.octets).context("a record was altered")?,
                seal: seal.as_ref().map(|seal| seal.number),
                path,
            });
            if let Some(seal) = seal {
                seals.insert(seal.number, SealText::of(&seal));
            }
        }
        Ok(Self {
            format: Format::One,
            provider: provider.to_owned(),
            message_id: message_id.to_owned(),
            made: now,
            records,
            seals: seals.into_values().collect(),
        })
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// When it is none, or larger than any.
    pub(crate) fn read(octets: &[u8]) -> anyhow::Result<Self> {
        if octets.len() > HISTORY_OCTETS_MAX {
            bail!("larger than any history of a message");
        }
        let read: Self = serde_json::from_slice(octets).context("not the history of a message")?;
        if read.records.len() > RECORDS_MAX {
            bail!("more records than any message has");
        }
        Ok(read)
    }

    /// As a file: a person may look into it.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub(crate) fn octets(&self) -> anyhow::Result<Vec<u8>> {
        let mut octets = serde_json::to_vec_pretty(self)?;
        octets.push(b'\n');
        Ok(octets)
    }

    /// The records, read.
    ///
    /// # Errors
    ///
    /// When one is none.
    pub(crate) fn log(&self) -> anyhow::Result<Vec<LogRecord>> {
        let read = |proved: &Proved| {
            serde_json::from_str(&proved.record)
                .with_context(|| format!("record {} cannot be read", proved.number))
        };
        self.records.iter().map(read).collect()
    }

    /// Looks at every proof, signature and time stamp. What no seal covers is counted and noted, and
    /// proves nothing: whoever asks must say so.
    pub(crate) fn check(&self, believed: Believed<'_>) -> Found {
        let mut found = Found::default();
        let mut statements = BTreeMap::new();
        for text in &self.seals {
            let number = text.number;
            let Ok(seal) = text.seal() else {
                found.fault(Some(number), None, format!("seal {number} is not in base64"));
                continue;
            };
            match Statement::parse(&seal.octets) {
                Ok(said) if said.number == number && said.provider == self.provider => {
                    found.seals += 1;
                    if !look_at_seal(&mut found, &seal, &said, believed) {
                        found.note(format!("seal {number} has no time stamp yet"));
                    }
                    statements.insert(number, said);
                }
                _ => {
                    let text = format!("seal {number} has no statement of {}", self.provider);
                    found.fault(Some(number), None, text);
                }
            }
        }
        found.tell_of_late_stamps();
        for proved in &self.records {
            let number = proved.number;
            if serde_json::from_str::<LogRecord>(&proved.record).is_err() {
                found.fault(proved.seal, Some(number), format!("record {number} is none"));
                continue;
            }
            let Some(seal) = proved.seal else {
                found.unsealed += 1;
                continue;
            };
            let holds = statements.get(&seal).is_some_and(|said| {
                let leaf = Hash::leaf(number, proved.record.as_bytes());
                let place = number.checked_sub(said.first);
                let root =
                    place.and_then(|place| tree::root_by(leaf, place, said.records, &proved.path));
                root == Some(said.root)
            });
            if holds {
                found.records += 1;
            } else {
                let text =
                    format!("record {number} is not what was sealed: it or its proof was altered");
                found.fault(Some(seal), Some(number), text);
            }
        }
        if let Some(first) = self.records.iter().find(|proved| proved.seal.is_none()) {
            found.note(format!(
                "no seal covers {} of the records, the first is {}: nothing proves them, anybody can \
                 have written them",
                found.unsealed, first.number
            ));
        }
        if self.records.is_empty() {
            found.fault(None, None, "there is no record of the log");
        }
        found
    }
}

/// The path from a record to the root of its seal.
fn path(store: &dyn Store, seal: &Seal, number: u64) -> anyhow::Result<Vec<Hash>> {
    let said = Statement::parse(&seal.octets)?;
    let place = usize::try_from(number - said.first)?;
    let chunk = place / CHUNK_LEAVES;
    let first = said.first + (chunk * CHUNK_LEAVES) as u64;
    let there = CHUNK_LEAVES.min(usize::try_from(said.end() - first)?);
    let leaves: Vec<Hash> =
        store.log_leaves(first - 1, there)?.into_iter().map(|leaf| leaf.leaf).collect();
    let mut path = tree::path(&leaves, place % CHUNK_LEAVES);
    path.extend(tree::path(&store.seal_chunks(seal.number)?, chunk));
    Ok(path)
}
