//! What is done beside the mail itself: policies are renewed, counts written down, reports sent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Outside;
use crate::site::Site;
use crate::submission::{blocking, stopped};

/// How often it is looked whether policies are to be fetched again.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);
/// How often counts are written down and reports looked for, at most and at least.
const COUNT_EVERY_MAX: Duration = Duration::from_secs(60);
const COUNT_EVERY_MIN: Duration = Duration::from_millis(200);

/// Does it until the program stops.
pub(super) async fn run(site: &Arc<Site>, outside: &Outside, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = renew(site, outside) => {}
        () = report(site, outside) => {}
        () = stopped(&mut stop) => {}
    }
    save(site).await;
}

async fn renew(site: &Arc<Site>, outside: &Outside) {
    let mut due = tokio::time::interval(RENEW_EVERY);
    loop {
        due.tick().await;
        let config = site.config.load_full();
        outside.web.reload(&config);
        if config.transport.mta_sts {
            site.transport.policies.renew(&outside.web, &config, site.clock.now()).await;
        }
    }
}

async fn report(site: &Arc<Site>, outside: &Outside) {
    loop {
        let every = site.config.load().tls_reports.as_ref().map(|reports| reports.every);
        let wait = every
            .map_or(COUNT_EVERY_MAX, |every| (every / 4).clamp(COUNT_EVERY_MIN, COUNT_EVERY_MAX));
        tokio::time::sleep(wait).await;
        super::reports::send_due(site, &outside.web).await;
        save(site).await;
    }
}

async fn save(site: &Arc<Site>) {
    let here = site.clone();
    let saved = blocking(move || here.transport.tally.save()).await;
    if let Err(error) = saved.map_err(anyhow::Error::from).and_then(|saved| Ok(saved?)) {
        tracing::error!(target: "transport", error = %format!("{error:#}"), "counts for reports cannot be written");
    }
}
