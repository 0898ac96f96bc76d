//! What must never be found: a plaintext, a broken audit chain, a panic. A scenario that breaks
//! something on purpose says which finding it expects.

use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::Request;

pub(crate) const PLAINTEXT: Check = Check {
    name: "plaintext",
    claim: "No secret's value is ever on a wire or on a disk in the clear.",
    run: plaintext,
};

pub(crate) const AUDIT: Check = Check {
    name: "audit",
    claim: "Every audit chain is whole at the end, unless its disk was lost.",
    run: audit,
};

pub(crate) const OTHERS: Check = Check {
    name: "findings",
    claim: "No node panics, and nothing else is found that the scenario does not expect.",
    run: others,
};

/// Only a secret that was written could be found.
fn plaintext(history: &History<'_>, judge: &mut Judge) {
    kinds(history, judge, |kind| kind == "plaintext");
    let is_write = |it: &&Asked<'_>| matches!(it.call.request, Request::SecretWrite { .. });
    let written = history.calls.iter().filter(is_write).filter(|it| !it.is_refused());
    written.for_each(|_| judge.examine());
    if judge.examined == 0 {
        judge.note("no secret was written");
    }
}

/// Only a node that was seen running could show anything.
fn others(history: &History<'_>, judge: &mut Judge) {
    kinds(history, judge, |kind| kind != "plaintext" && kind != "audit");
    let ran = history.probes.values().filter(|probes| probes.iter().any(|(_, it)| it.up));
    ran.for_each(|_| judge.examine());
    if judge.examined == 0 {
        judge.note("no node was seen running");
    }
}

fn kinds(history: &History<'_>, judge: &mut Judge, wanted: fn(&str) -> bool) {
    let mut expected = 0;
    for (at_us, finding) in history.findings.iter().filter(|(_, it)| wanted(&it.kind)) {
        judge.examine();
        if finding.expected {
            expected += 1;
            continue;
        }
        let what = format!("{}: {}", finding.kind, finding.what);
        judge.violation(*at_us, &[], &[&finding.node], what);
    }
    judge.note(match expected {
        0 => "nothing was found".to_owned(),
        count => format!("{count} findings, all of them expected"),
    });
}

fn audit(history: &History<'_>, judge: &mut Judge) {
    kinds(history, judge, |kind| kind == "audit");
    let mut chains = 0;
    for (node, (at_us, last)) in &history.finals {
        // There the chain shows the loss, as it should.
        let is_lost = history.is_void(node) || history.disk_lost_after(node, 0).is_some();
        for (chain, problem) in &last.audit {
            judge.examine();
            chains += 1;
            if let Some(problem) = problem.as_ref().filter(|_| !is_lost) {
                let what = format!("the audit chain {chain} of {node} is not whole: {problem}");
                judge.violation(*at_us, &[], &[node], what);
            }
        }
    }
    if chains == 0 {
        judge.note("no node showed a chain");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Judgement;
    use super::super::testing::{Build, S, down, probe, secret_write, value};
    use super::*;
    use crate::simulation::history::{Event, Final, Finding};

    fn found(kind: &str, expected: bool) -> Build {
        let finding =
            Finding { kind: kind.into(), node: "b-1".into(), what: "is there".into(), expected };
        let mut it = Build::default();
        it.push(5 * S, Event::Finding(finding));
        it
    }

    fn with_chain(problem: Option<&str>) -> Build {
        let audit = [("b-1/1".to_owned(), problem.map(str::to_owned))].into();
        let mut it = Build::default();
        it.push(89 * S, Event::Final(Final { node: "b-1".into(), audit, ..Final::default() }));
        it
    }

    #[test]
    fn each_finding_is_told_by_its_check_alone() {
        for (kind, check) in
            [("plaintext", PLAINTEXT), ("audit", AUDIT), ("panic", OTHERS), ("store", OTHERS)]
        {
            let it = found(kind, false);
            let violation = it.violates(check, &format!("{kind}: is there"));
            assert_eq!((violation.at_us, violation.nodes), (5 * S, vec!["b-1".to_owned()]));
            for other in [PLAINTEXT, AUDIT, OTHERS].iter().filter(|it| it.name != check.name) {
                assert!(!matches!(it.judge(*other), Judgement::Violation { .. }));
            }
            found(kind, true).passes(check);
        }
    }

    #[test]
    fn what_could_not_be_found_is_no_pass() {
        let mut it = Build::default();
        for check in [PLAINTEXT, AUDIT, OTHERS] {
            assert!(matches!(it.judge(check), Judgement::NotExercised { .. }), "{}", check.name);
        }
        it.ask((S, 2 * S), "a-1", secret_write("s", "x"), value("x", 1));
        it.passes(PLAINTEXT);
        it.probe(S, probe("a-1", &[], ""));
        it.passes(OTHERS);
    }

    #[test]
    fn a_broken_chain_is_found_unless_its_disk_was_lost() {
        with_chain(None).passes(AUDIT);
        let mut it = with_chain(Some("record 7 is missing"));
        it.violates(AUDIT, "the audit chain b-1/1 of b-1 is not whole: record 7 is missing");
        it.fault(4 * S, Some(5 * S), down(1, "old_copy", "b-1"));
        it.passes(AUDIT);
    }
}
