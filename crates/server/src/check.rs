//! `check`: whether serve would start, and what is doubtful.
//!
//! It reads what serve reads and tries what serve tries, the ports included, and changes nothing.
//! A fault is what serve would not start with; a doubt is what an operator should look at.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crypto::{Certificate, LocalSigner, Revocation, Trust};
use serde::Serialize;
use store::embedded::{EmbeddedStore, Options};
use store::{Store, Timestamp};

use crate::config::{Config, OrdinaryMail, Service};
use crate::control::{self, Request};
use crate::material;

mod profile;

/// A certificate that ends sooner than this is doubtful: time to get another, and to have it in the
/// index of providers before (PEC-IDX-05).
const EXPIRY_DAYS: i64 = 30;

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// With any of these serve does not start.
    faults: Vec<String>,
    /// With these it does.
    doubts: Vec<String>,
    /// What else is worth knowing.
    notes: Vec<String>,
}

impl Findings {
    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    fn doubt(&mut self, text: impl Into<String>) {
        self.doubts.push(text.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// What went well; what did not is a fault.
    fn take<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.fault(format!("{error:#}"))).ok()
    }
}

/// Checks the configuration in `file` and all that it names, and prints what was found.
///
/// # Errors
///
/// When nobody can read the answer.
pub(crate) fn run(file: &Path, json: bool) -> anyhow::Result<bool> {
    let findings = match Config::load(file) {
        Ok(config) => look(&config, Timestamp::now()),
        Err(errors) => Findings {
            faults: errors.0.iter().map(ToString::to_string).collect(),
            ..Findings::default()
        },
    };
    let starts = findings.faults.is_empty();
    let mut out = std::io::stdout().lock();
    if json {
        #[derive(Serialize)]
        struct Answer<'a> {
            starts: bool,
            #[serde(flatten)]
            findings: &'a Findings,
        }
        let answer = Answer { starts, findings: &findings };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(starts);
    }
    for (word, texts) in
        [("fault", &findings.faults), ("doubt", &findings.doubts), ("note ", &findings.notes)]
    {
        for text in texts {
            writeln!(out, "{word}  {text}")?;
        }
    }
    let verdict = if starts { "serve would start" } else { "serve would not start" };
    writeln!(out, "{verdict}")?;
    Ok(starts)
}

fn look(config: &Config, at: Timestamp) -> Findings {
    let mut found = Findings::default();
    for complaint in &config.unbuilt {
        found.fault(complaint.to_string());
    }
    for complaint in &config.doubts {
        found.doubt(complaint.to_string());
    }
    look_at_policies(config, &mut found);
    let trust = found.take(material::trust(config));
    look_at_signing(config, trust.as_ref(), at, &mut found);
    look_at_tls(config, at, &mut found);
    if let Some(trust) = &trust {
        for crl in trust.crls() {
            if crl.next_update().is_some_and(|next| next <= at) {
                found.doubt(format!("the revocation list of {} is out of date", crl.issuer()));
            }
        }
    }
    look_at_store_and_ports(config, &mut found);
    look_at_clock(&mut found);
    found
}

fn look_at_policies(config: &Config, found: &mut Findings) {
    if config.clamd.is_none() {
        found.doubt(
            "nothing is scanned for viruses: a provider must, before it certifies or delivers \
             (DPR 68/2005 art. 12)",
        );
    }
    found.note(match config.ordinary_mail {
        OrdinaryMail::Reject => "ordinary mail is refused",
        OrdinaryMail::Deliver | OrdinaryMail::Forward => {
            "this version takes no mail in from other hosts yet, whatever ordinary_mail.policy says"
        }
    });
    let http = config.listen_addr(Service::Http);
    if !http.ip().is_loopback() {
        found.doubt(format!(
            "the pages on {http} show metrics to whoever reaches them: set listen.http to an \
             address of your own network"
        ));
    }
}

fn look_at_signing(config: &Config, trust: Option<&Trust>, at: Timestamp, found: &mut Findings) {
    look_at_permissions(&config.signing.key, found);
    let key = material::octets(&config.signing.key)
        .and_then(|pem| LocalSigner::from_pem(&pem)?.public_key_der().map_err(anyhow::Error::from));
    let key = found.take(key.map_err(|error| {
        error.context(format!("the signing key {}", config.signing.key.display()))
    }));
    let file = config.signing.certificate.display();
    let Some(certificates) = found.take(material::certificates(&config.signing.certificate)) else {
        return;
    };
    let Some(certificate) = certificates.first() else { return };
    if key.is_some_and(|key| !certificate.has_public_key(&key)) {
        found.fault(format!(
            "{} is not the key of {file}: give the pair that belongs together",
            config.signing.key.display()
        ));
    }
    look_at_validity("signing", certificate, at, found);
    if let Some(trust) = trust {
        match trust.check_certificate(certificate, at) {
            Ok(Revocation::Checked) => {}
            Ok(Revocation::NotAvailable) if config.trust.require_crl => found.fault(
                "there is no revocation list for the signing certificate, and trust.require_crl \
                 asks for one: name it in trust.crls",
            ),
            Ok(Revocation::NotAvailable) => found.doubt(
                "there is no current revocation list for the signing certificate: name it in \
                 trust.crls",
            ),
            Err(error) => found.fault(format!("the signing certificate {file}: {error}")),
        }
    }
    let author = config.provider.author();
    for departure in profile::departures(certificate, &config.provider.name, author.as_ref()) {
        found.doubt(format!("the signing certificate {file} {departure}"));
    }
    look_at_index(config, certificate, found);
}

/// Without an own record that holds the certificate, our own envelopes would fail our own tests.
fn look_at_index(config: &Config, certificate: &Certificate, found: &mut Findings) {
    let Some((index, faults)) = found.take(material::index(config)) else { return };
    for fault in faults {
        found.doubt(format!("the index of providers: {fault}"));
    }
    let records = index.by_certificate(certificate.to_der());
    if records.is_empty() {
        found.fault(
            "the signing certificate is in no record of the index of providers: add it to the \
             provider's own",
        );
        return;
    }
    for domain in &config.provider.domains {
        if !records.iter().any(|record| record.manages(domain)) {
            found.fault(format!(
                "the provider's own record in the index does not manage {domain}: add it there, \
                 or take it out of provider.domains"
            ));
        }
    }
    if records.iter().all(|record| record.name != config.provider.name) {
        found.doubt(format!(
            "the provider is called otherwise in the index than provider.name, {}",
            config.provider.name
        ));
    }
}

fn look_at_tls(config: &Config, at: Timestamp, found: &mut Findings) {
    look_at_permissions(&config.tls.key, found);
    let usable = crypto::tls::tickets().map_err(anyhow::Error::from).and_then(|tickets| {
        let chain = material::octets(&config.tls.certificate)?;
        let key = material::octets(&config.tls.key)?;
        Ok(crypto::tls::server_config(&chain, &key, &tickets)?)
    });
    if found.take(usable).is_none() {
        return;
    }
    if let Some(certificates) = found.take(material::certificates(&config.tls.certificate))
        && let Some(certificate) = certificates.first()
    {
        look_at_validity("TLS", certificate, at, found);
    }
}

fn look_at_validity(what: &str, certificate: &Certificate, at: Timestamp, found: &mut Findings) {
    let (begins, ends) = (certificate.not_before(), certificate.not_after());
    if ends <= at {
        found.fault(format!("the {what} certificate ended on {ends}: put a new one in its place"));
    } else if begins > at {
        found.fault(format!("the {what} certificate begins on {begins} only: look at the clock"));
    } else if ends.as_second() - at.as_second() < EXPIRY_DAYS * 86_400 {
        found.doubt(format!("the {what} certificate ends on {ends}: get a new one"));
    }
}

fn look_at_permissions(key: &Path, found: &mut Findings) {
    let Ok(metadata) = std::fs::metadata(key) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        found.doubt(format!(
            "{} can be read by others (mode {mode:o}): run `chmod 600 {}`",
            key.display(),
            key.display()
        ));
    }
}

fn look_at_store_and_ports(config: &Config, found: &mut Findings) {
    // A server that runs already has the store and the ports, and is the proof that it starts.
    match control::ask(&config.control_socket(), &Request::List) {
        Ok(Some(_)) => {
            found.note("the server is running: store and ports are its own, and were not tried");
            return;
        }
        Ok(None) => {}
        Err(error) => found.fault(format!("{error:#}")),
    }
    for service in Service::ALL {
        // Not built, and not listened on.
        if service == Service::Pop3s {
            continue;
        }
        let address = config.listen_addr(service);
        if let Err(error) = TcpListener::bind(address) {
            found.fault(format!(
                "{} cannot listen on {address} ({error}): stop what does, or change [listen]",
                service.name()
            ));
        }
    }
    let directory = config.store_directory();
    if !directory.is_dir() {
        found.fault(format!(
            "there is no store in {}: make one with `ceralacca init`",
            directory.display()
        ));
        return;
    }
    match EmbeddedStore::open(&directory, Options::default()) {
        Ok(store) => look_at_accounts(config, &store, found),
        Err(error) => found.fault(format!("the store {}: {error}", directory.display())),
    }
}

fn look_at_accounts(config: &Config, store: &dyn Store, found: &mut Findings) {
    let service = [config.provider.author(), config.provider.service_mailbox()];
    for address in service.iter().flatten() {
        if !matches!(store.account_by_address(address), Ok(Some(_))) {
            found.fault(format!(
                "there is no account {address}, which certified mail needs: was the first of \
                 provider.domains changed?"
            ));
        }
    }
    let postmaster = &config.provider.postmaster;
    if !matches!(store.account_by_address(postmaster), Ok(Some(_))) {
        found.doubt(format!(
            "there is no account {postmaster} for mail to postmaster: add it, or set \
             provider.postmaster"
        ));
    }
}

fn look_at_clock(found: &mut Findings) {
    // Written by systemd-timesyncd; other daemons leave no such mark.
    if !Path::new("/run/systemd/timesync/synchronized").exists() {
        found.note(
            "whether this machine's clock is synchronised cannot be told: receipts attest its \
             time, so run chrony or systemd-timesyncd",
        );
    }
}

#[cfg(test)]
mod tests;
