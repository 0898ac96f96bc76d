//! What works in one situation: who can lead, whom a leader serves, and how long that takes.

use std::cmp::Reverse;
use std::time::Duration;

use serde::Serialize;

use super::acknowledged::{Acknowledged, levels};
use super::situation::{Set, Situation};
use super::{Estimate, Ground};
use crate::model::{NodeName, RegionName};

/// What works in one situation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Regions between which configuration still travels. More than one: both sides go on, and
    /// converge once they meet again.
    pub groups: Vec<Vec<RegionName>>,
    /// Whether there is a quorum: secrets, accounts and roles can be read and written somewhere.
    pub has_quorum: bool,
    /// Voters that can lead, the best one first: it serves the most regions, then its slowest write
    /// is the fastest, then its mean one.
    pub leaders: Vec<LeaderEffect>,
    /// Every region, lost ones too.
    pub regions: Vec<RegionEffect>,
}

/// What a leader would mean. Times are of the regions it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderEffect {
    /// Its region.
    pub region: RegionName,
    /// The node.
    pub node: NodeName,
    /// The regions it serves.
    pub serves: Vec<RegionName>,
    /// A linearizable read in the leader's region: a round trip to the nearest voter that makes a
    /// majority.
    pub read_ms_here: Estimate,
    /// A write in the leader's region.
    pub write_ms_here: Estimate,
    /// The slowest write.
    pub write_ms_max: Estimate,
    /// The mean of all regions' writes.
    pub write_ms_mean: Estimate,
    /// Where the slowest one is made.
    pub slowest: RegionName,
}

/// Whether a region has the use of the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuorumUse {
    /// Yes, whoever leads.
    Always,
    /// Only where somebody leads whom it reaches.
    SomeLeaders,
    /// No: 503 `QuorumUnavailable`.
    Never,
}

/// What works in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionEffect {
    /// Which region.
    pub region: RegionName,
    /// Whether it is there: then it reads and writes configuration, whatever else is broken.
    pub alive: bool,
    /// A configuration's write with `Holm-Ack: local`. A read takes none of a network or a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_write_ms: Option<Estimate>,
    /// Secrets, accounts and roles.
    pub quorum: QuorumUse,
    /// A linearizable read of those, with the best leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ms: Option<Estimate>,
    /// A write of those, with the best leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ms: Option<Estimate>,
    /// What more than `Holm-Ack: local` takes. Empty where the region is lost.
    pub ack: Vec<Acknowledged>,
}

/// One possible leader and what it takes.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub(super) at: usize,
    /// A majority's answer.
    pub(super) agreed: Duration,
    pub(super) serves: Set,
    pub(super) slowest: usize,
    pub(super) write_max: Duration,
    pub(super) write_mean: Duration,
}

impl Leadership {
    /// Of that voter, if a majority of the voters answers it.
    pub(super) fn of(
        ground: &Ground,
        situation: &Situation,
        voting: &[usize],
        at: usize,
    ) -> Option<Self> {
        let answering = voting.iter().filter(|voter| situation.reaches(at, **voter));
        // Its own answer is there at once.
        let mut answers: Vec<Duration> = answering.map(|voter| ground.rtt[at][*voter]).collect();
        answers.sort_unstable();
        let agreed = *answers.get(voting.len() / 2)?;
        let serves = situation.reached_from(at);
        let (mut slowest, mut sum, mut count) = (at, Duration::ZERO, 0);
        for region in situation.alive().filter(|region| serves >> region & 1 == 1) {
            let way = ground.rtt[region][at];
            (sum, count) = (sum + way, count + 1);
            if way > ground.rtt[slowest][at] {
                slowest = region;
            }
        }
        let here = agreed + ground.disk;
        let write_max = here + ground.rtt[slowest][at];
        Some(Self { at, agreed, serves, slowest, write_max, write_mean: here + sum / count.max(1) })
    }

    /// Better is less.
    fn rank(&self) -> (Reverse<u32>, Duration, Duration) {
        (Reverse(self.serves.count_ones()), self.write_max, self.write_mean)
    }

    /// Everybody who can lead, the best one first.
    pub(super) fn all(ground: &Ground, situation: &Situation, voting: &[usize]) -> Vec<Self> {
        let leading = |at: &usize| Self::of(ground, situation, voting, *at);
        let mut all: Vec<Self> = voting.iter().filter_map(leading).collect();
        all.sort_by_key(Self::rank);
        all
    }

    fn serves(&self, region: usize) -> bool {
        self.serves >> region & 1 == 1
    }

    fn effect(&self, ground: &Ground) -> Option<LeaderEffect> {
        Some(LeaderEffect {
            region: ground.names[self.at].clone(),
            node: ground.voter_of(self.at)?.clone(),
            serves: names(ground, self.serves),
            read_ms_here: Estimate(self.agreed),
            write_ms_here: Estimate(self.agreed + ground.disk),
            write_ms_max: Estimate(self.write_max),
            write_ms_mean: Estimate(self.write_mean),
            slowest: ground.names[self.slowest].clone(),
        })
    }
}

fn names(ground: &Ground, set: Set) -> Vec<RegionName> {
    let members = (0..ground.len()).filter(|region| set >> region & 1 == 1);
    members.map(|region| ground.names[region].clone()).collect()
}

impl Effect {
    pub(super) fn of(ground: &Ground, situation: &Situation) -> Self {
        let leaders = Leadership::all(ground, situation, &ground.voting());
        let region = |region| region_effect(ground, situation, &leaders, region);
        Self {
            groups: situation.groups().into_iter().map(|group| names(ground, group)).collect(),
            has_quorum: !leaders.is_empty(),
            regions: (0..ground.len()).map(region).collect(),
            leaders: leaders.iter().filter_map(|leader| leader.effect(ground)).collect(),
        }
    }

    /// The regions that are there.
    pub fn alive(&self) -> impl Iterator<Item = &RegionEffect> {
        self.regions.iter().filter(|region| region.alive)
    }
}

fn region_effect(
    ground: &Ground,
    situation: &Situation,
    leaders: &[Leadership],
    region: usize,
) -> RegionEffect {
    let alive = situation.is_alive(region);
    let serving = leaders.iter().filter(|leader| leader.serves(region));
    let quorum = match serving.count() {
        0 => QuorumUse::Never,
        count if count == leaders.len() => QuorumUse::Always,
        _ => QuorumUse::SomeLeaders,
    };
    let best = leaders.first().filter(|leader| leader.serves(region));
    let read = best.map(|leader| leader.agreed + ground.rtt[region][leader.at]);
    RegionEffect {
        region: ground.names[region].clone(),
        alive,
        config_write_ms: alive.then_some(Estimate(ground.disk)),
        quorum,
        read_ms: read.map(Estimate),
        write_ms: read.map(|read| Estimate(read + ground.disk)),
        ack: if alive { levels(ground, situation, region).to_vec() } else { Vec::new() },
    }
}
