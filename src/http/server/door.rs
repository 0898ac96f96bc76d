//! The TLS that connections come through: a handshake with a time limit, few enough of them at once,
//! under whichever certificate is in force when it begins. Who speaks plain HTTP here is told so. It
//! reads no files; see `transport::https`.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::write_timeout::WriteTimeout;
use crate::env::Io;
use crate::settings::TlsSettings;
use crate::telemetry::Metrics;
use crate::transport::https::ALPN_H2;

/// The first byte of a TLS connection: a handshake record.
const HANDSHAKE: u8 = 0x16;
/// How much of a plain request is read before it is answered, in bytes.
const PLAIN_LEN_MAX: usize = 16 * 1024;

/// A connection without its TLS.
pub(super) type Inner = AfterFirst<WriteTimeout<Box<dyn Io>>>;

/// The TLS that connections come through.
pub struct Door {
    config: ArcSwap<ServerConfig>,
    /// One for each handshake that may be under way.
    places: Semaphore,
    timeout: Duration,
}

/// A connection that came through.
pub(super) enum Entered {
    /// It goes on with HTTP/1.1.
    Http1(TlsStream<Inner>),
    /// It goes on with HTTP/2.
    Http2(TlsStream<Inner>),
}

/// Why a handshake came to nothing, as it is counted.
enum Failed {
    /// The client speaks no TLS.
    Plain,
    /// The client's certificate is missing or not good.
    ClientCertificate(io::Error),
    /// Anything else.
    Other(io::Error),
}

impl Door {
    /// A door with this certificate, until there is another one.
    pub fn new(config: Arc<ServerConfig>, settings: &TlsSettings) -> Self {
        Self {
            config: ArcSwap::new(config),
            places: Semaphore::new(settings.handshakes_max),
            timeout: settings.handshake_timeout,
        }
    }

    /// Handshakes from now on are under this one. Connections that stand go on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.config.store(config);
    }

    /// Takes a connection through, or ends it.
    pub(super) async fn enter(
        &self,
        io: WriteTimeout<Box<dyn Io>>,
        metrics: &Metrics,
        mut stop: watch::Receiver<bool>,
    ) -> Option<Entered> {
        let Ok(_place) = self.places.try_acquire() else {
            metrics.handshake_failed("busy");
            return None;
        };
        let shaken = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return None,
            shaken = tokio::time::timeout(self.timeout, self.handshake(io)) => shaken,
        };
        let failed = match shaken {
            Ok(Ok(stream)) => {
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
                return Some(if is_h2 { Entered::Http2(stream) } else { Entered::Http1(stream) });
            }
            Ok(Err(failed)) => failed,
            Err(_) => {
                metrics.handshake_failed("timeout");
                return None;
            }
        };
        metrics.handshake_failed(match &failed {
            Failed::Plain => "plain",
            Failed::ClientCertificate(_) => "client_certificate",
            Failed::Other(_) => "failed",
        });
        match failed {
            Failed::Plain => tracing::debug!("a client spoke plain HTTP to the HTTPS address"),
            // Strangers can cause these as often as they like.
            Failed::ClientCertificate(error) | Failed::Other(error) => {
                tracing::debug!(%error, "a client's TLS handshake failed");
            }
        }
        None
    }

    async fn handshake(
        &self,
        mut io: WriteTimeout<Box<dyn Io>>,
    ) -> Result<TlsStream<Inner>, Failed> {
        let first = io.read_u8().await.map_err(Failed::Other)?;
        if first != HANDSHAKE {
            answer_plain(io).await;
            return Err(Failed::Plain);
        }
        let io = AfterFirst { first: Some(first), io };
        TlsAcceptor::from(self.config.load_full()).accept(io).await.map_err(|error| {
            match error.get_ref().and_then(|error| error.downcast_ref()) {
                Some(
                    rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_),
                ) => Failed::ClientCertificate(error),
                _ => Failed::Other(error),
            }
        })
    }
}

/// Says what is wrong in the words of who speaks plain HTTP/1, and closes.
async fn answer_plain(mut io: WriteTimeout<Box<dyn Io>>) {
    let body = "{\"error\":\"TlsRequired\",\"detail\":\"this address speaks HTTPS alone: use an \
                https:// address\",\"type\":\"urn:holm:error:TlsRequired\",\
                \"title\":\"Bad Request\",\"status\":400}";
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    // What was sent is read: closing with bytes unread would take the answer back.
    let mut request = vec![0; PLAIN_LEN_MAX];
    let _ = io.read(&mut request).await;
    // A client that has gone away needs no answer.
    let _ = io.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = io.shutdown().await;
    // The client closes when it has read.
    let mut rest = pin!(io.read(&mut request));
    let _ = tokio::time::timeout(Duration::from_secs(1), rest.as_mut()).await;
}

/// A byte stream whose first byte was looked at.
pub(super) struct AfterFirst<T> {
    first: Option<u8>,
    io: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for AfterFirst<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AfterFirst<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
