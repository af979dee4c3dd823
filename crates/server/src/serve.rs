//! A running provider: what `serve` and `demo` start, and how it stops.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use crypto::Signer;
use pec::providers::Index;
use smtp::Role;
use store::{Store, Timestamp, Transaction};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::abuse::Watch;
use crate::abuse::abroad::Abroad;
use crate::antivirus::Scanner;
use crate::clock::Clock;
use crate::config::{Config, Service};
use crate::drive::Connection;
use crate::flow::deadlines::Deadlines;
use crate::hub::Hub;
use crate::librarian;
use crate::limits::{Connections, Door, TooMany};
use crate::login::Logins;
use crate::material::Purpose;
use crate::memory::Memory;
use crate::queue::Queue;
use crate::rates::Rates;
use crate::ready::Ready;
use crate::registry::Refreshed;
use crate::seal::Seals;
use crate::signer::SignerProcess;
use crate::site::{Signing, Site};
use crate::threads::Threads;
use crate::tls::Tls;
use crate::transport::{self, Transport};
use crate::{
    check, control, http, mailbox_service, material, proxy, registry, reload, submission, upkeep,
};

/// How long sessions have to end by themselves when the program stops.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// What an accept that failed (no file descriptor left, most often) waits before the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Runs a provider until SIGTERM or SIGINT.
///
/// # Errors
///
/// When it cannot start, in one sentence that says why; when its store cannot be closed.
pub(crate) fn run(config: Config, ready: Ready) -> anyhow::Result<()> {
    // First, while this process is small and has no threads: the other one, with the key.
    let signer = SignerProcess::start(&config.signing.key)?;
    let next = match &config.next_signing {
        Some(next) => Some(SignerProcess::start(&next.pair.key)?),
        None => None,
    };
    raise_descriptor_limit();
    refuse_huge_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let signers = Signers { now: signer, next };
    let result = begin(&config, &signers)
        .and_then(|store| runtime.block_on(serve(config, ready, signers.clone(), store)));
    // Steps under way have ended; nothing signs any more.
    signers.now.stop();
    if let Some(next) = &signers.next {
        next.stop();
    }
    runtime.shutdown_timeout(STOP_WAIT);
    result
}

/// The processes that have keys: one now, and one when another is to take over.
#[derive(Clone)]
struct Signers {
    now: Arc<SignerProcess>,
    next: Option<Arc<SignerProcess>>,
}

/// The store, and the certainty that what is signed and kept here is certified mail: all that
/// `check` would call a fault, before anybody is listened to.
fn begin(config: &Config, signers: &Signers) -> anyhow::Result<Arc<dyn Store>> {
    let store = material::store(config, Purpose::Serve)?;
    let next = signers.next.as_deref().map(|next| next as &dyn Signer);
    check::before_start(config, &*signers.now, next, &*store, Timestamp::now())?;
    Ok(store)
}

/// Every connection is a file descriptor, and the usual soft limit of 1024 is for programs that use
/// `select`: the hard limit is what the operator allows.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, most) {
        tracing::warn!(target: "server", %error, "the limit of open files stays as it is");
    }
}

/// Many threads with heaps of their own make the kernel clear 2 MiB for each of a few KiB that they
/// need: a tenth of the program's time, and most of its memory.
fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(target: "server", %error, "huge pages stay as they are");
    }
}

async fn serve(
    config: Config,
    ready: Ready,
    signers: Signers,
    store: Arc<dyn Store>,
) -> anyhow::Result<()> {
    let metrics = http::install_metrics()?;
    let mut listeners = Vec::new();
    for service in [
        Service::Smtp,
        Service::Http,
        Service::Imap,
        Service::Submissions,
        Service::Submission,
        Service::Imaps,
    ] {
        let address = config.listen_addr(service);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| anyhow::Error::msg(check::port_taken(service, address, &error)))?;
        listeners.push((service, listener));
    }
    let bound: BTreeMap<&'static str, SocketAddr> = listeners
        .iter()
        .map(|(service, listener)| Ok((service.name(), listener.local_addr()?)))
        .collect::<std::io::Result<_>>()?;

    let next = signers.next.clone().map(|next| next as Arc<dyn Signer>);
    let site = assemble_with(config, store, signers.now.clone(), next, Clock::system())?;
    let threads = Arc::new(Threads::default());
    let queue = {
        let (queue, site) = (site.queue.clone(), site.clone());
        threads.start("queue", move || queue.run(&site))?
    };
    let seals = {
        let site = site.clone();
        threads.start("seals", move || site.seals.run(&site))?
    };
    let deadlines = Deadlines::new();
    let notices = {
        let (deadlines, site) = (deadlines.clone(), site.clone());
        threads.start("deadlines", move || deadlines.run(&site))?
    };
    let (librarian, librarian_thread) = librarian::begin(&site, &threads)?;
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let current: Arc<dyn Fn() -> Arc<Config> + Send + Sync> = {
        let site = site.clone();
        Arc::new(move || site.config.load_full())
    };
    let status = http::Status::new(current.clone(), probe(site.clone(), signers, threads), metrics);
    for (service, listener) in listeners {
        match service {
            Service::Http => {
                let (status, stopping) = (status.clone(), stopping.clone());
                tasks.spawn(async move { http::serve(listener, status, stopping).await });
            }
            other => {
                tasks.spawn(accept(site.clone(), other, listener, stopping.clone()));
            }
        }
    }
    tasks.spawn(transport::run(site.clone(), stopping.clone()));
    tasks.spawn(upkeep::run(site.clone(), stopping.clone()));
    let control = control::Server::bind(&site.config.load().control_socket())?;
    let (hub, reloaded, sealed, held) =
        (site.hub.clone(), site.clone(), site.clone(), site.clone());
    let desk = control::Desk {
        store: site.store.clone(),
        config: current,
        on_change: Arc::new(move |account| hub.account_changed(account)),
        index: Arc::new(IndexOf(reloaded)),
        holds: Arc::new(HoldsOf(held)),
        seal_log: Arc::new(move || sealed.seals.seal_now(&sealed)),
    };
    tasks.spawn(control::serve(control, desk, stopping.clone()));
    // Before anybody is told that it runs, and may ask it to stop.
    let mut signals = Signals::install()?;
    ready.announce(&site.config.load(), &bound)?;
    tracing::info!(target: "server", ?bound, "ready");

    signals.wait_for_stop(&site).await;
    tracing::info!(target: "server", "stopping");
    status.stopping();
    // No error: the tasks that wait for it may have ended already.
    let _ = stop.send(true);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
        tracing::warn!(target: "server", "some connections did not end in time and are cut");
        tasks.shutdown().await;
    }
    upkeep::keep_rates(&site);
    site.queue.stop();
    site.seals.stop();
    deadlines.stop();
    tokio::task::spawn_blocking(move || notices.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the thread that gives notices had panicked"))?;
    librarian.stop();
    if tokio::task::spawn_blocking(move || librarian_thread.join()).await?.is_err() {
        tracing::error!(target: "server", "the librarian's thread had panicked");
    }
    tokio::task::spawn_blocking(move || queue.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the queue's thread had panicked"))?
        .context("the queue could not be worked on")?;
    tokio::task::spawn_blocking(move || seals.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the thread that seals the log had panicked"))?;
    tracing::info!(target: "server", "stopped");
    Ok(())
}

/// Puts the parts together, on any store, signer and clock.
#[cfg(test)]
pub(crate) fn assemble(
    config: Config,
    store: Arc<dyn Store>,
    signer: Arc<dyn Signer>,
    clock: Clock,
) -> anyhow::Result<Arc<Site>> {
    assemble_with(config, store, signer, None, clock)
}

/// The same, with the signer that takes over when the configuration names one.
pub(crate) fn assemble_with(
    config: Config,
    store: Arc<dyn Store>,
    signer: Arc<dyn Signer>,
    next: Option<Arc<dyn Signer>>,
    clock: Clock,
) -> anyhow::Result<Arc<Site>> {
    let tls = Tls::load(config.tls.certificate.clone(), config.tls.key.clone())?;
    let trust = material::trust(&config)?;
    let identity = material::identity(&config, &trust)?;
    let next = match (next, material::next_identity(&config, &trust)?) {
        (Some(signer), Some((identity, from))) => Some(Signing { signer, identity, from }),
        _ => None,
    };
    let (providers, faults) = material::index(&config)?;
    registry::keep_first(&config, &providers)?;
    for fault in &faults {
        // It does not hold up the rest.
        tracing::warn!(target: "server", fault, "a record of the index of providers is left out");
    }
    let (Some(author), Some(service_mailbox)) =
        (config.provider.author(), config.provider.service_mailbox())
    else {
        anyhow::bail!("the provider has no domain: name one in [provider] domains");
    };
    let provider =
        pec::exchange::Provider { name: config.provider.name.clone(), author, service_mailbox };
    let connections = Connections::new(config.limits.clone());
    // Anything that is secret and the same at every start will do.
    let secret = std::fs::read(&config.tls.key)?;
    let logins = Logins::new(store.clone(), connections.clone(), secret);
    let logins = logins.with_homes(&config, clock.now());
    let rates = Rates::of(&config, std::time::Instant::now(), clock.now());
    let abroad = Abroad::of(&config, material::countries(&config)?);
    let views = imap::Views::of(&*store);
    let hub = Arc::new(Hub::new());
    let told = hub.clone();
    store.listen(Box::new(move |mailbox| told.mailbox_changed(mailbox)));
    let told = hub.clone();
    store.listen_elsewhere(Box::new(move |what| told.changed_elsewhere(what)));
    let transport = Transport::open(&config.data, clock.now());
    Ok(Arc::new(Site {
        config: ArcSwap::from_pointee(config),
        clock,
        store,
        hub,
        views,
        connections,
        logins,
        tls,
        signer,
        identity,
        next,
        provider,
        providers: ArcSwap::from_pointee(providers),
        index_faults: ArcSwap::from_pointee(faults),
        trust: ArcSwap::from_pointee(trust),
        scanner: Scanner::default(),
        queue: Queue::new(),
        rates,
        watch: Watch::default(),
        abroad,
        resolver: OnceLock::new(),
        seals: Seals::new(),
        transport,
        memory: Memory::new(),
    }))
}

/// Takes connections in until told to stop.
async fn accept(
    site: Arc<Site>,
    service: Service,
    listener: TcpListener,
    mut stopping: watch::Receiver<bool>,
) {
    let role = if service == Service::Smtp { Role::Transport } else { Role::Submission };
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Ended sessions are cleared away as they end.
            Some(_) = sessions.join_next() => continue,
            () = submission::stopped(&mut stopping) => break,
        };
        let (mut socket, mut peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "server", service = service.name(), %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        metrics::counter!("ceralacca_connections_total", "service" => service.name()).increment(1);
        let (site, stop) = (site.clone(), stopping.clone());
        let proxied =
            site.config.load().listen.proxy_from.iter().any(|network| network.contains(peer.ip()));
        sessions.spawn(async move {
            if proxied {
                match proxy::read(&mut socket).await {
                    Ok(client) => peer = client.unwrap_or(peer),
                    Err(error) => {
                        tracing::warn!(target: "server", %peer, %error, "a balancer does not say whose its connection is");
                        return;
                    }
                }
            }
            let door = if service == Service::Smtp { Door::Hosts } else { Door::Users };
            let counted = match site.connections.enter(peer.ip(), door) {
                Ok(counted) => counted,
                Err(too_many) => {
                    refuse(service, socket, too_many);
                    return;
                }
            };
            let mut connection = match Connection::new(socket, peer) {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(target: "server", %peer, %error, "connection lost");
                    return;
                }
            };
            let acceptor = match service {
                Service::Submissions => {
                    Some(site.tls.submission_acceptor(&site.config.load()))
                }
                Service::Imaps => Some(site.tls.acceptor()),
                _ => None,
            };
            if let Some(acceptor) = acceptor
                && let Err(error) = connection.start_tls(acceptor).await
            {
                metrics::counter!("ceralacca_tls_failures_total").increment(1);
                tracing::debug!(target: "server", %peer, %error, "no TLS");
                return;
            }
            match service {
                Service::Imap | Service::Imaps => {
                    mailbox_service::serve(site, connection, stop).await;
                    drop(counted);
                }
                _ => submission::serve(site, connection, counted, role, stop).await,
            }
        });
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

/// Tells a connection that is one too many.
fn refuse(service: Service, socket: TcpStream, too_many: TooMany) {
    metrics::counter!("ceralacca_connections_refused_total", "service" => service.name())
        .increment(1);
    let text = match service {
        // Nothing can be said before the handshake, and that is what is to be saved.
        Service::Imaps | Service::Submissions => return,
        Service::Imap => {
            b"* BYE [LIMIT] Too many connections: close some or try again later\r\n".to_vec()
        }
        _ => match too_many {
            TooMany::Everywhere => smtp::reply::TOO_MANY_CONNECTIONS.to_octets(),
            TooMany::Here => smtp::reply::TOO_MANY_CONNECTIONS_HERE.to_octets(),
        },
    };
    // One small write into an empty buffer: it does not wait, and who does not take it goes anyway.
    let _ = socket.try_write(&text);
}

/// What the program is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; on SIGHUP reads certificates and configuration again.
    async fn wait_for_stop(&mut self, site: &Arc<Site>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload::reload(site),
            }
        }
    }
}

/// What `/ready` asks: do the store and the signing process answer? Sets the gauges on the way.
fn probe(site: Arc<Site>, signers: Signers, threads: Arc<Threads>) -> http::Probe {
    Arc::new(move || {
        site.store.takes_writes().map_err(|error| error.to_string())?;
        // Reading may go on where writing does not: a step of nothing goes all the way to the disk.
        let nothing = Transaction { at: site.clock.now(), ..Transaction::default() };
        site.store.commit(nothing).map_err(|error| format!("nothing can be stored: {error}"))?;
        if site.queue.has_ended() {
            return Err("the queue is not worked on".to_owned());
        }
        if let Some(name) = threads.ended() {
            return Err(format!("the thread `{name}` has ended: restart, and report it"));
        }
        let (waiting, _) = site.store.jobs_waiting().map_err(|error| error.to_string())?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
        metrics::gauge!("ceralacca_jobs_waiting").set(waiting as f64);
        #[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
        metrics::gauge!("ceralacca_connections").set(site.connections.count() as f64);
        let upkeep = site.store.upkeep();
        for (name, value) in [
            ("ceralacca_store_moved_octets_total", upkeep.moved_octets),
            ("ceralacca_store_freed_octets_total", upkeep.freed_octets),
            ("ceralacca_store_scrubbed_octets_total", upkeep.scrubbed_octets),
            ("ceralacca_store_damaged_total", upkeep.damaged),
        ] {
            metrics::counter!(name).absolute(value);
        }
        if let Some(archive) = upkeep.archive {
            let behind = archive
                .behind_since
                .map_or(0.0, |since| site.clock.now().duration_since(since).as_secs_f64().max(0.0));
            metrics::gauge!("ceralacca_store_archive_behind_seconds").set(behind);
        }
        tell_expiry(&site);
        let ready =
            signers.now.is_ready() && signers.next.as_ref().is_none_or(|next| next.is_ready());
        if ready { Ok(()) } else { Err("the signing process is not running".to_owned()) }
    })
}

/// Seconds until the certificate that signs now, and that of TLS, end.
fn tell_expiry(site: &Site) {
    let now = site.clock.now().as_second();
    let signing = site.certificate_now().not_after();
    let config = site.config.load();
    let tls = material::certificates(&config.tls.certificate).ok();
    let tls = tls.and_then(|all| all.first().map(crypto::Certificate::not_after));
    for (which, end) in [("signing", Some(signing)), ("tls", tls)] {
        if let Some(end) = end {
            #[expect(clippy::cast_precision_loss, reason = "a gauge needs no 53 bits")]
            metrics::gauge!("ceralacca_certificate_ends_in_seconds", "certificate" => which)
                .set(end.as_second().saturating_sub(now) as f64);
        }
    }
}

/// What commands ask of destinations that are left alone.
pub(crate) struct HoldsOf(pub(crate) Arc<Site>);

impl control::Holds for HoldsOf {
    fn is_held(&self, destination: &str) -> bool {
        self.0.transport.is_held(destination, self.0.clock.now())
    }

    fn release(&self, destination: Option<&str>) {
        self.0.transport.release(destination);
    }

    fn unless_sent(&self, destination: &str, job: store::JobId, work: &mut dyn FnMut()) -> bool {
        transport::unless_under_way(&self.0, destination, job, work)
    }
}

/// What commands ask of the index that is in use.
struct IndexOf(Arc<Site>);

impl control::IndexDesk for IndexOf {
    fn in_use(&self) -> (Arc<Index>, Arc<Vec<String>>) {
        (self.0.providers.load_full(), self.0.index_faults.load_full())
    }

    fn reload(&self) -> anyhow::Result<()> {
        reload_index(&self.0)
    }

    fn refresh(&self, force: bool) -> anyhow::Result<Refreshed> {
        registry::refresh(&self.0, force)
    }

    fn sign_own(&self) -> anyhow::Result<Vec<u8>> {
        let site = &self.0;
        let own = registry::own_ldif(&site.config.load(), &site.providers.load())?;
        let at = site.clock.now();
        let (identity, signer) = site.signing_at(at);
        Ok(identity.sign_attached(signer, own.as_bytes(), at)?)
    }
}

/// Exchanges the index of providers for the one that is in its file now.
fn reload_index(site: &Site) -> anyhow::Result<()> {
    let config = site.config.load();
    let (index, faults) = material::index(&config)?;
    let (certificate, trust) = (site.certificate_now(), site.trust.load());
    check::before_exchange(&config, certificate, &trust, &index, site.clock.now())?;
    for fault in &faults {
        // It does not hold up the rest.
        tracing::warn!(target: "server", fault, "a record of the index of providers is left out");
    }
    site.use_index(index, faults);
    tracing::info!(target: "server", "index of providers read again");
    Ok(())
}
