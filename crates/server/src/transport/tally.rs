//! What became of TLS towards ordinary domains, counted for the reports that they ask for.
//!
//! RFC 8460 §4: sessions that were as the domain wants them and sessions that were not, by policy and
//! by kind of failure, for each day (of UTC). In memory, and every minute in the file
//! `tls-reports.json` of the data folder: a crash costs the counts of a minute, and no more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crypto::tls::{Distrust, Unverified};
use serde::{Deserialize, Serialize};
use store::Timestamp;

use crate::durable;

/// Where the counts are kept.
const FILE: &str = "tls-reports.json";
/// Octets of that file at most; a larger one is none of ours.
const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;
/// Domains of one period that are counted at most; of more nothing is reported.
pub(super) const DOMAINS_MAX: usize = 10_000;
/// Policies of one domain and period at most: it may change a few times in a day.
pub(super) const POLICIES_MAX: usize = 4;
/// Kinds of failures under one policy at most; beyond, failures are counted and not told apart.
pub(super) const FAILURES_MAX: usize = 32;
/// Periods that wait to be reported at most; of more the oldest are dropped.
const PERIODS_MAX: usize = 3;
/// Octets of a reason that are kept.
const REASON_OCTETS_MAX: usize = 200;

/// Kinds of failures, in the words of RFC 8460 §4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    #[serde(rename = "starttls-not-supported")]
    NotOffered,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

/// A failure, in kind and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) why: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    pub(super) fn fetch(why: String) -> Self {
        Self::new(Kind::StsPolicyFetchError, why)
    }

    pub(super) fn invalid(why: String) -> Self {
        Self::new(Kind::StsPolicyInvalid, why)
    }

    pub(super) fn webpki(why: String) -> Self {
        Self::new(Kind::StsWebpkiInvalid, why)
    }

    pub(super) fn of(unverified: &Unverified) -> Self {
        let kind = match unverified.kind {
            Distrust::Expired => Kind::CertificateExpired,
            Distrust::OtherName => Kind::CertificateHostMismatch,
            Distrust::Untrusted => Kind::CertificateNotTrusted,
        };
        Self::new(kind, unverified.why.clone())
    }
}

/// Which policy a session was held against, RFC 8460 §4.4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// `tlsa`, `sts` or `no-policy-found`.
    pub(crate) kind: String,
    /// Its lines; of TLSA the records.
    pub(crate) lines: Vec<String>,
    /// The hosts it names.
    pub(crate) hosts: Vec<String>,
}

impl Held {
    /// None was found.
    pub(super) fn nothing() -> Self {
        Self { kind: "no-policy-found".to_owned(), lines: Vec::new(), hosts: Vec::new() }
    }
}

/// Where a session went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) host: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

/// Failures of one kind at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failures {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) why: String,
    pub(crate) count: u64,
}

/// What was counted under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) held: Held,
    pub(crate) successes: u64,
    pub(crate) failed: u64,
    pub(crate) failures: Vec<Failures>,
}

/// Periods by their number, and in each the domains.
type Periods = BTreeMap<i64, BTreeMap<String, Vec<Count>>>;

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    file: Option<PathBuf>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    periods: Periods,
    changed: bool,
}

/// The number of the period that a time is in.
pub(super) fn period_of(now: Timestamp, every_secs: i64) -> i64 {
    now.as_second().div_euclid(every_secs.max(1))
}

impl Tally {
    /// With what is kept from before.
    pub(super) fn open(data: &Path) -> Self {
        let file = data.join(FILE);
        let periods = match read(&file) {
            Ok(periods) => periods,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Periods::new(),
            Err(error) => {
                tracing::warn!(target: "transport", file = %file.display(), %error, "counts for reports cannot be read, and begin anew");
                Periods::new()
            }
        };
        Self { file: Some(file), counts: Mutex::new(Counts { periods, changed: false }) }
    }

    /// Counts a session with a host of this domain.
    pub(super) fn count(
        &self,
        period: i64,
        domain: &str,
        held: &Held,
        place: &Place,
        became: Result<(), &Problem>,
    ) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.changed = true;
        while counts.periods.len() >= PERIODS_MAX && !counts.periods.contains_key(&period) {
            counts.periods.pop_first();
        }
        let domains = counts.periods.entry(period).or_default();
        if domains.len() >= DOMAINS_MAX && !domains.contains_key(domain) {
            return;
        }
        let policies = domains.entry(domain.to_owned()).or_default();
        let at = policies.iter().position(|count| count.held == *held).unwrap_or(policies.len());
        if at == policies.len() && at < POLICIES_MAX {
            let held = held.clone();
            policies.push(Count { held, successes: 0, failed: 0, failures: Vec::new() });
        }
        let Some(count) = policies.get_mut(at) else { return };
        let Err(problem) = became else {
            count.successes += 1;
            return;
        };
        count.failed += 1;
        let why = shortened(&problem.why);
        let alike = |known: &&mut Failures| {
            known.kind == problem.kind && known.place == *place && known.why == why
        };
        if let Some(known) = count.failures.iter_mut().find(alike) {
            known.count += 1;
        } else if count.failures.len() < FAILURES_MAX {
            let (kind, place) = (problem.kind, place.clone());
            count.failures.push(Failures { kind, place, why, count: 1 });
        }
    }

    /// What is counted of periods before this one: number, domain, counts.
    pub(super) fn before(&self, period: i64) -> Vec<(i64, String, Vec<Count>)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = counts.periods.range(..period);
        let all = ended.flat_map(|(number, domains)| {
            domains.iter().map(|(domain, counts)| (*number, domain.clone(), counts.clone()))
        });
        all.collect()
    }

    /// Forgets what was reported.
    pub(super) fn forget(&self, period: i64, domain: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(domains) = counts.periods.get_mut(&period) {
            domains.remove(domain);
            if domains.is_empty() {
                counts.periods.remove(&period);
            }
            counts.changed = true;
        }
    }

    /// Writes down what has changed. Blocks.
    ///
    /// # Errors
    ///
    /// When the disk fails; then it is written the next time.
    pub(super) fn save(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let octets = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if !counts.changed {
                return Ok(());
            }
            counts.changed = false;
            serde_json::to_vec(&counts.periods)?
        };
        durable::replace(file, &octets).inspect_err(|_| {
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
        })
    }
}

fn read(file: &Path) -> std::io::Result<Periods> {
    if std::fs::metadata(file)?.len() > FILE_OCTETS_MAX {
        return Err(std::io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

fn shortened(why: &str) -> String {
    let plain = why.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' });
    plain.take(REASON_OCTETS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str) -> Place {
        Place { host: Some(host.to_owned()), address: None }
    }

    fn counted(tally: &Tally, period: i64) -> Vec<(i64, String, Vec<Count>)> {
        tally.before(period + 1)
    }

    #[test]
    fn counts_come_back_after_a_restart_and_go_when_they_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let tally = Tally::open(folder.path());
        let expired = Problem::new(Kind::CertificateExpired, "expired\u{7}");
        for became in [Ok(()), Err(&expired), Err(&expired), Ok(())] {
            tally.count(7, "a.example", &Held::nothing(), &place("mx.a.example"), became);
        }
        tally.count(8, "a.example", &Held::nothing(), &Place::default(), Ok(()));
        tally.save().unwrap();
        let again = Tally::open(folder.path());
        for tally in [&tally, &again] {
            let expected = Count {
                held: Held::nothing(),
                successes: 2,
                failed: 2,
                failures: vec![Failures {
                    kind: Kind::CertificateExpired,
                    place: place("mx.a.example"),
                    why: "expired?".to_owned(),
                    count: 2,
                }],
            };
            assert_eq!(tally.before(8), [(7, "a.example".to_owned(), vec![expected])]);
        }
        again.forget(7, "a.example");
        again.save().unwrap();
        assert_eq!(Tally::open(folder.path()).before(8), []);
        assert_eq!(Tally::open(folder.path()).before(9).len(), 1);
    }

    // RFC 8460 §4.3
    #[test]
    fn failures_have_the_words_of_the_rfc() {
        for (kind, word) in [
            (Kind::NotOffered, "starttls-not-supported"),
            (Kind::CertificateHostMismatch, "certificate-host-mismatch"),
            (Kind::CertificateExpired, "certificate-expired"),
            (Kind::CertificateNotTrusted, "certificate-not-trusted"),
            (Kind::ValidationFailure, "validation-failure"),
            (Kind::TlsaInvalid, "tlsa-invalid"),
            (Kind::DnssecInvalid, "dnssec-invalid"),
            (Kind::StsPolicyFetchError, "sts-policy-fetch-error"),
            (Kind::StsPolicyInvalid, "sts-policy-invalid"),
            (Kind::StsWebpkiInvalid, "sts-webpki-invalid"),
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), word);
        }
    }

    #[test]
    fn no_list_grows_past_its_bound() {
        let tally = Tally::default();
        let nothing = Held::nothing();
        for number in 0..=FAILURES_MAX {
            let problem = Problem::new(Kind::ValidationFailure, number.to_string());
            tally.count(1, "a.example", &nothing, &Place::default(), Err(&problem));
        }
        for number in 0..=POLICIES_MAX {
            let held = Held { lines: vec![number.to_string()], ..Held::nothing() };
            tally.count(1, "b.example", &held, &Place::default(), Ok(()));
        }
        let of = |domain: &str| {
            counted(&tally, 1).into_iter().find(|(_, name, _)| name == domain).map(|(.., c)| c)
        };
        let counts = of("a.example").unwrap();
        assert_eq!(counts[0].failures.len(), FAILURES_MAX);
        assert_eq!(counts[0].failed, FAILURES_MAX as u64 + 1);
        assert_eq!(of("b.example").unwrap().len(), POLICIES_MAX);
        for number in 0..DOMAINS_MAX {
            let domain = format!("{number}.example");
            tally.count(1, &domain, &nothing, &Place::default(), Ok(()));
        }
        assert_eq!(counted(&tally, 1).len(), DOMAINS_MAX);
        for period in 2..5 {
            tally.count(period, "a.example", &nothing, &Place::default(), Ok(()));
        }
        assert_eq!(counted(&tally, 9).first().unwrap().0, 2, "the oldest period goes");
    }
}
