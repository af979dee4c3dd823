//! TLSRPT: where a domain wants to hear how TLS with its hosts went.
//!
//! RFC 8460 §3: a TXT record at `_smtp._tls.`, with addresses and web servers to report to. What is
//! reported, and when, is elsewhere.

use mail::Address;

/// Places of one domain that are reported to, at most.
pub const PLACES_MAX: usize = 4;
/// Octets of a place at most: no address and no sensible URL is longer.
pub const PLACE_OCTETS_MAX: usize = 1024;

/// Where to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By mail (§3, §5.3).
    Mail(Address),
    /// To a web server, by POST over https (§5.4).
    Web(String),
}

/// The places that the TXT records of a domain name; empty when it wants no reports. Of several
/// records that begin so none counts (§3). What is neither an address nor an https URL is left out.
#[must_use]
pub fn places<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> Vec<Place> {
    let mut records = texts.into_iter().filter_map(|text| {
        let text = std::str::from_utf8(text).ok()?;
        let (version, rest) = text.split_once(';')?;
        (version.trim_end() == "v=TLSRPTv1").then_some(rest)
    });
    let (Some(record), None) = (records.next(), records.next()) else { return Vec::new() };
    let mut fields = record.split(';').filter_map(|field| field.split_once('='));
    let Some((_, uris)) = fields.find(|(name, _)| name.trim() == "rua") else { return Vec::new() };
    uris.split(',').filter_map(place).take(PLACES_MAX).collect()
}

fn place(uri: &str) -> Option<Place> {
    let uri = uri.trim();
    if uri.len() > PLACE_OCTETS_MAX || !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = uri.split_once(':')?;
    match scheme.to_ascii_lowercase().as_str() {
        "mailto" => {
            // Header fields that it asks for are nothing we would write (RFC 6068 §7).
            let address = rest.split('?').next().unwrap_or_default();
            Address::parse(&decoded(address)?).ok().map(Place::Mail)
        }
        "https" => Some(Place::Web(uri.to_owned())),
        _ => None,
    }
}

/// Without percent-encoding, RFC 3986 §2.1.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<String> {
        let places = places(texts.iter().map(|text| text.as_bytes()));
        let told = |place: Place| match place {
            Place::Mail(address) => format!("mail {address}"),
            Place::Web(url) => format!("web {url}"),
        };
        places.into_iter().map(told).collect()
    }

    // RFC 8460 §3.1
    #[test]
    fn the_places_of_the_one_record_count() {
        assert_eq!(
            of(&["v=TLSRPTv1;rua=mailto:reports@example.com"]),
            ["mail reports@example.com"]
        );
        let web = "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt";
        assert_eq!(of(&["v=spf1 -all", web]), ["web https://reporting.example.com/v1/tlsrpt"]);
        assert_eq!(
            of(&["v=TLSRPTv1; x=y; rua= mailto:a@b.example , https://c.example/d;"]),
            ["mail a@b.example", "web https://c.example/d"]
        );
        assert_eq!(
            of(&["v=TLSRPTv1; rua=mailto:a%2bb@c.example?subject=x,MAILTO:d@e.example"]),
            ["mail a+b@c.example", "mail d@e.example"]
        );
        assert_eq!(of(&[web, web]), [""; 0], "two are none");
    }

    #[test]
    fn what_is_no_place_is_left_out() {
        for bad in [
            "",
            "v=TLSRPTv1",
            "v=TLSRPTv1;",
            "v=TLSRPTv1; rua=",
            "v=TLSRPTv2; rua=mailto:a@b.example",
            "v=TLSRPTv1; rua=http://a.example/",
            "v=TLSRPTv1; rua=mailto:a",
            "v=TLSRPTv1; rua=mailto:a%@b.example",
            "v=TLSRPTv1; rua=mailto:a%0d%0aBcc:x@b.example",
            "v=TLSRPTv1; rua=https://a.example/\u{7}",
        ] {
            assert_eq!(of(&[bad]), [""; 0], "{bad}");
        }
    }

    #[test]
    fn one_past_each_bound_is_left_out() {
        let many = ["mailto:a@b.example"; PLACES_MAX + 1].join(",");
        assert_eq!(of(&[&format!("v=TLSRPTv1; rua={many}")]).len(), PLACES_MAX);
        let long = |octets: usize| {
            let url = "https://a.example/".to_owned();
            let rest = "x".repeat(octets - url.len());
            of(&[&format!("v=TLSRPTv1; rua={url}{rest}")]).len()
        };
        assert_eq!((long(PLACE_OCTETS_MAX), long(PLACE_OCTETS_MAX + 1)), (1, 0));
    }
}
