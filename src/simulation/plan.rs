//! What a topology can bear, worked out before it has to: for each region and each pair of regions
//! that is lost or cut off, what still reads, writes and has a quorum, from where, and how long that
//! takes; and which other choice of voters would be better.
//!
//! It works with round trips and one assumed time for a disk, and starts nothing: its times are
//! estimates of a quiet cluster, without queues, lost packets or work on a processor. Which nodes
//! vote, what a level of `Holm-Ack` asks for and how long elections take is asked of the functions
//! that the nodes themselves use.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::{NodeName, RegionName};
use crate::quorum::{Times, first_voters};
use crate::settings::QuorumSettings;
use crate::topology::Topology;

mod acknowledged;
mod effect;
mod placement;
mod situation;
#[cfg(test)]
mod tests;

pub use acknowledged::{AckCost, AckLevel, Acknowledged};
pub use effect::{Effect, LeaderEffect, QuorumUse, RegionEffect};
pub use placement::{Placement, Placements, Search};
pub use situation::{Broken, Kind};

use situation::Situation;

/// How long one write to a disk, with its fsync, is taken to last where nothing else is said.
pub const DISK: Duration = Duration::from_millis(2);

/// An estimate of a time. In JSON, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Estimate(pub Duration);

impl Estimate {
    /// Milliseconds.
    pub fn ms(self) -> f64 {
        self.0.as_secs_f64() * 1e3
    }
}

impl Serialize for Estimate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // No digits that nobody knows.
        serializer.serialize_f64((self.ms() * 1e3).round() / 1e3)
    }
}

/// What a topology can bear.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The cluster's name.
    pub cluster: String,
    /// The regions, in the order of the topology.
    pub regions: Vec<PlanRegion>,
    /// Who votes, as the nodes would decide it at the first start.
    pub voters: Vec<Voter>,
    /// How many of them have to agree.
    pub majority: usize,
    /// The time assumed for one write to a disk.
    pub disk_ms: Estimate,
    /// How long there is no leader after the last one was lost: at least and at most, where the
    /// first election succeeds. By the default settings.
    pub election_ms: [Estimate; 2],
    /// Where nothing is broken.
    pub whole: Effect,
    /// Everything that is looked at: each region, then each pair.
    pub cases: Vec<Case>,
    /// Which regions could vote instead.
    pub placements: Placements,
    /// Where two nodes vote: what a third one would have to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
}

/// One region of the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanRegion {
    /// Its name.
    pub region: RegionName,
    /// Where it is, for people.
    pub place: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// Which of them votes, if any.
    pub voter: Option<NodeName>,
}

/// A node that votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Voter {
    /// Its region.
    pub region: RegionName,
    /// The node.
    pub node: NodeName,
}

/// Something breaks, and what it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// What breaks.
    pub broken: Broken,
    /// What is left.
    pub effect: Effect,
}

/// A third voter for two that have no majority without each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// The two.
    pub of: [RegionName; 2],
    /// Up to this round trip to the leader, a write or read of the quorum takes no longer than today.
    pub rtt_ms_max: Estimate,
    /// Regions of this topology that could have it, the nearest first. Empty: it takes a new region.
    pub candidates: Vec<RegionName>,
}

impl Plan {
    /// Works it out.
    pub fn of(topology: &Topology) -> Self {
        Self::with_disk(topology, DISK)
    }

    /// The same, for disks of that speed.
    pub fn with_disk(topology: &Topology, disk: Duration) -> Self {
        let ground = Ground::new(topology, disk);
        let case = |(broken, situation): (Broken, Situation)| Case {
            effect: Effect::of(&ground, &situation),
            broken,
        };
        let times = Times::new(topology, &QuorumSettings::default());
        let region = |(i, region): (usize, &crate::topology::Region)| PlanRegion {
            region: region.name.clone(),
            place: region.place.clone(),
            nodes: topology.nodes_of(&region.name).count(),
            voter: ground.voter_of(i).cloned(),
        };
        Self {
            cluster: topology.cluster.clone(),
            regions: topology.regions().iter().enumerate().map(region).collect(),
            voters: ground
                .voters
                .iter()
                .map(|(i, node)| Voter { region: ground.names[*i].clone(), node: node.clone() })
                .collect(),
            majority: ground.majority(),
            disk_ms: Estimate(disk),
            election_ms: [Estimate(times.election_min), Estimate(times.election_max)],
            whole: Effect::of(&ground, &Situation::whole(ground.len())),
            cases: situation::all(&ground.names).into_iter().map(case).collect(),
            placements: Placements::of(&ground),
            witness: witness(&ground),
        }
    }
}

/// What the estimates stand on: regions by their number, in the order of the topology.
struct Ground {
    names: Vec<RegionName>,
    /// Round trips; none within a region, where one node asks itself.
    rtt: Vec<Vec<Duration>>,
    /// The regions that vote, with the node that does.
    voters: Vec<(usize, NodeName)>,
    disk: Duration,
}

impl Ground {
    fn new(topology: &Topology, disk: Duration) -> Self {
        let names: Vec<RegionName> =
            topology.regions().iter().map(|region| region.name.clone()).collect();
        let between = |a: &RegionName, b: &RegionName| match a == b {
            true => Duration::ZERO,
            false => topology.rtt(a, b),
        };
        let rtt = names.iter().map(|a| names.iter().map(|b| between(a, b)).collect()).collect();
        let voters = first_voters(topology).into_iter().filter_map(|node| {
            let region = names.iter().position(|name| *name == node.region)?;
            Some((region, node.name.clone()))
        });
        let voters = voters.collect();
        Self { names, rtt, voters, disk }
    }

    fn len(&self) -> usize {
        self.names.len()
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The numbers of the regions that vote.
    fn voting(&self) -> Vec<usize> {
        self.voters.iter().map(|(region, _)| *region).collect()
    }

    fn voter_of(&self, region: usize) -> Option<&NodeName> {
        self.voters.iter().find(|(at, _)| *at == region).map(|(_, node)| node)
    }
}

/// Two regions have no majority without each other.
fn witness(ground: &Ground) -> Option<Witness> {
    let [a, b] = ground.voting()[..] else { return None };
    let far = |region: &usize| ground.rtt[a][*region].max(ground.rtt[b][*region]);
    let mut candidates: Vec<usize> =
        (0..ground.len()).filter(|region| *region != a && *region != b).collect();
    candidates.sort_by_key(far);
    Some(Witness {
        of: [ground.names[a].clone(), ground.names[b].clone()],
        rtt_ms_max: Estimate(ground.rtt[a][b]),
        candidates: candidates.into_iter().map(|region| ground.names[region].clone()).collect(),
    })
}
