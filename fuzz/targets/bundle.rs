//! Any octets as an evidence bundle: no file of it is larger than it says, or has a name of its own
//! choosing. The reader is taken from the program as source, which no package can import.

#![no_main]

#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../crates/server/src/evidence/bundle.rs"]
mod bundle;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Ok(mut read) = bundle::Bundle::new(Cursor::new(octets)) else { return };
    for name in read.names() {
        assert!(!name.contains("..") && !name.starts_with('/'));
        // A small archive can hold much: as much as would be read of the largest message.
        if let Ok(file) = read.read(&name) {
            assert!(file.len() <= 256 * 1024 * 1024);
        }
    }
});
