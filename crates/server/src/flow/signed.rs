//! Messages of ours as they are signed, and what the step that signed them knows of them.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Context;
use crypto::{Certificate, Revocation};
use mail::ReversePath;
use pec::inspect::Examination;
use pec::layout::Unsigned;
use pec::moment::Moment;

use super::dispatch;
use crate::site::Site;

/// A message of ours whose signature holds: it was verified when it was made, and the certificate
/// with its path at that time.
pub(super) struct Signed<'a> {
    octets: Arc<[u8]>,
    entity: Range<usize>,
    signature: Vec<u8>,
    certificate: &'a Certificate,
    revocation: Revocation,
}

impl<'a> Signed<'a> {
    /// The whole message, without `Return-Path`.
    pub(super) fn octets(&self) -> &Arc<[u8]> {
        &self.octets
    }

    /// Who signed, if what an examination finds in the message is, octet for octet, what was signed
    /// and the signature that was verified: then to verify them again proves nothing more.
    pub(super) fn signer_of(
        &self,
        examination: &Examination<'_>,
    ) -> Option<(&'a Certificate, Revocation)> {
        let same = examination.entity() == Some(&self.octets[self.entity.clone()])
            && examination.signature() == Some(&self.signature[..]);
        same.then_some((self.certificate, self.revocation))
    }
}

/// Signs a message of ours.
///
/// # Errors
///
/// When the certificate does not hold, or the key cannot be used.
pub(super) fn sign(site: &Site, unsigned: Unsigned, at: Moment) -> anyhow::Result<Signed<'_>> {
    let (identity, signer) = site.signing_at(at.instant());
    // A certificate that has expired or was revoked stops the step, and not the receipt's worth.
    let revocation = site
        .trust
        .load()
        .check_certificate(identity.certificate(), at.instant())
        .context("the signing certificate does not hold: see `ceralacca check`")?;
    let signature = identity
        .sign(signer, unsigned.entity(), at.instant())
        .context("the message cannot be signed")?;
    let entity = unsigned.entity_range();
    let octets = unsigned.seal(&signature).into();
    metrics::counter!("ceralacca_signatures_total").increment(1);
    Ok(Signed { octets, entity, signature, certificate: identity.certificate(), revocation })
}

/// Signs a message of ours and puts the reverse-path at its head, for a mailbox of ours.
///
/// # Errors
///
/// As [`sign`].
pub(super) fn seal(
    site: &Site,
    unsigned: Unsigned,
    reverse_path: &ReversePath,
    at: Moment,
) -> anyhow::Result<Arc<[u8]>> {
    let signed = sign(site, unsigned, at)?;
    Ok(dispatch::with_return_path(reverse_path, signed.octets()).into())
}
