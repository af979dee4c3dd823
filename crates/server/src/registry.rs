//! The index of providers, wherever it comes from: a file, https, or a directory (PEC-IDX).
//!
//! What comes from elsewhere is read, held against the index in use, and only then takes its place;
//! and it is written down, so that a start without its source has the last good copy (PEC-IDX-08,
//! PEC-IDX-09). Not here: how LDIF is read ([`pec::providers`]), and when it is fetched again
//! ([`crate::upkeep`]).

mod directory;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use crypto::{Certificate, Trust};
use pec::providers::{Index, LDIF_OCTETS_MAX, ProviderRecord, records_to_ldif};
use serde::{Deserialize, Serialize};
use store::Timestamp;

use crate::config::{Config, IndexSource};
use crate::fetch::{Bounds, Fetcher, Networks, Wanted, system_resolver};
use crate::site::Site;
use crate::{check, durable, material};

/// How long a fetch may take in all: some megaoctets over a line that is not fast, and no longer than
/// a command waits for the running server.
const FETCH_WAIT: Duration = Duration::from_secs(25);
/// Redirects that a fetch follows at most.
const REDIRECTS_MAX: usize = 3;
/// A new index with less than half the providers of the old one is held for a bad one.
const SHRINK: usize = 2;
/// Below so many providers nothing is said about shrinking: an index of a few grows and shrinks.
const SHRINK_FROM: usize = 4;
/// The last good copy of an index that is fetched.
const COPY: &str = "providers.copy.ldif";

/// An index as it was read, and a sentence for each record that was left out.
pub(crate) type Read = (Index, Vec<String>);

/// Reads LDIF, or LDIF in a signature that holds (PEC-IDX-07, PEC-IDX-08).
///
/// # Errors
///
/// When it cannot be used at all; the record, or the check, is named.
pub(crate) fn read(config: &Config, octets: &[u8], at: Timestamp) -> anyhow::Result<Read> {
    let opened;
    let ldif = if is_signed(octets) {
        opened = open(config, octets, at)?;
        &opened[..]
    } else {
        octets
    };
    let (index, faults) = Index::from_ldif(ldif)?;
    let faults = faults.iter().map(ToString::to_string).collect();
    Ok((index, faults))
}

/// Whether it is a signed index: DER, or PEM. No LDIF begins so.
pub(crate) fn is_signed(octets: &[u8]) -> bool {
    octets.first() == Some(&0x30) || octets.starts_with(b"-----BEGIN")
}

/// What is in a signature by one who may sign an index.
fn open(config: &Config, octets: &[u8], at: Timestamp) -> anyhow::Result<Vec<u8>> {
    let signers = signers(config)?;
    let (ldif, verified) =
        crypto::attached::open(octets, &signers, at).context("its signature does not hold")?;
    tracing::info!(target: "server", signer = %verified.signer.subject(), "a signed index of providers was opened");
    Ok(ldif)
}

/// Who may sign an index: the certificates of `trust.signers` and whom they certify, or, when there
/// are none, the authorities and whom they certify.
fn signers(config: &Config) -> anyhow::Result<Trust> {
    if config.trust.signers.is_empty() {
        return material::trust(config);
    }
    let mut anchors = Vec::new();
    for file in &config.trust.signers {
        anchors.extend(material::certificates(file)?);
    }
    Ok(Trust::new(anchors, Vec::new())?)
}

/// The index in use at a start: the file, or the last good copy of what is fetched, or else what can
/// be fetched now.
///
/// # Errors
///
/// When there is none that can be used.
pub(crate) fn load(config: &Config, at: Timestamp) -> anyhow::Result<Read> {
    match &config.index.source {
        IndexSource::File(file) => from_file(config, file, at),
        IndexSource::Url(url) => {
            let copy = copy(config);
            match std::fs::exists(&copy) {
                Ok(true) => from_file(config, &copy, at),
                _ => {
                    let octets = fetch_now(config)?;
                    read(config, &octets, at).with_context(|| {
                        format!("the index of providers from {url} cannot be used")
                    })
                }
            }
        }
    }
}

/// As [`read`], from this file.
pub(crate) fn from_file(config: &Config, file: &Path, at: Timestamp) -> anyhow::Result<Read> {
    read(config, &material::octets(file)?, at)
        .with_context(|| format!("the index of providers {} cannot be used", file.display()))
}

/// Where the last good copy is.
fn copy(config: &Config) -> PathBuf {
    config.data.join(COPY)
}

/// The file whose age is the index's.
pub(crate) fn kept(config: &Config) -> PathBuf {
    match &config.index.source {
        IndexSource::File(file) => file.clone(),
        IndexSource::Url(_) => copy(config),
    }
}

/// Seconds since the index was written or confirmed.
pub(crate) fn age(config: &Config) -> Option<u64> {
    let modified = std::fs::metadata(kept(config)).ok()?.modified().ok()?;
    // A file of the future is new.
    Some(modified.elapsed().map_or(0, |age| age.as_secs()))
}

/// Whether the index in use is one that is fetched, and was fetched before this time: who manages a
/// domain may have changed since (PEC-IDX-09), and the next one will tell.
pub(crate) fn may_lag_behind(config: &Config, at: Timestamp) -> bool {
    let IndexSource::Url(_) = &config.index.source else { return false };
    let modified = std::fs::metadata(kept(config)).and_then(|of| of.modified());
    let fetched = modified.ok().and_then(|modified| Timestamp::try_from(modified).ok());
    fetched.is_some_and(|fetched| fetched < at)
}

/// What a refresh did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refreshed {
    /// Providers in the index now.
    pub(crate) records: usize,
    /// A sentence for each record that was left out.
    pub(crate) faults: Vec<String>,
    /// What is worth knowing of the change.
    pub(crate) notes: Vec<String>,
}

impl std::fmt::Display for Refreshed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the index of providers was refreshed: {} records", self.records)?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        for fault in &self.faults {
            write!(f, "; left out: {fault}")?;
        }
        Ok(())
    }
}

/// The provider's own records, all of them (PEC-IDX-04, PEC-IDX-10), as LDIF.
///
/// # Errors
///
/// When there is none.
pub(crate) fn own_ldif(config: &Config, index: &Index) -> anyhow::Result<String> {
    let ours = |record: &&ProviderRecord| {
        config.provider.domains.iter().any(|domain| record.manages(domain))
    };
    let names: Vec<&str> = index.records().iter().filter(ours).map(|r| &*r.name).collect();
    // Its other environments too.
    let own = index.records().iter().filter(|record| names.contains(&&*record.name));
    let own: Vec<ProviderRecord> = own.cloned().collect();
    if own.is_empty() {
        bail!("no record of the index manages a domain of this provider: see `check`");
    }
    Ok(records_to_ldif(&own))
}

/// Fetches the index again and puts it in the place of the one in use, if it is a good one
/// (PEC-IDX-08). Blocks.
///
/// # Errors
///
/// Why the old index stays.
pub(crate) fn refresh(site: &Site, force: bool) -> anyhow::Result<Refreshed> {
    let refreshed = exchange(site, force);
    let result = if refreshed.is_ok() { "taken" } else { "refused" };
    metrics::counter!("ceralacca_index_refreshes_total", "result" => result).increment(1);
    refreshed
}

fn exchange(site: &Site, force: bool) -> anyhow::Result<Refreshed> {
    let config = site.config.load_full();
    let now = site.clock.now();
    let old = site.providers.load_full();
    let (new, faults) = candidate(&config, now)?;
    let notes = compare(&old, &new, force)?;
    let trust = site.trust.load();
    check::before_exchange(&config, site.certificate_now(), &trust, &new, now)?;
    keep(&config, &new)?;
    site.use_index(new, faults.clone());
    Ok(Refreshed { records: site.providers.load().records().len(), faults, notes })
}

/// The same without a server: what its next start will find.
///
/// # Errors
///
/// Why the old copy stays.
pub(crate) fn refresh_offline(
    config: &Config,
    force: bool,
    now: Timestamp,
) -> anyhow::Result<Refreshed> {
    let (new, faults) = candidate(config, now)?;
    let old = match std::fs::exists(kept(config)) {
        Ok(true) => from_file(config, &kept(config), now)?.0,
        _ => Index::default(),
    };
    let notes = compare(&old, &new, force)?;
    let trust = material::trust(config)?;
    let (identity, _) = material::signing_at(config, &trust, now)?;
    check::before_exchange(config, identity.certificate(), &trust, &new, now)?;
    keep(config, &new)?;
    Ok(Refreshed { records: new.records().len(), faults, notes })
}

/// What the source has now.
fn candidate(config: &Config, now: Timestamp) -> anyhow::Result<Read> {
    match &config.index.source {
        IndexSource::File(file) => from_file(config, file, now),
        IndexSource::Url(url) => {
            let octets = fetch_now(config)?;
            read(config, &octets, now)
                .with_context(|| format!("the index of providers from {url} cannot be used"))
        }
    }
}

/// What is to be said of a change; an error when it is none to be believed.
fn compare(old: &Index, new: &Index, force: bool) -> anyhow::Result<Vec<String>> {
    let managing =
        |index: &Index| index.records().iter().filter(|record| !record.domains.is_empty()).count();
    let (before, after) = (managing(old), managing(new));
    if after == 0 {
        bail!("it holds no provider");
    }
    if !force && before >= SHRINK_FROM && after * SHRINK < before {
        bail!(
            "it holds {after} providers where there were {before}: if that is right, run \
             `ceralacca index refresh --force`"
        );
    }
    let name = |record: &ProviderRecord| record.dn().to_lowercase();
    let mut notes = Vec::new();
    for record in old.records() {
        match new.records().iter().find(|other| name(other) == name(record)) {
            None => notes.push(format!("{} is gone", record.dn())),
            Some(other) => {
                if other.domains.is_empty() && !record.domains.is_empty() {
                    notes.push(format!("{} manages no domain any more", record.dn()));
                }
                // PEC-IDX-12: what they signed can no longer be verified.
                let gone = record.certificates.iter().filter(|c| !other.certificates.contains(c));
                let gone = gone.count();
                if gone > 0 {
                    notes.push(format!("{} has {gone} certificates less", record.dn()));
                }
            }
        }
    }
    Ok(notes)
}

/// At a start: an index that had to be fetched has its copy from now on, for whoever wants to read it.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn keep_first(config: &Config, index: &Index) -> anyhow::Result<()> {
    match std::fs::exists(kept(config)) {
        Ok(true) => Ok(()),
        _ => keep(config, index),
    }
}

/// Writes the last good copy of an index that is fetched.
fn keep(config: &Config, index: &Index) -> anyhow::Result<()> {
    if let IndexSource::Url(_) = &config.index.source {
        let copy = copy(config);
        durable::replace(&copy, index.to_ldif().as_bytes())
            .with_context(|| format!("{} cannot be written", copy.display()))?;
    }
    Ok(())
}

/// Fetches the octets of the index from its URL, from any thread.
fn fetch_now(config: &Config) -> anyhow::Result<Vec<u8>> {
    let IndexSource::Url(url) = &config.index.source else {
        bail!("index.source is no URL");
    };
    let (url, config) = (url.clone(), config.clone());
    // A thread of its own: the caller may be one that must not block, or have a runtime already.
    let fetching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(fetch(&config, &url))
    });
    fetching.join().map_err(|_| anyhow::anyhow!("the fetch of the index had panicked"))?
}

async fn fetch(config: &Config, url: &str) -> anyhow::Result<Vec<u8>> {
    let tls = tls(config)?;
    if url.starts_with("ldaps://") {
        let all = directory::entries(url, tls, FETCH_WAIT);
        return all.await.with_context(|| format!("the directory {url} cannot be read"));
    }
    let fetcher =
        Fetcher { tls, resolve: system_resolver(), networks: Networks::Any, plain: false };
    let bounds = Bounds { octets: LDIF_OCTETS_MAX, total: FETCH_WAIT, redirects: REDIRECTS_MAX };
    let accept = "application/pkcs7-mime, text/directory;q=0.5, */*;q=0.1";
    let wanted = Wanted { accept, ..Wanted::get(url) };
    let fetched = fetcher.fetch(&wanted, bounds).await?;
    // What came over https alone says only that the server had it.
    if !is_signed(&fetched.octets) {
        bail!("what {url} sends is not signed (PEC-IDX-07)");
    }
    Ok(fetched.octets)
}

/// Whom to believe as the index's server, and the certificate that the authority gave us for it
/// (PEC-IDX-11).
fn tls(config: &Config) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut authorities: Vec<Certificate> = Vec::new();
    for file in config.index.authorities.iter().chain(&config.trust.authorities) {
        authorities.extend(material::certificates(file)?);
    }
    let pair = match &config.index.client {
        None => None,
        Some(pair) => Some((material::octets(&pair.certificate)?, material::octets(&pair.key)?)),
    };
    let pair = pair.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
    Ok(crypto::tls::client_config(&authorities, pair)?)
}

#[cfg(test)]
mod tests;
