//! Any octets cut into pieces: every octet is in one of them, none is empty or too long, and the
//! same octets are cut the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use store::embedded::{PIECE_OCTETS_MAX, cut};

fuzz_target!(|octets: &[u8]| {
    let pieces = cut(octets);
    let mut at = 0;
    for piece in &pieces {
        assert_eq!(piece.start, at);
        assert!(!piece.is_empty() && piece.len() <= PIECE_OCTETS_MAX);
        at = piece.end;
    }
    assert_eq!(at, octets.len());
    assert_eq!(cut(octets), pieces);
});
