//! What a running provider does by the clock, apart from messages: it looks after the quarantine and
//! what it remembers of repetitions, whether clamd is there, writes down what accounts have sent, and
//! fetches the index of providers and the revocation lists before they are too old.
//!
//! Each chore is done at start and then at its own interval, where blocking is allowed; one that
//! fails is logged and done again next time. None waits for another that is slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::antivirus::Clamd;
use crate::config::IndexSource;
use crate::flow::once;
use crate::site::Site;
use crate::submission::{blocking, stopped};
use crate::{crl, quarantine, registry};

/// How often it is looked whether infected messages may go: months are not counted by the minute.
const QUARANTINE_EVERY: Duration = Duration::from_secs(3_600);
/// How often marks of what happened long ago are forgotten: so each time there are few.
const MARKS_EVERY: Duration = Duration::from_secs(3_600);
/// How often clamd is asked whether it is there.
const CLAMD_EVERY: Duration = Duration::from_secs(60);
/// How long it may take to say so.
const CLAMD_WAIT: Duration = Duration::from_secs(10);

/// How often what accounts have sent is written down: so much of it a crash forgets.
const RATES_EVERY: Duration = Duration::from_secs(60);

/// The refresh of the index is early or late by up to so many percent of its interval: not all
/// providers shall come to the one source at the same minute.
const JITTER_PERCENT: u64 = 10;
/// When a refresh that failed is tried again, unless the interval is shorter.
const REFRESH_RETRY: Duration = Duration::from_secs(15 * 60);
/// Before the first refresh after a start: the source of a thousand restarts is spared.
const REFRESH_FIRST: Duration = Duration::from_secs(5);
/// How often it is looked whether a revocation list is due.
const CRL_EVERY: Duration = Duration::from_secs(1);

/// Does the chores until told to stop.
pub(crate) async fn run(site: Arc<Site>, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        () = look_after(site.clone()) => {}
        () = renew_index(site.clone()) => {}
        () = renew_crls(site) => {}
        () = stopped(&mut stopping) => {}
    }
}

/// PEC-IDX-09: at its interval, and soon after a start when it is fetched.
async fn renew_index(site: Arc<Site>) {
    let fetched = matches!(site.config.load().index.source, IndexSource::Url(_));
    let mut wait = if fetched { REFRESH_FIRST } else { jittered(site.config.load().index.refresh) };
    loop {
        tokio::time::sleep(wait).await;
        let every = site.config.load().index.refresh;
        let refreshed = site.clone();
        wait = match blocking(move || registry::refresh(&refreshed, false)).await {
            Ok(Ok(refreshed)) => {
                tracing::info!(target: "server", "{refreshed}");
                jittered(every)
            }
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(target: "server", %error, "the old index of providers stays");
                jittered(every.min(REFRESH_RETRY))
            }
            Err(error) => {
                tracing::error!(target: "server", %error, "a chore failed");
                jittered(every.min(REFRESH_RETRY))
            }
        };
    }
}

/// Some more or less than `every`.
fn jittered(every: Duration) -> Duration {
    let percent = u64::from(crypto::random::<1>()[0]) % (2 * JITTER_PERCENT + 1);
    let percent = u32::try_from(100 - JITTER_PERCENT + percent).unwrap_or(100);
    every / 100 * percent
}

/// PEC-PR-04
async fn renew_crls(site: Arc<Site>) {
    let mut schedule = crl::Schedule::default();
    let mut due = tokio::time::interval(CRL_EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        crl::renew(&site, &mut schedule).await;
    }
}

async fn look_after(site: Arc<Site>) {
    let mut quarantine = tokio::time::interval(QUARANTINE_EVERY);
    let mut clamd = tokio::time::interval(CLAMD_EVERY);
    let mut marks = tokio::time::interval(MARKS_EVERY);
    let mut rates = tokio::time::interval(RATES_EVERY);
    loop {
        let site = site.clone();
        let chore: fn(&Site) = tokio::select! {
            _ = quarantine.tick() => remove_ended,
            _ = clamd.tick() => look_around,
            _ = marks.tick() => forget_marks,
            _ = rates.tick() => keep_rates,
        };
        if let Err(error) = blocking(move || chore(&site)).await {
            tracing::error!(target: "server", %error, "a chore failed");
        }
    }
}

fn forget_marks(site: &Site) {
    if !site.store.share().leads() {
        return;
    }
    if let Err(error) = once::forget_old(site) {
        tracing::error!(target: "server", %error, "old marks cannot be forgotten");
    }
}

fn remove_ended(site: &Site) {
    if !site.store.share().leads() {
        return;
    }
    if let Err(error) = quarantine::remove_ended(site) {
        tracing::error!(target: "server", %error, "the quarantine cannot be looked after");
    }
}

/// Also at a stop.
pub(crate) fn keep_rates(site: &Site) {
    let config = site.config.load();
    if let Err(error) = site.rates.keep(&config, std::time::Instant::now(), site.clock.now()) {
        let error = format!("{error:#}");
        tracing::error!(target: "server", error, "what accounts have sent is not written down");
    }
    if let Err(error) = site.abroad.keep(&config) {
        let error = format!("{error:#}");
        tracing::error!(target: "server", error, "where accounts sign in from is not written down");
    }
    if let Err(error) = site.logins.keep_homes(&config, site.clock.now()) {
        let error = format!("{error:#}");
        tracing::error!(target: "server", error, "where users are at home is not written down");
    }
}

fn look_around(site: &Site) {
    let config = site.config.load();
    if let Some(age) = registry::age(&config) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
        metrics::gauge!("ceralacca_index_age_seconds").set(age as f64);
    }
    let Some(place) = &config.antivirus.clamd else { return };
    let version = Clamd::new(place, CLAMD_WAIT).version();
    metrics::gauge!("ceralacca_clamd_up").set(if version.is_ok() { 1.0 } else { 0.0 });
    if let Err(error) = version {
        tracing::error!(target: "antivirus", %error, "nothing is certified or delivered until it does");
    }
}
