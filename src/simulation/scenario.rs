//! One scenario: a claim in one sentence, a topology, what clients do, what breaks when, and what has
//! to hold. Written in `simulations/<name>.toml`, checked as a whole before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::history::Coverage;
use crate::config::HistoryPolicy;
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

mod bounds;
mod effect;
mod error;
mod expect;
mod fault;
mod file;
mod near;
mod nemesis;
mod place;
mod reader;
mod shrink;
mod timeline;
mod workload;
mod write;

pub use bounds::COUNTED;
pub use effect::{FAULT_KINDS, Lasting};
pub use error::{Flaw, Problem, ScenarioError};
pub(crate) use expect::SETTLE_MORE;
pub use shrink::{Shrunk, shrink};
pub use timeline::{Resource, TimelineFlaw, check as check_timeline};

/// Largest scenario file, in bytes.
pub const FILE_LEN_MAX: u64 = 1024 * 1024;
/// Longest run, and longest settling.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Most nodes that are simulated.
pub const NODES_MAX: usize = 64;
/// Most faults of a run.
pub const FAULTS_MAX: usize = 1_000;
/// Most requests a second of one kind.
pub const RATE_MAX: f64 = 10_000.0;

/// The checks that there are, by name: those of [`super::checks::all`].
pub const CHECKS: [&str; 23] = [
    "convergence",
    "members",
    "epochs",
    "lost_writes",
    "thin_air",
    "identity",
    "winner",
    "read_your_writes",
    "monotonic_reads",
    "monotonic_writes",
    "writes_follow_reads",
    "linearizable",
    "watch",
    "minority",
    "leadership",
    "revocation",
    "plaintext",
    "audit",
    "findings",
    "bounds",
    "quarantine",
    "liveness",
    "coverage",
];

/// A scenario, checked: every name is known, every time is within the run, no two faults contradict
/// each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What it shows, in one sentence.
    pub claim: String,
    /// Where it plays.
    pub topology: Arc<Topology>,
    /// SHA-256 of its text and of the topology's, in hex.
    pub hash: String,
    /// How long clients work and things break.
    pub duration: Duration,
    /// How long the healed cluster goes on after that.
    pub settle: Duration,
    /// What clients do.
    pub workload: Workload,
    /// What breaks, by the time it begins.
    pub faults: Vec<TimedFault>,
    /// Faults drawn from the seed, on top of those.
    pub nemesis: Option<Nemesis>,
    /// Settings that differ from the defaults, as `holm serve` would read them (TOML).
    pub settings: String,
    /// What has to hold.
    pub expect: Expectations,
}

/// What clients do. Rates are of all clients of that kind together, per second of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Documents that are written.
    pub documents: u32,
    /// Keys a document.
    pub keys: u32,
    /// How unevenly keys are chosen: 0 is evenly, 1 is Zipf's law.
    pub key_skew: f64,
    /// Bytes a value, at least.
    pub value_bytes: u32,
    /// Config writes without a session.
    pub config_writes: f64,
    /// How many keys a config write sets together.
    pub keys_per_write: u32,
    /// Config reads without a session.
    pub config_reads: f64,
    /// Removals.
    pub config_removes: f64,
    /// Compare-and-sets.
    pub cas: f64,
    /// What config writes ask for: `local`, `2`, `majority`, `all`.
    pub ack: Option<String>,
    /// Watchers in each region.
    pub watchers: u32,
    /// How often each watcher is moved to another region, where it resumes. Zero: never.
    pub watchers_move_every: Duration,
    /// Clients that carry a session and do a step (read or write) at this rate each.
    pub session_clients: u32,
    /// Steps a second of each of them.
    pub session_rate: f64,
    /// How likely such a client moves to another region before a step.
    pub session_moves: f64,
    /// Names of secrets.
    pub secrets: u32,
    /// Secret writes.
    pub secret_writes: f64,
    /// Linearizable reads of secrets.
    pub secret_reads: f64,
    /// Removals of secrets.
    pub secret_removes: f64,
    /// Reads of secrets with `consistency=local`.
    pub secret_local_reads: f64,
    /// Role writes.
    pub role_writes: f64,
    /// Role reads.
    pub role_reads: f64,
    /// Accounts that are disabled and enabled in turn, while others use their tokens.
    pub revocations: f64,
    /// Requests with the tokens of such accounts.
    pub account_requests: f64,
    /// How likely a secret's write whose outcome is unknown is tried again under the same
    /// Idempotency-Key.
    pub retries: f64,
    /// The regions whose clients do all this; all of them where there are none.
    pub regions: BTreeSet<RegionName>,
    /// The policy of histories that the cluster is given before the run; none: its own.
    pub history: Option<HistoryPolicy>,
}

/// A fault and when.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedFault {
    /// From the start of the run.
    pub at: Duration,
    /// How long. None for a moment (rotated keys; a wiped disk of a node that is back at once; a
    /// clock step that stays), and for what is never healed, settling included, because it takes a
    /// lost region. [`TimedFault::window`] tells them apart.
    pub lasts: Option<Duration>,
    /// What.
    pub fault: FaultKind,
}

/// What can break.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// Regions in different groups do not reach each other. Regions in no group are one more.
    Partition {
        /// Disjoint groups.
        groups: Vec<BTreeSet<RegionName>>,
    },
    /// Nothing reaches these regions or leaves them.
    Isolate {
        /// Each by itself.
        regions: BTreeSet<RegionName>,
    },
    /// Nothing from one region reaches the other; the way back is whole.
    OneWay {
        /// From there.
        from: RegionName,
        /// To there.
        to: RegionName,
    },
    /// Only through `via` do the others still hear of each other: every link between regions other
    /// than `via` is cut.
    Bridge {
        /// The one region that all others reach.
        via: RegionName,
    },
    /// A link goes up and down.
    Flapping {
        /// One end.
        a: RegionName,
        /// The other end.
        b: RegionName,
        /// How long it is down, and then up, each time.
        every: Duration,
    },
    /// A link (or all links) as a bad one: what is none stays as it is.
    Link {
        /// One end; all links where there is none.
        a: Option<RegionName>,
        /// The other end; all links of `a` where there is none.
        b: Option<RegionName>,
        /// How it is.
        quality: LinkQuality,
    },
    /// Datagrams are held back, and released all at once at the end.
    Hold {
        /// From there.
        from: RegionName,
        /// To there.
        to: RegionName,
    },
    /// The node ends without a word, and starts again after `lasts` (or never).
    Crash {
        /// Which.
        node: NodeName,
        /// What becomes of writes that were not synced.
        unsynced: Unsynced,
    },
    /// The node stops in order, and starts again after `lasts` (or never).
    Stop {
        /// Which.
        node: NodeName,
    },
    /// The node does nothing, as a stopped process or a long pause of its machine.
    Pause {
        /// Which.
        node: NodeName,
    },
    /// The node gets a part of its processor time: each millisecond of work takes this many.
    Slow {
        /// Which.
        node: NodeName,
        /// How many times slower.
        factor: u32,
    },
    /// The disk has no room.
    DiskFull {
        /// Whose.
        node: NodeName,
    },
    /// Every write and fsync of the disk fails.
    DiskError {
        /// Whose.
        node: NodeName,
    },
    /// fsync does nothing. Promises of this node are void if it crashes; it has to be detected.
    LyingFsync {
        /// Whose.
        node: NodeName,
    },
    /// The node crashes and comes back with its disk as it was `age` before.
    OldCopy {
        /// Which.
        node: NodeName,
        /// How old.
        age: Duration,
    },
    /// The node crashes and comes back with an empty disk.
    Wipe {
        /// Which.
        node: NodeName,
    },
    /// The node's wall clock jumps, for as long as the fault lasts (or for good).
    ClockStep {
        /// Whose.
        node: NodeName,
        /// By so many milliseconds; negative: back.
        by_ms: i64,
    },
    /// The node's wall clock runs fast or slow.
    ClockDrift {
        /// Whose.
        node: NodeName,
        /// By so many millionths; negative: slow.
        ppm: i32,
    },
    /// The node's certificate has expired: it restarts with one that is no longer valid.
    CertificateExpiry {
        /// Whose.
        nodes: BTreeSet<NodeName>,
    },
    /// Another certificate authority, while the nodes run: at first they believe the new one, too;
    /// half-way they get its certificates; at the end they believe it alone.
    RotateCa,
    /// All keys are wrapped by the next generation of the master key (all nodes have it).
    RotateMasterKey,
    /// An account is disabled.
    Revoke,
    /// The quorum's voters are changed: one more, one less, or another leader.
    Voters {
        /// The learner that is to vote.
        add: Option<NodeName>,
        /// The voter that is not to vote any more.
        remove: Option<NodeName>,
        /// The voter that is to lead.
        transfer: Option<NodeName>,
    },
    /// The node is no member. At the beginning it leaves, where it was one; at the end it joins. The
    /// topology's file does not name it.
    Absent {
        /// Which.
        node: NodeName,
        /// Where it stands when it is there.
        region: RegionName,
    },
    /// The nodes run the release before ([`crate::env::Release`]). Where it begins and ends within
    /// the run, they are stopped in order and started again.
    Previous {
        /// Which.
        nodes: BTreeSet<NodeName>,
    },
}

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsynced {
    /// They are there: the process was killed.
    Keep,
    /// They are gone: power was lost.
    #[default]
    Lose,
    /// Some of their sectors are there.
    Tear,
}

/// How a link is. None: as the topology says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkQuality {
    /// On top of the distance, each way.
    pub extra: Option<Duration>,
    /// At most so much more or less, drawn for each datagram; more than none reorders.
    pub jitter: Option<Duration>,
    /// How likely a datagram is lost: 0 to 1.
    pub loss: Option<f64>,
    /// How likely it comes twice.
    pub duplicate: Option<f64>,
    /// How likely it overtakes those before it.
    pub reorder: Option<f64>,
    /// Bytes a second, each way.
    pub bandwidth: Option<u64>,
    /// Larger datagrams are lost.
    pub mtu: Option<u16>,
}

/// Faults drawn from the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Nemesis {
    /// How many faults a minute, on average.
    pub per_minute: f64,
    /// How long one lasts, at least and at most.
    pub lasts: (Duration, Duration),
    /// Which kinds, as the file names them, and how often each in proportion.
    pub kinds: BTreeMap<String, f64>,
    /// From when on.
    pub from: Duration,
}

/// What has to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectations {
    /// All regions agree within so long after everything was healed.
    pub converge_within: Duration,
    /// The checks that are made, by name; all there are where the file names none.
    pub checks: BTreeSet<String>,
    /// What has to have happened, or the run shows nothing.
    pub coverage: BTreeSet<Coverage>,
    /// Regions that are not healed: the others have to make progress without them.
    pub lost_regions: BTreeSet<RegionName>,
    /// Nodes whose disk lies: what they acknowledge may be lost, and has to be detected.
    pub void_nodes: BTreeSet<NodeName>,
    /// How long a revoked account's token may still be taken where the cluster is connected.
    pub revocation_within: Duration,
    /// What nodes may hold on to at most, by what it is.
    pub bounds: Bounds,
}

/// What nodes may hold on to, counted in virtual time.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// How often nodes are counted through.
    pub every: Duration,
    /// From when on the bounds hold.
    pub from: Duration,
    /// Each number's highest value; those of [`COUNTED`] alone.
    pub most: BTreeMap<String, u64>,
}
