//! One leader a term, and terms that only grow.

use std::collections::BTreeMap;

use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Probe};

pub(crate) const CHECK: Check = Check {
    name: "leadership",
    claim: "No term has two leaders, and no node's term goes back unless its disk was lost.",
    run,
};

fn run(history: &History<'_>, judge: &mut Judge) {
    let mut leaders: BTreeMap<u64, (&str, AtUs)> = BTreeMap::new();
    for (at_us, probe) in by_time(history) {
        judge.examine();
        if probe.role != "leader" {
            continue;
        }
        let (other, since) = *leaders.entry(probe.term).or_insert((&probe.node, at_us));
        if other != probe.node {
            let (node, term) = (&*probe.node, probe.term);
            let since = super::entries::at(since);
            let what = format!("{node} leads in term {term}, in which {other} led at {since}");
            judge.violation(at_us, &[], &[other, node], what);
            // Once a pair is enough.
            leaders.insert(term, (&probe.node, at_us));
        }
    }
    let mut terms: BTreeMap<&str, (u64, AtUs)> = BTreeMap::new();
    for (at_us, probe) in by_time(history) {
        let node = &*probe.node;
        if let Some((term, before)) = terms.insert(node, (probe.term, at_us))
            && probe.term < term
            && !disk_lost_between(history, node, at_us)
        {
            let back = format!("{node}'s term goes back from {term} to {}", probe.term);
            let what = format!("{back} after {}", super::entries::at(before));
            judge.violation(at_us, &[], &[node], what);
        }
    }
}

/// What nodes say that take part in the quorum, by time.
fn by_time<'a>(history: &History<'a>) -> Vec<(AtUs, &'a Probe)> {
    let takes_part = |probe: &Probe| {
        probe.up && ["leader", "follower", "candidate", "learner"].contains(&&*probe.role)
    };
    let all = history.probes.values().flatten().copied();
    let mut all: Vec<_> = all.filter(|(_, probe)| takes_part(probe)).collect();
    all.sort_by_key(|(at_us, _)| *at_us);
    all
}

/// Whether the node's disk was lost at any time before.
fn disk_lost_between(history: &History<'_>, node: &str, at_us: AtUs) -> bool {
    history.is_void(node) || history.disk_lost_after(node, 0).is_some_and(|lost| lost <= at_us)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, S, down, probe};
    use super::*;

    fn stands(node: &str, role: &str, term: u64) -> Probe {
        Probe { role: role.to_owned(), term, ..probe(node, &[], "") }
    }

    fn good() -> Build {
        let mut it = Build::default();
        it.probe(S, stands("a-1", "leader", 1)).probe(S, stands("b-1", "follower", 1));
        it.probe(2 * S, stands("a-1", "leader", 1)).probe(2 * S, stands("b-1", "leader", 2));
        it.probe(3 * S, Probe { up: false, role: String::new(), ..stands("a-1", "", 0) });
        it.probe(4 * S, stands("a-1", "starting", 0));
        it.probe(5 * S, stands("a-1", "follower", 2));
        it
    }

    #[test]
    fn an_old_leader_that_does_not_know_passes() {
        good().passes(CHECK);
    }

    #[test]
    fn two_leaders_in_one_term_are_found() {
        let mut it = good();
        it.probe(6 * S, stands("c-1", "leader", 2));
        it.probe(7 * S, stands("c-1", "leader", 2));
        let found = it.violates(CHECK, "c-1 leads in term 2, in which b-1 led at 2.000 s");
        assert_eq!(found.nodes, ["b-1", "c-1"]);
    }

    #[test]
    fn a_term_that_goes_back_is_found() {
        let mut it = good();
        it.probe(6 * S, stands("a-1", "learner", 1));
        it.violates(CHECK, "a-1's term goes back from 2 to 1 after 5.000 s");
        it.fault(5 * S, Some(6 * S), down(1, "wipe", "a-1"));
        it.passes(CHECK);
    }
}
