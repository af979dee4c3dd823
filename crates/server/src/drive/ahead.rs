//! A socket below TLS that is read ahead: rustls asks for 4 KiB at a time, and the kernel shall not be
//! asked four times for a record of 16 KiB.
//!
//! What came beyond what was asked for is kept until it is asked for; an idle connection keeps nothing.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets taken from the kernel at once, and kept at most: a record of TLS (RFC 8446 §5.1).
const AHEAD_OCTETS: usize = 16 * 1024;

/// A socket, and what came of it already.
pub(super) struct Ahead<S> {
    socket: S,
    held: Vec<u8>,
    /// So many of these were asked for since.
    taken: usize,
}

impl<S> Ahead<S> {
    /// Of which nothing was read yet.
    pub(super) const fn new(socket: S) -> Self {
        Self { socket, held: Vec::new(), taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_empty() {
            if buffer.remaining() >= AHEAD_OCTETS {
                return Pin::new(&mut this.socket).poll_read(cx, buffer);
            }
            let mut octets = [MaybeUninit::uninit(); AHEAD_OCTETS];
            let mut came = ReadBuf::uninit(&mut octets);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut came))?;
            let (now, later) = came.filled().split_at(came.filled().len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.held = later.to_vec();
            return Poll::Ready(Ok(()));
        }
        let left = &this.held[this.taken..];
        let now = &left[..left.len().min(buffer.remaining())];
        buffer.put_slice(now);
        this.taken += now.len();
        if this.taken == this.held.len() {
            (this.held, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn octets_come_as_they_were_however_they_are_asked_for_and_nothing_is_kept() {
        let all: Vec<u8> = (0..3 * AHEAD_OCTETS + 7).map(|n| (n % 251) as u8).collect();
        for asked in [1, 5, 4096, AHEAD_OCTETS - 1, AHEAD_OCTETS, 2 * AHEAD_OCTETS] {
            let (mut client, server) = tokio::io::duplex(all.len());
            client.write_all(&all).await.unwrap();
            let mut ahead = Ahead::new(server);
            let (mut read, mut piece) = (Vec::new(), vec![0; asked]);
            while read.len() < all.len() {
                let count = ahead.read(&mut piece).await.unwrap();
                assert!(count > 0);
                read.extend_from_slice(&piece[..count]);
                assert!(ahead.held.len() - ahead.taken <= AHEAD_OCTETS);
            }
            assert!(read == all, "{asked}");
            assert_eq!(ahead.held.capacity(), 0);
            // What is written goes out, and the end is the end.
            ahead.write_all(b"said").await.unwrap();
            let mut said = [0; 4];
            client.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"said");
            drop(client);
            assert_eq!(ahead.read(&mut piece).await.unwrap(), 0);
        }
    }
}
