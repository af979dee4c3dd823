//! The shell around a session of [`imap`]: sockets, passwords, the store and the changes that an
//! idling client waits for.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use imap::{Mechanism, SaslAnswer, SaslFailure, SaslStep, Secret, Session, Settings, Step};
use store::{Account, AccountId, Held, MailboxId, Store, Timestamp};
use tokio::sync::watch;

use crate::drive::Connection;
use crate::limits::{CountedSession, Service, has_room_for_receipts};
use crate::login::Denied;
use crate::sasl::{self, Exchange, Outcome};
use crate::site::Site;
use crate::submission::{blocking, stopped};
use crate::turns::{Turn, Turns};

/// How long a client may be silent: RFC 3501 §5.4 wants thirty minutes at least.
const IDLE_WAIT: Duration = Duration::from_secs(31 * 60);
/// Before it has signed in, it has less: this is where strangers hold connections open.
const IDLE_WAIT_BEFORE_LOGIN: Duration = Duration::from_secs(60);
/// How long signing in may take in all: an octet a minute shall not hold a connection for ever,
/// and who is asked for a password by a dialogue finds it in that time.
const LOGIN_WAIT: Duration = Duration::from_secs(180);
/// How often an idling client gets a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(120);
/// Octets of a stored message that are read at once while it is sent: twice as many are in memory, those
/// that are being sent and the next. The store keeps pieces of up to 64 KiB, so that few are read twice.
const PIECE_OCTETS: u64 = 128 * 1024;

/// Who may hold a whole message in memory now.
static TURNS: LazyLock<Turns> = LazyLock::new(Turns::of_jobs);
/// Who may put messages in order now.
static ORDERS: LazyLock<Turns> = LazyLock::new(Turns::of_orders);

/// What a session goes by, as the configuration is now.
fn settings(site: &Site, connection: &Connection) -> Arc<Settings> {
    let config = site.config.load();
    let limits = &config.limits;
    Arc::new(Settings {
        host: site.host(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        append_octets_max: limits.append_octets,
        channel_binding: connection.exporter().is_some(),
        background: site.connections.count() <= limits.background_connections_max,
        saved_messages_max: imap::limits::SAVED_MESSAGES_MAX,
        command_messages_max: limits.command_messages,
        unauthenticate: limits.unauthenticate,
        views: Arc::clone(&site.views),
        zone: pec::moment::rome().clone(),
    })
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    site: Arc<Site>,
    mut connection: Connection,
    mut stop: watch::Receiver<bool>,
) {
    let mut session = Session::new(settings(&site, &connection), connection.is_tls());
    let mut desk = Desk {
        site: site.clone(),
        exchange: None,
        channel: sasl::Channel { exporter: connection.exporter(), certificate: None },
        account: None,
        counted: None,
        watched: None,
        account_watched: None,
        order: None,
        sign_in_until: tokio::time::Instant::now() + LOGIN_WAIT,
    };
    let mut accounts = site.hub.watch_accounts();
    let mut cut_off = site.hub.watch_cut_off();
    let mut silent_since = tokio::time::Instant::now();
    loop {
        match act(&mut session, &mut desk, &mut connection).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::debug!(target: "imap", peer = %connection.peer(), %error, "connection lost");
                return;
            }
        }
        if desk.watch(session.selected()) {
            // What changed between its opening and now was told to nobody.
            session.handle_changed();
            continue;
        }
        if desk.watch_account(&session) {
            session.handle_notified();
            continue;
        }
        let patience = if session.is_authenticated() {
            silent_since + IDLE_WAIT
        } else {
            desk.sign_in_until.min(silent_since + IDLE_WAIT_BEFORE_LOGIN)
        };
        let keepalive = if session.is_idle() { KEEPALIVE } else { IDLE_WAIT };
        tokio::select! {
            read = connection.read(), if session.wants_octets() => match read {
                Ok(octets) if !octets.is_empty() => {
                    silent_since = tokio::time::Instant::now();
                    session.handle_octets(&octets);
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(target: "imap", peer = %connection.peer(), %error, "connection lost");
                    break;
                }
            },
            told = desk.changed() => match told {
                Told::Selected => session.handle_changed(),
                Told::Account => session.handle_notified(),
            },
            () = tokio::time::sleep_until(patience) => session.handle_timeout(),
            () = tokio::time::sleep(keepalive) => session.handle_keepalive(),
            () = stopped(&mut stop) => session.handle_shutdown(),
            Ok(()) = cut_off.changed() => session.handle_cut_off(),
            changed = accounts.recv() => {
                if let Some(account) = &desk.account
                    && sasl::is_changed(&site, account, changed.ok().flatten()).await
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
            Step::SendStored { octets, start, end } => {
                send_stored(connection, octets, start, end).await?;
            }
            Step::Sasl(step) => {
                if let Some(answer) = desk.sasl(step, connection.peer().ip()).await {
                    if let SaslAnswer::Success { account, .. } = &answer
                        && desk.is_full(*account).await?
                    {
                        session.handle_alert(pec::text::MAILBOX_FULL);
                    }
                    session.authenticated(answer);
                }
            }
            Step::Perform(job) => {
                if job.is_short() && desk.site.store.is_near() {
                    // This thread's other tasks go to another one meanwhile, should it take longer.
                    let (store, at) = (&*desk.site.store, desk.site.clock.now());
                    let answer = tokio::task::block_in_place(|| measured(job, store, at));
                    session.finish(answer);
                    continue;
                }
                let site = desk.site.clone();
                let touched = session.account().filter(|_| job.touches_account());
                let (octets, keeps) = (job.holds_octets(), job.keeps_octets());
                let mut order = desk.order.take().filter(|_| keeps > 0);
                if let Some(account) = session.account().filter(|_| keeps > 0)
                    && order.is_none()
                {
                    order = ORDERS.wait(account, keeps).await;
                }
                let turn = match session.account().filter(|_| octets > 0) {
                    Some(account) => TURNS.wait(account, octets).await,
                    None => None,
                };
                let run = blocking(move || {
                    let _turn = turn;
                    let answer = measured(job, &*site.store, site.clock.now());
                    // The place of the whole command, until it holds nothing more.
                    let order = order.filter(|_| answer.keeps_octets() > 0);
                    (answer, order)
                });
                let (answer, order) = run.await.map_err(io::Error::other)?;
                desk.order = order;
                session.finish(answer);
                if let Some(account) = touched {
                    desk.site.hub.names_changed(account);
                }
            }
            Step::StartTls => {
                connection.start_tls(desk.site.tls.acceptor()).await?;
                desk.channel = sasl::Channel { exporter: connection.exporter(), certificate: None };
                session.handle_tls_started(desk.channel.exporter.is_some());
            }
            Step::Compress => connection.compress(),
            Step::SignedOut => {
                connection.compress_no_more();
                desk.sign_out();
                desk.sign_in_until = tokio::time::Instant::now() + LOGIN_WAIT;
            }
            Step::Fault(cause) => {
                tracing::error!(target: "imap", peer = %connection.peer(), %cause, "a command failed");
                metrics::counter!("ceralacca_imap_faults_total").increment(1);
            }
            Step::Close => return Ok(false),
        }
    }
    Ok(true)
}

/// Runs a job, and notes how long it was at work.
fn measured(job: imap::Job, store: &dyn Store, at: Timestamp) -> imap::Answer {
    let before = worked();
    let answer = job.run(store, at);
    answer.worked(worked().saturating_sub(before))
}

/// How long this thread has been at work on a processor: what it waited for does not count.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

/// Sends stored octets piece by piece: a large message is never whole in memory.
async fn send_stored(
    connection: &mut Connection,
    octets: Arc<dyn Held>,
    start: u64,
    end: u64,
) -> io::Result<()> {
    let read = |at: u64| {
        let octets = Arc::clone(&octets);
        let until = end.min(at.saturating_add(PIECE_OCTETS));
        tokio::task::spawn_blocking(move || octets.read(at, until))
    };
    let mut at = start;
    let mut reading = (at < end).then(|| read(at));
    while let Some(piece) = reading.take() {
        let piece = piece.await.map_err(io::Error::other)?.map_err(|error| {
            // The size was promised: all that is left is to cut the connection.
            tracing::error!(target: "imap", %error, "a message cannot be read");
            io::Error::other(error)
        })?;
        if piece.len() as u64 != end.min(at.saturating_add(PIECE_OCTETS)) - at {
            return Err(io::Error::other("a stored message is shorter than it was"));
        }
        at += piece.len() as u64;
        // The next is read while this one goes out.
        reading = (at < end).then(|| read(at));
        connection.write(&piece).await?;
    }
    Ok(())
}

/// Waits until something is heard; for ever, when there is nobody to hear it from.
async fn heard(receiver: Option<&mut watch::Receiver<()>>) {
    let changed = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

/// What a session is to hear of.
enum Told {
    /// The selected mailbox changed.
    Selected,
    /// Something changed that NOTIFY watches.
    Account,
}

/// Where what the session asks for is found.
struct Desk {
    site: Arc<Site>,
    exchange: Option<Exchange>,
    channel: sasl::Channel,
    account: Option<Box<Account>>,
    /// The place among the sessions of its account.
    counted: Option<CountedSession>,
    watched: Option<(MailboxId, watch::Receiver<()>)>,
    /// What NOTIFY watches: which set of mailboxes.
    account_watched: Option<(u64, watch::Receiver<()>)>,
    /// The place of the command that is under way, among those that put messages in order.
    order: Option<Turn>,
    sign_in_until: tokio::time::Instant,
}

impl Desk {
    /// Drops what an exchange left, an identity that it had just proved included.
    fn sign_out(&mut self) {
        self.exchange = None;
        self.account = None;
        self.counted = None;
    }

    /// `None`: no answer is awaited.
    async fn sasl(&mut self, step: SaslStep, from: std::net::IpAddr) -> Option<SaslAnswer> {
        let outcome = match step {
            SaslStep::Abort => {
                self.sign_out();
                return None;
            }
            SaslStep::Login { user, password } => {
                let (Ok(user), Ok(password)) =
                    (String::from_utf8(user.0), String::from_utf8(password.0))
                else {
                    return Some(SaslAnswer::Failure(SaslFailure::Credentials));
                };
                sasl::login(&self.site, user, password, from).await
            }
            SaslStep::Start { mechanism, initial } => {
                let mechanism = match mechanism {
                    Mechanism::Plain => sasl::Mechanism::Plain,
                    Mechanism::Login => sasl::Mechanism::Login,
                    Mechanism::ScramSha256 => sasl::Mechanism::ScramSha256,
                    Mechanism::ScramSha256Plus => sasl::Mechanism::ScramSha256Plus,
                };
                let initial = initial.map(|Secret(octets)| octets);
                sasl::step(
                    &self.site,
                    Exchange::Begin(mechanism, self.channel.clone()),
                    initial,
                    from,
                )
                .await
            }
            SaslStep::Response(Secret(response)) => match self.exchange.take() {
                Some(exchange) => sasl::step(&self.site, exchange, Some(response), from).await,
                None => return Some(SaslAnswer::Failure(SaslFailure::Malformed)),
            },
        };
        Some(match outcome {
            Outcome::Challenge(exchange, octets) => {
                self.exchange = Some(exchange);
                SaslAnswer::Challenge(Secret(octets))
            }
            Outcome::Success(account, data) => {
                tracing::info!(target: "imap", peer = %from, account = %account.address, "signed in");
                // Who cancelled an exchange at its last word has a place still.
                self.sign_out();
                let id = account.id;
                let Some(counted) = self.site.connections.enter_as(Service::Reading, id, from)
                else {
                    tracing::info!(target: "imap", peer = %from, account = %account.address, "too many sessions");
                    return Some(SaslAnswer::Failure(SaslFailure::TooMany));
                };
                self.counted = Some(counted);
                self.account = Some(account);
                SaslAnswer::Success { account: id, data: data.map(Secret) }
            }
            Outcome::Failure(denied, login) => {
                tracing::info!(target: "imap", peer = %from, ?login, ?denied, "login refused");
                SaslAnswer::Failure(match denied {
                    Denied::Wrong | Denied::Elsewhere => SaslFailure::Credentials,
                    Denied::Malformed => SaslFailure::Malformed,
                    Denied::Suspended => SaslFailure::Suspended,
                    Denied::Later(_) => SaslFailure::TooMany,
                    Denied::Unavailable(_) => SaslFailure::Unavailable,
                })
            }
        })
    }

    /// Whether no receipt fits into the account any more: those that come wait in the queue.
    async fn is_full(&self, account: AccountId) -> io::Result<bool> {
        let store = self.site.store.clone();
        let usage = blocking(move || store.usage(account)).await.map_err(io::Error::other)?;
        // An account that is gone, or a store that fails, says so at the next command.
        Ok(usage.is_ok_and(|usage| !has_room_for_receipts(&usage)))
    }

    /// Listens to the mailbox that is selected now. Whether that is another one than before.
    fn watch(&mut self, selected: Option<MailboxId>) -> bool {
        if self.watched.as_ref().map(|(mailbox, _)| *mailbox) == selected {
            return false;
        }
        self.watched = selected.map(|mailbox| (mailbox, self.site.hub.watch_mailbox(mailbox)));
        self.watched.is_some()
    }

    /// Listens to all mailboxes that NOTIFY watches now. Whether they are others than before.
    fn watch_account(&mut self, session: &Session) -> bool {
        let (Some((version, mailboxes)), Some(account)) = (session.watched(), session.account())
        else {
            self.account_watched = None;
            return false;
        };
        if self.account_watched.as_ref().is_some_and(|(known, _)| *known == version) {
            return false;
        }
        let receiver = self.site.hub.watch_all(account, &mailboxes);
        self.account_watched = Some((version, receiver));
        true
    }

    /// Waits until something changes that the session is to hear of; for ever, when there is nothing.
    async fn changed(&mut self) -> Told {
        let selected = self.watched.as_mut().map(|(_, receiver)| receiver);
        let account = self.account_watched.as_mut().map(|(_, receiver)| receiver);
        tokio::select! {
            () = heard(selected) => Told::Selected,
            () = heard(account) => Told::Account,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// Works so long.
    fn work(time: Duration) {
        let before = worked();
        let mut count = 0_u64;
        while worked().saturating_sub(before) < time {
            count = black_box(count + 1);
        }
    }

    #[test]
    fn only_time_at_work_counts() {
        let before = worked();
        // This thread waits for another, which is at work.
        std::thread::spawn(|| work(Duration::from_millis(100))).join().unwrap();
        assert!(worked().saturating_sub(before) < Duration::from_millis(50));
        work(Duration::from_millis(10));
        assert!(worked().saturating_sub(before) >= Duration::from_millis(10));
    }
}
