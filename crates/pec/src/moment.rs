//! One instant, written in the three ways that PEC wants it: in texts, in XML, in header fields.
//!
//! PEC-DT, RT §7.1, §7.2, §7.4. The legal time is that of Italy, from zone data inside the program:
//! no file of the host decides it. Not here: a clock; the instant is an argument.

use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

/// The rule of the zone, should the zone data lack it: summer time of the European Union.
const ROME_RULE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// An instant, to the second, and the difference of its local time from UTC.
///
/// All that one point does in one transaction has one `Moment` (PEC-GEN-10, PEC-DT-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    instant: Timestamp,
    offset_secs: i32,
}

impl Moment {
    /// An instant in the legal time of Italy at that instant (PEC-DT-01). Fractions of a second
    /// are dropped.
    pub fn of(instant: Timestamp) -> Self {
        let instant = Timestamp::from_second(instant.as_second()).unwrap_or(instant);
        Self { instant, offset_secs: rome().to_offset(instant).seconds() }
    }

    /// The instant.
    pub fn instant(self) -> Timestamp {
        self.instant
    }

    /// `[data]`: `dd/mm/yyyy` (PEC-DT-02).
    pub fn date(self) -> String {
        let local = self.local();
        format!("{:02}/{:02}/{:04}", local.day(), local.month(), local.year())
    }

    /// `[ora]`: `hh:mm:ss` (PEC-DT-02).
    pub fn time(self) -> String {
        let local = self.local();
        format!("{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())
    }

    /// `[zona]`: `+hhmm` or `-hhmm`, no colon (PEC-DT-03).
    pub fn zone(self) -> String {
        let minutes = self.offset_secs.abs() / 60;
        let sign = if self.offset_secs < 0 { '-' } else { '+' };
        format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }

    /// The value of a `Date` field: `date-time`, RFC 5322 §3.3 (PEC-DT-05).
    pub fn header(self) -> String {
        self.local().strftime("%a, %d %b %Y %H:%M:%S ").to_string() + &self.zone()
    }

    /// Reads the three texts of `daticert.xml`: `giorno`, `ora`, `zona`. A colon in the zone, as RFC
    /// 6109 §4.2 has it, is read too; a leap second is read as the second before it.
    pub fn parse(date: &str, time: &str, zone: &str) -> Option<Self> {
        let [day, month, year] = numbers(date, '/', [2, 2, 4])?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
        let date = Date::new(i16::try_from(year).ok()?, month as i8, day as i8).ok()?;
        let time = Time::new(hour as i8, minute as i8, second.min(59) as i8, 0).ok()?;
        if second > 60 {
            return None;
        }
        let offset = offset(zone)?;
        let instant = offset.to_timestamp(date.to_datetime(time)).ok()?;
        Some(Self { instant, offset_secs: offset.seconds() })
    }

    fn local(self) -> jiff::civil::DateTime {
        Offset::from_seconds(self.offset_secs).unwrap_or(Offset::UTC).to_datetime(self.instant)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.date(), self.time(), self.zone())
    }
}

/// The zone of the legal time of Italy (PEC-DT-01), from data that is part of the program.
pub fn rome() -> &'static TimeZone {
    static ROME: OnceLock<TimeZone> = OnceLock::new();
    ROME.get_or_init(|| {
        TimeZone::get("Europe/Rome")
            .or_else(|_| TimeZone::posix(ROME_RULE))
            .unwrap_or(TimeZone::UTC)
    })
}

/// Three numbers of so many digits, with a sign between them.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u16; 3]> {
    let mut out = [0; 3];
    let mut pieces = text.split(between);
    for (number, digits) in out.iter_mut().zip(digits) {
        let piece = pieces.next()?;
        if piece.len() != digits || !piece.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = piece.parse().ok()?;
    }
    pieces.next().is_none().then_some(out)
}

/// `[+|-]hhmm` or `[+|-]hh:mm`.
fn offset(zone: &str) -> Option<Offset> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = match digits.split_once(':') {
        Some((hours, minutes)) if hours.len() == 2 => format!("{hours}{minutes}"),
        Some(_) => return None,
        None => digits.to_owned(),
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    if number / 100 > 14 || number % 100 > 59 {
        return None;
    }
    Offset::from_seconds(sign * (number / 100 * 3600 + number % 100 * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instant: &str) -> Moment {
        Moment::of(instant.parse().unwrap())
    }

    // PEC-DT-01 PEC-DT-02 PEC-DT-03 PEC-DT-05
    #[test]
    fn an_instant_is_written_in_the_legal_time_of_italy() {
        for (instant, text, header) in [
            // Winter, summer, and the two nights in which the clock changes
            (
                "2026-03-02T08:00:00Z",
                "02/03/2026 09:00:00 (+0100)",
                "Mon, 02 Mar 2026 09:00:00 +0100",
            ),
            (
                "2026-09-14T07:30:12Z",
                "14/09/2026 09:30:12 (+0200)",
                "Mon, 14 Sep 2026 09:30:12 +0200",
            ),
            (
                "2026-03-29T00:59:59Z",
                "29/03/2026 01:59:59 (+0100)",
                "Sun, 29 Mar 2026 01:59:59 +0100",
            ),
            (
                "2026-03-29T01:00:00Z",
                "29/03/2026 03:00:00 (+0200)",
                "Sun, 29 Mar 2026 03:00:00 +0200",
            ),
            (
                "2026-10-25T00:59:59Z",
                "25/10/2026 02:59:59 (+0200)",
                "Sun, 25 Oct 2026 02:59:59 +0200",
            ),
            (
                "2026-10-25T01:00:00Z",
                "25/10/2026 02:00:00 (+0100)",
                "Sun, 25 Oct 2026 02:00:00 +0100",
            ),
            (
                "2026-12-31T23:59:59.999Z",
                "01/01/2027 00:59:59 (+0100)",
                "Fri, 01 Jan 2027 00:59:59 +0100",
            ),
        ] {
            assert_eq!(
                (at(instant).to_string(), at(instant).header()),
                (text.into(), header.into())
            );
        }
    }

    // PEC-DT-04
    #[test]
    fn the_texts_of_the_xml_are_read() {
        let moment = Moment::parse("14/09/2026", "09:30:12", "+0200").unwrap();
        assert_eq!(moment, at("2026-09-14T07:30:12Z"));
        for (date, time, zone, text) in [
            ("14/09/2026", "09:30:12", "+02:00", "14/09/2026 09:30:12 (+0200)"),
            ("14/09/2026", "09:30:60", "+0200", "14/09/2026 09:30:59 (+0200)"),
            ("14/09/2026", "02:30:12", "-0500", "14/09/2026 02:30:12 (-0500)"),
        ] {
            assert_eq!(Moment::parse(date, time, zone).unwrap().to_string(), text);
        }
        for (date, time, zone) in [
            ("31/02/2026", "09:30:12", "+0200"),
            ("14-09-2026", "09:30:12", "+0200"),
            ("14/9/2026", "09:30:12", "+0200"),
            ("14/09/2026/1", "09:30:12", "+0200"),
            ("+4/09/2026", "09:30:12", "+0200"),
            ("14/09/2026", "24:00:00", "+0200"),
            ("14/09/2026", "09:30:61", "+0200"),
            ("14/09/2026", "09:30", "+0200"),
            ("14/09/2026", "09:30:12", "0200"),
            ("14/09/2026", "09:30:12", "+2"),
            ("14/09/2026", "09:30:12", "+0:200"),
            ("14/09/2026", "09:30:12", "+0260"),
            ("14/09/2026", "09:30:12", "+9900"),
            ("14/09/2026", "09:30:12", ""),
            ("14/09/2026", "09:30:12", "\u{e8}200"),
        ] {
            assert_eq!(Moment::parse(date, time, zone), None, "{date} {time} {zone}");
        }
    }
}
