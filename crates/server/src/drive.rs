//! Moves octets between a socket and a machine, for both protocols: reads when the machine wants
//! octets, writes what it says, and goes over to TLS when it asks for that.
//!
//! While a connection is idle it holds no buffer: 5,000 idle clients must stay cheap.

mod ahead;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::ahead::Ahead;
use crate::deflate::{self, Inflate};

/// Octets taken from a socket at once.
const READ_OCTETS: usize = 16 * 1024;
/// How long a TLS handshake may take: a client does it in well under a second.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a peer may take none of what is written to it before it is given up.
pub(crate) const WRITE_WAIT: Duration = Duration::from_secs(120);

enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<Ahead<TcpStream>>>),
    /// Between the two, or after a failed handshake.
    Gone,
}

/// One client's connection.
pub(crate) struct Connection {
    stream: Stream,
    peer: SocketAddr,
    /// What goes both ways is compressed.
    inflate: Option<Box<Inflate>>,
    waits: Waits,
}

/// What a peer is waited for here.
#[derive(Debug, Clone, Copy)]
struct Waits {
    handshake: Duration,
    write: Duration,
}

impl Connection {
    /// Takes a connection over. Small answers leave at once (TCP_NODELAY): two peers that wait for
    /// each other stall 40 ms without it.
    pub(crate) fn new(socket: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let waits = Waits { handshake: HANDSHAKE_WAIT, write: WRITE_WAIT };
        Ok(Self { stream: Stream::Clear(socket), peer, inflate: None, waits })
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Goes over to TLS. Octets that came in clear are the machine's to drop.
    ///
    /// # Errors
    ///
    /// When the handshake fails or takes longer than [`HANDSHAKE_WAIT`]: the connection is over.
    pub(crate) async fn start_tls(&mut self, acceptor: TlsAcceptor) -> io::Result<()> {
        let Stream::Clear(socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::Error::other("TLS is on already"));
        };
        let accepted = acceptor.accept(Ahead::new(socket));
        let tls = tokio::time::timeout(self.waits.handshake, accepted).await??;
        self.stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    /// Whether TLS is up.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Version and cipher suite, as in `TLSv1_3 TLS13_AES_256_GCM_SHA384`; nothing in clear.
    pub(crate) fn tls_words(&self) -> Option<String> {
        let Stream::Tls(tls) = &self.stream else { return None };
        let (_, session) = tls.get_ref();
        let (version, suite) = (session.protocol_version()?, session.negotiated_cipher_suite()?);
        Some(format!("{version:?} {:?}", suite.suite()))
    }

    /// The certificate whose key the client has proved to have, in DER.
    pub(crate) fn client_certificate(&self) -> Option<Vec<u8>> {
        let Stream::Tls(tls) = &self.stream else { return None };
        let (_, session) = tls.get_ref();
        session.peer_certificates()?.first().map(|certificate| certificate.to_vec())
    }

    /// What SCRAM-SHA-256-PLUS is bound to, `tls-exporter` of RFC 9266 §2; of TLS 1.3 only, where it
    /// is unique without any extension.
    pub(crate) fn exporter(&self) -> Option<Vec<u8>> {
        let Stream::Tls(tls) = &self.stream else { return None };
        let (_, session) = tls.get_ref();
        if session.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        let exporter =
            session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()?;
        Some(exporter.to_vec())
    }

    /// From here on what goes both ways is compressed.
    pub(crate) fn compress(&mut self) {
        self.inflate = Some(Box::new(Inflate::new()));
    }

    /// From here on it is not, and what came compressed and was not read is dropped.
    pub(crate) fn compress_no_more(&mut self) {
        self.inflate = None;
    }

    /// The next octets that come; empty at the end of the stream. Can be dropped at any time
    /// without loss.
    pub(crate) async fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(inflate) = &mut self.inflate {
                let octets = inflate.next()?;
                if !octets.is_empty() {
                    return Ok(octets);
                }
            }
            let came = self.read_stream().await?;
            match &mut self.inflate {
                Some(inflate) if !came.is_empty() => inflate.take(came),
                _ => return Ok(came),
            }
        }
    }

    async fn read_stream(&mut self) -> io::Result<Vec<u8>> {
        std::future::poll_fn(|cx| {
            // On the stack and only while there is something to read: see the module's text.
            let mut octets = [0; READ_OCTETS];
            let mut buffer = ReadBuf::new(&mut octets);
            match self.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().to_vec())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Clear(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Tls(tls) => match Pin::new(tls.as_mut()).poll_read(cx, buffer) {
                // A peer that ends without close_notify has ended all the same.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                other => other,
            },
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes all of it and sends it off.
    ///
    /// # Errors
    ///
    /// When the peer is gone, or takes nothing for [`WRITE_WAIT`].
    pub(crate) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let deflated;
        let octets = match self.inflate {
            Some(_) => {
                deflated = deflate::deflated(octets)?;
                &deflated
            }
            None => octets,
        };
        for piece in octets.chunks(READ_OCTETS) {
            tokio::time::timeout(self.waits.write, async {
                match &mut self.stream {
                    Stream::Clear(socket) => socket.write_all(piece).await,
                    Stream::Tls(tls) => tls.write_all(piece).await,
                    Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
                }
            })
            .await??;
        }
        tokio::time::timeout(self.waits.write, async {
            match &mut self.stream {
                Stream::Clear(socket) => socket.flush().await,
                Stream::Tls(tls) => tls.flush().await,
                Stream::Gone => Ok(()),
            }
        })
        .await?
    }

    /// Says goodbye as TLS wants it, and closes.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            match &mut self.stream {
                Stream::Clear(socket) => socket.shutdown().await,
                Stream::Tls(tls) => tls.shutdown().await,
                Stream::Gone => Ok(()),
            }
        };
        // The peer may be gone, or may not read: either way the connection ends here.
        let _ = tokio::time::timeout(self.waits.handshake, goodbye).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    /// A connection that waits so long, and its client's end.
    async fn two_ends(waits: Waits) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        (Connection { waits, ..Connection::new(socket, peer).unwrap() }, client)
    }

    #[test]
    fn the_waits_are_those_of_the_constants() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let peer = client.local_addr().unwrap();
            let Waits { handshake, write } = Connection::new(client, peer).unwrap().waits;
            assert_eq!((handshake, write), (HANDSHAKE_WAIT, WRITE_WAIT));
        });
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_of_what_is_written_is_given_up_after_its_time() {
        // More than two sockets hold.
        let much = vec![b'x'; 64 << 20];
        let (mut connection, client) = two_ends(Waits { handshake: LONG, write: SHORT }).await;
        let began = Instant::now();
        let given_up = connection.write(&much).await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
        assert!((SHORT..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
        drop(client);
        // One that takes it may have all of it.
        let (mut connection, mut client) = two_ends(Waits { handshake: LONG, write: LONG }).await;
        let reads = tokio::spawn(async move {
            let (mut octets, mut read) = (vec![0; 1 << 20], 0);
            while let Ok(count @ 1..) = client.read(&mut octets).await {
                read += count;
            }
            read
        });
        connection.write(&much).await.unwrap();
        drop(connection);
        assert_eq!(reads.await.unwrap(), much.len());
    }

    #[tokio::test]
    async fn a_peer_that_begins_no_handshake_is_given_up_after_its_time() {
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let resolver = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        let acceptor = TlsAcceptor::from(Arc::new(config.with_cert_resolver(resolver)));
        let (mut connection, mut client) = two_ends(Waits { handshake: SHORT, write: LONG }).await;
        let began = Instant::now();
        // The first octet of a handshake, and no more.
        client.write_all(&[22]).await.unwrap();
        let given_up = connection.start_tls(acceptor).await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
        assert!((SHORT..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
        // It is over: nothing is read as if it were in clear.
        assert_eq!(connection.read().await.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[tokio::test]
    async fn small_answers_leave_at_once() {
        let (connection, client) = two_ends(Waits { handshake: LONG, write: LONG }).await;
        assert!(!client.nodelay().unwrap(), "the system's own choice is another");
        let Stream::Clear(socket) = &connection.stream else { panic!("no connection in clear") };
        assert!(socket.nodelay().unwrap());
    }
}
