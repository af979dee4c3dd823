//! A shell around session machines, without sockets: it keeps the store, runs jobs on the spot,
//! knows one account, and tells sessions of changes, as the server does.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use imap::{Mechanism, SaslAnswer, SaslFailure, SaslStep, Secret, Session, Settings, Step};
use store::memory::MemoryStore;
use store::{
    AccountChange, AccountId, MailboxId, MailboxName, NewAccount, NewMessage, Octets, Owner, Quota,
    Role, Store, Timestamp,
};

/// What anna signs in with.
pub(crate) const PASSWORD: &str = "segreto";

/// A store with anna's account, and the sessions that are connected to it.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) anna: AccountId,
    pub(crate) settings: Settings,
    changed: Arc<Mutex<BTreeSet<MailboxId>>>,
    /// Names, subscriptions or annotations changed.
    touched: std::cell::Cell<bool>,
    /// What the time is, and how many seconds each job takes.
    pub(crate) time: std::cell::Cell<Timestamp>,
    pub(crate) job_secs: i64,
    pub(crate) sessions: Vec<Rc<RefCell<Connection>>>,
}

/// One session and what it sent.
pub(crate) struct Connection {
    session: Session,
    pub(crate) sent: Vec<u8>,
    pub(crate) wants_tls: bool,
    pub(crate) closed: bool,
    pub(crate) faults: Vec<String>,
    login_user: Option<Vec<u8>>,
}

pub(crate) fn now() -> Timestamp {
    "2026-03-02T08:00:00Z".parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let anna = NewAccount {
            address: mail::Address::parse("anna@pec.example").unwrap(),
            user_id: Some("anna".to_owned()),
            owner: Owner::Holder,
            role: Role::None,
            credentials: None,
            quota: quota(1 << 30),
            ordinary_mail: None,
        };
        let anna = store.add_account(anna, now()).unwrap();
        let changed = Arc::new(Mutex::new(BTreeSet::new()));
        let listener = Arc::clone(&changed);
        store.listen(Box::new(move |mailbox| {
            listener.lock().unwrap().insert(mailbox);
        }));
        let settings = Settings {
            host: "imap.pec.example".to_owned(),
            version: "0.1.0".to_owned(),
            append_octets_max: 1 << 20,
            channel_binding: true,
            background: true,
            saved_messages_max: imap::limits::SAVED_MESSAGES_MAX,
            command_messages_max: imap::limits::COMMAND_MESSAGES_MAX,
            unauthenticate: true,
            views: imap::Views::of(&*store),
            zone: jiff::tz::TimeZone::get("Europe/Rome").unwrap(),
        };
        Self {
            store,
            anna,
            settings,
            changed,
            touched: std::cell::Cell::new(false),
            time: std::cell::Cell::new(now()),
            job_secs: 0,
            sessions: Vec::new(),
        }
    }

    pub(crate) fn limit(&self, octets_max: u64) {
        self.store.change_account(self.anna, AccountChange::Quota(quota(octets_max))).unwrap();
    }

    pub(crate) fn limit_messages(&self, octets_max: u64, messages_max: u64) {
        let quota = Quota { messages_max: Some(messages_max), ..quota(octets_max) };
        self.store.change_account(self.anna, AccountChange::Quota(quota)).unwrap();
    }

    pub(crate) fn mailbox(&self, name: &str) -> MailboxId {
        self.store.mailbox(self.anna, &MailboxName::parse(name).unwrap()).unwrap().id
    }

    /// So many messages at once.
    pub(crate) fn fill(&self, mailbox: &str, messages: impl Iterator<Item = Vec<u8>>) {
        let messages = messages.map(|octets| NewMessage {
            octets: Octets::Owned(octets),
            flags: store::Flags::default(),
            received: now(),
            at: now(),
        });
        self.store.append_all(self.mailbox(mailbox), messages.collect()).unwrap();
    }

    pub(crate) fn deliver(&self, mailbox: &str, octets: &[u8]) {
        let message = NewMessage {
            octets: Octets::Inline(octets.into()),
            flags: store::Flags::default(),
            received: now(),
            at: now(),
        };
        self.store.append(self.mailbox(mailbox), message).unwrap();
    }

    pub(crate) fn connect(&mut self, tls: bool) -> Rc<RefCell<Connection>> {
        let connection = Connection {
            session: Session::new(Arc::new(self.settings.clone()), tls),
            sent: Vec::new(),
            wants_tls: false,
            closed: false,
            faults: Vec::new(),
            login_user: None,
        };
        let connection = Rc::new(RefCell::new(connection));
        self.sessions.push(Rc::clone(&connection));
        self.drain(&connection);
        connection
    }

    /// Gives octets to a session, and then tells all sessions what changed.
    pub(crate) fn feed(&self, connection: &Rc<RefCell<Connection>>, octets: &[u8]) {
        for piece in octets.chunks(imap::limits::PENDING_OCTETS_MAX) {
            connection.borrow_mut().session.handle_octets(piece);
            self.drain(connection);
        }
        self.tell();
    }

    /// Tells sessions what changed.
    pub(crate) fn tell(&self) {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock().unwrap());
            if changed.is_empty() && !self.touched.take() {
                return;
            }
            for session in &self.sessions {
                if session.borrow().session.watched().is_some() {
                    session.borrow_mut().session.handle_notified();
                    self.drain(session);
                }
            }
            for session in &self.sessions {
                let selected = session.borrow().session.selected();
                if selected.is_some_and(|mailbox| changed.contains(&mailbox)) {
                    session.borrow_mut().session.handle_changed();
                    self.drain(session);
                }
            }
        }
    }

    pub(crate) fn start_tls(&self, connection: &Rc<RefCell<Connection>>) {
        let mut here = connection.borrow_mut();
        assert!(std::mem::take(&mut here.wants_tls), "nobody asked for TLS");
        here.session.handle_tls_started(true);
        drop(here);
        self.drain(connection);
    }

    pub(crate) fn with_session(
        &self,
        connection: &Rc<RefCell<Connection>>,
        what: impl FnOnce(&mut Session),
    ) {
        what(&mut connection.borrow_mut().session);
        self.drain(connection);
    }

    fn drain(&self, connection: &Rc<RefCell<Connection>>) {
        let mut here = connection.borrow_mut();
        while let Some(step) = here.session.poll() {
            assert!(!here.closed, "a step after the last: {step:?}");
            match step {
                Step::Send(octets) => here.sent.extend(octets),
                Step::SendStored { octets, start, end } => {
                    here.sent.extend(octets.read(start, end).unwrap());
                }
                Step::Sasl(step) => {
                    if let Some(answer) = here.check(step, self.anna) {
                        here.session.authenticated(answer);
                    }
                }
                Step::Perform(job) => {
                    self.touched.set(self.touched.get() || job.touches_account());
                    let at = self.time.get();
                    here.session.finish(job.run(&*self.store, at));
                    self.time.set(at + jiff::SignedDuration::from_secs(self.job_secs));
                }
                Step::StartTls => here.wants_tls = true,
                // What it does to octets is the shell's.
                Step::Compress | Step::SignedOut => {}
                Step::Fault(cause) => here.faults.push(cause),
                Step::Close => here.closed = true,
            }
        }
    }
}

impl Connection {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    fn check(&mut self, step: SaslStep, anna: AccountId) -> Option<SaslAnswer> {
        let known = |user: &[u8], password: &[u8]| {
            let user = user == b"anna" || user == b"anna@pec.example";
            if user && password == PASSWORD.as_bytes() {
                SaslAnswer::Success { account: anna, data: None }
            } else {
                SaslAnswer::Failure(SaslFailure::Credentials)
            }
        };
        let plain = |response: &[u8]| {
            let parts: Vec<&[u8]> = response.split(|&b| b == 0).collect();
            match parts[..] {
                [_, user, password] => known(user, password),
                _ => SaslAnswer::Failure(SaslFailure::Malformed),
            }
        };
        let challenge = |text: &[u8]| SaslAnswer::Challenge(Secret(text.to_vec()));
        Some(match step {
            SaslStep::Abort => return None,
            SaslStep::Login { user, password } => known(&user.0, &password.0),
            SaslStep::Start { mechanism: Mechanism::Plain, initial: Some(response) } => {
                plain(&response.0)
            }
            SaslStep::Start { mechanism: Mechanism::Plain, initial: None } => challenge(b""),
            SaslStep::Start { mechanism: Mechanism::Login, .. } => {
                self.login_user = Some(Vec::new());
                challenge(b"Username:")
            }
            // As if the proof were right, to see the last word of the mechanism.
            SaslStep::Start {
                mechanism: Mechanism::ScramSha256 | Mechanism::ScramSha256Plus,
                ..
            } => SaslAnswer::Success { account: anna, data: Some(Secret(b"v=signature".to_vec())) },
            SaslStep::Response(response) => match self.login_user.take() {
                None => plain(&response.0),
                Some(user) if user.is_empty() => {
                    self.login_user = Some(response.0);
                    challenge(b"Password:")
                }
                Some(user) => known(&user, &response.0),
            },
        })
    }
}

fn quota(octets_max: u64) -> Quota {
    Quota { octets_max, messages_max: None, receipt_reserve_octets: 0 }
}
