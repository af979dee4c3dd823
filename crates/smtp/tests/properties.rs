//! What holds for every conversation: segments do not matter, and a transaction is what a model
//! of three fields says that it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::sync::Arc;

use common::{Shell, settings};
use mail::ReversePath;
use proptest::prelude::*;
use smtp::{Answer, Question, Reply, Role, SaslAnswer, Session, Step, reply};

/// Pieces of conversations, good and bad, as octets.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed: Vec<&[u8]> = vec![
        b"EHLO a.example\r\n",
        b"HELO a.example\r\n",
        b"AUTH PLAIN AGFubmFAcGVjLmV4YW1wbGUAc2VncmV0bw==\r\n",
        b"AUTH LOGIN\r\n",
        b"YW5uYUBwZWMuZXhhbXBsZQ==\r\n",
        b"c2VncmV0bw==\r\n",
        b"*\r\n",
        b"MAIL FROM:<anna@pec.example>\r\n",
        b"MAIL FROM:<x@relay.example> SIZE=10\r\n",
        b"RCPT TO:<bruno@pec.example>\r\n",
        b"RCPT TO:<nessuno@pec.example>\r\n",
        b"DATA\r\n",
        b"DATA\r\ntext\r\n.\r\n",
        b"DATA\r\n..\r\n.x\r\n\r\n.\r\n",
        b"text\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"bare\n.\n\r.\r\0",
        b"BDAT 4\r\nab\r\n",
        b"BDAT 1\r\n\r",
        b"BDAT 1 LAST\r\n\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 3 LAST\r\na\nb",
        b"BDAT 21\r\nMAIL FROM:<a@b.c>\r\n\r\n",
        b"BDAT x\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"VRFY x\r\n",
        b"FOO\r\n",
        b"\r\n",
    ];
    prop_oneof![
        8 => proptest::sample::select(fixed).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (500usize..600).prop_map(|count| [vec![b'a'; count], b"\r\n".to_vec()].concat()),
    ]
}

fn run(role: Role, stream: &[u8], cuts: &[usize]) -> Shell {
    let mut limits = settings(role);
    limits.size_max = 20;
    let mut shell = Shell::new(limits, true);
    let mut cuts = cuts.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let (segment, after) = rest.split_at(cuts.next().unwrap_or(usize::MAX).min(rest.len()));
        shell.feed(segment);
        rest = after;
    }
    shell
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn segments_do_not_matter(
        pieces in proptest::collection::vec(piece(), 0..60),
        cuts in proptest::collection::vec(1usize..40, 1..20),
        submission in any::<bool>(),
    ) {
        let role = if submission { Role::Submission } else { Role::Transport };
        let stream = pieces.concat();
        let (mut whole, mut cut) = (run(role, &stream, &[]), run(role, &stream, &cuts));
        prop_assert_eq!(whole.take_sent(), cut.take_sent());
        prop_assert_eq!(&whole.asked, &cut.asked);
        prop_assert_eq!(&whole.accepted, &cut.accepted);
        prop_assert_eq!(
            (whole.closed, whole.discards, whole.sasl_aborts),
            (cut.closed, cut.discards, cut.sasl_aborts)
        );
    }

    #[test]
    fn a_transaction_is_what_the_model_says(
        moves in proptest::collection::vec((any_move(), any::<bool>()), 0..60),
        submission in any::<bool>(),
    ) {
        let role = if submission { Role::Submission } else { Role::Transport };
        let mut model = Model { submission, ..Model::default() };
        let mut limits = settings(role);
        limits.recipients_max = 3;
        limits.size_max = 100;
        let mut session = Session::new(Arc::new(limits), true);
        let mut yes = true;
        answer_all(&mut session, yes);
        for (one, answer) in moves {
            yes = answer;
            session.handle_octets(one.octets());
            prop_assert_eq!(answer_all(&mut session, yes), model.expect(one, yes), "{:?}", one);
            if let Some(content) = model.content.take() {
                session.handle_octets(content.content());
                let expected = model.expect_end(content, yes);
                prop_assert_eq!(answer_all(&mut session, yes), expected, "{:?}", one);
            }
            if model.over() {
                prop_assert!(!session.wants_octets());
                break;
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Ehlo,
    Helo,
    Auth,
    Mail,
    BadMail,
    LargeMail,
    Rcpt,
    BadRcpt,
    /// DATA, and content when 354 comes: good, with a bare LF, and too large.
    Data,
    BareData,
    LargeData,
    Rset,
    Noop,
    Vrfy,
    Unknown,
}

fn any_move() -> impl Strategy<Value = Move> {
    use Move::{
        Auth, BadMail, BadRcpt, BareData, Data, Ehlo, Helo, LargeData, LargeMail, Mail, Noop, Rcpt,
        Rset, Unknown, Vrfy,
    };
    prop_oneof![
        1 => Just(Ehlo), 1 => Just(Helo), 2 => Just(Auth), 6 => Just(Mail), 1 => Just(BadMail),
        1 => Just(LargeMail), 8 => Just(Rcpt), 1 => Just(BadRcpt), 5 => Just(Data),
        2 => Just(BareData), 2 => Just(LargeData), 1 => Just(Rset), 1 => Just(Noop),
        1 => Just(Vrfy), 1 => Just(Unknown),
    ]
}

impl Move {
    fn octets(self) -> &'static [u8] {
        match self {
            Self::Ehlo => b"EHLO a.example\r\n",
            Self::Helo => b"HELO a.example\r\n",
            Self::Auth => b"AUTH PLAIN AAAA\r\n",
            Self::Mail => b"MAIL FROM:<a@b.example>\r\n",
            Self::BadMail => b"MAIL FROM:<a>\r\n",
            Self::LargeMail => b"MAIL FROM:<a@b.example> SIZE=101\r\n",
            Self::Rcpt => b"RCPT TO:<a@b.example>\r\n",
            Self::BadRcpt => b"RCPT TO:<a>\r\n",
            Self::Data | Self::BareData | Self::LargeData => b"DATA\r\n",
            Self::Rset => b"RSET\r\n",
            Self::Noop => b"NOOP\r\n",
            Self::Vrfy => b"VRFY a\r\n",
            Self::Unknown => b"FOO\r\n",
        }
    }
}

impl Move {
    fn content(self) -> &'static [u8] {
        match self {
            Self::BareData => b"bare\nline\r\n.\r\n",
            // 104 octets with its CRLFs, where 100 are allowed.
            Self::LargeData => concat!(
                "0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
                "012345678901234567890123456789\r\n.\r\n"
            )
            .as_bytes(),
            _ => b"text\r\n.\r\n",
        }
    }
}

fn kind(question: &Question) -> &'static str {
    match question {
        Question::Sasl(_) => "sasl",
        Question::Mail { path: ReversePath::Null, .. } => "null",
        Question::Mail { .. } => "mail",
        Question::Recipient { .. } => "rcpt",
        Question::Data => "data",
        Question::EndOfData { .. } => "end",
    }
}

/// Answers every question with yes or no; the codes that were sent, and the questions asked.
fn answer_all(session: &mut Session, yes: bool) -> (Vec<String>, Vec<&'static str>) {
    let (mut sent, mut asked) = (Vec::new(), Vec::new());
    while let Some(step) = session.poll() {
        match step {
            Step::Send(octets) => sent.extend(octets),
            Step::Ask(question) => {
                let answer = match &question {
                    Question::Sasl(_) if yes => Answer::Sasl(SaslAnswer::Success(None)),
                    Question::Sasl(_) => Answer::Sasl(SaslAnswer::Failure(reply::AUTH_FAILED)),
                    Question::EndOfData { .. } if yes => Answer::Accepted { id: "m".to_owned() },
                    _ if yes => Answer::Accept,
                    _ => Answer::Refuse(NO),
                };
                asked.push(kind(&question));
                session.answer(answer);
            }
            _ => {}
        }
    }
    let sent = String::from_utf8(sent).unwrap();
    let last_lines = sent.lines().filter(|line| line.as_bytes()[3] == b' ');
    (last_lines.map(|line| line[..3].to_owned()).collect(), asked)
}

const NO: Reply = reply::LOCAL_ERROR;

/// What decides about each command, as simple as it can be said.
#[derive(Default)]
struct Model {
    submission: bool,
    hello: bool,
    authenticated: bool,
    mail: bool,
    recipients: usize,
    errors: usize,
    failed_logins: usize,
    /// A message had other line ends than CRLF.
    bare: bool,
    content: Option<Move>,
}

impl Model {
    fn over(&self) -> bool {
        self.errors >= smtp::server::ERRORS_MAX
            || self.failed_logins >= smtp::server::LOGINS_MAX
            || self.bare
    }

    fn forget(&mut self) {
        self.mail = false;
        self.recipients = 0;
    }

    /// The codes that are to come, and the questions before them.
    fn expect(&mut self, one: Move, yes: bool) -> (Vec<String>, Vec<&'static str>) {
        let shut = self.submission && !self.authenticated;
        let mut bad = false;
        let (code, question) = match one {
            Move::Ehlo | Move::Helo => {
                self.forget();
                self.hello = true;
                ("250", None)
            }
            Move::Rset => {
                self.forget();
                ("250", None)
            }
            Move::Noop => ("250", None),
            Move::Vrfy if !shut => ("252", None),
            Move::Auth if self.authenticated || self.mail || !self.hello => {
                bad = true;
                ("503", None)
            }
            Move::Auth => {
                self.authenticated = yes;
                self.failed_logins += usize::from(!yes);
                (if yes { "235" } else { "535" }, Some("sasl"))
            }
            Move::Unknown => {
                bad = true;
                ("500", None)
            }
            Move::BadMail | Move::BadRcpt => {
                bad = true;
                ("501", None)
            }
            _ if shut => {
                bad = true;
                ("530", None)
            }
            Move::Mail | Move::LargeMail if !self.hello || self.mail => {
                bad = true;
                ("503", None)
            }
            Move::LargeMail => ("552", None),
            Move::Mail => {
                self.mail = yes;
                (if yes { "250" } else { "451" }, Some("mail"))
            }
            Move::Rcpt if !self.mail => ("503", None),
            Move::Rcpt if self.recipients == 3 => ("452", None),
            Move::Rcpt => {
                self.recipients += usize::from(yes);
                (if yes { "250" } else { "451" }, Some("rcpt"))
            }
            _ if !self.mail => ("503", None),
            _ if self.recipients == 0 => ("554", None),
            _ => {
                self.content = yes.then_some(one);
                (if yes { "354" } else { "451" }, Some("data"))
            }
        };
        self.errors += usize::from(bad);
        let mut codes = vec![code.to_owned()];
        if self.over() {
            codes.push("421".to_owned());
        }
        (codes, question.into_iter().collect())
    }

    /// However it ends, the transaction is over.
    fn expect_end(&mut self, content: Move, yes: bool) -> (Vec<String>, Vec<&'static str>) {
        self.forget();
        let (code, questions) = match content {
            Move::BareData => {
                self.bare = true;
                return (vec!["550".to_owned(), "421".to_owned()], vec![]);
            }
            Move::LargeData => ("552", vec![]),
            _ if yes => ("250", vec!["end"]),
            _ => ("451", vec!["end"]),
        };
        (vec![code.to_owned()], questions)
    }
}
