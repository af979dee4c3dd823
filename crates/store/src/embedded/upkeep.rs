//! What is done in the background, slowly: compaction, so that dead octets come back; and scrubbing,
//! which reads all that is stored once in a while, so that damage is known while a backup is there.
//!
//! One thread, woken once in a while. It reads as any reader does and writes through the writer; its
//! pace is bounded, so that it takes a known part of what the disk can do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::writer::Command;
use super::{Shared, check, compact};
use crate::{StoreError, Upkeep};

/// What was done since the store was opened.
#[derive(Default)]
pub(super) struct Done {
    moved_octets: AtomicU64,
    freed_octets: AtomicU64,
    scrubbed_octets: AtomicU64,
    damaged: AtomicU64,
}

impl Done {
    pub(super) fn add_moved(&self, octets: u64) {
        self.moved_octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn add_freed(&self, octets: u64) {
        self.freed_octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn told(&self) -> Upkeep {
        let told = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Upkeep {
            moved_octets: told(&self.moved_octets),
            freed_octets: told(&self.freed_octets),
            scrubbed_octets: told(&self.scrubbed_octets),
            damaged: told(&self.damaged),
            archive: None,
        }
    }
}

/// How fast, and whether still.
pub(super) struct Pace {
    octets_a_second: u64,
    stop: Mutex<bool>,
    stopping: Condvar,
}

impl Pace {
    pub(super) fn new(octets_a_second: u64) -> Self {
        let octets_a_second = octets_a_second.max(1);
        Self { octets_a_second, stop: Mutex::new(false), stopping: Condvar::new() }
    }

    /// Ends every wait.
    pub(super) fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopping.notify_all();
    }

    pub(super) fn stopped(&self) -> bool {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; `false` when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopping.wait_timeout_while(stop, time, |stop| !*stop);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// As long as so many octets take at this pace.
    pub(super) fn after(&self, octets: u64) -> bool {
        let micros = u128::from(octets) * 1_000_000 / u128::from(self.octets_a_second);
        self.wait(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

/// Works until it is stopped.
pub(super) fn run(
    shared: &Arc<Shared>,
    commands: &SyncSender<Command>,
    pace: &Pace,
    (every, scrub_every): (Duration, Duration),
) {
    let mut scrubbed: Option<Instant> = None;
    while pace.wait(every) {
        if let Err(error) = compact::background(shared, commands, pace) {
            tracing::warn!(%error, "compaction is put off");
        }
        if scrubbed.is_none_or(|last| last.elapsed() >= scrub_every) {
            scrubbed = Some(Instant::now());
            if let Err(error) = scrub(shared, pace) {
                tracing::error!(%error, "scrubbing is put off");
            }
        }
    }
}

/// Reads everything once, unless it is told to stop.
fn scrub(shared: &Shared, pace: &Pace) -> Result<(), StoreError> {
    let mut after = 0;
    while let Some(batch) = shared.readers.read(|db| check::verify(db, &shared.files, after))? {
        after = batch.last;
        shared.done.scrubbed_octets.fetch_add(batch.octets, Ordering::Relaxed);
        for (number, why) in batch.damaged {
            shared.done.damaged.fetch_add(1, Ordering::Relaxed);
            let damage = shared.readers.read(|db| check::damage(db, number, &why))?;
            tracing::error!(damage, "stored octets are damaged");
        }
        if !pace.after(batch.octets) {
            break;
        }
    }
    Ok(())
}
