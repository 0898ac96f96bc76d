//! What the levels of `Holm-Ack` cost, and whether they can be reached.

use std::time::Duration;

use serde::Serialize;

use super::situation::Situation;
use super::{Estimate, Ground};
use crate::node::Ack;

/// A level of `Holm-Ack` above `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AckLevel {
    /// `2`.
    #[serde(rename = "2")]
    Two,
    /// `majority`.
    Majority,
    /// `all`.
    All,
}

impl AckLevel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Two, Self::Majority, Self::All];

    /// How many regions it asks for, of so many.
    pub fn regions(self, of: usize) -> usize {
        let ack = match self {
            Self::Two => Ack::Regions(2),
            Self::Majority => Ack::Majority,
            Self::All => Ack::All,
        };
        ack.count(of)
    }
}

/// A level, for writes in one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// Which level.
    pub level: AckLevel,
    /// How many regions have to have a write on disk.
    pub regions: usize,
    /// What that takes.
    #[serde(flatten)]
    pub cost: AckCost,
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reached", rename_all = "snake_case")]
pub enum AckCost {
    /// So long.
    Yes {
        /// How long.
        ms: Estimate,
    },
    /// So long at least: a region gets the write, and tells that it has it, by way of a third one,
    /// which first has to notice that it is needed. That often takes a second more.
    Relayed {
        /// How long at least.
        ms: Estimate,
    },
    /// They are not reached: the answer is 202 after the timeout, with who has the write.
    No,
    /// The cluster has fewer regions than are asked for: 400.
    Refused,
}

impl AckCost {
    /// Whether as many regions as are asked for get to have the write.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Yes { .. } | Self::Relayed { .. })
    }
}

/// What each level costs a writer in that region, which is alive.
pub(super) fn levels(ground: &Ground, situation: &Situation, from: usize) -> [Acknowledged; 3] {
    let distances = distances(ground, situation, from);
    AckLevel::ALL.map(|level| {
        let regions = level.regions(ground.len());
        let cost = if regions > ground.len() {
            AckCost::Refused
        } else {
            cost(ground, &distances, regions)
        };
        Acknowledged { level, regions, cost }
    })
}

/// A write goes out once it is on the disk here, and is on a disk there when that is told.
fn cost(ground: &Ground, distances: &[(Duration, bool)], regions: usize) -> AckCost {
    if regions <= 1 {
        return AckCost::Yes { ms: Estimate(ground.disk) };
    }
    let Some((farthest, _)) = distances.get(regions - 2) else { return AckCost::No };
    let ms = Estimate(*farthest + ground.disk * 2);
    let is_relayed = distances[..regions - 1].iter().any(|(_, is_relayed)| *is_relayed);
    if is_relayed { AckCost::Relayed { ms } } else { AckCost::Yes { ms } }
}

/// Round trips to all other regions that news gets to, in order, and whether others pass it on.
fn distances(ground: &Ground, situation: &Situation, from: usize) -> Vec<(Duration, bool)> {
    let mut known: Vec<Option<Duration>> = vec![None; ground.len()];
    for to in situation.alive().filter(|to| situation.reaches(from, *to)) {
        known[to] = Some(ground.rtt[from][to]);
    }
    // Nodes push to whom they reach; only the others need somebody in between.
    let is_direct: Vec<bool> = known.iter().map(Option::is_some).collect();
    loop {
        let mut is_same = true;
        for to in situation.alive().filter(|to| !is_direct[*to]) {
            let by = |by: usize| Some(known[by]? + ground.rtt[by][to]);
            let ways = situation.alive().filter(|by| situation.reaches(*by, to));
            let best = ways.filter(|way| *way != to).filter_map(by).min();
            if best.is_some_and(|best| known[to].is_none_or(|known| best < known)) {
                known[to] = best;
                is_same = false;
            }
        }
        if is_same {
            break;
        }
    }
    let others = (0..ground.len()).filter(|to| *to != from);
    let mut distances: Vec<_> =
        others.filter_map(|to| Some((known[to]?, !is_direct[to]))).collect();
    distances.sort_unstable();
    distances
}
