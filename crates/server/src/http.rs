//! The pages: whether the program is alive and ready, its metrics, and what mail clients need to
//! set themselves up.
//!
//! `/health` says that the process answers; `/ready`, that mail can be taken in and signed now;
//! `/metrics` is in the text format of Prometheus. Client autoconfiguration is the XML that
//! Thunderbird asks for. No page takes anything in: bodies are refused, and a connection has little
//! time and room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::{Config, Limits, Service};
use crate::limits::{Connections, Door};

/// Connections at the same time: a monitor, and clients that set themselves up.
const CONNECTIONS_MAX: usize = 256;
/// Of these, from one address (of IPv6, one /64): nobody keeps the monitor out.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// How long a request's header may take to come.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// How long a connection may last.
const CONNECTION_WAIT: Duration = Duration::from_secs(60);
/// Octets of a request's header at most.
const HEADER_OCTETS_MAX: usize = 16 * 1024;
/// How long the answer to "is it ready" may take.
const PROBE_WAIT: Duration = Duration::from_secs(5);
/// How often what histograms gathered is put in order.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Seconds that fall into one bucket of a duration: from a signature to a slow disk.
const BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Gathers the metrics of the whole process from now on.
///
/// # Errors
///
/// When something gathers them already.
pub(crate) fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets(&BUCKETS)?
        .install_recorder()
        .context("metrics cannot be gathered")
}

/// What is asked of the store and the signer: an error says in one sentence what is not ready.
pub(crate) type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Status {
    config: Arc<dyn Fn() -> Arc<Config> + Send + Sync>,
    probe: Probe,
    metrics: PrometheusHandle,
    stopping: Arc<AtomicBool>,
}

impl Status {
    /// `probe` may block.
    pub(crate) fn new(
        config: Arc<dyn Fn() -> Arc<Config> + Send + Sync>,
        probe: Probe,
        metrics: PrometheusHandle,
    ) -> Self {
        Self { config, probe, metrics, stopping: Arc::default() }
    }

    /// From now on it is not ready: no new mail shall be sent here.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Serves the pages until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    status: Status,
    mut stopping: watch::Receiver<bool>,
) {
    let turns = Connections::new(Limits {
        connections_max: CONNECTIONS_MAX,
        connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
        ..Limits::default()
    });
    let metrics = status.metrics.clone();
    let router = router(status);
    let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = upkeep.tick() => { metrics.run_upkeep(); continue }
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors: others are given time to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(turn) = turns.enter(peer.ip(), Door::Users) else { continue };
        let router = router.clone();
        tokio::spawn(async move {
            // A client that goes away, or is too slow, is nobody's fault and no news.
            let _ = tokio::time::timeout(CONNECTION_WAIT, converse(stream, router)).await;
            drop(turn);
        });
    }
}

async fn converse(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_OCTETS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

fn router(status: Status) -> Router {
    Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/.well-known/autoconfig/mail/config-v1.1.xml", get(autoconfig))
        .route("/mail/config-v1.1.xml", get(autoconfig))
        .layer(DefaultBodyLimit::max(0))
        .with_state(status)
}

async fn ready(State(status): State<Status>) -> Response {
    if status.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let probe = tokio::task::spawn_blocking(move || (status.probe)());
    let text = match tokio::time::timeout(PROBE_WAIT, probe).await {
        Ok(Ok(Ok(()))) => return "ready\n".into_response(),
        Ok(Ok(Err(text))) => text,
        Ok(Err(_)) | Err(_) => "the store or the signer does not answer".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")).into_response()
}

async fn metrics(State(status): State<Status>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, status.metrics.render()).into_response()
}

async fn autoconfig(State(status): State<Status>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/xml; charset=utf-8")];
    (kind, autoconfig_xml(&(status.config)())).into_response()
}

/// The name that clients connect to, one of those in the certificate that `init` makes.
fn client_host(config: &Config) -> String {
    let first = config.provider.domains.first();
    match first {
        Some(domain) if !config.listen_addr(Service::Imaps).ip().is_loopback() => {
            format!("mail.{domain}")
        }
        _ => "localhost".to_owned(),
    }
}

/// Thunderbird's `clientConfig`, version 1.1.
fn autoconfig_xml(config: &Config) -> String {
    let host = escape(&client_host(config));
    let name = escape(&config.provider.name);
    let id = config.provider.domains.first().map_or("localhost", |domain| domain.as_str());
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<clientConfig version=\"1.1\">\n  \
         <emailProvider id=\"{}\">\n",
        escape(id)
    );
    for domain in &config.provider.domains {
        xml += &format!("    <domain>{}</domain>\n", escape(domain.as_str()));
    }
    xml += &format!(
        "    <displayName>{name}</displayName>\n    <displayShortName>{name}</displayShortName>\n"
    );
    for (element, kind, service, security) in [
        ("incomingServer", "imap", Service::Imaps, "SSL"),
        ("incomingServer", "imap", Service::Imap, "STARTTLS"),
        ("outgoingServer", "smtp", Service::Submissions, "SSL"),
        ("outgoingServer", "smtp", Service::Submission, "STARTTLS"),
    ] {
        xml += &format!(
            "    <{element} type=\"{kind}\">\n      <hostname>{host}</hostname>\n      \
             <port>{}</port>\n      <socketType>{security}</socketType>\n      \
             <username>%EMAILADDRESS%</username>\n      \
             <authentication>password-cleartext</authentication>\n    </{element}>\n",
            config.listen_addr(service).port()
        );
    }
    xml + "  </emailProvider>\n</clientConfig>\n"
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn config() -> Arc<Config> {
        let text = "[provider]\nname = \"Alfa & Figli\"\ndomains = [\"pec.alfa.example\"]\n";
        Arc::new(Config::parse(Path::new("/x/ceralacca.toml"), text).unwrap())
    }

    async fn start(ready: Result<(), String>) -> (SocketAddr, Status, watch::Sender<bool>) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let probe: Probe = Arc::new(move || ready.clone());
        let status = Status::new(Arc::new(config), probe, recorder.handle());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(serve(listener, status.clone(), stopping));
        (address, status, stop)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A connection that is cut after the answer has been read all the same.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = ask(address, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn answer(status: &str, body: &str) -> (String, String) {
        (format!("HTTP/1.1 {status}"), body.to_owned())
    }

    #[tokio::test]
    async fn says_whether_it_is_alive_and_ready() {
        let (address, status, _stop) = start(Ok(())).await;
        assert_eq!(get(address, "/health").await, answer("200 OK", "alive\n"));
        assert_eq!(get(address, "/ready").await, answer("200 OK", "ready\n"));
        assert_eq!(get(address, "/metrics").await, answer("200 OK", ""));
        assert_eq!(get(address, "/other").await, answer("404 Not Found", ""));
        status.stopping();
        assert_eq!(get(address, "/ready").await, answer("503 Service Unavailable", "stopping\n"));
        assert_eq!(get(address, "/health").await, answer("200 OK", "alive\n"));
    }

    #[tokio::test]
    async fn says_what_is_not_ready() {
        let (address, _, _stop) = start(Err("the signer is starting again".to_owned())).await;
        assert_eq!(
            get(address, "/ready").await,
            answer("503 Service Unavailable", "the signer is starting again\n")
        );
    }

    #[tokio::test]
    async fn a_header_past_the_bound_is_refused() {
        let (address, _, _stop) = start(Ok(())).await;
        let request =
            format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEADER_OCTETS_MAX));
        let told = ask(address, &request).await;
        assert!(told.starts_with("HTTP/1.1 431 ") || told.is_empty(), "{told}");
        let posted = ask(
            address,
            "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        assert!(posted.await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test]
    async fn one_connection_past_those_of_an_address_is_closed() {
        let (address, _, _stop) = start(Ok(())).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let mut one_more = TcpStream::connect(address).await.unwrap();
        let mut nothing = String::new();
        // A close, or a reset: nothing is said.
        let _ = one_more.read_to_string(&mut nothing).await;
        assert_eq!(nothing, "");
        // Those that were let in are served.
        let mut first = held.swap_remove(0);
        first
            .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut told = String::new();
        first.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    }

    #[tokio::test]
    async fn clients_set_themselves_up() {
        let (address, _, _stop) = start(Ok(())).await;
        let expected = concat!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
            "<clientConfig version=\"1.1\">\n",
            "  <emailProvider id=\"pec.alfa.example\">\n",
            "    <domain>pec.alfa.example</domain>\n",
            "    <displayName>Alfa &amp; Figli</displayName>\n",
            "    <displayShortName>Alfa &amp; Figli</displayShortName>\n",
            "    <incomingServer type=\"imap\">\n",
            "      <hostname>localhost</hostname>\n",
            "      <port>10993</port>\n",
            "      <socketType>SSL</socketType>\n",
            "      <username>%EMAILADDRESS%</username>\n",
            "      <authentication>password-cleartext</authentication>\n",
            "    </incomingServer>\n",
            "    <incomingServer type=\"imap\">\n",
            "      <hostname>localhost</hostname>\n",
            "      <port>10143</port>\n",
            "      <socketType>STARTTLS</socketType>\n",
            "      <username>%EMAILADDRESS%</username>\n",
            "      <authentication>password-cleartext</authentication>\n",
            "    </incomingServer>\n",
            "    <outgoingServer type=\"smtp\">\n",
            "      <hostname>localhost</hostname>\n",
            "      <port>10465</port>\n",
            "      <socketType>SSL</socketType>\n",
            "      <username>%EMAILADDRESS%</username>\n",
            "      <authentication>password-cleartext</authentication>\n",
            "    </outgoingServer>\n",
            "    <outgoingServer type=\"smtp\">\n",
            "      <hostname>localhost</hostname>\n",
            "      <port>10587</port>\n",
            "      <socketType>STARTTLS</socketType>\n",
            "      <username>%EMAILADDRESS%</username>\n",
            "      <authentication>password-cleartext</authentication>\n",
            "    </outgoingServer>\n",
            "  </emailProvider>\n",
            "</clientConfig>\n",
        );
        for path in ["/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml"] {
            assert_eq!(get(address, path).await, answer("200 OK", expected));
        }
    }
}
