//! Any octets as one client's conversation over a store in memory. However they are cut, the same
//! is answered; the machine never panics and never asks for two things at once.
//!
//! The first octet says whether TLS is on and somebody signed in; the second where the octets are
//! cut.

#![no_main]

use std::sync::Arc;

use imap::{SaslAnswer, SaslFailure, SaslStep, Session, Settings, Step};
use libfuzzer_sys::fuzz_target;
use store::memory::MemoryStore;
use store::{
    AccountId, Flags, MailboxName, NewAccount, NewMessage, Octets, Owner, Quota, Role, Store,
    Timestamp,
};

const MESSAGE: &[u8] = b"From: a@b.example\r\nSubject: =?utf-8?Q?x?=\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nuno\r\n--b\r\n\
    Content-Type: message/rfc822\r\n\r\nSubject: due\r\n\r\nx\r\n--b--\r\n";

fuzz_target!(|octets: &[u8]| {
    let [choice, cut, stream @ ..] = octets else { return };
    let whole = play(*choice, stream, usize::MAX);
    let cut = play(*choice, stream, usize::from(*cut) + 1);
    assert_eq!(whole, cut);
});

fn play(choice: u8, stream: &[u8], segment_max: usize) -> (Vec<u8>, bool) {
    let store = MemoryStore::new();
    let anna = account(&store);
    let settings = Settings {
        host: "imap.pec.example".to_owned(),
        version: "0.1.0".to_owned(),
        append_octets_max: 256,
        channel_binding: false,
        background: true,
        saved_messages_max: imap::limits::SAVED_MESSAGES_MAX,
        command_messages_max: imap::limits::COMMAND_MESSAGES_MAX,
        unauthenticate: true,
        views: imap::Views::of(&store),
        zone: jiff::tz::TimeZone::UTC,
    };
    // With TLS up from the start: what follows STARTTLS depends on segments, as it should.
    let mut session = Session::new(Arc::new(settings), true);
    let (mut sent, mut closed) = (Vec::new(), false);
    drain(&mut session, &store, anna, &mut sent, &mut closed);
    if choice & 1 == 1 {
        session.handle_octets(b"a LOGIN anna x\r\nb SELECT INBOX\r\n");
        drain(&mut session, &store, anna, &mut sent, &mut closed);
    }
    for segment in stream.chunks(segment_max.min(imap::limits::PENDING_OCTETS_MAX)) {
        assert!(closed || session.wants_octets());
        session.handle_octets(segment);
        if !drain(&mut session, &store, anna, &mut sent, &mut closed) {
            return (sent, closed);
        }
    }
    session.handle_changed();
    drain(&mut session, &store, anna, &mut sent, &mut closed);
    (sent, closed)
}

/// Whether the conversation goes on in clear: what follows COMPRESS depends on segments, as it should.
fn drain(
    session: &mut Session,
    store: &MemoryStore,
    anna: AccountId,
    sent: &mut Vec<u8>,
    closed: &mut bool,
) -> bool {
    while let Some(step) = session.poll() {
        assert!(!*closed, "a step after the last");
        match step {
            Step::Send(octets) => sent.extend(octets),
            Step::SendStored { octets, start, end } => {
                let octets = octets.read(start, end).unwrap();
                assert_eq!(octets.len() as u64, end - start);
                sent.extend(octets);
            }
            Step::Sasl(SaslStep::Abort) => {}
            Step::Sasl(SaslStep::Login { user, .. }) if user.0 != b"anna" => {
                session.authenticated(SaslAnswer::Failure(SaslFailure::Credentials));
            }
            Step::Sasl(_) => {
                session.authenticated(SaslAnswer::Success { account: anna, data: None });
            }
            Step::Perform(job) => session.finish(job.run(store, now())),
            Step::StartTls => unreachable!("TLS is on"),
            Step::Compress => return false,
            Step::SignedOut => {}
            Step::Fault(cause) => panic!("{cause}"),
            Step::Close => *closed = true,
        }
    }
    true
}

fn now() -> Timestamp {
    Timestamp::from_second(1_772_438_400).unwrap()
}

fn account(store: &MemoryStore) -> AccountId {
    let anna = NewAccount {
        address: mail::Address::parse("anna@pec.example").unwrap(),
        user_id: Some("anna".to_owned()),
        owner: Owner::Holder,
        role: Role::None,
        credentials: None,
        quota: Quota { octets_max: 2_048, messages_max: None, receipt_reserve_octets: 0 },
        ordinary_mail: None,
    };
    let anna = store.add_account(anna, now()).unwrap();
    let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    let message = NewMessage {
        octets: Octets::Inline(MESSAGE.into()),
        flags: Flags::default(),
        received: now(),
        at: now(),
    };
    store.append(inbox, message).unwrap();
    anna
}
