//! Any octets as a submission: what is accepted travels, and comes out of its envelope as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::{Address, ReversePath};
use pec::exchange::Exchange;
use pec::incoming::{Class, Routing, SignedBy};
use pec::providers::{Index, ProviderRecord};
use pec::{Draft, Fresh, Limits, Moment, PecId, Provider, RecipientKind};

fuzz_target!(|octets: &[u8]| {
    let address = |text: &str| Address::parse(text).expect("an address");
    let sender = address("mario.rossi@pec.rossi.example");
    let forward_paths = [
        address("protocollo@pec.comune.example"),
        address("info@ordinaria.example"),
        address("ufficio@pec.comune.example"),
    ];
    let provider = Provider {
        name: "Alfa".into(),
        author: address("posta-certificata@alfapec.example"),
        service_mailbox: address("ricevute@alfapec.example"),
    };
    let draft = Draft {
        reverse_path: &sender,
        forward_paths: &forward_paths,
        octets,
        trace: b"Received: x\r\n",
    };
    let id = || PecId::parse("1@alfapec.example").expect("an identifier");
    let at = Moment::parse("14/09/2026", "09:30:12", "+0200").expect("a time");
    let kind = |_: &mail::Domain| RecipientKind::Certified;
    let limits = Limits::new(0, 0, false);
    let fresh = Fresh { message_id: id(), token: 1 << 127 };
    match pec::admit(&draft, &provider, &limits, &kind, id(), at) {
        Ok(submission) => {
            assert!(mail::sevenbit::is_seven_bit(submission.original()));
            pec::receipt::acceptance(submission.accepted(), &provider, fresh);
            let (accepted, original) = submission.into_parts();
            let envelope = pec::envelope::enclose(&accepted, &original, &provider, 1 << 127);
            let octets = envelope.seal(b"signature");
            let record = ProviderRecord {
                name: "Alfa".into(),
                unit: None,
                certificates: vec![],
                mail_receipt: provider.service_mailbox.clone(),
                domains: vec![provider.author.domain().clone()],
                location: None,
                description: None,
            };
            let emails = [provider.author.to_string()];
            let index = Index::default();
            let signed_by = SignedBy {
                records: &[&record],
                emails: &emails,
                index: &index,
                strict_author: false,
            };
            let reverse_path = ReversePath::Address(sender.clone());
            let routing = Routing { reverse_path: &reverse_path, forward_paths: &forward_paths };
            match pec::judge(&pec::examine(&octets), Ok(signed_by), &routing) {
                Class::Envelope(verified) => {
                    assert_eq!(verified.original(&octets), original);
                    // A subject in 8 bits is folded once for the original and once for us, where
                    // blanks may go; and XML has no U+FFFE and U+FFFF.
                    let in_xml = |text: &str| {
                        let text = text.replace(['\u{fffe}', '\u{ffff}'], "?");
                        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
                        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
                    };
                    let (seen, exchange) = (verified.exchange(), accepted.exchange());
                    assert_eq!(in_xml(seen.subject_text()), in_xml(exchange.subject_text()));
                    assert_eq!(in_xml(&seen.replies_to), in_xml(&exchange.replies_to));
                    let (subject, replies_to) =
                        (exchange.subject.clone(), exchange.replies_to.clone());
                    assert_eq!(Exchange { subject, replies_to, ..seen.clone() }, *exchange);
                }
                other => panic!("our own envelope is {other:?}"),
            }
        }
        Err(refused) => {
            let notice = pec::receipt::non_acceptance(&refused, &provider, fresh).seal(b"x");
            assert!(mail::sevenbit::is_seven_bit(&notice));
        }
    }
});
