//! Any octets as LDIF: what is read is read again from what is written of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pec::providers::{Index, parse_dn, parse_ldif, write_ldif};

fuzz_target!(|octets: &[u8]| {
    if let Ok(entries) = parse_ldif(octets) {
        for entry in &entries {
            parse_dn(&entry.dn);
        }
        let written = write_ldif(&entries);
        assert_eq!(parse_ldif(written.as_bytes()), Ok(entries));
    }
    if let Ok((index, _)) = Index::from_ldif(octets) {
        let (again, faults) = Index::from_ldif(index.to_ldif().as_bytes()).expect("it is read");
        // Nothing is left out of what was written; a record that manages nothing is told of each time.
        let idle = index.records().iter().filter(|record| record.domains.is_empty()).count();
        assert_eq!(faults.len(), idle);
        assert_eq!(again.records(), index.records());
    }
});
