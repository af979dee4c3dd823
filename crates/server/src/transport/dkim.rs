//! Signs a message of ours by DKIM (RFC 6376): reports on TLS only. Certified mail has its own
//! signature, and no intermediary's.

use std::path::PathBuf;

use anyhow::Context;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

/// Fields that are signed, RFC 6376 §5.4.1.
const FIELDS: [&str; 8] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
    "Content-Type",
];

/// The key, and under which selector its public half is in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DkimKey {
    pub(crate) selector: String,
    /// A file in PEM: RSA, or Ed25519 (RFC 8463) in PKCS#8.
    pub(crate) key: PathBuf,
}

/// The field to put before a message. Blocks.
///
/// # Errors
///
/// When the key cannot be read, or not sign.
pub(crate) fn sign(dkim: &DkimKey, domain: &str, message: &[u8]) -> anyhow::Result<String> {
    let file = dkim.key.display();
    let pem = std::fs::read(&dkim.key).with_context(|| format!("{file} cannot be read"))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| anyhow::anyhow!("{file} is no key in PEM: {error}"))?;
    if let PrivateKeyDer::Pkcs8(der) = &key
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der())
    {
        return signed(key, dkim, domain, message);
    }
    let key = RsaKey::<Sha256>::from_key_der(key)
        .map_err(|error| anyhow::anyhow!("{file} is neither an RSA nor an Ed25519 key: {error}"))?;
    signed(key, dkim, domain, message)
}

fn signed<K: SigningKey>(
    key: K,
    dkim: &DkimKey,
    domain: &str,
    message: &[u8],
) -> anyhow::Result<String> {
    let signer = DkimSigner::from_key(key).domain(domain).selector(&dkim.selector).headers(FIELDS);
    let signature = signer.sign(message).map_err(|error| anyhow::anyhow!("DKIM: {error}"))?;
    Ok(signature.to_header())
}
