//! Who may sign in: passwords compared.
//!
//! An unknown user and a wrong password get the same answer after the same time. Verified
//! passwords are remembered for some minutes, since each comparison costs 27 ms of a core; what is
//! remembered is a keyed hash, and it is bound to the credentials as they are stored now. How guesses are
//! slowed down is in [`guesses`], and what of that outlives a restart in [`homes`].

mod guesses;
mod homes;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crypto::ScramKeys;
use store::{Account, AccountId, State, Store, StoreError, Timestamp};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::limits::Connections;
use guesses::Guesses;

/// For this long a password that was right need not be compared again.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// Verified passwords remembered at most.
const REMEMBERED_MAX: usize = 20_000;

/// Why somebody may not sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Unknown user or wrong password: nobody outside learns which.
    Wrong,
    /// What was sent is no message of the mechanism.
    Malformed,
    /// The password is right and the account is suspended.
    Suspended,
    /// The password is right, and a machine's account may not sign in from there.
    Elsewhere,
    /// Too many failures: nothing was compared, nor will be for so long.
    Later(Duration),
    /// We cannot tell now.
    Unavailable(String),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Compares passwords for all sessions.
pub(crate) struct Logins {
    store: Arc<dyn Store>,
    connections: Arc<Connections>,
    /// Comparisons at once: each takes a core and 19 MiB.
    comparing: Semaphore,
    /// For the made-up keys of users who are not there.
    secret: Vec<u8>,
    /// Keys what is remembered; new at each start.
    remember_key: [u8; 32],
    remembered: Mutex<HashMap<AccountId, Remembered>>,
    guesses: Guesses,
}

struct Remembered {
    proof: [u8; 32],
    at: Instant,
}

impl Logins {
    /// `secret` is the same at every start.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        connections: Arc<Connections>,
        secret: Vec<u8>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            store,
            connections,
            comparing: Semaphore::new(cores),
            secret,
            remember_key: crypto::random(),
            remembered: Mutex::default(),
            guesses: Guesses::default(),
        }
    }

    /// The same, knowing where users are at home from before the last stop.
    pub(crate) fn with_homes(self, config: &Config, at: Timestamp) -> Self {
        Self { guesses: Guesses::of(config, Instant::now(), at), ..self }
    }

    /// Writes down where users are at home, if there is something new about that. Blocks.
    ///
    /// # Errors
    ///
    /// When the disk fails; it is written the next time.
    pub(crate) fn keep_homes(&self, config: &Config, at: Timestamp) -> anyhow::Result<()> {
        self.guesses.keep(config, Instant::now(), at)
    }

    /// A turn to compare: holds back when all cores compare already.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // Closed never.
        self.comparing.acquire().await.ok()
    }

    /// Whether `password` is that of `login`. Blocks for some 27 ms.
    pub(crate) fn check(
        &self,
        login: &str,
        password: &str,
        from: IpAddr,
    ) -> Result<Account, Denied> {
        self.refuse_when_failing(login, from)?;
        let account = self.store.account_by_login(login)?;
        let known = account.and_then(|account| Some((account.credentials.clone()?, account)));
        let Some((credentials, account)) = known else {
            crypto::password::dummy(password);
            return Err(Denied::Wrong);
        };
        let proof = self.proof(&credentials.phc, password);
        if !self.is_remembered(account.id, &proof) {
            match crypto::password::verify(&credentials.phc, password) {
                Ok(true) => self.remember(account.id, proof),
                Ok(false) => return Err(Denied::Wrong),
                Err(error) => return Err(Denied::Unavailable(error.to_string())),
            }
        }
        admit(account)
    }

    /// The SCRAM keys of `login`, made up when there is nobody of that name.
    pub(crate) fn scram_keys(
        &self,
        login: &str,
        from: IpAddr,
    ) -> Result<(Option<Account>, ScramKeys), Denied> {
        self.refuse_when_failing(login, from)?;
        let account = self.store.account_by_login(login)?;
        let keys = account
            .as_ref()
            .and_then(|account| ScramKeys::parse(&account.credentials.as_ref()?.scram));
        Ok(match keys {
            Some(keys) => (account, keys),
            None => (None, ScramKeys::unknown(&self.secret, login)),
        })
    }

    /// How long to wait before a failure is told, and from when on it counts.
    pub(crate) fn failed(&self, login: &str, from: IpAddr) -> Duration {
        metrics::counter!("ceralacca_login_failures_total").increment(1);
        if self.connections.is_unthrottled(from) {
            return Duration::ZERO;
        }
        self.guesses.failed(login, from, &self.connections.limits(), Instant::now())
    }

    /// Somebody signed in: what failed there before is forgotten, and the place is known from now on.
    pub(crate) fn succeeded(&self, login: &str, from: IpAddr) {
        self.guesses.succeeded(login, from, Instant::now());
    }

    fn refuse_when_failing(&self, login: &str, from: IpAddr) -> Result<(), Denied> {
        if self.connections.is_unthrottled(from) {
            return Ok(());
        }
        match self.guesses.refused_for(login, from, &self.connections.limits(), Instant::now()) {
            Some(wait) => Err(Denied::Later(wait)),
            None => Ok(()),
        }
    }

    fn proof(&self, phc: &str, password: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.remember_key);
        hasher.update(&(phc.len() as u64).to_le_bytes());
        hasher.update(phc.as_bytes());
        hasher.update(password.as_bytes());
        hasher.finalize().into()
    }

    fn is_remembered(&self, account: AccountId, proof: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(&account).is_some_and(|known| {
            // blake3's own comparison takes the same time for any two hashes.
            blake3::Hash::from(known.proof) == blake3::Hash::from(*proof)
                && known.at.elapsed() < REMEMBERED_FOR
        })
    }

    fn remember(&self, account: AccountId, proof: [u8; 32]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| known.at.elapsed() < REMEMBERED_FOR);
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
        }
        remembered.insert(account, Remembered { proof, at: Instant::now() });
    }
}

/// Lets in who has proved to be the account, unless it is suspended.
pub(crate) fn admit(account: Account) -> Result<Account, Denied> {
    match account.state {
        State::Active => Ok(account),
        State::Suspended => Err(Denied::Suspended),
    }
}

#[cfg(test)]
mod tests {
    use store::{Credentials, NewAccount, Owner, Quota, Role, Timestamp};

    use super::*;
    use crate::config::Limits;

    const FAILURES_MAX: usize = 5;
    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn logins() -> Logins {
        let store = Arc::new(store::memory::MemoryStore::new());
        let secret = crypto::Secret::derive("giusta", &[7; 16]).unwrap();
        let account = NewAccount {
            address: mail::Address::parse("anna@pec.example").unwrap(),
            user_id: Some("anna".to_owned()),
            owner: Owner::Holder,
            role: Role::None,
            credentials: Some(Credentials { phc: secret.phc, scram: secret.scram.encode() }),
            quota: Quota { octets_max: 1000, messages_max: None, receipt_reserve_octets: 0 },
            ordinary_mail: None,
        };
        store.add_account(account, Timestamp::UNIX_EPOCH).unwrap();
        let limits = Limits { login_failures_max: FAILURES_MAX, ..Limits::default() };
        Logins::new(store, Connections::new(limits), b"secret".to_vec())
    }

    #[test]
    fn the_right_password_opens_by_address_and_by_user_id_and_is_remembered() {
        let logins = logins();
        assert!(logins.check("anna@pec.example", "giusta", FROM).is_ok());
        assert!(logins.check("ANNA", "giusta", FROM).is_ok());
        let anna = logins.check("anna", "giusta", FROM).unwrap();
        let phc = anna.credentials.unwrap().phc;
        assert!(logins.is_remembered(anna.id, &logins.proof(&phc, "giusta")));
        assert!(!logins.is_remembered(anna.id, &logins.proof(&phc, "sbagliata")));
        assert!(!logins.is_remembered(anna.id, &logins.proof("$another", "giusta")));
    }

    #[test]
    fn a_password_is_remembered_for_its_time_and_one_too_many_makes_others_forgotten() {
        let logins = logins();
        let anna = AccountId(1);
        logins.remember(anna, [1; 32]);
        assert!(logins.is_remembered(anna, &[1; 32]));
        let age = |age: Duration| {
            let at = Instant::now().checked_sub(age).unwrap();
            logins.remembered.lock().unwrap().insert(anna, Remembered { proof: [1; 32], at });
        };
        age(REMEMBERED_FOR - Duration::from_secs(60));
        assert!(logins.is_remembered(anna, &[1; 32]));
        age(REMEMBERED_FOR);
        assert!(!logins.is_remembered(anna, &[1; 32]));
        // What is too old goes first; then all of it, which costs a comparison each.
        let remembered = || logins.remembered.lock().unwrap().len();
        for other in 2..=REMEMBERED_MAX as u64 {
            logins.remember(AccountId(other), [2; 32]);
        }
        assert_eq!(remembered(), REMEMBERED_MAX);
        logins.remember(AccountId(1_000_000), [3; 32]);
        assert_eq!(remembered(), REMEMBERED_MAX, "hers was too old");
        logins.remember(AccountId(1_000_001), [3; 32]);
        assert_eq!(remembered(), 1);
    }

    #[test]
    fn wrong_and_unknown_are_told_apart_by_nobody() {
        let logins = logins();
        assert_eq!(logins.check("anna", "sbagliata", FROM).unwrap_err(), Denied::Wrong);
        assert_eq!(logins.check("nessuno", "giusta", FROM).unwrap_err(), Denied::Wrong);
    }

    #[test]
    fn one_failure_past_the_limit_compares_nothing_more_there() {
        let logins = logins();
        for _ in 0..FAILURES_MAX {
            logins.failed("anna", FROM);
        }
        let refused = logins.check("anna", "giusta", FROM).unwrap_err();
        let window = logins.connections.limits().login_window;
        assert!(matches!(refused, Denied::Later(wait) if wait <= window), "{refused:?}");
        assert!(logins.scram_keys("anna", FROM).is_err());
        // Nobody locks anna out by guessing at her name: elsewhere she signs in.
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
        assert!(logins.check("anna", "giusta", elsewhere).is_ok());
        assert_eq!(logins.check("nessuno", "x", elsewhere).unwrap_err(), Denied::Wrong);
    }
}
