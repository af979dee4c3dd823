//! The sending side: one connection to a peer, greeting to QUIT, without a socket or a clock.
//!
//! RFC 5321 §3 and §4, with STARTTLS (RFC 3207), PIPELINING (RFC 2920), SIZE (RFC 1870), BDAT
//! (RFC 3030), DSN parameters (RFC 3461), REQUIRETLS (RFC 8689) and LIMITS (RFC 9422) where the peer
//! offers them. What a peer says decides for each recipient alone. Not here: whom to connect to, what
//! is tried again and when, and whose certificate is believed.
//!
//! After any call that takes `&mut self`, drain [`Client::poll`] to `None` before the next.

mod answer;
mod content;
mod extensions;
mod outcome;

use std::collections::VecDeque;
use std::time::Duration;

use mail::{Address, ReversePath};

pub use answer::{
    ANSWER_LINE_OCTETS_MAX, ANSWER_LINES_MAX, ANSWER_OCTETS_MAX, ANSWER_TEXT_OCTETS_MAX,
    AnswerError, EnhancedStatus, PeerReply,
};
use answer::{AnswerBuffer, Lines};
use content::Stuffing;
pub use extensions::Extensions;
pub use outcome::{Command, Fate, Fault, Verdict, Why};

/// How long each answer is waited for, RFC 5321 §4.5.3.2.
pub mod wait {
    use std::time::Duration;

    /// The greeting, §4.5.3.2.1; EHLO, STARTTLS and RSET, of which it says nothing, likewise.
    pub const GREETING: Duration = Duration::from_secs(300);
    /// MAIL, §4.5.3.2.2.
    pub const MAIL: Duration = Duration::from_secs(300);
    /// RCPT, §4.5.3.2.3.
    pub const RCPT: Duration = Duration::from_secs(300);
    /// DATA, §4.5.3.2.4.
    pub const DATA: Duration = Duration::from_secs(120);
    /// Until a block of content is taken, §4.5.3.2.5.
    pub const BLOCK: Duration = Duration::from_secs(180);
    /// The end of the content, §4.5.3.2.6.
    pub const END: Duration = Duration::from_secs(600);
    /// QUIT: all that mattered is done.
    pub const QUIT: Duration = Duration::from_secs(5);
}

/// Recipients of one transaction at most: what every server takes, RFC 5321 §4.5.3.1.8.
pub const RECIPIENTS_MAX: usize = 100;

/// Whether a connection goes over to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsUse {
    /// Nothing is sent in clear.
    Required,
    /// If the peer offers it.
    IfOffered,
    /// Not again: it was tried, and failed.
    Never,
}

/// What a connection goes by.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Our name in EHLO.
    pub host: String,
    /// Whether it goes over to TLS.
    pub tls: TlsUse,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO: at least one, at most [`Client::recipients_max`]; each with what RFC 3461 §4.1 and
    /// §4.2 have said of it, with a space before each parameter.
    pub recipients: Vec<(Address, String)>,
    /// Octets of the content.
    pub octets: u64,
    /// Whether the content has octets above 127.
    pub eight_bit: bool,
    /// It must not travel where TLS is not sure, RFC 8689.
    pub require_tls: bool,
    /// RET and ENVID (RFC 3461 §4.3 and §4.4), with a space before each: sent, as those of recipients
    /// are, where the peer offers DSN.
    pub parameters: String,
}

/// What the shell does next.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Send these octets.
    Send(Vec<u8>),
    /// Do the TLS handshake; then [`Client::handle_tls_started`]. Octets that came before it are
    /// dropped unread (RFC 3207 §6).
    StartTls,
    /// The peer is there: [`Client::send`] or [`Client::quit`].
    Ready,
    /// Hand over the next piece: [`Client::content`].
    Content,
    /// A transaction is over: for each recipient, in their order.
    Done(Vec<Verdict>),
    /// The connection is of no more use. A transaction that was open had its `Done` before.
    Failed(Why),
    /// Close the connection.
    Close,
}

enum State {
    Greeting,
    /// EHLO is sent; or HELO, to a peer that does not know EHLO.
    Hello {
        old: bool,
    },
    StartTls,
    Handshake,
    Ready,
    Envelope(Transaction),
    DataSent(Transaction),
    /// Content is asked of the shell.
    Content(Transaction),
    /// A chunk is to be answered.
    Chunk(Transaction),
    /// The end of the content is to be answered.
    End(Transaction),
    Reset,
    Quit,
    Over,
}

struct Transaction {
    message: Outgoing,
    verdicts: Vec<Option<Verdict>>,
    /// Of which recipients an answer is awaited; `None` is MAIL.
    awaited: VecDeque<Option<usize>>,
    /// Recipients that RCPT was sent for.
    named: usize,
    /// Why MAIL was refused.
    refused: Option<Verdict>,
    accepted: Vec<usize>,
    chunks: bool,
    dsn: bool,
    stuffing: Stuffing,
}

/// One connection.
pub struct Client {
    settings: ClientSettings,
    answers: AnswerBuffer,
    state: State,
    out: VecDeque<ClientStep>,
    extensions: Extensions,
    is_tls: bool,
    transactions: u64,
    replies: u64,
}

impl Client {
    /// A connection that was just made; the greeting is awaited.
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            answers: AnswerBuffer::default(),
            state: State::Greeting,
            out: VecDeque::new(),
            extensions: Extensions::default(),
            is_tls: false,
            transactions: 0,
            replies: 0,
        }
    }

    /// What the shell does next.
    pub fn poll(&mut self) -> Option<ClientStep> {
        self.out.pop_front()
    }

    /// What the peer offers, once it is [`ClientStep::Ready`].
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Recipients of one transaction at most: [`RECIPIENTS_MAX`], or fewer when the peer says so.
    pub fn recipients_max(&self) -> usize {
        self.extensions.recipients_max.unwrap_or(RECIPIENTS_MAX).min(RECIPIENTS_MAX)
    }

    /// Whether [`send`](Self::send) may be called.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether the peer takes another transaction on this connection, RFC 9422 §4.1.
    pub fn takes_another(&self) -> bool {
        let max = self.extensions.transactions_max.unwrap_or(u64::MAX);
        self.is_ready() && self.transactions < max
    }

    /// How many whole replies have come. While that stays as it is, the shell waits for one reply, and
    /// not anew for each of its octets.
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// How long the shell waits for the next reply, from when it was asked for or the one before came.
    pub fn patience(&self) -> Duration {
        match &self.state {
            State::Envelope(transaction) if transaction.named == 0 => wait::MAIL,
            State::Envelope(_) => wait::RCPT,
            State::DataSent(_) => wait::DATA,
            State::Content(_) | State::Chunk(_) => wait::BLOCK,
            State::End(_) => wait::END,
            State::Quit | State::Over => wait::QUIT,
            _ => wait::GREETING,
        }
    }

    /// Octets came.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        // Said in clear after STARTTLS was answered, by whoever sits between: RFC 3207 §6.
        if matches!(self.state, State::Handshake | State::Over) {
            return;
        }
        self.answers.push(octets);
        loop {
            match self.answers.next() {
                Ok(None) => return,
                Ok(Some(lines)) => {
                    self.replies += 1;
                    self.handle_reply(lines);
                    if matches!(self.state, State::Handshake | State::Over) {
                        self.answers.clear();
                        return;
                    }
                }
                Err(error) => return self.break_off(Why::Fault(Fault::Malformed(error))),
            }
        }
    }

    /// The peer closed, or the connection broke.
    pub fn handle_closed(&mut self) {
        if matches!(self.state, State::End(_)) {
            return self.break_off(Why::Fault(Fault::InDoubt));
        }
        self.break_off(Why::Fault(Fault::Lost));
    }

    /// Nothing came for as long as [`patience`](Self::patience) said.
    pub fn handle_timeout(&mut self) {
        let fault = match self.state {
            State::End(_) => Fault::InDoubt,
            _ => Fault::TimedOut(self.awaiting()),
        };
        self.break_off(Why::Fault(fault));
    }

    /// TLS is up: what was said before counts no more (RFC 3207 §4.2).
    pub fn handle_tls_started(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.is_tls = true;
            self.answers.clear();
            self.extensions = Extensions::default();
            self.say_hello(false);
        }
    }

    /// Begins a transaction, when [`ClientStep::Ready`]. When it is not, or no more, nobody gets the
    /// message, and the verdicts say so.
    pub fn send(&mut self, message: Outgoing) {
        if !matches!(self.state, State::Ready) {
            let verdict = Verdict { fate: Fate::Deferred, why: Why::Fault(Fault::Lost) };
            self.out.push_back(ClientStep::Done(vec![verdict; message.recipients.len()]));
            return;
        }
        if let Some(fault) = self.obstacle(&message) {
            let verdict = Verdict { fate: Fate::Failed, why: Why::Fault(fault) };
            self.out.push_back(ClientStep::Done(vec![verdict; message.recipients.len()]));
            self.out.push_back(ClientStep::Ready);
            return;
        }
        self.transactions += 1;
        let mut line = match &message.reverse_path {
            ReversePath::Null => "MAIL FROM:<>".to_owned(),
            ReversePath::Address(address) => format!("MAIL FROM:<{address}>"),
        };
        if self.extensions.takes_size {
            line += &format!(" SIZE={}", message.octets);
        }
        if message.eight_bit {
            line += " BODY=8BITMIME";
        }
        if message.require_tls {
            line += " REQUIRETLS";
        }
        if self.extensions.dsn {
            line += &message.parameters;
        }
        line += "\r\n";
        let mut transaction = Transaction {
            verdicts: vec![None; message.recipients.len()],
            awaited: VecDeque::from([None]),
            named: 0,
            refused: None,
            accepted: Vec::new(),
            chunks: self.extensions.chunking,
            dsn: self.extensions.dsn,
            stuffing: Stuffing::default(),
            message,
        };
        if self.extensions.pipelining {
            while let Some(recipient) = transaction.next_recipient() {
                line += &recipient;
            }
        }
        self.say(line.into_bytes());
        self.state = State::Envelope(transaction);
    }

    /// Why a message cannot go to this peer at all.
    fn obstacle(&self, message: &Outgoing) -> Option<Fault> {
        if self.extensions.size.is_some_and(|max| message.octets > max) {
            return Some(Fault::TooLarge);
        }
        // RFC 6152 §3: what is not offered must not be used.
        if message.eight_bit && !self.extensions.eight_bit_mime {
            return Some(Fault::NoEightBit);
        }
        // RFC 8689 §4.2.1.
        if message.require_tls && !(self.is_tls && self.extensions.require_tls) {
            return Some(Fault::NoRequireTls);
        }
        None
    }

    /// The next octets of the content, all of them in the end; `last`: nothing follows. A piece
    /// becomes a chunk of its own where the peer takes chunks.
    pub fn content(&mut self, octets: Vec<u8>, last: bool) {
        if !matches!(self.state, State::Content(_)) {
            return;
        }
        let State::Content(mut transaction) = std::mem::replace(&mut self.state, State::Over)
        else {
            return;
        };
        if !transaction.stuffing.is_clean(&octets, last) {
            // Servers that disagree about line ends would see two messages in one.
            self.state = State::Content(transaction);
            return self.break_off(Why::Fault(Fault::BareLineEnd));
        }
        if transaction.chunks {
            let end = if last { " LAST" } else { "" };
            let mut chunk = format!("BDAT {}{end}\r\n", octets.len()).into_bytes();
            chunk.extend_from_slice(&octets);
            self.say(chunk);
            self.state = if last { State::End(transaction) } else { State::Chunk(transaction) };
            return;
        }
        let mut stuffed = transaction.stuffing.stuff(octets);
        if last {
            stuffed.extend_from_slice(transaction.stuffing.end());
        }
        self.say(stuffed);
        if last {
            self.state = State::End(transaction);
        } else {
            self.state = State::Content(transaction);
            self.out.push_back(ClientStep::Content);
        }
    }

    /// Says goodbye; then the connection closes.
    pub fn quit(&mut self) {
        match self.state {
            State::Ready => {
                self.say(b"QUIT\r\n".to_vec());
                self.state = State::Quit;
            }
            State::Over => {}
            _ => self.close(),
        }
    }

    // --- replies

    fn handle_reply(&mut self, lines: Lines) {
        let command = self.awaiting();
        // The peer is going: RFC 5321 §3.8. What it said of recipients before stays said.
        if lines.reply.code == 421 && !matches!(self.state, State::Quit) {
            return self.break_off(Why::Replied(command, lines.reply));
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting => {
                if lines.reply.code == 220 {
                    self.say_hello(false);
                } else {
                    self.fail(Why::Replied(command, lines.reply));
                }
            }
            State::Hello { old } => self.handle_hello(old, lines),
            State::StartTls => {
                if lines.reply.code == 220 {
                    self.out.push_back(ClientStep::StartTls);
                    self.state = State::Handshake;
                } else if self.settings.tls == TlsUse::Required {
                    self.fail(Why::Replied(command, lines.reply));
                } else {
                    self.become_ready();
                }
            }
            State::Envelope(transaction) => self.handle_envelope(transaction, lines.reply),
            State::DataSent(transaction) => {
                if lines.reply.code == 354 {
                    self.out.push_back(ClientStep::Content);
                    self.state = State::Content(transaction);
                } else {
                    self.conclude(transaction, Verdict::of(command, lines.reply), true);
                }
            }
            State::Chunk(transaction) => {
                if lines.reply.is_positive() {
                    self.out.push_back(ClientStep::Content);
                    self.state = State::Content(transaction);
                } else {
                    self.conclude(transaction, Verdict::of(command, lines.reply), true);
                }
            }
            State::End(transaction) => {
                self.conclude(transaction, Verdict::of(command, lines.reply), false);
            }
            // An answer to half a message. What says no is believed; the rest is no dialogue.
            State::Content(transaction) => {
                let verdict = match lines.reply.code / 100 {
                    4 | 5 => Verdict::of(command, lines.reply),
                    _ => Verdict { fate: Fate::Deferred, why: Why::Fault(Fault::Unexpected) },
                };
                let why = verdict.why.clone();
                self.settle(transaction, verdict);
                self.fail(why);
            }
            State::Reset => {
                if lines.reply.is_positive() {
                    self.become_ready();
                } else {
                    self.fail(Why::Replied(command, lines.reply));
                }
            }
            State::Quit => self.close(),
            State::Ready => self.fail(Why::Fault(Fault::Unexpected)),
            State::Handshake | State::Over => {}
        }
    }

    fn handle_hello(&mut self, old: bool, lines: Lines) {
        if !lines.reply.is_positive() {
            if !old && lines.reply.is_permanent() {
                return self.say_hello(true);
            }
            return self.fail(Why::Replied(Command::Hello, lines.reply));
        }
        let name = lines.lines[0].split_ascii_whitespace().next().unwrap_or_default();
        if name.eq_ignore_ascii_case(&self.settings.host) {
            return self.fail(Why::Fault(Fault::Ourselves));
        }
        if !old {
            self.extensions = Extensions::read(&lines.lines[1..]);
        }
        match self.settings.tls {
            _ if self.is_tls => self.become_ready(),
            TlsUse::Never => self.become_ready(),
            TlsUse::Required | TlsUse::IfOffered if self.extensions.starttls => {
                self.say(b"STARTTLS\r\n".to_vec());
                self.state = State::StartTls;
            }
            TlsUse::Required => self.fail(Why::Fault(Fault::TlsNotOffered)),
            TlsUse::IfOffered => self.become_ready(),
        }
    }

    fn handle_envelope(&mut self, mut transaction: Transaction, reply: PeerReply) {
        match transaction.awaited.pop_front() {
            None => {
                self.state = State::Envelope(transaction);
                return self.break_off(Why::Fault(Fault::Unexpected));
            }
            Some(None) => {
                if !reply.is_positive() {
                    transaction.refused = Some(Verdict::of(Command::Mail, reply));
                }
            }
            Some(Some(at)) => {
                if reply.is_positive() {
                    transaction.accepted.push(at);
                } else {
                    transaction.verdicts[at] = Some(Verdict::of_recipient(reply));
                }
            }
        }
        if transaction.refused.is_none()
            && transaction.awaited.is_empty()
            && let Some(line) = transaction.next_recipient()
        {
            self.say(line.into_bytes());
        }
        if !transaction.awaited.is_empty() {
            self.state = State::Envelope(transaction);
            return;
        }
        if let Some(verdict) = transaction.refused.take() {
            // What the peer said about recipients of no transaction says nothing of them.
            transaction.verdicts.fill(None);
            self.conclude(transaction, verdict, true);
        } else if transaction.accepted.is_empty() {
            self.conclude_all_known(transaction);
        } else if transaction.chunks {
            self.out.push_back(ClientStep::Content);
            self.state = State::Content(transaction);
        } else {
            self.say(b"DATA\r\n".to_vec());
            self.state = State::DataSent(transaction);
        }
    }

    fn conclude_all_known(&mut self, transaction: Transaction) {
        let unexpected = Verdict { fate: Fate::Deferred, why: Why::Fault(Fault::Unexpected) };
        self.conclude(transaction, unexpected, true);
    }

    /// A transaction is over; `verdict` is that of all who have none yet.
    fn conclude(&mut self, transaction: Transaction, verdict: Verdict, reset: bool) {
        self.settle(transaction, verdict);
        if reset {
            self.say(b"RSET\r\n".to_vec());
            self.state = State::Reset;
        } else {
            self.become_ready();
        }
    }

    fn settle(&mut self, transaction: Transaction, verdict: Verdict) {
        let verdicts = transaction.verdicts.into_iter();
        let verdicts = verdicts.map(|known| known.unwrap_or_else(|| verdict.clone())).collect();
        self.out.push_back(ClientStep::Done(verdicts));
    }

    /// The connection is of no more use.
    fn break_off(&mut self, why: Why) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return,
            State::Quit => {
                self.out.push_back(ClientStep::Close);
                return;
            }
            State::Envelope(transaction)
            | State::DataSent(transaction)
            | State::Content(transaction)
            | State::Chunk(transaction)
            | State::End(transaction) => {
                let fate = match &why {
                    Why::Fault(Fault::BareLineEnd) => Fate::Failed,
                    _ => Fate::Deferred,
                };
                self.settle(transaction, Verdict { fate, why: why.clone() });
            }
            _ => {}
        }
        self.fail(why);
    }

    fn fail(&mut self, why: Why) {
        self.state = State::Over;
        self.out.push_back(ClientStep::Failed(why));
        self.out.push_back(ClientStep::Close);
    }

    fn close(&mut self) {
        self.state = State::Over;
        self.out.push_back(ClientStep::Close);
    }

    fn become_ready(&mut self) {
        self.state = State::Ready;
        self.out.push_back(ClientStep::Ready);
    }

    fn say_hello(&mut self, old: bool) {
        let verb = if old { "HELO" } else { "EHLO" };
        self.say(format!("{verb} {}\r\n", self.settings.host).into_bytes());
        self.state = State::Hello { old };
    }

    fn say(&mut self, octets: Vec<u8>) {
        self.out.push_back(ClientStep::Send(octets));
    }

    /// What the next reply is an answer to.
    fn awaiting(&self) -> Command {
        match &self.state {
            State::Greeting => Command::Greeting,
            State::Hello { .. } => Command::Hello,
            State::StartTls | State::Handshake => Command::StartTls,
            State::Envelope(transaction) => match transaction.awaited.front() {
                Some(Some(_)) => Command::Recipient,
                _ => Command::Mail,
            },
            State::DataSent(_) | State::Content(_) | State::Chunk(_) => Command::Data,
            State::End(_) => Command::End,
            State::Ready | State::Reset => Command::Reset,
            State::Quit | State::Over => Command::Quit,
        }
    }
}

impl Transaction {
    /// RCPT for the next recipient, when there is one.
    fn next_recipient(&mut self) -> Option<String> {
        let (recipient, parameters) = self.message.recipients.get(self.named)?;
        let parameters = if self.dsn { parameters.as_str() } else { "" };
        self.awaited.push_back(Some(self.named));
        self.named += 1;
        Some(format!("RCPT TO:<{recipient}>{parameters}\r\n"))
    }
}
