//! What is done beside the mail itself: policies are renewed, counts written down, reports sent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Outside;
use super::reports::Waits;
use crate::site::Site;
use crate::submission::{blocking, stopped};

/// How often it is looked whether policies are to be fetched again.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);
/// How often counts are written down and reports looked for, at most and at least.
const COUNT_EVERY_MAX: Duration = Duration::from_secs(60);
const COUNT_EVERY_MIN: Duration = Duration::from_millis(200);
/// Domains that are asked for a policy, or sent a report, at the same time: one that is slow holds up
/// few others.
const ABREAST_MAX: usize = 16;

/// Does it until the program stops.
pub(super) async fn run(site: &Arc<Site>, outside: &Arc<Outside>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = renew(site, outside) => {}
        () = report(site, outside) => {}
        () = keep(site) => {}
        () = stopped(&mut stop) => {}
    }
    save(site).await;
}

/// Does these one beside the other, [`ABREAST_MAX`] at a time, and leaves what takes longer than this.
/// When it is dropped they end.
pub(super) async fn abreast<F>(works: impl IntoIterator<Item = F>, wait: Duration)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running: JoinSet<()> = JoinSet::new();
    let ended = |ended: Result<(), tokio::task::JoinError>| {
        if ended.is_err_and(|error| error.is_panic()) {
            tracing::error!(target: "transport", "what is done beside the mail had panicked");
        }
    };
    for work in works {
        if running.len() == ABREAST_MAX
            && let Some(one) = running.join_next().await
        {
            ended(one);
        }
        running.spawn(async move {
            // What is left undone is due again.
            let _ = tokio::time::timeout(wait, work).await;
        });
    }
    while let Some(one) = running.join_next().await {
        ended(one);
    }
}

async fn renew(site: &Arc<Site>, outside: &Arc<Outside>) {
    let mut due = tokio::time::interval(RENEW_EVERY);
    loop {
        due.tick().await;
        let config = site.config.load_full();
        let (web, now) = (outside.clone(), config.clone());
        if blocking(move || web.web.reload(&now)).await.is_err() {
            tracing::error!(target: "transport", "what is done beside the mail had panicked");
        }
        if config.transport.mta_sts {
            super::policies::renew(site, outside, &config).await;
        }
    }
}

async fn report(site: &Arc<Site>, outside: &Arc<Outside>) {
    let mut waits = Waits::default();
    loop {
        tokio::time::sleep(every(site)).await;
        super::reports::send_due(site, outside, &mut waits).await;
    }
}

async fn keep(site: &Arc<Site>) {
    loop {
        tokio::time::sleep(every(site)).await;
        save(site).await;
    }
}

fn every(site: &Site) -> Duration {
    let every = site.config.load().tls_reports.as_ref().map(|reports| reports.every);
    every.map_or(COUNT_EVERY_MAX, |every| (every / 4).clamp(COUNT_EVERY_MIN, COUNT_EVERY_MAX))
}

async fn save(site: &Arc<Site>) {
    let here = site.clone();
    let saved = blocking(move || here.transport.tally.save()).await;
    if let Err(error) = saved.map_err(anyhow::Error::from).and_then(|saved| Ok(saved?)) {
        tracing::error!(target: "transport", error = %format!("{error:#}"), "counts for reports cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Of works that never end as many as there are places hold up the rest for their time, and no longer.
    #[test]
    fn what_never_ends_holds_up_nobody_for_ever() {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (running, most, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let works = (0..3 * ABREAST_MAX).map(|number| {
            let (running, most, done) = (running.clone(), most.clone(), done.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if number < ABREAST_MAX {
                    let _leaves = Leaves(running);
                    return std::future::pending().await;
                }
                tokio::task::yield_now().await;
                done.fetch_add(1, Ordering::SeqCst);
                running.fetch_sub(1, Ordering::SeqCst);
            }
        });
        clock.block_on(abreast(works, Duration::from_millis(20)));
        let seen = [&most, &done, &running].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(seen, [ABREAST_MAX, 2 * ABREAST_MAX, 0]);
    }

    /// Takes itself out of the count when it is dropped.
    struct Leaves(Arc<AtomicUsize>);

    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
