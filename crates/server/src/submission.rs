//! Taking mail in: the shell around a session of [`smtp`], the access point's door, and on port 25
//! that of the incoming point too.
//!
//! Who may send what as whom is decided here; what becomes of a user's message in
//! [`crate::flow::access`], and of what another host brings in [`crate::flow::reception`]. `250` to
//! the end of data leaves after the commit that holds the message, its identity, its time and its
//! log records (PEC-AP-29).

mod desk;
mod recipients;
mod waits;

use std::io;
use std::sync::Arc;

use smtp::{Mechanism, Role, Session, Settings, Step};
use tokio::sync::watch;

use self::desk::{Desk, Trace};
pub(crate) use self::waits::Waits;
use self::waits::Who;
use crate::drive::Connection;
use crate::limits::Counted;
use crate::sasl;
use crate::site::Site;

/// What a session of this listener goes by, as the configuration is now.
fn settings(site: &Site, role: Role) -> Arc<Settings> {
    let config = site.config.load();
    Arc::new(Settings {
        host: site.host(),
        role,
        size_max: config.limits.refuse_above_octets,
        recipients_max: config.limits.recipients,
        eight_bit: config.limits.eight_bit,
        utf8: config.limits.utf8,
        mechanisms: Mechanism::EVERYWHERE.to_vec(),
        starttls: true,
    })
}

/// What AUTH offers on this connection.
fn offered(connection: &Connection) -> Vec<Mechanism> {
    let here = |mechanism: &Mechanism| match mechanism {
        Mechanism::ScramSha256Plus => connection.exporter().is_some(),
        Mechanism::External => connection.client_certificate().is_some(),
        _ => true,
    };
    Mechanism::ALL.into_iter().filter(here).collect()
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    site: Arc<Site>,
    connection: Connection,
    place: Counted,
    role: Role,
    stop: watch::Receiver<bool>,
) {
    serve_with(site, connection, place, role, stop, Waits::default()).await;
}

/// The same, waiting so long.
pub(crate) async fn serve_with(
    site: Arc<Site>,
    mut connection: Connection,
    place: Counted,
    role: Role,
    mut stop: watch::Receiver<bool>,
    waits: Waits,
) {
    let mut session = Session::new(settings(&site, role), connection.is_tls());
    session.offer(offered(&connection));
    let mut desk = Desk::new(site.clone(), &connection, place);
    let mut accounts = site.hub.watch_accounts();
    let mut crowd = site.connections.watch_crowd();
    let began = tokio::time::Instant::now();
    // When the client was heard last, and answered.
    let mut heard = None;
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
        // Whoever says a name on port 25 is another host, until it signs in.
        if role == Role::Transport && session.hello().is_some() {
            desk.stranger_since.get_or_insert(now);
        }
        let who = match desk.stranger_since {
            _ if desk.account.is_some() => Who::Account,
            Some(since) if desk.is_stranger() && *crowd.borrow() => {
                Who::Crowd { since, at_work: desk.is_at_work() }
            }
            Some(since) => Who::Stranger { since },
            None => Who::Nobody { since: began },
        };
        let patience = waits.until(who, *heard.get_or_insert(now));
        let read = tokio::time::timeout_at(patience, connection.read());
        tokio::select! {
            read = read, if session.wants_octets() => {
                heard = None;
                match read {
                    Err(_) => session.handle_timeout(),
                    Ok(Ok(octets)) if octets.is_empty() => session.handle_closed(),
                    Ok(Ok(octets)) => session.handle_octets(&octets),
                    Ok(Err(error)) => {
                        tracing::debug!(target: "smtp", peer = %connection.peer(), %error, "connection lost");
                        session.handle_closed();
                    }
                }
            }
            // Its time is another now, from when it was heard last.
            Ok(()) = crowd.changed(), if desk.is_stranger() => {}
            () = stopped(&mut stop) => session.handle_shutdown(),
            changed = accounts.recv() => {
                let account = desk.account.clone();
                if let Some(account) = account
                    && sasl::is_changed(&site, &account, changed.ok().flatten()).await
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
                let channel = sasl::Channel {
                    exporter: connection.exporter(),
                    certificate: connection.client_certificate(),
                };
                let answer = desk.answer(question, trace, channel).await;
                session.answer(answer);
            }
            Step::Content(octets) => desk.content(&octets).await,
            Step::Discard => desk.discard(),
            Step::SaslAbort => {
                desk.sign_out();
            }
            Step::StartTls => {
                let acceptor = desk.site.tls.submission_acceptor(&desk.site.config.load());
                connection.start_tls(acceptor).await?;
                session.handle_tls_started();
                session.offer(offered(connection));
            }
            Step::Close => return Ok(false),
        }
    }
    Ok(true)
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
