//! The one clock of the program. PEC-GEN-10: one event has one time, so it is asked once an event.

use jiff::Timestamp;

/// Tells the time.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    #[cfg(test)]
    Set(std::sync::Arc<std::sync::Mutex<Timestamp>>),
}

impl Clock {
    /// The host's clock.
    pub(crate) fn system() -> Self {
        Self(Source::System)
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            #[cfg(test)]
            Source::Set(at) => *at.lock().unwrap(),
        }
    }

    /// A clock that stands at `at`.
    #[cfg(test)]
    pub(crate) fn set(at: Timestamp) -> Self {
        Self(Source::Set(std::sync::Arc::new(std::sync::Mutex::new(at))))
    }

    /// Sets a clock that stands to another time.
    #[cfg(test)]
    pub(crate) fn turn_to(&self, time: Timestamp) {
        match &self.0 {
            Source::System => panic!("nobody sets the host's clock"),
            Source::Set(at) => *at.lock().unwrap() = time,
        }
    }
}
