//! The MTA-STS policies of other domains: asked for, fetched, and kept until they end.
//!
//! RFC 8461. A domain says in DNS that it has a policy, and which (`_mta-sts.`, §3.1); the policy is on
//! a web server of its own, whose certificate the authorities of the web vouch for (§3.3). What was
//! fetched once holds for as long as it says, on disk too: neither a record that is gone nor a server
//! that fails takes it back (§5.1, §10.2). Each is a file of its own in the folder `mta-sts`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{RData, RecordType};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use smtp::sts::{POLICY_OCTETS_MAX, Policy, record_id};
use store::Timestamp;

use super::Outside;
use super::chores::abreast;
use super::tally::Problem;
use super::web::Web;
use crate::config::Config;
use crate::durable;
use crate::fetch::{Bounds, FetchError, Wanted};
use crate::site::Site;
use crate::submission::blocking;

/// The folder of the policies that are kept, below that of the data.
const FOLDER: &str = "mta-sts";
/// Policies that are kept at most; of more, those that end first go.
pub(super) const POLICIES_MAX: usize = 8_192;
/// Octets of a file that is kept: a policy, and a few words about it.
const FILE_OCTETS_MAX: u64 = 2 * POLICY_OCTETS_MAX as u64;
/// How long a policy may take to come: RFC 8461 §3.3 has a minute do.
const FETCH_WAIT: Duration = Duration::from_secs(60);
/// How long one that is renewed may take, its record in DNS included.
const RENEW_WAIT: Duration = Duration::from_secs(120);
/// How long a server that failed is left alone: RFC 8461 §3.3 has five minutes be the least.
const FAILED_WAIT: Duration = Duration::from_secs(300);
/// A policy older than this is fetched again in the background, RFC 8461 §10.2.
const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// TXT records of a name that are looked at, at most.
const TEXTS_MAX: usize = 32;
/// Domains of which it is remembered that they failed, or are being asked, at most.
const ASKED_MAX: usize = 4_096;

/// A policy and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) policy: Policy,
    id: String,
    fetched: Timestamp,
}

impl Known {
    fn ends(&self) -> Timestamp {
        let lasts = SignedDuration::from_secs(i64::from(self.policy.max_age_secs()));
        self.fetched.checked_add(lasts).unwrap_or(Timestamp::MAX)
    }
}

/// What a domain wants.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Its policy, when it has one.
    pub(super) policy: Option<Arc<Known>>,
    /// Why a policy that it says it has could not be had just now.
    pub(super) failed: Option<Problem>,
}

/// As it lies on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    domain: String,
    id: String,
    fetched: Timestamp,
    policy: String,
}

/// When a domain's server failed last. Who holds it asks.
type Asked = Arc<tokio::sync::Mutex<Option<Instant>>>;

/// All that are known.
pub(super) struct Policies {
    folder: PathBuf,
    known: Mutex<HashMap<String, Arc<Known>>>,
    asked: Mutex<HashMap<String, Asked>>,
}

impl Policies {
    /// Those that are kept.
    pub(super) fn open(data: &Path, now: Timestamp) -> Self {
        let folder = data.join(FOLDER);
        let known = match read(&folder, now) {
            Ok(known) => known,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => {
                tracing::warn!(target: "transport", folder = %folder.display(), %error, "policies that were kept cannot be read");
                HashMap::new()
            }
        };
        Self { folder, known: Mutex::new(known), asked: Mutex::default() }
    }

    /// What a domain wants now. It waits for a policy that is new.
    pub(super) async fn of(
        &self,
        web: &Web,
        config: &Config,
        domain: &str,
        now: Timestamp,
    ) -> Wants {
        let known = self.known(domain, now);
        // What cannot be told just now changes nothing.
        let Some(id) = id_of(web, domain).await else {
            return Wants { policy: known, failed: None };
        };
        if known.as_ref().is_some_and(|known| known.id == id) {
            return Wants { policy: known, failed: None };
        }
        let asked = self.asked(domain);
        // One connection asks; the others wait for what it hears, and go by the same policy.
        let mut failed = asked.lock().await;
        let known = self.known(domain, now);
        if is_left_alone(*failed, Instant::now())
            || known.as_ref().is_some_and(|known| known.id == id)
        {
            return Wants { policy: known, failed: None };
        }
        match fetch(web, config, domain).await {
            Ok(policy) => {
                *failed = None;
                let policy = self.take(domain, Known { policy, id, fetched: now }).await;
                Wants { policy: Some(policy), failed: None }
            }
            Err(problem) => {
                *failed = Some(Instant::now());
                tracing::warn!(target: "transport", domain, why = %problem.why, "a domain's policy cannot be had");
                Wants { policy: known, failed: Some(problem) }
            }
        }
    }

    /// The domains whose policy is older than a day, each with its identifier.
    fn old(&self, now: Timestamp) -> Vec<(String, String)> {
        let old = |known: &Known| now.duration_since(known.fetched) >= RENEW_AFTER;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let due = known.iter().filter(|(_, known)| old(known) && known.ends() > now);
        due.map(|(domain, known)| (domain.clone(), known.id.clone())).collect()
    }

    fn known(&self, domain: &str, now: Timestamp) -> Option<Arc<Known>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(domain).filter(|known| known.ends() > now).cloned()
    }

    fn asked(&self, domain: &str) -> Asked {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= ASKED_MAX {
            asked.retain(|_, held| Arc::strong_count(held) > 1);
        }
        asked.entry(domain.to_owned()).or_default().clone()
    }

    /// Keeps a policy. One that cannot be written holds all the same, until the program ends.
    async fn take(&self, domain: &str, new: Known) -> Arc<Known> {
        let new = Arc::new(new);
        let gone = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(domain.to_owned(), new.clone());
            let first = known.iter().min_by_key(|(_, known)| known.ends());
            let first = first.filter(|_| known.len() > POLICIES_MAX).map(|(name, _)| name.clone());
            first.inspect(|name| {
                known.remove(name);
            })
        };
        let kept = Kept {
            domain: domain.to_owned(),
            id: new.id.clone(),
            fetched: new.fetched,
            policy: new.policy.to_string(),
        };
        let (folder, own) = (self.folder.clone(), self.file(domain));
        let gone = gone.map(|name| self.file(&name));
        let written = blocking(move || {
            std::fs::create_dir_all(&folder)?;
            durable::replace(&own, &serde_json::to_vec(&kept)?)?;
            if let Some(gone) = gone {
                std::fs::remove_file(gone)?;
            }
            anyhow::Ok(())
        });
        if let Err(error) = written.await.map_err(anyhow::Error::from).and_then(|written| written) {
            tracing::error!(target: "transport", domain, error = %format!("{error:#}"), "a policy cannot be kept on disk");
        }
        new
    }

    /// Blocks.
    fn forget_ended(&self, now: Timestamp) {
        let mut ended = Vec::new();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|domain, known| {
            let stays = known.ends() > now;
            if !stays {
                ended.push(domain.clone());
            }
            stays
        });
        for domain in ended {
            // One that is there still is not read at the next start either.
            let _ = std::fs::remove_file(self.file(&domain));
        }
    }

    /// A domain is what somebody else named, and never a path.
    fn file(&self, domain: &str) -> PathBuf {
        self.folder.join(format!("{}.json", crypto::sha256_hex(domain.as_bytes())))
    }
}

fn read(folder: &Path, now: Timestamp) -> std::io::Result<HashMap<String, Arc<Known>>> {
    let mut all = HashMap::new();
    for entry in std::fs::read_dir(folder)?.take(2 * POLICIES_MAX) {
        // What is damaged, or cannot be read, is fetched again; it takes nothing else with it.
        let Ok(entry) = entry else { continue };
        let fits = entry.metadata().is_ok_and(|about| about.len() <= FILE_OCTETS_MAX);
        if !fits || all.len() == POLICIES_MAX {
            continue;
        }
        let Ok(octets) = std::fs::read(entry.path()) else { continue };
        let Ok(kept) = serde_json::from_slice::<Kept>(&octets) else { continue };
        let Ok(policy) = Policy::parse(kept.policy.as_bytes()) else { continue };
        let known = Known { policy, id: kept.id, fetched: kept.fetched };
        if known.ends() > now {
            all.insert(kept.domain, Arc::new(known));
        }
    }
    Ok(all)
}

/// Whether a domain's server that failed last then is not asked now.
fn is_left_alone(failed: Option<Instant>, now: Instant) -> bool {
    failed.is_some_and(|at| now.duration_since(at) < FAILED_WAIT)
}

/// Fetches again what is older than a day, a few at a time; what cannot be had stays.
pub(super) async fn renew(site: &Arc<Site>, outside: &Arc<Outside>, config: &Arc<Config>) {
    let works = site.transport.policies.old(site.clock.now()).into_iter().map(|(domain, id)| {
        let (site, outside, config) = (site.clone(), outside.clone(), config.clone());
        async move {
            // Without its record the domain has no policy any more, once this one ends.
            let Some(current) = id_of(&outside.web, &domain).await else { return };
            match fetch(&outside.web, &config, &domain).await {
                Ok(policy) => {
                    let fetched = site.clock.now();
                    let known = Known { policy, id: current, fetched };
                    site.transport.policies.take(&domain, known).await;
                }
                Err(problem) => {
                    tracing::info!(target: "transport", domain, id, why = %problem.why, "a domain's policy cannot be renewed");
                }
            }
        }
    });
    abreast(works, RENEW_WAIT).await;
    let here = site.clone();
    let now = here.clock.now();
    if blocking(move || here.transport.policies.forget_ended(now)).await.is_err() {
        tracing::error!(target: "transport", "what is done beside the mail had panicked");
    }
}

/// Which policy a domain says in DNS that it has; nothing when it has none, or that cannot be told.
async fn id_of(web: &Web, domain: &str) -> Option<String> {
    let found = web.names.ask(&format!("_mta-sts.{domain}"), RecordType::TXT).await.ok()?;
    let texts: Vec<Vec<u8>> = texts(found.data);
    record_id(texts.iter().map(Vec::as_slice))
}

/// The texts of TXT records, each whole (RFC 7208 §3.3 has the same for SPF).
pub(super) fn texts(data: Vec<RData>) -> Vec<Vec<u8>> {
    let whole = data.into_iter().filter_map(|data| match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    whole.take(TEXTS_MAX).collect()
}

async fn fetch(web: &Web, config: &Config, domain: &str) -> Result<Policy, Problem> {
    let port = match config.transport.policy_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let url = format!("https://mta-sts.{domain}{port}/.well-known/mta-sts.txt");
    let fetcher = web.fetcher(config).map_err(|error| Problem::fetch(format!("{error:#}")))?;
    // RFC 8461 §3.3: no redirect is followed.
    let bounds = Bounds { octets: POLICY_OCTETS_MAX, total: FETCH_WAIT, redirects: 0 };
    let wanted = Wanted { accept: "text/plain", ..Wanted::get(&url) };
    let fetched = fetcher.fetch(&wanted, bounds).await.map_err(|error| match &error {
        FetchError::Connect(_, cause) if is_certificate(cause) => {
            Problem::webpki(error.to_string())
        }
        _ => Problem::fetch(error.to_string()),
    })?;
    let media = fetched.media.unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    // RFC 8461 §3.3: what users of a web server put there is not its domain's policy.
    if !media.eq_ignore_ascii_case("text/plain") {
        return Err(Problem::fetch(format!("{url} is not text/plain")));
    }
    Policy::parse(&fetched.octets)
        .map_err(|error| Problem::invalid(format!("{url} is no policy: {error}")))
}

fn is_certificate(cause: &std::io::Error) -> bool {
    let tls = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(max_age: u32, fetched: &str) -> Known {
        let text = format!("version: STSv1\nmode: enforce\nmx: a.b\nmax_age: {max_age}\n");
        let policy = Policy::parse(text.as_bytes()).unwrap();
        Known { policy, id: "1".to_owned(), fetched: fetched.parse().unwrap() }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    // RFC 8461 §5.1: until it ends, also across a restart.
    #[test]
    fn a_policy_holds_until_it_ends_also_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (start, last, end) =
            (at("2026-03-02T09:00:00Z"), at("2026-03-02T09:59:59Z"), at("2026-03-02T10:00:00Z"));
        let policies = Policies::open(folder.path(), start);
        run(policies.take("a.example", known(3_600, "2026-03-02T09:00:00Z")));
        for policies in [policies, Policies::open(folder.path(), start)] {
            let held = policies.known("a.example", last);
            assert_eq!(held.as_deref(), Some(&known(3_600, "2026-03-02T09:00:00Z")));
            assert_eq!(policies.known("a.example", end), None);
            assert_eq!(policies.known("b.example", start), None);
        }
        let policies = Policies::open(folder.path(), end);
        assert!(policies.known.lock().unwrap().is_empty());
        // What ended leaves the disk too; what is damaged is not read.
        let policies = Policies::open(folder.path(), start);
        policies.forget_ended(end);
        assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 0);
        std::fs::write(folder.path().join(FOLDER).join("x.json"), "{").unwrap();
        assert!(Policies::open(folder.path(), start).known.lock().unwrap().is_empty());
    }

    // RFC 8461 §3.3, §10.2
    #[test]
    fn a_server_that_failed_is_left_alone_and_a_policy_a_day_old_is_renewed() {
        let (at, almost) = (Instant::now(), FAILED_WAIT - Duration::from_millis(1));
        assert!(!is_left_alone(None, at));
        assert!(is_left_alone(Some(at), at) && is_left_alone(Some(at), at + almost));
        assert!(!is_left_alone(Some(at), at + FAILED_WAIT));
        let folder = tempfile::tempdir().unwrap();
        let fetched: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        let policies = Policies::open(folder.path(), fetched);
        let week = 7 * 86_400;
        run(policies.take("a.example", known(week, "2026-03-02T09:00:00Z")));
        let old = |after: SignedDuration| policies.old(fetched + after);
        assert_eq!(old(RENEW_AFTER - SignedDuration::from_secs(1)), []);
        assert_eq!(old(RENEW_AFTER), [("a.example".to_owned(), "1".to_owned())]);
        assert_eq!(old(SignedDuration::from_secs(i64::from(week))), [], "it has ended");
    }

    #[test]
    fn one_text_past_the_bound_is_not_looked_at() {
        let text = |number: usize| {
            RData::TXT(hickory_resolver::proto::rr::rdata::TXT::new(vec![number.to_string()]))
        };
        let looked = texts((0..=TEXTS_MAX).map(text).collect());
        assert_eq!(looked.len(), TEXTS_MAX);
        assert_eq!(looked[0], b"0");
    }

    #[test]
    fn one_domain_past_the_bound_makes_those_forgotten_that_nobody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let policies = Policies::open(folder.path(), Timestamp::UNIX_EPOCH);
        let held = policies.asked("held.example");
        for number in 1..ASKED_MAX {
            policies.asked(&format!("{number}.example"));
        }
        assert_eq!(policies.asked.lock().unwrap().len(), ASKED_MAX);
        policies.asked("more.example");
        let left: Vec<String> = policies.asked.lock().unwrap().keys().cloned().collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(Arc::ptr_eq(&held, &policies.asked("held.example")), "who asks is waited for");
    }

    /// Each file is for itself.
    #[test]
    fn a_file_that_cannot_be_read_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let start = "2026-03-02T09:00:00Z".parse().unwrap();
        let policies = Policies::open(folder.path(), start);
        run(policies.take("a.example", known(3_600, "2026-03-02T09:00:00Z")));
        // Reading fails whoever reads: one is a folder, one leads nowhere, one is too long.
        let kept = folder.path().join(FOLDER);
        std::fs::create_dir(kept.join("0.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", kept.join("1.json")).unwrap();
        let long = usize::try_from(FILE_OCTETS_MAX).unwrap() + 1;
        std::fs::write(kept.join("2.json"), vec![b' '; long]).unwrap();
        let policies = Policies::open(folder.path(), start);
        let names: Vec<String> = policies.known.lock().unwrap().keys().cloned().collect();
        assert_eq!(names, ["a.example"]);
    }

    #[test]
    fn of_one_policy_too_many_the_one_that_ends_first_goes() {
        let folder = tempfile::tempdir().unwrap();
        let now = "2026-03-02T09:00:00Z".parse().unwrap();
        let policies = Policies::open(folder.path(), now);
        {
            let mut all = policies.known.lock().unwrap();
            for number in 0..POLICIES_MAX {
                let lasts = 1_000 + u32::try_from(number).unwrap();
                let known = known(lasts, "2026-03-02T09:00:00Z");
                all.insert(format!("{number}.example"), Arc::new(known));
            }
        }
        std::fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        std::fs::write(policies.file("0.example"), "{}").unwrap();
        run(policies.take("new.example", known(9_999_999, "2026-03-02T09:00:00Z")));
        assert!(policies.known("0.example", now).is_none() && !policies.file("0.example").exists());
        assert!(policies.known("1.example", now).is_some());
        assert!(policies.known("new.example", now).is_some());
        assert_eq!(policies.known.lock().unwrap().len(), POLICIES_MAX);
    }
}
