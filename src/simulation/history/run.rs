//! What is run, its faults, and what has to have happened in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::AtUs;

/// What is run, and how to run it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// The scenario's name, for people.
    pub scenario: String,
    /// What it claims, in one sentence.
    pub claim: String,
    /// SHA-256 of the scenario file and the topology it names, in hex.
    pub scenario_hash: String,
    /// The seed.
    pub seed: u64,
    /// The options that make the run another one than without them, as on the command line.
    pub options: Vec<String>,
    /// The command line that runs it again.
    pub again: String,
    /// The nodes.
    pub nodes: Vec<RunNode>,
    /// One-way delays between regions in microseconds, each pair once.
    pub delays: Vec<RunDelay>,
    /// When workload and faults end and everything is healed, and settling begins.
    pub faults_end_us: AtUs,
    /// When the run ends.
    pub end_us: AtUs,
    /// How long after the faults' end all regions may take to agree.
    pub converge_within_us: u64,
    /// Regions that are broken for good: what they do not reach does not count as progress lost.
    pub lost_regions: BTreeSet<String>,
    /// How long after a revocation's answer, at most, a token of it may still be taken where the
    /// cluster is connected; and on an island.
    pub revocation_within_us: u64,
    /// See `revocation_within_us`.
    pub revocation_within_on_island_us: u64,
    /// Nodes whose promises are void, because their disk lied (an fsync that was none): what they
    /// acknowledged may be lost; it has to be detected instead.
    pub void_nodes: BTreeSet<String>,
    /// What has to have happened at least once, or the run shows nothing.
    pub coverage: BTreeSet<Coverage>,
    /// Which checks are made.
    pub checks: BTreeSet<String>,
    /// How much of histories nodes keep, where they were told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Kept>,
    /// What nodes may hold on to at most, by what it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bounds: BTreeMap<String, u64>,
    /// From when on those bounds hold.
    pub bounds_from_us: AtUs,
}

/// How much of a key's history is kept: what is beyond both may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// So many of the newest version numbers.
    pub versions: u64,
    /// What is younger.
    pub age_us: u64,
}

/// One node of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunNode {
    /// Its name.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Whether it votes at the start.
    pub voter: bool,
    /// Whether it joins: the topology's file does not name it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
}

/// How far apart two regions are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunDelay {
    /// One region.
    pub a: String,
    /// The other one.
    pub b: String,
    /// One way.
    pub one_way_us: u64,
}

/// What a scenario can demand to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// A key showed a conflict.
    Conflict,
    /// Two nodes had different vectors for at least a second.
    Divergence,
    /// A config write was acknowledged by a region that was cut off from all others.
    IslandWrite,
    /// A secret's write or read was refused for want of a quorum.
    QuorumRefused,
    /// The leader changed after the first one.
    LeaderChange,
    /// A client read in another region than it had written in, with its session.
    SessionMoved,
    /// A request waited for its session and was refused (412).
    SessionRefused,
    /// A watch was resumed with a session.
    WatchResumed,
    /// A node that stopped in order sent a watch elsewhere, and it was resumed there at once.
    WatchSent,
    /// A node joined that the topology's file does not name, and another one knew it.
    Joined,
    /// A node that had joined and was down was taken out by another one.
    Evicted,
    /// A node crashed and came back.
    Restart,
    /// A write was refused because a disk was full (507).
    DiskFull,
    /// An origin was given up for a new one after a restart.
    NewOrigin,
    /// A token was refused after its account was revoked.
    RevocationSeen,
    /// The same while regions were cut off from each other.
    RevocationDuringCut,
    /// A compare-and-set was refused.
    CasRefused,
    /// A write's outcome was unknown to its client.
    OutcomeUnknown,
    /// An unknown outcome was settled by a retry with the same Idempotency-Key.
    RetrySettled,
    /// A stored damage was detected.
    DamageDetected,
    /// The voters changed.
    VotersChanged,
    /// All keys were wrapped by a new generation of the master key.
    KeysRotated,
    /// A connection was refused for its certificate.
    CertificateRefused,
    /// A stamp was taken from the peers' time because the own clock was off.
    ClockOverruled,
    /// A database file was rebuilt while it was in use.
    FileRebuilt,
    /// A document went on in a next epoch.
    EpochRolled,
    /// The same while regions were cut off from each other.
    RollDuringCut,
    /// A change was written in an epoch whose end did not wait for it.
    LateChange,
    /// An epoch was decided by a leader that was lost before it began, and another one began it.
    RollFinished,
    /// Records that every member had went from a log.
    LogTrimmed,
    /// Versions went from a key's history.
    HistoryPruned,
    /// A node caught up by whole documents.
    DocumentsTaken,
}

/// A fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Names begin and end of the same fault.
    pub id: u32,
    /// The kind, as in the scenario file: `partition`, `crash`, ….
    pub kind: String,
    /// In words, for people: `eu-west is cut off from us-east`.
    pub what: String,
    /// Whether it begins (else it is over).
    pub begins: bool,
    /// The regions that feel it. A cut between two regions names both.
    pub regions: BTreeSet<String>,
    /// The nodes that are down because of it.
    pub nodes_down: BTreeSet<String>,
    /// Directed pairs of regions between which nothing passes while it lasts.
    pub links_cut: BTreeSet<(String, String)>,
}
