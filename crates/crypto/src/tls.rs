//! The one TLS configuration, each setting with its reason.
//!
//! TLS 1.2 and 1.3 only (PEC-SEC-04; RFC 8996 forbids what is older). All the rest is rustls' own
//! choice of what is sound. STARTTLS, and when it must have happened, is the protocols' matter.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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

/// What a server of ours speaks, with this chain (its own certificate first) and key.
///
/// # Errors
///
/// [`TlsError`] names the file at fault.
pub fn server_config(
    chain_pem: &[u8],
    key_pem: &[u8],
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Chain("no certificate in it".into()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    // Named here, not taken from the process: another crate in it must not change what we speak.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        // Users prove who they are by SASL; providers are known by what they sign.
        .with_no_client_auth()
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
