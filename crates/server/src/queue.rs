//! Takes due jobs from the store's queue and has them done: the one loop behind the pipeline.
//!
//! A job is done by its step's commit, which consumes it ([`crate::flow`]). One that fails stays in
//! the queue and is tried again later, with growing delay. What is under way is known in memory
//! only: after a crash every job is simply due again.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use store::{Job, JobId, StoreError, Timestamp};

use crate::site::Site;

/// Steps under way at once: enough to keep every signing core busy while others wait for a commit,
/// and so many that a commit is shared by dozens of them.
const WORKERS: usize = 64;
/// Jobs that are in memory at once, however many wait.
pub(crate) const JOBS_IN_MEMORY_MAX: usize = 512;
/// Octets of messages that steps under way work on at once: each is in memory some four times while
/// it is read, enclosed and signed. A larger one is worked on alone.
const STEP_OCTETS_MAX: u64 = 128 * 1024 * 1024;
/// Without a word of new jobs, the queue is looked at this often, for those put off.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The first delay after a failure; each further one doubles it.
const RETRY_FIRST_SECS: i64 = 1;
/// And the last.
const RETRY_MAX_SECS: i64 = 900;

/// The queue's loop: told of new jobs, and stopped, from any thread.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// There may be jobs that nobody has looked at.
    fresh: bool,
    stopping: bool,
    /// [`Queue::run`] has returned.
    ended: bool,
    under_way: HashSet<JobId>,
    /// Octets of the messages that are worked on.
    octets: u64,
    /// Jobs were left for later, for want of room for their messages.
    left: bool,
    /// There is room again: they are to be looked for.
    look_back: bool,
}

impl State {
    /// Makes room for a message of so many octets; when there is none, its job is left for later.
    fn take_room(&mut self, octets: u64) -> bool {
        let fits = self.octets == 0 || self.octets.saturating_add(octets) <= STEP_OCTETS_MAX;
        if fits {
            self.octets += octets;
        } else {
            self.left = true;
        }
        fits
    }

    fn give_room_back(&mut self, octets: u64) {
        self.octets -= octets;
        if std::mem::take(&mut self.left) {
            (self.look_back, self.fresh) = (true, true);
        }
    }
}

impl Queue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { fresh: true, ..State::default() }),
            changed: Condvar::new(),
        })
    }

    /// There are new jobs.
    pub(crate) fn wake(&self) {
        self.lock().fresh = true;
        self.changed.notify_all();
    }

    /// No new step begins; those under way end. [`run`](Self::run) returns then.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Whether nobody does jobs any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Does jobs until [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// When its threads cannot be started.
    pub(crate) fn run(self: &Arc<Self>, site: &Arc<Site>) -> std::io::Result<()> {
        let done = self.hand_out(site);
        self.lock().ended = true;
        if let Err(error) = &done {
            tracing::error!(target: "queue", %error, "the queue cannot be worked on");
        }
        done
    }

    fn hand_out(self: &Arc<Self>, site: &Arc<Site>) -> std::io::Result<()> {
        let (hand_out, jobs) = mpsc::sync_channel::<Job>(JOBS_IN_MEMORY_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut workers = Vec::with_capacity(WORKERS);
        for number in 0..WORKERS {
            let (queue, site, jobs) = (self.clone(), site.clone(), jobs.clone());
            let worker = move || {
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = next else { return };
                    queue.perform(&site, job);
                }
            };
            let name = format!("step-{number}");
            workers.push(std::thread::Builder::new().name(name).spawn(worker)?);
        }
        // Jobs come in the order of their numbers; those put off have to be looked for again.
        let mut seen: Option<JobId> = None;
        let mut look_back = std::time::Instant::now();
        loop {
            if self.wait_for_room() {
                break;
            }
            // Before the look, not after it: who wakes us meanwhile is not forgotten.
            let asked_back = {
                let mut state = self.lock();
                state.fresh = false;
                std::mem::take(&mut state.look_back)
            };
            if asked_back || look_back.elapsed() >= LOOK_EVERY {
                seen = None;
                look_back = std::time::Instant::now();
            }
            match site.store.jobs_due(site.clock.now(), seen, JOBS_IN_MEMORY_MAX) {
                Ok(due) => {
                    if due.len() == JOBS_IN_MEMORY_MAX {
                        self.lock().fresh = true;
                    }
                    for job in due {
                        seen = Some(job.id);
                        let mut state = self.lock();
                        if state.under_way.len() >= JOBS_IN_MEMORY_MAX {
                            // Looked at again from here when there is room.
                            seen = Some(JobId(job.id.0.saturating_sub(1)));
                            state.fresh = true;
                            break;
                        }
                        let id = job.id;
                        if state.under_way.insert(id) && hand_out.try_send(job).is_err() {
                            // Or it would be under way for ever, and nobody doing it.
                            state.under_way.remove(&id);
                            tracing::error!(target: "queue", "more jobs in memory than there may be");
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(target: "queue", %error, "the queue cannot be read");
                }
            }
        }
        drop(hand_out);
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!(target: "queue", "a worker had panicked");
            }
        }
        Ok(())
    }

    /// Waits until there may be something to hand out and room for it; true when stopping.
    fn wait_for_room(&self) -> bool {
        let state = self.lock();
        let idle = |state: &mut State| {
            !state.stopping && (!state.fresh || state.under_way.len() >= JOBS_IN_MEMORY_MAX / 2)
        };
        let (state, _) = self
            .changed
            .wait_timeout_while(state, LOOK_EVERY, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.stopping
    }

    fn perform(&self, site: &Arc<Site>, job: Job) {
        let (id, attempts) = (job.id, job.attempts);
        // Octets that cannot be found cost no room; the step says what is wrong with them.
        let octets = job.blob.and_then(|blob| site.store.octets(blob).ok()).unwrap_or(0);
        let goes_on = {
            let mut state = self.lock();
            !state.stopping && state.take_room(octets)
        };
        if goes_on {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                crate::flow::perform(site, &job)
            }));
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some("the step panicked".to_owned()),
            };
            if let Some(reason) = failure {
                tracing::error!(target: "queue", job = id.0, attempts, %reason, "a step failed and is tried again");
                metrics::counter!("ceralacca_step_failures_total").increment(1);
                self.put_off(site, id, attempts, &reason);
            }
        }
        let mut state = self.lock();
        state.under_way.remove(&id);
        if goes_on {
            state.give_room_back(octets);
        }
        drop(state);
        self.changed.notify_all();
    }

    fn put_off(&self, site: &Site, id: JobId, attempts: u32, reason: &str) {
        let now = site.clock.now();
        let due = now.checked_add(retry_after(attempts)).unwrap_or(Timestamp::MAX);
        match site.store.postpone(id, due, reason) {
            // Gone: the commit had happened, and only what came after it failed.
            Ok(()) | Err(StoreError::JobGone(_)) => {}
            Err(error) => {
                tracing::error!(target: "queue", job = id.0, %error, "a job cannot be put off");
            }
        }
    }

    /// How many jobs are in memory.
    #[cfg(test)]
    pub(crate) fn in_memory(&self) -> usize {
        self.lock().under_way.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 1 s, 2 s, 4 s, ... 15 min.
fn retry_after(attempts: u32) -> jiff::SignedDuration {
    let secs = RETRY_FIRST_SECS.checked_shl(attempts.min(30)).unwrap_or(RETRY_MAX_SECS);
    jiff::SignedDuration::from_secs(secs.clamp(RETRY_FIRST_SECS, RETRY_MAX_SECS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_octet_past_the_room_is_left_for_later_and_looked_for_again() {
        let mut state = State::default();
        assert!(state.take_room(STEP_OCTETS_MAX + 1), "alone, any message is worked on");
        state.give_room_back(STEP_OCTETS_MAX + 1);
        assert!(!state.look_back);
        assert!(state.take_room(1) && state.take_room(STEP_OCTETS_MAX - 1));
        assert!(!state.take_room(1));
        assert!(!state.look_back);
        state.give_room_back(STEP_OCTETS_MAX - 1);
        assert!(state.look_back && state.fresh && state.take_room(1));
    }

    #[test]
    fn delays_double_up_to_a_quarter_of_an_hour() {
        let secs: Vec<i64> =
            [0, 1, 2, 9, 10, 31, u32::MAX].map(|n| retry_after(n).as_secs()).into();
        assert_eq!(secs, [1, 2, 4, 512, 900, 900, 900]);
    }
}
