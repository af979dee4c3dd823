//! Guesses at passwords: slowed down, and after some not compared at all, without giving anybody a way
//! to lock somebody else out.
//!
//! | failures are counted for | and after so many nothing is compared |
//! | --- | --- |
//! | a login from one network | `limits.login_failures_max` |
//! | a network, whatever the login | as many; not where that login is at home |
//! | a login, whatever the network | [`EVERYWHERE`] times as many; not where it is at home; one [`site`] adds no more than its own to that |
//!
//! A login is *at home* on a network from which it has signed in before: its holder goes on signing in
//! from there, whoever guesses at the name from elsewhere or at other names beside him. Who guesses from
//! very many networks at once locks the login for networks that it never came from, and no others; with
//! fewer guesses allowed than that, anybody could.
//!
//! Failures are in memory only; where logins are at home outlives a restart ([`super::homes`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::limits::customer;

/// The delay of the first failure; each further one doubles it.
const DELAY_FIRST: Duration = Duration::from_millis(250);
/// And the longest.
const DELAY_MAX: Duration = Duration::from_secs(8);
/// Whose failures are counted at most; beyond, those who failed least are forgotten.
const FAILING_MAX: usize = 50_000;
/// How many networks may each use up their failures before a login is closed to those it never came from.
const EVERYWHERE: usize = 20;
/// For so long after it signed in there a login is at home on a network: somebody's holidays.
pub(super) const AT_HOME_FOR: Duration = Duration::from_secs(30 * 86_400);
/// Networks where logins are at home at most, some 100 octets each; beyond, the older half is forgotten.
pub(super) const HOMES_MAX: usize = 200_000;
/// How much older than the truth the last time may be in which a login was at home, on disk: not every
/// sign-in is worth a write.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(86_400);

/// What is known of those who sign in, and of those who try.
#[derive(Default)]
pub(super) struct Guesses {
    known: Mutex<Known>,
}

#[derive(Default)]
pub(super) struct Known {
    failures: HashMap<Failing, Failures>,
    /// By login and network.
    pub(super) homes: HashMap<(String, IpAddr), Home>,
    /// There is something about homes that the disk does not have.
    pub(super) homes_changed: bool,
}

/// Where a login is at home.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    /// When it signed in there last.
    pub(super) last: Instant,
    /// When that was last worth a write.
    told: Instant,
}

impl Home {
    pub(super) fn new(last: Instant) -> Self {
        Self { last, told: last }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Failing {
    /// A login from a network.
    There(String, IpAddr),
    Network(IpAddr),
    /// A login from a [`site`] of many networks.
    Site(String, IpAddr),
    Login(String),
}

/// Who has many networks at once: of IPv6 a /48, the most that one site is given (RFC 6177 §2), with 65,536
/// networks in it. Of IPv4 an address is both.
fn site(network: IpAddr) -> Option<IpAddr> {
    match network {
        IpAddr::V4(_) => None,
        IpAddr::V6(network) => {
            Some(std::net::Ipv6Addr::from_bits(network.to_bits() & (u128::MAX << 80)).into())
        }
    }
}

struct Failures {
    count: usize,
    last: Instant,
}

impl Guesses {
    /// Counts a failure, and tells how long to wait before it is told.
    pub(super) fn failed(
        &self,
        login: &str,
        from: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Duration {
        let (login, network) = (login.to_lowercase(), customer(from));
        let mut known = self.lock();
        known.make_room(limits.login_window, now);
        let mut count = |key: Failing| known.count(key, limits.login_window, now);
        let there = count(Failing::There(login.clone(), network));
        let of_site = site(network).map(|site| count(Failing::Site(login.clone(), site)));
        // One who has very many networks closes a login no sooner than one who has one.
        if of_site.unwrap_or(there) <= limits.login_failures_max {
            count(Failing::Login(login));
        }
        delay(count(Failing::Network(network)).max(there))
    }

    /// Somebody signed in. What failed from elsewhere stays counted: or whoever signs in every minute
    /// would allow that many more guesses.
    pub(super) fn succeeded(&self, login: &str, from: IpAddr, now: Instant) {
        let (login, network) = (login.to_lowercase(), customer(from));
        let mut known = self.lock();
        known.failures.remove(&Failing::There(login.clone(), network));
        let home = (login, network);
        if known.homes.len() >= HOMES_MAX && !known.homes.contains_key(&home) {
            known.forget_older_homes(now);
        }
        let is_new = !known.homes.contains_key(&home);
        let home = known.homes.entry(home).or_insert(Home::new(now));
        home.last = now;
        if is_new || now.saturating_duration_since(home.told) >= TOLD_AGAIN_AFTER {
            home.told = now;
            known.homes_changed = true;
        }
    }

    /// How long nothing is compared for this login from there; `None` when it is.
    pub(super) fn refused_for(
        &self,
        login: &str,
        from: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Option<Duration> {
        let (login, network) = (login.to_lowercase(), customer(from));
        let (max, window) = (limits.login_failures_max, limits.login_window);
        let known = self.lock();
        let refused = |key: Failing, max: usize| {
            let entry = known.failures.get(&key).filter(|entry| entry.count >= max)?;
            window.checked_sub(now - entry.last).filter(|left| !left.is_zero())
        };
        let there = refused(Failing::There(login.clone(), network), max);
        let home = known.homes.get(&(login.clone(), network));
        if home.is_some_and(|home| now - home.last < AT_HOME_FOR) {
            return there;
        }
        let of_network = refused(Failing::Network(network), max);
        let of_login = refused(Failing::Login(login), max.saturating_mul(EVERYWHERE));
        there.max(of_network).max(of_login)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn count(&mut self, key: Failing, forgotten_after: Duration, now: Instant) -> usize {
        let entry = self.failures.entry(key).or_insert(Failures { count: 0, last: now });
        if now - entry.last >= forgotten_after {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        entry.count
    }

    /// For the four entries of one more failure.
    fn make_room(&mut self, forgotten_after: Duration, now: Instant) {
        if self.failures.len() + 4 <= FAILING_MAX {
            return;
        }
        self.failures.retain(|_, entry| now - entry.last < forgotten_after);
        // Those who fail most are remembered longest: many others cannot make them forgotten.
        let mut least = 1;
        while self.failures.len() + 4 > FAILING_MAX {
            self.failures.retain(|_, entry| entry.count > least);
            least *= 2;
        }
    }

    fn forget_older_homes(&mut self, now: Instant) {
        self.homes.retain(|_, home| now - home.last < AT_HOME_FOR);
        if self.homes.len() < HOMES_MAX {
            return;
        }
        let mut times: Vec<Instant> = self.homes.values().map(|home| home.last).collect();
        let middle = times.len() / 2;
        let (_, middle, _) = times.select_nth_unstable(middle);
        let middle = *middle;
        self.homes.retain(|_, home| home.last > middle);
    }
}

fn delay(failures: usize) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (DELAY_FIRST * 2_u32.pow(doublings)).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 3;
    const MINUTE: Duration = Duration::from_secs(60);

    fn limits() -> Limits {
        Limits { login_failures_max: MAX, login_window: MINUTE, ..Limits::default() }
    }

    fn network(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0xC633_6400 + number).into()
    }

    /// Guesses, from which time is counted.
    struct Scene {
        guesses: Guesses,
        began: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { guesses: Guesses::default(), began: Instant::now() }
        }

        fn fail(&self, login: &str, from: u32, times: usize) {
            for _ in 0..times {
                self.guesses.failed(login, network(from), &limits(), self.began);
            }
        }

        fn is_refused(&self, login: &str, from: u32, after: Duration) -> bool {
            let now = self.began + after;
            self.guesses.refused_for(login, network(from), &limits(), now).is_some()
        }
    }

    #[test]
    fn who_guesses_is_refused_where_he_guesses_and_for_a_while() {
        let scene = Scene::new();
        scene.fail("anna", 1, MAX - 1);
        assert!(!scene.is_refused("anna", 1, Duration::ZERO));
        scene.fail("ANNA", 1, 1);
        assert!(scene.is_refused("anna", 1, Duration::ZERO));
        assert!(scene.is_refused("bruno", 1, Duration::ZERO), "one guess each at many logins");
        assert!(!scene.is_refused("anna", 2, Duration::ZERO));
        assert!(!scene.is_refused("anna", 1, MINUTE));
    }

    #[test]
    fn who_is_refused_is_told_for_how_long() {
        let scene = Scene::new();
        let at = |secs| scene.began + Duration::from_secs(secs);
        let fail = |login, secs| scene.guesses.failed(login, network(1), &limits(), at(secs));
        let left = |secs| {
            let left = scene.guesses.refused_for("anna", network(1), &limits(), at(secs));
            left.map(|left| left.as_secs())
        };
        for secs in [0, 1] {
            fail("anna", secs);
        }
        assert_eq!(left(1), None);
        fail("anna", 2);
        assert_eq!((left(2), left(12), left(61), left(62)), (Some(60), Some(50), Some(1), None));
        // What fails beside her from there counts for her too, as long as she is a stranger there.
        fail("bruno", 30);
        assert_eq!((left(62), left(89), left(90)), (Some(28), Some(1), None));
    }

    #[test]
    fn whoever_signed_in_there_is_not_locked_out_by_others() {
        let scene = Scene::new();
        scene.guesses.succeeded("Anna", network(1), scene.began);
        // From the same network at somebody else's name, and from everywhere at hers.
        scene.fail("bruno", 1, 10 * MAX);
        for other in 2..200 {
            scene.fail("anna", other, MAX);
        }
        assert!(!scene.is_refused("anna", 1, Duration::ZERO));
        assert!(scene.is_refused("anna", 1000, Duration::ZERO), "a network she never came from");
        // Whoever guesses at her name from where she is at home is one of her own.
        scene.fail("anna", 1, MAX);
        assert!(scene.is_refused("anna", 1, Duration::ZERO));
        scene.guesses.succeeded("anna", network(1), scene.began);
        assert!(!scene.is_refused("anna", 1, Duration::ZERO));
    }

    #[test]
    fn one_network_past_the_bound_closes_a_login_to_those_it_never_came_from() {
        let scene = Scene::new();
        for other in 0..u32::try_from(EVERYWHERE).unwrap() {
            assert!(!scene.is_refused("anna", 1000, Duration::ZERO), "after {other} networks");
            scene.fail("anna", other, MAX);
        }
        assert!(scene.is_refused("anna", 1000, Duration::ZERO));
        assert!(!scene.is_refused("bruno", 1000, Duration::ZERO));
        // Her own success elsewhere does not open it to those who guess.
        scene.guesses.succeeded("anna", network(2000), scene.began);
        assert!(scene.is_refused("anna", 1000, Duration::ZERO));
    }

    #[test]
    fn a_network_is_a_home_for_some_weeks() {
        let scene = Scene::new();
        scene.guesses.succeeded("anna", network(1), scene.began);
        let later = scene.began + AT_HOME_FOR;
        let fail = |at| scene.guesses.failed("bruno", network(1), &limits(), at);
        for _ in 0..MAX {
            fail(later);
        }
        let refused = |at| scene.guesses.refused_for("anna", network(1), &limits(), at).is_some();
        assert!(refused(later));
        scene.guesses.succeeded("anna", network(1), later);
        assert!(!refused(later));
    }

    #[test]
    fn delays_double_up_to_eight_seconds() {
        let millis: Vec<u128> = [1, 2, 3, 6, 7, 1000].map(|n| delay(n).as_millis()).into();
        assert_eq!(millis, [250, 500, 1000, 8000, 8000, 8000]);
        let scene = Scene::new();
        let failed = |login| scene.guesses.failed(login, network(1), &limits(), scene.began);
        assert_eq!(
            [failed("a"), failed("b"), failed("c")].map(|wait| wait.as_millis()),
            [250, 500, 1000]
        );
    }

    #[test]
    fn one_past_the_bounds_makes_those_forgotten_who_failed_least_or_came_longest_ago() {
        let scene = Scene::new();
        scene.fail("anna", 1, MAX);
        for other in 0..u32::try_from(FAILING_MAX).unwrap() {
            scene.fail("nessuno", 2 + other, 1);
            assert!(scene.guesses.lock().failures.len() <= FAILING_MAX);
        }
        assert!(scene.is_refused("anna", 1, Duration::ZERO));

        let at = |number: u32| scene.began + Duration::from_millis(number.into());
        for other in 0..=u32::try_from(HOMES_MAX).unwrap() {
            scene.guesses.succeeded("anna", network(other), at(other));
        }
        let known = scene.guesses.lock();
        assert!(known.homes.len() <= HOMES_MAX / 2 + 1);
        let newest = u32::try_from(HOMES_MAX).unwrap();
        assert!(known.homes.contains_key(&("anna".to_owned(), network(newest))));
        assert!(!known.homes.contains_key(&("anna".to_owned(), network(0))));
    }

    /// A /48 has more networks than it takes to close a login to everybody: it counts once.
    #[test]
    fn one_site_of_very_many_networks_closes_a_login_to_nobody_else() {
        let scene = Scene::new();
        let inside = |site: u128, network: u128| {
            let prefix = 0x2001_0db8_u128 << 96;
            IpAddr::from(std::net::Ipv6Addr::from_bits(prefix | site << 80 | network << 64 | 1))
        };
        let fail = |from| scene.guesses.failed("anna", from, &limits(), scene.began);
        let networks = u128::try_from(EVERYWHERE * MAX).unwrap();
        for network in 0..networks {
            (0..MAX).for_each(|_| assert!(!fail(inside(0, network)).is_zero()));
        }
        assert!(!scene.is_refused("anna", 1, Duration::ZERO));
        // That many sites do.
        for site in 1..u128::try_from(EVERYWHERE).unwrap() {
            assert!(!scene.is_refused("anna", 1, Duration::ZERO), "after {site} sites");
            (0..MAX).for_each(|_| assert!(!fail(inside(site, 0)).is_zero()));
        }
        assert!(scene.is_refused("anna", 1, Duration::ZERO));
    }
}
