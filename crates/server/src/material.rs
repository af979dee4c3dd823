//! What the configuration names and must be read: authorities, revocation lists, the signing
//! certificate, the index of providers, the store. Never the signing key, which only the second process reads.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use crypto::{Certificate, Crl, Identity, Trust};
use pec::providers::Index;
use store::embedded::{EmbeddedStore, Options};
use store::shared::{self, Bucket, Place, SharedStore, Unreachable};
use store::{Store, Timestamp};

use crate::abuse::countries::{self, Countries};
use crate::config::{self, Config, CrlSource, OctetsPlace};
use crate::control::{self, Request};
use crate::{crl, master_key, registry, setup};

/// Octets of a file with a password or a key of a bucket, at most.
const SECRET_OCTETS_MAX: u64 = 1024;

/// The authorities that may issue providers' certificates, and what they revoked.
///
/// # Errors
///
/// When a file cannot be read or used; it is named.
pub(crate) fn trust(config: &Config) -> anyhow::Result<Trust> {
    let mut authorities = Vec::new();
    for file in &config.trust.authorities {
        authorities.extend(certificates(file)?);
    }
    let mut crls = Vec::new();
    for source in &config.trust.crls {
        // Those that are fetched are kept elsewhere.
        let CrlSource::File(file) = source else { continue };
        let list = Crl::read(&octets(file)?);
        crls.push(list.with_context(|| format!("{} is no revocation list", file.display()))?);
    }
    let mut trust = Trust::new(authorities, crls)?;
    let fetched = crl::kept(config, &trust);
    if !fetched.is_empty() {
        let all = trust.crls().iter().cloned().chain(fetched).collect();
        trust = trust.with_crls(all)?;
    }
    Ok(trust)
}

/// The authorities that may issue the certificates of those who stamp times: their own, or the same.
///
/// # Errors
///
/// As [`trust`].
pub(crate) fn stamp_trust(config: &Config) -> anyhow::Result<Trust> {
    if config.timestamp.authorities.is_empty() {
        return trust(config);
    }
    let mut authorities = Vec::new();
    for file in &config.timestamp.authorities {
        authorities.extend(certificates(file)?);
    }
    Ok(Trust::new(authorities, Vec::new())?)
}

/// The signing certificate, with the authorities above it: those in its file, or the one that
/// issued it.
///
/// # Errors
///
/// When the file cannot be read or used.
pub(crate) fn identity(config: &Config, trust: &Trust) -> anyhow::Result<Identity> {
    identity_of(&config.signing.certificate, trust)
}

fn identity_of(file: &Path, trust: &Trust) -> anyhow::Result<Identity> {
    let mut all = certificates(file)?.into_iter();
    let Some(certificate) = all.next() else {
        bail!("{} holds no certificate", file.display());
    };
    let mut chain: Vec<Certificate> = all.collect();
    if chain.is_empty() {
        let issuer = certificate.issuer();
        chain.extend(trust.authorities().iter().filter(|ca| ca.subject() == issuer).cloned());
    }
    Ok(Identity::new(certificate, chain)?)
}

/// The certificate that takes over, when one is named, and from when.
///
/// # Errors
///
/// As [`identity`].
pub(crate) fn next_identity(
    config: &Config,
    trust: &Trust,
) -> anyhow::Result<Option<(Identity, Timestamp)>> {
    let Some(next) = &config.next_signing else { return Ok(None) };
    let identity = identity_of(&next.pair.certificate, trust)?;
    let from = next.from.unwrap_or(identity.certificate().not_before());
    Ok(Some((identity, from)))
}

/// The certificate to sign with at this time, and where its key is.
///
/// # Errors
///
/// As [`identity`].
pub(crate) fn signing_at<'c>(
    config: &'c Config,
    trust: &Trust,
    at: Timestamp,
) -> anyhow::Result<(Identity, &'c Path)> {
    if let (Some(next), Some((identity, from))) =
        (&config.next_signing, next_identity(config, trust)?)
        && from <= at
    {
        return Ok((identity, &next.pair.key));
    }
    Ok((identity(config, trust)?, &config.signing.key))
}

/// The index of providers, without the records that cannot be used: those are in the second place,
/// each a sentence for the log.
///
/// # Errors
///
/// When there is none that can be used at all.
pub(crate) fn index(config: &Config) -> anyhow::Result<(Index, Vec<String>)> {
    registry::load(config, Timestamp::now())
}

/// As [`index`], from this file.
pub(crate) fn index_file(file: &Path) -> anyhow::Result<(Index, Vec<String>)> {
    let (index, faults) = Index::from_ldif(&octets(file)?)
        .with_context(|| format!("the index of providers {} cannot be used", file.display()))?;
    let faults = faults.iter().map(ToString::to_string).collect();
    Ok((index, faults))
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To work on it until the program ends.
    Serve,
    /// For one command.
    Command,
}

/// The provider's store: ours alone until it is dropped, unless the configuration shares it.
///
/// # Errors
///
/// When there is none, when a server has it open, or when it cannot be used.
pub(crate) fn store(config: &Config, purpose: Purpose) -> anyhow::Result<Arc<dyn Store>> {
    match &config.storing.shared {
        Some(shared) => open_shared(config, shared, purpose),
        None => open_embedded(config),
    }
}

/// The store as it is, for one who changes nothing; nothing where it will be made at the first start.
///
/// # Errors
///
/// As [`store()`].
pub(crate) fn store_as_it_is(config: &Config) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let Some(shared) = &config.storing.shared else { return open_embedded(config).map(Some) };
    let options = options_of(config, shared, Purpose::Command)?;
    match look(shared, &options)? {
        true => Ok(Some(Arc::new(SharedStore::open(&options)?))),
        false => Ok(None),
    }
}

/// The store in the database; one that is new gets the accounts that every provider has.
fn open_shared(
    config: &Config,
    shared: &config::SharedStore,
    purpose: Purpose,
) -> anyhow::Result<Arc<dyn Store>> {
    let options = options_of(config, shared, purpose)?;
    look(shared, &options)?;
    let store = SharedStore::open(&options).context("the shared store cannot be opened")?;
    let author = config.provider.author();
    let begun = author.map(|author| store.account_by_address(&author)).transpose()?.flatten();
    if begun.is_none() {
        setup::found(&store, config, Timestamp::now())?;
    }
    Ok(Arc::new(store))
}

/// Whether its tables are there; what is to be done when it cannot be used.
fn look(shared: &config::SharedStore, options: &shared::Options) -> anyhow::Result<bool> {
    shared::look(options).map_err(|error| {
        let to_do = match (&error, &shared.octets) {
            (Unreachable::Database(_), _) => format!(
                "the database of the store, `{}`, cannot be used: see that it runs, and that it takes \
                 this user and may make the schema `{}`, or change [store]",
                shared.database, shared.schema
            ),
            (Unreachable::Octets(_), OctetsPlace::Folder(folder)) => format!(
                "the octets of the store cannot be used: see that {} is there, for this user to \
                 write in, and the same for all gateways, or change store.octets",
                folder.display()
            ),
            (Unreachable::Octets(_), OctetsPlace::Bucket { endpoint, name, .. }) => format!(
                "the octets of the store cannot be used: see that {endpoint} answers, that the bucket \
                 `{name}` is there, and that the key may list, read, write and remove what is in \
                 it, or change [store.s3]"
            ),
        };
        anyhow::Error::new(error).context(to_do)
    })
}

/// How a shared store is opened, with its secrets.
///
/// # Errors
///
/// When a file with a secret cannot be read.
pub(crate) fn options_of(
    config: &Config,
    shared: &config::SharedStore,
    purpose: Purpose,
) -> anyhow::Result<shared::Options> {
    let octets = match &shared.octets {
        OctetsPlace::Folder(folder) => Place::Folder(folder.clone()),
        OctetsPlace::Bucket { endpoint, region, name, prefix, key_id, secret: file } => {
            Place::Bucket(Bucket {
                endpoint: endpoint.clone(),
                region: region.clone(),
                name: name.clone(),
                prefix: prefix.clone(),
                key_id: key_id.clone(),
                secret: secret(file)?,
            })
        }
    };
    Ok(shared::Options {
        database: shared.database.clone(),
        password: shared.password.as_deref().map(secret).transpose()?,
        schema: shared.schema.clone(),
        connections: shared.connections,
        quiet: octets.quiet(),
        octets,
        spool: config.data.join("spool"),
        serves: purpose == Purpose::Serve,
    })
}

/// The secret in a file, without the end of its line.
fn secret(file: &Path) -> anyhow::Result<String> {
    let octets = octets_within(file, SECRET_OCTETS_MAX)?;
    let text = String::from_utf8(octets).ok();
    match text.as_deref().map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => bail!("{} holds no secret: one line of text", file.display()),
    }
}

fn open_embedded(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let directory = config.store_directory();
    if !directory.is_dir() {
        bail!("there is no store in {}: make one with `ceralacca init`", directory.display());
    }
    let keys = master_key::load(config)?;
    let archive = config.storing.archive.clone();
    let options = Options { keys, archive, ..Options::default() };
    let opened = EmbeddedStore::open(&directory, options).or_else(|error| {
        // Any answer will do, and so will one that cannot be had: nobody is behind a socket only
        // where there is no server.
        let anything = Request::ShowJob { job: 0 };
        if !matches!(control::ask(&config.control_socket(), &anything), Ok(None)) {
            bail!(
                "a server runs on the store {} already: stop that one first, or start this one in \
                 another folder",
                directory.display()
            );
        }
        Err(error).with_context(|| {
            format!(
                "the store {} cannot be opened: if a server or a command is at work on it, try \
                 again",
                directory.display()
            )
        })
    })?;
    Ok(Arc::new(opened))
}

/// Every certificate in a PEM file: at least one.
pub(crate) fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let all = Certificate::all_from_pem(&octets(file)?)
        .with_context(|| format!("{} holds no certificates in PEM", file.display()))?;
    if all.is_empty() {
        bail!("{} holds no certificate in PEM", file.display());
    }
    Ok(all)
}

/// Which network is in which country, when the rule `abuse.countries` is set.
///
/// # Errors
///
/// When the file cannot be read, or a line of it says nothing; it is named.
pub(crate) fn countries(config: &Config) -> anyhow::Result<Option<Countries>> {
    let Some(rule) = &config.countries else { return Ok(None) };
    let name = rule.file.display();
    let octets = octets_within(&rule.file, countries::FILE_OCTETS_MAX)?;
    let text = String::from_utf8(octets).with_context(|| format!("{name} is no text"))?;
    let read = Countries::parse(&text).with_context(|| format!("abuse.countries: {name}"))?;
    Ok(Some(read))
}

/// A file that is small enough to be what it should be.
pub(crate) fn octets(file: &Path) -> anyhow::Result<Vec<u8>> {
    octets_within(file, pec::providers::LDIF_OCTETS_MAX as u64)
}

fn octets_within(file: &Path, octets_max: u64) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", file.display());
    let length = std::fs::metadata(file).with_context(unreadable)?.len();
    if length > octets_max {
        bail!("{} is larger than any such file", file.display());
    }
    std::fs::read(file).with_context(unreadable)
}
