//! The queue's loop, with steps that do not end.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crypto::{SignError, Signer};

use super::scene::{BIANCHI, Scene, Unsteady, offer};
use crate::queue::JOBS_IN_MEMORY_MAX;

/// Signs nothing until it is let go.
struct Gate {
    signer: Unsteady,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Signer for Gate {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError> {
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        self.signer.sign(octets)
    }
}

#[test]
fn one_job_past_the_bound_stays_on_disk_until_there_is_room() {
    let gate = Arc::new(Gate {
        signer: Unsteady::new(),
        is_open: Mutex::new(false),
        opened: Condvar::new(),
    });
    let scene = Scene::signing_by(gate.clone());
    for _ in 0..=JOBS_IN_MEMORY_MAX {
        offer(&scene, &[BIANCHI]);
    }
    let queue = scene.site.queue.clone();
    let running = {
        let (queue, site) = (queue.clone(), scene.site.clone());
        std::thread::spawn(move || queue.run(&site))
    };
    let began = Instant::now();
    while queue.in_memory() < JOBS_IN_MEMORY_MAX {
        assert!(began.elapsed() < Duration::from_secs(60), "{} in memory", queue.in_memory());
        std::thread::yield_now();
    }
    for _ in 0..10_000 {
        queue.wake();
        assert_eq!(queue.in_memory(), JOBS_IN_MEMORY_MAX);
        std::thread::yield_now();
    }
    let waiting = scene.site.store.jobs_waiting().unwrap().0;
    assert_eq!(waiting, JOBS_IN_MEMORY_MAX as u64 + 1, "none is done");
    queue.stop();
    *gate.is_open.lock().unwrap() = true;
    gate.opened.notify_all();
    running.join().unwrap().unwrap();
    assert_eq!(queue.in_memory(), 0, "what was begun has ended, and the rest was not begun");
}
