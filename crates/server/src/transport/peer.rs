//! A connection to a peer: the socket and the TLS around a machine of [`smtp::client`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use smtp::client::{Fault, TlsUse, Verdict, Why};
use smtp::{Client, ClientSettings, ClientStep, Outgoing};
use store::BlobId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::demand::Demand;
use super::opening::Waits;
use super::tally::{Kind, Problem};
use crate::site::Site;
use crate::submission::blocking;

/// How long a host may take to accept a connection: RFC 5321 names no time for it; after half a
/// minute the next address is the better try.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(30);
/// How long it may take from there to where messages can be sent, greeting to the last EHLO: the
/// greeting alone may take five minutes (RFC 5321 §4.5.3.2.1), and busy hosts know why; a host that
/// takes as long for each word after it is left.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(7 * 60);
/// How long a TLS handshake may take.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_secs(30);
/// After a write failed: how long the peer's last words are waited for.
pub(super) const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);
/// Octets taken from a socket at once: replies are short.
const READ_OCTETS: usize = 4 * 1024;
/// Octets of a message that are in memory at once for a connection, and in one chunk (RFC 3030).
pub(super) const PIECE_OCTETS: u64 = 256 * 1024;

enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Gone,
}

/// A connection on which messages can be sent.
pub(super) struct Peer {
    stream: Stream,
    client: Client,
    name: String,
    address: SocketAddr,
    /// What TLS was agreed on, and what was seen of the certificate.
    tls: Option<String>,
    /// Whether somebody vouches for its certificate, and whether the name in that is surely its own.
    is_vouched_for: bool,
    is_named: bool,
    /// What is wrong with its TLS, though it is no obstacle.
    problem: Option<Problem>,
    over: Option<Why>,
    /// Until when the reply that is awaited may come.
    deadline: Deadline,
    waits: Waits,
}

/// Until when a reply may come: a peer that sends an octet of it now and then gains no time by that.
#[derive(Debug, Default)]
struct Deadline {
    replies: u64,
    at: Option<Instant>,
}

impl Deadline {
    /// The end of the wait for the reply after `replies` others; `asked`: something was said to the
    /// peer since the last time.
    fn next(&mut self, replies: u64, asked: bool, patience: Duration, now: Instant) -> Instant {
        match self.at {
            Some(at) if !asked && self.replies == replies => at,
            _ => {
                self.replies = replies;
                *self.at.insert(now + patience)
            }
        }
    }
}

/// Why there is no connection.
pub(super) struct OpenFailure {
    pub(super) why: String,
    /// It was TLS that failed, and how.
    pub(super) in_tls: Option<Problem>,
}

/// What the machine waits for.
enum Event {
    Ready,
    Content,
    Done(Vec<Verdict>),
    Over,
}

impl Peer {
    /// Connects, and comes to where messages can be sent. `tls` is what the demand has, or that it was
    /// tried and failed.
    pub(super) async fn open(
        site: &Arc<Site>,
        name: &str,
        address: SocketAddr,
        demand: &Demand,
        tls: TlsUse,
        waits: Waits,
    ) -> Result<Self, OpenFailure> {
        let failure = |why: String| OpenFailure { why, in_tls: None };
        let socket = match tokio::time::timeout(waits.connect, TcpStream::connect(address)).await {
            Err(_) => return Err(failure("no connection in time".to_owned())),
            Ok(Err(error)) => return Err(failure(error.to_string())),
            Ok(Ok(socket)) => socket,
        };
        // Small commands leave at once: two peers that wait for each other stall without it.
        socket.set_nodelay(true).map_err(|error| failure(error.to_string()))?;
        let client = Client::new(ClientSettings { host: site.host(), tls });
        let mut peer = Self {
            stream: Stream::Clear(socket),
            client,
            name: name.to_owned(),
            address,
            tls: None,
            is_vouched_for: false,
            is_named: false,
            problem: None,
            over: None,
            deadline: Deadline::default(),
            waits,
        };
        match tokio::time::timeout(waits.host, peer.begin(site, demand)).await {
            Ok(Ok(())) => Ok(peer),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(failure("the host takes too long to begin".to_owned())),
        }
    }

    /// Comes to where messages can be sent.
    async fn begin(&mut self, site: &Arc<Site>, demand: &Demand) -> Result<(), OpenFailure> {
        loop {
            match self.next(Some((site, demand))).await {
                Ok(Event::Ready) => return Ok(()),
                Ok(Event::Over) => {
                    let why = self.over.take().unwrap_or(Why::Fault(Fault::Lost));
                    let is_without = demand.tls() == TlsUse::Required && is_without_tls(&why);
                    let in_tls =
                        is_without.then(|| Problem::new(Kind::NotOffered, why.to_string()));
                    return Err(OpenFailure { why: why.to_string(), in_tls });
                }
                // Nothing was begun.
                Ok(Event::Content | Event::Done(_)) => {}
                Err(problem) => {
                    return Err(OpenFailure { why: problem.why.clone(), in_tls: Some(problem) });
                }
            }
        }
    }

    /// Recipients of one transaction at most.
    pub(super) fn recipients_max(&self) -> usize {
        self.client.recipients_max()
    }

    /// Whether another message can be sent.
    pub(super) fn takes_another(&self) -> bool {
        self.client.takes_another()
    }

    /// Whether the connection broke off.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Says whether its name is surely one of the domain's.
    pub(super) fn is_named(&mut self, is_named: bool) {
        self.is_named = is_named;
    }

    /// Whether a message that must not be seen on its way may go here, as far as the host itself is
    /// concerned (RFC 8689 §4.2.1): nobody else can have taken its place.
    pub(super) fn is_authentic(&self) -> bool {
        self.is_named && self.is_vouched_for
    }

    /// What is wrong with its TLS, though it is no obstacle: reports have it.
    pub(super) fn problem(&self) -> Option<Problem> {
        match &self.tls {
            None => Some(Problem::new(Kind::NotOffered, "STARTTLS is not offered")),
            Some(_) => self.problem.clone(),
        }
    }

    /// Whether it takes what a sender wishes to be told (DSN), and tells him itself.
    pub(super) fn tells(&self) -> bool {
        self.client.extensions().dsn
    }

    /// Where messages went, for the log.
    pub(super) fn described(&self) -> String {
        match &self.tls {
            Some(tls) => format!("sent to {} [{}] with {tls}", self.name, self.address),
            None => format!("sent to {} [{}] in clear", self.name, self.address),
        }
    }

    /// Sends a message, of which the first [`PIECE_OCTETS`] are at hand: of most that is all, and
    /// nothing is read while the peer waits. The verdicts, one for each recipient, are there the moment
    /// it has answered, before anything else is said to it.
    pub(super) async fn send(
        &mut self,
        site: &Arc<Site>,
        message: Outgoing,
        blob: BlobId,
        first: Vec<u8>,
    ) -> Vec<Verdict> {
        let count = message.recipients.len();
        let octets = message.octets;
        self.client.send(message);
        let (mut sent, mut first) = (0, Some(first));
        loop {
            match self.next(None).await {
                Ok(Event::Done(verdicts)) => return verdicts,
                Ok(Event::Content) => {
                    let end = octets.min(sent + PIECE_OCTETS);
                    let here = site.clone();
                    let piece = match first.take() {
                        Some(first) => Ok(Ok(first)),
                        None => blocking(move || here.store.read(blob, sent, end)).await,
                    };
                    match piece {
                        Ok(Ok(piece)) => {
                            sent = end;
                            self.client.content(piece, sent >= octets);
                        }
                        other => {
                            // Ours cannot be read: the peer must not take half of it for all.
                            tracing::error!(target: "transport", ?blob, error = ?other.err(), "a message cannot be read");
                            self.stream = Stream::Gone;
                            self.client.handle_closed();
                        }
                    }
                }
                Ok(Event::Ready) => {}
                Ok(Event::Over) | Err(_) => {
                    // Of a transaction that had begun the verdicts came before: it was over already.
                    let why = self.over.clone().unwrap_or(Why::Fault(Fault::Lost));
                    let verdict = Verdict { fate: smtp::client::Fate::Deferred, why };
                    return vec![verdict; count];
                }
            }
        }
    }

    /// Comes back to where a message can be sent: what was begun and came to nothing is taken back.
    pub(super) async fn settle(&mut self) {
        while !self.client.is_ready() && self.over.is_none() {
            if !matches!(self.next(None).await, Ok(Event::Ready | Event::Content | Event::Done(_)))
            {
                return;
            }
        }
    }

    /// Says goodbye, and closes.
    pub(super) async fn quit(mut self) {
        self.client.quit();
        while let Ok(Event::Ready | Event::Content | Event::Done(_)) = self.next(None).await {}
    }

    /// Does what the machine wants until it wants something of us. An error: the TLS handshake.
    async fn next(&mut self, opening: Option<(&Arc<Site>, &Demand)>) -> Result<Event, Problem> {
        let mut asked = false;
        loop {
            while let Some(step) = self.client.poll() {
                match step {
                    ClientStep::Send(octets) => {
                        asked = true;
                        if self.write(&octets).await.is_err() {
                            self.hear_last_words().await;
                        }
                    }
                    ClientStep::StartTls => {
                        let Some((site, demand)) = opening else {
                            self.client.handle_closed();
                            continue;
                        };
                        self.start_tls(site, demand).await?;
                        self.client.handle_tls_started();
                    }
                    ClientStep::Ready => return Ok(Event::Ready),
                    ClientStep::Content => return Ok(Event::Content),
                    ClientStep::Done(verdicts) => return Ok(Event::Done(verdicts)),
                    ClientStep::Failed(why) => self.over = Some(why),
                    ClientStep::Close => {
                        self.close().await;
                        return Ok(Event::Over);
                    }
                }
            }
            if matches!(self.stream, Stream::Gone) {
                return Ok(Event::Over);
            }
            let patience = self.client.patience().min(self.waits.answer);
            let replies = self.client.replies();
            let asked = std::mem::take(&mut asked);
            let until = self.deadline.next(replies, asked, patience, Instant::now());
            match tokio::time::timeout_at(until, self.read()).await {
                Err(_) => self.client.handle_timeout(),
                Ok(Ok(octets)) if octets.is_empty() => self.client.handle_closed(),
                Ok(Ok(octets)) => self.client.handle_octets(&octets),
                Ok(Err(_)) => self.client.handle_closed(),
            }
        }
    }

    /// A peer that stops reading may have said why.
    async fn hear_last_words(&mut self) {
        match tokio::time::timeout(self.waits.last_words, self.read()).await {
            Ok(Ok(octets)) if !octets.is_empty() => self.client.handle_octets(&octets),
            _ => self.client.handle_closed(),
        }
    }

    async fn start_tls(&mut self, site: &Arc<Site>, demand: &Demand) -> Result<(), Problem> {
        let failed = |why: String| Problem::new(Kind::ValidationFailure, why);
        let Stream::Clear(socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(failed("TLS is on already".to_owned()));
        };
        let (config, seen) = crypto::tls::danger_peer_config(demand.expects(site))
            .map_err(|error| failed(error.to_string()))?;
        let name = demand.name(&self.name);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| failed(format!("{name} is no name for TLS")))?;
        let handshake = TlsConnector::from(config).connect(name, socket);
        let handshake = tokio::time::timeout(self.waits.handshake, handshake).await;
        let certificate = seen.certificate();
        let unverified = certificate.as_ref().and_then(|seen| seen.verified.as_ref().err());
        let tls = match handshake {
            Err(_) => return Err(failed("no TLS handshake in time".to_owned())),
            Ok(Err(error)) => {
                let kind = unverified.map_or(Kind::ValidationFailure, |why| Problem::of(why).kind);
                return Err(Problem::new(kind, format!("the TLS handshake failed: {error}")));
            }
            Ok(Ok(tls)) => tls,
        };
        self.problem = match demand {
            Demand::Tested(_) => unverified.map(Problem::of),
            _ => None,
        };
        self.is_vouched_for = certificate.as_ref().is_some_and(|seen| seen.verified.is_ok());
        let (_, session) = tls.get_ref();
        let version = session.protocol_version().map(|v| format!("{v:?}")).unwrap_or_default();
        let suite = session.negotiated_cipher_suite();
        let suite = suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        let certificate = match certificate {
            None => "no certificate".to_owned(),
            Some(certificate) => match certificate.verified {
                Ok(()) => {
                    format!("certificate {} verified{}", certificate.sha256, demand.voucher())
                }
                Err(unverified) => {
                    format!("certificate {} not verified: {}", certificate.sha256, unverified.why)
                }
            },
        };
        self.tls = Some(format!("{version} {suite}, {certificate}"));
        self.stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut octets = vec![0; READ_OCTETS];
        let count = match &mut self.stream {
            Stream::Clear(socket) => socket.read(&mut octets).await?,
            Stream::Tls(tls) => tls.read(&mut octets).await?,
            Stream::Gone => 0,
        };
        octets.truncate(count);
        Ok(octets)
    }

    async fn write(&mut self, octets: &[u8]) -> std::io::Result<()> {
        // A peer that takes a block slowly is waited for, block by block (RFC 5321 §4.5.3.2.5).
        for block in octets.chunks(64 * 1024) {
            tokio::time::timeout(self.waits.block, async {
                match &mut self.stream {
                    Stream::Clear(socket) => socket.write_all(block).await,
                    Stream::Tls(tls) => tls.write_all(block).await,
                    Stream::Gone => Err(std::io::ErrorKind::NotConnected.into()),
                }
            })
            .await??;
        }
        tokio::time::timeout(self.waits.block, async {
            match &mut self.stream {
                Stream::Clear(socket) => socket.flush().await,
                Stream::Tls(tls) => tls.flush().await,
                Stream::Gone => Ok(()),
            }
        })
        .await?
    }

    async fn close(&mut self) {
        let mut stream = std::mem::replace(&mut self.stream, Stream::Gone);
        let goodbye = async {
            match &mut stream {
                Stream::Clear(socket) => socket.shutdown().await,
                Stream::Tls(tls) => tls.shutdown().await,
                Stream::Gone => Ok(()),
            }
        };
        // The peer may be gone, or may not read: either way the connection ends here.
        let _ = tokio::time::timeout(self.waits.last_words, goodbye).await;
    }
}

/// Whether a host could not be spoken to because it has no TLS.
fn is_without_tls(why: &Why) -> bool {
    matches!(
        why,
        Why::Fault(Fault::TlsNotOffered) | Why::Replied(smtp::client::Command::StartTls, _)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    // RFC 5321 §4.5.3.2: the time is for the reply, not for each octet of it
    #[test]
    fn a_reply_that_drips_has_no_more_time_than_one_that_comes_at_once() {
        let (mut deadline, began) = (Deadline::default(), Instant::now());
        let mut next = |replies, asked, minutes| {
            let until = deadline.next(replies, asked, 5 * MINUTE, began + minutes * MINUTE);
            (until - began).as_secs() / 60
        };
        assert_eq!(next(0, false, 0), 5, "the greeting is awaited unasked");
        // An octet a minute, and a line of many.
        assert_eq!([1, 2, 3, 4].map(|minute| next(0, false, minute)), [5; 4]);
        assert_eq!(next(1, false, 4), 9, "it came; the next may take as long");
        assert_eq!([5, 6].map(|minute| next(1, false, minute)), [9; 2]);
        assert_eq!(next(1, true, 7), 12, "something new was asked");
        assert_eq!(next(1, false, 11), 12);
    }
}
