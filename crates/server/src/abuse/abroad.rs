//! In which countries each account has signed in, for the rule `abuse.countries`: one that it never
//! signed in from is a reason to warn, or to suspend it.
//!
//! What is known is in a file, written when it has changed as what was sent is
//! ([`crate::rates`]): a crash forgets a minute of it. The first country of an account is no news, or
//! everybody would be a stranger when the rule is set.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use jiff::SignedDuration;
use store::{Account, AccountId, Timestamp};

use super::countries::{Countries, Country};
use super::freeze;
use crate::config::Config;
use crate::durable;
use crate::login::Denied;
use crate::site::Site;
use crate::submission::blocking;

/// Its name, in `store.directory`.
const FILE: &str = "countries.json";
/// Octets of it that are read at most: [`ACCOUNTS_MAX`] accounts of four countries.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Accounts of which it is known where they were, at most; beyond, those that signed in longest ago are
/// forgotten, half of them at once.
const ACCOUNTS_MAX: usize = 500_000;
/// Countries of one account at most: the one it was in longest ago is forgotten first.
const COUNTRIES_MAX: usize = 16;
/// For so long a country is known after it signed in there: who goes back every year goes unasked.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(400 * 24);
/// That it did so again is written down once in this time.
const AGAIN_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// Where an account was, and when last.
type Places = Vec<(Country, Timestamp)>;

/// Where accounts sign in from.
#[derive(Default)]
pub(crate) struct Abroad {
    countries: ArcSwapOption<Countries>,
    seen: Mutex<HashMap<AccountId, Places>>,
    changed: AtomicBool,
}

impl Abroad {
    /// What was known at the last stop; nothing when that cannot be read, which is logged.
    pub(crate) fn of(config: &Config, countries: Option<Countries>) -> Self {
        let seen = read(&file(config)).unwrap_or_else(|error| {
            let error = format!("{error:#}");
            tracing::warn!(target: "server", error, "where accounts sign in from is learnt from now on");
            HashMap::new()
        });
        let abroad = Self { seen: Mutex::new(seen), ..Self::default() };
        abroad.go_by(countries);
        abroad
    }

    /// Goes by another file of networks from now on, or by none.
    pub(crate) fn go_by(&self, countries: Option<Countries>) {
        self.countries.store(countries.map(Arc::new));
    }

    /// Notes where an account signs in from: the country, when that is a new one for it.
    fn note(&self, account: AccountId, from: IpAddr, now: Timestamp) -> Option<Country> {
        let country = self.countries.load().as_ref()?.of(from)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= ACCOUNTS_MAX && !seen.contains_key(&account) {
            forget_older(&mut seen);
        }
        let places = seen.entry(account).or_default();
        let is_first = places.is_empty();
        places.retain(|(_, last)| now.duration_since(*last) < KNOWN_FOR);
        if let Some((_, last)) = places.iter_mut().find(|(known, _)| *known == country) {
            if now.duration_since(*last) >= AGAIN_EVERY {
                *last = now;
                self.changed.store(true, Ordering::Relaxed);
            }
            return None;
        }
        if places.len() >= COUNTRIES_MAX
            && let Some(oldest) = (0..places.len()).min_by_key(|at| places[*at].1)
        {
            places.remove(oldest);
        }
        places.push((country, now));
        self.changed.store(true, Ordering::Relaxed);
        (!is_first).then_some(country)
    }

    /// As if an account had not signed in from there: what was to follow could not be done.
    fn unnote(&self, account: AccountId, country: Country) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = seen.get_mut(&account) {
            places.retain(|(known, _)| *known != country);
        }
    }

    /// Writes down where accounts were, if that has changed.
    ///
    /// # Errors
    ///
    /// When the disk fails; it is written the next time.
    pub(crate) fn keep(&self, config: &Config) -> anyhow::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let all: Vec<(u64, Vec<(Country, i64)>)> = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let place = |(country, last): &(Country, Timestamp)| (*country, last.as_second());
            seen.iter().map(|(id, places)| (id.0, places.iter().map(place).collect())).collect()
        };
        let file = file(config);
        let written = serde_json::to_vec(&all)
            .map_err(anyhow::Error::from)
            .and_then(|octets| Ok(durable::replace_private(&file, &octets)?));
        written.with_context(|| {
            self.changed.store(true, Ordering::Relaxed);
            format!("{} cannot be written", file.display())
        })
    }
}

/// When an account signed in last.
fn last(places: &Places) -> Timestamp {
    places.iter().map(|(_, last)| *last).max().unwrap_or(Timestamp::MIN)
}

fn forget_older(seen: &mut HashMap<AccountId, Places>) {
    let mut times: Vec<(Timestamp, AccountId)> =
        seen.iter().map(|(id, places)| (last(places), *id)).collect();
    let middle = times.len() / 2;
    let (older, ..) = times.select_nth_unstable_by_key(middle, |(last, id)| (*last, id.0));
    for (_, id) in older {
        seen.remove(id);
    }
}

fn file(config: &Config) -> PathBuf {
    config.data.join(FILE)
}

fn read(file: &Path) -> anyhow::Result<HashMap<AccountId, Places>> {
    let unreadable = || format!("{} cannot be read", file.display());
    let octets = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Ok(metadata) if metadata.len() > FILE_OCTETS_MAX => {
            anyhow::bail!("{} is larger than it can be", file.display())
        }
        Ok(_) => std::fs::read(file).with_context(unreadable)?,
        Err(error) => return Err(error).with_context(unreadable),
    };
    let all: Vec<(u64, Vec<(Country, i64)>)> =
        serde_json::from_slice(&octets).with_context(unreadable)?;
    let mut seen = HashMap::new();
    for (id, places) in all.into_iter().take(ACCOUNTS_MAX) {
        let place = |(country, last)| anyhow::Ok((country, Timestamp::from_second(last)?));
        let places = places.into_iter().take(COUNTRIES_MAX).map(place);
        seen.insert(AccountId(id), places.collect::<anyhow::Result<_>>().with_context(unreadable)?);
    }
    Ok(seen)
}

/// Somebody has proved to be this account: why it may not sign in all the same, if the rule says so.
pub(crate) async fn signs_in(site: &Arc<Site>, account: &Account, from: IpAddr) -> Option<Denied> {
    let country = site.abroad.note(account.id, from, site.clock.now())?;
    let freezes = site.config.load().countries.as_ref().is_some_and(|rule| rule.freeze);
    let outcome = if freezes { "suspended" } else { "warned" };
    metrics::counter!("ceralacca_new_countries_total", "outcome" => outcome).increment(1);
    let reason = format!("signed in from {country}, where it never was");
    let (here, known, why) = (site.clone(), account.clone(), reason.clone());
    let done = blocking(move || {
        if freezes { freeze(&here, &known, &why) } else { warn(&here, &known, from, &why) }
    });
    let done = done.await.map_err(anyhow::Error::from).and_then(|done| done);
    match done {
        Ok(()) => freezes.then_some(Denied::Suspended),
        Err(error) => {
            site.abroad.unnote(account.id, country);
            let error = format!("{error:#}");
            tracing::error!(target: "server", account = %account.address, error, reason, "a new country is not written down");
            freezes.then_some(Denied::Unavailable(error))
        }
    }
}

/// Writes down a sign-in from a new country.
fn warn(site: &Site, account: &Account, from: IpAddr, reason: &str) -> anyhow::Result<()> {
    tracing::warn!(target: "server", account = %account.address, %from, reason, "an account signs in from a new country: see [abuse]");
    super::write_down(site, account, "accesso-paese-nuovo", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: AccountId = AccountId(1);
    const IT: [u8; 4] = [192, 0, 2, 1];
    const FR: [u8; 4] = [198, 51, 100, 1];
    const NOWHERE: [u8; 4] = [203, 0, 113, 1];

    fn abroad() -> Abroad {
        let abroad = Abroad::default();
        let text = "192.0.2.0/24,IT\n198.51.100.0/24,FR\n";
        abroad.go_by(Some(Countries::parse(text).unwrap()));
        abroad
    }

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn note(abroad: &Abroad, from: [u8; 4], at: i64) -> Option<String> {
        abroad.note(ANNA, from.into(), day(at)).map(|country| country.to_string())
    }

    #[test]
    fn the_first_country_is_no_news_the_next_is_and_only_once() {
        let abroad = abroad();
        assert_eq!(note(&abroad, NOWHERE, 0), None);
        assert_eq!(note(&abroad, IT, 0), None);
        assert_eq!(note(&abroad, FR, 1).as_deref(), Some("FR"));
        assert_eq!(
            (note(&abroad, FR, 2), note(&abroad, IT, 3), note(&abroad, NOWHERE, 4)),
            (None, None, None)
        );
        // It signed in from Italy on day 3 and 402, from France on day 2.
        assert_eq!(note(&abroad, IT, 402), None);
        assert_eq!(note(&abroad, FR, 403).as_deref(), Some("FR"));
        abroad.go_by(None);
        assert_eq!(note(&abroad, FR, 9_000), None);
    }

    #[test]
    fn after_very_long_every_country_is_new() {
        let abroad = abroad();
        assert_eq!(note(&abroad, IT, 0), None);
        assert_eq!(note(&abroad, IT, 500).as_deref(), Some("IT"));
    }

    #[test]
    fn a_restart_forgets_nothing_and_a_broken_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\"]\n";
        let config = Config::parse(&folder.path().join("ceralacca.toml"), text).unwrap();
        let first = abroad();
        assert_eq!(note(&first, IT, 0), None);
        first.keep(&config).unwrap();
        let countries = || Some(Countries::parse("198.51.100.0/24,FR\n").unwrap());
        let second = Abroad::of(&config, countries());
        assert_eq!(note(&second, FR, 1).as_deref(), Some("FR"));
        second.keep(&config).unwrap();
        assert_eq!(note(&Abroad::of(&config, countries()), FR, 2), None);
        // Nothing has changed: nothing is written.
        std::fs::write(folder.path().join(FILE), "[[1,[[\"?\",0]]]]").unwrap();
        second.keep(&config).unwrap();
        let third = Abroad::of(&config, countries());
        assert!(third.seen.lock().unwrap().is_empty());
    }

    #[test]
    fn one_past_each_limit_forgets_what_is_oldest() {
        let abroad = Abroad::default();
        let letters = |number: usize| char::from(b'A' + u8::try_from(number).unwrap());
        let nets: String =
            (0..=COUNTRIES_MAX).map(|n| format!("192.0.2.{n},X{}\n", letters(n))).collect();
        abroad.go_by(Some(Countries::parse(&nets).unwrap()));
        for n in 0..=COUNTRIES_MAX {
            let octet = u8::try_from(n).unwrap();
            note(&abroad, [192, 0, 2, octet], i64::from(octet));
        }
        assert_eq!(abroad.seen.lock().unwrap()[&ANNA].len(), COUNTRIES_MAX);
        assert_eq!(note(&abroad, [192, 0, 2, 1], 20), None);
        assert_eq!(note(&abroad, [192, 0, 2, 0], 20).as_deref(), Some("XA"));

        let mut seen: HashMap<AccountId, Places> = (0..ACCOUNTS_MAX as u64)
            .map(|id| {
                (
                    AccountId(id),
                    vec![(Country::try_from("IT".to_owned()).unwrap(), day(id as i64 / 1000))],
                )
            })
            .collect();
        seen.remove(&AccountId(0));
        seen.insert(AccountId(u64::MAX), Vec::new());
        forget_older(&mut seen);
        assert_eq!(seen.len(), ACCOUNTS_MAX / 2);
        assert!(seen.contains_key(&AccountId(ACCOUNTS_MAX as u64 - 1)));
        assert!(!seen.contains_key(&AccountId(u64::MAX)) && !seen.contains_key(&AccountId(1)));
    }

    #[test]
    fn a_file_one_octet_past_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let refused = |octets| {
            std::fs::File::create(&file).unwrap().set_len(octets).unwrap();
            read(&file).unwrap_err().to_string()
        };
        assert!(refused(FILE_OCTETS_MAX).ends_with(" cannot be read"), "it is no JSON");
        assert!(refused(FILE_OCTETS_MAX + 1).ends_with(" is larger than it can be"));
    }
}
