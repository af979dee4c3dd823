//! TLS towards other mail hosts: always encrypted, and what was seen of the peer's certificate is
//! written down.
//!
//! Mail finds its way by names that DNS gives, so a certificate for the name proves little by itself
//! (RFC 7672 §1.3), and between providers the signature on every message proves the rest. So a
//! certificate that does not hold is recorded and no obstacle, unless the host's own TLSA records, its
//! domain's policy or the operator make it one. That the peer has the key of the certificate it shows
//! is always verified.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;
use super::dane::Dane;

/// Authorities that may vouch for a host.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// These. One of a kind that TLS does not know vouches for nobody.
    pub fn new<'a>(authorities: impl IntoIterator<Item = &'a crate::Certificate>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            authorities
                .into_iter()
                .map(|authority| CertificateDer::from(authority.to_der().to_vec())),
        );
        Self(Arc::new(roots))
    }

    /// Those of a file in PEM, as systems have one of the authorities of the web. What is no
    /// certificate, and what TLS does not know, is left out.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
        Self(Arc::new(roots))
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let mut roots = RootCertStore::clone(&self.0);
        roots.extend(others.0.roots.iter().cloned());
        Self(Arc::new(roots))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a client speaks that believes these and no other.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when rustls takes none of it.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(self.0.clone())
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// What a peer's certificate is held against.
#[derive(Debug, Clone)]
pub enum Expects {
    /// What these vouch for; anything else is recorded, and no obstacle.
    Recorded(Roots),
    /// What these vouch for, and nothing else.
    Authorities(Roots),
    /// What the host's TLSA records vouch for, and nothing else.
    Dane(Dane),
}

/// What was seen of a peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of the certificate, in hexadecimal.
    pub sha256: String,
    /// Whether what it is held against vouches for it and the name; or why not.
    pub verified: Result<(), Unverified>,
}

/// Why a certificate does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// In kind: what reports tell apart (RFC 8460 §4.3.1).
    pub kind: Distrust,
    /// In words.
    pub why: String,
}

/// Kinds of certificates that do not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Its time is over, or has not come.
    Expired,
    /// It is of another name.
    OtherName,
    /// Nobody of those who count vouches for it.
    Untrusted,
}

impl Unverified {
    fn of(error: &Error) -> Self {
        use CertificateError as Why;
        let kind = match error {
            Error::InvalidCertificate(
                Why::Expired
                | Why::ExpiredContext { .. }
                | Why::NotValidYet
                | Why::NotValidYetContext { .. },
            ) => Distrust::Expired,
            Error::InvalidCertificate(
                Why::NotValidForName | Why::NotValidForNameContext { .. },
            ) => Distrust::OtherName,
            _ => Distrust::Untrusted,
        };
        Self { kind, why: error.to_string() }
    }
}

/// Where what was seen can be had after the handshake. For one connection.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<PeerCertificate>>>);

impl Seen {
    /// What was seen; nothing before the handshake.
    pub fn certificate(&self) -> Option<PeerCertificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a client of ours speaks with another mail host, for one connection. With
/// [`Expects::Recorded`] a certificate that does not hold is only recorded.
///
/// # Errors
///
/// [`TlsError`] when rustls takes none of it.
pub fn danger_peer_config(expects: Expects) -> Result<(Arc<ClientConfig>, Seen), TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let required = !matches!(expects, Expects::Recorded(_));
    let inner = match expects {
        Expects::Dane(dane) => Inner::Dane(dane),
        Expects::Recorded(roots) | Expects::Authorities(roots) => {
            let inner = WebPkiServerVerifier::builder_with_provider(roots.0, provider.clone());
            // No authority at all: nobody vouches for anybody, which is no error here.
            inner.build().map_or(Inner::Nobody, Inner::Authorities)
        }
    };
    let seen = Seen::default();
    let verifier = Recorder { inner, provider: provider.clone(), required, seen: seen.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((Arc::new(config), seen))
}

#[derive(Debug)]
enum Inner {
    Nobody,
    Authorities(Arc<WebPkiServerVerifier>),
    Dane(Dane),
}

#[derive(Debug)]
struct Recorder {
    inner: Inner,
    provider: Arc<CryptoProvider>,
    required: bool,
    seen: Seen,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = match &self.inner {
            Inner::Nobody => Err(Error::General("no authority is trusted".to_owned())),
            Inner::Authorities(inner) => inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(|_| ()),
            Inner::Dane(dane) => dane.verify(end_entity, intermediates, now, &self.provider),
        };
        let mut sha256 = String::with_capacity(64);
        for octet in sha256_of(end_entity) {
            // Writing into a string cannot fail.
            let _ = write!(sha256, "{octet:02x}");
        }
        let told = verified.as_ref().err().map_or(Ok(()), |error| Err(Unverified::of(error)));
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(PeerCertificate { sha256, verified: told });
        match verified {
            Err(error) if self.required => Err(error),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn sha256_of(certificate: &CertificateDer<'_>) -> Vec<u8> {
    ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, certificate).as_ref().to_vec()
}
