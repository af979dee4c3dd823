//! SIGHUP: what is read again while connections live.
//!
//! Configuration, authorities, revocation lists and the index of providers go together: all of it
//! is read and checked before any of it is taken, and what serve would not start with is not taken.
//! The TLS certificate goes by itself. Not here: who the provider is, where it listens, with which
//! key it signs and where its store is, which stay as they were at start.

use std::sync::Arc;

use crate::config::Config;
use crate::site::Site;
use crate::{check, material};

/// Reads everything again; what is wrong is logged, and the old stays.
pub(crate) fn reload(site: &Site) {
    match exchange(site) {
        Ok(kept) => {
            tracing::info!(target: "server", "configuration read again");
            for section in kept {
                tracing::warn!(target: "server", section, "changed, and in use after a restart only");
            }
        }
        Err(error) => {
            tracing::error!(target: "server", error = %format!("{error:#}"), "the old configuration stays");
        }
    }
    match site.tls.reload() {
        Ok(()) => tracing::info!(target: "server", "TLS certificate read again"),
        Err(error) => {
            tracing::error!(target: "server", error = %format!("{error:#}"), "the old TLS certificate stays");
        }
    }
}

/// Puts what is in the files in the place of what is in use. Gives the sections of the
/// configuration that a restart would change.
fn exchange(site: &Site) -> anyhow::Result<Vec<&'static str>> {
    let running = site.config.load_full();
    let mut next = Config::load(&running.file)?;
    let kept = next.keep(&running);
    let trust = material::trust(&next)?;
    let (index, faults) = material::index(&next)?;
    let countries = material::countries(&next)?;
    let certificate = site.certificate_now();
    check::before_exchange(&next, certificate, &trust, &index, site.clock.now())?;
    for fault in &faults {
        // It does not hold up the rest.
        tracing::warn!(target: "server", fault, "a record of the index of providers is left out");
    }
    site.abroad.go_by(countries);
    site.connections.set_limits(next.limits.clone());
    site.trust.store(Arc::new(trust));
    site.use_index(index, faults);
    site.config.store(Arc::new(next));
    Ok(kept)
}
