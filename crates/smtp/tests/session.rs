//! The session machine, seen from its shell: what is asked when, and how a connection ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;

use smtp::server::{DISCARD_OCTETS_MAX, INPUT_OCTETS_MAX, OUTPUT_OCTETS_MAX};
use smtp::{Answer, Mechanism, Reply, Role, SaslAnswer, Session, Settings, Step, reply};

/// RFC 4954 §4: a line of this length may wait unfinished.
const AUTH_LINE_OCTETS_MAX: usize = 12_288;

fn session(role: Role, tls: bool) -> Session {
    let settings = Settings {
        host: "mx.pec.example".to_owned(),
        role,
        size_max: 1000,
        recipients_max: 100,
        eight_bit: false,
        utf8: false,
        mechanisms: Mechanism::EVERYWHERE.to_vec(),
        starttls: true,
    };
    Session::new(Arc::new(settings), tls)
}

/// All steps, replies as text.
fn steps(session: &mut Session) -> Vec<String> {
    std::iter::from_fn(|| session.poll())
        .map(|step| match step {
            Step::Send(octets) => String::from_utf8(octets).unwrap(),
            step => format!("{step:?}"),
        })
        .collect()
}

fn say(session: &mut Session, text: &str) -> Vec<String> {
    session.handle_octets(text.as_bytes());
    steps(session)
}

fn reply_to(session: &mut Session, answer: Answer) -> Vec<String> {
    session.answer(answer);
    steps(session)
}

fn line(reply: &Reply) -> String {
    format!("{reply}\r\n")
}

/// Up to the question that `DATA` asks.
fn at_data() -> Session {
    let mut session = session(Role::Transport, false);
    steps(&mut session);
    say(&mut session, "HELO a\r\nMAIL FROM:<x@y.example>\r\n");
    reply_to(&mut session, Answer::Accept);
    say(&mut session, "RCPT TO:<anna@pec.example>\r\n");
    reply_to(&mut session, Answer::Accept);
    assert_eq!(say(&mut session, "DATA\r\n"), ["Ask(Data)"]);
    session
}

#[test]
fn the_greeting_comes_first() {
    let mut session = session(Role::Transport, false);
    assert!(session.wants_octets());
    assert_eq!(steps(&mut session), ["220 mx.pec.example ESMTP ceralacca\r\n"]);
}

#[test]
fn while_a_question_is_open_nothing_is_read() {
    let mut session = session(Role::Transport, false);
    steps(&mut session);
    let asked = say(&mut session, "HELO a\r\nMAIL FROM:<>\r\nNOOP\r\nNOOP\r\n");
    assert_eq!(asked.len(), 2);
    assert!(asked[1].starts_with("Ask(Mail"), "{asked:?}");
    assert!(!session.wants_octets());
    assert_eq!(steps(&mut session), [""; 0]);
    let all = [line(&reply::SENDER_OK), line(&reply::DONE), line(&reply::DONE)].concat();
    assert_eq!(reply_to(&mut session, Answer::Accept), [all]);
    assert!(session.wants_octets());
}

#[test]
fn a_shell_that_reads_on_is_stopped_one_octet_past_the_bound() {
    let max = INPUT_OCTETS_MAX + AUTH_LINE_OCTETS_MAX;
    for (octets, closes) in [(max, false), (max + 1, true)] {
        let mut session = at_data();
        session.handle_octets(&vec![b'a'; octets]);
        assert_eq!(steps(&mut session), [""; 0]);
        let after = reply_to(&mut session, Answer::Accept);
        let too_fast = after.concat().contains("421 4.5.0");
        assert_eq!(too_fast, closes, "{octets}");
    }
}

#[test]
fn replies_are_handed_out_in_bounded_portions() {
    let mut session = session(Role::Transport, false);
    steps(&mut session);
    session.handle_octets("EHLO a\r\n".repeat(8000).as_bytes());
    let (mut sends, mut octets) = (0, 0);
    while let Some(Step::Send(sent)) = session.poll() {
        assert!(sent.len() < OUTPUT_OCTETS_MAX + 512);
        sends += 1;
        octets += sent.len();
    }
    assert_eq!(octets % 8000, 0);
    assert!((2..=octets / OUTPUT_OCTETS_MAX + 1).contains(&sends));
}

#[test]
fn data_that_comes_with_success_is_one_more_challenge() {
    let start = |session: &mut Session| {
        steps(session);
        say(session, "EHLO a\r\n");
        let asked = say(session, "AUTH SCRAM-SHA-256 biws\r\n");
        assert_eq!(
            asked,
            ["Ask(Sasl(Start { mechanism: ScramSha256, initial: Some(\"[redacted]\") }))"]
        );
        let challenge = Answer::Sasl(SaslAnswer::Challenge(b"r=1".into()));
        assert_eq!(reply_to(session, challenge), ["334 cj0x\r\n"]);
        assert_eq!(say(session, "Yz0x\r\n"), ["Ask(Sasl(Response([redacted])))"]);
        let success = Answer::Sasl(SaslAnswer::Success(Some(b"v=1".into())));
        assert_eq!(reply_to(session, success), ["334 dj0x\r\n"]);
        assert!(!session.is_authenticated());
    };
    for (last, authenticated, reply) in [
        ("\r\n", true, reply::AUTHENTICATED),
        ("=\r\n", true, reply::AUTHENTICATED),
        ("*\r\n", false, reply::AUTH_CANCELLED),
        ("AAAA\r\n", false, reply::BAD_BASE64),
    ] {
        let mut session = session(Role::Submission, true);
        start(&mut session);
        let told = say(&mut session, last);
        assert_eq!(told.last(), Some(&line(&reply)), "{last:?}");
        assert_eq!(told[0] == "SaslAbort", !authenticated, "{last:?}");
        assert_eq!(session.is_authenticated(), authenticated, "{last:?}");
    }
}

#[test]
fn timeout_and_shutdown_say_421_and_close() {
    let mut idle = session(Role::Transport, false);
    steps(&mut idle);
    idle.handle_timeout();
    assert_eq!(steps(&mut idle), [line(&reply::IDLE), "Close".to_owned()]);
    assert!(!idle.wants_octets());
    assert_eq!(say(&mut idle, "NOOP\r\n"), [""; 0]);
    idle.handle_shutdown();
    assert_eq!(steps(&mut idle), [""; 0]);
}

#[test]
fn a_stop_inside_content_discards_it() {
    let mut session = at_data();
    assert_eq!(reply_to(&mut session, Answer::Accept), [line(&reply::START_INPUT)]);
    say(&mut session, "half\r\n");
    session.handle_shutdown();
    let expected = [line(&reply::STOPPING), "Discard".to_owned(), "Close".to_owned()];
    assert_eq!(steps(&mut session), expected);
}

#[test]
fn a_message_that_is_being_stored_is_answered_before_a_stop() {
    let mut session = at_data();
    reply_to(&mut session, Answer::Accept);
    assert_eq!(say(&mut session, ".\r\nNOOP\r\n"), ["Ask(EndOfData { octets: 0 })"]);
    session.handle_shutdown();
    assert_eq!(steps(&mut session), [""; 0]);
    let told = reply_to(&mut session, Answer::Accepted { id: "m1".to_owned() });
    let both = format!("250 2.0.0 Accepted as m1\r\n{}", line(&reply::STOPPING));
    assert_eq!(told, [both, "Close".to_owned()]);
}

#[test]
fn a_peer_that_goes_away_leaves_nothing_behind() {
    // Inside content.
    let mut session = at_data();
    reply_to(&mut session, Answer::Accept);
    session.handle_closed();
    assert_eq!(steps(&mut session), ["Discard", "Close"]);
    // While the spool is being opened.
    let mut session = at_data();
    session.handle_closed();
    assert_eq!(steps(&mut session), ["Close"]);
    assert_eq!(reply_to(&mut session, Answer::Accept), ["Discard"]);
    // While the message is being stored: it stays stored, and nobody can be told.
    let mut session = at_data();
    reply_to(&mut session, Answer::Accept);
    say(&mut session, ".\r\n");
    session.handle_closed();
    assert_eq!(steps(&mut session), ["Close"]);
    let stored = Answer::Accepted { id: "m1".to_owned() };
    assert_eq!(reply_to(&mut session, stored), [""; 0]);
}

#[test]
fn an_answer_that_does_not_fit_accepts_nothing() {
    for answer in [
        Answer::Accepted { id: "m1".to_owned() },
        Answer::Sasl(SaslAnswer::Success(None)),
        Answer::Refuse(reply::DONE),
    ] {
        let mut session = at_data();
        assert_eq!(reply_to(&mut session, answer), [line(&reply::LOCAL_ERROR)]);
    }
    let mut session = at_data();
    reply_to(&mut session, Answer::Accept);
    say(&mut session, ".\r\n");
    assert_eq!(reply_to(&mut session, Answer::Accept), [line(&reply::LOCAL_ERROR)]);
    assert_eq!(reply_to(&mut session, Answer::Accept), [""; 0]);
}

#[test]
fn a_refusal_with_421_ends_the_connection() {
    let mut session = at_data();
    let told = reply_to(&mut session, Answer::Refuse(reply::TOO_MANY_CONNECTIONS));
    assert_eq!(told, [line(&reply::TOO_MANY_CONNECTIONS), "Close".to_owned()]);
}

#[test]
fn a_bad_message_without_an_end_is_cut_off() {
    let mut session = at_data();
    reply_to(&mut session, Answer::Accept);
    let octets = vec![b'a'; 1 << 20];
    assert_eq!(say(&mut session, "x".repeat(1001).as_str()), ["Discard"]);
    let mut fed = 1;
    while fed + octets.len() as u64 <= DISCARD_OCTETS_MAX {
        session.handle_octets(&octets);
        assert_eq!(session.poll(), None);
        fed += octets.len() as u64;
    }
    session.handle_octets(&octets);
    assert_eq!(steps(&mut session), [line(&reply::TOO_LARGE), "Close".to_owned()]);
}

#[test]
fn the_word_for_received() {
    let mut session = session(Role::Transport, true);
    steps(&mut session);
    say(&mut session, "HELO a.example\r\n");
    assert_eq!((session.hello(), session.protocol()), (Some("a.example"), "SMTP"));
    say(&mut session, "EHLO b.example\r\n");
    assert_eq!((session.hello(), session.protocol()), (Some("b.example"), "ESMTPS"));
    say(&mut session, "AUTH PLAIN AAAA\r\n");
    reply_to(&mut session, Answer::Sasl(SaslAnswer::Success(None)));
    assert_eq!((session.is_tls(), session.protocol()), (true, "ESMTPSA"));
}

// PEC-AP-01 PEC-GEN-02 PEC-GEN-03 PEC-SEC-01 PEC-SEC-02
#[test]
fn submission_takes_nothing_in_clear_nor_without_auth() {
    let mail = "EHLO a\r\nMAIL FROM:<anna@pec.example>\r\nRCPT TO:<b@pec.example>\r\nDATA\r\n";
    for (tls, refusal) in [
        (false, "530 5.7.0 Must issue a STARTTLS command first"),
        (true, "530 5.7.0 Authentication required: send AUTH first"),
    ] {
        let mut session = session(Role::Submission, tls);
        steps(&mut session);
        let told = say(&mut session, mail).concat();
        let last_three: Vec<_> = told.lines().rev().take(3).collect();
        assert_eq!(last_three, [refusal; 3]);
        assert_eq!(told.contains("250-AUTH "), tls);
    }
    // A password is not even asked for in clear.
    let mut session = session(Role::Submission, false);
    steps(&mut session);
    let told = say(&mut session, "EHLO a\r\nAUTH PLAIN AAAA\r\n").concat();
    assert!(told.ends_with("538 5.7.11 Encryption required: send STARTTLS before AUTH\r\n"));
    assert!(!told.contains("250-AUTH") && !told.contains("250 AUTH"));
}

// PEC-AP-17
#[test]
fn what_is_too_large_is_refused_in_the_dialogue() {
    let mut session = session(Role::Transport, true);
    steps(&mut session);
    let told = say(&mut session, "EHLO a\r\nMAIL FROM:<x@y.example> SIZE=1001\r\n").concat();
    assert!(told.contains("250-SIZE 1000\r\n"), "{told}");
    assert!(told.ends_with(&line(&reply::TOO_LARGE)), "{told}");
    // And so is what turns out larger than announced.
    let mut session = at_data();
    reply_to(&mut session, Answer::Accept);
    let content = format!("{}\r\n.\r\n", "x".repeat(999));
    assert_eq!(say(&mut session, &content), ["Discard".to_owned(), line(&reply::TOO_LARGE)]);
}

// PEC-PR-29
#[test]
fn the_incoming_point_offers_starttls_and_takes_mail_without_it_too() {
    for tls in [false, true] {
        let mut session = session(Role::Transport, tls);
        steps(&mut session);
        let told = say(&mut session, "EHLO a\r\n").concat();
        assert_eq!(told.contains("STARTTLS"), !tls);
        let asked = say(&mut session, "MAIL FROM:<x@y.example>\r\n");
        assert!(asked[0].starts_with("Ask(Mail"), "{asked:?}");
    }
}

#[test]
fn nothing_is_said_inside_a_handshake() {
    let mut session = session(Role::Transport, false);
    steps(&mut session);
    say(&mut session, "STARTTLS\r\n");
    session.handle_timeout();
    assert_eq!(steps(&mut session), ["Close"]);
}
