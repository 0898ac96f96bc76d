//! A node's sockets in the simulation: UDP on the fabric, HTTP from clients through doors. Addresses
//! are literal; nothing is fetched from anywhere.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures_util::future::{BoxFuture, FutureExt as _, poll_fn};
use quinn::AsyncUdpSocket;

use super::fabric::{self, Fabric};
use super::pipe::{Exchange, Stream};
use crate::env::{Fetch, HttpListener, Io, Network, Service};
use crate::model::NodeName;

/// Most connections that wait to be accepted; further ones are refused.
const BACKLOG_MAX: usize = 1_024;
/// Where nodes answer HTTP.
const HTTP_PORT: u16 = 8_080;

/// The address at which the node with that number answers HTTP.
pub(crate) fn http_address(node: usize) -> SocketAddr {
    SocketAddr::new(fabric::address(node).ip(), HTTP_PORT)
}

/// The address that the client with that number has.
pub(crate) fn client_address(client: u32) -> SocketAddr {
    let [_, high, middle, low] = client.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 128 | high, middle, low)), 50_000)
}

/// The nodes' HTTP listeners, by the nodes' numbers. Clones are one.
#[derive(Clone)]
pub(crate) struct Doors(Arc<Mutex<Vec<Door>>>);

#[derive(Default)]
struct Door {
    /// Which listener has it; a crashed node's old one does not.
    open: Option<u64>,
    listens: u64,
    waiting: VecDeque<(Stream, SocketAddr)>,
    waker: Option<Waker>,
}

impl Doors {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new((0..count).map(|_| Door::default()).collect())))
    }

    /// A connection to `node`; none where nobody listens or too many wait.
    pub(crate) fn connect(
        &self,
        exchange: &Exchange,
        node: usize,
        from: SocketAddr,
    ) -> Option<Stream> {
        let mut doors = self.doors();
        let door = &mut doors[node];
        if door.open.is_none() || door.waiting.len() >= BACKLOG_MAX {
            return None;
        }
        let (client, server) = exchange.open();
        door.waiting.push_back((server, from));
        let waker = door.waker.take();
        drop(doors);
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(client)
    }

    /// Nobody listens at `node` any more; who waits is turned away.
    pub(crate) fn shut(&self, node: usize) {
        let waiting = {
            let mut doors = self.doors();
            let door = &mut doors[node];
            (door.open, door.waker) = (None, None);
            std::mem::take(&mut door.waiting)
        };
        drop(waiting);
    }

    fn listen(&self, node: usize) -> Listener {
        let mut doors = self.doors();
        let door = &mut doors[node];
        door.listens += 1;
        door.open = Some(door.listens);
        Listener { doors: self.clone(), node, listen: door.listens }
    }

    fn doors(&self) -> MutexGuard<'_, Vec<Door>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listener {
    doors: Doors,
    node: usize,
    listen: u64,
}

impl HttpListener for Listener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(http_address(self.node))
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, SocketAddr)>> {
        poll_fn(|cx| {
            let mut doors = self.doors.doors();
            let door = &mut doors[self.node];
            if door.open != Some(self.listen) {
                return Poll::Pending;
            }
            match door.waiting.pop_front() {
                Some((stream, from)) => Poll::Ready(Ok((Box::new(stream) as Box<dyn Io>, from))),
                None => {
                    door.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .boxed()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let is_open = self.doors.doors()[self.node].open == Some(self.listen);
        if is_open {
            self.doors.shut(self.node);
        }
    }
}

/// The sockets of one node.
pub(crate) struct NodeNetwork {
    pub(crate) node: usize,
    pub(crate) fabric: Fabric,
    pub(crate) doors: Doors,
}

impl Network for NodeNetwork {
    fn udp(&self, _: &NodeName, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if addr != fabric::address(self.node) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(self.fabric.bind(self.node))
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HttpListener>>> {
        async move {
            if addr != http_address(self.node) {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            Ok(Box::new(self.doors.listen(self.node)) as Box<dyn HttpListener>)
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: Fetch<'a>) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        let why = "there is nothing beside the nodes in a simulation";
        async move { Err(io::Error::new(io::ErrorKind::NetworkUnreachable, why)) }.boxed()
    }

    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let found = host.parse().map(|addr| vec![addr]);
        async move { found.map_err(|_| io::ErrorKind::NotFound.into()) }.boxed()
    }

    fn lookup_service<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<Service>>> {
        let why = "there is no DNS in a simulation";
        async move { Err(io::Error::new(io::ErrorKind::NotFound, why)) }.boxed()
    }
}
