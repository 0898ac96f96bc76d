//! No node refuses another's change, unless a disk explains it that lied, was put back or was wiped:
//! nobody else makes two changes under one number, or changes that nobody can read.

use super::entries::at;
use super::index::DISK_LOST;
use super::{Check, History, Judge};
use crate::simulation::history::AtUs;

pub(crate) const CHECK: Check = Check {
    name: "quarantine",
    claim: "No change of another node is refused, unless a disk was lost or lied before.",
    run,
};

fn run(history: &History<'_>, judge: &mut Judge) {
    let from = explained_from(history);
    let mut explained = 0;
    for (node, probes) in &history.probes {
        let mut is_told = false;
        for (at_us, probe) in probes.iter().filter(|(_, it)| it.up) {
            judge.examine();
            if probe.quarantined == 0 {
                continue;
            }
            if from.is_some_and(|from| *at_us >= from) {
                explained += 1;
                break;
            }
            if !is_told {
                is_told = true;
                let (count, forks) = (probe.quarantined, probe.forks);
                let what = format!(
                    "at {} {node} had refused {count} changes of others, {forks} of them second ones \
                     under one number, and no disk explains it",
                    at(*at_us)
                );
                judge.violation(*at_us, &[], &[node], what);
            }
        }
    }
    match explained {
        0 => {}
        1 => judge.note("1 node refused changes after a disk was lost or lied"),
        count => judge.note(format!("{count} nodes refused changes after a disk was lost or lied")),
    }
}

/// From when on there may be changes that have to be refused: the promises of a disk were void.
fn explained_from(history: &History<'_>) -> Option<AtUs> {
    let lost = history.faults.iter().filter(|span| DISK_LOST.contains(&&*span.fault.kind));
    let first = lost.map(|span| span.from_us).min();
    // Where nobody says when.
    first.or_else(|| (!history.run.void_nodes.is_empty()).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, S, down, probe};
    use super::*;
    use crate::simulation::history::Probe;

    fn refused(it: &mut Build, at_us: AtUs, quarantined: u64) {
        let forks = quarantined;
        it.probe(at_us, Probe { quarantined, forks, ..probe("a-1", &[], "") });
    }

    #[test]
    fn a_cluster_that_refuses_nothing_passes() {
        let mut it = Build::default();
        refused(&mut it, 5 * S, 0);
        it.passes(CHECK);
    }

    #[test]
    fn a_refused_change_without_a_reason_is_found_once() {
        let mut it = Build::default();
        refused(&mut it, 5 * S, 0);
        refused(&mut it, 6 * S, 2);
        refused(&mut it, 7 * S, 3);
        let found =
            it.violates(CHECK, "a-1 had refused 2 changes of others, 2 of them second ones");
        assert_eq!((found.at_us, found.nodes), (6 * S, vec!["a-1".to_owned()]));
        // A crash loses nothing that was on disk.
        it.fault(2 * S, Some(3 * S), down(1, "crash", "b-1"));
        it.violates(CHECK, "a-1 had refused 2");
    }

    #[test]
    fn a_lost_disk_explains_what_is_refused_after_it_and_nothing_before() {
        for kind in ["old_copy", "wipe", "lying_fsync"] {
            let mut it = Build::default();
            it.fault(4 * S, Some(5 * S), down(1, kind, "b-1"));
            refused(&mut it, 6 * S, 1);
            it.passes(CHECK);
            refused(&mut it, 3 * S, 1);
            it.violates(CHECK, "at 3.000 s a-1 had refused 1 changes");
        }
        let mut it = Build::default();
        it.run.void_nodes = ["b-1".to_owned()].into();
        refused(&mut it, 6 * S, 1);
        it.passes(CHECK);
    }
}
