//! One peer: where it is, what waits for it, and the connections there are.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::streams::Places;
use crate::model::{NodeName, RegionName};
use crate::topology::{Address, Node};
use crate::transport::hello::CLOSE_DONE;

/// Connections that one peer may have dialed to this node: one, one that replaces it, and what
/// was not noticed to be gone.
const INCOMING_MAX: usize = 4;

/// A member that is not this node.
pub(super) struct Peer {
    pub(super) node: NodeName,
    pub(super) region: RegionName,
    pub(super) address: Address,
    /// The round trip that the topology expects.
    pub(super) rtt_expected: Duration,
    pub(super) outbox: Outbox,
    /// Room for streams of other rooms.
    pub(super) places: Places,
    /// The peer dialed: it may have been started again, and the connection to it be of no use.
    pub(super) dialed: Notify,
    connections: Mutex<Connections>,
    /// It is no member any more, or is one elsewhere.
    pub(super) gone: CancellationToken,
    /// Which state of who joined and left it knows, and which it was told last.
    members_known: AtomicU64,
    members_told: AtomicU64,
}

#[derive(Default)]
struct Connections {
    /// The one that this node dialed.
    outgoing: Option<Outgoing>,
    /// Those that the peer dialed, oldest first.
    incoming: Vec<(Connection, Instant, u64)>,
    /// The start of the peer that was met last.
    instance: Option<u64>,
}

struct Outgoing {
    connection: Connection,
    /// Which start of the peer it leads to.
    instance: u64,
    since: Instant,
    /// It leaves something unanswered.
    is_suspect: bool,
}

impl Peer {
    pub(super) fn new(node: &Node, rtt_expected: Duration) -> Self {
        Self {
            node: node.name.clone(),
            region: node.region.clone(),
            address: node.peer.clone(),
            rtt_expected,
            outbox: Outbox::default(),
            places: Places::default(),
            dialed: Notify::new(),
            connections: Mutex::default(),
            gone: CancellationToken::new(),
            members_known: AtomicU64::new(0),
            members_told: AtomicU64::new(0),
        }
    }

    /// Whether this is what the topology says of it.
    pub(super) fn is_at(&self, node: &Node) -> bool {
        self.region == node.region && self.address == node.peer
    }

    /// It said which state of who joined and left it knows.
    pub(super) fn knows_members(&self, hash: u64) {
        self.members_known.store(hash, Ordering::Relaxed);
    }

    /// It may know nothing of who joined and left.
    pub(super) fn forget_members(&self) {
        self.members_known.store(0, Ordering::Relaxed);
        self.members_told.store(0, Ordering::Relaxed);
    }

    /// Whether it is to be told that state now: where it does not know it, once, and `again` where
    /// it still has not said so.
    pub(super) fn is_to_be_told(&self, hash: u64, again: bool) -> bool {
        let is_known = self.members_known.load(Ordering::Relaxed) == hash;
        if hash == 0 || is_known {
            return false;
        }
        self.members_told.swap(hash, Ordering::Relaxed) != hash || again
    }

    /// It is no peer any more: its link ends, and all connections with it.
    pub(super) fn end(&self) {
        self.gone.cancel();
        self.outbox.close();
        let mut connections = self.connections();
        let outgoing = connections.outgoing.take().map(|outgoing| outgoing.connection);
        for connection in
            outgoing.into_iter().chain(connections.incoming.drain(..).map(|(c, ..)| c))
        {
            connection.close(CLOSE_DONE, b"no member");
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's own connection is `connection` from now on.
    pub(super) fn set_outgoing(&self, connection: &Connection, instance: u64) {
        let connection = connection.clone();
        let mut connections = self.connections();
        connections.instance = Some(instance);
        connections.outgoing =
            Some(Outgoing { connection, instance, since: Instant::now(), is_suspect: false });
    }

    /// Whether this node's own connection should not be asked anything, unless there is no other;
    /// says whether that changed.
    pub(super) fn suspect_outgoing(&self, is_suspect: bool) -> bool {
        let mut connections = self.connections();
        let Some(outgoing) = &mut connections.outgoing else { return false };
        std::mem::replace(&mut outgoing.is_suspect, is_suspect) != is_suspect
    }

    /// This node's own connection is gone.
    pub(super) fn remove_outgoing(&self) {
        self.connections().outgoing = None;
    }

    /// The peer dialed. Where it did so too often, the oldest connection goes.
    pub(super) fn add_incoming(&self, connection: Connection, instance: u64) {
        let mut connections = self.connections();
        if connections.incoming.len() == INCOMING_MAX {
            connections.incoming.remove(0).0.close(CLOSE_DONE, b"replaced");
        }
        connections.incoming.push((connection, Instant::now(), instance));
        connections.instance = Some(instance);
        self.dialed.notify_one();
    }

    /// Whether this node's own connection leads to an earlier start of the peer.
    pub(super) fn is_outgoing_stale(&self) -> bool {
        let connections = self.connections();
        let known = connections.outgoing.as_ref().map(|outgoing| outgoing.instance);
        known.zip(connections.instance).is_some_and(|(known, latest)| known != latest)
    }

    /// Where another start of it than `instance` is, to which a connection is open, unless that is
    /// `at` itself.
    pub(super) fn other_start(&self, instance: u64, at: SocketAddr) -> Option<SocketAddr> {
        let connections = self.connections();
        let outgoing = connections.outgoing.iter().map(|it| (&it.connection, it.instance));
        let incoming = connections.incoming.iter().map(|(it, _, instance)| (it, *instance));
        let mut others = outgoing.chain(incoming).filter(|(it, known)| {
            *known != instance && it.close_reason().is_none() && it.remote_address() != at
        });
        others.next().map(|(it, _)| it.remote_address())
    }

    /// The connection is gone.
    pub(super) fn remove_incoming(&self, connection: &Connection) {
        let id = connection.stable_id();
        self.connections().incoming.retain(|(known, ..)| known.stable_id() != id);
    }

    /// A connection to ask something on: the newest, because after a cut that is the one that works.
    pub(super) fn connection(&self) -> Option<Connection> {
        let connections = self.connections();
        let incoming = connections.incoming.last();
        match (&connections.outgoing, incoming) {
            (Some(outgoing), Some((incoming, since, _)))
                if outgoing.is_suspect || outgoing.since < *since =>
            {
                Some(incoming.clone())
            }
            (Some(outgoing), _) => Some(outgoing.connection.clone()),
            (None, incoming) => incoming.map(|(connection, ..)| connection.clone()),
        }
    }

    /// All connections there are.
    pub(super) fn connections_all(&self) -> Vec<Connection> {
        let connections = self.connections();
        let outgoing = connections.outgoing.iter().map(|outgoing| outgoing.connection.clone());
        let incoming = connections.incoming.iter().map(|(connection, ..)| connection.clone());
        outgoing.chain(incoming).collect()
    }

    /// Whether this node's own connection is up, and how many the peer has.
    pub(super) fn connected(&self) -> (bool, usize) {
        let connections = self.connections();
        let is_up = connections.outgoing.as_ref().is_some_and(|outgoing| !outgoing.is_suspect);
        (is_up, connections.incoming.len())
    }
}
