//! Any octets as the statement of a seal: what is read is read again from what is written of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use store::Statement;

fuzz_target!(|octets: &[u8]| {
    if let Ok(read) = Statement::parse(octets) {
        assert!(read.number > 0 && read.first > 0 && read.end() >= read.first);
        if let Ok(written) = read.octets() {
            assert_eq!(Statement::parse(&written), Ok(read));
        }
    }
});
