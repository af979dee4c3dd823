//! The session machine of a server: greeting to QUIT, as RFC 5321 §3 and §4 tell it, with STARTTLS
//! (RFC 3207), AUTH (RFC 4954), SIZE (RFC 1870), PIPELINING (RFC 2920) and CHUNKING (RFC 3030).
//!
//! It knows what may come when, and nothing of who is who: senders, recipients, passwords and
//! messages are the shell's, which answers one [`Question`] at a time.

mod receive;

use std::collections::VecDeque;
use std::sync::Arc;

use mail::{ForwardPath, ReversePath};

use crate::command::{Command, MailOptions};
use crate::content::Content;
use crate::dsn::RecipientDsn;
use crate::line::{AUTH_OCTETS_MAX, Expect, Line, LineBuffer};
use crate::reply::{self, Reply};
use crate::sasl::{self, Mechanism, SaslAnswer, SaslStep};
use crate::step::{Answer, Question, Role, Settings, Step};

/// Bad commands after which the connection ends: enough for any client in good faith.
pub const ERRORS_MAX: usize = 20;
/// Failed logins after which the connection ends: guessing shall cost a connection each time.
pub const LOGINS_MAX: usize = 5;
/// Octets that a shell may hand over at once at most.
pub const INPUT_OCTETS_MAX: usize = 64 * 1024;
/// Octets of replies put together before they are handed out: what is pipelined is answered in
/// few segments, and a client that asks much and reads nothing costs no more than this.
pub const OUTPUT_OCTETS_MAX: usize = 16 * 1024;
/// Octets that are read and thrown away after a message turned out bad, to hear its true end;
/// past them it is refused and the connection ends.
pub const DISCARD_OCTETS_MAX: u64 = 1 << 30;

/// One client's conversation, greeting to QUIT: no socket, no clock, no store in it.
///
/// After any call that takes `&mut self`, drain [`poll`](Self::poll) to `None` before the next.
pub struct Session {
    settings: Arc<Settings>,
    tls: bool,
    state: State,
    /// The question that waits for its answer. It outlives the connection: what the shell is
    /// storing when the peer goes away is still answered, and then unwound.
    open: Option<Open>,
    hello: Option<Hello>,
    authenticated: bool,
    mechanisms: Vec<Mechanism>,
    transaction: Option<Transaction>,
    input: LineBuffer,
    out: VecDeque<Step>,
    /// What to say before closing, once the open question is answered.
    last_words: Option<Reply>,
    errors: usize,
    failed_logins: usize,
}

/// What the next octets are.
enum State {
    Command,
    /// The answer to a challenge.
    SaslResponse,
    /// The empty answer to the data that came with success.
    SaslEnd,
    /// Between 354 and the end of data.
    Content(Content),
    /// Behind BDAT.
    Chunk(Chunk),
    /// Nothing: between [`Step::StartTls`] and the handshake's end.
    TlsHandshake,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Sasl,
    Mail { utf8: bool },
    Recipient,
    Data,
    EndOfData,
}

struct Hello {
    name: String,
    extended: bool,
}

/// From an accepted MAIL to the one place where it is forgotten, [`Session::reset`].
#[derive(Default)]
struct Transaction {
    recipients: usize,
    /// Whether its MAIL said SMTPUTF8.
    utf8: bool,
    /// Once the first chunk has a spool.
    chunks: Option<Content>,
}

/// The rest of one chunk. It is read to its end whatever becomes of it: RFC 3030 §2.
struct Chunk {
    octets: u64,
    left: u64,
    last: bool,
    /// What is said at its end, when nothing of it is kept.
    refusal: Option<Reply>,
}

impl Session {
    /// A new connection, in clear or with TLS already up; the greeting is the first step.
    pub fn new(settings: Arc<Settings>, tls: bool) -> Self {
        let greeting = Reply::greeting(&settings.host);
        let mechanisms = settings.mechanisms.clone();
        let mut session = Self {
            settings,
            tls,
            state: State::Command,
            open: None,
            hello: None,
            authenticated: false,
            mechanisms,
            transaction: None,
            input: LineBuffer::default(),
            out: VecDeque::new(),
            last_words: None,
            errors: 0,
            failed_logins: 0,
        };
        session.send(&greeting);
        session
    }

    /// Octets came in. At most [`INPUT_OCTETS_MAX`] at once, and only while
    /// [`wants_octets`](Self::wants_octets): a shell that keeps to that is never cut off.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        let mut octets = octets;
        match &self.state {
            State::Closed | State::TlsHandshake => return,
            State::Content(_) | State::Chunk(_)
                if self.open.is_none() && self.input.pending().is_empty() =>
            {
                let consumed = self.receive(octets);
                octets = &octets[consumed..];
            }
            _ => {}
        }
        if octets.is_empty() || matches!(self.state, State::Closed) {
            return;
        }
        // What waits may be one unfinished line, and on it comes what was read at once.
        if self.input.pending().len() + octets.len() > INPUT_OCTETS_MAX + AUTH_OCTETS_MAX {
            self.close_with(&reply::TOO_FAST);
            return;
        }
        self.input.push(octets);
    }

    /// What AUTH offers from now on: some mechanisms need what only this connection can tell, a
    /// channel to be bound to or a certificate of the client's.
    pub fn offer(&mut self, mechanisms: Vec<Mechanism>) {
        self.mechanisms = mechanisms;
    }

    /// The TLS handshake that [`Step::StartTls`] asked for is done. All that was said in clear is
    /// forgotten, RFC 3207 §4.2.
    pub fn handle_tls_started(&mut self) {
        if !matches!(self.state, State::TlsHandshake) {
            return;
        }
        self.tls = true;
        self.state = State::Command;
        self.input.clear();
        self.reset();
        self.hello = None;
        self.authenticated = false;
    }

    /// The peer is gone, or the handshake failed. Nothing can be sent any more.
    pub fn handle_closed(&mut self) {
        self.close();
    }

    /// The peer was silent for longer than RFC 5321 §4.5.3.2.7 asks a server to wait.
    pub fn handle_timeout(&mut self) {
        self.close_with(&reply::IDLE);
    }

    /// The server stops. A message that is being stored is still answered.
    pub fn handle_shutdown(&mut self) {
        self.close_with(&reply::STOPPING);
    }

    /// The account was suspended, removed or given another password: who it is must be proved
    /// again. A message that is being stored is still answered.
    pub fn handle_account_changed(&mut self) {
        self.close_with(&reply::ACCOUNT_CHANGED);
    }

    /// Whether the shell should read from the socket. False while a question is open: that is the
    /// back-pressure.
    pub fn wants_octets(&self) -> bool {
        self.open.is_none() && !matches!(self.state, State::Closed | State::TlsHandshake)
    }

    /// The name the client gave in EHLO or HELO, printable ASCII without blanks.
    pub fn hello(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }

    /// Whether TLS is up.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether AUTH succeeded; as whom, the shell knows.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// The word for `with` in a Received field: RFC 3848, RFC 6531 §4.3.
    pub fn protocol(&self) -> &'static str {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.utf8) {
            return match (self.tls, self.authenticated) {
                (false, false) => "UTF8SMTP",
                (true, false) => "UTF8SMTPS",
                (false, true) => "UTF8SMTPA",
                (true, true) => "UTF8SMTPSA",
            };
        }
        match (
            self.hello.as_ref().is_some_and(|hello| hello.extended),
            self.tls,
            self.authenticated,
        ) {
            (false, _, false) => "SMTP",
            (true, false, false) => "ESMTP",
            (true, true, false) => "ESMTPS",
            (_, false, true) => "ESMTPA",
            (_, true, true) => "ESMTPSA",
        }
    }

    /// What to do next; `None` when it is the peer's or the shell's turn.
    pub fn poll(&mut self) -> Option<Step> {
        // Replies that follow each other go out together.
        if matches!(self.out.back(), None | Some(Step::Send(_))) {
            while self.out_octets() < OUTPUT_OCTETS_MAX && self.advance() {}
        }
        self.out.pop_front()
    }

    /// The answer to the open question. Without one it is ignored.
    pub fn answer(&mut self, answer: Answer) {
        let Some(open) = self.open.take() else { return };
        if matches!(self.state, State::Closed) {
            self.unwind(open, &answer);
            return;
        }
        match (open, answer) {
            (Open::Sasl, Answer::Sasl(answer)) => self.sasl_answered(answer),
            (Open::Sasl, _) => self.sasl_answered(SaslAnswer::Failure(reply::AUTH_UNAVAILABLE)),
            (Open::Mail { utf8 }, Answer::Accept) => {
                self.transaction = Some(Transaction { utf8, ..Transaction::default() });
                self.send(&reply::SENDER_OK);
            }
            (Open::Recipient, Answer::Accept) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients += 1;
                }
                self.send(&reply::RECIPIENT_OK);
            }
            (Open::Data, Answer::Accept) if matches!(self.state, State::Chunk(_)) => {
                let mut content = Content::in_chunks(self.settings.size_max);
                if let State::Chunk(chunk) = &self.state {
                    content.refuse_beyond(chunk.octets);
                }
                if let Some(transaction) = &mut self.transaction {
                    transaction.chunks = Some(content);
                }
            }
            (Open::Data, Answer::Accept) => {
                self.state = State::Content(Content::new(self.settings.size_max));
                self.send(&reply::START_INPUT);
            }
            (Open::EndOfData, Answer::Accepted { id }) => {
                self.reset();
                self.send(&Reply::accepted(&id));
            }
            (open, answer) => {
                let reply = match answer {
                    Answer::Refuse(reply) if reply.is_refusal() => reply,
                    _ => reply::LOCAL_ERROR,
                };
                if open == Open::EndOfData {
                    self.reset();
                }
                match &mut self.state {
                    // Said once the chunk is over, which is on its way already.
                    State::Chunk(chunk) if open == Open::Data => {
                        chunk.refusal = Some(reply);
                        self.reset();
                    }
                    _ => self.refuse(&reply),
                }
            }
        }
        if let Some(reply) = self.last_words.take() {
            self.close_with(&reply);
        }
    }

    /// What the shell did for a peer that is gone is undone, where it can be.
    fn unwind(&mut self, open: Open, answer: &Answer) {
        match (open, answer) {
            (Open::Data, Answer::Accept) => self.out.push_back(Step::Discard),
            (Open::Sasl, _) => self.out.push_back(Step::SaslAbort),
            _ => {}
        }
    }

    /// Does one thing with what waits; false when there is nothing to do.
    fn advance(&mut self) -> bool {
        if self.open.is_some() {
            return false;
        }
        let expect = match &self.state {
            State::Command => Expect::Command,
            State::SaslResponse | State::SaslEnd => Expect::SaslResponse,
            State::Content(_) | State::Chunk(_) => {
                let over = matches!(&self.state, State::Chunk(chunk) if chunk.left == 0);
                let waiting = std::mem::take(&mut self.input);
                let consumed = self.receive(waiting.pending());
                // Unless it was the last thing to be heard.
                if !matches!(self.state, State::Closed) {
                    self.input = waiting;
                    self.input.consume(consumed);
                }
                return consumed > 0 || over;
            }
            State::TlsHandshake | State::Closed => return false,
        };
        let Some(line) = self.input.next_line(expect) else { return false };
        match (expect, line) {
            (Expect::Command, Line::Whole(line)) => match Command::parse(&line) {
                Ok(command) => self.command(command),
                Err(reply) if reply == reply::BAD_CHUNK => {
                    self.bad(&reply);
                    self.close_with(&reply::FRAMING_IN_DOUBT);
                }
                Err(reply) => self.bad(&reply),
            },
            (Expect::Command, Line::Bare) => self.bad(&reply::BARE_LINE_END),
            (Expect::Command, Line::TooLong { auth: false }) => self.bad(&reply::LINE_TOO_LONG),
            (Expect::Command, Line::TooLong { auth: true }) => self.bad(&reply::AUTH_LINE_TOO_LONG),
            (Expect::SaslResponse, Line::Whole(line)) => self.sasl_response(&line),
            (Expect::SaslResponse, Line::Bare) => self.sasl_abort(&reply::BARE_LINE_END),
            (Expect::SaslResponse, Line::TooLong { .. }) => {
                self.sasl_abort(&reply::AUTH_LINE_TOO_LONG);
            }
        }
        true
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ehlo(name) => self.ehlo(name),
            Command::Helo(name) => {
                self.reset();
                self.hello = Some(Hello { name, extended: false });
                self.send(&Reply::helo(&self.settings.host));
            }
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref()),
            Command::Mail { path, options } => self.mail(path, options),
            Command::Rcpt { path, beyond_ascii, orcpt_beyond_ascii, dsn } => {
                let of_path = beyond_ascii.then_some(reply::ADDRESS_NOT_ASCII);
                let of_orcpt = orcpt_beyond_ascii.then_some(reply::BAD_SYNTAX);
                self.rcpt(path, of_path.or(of_orcpt), dsn);
            }
            Command::Data => self.data(),
            Command::Bdat { octets, last } => self.bdat(octets, last),
            Command::Rset => {
                self.reset();
                self.send(&reply::DONE);
            }
            Command::Noop => self.send(&reply::DONE),
            Command::Help => self.send(&reply::HELP),
            Command::Vrfy => match self.closed_door() {
                Some(reply) => self.bad(&reply),
                None => self.send(&reply::VRFY),
            },
            Command::NotImplemented => self.bad(&reply::NOT_IMPLEMENTED),
            Command::Quit => self.close_with(&reply::QUIT),
            Command::Http => self.close_with(&reply::NOT_SMTP),
        }
    }

    /// Announces what can be used now: RFC 5321 §4.1.1.1.
    fn ehlo(&mut self, name: String) {
        self.reset();
        self.hello = Some(Hello { name, extended: true });
        let mut lines = vec![
            self.settings.host.clone(),
            format!("SIZE {}", self.settings.size_max),
            "PIPELINING".to_owned(),
            "CHUNKING".to_owned(),
            "DSN".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
            // RFC 9422 §4.
            format!("LIMITS RCPTMAX={}", self.settings.recipients_max),
        ];
        if self.takes_eight_bit() {
            lines.push("8BITMIME".to_owned());
        }
        if self.takes_utf8() {
            lines.push("SMTPUTF8".to_owned());
        }
        if !self.tls && self.settings.starttls {
            lines.push("STARTTLS".to_owned());
        }
        // In clear a password could be read, so AUTH is not even mentioned (PEC-AP-01).
        if self.tls && !self.authenticated && !self.mechanisms.is_empty() {
            let names: Vec<_> = self.mechanisms.iter().map(|m| m.as_str()).collect();
            lines.push(format!("AUTH {}", names.join(" ")));
        }
        // RFC 8689 §2: a promise that only a protected connection can make.
        if self.tls {
            lines.push("REQUIRETLS".to_owned());
        }
        let last = lines.len() - 1;
        let octets: String = (lines.iter().enumerate())
            .map(|(i, line)| format!("250{}{line}\r\n", if i == last { ' ' } else { '-' }))
            .collect();
        self.send_octets(octets.into_bytes());
    }

    /// RFC 3207 §4.
    fn start_tls(&mut self) {
        if self.tls {
            self.bad(&reply::ALREADY_TLS);
        } else if !self.settings.starttls {
            self.bad(&reply::NOT_IMPLEMENTED);
        } else if self.transaction.is_some() {
            self.bad(&reply::TLS_BEFORE_MAIL);
        } else {
            // What stands behind it was put there by whoever could write in clear.
            self.input.clear();
            self.state = State::TlsHandshake;
            self.send(&reply::STARTTLS);
            self.out.push_back(Step::StartTls);
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&[u8]>) {
        let offered = Mechanism::parse(mechanism).filter(|m| self.mechanisms.contains(m));
        let initial = match initial {
            None => Some(None),
            Some(b"=") => Some(Some(Vec::new())),
            Some(text) => sasl::decode(text).map(Some),
        };
        if !self.tls {
            self.bad(&reply::AUTH_NEEDS_TLS);
        } else if self.authenticated {
            self.bad(&reply::ALREADY_AUTHENTICATED);
        } else if self.transaction.is_some() {
            self.bad(&reply::AUTH_IN_TRANSACTION);
        } else if self.hello.is_none() {
            self.bad(&reply::HELLO_FIRST);
        } else {
            match (offered, initial) {
                (None, _) => self.bad(&reply::UNKNOWN_MECHANISM),
                (_, None) => self.bad(&reply::BAD_BASE64),
                (Some(mechanism), Some(initial)) => {
                    let start = SaslStep::Start { mechanism, initial };
                    self.ask(Open::Sasl, Question::Sasl(start));
                }
            }
        }
    }

    fn sasl_answered(&mut self, answer: SaslAnswer) {
        match answer {
            SaslAnswer::Challenge(octets) => {
                self.state = State::SaslResponse;
                self.send(&Reply::challenge(&octets));
            }
            SaslAnswer::Success(Some(octets)) => {
                self.state = State::SaslEnd;
                self.send(&Reply::challenge(&octets));
            }
            SaslAnswer::Success(None) => self.authenticated(),
            SaslAnswer::Failure(reply) => {
                self.state = State::Command;
                self.failed_logins += 1;
                let reply = if reply.is_refusal() { reply } else { reply::AUTH_UNAVAILABLE };
                self.refuse(&reply);
                if self.failed_logins >= LOGINS_MAX {
                    self.close_with(&reply::TOO_MANY_LOGINS);
                }
            }
        }
    }

    fn authenticated(&mut self) {
        self.state = State::Command;
        self.authenticated = true;
        self.send(&reply::AUTHENTICATED);
    }

    fn sasl_response(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        let at_end = matches!(self.state, State::SaslEnd);
        match (line, sasl::decode(line)) {
            (b"*", _) => self.sasl_abort(&reply::AUTH_CANCELLED),
            // Some clients write nothing as they do in an initial response.
            (b"" | b"=", _) if at_end => self.authenticated(),
            (_, Some(octets)) if !at_end => {
                self.state = State::Command;
                self.ask(Open::Sasl, Question::Sasl(SaslStep::Response(octets)));
            }
            _ => self.sasl_abort(&reply::BAD_BASE64),
        }
    }

    fn sasl_abort(&mut self, reply: &Reply) {
        self.state = State::Command;
        self.out.push_back(Step::SaslAbort);
        self.bad(reply);
    }

    /// Why no mail can be spoken of now, if so.
    fn closed_door(&self) -> Option<Reply> {
        match self.settings.role {
            Role::Submission if !self.tls => Some(reply::TLS_FIRST),
            Role::Submission if !self.authenticated => Some(reply::AUTH_FIRST),
            _ => None,
        }
    }

    /// RFC 6531 §3.1: who takes UTF-8 takes 8 bits.
    fn takes_eight_bit(&self) -> bool {
        self.settings.eight_bit || self.takes_utf8()
    }

    /// See [`Settings::utf8`].
    fn takes_utf8(&self) -> bool {
        self.settings.utf8 && self.settings.role == Role::Submission
    }

    fn mail(&mut self, path: ReversePath, options: MailOptions) {
        let unannounced = (options.eight_bit && !self.takes_eight_bit())
            || (options.utf8 && !self.takes_utf8())
            || (options.dsn.require_tls && !self.tls);
        if let Some(reply) = self.closed_door() {
            self.bad(&reply);
        } else if self.hello.is_none() {
            self.bad(&reply::HELLO_FIRST);
        } else if self.transaction.is_some() {
            self.bad(&reply::NESTED_MAIL);
        } else if unannounced {
            self.bad(&reply::UNKNOWN_PARAMETER);
        } else if options.size.is_some_and(|size| size > self.settings.size_max) {
            self.refuse(&reply::TOO_LARGE);
        } else {
            self.ask(Open::Mail { utf8: options.utf8 }, Question::Mail { path, options });
        }
    }

    /// `in_ascii`: what it is told where the transaction did not say SMTPUTF8.
    fn rcpt(&mut self, path: ForwardPath, in_ascii: Option<Reply>, dsn: RecipientDsn) {
        if let Some(reply) = self.closed_door() {
            self.bad(&reply);
            return;
        }
        match &self.transaction {
            // Not counted as an error: who pipelines cannot know that MAIL was refused.
            None => self.refuse(&reply::MAIL_FIRST),
            Some(transaction) if transaction.chunks.is_some() => self.bad(&reply::CHUNKS_BEGUN),
            Some(transaction) if transaction.recipients >= self.settings.recipients_max => {
                self.refuse(&reply::TOO_MANY_RECIPIENTS);
            }
            Some(transaction) => match in_ascii.filter(|_| !transaction.utf8) {
                Some(reply) => self.bad(&reply),
                None => self.ask(Open::Recipient, Question::Recipient { path, dsn }),
            },
        }
    }

    fn data(&mut self) {
        if let Some(reply) = self.closed_door() {
            self.bad(&reply);
            return;
        }
        match &self.transaction {
            None => self.refuse(&reply::MAIL_FIRST),
            Some(transaction) if transaction.chunks.is_some() => self.bad(&reply::CHUNKS_BEGUN),
            Some(transaction) if transaction.recipients == 0 => self.refuse(&reply::NO_RECIPIENTS),
            Some(_) => self.ask(Open::Data, Question::Data),
        }
    }

    /// The one place where a transaction is forgotten: after the end of data however it was
    /// answered, and at RSET, HELO, EHLO and STARTTLS.
    fn reset(&mut self) {
        if self.transaction.take().is_some_and(|transaction| transaction.chunks.is_some()) {
            self.out.push_back(Step::Discard);
        }
    }

    fn ask(&mut self, open: Open, question: Question) {
        self.open = Some(open);
        self.out.push_back(Step::Ask(question));
    }

    /// A command that should not have come, or not so.
    fn bad(&mut self, reply: &Reply) {
        self.refuse(reply);
        self.errors += 1;
        if self.errors >= ERRORS_MAX {
            self.close_with(&reply::TOO_MANY_ERRORS);
        }
    }

    fn refuse(&mut self, reply: &Reply) {
        if reply.closes() {
            self.close_with(reply);
        } else {
            self.send(reply);
        }
    }

    /// Says `reply` and closes; while a question is open, after its answer.
    fn close_with(&mut self, reply: &Reply) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if self.open.is_some() {
            self.last_words.get_or_insert_with(|| reply.clone());
            self.input.clear();
        } else {
            // Inside a handshake nothing can be said.
            if !matches!(self.state, State::TlsHandshake) {
                self.send(reply);
            }
            self.close();
        }
    }

    fn close(&mut self) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Content(content) if content.fault().is_none() => {
                self.out.push_back(Step::Discard);
            }
            State::SaslResponse | State::SaslEnd => self.out.push_back(Step::SaslAbort),
            _ => {}
        }
        self.input.clear();
        self.reset();
        self.out.push_back(Step::Close);
    }

    fn send(&mut self, reply: &Reply) {
        self.send_octets(reply.to_octets());
    }

    fn send_octets(&mut self, mut octets: Vec<u8>) {
        match self.out.back_mut() {
            Some(Step::Send(waiting)) => waiting.append(&mut octets),
            _ => self.out.push_back(Step::Send(octets)),
        }
    }

    fn out_octets(&self) -> usize {
        let octets = |step: &Step| match step {
            Step::Send(octets) | Step::Content(octets) => octets.len(),
            _ => 0,
        };
        self.out.iter().map(octets).sum()
    }
}
