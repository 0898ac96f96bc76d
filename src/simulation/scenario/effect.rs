//! What a fault is called, what it is in words, and what it touches: regions, links between them,
//! nodes. Only facts that follow from the fault and the topology; nothing is done to anybody here.

use std::collections::BTreeSet;
use std::time::Duration;

use super::error::shown;
use super::{FaultKind, LinkQuality, Unsynced};
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

/// The kinds of faults, as a scenario file names them.
pub const FAULT_KINDS: [&str; 25] = [
    "partition",
    "isolate",
    "one_way",
    "bridge",
    "flapping",
    "link",
    "hold",
    "crash",
    "stop",
    "pause",
    "slow",
    "disk_full",
    "disk_error",
    "lying_fsync",
    "old_copy",
    "wipe",
    "clock_step",
    "clock_drift",
    "certificate_expiry",
    "rotate_ca",
    "rotate_master_key",
    "revoke",
    "voters",
    "absent",
    "previous",
];

/// Whether a kind of fault has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// It is a moment: rotated keys, a revocation, other voters.
    AtOnce,
    /// It is a moment where it has no `lasts`, and has an end where it has one: a wiped disk, a
    /// clock step.
    Either,
    /// It goes on: until the end of the run where it has no `lasts`, or for good.
    GoesOn,
}

/// Directed pairs of regions.
type Links = BTreeSet<(RegionName, RegionName)>;

impl FaultKind {
    /// Its name in a scenario file.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Partition { .. } => "partition",
            Self::Isolate { .. } => "isolate",
            Self::OneWay { .. } => "one_way",
            Self::Bridge { .. } => "bridge",
            Self::Flapping { .. } => "flapping",
            Self::Link { .. } => "link",
            Self::Hold { .. } => "hold",
            Self::Crash { .. } => "crash",
            Self::Stop { .. } => "stop",
            Self::Pause { .. } => "pause",
            Self::Slow { .. } => "slow",
            Self::DiskFull { .. } => "disk_full",
            Self::DiskError { .. } => "disk_error",
            Self::LyingFsync { .. } => "lying_fsync",
            Self::OldCopy { .. } => "old_copy",
            Self::Wipe { .. } => "wipe",
            Self::ClockStep { .. } => "clock_step",
            Self::ClockDrift { .. } => "clock_drift",
            Self::CertificateExpiry { .. } => "certificate_expiry",
            Self::RotateCa => "rotate_ca",
            Self::RotateMasterKey => "rotate_master_key",
            Self::Revoke => "revoke",
            Self::Voters { .. } => "voters",
            Self::Absent { .. } => "absent",
            Self::Previous { .. } => "previous",
        }
    }

    /// Whether it has an end.
    pub fn lasting(&self) -> Lasting {
        match self {
            Self::RotateMasterKey | Self::Revoke | Self::Voters { .. } => Lasting::AtOnce,
            Self::OldCopy { .. } | Self::Wipe { .. } | Self::ClockStep { .. } => Lasting::Either,
            _ => Lasting::GoesOn,
        }
    }

    /// In words, for people: `eu-west and us-east are cut off from all others`.
    pub fn describe(&self) -> String {
        match self {
            Self::Partition { groups } => match &groups[..] {
                [group] => format!("{} {} cut off from all others", and(group), are(group)),
                _ => format!(
                    "the regions are cut into {}",
                    groups.iter().map(and).collect::<Vec<_>>().join(" | ")
                ),
            },
            Self::Isolate { regions } => match regions.len() {
                1 => format!("{} is cut off from all others", and(regions)),
                _ => format!("{} are cut off, each alone", and(regions)),
            },
            Self::OneWay { from, to } => {
                format!("nothing from {from} reaches {to}; the way back is whole")
            }
            Self::Bridge { via } => format!("the regions reach each other through {via} alone"),
            Self::Flapping { a, b, every } => {
                format!("the link of {a} and {b} goes down and up every {}", shown(*every))
            }
            Self::Link { a, b, quality } => {
                format!("{} {}", link_named(a.as_ref(), b.as_ref()), quality.describe())
            }
            Self::Hold { from, to } => {
                format!("what {from} sends to {to} is held back and released all at once")
            }
            Self::Crash { node, unsynced } => format!(
                "{node} crashes{}",
                match unsynced {
                    Unsynced::Keep => ", and its disk has all that was written",
                    Unsynced::Lose => ", and what was not synced is gone",
                    Unsynced::Tear => ", and what was not synced is there in part",
                }
            ),
            Self::Stop { node } => format!("{node} is stopped in order"),
            Self::Pause { node } => format!("{node} is paused: it does nothing"),
            Self::Slow { node, factor } => format!("{node} is {factor} times slower"),
            Self::DiskFull { node } => format!("the disk of {node} is full"),
            Self::DiskError { node } => format!("the disk of {node} fails every write"),
            Self::LyingFsync { node } => format!("fsync does nothing on {node}"),
            Self::OldCopy { node, age } => {
                format!("{node} crashes and comes back with its disk of {} ago", shown(*age))
            }
            Self::Wipe { node } => format!("{node} crashes and comes back with an empty disk"),
            Self::ClockStep { node, by_ms } => {
                let way = if *by_ms < 0 { "back" } else { "ahead" };
                let by = shown(Duration::from_millis(by_ms.unsigned_abs()));
                format!("the clock of {node} jumps {by} {way}")
            }
            Self::ClockDrift { node, ppm } => {
                let way = if *ppm < 0 { "slow" } else { "fast" };
                format!("the clock of {node} runs {} millionths too {way}", ppm.unsigned_abs())
            }
            Self::CertificateExpiry { nodes } => match nodes.len() {
                1 => format!("the certificate of {} has expired", and(nodes)),
                _ => format!("the certificates of {} have expired", and(nodes)),
            },
            Self::RotateCa => "the nodes change to another certificate authority".to_owned(),
            Self::RotateMasterKey => "all keys are wrapped by a new master key".to_owned(),
            Self::Revoke => "an account is disabled".to_owned(),
            Self::Voters { add, remove, transfer } => {
                let parts = [
                    add.as_ref().map(|node| format!("{node} becomes a voter")),
                    remove.as_ref().map(|node| format!("{node} stops being a voter")),
                    transfer.as_ref().map(|node| format!("{node} is to lead")),
                ];
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            }
            Self::Absent { node, .. } => format!("{node} is no member: it has left, or not joined"),
            Self::Previous { nodes } => match nodes.len() {
                1 => format!("{} runs the release before", and(nodes)),
                _ => format!("{} run the release before", and(nodes)),
            },
        }
    }

    /// The regions that feel it: both ends of each link that it touches, and where its nodes stand.
    pub fn regions(&self, topology: &Topology) -> BTreeSet<RegionName> {
        let links = self.links_touched(topology);
        let ends = links.into_iter().flat_map(|(from, to)| [from, to]);
        let homes = self.nodes().into_iter().filter_map(|node| topology.region_of(node).cloned());
        let all = match self {
            // What the whole cluster decides, each region feels.
            Self::RotateCa | Self::RotateMasterKey | Self::Revoke | Self::Voters { .. } => {
                topology.region_names()
            }
            _ => BTreeSet::new(),
        };
        ends.chain(homes).chain(all).collect()
    }

    /// The directed links between regions over which nothing passes while it lasts. A flapping link
    /// lets something pass at times, so it is none of them.
    pub fn links_cut(&self, topology: &Topology) -> Links {
        let regions = topology.region_names();
        match self {
            Self::Partition { groups } => {
                let group =
                    |region: &RegionName| groups.iter().position(|group| group.contains(region));
                pairs(&regions, |a, b| group(a) != group(b))
            }
            Self::Isolate { regions: alone } => {
                pairs(&regions, |a, b| alone.contains(a) || alone.contains(b))
            }
            Self::Bridge { via } => pairs(&regions, |a, b| a != via && b != via),
            Self::OneWay { from, to } | Self::Hold { from, to } => {
                BTreeSet::from([(from.clone(), to.clone())])
            }
            Self::Link { quality, .. } if quality.loss.is_some_and(|loss| loss >= 1.0) => {
                self.links_touched(topology)
            }
            _ => BTreeSet::new(),
        }
    }

    /// The directed links between regions that it changes in any way.
    pub fn links_touched(&self, topology: &Topology) -> Links {
        let regions = topology.region_names();
        let between = |a: &RegionName, b: &RegionName| {
            BTreeSet::from([(a.clone(), b.clone()), (b.clone(), a.clone())])
        };
        match self {
            Self::Flapping { a, b, .. } => between(a, b),
            Self::Link { a: Some(a), b: Some(b), .. } => between(a, b),
            Self::Link { a: Some(end), b: None, .. } | Self::Link { a: None, b: Some(end), .. } => {
                pairs(&regions, |a, b| a == end || b == end)
            }
            Self::Link { a: None, b: None, .. } => pairs(&regions, |_, _| true),
            _ => self.links_cut(topology),
        }
    }

    /// The nodes that answer nobody while it lasts: they do not run, or they are paused.
    pub fn nodes_down(&self) -> BTreeSet<NodeName> {
        match self {
            Self::Crash { node, .. }
            | Self::Stop { node }
            | Self::Pause { node }
            | Self::OldCopy { node, .. }
            | Self::Wipe { node }
            | Self::Absent { node, .. } => BTreeSet::from([node.clone()]),
            _ => BTreeSet::new(),
        }
    }

    /// The nodes that it is done to, or that it names.
    pub fn nodes(&self) -> Vec<&NodeName> {
        match self {
            Self::Crash { node, .. }
            | Self::Stop { node }
            | Self::Pause { node }
            | Self::Slow { node, .. }
            | Self::DiskFull { node }
            | Self::DiskError { node }
            | Self::LyingFsync { node }
            | Self::OldCopy { node, .. }
            | Self::Wipe { node }
            | Self::ClockStep { node, .. }
            | Self::ClockDrift { node, .. }
            | Self::Absent { node, .. } => vec![node],
            Self::CertificateExpiry { nodes } | Self::Previous { nodes } => nodes.iter().collect(),
            Self::Voters { add, remove, transfer } => {
                [add, remove, transfer].into_iter().flatten().collect()
            }
            Self::Partition { .. }
            | Self::Isolate { .. }
            | Self::OneWay { .. }
            | Self::Bridge { .. }
            | Self::Flapping { .. }
            | Self::Link { .. }
            | Self::Hold { .. }
            | Self::RotateCa
            | Self::RotateMasterKey
            | Self::Revoke => Vec::new(),
        }
    }
}

impl LinkQuality {
    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn describe(&self) -> String {
        let percent = |part: f64| format!("{}%", (part * 10_000.0).round() / 100.0);
        let parts = [
            self.extra.map(|extra| format!("takes {} longer", shown(extra))),
            self.jitter.map(|jitter| format!("varies by {}", shown(jitter))),
            self.loss.map(|loss| format!("loses {}", percent(loss))),
            self.duplicate.map(|part| format!("doubles {}", percent(part))),
            self.reorder.map(|part| format!("reorders {}", percent(part))),
            self.bandwidth.map(|bytes| format!("carries {bytes} bytes a second")),
            self.mtu.map(|bytes| format!("drops datagrams above {bytes} bytes")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn link_named(a: Option<&RegionName>, b: Option<&RegionName>) -> String {
    match (a, b) {
        (Some(a), Some(b)) => format!("the link of {a} and {b}"),
        (Some(end), None) | (None, Some(end)) => format!("each link of {end}"),
        (None, None) => "each link".to_owned(),
    }
}

/// Each ordered pair of different regions for which `is_in` holds.
fn pairs(
    regions: &BTreeSet<RegionName>,
    is_in: impl Fn(&RegionName, &RegionName) -> bool,
) -> Links {
    let mut links = BTreeSet::new();
    for a in regions {
        for b in regions.iter().filter(|b| *b != a && is_in(a, b)) {
            links.insert((a.clone(), b.clone()));
        }
    }
    links
}

/// `a`, `a and b`, `a, b and c`.
fn and<T: ToString>(names: &BTreeSet<T>) -> String {
    let names: Vec<String> = names.iter().map(T::to_string).collect();
    match &names[..] {
        [] => String::new(),
        [name] => name.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn are<T>(names: &BTreeSet<T>) -> &'static str {
    if names.len() == 1 { "is" } else { "are" }
}

#[cfg(test)]
mod tests;
