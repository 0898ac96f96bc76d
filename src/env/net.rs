//! Sockets: UDP for QUIC, TCP for HTTP, and host names. No TLS and no protocol here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use quinn::{AsyncUdpSocket, Runtime as _};
use tokio::io::{AsyncRead, AsyncWrite};

use super::fetch::{self, Fetch};
use super::links::Links;
use super::names::Names;
use crate::model::NodeName;

/// Most addresses that one name may give; the rest is dropped.
pub const LOOKUP_ADDRESSES_MAX: usize = 64;

/// What a UDP socket holds for a node that is busy, in bytes.
const UDP_BUFFER_LEN: usize = 4 * 1024 * 1024;

/// Whatever carries datagrams and connections.
pub trait Network: Send + Sync + 'static {
    /// Binds the UDP socket of `node`. Called inside a tokio runtime.
    fn udp(&self, node: &NodeName, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Listens for HTTP.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HttpListener>>>;

    /// What a URL answers: see [`Fetch`].
    fn fetch<'a>(&'a self, what: Fetch<'a>) -> BoxFuture<'a, io::Result<Vec<u8>>>;

    /// The addresses of `host:port`, at most [`LOOKUP_ADDRESSES_MAX`].
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Who offers a service (an SRV record's name, `_holm._udp.example.com`): the first to be tried
    /// first, with at most [`LOOKUP_ADDRESSES_MAX`] addresses in all, and one at least.
    fn lookup_service<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<Service>>>;
}

/// One that offers a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The lower, the earlier it is to be tried.
    pub priority: u16,
    /// The higher, the earlier among those of the same priority.
    pub weight: u16,
    /// Its name.
    pub target: String,
    /// Its port.
    pub port: u16,
    /// Where that is.
    pub addresses: Vec<SocketAddr>,
}

/// A listening socket for HTTP.
pub trait HttpListener: Send + Sync {
    /// Where it listens, with the port that the system gave.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection and who made it.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, SocketAddr)>>;
}

/// A byte stream both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// The operating system's network.
pub struct SystemNetwork {
    /// Delays and cuts between nodes on one machine.
    links: Option<Links>,
    names: Names,
}

impl SystemNetwork {
    /// With `links`, datagrams between nodes known to it are held for the link's delay.
    pub fn new(links: Option<Links>) -> Self {
        Self { links, names: Names::system() }
    }
}

impl Network for SystemNetwork {
    fn udp(&self, node: &NodeName, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = std::net::UdpSocket::bind(addr)?;
        widen(&socket);
        let socket = quinn::TokioRuntime.wrap_udp_socket(socket)?;
        match &self.links {
            Some(links) => links.wrap(node, socket),
            None => Ok(socket),
        }
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HttpListener>>> {
        async move {
            let listener = tokio::net::TcpListener::bind(addr).await?;
            Ok(Box::new(TcpHttpListener(listener)) as Box<dyn HttpListener>)
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, what: Fetch<'a>) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        fetch::fetch(what).boxed()
    }

    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(self.names.lookup(host).await?) }.boxed()
    }

    fn lookup_service<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<Service>>> {
        async move { Ok(self.names.services(name).await?) }.boxed()
    }
}

/// Makes room for what arrives while the node is busy: the usual 208 KiB holds less than 100 full
/// datagrams, and each one lost halves QUIC's window. More than the system allows takes a privilege;
/// without it the node is slower, so that failing here is no reason to stop.
fn widen(socket: &std::net::UdpSocket) {
    use rustix::net::sockopt;
    #[cfg(target_os = "linux")]
    if sockopt::set_socket_recv_buffer_size_force(socket, UDP_BUFFER_LEN).is_ok() {
        return;
    }
    let _ = sockopt::set_socket_recv_buffer_size(socket, UDP_BUFFER_LEN);
}

struct TcpHttpListener(tokio::net::TcpListener);

impl HttpListener for TcpHttpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, SocketAddr)>> {
        async move {
            let (stream, from) = self.0.accept().await?;
            // Answers are written whole; waiting for more to send would only delay them.
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Io>, from))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_listener_hands_out_byte_streams() {
        let net = SystemNetwork::new(None);
        let mut listener = net.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (mut io, from) = listener.accept().await.unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        client.write_all(b"holm").await.unwrap();
        let mut got = [0; 4];
        io.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"holm");
    }

    #[tokio::test]
    async fn an_address_looks_up_as_itself() {
        let found = SystemNetwork::new(None).lookup("127.0.0.1:80").await.unwrap();
        assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
    }
}
