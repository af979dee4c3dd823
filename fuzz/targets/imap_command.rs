//! Any octets as one command of a client that has signed in: whatever it is, one tagged response
//! or a goodbye comes of it, and every line that is sent is one of the protocol's.

#![no_main]

use std::sync::Arc;

use imap::{SaslAnswer, Session, Settings, Step};
use libfuzzer_sys::fuzz_target;
use store::AccountId;

fuzz_target!(|octets: &[u8]| {
    if octets.contains(&b'\n') {
        return;
    }
    let settings = Settings {
        host: "imap.pec.example".to_owned(),
        version: "0.1.0".to_owned(),
        append_octets_max: 256,
        channel_binding: false,
        background: true,
        saved_messages_max: imap::limits::SAVED_MESSAGES_MAX,
        command_messages_max: imap::limits::COMMAND_MESSAGES_MAX,
        unauthenticate: true,
        views: Arc::default(),
        zone: jiff::tz::TimeZone::UTC,
    };
    let mut session = Session::new(Arc::new(settings), true);
    session.handle_octets(b"a LOGIN anna x\r\n");
    while session.poll().is_some() {}
    session.authenticated(SaslAnswer::Success { account: AccountId(1), data: None });
    while session.poll().is_some() {}
    session.handle_octets(octets);
    session.handle_octets(b"\r\n");
    let (mut sent, mut jobs) = (Vec::new(), 0);
    while let Some(step) = session.poll() {
        match step {
            Step::Send(octets) => sent.extend(octets),
            Step::Perform(_) => jobs += 1,
            Step::Close | Step::Compress | Step::SignedOut => {}
            other => panic!("{other:?}"),
        }
    }
    // A job, a response, or (of a literal that is announced and not waited for) nothing yet. IDLE has
    // both: its client may go on, and meanwhile it is looked whether there is news.
    assert!(jobs <= 1 && (jobs == 0 || sent.is_empty() || sent.starts_with(b"+ ")));
    assert!(sent.is_empty() || sent.ends_with(b"\r\n"));
    assert!(sent.split(|&b| b == b'\n').all(|line| line.is_empty() || line.ends_with(b"\r")));
});
