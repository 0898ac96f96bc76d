//! What gossip shows of itself: peers, members, receipts, and plain counts that telemetry reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::model::{Feature, Features, NodeName, Origin, RegionName, Vector};

/// One peer, as this node sees it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub node: NodeName,
    /// Where it stands.
    pub region: RegionName,
    /// Whether this node's connection to it is up.
    pub connected_out: bool,
    /// How many connections it has to this node: 1 where all is well.
    pub connected_in: usize,
    /// How long ago it was heard.
    pub heard_ago: Option<Duration>,
    /// The round trip as measured, or as the topology expects it.
    pub rtt: Duration,
    /// Whether it is measured.
    pub rtt_measured: bool,
    /// The origin of its changes, once it said hello.
    pub origin: Option<Origin>,
    /// What it is known to have, on its own word or on that of a peer that hears it.
    pub vector: Arc<Vector>,
    /// Whom it hears.
    pub hears: BTreeSet<NodeName>,
    /// What its program can do, once it said hello.
    pub features: Features,
    /// Whether a balancer may send requests to it, as it says itself; where its program does not
    /// say such things, whether it is heard.
    pub is_ready: bool,
    /// How many changes of this node's it lacks, as far as is known.
    pub lag_changes: u64,
    /// How long it has lacked any.
    pub lag: Duration,
    /// Bytes that wait for it.
    pub queue_bytes: usize,
    /// Its clock less this node's, in microseconds.
    pub clock_offset: Option<i64>,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GossipStats {
    /// Changes that were pushed to a peer.
    pub records_pushed: u64,
    /// Changes that came in, pushed or pulled.
    pub records_received: u64,
    /// Changes that were new.
    pub records_new: u64,
    /// Changes that were known already.
    pub records_duplicate: u64,
    /// Changes that had to wait for others.
    pub records_waiting: u64,
    /// Changes that were not believed.
    pub records_quarantined: u64,
    /// Batches that the store did not take.
    pub applies_failed: u64,
    /// Changes that were dropped from queues to slow peers.
    pub queue_drops: u64,
    /// Pulls that were asked.
    pub pulls: u64,
    /// Pulls that failed or brought nothing.
    pub pulls_fruitless: u64,
    /// Pulls that were answered.
    pub pulls_answered: u64,
    /// Connections that were dialed and welcomed.
    pub connections_out: u64,
    /// Connections that were accepted and welcomed.
    pub connections_in: u64,
    /// Peers whose hello was refused, by either side.
    pub hellos_refused: u64,
    /// Handshakes that failed before a hello: another authority's certificate, for example.
    pub handshakes_failed: u64,
    /// Connections that were closed because the peer broke the protocol.
    pub misbehaved: u64,
    /// Streams that were not taken: of a kind that nobody serves, or too many.
    pub streams_refused: u64,
}

impl GossipStats {
    /// Every count with its name.
    pub fn by_name(&self) -> [(&'static str, u64); 17] {
        [
            ("records_pushed", self.records_pushed),
            ("records_received", self.records_received),
            ("records_new", self.records_new),
            ("records_duplicate", self.records_duplicate),
            ("records_waiting", self.records_waiting),
            ("records_quarantined", self.records_quarantined),
            ("applies_failed", self.applies_failed),
            ("queue_drops", self.queue_drops),
            ("pulls", self.pulls),
            ("pulls_fruitless", self.pulls_fruitless),
            ("pulls_answered", self.pulls_answered),
            ("connections_out", self.connections_out),
            ("connections_in", self.connections_in),
            ("hellos_refused", self.hellos_refused),
            ("handshakes_failed", self.handshakes_failed),
            ("misbehaved", self.misbehaved),
            ("streams_refused", self.streams_refused),
        ]
    }
}

pub(super) fn peers(shared: &Shared) -> Vec<PeerStatus> {
    let now = Instant::now();
    let mine = shared.replica.vector();
    let state = shared.state();
    let mesh = shared.mesh();
    let status = mesh.peers.values().filter_map(|peer| {
        let seen = state.seen(&peer.node)?;
        let (connected_out, connected_in) = peer.connected();
        let features = shared.members.features_of(&peer.node).unwrap_or_default();
        let says_so = features.has(Feature::Readiness);
        let is_ready = state.is_ready(&peer.node, says_so, now);
        Some(PeerStatus {
            node: peer.node.clone(),
            region: peer.region.clone(),
            connected_out,
            connected_in,
            heard_ago: seen.heard_at.map(|at| now - at),
            rtt: seen.rtt,
            rtt_measured: seen.rtt_measured,
            origin: seen.origin,
            lag_changes: mine.ahead_of(&seen.vector),
            lag: seen.lag_since.map_or(Duration::ZERO, |since| now - since),
            vector: seen.vector,
            hears: seen.hears,
            features,
            is_ready,
            queue_bytes: peer.outbox.bytes(),
            clock_offset: seen.offset,
        })
    });
    status.collect()
}

pub(super) fn members(shared: &Shared) -> BTreeMap<NodeName, BTreeSet<NodeName>> {
    let now = Instant::now();
    let state = shared.state();
    let own = state.heard_nodes(now);
    let topology = shared.members.topology();
    let names = topology.nodes().iter().map(|node| &node.name);
    let heard_by = |name: &NodeName| {
        let mut by = BTreeSet::new();
        if own.contains(name) {
            by.insert(shared.node.clone());
        }
        // What an unheard peer said of its ears is old.
        for peer in &own {
            if state.seen(peer).is_some_and(|seen| seen.hears.contains(name)) {
                by.insert(peer.clone());
            }
        }
        by
    };
    names.map(|name| (name.clone(), heard_by(name))).collect()
}

pub(super) fn regions_covering(shared: &Shared, vector: &Vector) -> BTreeSet<RegionName> {
    let mut regions = BTreeSet::new();
    if shared.replica.vector().covers(vector) {
        regions.extend(shared.region.clone());
    }
    let state = shared.state();
    for peer in shared.mesh().peers.values() {
        if state.seen(&peer.node).is_some_and(|seen| seen.vector.covers(vector)) {
            regions.insert(peer.region.clone());
        }
    }
    regions
}
