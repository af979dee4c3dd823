//! Any octets as one client's conversation. However they are cut, the same is asked and answered;
//! no message ends without a sender, a recipient and its content in the same transaction.
//!
//! The first octet chooses the listener, the second where the octets are cut, and the third which
//! questions are answered with no.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use smtp::{
    Answer, Mechanism, Question, Role, SaslAnswer, SaslStep, Session, Settings, Step, reply,
};

const SIZE_MAX: u64 = 64;
const RECIPIENTS_MAX: usize = 4;

fuzz_target!(|octets: &[u8]| {
    let [choice, cut, no, stream @ ..] = octets else { return };
    let whole = play(*choice, *no, stream, usize::MAX);
    let cut = play(*choice, *no, stream, usize::from(*cut) + 1);
    assert_eq!(whole, cut);
});

#[derive(Debug, Default, PartialEq)]
struct Seen {
    sent: Vec<u8>,
    asked: Vec<Question>,
    messages: Vec<Vec<u8>>,
    closed: bool,
    // What the transaction is made of.
    authenticated: bool,
    mail: bool,
    recipients: usize,
    spool: Option<Vec<u8>>,
}

fn play(choice: u8, no: u8, stream: &[u8], segment_max: usize) -> Seen {
    let role = if choice & 1 == 0 { Role::Transport } else { Role::Submission };
    // With TLS up from the start: what follows STARTTLS depends on segments, as it should.
    let settings = Settings {
        host: "mx.pec.example".to_owned(),
        role,
        size_max: SIZE_MAX,
        recipients_max: RECIPIENTS_MAX,
        eight_bit: choice & 4 == 0,
        utf8: choice & 8 == 0,
        mechanisms: Mechanism::ALL.to_vec(),
        starttls: choice & 2 == 0,
    };
    let mut session = Session::new(Arc::new(settings), true);
    let mut seen = Seen::default();
    drain(&mut session, &mut seen, role, no);
    for segment in stream.chunks(segment_max.min(smtp::server::INPUT_OCTETS_MAX)) {
        assert!(seen.closed || session.wants_octets());
        session.handle_octets(segment);
        drain(&mut session, &mut seen, role, no);
    }
    session.handle_closed();
    drain(&mut session, &mut seen, role, no);
    assert!(seen.closed && seen.spool.is_none());
    for line in seen.sent.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("a whole line");
        assert!(text.len() >= 4 && text.iter().all(|octet| matches!(octet, b' '..=b'~')));
    }
    seen
}

fn drain(session: &mut Session, seen: &mut Seen, role: Role, no: u8) {
    while let Some(step) = session.poll() {
        assert!(!seen.closed);
        match step {
            Step::Send(octets) => seen.sent.extend(octets),
            Step::Content(octets) => seen.spool.as_mut().expect("a spool").extend(octets),
            Step::Discard => {
                seen.spool.take().expect("a spool");
                (seen.mail, seen.recipients) = (false, 0);
            }
            Step::SaslAbort => seen.authenticated = false,
            Step::StartTls => panic!("TLS is up"),
            Step::Close => seen.closed = true,
            Step::Ask(question) => {
                let refuse = no.rotate_left(seen.asked.len() as u32) & 1 == 1;
                seen.asked.push(question.clone());
                let answer = answer(seen, question, role, refuse);
                session.answer(answer);
            }
        }
    }
}

fn answer(seen: &mut Seen, question: Question, role: Role, refuse: bool) -> Answer {
    if !matches!(question, Question::Sasl(_)) {
        assert!(role == Role::Transport || seen.authenticated);
    }
    match question {
        Question::Sasl(step) => {
            assert!(!seen.authenticated);
            Answer::Sasl(match step {
                _ if refuse => SaslAnswer::Failure(reply::AUTH_FAILED),
                SaslStep::Start { initial: None, .. } => SaslAnswer::Challenge(b"who?".to_vec()),
                SaslStep::Start { mechanism: Mechanism::ScramSha256, .. } => {
                    seen.authenticated = true;
                    SaslAnswer::Success(Some(b"v=1".to_vec()))
                }
                _ => {
                    seen.authenticated = true;
                    SaslAnswer::Success(None)
                }
            })
        }
        Question::EndOfData { octets } => {
            let content = seen.spool.take().expect("a spool");
            assert!(seen.mail && (1..=RECIPIENTS_MAX).contains(&seen.recipients));
            assert!(octets == content.len() as u64 && octets <= SIZE_MAX);
            // Only a message that came in chunks may end without a CRLF.
            let lines = content.split_inclusive(|octet| *octet == b'\n');
            for line in lines {
                let text = line.strip_suffix(b"\r\n").unwrap_or(line);
                assert!(!text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
            }
            (seen.mail, seen.recipients) = (false, 0);
            if refuse {
                return Answer::Refuse(reply::MALFORMED);
            }
            seen.messages.push(content);
            Answer::Accepted { id: "m".to_owned() }
        }
        _ if refuse => Answer::Refuse(reply::LOCAL_ERROR),
        Question::Mail { options, .. } => {
            assert!(options.size.is_none_or(|size| size <= SIZE_MAX));
            // RSET and its like are not told: a new transaction begins here.
            (seen.mail, seen.recipients) = (true, 0);
            Answer::Accept
        }
        Question::Recipient { .. } => {
            assert!(seen.mail);
            seen.recipients += 1;
            Answer::Accept
        }
        Question::Data => {
            assert!(seen.mail && seen.recipients > 0);
            assert!(seen.spool.replace(Vec::new()).is_none());
            Answer::Accept
        }
    }
}
