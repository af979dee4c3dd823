//! The resolvers of names: the servers that `[dns]` names, or the machine's own; one that believes
//! them, and one that has every answer proved by DNSSEC.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;

/// How long one server is waited for, and how often it is asked: what hangs on an answer waits at
/// most for the product.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;
/// Answers that are kept at most.
const CACHE_ANSWERS_MAX: u64 = 4096;
/// And for how long at most, whatever their owner says.
const CACHE_FOR_MAX: Duration = Duration::from_secs(3_600);

/// A resolver that asks these servers; without any, those of `/etc/resolv.conf`.
///
/// # Errors
///
/// When the machine's own cannot be found out, or the resolver not be made.
pub(crate) fn resolver(nameservers: &[SocketAddr]) -> anyhow::Result<TokioResolver> {
    make(nameservers, None)
}

/// As [`resolver`], and each answer is followed by DNSSEC to one of these keys (RFC 4035 §5): every
/// record says of itself how far it was proved, and what is forged is no answer.
///
/// # Errors
///
/// As [`resolver`].
pub(crate) fn validating(
    nameservers: &[SocketAddr],
    anchors: TrustAnchors,
) -> anyhow::Result<TokioResolver> {
    make(nameservers, Some(Arc::new(anchors)))
}

/// The keys that answers are followed to: those of a file of DNSKEY records, or those of the root
/// that the program knows.
///
/// # Errors
///
/// When the file cannot be read, or has no key.
pub(crate) fn anchors(file: Option<&Path>) -> anyhow::Result<TrustAnchors> {
    let Some(file) = file else { return Ok(TrustAnchors::default()) };
    let anchors = TrustAnchors::from_file(file)
        .with_context(|| format!("{} cannot be read as DNSKEY records", file.display()))?;
    anyhow::ensure!(!anchors.is_empty(), "{} has no key of the root", file.display());
    Ok(anchors)
}

fn make(
    nameservers: &[SocketAddr],
    anchors: Option<Arc<TrustAnchors>>,
) -> anyhow::Result<TokioResolver> {
    let (config, mut options) = if nameservers.is_empty() {
        hickory_resolver::system_conf::read_system_conf()
            .context("the machine names no server for names: set dns.nameservers")?
    } else {
        let servers = nameservers.iter().map(|address| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = address.port();
                way
            });
            NameServerConfig::new(address.ip(), true, connections.into())
        });
        (ResolverConfig::from_name_servers(servers.collect()), ResolverOpts::default())
    };
    options.timeout = ANSWER_WAIT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHE_ANSWERS_MAX;
    options.positive_max_ttl = Some(CACHE_FOR_MAX);
    options.negative_max_ttl = Some(CACHE_FOR_MAX);
    // What mail asks for is in the DNS and not in a file of this machine.
    options.use_hosts_file = ResolveHosts::Never;
    // The aliases on the way to an answer are part of its proof.
    options.preserve_intermediates = true;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options);
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(anchors);
    }
    builder.build().context("the resolver of names cannot be made")
}
