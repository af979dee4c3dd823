//! Any octets as a peer's answers: the sending machine never panics, keeps little, and gives each
//! message one end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::{Address, ReversePath};
use smtp::client::{ANSWER_TEXT_OCTETS_MAX, TlsUse, Why};
use smtp::{Client, ClientSettings, ClientStep, Outgoing};

/// Messages on one connection: one that the peer's own SIZE refuses ends without an octet from it.
const MESSAGES_MAX: usize = 32;

fuzz_target!(|octets: &[u8]| {
    let Ok(address) = Address::parse("a@b.example") else { return };
    let tls = TlsUse::IfOffered;
    let mut client = Client::new(ClientSettings { host: "a.example".to_owned(), tls });
    let (mut begun, mut ended) = (0, 0);
    for piece in octets.chunks(7).map(Some).chain([None]) {
        match piece {
            Some(piece) => client.handle_octets(piece),
            None => client.handle_closed(),
        }
        while let Some(step) = client.poll() {
            match step {
                ClientStep::Ready => {
                    assert_eq!(begun, ended);
                    if begun == MESSAGES_MAX {
                        client.quit();
                        continue;
                    }
                    begun += 1;
                    client.send(Outgoing {
                        reverse_path: ReversePath::Null,
                        recipients: vec![(address.clone(), String::new()); 2],
                        octets: 7,
                        eight_bit: false,
                        require_tls: false,
                        parameters: String::new(),
                    });
                }
                ClientStep::Content => client.content(b"a\r\n.b\r\n".to_vec(), true),
                ClientStep::Done(verdicts) => {
                    ended += 1;
                    assert_eq!(verdicts.len(), 2);
                    for verdict in verdicts {
                        if let Why::Replied(_, reply) = verdict.why {
                            assert!(reply.text.len() <= ANSWER_TEXT_OCTETS_MAX);
                            assert!(reply.text.bytes().all(|octet| matches!(octet, b' '..=b'~')));
                        }
                    }
                }
                ClientStep::StartTls => client.handle_tls_started(),
                ClientStep::Send(_) | ClientStep::Failed(_) | ClientStep::Close => {}
            }
        }
    }
    assert_eq!(begun, ended);
});
