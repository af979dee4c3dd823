//! Revocation lists that are fetched: from `trust.crls`, and from the distribution points of the
//! certificates in use (RFC 5280 §4.2.1.13). Kept on disk, and renewed well before they end
//! (PEC-PR-04).
//!
//! A certificate says where its list is, and certificates come from others: only one whose path holds
//! is asked, and it leads to public addresses only, unless the operator allows others. A list counts
//! when an authority signed it and it is not older than the one we have; the last good one stays
//! until then. Not here: what a list means for a signature, which is [`crypto::Trust`]'s.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use crypto::certificate::CRL_OCTETS_MAX;
use crypto::{Certificate, Crl, Trust};
use store::Timestamp;

use crate::config::{Config, CrlSource};
use crate::fetch::{Bounds, Fetcher, Networks, Wanted, system_resolver};
use crate::site::Site;
use crate::submission::blocking;
use crate::{durable, material};

/// Lists that are fetched at most: all providers have a few authorities in common.
const LISTS_MAX: usize = 256;
/// How long a list may take to come.
const FETCH_WAIT: Duration = Duration::from_secs(30);
/// Redirects that are followed at most.
const REDIRECTS_MAX: usize = 3;
/// When a list that did not come is asked for again.
const RETRY_AFTER: Duration = Duration::from_secs(300);
/// A list is not asked for more often than this, however soon it ends.
const EVERY_LEAST: Duration = Duration::from_secs(1);
/// The folder of the lists, each named by the hash of where it came from.
const FOLDER: &str = "crls";

/// A list that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    url: String,
    /// The operator named it; a certificate did otherwise.
    by_operator: bool,
}

/// Whether a list is due, as long as the program runs.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    next: HashMap<String, Timestamp>,
}

/// The lists that are kept and that one of the authorities signed.
pub(crate) fn kept(config: &Config, authorities: &Trust) -> Vec<Crl> {
    let Ok(entries) = std::fs::read_dir(config.data.join(FOLDER)) else { return Vec::new() };
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "crl"));
    let lists = files.take(LISTS_MAX).filter_map(|path| std::fs::read(path).ok());
    // What is damaged, or of an authority that is none any more, is fetched again or not missed.
    lists
        .filter_map(|octets| Crl::read(&octets).ok())
        .filter(|list| authorities.vouches_for(list))
        .collect()
}

/// Fetches what is due and puts it in use.
pub(crate) async fn renew(site: &Arc<Site>, schedule: &mut Schedule) {
    let asked = site.clone();
    let Ok(places) = blocking(move || wanted(&asked)).await else { return };
    let now = site.clock.now();
    let urls: HashSet<&str> = places.iter().map(|place| &*place.url).collect();
    schedule.next.retain(|url, _| urls.contains(&**url));
    let mut changed = false;
    for place in &places {
        if schedule.next.get(&place.url).is_some_and(|next| now < *next) {
            continue;
        }
        let config = site.config.load_full();
        let fetched = fetch(&config, place).await;
        let (taker, url) = (site.clone(), place.url.clone());
        let taken = match fetched {
            Ok(octets) => blocking(move || take(&taker, &url, &octets)).await,
            Err(error) => Ok(Err(error)),
        };
        let (result, next) = match taken {
            Ok(Ok((list, is_new))) => {
                changed |= is_new;
                let next = due_after(now, list.next_update(), config.trust.crl_refresh);
                ("taken", next)
            }
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::warn!(target: "server", url = %place.url, %error, "a revocation list cannot be renewed");
                ("refused", later(now, RETRY_AFTER.min(config.trust.crl_refresh)))
            }
            Err(error) => {
                tracing::error!(target: "server", %error, "a revocation list cannot be read");
                ("refused", later(now, RETRY_AFTER))
            }
        };
        metrics::counter!("ceralacca_crl_fetches_total", "result" => result).increment(1);
        schedule.next.insert(place.url.clone(), next);
    }
    if changed {
        let user = site.clone();
        match blocking(move || {
            material::trust(&user.config.load()).map(|trust| use_in(&user, trust))
        })
        .await
        {
            Ok(Ok(())) => {
                tracing::info!(target: "server", "new revocation lists are in use");
            }
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(target: "server", %error, "new revocation lists cannot be used");
            }
            Err(error) => tracing::error!(target: "server", %error, "a chore failed"),
        }
    }
    tell_ends(site, now);
}

fn use_in(site: &Site, trust: Trust) {
    let certificate = site.certificate_now();
    if let Err(error) = trust.check_certificate(certificate, site.clock.now()) {
        // Loudly: every step that signs stops with the same reason.
        tracing::error!(target: "server", %error, "the signing certificate does not hold any more");
    }
    site.trust.store(Arc::new(trust));
}

/// Seconds until the first list in use ends.
#[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
fn tell_ends(site: &Site, now: Timestamp) {
    let trust = site.trust.load();
    let ends = trust.crls().iter().filter_map(Crl::next_update).max();
    if let Some(end) = ends {
        let left = end.as_second().saturating_sub(now.as_second());
        metrics::gauge!("ceralacca_crl_ends_in_seconds").set(left as f64);
    }
}

/// Where lists are wanted from: what the operator named, then what certificates name.
fn wanted(site: &Site) -> Vec<Place> {
    let config = site.config.load();
    let mut places: Vec<Place> = Vec::new();
    for source in &config.trust.crls {
        if let CrlSource::Url(url) = source {
            places.push(Place { url: url.clone(), by_operator: true });
        }
    }
    let (trust, now) = (site.trust.load(), site.clock.now());
    let providers = site.providers.load();
    let others = providers.records().iter().flat_map(|record| &record.certificates);
    let others = others.filter_map(|der| Certificate::from_der(der).ok());
    for certificate in std::iter::once(site.certificate_now().clone()).chain(others) {
        for url in points(&certificate, &trust, now) {
            if places.len() < LISTS_MAX && places.iter().all(|place| place.url != url) {
                places.push(Place { url, by_operator: false });
            }
        }
    }
    places
}

/// The distribution points of a certificate that holds.
fn points(certificate: &Certificate, trust: &Trust, now: Timestamp) -> Vec<String> {
    if trust.check_certificate(certificate, now).is_err() {
        return Vec::new();
    }
    let web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    certificate.crl_urls().into_iter().filter(web).collect()
}

async fn fetch(config: &Config, place: &Place) -> anyhow::Result<Vec<u8>> {
    let mut authorities = Vec::new();
    for file in config.trust.authorities.iter().chain(&config.index.authorities) {
        authorities.extend(material::certificates(file)?);
    }
    let anywhere = place.by_operator || config.trust.crl_private_networks;
    let fetcher = Fetcher {
        tls: crypto::tls::client_config(&authorities, None)?,
        resolve: system_resolver(),
        networks: if anywhere { Networks::Any } else { Networks::Public },
        // A list is signed: whoever alters it on its way is found out.
        plain: true,
    };
    let bounds = Bounds { octets: CRL_OCTETS_MAX, total: FETCH_WAIT, redirects: REDIRECTS_MAX };
    let wanted = Wanted { accept: "application/pkix-crl, */*;q=0.5", ..Wanted::get(&place.url) };
    Ok(fetcher.fetch(&wanted, bounds).await?.octets)
}

/// Keeps a list that counts; tells whether it is another than the one kept.
fn take(site: &Site, url: &str, octets: &[u8]) -> anyhow::Result<(Crl, bool)> {
    let config = site.config.load();
    let list = Crl::read(octets)?;
    if !site.trust.load().vouches_for(&list) {
        bail!("no authority of trust.authorities signed the list of {}", list.issuer());
    }
    let file = file(&config, url);
    let before = std::fs::read(&file).ok().and_then(|octets| Crl::read(&octets).ok());
    if let Some(before) = &before {
        if before.to_der() == list.to_der() {
            return Ok((list, false));
        }
        if list.this_update() < before.this_update() {
            bail!("it is older than the list that is there");
        }
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    durable::replace(&file, list.to_der())
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok((list, true))
}

fn file(config: &Config, url: &str) -> PathBuf {
    // A URL is what somebody else wrote, and never a path.
    let name = crypto::sha256_hex(url.as_bytes());
    config.data.join(FOLDER).join(format!("{name}.crl"))
}

/// When a list is to be asked for again: at the operator's interval, and half way to its end.
fn due_after(now: Timestamp, ends: Option<Timestamp>, every: Duration) -> Timestamp {
    let left = ends.map_or(every, |end| {
        let secs = end.as_second().saturating_sub(now.as_second());
        Duration::from_secs(u64::try_from(secs / 2).unwrap_or(0))
    });
    later(now, every.min(left).max(EVERY_LEAST))
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = jiff::SignedDuration::try_from(wait).unwrap_or(jiff::SignedDuration::MAX);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    // PEC-PR-04
    #[test]
    fn a_list_is_renewed_well_before_it_ends() {
        let now: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        let hour = Duration::from_secs(3_600);
        for (ends, next) in [
            (None, "2026-03-02T10:00:00Z"),
            (Some("2026-03-09T09:00:00Z"), "2026-03-02T10:00:00Z"),
            (Some("2026-03-02T09:30:00Z"), "2026-03-02T09:15:00Z"),
            (Some("2026-03-02T09:00:00Z"), "2026-03-02T09:00:01Z"),
            (Some("2026-03-01T09:00:00Z"), "2026-03-02T09:00:01Z"),
        ] {
            let ends = ends.map(|text| text.parse().unwrap());
            assert_eq!(due_after(now, ends, hour), next.parse().unwrap(), "{ends:?}");
        }
    }
}
