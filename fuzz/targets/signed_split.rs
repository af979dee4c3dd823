//! Any octets as a signed message: the parts lie in it, and a judgement falls.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::{Address, Domain, ReversePath};
use pec::incoming::{Class, Routing, SignedBy};
use pec::providers::{Index, ProviderRecord};
use pec::reduce::{Hashed, reduce};

fuzz_target!(|octets: &[u8]| {
    let examination = pec::examine(octets);
    if let Some(parts) = examination.parts() {
        assert!(examination.entity().is_some() && examination.signature().is_some());
        for part in parts.originals.iter().chain(&parts.certifications) {
            assert_eq!(part.body(), &octets[part.range.clone()]);
        }
    }
    let address = Address::parse("mario.rossi@pec.rossi.example").expect("an address");
    let record = ProviderRecord {
        name: "Alfa".into(),
        unit: None,
        certificates: vec![],
        mail_receipt: address.clone(),
        domains: vec![Domain::parse("alfapec.example").expect("a domain")],
        location: None,
        description: None,
    };
    let emails = [
        "posta-certificata@alfapec.example".to_owned(),
        "posta-certificata@betacert.example".to_owned(),
    ];
    let index = Index::default();
    let signed_by =
        SignedBy { records: &[&record], emails: &emails, index: &index, strict_author: false };
    let reverse_path = ReversePath::Address(address);
    let routing = Routing { reverse_path: &reverse_path, forward_paths: &[] };
    if let Class::Envelope(envelope) = pec::judge(&examination, Ok(signed_by), &routing) {
        let original = envelope.original(octets);
        assert!(!original.is_empty());
        reduce(original, Hashed::Encoded);
        reduce(original, Hashed::File);
    }
    let known = pec::verification::Known { emails: Some(&emails), ..Default::default() };
    pec::verification::verify(&examination, &known);
    pec::inspect::with_crlf(octets);
});
