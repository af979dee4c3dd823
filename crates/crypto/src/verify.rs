//! CMS signatures verified: the value, the digest, the signer's path.
//!
//! RFC 5652 §5.4, §5.6; what a provider verifies is PEC-PR-02 and PEC-PR-03. What is not here: that
//! the signer is in the index of providers, and that it manages the domain it writes from; those
//! who know the index ask that, with the [`Verified::signer`] they get.
//!
//! Octets come from anywhere, so OpenSSL reads them (BER or DER, with its own limit on depth),
//! and only what OpenSSL wrote again in DER is looked at by us.

use jiff::Timestamp;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::X509;

use crate::certificate::Certificate;
use crate::ffi;
use crate::smime::Layout;
use crate::trust::{Revocation, Trust};

/// A signature with the chain of its certificates has 3 to 10 KiB; past this it is an attack on
/// our time, since each signer and certificate in it costs some.
pub const CMS_OCTETS_MAX: usize = 64 * 1024;

/// Reason code of OpenSSL's CMS: the certificate that the signature names did not come along.
const SIGNER_CERTIFICATE_NOT_FOUND: i32 = 138;

/// The digest of a signature, from the signature itself; `micalg` is but a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// Seen from real providers until today, and accepted: PEC-SIG-07. Callers may note it.
    Sha1,
    /// What we sign with.
    Sha256,
    /// Stronger than what the rules ask for.
    Sha384,
    /// Stronger than what the rules ask for.
    Sha512,
}

impl Digest {
    fn of(oid: &[u8]) -> Option<Self> {
        match oid {
            b"\x2b\x0e\x03\x02\x1a" => Some(Self::Sha1),
            b"\x60\x86\x48\x01\x65\x03\x04\x02\x01" => Some(Self::Sha256),
            b"\x60\x86\x48\x01\x65\x03\x04\x02\x02" => Some(Self::Sha384),
            b"\x60\x86\x48\x01\x65\x03\x04\x02\x03" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// A signature that holds: there is no other way to one of these than [`verify`].
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who signed.
    pub signer: Certificate,
    /// With which digest.
    pub digest: Digest,
    /// When, by the signer's own word.
    pub signing_time: Option<Timestamp>,
    /// Whether a current revocation list said that the signer's certificate stands.
    pub revocation: Revocation,
}

/// Why a signature does not hold. All but [`Fault`](Self::Fault) are the message's failing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No CMS SignedData, or one past [`CMS_OCTETS_MAX`].
    #[error("not a CMS signature")]
    NotCms,
    /// The signer's certificate is not in the structure (PEC-SIG-03), or there is not exactly
    /// one signer: a provider signs alone.
    #[error("the certificate of one signer is not in the signature")]
    NoSigner,
    /// The value or the digest is not that of the content; or the digest is one that nobody
    /// should trust, as MD5.
    #[error("the signature is not of this content")]
    Signature,
    /// No path for this purpose to an authority that we trust; OpenSSL's words for the log.
    #[error("no certification path: {0}")]
    Path(String),
    /// A certificate of the path had ended at the given time.
    #[error("the certificate has expired")]
    Expired,
    /// A certificate of the path had not begun at the given time.
    #[error("the certificate is not yet valid")]
    NotYetValid,
    /// A certificate of the path was revoked by the given time.
    #[error("the certificate is revoked")]
    Revoked,
    /// We failed, not the message: out of memory, for one.
    #[error("the cryptographic library failed: {0}")]
    Fault(String),
}

impl From<ErrorStack> for VerifyError {
    fn from(errors: ErrorStack) -> Self {
        Self::Fault(errors.to_string())
    }
}

/// Verifies a detached signature over `content`, as it was received (PEC-SIG-09), with the signer's
/// path to `trust` at the time `at`: PEC-PR-03. The profile of certificates is not asked for
/// (PEC-CRT-10).
///
/// # Errors
///
/// [`VerifyError`] says which of the checks failed first: structure, value, path.
pub fn verify(
    cms: &[u8],
    content: &[u8],
    trust: &Trust,
    at: Timestamp,
) -> Result<Verified, VerifyError> {
    let (mut cms, der) = read(cms)?;
    let layout = Layout::read(&der).ok_or(VerifyError::NotCms)?;
    if layout.signers != 1 {
        return Err(VerifyError::NoSigner);
    }
    let digest = Digest::of(layout.digest).ok_or(VerifyError::Signature)?;
    let signer = run(&mut cms, content, CMSOptions::empty())?;
    let mut along = Stack::new()?;
    for certificate in &layout.certificates {
        // One that cannot be read helps no path; if one is missing then, the path fails.
        if let Ok(certificate) = X509::from_der(certificate) {
            along.push(certificate)?;
        }
    }
    let revocation = trust.check(&signer, &along, at)?;
    Ok(Verified { signer, digest, signing_time: layout.signing_time, revocation })
}

/// The certificate that a signature names, with nothing verified: where PEC-PR-02 begins.
///
/// # Errors
///
/// [`VerifyError::NotCms`] or [`VerifyError::NoSigner`].
pub fn signer_certificate(cms: &[u8]) -> Result<Certificate, VerifyError> {
    let (mut cms, der) = read(cms)?;
    if Layout::read(&der).ok_or(VerifyError::NotCms)?.signers != 1 {
        return Err(VerifyError::NoSigner);
    }
    run(&mut cms, b"", CMSOptions::NO_ATTR_VERIFY | CMSOptions::NO_CONTENT_VERIFY)
}

/// The structure, and the same again in DER.
fn read(cms: &[u8]) -> Result<(CmsContentInfo, Vec<u8>), VerifyError> {
    if cms.len() > CMS_OCTETS_MAX {
        return Err(VerifyError::NotCms);
    }
    let cms = CmsContentInfo::from_der(cms).map_err(|_| VerifyError::NotCms)?;
    let der = cms.to_der().map_err(|_| VerifyError::NotCms)?;
    Ok((cms, der))
}

/// Has OpenSSL find the signer and verify all but its path, which [`Trust`] does.
fn run(
    cms: &mut CmsContentInfo,
    content: &[u8],
    less: CMSOptions,
) -> Result<Certificate, VerifyError> {
    // BINARY: or OpenSSL would rewrite the line ends of what it digests.
    let options = CMSOptions::BINARY | CMSOptions::NO_SIGNER_CERT_VERIFY | less;
    cms.verify(None, None, Some(content), None, options).map_err(|errors| {
        let missing =
            errors.errors().iter().any(|error| error.reason_code() == SIGNER_CERTIFICATE_NOT_FOUND);
        if missing { VerifyError::NoSigner } else { VerifyError::Signature }
    })?;
    match ffi::signers(cms).pop() {
        Some(signer) => {
            Certificate::from_x509(signer).map_err(|error| VerifyError::Path(error.to_string()))
        }
        None => Err(VerifyError::NoSigner),
    }
}
