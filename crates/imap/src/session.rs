//! The machine: states, literals, IDLE, pipelining. RFC 3501 §3.
//!
//! A session reads one command at a time, in order. What needs the store becomes a [`Job`]; what
//! needs credentials becomes a [`SaslStep`]; until it is answered no further octet is looked at.

mod append;
mod framing;
pub mod limits;
mod login;
mod queue;
mod reading;

use std::sync::Arc;

use jiff::tz::TimeZone;
use store::{AccountId, Held, MailboxId};

use self::append::Literal;
use self::framing::{Framer, Pending};
use self::queue::Queue;
use crate::command::{Command, Needs, Work, capability};
use crate::enabled::Enabled;
use crate::job::{Answer, Flow, Job, Progress};
use crate::live::Views;
use crate::refusal::{Refusal, Status};
use crate::response::{Code, Piece};
use crate::sasl::{SaslAnswer, SaslStep, Secret};
use crate::selected::Selected;
use crate::watch::Watch;

/// What all sessions of a server have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this host, for the greeting.
    pub host: String,
    /// The version of this program, for ID.
    pub version: String,
    /// Octets of an APPENDed message at most (`limits.append_octets`).
    pub append_octets_max: u64,
    /// Messages that one COPY or APPEND adds at most ([`limits::SAVED_MESSAGES_MAX`]).
    pub saved_messages_max: u64,
    /// Messages that one command looks at at most ([`limits::COMMAND_MESSAGES_MAX`]).
    pub command_messages_max: u64,
    /// Whether SCRAM can be bound to the TLS connection that is there from the start: its key can be
    /// exported (RFC 9266).
    pub channel_binding: bool,
    /// Whether mail is fetched for clients' background work, such as indexing, which can wait.
    pub background: bool,
    /// Whether a connection can be used for one account after the other: RFC 8437 §8 wants a choice.
    pub unauthenticate: bool,
    /// What sessions on one mailbox have in common.
    pub views: Arc<Views>,
    /// In which zone internal dates are shown, and what a day is to SEARCH.
    pub zone: TimeZone,
}

impl Settings {
    /// Messages that one COPY or APPEND adds, all or none: RFC 9738 §3.1.
    pub(crate) fn saved_max(&self) -> u64 {
        self.saved_messages_max.min(self.command_messages_max)
    }
}

/// What the shell does next.
#[derive(Debug)]
pub enum Step {
    /// Send these octets.
    Send(Vec<u8>),
    /// Send octets `start..end` of stored ones, read from the store piece by piece.
    SendStored {
        /// Which: they stay as long as this is there.
        octets: Arc<dyn Held>,
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
    /// What was sent before is sent as it is; from here on both ways are compressed, RFC 4978 §3.
    Compress,
    /// Nobody is signed in any more, and nothing is compressed any more.
    SignedOut,
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
    /// SCRAM can be bound to the TLS connection.
    binds: bool,
    compressed: bool,
    /// How far the command that runs has come.
    progress: Progress,
    place: Place,
    doing: Doing,
    pending: Pending,
    framer: Framer,
    out: Queue,
    /// BAD in a row.
    bad: u32,
    login_failures: u32,
    /// What the user is told when he has signed in.
    alert: Option<&'static str>,
    /// The selected mailbox changed, and the client is not told yet.
    changed: bool,
    /// What the client has enabled.
    enabled: Enabled,
    /// What NOTIFY asked to be told.
    watch: Option<Box<Watch>>,
    /// Something happened that NOTIFY may have to tell.
    notified: bool,
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
    /// The next octets are a command, and a job tells what NOTIFY asked for.
    NotifyJob,
    /// The next octets are a message.
    Literal(Box<Literal>),
    /// The same, and a job readies its place or writes it.
    LiteralJob(Box<Literal>),
    /// The rest of the APPEND's line, which should be empty.
    Tail(Box<Literal>),
    /// It is over.
    Closed,
}

/// What a client is told that waited for what is not heard any more: RFC 5530 §3, `UNAVAILABLE`.
const CUT_OFF: &str = "[UNAVAILABLE] The mail cannot be reached now: connect again later";

impl Session {
    /// A session on a connection that is made, inside TLS or not yet. The greeting is queued.
    pub fn new(settings: Arc<Settings>, tls: bool) -> Self {
        let greeting = format!(
            "* OK [CAPABILITY {}] {} ceralacca ready\r\n",
            capability::list(&settings, tls, tls && settings.channel_binding, false),
            settings.host
        );
        let mut session = Self {
            binds: tls && settings.channel_binding,
            compressed: false,
            progress: Progress::default(),
            settings,
            tls,
            place: Place::NotAuthenticated,
            doing: Doing::Command,
            pending: Pending::default(),
            framer: Framer::new(false),
            out: Queue::default(),
            bad: 0,
            login_failures: 0,
            alert: None,
            changed: false,
            enabled: Enabled::default(),
            watch: None,
            notified: false,
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

    /// TLS has started; whether SCRAM can be bound to it. What came in clear and was not answered yet
    /// is dropped unread.
    pub fn handle_tls_started(&mut self, channel_binding: bool) {
        if matches!(self.doing, Doing::Tls) {
            self.tls = true;
            self.binds = channel_binding;
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

    /// Something happened to a mailbox that is [watched](Self::watched), or to names, subscriptions or
    /// annotations of the account.
    pub fn handle_notified(&mut self) {
        self.notified |= self.watch.as_ref().is_some_and(|watch| watch.looks())
            || matches!(self.place, Place::Away(..));
        self.advance();
    }

    /// The mailboxes whose changes matter for [`handle_notified`](Self::handle_notified), and a number
    /// that is another when they are others; `None` while none do, or a job runs.
    pub fn watched(&self) -> Option<(u64, Vec<MailboxId>)> {
        let watch = self.watch.as_ref().filter(|watch| watch.looks())?;
        let (version, mailboxes) = watch.mailboxes();
        Some((version, mailboxes.collect()))
    }

    /// The client was silent for too long.
    pub fn handle_timeout(&mut self) {
        self.close("Nothing came for too long: connect again");
    }

    /// The account was suspended, removed or given another password: who it is must be proved
    /// again.
    pub fn handle_account_changed(&mut self) {
        self.close("Your account was changed: sign in again");
    }

    /// Nothing is heard any more of what happens to mailboxes: who waits to be told, by IDLE or by NOTIFY, should
    /// wait elsewhere.
    pub fn handle_cut_off(&mut self) {
        if self.is_idle() || self.watch.as_ref().is_some_and(|watch| watch.looks()) {
            self.close(CUT_OFF);
        }
    }

    /// The server stops.
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

    /// Something that the user must be told, once he has signed in: an untagged `OK [ALERT]`, RFC
    /// 9051 §7.1. The text is ASCII on one line.
    pub fn handle_alert(&mut self, text: &'static str) {
        self.alert = Some(text);
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
        let Answer { selected, out, end, faults, progress, watch } = answer;
        self.progress = progress;
        self.watch = watch;
        self.notified |= selected.as_ref().is_some_and(|here| here.has_arrived());
        self.place = match selected {
            Some(selected) => Place::Selected(account, selected),
            None => Place::Authenticated(account),
        };
        faults.into_iter().for_each(|fault| self.out.push(Step::Fault(fault)));
        for piece in out.into_pieces() {
            match piece {
                Piece::Octets(octets) => self.out.send_owned(octets),
                Piece::Stored { octets, start, end } => {
                    self.out.push(Step::SendStored { octets, start, end });
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
        if self.out.is_empty() {
            // There may be commands that waited until the answers before them were taken.
            self.advance();
        }
        self.out.pop()
    }

    /// Whether octets are wanted now: not while an answer is awaited or enough is waiting.
    pub fn wants_octets(&self) -> bool {
        let waits = matches!(
            self.doing,
            Doing::Job { .. }
                | Doing::Sasl { .. }
                | Doing::Tls
                | Doing::IdleJob { .. }
                | Doing::NotifyJob
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
                // Once they are taken, `poll` goes on.
                Doing::Command if self.out.octets() >= limits::QUEUED_OCTETS_MAX => false,
                Doing::Command if self.must_tell() => {
                    self.perform(Work::Notified { idle: false }, Doing::NotifyJob);
                    false
                }
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

    /// Whether NOTIFY has something to be told now.
    pub(super) fn must_tell(&self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let selected = matches!(self.place, Place::Selected(..)) && watch.hears().messages;
        self.is_authenticated() && (self.notified || self.changed && selected)
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
                let list = self.capabilities();
                self.send(format!("* CAPABILITY {list}\r\n").as_bytes());
                self.end(&tag, Ok((None, "CAPABILITY completed")));
            }
            Command::Noop => match self.place {
                Place::Selected(..) | Place::Authenticated(_) => {
                    self.perform(Work::Sync, Doing::Job { tag });
                }
                _ => self.end(&tag, Ok((None, "NOOP completed"))),
            },
            Command::Logout => {
                self.send(b"* BYE Goodbye\r\n");
                self.end(&tag, Ok((None, "LOGOUT completed")));
                self.out.push(Step::Close);
                self.doing = Doing::Closed;
            }
            Command::Id { background: true } if !self.settings.background => {
                // The client tries again in about a day: TN3189.
                let text = "Busy: what can wait, let it wait";
                self.end(&tag, Err(Refusal::no(Code::Unavailable, text)));
            }
            Command::Id { .. } => {
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
            Command::Enable(enabled) => {
                self.send(format!("* ENABLED{}\r\n", enabled.words()).as_bytes());
                self.enable(enabled);
                self.end(&tag, Ok((None, "ENABLE completed")));
            }
            Command::Compress => self.compress(&tag),
            Command::Unauthenticate => self.unauthenticate(&tag),
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
            Command::Append => {
                self.end(&tag, Err(Refusal::bad("APPEND needs a message as a literal")));
            }
            Command::Work(Needs::Selected, _) if !matches!(self.place, Place::Selected(..)) => {
                self.end(&tag, Err(Refusal::nothing_selected()));
            }
            Command::Work(_, work) => {
                if work.enables_condstore() {
                    self.enable(Enabled { condstore: true, ..Enabled::default() });
                }
                self.progress = Progress::of(&tag);
                self.perform(work, Doing::Job { tag });
            }
        }
    }

    fn capabilities(&self) -> String {
        capability::list(&self.settings, self.tls, self.binds, self.is_authenticated())
    }

    /// Enables this too. With mod-sequences, how far the client is in its mailbox it is told at once.
    fn enable(&mut self, enabled: Enabled) {
        let before = self.enabled;
        self.enabled = before.and(enabled);
        if self.enabled.condstore
            && !before.condstore
            && let Place::Selected(_, selected) = &self.place
        {
            let highest = selected.highest_mod_seq();
            self.send(format!("* {highest}\r\n").as_bytes());
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
        if matches!(work, Work::Notified { .. }) {
            self.notified = false;
        }
        let watch = self.watch.take();
        self.place = Place::Away(account, selected.as_ref().map(|selected| selected.mailbox));
        let settings = Arc::clone(&self.settings);
        let enabled = self.enabled;
        let progress = std::mem::take(&mut self.progress);
        let job = Job { work, account, selected, settings, enabled, progress, watch };
        self.out.push(Step::Perform(job));
        self.doing = doing;
    }

    /// Goes on after a job.
    fn proceed(&mut self, doing: Doing, end: Result<Flow, Refusal>) {
        match (doing, end) {
            (doing, Ok(Flow::More(work))) => self.perform(work, doing),
            // A client that is told nothing would think that nothing happened.
            (Doing::IdleJob { .. }, Err(Refusal { code: Some(Code::Unavailable), .. })) => {
                self.close(CUT_OFF);
            }
            (Doing::IdleJob { tag, line }, Ok(_) | Err(_)) => {
                self.doing = Doing::Idle { tag, line };
            }
            // What could not be told now is told with the next change.
            (Doing::NotifyJob, Ok(_) | Err(_)) => self.doing = Doing::Command,
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
                self.out.push(Step::Close);
                self.doing = Doing::Closed;
                self.pending.clear();
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        self.out.send(octets);
    }
}
