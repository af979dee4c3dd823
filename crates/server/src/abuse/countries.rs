//! Which country an address is in, by a file of the operator's: a line for each network, its CIDR and
//! the two letters of its country (ISO 3166-1), as in `192.0.2.0/24,IT`. Where networks lie in each
//! other, the smaller one counts. Empty lines and those that begin with `#` are nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::config::Network;

/// Octets of the file that are read at most: twice what [`NETWORKS_MAX`] lines take.
pub(crate) const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Networks at most, 32 octets of memory each: lists of the whole Internet have some 700,000.
const NETWORKS_MAX: usize = 1_000_000;

/// Two capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Country([u8; 2]);

impl Country {
    fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(letters.map(|l| l.to_ascii_uppercase())))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl TryFrom<String> for Country {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or(text)
    }
}

/// The networks, those of one size together and sorted. Keys: whether IPv6, and how many bits.
#[derive(Debug, Default)]
pub(crate) struct Countries(BTreeMap<(bool, u8), Vec<(u128, Country)>>);

/// The first bits of an address.
fn first(address: IpAddr, bits: u8) -> u128 {
    let (all, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    all.checked_shr(width - u32::from(bits)).unwrap_or(0)
}

impl Countries {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// The first line that is none of a network, or [one more](NETWORKS_MAX) than there may be.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut networks = Self::default();
        let mut count = 0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || format!("line {}: `{line}` is not like `192.0.2.0/24,IT`", number + 1);
            let (network, country) = line.split_once(',').with_context(wrong)?;
            let network = Network::parse(network.trim()).with_context(wrong)?;
            let country = Country::parse(country.trim()).with_context(wrong)?;
            count += 1;
            ensure!(count <= NETWORKS_MAX, "more than {NETWORKS_MAX} networks");
            let (address, bits) = network.parts();
            let same = networks.0.entry((address.is_ipv6(), bits)).or_default();
            same.push((first(address, bits), country));
        }
        for same in networks.0.values_mut() {
            same.sort_unstable();
            // Of one network that is there twice.
            same.dedup_by_key(|(network, _)| *network);
            same.shrink_to_fit();
        }
        Ok(networks)
    }

    /// The country of an address; an IPv4 address that came mapped into IPv6 is looked at as IPv4.
    pub(crate) fn of(&self, address: IpAddr) -> Option<Country> {
        let address = address.to_canonical();
        let family = address.is_ipv6();
        let sizes = self.0.range((family, 0)..=(family, 128)).rev();
        sizes.into_iter().find_map(|((_, bits), same)| {
            let network = first(address, *bits);
            let at = same.binary_search_by_key(&network, |(network, _)| *network).ok()?;
            Some(same[at].1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_around_an_address_says_where_it_is() {
        let text = "# nets\n\n0.0.0.0/0,US\n192.0.2.0/24,it\r\n192.0.2.128/25 , SM\n\
                    192.0.2.200,VA\n2001:db8::/32,FR\n2001:db8::1/128,DE\n";
        let countries = Countries::parse(text).unwrap();
        for (address, country) in [
            ("192.0.2.1", Some("IT")),
            ("192.0.2.128", Some("SM")),
            ("192.0.2.200", Some("VA")),
            ("::ffff:192.0.2.200", Some("VA")),
            ("192.0.3.0", Some("US")),
            ("2001:db8::1", Some("DE")),
            ("2001:db8:ffff::", Some("FR")),
            ("2001:db9::", None),
        ] {
            let found = countries.of(address.parse().unwrap()).map(|country| country.to_string());
            assert_eq!(found.as_deref(), country, "{address}");
        }
        assert_eq!(Countries::parse("").unwrap().of([192, 0, 2, 1].into()), None);
    }

    #[test]
    fn a_line_that_is_no_network_is_named() {
        for line in [
            "192.0.2.0/24",
            "192.0.2.0/33,IT",
            "192.0.2.0/24,ITA",
            "192.0.2.0/24,I1",
            "192.0.2.0/24,IT,RM",
            "network,country",
            "2001:db8::/129,IT",
        ] {
            let error = Countries::parse(&format!("# first\n{line}\n")).unwrap_err().to_string();
            assert_eq!(error, format!("line 2: `{line}` is not like `192.0.2.0/24,IT`"));
        }
    }

    #[test]
    fn one_network_past_the_limit_is_refused() {
        let mut text = String::new();
        for number in 0..NETWORKS_MAX as u32 {
            text += &format!("{},IT\n", std::net::Ipv4Addr::from(number));
        }
        assert!(Countries::parse(&text).is_ok());
        let error = Countries::parse(&(text + "192.0.2.0,IT\n")).unwrap_err().to_string();
        assert_eq!(error, "more than 1000000 networks");
    }
}
