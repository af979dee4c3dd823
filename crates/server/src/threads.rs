//! The threads that a provider cannot do without: each is named, and whether it lives can be asked.
//!
//! What fails in one of them is caught where it fails, and tried again. Should one end all the same, nothing
//! of it would be seen from outside: so `/ready` asks here.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};

/// All of them.
#[derive(Default)]
pub(crate) struct Threads {
    /// Who lives holds the other half.
    alive: Mutex<Vec<(&'static str, Weak<()>)>>,
}

impl Threads {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When the system has none left.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let lives = Arc::new(());
        self.alive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name, Arc::downgrade(&lives)));
        Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped whichever way it ends.
            let _lives = lives;
            work()
        })
    }

    /// One that has ended.
    pub(crate) fn ended(&self) -> Option<&'static str> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.iter().find(|(_, lives)| lives.strong_count() == 0).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn one_that_ended_or_panicked_is_named() {
        let threads = Threads::default();
        let (go_on, wait) = channel::<()>();
        let first = threads.start("first", move || wait.recv().is_ok()).unwrap();
        assert_eq!(threads.ended(), None);
        let second = threads.start("second", || panic!("it is broken")).unwrap();
        assert!(second.join().is_err());
        assert_eq!(threads.ended(), Some("second"));
        go_on.send(()).unwrap();
        assert!(first.join().unwrap());
        assert_eq!(threads.ended(), Some("first"));
    }
}
