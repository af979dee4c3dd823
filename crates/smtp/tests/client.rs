//! The sending machine's conversations: what it says to which answers, and what it makes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use mail::{Address, ReversePath};
use proptest::prelude::*;
use smtp::client::{Command, Fate, Fault, TlsUse, Verdict, Why, wait};
use smtp::{Client, ClientSettings, ClientStep, Outgoing};

const HELLO: &str = "250-mx.b.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 CHUNKING\r\n";

fn outgoing(recipients: &[&str]) -> Outgoing {
    Outgoing {
        reverse_path: ReversePath::Address(Address::parse("mario@a.example").unwrap()),
        recipients: recipients
            .iter()
            .map(|text| (Address::parse(text).unwrap(), " NOTIFY=NEVER".to_owned()))
            .collect(),
        octets: 9,
        eight_bit: false,
        require_tls: false,
        parameters: String::new(),
    }
}

/// A client and what it said.
struct Talk {
    client: Client,
}

impl Talk {
    fn new(tls: TlsUse) -> Self {
        Self { client: Client::new(ClientSettings { host: "mx.a.example".to_owned(), tls }) }
    }

    /// After EHLO was answered so.
    fn ready(hello: &str) -> Self {
        let mut talk = Self::new(TlsUse::Never);
        assert_eq!(talk.hear("220 mx.b.example\r\n"), ["C: EHLO mx.a.example"]);
        assert_eq!(talk.hear(hello), ["Ready"]);
        talk
    }

    /// What the client does now: lines, and steps by their names.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(step) = self.client.poll() {
            match step {
                ClientStep::Send(octets) => {
                    let text = String::from_utf8(octets).unwrap();
                    told.extend(text.split_terminator("\r\n").map(|line| format!("C: {line}")));
                }
                ClientStep::Done(verdicts) => {
                    told.extend(verdicts.iter().map(|v| format!("{:?} {}", v.fate, v.why)));
                }
                ClientStep::Failed(why) => told.push(format!("over: {why}")),
                other => told.push(format!("{other:?}")),
            }
        }
        told
    }

    fn hear(&mut self, text: &str) -> Vec<String> {
        self.client.handle_octets(text.as_bytes());
        self.told()
    }

    fn send(&mut self, message: Outgoing) -> Vec<String> {
        self.client.send(message);
        self.told()
    }

    fn content(&mut self, text: &str, last: bool) -> Vec<String> {
        self.client.content(text.into(), last);
        self.told()
    }
}

/// By this the shell knows that it waits for the same reply still, however it comes.
#[test]
fn a_reply_counts_when_it_is_whole() {
    let mut talk = Talk::ready("250 mx.b.example\r\n");
    let before = talk.client.replies();
    talk.send(outgoing(&["b@b.example"]));
    for part in ["2", "50-a\r\n", "250-b\r\n250", " c\r"] {
        talk.hear(part);
        assert_eq!(talk.client.replies(), before, "{part:?}");
    }
    talk.hear("\n");
    assert_eq!(talk.client.replies(), before + 1);
}

#[test]
fn a_message_goes_with_data_where_nothing_is_offered() {
    let mut talk = Talk::ready("250 mx.b.example\r\n");
    assert_eq!(
        talk.send(outgoing(&["b@b.example", "c@b.example"])),
        ["C: MAIL FROM:<mario@a.example>"]
    );
    assert_eq!(talk.client.patience(), wait::MAIL);
    assert_eq!(talk.hear("250 ok\r\n"), ["C: RCPT TO:<b@b.example>"]);
    assert_eq!(talk.client.patience(), wait::RCPT);
    assert_eq!(talk.hear("550 5.1.1 nobody\r\n"), ["C: RCPT TO:<c@b.example>"]);
    assert_eq!(talk.hear("250 ok\r\n"), ["C: DATA"]);
    assert_eq!(talk.client.patience(), wait::DATA);
    assert_eq!(talk.hear("354 go\r\n"), ["Content"]);
    assert_eq!(talk.client.patience(), wait::BLOCK);
    assert_eq!(talk.content(".hi", false), ["C: ..hi", "Content"]);
    assert_eq!(talk.content("\r\n.\r\n", true), ["C: ", "C: ..", "C: ."]);
    assert_eq!(talk.client.patience(), wait::END);
    assert_eq!(
        talk.hear("250 2.0.0 taken as 7\r\n"),
        [
            "Failed to RCPT: 550 5.1.1 nobody",
            "Delivered to the end of data: 250 2.0.0 taken as 7",
            "Ready"
        ]
    );
    talk.client.quit();
    assert_eq!(talk.told(), ["C: QUIT"]);
    assert_eq!(talk.hear("221 bye\r\n"), ["Close"]);
}

// RFC 2920 §3.1, RFC 3030 §2
#[test]
fn commands_go_together_and_content_in_chunks_where_that_is_offered() {
    let mut talk = Talk::ready(HELLO);
    let recipients = ["b@b.example", "c@b.example"];
    let commands = [
        "C: MAIL FROM:<mario@a.example> SIZE=9",
        "C: RCPT TO:<b@b.example>",
        "C: RCPT TO:<c@b.example>",
    ];
    assert_eq!(talk.send(outgoing(&recipients)), commands);
    assert_eq!(talk.hear("250 ok\r\n250 ok\r\n450 later\r\n"), ["Content"]);
    assert_eq!(talk.content(".a\r\n", false), ["C: BDAT 4", "C: .a"]);
    assert_eq!(talk.hear("250 4 octets\r\n"), ["Content"]);
    assert_eq!(talk.content("b\r\n", true), ["C: BDAT 3 LAST", "C: b"]);
    let done = ["Delivered to the end of data: 250 done", "Deferred to RCPT: 450 later", "Ready"];
    assert_eq!(talk.hear("250 done\r\n"), done);
    // The connection is used again.
    assert!(talk.client.takes_another());
    assert_eq!(talk.send(outgoing(&recipients)), commands);
    assert_eq!(talk.hear("250 ok\r\n250 ok\r\n250 ok\r\n"), ["Content"]);
    assert_eq!(talk.content("a\r\n", false), ["C: BDAT 3", "C: a"]);
    let refused = ["Deferred to DATA: 452 full", "Deferred to DATA: 452 full", "C: RSET"];
    assert_eq!(talk.hear("452 full\r\n"), refused);
    assert_eq!(talk.hear("250 ok\r\n"), ["Ready"]);
}

#[test]
fn a_refusal_at_each_step_has_its_meaning() {
    let deferred = "Deferred to ";
    let failed = "Failed to ";
    for (answers, expected) in [
        (&["452 x\r\n503 y\r\n"][..], format!("{deferred}MAIL: 452 x")),
        (&["550 x\r\n503 y\r\n"], format!("{failed}MAIL: 550 x")),
        (&["250 ok\r\n450 x\r\n"], format!("{deferred}RCPT: 450 x")),
        (&["250 ok\r\n550 x\r\n"], format!("{failed}RCPT: 550 x")),
        // RFC 5321 §4.5.3.1.10
        (&["250 ok\r\n552 x\r\n"], format!("{deferred}RCPT: 552 x")),
        (&["250 ok\r\n250 ok\r\n", "451 x\r\n"], format!("{deferred}DATA: 451 x")),
        (&["250 ok\r\n250 ok\r\n", "554 x\r\n"], format!("{failed}DATA: 554 x")),
        (&["250 ok\r\n250 ok\r\n", "250 x\r\n"], format!("{deferred}DATA: 250 x")),
    ] {
        let mut talk = Talk::ready("250-mx.b.example\r\n250 PIPELINING\r\n");
        talk.send(outgoing(&["b@b.example"]));
        let mut told = Vec::new();
        for answer in answers {
            told = talk.hear(answer);
        }
        assert_eq!(told, [expected.as_str(), "C: RSET"], "{answers:?}");
        assert!(!talk.client.takes_another());
        assert_eq!(talk.hear("250 ok\r\n"), ["Ready"]);
    }
    for (answer, expected) in [
        ("250 x\r\n", "Delivered to the end of data: 250 x"),
        ("451 x\r\n", "Deferred to the end of data: 451 x"),
        ("554 x\r\n", "Failed to the end of data: 554 x"),
        ("354 x\r\n", "Deferred to the end of data: 354 x"),
    ] {
        let mut talk = Talk::ready("250-mx.b.example\r\n250 CHUNKING\r\n");
        talk.send(outgoing(&["b@b.example"]));
        talk.hear("250 ok\r\n");
        talk.hear("250 ok\r\n");
        talk.content("a\r\n", true);
        assert_eq!(talk.hear(answer), [expected, "Ready"]);
    }
}

// RFC 5321 §3.8
#[test]
fn a_peer_that_goes_away_is_left_and_nothing_is_taken_for_delivered() {
    for (answers, fault) in [
        (&["250 ok\r\n"][..], Fault::Lost),
        (&["250 ok\r\n", "250 ok\r\n"], Fault::Lost),
        (&["250 ok\r\n", "250 ok\r\n", "content"], Fault::InDoubt),
    ] {
        let mut talk = Talk::ready("250-mx.b.example\r\n250 CHUNKING\r\n");
        talk.send(outgoing(&["b@b.example"]));
        for answer in answers {
            match *answer {
                "content" => talk.content("a\r\n", true),
                answer => talk.hear(answer),
            };
        }
        talk.client.handle_closed();
        assert_eq!(
            talk.told(),
            [format!("Deferred {fault}"), format!("over: {fault}"), "Close".to_owned()]
        );
        assert!(talk.hear("250 ok\r\n").is_empty());
        talk.client.handle_closed();
        assert!(talk.told().is_empty());
    }
    let mut talk = Talk::ready(HELLO);
    talk.send(outgoing(&["b@b.example"]));
    assert_eq!(
        talk.hear("421 4.3.2 going down\r\n"),
        ["Deferred to MAIL: 421 4.3.2 going down", "over: to MAIL: 421 4.3.2 going down", "Close"]
    );
    let mut talk = Talk::ready(HELLO);
    assert_eq!(talk.hear("250 ok\r\n"), ["over: the peer answered what it was not asked", "Close"]);
    let mut talk = Talk::new(TlsUse::Never);
    talk.client.handle_timeout();
    assert_eq!(talk.told(), ["over: no answer to the connection in time", "Close"]);
}

#[test]
fn a_greeting_that_says_no_ends_it_and_helo_is_said_to_who_does_not_know_ehlo() {
    let mut talk = Talk::new(TlsUse::IfOffered);
    assert_eq!(
        talk.hear("554 no mail here\r\n"),
        ["over: to the connection: 554 no mail here", "Close"]
    );
    let mut talk = Talk::new(TlsUse::IfOffered);
    talk.hear("220 mx.b.example\r\n");
    assert_eq!(talk.hear("502 what?\r\n"), ["C: HELO mx.a.example"]);
    assert_eq!(talk.hear("250 mx.b.example\r\n"), ["Ready"]);
    let mut talk = Talk::new(TlsUse::IfOffered);
    talk.hear("220 mx.b.example\r\n");
    assert_eq!(talk.hear("450 later\r\n"), ["over: to EHLO: 450 later", "Close"]);
    let mut talk = Talk::new(TlsUse::IfOffered);
    talk.hear("220 mx.b.example\r\n");
    let ourselves = ["over: the way leads back to ourselves", "Close"];
    assert_eq!(talk.hear("250 MX.a.example hello\r\n"), ourselves);
}

// PEC-BT-13, RFC 3207 §4.2 and §6
#[test]
fn what_was_said_in_clear_does_not_count_after_starttls() {
    let mut talk = Talk::new(TlsUse::Required);
    talk.hear("220 mx.b.example\r\n");
    assert_eq!(talk.hear("250-mx.b.example\r\n250-DSN\r\n250 STARTTLS\r\n"), ["C: STARTTLS"]);
    // Whoever sits between says more in the same breath: it is dropped.
    let answer = "220 go\r\n250-evil.example\r\n250 CHUNKING\r\n";
    assert_eq!(talk.hear(answer), ["StartTls"]);
    assert!(talk.hear("250 more\r\n").is_empty());
    talk.client.handle_tls_started();
    assert_eq!(talk.told(), ["C: EHLO mx.a.example"]);
    assert_eq!(talk.hear("250-mx.b.example\r\n250 PIPELINING\r\n"), ["Ready"]);
    let extensions = talk.client.extensions();
    assert!(extensions.pipelining && !extensions.dsn && !extensions.chunking);
}

// PEC-BT-13
#[test]
fn where_tls_is_required_nothing_is_sent_without() {
    let mut talk = Talk::new(TlsUse::Required);
    talk.hear("220 mx.b.example\r\n");
    let over = ["over: the peer does not offer STARTTLS, which is required", "Close"];
    assert_eq!(talk.hear("250 mx.b.example\r\n"), over);
    let offered = "250-mx.b.example\r\n250 STARTTLS\r\n";
    let mut talk = Talk::new(TlsUse::Required);
    talk.hear("220 mx.b.example\r\n");
    talk.hear(offered);
    assert_eq!(talk.hear("454 not now\r\n"), ["over: to STARTTLS: 454 not now", "Close"]);
    let mut talk = Talk::new(TlsUse::IfOffered);
    talk.hear("220 mx.b.example\r\n");
    talk.hear(offered);
    assert_eq!(talk.hear("454 not now\r\n"), ["Ready"]);
}

#[test]
fn what_the_peer_cannot_take_is_not_tried() {
    let mut talk =
        Talk::ready("250-mx.b.example\r\n250-SIZE 8\r\n250 LIMITS RCPTMAX=3 MAILMAX=1\r\n");
    assert_eq!(talk.client.recipients_max(), 3);
    let too_large = ["Failed the message is larger than the peer takes", "Ready"];
    assert_eq!(talk.send(outgoing(&["b@b.example"])), too_large);
    let small = Outgoing { octets: 8, ..outgoing(&["b@b.example"]) };
    let eight = Outgoing { eight_bit: true, ..small.clone() };
    assert_eq!(talk.send(eight), ["Failed the peer does not take 8-bit content", "Ready"]);
    let tls = Outgoing { require_tls: true, ..small.clone() };
    let no_tls = "Failed 5.7.30 the peer does not offer REQUIRETLS, which the message asks for";
    assert_eq!(talk.send(tls), [no_tls, "Ready"]);
    assert!(talk.client.takes_another());
    assert_eq!(talk.send(small), ["C: MAIL FROM:<mario@a.example> SIZE=8"]);
    talk.hear("550 no\r\n");
    assert_eq!(talk.hear("250 ok\r\n"), ["Ready"]);
    assert!(!talk.client.takes_another());
}

#[test]
fn parameters_are_passed_where_they_are_offered() {
    let message = Outgoing {
        reverse_path: ReversePath::Null,
        eight_bit: true,
        parameters: " RET=HDRS ENVID=a+3Db".to_owned(),
        ..outgoing(&["b@b.example"])
    };
    let mut talk = Talk::ready("250-mx.b.example\r\n250-8BITMIME\r\n250 DSN\r\n");
    let mail = "C: MAIL FROM:<> BODY=8BITMIME RET=HDRS ENVID=a+3Db";
    assert_eq!(talk.send(message), [mail]);
    assert_eq!(talk.hear("250 ok\r\n"), ["C: RCPT TO:<b@b.example> NOTIFY=NEVER"]);
}

#[test]
fn content_with_a_bare_line_end_is_never_finished() {
    let mut talk = Talk::ready("250 mx.b.example\r\n");
    talk.send(outgoing(&["b@b.example"]));
    talk.hear("250 ok\r\n");
    talk.hear("250 ok\r\n");
    talk.hear("354 go\r\n");
    let bare = "the message has a bare CR or LF and cannot be sent";
    assert_eq!(
        talk.content("a\n.\r\n", true),
        [format!("Failed {bare}"), format!("over: {bare}"), "Close".to_owned()]
    );
}

#[test]
fn an_answer_to_half_a_message_is_believed_when_it_says_no() {
    let begun = || {
        let mut talk = Talk::ready("250 mx.b.example\r\n");
        talk.send(outgoing(&["b@b.example"]));
        talk.hear("250 ok\r\n");
        talk.hear("250 ok\r\n");
        talk.hear("354 go\r\n");
        talk.content("a\r\n", false);
        talk
    };
    assert_eq!(
        begun().hear("552 5.3.4 too long\r\n"),
        ["Failed to DATA: 552 5.3.4 too long", "over: to DATA: 552 5.3.4 too long", "Close"]
    );
    let unasked = "the peer answered what it was not asked";
    assert_eq!(
        begun().hear("250 thanks\r\n"),
        [format!("Deferred {unasked}"), format!("over: {unasked}"), "Close".to_owned()]
    );
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let code = proptest::sample::select(&[220u16, 221, 250, 354, 421, 450, 451, 500, 550, 552][..]);
    prop_oneof![
        8 => code.prop_map(|code| format!("{code} x\r\n").into_bytes()),
        2 => Just(HELLO.as_bytes().to_vec()),
        1 => Just(b"250-a\r\n250 STARTTLS\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    // Whatever is answered, and however it is cut: each message that was begun ends once, with a
    // verdict for each recipient, and is delivered only when its whole content was said yes to.
    #[test]
    fn every_message_has_one_end(
        answers in proptest::collection::vec(answer(), 0..40),
        size in 1usize..30,
        tls in prop_oneof![Just(TlsUse::Required), Just(TlsUse::IfOffered), Just(TlsUse::Never)],
    ) {
        let mut client = Client::new(ClientSettings { host: "a.example".to_owned(), tls });
        let (mut begun, mut ended, mut over, mut whole) = (0, 0, false, false);
        let stream = answers.concat();
        let mut pieces = stream.chunks(size);
        loop {
            while let Some(step) = client.poll() {
                match step {
                    ClientStep::Ready => {
                        prop_assert_eq!(begun, ended);
                        begun += 1;
                        whole = false;
                        client.send(outgoing(&["b@b.example", "c@b.example"]));
                    }
                    ClientStep::Content => {
                        whole = true;
                        client.content(b"a\r\n.b\r\n".to_vec(), true);
                    }
                    ClientStep::Done(verdicts) => {
                        ended += 1;
                        prop_assert_eq!(verdicts.len(), 2);
                        for Verdict { fate, why } in verdicts {
                            let yes = matches!(
                                &why, Why::Replied(Command::End, reply) if reply.is_positive()
                            );
                            prop_assert_eq!(fate == Fate::Delivered, yes && whole);
                        }
                    }
                    ClientStep::StartTls => client.handle_tls_started(),
                    ClientStep::Failed(_) => prop_assert!(!std::mem::replace(&mut over, true)),
                    ClientStep::Send(_) | ClientStep::Close => {}
                }
            }
            match pieces.next() {
                Some(piece) => client.handle_octets(piece),
                None if over || begun == ended && client.patience() == wait::QUIT => break,
                None => client.handle_closed(),
            }
        }
        prop_assert_eq!(begun, ended);
    }
}
