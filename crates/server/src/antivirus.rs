//! The scan for viruses that DPR 68/2005 art. 12 asks of every provider: a client of clamd.
//!
//! One connection a message: `INSTREAM`, the octets in pieces, one reply (clamd(8), COMMANDS). What
//! cannot be scanned now is an error and never "clean": nothing is certified or delivered unscanned,
//! unless the operator wrote `clamd = "off"`. clamd only reads: it cannot change what it is shown
//! (PEC-SEC-06). Not here: what becomes of an infected message, which is in [`crate::flow`].

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Octets sent in one piece.
const PIECE_OCTETS: usize = 128 * 1024;
/// How long clamd may take to accept a connection: it is on this machine, or the next.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long it may take none of what is sent.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// Octets of a reply at most: a name of a virus has some dozens.
const REPLY_OCTETS_MAX: usize = 1024;
/// Letters of a virus' name that are kept: it goes into notices and the log.
const NAME_MAX: usize = 128;
/// Sent before each message: clamd looks into parts only of what it takes for mail, and decides
/// that by the first field, which the sender of a message would otherwise choose.
const HEAD: &[u8] = b"Received: by ceralacca\r\n";

/// Where clamd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`
    Tcp(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// `[antivirus]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Antivirus {
    /// Where clamd listens; `None`: nothing is scanned.
    pub(crate) clamd: Option<Place>,
    /// How long the scan of one message may take in all.
    pub(crate) timeout: Duration,
}

impl Default for Antivirus {
    fn default() -> Self {
        // As long as clamd itself waits by default (clamd.conf(5), ReadTimeout).
        Self { clamd: None, timeout: Duration::from_secs(120) }
    }
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing, or nobody looked because the operator does not want it.
    Clean,
    /// A virus, or what the operator's clamd takes for one (PEC-SEC-07): its name.
    Infected(String),
}

/// Why a message was not scanned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    /// Nobody answers, or not in time, or not as clamd does: it may later.
    #[error("clamd at {0} does not scan: {1}")]
    Unavailable(String, String),
    /// It is larger than clamd takes (clamd.conf(5), StreamMaxLength), now and later.
    #[error("clamd at {0} takes no message of {1} octets: raise its StreamMaxLength")]
    TooLarge(String, usize),
}

/// Scans messages, and remembers when clamd hung: then one caller at a time tries it, and the others
/// hear at once that it does not answer, so that the steps of the pipeline that need no scan go on.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    hung_until: Mutex<Option<Instant>>,
    under_way: AtomicUsize,
}

/// Scans at the same time: each holds a thread while clamd is silent, and half of those that may block
/// are left to everybody else.
const SCANS_MAX: usize = 256;

/// One scan under way, until it is dropped.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(under_way: &'a AtomicUsize) -> Option<Self> {
        let turn = Self(under_way);
        (under_way.fetch_add(1, Ordering::Relaxed) < SCANS_MAX).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A failure that took at least so long is a clamd that hangs, not one that is not there.
const HANG: Duration = Duration::from_secs(2);
/// How long nobody tries it after that.
const REST: Duration = Duration::from_secs(10);

impl Scanner {
    /// Scans a message, as it was received.
    ///
    /// # Errors
    ///
    /// [`ScanError`]: then it is neither clean nor infected, and must wait.
    pub(crate) fn scan(&self, antivirus: &Antivirus, octets: &[u8]) -> Result<Verdict, ScanError> {
        let Some(place) = &antivirus.clamd else { return Ok(Verdict::Clean) };
        let begun = Instant::now();
        let turn = Turn::take(&self.under_way);
        let scanned = if turn.is_none() {
            Err(ScanError::Unavailable(place.to_string(), "it is busy with others".to_owned()))
        } else if self.may_try(begun, antivirus.timeout) {
            let scanned = Clamd::new(place, antivirus.timeout).scan(octets);
            let hung =
                matches!(scanned, Err(ScanError::Unavailable(..))) && begun.elapsed() >= HANG;
            *self.lock() = hung.then(|| Instant::now() + REST);
            scanned
        } else {
            Err(ScanError::Unavailable(place.to_string(), "it hung just now".to_owned()))
        };
        metrics::histogram!("ceralacca_scan_seconds").record(begun.elapsed().as_secs_f64());
        let result = match &scanned {
            Ok(Verdict::Clean) => "clean",
            Ok(Verdict::Infected(_)) => "infected",
            Err(ScanError::TooLarge(..)) => "too-large",
            Err(ScanError::Unavailable(..)) => "failed",
        };
        metrics::counter!("ceralacca_scans_total", "result" => result).increment(1);
        if let Err(error) = &scanned {
            tracing::error!(target: "antivirus", %error, "a message was not scanned");
        }
        scanned
    }

    /// Whether the caller is to try it; of several after a rest, the first.
    fn may_try(&self, now: Instant, timeout: Duration) -> bool {
        let mut hung_until = self.lock();
        match *hung_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *hung_until = Some(now + timeout);
                true
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.hung_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place where clamd listens, for one command.
pub(crate) struct Clamd<'a> {
    place: &'a Place,
    until: Instant,
}

impl<'a> Clamd<'a> {
    /// What is asked of it must be done within `timeout`.
    pub(crate) fn new(place: &'a Place, timeout: Duration) -> Self {
        Self { place, until: Instant::now() + timeout }
    }

    /// Its version and that of its signatures, as it says.
    ///
    /// # Errors
    ///
    /// [`ScanError::Unavailable`].
    pub(crate) fn version(&self) -> Result<String, ScanError> {
        self.unavailable(|| {
            let mut socket = self.connect()?;
            self.write(&mut socket, b"zVERSION\0")?;
            self.reply(&mut socket)
        })
        .map(|reply| name(&reply))
    }

    /// Has it scan a message.
    fn scan(&self, octets: &[u8]) -> Result<Verdict, ScanError> {
        let reply = self.unavailable(|| {
            let mut socket = self.connect()?;
            match self.send(&mut socket, octets) {
                Ok(()) => self.reply(&mut socket),
                // It stops reading when it has had enough, and has said so before.
                Err(error) => self.reply(&mut socket).map_err(|_| error),
            }
        })?;
        match read_reply(&reply) {
            Said::Clean => Ok(Verdict::Clean),
            Said::Found(virus) => Ok(Verdict::Infected(virus)),
            Said::TooLarge => Err(ScanError::TooLarge(self.place.to_string(), octets.len())),
            Said::Other(what) => {
                Err(ScanError::Unavailable(self.place.to_string(), format!("it says `{what}`")))
            }
        }
    }

    fn send(&self, socket: &mut Socket, octets: &[u8]) -> io::Result<()> {
        self.write(socket, b"zINSTREAM\0")?;
        for piece in std::iter::once(HEAD).chain(octets.chunks(PIECE_OCTETS)) {
            let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
            self.write(socket, &length.to_be_bytes())?;
            self.write(socket, piece)?;
        }
        self.write(socket, &0u32.to_be_bytes())
    }

    fn connect(&self) -> io::Result<Socket> {
        match self.place {
            Place::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
            Place::Tcp(address) => {
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT_WAIT.min(self.left()?)) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn write(&self, socket: &mut Socket, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            socket.set_write_timeout(WRITE_WAIT.min(self.left()?))?;
            match socket.write(octets) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => octets = &octets[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The reply to its NUL: what ends without one is a part of it, and `stream: OK` may go on.
    fn reply(&self, socket: &mut Socket) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        let mut piece = [0; 256];
        while reply.len() <= REPLY_OCTETS_MAX {
            socket.set_read_timeout(self.left()?)?;
            match socket.read(&mut piece) {
                Ok(0) => return Err(io::Error::other("it ended before its reply did")),
                Ok(octets) => reply.extend_from_slice(&piece[..octets]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if let Some(end) = reply.iter().position(|&octet| octet == 0) {
                reply.truncate(end);
                return Ok(reply);
            }
        }
        Err(io::Error::other("its reply has no end"))
    }

    /// The time that is left: an error when there is none.
    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    fn unavailable<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> Result<T, ScanError> {
        ask().map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                    "it does not answer in time".to_owned()
                }
                _ => error.to_string(),
            };
            ScanError::Unavailable(self.place.to_string(), why)
        })
    }
}

/// What a reply to `INSTREAM` says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Clean,
    Found(String),
    TooLarge,
    Other(String),
}

/// `stream: OK`, `stream: NAME FOUND`, `INSTREAM size limit exceeded. ERROR`.
fn read_reply(reply: &[u8]) -> Said {
    let text = String::from_utf8_lossy(reply);
    let text = text.trim();
    if text == "INSTREAM size limit exceeded. ERROR" {
        return Said::TooLarge;
    }
    match text.strip_prefix("stream: ") {
        Some("OK") => Said::Clean,
        Some(rest) => match rest.strip_suffix(" FOUND") {
            Some(virus) if !virus.trim().is_empty() => Said::Found(name(virus.as_bytes())),
            _ => Said::Other(name(reply)),
        },
        None => Said::Other(name(reply)),
    }
}

/// A name of a virus, or another word of clamd's, as it can be shown anywhere: printable ASCII.
fn name(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let text: String =
        text.trim().chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    text.chars().take(NAME_MAX).collect()
}

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(wait)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(wait)),
        }
    }

    fn set_write_timeout(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_write_timeout(Some(wait)),
            Self::Tcp(stream) => stream.set_write_timeout(Some(wait)),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(octets),
            Self::Tcp(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
