//! What nodes show at the end is what they would show had no document ever been rolled.

use super::entries::{at, ids, show_all};
use super::index::DISK_LOST;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Final, Twin};

pub(crate) const CHECK: Check = Check {
    name: "epochs",
    claim: "What is shown at the end is what it would be had no document gone on in a next epoch, \
            and every node begins an epoch with the same.",
    run,
};

fn run(history: &History<'_>, judge: &mut Judge) {
    mismatches(history, judge);
    held_up(history, judge);
    let Some((at_us, twin)) = history.twin else {
        judge.note("nobody asked the nodes for all of their changes");
        return;
    };
    if twin.epochs.is_empty() {
        judge.note("no document went on in a next epoch");
        return;
    }
    if let Some(why) = unfit(twin) {
        judge.note(why);
        return;
    }
    for (node, _, last) in history.healthy_finals() {
        // Who has not everything is another check's to find.
        if has_all(history, node, last, twin) {
            compare(node, at_us, last, twin, judge);
            exactly(history, node, twin, judge);
        }
    }
    let rolls: u64 = twin.epochs.values().map(|epoch| u64::from(*epoch)).sum();
    let late = twin.late;
    judge.note(format!("{rolls} epochs began, and {late} changes came too late for theirs"));
}

/// Whether a node has every change: what it names in the end is only what is not folded, so that the last
/// probe is asked for the others.
fn has_all(history: &History<'_>, node: &str, last: &Final, twin: &Twin) -> bool {
    let probe = history.probes.get(node).and_then(|probes| probes.last());
    let is_whole = probe.is_some_and(|(_, probe)| probe.up && probe.vector == twin.vector);
    let is_of_twin = |(origin, n): (&String, &u64)| twin.vector.get(origin) == Some(n);
    last.vector == twin.vector || (is_whole && last.vector.iter().all(is_of_twin))
}

/// Why there is nothing to hold the nodes against.
fn unfit(twin: &Twin) -> Option<String> {
    let Twin { forks, missing, unreadable, .. } = twin;
    if *forks > 0 {
        return Some(format!("{forks} changes have the number of another one"));
    }
    if *unreadable > 0 {
        return Some(format!("{unreadable} changes cannot be read"));
    }
    (*missing > 0).then(|| format!("{missing} changes are in no log any more"))
}

/// Nobody's copy comes to something else than was agreed, unless a disk was lost or lied before.
fn mismatches(history: &History<'_>, judge: &mut Judge) {
    let lost = history.faults.iter().filter(|span| DISK_LOST.contains(&&*span.fault.kind));
    let explained = lost.map(|span| span.from_us).min().unwrap_or(AtUs::MAX);
    for (node, probes) in &history.probes {
        let mut wrong = probes.iter().filter(|(_, probe)| probe.epoch_mismatches > 0);
        if let Some((at_us, _)) = wrong.next()
            && *at_us < explained
        {
            let what = format!(
                "at {} {node} had come to another base of an epoch than was agreed",
                at(*at_us)
            );
            judge.examine();
            judge.violation(*at_us, &[], &[node], what);
        }
    }
}

/// While a node runs the release before, which knows no epochs, no document goes on in a next one.
fn held_up(history: &History<'_>, judge: &mut Judge) {
    let previous = history.faults.iter().filter(|span| span.fault.kind == "previous");
    for span in previous {
        let to_us = span.to_us.unwrap_or(history.end_us);
        let probes = history.probes.iter().flat_map(|(node, probes)| {
            let within = probes.iter().filter(|(at_us, _)| (span.from_us..to_us).contains(at_us));
            within.map(move |(at_us, probe)| (*node, *at_us, *probe))
        });
        let mut rolled = probes.filter(|(.., probe)| !probe.epochs.is_empty());
        if let Some((node, at_us, _)) = rolled.next() {
            judge.examine();
            let what = format!(
                "at {} a document was in a next epoch at {node}, while a member ran the release \
                 before, which knows none",
                at(at_us)
            );
            judge.violation(at_us, &[], &[node], what);
        }
    }
}

/// Row by row, of documents that were rolled.
fn compare(node: &str, at_us: AtUs, last: &Final, twin: &Twin, judge: &mut Judge) {
    let is_rolled = |key: &&String| {
        let document = key.rsplit_once('/').map_or("", |(document, _)| document);
        twin.epochs.contains_key(document) && !twin.unknown.contains(*key)
    };
    let mut keys: Vec<&String> =
        last.rows.keys().chain(twin.rows.keys()).filter(is_rolled).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        judge.examine();
        let shown = last.rows.get(key).map(Vec::as_slice).unwrap_or_default();
        let wanted = twin.rows.get(key).map(Vec::as_slice).unwrap_or_default();
        let same = ids(shown) == ids(wanted) && wanted.iter().all(|it| shown.contains(it));
        if !same {
            let what = format!(
                "{key} is {} at {node}, and would be {} had nothing been rolled",
                show_all(shown),
                show_all(wanted)
            );
            judge.violation(at_us, &[], &[node], what);
        }
    }
}

/// All rows at once, in their order, removals among them, as the node shows them inside.
fn exactly(history: &History<'_>, node: &str, twin: &Twin, judge: &mut Judge) {
    let last = history.probes.get(node).and_then(|probes| probes.last());
    let Some((at_us, probe)) = last.filter(|(_, probe)| probe.up && probe.vector == twin.vector)
    else {
        return;
    };
    if twin.view_hash.is_empty() || probe.view_hash.is_empty() {
        return;
    }
    judge.examine();
    if probe.view_hash != twin.view_hash {
        let what =
            format!("the rows of {node} are others than they would be had nothing been rolled");
        judge.violation(*at_us, &[], &[node], what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Judgement;
    use super::super::testing::{Build, DOCUMENT, S, fault, probe, sibling};
    use super::*;
    use crate::simulation::history::{Event, Probe};

    fn vector() -> [(&'static str, u64); 1] {
        [("aa", 7)]
    }

    fn twin() -> Twin {
        let siblings = vec![sibling("x", 2, "aa", 5), sibling("y", 2, "bb", 4)];
        Twin {
            rows: [(format!("{DOCUMENT}/k"), siblings)].into(),
            epochs: [(DOCUMENT.to_owned(), 2)].into(),
            vector: vector().map(|(origin, n)| (origin.to_owned(), n)).into(),
            view_hash: "v".to_owned(),
            late: 3,
            ..Twin::default()
        }
    }

    /// All nodes show these siblings of one key.
    fn history(siblings: &[crate::simulation::history::Sibling], twin: Twin) -> Build {
        let mut it = Build::default();
        it.finals(&[("k", siblings.to_vec())], &[]);
        for record in &mut it.records {
            if let Event::Final(last) = &mut record.event {
                last.vector.clone_from(&twin.vector);
            }
        }
        for node in ["a-1", "b-1", "c-1"] {
            it.probe(88 * S, probe(node, &vector(), "v"));
        }
        it.push(89 * S, Event::Twin(twin));
        it
    }

    fn both() -> Vec<crate::simulation::history::Sibling> {
        twin().rows.into_values().next().unwrap()
    }

    #[test]
    fn nodes_that_show_what_the_twin_shows_pass() {
        history(&both(), twin()).passes(CHECK);
    }

    #[test]
    fn a_conflict_that_a_roll_has_settled_is_found() {
        let judgement = history(&both()[..1], twin()).judge(CHECK);
        let Judgement::Violation { violations, .. } = judgement else { panic!("{judgement:?}") };
        assert_eq!(violations.len(), 3, "each node");
        assert!(violations[0].what.contains("would be \"x\""), "{violations:?}");
    }

    #[test]
    fn what_a_roll_has_lost_or_brought_back_is_found() {
        let lost = history(&[], twin()).judge(CHECK);
        assert!(matches!(lost, Judgement::Violation { count: 3, .. }), "{lost:?}");
        let none = Twin { rows: [].into(), ..twin() };
        let back = history(&both(), none).judge(CHECK);
        assert!(matches!(back, Judgement::Violation { count: 3, .. }), "{back:?}");
    }

    #[test]
    fn rows_that_only_their_hash_tells_apart_are_found() {
        let mut it = history(&both(), twin());
        it.probe(88 * S, probe("b-1", &vector(), "w"));
        it.violates(CHECK, "the rows of b-1");
    }

    #[test]
    fn without_a_roll_or_without_all_changes_there_is_nothing_to_judge() {
        let some = |twin: Twin| history(&both()[..1], twin).judge(CHECK);
        for (wanted, twin) in [
            ("no document", Twin { epochs: [].into(), ..twin() }),
            ("number of another", Twin { forks: 1, ..twin() }),
            ("in no log", Twin { missing: 1, ..twin() }),
            ("cannot be read", Twin { unreadable: 1, ..twin() }),
        ] {
            let judgement = some(twin);
            let Judgement::NotExercised { why } = &judgement else { panic!("{judgement:?}") };
            assert!(why.contains(wanted), "{why}");
        }
        let judgement = Build::default().judge(CHECK);
        assert!(matches!(judgement, Judgement::NotExercised { .. }), "{judgement:?}");
        let unknown = [format!("{DOCUMENT}/k")].into();
        let judgement = some(Twin { unknown, view_hash: String::new(), ..twin() });
        assert!(matches!(judgement, Judgement::NotExercised { .. }), "{judgement:?}");
    }

    #[test]
    fn a_roll_while_a_member_runs_the_release_before_is_found() {
        let rolled =
            || Probe { epochs: [(DOCUMENT.to_owned(), 1)].into(), ..probe("b-1", &vector(), "v") };
        let mut it = history(&both(), twin());
        it.fault(5 * S, Some(9 * S), fault(1, "previous", &["a"]));
        it.probe(9 * S, rolled());
        it.passes(CHECK);
        it.probe(8 * S, rolled());
        it.violates(CHECK, "at 8.000 s a document was in a next epoch at b-1");
    }

    #[test]
    fn another_base_than_agreed_is_found_unless_a_disk_was_lost_before() {
        let wrong = || Probe { epoch_mismatches: 1, ..probe("b-1", &vector(), "v") };
        let mut it = Build::default();
        it.probe(20 * S, wrong()).probe(21 * S, wrong());
        it.violates(CHECK, "at 20.000 s b-1 had come to another base");
        it.fault(5 * S, Some(6 * S), fault(1, "lying_fsync", &["a"]));
        assert!(matches!(it.judge(CHECK), Judgement::NotExercised { .. }));
    }
}
