//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use store::{AccountId, Charge, Usage};

use crate::config::Limits;

/// Octets that the receipts of one message want, some eight KiB each when nothing comes back in them:
/// who has less room left is full.
const RECEIPT_ROOM_OCTETS: u64 = 64 * 1024;

/// Whether the receipts of one more message have room: otherwise they would have to wait, and nothing
/// bounds how many of them.
pub(crate) fn has_room_for_receipts(usage: &Usage) -> bool {
    usage.has_room(RECEIPT_ROOM_OCTETS, 1, Charge::Receipt)
}

/// Counts connections, and holds the limits that sessions of all kinds are held against.
pub(crate) struct Connections {
    limits: ArcSwap<Limits>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    by_account: HashMap<(Service, AccountId), usize>,
}

/// What an account signed in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    /// IMAP.
    Reading,
    /// SMTP.
    Sending,
}

/// One counted connection, until it is dropped.
pub(crate) struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
}

/// One session of an account's, until it is dropped.
pub(crate) struct CountedSession {
    service: Service,
    connections: Arc<Connections>,
    account: AccountId,
}

impl Drop for CountedSession {
    fn drop(&mut self) {
        let counts = &mut *self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = counts.by_account.get_mut(&(self.service, self.account)) {
            *here -= 1;
            if *here == 0 {
                counts.by_account.remove(&(self.service, self.account));
            }
        }
    }
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits: ArcSwap::from_pointee(limits), counts: Mutex::default() })
    }

    /// The limits as they are now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Other limits from now on. Connections beyond them stay until they end.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Counts one more connection from this address; `None` when there are too many.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let unthrottled = self.is_unthrottled(address);
        let address = customer(address);
        let limits = self.limits.load();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        let too_many_here = here >= limits.connections_per_address_max && !unthrottled;
        if counts.all >= limits.connections_max || too_many_here {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        drop(counts);
        Some(Counted { connections: self.clone(), address })
    }

    /// Counts one more session of this account, to send or to read; `None` when there are too many.
    pub(crate) fn enter_as(
        self: &Arc<Self>,
        service: Service,
        account: AccountId,
        from: IpAddr,
    ) -> Option<CountedSession> {
        let unthrottled = self.is_unthrottled(from);
        let max = self.limits.load().account_sessions_max;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_account.entry((service, account)).or_default();
        if *here >= max && !unthrottled {
            return None;
        }
        *here += 1;
        drop(counts);
        Some(CountedSession { service, connections: self.clone(), account })
    }

    /// Whether rate limits and login delays leave this address alone (`limits.unthrottled`).
    pub(crate) fn is_unthrottled(&self, address: IpAddr) -> bool {
        self.limits.load().unthrottled.iter().any(|network| network.contains(address))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// The network that counts as one client: of IPv6 a /64, which is what one customer gets
/// (RFC 6177 §2), with 2^64 addresses in it.
pub(crate) fn customer(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        },
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
    use crate::config::Network;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn connections(all: usize, per_address: usize, unthrottled: &[&str]) -> Arc<Connections> {
        Connections::new(Limits {
            connections_max: all,
            connections_per_address_max: per_address,
            unthrottled: unthrottled.iter().filter_map(|text| Network::parse(text)).collect(),
            ..Limits::default()
        })
    }

    #[test]
    fn one_octet_short_of_the_room_for_receipts_is_full() {
        let quota = store::Quota {
            octets_max: 100_000,
            messages_max: Some(1),
            receipt_reserve_octets: 10_000,
        };
        let last = 110_000 - RECEIPT_ROOM_OCTETS;
        // Of messages receipts may be more than the limit says.
        let has_room = |octets| has_room_for_receipts(&Usage { octets, messages: 7, quota });
        assert!(has_room(0) && has_room(last));
        assert!(!has_room(last + 1));
    }

    #[test]
    fn one_past_the_limit_of_an_address_is_refused_and_others_are_not() {
        let connections = connections(10, 2, &[]);
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
        let connections = connections(2, 1, &["192.0.2.0/24"]);
        let held = (connections.enter(HERE), connections.enter(HERE));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(connections.enter(THERE).is_none());
        drop(held);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn the_addresses_of_one_ipv6_customer_count_as_one() {
        let connections = connections(10, 1, &[]);
        let held = connections.enter("2001:db8:1:2::1".parse().unwrap());
        assert!(held.is_some());
        assert!(connections.enter("2001:db8:1:2:ffff::2".parse().unwrap()).is_none());
        assert!(connections.enter("2001:db8:1:3::1".parse().unwrap()).is_some());
        assert_eq!(customer("::ffff:192.0.2.1".parse().unwrap()), HERE);
    }

    #[test]
    fn one_session_of_an_account_past_the_limit_is_refused_and_others_are_not() {
        let connections = Connections::new(Limits { account_sessions_max: 1, ..Limits::default() });
        let enter = |service, of, from| connections.enter_as(service, AccountId(of), from);
        let held = enter(Service::Reading, 1, HERE);
        assert!(held.is_some() && enter(Service::Reading, 1, THERE).is_none());
        assert!(enter(Service::Reading, 2, HERE).is_some());
        // Who reads with many programs can still send.
        assert!(enter(Service::Sending, 1, HERE).is_some());
        drop(held);
        assert!(enter(Service::Reading, 1, HERE).is_some());
    }

    #[test]
    fn other_limits_hold_from_the_next_connection_on() {
        let connections = connections(1, 1, &[]);
        let held = connections.enter(HERE);
        assert!(held.is_some() && connections.enter(THERE).is_none());
        connections.set_limits(Limits { connections_max: 2, ..Limits::default() });
        assert!(connections.enter(THERE).is_some());
    }
}
