//! The TLS certificate in use, exchanged for a new one without dropping a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

/// Where certificate and key are, and what was last read from there.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
    current: ArcSwap<rustls::ServerConfig>,
}

impl Tls {
    /// Reads certificate chain and key.
    ///
    /// # Errors
    ///
    /// When they cannot be read or do not belong together.
    pub(crate) fn load(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let tickets = crypto::tls::tickets()?;
        let current = ArcSwap::from_pointee(read(&certificate, &key, &tickets)?);
        Ok(Self { certificate, key, tickets, current })
    }

    /// Reads them again: connections that come from now on get the new ones.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); then the old ones stay in use.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let next = read(&self.certificate, &self.key, &self.tickets)?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// For the next handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

fn read(
    certificate: &Path,
    key: &Path,
    tickets: &Arc<dyn rustls::server::ProducesTickets>,
) -> anyhow::Result<rustls::ServerConfig> {
    let chain = std::fs::read(certificate)
        .with_context(|| format!("the TLS certificate {} cannot be read", certificate.display()))?;
    let secret = std::fs::read(key)
        .with_context(|| format!("the TLS key {} cannot be read", key.display()))?;
    crypto::tls::server_config(&chain, &secret, tickets).with_context(|| {
        format!("{} and {} cannot be used for TLS", certificate.display(), key.display())
    })
}
