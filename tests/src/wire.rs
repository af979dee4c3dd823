//! Sockets with TLS for clients that wait: blocking, with a limit on every wait.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::net::{AddressFamily, SocketType};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};

/// How long an answer may take on a busy machine.
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The one pause of all tests: between two looks at something that has no event to wait for.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Looks until `ready` gives something, for [`ANSWER_WAIT`] at most.
///
/// # Errors
///
/// What `ready` fails with; or that it never came.
pub fn until<T>(what: &str, ready: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    until_within(what, ANSWER_WAIT, ready)
}

/// As [`until`], for another time.
///
/// # Errors
///
/// As [`until`].
pub fn until_within<T>(
    what: &str,
    wait: Duration,
    mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if began.elapsed() > wait {
            bail!("{what} did not come within {wait:?}");
        }
        pause();
    }
}

/// Connects in clear from another address of this machine, as a stranger's.
///
/// # Errors
///
/// When nobody listens there.
pub fn connect_from(address: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Wire> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::V4(SocketAddrV4::new(address, 0)))?;
    rustix::net::connect(&socket, &to)?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    Ok(Wire::Clear(BufReader::new(socket)))
}

/// A client that trusts one authority.
///
/// # Errors
///
/// When that is no certificate.
pub fn trusting(ca_pem: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    Ok(Arc::new(trust(ca_pem)?.with_no_client_auth()))
}

/// A client that trusts one authority, and shows this certificate. Whether the key is the
/// certificate's is the server's to find out.
///
/// # Errors
///
/// When something of it is not what it should be.
pub fn showing(
    ca_pem: &[u8],
    certificate_pem: &[u8],
    key_pem: &[u8],
) -> anyhow::Result<Arc<ClientConfig>> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    let shown = Arc::new(CertifiedKey::new(vec![certificate], key));
    let resolver = Arc::new(SingleCertAndKey::from(shown));
    Ok(Arc::new(trust(ca_pem)?.with_client_cert_resolver(resolver)))
}

fn trust(ca_pem: &[u8]) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots))
}

/// A connection, in clear or with TLS.
pub enum Wire {
    /// In clear.
    Clear(BufReader<TcpStream>),
    /// With TLS.
    Tls(Box<BufReader<StreamOwned<ClientConnection, TcpStream>>>),
}

impl Wire {
    /// Connects in clear.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn clear(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_WAIT))?;
        socket.set_write_timeout(Some(ANSWER_WAIT))?;
        Ok(Self::Clear(BufReader::new(socket)))
    }

    /// Connects with TLS from the start.
    ///
    /// # Errors
    ///
    /// When nobody listens, or the handshake fails.
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        Self::clear(address)?.start_tls(config)
    }

    /// Goes over to TLS; what was read and not used is forgotten.
    ///
    /// # Errors
    ///
    /// When the handshake fails.
    pub fn start_tls(self, config: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let Self::Clear(socket) = self else { bail!("TLS is on already") };
        let name = ServerName::try_from("localhost")?;
        let connection = ClientConnection::new(config.clone(), name)?;
        let mut stream = StreamOwned::new(connection, socket.into_inner());
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self::Tls(Box::new(BufReader::new(stream))))
    }

    /// What the connection's two ends alone have in common: `tls-exporter`, RFC 9266 §2.
    ///
    /// # Errors
    ///
    /// In clear.
    pub fn exporter(&self) -> anyhow::Result<[u8; 32]> {
        let Self::Tls(stream) = self else { bail!("no TLS") };
        let label = b"EXPORTER-Channel-Binding";
        Ok(stream.get_ref().conn.export_keying_material([0; 32], label, Some(b""))?)
    }

    /// Waits this long for each answer from now on.
    ///
    /// # Errors
    ///
    /// When the socket is gone.
    pub fn patience(&mut self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.get_ref().set_read_timeout(Some(wait)),
            Self::Tls(stream) => stream.get_ref().sock.set_read_timeout(Some(wait)),
        }
    }

    /// Writes octets as they are.
    ///
    /// # Errors
    ///
    /// When the peer is gone.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.get_mut().write_all(octets),
            Self::Tls(stream) => {
                stream.get_mut().write_all(octets)?;
                stream.get_mut().flush()
            }
        }
    }

    /// Reads a line without its CRLF.
    ///
    /// # Errors
    ///
    /// At the end of the stream, and when none comes in time.
    pub fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let read = match self {
            Self::Clear(socket) => socket.read_until(b'\n', &mut line)?,
            Self::Tls(stream) => stream.read_until(b'\n', &mut line)?,
        };
        if read == 0 || !line.ends_with(b"\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    /// Reads so many octets.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    pub fn octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; count];
        match self {
            Self::Clear(socket) => socket.read_exact(&mut octets)?,
            Self::Tls(stream) => stream.read_exact(&mut octets)?,
        }
        Ok(octets)
    }

    /// Reads what is there, one octet at least.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        let reader: &mut dyn BufRead = match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => stream.as_mut(),
        };
        let octets = reader.fill_buf()?.to_vec();
        reader.consume(octets.len());
        if octets.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(octets) }
    }

    /// Whether the peer has closed, seen by waiting for it.
    ///
    /// # Errors
    ///
    /// When it says something instead, or nothing for too long.
    pub fn closed(&mut self) -> anyhow::Result<()> {
        match self.line() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => bail!("not closed: {error}"),
            Ok(line) => bail!("not closed, but said {}", String::from_utf8_lossy(&line)),
        }
    }
}
