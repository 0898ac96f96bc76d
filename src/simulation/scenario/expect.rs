//! Reads `[expect]`: what has to hold, and what has to have happened.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;

use super::bounds;
use super::error::{Flaw, shown};
use super::fault::{Names, Placed};
use super::reader::{Problems, Value};
use super::{Bounds, CHECKS, Expectations, FaultKind, Lasting, TimedFault};
use crate::model::RegionName;
use crate::simulation::history::Coverage;
use crate::topology::Topology;

/// How soon all regions agree after healing, where a file does not say.
const CONVERGE_WITHIN: Duration = Duration::from_secs(5);
/// How soon a revocation is in force, where a file does not say.
const REVOCATION_WITHIN: Duration = Duration::from_secs(5);
/// How much longer than `converge_within` a run has to settle: what is written after healing, to see
/// that everything works, has to be everywhere and answered before the end.
pub(crate) const SETTLE_MORE: Duration = Duration::from_secs(4);
/// Shortest bound that makes sense.
const BOUND_MIN: Duration = Duration::from_millis(1);

/// What can be demanded to have happened, by name.
const COVERAGE: [&str; 32] = [
    "conflict",
    "divergence",
    "island_write",
    "quorum_refused",
    "leader_change",
    "session_moved",
    "session_refused",
    "watch_resumed",
    "watch_sent",
    "joined",
    "evicted",
    "restart",
    "disk_full",
    "new_origin",
    "revocation_seen",
    "revocation_during_cut",
    "cas_refused",
    "outcome_unknown",
    "retry_settled",
    "damage_detected",
    "voters_changed",
    "keys_rotated",
    "certificate_refused",
    "clock_overruled",
    "file_rebuilt",
    "epoch_rolled",
    "roll_during_cut",
    "late_change",
    "roll_finished",
    "log_trimmed",
    "history_pruned",
    "documents_taken",
];

/// Reads the table; `value` is none where the file has none.
pub(super) fn read(value: Option<&Value<'_>>, names: Names<'_>) -> Expected {
    let mut expect = Expectations {
        converge_within: CONVERGE_WITHIN,
        checks: CHECKS.iter().map(|&name| name.to_owned()).collect(),
        coverage: BTreeSet::new(),
        lost_regions: BTreeSet::new(),
        void_nodes: BTreeSet::new(),
        revocation_within: REVOCATION_WITHIN,
        bounds: Bounds::default(),
    };
    let Some(mut fields) = value.and_then(|value| value.table("[expect]")) else {
        return Expected { expect, lost_at: 0, converge_at: 0 };
    };
    let converge_at = fields.get("converge_within").map_or(fields.at, |value| value.at());
    expect.converge_within =
        fields.duration("converge_within", CONVERGE_WITHIN, BOUND_MIN..=super::DURATION_MAX);
    expect.revocation_within =
        fields.duration("revocation_within", REVOCATION_WITHIN, BOUND_MIN..=super::DURATION_MAX);
    if let Some(checks) = fields.get("checks") {
        expect.checks = words(&checks, "check", &CHECKS);
        if checks.raw().get_ref().as_array().is_some_and(|list| list.is_empty()) {
            checks.refuse::<()>(format!("one check at least, of {}", CHECKS.join(", ")));
        }
    }
    if let Some(coverage) = fields.get("coverage") {
        let words = words(&coverage, "coverage", &COVERAGE);
        expect.coverage = words.iter().filter_map(|name| named(name)).collect();
        if !expect.checks.contains("coverage") && !expect.coverage.is_empty() {
            let text = "`coverage` is demanded, but the check \"coverage\" is not among `checks`";
            coverage.add(Flaw::Together(text.to_owned()));
        }
    }
    let mut lost_at = fields.at;
    if let Some(value) = fields.get("lost_regions") {
        lost_at = value.at();
        expect.lost_regions = names.regions(&value).unwrap_or_default();
    }
    if let Some(nodes) = fields.get("void_nodes").and_then(|value| names.nodes(&value)) {
        expect.void_nodes.extend(nodes);
    }
    if let Some(value) = fields.get("bounds") {
        expect.bounds = bounds::read(&value);
    }
    fields.finish("field of [expect]");
    Expected { expect, lost_at, converge_at }
}

/// What has to hold, before the faults are known.
pub(super) struct Expected {
    pub(super) expect: Expectations,
    /// Where the lost regions are named.
    lost_at: usize,
    /// Where it stands how soon all agree.
    converge_at: usize,
}

impl Expected {
    /// A run that settles too shortly may end undecided. `settle_at` is none where the file does not
    /// say how long it settles.
    pub(super) fn check_settle(
        &self,
        settle: Duration,
        settle_at: Option<usize>,
        problems: &Problems<'_>,
    ) {
        let within = self.expect.converge_within;
        let least = within.saturating_add(SETTLE_MORE);
        if settle < least {
            let text = format!(
                "`settle` is {}, which is too short for a `converge_within` of {}; allowed is {} \
                 ({} more than that) and longer",
                shown(settle),
                shown(within),
                shown(least),
                shown(SETTLE_MORE)
            );
            problems.add(settle_at.unwrap_or(self.converge_at), Flaw::Together(text));
        }
    }

    /// Puts expectations and faults together. A fault without an end ends with the run, unless it
    /// takes nothing but lost regions: then it is for good.
    pub(super) fn settle(
        mut self,
        faults: &mut [Placed],
        topology: &Topology,
        end: Duration,
        problems: &Problems<'_>,
    ) -> Expectations {
        let lost = &self.expect.lost_regions;
        // Who leaves without a time to come back has left.
        let goes_on = |timed: &TimedFault| {
            let leaves = matches!(timed.fault, FaultKind::Absent { .. });
            timed.lasts.is_none() && timed.fault.lasting() == Lasting::GoesOn && !leaves
        };
        for Placed { fault: timed, .. } in faults.iter_mut() {
            if goes_on(timed) && !takes_only(&timed.fault, lost, topology) {
                timed.lasts = Some(end.saturating_sub(timed.at));
            }
        }
        let complain = |text: String| problems.add(self.lost_at, Flaw::Together(text));
        if lost.len() == topology.regions().len() {
            complain("all regions are lost: nobody is left to make progress".to_owned());
        }
        for region in lost {
            let takes = |placed: &Placed| {
                goes_on(&placed.fault) && placed.fault.fault.regions(topology).contains(region)
            };
            if !faults.iter().any(takes) {
                complain(format!(
                    "{region} is to be lost for good, but no fault without `lasts` takes it, and \
                     nothing but lost regions"
                ));
            }
        }
        self.expect.void_nodes.extend(faults.iter().filter_map(void_node));
        self.expect
    }
}

/// What a disk acknowledged that lied, was put back or was wiped may be lost.
fn void_node(placed: &Placed) -> Option<crate::model::NodeName> {
    match &placed.fault.fault {
        FaultKind::LyingFsync { node }
        | FaultKind::OldCopy { node, .. }
        | FaultKind::Wipe { node } => Some(node.clone()),
        _ => None,
    }
}

/// A list of words, each of them known.
fn words(value: &Value<'_>, what: &str, known: &[&'static str]) -> BTreeSet<String> {
    let list = value.list(known.len(), &format!("a list of names of a {what}"));
    let words = list.unwrap_or_default();
    words.iter().filter_map(|value| value.one_of(what, known)).map(str::to_owned).collect()
}

/// The coverage of that name.
fn named(name: &str) -> Option<Coverage> {
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        name.into_deserializer();
    Coverage::deserialize(name).ok()
}

/// Whether the fault takes nothing but what lost regions have to do with.
fn takes_only(fault: &FaultKind, lost: &BTreeSet<RegionName>, topology: &Topology) -> bool {
    let links = fault.links_touched(topology);
    let nodes = fault.nodes();
    let is_lost = |region: Option<&RegionName>| region.is_some_and(|region| lost.contains(region));
    let is_something = !links.is_empty() || !nodes.is_empty();
    is_something
        && links.iter().all(|(from, to)| lost.contains(from) || lost.contains(to))
        && nodes.into_iter().all(|node| is_lost(topology.region_of(node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coverage_has_its_name() {
        let known: BTreeSet<Coverage> = COVERAGE.iter().filter_map(|name| named(name)).collect();
        assert_eq!(known.len(), COVERAGE.len(), "a name is unknown, or there twice");
        // serde lists the names that there are.
        let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            "nothing".into_deserializer();
        let text = Coverage::deserialize(name).unwrap_err().to_string();
        for (i, name) in text.split('`').enumerate().filter(|(i, _)| i % 2 == 1).skip(1) {
            assert!(COVERAGE.contains(&name), "{i}: {name} is missing");
        }
        assert_eq!(text.matches('`').count(), 2 * (COVERAGE.len() + 1));
    }
}
