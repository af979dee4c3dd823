//! Who makes the raw signatures with the provider's key.
//!
//! The server never holds the key: it asks a second process, through the same [`Signer`] that
//! [`LocalSigner`] implements inside that process. A hardware device (PEC-SIG-06) would be a third.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};

/// Makes raw signatures with the provider's key, wherever that key is.
pub trait Signer: Send + Sync {
    /// RSA PKCS#1 v1.5 with SHA-256 (PEC-SIG-07) over `octets`: the DER of the CMS signed
    /// attributes, not yet hashed.
    ///
    /// # Errors
    ///
    /// When there is no signature, for whichever reason: nothing was sent out then.
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why there is no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key is not one: not PEM, not PKCS#8, or encrypted.
    #[error("the private key cannot be read as PKCS#8 PEM")]
    Key,
    /// A key or a certificate is of another algorithm than RSA.
    #[error("the key is not RSA")]
    NotRsa,
    /// The certificate is not one that names its issuer and number as X.509 does.
    #[error("the certificate cannot be used to sign")]
    Certificate,
    /// What was signed does not verify with the certificate: it is another key's.
    #[error("the signing key is not the certificate's: see `ceralacca check`")]
    OtherKey,
    /// The signing process, or device, did not answer as it should.
    #[error("the signer is not available: {0}")]
    Unavailable(String),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed: {0}")]
    Fault(String),
}

impl From<ErrorStack> for SignError {
    fn from(errors: ErrorStack) -> Self {
        Self::Fault(errors.to_string())
    }
}

/// A key in this process: for the signing process itself, for tests, and for making certificates.
pub struct LocalSigner {
    key: PKey<Private>,
}

impl std::fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalSigner([redacted])")
    }
}

impl LocalSigner {
    /// From a PKCS#8 key in PEM, not encrypted.
    ///
    /// # Errors
    ///
    /// [`SignError::Key`] when it cannot be read, [`SignError::NotRsa`] when PEC-SIG-07 cannot be
    /// kept with it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SignError> {
        // A callback without an answer: otherwise OpenSSL asks the terminal for the pass phrase.
        let key =
            PKey::private_key_from_pem_callback(pem, |_| Ok(0)).map_err(|_| SignError::Key)?;
        if key.id() != Id::RSA {
            return Err(SignError::NotRsa);
        }
        Ok(Self { key })
    }

    /// The public half, as a SubjectPublicKeyInfo: to compare with
    /// [`Certificate::has_public_key`](crate::Certificate::has_public_key) before use.
    ///
    /// # Errors
    ///
    /// [`SignError::Fault`] only.
    pub fn public_key_der(&self) -> Result<Vec<u8>, SignError> {
        Ok(self.key.public_key_to_der()?)
    }
}

impl Signer for LocalSigner {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &self.key)?;
        Ok(signer.sign_oneshot_to_vec(octets)?)
    }
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Padding;

    use super::{LocalSigner, SignError, Signer};

    #[test]
    fn signs_with_rsa_pkcs1_and_sha256() {
        // PEC-SIG-07
        let signer =
            LocalSigner::from_pem(include_bytes!("../../../certs/provider-a.key")).unwrap();
        let signature = signer.sign(b"octets").unwrap();
        let key = PKey::public_key_from_der(&signer.public_key_der().unwrap()).unwrap();
        let mut verifier = openssl::sign::Verifier::new(MessageDigest::sha256(), &key).unwrap();
        verifier.set_rsa_padding(Padding::PKCS1).unwrap();
        assert!(verifier.verify_oneshot(&signature, b"octets").unwrap());
        assert!(!verifier.verify_oneshot(&signature, b"Octets").unwrap());
    }

    #[test]
    fn refuses_what_is_no_rsa_key() {
        let elliptic = PKey::ec_gen("P-256").unwrap();
        let pem = elliptic.private_key_to_pem_pkcs8().unwrap();
        assert_eq!(LocalSigner::from_pem(&pem).unwrap_err(), SignError::NotRsa);
        let locked = elliptic
            .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"pass")
            .unwrap();
        for pem in [&locked[..], b"", b"-----BEGIN PRIVATE KEY-----\n"] {
            assert_eq!(LocalSigner::from_pem(pem).unwrap_err(), SignError::Key);
        }
    }

    #[test]
    fn never_prints_the_key() {
        let signer =
            LocalSigner::from_pem(include_bytes!("../../../certs/provider-a.key")).unwrap();
        assert_eq!(format!("{signer:?}"), "LocalSigner([redacted])");
    }
}
