//! Draws faults from a seed. The same seed draws the same faults, and none of them contradicts
//! another or the scenario's own. It draws nothing whose damage a scenario has to announce (a lying
//! fsync, an old copy, a wiped disk), and always leaves a node that runs.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use super::timeline::overlap;
use super::{FAULTS_MAX, FaultKind, Lasting, LinkQuality, Nemesis, Scenario, TimedFault, Unsynced};
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

/// How often a fault is drawn anew because it contradicted others, before it is given up.
const TRIES_MAX: usize = 16;
/// Clock steps that are drawn, either way: from just past what is tolerated to a day.
const CLOCK_STEPS_MS: [i64; 5] = [700, 5_000, 60_000, 3_600_000, 86_400_000];
/// Smallest MTU that is drawn: below it QUIC never connects, which is a cut and not a small link.
const MTU_MIN: u16 = 1_200;

impl Scenario {
    /// The scenario's own faults and those that its nemesis draws from `seed`, by their beginning.
    pub fn faults_of_seed(&self, seed: u64) -> Vec<TimedFault> {
        let mut faults = self.faults.clone();
        if let Some(nemesis) = &self.nemesis {
            faults.extend(nemesis.draw(seed, &self.faults, &self.topology, self.duration));
        }
        faults.sort_by_key(|fault| fault.at);
        faults
    }
}

impl Nemesis {
    /// Faults from `seed`, by their beginning. With `timeline` they pass [`super::check_timeline`]
    /// if `timeline` does.
    pub fn draw(
        &self,
        seed: u64,
        timeline: &[TimedFault],
        topology: &Topology,
        duration: Duration,
    ) -> Vec<TimedFault> {
        let mut draw = Draw::new(seed, topology);
        let mut all: Vec<TimedFault> = timeline.to_vec();
        let mut at = millis(self.from);
        let end = millis(duration);
        let (shortest, longest) = (millis(self.lasts.0).max(1), millis(self.lasts.1).max(1));
        while all.len() < FAULTS_MAX {
            at = at.saturating_add(draw.gap(self.per_minute));
            let rest = end.saturating_sub(at);
            if rest < shortest || rest == 0 {
                break;
            }
            let fault = (0..TRIES_MAX).find_map(|_| {
                let fault = draw.fault(self)?;
                let lasts = draw.rng.random_range(shortest..=longest.clamp(shortest, rest));
                let lasts = (fault.lasting() != Lasting::AtOnce).then_some(lasts);
                let lasts = lasts.map(Duration::from_millis);
                let fault = TimedFault { at: Duration::from_millis(at), lasts, fault };
                fits(&fault, &all, topology).then_some(fault)
            });
            all.extend(fault);
        }
        all.split_off(timeline.len())
    }
}

/// Whether it contradicts none of `others`, and a node runs at each moment of it.
fn fits(fault: &TimedFault, others: &[TimedFault], topology: &Topology) -> bool {
    let resources = fault.fault.resources(topology);
    let beside = || others.iter().filter(|other| overlap(other, fault));
    if beside().any(|other| !other.fault.resources(topology).is_disjoint(&resources)) {
        return false;
    }
    let mut down = fault.fault.nodes_down();
    if down.is_empty() {
        return true;
    }
    // Some of them may be down one after the other only: then this is more careful than it has to.
    down.extend(beside().flat_map(|other| other.fault.nodes_down()));
    down.len() < topology.nodes().len()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is drawn from.
struct Draw {
    rng: StdRng,
    regions: Vec<RegionName>,
    nodes: Vec<NodeName>,
}

impl Draw {
    fn new(seed: u64, topology: &Topology) -> Self {
        // Others draw from the same seed: nobody's stream may be a part of another's.
        let stream = Sha256::new().chain_update("nemesis").chain_update(seed.to_be_bytes());
        Self {
            rng: StdRng::from_seed(stream.finalize().into()),
            regions: topology.regions().iter().map(|region| region.name.clone()).collect(),
            nodes: topology.nodes().iter().map(|node| node.name.clone()).collect(),
        }
    }

    /// Milliseconds to the next fault: evenly from none to twice the mean. A logarithm would give
    /// the usual law, and other bits on another machine.
    fn gap(&mut self, per_minute: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let mean = (60_000.0 / per_minute) as u64;
        self.rng.random_range(0..=mean.saturating_mul(2)).max(1)
    }

    /// A kind by its weight, and what it takes. None where the topology is too small for it.
    fn fault(&mut self, nemesis: &Nemesis) -> Option<FaultKind> {
        let sum: f64 = nemesis.kinds.values().sum();
        let mut rest = self.rng.random::<f64>() * sum;
        let kind = nemesis.kinds.iter().find(|(_, weight)| {
            rest -= **weight;
            rest < 0.0
        });
        let kind = kind.or(nemesis.kinds.iter().next_back())?.0;
        match &**kind {
            "partition" | "isolate" | "one_way" | "bridge" | "flapping" | "link" | "hold" => {
                self.link_fault(kind)
            }
            _ => self.node_fault(kind),
        }
    }

    fn link_fault(&mut self, kind: &str) -> Option<FaultKind> {
        let mut regions = self.regions.clone();
        regions.shuffle(&mut self.rng);
        let (a, b) = match &regions[..] {
            [a, b, ..] => (a.clone(), b.clone()),
            _ => return None,
        };
        let count = regions.len();
        Some(match kind {
            "partition" => {
                let cut = self.rng.random_range(1..count);
                let groups = [&regions[..cut], &regions[cut..]];
                let group =
                    |names: &[RegionName]| -> BTreeSet<_> { names.iter().cloned().collect() };
                FaultKind::Partition { groups: groups.map(group).to_vec() }
            }
            "isolate" => {
                let alone = if count > 3 { self.rng.random_range(1..=2) } else { 1 };
                FaultKind::Isolate { regions: regions.into_iter().take(alone).collect() }
            }
            "bridge" if count < 3 => return None,
            "bridge" => FaultKind::Bridge { via: a },
            "one_way" => FaultKind::OneWay { from: a, to: b },
            "hold" => FaultKind::Hold { from: a, to: b },
            "flapping" => {
                let (a, b) = ordered(a, b);
                FaultKind::Flapping { a, b, every: self.millis(100, 2_000) }
            }
            _ => {
                let (a, b) = match self.rng.random_range(0..3) {
                    0 => (None, None),
                    1 => (Some(a), None),
                    _ => {
                        let (a, b) = ordered(a, b);
                        (Some(a), Some(b))
                    }
                };
                FaultKind::Link { a, b, quality: self.quality() }
            }
        })
    }

    fn node_fault(&mut self, kind: &str) -> Option<FaultKind> {
        let node = self.nodes.choose(&mut self.rng)?.clone();
        Some(match kind {
            "crash" => {
                let fates = [Unsynced::Keep, Unsynced::Lose, Unsynced::Tear];
                let unsynced = fates[self.rng.random_range(0..fates.len())];
                FaultKind::Crash { node, unsynced }
            }
            "stop" => FaultKind::Stop { node },
            "pause" => FaultKind::Pause { node },
            "slow" => FaultKind::Slow { node, factor: self.rng.random_range(2..=50) },
            "disk_full" => FaultKind::DiskFull { node },
            "disk_error" => FaultKind::DiskError { node },
            "clock_step" => {
                let step = CLOCK_STEPS_MS[self.rng.random_range(0..CLOCK_STEPS_MS.len())];
                let by_ms = if self.rng.random() { step } else { -step };
                FaultKind::ClockStep { node, by_ms }
            }
            "clock_drift" => {
                let ppm = self.rng.random_range(50..=20_000);
                FaultKind::ClockDrift { node, ppm: if self.rng.random() { ppm } else { -ppm } }
            }
            "certificate_expiry" => FaultKind::CertificateExpiry { nodes: [node].into() },
            "rotate_master_key" => FaultKind::RotateMasterKey,
            "revoke" => FaultKind::Revoke,
            // Voters are not taken away: drawn often enough, that would leave one.
            "voters" => FaultKind::Voters { add: None, remove: None, transfer: Some(node) },
            _ => return None,
        })
    }

    /// One to three things that are bad about a link.
    fn quality(&mut self) -> LinkQuality {
        let mut quality = LinkQuality::default();
        for _ in 0..self.rng.random_range(1..=3) {
            match self.rng.random_range(0..7) {
                0 => quality.extra = Some(self.millis(20, 500)),
                1 => quality.jitter = Some(self.millis(1, 100)),
                2 => quality.loss = Some(self.percent(30)),
                3 => quality.duplicate = Some(self.percent(20)),
                4 => quality.reorder = Some(self.percent(30)),
                5 => quality.bandwidth = Some(self.rng.random_range(20_000..=500_000)),
                _ => quality.mtu = Some(self.rng.random_range(MTU_MIN..=1_400)),
            }
        }
        quality
    }

    fn millis(&mut self, min: u64, max: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(min..=max))
    }

    fn percent(&mut self, max: u32) -> f64 {
        f64::from(self.rng.random_range(1..=max)) / 100.0
    }
}

/// The ends of a link, the lesser one first, as a file's reader gives them.
fn ordered(a: RegionName, b: RegionName) -> (RegionName, RegionName) {
    if a < b { (a, b) } else { (b, a) }
}

#[cfg(test)]
mod tests;
