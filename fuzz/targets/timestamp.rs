//! Any octets as the answer of a time stamp authority, as what a token says, and as the attribute that
//! names its signer. The reader of DER is taken from its crate as source: the crate around it would
//! bring OpenSSL, which is not ours to fuzz.

#![no_main]

#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../crates/crypto/src/der.rs"]
mod der;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../crates/crypto/src/tsp.rs"]
mod tsp;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Some(tsp::Response::Granted(token)) = tsp::response(octets) {
        assert!(token.len() <= octets.len());
    }
    if let Some(info) = tsp::info(octets) {
        assert!(info.imprint.len() <= octets.len());
    }
    if let Some((_, value)) = tsp::signing_certificate(octets) {
        assert!(value.len() <= octets.len());
    }
});
