//! Any octets as what a domain publishes of TLS with its hosts: its policy, and its two TXT records.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp::sts::{MAX_AGE_SECS_MAX, Mode, PATTERNS_MAX, Policy, record_id};
use smtp::tls_report::{PLACE_OCTETS_MAX, PLACES_MAX, Place, places};

fuzz_target!(|octets: &[u8]| {
    if let Ok(policy) = Policy::parse(octets) {
        assert!(policy.max_age_secs() <= MAX_AGE_SECS_MAX);
        assert!(policy.patterns().len() <= PATTERNS_MAX);
        assert!(policy.mode() == Mode::None || !policy.patterns().is_empty());
        for pattern in policy.patterns() {
            // A star stands for one label, never for none or several.
            assert!(policy.names(&pattern.replace('*', "a")));
            if let ([_], Some(parent)) = (policy.patterns(), pattern.strip_prefix("*.")) {
                assert!(!policy.names(parent) && !policy.names(&format!("a.b.{parent}")));
            }
        }
        // What is kept is read as the same policy.
        assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
    }
    let texts: Vec<&[u8]> = octets.split(|octet| *octet == b'\n').collect();
    if let Some(id) = record_id(texts.iter().copied()) {
        assert!((1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
    let places = places(texts.iter().copied());
    assert!(places.len() <= PLACES_MAX);
    for place in places {
        if let Place::Web(url) = place {
            assert!(url.len() <= PLACE_OCTETS_MAX && url.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
});
