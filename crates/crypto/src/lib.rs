//! Signatures over exactly the octets given, certificates, TLS settings, passwords.
//!
//! This crate never sees a receipt, an envelope or an address: it is handed octets and hands
//! octets back. It has no sockets and no clock; time is an argument, and randomness comes from
//! one place, [`random()`]. The mathematics is OpenSSL's (CMS and X.509) and aws-lc's (TLS, HMAC):
//! what is ours is the form of what they sign, and what we ask of what they verify.
//!
//! | Module | Is |
//! | --- | --- |
//! | [`signer`] | who makes raw signatures: a key here, or one in another process |
//! | [`smime`] | CMS made around a signer |
//! | [`mod@verify`], [`trust`] | CMS verified; certification paths, revocation, and what is remembered of them |
//! | [`timestamp`] | time stamps asked for, given and verified |
//! | [`attached`] | signatures that hold their content, made and opened |
//! | [`certificate`] | certificates and revocation lists, read |
//! | [`authority`] | certificates and revocation lists, made |
//! | [`password`], [`scram`] | what is kept of a password, and proofs that someone knows it |
//! | [`tls`] | the one TLS configuration |

pub mod attached;
pub mod authority;
pub mod certificate;
mod der;
mod ffi;
pub mod password;
pub mod random;
pub mod scram;
pub mod signer;
pub mod smime;
#[cfg(test)]
mod testing;
pub mod timestamp;
pub mod tls;
pub mod trust;
mod tsp;
pub mod verify;

pub use authority::{Authority, AuthorityError, KeyPem};
pub use certificate::{Certificate, CertificateError, Crl};
pub use password::{PasswordError, Secret};
pub use random::random;
pub use scram::{ChannelBinding, ScramChallenge, ScramError, ScramKeys, ScramServer};
pub use signer::{LocalSigner, SignError, Signer};
pub use smime::Identity;
pub use timestamp::{Stamp, StampError, StampRequest, stamp, told_time, verify_stamp};
pub use tls::TlsError;
pub use trust::{Revocation, Trust, TrustError};
pub use verify::{Digest, Verified, VerifyError, signer_certificate, verify};

/// The SHA-256 digest of some octets.
#[must_use]
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    openssl::sha::sha256(octets)
}

/// SHA-256 of some octets, in lower-case hexadecimal: what a log record binds them with.
#[must_use]
pub fn sha256_hex(octets: &[u8]) -> String {
    certificate::hex(&openssl::sha::sha256(octets))
}
