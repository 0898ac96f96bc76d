//! The first record of a history: what is run, where, and what is expected of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Script, micros};
use crate::model::NodeName;
use crate::quorum::first_voters;
use crate::simulation::history::{FORMAT, Kept, Run, RunDelay, RunNode};

/// What an island goes on for after its last contact, besides a token's own time.
const REVOCATION_ON_ISLAND: Duration = Duration::from_secs(24 * 3_600 + 15 * 60 + 30);

impl Script<'_> {
    pub(super) fn description(&self) -> Run {
        let (scenario, topology) = (self.scenario, &self.scenario.topology);
        let voters: BTreeSet<NodeName> =
            first_voters(topology).into_iter().map(|node| node.name.clone()).collect();
        let nodes = topology.nodes().iter().map(|node| RunNode {
            node: node.name.to_string(),
            region: node.region.to_string(),
            voter: voters.contains(&node.name),
            joined: node.joined,
        });
        let regions = topology.regions();
        let pairs = regions.iter().enumerate().flat_map(|(i, a)| {
            regions.iter().skip(i + 1).map(move |b| (a.name.clone(), b.name.clone()))
        });
        let delays = pairs.map(|(a, b)| RunDelay {
            one_way_us: micros(topology.rtt(&a, &b)) / 2,
            a: a.to_string(),
            b: b.to_string(),
        });
        let mut options = Vec::new();
        if let Some(until) = self.options.until {
            options.push(format!("--until {}ms", until.as_millis()));
        }
        if self.options.faults.is_some() {
            options.push("shrunk".to_owned());
        }
        Run {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.name.clone(),
            claim: scenario.claim.clone(),
            scenario_hash: scenario.hash.clone(),
            seed: self.options.seed,
            options,
            again: self.options.again.clone(),
            nodes: nodes.collect(),
            delays: delays.collect(),
            faults_end_us: micros(self.duration),
            end_us: micros(self.end()),
            converge_within_us: micros(scenario.expect.converge_within),
            lost_regions: scenario.expect.lost_regions.iter().map(ToString::to_string).collect(),
            revocation_within_us: micros(scenario.expect.revocation_within),
            revocation_within_on_island_us: micros(REVOCATION_ON_ISLAND),
            void_nodes: scenario.expect.void_nodes.iter().map(ToString::to_string).collect(),
            coverage: scenario.expect.coverage.clone(),
            checks: scenario.expect.checks.clone(),
            history: scenario.workload.history.map(|policy| Kept {
                versions: policy.versions,
                age_us: policy.age_s.saturating_mul(1_000_000),
            }),
            bounds: scenario.expect.bounds.most.clone(),
            bounds_from_us: micros(scenario.expect.bounds.from),
        }
    }
}
