//! Whether this machine's clock keeps to UTC, as who disciplines it says. Receipts attest its time,
//! which must be within one second: PEC-DT-06, DM 2 Nov 2005 art. 9 c. 2.
//!
//! Asked in this order, until one knows: chrony, which tells how far the clock may be off; the
//! kernel's status through systemd (`timedatectl`), which any daemon sets that disciplines the clock,
//! ntpd and PTP too; the mark of systemd-timesyncd, where systemd itself cannot be asked. The kernel is
//! not asked directly: that takes a call without a safe interface.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// How far from UTC the clock may be (PEC-DT-06: one second, not one minute).
const OFF_SECS_MAX: f64 = 1.0;
/// How long one who is asked may take: chronyc itself gives up after three seconds or so.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often whoever is asked is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Octets of an answer that are read: a line.
const ANSWER_OCTETS_MAX: u64 = 4_096;
/// What systemd-timesyncd touches each time it has set the clock, which it does every 34 minutes at
/// most (`PollIntervalMaxSec`).
const MARK: &str = "/run/systemd/timesync/synchronized";
/// How old that mark may be: the daemon may be gone, and its mark stays.
const MARK_AGE_MAX: Duration = Duration::from_secs(2 * 3_600);

/// What is known of the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing {
    /// It is disciplined, and off by so many seconds at most; nothing when that is not told.
    Synchronised(Option<f64>),
    /// It is not, or off by more than it may be.
    Off(Option<f64>),
    /// Nobody says anything.
    Unknown,
}

impl Standing {
    /// Whether it is known to keep to the law.
    pub(crate) fn holds(self) -> bool {
        matches!(self, Self::Synchronised(_))
    }
}

/// Asks who may know, one after the other.
pub(crate) fn look() -> Standing {
    let chrony = || read_tracking(&answer("chronyc", &["-n", "-c", "tracking"])?);
    let kernel = || read_kernel(&answer("timedatectl", &["show", "-p", "NTPSynchronized"])?);
    chrony().or_else(kernel).or_else(|| read_mark(Path::new(MARK))).unwrap_or(Standing::Unknown)
}

/// What a program prints that succeeds in time.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + ANSWER_WAIT;
    // A line fits into the pipe: who writes more waits until it is ended.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => {
                // Gone already is as good.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut told = Vec::new();
    child.stdout.take()?.take(ANSWER_OCTETS_MAX).read_to_end(&mut told).ok()?;
    status.success().then(|| String::from_utf8_lossy(&told).into_owned())
}

/// The line of `chronyc -c tracking`: among others the fifth field, what the clock is off, the
/// eleventh and twelfth, delay and dispersion from the root, and the last, the leap status.
fn read_tracking(line: &str) -> Option<Standing> {
    let fields: Vec<&str> = line.trim().split(',').collect();
    if fields.len() < 14 {
        return None;
    }
    let seconds = |at: usize| fields[at].parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    let off = seconds(4)?.abs() + seconds(10)?.abs() / 2.0 + seconds(11)?.abs();
    Some(match fields.last() {
        Some(&"Not synchronised") => Standing::Off(None),
        _ if off > OFF_SECS_MAX => Standing::Off(Some(off)),
        _ => Standing::Synchronised(Some(off)),
    })
}

/// The line of `timedatectl show -p NTPSynchronized`: whether the kernel holds its clock for
/// disciplined (adjtimex(2), `STA_UNSYNC`).
fn read_kernel(line: &str) -> Option<Standing> {
    match line.trim() {
        "NTPSynchronized=yes" => Some(Standing::Synchronised(None)),
        "NTPSynchronized=no" => Some(Standing::Off(None)),
        _ => None,
    }
}

/// The mark of systemd-timesyncd, if it was touched lately.
fn read_mark(mark: &Path) -> Option<Standing> {
    let touched = std::fs::metadata(mark).ok()?.modified().ok()?;
    // A mark of the future was made before the clock was set back, just now.
    let age = SystemTime::now().duration_since(touched).unwrap_or_default();
    (age <= MARK_AGE_MAX).then_some(Standing::Synchronised(None))
}

/// Looks, and tells the metrics.
pub(crate) fn observe() {
    let standing = look();
    metrics::gauge!("ceralacca_clock_synchronised").set(f64::from(u8::from(standing.holds())));
    if let Standing::Synchronised(Some(off)) | Standing::Off(Some(off)) = standing {
        metrics::gauge!("ceralacca_clock_off_seconds").set(off);
    }
    match standing {
        Standing::Synchronised(_) => {}
        Standing::Off(off) => {
            tracing::warn!(target: "server", ?off, "the clock is not within one second of UTC: receipts attest its time");
        }
        Standing::Unknown => {
            tracing::warn!(target: "server", "nobody can tell whether the clock is within one second of UTC: receipts attest its time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PEC-DT-06
    #[test]
    fn a_clock_more_than_a_second_off_or_not_disciplined_does_not_hold() {
        let line = |off: &str, delay: &str, dispersion: &str, leap: &str| {
            format!(
                "C0A80001,192.0.2.1,3,1789370000.5,{off},0.00001,0.00002,1.5,0.0,0.1,{delay},\
                 {dispersion},64.0,{leap}\n"
            )
        };
        for (told, expected) in [
            (line("-0.25", "0.5", "0.25", "Normal"), Some(Standing::Synchronised(Some(0.75)))),
            (line("0.5", "0.5", "0.25", "Normal"), Some(Standing::Synchronised(Some(1.0)))),
            (line("0.75", "0.5", "0.25", "Normal"), Some(Standing::Off(Some(1.25)))),
            (line("0.0", "0.0", "0.0", "Not synchronised"), Some(Standing::Off(None))),
            (line("x", "0.0", "0.0", "Normal"), None),
            ("506 Cannot talk to daemon\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(read_tracking(&told), expected, "{told}");
        }
        for (told, expected) in [
            ("NTPSynchronized=yes\n", Some(Standing::Synchronised(None))),
            ("NTPSynchronized=no\n", Some(Standing::Off(None))),
            ("NTPSynchronized=\n", None),
            ("", None),
        ] {
            assert_eq!(read_kernel(told), expected, "{told}");
        }
        assert!(!Standing::Unknown.holds() && !Standing::Off(None).holds());
    }

    // PEC-DT-06
    #[test]
    fn a_mark_whose_daemon_is_gone_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("synchronized");
        assert_eq!(read_mark(&mark), None);
        let file = std::fs::File::create(&mark).unwrap();
        assert_eq!(read_mark(&mark), Some(Standing::Synchronised(None)));
        file.set_modified(SystemTime::now() - MARK_AGE_MAX - Duration::from_secs(60)).unwrap();
        assert_eq!(read_mark(&mark), None);
    }
}
