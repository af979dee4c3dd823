//! The one HTTP client: fetches small documents (revocation lists, the index of providers, policies,
//! time stamps), with a bound on everything that a server decides.
//!
//! One request, one answer, one connection (RFC 9112 §9.6). Redirects are followed a few times, and
//! never from https to http. Whom to believe is in the TLS configuration that the caller gives; where
//! a name leads is asked of [`Resolve`]; and what a stranger's certificate or policy names is fetched
//! from public addresses only ([`Networks::Public`]), so that nobody makes us talk to our own. Not
//! here: what to do with a document, and when to fetch it again.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Octets of an answer's header at most.
const HEADER_OCTETS_MAX: usize = 16 * 1024;
/// Fields of an answer's header at most.
const HEADERS_MAX: usize = 64;
/// How long one address may take to accept a connection and finish the TLS handshake.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried at most.
const ADDRESSES_MAX: usize = 8;
/// Octets of a URL at most, a server's redirect included.
pub(crate) const URL_OCTETS_MAX: usize = 2048;

/// Where connections may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Networks {
    /// Anywhere: the operator wrote the URL.
    Any,
    /// To public addresses only: somebody else did.
    Public,
}

/// What a server may cost us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Octets of a document at most.
    pub(crate) octets: usize,
    /// How long all of it may take, redirects included.
    pub(crate) total: Duration,
    /// Redirects at most.
    pub(crate) redirects: usize,
}

/// What a name stands for: an answer of the [`Resolve`] that is asked.
pub(crate) type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// Asks for the addresses of a host and port.
pub(crate) type Resolve = Arc<dyn Fn(String, u16) -> Addresses + Send + Sync>;

/// Asks the host's own resolver.
pub(crate) fn system_resolver() -> Resolve {
    Arc::new(|host, port| {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    })
}

/// Fetches documents: whom it believes, how it finds hosts, and where it may go.
#[derive(Clone)]
pub(crate) struct Fetcher {
    /// Whom to believe in TLS, and as whom to appear.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// How names are looked up.
    pub(crate) resolve: Resolve,
    /// Where connections may lead.
    pub(crate) networks: Networks,
    /// Whether plain http is allowed: for documents that are signed themselves.
    pub(crate) plain: bool,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    /// The URL.
    pub(crate) url: &'a str,
    /// Media types that are welcome.
    pub(crate) accept: &'a str,
    /// What to POST, with its media type; nothing: GET.
    pub(crate) post: Option<(&'a str, &'a [u8])>,
}

impl<'a> Wanted<'a> {
    /// To GET a document.
    pub(crate) const fn get(url: &'a str) -> Self {
        Self { url, accept: "*/*", post: None }
    }
}

/// A document, and what its server says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// `Content-Type`, when there was one.
    pub(crate) media: Option<String>,
    /// The document.
    pub(crate) octets: Vec<u8>,
}

/// Why there is no document. Each is worth another try later, but for [`Url`](Self::Url).
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// It is no URL that can be fetched.
    #[error("`{0}` is no URL to fetch: {1}")]
    Url(String, &'static str),
    /// The name has no address.
    #[error("{0} has no address: {1}")]
    Name(String, io::Error),
    /// All addresses are of networks where we may not go.
    #[error("{0} leads into a private network")]
    Private(String),
    /// No address took a connection.
    #[error("{0} cannot be reached: {1}")]
    Connect(String, io::Error),
    /// It does not speak HTTP as it should.
    #[error("{0} does not answer as a web server: {1}")]
    Http(String, String),
    /// It has no such document.
    #[error("{0} answers {1}")]
    Status(String, StatusCode),
    /// It sends us on and on.
    #[error("{0} redirects too often")]
    Redirects(String),
    /// The document is larger than it may be.
    #[error("{0} sends more than {1} octets")]
    TooLarge(String, usize),
    /// It took too long.
    #[error("{0} takes too long")]
    TimedOut(String),
}

impl Fetcher {
    /// Fetches one document.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; then there is nothing of it.
    pub(crate) async fn fetch(
        &self,
        wanted: &Wanted<'_>,
        bounds: Bounds,
    ) -> Result<Fetched, FetchError> {
        match tokio::time::timeout(bounds.total, self.follow(wanted, bounds)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::TimedOut(shown(wanted.url))),
        }
    }

    async fn follow(&self, wanted: &Wanted<'_>, bounds: Bounds) -> Result<Fetched, FetchError> {
        let mut target = Target::parse(wanted.url)?;
        for _ in 0..=bounds.redirects {
            if !target.secure && !self.plain {
                return Err(FetchError::Url(target.text, "it must be https"));
            }
            match self.ask(&target, wanted, bounds.octets).await? {
                Answer::Document(fetched) => return Ok(fetched),
                Answer::Elsewhere(place) => target = target.redirected(&place)?,
            }
        }
        Err(FetchError::Redirects(target.text))
    }

    async fn ask(
        &self,
        target: &Target,
        wanted: &Wanted<'_>,
        octets_max: usize,
    ) -> Result<Answer, FetchError> {
        let stream = self.connect(target).await?;
        if target.secure {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|_| FetchError::Url(target.text.clone(), "its host is no name"))?;
            let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
            let handshake = tokio::time::timeout(CONNECT_WAIT, connector.connect(name, stream));
            let stream = handshake
                .await
                .map_err(|_| FetchError::TimedOut(target.text.clone()))?
                .map_err(|error| FetchError::Connect(target.text.clone(), error))?;
            converse(target, wanted, stream, octets_max).await
        } else {
            converse(target, wanted, stream, octets_max).await
        }
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream, FetchError> {
        connect(&self.resolve, self.networks, &target.host, target.port, &target.text).await
    }
}

/// A connection to a host that may be gone to; `text` names it in errors.
pub(crate) async fn connect(
    resolve: &Resolve,
    networks: Networks,
    host: &str,
    port: u16,
    text: &str,
) -> Result<TcpStream, FetchError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => resolve(host.to_owned(), port)
            .await
            .map_err(|error| FetchError::Name(host.to_owned(), error))?,
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let allowed = |address: &&SocketAddr| networks == Networks::Any || is_public(address.ip());
    if !addresses.is_empty() && !addresses.iter().any(|address| allowed(&address)) {
        return Err(FetchError::Private(text.to_owned()));
    }
    for address in addresses.iter().filter(allowed).take(ADDRESSES_MAX) {
        match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(FetchError::Connect(text.to_owned(), last))
}

enum Answer {
    Document(Fetched),
    Elsewhere(String),
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    target: &Target,
    wanted: &Wanted<'_>,
    stream: S,
    octets_max: usize,
) -> Result<Answer, FetchError> {
    let http =
        |error: &dyn std::fmt::Display| FetchError::Http(target.text.clone(), error.to_string());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER_OCTETS_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http(&error))?;
    // Its errors come to the sender; it ends with the answer.
    let driver = tokio::spawn(connection);
    let _ended = Ended(driver.abort_handle());
    let mut request = Request::builder()
        .method(if wanted.post.is_some() { Method::POST } else { Method::GET })
        .uri(target.path.as_str())
        .header(HOST, target.authority.as_str())
        .header(USER_AGENT, concat!("ceralacca/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, wanted.accept)
        .header(CONNECTION, "close");
    let body = match wanted.post {
        Some((media, octets)) => {
            request = request.header(CONTENT_TYPE, media);
            Body::from(octets.to_vec())
        }
        None => Body::empty(),
    };
    let request = request.body(body).map_err(|error| http(&error))?;
    let response = sender.send_request(request).await.map_err(|error| http(&error))?;
    let text = |name| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    match response.status() {
        StatusCode::OK => {}
        // What was posted was taken.
        other if wanted.post.is_some() && other.is_success() => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT
            if wanted.post.is_none() =>
        {
            let place = text(LOCATION).ok_or_else(|| http(&"a redirect without a place"))?;
            return Ok(Answer::Elsewhere(place));
        }
        other => return Err(FetchError::Status(target.text.clone(), other)),
    }
    let media = text(CONTENT_TYPE);
    let mut body = response.into_body();
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| http(&error))?;
        let Ok(piece): Result<Bytes, _> = frame.into_data() else { continue };
        if octets.len() + piece.len() > octets_max {
            return Err(FetchError::TooLarge(target.text.clone(), octets_max));
        }
        octets.extend_from_slice(&piece);
    }
    Ok(Answer::Document(Fetched { media, octets }))
}

/// Ends the task behind a connection when nobody needs it any more.
struct Ended(tokio::task::AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    text: String,
    secure: bool,
    /// A name or an address, without the brackets of IPv6.
    host: String,
    port: u16,
    /// For `Host`: as in the URL.
    authority: String,
    path: String,
}

impl Target {
    fn parse(text: &str) -> Result<Self, FetchError> {
        let wrong = |why| FetchError::Url(shown(text), why);
        if text.len() > URL_OCTETS_MAX {
            return Err(wrong("it is too long"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it is neither http nor https")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it has a password in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            text: shown(text),
            secure,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        })
    }

    /// Where a redirect leads: another URL, or another path of this host.
    fn redirected(&self, place: &str) -> Result<Self, FetchError> {
        let next = if place.starts_with('/') && !place.starts_with("//") {
            let scheme = if self.secure { "https" } else { "http" };
            Self::parse(&format!("{scheme}://{}{place}", self.authority))?
        } else {
            Self::parse(place)?
        };
        if self.secure && !next.secure {
            return Err(FetchError::Url(next.text, "it leads from https to http"));
        }
        Ok(next)
    }
}

/// A URL for a log line: whoever wrote it, it is one short line.
fn shown(url: &str) -> String {
    url.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Whether an address is of the public Internet: not ours, not the next machine's, not a cloud's
/// metadata (RFC 6890 §2.2; an IPv4 address in an IPv6 one counts as itself).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let inner = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped (RFC 4291 §2.5.5.2), and translated (RFC 6052 §2.1).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inner(high, low)
        }
        // 6to4, RFC 3056 §2.
        [0x2002, high, low, ..] => inner(high, low),
        // Documentation, RFC 3849 §4; and the ranges for protocols, RFC 2928 §2.
        [0x2001, 0xdb8, ..] => false,
        [0x2001, second, ..] if second < 0x200 => false,
        // Global unicast, and nothing else.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests;
