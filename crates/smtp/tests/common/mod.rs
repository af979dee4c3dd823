//! A shell around a session, small enough to be believed: who may do what is a table in memory.

#![allow(dead_code, reason = "each test program uses its own part of it")]
#![allow(clippy::expect_used, reason = "a broken promise of the session fails the test")]

use std::sync::Arc;

use mail::{ForwardPath, ReversePath};
use smtp::{
    Answer, Mechanism, Question, Role, SaslAnswer, SaslStep, Session, Settings, Step, reply,
};

/// The one domain that is ours. Of its addresses `nessuno` does not exist, and `sospeso` is
/// suspended.
pub(crate) const DOMAIN: &str = "pec.example";
/// The one account that can log in: by this name, with this password.
pub(crate) const ACCOUNT: &str = "anna@pec.example";
pub(crate) const PASSWORD: &str = "segreto";

pub(crate) fn settings(role: Role) -> Settings {
    Settings {
        host: "mx.pec.example".to_owned(),
        role,
        size_max: 10_000,
        recipients_max: 100,
        eight_bit: false,
        utf8: false,
        mechanisms: vec![Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256],
        starttls: true,
    }
}

/// A message that was answered 250.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) content: Vec<u8>,
}

pub(crate) struct Shell {
    pub(crate) session: Session,
    /// All that was sent to the client and not yet looked at.
    pub(crate) sent: Vec<u8>,
    pub(crate) accepted: Vec<Accepted>,
    /// Each question, in order.
    pub(crate) asked: Vec<Question>,
    pub(crate) closed: bool,
    pub(crate) tls_wanted: bool,
    pub(crate) discards: usize,
    pub(crate) sasl_aborts: usize,
    authenticated: bool,
    login_name: Option<Vec<u8>>,
    mechanism: Option<Mechanism>,
    from: String,
    to: Vec<String>,
    spool: Option<Vec<u8>>,
}

impl Shell {
    pub(crate) fn new(settings: Settings, tls: bool) -> Self {
        let mut shell = Self {
            session: Session::new(Arc::new(settings), tls),
            sent: Vec::new(),
            accepted: Vec::new(),
            asked: Vec::new(),
            closed: false,
            tls_wanted: false,
            discards: 0,
            sasl_aborts: 0,
            authenticated: false,
            login_name: None,
            mechanism: None,
            from: String::new(),
            to: Vec::new(),
            spool: None,
        };
        shell.drain();
        shell
    }

    /// One segment from the client.
    pub(crate) fn feed(&mut self, octets: &[u8]) {
        for read in octets.chunks(smtp::server::INPUT_OCTETS_MAX) {
            assert!(self.closed || self.tls_wanted || self.session.wants_octets());
            self.session.handle_octets(read);
            self.drain();
        }
    }

    pub(crate) fn start_tls(&mut self) {
        assert!(self.tls_wanted, "no STARTTLS was accepted");
        self.tls_wanted = false;
        self.authenticated = false;
        self.session.handle_tls_started();
        self.drain();
    }

    /// What was sent since the last call.
    pub(crate) fn take_sent(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent)).expect("replies are ASCII")
    }

    pub(crate) fn drain(&mut self) {
        while let Some(step) = self.session.poll() {
            assert!(!self.closed, "a step after the close: {step:?}");
            match step {
                Step::Send(octets) => self.sent.extend(octets),
                Step::Ask(question) => {
                    self.asked.push(question.clone());
                    let answer = self.answer(question);
                    self.session.answer(answer);
                }
                Step::Content(octets) => {
                    assert!(!octets.is_empty());
                    self.spool.as_mut().expect("content without a spool").extend(octets);
                }
                Step::Discard => {
                    self.spool.take().expect("nothing to discard");
                    self.discards += 1;
                }
                Step::SaslAbort => {
                    self.sasl_aborts += 1;
                    self.login_name = None;
                    self.authenticated = false;
                }
                Step::StartTls => self.tls_wanted = true,
                Step::Close => self.closed = true,
            }
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Sasl(step) => Answer::Sasl(self.sasl(step)),
            Question::Mail { path, .. } => {
                let from = match path {
                    ReversePath::Null => String::new(),
                    ReversePath::Address(address) => address.to_string(),
                };
                if self.authenticated && from != ACCOUNT {
                    return Answer::Refuse(reply::SENDER_NOT_YOURS);
                }
                if !self.authenticated && from.ends_with(DOMAIN) {
                    return Answer::Refuse(reply::SENDER_REFUSED);
                }
                self.from = from;
                self.to.clear();
                Answer::Accept
            }
            Question::Recipient { path, .. } => {
                let to = match path {
                    ForwardPath::Postmaster => "postmaster".to_owned(),
                    ForwardPath::Address(address) => {
                        let ours = address.domain().as_str() == DOMAIN;
                        match address.local() {
                            _ if !ours && !self.authenticated => {
                                return Answer::Refuse(reply::NO_RELAY);
                            }
                            "nessuno" if ours => return Answer::Refuse(reply::UNKNOWN_ACCOUNT),
                            "sospeso" if ours => return Answer::Refuse(reply::ACCOUNT_DISABLED),
                            _ => address.to_string(),
                        }
                    }
                };
                self.to.push(to);
                Answer::Accept
            }
            Question::Data => {
                assert!(self.spool.replace(Vec::new()).is_none(), "a spool is open already");
                Answer::Accept
            }
            Question::EndOfData { octets } => {
                let content = self.spool.take().expect("an end without a spool");
                assert_eq!(content.len() as u64, octets);
                assert!(!self.to.is_empty());
                let (from, to) = (self.from.clone(), std::mem::take(&mut self.to));
                // A content of this prefix is one that the shell cannot take.
                if content.starts_with(b"8bit") {
                    return Answer::Refuse(reply::NOT_SEVEN_BIT);
                }
                self.accepted.push(Accepted { from, to, content });
                Answer::Accepted { id: format!("m{}", self.accepted.len()) }
            }
        }
    }

    fn sasl(&mut self, step: SaslStep) -> SaslAnswer {
        let name_ok = |name: &[u8]| name == ACCOUNT.as_bytes();
        let password_ok = |password: &[u8]| password == PASSWORD.as_bytes();
        let octets = match step {
            SaslStep::Start { mechanism, initial } => {
                self.mechanism = Some(mechanism);
                self.login_name = None;
                match (mechanism, initial) {
                    (Mechanism::Login, None) => return SaslAnswer::Challenge(b"Username:".into()),
                    (_, None) => return SaslAnswer::Challenge(Vec::new()),
                    (_, Some(initial)) => initial,
                }
            }
            SaslStep::Response(octets) => octets,
        };
        let good = match (self.mechanism, self.login_name.take()) {
            (Some(Mechanism::Plain), _) => {
                let parts: Vec<_> = octets.split(|octet| *octet == 0).collect();
                matches!(parts[..], [_, name, password] if name_ok(name) && password_ok(password))
            }
            (Some(Mechanism::Login), None) => {
                self.login_name = Some(octets);
                return SaslAnswer::Challenge(b"Password:".into());
            }
            (Some(Mechanism::Login), Some(name)) => name_ok(&name) && password_ok(&octets),
            // Not SCRAM at all, only its shape: one challenge, and data that comes with success.
            (Some(Mechanism::ScramSha256), None) => {
                self.login_name = Some(octets);
                return SaslAnswer::Challenge(b"server-first".into());
            }
            (Some(Mechanism::ScramSha256), Some(_)) if octets == b"client-final" => {
                self.authenticated = true;
                return SaslAnswer::Success(Some(b"server-final".into()));
            }
            _ => false,
        };
        self.authenticated = good;
        if good { SaslAnswer::Success(None) } else { SaslAnswer::Failure(reply::AUTH_FAILED) }
    }
}
