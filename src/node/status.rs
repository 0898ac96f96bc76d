//! What `GET /cluster` shows: regions, nodes, vectors, lag. As this node sees it, and no more.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::EpochStatus;
use crate::gossip::{Gossip, PeerStatus};
use crate::model::{Feature, Features, NodeName, Origin, RegionName, Vector};
use crate::quorum::QuorumStatus;
use crate::storage::writer::Counts;
use crate::topology::{Node, Topology};

/// The cluster, as one node sees it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The node that answers.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Whose changes it makes.
    pub origin: Origin,
    /// Whether a balancer may send requests to it; else, what it waits for.
    pub ready: bool,
    /// See `ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The changes it includes: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// How many origins it does not name there, because nobody writes as them any more: all changes of
    /// theirs that anybody has are included.
    #[serde(skip_serializing_if = "is_zero")]
    pub folded_origins: usize,
    /// How its store stands.
    pub store: StoreStatus,
    /// How far its clock is behind (positive) or ahead of its peers' median, in microseconds.
    pub clock_offset_us: Option<i64>,
    /// Nodes that the topology's file names and that nobody has heard for `gossip.evict_named_after`:
    /// no members, until they are back.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub evicted: BTreeSet<NodeName>,
    /// All regions of the topology.
    pub regions: Vec<RegionStatus>,
    /// The quorum path.
    pub quorum: QuorumStatus,
    /// How documents stand with their epochs.
    pub epochs: EpochStatus,
}

/// How a node's store stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StoreStatus {
    /// Documents: a service in an environment each.
    pub documents: usize,
    /// Keys that have a row, removed ones among them.
    pub rows: usize,
    /// Keys that show conflicts.
    pub conflicts: usize,
    /// Changes that wait for others they build on.
    pub waiting: usize,
    /// Peers' records refused since the start.
    pub quarantined: u64,
    /// Those of them refused because their origin has two changes under one number.
    pub forks: u64,
    /// The database file's size, in bytes, as of the last checkpoint.
    pub database_bytes: u64,
}

/// One region.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RegionStatus {
    /// Its name.
    pub region: RegionName,
    /// Where it is, in the topology's words.
    pub place: String,
    /// Whether its nodes may vote, in the topology's words; who does is under `quorum`.
    pub voters: bool,
    /// Its nodes.
    pub nodes: Vec<MemberStatus>,
}

/// One node of the topology, or one that joined.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "NodeStatus")]
pub struct MemberStatus {
    /// Its name.
    pub node: NodeName,
    /// Where it speaks QUIC with other nodes, as the topology has it.
    pub peer: String,
    /// Where it answers HTTP, as the topology has it.
    pub http: String,
    /// Whether it joined: the topology file does not name it, and it is forgotten when it leaves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// `self`; `connected`, both ways; `one-way`; `relayed`, where others hear it; `unreachable`.
    pub state: &'static str,
    /// Which nodes hear it.
    pub heard_by: BTreeSet<NodeName>,
    /// Whose changes it makes, once it said hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// How long ago it was heard, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_ago_ms: Option<u64>,
    /// The round trip to it, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Whether that is measured; else it is the topology's.
    pub rtt_measured: bool,
    /// How many changes that are here it is not known to have.
    pub lag_changes: u64,
    /// How long it has lacked any, in milliseconds.
    pub lag_ms: u64,
    /// Bytes that wait to be pushed to it.
    pub queue_bytes: usize,
    /// Its clock less this node's, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_us: Option<i64>,
    /// What its program can do beyond its protocol, once it said hello.
    pub features: Vec<&'static str>,
    /// What it is known to include: origin → number.
    pub vector: BTreeMap<String, u64>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A vector as text.
pub(super) fn vector_status(vector: &Vector) -> BTreeMap<String, u64> {
    vector.iter().map(|dot| (dot.origin.to_string(), dot.n)).collect()
}

pub(super) fn feature_names(features: &Features) -> Vec<&'static str> {
    features.iter().map(Feature::name).collect()
}

pub(super) fn store_status(counts: Counts, documents: usize) -> StoreStatus {
    StoreStatus {
        documents,
        rows: counts.rows,
        conflicts: counts.conflicts,
        waiting: counts.waiting,
        quarantined: counts.quarantined,
        forks: counts.forks,
        database_bytes: counts.database_bytes,
    }
}

/// All regions, with what `gossip` knows of their nodes.
pub(super) fn regions(
    topology: &Topology,
    own: &MemberStatus,
    gossip: Option<&Gossip>,
) -> Vec<RegionStatus> {
    let peers = gossip.map(Gossip::peers).unwrap_or_default();
    let mut heard_by = gossip.map(Gossip::members).unwrap_or_default();
    let mut member = |node: &Node| {
        let heard_by = heard_by.remove(&node.name).unwrap_or_default();
        if node.name == own.node {
            return Some(MemberStatus { heard_by, ..own.clone() });
        }
        let peer = peers.iter().find(|peer| peer.node == node.name)?;
        Some(peer_status(node, peer, heard_by))
    };
    let region = |region: &crate::topology::Region| RegionStatus {
        region: region.name.clone(),
        place: region.place.clone(),
        voters: region.voters,
        nodes: topology
            .nodes()
            .iter()
            .filter(|node| node.region == region.name)
            .filter_map(&mut member)
            .collect(),
    };
    topology.regions().iter().map(region).collect()
}

fn peer_status(node: &Node, peer: &PeerStatus, heard_by: BTreeSet<NodeName>) -> MemberStatus {
    let state = match (peer.connected_out, peer.connected_in > 0) {
        (true, true) => "connected",
        (true, false) | (false, true) => "one-way",
        (false, false) if !heard_by.is_empty() => "relayed",
        (false, false) => "unreachable",
    };
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    MemberStatus {
        node: peer.node.clone(),
        peer: node.peer.to_string(),
        http: node.http.to_string(),
        joined: node.joined,
        state,
        heard_by,
        origin: peer.origin,
        heard_ago_ms: peer.heard_ago.map(millis),
        rtt_ms: Some((peer.rtt.as_secs_f64() * 1e4).round() / 10.0),
        rtt_measured: peer.rtt_measured,
        lag_changes: peer.lag_changes,
        lag_ms: millis(peer.lag),
        queue_bytes: peer.queue_bytes,
        clock_offset_us: peer.clock_offset,
        features: feature_names(&peer.features),
        vector: vector_status(&peer.vector),
    }
}
