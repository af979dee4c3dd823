//! How the web servers of other domains are reached: for their policies, and with reports for them.
//!
//! Names are asked of the same DNS as for mail; who vouches for a server is among
//! `transport.authorities`; and nobody makes us talk to our own network, unless the operator lets him.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crypto::tls::Roots;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::names::Names;
use crate::config::Config;
use crate::fetch::{Fetcher, Resolve};

/// Octets of a file of authorities at most: a system's own has some 200 KiB.
const AUTHORITIES_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// The web as it is seen from here.
pub(crate) struct Web {
    pub(super) names: Arc<Names>,
    roots: ArcSwap<Roots>,
}

impl Web {
    pub(super) fn new(names: Arc<Names>, config: &Config) -> Self {
        let (roots, faults) = authorities(&config.transport.authorities);
        for fault in faults {
            tracing::warn!(target: "transport", fault, "authorities of the web are left out");
        }
        Self { names, roots: ArcSwap::from_pointee(roots) }
    }

    /// Reads the authorities again: systems renew them.
    pub(super) fn reload(&self, config: &Config) {
        let (roots, _) = authorities(&config.transport.authorities);
        // What cannot be read for a moment is no reason to believe nobody.
        if !roots.is_empty() {
            self.roots.store(Arc::new(roots));
        }
    }

    /// Who vouches for hosts and servers of the web.
    pub(super) fn roots(&self) -> Roots {
        Roots::clone(&self.roots.load())
    }

    /// Fetches over https only.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub(super) fn fetcher(&self, config: &Config) -> anyhow::Result<Fetcher> {
        Ok(Fetcher {
            tls: self.roots.load().client_config()?,
            resolve: resolve(self.names.clone()),
            networks: config.transport.networks(),
            plain: false,
        })
    }
}

/// The authorities of these files, and what is wrong with them.
pub(crate) fn authorities(files: &[PathBuf]) -> (Roots, Vec<String>) {
    let mut faults = Vec::new();
    let mut all = Roots::from_pem(b"");
    for file in files {
        let read = std::fs::metadata(file).and_then(|found| match found.len() {
            0..=AUTHORITIES_OCTETS_MAX => std::fs::read(file),
            _ => Err(io::Error::other("it is too large")),
        });
        match read {
            Ok(pem) => {
                let roots = Roots::from_pem(&pem);
                if roots.is_empty() {
                    faults.push(format!("{} has no authority in it", file.display()));
                }
                all = all.and(&roots);
            }
            Err(error) => faults.push(format!("{} cannot be read: {error}", file.display())),
        }
    }
    (all, faults)
}

fn resolve(names: Arc<Names>) -> Resolve {
    Arc::new(move |host, port| {
        let names = names.clone();
        Box::pin(async move {
            let (six, four) =
                tokio::join!(names.ask(&host, RecordType::AAAA), names.ask(&host, RecordType::A));
            if let (Err(error), Err(_)) = (&six, &four) {
                return Err(io::Error::other(error.why.clone()));
            }
            let found = [six, four].into_iter().filter_map(Result::ok);
            let addresses = found.flat_map(|found| found.data).filter_map(|data| match data {
                RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
                RData::A(ip) => Some(IpAddr::V4(ip.0)),
                _ => None,
            });
            Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
        })
    })
}
