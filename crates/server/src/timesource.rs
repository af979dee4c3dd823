//! Whether this machine's clock keeps to UTC, as the program that disciplines it says. Receipts
//! attest its time, which must be within one second: PEC-DT-06, DM 2 Nov 2005 art. 9 c. 2.

use std::path::Path;
use std::process::{Command, Stdio};

/// How far from UTC the clock may be (PEC-DT-06: one second, not one minute).
const OFF_SECS_MAX: f64 = 1.0;

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

/// Asks chrony, and systemd-timesyncd when there is no chrony.
pub(crate) fn look() -> Standing {
    let mut chronyc = Command::new("chronyc");
    chronyc.args(["-n", "-c", "tracking"]).stdin(Stdio::null()).stderr(Stdio::null());
    if let Ok(told) = chronyc.output()
        && told.status.success()
        && let Some(standing) = read_tracking(&String::from_utf8_lossy(&told.stdout))
    {
        return standing;
    }
    // The mark that timesyncd leaves when it has set the clock; other daemons leave none.
    match Path::new("/run/systemd/timesync/synchronized").exists() {
        true => Standing::Synchronised(None),
        false => Standing::Unknown,
    }
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

/// Looks, and tells the metrics.
pub(crate) fn observe() {
    let standing = look();
    metrics::gauge!("ceralacca_clock_synchronised").set(f64::from(u8::from(standing.holds())));
    if let Standing::Synchronised(Some(off)) | Standing::Off(Some(off)) = standing {
        metrics::gauge!("ceralacca_clock_off_seconds").set(off);
    }
    if let Standing::Off(off) = standing {
        tracing::warn!(target: "server", ?off, "the clock is not within one second of UTC: receipts attest its time");
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
        assert!(!Standing::Unknown.holds() && !Standing::Off(None).holds());
    }
}
