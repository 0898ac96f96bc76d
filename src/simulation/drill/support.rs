//! Which part of a scenario a drill can do: real processes on a real machine have one clock, disks
//! that do as they are told, and power. What it can't do is refused, never left out in silence.

use std::collections::BTreeSet;

use super::site::SMALL_DISK_LEN;
use crate::model::NodeName;
use crate::simulation::scenario::{FaultKind, Scenario, Unsynced};

/// Faults of a scenario that a drill can't do, in words. Empty: it can be drilled.
///
/// A crash that loses unsynced writes is done as `kill -9`, which keeps them: see [`weaker`].
pub fn unsupported(scenario: &Scenario) -> Vec<String> {
    let timed = scenario.faults.iter().filter_map(|timed| {
        let why = refusal(&timed.fault)?;
        Some(format!("the fault at {:?}: {why}", timed.at))
    });
    let kinds = scenario.nemesis.iter().flat_map(|nemesis| &nemesis.kinds);
    let drawn = kinds.filter(|(_, share)| **share > 0.0).filter_map(|(kind, _)| {
        let why = refusal_of_kind(kind)?;
        Some(format!("the nemesis' `{kind}`: {why}"))
    });
    let bounds = (!scenario.expect.bounds.most.is_empty())
        .then(|| "[expect.bounds]: what nodes hold on to is counted in a simulation alone".into());
    timed.chain(drawn).chain(bounds).collect()
}

/// Faults of a scenario that are less in a drill than in a simulation, in words.
pub fn weaker(scenario: &Scenario) -> Vec<String> {
    let loses =
        |fault: &FaultKind| matches!(fault, FaultKind::Crash { unsynced: Unsynced::Lose, .. });
    let timed = scenario.faults.iter().filter(|timed| loses(&timed.fault)).map(|timed| {
        format!("the crash at {:?} is a kill -9: writes that were not synced stay", timed.at)
    });
    let small = small_disks(scenario).into_iter().map(|node| {
        let mib = SMALL_DISK_LEN / 1024 / 1024;
        format!("the disk of {node} is {mib} MiB of memory, so that it can be full")
    });
    timed.chain(small).collect()
}

/// The nodes that need a small disk ([`super::DrillSettings::small_disks`]).
pub fn small_disks(scenario: &Scenario) -> BTreeSet<NodeName> {
    let drawn = scenario.nemesis.as_ref().and_then(|nemesis| nemesis.kinds.get("disk_full"));
    if drawn.is_some_and(|share| *share > 0.0) {
        return scenario.topology.nodes().iter().map(|node| node.name.clone()).collect();
    }
    let full = scenario.faults.iter().filter_map(|timed| match &timed.fault {
        FaultKind::DiskFull { node } => Some(node.clone()),
        _ => None,
    });
    full.collect()
}

const CLOCK: &str = "all nodes have this machine's clock, which a drill does not touch";
const CA: &str = "the certificates of a drill are made once";
const JOINS: &str = "the nodes of a drill are those of its topology";
const RELEASE: &str = "a drill runs this build of the program alone";
const DISK: &str = "the disk is this machine's, which a drill does not break";

/// Why a drill can't do that.
fn refusal(fault: &FaultKind) -> Option<&'static str> {
    match fault {
        FaultKind::Partition { .. }
        | FaultKind::Isolate { .. }
        | FaultKind::OneWay { .. }
        | FaultKind::Bridge { .. }
        | FaultKind::Flapping { .. }
        | FaultKind::Link { .. }
        | FaultKind::Hold { .. }
        | FaultKind::Crash { unsynced: Unsynced::Keep | Unsynced::Lose, .. }
        | FaultKind::Stop { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Slow { .. }
        | FaultKind::DiskFull { .. }
        | FaultKind::OldCopy { .. }
        | FaultKind::Wipe { .. }
        | FaultKind::CertificateExpiry { .. }
        | FaultKind::RotateMasterKey
        | FaultKind::Revoke
        | FaultKind::Voters { .. } => None,
        FaultKind::Crash { unsynced: Unsynced::Tear, .. } => {
            Some("kill -9 tears no write: only a loss of power does")
        }
        FaultKind::DiskError { .. } | FaultKind::LyingFsync { .. } => Some(DISK),
        FaultKind::ClockStep { .. } | FaultKind::ClockDrift { .. } => Some(CLOCK),
        FaultKind::RotateCa => Some(CA),
        FaultKind::Absent { .. } => Some(JOINS),
        FaultKind::Previous { .. } => Some(RELEASE),
    }
}

/// The same for a kind by its name in the file.
fn refusal_of_kind(kind: &str) -> Option<&'static str> {
    match kind {
        "disk_error" | "lying_fsync" => Some(DISK),
        "clock_step" | "clock_drift" => Some(CLOCK),
        "rotate_ca" => Some(CA),
        "absent" => Some(JOINS),
        "previous" => Some(RELEASE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::RegionName;
    use crate::simulation::scenario::{
        Bounds, Expectations, FAULT_KINDS, Nemesis, TimedFault, Workload,
    };
    use crate::topology::Topology;

    fn scenario(faults: Vec<FaultKind>, kinds: &[(&str, f64)]) -> Scenario {
        let text = include_str!("../../../regions/three-continents.toml");
        let second = Duration::from_secs(1);
        let timed = |fault| TimedFault { at: second, lasts: Some(second), fault };
        let kinds = kinds.iter().map(|(kind, share)| ((*kind).to_owned(), *share));
        let nemesis = Nemesis {
            per_minute: 1.0,
            lasts: (second, second),
            kinds: kinds.collect(),
            from: second,
        };
        Scenario {
            name: "x".into(),
            claim: "x".into(),
            topology: Arc::new(Topology::parse("t", text).unwrap()),
            hash: String::new(),
            duration: 10 * second,
            settle: second,
            workload: workload(),
            faults: faults.into_iter().map(timed).collect(),
            nemesis: Some(nemesis),
            settings: String::new(),
            expect: Expectations {
                converge_within: second,
                checks: BTreeSet::new(),
                coverage: BTreeSet::new(),
                lost_regions: BTreeSet::new(),
                void_nodes: BTreeSet::new(),
                revocation_within: second,
                bounds: Bounds::default(),
            },
        }
    }

    fn workload() -> Workload {
        Workload {
            documents: 1,
            keys: 1,
            key_skew: 0.0,
            value_bytes: 1,
            config_writes: 0.0,
            keys_per_write: 1,
            config_reads: 0.0,
            config_removes: 0.0,
            cas: 0.0,
            ack: None,
            watchers: 0,
            watchers_move_every: Duration::ZERO,
            session_clients: 0,
            session_rate: 0.0,
            session_moves: 0.0,
            secrets: 0,
            secret_writes: 0.0,
            secret_reads: 0.0,
            secret_removes: 0.0,
            secret_local_reads: 0.0,
            role_writes: 0.0,
            role_reads: 0.0,
            revocations: 0.0,
            account_requests: 0.0,
            retries: 0.0,
            regions: BTreeSet::new(),
            history: None,
        }
    }

    fn node() -> NodeName {
        NodeName::new("eu-west-1").unwrap()
    }

    #[test]
    fn what_a_drill_cannot_do_is_listed_one_by_one() {
        let faults = vec![
            FaultKind::Wipe { node: node() },
            FaultKind::ClockStep { node: node(), by_ms: 1 },
            FaultKind::LyingFsync { node: node() },
            FaultKind::Crash { node: node(), unsynced: Unsynced::Tear },
            FaultKind::Crash { node: node(), unsynced: Unsynced::Lose },
        ];
        let kinds = [("partition", 1.0), ("clock_drift", 0.5), ("disk_error", 0.0)];
        let scenario = scenario(faults, &kinds);
        let list = unsupported(&scenario);
        assert_eq!(list.len(), 4, "{list:#?}");
        assert!(list[0].starts_with("the fault at 1s: all nodes have this machine's clock"));
        assert!(list[3].starts_with("the nemesis' `clock_drift`: "));
        assert_eq!(weaker(&scenario).len(), 1);
    }

    #[test]
    fn a_kind_is_refused_by_its_name_as_the_fault_itself_is() {
        let refused = [
            FaultKind::DiskError { node: node() },
            FaultKind::LyingFsync { node: node() },
            FaultKind::ClockStep { node: node(), by_ms: 1 },
            FaultKind::ClockDrift { node: node(), ppm: 1 },
            FaultKind::RotateCa,
            FaultKind::Absent { node: node(), region: RegionName::new("eu-west").unwrap() },
            FaultKind::Previous { nodes: [node()].into() },
        ];
        for fault in &refused {
            assert_eq!(refusal_of_kind(fault.kind_name()), refusal(fault), "{fault:?}");
        }
        let names = refused.map(|fault| fault.kind_name());
        for kind in FAULT_KINDS {
            assert_eq!(refusal_of_kind(kind).is_some(), names.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn nodes_whose_disk_is_to_be_full_have_a_small_one() {
        let one = scenario(vec![FaultKind::DiskFull { node: node() }], &[("disk_full", 0.0)]);
        assert_eq!(small_disks(&one), [node()].into());
        assert_eq!((unsupported(&one).len(), weaker(&one).len()), (0, 1));
        assert_eq!(small_disks(&scenario(vec![], &[("disk_full", 1.0)])).len(), 3);
    }
}
