//! Who stamps the seals: an authority on the network, or one of our own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use crypto::timestamp::{REQUEST_TYPE, RESPONSE_OCTETS_MAX, RESPONSE_TYPE};
use crypto::{Identity, StampRequest, Trust, stamp, verify_stamp};
use store::Timestamp;

use crate::config::{Config, KeyPair, StampSource};
use crate::fetch::{Bounds, Fetcher, Networks, Wanted, system_resolver};
use crate::material;
use crate::signer::SignerProcess;

/// How long an authority may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Stamps what it is given.
pub(crate) struct Stamper {
    source: Source,
    /// Whose stamps are believed.
    trust: Trust,
}

enum Source {
    /// Our own, with its key in a process that lives no longer than a stamp takes.
    Internal { identity: Identity, key: PathBuf },
    /// `http://` or `https://`.
    Network { url: String, fetcher: Fetcher, runtime: tokio::runtime::Runtime },
}

impl Stamper {
    /// As the configuration has it.
    ///
    /// # Errors
    ///
    /// When a file that it names cannot be used.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        let trust = material::stamp_trust(config)?;
        let source = match &config.timestamp.authority {
            StampSource::Internal(KeyPair { key, certificate }) => {
                let mut all = material::certificates(certificate)?.into_iter();
                let own = all.next().context("no certificate for time stamps")?;
                let mut chain: Vec<_> = all.collect();
                if chain.is_empty() {
                    let issuer = own.issuer();
                    let authorities = trust.authorities().iter();
                    chain.extend(authorities.filter(|ca| ca.subject() == issuer).cloned());
                }
                Source::Internal { identity: Identity::new(own, chain)?, key: key.clone() }
            }
            StampSource::Url(url) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Source::Network { url: url.clone(), fetcher: fetcher(&trust)?, runtime }
            }
        };
        Ok(Self { source, trust })
    }

    /// A token over these octets, verified: one that would not hold later is no stamp.
    ///
    /// # Errors
    ///
    /// When the authority does not answer, refuses, or is not believed.
    pub(crate) fn stamp(&self, octets: &[u8], now: Timestamp) -> anyhow::Result<Vec<u8>> {
        match &self.source {
            Source::Internal { identity, key } => {
                let signer = SignerProcess::start(key)?;
                let token = stamp(identity, &*signer, octets, now);
                signer.stop();
                let token = token?;
                verify_stamp(&token, octets, &self.trust)?;
                Ok(token)
            }
            Source::Network { url, fetcher, runtime } => {
                let request = StampRequest::new(octets);
                let wanted = Wanted {
                    url,
                    accept: RESPONSE_TYPE,
                    post: Some((REQUEST_TYPE, request.octets())),
                };
                let bounds =
                    Bounds { octets: RESPONSE_OCTETS_MAX, total: ANSWER_WAIT, redirects: 0 };
                let answer = runtime.block_on(fetcher.fetch(&wanted, bounds))?;
                let token = request.token(&answer.octets, &self.trust);
                token.with_context(|| format!("the time stamp authority {url}"))
            }
        }
    }
}

/// To an authority the operator named. What it answers is signed, and believed for that alone; over
/// https it must moreover have a certificate of one of the authorities for time stamps.
fn fetcher(trust: &Trust) -> anyhow::Result<Fetcher> {
    Ok(Fetcher {
        tls: crypto::tls::client_config(trust.authorities(), None)?,
        resolve: system_resolver(),
        networks: Networks::Any,
        plain: true,
    })
}
