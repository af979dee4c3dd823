//! Any octets made safe for 7-bit transport: the structure and the content stay.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::mime::{Kind, decode_body, scan};
use mail::sevenbit::{is_seven_bit, make_seven_bit};

fuzz_target!(|octets: &[u8]| {
    let Ok(converted) = make_seven_bit(octets) else { return };
    assert!(is_seven_bit(&converted));
    if is_seven_bit(octets) {
        assert_eq!(converted, octets);
        return;
    }
    let before = scan(octets).expect("it was converted");
    let after = scan(&converted).expect("it stays within bounds");
    assert_eq!(before.parts.len(), after.parts.len());
    for (old, new) in before.parts.iter().zip(&after.parts) {
        assert_eq!((old.kind, old.parent), (new.kind, new.parent));
        if old.kind == Kind::Leaf {
            assert_eq!(decode_body(old, octets), decode_body(new, &converted));
        } else if octets[old.header.clone()].is_ascii() {
            assert_eq!(octets[old.header.clone()], converted[new.header.clone()]);
        }
    }
});
