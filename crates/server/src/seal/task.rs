//! The one thread that seals: when an interval ends, when somebody asks, and again for stamps that
//! could not be had.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::{Statement, Store, Timestamp};

use super::{Sealed, Sealer, Stamper, every, floor};
use crate::config::Config;
use crate::site::Site;

/// How often the clock is looked at: a seal comes this late at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The first delay after a failure; each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// And the last.
const RETRY_MAX: Duration = Duration::from_secs(900);
/// Stamps that are asked for in one go: years of an authority that was down.
const STAMPS_MAX: usize = 100;

/// The thread's handle: stopped, and asked, from any other.
pub(crate) struct Seals {
    state: Mutex<State>,
    changed: Condvar,
    /// Held while there is sealed or stamped: one does at a time.
    work: Mutex<()>,
}

#[derive(Default)]
struct State {
    stopping: bool,
    /// Look now, whatever the clock says.
    asked: bool,
}

impl Seals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), work: Mutex::new(()) })
    }

    /// [`run`](Self::run) returns after what is under way.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_all();
    }

    /// Seals what no seal covers, and has it stamped if the authority answers.
    ///
    /// # Errors
    ///
    /// When it cannot be sealed. A stamp that cannot be had is waited for, as always.
    pub(crate) fn seal_now(&self, site: &Site) -> anyhow::Result<Sealed> {
        let _one = lock(&self.work);
        let now = site.clock.now();
        let sealed = sealer(site).seal_now(now)?;
        let stamped = stamp_waiting(&*site.store, &site.config.load(), now);
        if let Err(error) = &stamped {
            warn(error);
            lock(&self.state).asked = true;
        }
        let seal = site.store.last_seal()?.map(|seal| seal.number);
        let unstamped = stamped.err().map(|error| format!("{error:#}"));
        Ok(Sealed { sealed, seal, unstamped })
    }

    /// Seals until [`stop`](Self::stop).
    pub(crate) fn run(&self, site: &Site) {
        // Looked at once at the start, then when an interval has ended or somebody asked.
        let mut due: Option<Timestamp> = None;
        let mut retry: Option<(Instant, Duration)> = None;
        loop {
            let now = site.clock.now();
            // Of all who have the store open one does it: another would only do it twice.
            let leads = site.store.share().leads();
            if !leads {
                due = None;
            }
            let again = retry.is_some_and(|(at, _)| at <= Instant::now());
            let asked = std::mem::take(&mut lock(&self.state).asked);
            let is_due = leads && retry.is_none() && due.is_none_or(|due| due <= now);
            if asked || again || is_due {
                let done = {
                    let _one = lock(&self.work);
                    guarded(|| {
                        sealer(site).seal_due(now)?;
                        stamp_waiting(&*site.store, &site.config.load(), now)
                    })
                };
                due = next_end(site, now);
                retry = match done {
                    Ok(()) => None,
                    Err(error) => {
                        warn(&error);
                        let wait = retry.map_or(RETRY_FIRST, |(_, last)| RETRY_MAX.min(last * 2));
                        Some((Instant::now() + wait, wait))
                    }
                };
            }
            let state = lock(&self.state);
            let idle = |state: &mut State| !state.stopping && !state.asked;
            let waited = self.changed.wait_timeout_while(state, LOOK_EVERY, idle);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stopping {
                return;
            }
        }
    }
}

/// What panics has failed, and is tried again like anything else: the thread goes on.
fn guarded(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")))
}

/// When the interval that is open ends.
fn next_end(site: &Site, now: Timestamp) -> Option<Timestamp> {
    let every = every(&site.config.load());
    floor(now, every).checked_add(every).ok()
}

fn sealer(site: &Site) -> Sealer<'_> {
    Sealer {
        store: &*site.store,
        provider: &site.provider.name,
        signing: Box::new(|until| site.signing_at(until)),
        every: every(&site.config.load()),
    }
}

/// Has every seal stamped that waits for it, oldest first.
pub(super) fn stamp_waiting(
    store: &dyn Store,
    config: &Config,
    now: Timestamp,
) -> anyhow::Result<()> {
    let waiting = store.unstamped_seals(STAMPS_MAX)?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
    metrics::gauge!("ceralacca_log_seals_unstamped").set(waiting.len() as f64);
    if waiting.is_empty() {
        return Ok(());
    }
    let stamper = Stamper::of(config)?;
    let mut left = waiting.len();
    for seal in waiting {
        let token = stamper.stamp(&seal.signature, now)?;
        store.stamp_seal(seal.number, &token)?;
        left -= 1;
        #[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
        metrics::gauge!("ceralacca_log_seals_unstamped").set(left as f64);
        let until = Statement::parse(&seal.octets).map(|said| said.until.to_string());
        let until = until.unwrap_or_default();
        tracing::info!(target: "seal", number = seal.number, until, "the seal has its time stamp");
    }
    Ok(())
}

fn warn(error: &anyhow::Error) {
    metrics::counter!("ceralacca_log_seal_failures_total").increment(1);
    let error = format!("{error:#}");
    tracing::error!(target: "seal", error, "the log could not be sealed or stamped; it is tried again");
}

/// A thread that panicked with the lock held left nothing half done behind it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_panics_has_failed_and_is_tried_again() {
        let failed = super::guarded(|| panic!("it is broken"));
        assert_eq!(failed.unwrap_err().to_string(), "it panicked");
        assert!(super::guarded(|| Ok(())).is_ok());
    }
}
