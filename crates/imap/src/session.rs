//! The machine: states, literals, IDLE, pipelining. RFC 3501 §3.
//!
//! A session reads one command at a time, in order. What needs the store becomes a [`Job`]; what
//! needs credentials becomes a [`SaslStep`]; until it is answered no further octet is looked at.

mod append;
mod framing;
pub mod limits;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::tz::TimeZone;
use store::{AccountId, BlobId, MailboxId};

use self::append::Literal;
use self::framing::{Frame, Framer, Pending};
use crate::command::{Command, Needs, Work, capability};
use crate::grammar;
use crate::job::{Answer, Flow, Job};
use crate::refusal::{Refusal, Status};
use crate::response::{Code, Piece};
use crate::sasl::{self, Mechanism, SaslAnswer, SaslFailure, SaslStep, Secret};
use crate::selected::Selected;

/// Octets of one [`Step::Send`] at most, but for one response that is longer.
const SEND_OCTETS: usize = 32 * 1024;

/// What all sessions of a server have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this host, for the greeting.
    pub host: String,
    /// The version of this program, for ID.
    pub version: String,
    /// Octets of an APPENDed message at most (`limits.append_octets`).
    pub append_octets_max: u64,
    /// In which zone internal dates are shown, and what a day is to SEARCH.
    pub zone: TimeZone,
}

/// What the shell does next.
#[derive(Debug)]
pub enum Step {
    /// Send these octets.
    Send(Vec<u8>),
    /// Send octets `start..end` of stored ones, read from the store piece by piece.
    SendStored {
        /// Which.
        blob: BlobId,
        /// The first octet.
        start: u64,
        /// The octet after the last.
        end: u64,
    },
    /// Check credentials, and answer with [`Session::authenticated`] (not to [`SaslStep::Abort`]).
    Sasl(SaslStep),
    /// Run this where blocking is allowed, and give its answer to [`Session::finish`].
    Perform(Job),
    /// What came before is sent; start TLS, then call [`Session::handle_tls_started`].
    StartTls,
    /// Something broke: for the log. The client was told no more than that.
    Fault(String),
    /// Nothing follows: send what is left and close the connection.
    Close,
}

/// One client's conversation, greeting to logout: no socket, no clock, no store in it.
///
/// After any call that takes `&mut self`, drain [`poll`](Self::poll) to `None` before the next.
pub struct Session {
    settings: Arc<Settings>,
    tls: bool,
    place: Place,
    doing: Doing,
    pending: Pending,
    framer: Framer,
    out: VecDeque<Step>,
    /// BAD in a row.
    bad: u32,
    login_failures: u32,
    /// The selected mailbox changed, and the client is not told yet.
    changed: bool,
    /// Why the session ends as soon as the open job is done.
    bye: Option<&'static str>,
}

/// Whose session this is, and what is open.
enum Place {
    NotAuthenticated,
    Authenticated(AccountId),
    Selected(AccountId, Box<Selected>),
    /// A job has the view; it comes back with the answer.
    Away(AccountId, Option<MailboxId>),
}

/// What the session is doing: what the next octets are, or whose answer it waits for.
enum Doing {
    /// The next octets are a command.
    Command,
    /// A job runs for the command of this tag.
    Job { tag: String },
    /// The shell checks credentials.
    Sasl { tag: String },
    /// The client answers a challenge.
    SaslLine { tag: String, line: Vec<u8> },
    /// The client acknowledges the mechanism's last word with an empty line.
    SaslLast { tag: String, line: Vec<u8>, account: AccountId },
    /// TLS starts.
    Tls,
    /// The client listens until it says DONE.
    Idle { tag: String, line: Vec<u8> },
    /// The same, and a job looks for changes.
    IdleJob { tag: String, line: Vec<u8> },
    /// The next octets are a message.
    Literal(Box<Literal>),
    /// The same, and a job readies its place or writes it.
    LiteralJob(Box<Literal>),
    /// The rest of the APPEND's line, which should be empty.
    Tail(Box<Literal>),
    /// It is over.
    Closed,
}

impl Session {
    /// A session on a connection that is made, inside TLS or not yet. The greeting is queued.
    pub fn new(settings: Arc<Settings>, tls: bool) -> Self {
        let greeting = format!(
            "* OK [CAPABILITY {}] {} ceralacca ready\r\n",
            capability::list(tls, false),
            settings.host
        );
        let mut session = Self {
            settings,
            tls,
            place: Place::NotAuthenticated,
            doing: Doing::Command,
            pending: Pending::default(),
            framer: Framer::new(false),
            out: VecDeque::new(),
            bad: 0,
            login_failures: 0,
            changed: false,
            bye: None,
        };
        session.send(greeting.as_bytes());
        session
    }

    /// Takes octets from the client.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        // What comes in clear after STARTTLS is not looked at: RFC 3501 §6.2.1, RFC 9051 §6.2.1.
        if matches!(self.doing, Doing::Closed | Doing::Tls) {
            return;
        }
        self.pending.push(octets);
        if self.pending.len() > limits::PENDING_OCTETS_LIMIT {
            self.close("Too much at once: wait for answers");
            return;
        }
        self.advance();
    }

    /// TLS has started. What came in clear and was not answered yet is dropped unread.
    pub fn handle_tls_started(&mut self) {
        if matches!(self.doing, Doing::Tls) {
            self.tls = true;
            self.pending.clear();
            self.framer = Framer::new(false);
            self.doing = Doing::Command;
        }
    }

    /// The [selected](Self::selected) mailbox changed. A client that idles is told at once, another
    /// with its next command.
    pub fn handle_changed(&mut self) {
        self.changed = true;
        self.advance();
    }

    /// The client was silent for too long.
    pub fn handle_timeout(&mut self) {
        self.close("Nothing came for too long: connect again");
    }

    /// The server stops, or the account may be used no longer.
    pub fn handle_shutdown(&mut self) {
        self.close("The server is going down: connect again later");
    }

    /// Time for a sign of life: a client that idles gets one, so that both ends notice a connection
    /// that is dead. Every two minutes is what Outlook needs.
    pub fn handle_keepalive(&mut self) {
        if matches!(self.doing, Doing::Idle { .. }) {
            self.send(b"* OK Still here\r\n");
        }
    }

    /// The answer to a [`Step::Sasl`].
    pub fn authenticated(&mut self, answer: SaslAnswer) {
        let Doing::Sasl { tag } = std::mem::replace(&mut self.doing, Doing::Command) else {
            return;
        };
        match answer {
            SaslAnswer::Challenge(Secret(octets)) => {
                self.challenge(&octets);
                self.doing = Doing::SaslLine { tag, line: Vec::new() };
            }
            SaslAnswer::Success { account, data: Some(Secret(octets)) } => {
                self.challenge(&octets);
                self.doing = Doing::SaslLast { tag, line: Vec::new(), account };
            }
            SaslAnswer::Success { account, data: None } => self.sign_in(&tag, account),
            SaslAnswer::Failure(failure) => self.refuse_login(&tag, failure),
        }
        self.advance();
    }

    /// The answer of a [`Step::Perform`].
    pub fn finish(&mut self, answer: Answer) {
        let Place::Away(account, _) = self.place else { return };
        let Answer { selected, out, end, faults } = answer;
        self.place = match selected {
            Some(selected) => Place::Selected(account, selected),
            None => Place::Authenticated(account),
        };
        self.out.extend(faults.into_iter().map(Step::Fault));
        for piece in out.into_pieces() {
            match piece {
                Piece::Octets(octets) => self.send_owned(octets),
                Piece::Stored { blob, start, end } => {
                    self.out.push_back(Step::SendStored { blob, start, end });
                }
            }
        }
        let doing = std::mem::replace(&mut self.doing, Doing::Command);
        match end {
            Err(refusal) if refusal.fatal => self.bye = self.bye.or(Some(refusal.text)),
            end => self.proceed(doing, end),
        }
        match self.bye {
            Some(text) if !matches!(self.place, Place::Away(..)) => self.close(text),
            _ => self.advance(),
        }
    }

    /// The next thing to do; `None` until the next call.
    pub fn poll(&mut self) -> Option<Step> {
        let step = self.out.pop_front();
        if step.is_none() {
            self.out.shrink_to_fit();
        }
        step
    }

    /// Whether octets are wanted now: not while an answer is awaited or enough is waiting.
    pub fn wants_octets(&self) -> bool {
        let waits = matches!(
            self.doing,
            Doing::Job { .. }
                | Doing::Sasl { .. }
                | Doing::Tls
                | Doing::IdleJob { .. }
                | Doing::LiteralJob(_)
                | Doing::Closed
        );
        !waits && self.pending.len() < limits::PENDING_OCTETS_MAX
    }

    /// The mailbox whose changes matter, for [`handle_changed`](Self::handle_changed).
    pub fn selected(&self) -> Option<MailboxId> {
        match &self.place {
            Place::Selected(_, selected) => Some(selected.mailbox),
            Place::Away(_, mailbox) => *mailbox,
            Place::NotAuthenticated | Place::Authenticated(_) => None,
        }
    }

    /// Whose session this is, once signed in.
    pub fn account(&self) -> Option<AccountId> {
        match self.place {
            Place::Authenticated(account)
            | Place::Selected(account, _)
            | Place::Away(account, _) => Some(account),
            Place::NotAuthenticated => None,
        }
    }

    /// Whether somebody has signed in.
    pub fn is_authenticated(&self) -> bool {
        self.account().is_some()
    }

    /// Whether the client idles: silence is to be expected then.
    pub fn is_idle(&self) -> bool {
        matches!(self.doing, Doing::Idle { .. } | Doing::IdleJob { .. })
    }

    // --- reading

    /// Does what can be done until an answer or more octets are needed.
    fn advance(&mut self) {
        loop {
            let doing = std::mem::replace(&mut self.doing, Doing::Command);
            let goes_on = match doing {
                Doing::Command => self.read_command(),
                Doing::SaslLine { tag, line } => self.read_response(tag, line),
                Doing::SaslLast { tag, line, account } => self.read_last(tag, line, account),
                Doing::Idle { tag, line } => self.read_done(tag, line),
                Doing::Literal(literal) => self.read_literal(literal),
                Doing::Tail(literal) => self.read_tail(literal),
                waiting => {
                    self.doing = waiting;
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        self.pending.shrink();
    }

    fn read_command(&mut self) -> bool {
        match self.framer.next(&mut self.pending) {
            None => false,
            Some(Frame::Endless) => {
                self.close("The command is too long: send shorter ones");
                false
            }
            Some(Frame::Announced { octets, sync }) => {
                self.announced(octets, sync);
                true
            }
            Some(Frame::Command) => {
                let too_long = self.framer.is_too_long();
                let parsed = if too_long { None } else { grammar::parse(self.framer.message()) };
                let tag = match &parsed {
                    Some(parsed) => Some(parsed.tag.clone()),
                    None => grammar::tag_of_malformed(self.framer.message()),
                };
                self.framer.skip();
                match (tag, parsed) {
                    (Some(tag), Some(parsed)) => self.obey(tag, parsed.command),
                    (Some(tag), None) if too_long => {
                        self.end(
                            &tag,
                            Err(Refusal::bad("The command is too long: send it in parts")),
                        );
                    }
                    (Some(tag), None) => {
                        self.end(
                            &tag,
                            Err(Refusal::bad("A tag, a space and a command are needed")),
                        );
                    }
                    (None, _) => {
                        self.send(b"* BAD A tag, a space and a command are needed\r\n");
                        self.count_bad();
                    }
                }
                true
            }
        }
    }

    /// A literal is announced: a message to APPEND, or an argument.
    fn announced(&mut self, octets: u32, sync: bool) {
        if !self.framer.is_too_long()
            && let Some(head) = grammar::append_head(self.framer.message())
        {
            self.framer.skip();
            self.begin_literal(head, octets, sync);
        } else if self.framer.fits(octets) {
            self.framer.accept(octets);
            if sync {
                self.send(b"+ Go on\r\n");
            }
        } else if sync {
            // The client waits and will not send it.
            let tag = grammar::tag_of_malformed(self.framer.message());
            self.framer.skip();
            let refusal =
                Refusal::too_big("The literals of a command are too long: send shorter ones");
            match tag {
                Some(tag) => self.end(&tag, Err(refusal)),
                None => self.close("The command is too long: send shorter ones"),
            }
        } else if !self.framer.accept_to_refuse(octets) {
            self.close("The command is too long: send shorter ones");
        }
    }

    /// A line outside commands: a SASL response, or DONE. `None` until it is whole.
    fn line(&mut self, line: &mut Vec<u8>) -> Option<Line> {
        let limit = limits::LINE_OCTETS_MAX_BEFORE_LOGIN + 1 - line.len();
        let (octets, ended) = self.pending.take_line(limit);
        line.extend_from_slice(octets);
        if line.len() > limits::LINE_OCTETS_MAX_BEFORE_LOGIN {
            return Some(Line::TooLong);
        }
        if !ended {
            return None;
        }
        let octets = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n"));
        Some(Line::Whole(octets.unwrap_or(line).to_vec()))
    }

    fn read_response(&mut self, tag: String, mut line: Vec<u8>) -> bool {
        match self.line(&mut line) {
            None => {
                self.doing = Doing::SaslLine { tag, line };
                return false;
            }
            Some(Line::TooLong) => {
                self.out.push_back(Step::Sasl(SaslStep::Abort));
                self.close("The response is too long");
                return false;
            }
            Some(Line::Whole(response)) if response == b"*" => {
                self.out.push_back(Step::Sasl(SaslStep::Abort));
                self.end(&tag, Err(Refusal::bad("AUTHENTICATE was cancelled")));
            }
            Some(Line::Whole(response)) => match sasl::decode(&response) {
                Some(octets) => {
                    self.ask(tag, SaslStep::Response(Secret(octets)));
                    return false;
                }
                None => {
                    self.out.push_back(Step::Sasl(SaslStep::Abort));
                    self.end(&tag, Err(Refusal::bad("The response is not base64")));
                }
            },
        }
        true
    }

    fn read_last(&mut self, tag: String, mut line: Vec<u8>, account: AccountId) -> bool {
        match self.line(&mut line) {
            None => {
                self.doing = Doing::SaslLast { tag, line, account };
                return false;
            }
            Some(Line::Whole(response)) if response.is_empty() => self.sign_in(&tag, account),
            Some(Line::Whole(_)) => {
                self.end(&tag, Err(Refusal::bad("AUTHENTICATE was cancelled")));
            }
            Some(Line::TooLong) => {
                self.close("The response is too long");
                return false;
            }
        }
        true
    }

    fn read_done(&mut self, tag: String, mut line: Vec<u8>) -> bool {
        match self.line(&mut line) {
            Some(Line::Whole(word)) if word.eq_ignore_ascii_case(b"DONE") => {
                self.end(&tag, Ok((None, "IDLE completed")));
                true
            }
            Some(Line::Whole(_)) => {
                self.end(&tag, Err(Refusal::bad("DONE ends IDLE, and nothing else")));
                true
            }
            Some(Line::TooLong) => {
                self.close("DONE ends IDLE, and nothing else");
                false
            }
            None if self.changed && matches!(self.place, Place::Selected(..)) => {
                self.perform(Work::Sync, Doing::IdleJob { tag, line });
                false
            }
            None => {
                self.doing = Doing::Idle { tag, line };
                false
            }
        }
    }

    // --- doing

    /// Carries out a command, or says why not.
    fn obey(&mut self, tag: String, command: Result<Command, Refusal>) {
        let command = match command {
            Ok(command) => command,
            Err(refusal) => return self.end(&tag, Err(refusal)),
        };
        match command {
            Command::Capability => {
                let list = capability::list(self.tls, self.is_authenticated());
                self.send(format!("* CAPABILITY {list}\r\n").as_bytes());
                self.end(&tag, Ok((None, "CAPABILITY completed")));
            }
            Command::Noop => match self.place {
                Place::Selected(..) => self.perform(Work::Sync, Doing::Job { tag }),
                _ => self.end(&tag, Ok((None, "NOOP completed"))),
            },
            Command::Logout => {
                self.send(b"* BYE Goodbye\r\n");
                self.end(&tag, Ok((None, "LOGOUT completed")));
                self.out.push_back(Step::Close);
                self.doing = Doing::Closed;
            }
            Command::Id => {
                let version = &self.settings.version;
                let id = format!("* ID (\"name\" \"ceralacca\" \"version\" \"{version}\")\r\n");
                self.send(id.as_bytes());
                self.end(&tag, Ok((None, "ID completed")));
            }
            Command::StartTls => self.start_tls(&tag),
            Command::Authenticate { mechanism, initial } => {
                self.authenticate(tag, &mechanism, initial);
            }
            Command::Login { user, password } => {
                if self.may_sign_in(&tag) {
                    self.ask(tag, SaslStep::Login { user, password });
                }
            }
            _ if !self.is_authenticated() => self.end(&tag, Err(Refusal::bad("Sign in first"))),
            Command::Enable => {
                self.send(b"* ENABLED\r\n");
                self.end(&tag, Ok((None, "ENABLE completed, nothing to enable")));
            }
            Command::Namespace => {
                self.send(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
                self.end(&tag, Ok((None, "NAMESPACE completed")));
            }
            Command::Idle => {
                self.send(b"+ Idling\r\n");
                self.framer = Framer::new(true);
                // Once at the beginning: what happened before counts too.
                self.changed = true;
                self.doing = Doing::Idle { tag, line: Vec::new() };
            }
            Command::Append(_) => {
                self.end(&tag, Err(Refusal::bad("APPEND needs a message as a literal")));
            }
            Command::Work(Needs::Selected, _) if !matches!(self.place, Place::Selected(..)) => {
                self.end(&tag, Err(Refusal::nothing_selected()));
            }
            Command::Work(_, work) => self.perform(work, Doing::Job { tag }),
        }
    }

    fn start_tls(&mut self, tag: &str) {
        if self.tls {
            self.end(tag, Err(Refusal::bad("TLS is on already")));
        } else {
            self.end(tag, Ok((None, "Begin TLS now")));
            self.pending.clear();
            self.out.push_back(Step::StartTls);
            self.doing = Doing::Tls;
        }
    }

    fn authenticate(&mut self, tag: String, mechanism: &str, initial: Option<Secret>) {
        if !self.may_sign_in(&tag) {
            return;
        }
        match Mechanism::parse(mechanism) {
            Some(mechanism) => self.ask(tag, SaslStep::Start { mechanism, initial }),
            None => {
                let text = "No such mechanism: use PLAIN, LOGIN or SCRAM-SHA-256";
                self.end(&tag, Err(Refusal::no(Code::Cannot, text)));
            }
        }
    }

    /// Whether credentials may be sent now; says why not.
    fn may_sign_in(&mut self, tag: &str) -> bool {
        let refusal = if self.is_authenticated() {
            Refusal::bad("Signed in already")
        } else if !self.tls {
            Refusal::no(Code::PrivacyRequired, "TLS first: use STARTTLS, or port 993")
        } else {
            return true;
        };
        self.end(tag, Err(refusal));
        false
    }

    fn ask(&mut self, tag: String, step: SaslStep) {
        self.out.push_back(Step::Sasl(step));
        self.doing = Doing::Sasl { tag };
    }

    fn challenge(&mut self, octets: &[u8]) {
        self.send(format!("+ {}\r\n", sasl::encode(octets)).as_bytes());
    }

    fn sign_in(&mut self, tag: &str, account: AccountId) {
        self.place = Place::Authenticated(account);
        self.framer = Framer::new(true);
        self.bad = 0;
        let list = capability::list(self.tls, true);
        self.end(tag, Ok((Some(Code::Capability(list)), "Signed in")));
    }

    fn refuse_login(&mut self, tag: &str, failure: SaslFailure) {
        let refusal = match failure {
            SaslFailure::Credentials => {
                Refusal::no(Code::AuthenticationFailed, "User name or password not right")
            }
            SaslFailure::Malformed => Refusal::bad("Not a response of this mechanism"),
            SaslFailure::Suspended => {
                Refusal::no(Code::ContactAdmin, "The account is suspended: ask your provider")
            }
            SaslFailure::TooMany => {
                Refusal::no(Code::Limit, "Too many connections or attempts: try again later")
            }
            SaslFailure::Unavailable => {
                Refusal::no(Code::Unavailable, "Sign-in is not available: try again later")
            }
        };
        let counts = !matches!(failure, SaslFailure::Unavailable);
        self.end(tag, Err(refusal));
        self.login_failures += u32::from(counts);
        if self.login_failures >= limits::LOGIN_FAILURES_MAX {
            self.close("Too many failed attempts: connect again later");
        }
    }

    /// Sends a command off to the store, and the view with it.
    fn perform(&mut self, work: Work, doing: Doing) {
        let place = std::mem::replace(&mut self.place, Place::NotAuthenticated);
        let (account, selected) = match place {
            Place::Selected(account, selected) => (account, Some(selected)),
            Place::Authenticated(account) => (account, None),
            other @ (Place::NotAuthenticated | Place::Away(..)) => {
                self.place = other;
                return;
            }
        };
        self.changed = false;
        self.place = Place::Away(account, selected.as_ref().map(|selected| selected.mailbox));
        let settings = Arc::clone(&self.settings);
        self.out.push_back(Step::Perform(Job { work, account, selected, settings }));
        self.doing = doing;
    }

    /// Goes on after a job.
    fn proceed(&mut self, doing: Doing, end: Result<Flow, Refusal>) {
        match (doing, end) {
            (doing, Ok(Flow::More(work))) => self.perform(work, doing),
            (Doing::IdleJob { tag, line }, Ok(_) | Err(_)) => {
                self.doing = Doing::Idle { tag, line };
            }
            (Doing::LiteralJob(literal), end) => self.literal_goes_on(literal, end),
            (Doing::Job { tag }, Ok(Flow::Done(done))) => {
                self.end(&tag, Ok((done.code, done.text)))
            }
            (Doing::Job { tag }, Err(refusal)) => self.end(&tag, Err(refusal)),
            (other, Ok(_) | Err(_)) => self.doing = other,
        }
    }

    // --- writing

    /// The tagged response.
    fn end(&mut self, tag: &str, end: Result<(Option<Code>, &'static str), Refusal>) {
        let (status, code, text) = match end {
            Ok((code, text)) => (Status::Ok, code, text),
            Err(refusal) => (refusal.status, refusal.code, refusal.text),
        };
        let code = code.map(|code| format!("[{code}] ")).unwrap_or_default();
        self.send(format!("{tag} {} {code}{text}\r\n", status.as_str()).as_bytes());
        match status {
            Status::Bad => self.count_bad(),
            Status::Ok if self.is_authenticated() => self.bad = 0,
            Status::Ok | Status::No => {}
        }
    }

    fn count_bad(&mut self) {
        self.bad += 1;
        if self.bad >= limits::BAD_COMMANDS_MAX {
            self.close("Too many commands that are none");
        }
    }

    /// Says goodbye, at once or when the open job is done.
    fn close(&mut self, text: &'static str) {
        match self.doing {
            Doing::Closed => {}
            _ if matches!(self.place, Place::Away(..)) => self.bye = self.bye.or(Some(text)),
            _ => {
                self.send(format!("* BYE {text}\r\n").as_bytes());
                self.out.push_back(Step::Close);
                self.doing = Doing::Closed;
                self.pending.clear();
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        match self.out.back_mut() {
            Some(Step::Send(last)) if last.len() + octets.len() <= SEND_OCTETS => {
                last.extend_from_slice(octets);
            }
            _ => self.out.push_back(Step::Send(octets.to_vec())),
        }
    }

    fn send_owned(&mut self, octets: Vec<u8>) {
        if octets.len() < SEND_OCTETS / 2 {
            self.send(&octets);
        } else {
            self.out.push_back(Step::Send(octets));
        }
    }
}

/// A line that is no command.
enum Line {
    Whole(Vec<u8>),
    TooLong,
}
