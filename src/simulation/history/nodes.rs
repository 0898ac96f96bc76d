//! What nodes say of themselves, from time to time and at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::clients::Sibling;

/// How a node stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// The node.
    pub node: String,
    /// Whether it runs. Where not, the rest is empty.
    pub up: bool,
    /// Whether it would be sent requests by a balancer.
    pub ready: bool,
    /// The changes it includes: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// The origin that it writes under.
    pub origin: String,
    /// A hash of all rows it shows, in hex; empty where it was not computed.
    pub view_hash: String,
    /// Keys that show conflicts.
    pub conflicts: u64,
    /// `leader`, `follower`, `candidate`, `learner`, or why it takes no part.
    pub role: String,
    /// The term.
    pub term: u64,
    /// Who it thinks leads.
    pub leader: Option<String>,
    /// Its applied index of the quorum path.
    pub applied: u64,
    /// How long ago it heard of the leader, in milliseconds.
    pub contact_age_ms: u64,
    /// Bytes that wait to be pushed to peers, in all.
    pub queue_bytes: u64,
    /// Records that wait for others they build on.
    pub waiting: u64,
    /// Peers' records refused since its start.
    pub quarantined: u64,
    /// Those of them because an origin has two changes under one number.
    pub forks: u64,
    /// How far its clock is off its peers', in microseconds; positive: behind.
    pub clock_offset_us: Option<i64>,
    /// Bytes that it has sent to other regions since its start.
    pub sent_bytes: u64,
    /// The same by region, with what did not arrive; empty where it was not counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sent_to: BTreeMap<String, Sent>,
    /// Its databases' size in bytes.
    pub disk_bytes: u64,
    /// The members of the cluster as it knows them; empty where it was not asked.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub members: BTreeSet<String>,
    /// Documents that are past their first epoch, and which they are in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, u32>,
    /// Most changes that a document's epoch has.
    pub epoch_changes_max: u64,
    /// Epochs that did not begin here with what was agreed, since its start.
    pub epoch_mismatches: u64,
    /// Records that went from its log, since its start.
    pub log_trimmed: u64,
    /// Versions that went from its histories, since its start.
    pub history_pruned: u64,
}

/// What a node has sent to a region since the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// Bytes, those that were lost among them.
    pub bytes: u64,
    /// Datagrams, those that were lost among them.
    pub datagrams: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
}

/// What a node holds on to, counted by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// The node.
    pub node: String,
    /// How much there is of what.
    pub counts: BTreeMap<String, u64>,
}

/// Everything a node shows at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Final {
    /// The node.
    pub node: String,
    /// `document/key` → what it has, the winner first, removals among it.
    pub rows: BTreeMap<String, Vec<Sibling>>,
    /// `document/key` → every write of it that the node knows of.
    pub history: BTreeMap<String, Vec<Sibling>>,
    /// The changes it includes: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// A hash of all documents' heads, in hex.
    pub heads_hash: String,
    /// A hash of all rows.
    pub view_hash: String,
    /// A hash of the quorum path's state, and its index.
    pub quorum_hash: String,
    /// See `quorum_hash`.
    pub quorum_applied: u64,
    /// What `audit verify` says of each of its chains: its name, and what is wrong with it.
    pub audit: BTreeMap<String, Option<String>>,
}

/// What all nodes' changes come to, by a model that knows no epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Twin {
    /// `document/key` → what it has, the winner first, removals among it.
    pub rows: BTreeMap<String, Vec<Sibling>>,
    /// The changes that were found: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// A hash of all rows, as in [`Probe`]; empty where not all are known.
    pub view_hash: String,
    /// Documents that are past their first epoch, and the newest of them.
    pub epochs: BTreeMap<String, u32>,
    /// Changes that were written in an epoch whose end did not wait for them.
    pub late: u64,
    /// Epochs that were told more than once, each time counted.
    pub repeated: u64,
    /// `document/key` of which not all is known: a change does not say what it replaced.
    pub unknown: BTreeSet<String>,
    /// Changes that no log has.
    pub missing: u64,
    /// Changes under the number of another one.
    pub forks: u64,
    /// Changes that cannot be read.
    pub unreadable: u64,
}
