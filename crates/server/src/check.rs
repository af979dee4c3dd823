//! `check`: whether serve would start, and what is doubtful.
//!
//! It reads what serve reads and tries what serve tries, the ports included, and changes nothing.
//! A fault is what serve would not start with; a doubt is what an operator should look at. What can
//! be told of keys, certificates, index and accounts both ask of the same functions, which are in
//! `standing`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crypto::{SignError, Signer};
use serde::Serialize;
use store::Timestamp;

use crate::antivirus::Clamd;
use crate::config::{Config, OrdinaryMail, Service, SharedStore, StampSource};
use crate::control::{self, Request};
use crate::signer::device::DeviceKey;
use crate::timesource::{self, Standing};
use crate::{material, signer};

mod ages;
mod outside;
mod profile;
mod records;
mod standing;

pub(crate) use standing::{before_exchange, before_start};

/// How long clamd may take to say its version.
const VERSION_WAIT: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// With any of these serve does not start.
    faults: Vec<String>,
    /// With these it does.
    doubts: Vec<String>,
    /// What else is worth knowing.
    notes: Vec<String>,
    /// Records that DNS should have.
    records: Vec<String>,
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

    /// An error that says all the faults, if there are any.
    fn into_result(self) -> anyhow::Result<()> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(anyhow::Error::msg(self.faults.join("\n")))
        }
    }

    /// What went well; what did not is a fault.
    fn take<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.fault(format!("{error:#}"))).ok()
    }
}

/// The key as it lies in its file: this process talks to nobody, and may read it.
pub(crate) struct KeyFile<'a>(pub(crate) &'a Path);

impl Signer for KeyFile<'_> {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError> {
        let unavailable = |error| SignError::Unavailable(format!("{error:#}"));
        signer::open(self.0).map_err(unavailable)?.sign(octets)
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
    for (word, texts) in [
        ("fault", &findings.faults),
        ("doubt", &findings.doubts),
        ("note ", &findings.notes),
        ("dns  ", &findings.records),
    ] {
        for text in texts {
            writeln!(out, "{word}  {text}")?;
        }
    }
    let verdict = if starts { "serve would start" } else { "serve would not start" };
    writeln!(out, "{verdict}")?;
    Ok(starts)
}

fn look(config: &Config, at: Timestamp) -> Findings {
    let mut found = Findings { records: records::suggested(config), ..Findings::default() };
    for complaint in &config.doubts {
        found.doubt(complaint.to_string());
    }
    look_at_policies(config, &mut found);
    found.take(material::countries(config));
    outside::look_at(config, &mut found);
    let next = config.next_signing.as_ref().map(|next| &next.pair.key);
    let stamping = match &config.timestamp.authority {
        StampSource::Internal(pair) => Some(&pair.key),
        StampSource::Url(_) => None,
    };
    let keys = [&config.signing.key, &config.tls.key].into_iter().chain(next).chain(stamping);
    let secrets = config.storing.shared.iter().flat_map(SharedStore::secrets);
    for key in keys.chain(secrets) {
        look_at_permissions(key, &mut found);
    }
    for key in [&config.signing.key].into_iter().chain(next) {
        if signer::device_uri(key).is_none() {
            found.doubt(format!(
                "the signing key is in a file, {}: in service the law asks for a device of its own \
                 (PEC-SIG-06), which a pkcs11: URI in signing.key names",
                key.display()
            ));
        }
    }
    let next = config.next_signing.as_ref().map(|next| KeyFile(&next.pair.key));
    let next = next.as_ref().map(|next| next as &dyn Signer);
    standing::look_at_keys(config, &KeyFile(&config.signing.key), next, at, &mut found);
    ages::look_at_stamps(config, at, &mut found);
    ages::look_at_index(config, &mut found);
    look_at_store_and_ports(config, &mut found);
    look_at_clock(&mut found);
    found
}

fn look_at_policies(config: &Config, found: &mut Findings) {
    match &config.antivirus.clamd {
        None => found.doubt(
            "nothing is scanned for viruses: a provider must, before it certifies or delivers \
             (DPR 68/2005 art. 12)",
        ),
        Some(place) => match Clamd::new(place, VERSION_WAIT).version() {
            Ok(version) => found.note(format!("messages are scanned by {version} at {place}")),
            Err(error) => found.doubt(format!(
                "{error}: until it does, nothing is certified and nothing delivered"
            )),
        },
    }
    found.note(match config.ordinary_mail.policy {
        OrdinaryMail::Reject => "ordinary mail is refused, unless an account says otherwise",
        OrdinaryMail::Deliver(_) => {
            "ordinary mail is delivered in anomaly envelopes, unless an account says otherwise: \
             tell your users (RT §9.1.2)"
        }
        OrdinaryMail::Forward(_) => {
            "ordinary mail is forwarded in anomaly envelopes, unless an account says otherwise: \
             tell your users (RT §9.1.2)"
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

fn look_at_store_and_ports(config: &Config, found: &mut Findings) {
    // A server that runs already has the store and the ports, and is the proof that it starts.
    match control::ask(&config.control_socket(), &Request::List) {
        Ok(Some(_)) => {
            if config.storing.shared.is_some() {
                found.note("the server is running: ports are its own, and were not tried");
                found.take(material::store_as_it_is(config));
            } else {
                found
                    .note("the server is running: store and ports are its own, and were not tried");
            }
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
            found.fault(port_taken(service, address, &error));
        }
    }
    match found.take(material::store_as_it_is(config)) {
        Some(Some(store)) => standing::look_at_accounts(config, &*store, found),
        Some(None) => found.note(
            "the store's tables are made at the first start, with the accounts that every provider \
             has",
        ),
        None => {}
    }
}

/// Why a service cannot have its port.
pub(crate) fn port_taken(service: Service, address: SocketAddr, error: &std::io::Error) -> String {
    format!(
        "{} cannot listen on {address} ({error}): stop what does, or change [listen]",
        service.name()
    )
}

fn look_at_permissions(key: &Path, found: &mut Findings) {
    // Of a key in a device, who reads the PIN has the key.
    let device = signer::device_uri(key).and_then(|uri| DeviceKey::parse(uri).ok());
    let key = device.as_ref().map_or(key, |device| &device.pin_file);
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

fn look_at_clock(found: &mut Findings) {
    match timesource::look() {
        Standing::Synchronised(_) => {}
        Standing::Off(Some(off)) => found.doubt(format!(
            "this machine's clock may be {off:.3} s from UTC, and one second is allowed (DM 2 Nov \
             2005 art. 9): receipts attest its time, so look at chrony"
        )),
        Standing::Off(None) => found.doubt(
            "this machine's clock is not synchronised: receipts attest its time, so look at chrony",
        ),
        Standing::Unknown => found.doubt(
            "whether this machine's clock is synchronised cannot be told: receipts attest its \
             time, so run chrony or systemd-timesyncd",
        ),
    }
}

#[cfg(test)]
mod tests;
