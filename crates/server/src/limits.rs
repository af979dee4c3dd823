//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use store::{AccountId, Charge, Usage};
use tokio::sync::watch;

use crate::config::Limits;

/// Octets that the receipts of one message want, some eight KiB each when nothing comes back in them:
/// who has less room left is full.
const RECEIPT_ROOM_OCTETS: u64 = 64 * 1024;

/// Of so many parts of `limits.connections_max` one is kept for users: on the doors of submission and of IMAP,
/// signed in on port 25, or in networks that nothing throttles. The other parts are all that strangers on
/// port 25 may take, who hold a connection for as long as RFC 5321 wants it held.
const PARTS: usize = 4;

/// Whether the receipts of one more message have room: otherwise they would have to wait, and nothing
/// bounds how many of them.
pub(crate) fn has_room_for_receipts(usage: &Usage) -> bool {
    usage.has_room(RECEIPT_ROOM_OCTETS, 1, Charge::Receipt)
}

/// Counts connections, and holds the limits that sessions of all kinds are held against.
pub(crate) struct Connections {
    limits: ArcSwap<Limits>,
    counts: Mutex<Counts>,
    /// Whether there is little room left: whoever is a stranger is waited for no longer than needed.
    crowd: watch::Sender<bool>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    strangers: usize,
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

/// Who comes in by a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Those who sign in: submission, IMAP.
    Users,
    /// Port 25: other hosts, that nobody knows.
    Hosts,
}

/// Of what there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// Of all connections, or of those of strangers.
    Everywhere,
    /// Of those from this address.
    Here,
}

/// One counted connection, until it is dropped.
pub(crate) struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
    stranger: bool,
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
        Arc::new(Self {
            limits: ArcSwap::from_pointee(limits),
            counts: Mutex::default(),
            crowd: watch::Sender::new(false),
        })
    }

    /// The limits as they are now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Other limits from now on. Connections beyond them stay until they end.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Counts one more connection from this address by this door.
    ///
    /// # Errors
    ///
    /// When there are too many, and of what.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, door: Door) -> Result<Counted, TooMany> {
        let unthrottled = self.is_unthrottled(address);
        let address = customer(address);
        let limits = self.limits.load();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if here >= limits.connections_per_address_max && !unthrottled {
            return Err(TooMany::Here);
        }
        let stranger = door == Door::Hosts && !unthrottled;
        let strangers_full = counts.strangers >= strangers_max(&limits);
        if counts.all >= limits.connections_max || (stranger && strangers_full) {
            return Err(TooMany::Everywhere);
        }
        counts.all += 1;
        counts.strangers += usize::from(stranger);
        counts.by_address.insert(address, here + 1);
        self.look_around(&counts);
        drop(counts);
        Ok(Counted { connections: self.clone(), address, stranger })
    }

    /// Tells sessions when it becomes crowded, with over three quarters of the strangers' part taken or over 15 of
    /// 16 of all, and when it no longer is: at half and at seven eighths, so that it does not go to and
    /// fro with each connection.
    fn look_around(&self, counts: &Counts) {
        let limits = self.limits.load();
        let (strangers, all) = (strangers_max(&limits), limits.connections_max);
        self.crowd.send_if_modified(|crowded| {
            let over = |count: usize, of: usize, part: usize, parts: usize| {
                count.saturating_mul(parts) > of.saturating_mul(part)
            };
            let now = if *crowded {
                over(counts.strangers, strangers, 1, 2) || over(counts.all, all, 7, 8)
            } else {
                over(counts.strangers, strangers, 3, 4) || over(counts.all, all, 15, 16)
            };
            std::mem::replace(crowded, now) != now
        });
    }

    /// Whether there is little room left, from now on.
    pub(crate) fn watch_crowd(&self) -> watch::Receiver<bool> {
        self.crowd.subscribe()
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

/// How many of all connections strangers may have.
fn strangers_max(limits: &Limits) -> usize {
    limits.connections_max - limits.connections_max / PARTS
}

impl Counted {
    /// Whether it is one of a stranger's.
    pub(crate) fn is_stranger(&self) -> bool {
        self.stranger
    }

    /// Whoever has it has signed in: it makes room for a stranger.
    pub(crate) fn sign_in(&mut self) {
        if std::mem::take(&mut self.stranger) {
            let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.strangers -= 1;
            self.connections.look_around(&counts);
        }
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

/// The addresses that are most often in one hand: a /24, of IPv6 a /48, which is the largest that a site usually
/// gets (RFC 6177 §2).
pub(crate) fn neighbours(address: IpAddr) -> IpAddr {
    match customer(address) {
        IpAddr::V4(address) => {
            std::net::Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)).into()
        }
        IpAddr::V6(address) => {
            std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into()
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counts = &mut *self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        counts.strangers -= usize::from(self.stranger);
        self.connections.look_around(counts);
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

    fn enter(connections: &Arc<Connections>, address: IpAddr) -> Option<Counted> {
        connections.enter(address, Door::Users).ok()
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
        let first = enter(&connections, HERE);
        let second = enter(&connections, HERE);
        assert!(first.is_some() && second.is_some());
        assert!(enter(&connections, HERE).is_none());
        assert!(enter(&connections, THERE).is_some());
        drop(first);
        assert!(enter(&connections, HERE).is_some());
    }

    #[test]
    fn one_past_the_limit_of_all_is_refused_also_where_nothing_throttles() {
        let connections = connections(2, 1, &["192.0.2.0/24"]);
        let held = (enter(&connections, HERE), enter(&connections, HERE));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(enter(&connections, THERE).is_none());
        drop(held);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn one_stranger_past_their_part_is_refused_and_users_have_the_rest() {
        let connections = connections(8, 8, &["203.0.113.0/24"]);
        let by = |door, address| connections.enter(address, door);
        let mut held: Vec<_> = (0..6).map(|_| by(Door::Hosts, HERE).unwrap()).collect();
        assert_eq!(by(Door::Hosts, THERE).err(), Some(TooMany::Everywhere));
        // Those whom the operator vouches for are no strangers.
        let unthrottled = by(Door::Hosts, "203.0.113.9".parse().unwrap()).unwrap();
        assert!(held[0].is_stranger() && !unthrottled.is_stranger());
        let user = by(Door::Users, HERE).unwrap();
        assert_eq!(by(Door::Users, THERE).err(), Some(TooMany::Everywhere), "all eight are there");
        drop((unthrottled, user));
        // Who signs in by their door leaves their part.
        held[0].sign_in();
        held[0].sign_in();
        held.push(by(Door::Hosts, HERE).unwrap());
        assert_eq!(by(Door::Hosts, THERE).err(), Some(TooMany::Everywhere));
        held.push(by(Door::Users, HERE).unwrap());
        assert_eq!(by(Door::Users, HERE).err(), Some(TooMany::Here));
        drop(held);
        assert_eq!(connections.count(), 0);
        let again: Vec<_> = (0..7).map_while(|_| by(Door::Hosts, HERE).ok()).collect();
        assert_eq!(again.len(), 6);
    }

    #[test]
    fn it_is_crowded_from_three_quarters_of_the_strangers_part_to_a_half() {
        let connections = connections(16, 16, &[]);
        let crowd = connections.watch_crowd();
        let mut held: Vec<_> =
            (0..9).map(|_| connections.enter(HERE, Door::Hosts).unwrap()).collect();
        assert!(!*crowd.borrow());
        held.push(connections.enter(HERE, Door::Hosts).unwrap());
        assert!(*crowd.borrow(), "ten of twelve");
        held.truncate(7);
        assert!(*crowd.borrow());
        held.truncate(6);
        assert!(!*crowd.borrow());
        // Users alone make a crowd when there is next to no room at all.
        held.clear();
        held.extend((0..15).map(|_| connections.enter(HERE, Door::Users).unwrap()));
        assert!(!*crowd.borrow());
        held.push(connections.enter(HERE, Door::Users).unwrap());
        assert!(*crowd.borrow());
        drop(held);
        assert!(!*crowd.borrow());
    }

    #[test]
    fn the_addresses_of_one_ipv6_customer_count_as_one() {
        let connections = connections(10, 1, &[]);
        let held = enter(&connections, "2001:db8:1:2::1".parse().unwrap());
        assert!(held.is_some());
        assert!(enter(&connections, "2001:db8:1:2:ffff::2".parse().unwrap()).is_none());
        assert!(enter(&connections, "2001:db8:1:3::1".parse().unwrap()).is_some());
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
        let held = enter(&connections, HERE);
        assert!(held.is_some() && enter(&connections, THERE).is_none());
        connections.set_limits(Limits { connections_max: 2, ..Limits::default() });
        assert!(enter(&connections, THERE).is_some());
    }
}
