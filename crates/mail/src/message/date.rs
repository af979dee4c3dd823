//! Dates of header fields, RFC 5322 §3.3, §4.3.
//!
//! mail-parser reads them, leniently: a weekday that does not fit, one-digit hours, a Received field
//! before its semicolon. Comments are taken out first, since one inside a time misleads it, and what
//! it gives is checked against the calendar. What it does not read, jiff may: a named zone after a
//! time without seconds, a year of three digits (ADR 0006).

use jiff::Zoned;
use jiff::civil;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::{Offset, TimeZone};
use mail_parser::DateTime;

/// RFC 5322 §3.3: "the year is any numeric year 1900 or later".
const YEAR_MIN: u16 = 1900;

/// RFC 5322 with its obsolete forms; the weekday need not fit.
static STRICT: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// The date and time of an unfolded value, with the offset that it names.
pub(super) fn read(value: &str) -> Option<Zoned> {
    let value = without_comments(value);
    let read = DateTime::parse_rfc822(&value).and_then(|read| of_calendar(&read));
    read.or_else(|| STRICT.parse_zoned(value.trim()).ok())
}

/// A value with a space for each comment (RFC 5322 §3.2.2), which may hold comments.
fn without_comments(value: &str) -> String {
    let mut depth = 0_usize;
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if depth > 0 => {
                characters.next();
            }
            '(' => {
                depth += 1;
                out.push(' ');
            }
            ')' if depth > 0 => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// The moment, when there is such a day and time.
fn of_calendar(read: &DateTime) -> Option<Zoned> {
    let small = |n: u8| i8::try_from(n).ok();
    // A leap second is as good as the one before.
    let second = if read.second == 60 { 59 } else { read.second };
    let year = Some(read.year).filter(|&year| year >= YEAR_MIN)?;
    let local = civil::DateTime::new(
        i16::try_from(year).ok()?,
        small(read.month)?,
        small(read.day)?,
        small(read.hour)?,
        small(read.minute)?,
        small(second)?,
        0,
    );
    let seconds = i32::from(read.tz_hour) * 3600 + i32::from(read.tz_minute) * 60;
    let offset = Offset::from_seconds(if read.tz_before_gmt { -seconds } else { seconds });
    local.ok()?.to_zoned(TimeZone::fixed(offset.ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Field;

    fn shown(value: &str) -> Option<String> {
        let octets = format!("Date: {value}\r\n");
        let at = Field::parse(octets.as_bytes()).unwrap().date()?;
        Some(format!("{} {}", at.datetime(), at.offset()))
    }

    #[test]
    fn a_date_is_read() {
        for (value, expected) in [
            // RFC 5322 §A.1.1, §A.5, §A.6.2
            ("Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06 -06"),
            (
                "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)",
                "1969-02-13T23:32:00 -03:30",
            ),
            ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06 +00"),
            ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06 -06"),
            ("Sat, 21 Nov 2026 21:00:07 +0100 (CET)", "2026-11-21T21:00:07 +01"),
            // The weekday does not fit; one digit; a leap second
            ("Mon, 1 Jan 2026 9:5:6 +0200", "2026-01-01T09:05:06 +02"),
            ("Sat, 31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59 +00"),
            // A named zone after a time without seconds, a year of three digits: RFC 5322 §4.3
            ("21 Nov 97 09:55 EST", "1997-11-21T09:55:00 -05"),
            ("21 Nov 126 09:55:06 +0000", "2026-11-21T09:55:06 +00"),
            // The end of a Received field
            (
                "from a.example by b.example with ESMTP;\r\n Sat, 21 Nov 2026 21:00:00 +0100",
                "2026-11-21T21:00:00 +01",
            ),
        ] {
            assert_eq!(shown(value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for value in [
            "",
            "ieri",
            "Sat, 21 Nov 2026",
            "Sat, 21 Nov 2026 21:00:00",
            "31 Feb 2026 10:00:00 +0100",
            "0 Nov 2026 10:00:00 +0100",
            "21 Nov 2026 25:00:00 +0100",
            "21 Nov 2026 10:61:00 +0100",
            "21 Xyz 2026 10:00:00 +0100",
            "21 Nov 0 10:00:00",
            "21 Nov 1202 1:00:00 +0000",
        ] {
            assert_eq!(shown(value), None, "{value}");
        }
        // Linear, and not recursive.
        for piece in ["(", "\\", "(\\", "9", "9 ", "-", ";", "Nov ", "1 Nov 2026 "] {
            shown(&piece.repeat(200_000));
        }
    }

    proptest! {
        // mail-parser and jiff, which have nothing in common, agree on what is allowed.
        #[test]
        fn what_is_allowed_is_read_as_it_is(
            (day, month, year) in (1_u8..=28, 0_usize..12, 1900_u16..3000),
            (hour, minute, second) in (0_u8..24, 0_u8..60, prop::option::of(0_u8..60)),
            zone in "[+-](0[0-9]|1[0-2])[0-5][0-9]|GMT|UT|E[SD]T|P[SD]T",
            blank in prop::sample::select(vec![" ", "  ", "\t", " (a (b:+1) \\) c) ", "(;)"]),
            weekday in prop::sample::select(vec!["", "Mon,", "mon , "]),
        ) {
            let months =
                ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let second = second.map(|second| format!(":{second:02}")).unwrap_or_default();
            let plain = format!("{day} {} {year} {hour:02}:{minute:02}{second} {zone}", months[month]);
            let expected = STRICT.parse_zoned(&plain).unwrap().to_string();
            let written = format!("{weekday}{}", plain.replace(' ', blank));
            let seen = |value: &str| read(value).map(|at| at.to_string());
            prop_assert_eq!(seen(&written), Some(expected.clone()), "{}", written);
            prop_assert_eq!(seen(&written.replace(':', &format!(":{blank}"))), Some(expected));
        }

        #[test]
        fn any_value_is_read_or_not(value in "([0-9]|Nov|Sat,|[-+:;()\\\\ ]|GMT|\\PC){0,40}") {
            shown(&value);
        }
    }
}
