//! The log of certified mail, sealed interval by interval (PEC-LOG-03, DM 2 Nov 2005 art. 10).
//!
//! An interval ends at each whole multiple of `timestamp.every`, 24 hours at most and by default, of
//! UTC: the legal day of Italy has 25 hours once a year. It covers the records that were committed after
//! the one before it, up to the first whose time is of the next interval; so there is no gap, whatever
//! the clock does. Its seal is a [`Statement`] with the root of the tree over its records, signed with
//! the provider's key, and committed. Then an authority stamps the signature, and that is committed.
//! A crash between the two leaves a seal that waits for its stamp; a crash before the first leaves an
//! interval that is sealed at the next start. An authority that is down delays stamps and nothing else.
//! Not here: what the seals prove, which is in [`check`], and proofs for single messages
//! ([`history`]).

pub(crate) mod check;
pub(crate) mod history;
mod stamper;
mod task;

use crypto::{Identity, Signer};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use store::tree::{self, CHUNK_LEAVES, Hash};
use store::{NewSeal, Statement, Store, StoreError, Timestamp};

use crate::config::Config;
use crate::material;
use crate::signer::SignerProcess;
use stamper::Stamper;
pub(crate) use task::Seals;

/// Leaves that are read at a time: 300 KiB of them.
const LEAVES_AT_A_TIME: usize = 8 * CHUNK_LEAVES;

/// Makes seals.
pub(crate) struct Sealer<'a> {
    pub(crate) store: &'a dyn Store,
    /// The provider's name.
    pub(crate) provider: &'a str,
    /// With which certificate and key an interval that ends then is signed.
    pub(crate) signing: Box<dyn Fn(Timestamp) -> (&'a Identity, &'a dyn Signer) + 'a>,
    /// How long an interval is.
    pub(crate) every: SignedDuration,
}

/// What an interval holds so far.
#[derive(Default)]
struct Contents {
    records: u64,
    chunks: Vec<Hash>,
    /// The time of the first record that is of a later interval.
    next: Option<Timestamp>,
}

impl Sealer<'_> {
    /// Seals every interval that ended by `now`, and tells how many.
    ///
    /// # Errors
    ///
    /// When the store fails or nothing can be signed: what was sealed until then stays sealed.
    pub(crate) fn seal_due(&self, now: Timestamp) -> anyhow::Result<u64> {
        let due = floor(now, self.every);
        let mut sealed = 0;
        loop {
            let mut begun = self.begin(now)?;
            if begun.since >= due {
                return Ok(sealed);
            }
            let mut until = floor(begun.since, self.every).saturating_add(self.every)?.min(due);
            let contents = self.read(begun.first, Some(until), now)?;
            if contents.records == 0 {
                // Nothing happened here, and perhaps for long: one seal over all of that.
                let next = contents.next.unwrap_or(due);
                until = until.max(floor(next, self.every).min(due));
            }
            self.close(&mut begun, until, contents)?;
            sealed += 1;
        }
    }

    /// Seals the records that no seal covers, though their interval has not ended: a shorter one is
    /// allowed. Without any there is nothing to do: false.
    ///
    /// # Errors
    ///
    /// As [`seal_due`](Self::seal_due).
    pub(crate) fn seal_now(&self, now: Timestamp) -> anyhow::Result<bool> {
        self.seal_due(now)?;
        let mut begun = self.begin(now)?;
        let contents = self.read(begun.first, None, now)?;
        if contents.records == 0 {
            return Ok(false);
        }
        // The clock may have been set back since the last seal.
        let until = now.max(begun.since);
        self.close(&mut begun, until, contents)?;
        Ok(true)
    }

    /// The next seal, over nothing yet.
    fn begin(&self, now: Timestamp) -> anyhow::Result<Statement> {
        let Some(last) = self.store.last_seal()? else {
            let first = self.store.log_leaves(0, 1)?.first().map(|leaf| leaf.time);
            let since = floor(first.unwrap_or(now).min(now), self.every);
            return Ok(Statement::new(self.provider, 1, (since, since)));
        };
        let before = Statement::parse(&last.octets)?;
        Ok(Statement {
            first: before.end(),
            previous: Some(Hash::of(&last.octets)),
            ..Statement::new(self.provider, last.number + 1, (before.until, before.until))
        })
    }

    /// The records from `first` on, up to the first whose time is `until` or later. One whose time has
    /// not come yet (a clock that was wrong) ends nothing: it would for ever.
    fn read(
        &self,
        first: u64,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Contents, StoreError> {
        let mut contents = Contents::default();
        let mut chunk = Vec::with_capacity(CHUNK_LEAVES);
        'all: loop {
            let after = first - 1 + contents.records;
            let leaves = self.store.log_leaves(after, LEAVES_AT_A_TIME)?;
            if leaves.is_empty() {
                break;
            }
            for leaf in leaves {
                if until.is_some_and(|until| (until..=now).contains(&leaf.time)) {
                    contents.next = Some(leaf.time);
                    break 'all;
                }
                if leaf.number != first + contents.records {
                    let number = first + contents.records;
                    let text = format!("record {number} of the log is missing: see `log verify`");
                    return Err(StoreError::Medium(text));
                }
                contents.records += 1;
                chunk.push(leaf.leaf);
                if chunk.len() == CHUNK_LEAVES {
                    contents.chunks.push(tree::root(&chunk));
                    chunk.clear();
                }
            }
        }
        if !chunk.is_empty() {
            contents.chunks.push(tree::root(&chunk));
        }
        Ok(contents)
    }

    /// Signs and commits.
    fn close(
        &self,
        statement: &mut Statement,
        until: Timestamp,
        contents: Contents,
    ) -> anyhow::Result<()> {
        statement.until = until;
        statement.records = contents.records;
        statement.root = tree::root(&contents.chunks);
        let octets = statement.octets()?;
        let (identity, signer) = (self.signing)(until);
        let signature = identity.sign(signer, &octets, until)?;
        let statement = statement.clone();
        let number = statement.number;
        let seal = NewSeal { statement, octets, signature, chunks: contents.chunks };
        match self.store.add_seal(seal) {
            Ok(()) => {}
            // Somebody else sealed the same meanwhile: then that is the seal. Where there is none, this one is wrong, and
            // would be again.
            Err(StoreError::SealOutOfOrder)
                if self.store.last_seal()?.is_some_and(|last| last.number >= number) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(target: "seal", number, records = contents.records, "the log is sealed");
        metrics::counter!("ceralacca_log_seals_total").increment(1);
        Ok(())
    }
}

/// Seals and stamps what a store has that no seal covers, for a command that has the store to itself.
///
/// # Errors
///
/// As [`Sealer::seal_now`]. A stamp that cannot be had is waited for by the server, and told.
pub(crate) fn seal_now(
    store: &dyn Store,
    config: &Config,
    now: Timestamp,
) -> anyhow::Result<Sealed> {
    let (identity, key) = material::signing_at(config, &material::trust(config)?, now)?;
    let signer = SignerProcess::start(key)?;
    let sealer = Sealer {
        store,
        provider: &config.provider.name,
        signing: Box::new(|_| (&identity, &*signer)),
        every: every(config),
    };
    let sealed = sealer.seal_now(now);
    signer.stop();
    let sealed = sealed?;
    let stamped = task::stamp_waiting(store, config, now);
    let unstamped = stamped.err().map(|error| format!("{error:#}"));
    Ok(Sealed { sealed, seal: store.last_seal()?.map(|seal| seal.number), unstamped })
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// Whether there was anything to seal.
    pub(crate) sealed: bool,
    /// The last seal, if there is one.
    pub(crate) seal: Option<u64>,
    /// Why it has no time stamp yet.
    pub(crate) unstamped: Option<String>,
}

impl std::fmt::Display for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.sealed, self.seal) {
            (true, Some(number)) => write!(f, "the log is sealed, up to seal {number}"),
            (_, Some(number)) => write!(f, "there is nothing new to seal after seal {number}"),
            (_, None) => write!(f, "there is nothing to seal"),
        }?;
        match &self.unstamped {
            Some(why) => write!(f, "; its time stamp is asked for again: {why}"),
            None => Ok(()),
        }
    }
}

fn every(config: &Config) -> SignedDuration {
    SignedDuration::try_from(config.timestamp.every).unwrap_or(SignedDuration::from_hours(24))
}

/// The last end of an interval by this time.
fn floor(at: Timestamp, every: SignedDuration) -> Timestamp {
    let every = every.as_secs().max(1);
    Timestamp::from_second(at.as_second().div_euclid(every) * every).unwrap_or(at)
}

#[cfg(test)]
mod tests;
