//! One peer: where it is, what waits for it, and the connections there are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::Notify;

use super::outbox::Outbox;
use crate::model::{NodeName, RegionName};
use crate::topology::{Address, Node};

/// Connections that one peer may have dialed to this node: one, one that replaces it, and what
/// was not noticed to be gone.
const INCOMING_MAX: usize = 4;

/// A node of the topology that is not this one.
pub(super) struct Peer {
    pub(super) node: NodeName,
    pub(super) region: RegionName,
    pub(super) address: Address,
    /// The round trip that the topology expects.
    pub(super) rtt_expected: Duration,
    pub(super) outbox: Outbox,
    /// The peer was started again: the connection to it is of no use any more.
    pub(super) restarted: Notify,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    /// The one that this node dialed, and which start of the peer it leads to.
    outgoing: Option<(Connection, u64)>,
    /// Those that the peer dialed, oldest first.
    incoming: Vec<Connection>,
}

impl Peer {
    pub(super) fn new(node: &Node, rtt_expected: Duration) -> Self {
        Self {
            node: node.name.clone(),
            region: node.region.clone(),
            address: node.peer.clone(),
            rtt_expected,
            outbox: Outbox::default(),
            restarted: Notify::new(),
            connections: Mutex::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's own connection is `connection` from now on, or none.
    pub(super) fn set_outgoing(&self, connection: Option<(Connection, u64)>) {
        self.connections().outgoing = connection;
    }

    /// The peer dialed. Where it did so too often, the oldest connection goes. A start of the peer
    /// that this node's own connection doesn't know of makes it dial again.
    pub(super) fn add_incoming(&self, connection: Connection, instance: u64) {
        let mut connections = self.connections();
        if connections.incoming.len() == INCOMING_MAX {
            connections.incoming.remove(0).close(VarInt::from_u32(0), b"replaced");
        }
        connections.incoming.push(connection);
        if connections.outgoing.as_ref().is_some_and(|(_, known)| *known != instance) {
            self.restarted.notify_one();
        }
    }

    /// The connection is gone.
    pub(super) fn remove_incoming(&self, connection: &Connection) {
        let id = connection.stable_id();
        self.connections().incoming.retain(|known| known.stable_id() != id);
    }

    /// A connection to ask something on.
    pub(super) fn connection(&self) -> Option<Connection> {
        let connections = self.connections();
        let outgoing = connections.outgoing.as_ref().map(|(connection, _)| connection);
        outgoing.or(connections.incoming.last()).cloned()
    }

    /// Whether this node's own connection is up, and how many the peer has.
    pub(super) fn connected(&self) -> (bool, usize) {
        let connections = self.connections();
        (connections.outgoing.is_some(), connections.incoming.len())
    }
}
