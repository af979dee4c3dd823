//! The TLS configurations, of servers and of clients, each setting with its reason.
//!
//! TLS 1.2 and 1.3 only (PEC-SEC-04; RFC 8996 forbids what is older). All the rest is rustls' own
//! choice of what is sound. STARTTLS, and when it must have happened, is the protocols' matter.

pub mod dane;
mod peer;

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::ClientConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

pub use peer::{Distrust, Expects, PeerCertificate, Roots, Seen, Unverified, danger_peer_config};

/// Why there is no such configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM of the chain cannot be read, or holds no certificate.
    #[error("the TLS certificate chain cannot be read: {0}")]
    Chain(String),
    /// The PEM of the key cannot be read.
    #[error("the TLS key cannot be read: {0}")]
    Key(String),
    /// The key is not that of the first certificate, or of a kind that is not served.
    #[error("the TLS key and certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The keys of session tickets: make one for the process and share it among all configurations,
/// so that a session may go on at another port, and through a change of certificates. They change
/// by themselves every few hours.
///
/// # Errors
///
/// [`TlsError::Unusable`] when there is no randomness.
pub fn tickets() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ok(aws_lc_rs::Ticketer::new()?)
}

/// Whether clients are asked for a certificate in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// They are not: mail programs of people would ask their users.
    NotAsked,
    /// They are, and may have none. Any certificate is taken whose key the client proves to have:
    /// whose it is, is for the one to say who knows it, octet for octet, already.
    Asked,
}

/// See [`Clients::Asked`].
#[derive(Debug)]
struct ProvesKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for ProvesKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What a server of ours speaks, with this chain (its own certificate first) and key.
///
/// # Errors
///
/// [`TlsError`] names the file at fault.
pub fn server_config(
    chain_pem: &[u8],
    key_pem: &[u8],
    tickets: &Arc<dyn ProducesTickets>,
    clients: Clients,
) -> Result<ServerConfig, TlsError> {
    let (chain, key) = pair(chain_pem, key_pem)?;
    // Named here, not taken from the process: another crate in it must not change what we speak.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
    let mut config = match clients {
        // Users prove who they are by SASL; providers are known by what they sign.
        Clients::NotAsked => builder.with_no_client_auth(),
        Clients::Asked => builder.with_client_cert_verifier(Arc::new(ProvesKey(algorithms))),
    }
    .with_single_cert(chain, key)?;
    config.ticketer = Arc::clone(tickets);
    // Tickets hold the state, so there is no table of sessions to grow with connections.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One is all that a mail client uses before it gets another.
    config.send_tls13_tickets = 1;
    // Early data can be replayed, and a LOGIN or a MAIL must not be.
    config.max_early_data_size = 0;
    Ok(config)
}

/// What a client of ours speaks when it fetches documents: it believes servers whose certificates
/// these authorities issued, and shows this chain and key when it is asked who it is.
///
/// # Errors
///
/// [`TlsError`] names what cannot be used.
pub fn client_config(
    authorities: &[crate::Certificate],
    client: Option<(&[u8], &[u8])>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // One of a kind that TLS does not know vouches for nobody, and takes nothing from the others.
    roots.add_parsable_certificates(
        authorities.iter().map(|authority| CertificateDer::from(authority.to_der().to_vec())),
    );
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let (chain, key) = pair(chain, key)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}

/// A chain, its own certificate first, and its key.
fn pair(
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Chain("no certificate in it".into()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs;
    use rustls::version::{TLS12, TLS13};
    use rustls::{
        AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion,
        RootCertStore, ServerConnection, SupportedProtocolVersion,
    };
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::{Clients, ServerConfig, TlsError, server_config, tickets};
    use crate::testing::{A_KEY, CA};

    const CHAIN: &[u8] = include_bytes!("../../../certs/tls.pem");
    const KEY: &[u8] = include_bytes!("../../../certs/tls.key");

    fn config() -> ServerConfig {
        server_config(CHAIN, KEY, &tickets().unwrap(), Clients::NotAsked).unwrap()
    }

    fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(CA).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    /// Both ends after the handshake, or what the server said.
    fn shake(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
    ) -> (ProtocolVersion, HandshakeKind) {
        let name = "mail.a.example".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        (server.protocol_version().unwrap(), server.handshake_kind().unwrap())
    }

    #[test]
    fn speaks_tls_1_2_and_1_3_and_goes_on_with_a_session() {
        // PEC-SEC-04
        let server = Arc::new(config());
        for (version, spoken) in
            [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
        {
            let client = client(version);
            let full = shake(&client, &server);
            assert_eq!(full.0, spoken);
            assert_ne!(full.1, HandshakeKind::Resumed);
            assert_eq!(shake(&client, &server), (spoken, HandshakeKind::Resumed));
        }
    }

    #[test]
    fn refuses_tls_1_1() {
        // PEC-SEC-04: a ClientHello of TLS 1.1, RFC 4346 §7.4.1.2, with one suite of its time, and
        // the signature_algorithms without which rustls looks no further.
        let mut hello = vec![0x03, 0x02];
        hello.extend([7; 32]); // random
        hello.extend([0, 0, 2, 0x00, 0x2F, 1, 0]); // no session, RSA with AES-128, no compression
        hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 0x08, 0x04]);
        let mut wire = vec![22, 0x03, 0x01, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
        wire.extend(hello);
        let mut server = ServerConnection::new(Arc::new(config())).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        let refused = server.process_new_packets().unwrap_err();
        assert!(matches!(refused, Error::PeerIncompatible(_)), "{refused:?}");
        let mut sent = Vec::new();
        server.write_tls(&mut sent).unwrap();
        let alert = u8::from(AlertDescription::ProtocolVersion);
        assert_eq!((sent[0], sent[5..].to_vec()), (21, vec![2, alert]));
    }

    #[test]
    fn names_the_file_at_fault() {
        let tickets = tickets().unwrap();
        let refused = |chain, key| server_config(chain, key, &tickets, Clients::Asked).unwrap_err();
        assert!(matches!(refused(b"", KEY), TlsError::Chain(_)));
        assert!(matches!(refused(CHAIN, b""), TlsError::Key(_)));
        assert!(matches!(refused(CHAIN, A_KEY), TlsError::Unusable(_)));
        assert!(matches!(refused(A_KEY, KEY), TlsError::Chain(_)));
    }

    #[test]
    fn takes_no_early_data() {
        assert_eq!(config().max_early_data_size, 0);
    }
}
