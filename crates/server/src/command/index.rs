//! `index`: the providers that are known, what this one tells others of itself, and taking in what
//! others tell.
//!
//! An import is all or nothing: the file that results is whole and on disk before it has its name.
//! Not here: where the index comes from, which is [`crate::registry`]'s.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::Certificate;
use pec::providers::{Index, ProviderRecord, certificate_hash};
use serde::Serialize;
use store::Timestamp;

use super::{plain, rfc3339, shown};
use crate::args::IndexCommand;
use crate::config::{Config, IndexSource};
use crate::control::{self, Request, Response};
use crate::{check, durable, material, registry};

/// The index that the running server uses, which need not be what its file holds by now; without a
/// server, the one that it would start with.
fn in_use(config: &Config) -> anyhow::Result<registry::Read> {
    match control::ask(&config.control_socket(), &Request::ShowIndex)? {
        None => material::index(config),
        Some(Response::Index { ldif, faults }) => {
            let (index, _) = Index::from_ldif(ldif.as_bytes())?;
            Ok((index, faults))
        }
        Some(Response::Refused { text }) => bail!(text),
        Some(_) => bail!("the running server answered something else: restart it"),
    }
}

/// Does a command and prints its answer.
///
/// # Errors
///
/// When it cannot be done, in one sentence that says why; then nothing is changed.
pub(crate) fn run(command: IndexCommand) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match command {
        IndexCommand::Show(show) => {
            let config = Config::load(&show.config.path())?;
            let (index, faults) = in_use(&config)?;
            let views: Vec<_> = index.records().iter().map(|r| view(r, &config)).collect();
            if show.json {
                writeln!(out, "{}", serde_json::to_string(&views)?)?;
            } else {
                views.iter().try_for_each(|view| out.write_all(page(view).as_bytes()))?;
            }
            for fault in faults {
                writeln!(std::io::stderr(), "ceralacca: left out: {}", plain(&fault))?;
            }
        }
        IndexCommand::Export(export) => {
            let config = Config::load(&export.config.path())?;
            match &export.signed {
                Some(file) => return export_signed(&config, file),
                None => {
                    let (index, _) = in_use(&config)?;
                    out.write_all(registry::own_ldif(&config, &index)?.as_bytes())?;
                }
            }
        }
        IndexCommand::Refresh(refresh) => {
            let config = Config::load(&refresh.config.path())?;
            let asked = Request::RefreshIndex { force: refresh.force };
            let refreshed = match control::ask(&config.control_socket(), &asked)? {
                Some(Response::Refreshed { refreshed }) => refreshed,
                Some(other) => return control::refused(other),
                None => registry::refresh_offline(&config, refresh.force, Timestamp::now())?,
            };
            let text = match refresh.json {
                true => serde_json::to_string(&refreshed)?,
                false => plain(&refreshed.to_string()),
            };
            writeln!(out, "{text}")?;
        }
        IndexCommand::Import(import) => {
            let config = Config::load(&import.config.path())?;
            let changes = take_in(&config, &import.file)?;
            if import.json {
                writeln!(out, "{}", serde_json::to_string(&changes)?)?;
            } else {
                changes.iter().try_for_each(|change| writeln!(out, "{}", line(change)))?;
            }
            return tell_server(&config);
        }
    }
    Ok(true)
}

fn is_own(record: &ProviderRecord, config: &Config) -> bool {
    config.provider.domains.iter().any(|domain| record.manages(domain))
}

// --- import

/// What an import did to one record.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    record: String,
    /// `added`, `replaced` or `unchanged`.
    change: &'static str,
    domains_added: Vec<String>,
    domains_removed: Vec<String>,
    /// By SHA-1.
    certificates_added: Vec<String>,
    certificates_removed: Vec<String>,
}

/// Puts the records of a file into the index, and tells what that changed.
fn take_in(config: &Config, file: &Path) -> anyhow::Result<Vec<Change>> {
    let IndexSource::File(index_file) = &config.index.source else {
        bail!("index.source is no file: there is nothing to import into");
    };
    let given = read(config, file)?;
    if registry::is_signed(&material::octets(index_file)?) {
        bail!("{} is signed: nothing can be put into it", index_file.display());
    }
    let folder = index_file.parent().unwrap_or(Path::new("/"));
    let lock = File::open(folder).with_context(|| format!("{} is not there", folder.display()))?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another ceralacca is working on {}: wait for it", folder.display());
    }
    let (old, faults) = material::index(config)?;
    if let Some(fault) = faults.first() {
        bail!(
            "{} has a record that cannot be read and would be lost ({fault}): mend it first",
            index_file.display()
        );
    }
    let new = old
        .with(given.records().to_vec())
        .with_context(|| format!("{} does not go with the index", file.display()))?;
    keep_ourselves(config, &new)?;
    let changes: Vec<_> = given.records().iter().map(|record| compare(&old, record)).collect();
    if changes.iter().any(|change| change.change != "unchanged") {
        durable::replace(index_file, new.to_ldif().as_bytes())
            .with_context(|| format!("{} cannot be written", index_file.display()))?;
    }
    Ok(changes)
}

/// The records of a file, every one of them sound.
fn read(config: &Config, file: &Path) -> anyhow::Result<Index> {
    let (index, faults) = registry::from_file(config, file, Timestamp::now())?;
    if let Some(fault) = faults.first() {
        bail!("{} is refused whole: {fault}", file.display());
    }
    if index.records().is_empty() {
        bail!("{} holds no record of a provider", file.display());
    }
    for record in index.records() {
        for der in &record.certificates {
            if let Err(error) = Certificate::from_der(der) {
                bail!("{} is refused whole: {}: {error}", file.display(), record.dn());
            }
        }
    }
    Ok(index)
}

/// Without a record that holds our certificate and our domains, our own mail would fail our tests.
fn keep_ourselves(config: &Config, index: &Index) -> anyhow::Result<()> {
    let certificates = material::certificates(&config.signing.certificate)?;
    let Some(certificate) = certificates.first() else { bail!("there is no signing certificate") };
    let own = index.by_certificate(certificate.to_der());
    if own.is_empty() {
        bail!(
            "it would take the certificate that this provider signs with out of the index: add \
             that one to its own record"
        );
    }
    for domain in &config.provider.domains {
        if !own.iter().any(|record| record.manages(domain)) {
            bail!("it would take {domain} out of this provider's own record: add it there");
        }
    }
    Ok(())
}

fn compare(old: &Index, new: &ProviderRecord) -> Change {
    let name = new.dn().to_lowercase();
    let before = old.records().iter().find(|record| record.dn().to_lowercase() == name);
    let change = match before {
        None => "added",
        Some(before) if before == new => "unchanged",
        Some(_) => "replaced",
    };
    let domains = |record: &ProviderRecord| -> BTreeSet<String> {
        record.domains.iter().map(ToString::to_string).collect()
    };
    let hashes =
        |record: &ProviderRecord| -> BTreeSet<String> { record.hashes().into_iter().collect() };
    let (old_domains, new_domains) = (before.map(domains).unwrap_or_default(), domains(new));
    let (old_hashes, new_hashes) = (before.map(hashes).unwrap_or_default(), hashes(new));
    Change {
        record: new.dn(),
        change,
        domains_added: new_domains.difference(&old_domains).cloned().collect(),
        domains_removed: old_domains.difference(&new_domains).cloned().collect(),
        certificates_added: new_hashes.difference(&old_hashes).cloned().collect(),
        certificates_removed: old_hashes.difference(&new_hashes).cloned().collect(),
    }
}

/// Writes the own record, signed (PEC-IDX-07, PEC-IDX-10).
fn export_signed(config: &Config, file: &Path) -> anyhow::Result<bool> {
    let octets = match control::ask(&config.control_socket(), &Request::SignIndex)? {
        Some(Response::Octets { base64, .. }) => STANDARD.decode(base64)?,
        Some(other) => return control::refused(other),
        // No server: this process talks to nobody, and may use the key.
        None => {
            let (index, _) = material::index(config)?;
            let own = registry::own_ldif(config, &index)?;
            let now = Timestamp::now();
            let (identity, key) = material::signing_at(config, &material::trust(config)?, now)?;
            identity.sign_attached(&check::KeyFile(key), own.as_bytes(), now)?
        }
    };
    durable::replace(file, &octets)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(true)
}

/// Has the running server read the index again. `false`: it did not, and has said why.
fn tell_server(config: &Config) -> anyhow::Result<bool> {
    match control::ask(&config.control_socket(), &Request::ReloadIndex)? {
        None | Some(Response::Done { .. }) => Ok(true),
        Some(other) => control::refused(other),
    }
}

fn line(change: &Change) -> String {
    let mut text = format!("{:<9}  {}", change.change, change.record);
    let parts = [
        (" +", &change.domains_added),
        (" -", &change.domains_removed),
        (" +certificate ", &change.certificates_added),
        (" -certificate ", &change.certificates_removed),
    ];
    for (mark, names) in parts {
        for name in names {
            text += &format!(" {mark}{name}");
        }
    }
    plain(&text)
}

// --- show

/// A record as commands show it.
#[derive(Debug, Serialize)]
struct RecordView {
    record: String,
    provider: String,
    unit: Option<String>,
    /// Whether it is this provider's.
    own: bool,
    mail_receipt: String,
    domains: Vec<String>,
    location: Option<String>,
    certificates: Vec<CertificateView>,
}

#[derive(Debug, Serialize)]
struct CertificateView {
    sha1: String,
    /// `None`, as the times: it cannot be read.
    subject: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    #[serde(skip)]
    ends: String,
}

fn view(record: &ProviderRecord, config: &Config) -> RecordView {
    let certificates = record.certificates.iter().map(|der| {
        let read = Certificate::from_der(der).ok();
        CertificateView {
            sha1: certificate_hash(der),
            subject: read.as_ref().map(Certificate::subject),
            not_before: read.as_ref().map(|c| rfc3339(c.not_before())),
            not_after: read.as_ref().map(|c| rfc3339(c.not_after())),
            ends: read.as_ref().map_or_else(|| "?".to_owned(), |c| shown(c.not_after())),
        }
    });
    RecordView {
        record: record.dn(),
        provider: record.name.clone(),
        unit: record.unit.clone(),
        own: is_own(record, config),
        mail_receipt: record.mail_receipt.to_string(),
        domains: record.domains.iter().map(ToString::to_string).collect(),
        location: record.location.clone(),
        certificates: certificates.collect(),
    }
}

fn page(view: &RecordView) -> String {
    let own = if view.own { "  (this provider)" } else { "" };
    let mut text = format!("{}{own}\n", plain(&view.record));
    text += &format!("  receipts to  {}\n", plain(&view.mail_receipt));
    for domain in &view.domains {
        text += &format!("  domain       {domain}\n");
    }
    for certificate in &view.certificates {
        let subject = certificate.subject.as_deref().unwrap_or("cannot be read");
        text += &format!(
            "  certificate  {}  ends {}  {}\n",
            certificate.sha1,
            certificate.ends,
            plain(subject)
        );
    }
    text
}
