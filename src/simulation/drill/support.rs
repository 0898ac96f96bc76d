//! Which part of a scenario a drill can do: real processes on a real machine have one clock, disks
//! that do as they are told, and power. What it can't do is refused, never left out in silence.

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
    timed.chain(drawn).collect()
}

/// Faults of a scenario that are less in a drill than in a simulation, in words.
pub fn weaker(scenario: &Scenario) -> Vec<String> {
    let loses =
        |fault: &FaultKind| matches!(fault, FaultKind::Crash { unsynced: Unsynced::Lose, .. });
    let timed = scenario.faults.iter().filter(|timed| loses(&timed.fault)).map(|timed| {
        format!("the crash at {:?} is a kill -9: writes that were not synced stay", timed.at)
    });
    timed.collect()
}

const CLOCK: &str = "all nodes have this machine's clock, which a drill does not touch";
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
        | FaultKind::OldCopy { .. }
        | FaultKind::Wipe { .. }
        | FaultKind::CertificateExpiry { .. }
        | FaultKind::RotateMasterKey
        | FaultKind::Revoke
        | FaultKind::Voters { .. } => None,
        FaultKind::Crash { unsynced: Unsynced::Tear, .. } => {
            Some("kill -9 tears no write: only a loss of power does")
        }
        FaultKind::DiskFull { .. } | FaultKind::DiskError { .. } | FaultKind::LyingFsync { .. } => {
            Some(DISK)
        }
        FaultKind::ClockStep { .. } | FaultKind::ClockDrift { .. } => Some(CLOCK),
    }
}

/// The same for a kind by its name in the file.
fn refusal_of_kind(kind: &str) -> Option<&'static str> {
    match kind {
        "disk_full" | "disk_error" | "lying_fsync" => Some(DISK),
        "clock_step" | "clock_drift" => Some(CLOCK),
        _ => None,
    }
}
