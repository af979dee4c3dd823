//! Whether this provider can certify anything: its key and certificates, its own record in the
//! index, and the accounts that certified mail needs.
//!
//! `check` asks it, serve before it listens, and SIGHUP before it takes anything new in: what one
//! calls a fault the others do not work with, in the same words.

use crypto::{Certificate, Revocation, SignError, Signer, Trust};
use mail::Address;
use pec::providers::Index;
use store::{Store, Timestamp};

use super::{Findings, profile};
use crate::config::Config;
use crate::material;

/// A certificate that ends sooner than this is doubtful: time to get another, and to have it in the
/// index of providers before (PEC-IDX-05).
const EXPIRY_DAYS: i64 = 30;
/// What the signer is asked to sign, to be compared with the certificate; its signature goes
/// nowhere.
pub(super) const PROBE: &[u8] = b"ceralacca: is this the key of the certificate?";

/// Asked by serve, before it listens.
///
/// # Errors
///
/// Each fault, a line.
pub(crate) fn before_start(
    config: &Config,
    signer: &dyn Signer,
    next: Option<&dyn Signer>,
    store: &dyn Store,
    at: Timestamp,
) -> anyhow::Result<()> {
    let mut found = Findings::default();
    look_at_keys(config, signer, next, at, &mut found);
    look_at_accounts(config, store, &mut found);
    found.into_result()
}

/// Asked while running, before other authorities, revocation lists or another index take the place
/// of those in use: would what we sign with this certificate still pass our own tests?
///
/// # Errors
///
/// Each fault, a line.
pub(crate) fn before_exchange(
    config: &Config,
    certificate: &Certificate,
    trust: &Trust,
    index: &Index,
    at: Timestamp,
) -> anyhow::Result<()> {
    let mut found = Findings::default();
    look_at_trust(config, certificate, trust, at, &mut found);
    look_at_record(config, certificate, index, &mut found);
    found.into_result()
}

/// All that is read but the configuration.
pub(super) fn look_at_keys(
    config: &Config,
    signer: &dyn Signer,
    next: Option<&dyn Signer>,
    at: Timestamp,
    found: &mut Findings,
) {
    let trust = found.take(material::trust(config));
    let taken_over = look_at_next(config, next, trust.as_ref(), at, found);
    if !taken_over {
        look_at_signing(config, signer, trust.as_ref(), at, found);
    }
    look_at_tls(config, at, found);
    for crl in trust.iter().flat_map(Trust::crls) {
        if crl.next_update().is_some_and(|next| next <= at) {
            found.doubt(format!("the revocation list of {} is out of date", crl.issuer()));
        }
    }
}

/// The pair that takes over: all that is asked of the one in use, as of the time from which it is
/// used. Whether it is in use already.
fn look_at_next(
    config: &Config,
    signer: Option<&dyn Signer>,
    trust: Option<&Trust>,
    at: Timestamp,
    found: &mut Findings,
) -> bool {
    let (Some(next), Some(signer), Some(trust)) = (&config.next_signing, signer, trust) else {
        return false;
    };
    let Some(Some((_, from))) = found.take(material::next_identity(config, trust)) else {
        return false;
    };
    let pair = Config { signing: next.pair.clone(), next_signing: None, ..config.clone() };
    look_at_signing(&pair, signer, Some(trust), at.max(from), found);
    if from > at {
        found.note(format!("the next signing certificate takes over on {from}"));
        // PEC-IDX-05: with overlapping validity.
        if let Some(current) = found.take(material::certificates(&config.signing.certificate))
            && current.first().is_some_and(|current| current.not_after() < from)
        {
            found.fault(format!(
                "the signing certificate ends before {from}, when the next one takes over"
            ));
        }
    }
    from <= at
}

fn look_at_signing(
    config: &Config,
    signer: &dyn Signer,
    trust: Option<&Trust>,
    at: Timestamp,
    found: &mut Findings,
) {
    let (key, file) = (config.signing.key.display(), config.signing.certificate.display());
    let signature = found.take(signer.sign(PROBE).map_err(|error| match error {
        SignError::Unavailable(reason) => anyhow::anyhow!("the signing key {key}: {reason}"),
        other => anyhow::anyhow!("the signing key {key}: {other}"),
    }));
    let Some(certificates) = found.take(material::certificates(&config.signing.certificate)) else {
        return;
    };
    let Some(certificate) = certificates.first() else { return };
    if signature.is_some_and(|signature| !certificate.has_signed(PROBE, &signature)) {
        found.fault(format!("{key} is not the key of {file}: give the pair that belongs together"));
    }
    look_at_validity("signing", certificate, at, found);
    if let Some(trust) = trust {
        look_at_trust(config, certificate, trust, at, found);
    }
    let emails = certificate.emails();
    let speaks_for = |author: &Address| {
        emails.iter().any(|email| Address::parse(email).is_ok_and(|email| email == *author))
    };
    if let Some(author) = config.provider.author()
        && !speaks_for(&author)
    {
        found.fault(format!(
            "the signing certificate {file} does not hold {author}, which messages come from \
             (PEC-SIG-04): get one that does"
        ));
    }
    for departure in profile::departures(certificate, &config.provider.name) {
        found.doubt(format!("the signing certificate {file} {departure}"));
    }
    if let Some((index, faults)) = found.take(material::index(config)) {
        for fault in faults {
            found.doubt(format!("the index of providers: {fault}"));
        }
        look_at_record(config, certificate, &index, found);
    }
}

fn look_at_trust(
    config: &Config,
    certificate: &Certificate,
    trust: &Trust,
    at: Timestamp,
    found: &mut Findings,
) {
    match trust.check_certificate(certificate, at) {
        Ok(Revocation::Checked) => {}
        Ok(Revocation::NotAvailable) if config.trust.require_crl => found.fault(
            "there is no revocation list for the signing certificate, and trust.require_crl asks \
             for one: name it in trust.crls",
        ),
        Ok(Revocation::NotAvailable) => found.doubt(
            "there is no current revocation list for the signing certificate: name it in \
             trust.crls",
        ),
        Err(error) => found.fault(format!(
            "the signing certificate {}: {error}",
            config.signing.certificate.display()
        )),
    }
}

/// Without an own record that holds the certificate, our own envelopes would fail our own tests.
fn look_at_record(config: &Config, certificate: &Certificate, index: &Index, found: &mut Findings) {
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
    let usable = crypto::tls::tickets().map_err(anyhow::Error::from).and_then(|tickets| {
        let chain = material::octets(&config.tls.certificate)?;
        let key = material::octets(&config.tls.key)?;
        Ok(crypto::tls::server_config(&chain, &key, &tickets, crypto::tls::Clients::NotAsked)?)
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

pub(super) fn look_at_validity(
    what: &str,
    certificate: &Certificate,
    at: Timestamp,
    found: &mut Findings,
) {
    let (begins, ends) = (certificate.not_before(), certificate.not_after());
    if ends <= at {
        found.fault(format!("the {what} certificate ended on {ends}: put a new one in its place"));
    } else if begins > at {
        found.fault(format!("the {what} certificate begins on {begins} only: look at the clock"));
    } else if ends.as_second() - at.as_second() < EXPIRY_DAYS * 86_400 {
        found.doubt(format!("the {what} certificate ends on {ends}: get a new one"));
    }
}

pub(super) fn look_at_accounts(config: &Config, store: &dyn Store, found: &mut Findings) {
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
