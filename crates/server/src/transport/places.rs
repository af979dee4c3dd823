//! How many connections to other hosts there may be, and whose turn it is for one.
//!
//! A destination that answers nothing holds a connection for minutes, and anybody can name such
//! destinations: every domain of his own. So ordinary mail gets at most half of the connections, and
//! whatever holds those, certified mail and its receipts have the rest. Ordinary destinations take
//! turns: a look at the lanes begins with the one after the last that had a connection.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections to other hosts at the same time, all destinations together: each holds a socket, a TLS
/// session and a piece of a message.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// And those among them to destinations that are no provider's.
pub(super) const ORDINARY_CONNECTIONS_MAX: usize = CONNECTIONS_MAX / 2;

/// What kind of destination a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A provider's.
    Certified,
    /// Anybody else's.
    Ordinary,
}

/// The connections there may be.
pub(super) struct Places {
    all: Arc<Semaphore>,
    ordinary: Arc<Semaphore>,
}

/// One of them, until it is dropped.
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _ordinary: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            ordinary: Arc::new(Semaphore::new(ORDINARY_CONNECTIONS_MAX)),
        }
    }

    /// How many are free for destinations of this kind.
    pub(super) fn free(&self, kind: Kind) -> usize {
        let all = self.all.available_permits();
        match kind {
            Kind::Certified => all,
            Kind::Ordinary => all.min(self.ordinary.available_permits()),
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, kind: Kind) -> Option<Place> {
        let ordinary = match kind {
            Kind::Certified => None,
            Kind::Ordinary => Some(self.ordinary.clone().try_acquire_owned().ok()?),
        };
        Some(Place { _all: self.all.clone().try_acquire_owned().ok()?, _ordinary: ordinary })
    }
}

/// Where the looks at the lanes have come to.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The lane that the next look begins after.
    pub(super) after: Option<String>,
    /// The last ordinary lane that had a connection, until all have had their turn.
    ordinary_after: Option<String>,
    /// In this round there is none for another ordinary lane.
    ordinary_is_full: bool,
}

impl Turns {
    /// Whether a lane is to be passed over in this round.
    pub(super) fn is_over_for(&self, kind: Kind, destination: &str) -> bool {
        kind == Kind::Ordinary
            && (self.ordinary_is_full
                || self.ordinary_after.as_deref().is_some_and(|last| destination <= last))
    }

    /// A lane has had its turn.
    pub(super) fn had(&mut self, kind: Kind, destination: &str) {
        if kind == Kind::Ordinary {
            self.ordinary_after = Some(destination.to_owned());
        }
    }

    /// There is no connection for another ordinary lane: this one is the first of the next round.
    pub(super) fn no_more_ordinary(&mut self) {
        self.ordinary_is_full = true;
    }

    /// The round has come to the last lane.
    pub(super) fn is_at_end(&mut self) {
        self.after = None;
        if !std::mem::take(&mut self.ordinary_is_full) {
            self.ordinary_after = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ordinary_connection_past_the_half_is_refused_and_certified_mail_has_the_rest() {
        let places = Places::new();
        let take = |kind, count| (0..count).map_while(|_| places.take(kind)).collect::<Vec<_>>();
        let ordinary = take(Kind::Ordinary, CONNECTIONS_MAX);
        assert_eq!(ordinary.len(), ORDINARY_CONNECTIONS_MAX);
        assert_eq!(places.free(Kind::Ordinary), 0);
        assert_eq!(places.free(Kind::Certified), CONNECTIONS_MAX - ORDINARY_CONNECTIONS_MAX);
        let certified = take(Kind::Certified, CONNECTIONS_MAX);
        assert_eq!(certified.len(), CONNECTIONS_MAX - ORDINARY_CONNECTIONS_MAX);
        drop(ordinary);
        // Certified mail may have all of them.
        let more = take(Kind::Certified, CONNECTIONS_MAX);
        assert_eq!(certified.len() + more.len(), CONNECTIONS_MAX);
        assert_eq!(places.free(Kind::Ordinary), 0);
        assert!(places.take(Kind::Ordinary).is_none());
        drop(more);
        assert_eq!(places.free(Kind::Ordinary), ORDINARY_CONNECTIONS_MAX);
    }

    #[test]
    fn ordinary_lanes_have_their_turn_one_after_the_other_and_certified_ones_in_each_round() {
        let mut turns = Turns::default();
        let mut rounds = Vec::new();
        for _ in 0..3 {
            // Two connections for ordinary lanes in each round.
            let (mut free, mut had) = (2, String::new());
            for lane in ["a", "b", "C", "d", "e", "f"] {
                let kind = if lane == "C" { Kind::Certified } else { Kind::Ordinary };
                if turns.is_over_for(kind, lane) {
                    continue;
                }
                if kind == Kind::Ordinary && free == 0 {
                    turns.no_more_ordinary();
                    continue;
                }
                free -= usize::from(kind == Kind::Ordinary);
                turns.had(kind, lane);
                had += lane;
            }
            turns.is_at_end();
            rounds.push(had);
        }
        assert_eq!(rounds, ["abC", "Cde", "Cf"]);
        assert!(!turns.is_over_for(Kind::Ordinary, "a"), "and from the beginning");
    }
}
