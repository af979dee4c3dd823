//! The two notices for a certified recipient of whom nothing is heard: after twelve hours, and
//! before twenty-four have passed.
//!
//! PEC-TO; RT §6.3.5. What is due is asked of the tracker, which keeps it in an order of its own:
//! nothing is counted in memory, so a restart forgets nothing. A notice, its log record and the
//! tracker's new state are one commit, which is refused when a receipt overtook it: so each notice
//! is given once, also when the clock is set back, and none is left out when it is set forward or
//! the machine was off.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use pec::exchange::Exchange;
use pec::moment::Moment;
use pec::receipt::{self, Event, Notice};
use store::{Octets, Overdue, Source, StoreError, Track, TrackState, Transaction};

use super::signed::seal;
use super::{author_path, commit, fresh, fresh_id, now_after, place_or_queue, record};
use crate::site::Site;
use crate::timesource;

/// How often it is looked whether a notice is due: the law counts in hours.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the clock, which all deadlines go by, keeps to UTC.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(300);
/// Notices in memory at once; each with what its message is about.
const NOTICES_IN_MEMORY_MAX: usize = 64;
/// Notices that are signed and committed at the same time: a provider that is away can owe
/// thousands at the same hour.
const WORKERS: usize = 8;

/// The loop that gives notices: stopped from any thread.
pub(crate) struct Deadlines {
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Deadlines {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { stopping: Mutex::new(false), changed: Condvar::new() })
    }

    /// No new notice begins. [`run`](Self::run) returns then.
    pub(crate) fn stop(&self) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives notices until [`stop`](Self::stop).
    pub(crate) fn run(&self, site: &Arc<Site>) {
        let mut looked: Option<Instant> = None;
        loop {
            // Beside the notices: it can take seconds until nobody has answered.
            if looked.is_none_or(|at| at.elapsed() >= LOOK_AT_CLOCK_EVERY) {
                looked = Some(Instant::now());
                let name = "clock".to_owned();
                let observed = std::thread::Builder::new().name(name).spawn(timesource::observe);
                if let Err(error) = observed {
                    tracing::warn!(target: "server", %error, "the clock cannot be looked at");
                }
            }
            // Of all who have the store open one does it: of two that gave one notice one would be refused.
            if site.store.share().leads() {
                give_due(site, &|| self.is_stopping());
            }
            let stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
            let (stopping, _) = self
                .changed
                .wait_timeout_while(stopping, LOOK_EVERY, |stopping| !*stopping)
                .unwrap_or_else(PoisonError::into_inner);
            if *stopping {
                return;
            }
        }
    }
}

/// Gives every notice that is due now. One that fails is due again at the next look, and holds up
/// none of the others.
pub(super) fn give_due(site: &Arc<Site>, stopping: &dyn Fn() -> bool) {
    let now = site.clock.now();
    let mut last: Option<Overdue> = None;
    while !stopping() {
        let due = match site.store.overdue(now, last.as_ref(), NOTICES_IN_MEMORY_MAX) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(target: "deadlines", %error, "what is due cannot be read");
                return;
            }
        };
        let share = due.len().div_ceil(WORKERS).max(1);
        std::thread::scope(|scope| {
            for some in due.chunks(share) {
                scope.spawn(move || {
                    for overdue in some {
                        // Whatever one notice does, the others are given.
                        let given = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            give(site, overdue)
                        }));
                        let given = given.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
                        if let Err(error) = given {
                            metrics::counter!("ceralacca_step_failures_total").increment(1);
                            tracing::error!(
                                target: "deadlines",
                                identificativo = overdue.identificativo,
                                error = format!("{error:#}"),
                                "a notice cannot be given and is tried again"
                            );
                        }
                    }
                });
            }
        });
        let full = due.len() == NOTICES_IN_MEMORY_MAX;
        last = due.into_iter().next_back();
        if !full {
            return;
        }
    }
}

/// Gives one notice, unless a receipt overtakes it.
fn give(site: &Site, overdue: &Overdue) -> anyhow::Result<()> {
    let (notice, state) = match overdue.entry.state {
        TrackState::Sent => (Notice::First, TrackState::Warned),
        _ => (Notice::Second, TrackState::Expired),
    };
    let exchange: Exchange =
        serde_json::from_slice(&overdue.about).context("what is followed cannot be read")?;
    let recipient = &overdue.entry.recipient;
    let at = now_after(site, Moment::of(overdue.entry.sent));
    let id = fresh_id(site, at);
    let event = Event::Late { recipient, notice };
    let unsigned =
        receipt::late(&exchange, recipient, notice, &site.provider, at, fresh(id.clone()));
    let sealed = seal(site, unsigned, &author_path(site), at)?;
    let transaction = |placed: bool| -> anyhow::Result<Transaction> {
        let reason = event.reason(&site.provider.name).unwrap_or_default();
        let mut transaction = Transaction {
            at: at.instant(),
            octets: vec![Octets::Inline(sealed.clone())],
            track: vec![Track {
                identificativo: overdue.identificativo.clone(),
                recipient: recipient.clone(),
                state,
                only_from: Some(overdue.entry.state),
                at: at.instant(),
            }],
            log: vec![
                record::of(site, "preavviso-errore-consegna", &exchange, at)
                    .about(&id)
                    .delivery(recipient)
                    .error(event.error().errore(), &reason)
                    .build(),
            ],
            ..Transaction::default()
        };
        let octets = (Source::New(0), &sealed[..]);
        place_or_queue(&mut transaction, &exchange.sender, octets, placed)?;
        Ok(transaction)
    };
    let done = match commit(site, transaction(true)?, "late") {
        Err(StoreError::OverQuota(_) | StoreError::NoSuchAccount) => {
            commit(site, transaction(false)?, "late")
        }
        done => done,
    };
    match done {
        Ok(()) => {
            let which = if notice == Notice::First { "first" } else { "second" };
            metrics::counter!("ceralacca_late_notices_total", "notice" => which).increment(1);
            site.queue.wake();
            Ok(())
        }
        // It was closed, or taken in charge, since it was looked at.
        Err(StoreError::Overtaken) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
