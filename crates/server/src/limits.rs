//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Network;

/// Counts connections.
pub(crate) struct Connections {
    max: usize,
    per_address_max: usize,
    unthrottled: Vec<Network>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One counted connection, until it is dropped.
pub(crate) struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    pub(crate) fn new(max: usize, per_address_max: usize, unthrottled: Vec<Network>) -> Arc<Self> {
        Arc::new(Self { max, per_address_max, unthrottled, counts: Mutex::default() })
    }

    /// Counts one more connection from this address; `None` when there are too many.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        let too_many_here = here >= self.per_address_max && !self.is_unthrottled(address);
        if counts.all >= self.max || too_many_here {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        drop(counts);
        Some(Counted { connections: self.clone(), address })
    }

    /// Whether rate limits and login delays leave this address alone (`limits.unthrottled`).
    pub(crate) fn is_unthrottled(&self, address: IpAddr) -> bool {
        self.unthrottled.iter().any(|network| network.contains(address))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counts = &mut *self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    #[test]
    fn one_past_the_limit_of_an_address_is_refused_and_others_are_not() {
        let connections = Connections::new(10, 2, Vec::new());
        let first = connections.enter(HERE);
        let second = connections.enter(HERE);
        assert!(first.is_some() && second.is_some());
        assert!(connections.enter(HERE).is_none());
        assert!(connections.enter(THERE).is_some());
        drop(first);
        assert!(connections.enter(HERE).is_some());
    }

    #[test]
    fn one_past_the_limit_of_all_is_refused_also_where_nothing_throttles() {
        let connections = Connections::new(2, 1, vec![Network::parse("192.0.2.0/24").unwrap()]);
        let held = (connections.enter(HERE), connections.enter(HERE));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(connections.enter(THERE).is_none());
        drop(held);
        assert_eq!(connections.count(), 0);
    }
}
