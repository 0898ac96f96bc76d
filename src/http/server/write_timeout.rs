//! A byte stream that fails once its other side has taken nothing for too long: a client that stops
//! reading would hold its connection, and what waits to be sent, for ever. It goes with the stream
//! when a connection is upgraded. Reading is not its concern.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The stream.
pub(super) struct WriteTimeout<T> {
    io: T,
    at_most: Duration,
    /// When the write that is pending will have been for too long.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncWrite + Unpin> WriteTimeout<T> {
    pub(super) fn new(io: T, at_most: Duration) -> Self {
        Self { io, at_most, deadline: None }
    }

    /// What `write` says, or an error where that is nothing for too long.
    fn within<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let written = write(Pin::new(&mut self.io), cx);
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let at_most = self.at_most;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(at_most)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.within(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.within(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, |io, cx| io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    const AT_MOST: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_in_time() {
        let (io, _other) = tokio::io::duplex(8);
        let mut io = WriteTimeout::new(io, AT_MOST);
        let begin = Instant::now();
        let failed = io.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= AT_MOST && begin.elapsed() < AT_MOST * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_as_long_as_it_reads() {
        let (io, mut other) = tokio::io::duplex(1);
        let mut io = WriteTimeout::new(io, AT_MOST);
        let reader = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..10 {
                tokio::time::sleep(AT_MOST * 3 / 4).await;
                other.read_exact(&mut byte).await.unwrap();
            }
            other
        });
        io.write_all(&[0; 10]).await.unwrap();
        // With nothing to write, no time runs.
        let _other = reader.await.unwrap();
        tokio::time::sleep(AT_MOST * 5).await;
        io.write_all(&[0; 1]).await.unwrap();
    }
}
