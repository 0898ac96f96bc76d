//! Who belongs to the cluster: at the end all nodes know the same members, those that are there and no
//! others. A node that the topology's file names is a member also while it is down.

use std::collections::BTreeSet;

use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Probe};

pub(crate) const CHECK: Check = Check {
    name: "members",
    claim: "At the end every node knows the same members: those that are there, and nobody who left.",
    run,
};

fn run(history: &History<'_>, judge: &mut Judge) {
    let last = |node: &str| history.probes.get(node).and_then(|probes| probes.last()).copied();
    let is_up = |node: &str| last(node).is_some_and(|(_, probe)| probe.up);
    let members = history.run.nodes.iter().filter(|it| !it.joined || is_up(&it.node));
    let wanted: BTreeSet<&str> = members.map(|it| &*it.node).collect();
    for it in history.run.nodes.iter().filter(|it| !history.is_lost(&it.node)) {
        let Some((at_us, probe)) = last(&it.node) else { continue };
        if !probe.up || probe.members.is_empty() {
            continue;
        }
        judge.examine();
        let wrong = wrong(history, &wanted, probe);
        if !wrong.is_empty() {
            let what = format!("at the end {} {}", it.node, wrong.join(", and "));
            complain(judge, at_us, &it.node, what);
        }
    }
}

/// What a node knows otherwise than it is. Of regions that are lost it may know whatever it did.
fn wrong(history: &History<'_>, wanted: &BTreeSet<&str>, probe: &Probe) -> Vec<String> {
    let known: BTreeSet<&str> = probe.members.iter().map(|name| &**name).collect();
    let counts = |node: &&&str| !history.is_lost(node);
    let missing = wanted.difference(&known).filter(counts);
    let more = known.difference(wanted).filter(counts);
    missing
        .map(|node| format!("does not know {node}, which is there"))
        .chain(more.map(|node| format!("takes {node} for a member, which is not there")))
        .collect()
}

fn complain(judge: &mut Judge, at_us: AtUs, node: &str, what: String) {
    judge.violation(at_us, &[], &[node], what);
}

#[cfg(test)]
mod tests {
    use super::super::Judgement;
    use super::super::testing::{Build, S, probe};
    use super::*;
    use crate::simulation::history::RunNode;

    fn knows(node: &str, members: &[&str]) -> Probe {
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        Probe { members, ..probe(node, &[], "") }
    }

    /// `a-1`, `b-1` and `c-1` are of the file; `d-1` joined.
    fn history() -> Build {
        let mut it = Build::default();
        let (node, region) = ("d-1".to_owned(), "a".to_owned());
        it.run.nodes.push(RunNode { node, region, voter: false, joined: true });
        it
    }

    #[test]
    fn all_know_who_is_there() {
        let all = ["a-1", "b-1", "c-1", "d-1"];
        let mut it = history();
        for node in all {
            it.probe(80 * S, knows(node, &all));
        }
        it.passes(CHECK);
        it.probe(81 * S, knows("b-1", &all[..3]));
        it.violates(CHECK, "b-1 does not know d-1, which is there");
    }

    #[test]
    fn nobody_knows_who_left() {
        let named = ["a-1", "b-1", "c-1"];
        let mut it = history();
        it.probe(80 * S, Probe { up: false, ..knows("d-1", &[]) });
        for node in named {
            it.probe(80 * S, knows(node, &named));
        }
        it.passes(CHECK);
        it.probe(81 * S, knows("a-1", &["a-1", "b-1", "c-1", "d-1"]));
        it.violates(CHECK, "a-1 takes d-1 for a member, which is not there");
    }

    #[test]
    fn a_history_that_does_not_say_who_is_a_member_has_no_case() {
        let mut it = history();
        it.probe(80 * S, probe("a-1", &[], ""));
        assert!(matches!(it.judge(CHECK), Judgement::NotExercised { .. }));
    }
}
