//! Any octets as a message: its parts lie inside each other, and each can be decoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::Message;
use mail::mime::{Scanner, Structure, decode_body, opaque, scan};

fuzz_target!(|octets: &[u8]| {
    let scanned = scan(octets);
    if let Ok(structure) = &scanned {
        check(structure, octets);
    }
    let mut scanner = Scanner::new();
    octets.chunks(1 + octets.len() / 5).for_each(|piece| scanner.push(piece));
    assert_eq!(scanner.finish(), scanned);
    check(&opaque(octets), octets);
    for field in Message::lenient(octets).fields() {
        assert!(!field.decoded().contains(char::is_control));
        field.date();
    }
});

fn check(structure: &Structure, octets: &[u8]) {
    assert_eq!(structure.root().octets(), 0..octets.len());
    for part in &structure.parts {
        assert!(part.header.start <= part.header.end && part.header.end <= part.body.start);
        assert!(part.body.start <= part.body.end);
        let mut at = part.body.start;
        for child in structure.children(part) {
            assert!(child.header.start >= at && child.body.end <= part.body.end);
            at = child.body.end;
        }
        assert!(decode_body(part, octets).len() <= part.body.len());
        assert!(!part.file_name().is_some_and(|name| name.contains(char::is_control)));
    }
}
