//! UDP between nodes, in memory and in virtual time. Each direction between two nodes is a link that
//! can be far, slow, lossy, narrow, held or cut. Bounded a link; what is more is dropped, as on a
//! real network. It reads no datagram, except to look for what must not be in one.

mod link;
mod socket;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use quinn::AsyncUdpSocket;
use quinn::udp::EcnCodepoint;

use super::clock::Timeline;
use super::needles::Needles;
use super::scenario::LinkQuality;
use super::trace::{Subject, Trace};
use crate::env::Entropy;

pub(crate) use link::{Cause, LinkCounts};

use link::{Fate, Link};
use socket::FabricSocket;

/// Where nodes speak QUIC.
const PORT: u16 = 4_433;

/// The network between nodes, which are known by number. Clones are one.
#[derive(Clone)]
pub(crate) struct Fabric(Arc<Mutex<State>>);

struct State {
    ports: Vec<Port>,
    /// By sender, then receiver.
    links: Vec<Link>,
    /// When the window ends that is being stepped.
    window_end_us: u64,
    /// Datagrams so far: orders those that are due together.
    numbered: u64,
    trace: Trace,
    needles: Needles,
    /// Needles that were seen: who sent it, and when.
    seen: Vec<Seen>,
}

/// A needle in a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it was sent.
    pub(crate) at_us: u64,
    /// The number of the node that sent it.
    pub(crate) from: usize,
    /// What was seen.
    pub(crate) needle: Vec<u8>,
}

/// One node's end.
struct Port {
    timeline: Timeline,
    /// Which socket is bound: a crashed node's old one neither sends nor receives any more.
    bound: Option<u64>,
    binds: u64,
    arriving: BinaryHeap<Reverse<Datagram>>,
    waker: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    /// [`HELD`] while it waits for its link's release.
    due_us: u64,
    number: u64,
    from: usize,
    ecn: u8,
    bytes: Vec<u8>,
}

/// The address of the node with that number.
pub(crate) fn address(node: usize) -> SocketAddr {
    let [.., high, low] = (node as u32).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), PORT)
}

fn number(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    match ip.octets() {
        [10, 0, high, low] if address.port() == PORT => {
            Some(usize::from(high) << 8 | usize::from(low))
        }
        _ => None,
    }
}

impl Fabric {
    /// A network of as many nodes as `timelines`, `delay_us` apart each way.
    pub(crate) fn new(
        timelines: &[Timeline],
        delay_us: impl Fn(usize, usize) -> u64,
        entropy: &Entropy,
        trace: Trace,
    ) -> Self {
        let count = timelines.len();
        let port = |timeline: &Timeline| Port {
            timeline: timeline.clone(),
            bound: None,
            binds: 0,
            arriving: BinaryHeap::new(),
            waker: None,
        };
        // A stream of its own for each, so that what happens on one does not change another.
        let rng = |from, to| entropy.stream(&format!("link {from} {to}"));
        let link = |from, to| Link::new(delay_us(from, to), rng(from, to));
        let links = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        Self(Arc::new(Mutex::new(State {
            ports: timelines.iter().map(port).collect(),
            links: links.map(|(from, to)| link(from, to)).collect(),
            window_end_us: 0,
            numbered: 0,
            trace,
            needles: Needles::default(),
            seen: Vec::new(),
        })))
    }

    /// A socket for `node`, in place of the one it had.
    pub(crate) fn bind(&self, node: usize) -> Arc<dyn AsyncUdpSocket> {
        let mut state = self.state();
        let port = &mut state.ports[node];
        port.binds += 1;
        port.bound = Some(port.binds);
        port.waker = None;
        Arc::new(FabricSocket::new(self.clone(), node, port.binds))
    }

    /// Nobody has `node`'s address any more. What is on its way finds nobody, or the next one there.
    pub(crate) fn unbind(&self, node: usize) {
        let mut state = self.state();
        state.ports[node].bound = None;
        state.ports[node].waker = None;
    }

    /// The window from `now_us` to `end_us` begins: wakes whoever gets something in it.
    pub(crate) fn open_window(&self, now_us: u64, end_us: u64) {
        let mut woken = Vec::new();
        {
            let mut state = self.state();
            state.window_end_us = end_us;
            for node in 0..state.ports.len() {
                if state.ports[node].bound.is_none() {
                    while state.take(node, now_us).is_some() {}
                }
                let port = &mut state.ports[node];
                if port.arriving.peek().is_some_and(|Reverse(first)| first.due_us < end_us) {
                    woken.extend(port.waker.take());
                }
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Cuts the link; as often as this is called it has to be mended.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.state().link(from, to).cuts += 1;
    }

    /// Takes back one cut.
    pub(crate) fn mend(&self, from: usize, to: usize) {
        let mut state = self.state();
        let link = state.link(from, to);
        link.cuts = link.cuts.saturating_sub(1);
    }

    /// Whether datagrams pass.
    #[cfg(test)]
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.state().link(from, to).cuts > 0
    }

    /// How the link is from now on; the default is as the topology says.
    pub(crate) fn set_quality(&self, from: usize, to: usize, quality: LinkQuality) {
        self.state().link(from, to).quality = quality;
    }

    /// From now on datagrams wait; as often as this is called it has to be released.
    pub(crate) fn hold(&self, from: usize, to: usize) {
        self.state().link(from, to).holds += 1;
    }

    /// Takes back one hold; with the last one, everything that waits leaves at once.
    pub(crate) fn release(&self, from: usize, to: usize, now_us: u64) {
        let mut state = self.state();
        let link = state.link(from, to);
        link.holds = link.holds.saturating_sub(1);
        if link.holds > 0 {
            return;
        }
        let due_us = now_us + link.travel_us();
        let arriving = std::mem::take(&mut state.ports[to].arriving);
        let released = arriving.into_iter().map(|Reverse(datagram)| {
            let is_held = datagram.from == from && datagram.due_us == HELD;
            Reverse(if is_held { Datagram { due_us, ..datagram } } else { datagram })
        });
        state.ports[to].arriving = released.collect();
    }

    /// What passed on the link since the start.
    pub(crate) fn counts(&self, from: usize, to: usize) -> LinkCounts {
        self.state().link(from, to).counts
    }

    /// Bytes on their way, held ones among them.
    #[cfg(test)]
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.state().links.iter().map(|link| link.in_flight_bytes).sum()
    }

    /// From now on, datagrams are looked through for this.
    pub(crate) fn look_for(&self, needle: &[u8]) -> bool {
        self.state().needles.add(needle)
    }

    /// The needles that were seen since the last call.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Due times of datagrams that wait for a release.
const HELD: u64 = u64::MAX;
/// Most needles that are kept until somebody asks.
const SEEN_MAX: usize = 1_000;

impl State {
    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        let count = self.ports.len();
        &mut self.links[from * count + to]
    }

    /// Sends a datagram; the waker of whoever gets it within this window.
    fn send(
        &mut self,
        now_us: u64,
        from: usize,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        bytes: &[u8],
    ) -> Option<Waker> {
        let to = number(to).filter(|to| *to < self.ports.len());
        let fate = match to {
            Some(to) => self.link(from, to).send(now_us, bytes.len()),
            None => Fate::Lost(Cause::Nobody),
        };
        let (verdict, due_us, again_us) = match fate {
            Fate::Arrives { due_us, again_us } => (0, due_us, again_us),
            Fate::Held => (1, HELD, None),
            Fate::Lost(cause) => (2 + cause as u64, 0, None),
        };
        let to_number = to.map_or(u64::MAX, |to| to as u64);
        let numbers =
            [now_us, from as u64, to_number, verdict, due_us, again_us.unwrap_or_default()];
        self.trace.add(Subject::Datagram, &numbers, bytes);
        if let Some(needle) = self.needles.find(bytes)
            && self.seen.len() < SEEN_MAX
        {
            self.seen.push(Seen { at_us: now_us, from, needle: needle.to_vec() });
        }
        let to = to.filter(|_| verdict < 2)?;
        let ecn = ecn.map_or(0, |ecn| ecn as u8);
        for due_us in [Some(due_us), again_us].into_iter().flatten() {
            self.numbered += 1;
            let number = self.numbered;
            let datagram = Datagram { due_us, number, from, ecn, bytes: bytes.to_vec() };
            self.ports[to].arriving.push(Reverse(datagram));
        }
        let is_soon = due_us.min(again_us.unwrap_or(HELD)) < self.window_end_us;
        if is_soon { self.ports[to].waker.take() } else { None }
    }

    /// The next datagram that is due. One that comes out of a link that is cut by now is lost.
    fn take(&mut self, node: usize, now_us: u64) -> Option<Datagram> {
        loop {
            let port = &mut self.ports[node];
            if port.arriving.peek().is_none_or(|Reverse(first)| first.due_us > now_us) {
                return None;
            }
            let Reverse(datagram) = port.arriving.pop()?;
            let is_bound = port.bound.is_some();
            let link = self.link(datagram.from, node);
            link.in_flight_bytes = link.in_flight_bytes.saturating_sub(datagram.bytes.len());
            if link.cuts == 0 && is_bound {
                return Some(datagram);
            }
            link.counts.lost += 1;
        }
    }

    /// When the next datagram is due, if that is in this window.
    fn next_due_us(&self, node: usize) -> Option<u64> {
        let Reverse(first) = self.ports[node].arriving.peek()?;
        (first.due_us < self.window_end_us).then_some(first.due_us)
    }
}

#[cfg(test)]
mod tests;
