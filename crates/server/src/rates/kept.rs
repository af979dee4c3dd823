//! What was counted, in a file: so that a restart does not give everybody another day's worth.
//!
//! It is written whole, beside its name, when something was counted, at most once a minute ([`crate::upkeep`])
//! and at a stop: no message waits for it. A crash forgets what was counted since. What cannot be read is
//! begun anew: it is no record of anything, only a brake.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use mail::Domain;
use serde::{Deserialize, Serialize};
use store::{AccountId, Timestamp};

use super::{Count, Rates, SUBJECTS_MAX, Subject, Tally, WINDOWS};
use crate::config::Config;
use crate::durable;

/// Its name, in `store.directory`.
const FILE: &str = "rates.json";
/// Octets of it that are read at most: [`SUBJECTS_MAX`] of some 300.
const OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// One subject, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    subject: Named,
    messages: KeptCount,
    recipients: KeptCount,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    Account(u64),
    Address(std::net::IpAddr),
    Network(std::net::IpAddr),
    Destination(String),
}

/// Of the minute, the hour and the day: when each began, in seconds of the clock, and how many there were.
#[derive(Debug, Serialize, Deserialize)]
struct KeptCount {
    began: [i64; 3],
    counted: [u32; 3],
}

impl Rates {
    /// What was counted before the last stop; nothing when that cannot be read, which is logged.
    pub(crate) fn of(config: &Config, now: Instant, at: Timestamp) -> Self {
        let file = file(config);
        match read(&file, now, at) {
            Ok(rates) => rates,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(target: "server", error, "what was sent is counted from now on");
                Self::default()
            }
        }
    }

    /// Writes down what was counted since the last time, if anything was.
    ///
    /// # Errors
    ///
    /// When the disk fails; it is written the next time.
    pub(crate) fn keep(&self, config: &Config, now: Instant, at: Timestamp) -> anyhow::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let file = file(config);
        let written = serde_json::to_vec(&self.kept(now, at))
            .map_err(anyhow::Error::from)
            .and_then(|octets| Ok(durable::replace_private(&file, &octets)?));
        written.with_context(|| {
            self.changed.store(true, Ordering::Relaxed);
            format!("{} cannot be written", file.display())
        })
    }

    fn kept(&self, now: Instant, at: Timestamp) -> Vec<Kept> {
        // Copied under the lock, made text of without it.
        let tallies: Vec<(Subject, Tally)> = {
            let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            let running = tallies.iter().filter(|(_, tally)| !tally.is_over(now));
            running.map(|(subject, tally)| (subject.clone(), *tally)).collect()
        };
        let kept = |count: Count| KeptCount {
            began: count.began.map(|began| {
                let ago = i64::try_from(now.saturating_duration_since(began).as_secs());
                at.as_second().saturating_sub(ago.unwrap_or(i64::MAX))
            }),
            counted: count.counted,
        };
        tallies
            .into_iter()
            .map(|(subject, tally)| Kept {
                subject: match subject {
                    Subject::Account(id) => Named::Account(id.0),
                    Subject::Address(address) => Named::Address(address),
                    Subject::Network(address) => Named::Network(address),
                    Subject::Destination(domain) => Named::Destination(domain.to_string()),
                },
                messages: kept(tally.messages),
                recipients: kept(tally.recipients),
            })
            .collect()
    }
}

fn file(config: &Config) -> PathBuf {
    config.data.join(FILE)
}

fn read(file: &Path, now: Instant, at: Timestamp) -> anyhow::Result<Rates> {
    let unreadable = || format!("{} cannot be read", file.display());
    let octets = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Rates::default()),
        Ok(metadata) if metadata.len() > OCTETS_MAX => {
            anyhow::bail!("{} is larger than it can be", file.display())
        }
        Ok(_) => std::fs::read(file).with_context(unreadable)?,
        Err(error) => return Err(error).with_context(unreadable),
    };
    let all: Vec<Kept> = serde_json::from_slice(&octets).with_context(unreadable)?;
    let rates = Rates::default();
    let mut tallies = rates.tallies.lock().unwrap_or_else(PoisonError::into_inner);
    for Kept { subject, messages, recipients } in all.into_iter().take(SUBJECTS_MAX) {
        let subject = match subject {
            Named::Account(id) => Subject::Account(AccountId(id)),
            Named::Address(address) => Subject::Address(address),
            Named::Network(address) => Subject::Network(address),
            Named::Destination(domain) => Subject::Destination(Domain::parse(&domain)?),
        };
        let tally =
            Tally { messages: count(&messages, now, at), recipients: count(&recipients, now, at) };
        if tally.of_the_day() > 0 {
            tallies.insert(subject, tally);
        }
    }
    drop(tallies);
    Ok(rates)
}

/// As the clock has it now. What began in the future, after the clock was set back, begins now: it ends
/// the sooner for that.
fn count(kept: &KeptCount, now: Instant, at: Timestamp) -> Count {
    let mut count = Count::new(now);
    for (place, (length, _)) in WINDOWS.into_iter().enumerate() {
        let ago = u64::try_from(at.as_second().saturating_sub(kept.began[place])).unwrap_or(0);
        let ago = Duration::from_secs(ago);
        let began = now.checked_sub(ago).filter(|_| ago < length);
        if let Some(began) = began {
            count.began[place] = began;
            count.counted[place] = kept.counted[place];
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::{Rate, What};
    use super::*;

    fn config(folder: &Path) -> Config {
        let text = "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\"]\n";
        Config::parse(&folder.join("ceralacca.toml"), text).unwrap()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn a_restart_forgets_nothing_and_windows_end_by_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let now = Instant::now();
        let rates = Rates::of(&config, now, at(1_000_000));
        let rate = Rate([2, 3, 4]);
        let subjects = [
            Subject::Account(AccountId(7)),
            Subject::address([192, 0, 2, 1].into()),
            Subject::network([192, 0, 2, 1].into()),
            Subject::Destination(Domain::parse("example.org").unwrap()),
        ];
        for subject in &subjects {
            for what in [What::Messages, What::Recipients] {
                for _ in 0..2 {
                    rates.count(subject.clone(), what, rate, now).unwrap();
                }
            }
        }
        let later = now + Duration::from_secs(10);
        rates.keep(&config, later, at(1_000_010)).unwrap();

        // The machine was started anew: another Instant, the same clock.
        let now = Instant::now();
        for subject in &subjects {
            let rates = Rates::of(&config, now, at(1_000_020));
            let told = |after: u64| {
                let now = now + Duration::from_secs(after);
                let done = rates.count(subject.clone(), What::Messages, rate, now);
                done.map_err(|over| (over.window, over.retry_after.as_secs()))
            };
            assert_eq!(told(0), Err(("a minute", 40)));
            assert_eq!(told(40), Ok(()));
            assert_eq!(told(41), Err(("an hour", 3_539)));
            assert_eq!(told(3_580), Ok(()));
            assert_eq!(told(3_581), Err(("a day", 82_799)));
        }
        // A day later nothing of it is left; nor is anything when the file is no such file.
        let rates = Rates::of(&config, now, at(1_000_000 + 86_400));
        assert!(rates.tallies.lock().unwrap().is_empty());
        for text in ["", "{", "[{\"subject\":{\"destination\":\"a b\"}}]"] {
            std::fs::write(file(&config), text).unwrap();
            assert!(Rates::of(&config, now, at(1)).tallies.lock().unwrap().is_empty(), "{text}");
        }
    }

    #[test]
    fn it_is_written_when_something_was_counted_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let (rates, now) = (Rates::default(), Instant::now());
        rates.keep(&config, now, at(1)).unwrap();
        assert!(!file(&config).exists());
        rates.count(Subject::Account(AccountId(1)), What::Messages, Rate([0, 0, 9]), now).unwrap();
        rates.keep(&config, now, at(1)).unwrap();
        let mode = std::fs::metadata(file(&config)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(file(&config)).unwrap();
        rates.keep(&config, now, at(1)).unwrap();
        assert!(!file(&config).exists(), "nothing new");
        // A clock that was set back makes no window longer.
        rates.count(Subject::Account(AccountId(1)), What::Messages, Rate([0, 0, 9]), now).unwrap();
        rates.keep(&config, now, at(1_000_000)).unwrap();
        let again = Rates::of(&config, now, at(1));
        let tallies = again.tallies.lock().unwrap();
        let count = tallies.values().next().unwrap().messages;
        assert_eq!((count.began[2], count.counted[2]), (now, 2));
    }

    #[test]
    fn one_subject_past_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let count = || KeptCount { began: [5; 3], counted: [1; 3] };
        let kept = |number: usize| Kept {
            subject: Named::Account(number as u64),
            messages: count(),
            recipients: count(),
        };
        let all: Vec<Kept> = (0..=SUBJECTS_MAX).map(kept).collect();
        std::fs::write(file(&config), serde_json::to_vec(&all).unwrap()).unwrap();
        let rates = Rates::of(&config, Instant::now(), at(6));
        assert_eq!(rates.tallies.lock().unwrap().len(), SUBJECTS_MAX);
    }

    #[test]
    fn a_file_one_octet_past_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&config(folder.path()));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let refused = |octets| {
            std::fs::File::create(&file).unwrap().set_len(octets).unwrap();
            read(&file, Instant::now(), at(1_000_000)).err().unwrap().to_string()
        };
        assert!(refused(OCTETS_MAX).ends_with(" cannot be read"), "it is no JSON");
        assert!(refused(OCTETS_MAX + 1).ends_with(" is larger than it can be"));
    }
}
