//! Where logins are at home, in a file: so that a restart does not lock them out of there while somebody
//! guesses at them.
//!
//! `homes.json` in `store.directory`, for its owner only: it tells from which networks users sign in. It is
//! written whole beside its name, when somebody signed in from a new network or after a day, at most once a
//! minute ([`crate::upkeep`]) and at a stop: nobody who signs in waits for it. A crash forgets the homes of
//! the last minute. What cannot be read is begun anew: it is only the exception to a brake.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use store::Timestamp;

use super::guesses::{AT_HOME_FOR, Guesses, HOMES_MAX, Home};
use crate::config::Config;
use crate::durable;

const FILE: &str = "homes.json";
/// Octets of it that are read at most: [`HOMES_MAX`] of the longest logins.
const OCTETS_MAX: u64 = 128 * 1024 * 1024;

/// Login, network, and when it signed in there last, in seconds of the clock.
type Kept = (String, IpAddr, i64);

impl Guesses {
    /// With the homes from before the last stop; without, when they cannot be read, which is logged.
    pub(super) fn of(config: &Config, now: Instant, at: Timestamp) -> Self {
        let guesses = Self::default();
        match read(&file(config)) {
            Ok(kept) => {
                let mut known = guesses.lock();
                for (login, network, last) in kept {
                    // What the clock has not come to yet, after it was set back, is now.
                    let ago = u64::try_from(at.as_second().saturating_sub(last)).unwrap_or(0);
                    let ago = Duration::from_secs(ago);
                    // An Instant does not go back beyond the start of the machine.
                    if ago < AT_HOME_FOR {
                        let last = now.checked_sub(ago).unwrap_or(now);
                        known.homes.insert((login, network), Home::new(last));
                    }
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(target: "server", error, "where users are at home is learned anew");
            }
        }
        guesses
    }

    /// Writes the homes down, if there is something new about them.
    ///
    /// # Errors
    ///
    /// When the disk fails; it is written the next time.
    pub(super) fn keep(&self, config: &Config, now: Instant, at: Timestamp) -> anyhow::Result<()> {
        // Copied under the lock, made text of without it.
        let homes = {
            let mut known = self.lock();
            if !std::mem::take(&mut known.homes_changed) {
                return Ok(());
            }
            known.homes.clone()
        };
        let kept: Vec<Kept> = homes
            .into_iter()
            .map(|((login, network), home)| {
                let ago = i64::try_from(now.saturating_duration_since(home.last).as_secs());
                (login, network, at.as_second().saturating_sub(ago.unwrap_or(i64::MAX)))
            })
            .collect();
        let file = file(config);
        let written = serde_json::to_vec(&kept)
            .map_err(anyhow::Error::from)
            .and_then(|octets| Ok(durable::replace_private(&file, &octets)?));
        written.with_context(|| {
            self.lock().homes_changed = true;
            format!("{} cannot be written", file.display())
        })
    }
}

fn file(config: &Config) -> PathBuf {
    config.data.join(FILE)
}

fn read(file: &Path) -> anyhow::Result<Vec<Kept>> {
    let unreadable = || format!("{} cannot be read", file.display());
    let octets = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(metadata) if metadata.len() > OCTETS_MAX => {
            anyhow::bail!("{} is larger than it can be", file.display())
        }
        Ok(_) => std::fs::read(file).with_context(unreadable)?,
        Err(error) => return Err(error).with_context(unreadable),
    };
    let mut all: Vec<Kept> = serde_json::from_slice(&octets).with_context(unreadable)?;
    all.truncate(HOMES_MAX);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn config(folder: &Path) -> Config {
        let text = "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\"]\n";
        Config::parse(&folder.join("ceralacca.toml"), text).unwrap()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const DAYS: Duration = AT_HOME_FOR;

    /// Whether Anna is refused from there while somebody else guesses from her network.
    fn is_refused(guesses: &Guesses, from: IpAddr, now: Instant) -> bool {
        let limits = Limits { login_failures_max: 1, ..Limits::default() };
        guesses.failed("bruno", from, &limits, now);
        guesses.refused_for("anna", from, &limits, now).is_some()
    }

    #[test]
    fn a_restart_locks_nobody_out_of_where_he_is_at_home() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let (began, elsewhere) = (Instant::now(), IpAddr::from([198, 51, 100, 1]));
        let guesses = Guesses::of(&config, began, at(1_000_000));
        guesses.succeeded("Anna", HOME, began);
        guesses.keep(&config, began + Duration::from_secs(10), at(1_000_010)).unwrap();

        // The machine was started anew: another Instant, the same clock.
        let now = Instant::now();
        let days = i64::try_from(DAYS.as_secs()).unwrap();
        for (clock, refused) in [(1_000_020, false), (999_000, false), (1_000_000 + days, true)] {
            let again = Guesses::of(&config, now, at(clock));
            assert_eq!(is_refused(&again, HOME, now), refused, "at {clock}");
            assert!(is_refused(&again, elsewhere, now), "at {clock}");
        }
        // What is no such file holds up no start.
        for text in ["", "{", "[[\"anna\",\"nowhere\",1]]"] {
            std::fs::write(file(&config), text).unwrap();
            assert!(is_refused(&Guesses::of(&config, now, at(1_000_020)), HOME, now), "{text}");
        }
    }

    #[test]
    fn it_is_written_when_there_is_something_new_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let (guesses, began) = (Guesses::default(), Instant::now());
        let is_written = |at_secs: u64| {
            let now = began + Duration::from_secs(at_secs);
            guesses.succeeded("anna", HOME, now);
            guesses.keep(&config, now, at(1_000_000)).unwrap();
            let is_there = file(&config).exists();
            let mode = std::fs::metadata(file(&config)).map(|about| about.permissions().mode());
            assert!(mode.is_ok_and(|mode| mode & 0o777 == 0o600) == is_there);
            let _ = std::fs::remove_file(file(&config));
            is_there
        };
        guesses.keep(&config, began, at(1)).unwrap();
        assert!(!file(&config).exists());
        assert_eq!([0, 1, 86_400, 86_401].map(is_written), [true, false, true, false]);
        // What could not be written is written the next time.
        guesses.succeeded("anna", IpAddr::from([198, 51, 100, 1]), began);
        std::fs::create_dir(file(&config)).unwrap();
        assert!(guesses.keep(&config, began, at(1_000_000)).is_err());
        std::fs::remove_dir(file(&config)).unwrap();
        guesses.keep(&config, began, at(1_000_000)).unwrap();
        assert!(file(&config).exists());
    }

    #[test]
    fn one_home_past_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let all: Vec<Kept> = (0..=HOMES_MAX).map(|n| (n.to_string(), HOME, 5)).collect();
        std::fs::write(file(&config), serde_json::to_vec(&all).unwrap()).unwrap();
        assert_eq!(Guesses::of(&config, Instant::now(), at(6)).lock().homes.len(), HOMES_MAX);
    }

    #[test]
    fn a_file_one_octet_past_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&config(folder.path()));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let refused = |octets| {
            std::fs::File::create(&file).unwrap().set_len(octets).unwrap();
            read(&file).unwrap_err().to_string()
        };
        assert!(refused(OCTETS_MAX).ends_with(" cannot be read"), "it is no JSON");
        assert!(refused(OCTETS_MAX + 1).ends_with(" is larger than it can be"));
    }
}
