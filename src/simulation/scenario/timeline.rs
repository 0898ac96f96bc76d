//! Whether faults can happen together: each begins and ends within the run, and no two of them
//! decide the same thing at the same time. A pure function, for files and for what a nemesis draws.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::effect::Lasting;
use super::{FaultKind, TimedFault};
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

/// So many contradictions are enough to tell.
const CONTRADICTIONS_MAX: usize = 100;

/// What one fault alone can decide at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Whether anything passes from one region to another.
    Passing(RegionName, RegionName),
    /// How a link between two regions is.
    Quality(RegionName, RegionName),
    /// Whether a node runs.
    Life(NodeName),
    /// How fast a node runs.
    Pace(NodeName),
    /// What a node's disk does.
    Disk(NodeName),
    /// What a node's clock shows.
    Clock(NodeName),
    /// Who votes.
    Voters,
    /// Which generation of the master key is the newest.
    MasterKey,
    /// Which certificate a node has, and of which authority.
    Certificate(NodeName),
    /// Which release a node runs.
    Release(NodeName),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(from, to) => write!(f, "whether {from} reaches {to}"),
            Self::Quality(from, to) => write!(f, "how the link from {from} to {to} is"),
            Self::Life(node) => write!(f, "whether {node} runs"),
            Self::Pace(node) => write!(f, "how fast {node} runs"),
            Self::Disk(node) => write!(f, "what the disk of {node} does"),
            Self::Clock(node) => write!(f, "what the clock of {node} shows"),
            Self::Voters => f.write_str("who votes"),
            Self::Certificate(node) => write!(f, "which certificate {node} has"),
            Self::Release(node) => write!(f, "which release {node} runs"),
            Self::MasterKey => f.write_str("which master key is the newest"),
        }
    }
}

/// Why faults can't be as they are. Faults are named by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimelineFlaw {
    /// It begins at the end of the run or after it.
    BeginsLate {
        /// Which.
        fault: usize,
    },
    /// It ends after the end of the run.
    EndsLate {
        /// Which.
        fault: usize,
    },
    /// Two decide the same thing at the same time.
    Contradiction {
        /// The one that begins later (or stands later, where both begin together).
        fault: usize,
        /// The other one.
        other: usize,
        /// What both decide.
        resource: Resource,
        /// From when on.
        at: Duration,
    },
}

impl TimedFault {
    /// From when to when it holds. A moment ends as it begins; what is never healed has no end.
    pub fn window(&self) -> (Duration, Duration) {
        let end = match (self.lasts, self.fault.lasting()) {
            (Some(lasts), _) => self.at.saturating_add(lasts),
            (None, Lasting::AtOnce | Lasting::Either) => self.at,
            (None, Lasting::GoesOn) => Duration::MAX,
        };
        (self.at, end)
    }
}

impl FaultKind {
    /// What it alone may decide while it lasts.
    pub fn resources(&self, topology: &Topology) -> BTreeSet<Resource> {
        let passing = |links: BTreeSet<(RegionName, RegionName)>| {
            links.into_iter().map(|(from, to)| Resource::Passing(from, to)).collect()
        };
        match self {
            Self::Partition { .. }
            | Self::Isolate { .. }
            | Self::OneWay { .. }
            | Self::Bridge { .. }
            | Self::Flapping { .. }
            | Self::Hold { .. } => passing(self.links_touched(topology)),
            Self::Link { .. } => {
                let links = self.links_touched(topology).into_iter();
                links.map(|(from, to)| Resource::Quality(from, to)).collect()
            }
            Self::Crash { node, .. } | Self::Stop { node } | Self::Absent { node, .. } => {
                [Resource::Life(node.clone())].into()
            }
            Self::Previous { nodes } => nodes.iter().cloned().map(Resource::Release).collect(),
            Self::Pause { node } => {
                [Resource::Life(node.clone()), Resource::Pace(node.clone())].into()
            }
            Self::Slow { node, .. } => [Resource::Pace(node.clone())].into(),
            Self::DiskFull { node } | Self::DiskError { node } | Self::LyingFsync { node } => {
                [Resource::Disk(node.clone())].into()
            }
            Self::OldCopy { node, .. } | Self::Wipe { node } => {
                [Resource::Life(node.clone()), Resource::Disk(node.clone())].into()
            }
            Self::ClockStep { node, .. } | Self::ClockDrift { node, .. } => {
                [Resource::Clock(node.clone())].into()
            }
            // A certificate that is made while the authority changes would be of the old one.
            Self::CertificateExpiry { nodes } => nodes
                .iter()
                .flat_map(|node| {
                    [Resource::Life(node.clone()), Resource::Certificate(node.clone())]
                })
                .collect(),
            Self::RotateCa => {
                let nodes = topology.nodes().iter();
                nodes.map(|node| Resource::Certificate(node.name.clone())).collect()
            }
            Self::RotateMasterKey => [Resource::MasterKey].into(),
            Self::Voters { .. } => [Resource::Voters].into(),
            Self::Revoke => BTreeSet::new(),
        }
    }
}

/// Everything that is wrong with `faults` in a run of that `duration`; of two faults that contradict
/// each other, one resource is named.
pub fn check(faults: &[TimedFault], topology: &Topology, duration: Duration) -> Vec<TimelineFlaw> {
    let mut flaws = Vec::new();
    for (fault, timed) in faults.iter().enumerate() {
        if timed.at >= duration {
            flaws.push(TimelineFlaw::BeginsLate { fault });
        } else if timed.lasts.is_some_and(|lasts| timed.at.saturating_add(lasts) > duration) {
            flaws.push(TimelineFlaw::EndsLate { fault });
        }
    }
    flaws.extend(contradictions(faults, topology));
    flaws
}

/// By the order in which faults begin. Faults that do not contradict each other share nothing, so
/// that what is kept of those under way is bounded by what there is to decide.
fn contradictions(faults: &[TimedFault], topology: &Topology) -> Vec<TimelineFlaw> {
    let mut order: Vec<usize> = (0..faults.len()).collect();
    order.sort_by_key(|fault| faults[*fault].at);
    let mut under_way: Vec<(usize, BTreeSet<Resource>)> = Vec::new();
    let mut flaws = Vec::new();
    for fault in order {
        let timed = &faults[fault];
        under_way.retain(|(other, _)| overlap(&faults[*other], timed));
        let resources = timed.fault.resources(topology);
        for (other, held) in &under_way {
            let shared = held.intersection(&resources).next().cloned();
            flaws.extend(shared.map(|resource| {
                let other = *other;
                TimelineFlaw::Contradiction { fault, other, resource, at: timed.at }
            }));
        }
        if flaws.len() >= CONTRADICTIONS_MAX {
            break;
        }
        under_way.push((fault, resources));
    }
    flaws
}

/// Whether both hold at some moment. Two moments do if they are the same one.
pub(super) fn overlap(a: &TimedFault, b: &TimedFault) -> bool {
    let ((a_start, a_end), (b_start, b_end)) = (a.window(), b.window());
    a_start == b_start || (a_start < b_end && b_start < a_end)
}

#[cfg(test)]
mod tests;
