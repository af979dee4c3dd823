//! Any octets as certification data: what is read is read again from what is written of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pec::Certification;

fuzz_target!(|octets: &[u8]| {
    if let Ok(data) = Certification::parse(octets) {
        let written = data.write();
        let again = Certification::parse(written.as_bytes()).expect("what is written is read");
        assert_eq!(again.write(), written);
        assert_eq!(again.recipients, data.recipients);
        assert_eq!((again.kind, again.error, again.at), (data.kind, data.error, data.at));
    }
});
