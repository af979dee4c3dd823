//! Taking mail in: the shell around a session of [`smtp`], the access point's door, and on port 25
//! that of the incoming point too.
//!
//! Who may send what as whom is decided here; what becomes of a user's message in
//! [`crate::flow::access`], and of what another host brings in [`crate::flow::reception`]. `250` to
//! the end of data leaves after the commit that holds the message, its identity, its time and its
//! log records (PEC-AP-29).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mail::{Address, ForwardPath, ReversePath};
use smtp::reply;
use smtp::{
    Answer, Dsn, MailOptions, Mechanism, Question, RecipientDsn, Reply, Role, SaslAnswer, SaslStep,
    Session, Settings, Step,
};
use store::{Account, Spool, StoreError};
use tokio::sync::watch;

use crate::drive::Connection;
use crate::flow::{access, reception};
use crate::login::Denied;
use crate::sasl::{self, Exchange, Outcome};
use crate::site::Site;

/// How long a client may be silent: RFC 5321 §4.5.3.2.7 wants five minutes at least.
const IDLE_WAIT: Duration = Duration::from_secs(300);
/// Before it has signed in, it has less: this is where strangers hold connections open.
const IDLE_WAIT_BEFORE_LOGIN: Duration = Duration::from_secs(60);
/// How long signing in may take in all: an octet a minute shall not hold a connection for ever.
const LOGIN_WAIT: Duration = Duration::from_secs(180);
/// How long another host may take from one message to the next, or to the end of the first: at this
/// rate the largest one still comes through 256 kbit/s.
const STRANGER_WAIT: Duration = Duration::from_secs(3_600);
/// Octets of content collected before they go to the spool, which may write to disk.
const SPOOL_PIECE_OCTETS: usize = 128 * 1024;

/// What a session of this listener goes by, as the configuration is now.
fn settings(site: &Site, role: Role) -> Arc<Settings> {
    let config = site.config.load();
    Arc::new(Settings {
        host: site.host(),
        role,
        size_max: config.limits.refuse_above_octets,
        recipients_max: config.limits.recipients,
        eight_bit: config.limits.eight_bit,
        mechanisms: Mechanism::EVERYWHERE.to_vec(),
        starttls: true,
    })
}

/// What AUTH offers on this connection.
fn offered(connection: &Connection) -> Vec<Mechanism> {
    let here = |mechanism: &Mechanism| match mechanism {
        Mechanism::ScramSha256Plus => connection.exporter().is_some(),
        Mechanism::External => false,
        _ => true,
    };
    Mechanism::ALL.into_iter().filter(here).collect()
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    site: Arc<Site>,
    mut connection: Connection,
    role: Role,
    mut stop: watch::Receiver<bool>,
) {
    let mut session = Session::new(settings(&site, role), connection.is_tls());
    session.offer(offered(&connection));
    let mut desk = Desk::new(site.clone(), &connection);
    let mut accounts = site.hub.watch_accounts();
    let sign_in_until = tokio::time::Instant::now() + LOGIN_WAIT;
    loop {
        match act(&mut session, &mut desk, &mut connection).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::debug!(target: "smtp", peer = %connection.peer(), %error, "connection lost");
                session.handle_closed();
                // What was open is unwound; nothing can be sent.
                while session.poll().is_some() {}
                return;
            }
        }
        let now = tokio::time::Instant::now();
        let patience = if desk.account.is_some() {
            now + IDLE_WAIT
        } else if let Some(since) = desk.stranger_since {
            (since + STRANGER_WAIT).min(now + IDLE_WAIT)
        } else {
            sign_in_until.min(now + IDLE_WAIT_BEFORE_LOGIN)
        };
        let read = tokio::time::timeout_at(patience, connection.read());
        tokio::select! {
            read = read, if session.wants_octets() => match read {
                Err(_) => session.handle_timeout(),
                Ok(Ok(octets)) if octets.is_empty() => session.handle_closed(),
                Ok(Ok(octets)) => session.handle_octets(&octets),
                Ok(Err(error)) => {
                    tracing::debug!(target: "smtp", peer = %connection.peer(), %error, "connection lost");
                    session.handle_closed();
                }
            },
            () = stopped(&mut stop) => session.handle_shutdown(),
            changed = accounts.recv() => {
                let account = desk.account.clone();
                if let Some(account) = account
                    && sasl::is_changed(&site, &account, changed.ok()).await
                {
                    session.handle_account_changed();
                }
            }
        }
    }
    connection.close().await;
}

/// Does what the session wants until it waits for the client; false when the connection ends.
async fn act(
    session: &mut Session,
    desk: &mut Desk,
    connection: &mut Connection,
) -> io::Result<bool> {
    while let Some(step) = session.poll() {
        match step {
            Step::Send(octets) => connection.write(&octets).await?,
            Step::Ask(question) => {
                let trace = Trace {
                    protocol: session.protocol(),
                    hello: session.hello().unwrap_or_default().to_owned(),
                    tls: connection.tls_words(),
                };
                let channel = sasl::Channel { exporter: connection.exporter() };
                let answer = desk.answer(question, trace, channel).await;
                session.answer(answer);
            }
            Step::Content(octets) => desk.content(&octets).await,
            Step::Discard => desk.discard(),
            Step::SaslAbort => {
                desk.exchange = None;
                desk.account = None;
            }
            Step::StartTls => {
                connection.start_tls(desk.site.tls.acceptor()).await?;
                session.handle_tls_started();
                session.offer(offered(connection));
            }
            Step::Close => return Ok(false),
        }
    }
    Ok(true)
}

/// What the session says about itself for the trace field.
struct Trace {
    protocol: &'static str,
    hello: String,
    /// Version and cipher suite.
    tls: Option<String>,
}

/// Where the session's questions are answered.
struct Desk {
    site: Arc<Site>,
    peer: std::net::SocketAddr,
    exchange: Option<Exchange>,
    account: Option<Box<Account>>,
    /// Since when another host is at its present message.
    stranger_since: Option<tokio::time::Instant>,
    /// Of the open transaction.
    reverse_path: Option<ReversePath>,
    forward_paths: Vec<Address>,
    /// What its sender asks to be told: of the message, and of each forward-path.
    dsn: Dsn,
    recipients_dsn: Vec<RecipientDsn>,
    spool: Option<Box<dyn Spool>>,
    /// Content that has not gone to the spool yet.
    piece: Vec<u8>,
    /// The spool failed: the message will be refused so at its end.
    spool_failed: Option<Reply>,
}

impl Desk {
    fn new(site: Arc<Site>, connection: &Connection) -> Self {
        Self {
            site,
            peer: connection.peer(),
            exchange: None,
            account: None,
            stranger_since: None,
            reverse_path: None,
            forward_paths: Vec::new(),
            dsn: Dsn::default(),
            recipients_dsn: Vec::new(),
            spool: None,
            piece: Vec::new(),
            spool_failed: None,
        }
    }

    async fn answer(&mut self, question: Question, trace: Trace, channel: sasl::Channel) -> Answer {
        match question {
            Question::Sasl(step) => self.sasl(step, channel).await,
            Question::Mail { path, options } => self.mail(path, options).await,
            Question::Recipient { path, dsn } => self.recipient(path, dsn),
            Question::Data => self.open_spool().await,
            Question::EndOfData { octets } => self.end_of_data(octets, trace).await,
        }
    }

    async fn sasl(&mut self, step: SaslStep, channel: sasl::Channel) -> Answer {
        let (exchange, response) = match step {
            SaslStep::Start { mechanism, initial } => {
                let mechanism = match mechanism {
                    Mechanism::Plain => sasl::Mechanism::Plain,
                    Mechanism::Login => sasl::Mechanism::Login,
                    Mechanism::ScramSha256 => sasl::Mechanism::ScramSha256,
                    Mechanism::ScramSha256Plus => sasl::Mechanism::ScramSha256Plus,
                    Mechanism::External => {
                        return Answer::Sasl(SaslAnswer::Failure(reply::AUTH_FAILED));
                    }
                };
                (Exchange::Begin(mechanism, channel), initial)
            }
            SaslStep::Response(response) => match self.exchange.take() {
                Some(exchange) => (exchange, Some(response)),
                None => return Answer::Sasl(SaslAnswer::Failure(reply::AUTH_FAILED)),
            },
        };
        let outcome = sasl::step(&self.site, exchange, response, self.peer.ip()).await;
        Answer::Sasl(match outcome {
            Outcome::Challenge(exchange, octets) => {
                self.exchange = Some(exchange);
                SaslAnswer::Challenge(octets)
            }
            Outcome::Success(account, data) => {
                tracing::info!(target: "smtp", peer = %self.peer, account = %account.address, "signed in");
                self.account = Some(account);
                SaslAnswer::Success(data)
            }
            Outcome::Failure(denied, login) => {
                tracing::info!(target: "smtp", peer = %self.peer, %login, ?denied, "login refused");
                SaslAnswer::Failure(match denied {
                    Denied::Wrong | Denied::Malformed => reply::AUTH_FAILED,
                    Denied::Suspended => reply::ACCOUNT_SUSPENDED,
                    Denied::Later => reply::AUTH_LATER,
                    Denied::Unavailable(_) => reply::AUTH_UNAVAILABLE,
                })
            }
        })
    }

    /// PEC-AP-02: the reverse-path is an address that the account may use.
    async fn mail(&mut self, path: ReversePath, options: MailOptions) -> Answer {
        self.forward_paths.clear();
        self.recipients_dsn.clear();
        self.reverse_path = None;
        self.dsn = options.dsn;
        let Some(account) = &self.account else {
            // Other hosts come for anybody, and for nobody: RFC 5321 §4.5.5.
            self.stranger_since.get_or_insert_with(tokio::time::Instant::now);
            self.reverse_path = Some(path);
            return Answer::Accept;
        };
        // Nobody but the PEC engine writes as a service address.
        if account.role != store::Role::None {
            return Answer::Refuse(reply::SENDER_NOT_YOURS);
        }
        match path {
            ReversePath::Address(address) if address == account.address => {
                let (store, id) = (self.site.store.clone(), account.id);
                match blocking(move || store.usage(id)).await {
                    // Its receipts would have to wait, and nothing bounds how many of them.
                    Ok(Ok(usage)) if !usage.has_room(1, 1, store::Charge::Receipt) => {
                        return Answer::Refuse(reply::SENDER_FULL);
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return self.fault(&error),
                    Err(error) => return self.fault(&error),
                }
                self.reverse_path = Some(ReversePath::Address(address));
                Answer::Accept
            }
            _ => Answer::Refuse(reply::SENDER_NOT_YOURS),
        }
    }

    fn recipient(&mut self, path: ForwardPath, dsn: RecipientDsn) -> Answer {
        let address = match path {
            ForwardPath::Address(address) => address,
            ForwardPath::Postmaster => self.site.config.load().provider.postmaster.clone(),
        };
        // An unknown account of ours is taken: its sender gets a signed notice (PEC-PR-30). Beyond
        // our domains goes what a user of ours sends: ordinary recipients get the transport envelope
        // too (PEC-GEN-16).
        if self.account.is_none() && !self.site.manages(address.domain()) {
            return Answer::Refuse(reply::NO_RELAY);
        }
        self.forward_paths.push(address);
        self.recipients_dsn.push(dsn);
        Answer::Accept
    }

    async fn open_spool(&mut self) -> Answer {
        self.discard();
        let store = self.site.store.clone();
        match blocking(move || store.spool()).await {
            Ok(Ok(spool)) => {
                self.spool = Some(spool);
                Answer::Accept
            }
            Ok(Err(error @ StoreError::NoSpace)) => {
                tracing::error!(target: "smtp", %error, "a message cannot be spooled");
                Answer::Refuse(refusal_of(&error))
            }
            Ok(Err(error)) => self.fault(&error),
            Err(error) => self.fault(&error),
        }
    }

    async fn content(&mut self, octets: &[u8]) {
        self.piece.extend_from_slice(octets);
        if self.piece.len() >= SPOOL_PIECE_OCTETS {
            self.write_piece().await;
        }
    }

    async fn write_piece(&mut self) {
        // Also when the spool has failed: what then still comes is not kept.
        let piece = std::mem::take(&mut self.piece);
        let Some(mut spool) = self.spool.take() else { return };
        let written = blocking(move || spool.write(&piece).map(|()| spool)).await;
        match written {
            Ok(Ok(spool)) => self.spool = Some(spool),
            Ok(Err(error)) => {
                tracing::error!(target: "smtp", %error, "a message cannot be spooled");
                self.spool_failed = Some(refusal_of(&error));
            }
            Err(error) => {
                self.spool_failed = Some(reply::LOCAL_ERROR);
                tracing::error!(target: "smtp", %error, "a message cannot be spooled");
            }
        }
    }

    fn discard(&mut self) {
        self.spool = None;
        self.piece = Vec::new();
        self.spool_failed = None;
    }

    async fn end_of_data(&mut self, octets: u64, trace: Trace) -> Answer {
        self.write_piece().await;
        let failed = self.spool_failed.take();
        let (Some(spool), None) = (self.spool.take(), &failed) else {
            return Answer::Refuse(failed.unwrap_or(reply::LOCAL_ERROR));
        };
        let Some(reverse_path) = self.reverse_path.take() else {
            return Answer::Refuse(reply::LOCAL_ERROR);
        };
        let forward_paths = std::mem::take(&mut self.forward_paths);
        let dsn = std::mem::take(&mut self.dsn);
        let recipients_dsn = std::mem::take(&mut self.recipients_dsn);
        let asked: Vec<_> = forward_paths.iter().zip(&recipients_dsn).collect();
        let wishes = access::Wishes::new(&dsn, &asked);
        // Several messages of 100 MB at once shall not exhaust the memory.
        let Some(memory) = self.site.memory_for(octets).await else {
            return Answer::Refuse(reply::STOPPING);
        };
        let site = self.site.clone();
        let taken = match (&self.account, reverse_path) {
            (Some(_), ReversePath::Address(reverse_path)) => {
                let trace = access::Trace {
                    hello: trace.hello,
                    peer: self.peer.ip(),
                    protocol: trace.protocol,
                };
                let submitted = access::Submitted { reverse_path, forward_paths, wishes, trace };
                blocking(move || {
                    let _memory = memory;
                    access::take(&site, &submitted, spool)
                })
                .await
            }
            (Some(_), ReversePath::Null) => return Answer::Refuse(reply::SENDER_NOT_YOURS),
            (None, reverse_path) => {
                self.stranger_since = Some(tokio::time::Instant::now());
                let arrival = reception::Arrival {
                    hello: trace.hello,
                    peer: self.peer.ip(),
                    protocol: trace.protocol,
                    tls: trace.tls,
                    authenticate: None,
                };
                let received = reception::Received { reverse_path, forward_paths, arrival };
                blocking(move || {
                    let _memory = memory;
                    reception::take(&site, received, spool)
                })
                .await
            }
        };
        match taken {
            Ok(Ok(id)) => Answer::Accepted { id },
            Ok(Err(access::Refusal::Say(reply))) => Answer::Refuse(reply),
            Ok(Err(access::Refusal::Fault(error))) => {
                tracing::error!(target: "smtp", error = %format!("{error:#}"), "a message cannot be taken");
                Answer::Refuse(reply::LOCAL_ERROR)
            }
            Err(error) => self.fault(&error),
        }
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> Answer {
        tracing::error!(target: "smtp", peer = %self.peer, %error, "this server failed");
        Answer::Refuse(reply::LOCAL_ERROR)
    }
}

/// What a client is told when the store did not take something.
fn refusal_of(error: &StoreError) -> Reply {
    match error {
        StoreError::NoSpace => reply::STORAGE_FULL,
        _ => reply::LOCAL_ERROR,
    }
}

/// Runs what may block where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// Waits until the program stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error: who would say so is gone, and the program with it.
    let _ = stop.wait_for(|stop| *stop).await;
}
