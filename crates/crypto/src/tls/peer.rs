//! TLS towards other mail hosts: always encrypted, and what was seen of the peer's certificate is
//! written down.
//!
//! Mail finds its way by names that DNS gives, so a certificate for the name proves little by itself
//! (RFC 7672 §1.3), and between providers the signature on every message proves the rest. So a
//! certificate that does not hold is recorded and no obstacle, unless it is said to be one. That the
//! peer has the key of the certificate it shows is always verified.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;

/// What was seen of a peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of the certificate, in hexadecimal.
    pub sha256: String,
    /// Whether one of the authorities vouches for it and the name; or why not.
    pub verified: Result<(), String>,
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

/// What a client of ours speaks with another mail host, for one connection. Unless `required`, a
/// certificate that does not hold is only recorded.
///
/// # Errors
///
/// [`TlsError`] when rustls takes none of it.
pub fn danger_peer_config(
    authorities: &[crate::Certificate],
    required: bool,
) -> Result<(Arc<ClientConfig>, Seen), TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        authorities.iter().map(|authority| CertificateDer::from(authority.to_der().to_vec())),
    );
    let provider = Arc::new(aws_lc_rs::default_provider());
    // No authority at all: nobody vouches for anybody, which is no error here.
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let seen = Seen::default();
    let verifier = Recorder {
        inner: inner.build().ok(),
        provider: provider.clone(),
        required,
        seen: seen.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((Arc::new(config), seen))
}

#[derive(Debug)]
struct Recorder {
    inner: Option<Arc<WebPkiServerVerifier>>,
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
            None => Err(Error::General("no authority is trusted".to_owned())),
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        };
        let mut sha256 = String::with_capacity(64);
        for octet in sha256_of(end_entity) {
            // Writing into a string cannot fail.
            let _ = write!(sha256, "{octet:02x}");
        }
        let told = match &verified {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
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
