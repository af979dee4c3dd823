//! The values of a configuration: durations, sizes, networks, and the small enumerations.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use toml::de::DeValue;

use super::reader::Wrong;

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or a single address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?),
            None => {
                let address = text.parse::<IpAddr>().ok()?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, bits })
    }

    /// An address in it, and how many bits of that all of its addresses share.
    pub(crate) fn parts(&self) -> (IpAddr, u8) {
        (self.address, self.bits)
    }

    /// Whether `address` is in this network. An IPv4 address that came mapped into IPv6 is looked
    /// at as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// A duration of hours, minutes and seconds: `12h`, `90m`, `6s`, `1h30m`, `250ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            "d" => Duration::from_secs(86_400),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(u32::try_from(count).ok()?)?)?;
        rest = &rest[letters..];
    }
    Some(total)
}

/// A size in octets: `1 MiB`, `64KiB`, `2 GB`, `1000`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    // What SQLite counts in, and IMAP (RFC 9051 §9, number64): 63 bits.
    count.checked_mul(unit).filter(|octets| i64::try_from(*octets).is_ok())
}

fn wrong<T>(what: impl Into<String>, suggestion: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), suggestion.into()))
}

pub(super) fn read_text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    match value.as_str() {
        Some(text) if !text.trim().is_empty() && !text.chars().any(char::is_control) => Ok(text),
        Some(_) => wrong("the text is empty or has control characters", "write some plain text"),
        None => wrong(format!("a {} where text belongs", value.type_str()), "put it in \"quotes\""),
    }
}

pub(super) fn read_bool(value: &DeValue<'_>) -> Result<bool, Wrong> {
    match value.as_bool() {
        Some(yes) => Ok(yes),
        None => wrong(format!("a {}", value.type_str()), "write true or false, without quotes"),
    }
}

/// A whole number of `range`.
pub(super) fn read_number(
    value: &DeValue<'_>,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, Wrong> {
    let number = value
        .as_integer()
        .and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok())
        .filter(|number| range.contains(number));
    match number {
        Some(number) => Ok(number),
        None => wrong(
            "not a number that can be here",
            format!("write a whole number from {} to {}", range.start(), range.end()),
        ),
    }
}

/// A size: a number of octets, or text as [`size`] reads it.
pub(super) fn read_size(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let octets = match value {
        DeValue::String(text) => size(text),
        _ => read_number(value, 0..=i64::MAX.unsigned_abs()).ok(),
    };
    match octets {
        Some(octets) => Ok(octets),
        None => wrong("not a size", "write a number of octets, or \"1 MiB\""),
    }
}

pub(super) fn read_duration(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    match value.as_str().and_then(duration) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => wrong("not a duration", "write \"12h\", \"90m\" or \"6s\""),
    }
}

pub(super) fn read_socket(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    match read_text(value)?.parse() {
        Ok(address) => Ok(address),
        Err(_) => wrong("not an address with a port", "write \"0.0.0.0:993\" or \"[::]:993\""),
    }
}

/// A list whose members `read` takes; a complaint names the first that is wrong.
pub(super) fn read_list<T>(
    value: &DeValue<'_>,
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let Some(list) = value.as_array() else {
        return wrong("not a list", "put it in [\"brackets\"]");
    };
    list.iter().map(|member| read(read_text(member.get_ref())?)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::{Network, duration, size};

    #[test]
    fn reads_durations() {
        let table = [
            ("12h", Some(12 * 3_600_000)),
            ("90m", Some(90 * 60_000)),
            ("6s", Some(6_000)),
            ("1h30m", Some(90 * 60_000)),
            ("250ms", Some(250)),
            ("2d", Some(2 * 86_400_000)),
            ("", None),
            ("12", None),
            ("h", None),
            ("12 h", None),
            ("-1h", None),
            ("99999999999999999999h", None),
            ("4294967296s", None),
        ];
        for (text, millis) in table {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn reads_sizes() {
        let table = [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("64 KiB", Some(65_536)),
            ("1MiB", Some(1 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("1 gib", Some(1 << 30)),
            ("2 GB", Some(2_000_000_000)),
            ("", None),
            ("1 furlong", None),
            ("-1", None),
            ("9223372036854775807", Some(i64::MAX.unsigned_abs())),
            ("9223372036854775808", None),
            ("99999999 TiB", None),
        ];
        for (text, octets) in table {
            assert_eq!(size(text), octets, "{text}");
        }
    }

    #[test]
    fn knows_which_addresses_are_in_a_network() {
        let table = [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "2001:db8:1::1", true),
        ];
        for (network, address, inside) in table {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse::<IpAddr>().unwrap()), inside, "{address}");
        }
        for bad in ["", "127.0.0.0/33", "::/129", "localhost", "127.0.0.0/x"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
