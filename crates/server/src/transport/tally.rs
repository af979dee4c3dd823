//! What became of TLS towards ordinary domains, counted for the reports that they ask for.
//!
//! RFC 8460 §4: sessions that were as the domain wants them and sessions that were not, by policy and
//! by kind of failure, for each day (of UTC). In memory, each policy once however many domains have it,
//! and every minute in the file `tls-reports.json` of the data folder ([`kept`]): a crash costs the counts
//! of a minute, and no more.

mod kept;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crypto::tls::{Distrust, Unverified};
use serde::{Deserialize, Serialize};
use store::Timestamp;

use crate::durable;

/// Where the counts are kept.
const FILE: &str = "tls-reports.json";
/// Domains of one period that are counted at most; of more nothing is reported.
pub(super) const DOMAINS_MAX: usize = 10_000;
/// Policies of one domain and period at most: it may change a few times in a day.
pub(super) const POLICIES_MAX: usize = 4;
/// Kinds of failures under one policy at most; beyond, failures are counted and not told apart.
pub(super) const FAILURES_MAX: usize = 32;
/// Octets of all policies together at most; of more the kind is kept, and not what they say.
const POLICY_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Failures that are told apart at most, of all domains together; as [`FAILURES_MAX`] beyond.
const FAILURES_ALL_MAX: usize = 50_000;
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

    fn octets(&self) -> usize {
        let words = self.lines.iter().chain(&self.hosts);
        words.map(|word| word.len() + size_of::<String>()).sum()
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) held: Arc<Held>,
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
    policies: HashSet<Arc<Held>>,
    /// Of all policies.
    octets: usize,
    /// How many failures are told apart.
    failures: usize,
    changed: bool,
}

impl Counts {
    /// The one of this policy that all share.
    fn shared(&mut self, held: &Held) -> Arc<Held> {
        if let Some(known) = self.policies.get(held) {
            return known.clone();
        }
        if self.octets + held.octets() > POLICY_OCTETS_MAX {
            self.forget_unused();
        }
        let new = match self.octets + held.octets() > POLICY_OCTETS_MAX {
            true => Held { kind: held.kind.clone(), ..Held::nothing() },
            false => held.clone(),
        };
        if let Some(known) = self.policies.get(&new) {
            return known.clone();
        }
        let new = Arc::new(new);
        self.octets += new.octets();
        self.policies.insert(new.clone());
        new
    }

    /// Forgets the policies under which nothing is counted any more.
    fn forget_unused(&mut self) {
        self.policies.retain(|held| Arc::strong_count(held) > 1);
        self.octets = self.policies.iter().map(|held| held.octets()).sum();
    }

    fn drop_period(&mut self, period: i64) {
        for domain in self.periods.remove(&period).unwrap_or_default().into_values() {
            self.failures -= told_apart(&domain);
        }
    }
}

fn told_apart(counts: &[Count]) -> usize {
    counts.iter().map(|count| count.failures.len()).sum()
}

/// The number of the period that a time is in.
pub(super) fn period_of(now: Timestamp, every_secs: i64) -> i64 {
    now.as_second().div_euclid(every_secs.max(1))
}

impl Tally {
    /// With what is kept from before.
    pub(super) fn open(data: &Path) -> Self {
        let file = data.join(FILE);
        let periods = match kept::read(&file) {
            Ok(periods) => periods,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Periods::new(),
            Err(error) => {
                tracing::warn!(target: "transport", file = %file.display(), %error, "counts for reports cannot be read, and begin anew");
                Periods::new()
            }
        };
        let mut counts = Counts::default();
        for (period, domains) in periods {
            for (domain, kept) in domains {
                for count in kept {
                    let held = counts.shared(&count.held);
                    counts.failures += count.failures.len();
                    let here = counts.periods.entry(period).or_default();
                    here.entry(domain.clone()).or_default().push(Count { held, ..count });
                }
            }
        }
        Self { file: Some(file), counts: Mutex::new(counts) }
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
        let counts = &mut *counts;
        counts.changed = true;
        while counts.periods.len() >= PERIODS_MAX && !counts.periods.contains_key(&period) {
            let Some(oldest) = counts.periods.keys().next().copied() else { break };
            counts.drop_period(oldest);
        }
        let domains = counts.periods.entry(period).or_default();
        if domains.len() >= DOMAINS_MAX && !domains.contains_key(domain) {
            return;
        }
        let held = counts.shared(held);
        let domains = counts.periods.entry(period).or_default();
        let policies = domains.entry(domain.to_owned()).or_default();
        let at = policies.iter().position(|count| count.held == held).unwrap_or(policies.len());
        if at == policies.len() && at < POLICIES_MAX {
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
        } else if count.failures.len() < FAILURES_MAX && counts.failures < FAILURES_ALL_MAX {
            let (kind, place) = (problem.kind, place.clone());
            count.failures.push(Failures { kind, place, why, count: 1 });
            counts.failures += 1;
        }
    }

    /// What is counted of periods before this one: number and domain.
    pub(super) fn before(&self, period: i64) -> Vec<(i64, String)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = counts.periods.range(..period);
        let all = ended
            .flat_map(|(number, domains)| domains.keys().map(|domain| (*number, domain.clone())));
        all.collect()
    }

    /// What is counted of a domain in a period.
    pub(super) fn counts(&self, period: i64, domain: &str) -> Vec<Count> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let found = counts.periods.get(&period).and_then(|domains| domains.get(domain));
        found.cloned().unwrap_or_default()
    }

    /// Forgets what was reported.
    pub(super) fn forget(&self, period: i64, domain: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        let Some(domains) = counts.periods.get_mut(&period) else { return };
        counts.failures -= told_apart(&domains.remove(domain).unwrap_or_default());
        if domains.is_empty() {
            counts.periods.remove(&period);
        }
        counts.changed = true;
    }

    /// Writes down what has changed. Blocks.
    ///
    /// # Errors
    ///
    /// When the disk fails; then it is written the next time.
    pub(super) fn save(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // Who counts must not wait until all of it is written out.
        let periods = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if !counts.changed {
                return Ok(());
            }
            counts.changed = false;
            counts.periods.clone()
        };
        let written = kept::octets(&periods).and_then(|octets| durable::replace(file, &octets));
        written.inspect_err(|_| {
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
        })
    }
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

    fn counted(tally: &Tally, before: i64) -> Vec<(i64, String, Vec<Count>)> {
        let all = tally.before(before).into_iter();
        all.map(|(period, domain)| {
            let counts = tally.counts(period, &domain);
            (period, domain, counts)
        })
        .collect()
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
                held: Held::nothing().into(),
                successes: 2,
                failed: 2,
                failures: vec![Failures {
                    kind: Kind::CertificateExpired,
                    place: place("mx.a.example"),
                    why: "expired?".to_owned(),
                    count: 2,
                }],
            };
            assert_eq!(counted(tally, 8), [(7, "a.example".to_owned(), vec![expected])]);
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
            counted(&tally, 2).into_iter().find(|(_, name, _)| name == domain).map(|(.., c)| c)
        };
        let counts = of("a.example").unwrap();
        assert_eq!(counts[0].failures.len(), FAILURES_MAX);
        assert_eq!(counts[0].failed, FAILURES_MAX as u64 + 1);
        assert_eq!(of("b.example").unwrap().len(), POLICIES_MAX);
        for number in 0..DOMAINS_MAX {
            let domain = format!("{number}.example");
            tally.count(1, &domain, &nothing, &Place::default(), Ok(()));
        }
        assert_eq!(counted(&tally, 2).len(), DOMAINS_MAX);
        for period in 2..5 {
            tally.count(period, "a.example", &nothing, &Place::default(), Ok(()));
        }
        assert_eq!(tally.before(9).first().unwrap().0, 2, "the oldest period goes");
    }

    #[test]
    fn a_policy_is_in_memory_and_on_disk_once_and_all_of_them_have_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let tally = Tally::open(folder.path());
        let line = "mx: mx.example".to_owned();
        let long = |number: usize| Held {
            kind: "sts".to_owned(),
            lines: vec![number.to_string(), line.repeat(4_000)],
            hosts: Vec::new(),
        };
        for number in 0..1_000 {
            tally.count(1, &format!("{number}.example"), &long(0), &Place::default(), Ok(()));
        }
        assert_eq!(tally.counts.lock().unwrap().policies.len(), 1);
        tally.save().unwrap();
        let on_disk = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
        assert!(on_disk < 200_000, "{on_disk}");
        assert_eq!(counted(&Tally::open(folder.path()), 2), counted(&tally, 2));
        // One more than there is room for.
        let room = POLICY_OCTETS_MAX / long(0).octets();
        for number in 1..=room + 1 {
            tally.count(2, &format!("{number}.example"), &long(number), &Place::default(), Ok(()));
        }
        let held = tally.counts(2, &format!("{}.example", room + 1))[0].held.clone();
        assert_eq!((held.kind.as_str(), held.lines.len()), ("sts", 0));
        assert!(tally.counts.lock().unwrap().octets <= POLICY_OCTETS_MAX);
        // What nothing is counted under any more makes room.
        (0..1_000).for_each(|number| tally.forget(1, &format!("{number}.example")));
        (1..=room).for_each(|number| tally.forget(2, &format!("{number}.example")));
        tally.count(3, "a.example", &long(0), &Place::default(), Ok(()));
        assert_eq!(tally.counts(3, "a.example")[0].held.lines.len(), 2);
    }

    #[test]
    fn one_character_of_a_reason_past_the_bound_is_cut_off() {
        let fits = "x".repeat(REASON_OCTETS_MAX);
        assert_eq!(shortened(&fits), fits);
        assert_eq!(shortened(&format!("{fits}y")), fits);
        assert_eq!(shortened("\u{e8}\r\n"), "???");
    }

    #[test]
    fn a_file_one_octet_past_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::File::create(&file).unwrap().set_len(kept::FILE_OCTETS_MAX + 1).unwrap();
        assert_eq!(kept::read(&file).unwrap_err().to_string(), "it is too large");
        assert_eq!(Tally::open(folder.path()).before(9), [], "and counting begins anew");
    }

    #[test]
    fn failures_of_all_domains_together_have_a_bound() {
        let tally = Tally::default();
        let fails = |domain: usize, why: usize| {
            let problem = Problem::new(Kind::ValidationFailure, why.to_string());
            let (domain, held) = (format!("{domain}.example"), Held::nothing());
            tally.count(1, &domain, &held, &Place::default(), Err(&problem));
            tally.counts(1, &domain)[0].clone()
        };
        for number in 0..FAILURES_ALL_MAX {
            fails(number / FAILURES_MAX, number);
        }
        let one_more = fails(DOMAINS_MAX - 1, 0);
        assert_eq!((one_more.failed, one_more.failures.len()), (1, 0));
        tally.forget(1, "0.example");
        assert_eq!(fails(DOMAINS_MAX - 1, 0).failures.len(), 1);
        tally.count(9, "a.example", &Held::nothing(), &Place::default(), Ok(()));
        tally.count(8, "a.example", &Held::nothing(), &Place::default(), Ok(()));
        tally.count(10, "a.example", &Held::nothing(), &Place::default(), Ok(()));
        assert_eq!(tally.counts.lock().unwrap().failures, 0, "with the oldest period they go");
    }
}
