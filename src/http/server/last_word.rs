//! A byte stream that keeps a hand on what it hands out, so that a client which is too slow with a
//! request's headers is told so (408; RFC 9110, section 15.5.9): hyper closes without a word. A
//! client that has sent nothing of a request is told nothing: it may be about to, and would take the
//! answer for that request's.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// How long the last word may take to be taken.
const WORD_TIME: Duration = Duration::from_secs(1);

/// The stream, as the connection has it.
pub(super) struct Lent<T>(Arc<Mutex<Stream<T>>>);

/// The hand that is kept on it.
pub(super) struct Kept<T>(Lent<T>);

struct Stream<T> {
    io: T,
    /// Something was read since something was last written: a request has begun.
    is_asked: bool,
}

/// The stream twice: to be read and written, and to say a last word.
pub(super) fn lend<T>(io: T) -> (Lent<T>, Kept<T>) {
    let stream = Arc::new(Mutex::new(Stream { io, is_asked: false }));
    (Lent(stream.clone()), Kept(Lent(stream)))
}

impl<T: AsyncWrite + Unpin> Kept<T> {
    /// Tells a client that has begun a request that it was too slow; whether there was one to tell.
    pub(super) async fn tell_too_slow(mut self) -> bool {
        if !self.0.stream().is_asked {
            return false;
        }
        let word = async {
            self.0.write_all(TOO_SLOW).await?;
            self.0.shutdown().await
        };
        // Who does not take it is not told.
        let _ = tokio::time::timeout(WORD_TIME, word).await;
        true
    }
}

impl<T> Lent<T> {
    fn stream(&self) -> MutexGuard<'_, Stream<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lent<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut stream = self.stream();
        let before = buf.filled().len();
        let read = Pin::new(&mut stream.io).poll_read(cx, buf);
        stream.is_asked |= buf.filled().len() > before;
        read
    }
}

impl<T: AsyncWrite + Unpin> Lent<T> {
    fn written(
        &self,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream();
        let written = write(Pin::new(&mut stream.io));
        stream.is_asked &= written.is_pending();
        written
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lent<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written(|io| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written(|io| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn only_a_client_that_has_begun_a_request_is_told() {
        let (io, mut client) = tokio::io::duplex(1_000);
        let (mut lent, kept) = lend(io);
        client.write_all(b"GET").await.unwrap();
        lent.read_exact(&mut [0; 3]).await.unwrap();
        assert!(kept.tell_too_slow().await);
        drop(lent);
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        let (io, mut client) = tokio::io::duplex(1_000);
        let (mut lent, kept) = lend(io);
        client.write_all(b"GET").await.unwrap();
        lent.read_exact(&mut [0; 3]).await.unwrap();
        lent.write_all(b"answered").await.unwrap();
        assert!(!kept.tell_too_slow().await);
        drop(lent);
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "answered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_does_not_hold_it_up() {
        let (io, mut client) = tokio::io::duplex(8);
        let (mut lent, kept) = lend(io);
        client.write_all(b"GET").await.unwrap();
        lent.read_exact(&mut [0; 3]).await.unwrap();
        assert!(kept.tell_too_slow().await);
    }
}
