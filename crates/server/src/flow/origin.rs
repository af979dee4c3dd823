//! The first three tests of the incoming point: is it signed, by whom, and does it hold
//! (PEC-PR-01 to PEC-PR-03).

use anyhow::Context;
use crypto::{Certificate, Digest, Revocation, VerifyError};
use pec::incoming::{
    Class, OriginFault, Provenance, Routing, SignedBy, VerifiedEnvelope, VerifiedNotification,
    judge,
};
use pec::inspect::Examination;
use pec::moment::Moment;
use pec::providers::ProviderRecord;

use super::Tested;
use super::signed::Signed;
use crate::site::Site;

/// What a message is, and what was out of order without deciding it.
pub(super) struct Judged {
    pub(super) class: Class,
    pub(super) notes: Vec<String>,
}

/// Makes the four tests, in their order.
///
/// # Errors
///
/// When the cryptography itself failed, which says nothing about the message.
pub(super) fn test(
    site: &Site,
    examination: &Examination<'_>,
    routing: &Routing<'_>,
    at: Moment,
) -> anyhow::Result<Judged> {
    let ordinary =
        |fault| Ok(Judged { class: judge(examination, Err(fault), routing), notes: Vec::new() });
    let (Some(entity), Some(signature)) = (examination.entity(), examination.signature()) else {
        return ordinary(OriginFault::NotSigned);
    };
    let verified = match crypto::verify(signature, entity, &site.trust.load(), at.instant()) {
        Ok(verified) => verified,
        Err(VerifyError::Fault(cause)) => anyhow::bail!("a signature cannot be verified: {cause}"),
        // Which test failed first is found out when one has failed.
        Err(_) => {
            return ordinary(match crypto::signer_certificate(signature) {
                Err(VerifyError::Fault(cause)) => {
                    anyhow::bail!("a signature cannot be looked into: {cause}")
                }
                Err(_) => OriginFault::NotSigned,
                Ok(named) if site.providers.load().by_certificate(named.to_der()).is_empty() => {
                    OriginFault::NotAProvider
                }
                Ok(_) => OriginFault::NotValid,
            });
        }
    };
    let mut judged = judge_signer(
        site,
        examination,
        routing,
        &verified.signer,
        verified.revocation,
        Signer::Anybody,
    );
    if verified.digest == Digest::Sha1 && !matches!(judged.class, Class::Ordinary(_)) {
        if !site.config.load().trust.sha1 {
            return ordinary(OriginFault::NotValid);
        }
        // Doubt D-06.
        judged.notes.push("it is signed with SHA-1".to_owned());
    }
    Ok(judged)
}

/// Whose signature it is, as far as that is known beforehand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signer {
    /// The index says whose.
    Anybody,
    /// It was made in this very step: a domain that came to us speaks through us, whatever an index of
    /// yesterday has.
    Ourselves,
}

/// The second test and the fourth, of a message whose signature and path hold.
fn judge_signer(
    site: &Site,
    examination: &Examination<'_>,
    routing: &Routing<'_>,
    certificate: &Certificate,
    revocation: Revocation,
    signer: Signer,
) -> Judged {
    let ordinary =
        |fault| Judged { class: judge(examination, Err(fault), routing), notes: Vec::new() };
    let providers = site.providers.load();
    // The hash only finds the record; what decides is that the certificates are the same octets.
    let records = providers.by_certificate(certificate.to_der());
    if records.is_empty() {
        return ordinary(OriginFault::NotAProvider);
    }
    let mut notes = match revocation {
        Revocation::Checked => Vec::new(),
        Revocation::NotAvailable if site.config.load().trust.require_crl => {
            return ordinary(OriginFault::NotValid);
        }
        Revocation::NotAvailable => {
            metrics::counter!("ceralacca_crl_unavailable_total").increment(1);
            vec!["no revocation list could be had for the signer".to_owned()]
        }
    };
    let emails = certificate.emails();
    let strict_author = site.config.load().trust.strict_author;
    let ours: Vec<ProviderRecord> = match signer {
        Signer::Anybody => Vec::new(),
        Signer::Ourselves => records.iter().map(|record| with_our_domains(site, record)).collect(),
    };
    let ours: Vec<&ProviderRecord> = ours.iter().collect();
    let records = if ours.is_empty() { &records } else { &ours };
    let signed_by = SignedBy { records, emails: &emails, index: &providers, strict_author };
    let class = judge(examination, Ok(signed_by), routing);
    notes.extend(class.remarks());
    Judged { class, notes }
}

/// Our record, with what the configuration says that we manage.
fn with_our_domains(site: &Site, record: &ProviderRecord) -> ProviderRecord {
    let mut record = record.clone();
    for domain in &site.config.load().provider.domains {
        if !record.manages(domain) {
            record.domains.push(domain.clone());
        }
    }
    record
}

/// A message of ours that we would believe too.
pub(super) enum Own {
    /// An envelope, and what was out of order without deciding it.
    Envelope(Box<VerifiedEnvelope>, Vec<String>),
    /// A receipt or notice, and what was out of order without deciding it.
    Receipt(Box<VerifiedNotification>, Vec<String>),
}

impl Own {
    /// What goes with it into the queue.
    pub(super) fn provenance(&self) -> Provenance {
        match self {
            Self::Envelope(envelope, _) => envelope.provenance().clone(),
            Self::Receipt(receipt, _) => receipt.provenance().clone(),
        }
    }
}

/// Makes the tests on a message of ours that goes to a recipient of ours, in the very step that
/// signed it: what they proved goes with it. The value of the signature and the signer's path are not
/// gone through a second time: what is in the message must be the very octets that were signed and
/// verified, and the rest is asked as of anybody's. What the tests do not hold for ours gets into no
/// mailbox: it is tested again in a step of its own, until it passes or somebody looks.
///
/// # Errors
///
/// When it is not what it should be.
pub(super) fn test_own(
    site: &Site,
    examination: &Examination<'_>,
    routing: &Routing<'_>,
    signed: &Signed<'_>,
) -> anyhow::Result<Own> {
    let Some((certificate, revocation)) = signed.signer_of(examination) else {
        anyhow::bail!("a message of ours does not hold what was signed");
    };
    let Judged { class, notes } =
        judge_signer(site, examination, routing, certificate, revocation, Signer::Ourselves);
    match class {
        Class::Envelope(envelope) => Ok(Own::Envelope(envelope, notes)),
        Class::Notification(receipt) => Ok(Own::Receipt(receipt, notes)),
        Class::Anomaly(fault) => anyhow::bail!("a message of ours has a wrong form: {fault}"),
        Class::Ordinary(fault) => {
            anyhow::bail!("a message of ours is not held for ours: {fault:?}")
        }
    }
}

/// The same as [`test`](test()), unless the message passed the tests before: what was proved of its origin
/// stays proved, whatever has become of its signer since.
pub(super) fn test_once(
    site: &Site,
    examination: &Examination<'_>,
    routing: &Routing<'_>,
    at: Moment,
    tested: Tested,
) -> anyhow::Result<Judged> {
    let Tested { arrived, origin } = tested;
    let class = match (&arrived, origin) {
        (_, Some(origin)) => pec::incoming::recall(examination, &origin, routing),
        (Some(_), None) => recall_by_index(site, examination, routing)?,
        (None, None) => return test(site, examination, routing, at),
    };
    Ok(Judged { class, notes: arrived.map(|arrived| arrived.notes).unwrap_or_default() })
}

/// A message whose job does not say what was proved of it, as those of earlier releases: who signed
/// it is asked of the index as it is now.
fn recall_by_index(
    site: &Site,
    examination: &Examination<'_>,
    routing: &Routing<'_>,
) -> anyhow::Result<Class> {
    let signature = examination.signature().context("the message has lost its signature")?;
    let certificate = crypto::signer_certificate(signature)?;
    let providers = site.providers.load();
    let records = providers.by_certificate(certificate.to_der());
    let emails = certificate.emails();
    let signed_by =
        SignedBy { records: &records, emails: &emails, index: &providers, strict_author: false };
    Ok(judge(examination, Ok(signed_by), routing))
}

/// An envelope that passed the tests already, read again.
pub(super) fn recall_envelope(
    site: &Site,
    examination: &Examination<'_>,
    routing: &Routing<'_>,
    origin: Option<&Provenance>,
) -> anyhow::Result<VerifiedEnvelope> {
    let class = match origin {
        Some(origin) => pec::incoming::recall(examination, origin, routing),
        None => recall_by_index(site, examination, routing)?,
    };
    match class {
        Class::Envelope(envelope) => Ok(*envelope),
        other => anyhow::bail!("what was an envelope is none any more: {other:?}"),
    }
}
