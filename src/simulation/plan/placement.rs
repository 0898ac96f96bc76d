//! Which regions could vote instead of those that do: 1, 3 or 5 of them. What counts is first
//! whether the loss of any one region can be borne, then of any two, then how long the slowest
//! region's write takes with the best leader, then the mean.
//!
//! Every choice is looked at where there are few enough. Else the best smaller choice is widened and
//! bettered one voter at a time, which may miss the best one; the answer says which it was.

use std::cmp::Reverse;
use std::time::Duration;

use serde::Serialize;

use super::effect::Leadership;
use super::situation::{Kind, Set, Situation, set_of};
use super::{Estimate, Ground};
use crate::model::RegionName;

/// Most choices of one size that are all looked at.
const CHOICES_MAX: usize = 150_000;
/// How many voters there may be: an even number bears no more than the odd one below it.
const SIZES: [usize; 3] = [1, 3, 5];
/// Most times a choice is bettered by one voter.
const STEPS_MAX: usize = 64;

/// Which regions could vote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placements {
    /// Those that do.
    pub today: Placement,
    /// The best choice of 1, 3 and 5 regions, as far as there are so many.
    pub best: Vec<Placement>,
    /// Which of `best` is better than today's, if one is: never one with fewer voters, because less
    /// would bear the loss of a disk.
    pub better: Option<usize>,
}

/// One choice of voting regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// Where they are, in the order of the topology.
    pub voters: Vec<RegionName>,
    /// Whether the others have a quorum whichever region is lost.
    pub survives_any_region: bool,
    /// Whether the others have a quorum whichever two regions are lost.
    pub survives_any_pair: bool,
    /// The best leader.
    pub leader: RegionName,
    /// The slowest region's write with it, nothing broken.
    pub write_ms_max: Estimate,
    /// The mean of all regions' writes with it.
    pub write_ms_mean: Estimate,
    /// How it was found.
    pub search: Search,
}

/// How a choice was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Search {
    /// It is the one there is.
    Given,
    /// Every choice of that size was looked at.
    Every {
        /// How many.
        choices: usize,
    },
    /// There were too many: a good one was bettered until no single change made it better.
    Limited {
        /// How many were looked at.
        choices: usize,
    },
}

impl Placement {
    /// Better is less.
    fn rank(&self) -> (Reverse<bool>, Reverse<bool>, Estimate, Estimate) {
        let survives = (Reverse(self.survives_any_region), Reverse(self.survives_any_pair));
        (survives.0, survives.1, self.write_ms_max, self.write_ms_mean)
    }

    pub(super) fn of(ground: &Ground, voting: &[usize], search: Search) -> Option<Self> {
        let whole = Situation::whole(ground.len());
        let leader = Leadership::all(ground, &whole, voting).into_iter().next()?;
        Some(Self {
            voters: voting.iter().map(|voter| ground.names[*voter].clone()).collect(),
            survives_any_region: survives(ground, voting, 1),
            survives_any_pair: survives(ground, voting, 2),
            leader: ground.names[leader.at].clone(),
            write_ms_max: Estimate(leader.write_max),
            write_ms_mean: Estimate(leader.write_mean),
            search,
        })
    }
}

/// Whether others have a quorum whichever so many regions (1 or 2) are lost. Where nobody is left,
/// nobody has.
fn survives(ground: &Ground, voting: &[usize], lost: usize) -> bool {
    let holds = |lost: &[usize]| {
        let situation = Situation::whole(ground.len()).and(Kind::Lost, lost);
        voting.iter().any(|at| Leadership::of(ground, &situation, voting, *at).is_some())
    };
    let regions = ground.len();
    regions > lost
        && (0..regions).all(|a| match lost {
            1 => holds(&[a]),
            _ => (a + 1..regions).all(|b| holds(&[a, b])),
        })
}

impl Placements {
    pub(super) fn of(ground: &Ground) -> Self {
        let mut voting = ground.voting();
        voting.sort_unstable();
        let mut best: Vec<Placement> = Vec::new();
        let mut narrower: Vec<usize> = Vec::new();
        for size in SIZES.into_iter().filter(|size| *size <= ground.len()) {
            let (found, search) = choose(ground, size, &narrower, &voting);
            best.extend(Placement::of(ground, &found, search));
            narrower = found;
        }
        // A topology has a voter.
        let today = Placement::of(ground, &voting, Search::Given);
        let today = today.unwrap_or_else(|| best[0].clone());
        let better = best.iter().enumerate().filter(|(_, other)| {
            other.voters.len() >= today.voters.len() && other.rank() < today.rank()
        });
        let better = better.min_by_key(|(_, other)| other.rank()).map(|(i, _)| i);
        Self { today, best, better }
    }

    /// The choice that is better than today's, if there is one.
    pub fn better(&self) -> Option<&Placement> {
        self.better.and_then(|better| self.best.get(better))
    }
}

/// What a choice costs; today's is kept where another is no faster.
type Cost = (Duration, Duration, bool, Vec<usize>);

struct Choosing<'a> {
    ground: &'a Ground,
    whole: Situation,
    today: Set,
    choices: usize,
    best: Option<Cost>,
}

impl Choosing<'_> {
    /// Looks at one choice, and says whether it is the best so far. All of a size bear the same.
    fn look(&mut self, voting: &[usize]) -> bool {
        self.choices += 1;
        let leaders = voting.iter().filter_map(|at| {
            let leader = Leadership::of(self.ground, &self.whole, voting, *at)?;
            Some((leader.write_max, leader.write_mean))
        });
        let Some((max, mean)) = leaders.min() else { return false };
        let cost = (max, mean, set_of(voting) != self.today, voting.to_vec());
        let is_better = self.best.as_ref().is_none_or(|best| cost < *best);
        if is_better {
            self.best = Some(cost);
        }
        is_better
    }

    fn found(&self) -> Vec<usize> {
        self.best.as_ref().map(|best| best.3.clone()).unwrap_or_default()
    }

    /// Every choice of `size` regions of those from `first` on, beside `chosen`.
    fn every(&mut self, chosen: &mut Vec<usize>, first: usize, size: usize) {
        if size == 0 {
            self.look(chosen);
            return;
        }
        for region in first..=self.ground.len().saturating_sub(size) {
            chosen.push(region);
            self.every(chosen, region + 1, size - 1);
            chosen.pop();
        }
    }

    /// The best two to add, and then one voter for another as long as that betters anything.
    fn widen(&mut self, narrower: &[usize]) {
        let is_free = |region: &usize| !narrower.contains(region);
        let free: Vec<usize> = (0..self.ground.len()).filter(is_free).collect();
        for (i, a) in free.iter().enumerate() {
            for b in &free[i + 1..] {
                self.look(&sorted([narrower, &[*a, *b]].concat()));
            }
        }
        for _ in 0..STEPS_MAX {
            let from = self.found();
            let mut is_better = false;
            for (i, new) in (0..from.len()).flat_map(|i| free_pairs(i, self.ground.len())) {
                if !from.contains(&new) {
                    let mut other = from.clone();
                    other[i] = new;
                    is_better |= self.look(&sorted(other));
                }
            }
            if !is_better {
                break;
            }
        }
    }
}

fn free_pairs(i: usize, regions: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..regions).map(move |new| (i, new))
}

fn sorted(mut regions: Vec<usize>) -> Vec<usize> {
    regions.sort_unstable();
    regions
}

/// The best choice of that many regions, and how it was found.
fn choose(
    ground: &Ground,
    size: usize,
    narrower: &[usize],
    today: &[usize],
) -> (Vec<usize>, Search) {
    let whole = Situation::whole(ground.len());
    let mut choosing = Choosing { ground, whole, today: set_of(today), choices: 0, best: None };
    let all = choices(ground.len(), size);
    if all <= CHOICES_MAX {
        choosing.every(&mut Vec::new(), 0, size);
        return (choosing.found(), Search::Every { choices: choosing.choices });
    }
    if today.len() == size {
        choosing.look(today);
    }
    choosing.widen(narrower);
    (choosing.found(), Search::Limited { choices: choosing.choices })
}

/// How many ways there are to choose `size` of `regions`.
fn choices(regions: usize, size: usize) -> usize {
    (0..size).fold(1, |ways, i| ways * (regions - i) / (i + 1))
}
