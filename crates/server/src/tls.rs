//! The TLS certificate in use, exchanged for a new one without dropping a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use crypto::tls::Clients;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;

/// Where certificate and key are, and what was last read from there.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
    current: ArcSwap<rustls::ServerConfig>,
    /// The same, and clients are asked for a certificate.
    asking: ArcSwap<rustls::ServerConfig>,
}

impl Tls {
    /// Reads certificate chain and key.
    ///
    /// # Errors
    ///
    /// When they cannot be read or do not belong together.
    pub(crate) fn load(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let tickets = crypto::tls::tickets()?;
        let [current, asking] = read(&certificate, &key, &tickets)?.map(ArcSwap::from_pointee);
        Ok(Self { certificate, key, tickets, current, asking })
    }

    /// Reads them again: connections that come from now on get the new ones.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); then the old ones stay in use.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let [current, asking] = read(&self.certificate, &self.key, &self.tickets)?.map(Arc::new);
        self.current.store(current);
        self.asking.store(asking);
        Ok(())
    }

    /// For the next handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// For the next handshake of a submission, where a machine may sign in with a certificate.
    pub(crate) fn submission_acceptor(&self, config: &Config) -> TlsAcceptor {
        match config.machines.values().any(|machine| machine.certificate.is_some()) {
            true => TlsAcceptor::from(self.asking.load_full()),
            false => self.acceptor(),
        }
    }
}

fn read(
    certificate: &Path,
    key: &Path,
    tickets: &Arc<dyn rustls::server::ProducesTickets>,
) -> anyhow::Result<[rustls::ServerConfig; 2]> {
    let chain = std::fs::read(certificate)
        .with_context(|| format!("the TLS certificate {} cannot be read", certificate.display()))?;
    let secret = std::fs::read(key)
        .with_context(|| format!("the TLS key {} cannot be read", key.display()))?;
    let config = |clients| {
        crypto::tls::server_config(&chain, &secret, tickets, clients).with_context(|| {
            format!("{} and {} cannot be used for TLS", certificate.display(), key.display())
        })
    };
    Ok([config(Clients::NotAsked)?, config(Clients::Asked)?])
}
