//! Who is behind a load balancer: the PROXY protocol, versions 1 and 2, heard from the networks that
//! `listen.proxy_from` names and from nobody else.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Octets of a header at most: version 1 has 107, version 2 some dozens and what it adds to them.
const HEADER_OCTETS_MAX: usize = 1024;
/// How long a header may take: a balancer sends it at once.
const HEADER_WAIT: Duration = Duration::from_secs(5);

/// Reads the header, and nothing of what follows it. The client's address; `None` when the balancer
/// speaks for itself, to see whether we are there.
///
/// # Errors
///
/// When what comes is no such header, or it does not come: then nobody knows whose the connection is.
pub(crate) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    read_within(socket, HEADER_WAIT).await
}

async fn read_within(
    socket: &mut (impl AsyncRead + Unpin),
    wait: Duration,
) -> io::Result<Option<SocketAddr>> {
    let header = tokio::time::timeout(wait, read_all(socket)).await;
    header.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came")))
}

async fn read_all(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let mut octets = Vec::with_capacity(128);
    while octets.len() < HEADER_OCTETS_MAX {
        // One by one: the octet behind the header is the client's.
        octets.push(socket.read_u8().await?);
        match ProxyHeader::parse(&octets, config) {
            Ok((header, _)) => return Ok(header.proxied_address().map(|proxied| proxied.source)),
            Err(Error::BufferTooShort) => {}
            Err(_) => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY header, or one that is too long"))
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;

    use super::*;

    async fn read_from(octets: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let mut rest = octets;
        let read = read(&mut rest).await;
        (read, rest.to_vec())
    }

    #[tokio::test]
    async fn both_versions_and_not_an_octet_more() {
        let source: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let header = ProxyHeader::with_address(ProxiedAddress::stream(
            source,
            "192.0.2.1:25".parse().unwrap(),
        ));
        let (mut first, mut second) = (Vec::new(), Vec::new());
        header.encode_v1(&mut first).unwrap();
        header.encode_v2(&mut second).unwrap();
        for octets in [first, second] {
            let (read, rest) = read_from(&[&octets[..], b"EHLO a\r\n"].concat()).await;
            assert_eq!((read.unwrap(), rest), (Some(source), b"EHLO a\r\n".to_vec()));
            // Cut anywhere, it is none.
            for cut in 0..octets.len() {
                let (read, _) = read_from(&octets[..cut]).await;
                assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut}");
            }
        }
        assert_eq!(read_from(b"PROXY UNKNOWN\r\n").await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn a_balancer_that_says_nothing_or_half_of_it_is_given_up_after_its_time() {
        assert_eq!(HEADER_WAIT.as_secs(), 5);
        let short = Duration::from_millis(100);
        for said in [&b""[..], b"PROXY TCP4 192.0.2.7 192."] {
            // The other end stays open.
            let (mut ours, mut theirs) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut theirs, said).await.unwrap();
            let began = std::time::Instant::now();
            let given_up = read_within(&mut ours, short).await.unwrap_err();
            assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
            assert!((short..HEADER_WAIT).contains(&began.elapsed()));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_and_one_octet_past_the_bound() {
        let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x04\x00".to_vec();
        long.resize(HEADER_OCTETS_MAX + 100, b'a');
        for octets in [&b"EHLO a\r\n"[..], b"PROXY TCP9 a b\r\n", &long] {
            let (read, _) = read_from(octets).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
