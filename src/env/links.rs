//! Links between nodes on one machine: real UDP sockets whose outgoing datagrams are held for the
//! link's one-way delay, or dropped where it is cut. Order is kept; nothing is reordered,
//! duplicated or lost otherwise, except where a link holds more than [`HELD_BYTES_MAX`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::model::NodeName;

/// Most bytes that one link holds; a datagram beyond is dropped, as a full router drops it.
/// 100 ms at 80 MB/s.
pub const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The distance: one way, as the topology says.
    pub delay: Duration,
    /// What comes on top of it, as long as the link is slow.
    pub extra: Duration,
    /// Whether anything arrives at all.
    pub up: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { delay: Duration::ZERO, extra: Duration::ZERO, up: true }
    }
}

/// All links of one machine's cluster, to be changed while it runs. Clones are one table.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Filled when sockets are bound: whom a destination address belongs to.
    nodes: BTreeMap<SocketAddr, NodeName>,
    /// From, then to. A pair that is missing has the default link.
    links: BTreeMap<NodeName, BTreeMap<NodeName, Link>>,
    dropped: u64,
}

impl Table {
    fn link(&self, from: &NodeName, to: &NodeName) -> Link {
        self.links.get(from).and_then(|links| links.get(to)).copied().unwrap_or_default()
    }

    fn link_mut(&mut self, from: &NodeName, to: &NodeName) -> &mut Link {
        self.links.entry(from.clone()).or_default().entry(to.clone()).or_default()
    }
}

impl Links {
    /// A table where every link is up and immediate.
    pub fn new() -> Self {
        Self::default()
    }

    /// How `from` reaches `to` now.
    pub fn link(&self, from: &NodeName, to: &NodeName) -> Link {
        self.table().link(from, to)
    }

    /// Sets the one-way delay in both directions.
    pub fn set_delay(&self, a: &NodeName, b: &NodeName, one_way: Duration) {
        let mut table = self.table();
        table.link_mut(a, b).delay = one_way;
        table.link_mut(b, a).delay = one_way;
    }

    /// Nothing from `from` reaches `to` any more; the other direction stays.
    pub fn cut_one_way(&self, from: &NodeName, to: &NodeName) {
        self.table().link_mut(from, to).up = false;
    }

    /// Nothing passes between the two any more.
    pub fn cut(&self, a: &NodeName, b: &NodeName) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// From now on what `from` sends to `to` takes `extra` longer.
    pub fn slow_one_way(&self, from: &NodeName, to: &NodeName, extra: Duration) {
        self.table().link_mut(from, to).extra = extra;
    }

    /// From now on each direction takes `extra` longer.
    pub fn slow(&self, a: &NodeName, b: &NodeName, extra: Duration) {
        self.slow_one_way(a, b, extra);
        self.slow_one_way(b, a, extra);
    }

    /// The two reach each other again, with the delay alone.
    pub fn heal(&self, a: &NodeName, b: &NodeName) {
        let mut table = self.table();
        for (from, to) in [(a, b), (b, a)] {
            let link = table.link_mut(from, to);
            *link = Link { delay: link.delay, ..Link::default() };
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal_all(&self) {
        for links in self.table().links.values_mut() {
            for link in links.values_mut() {
                *link = Link { delay: link.delay, ..Link::default() };
            }
        }
    }

    /// Every link that was ever set, as (from, to, link).
    pub fn all(&self) -> Vec<(NodeName, NodeName, Link)> {
        let table = self.table();
        let links = table.links.iter().flat_map(|(from, links)| {
            links.iter().map(|(to, link)| (from.clone(), to.clone(), *link))
        });
        links.collect()
    }

    /// Datagrams that were dropped because their link was cut or full.
    pub fn dropped(&self) -> u64 {
        self.table().dropped
    }

    /// Puts `node`'s socket on these links. Called inside a tokio runtime.
    pub fn wrap(
        &self,
        node: &NodeName,
        inner: Arc<dyn AsyncUdpSocket>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.table().nodes.insert(inner.local_addr()?, node.clone());
        let held = Arc::new(Held::default());
        let release = release(self.clone(), node.clone(), inner.clone(), held.clone());
        let task = tokio::spawn(release);
        Ok(Arc::new(LinkSocket { links: self.clone(), node: node.clone(), inner, held, task }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Datagrams on their way.
#[derive(Default)]
struct Held {
    queue: Mutex<Queue>,
    /// Wakes the release when a datagram came that is due before all others.
    sooner: Notify,
}

#[derive(Default)]
struct Queue {
    /// By the time they are due; the second number keeps the order of equals.
    datagrams: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
    links: BTreeMap<NodeName, OnLink>,
}

/// What one link holds.
struct OnLink {
    bytes: usize,
    /// The last datagram's time: a link that became faster does not reorder.
    due_max: Instant,
}

struct Datagram {
    to: NodeName,
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    contents: Vec<u8>,
}

impl Held {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the datagram, to be sent after `delay`; false where the link is full.
    fn hold(&self, to: NodeName, delay: Duration, transmit: &Transmit<'_>) -> bool {
        let mut queue = self.queue();
        let now = Instant::now();
        let on_link = queue.links.entry(to.clone()).or_insert(OnLink { bytes: 0, due_max: now });
        if on_link.bytes + transmit.contents.len() > HELD_BYTES_MAX {
            return false;
        }
        let due = (now + delay).max(on_link.due_max);
        on_link.due_max = due;
        on_link.bytes += transmit.contents.len();
        let datagram = Datagram {
            to,
            destination: transmit.destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            contents: transmit.contents.to_vec(),
        };
        let is_first = queue.datagrams.first_key_value().is_none_or(|((first, _), _)| due < *first);
        queue.sent += 1;
        let key = (due, queue.sent);
        queue.datagrams.insert(key, datagram);
        if is_first {
            self.sooner.notify_one();
        }
        true
    }

    fn take_due(&self, now: Instant) -> Option<Datagram> {
        let mut queue = self.queue();
        let first = queue.datagrams.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let datagram = first.remove();
        if let Some(on_link) = queue.links.get_mut(&datagram.to) {
            on_link.bytes -= datagram.contents.len();
        }
        Some(datagram)
    }

    fn next_due(&self) -> Option<Instant> {
        self.queue().datagrams.first_key_value().map(|((due, _), _)| *due)
    }
}

/// Sends what is due, for as long as the socket lives.
async fn release(links: Links, node: NodeName, inner: Arc<dyn AsyncUdpSocket>, held: Arc<Held>) {
    let mut poller = inner.clone().create_io_poller();
    loop {
        while let Some(datagram) = held.take_due(Instant::now()) {
            // A cut also stops what is on its way.
            if !links.link(&node, &datagram.to).up {
                links.table().dropped += 1;
                continue;
            }
            send(&*inner, poller.as_mut(), &datagram).await;
        }
        let sooner = held.sooner.notified();
        match held.next_due() {
            None => sooner.await,
            Some(due) => tokio::select! {
                biased;
                () = sleep_until(due) => {}
                () = sooner => {}
            },
        }
    }
}

async fn send(inner: &dyn AsyncUdpSocket, mut poller: Pin<&mut dyn UdpPoller>, it: &Datagram) {
    let transmit = Transmit {
        destination: it.destination,
        ecn: it.ecn,
        contents: &it.contents,
        segment_size: None,
        src_ip: it.src_ip,
    };
    while let Err(error) = inner.try_send(&transmit) {
        // Any other error is a datagram lost, which UDP may do.
        if error.kind() != io::ErrorKind::WouldBlock
            || poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.is_err()
        {
            return;
        }
    }
}

struct LinkSocket {
    links: Links,
    node: NodeName,
    inner: Arc<dyn AsyncUdpSocket>,
    held: Arc<Held>,
    task: JoinHandle<()>,
}

impl Drop for LinkSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for LinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkSocket({})", self.node)
    }
}

impl AsyncUdpSocket for LinkSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut table = self.links.table();
        let Some(to) = table.nodes.get(&transmit.destination).cloned() else {
            drop(table);
            return self.inner.try_send(transmit);
        };
        let link = table.link(&self.node, &to);
        if !link.up {
            table.dropped += 1;
            return Ok(());
        }
        drop(table);
        if !self.held.hold(to, link.delay + link.extra, transmit) {
            self.links.table().dropped += 1;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        // One datagram a transmit: each is held on its own.
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests;
