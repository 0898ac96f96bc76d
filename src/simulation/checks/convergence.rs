//! Once everything is healed, all nodes agree within the bound: the same vector and the same view, and
//! at the end the same rows, heads, and quorum state.

use std::collections::BTreeMap;

use super::entries::{asked, at, ids, show_all};
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Final, Probe, Sibling};

pub(crate) const CHECK: Check = Check {
    name: "convergence",
    claim: "After everything is healed, all nodes show the same within the bound, and stay so.",
    run,
};

fn run(history: &History<'_>, judge: &mut Judge) {
    let deadline = deadline(history);
    probes(history, deadline, judge);
    presence(history, judge);
    let finals: Vec<(&str, AtUs, &Final)> = history.healthy_finals().collect();
    if let Some((first, rest)) = finals.split_first() {
        judge.examine();
        for other in rest {
            judge.examine();
            compare(*first, *other, judge);
        }
    }
    quorum(&finals, judge);
}

/// From when on all have to agree: the bound counts from the last answer to a write, where that came
/// after the faults' end.
fn deadline(history: &History<'_>) -> AtUs {
    let writes = history.calls.iter().filter(|it| !asked(&it.call.request).is_empty());
    let last = writes.filter_map(|it| it.ended_us()).max().unwrap_or(0);
    last.max(history.run.faults_end_us).saturating_add(history.run.converge_within_us)
}

fn counts(history: &History<'_>, node: &str) -> bool {
    !history.is_lost(node) && !history.is_void(node)
}

/// What nodes say of themselves after the deadline.
fn probes(history: &History<'_>, deadline: AtUs, judge: &mut Judge) {
    let nodes = history.probes.iter().filter(|(node, _)| counts(history, node));
    let mut late: Vec<(AtUs, &Probe)> =
        nodes.flat_map(|(_, probes)| probes.iter().copied()).collect();
    late.retain(|(at_us, probe)| *at_us >= deadline && probe.up);
    late.sort_by_key(|(at_us, _)| *at_us);
    let Some((_, first)) = late.first() else {
        judge.undecided(format!("no node says how it stands after {}", at(deadline)));
        return;
    };
    let mut complained: BTreeMap<&str, ()> = BTreeMap::new();
    let mut views: Option<&Probe> = None;
    for (at_us, probe) in &late {
        judge.examine();
        let view = (!probe.view_hash.is_empty()).then(|| *views.get_or_insert(probe));
        let what = if numbers(&probe.vector) != numbers(&first.vector) {
            let (a, b) = (&first.vector, &probe.vector);
            format!("{} and {} differ in their vectors: {}", first.node, probe.node, differ(a, b))
        } else if let Some(view) = view.filter(|view| view.view_hash != probe.view_hash) {
            format!("{} and {} have the same vector and show different rows", view.node, probe.node)
        } else {
            continue;
        };
        if complained.insert(&probe.node, ()).is_none() {
            let what = format!("{what}, after {}", at(deadline));
            judge.violation(*at_us, &[], &[&first.node, &probe.node], what);
        }
    }
}

/// A vector's numbers, without those that say nothing.
fn numbers(vector: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    vector.iter().filter(|(_, n)| **n > 0).map(|(origin, n)| (&**origin, *n)).collect()
}

fn differ(a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>) -> String {
    let origins: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let of =
        |vector: &BTreeMap<String, u64>, origin: &String| vector.get(origin).copied().unwrap_or(0);
    let differs = origins.into_iter().filter(|origin| of(a, origin) != of(b, origin));
    let words = differs.map(|origin| format!("{origin}: {} and {}", of(a, origin), of(b, origin)));
    words.take(3).collect::<Vec<_>>().join(", ")
}

/// Whoever is not down for a reason is there.
fn presence(history: &History<'_>, judge: &mut Judge) {
    for it in history.run.nodes.iter().filter(|it| counts(history, &it.node)) {
        let Some((at_us, last)) = history.probes.get(&*it.node).and_then(|it| it.last()) else {
            judge.undecided(format!("{} never says how it stands", it.node));
            continue;
        };
        let region = Some(&*it.region);
        let hurts = |at_us: &AtUs| {
            let mut spans = history.faults.iter().filter(|it| it.overlaps(*at_us, *at_us));
            spans.any(|span| span.hurts_node(&it.node, region))
        };
        judge.examine();
        match (last.up, history.finals.contains_key(&*it.node)) {
            (false, _) if !hurts(at_us) => {
                let what = format!("{} is down at the end, and no fault holds it down", it.node);
                judge.violation(*at_us, &[], &[&it.node], what);
            }
            (true, false) => judge.undecided(format!("{} does not say what it has", it.node)),
            _ => {}
        }
    }
}

fn compare(
    (a_node, a_at, a): (&str, AtUs, &Final),
    (b_node, b_at, b): (&str, AtUs, &Final),
    judge: &mut Judge,
) {
    let differs = if numbers(&a.vector) != numbers(&b.vector) {
        format!("vectors: {}", differ(&a.vector, &b.vector))
    } else if let Some(row) = row(a, b) {
        row
    } else if let Some(past) = past(a, b) {
        past
    } else if a.view_hash != b.view_hash {
        "view hashes".to_owned()
    } else if a.heads_hash != b.heads_hash {
        "heads".to_owned()
    } else {
        return;
    };
    let what = format!("at the end {a_node} and {b_node} differ in their {differs}");
    judge.violation(a_at.max(b_at), &[], &[a_node, b_node], what);
}

/// The first row that the two do not have in common.
fn row(a: &Final, b: &Final) -> Option<String> {
    let keys: std::collections::BTreeSet<&String> = a.rows.keys().chain(b.rows.keys()).collect();
    keys.into_iter().find_map(|key| {
        let of = |rows: &Final| rows.rows.get(key).cloned().unwrap_or_default();
        let (a, b) = (of(a), of(b));
        let same = ids(&a) == ids(&b) && a.iter().all(|it| b.contains(it));
        (!same).then(|| format!("rows: {key} is {} and {}", show_all(&a), show_all(&b)))
    })
}

/// The first key of which the two know other writes. Each lets old versions go in its own time, from
/// the old end: what both may still have is compared.
fn past(a: &Final, b: &Final) -> Option<String> {
    let oldest = |past: &[Sibling]| past.iter().map(|it| it.version).min();
    a.history.iter().find_map(|(key, mine)| {
        let theirs = b.history.get(key)?;
        let from = oldest(mine).max(oldest(theirs))?;
        let kept = |past: &[Sibling]| -> Vec<Sibling> {
            past.iter().filter(|it| it.version >= from).cloned().collect()
        };
        let (mine, theirs) = (kept(mine), kept(theirs));
        let same = ids(&mine) == ids(&theirs) && mine.iter().all(|it| theirs.contains(it));
        let shown = || format!("{} and {}", show_all(&mine), show_all(&theirs));
        (!same).then(|| format!("histories: {key}, from version {from} on, is {}", shown()))
    })
}

/// Nodes that have applied as much of the quorum's log have the same state.
fn quorum(finals: &[(&str, AtUs, &Final)], judge: &mut Judge) {
    let mut by_index: BTreeMap<u64, (&str, &str)> = BTreeMap::new();
    for (node, at_us, last) in finals.iter().filter(|(_, _, it)| !it.quorum_hash.is_empty()) {
        judge.examine();
        let index = last.quorum_applied;
        let (other, hash) = by_index.entry(index).or_insert((node, &last.quorum_hash));
        if *hash != last.quorum_hash {
            let what = format!("{other} and {node} have applied {index} and have different states");
            judge.violation(*at_us, &[], &[other, node], what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, S, call, down, fault, probe, row, sibling, write, wrote};
    use super::*;
    use crate::simulation::history::Event;

    const NODES: [&str; 3] = ["a-1", "b-1", "c-1"];

    fn good() -> Build {
        let mut it = Build::default();
        let new = sibling("x", 1, "o", 1);
        it.ask((S, 2 * S), "a-1", write("k", "x"), wrote("k", new.clone()));
        for node in NODES {
            it.probe(61 * S, probe(node, &[("o", u64::from(node == "a-1"))], node));
            for at_us in [70 * S, 80 * S] {
                it.probe(at_us, probe(node, &[("o", 1)], "v"));
            }
        }
        it.finals(&[("k", vec![new])], &[]);
        it
    }

    #[test]
    fn agreement_within_the_bound_passes() {
        good().passes(CHECK);
    }

    #[test]
    fn a_node_that_misses_a_change_after_the_bound_is_found() {
        let mut it = good();
        it.probe(75 * S, probe("c-1", &[("o", 0)], "v"));
        it.probe(76 * S, probe("c-1", &[("o", 0)], "v"));
        let found = it.violates(CHECK, "a-1 and c-1 differ in their vectors: o: 1 and 0");
        assert_eq!((found.at_us, found.nodes), (75 * S, vec!["a-1".into(), "c-1".into()]));
    }

    #[test]
    fn an_equal_vector_with_another_view_is_found() {
        let mut it = good();
        it.probe(75 * S, probe("c-1", &[("o", 1)], "w"));
        it.violates(CHECK, "a-1 and c-1 have the same vector and show different rows");
        let mut it = good();
        it.probe(75 * S, probe("c-1", &[("o", 1)], ""));
        it.passes(CHECK);
    }

    #[test]
    fn the_bound_counts_from_the_last_write() {
        let mut it = good();
        let op = it.call(59 * S, call(1, "a-1", write("k2", "y")));
        it.answer(67 * S, op, row(&[]));
        it.probe(75 * S, probe("c-1", &[("o", 0)], "v"));
        it.passes(CHECK);
    }

    #[test]
    fn lost_regions_and_void_nodes_do_not_count() {
        let mut it = good();
        it.probe(75 * S, probe("c-1", &[("o", 0)], "v"));
        it.run.lost_regions = ["c".to_owned()].into();
        it.passes(CHECK);
        it.run.lost_regions.clear();
        it.run.void_nodes = ["c-1".to_owned()].into();
        it.passes(CHECK);
    }

    #[test]
    fn different_ends_are_found() {
        let (x, y) = (sibling("x", 1, "o", 1), sibling("y", 2, "o", 2));
        let mut it = good();
        it.last("c-1", &[("k", vec![x.clone(), y])], &[]);
        it.violates(
            CHECK,
            "at the end a-1 and c-1 differ in their rows: web/prod/k is \"x\" (1@o)",
        );
        for (what, change) in [
            ("heads", (|it| it.heads_hash = "h".into()) as fn(&mut Final)),
            ("view hashes", |it| it.view_hash = "h".into()),
            ("vectors", |it| it.vector = [("o".to_owned(), 7)].into()),
        ] {
            let mut it = good();
            let Some(Event::Final(last)) = it.records.last_mut().map(|it| &mut it.event) else {
                panic!("no final");
            };
            change(last);
            it.violates(CHECK, what);
        }
    }

    #[test]
    fn two_states_at_one_index_are_found() {
        let mut it = good();
        for record in &mut it.records {
            if let Event::Final(last) = &mut record.event {
                last.quorum_applied = if last.node == "b-1" { 8 } else { 9 };
                last.quorum_hash = last.node.clone();
            }
        }
        it.violates(CHECK, "a-1 and c-1 have applied 9 and have different states");
    }

    #[test]
    fn a_node_that_stays_away_without_a_fault_is_found() {
        let gone = || Probe { up: false, ..probe("c-1", &[], "") };
        let mut it = good();
        it.probe(81 * S, gone());
        it.violates(CHECK, "c-1 is down at the end");
        it.fault(50 * S, None, down(1, "crash", "c-1"));
        it.passes(CHECK);
        let mut it = good();
        it.fault(50 * S, None, fault(1, "link", &["c"]));
        it.probe(81 * S, gone());
        it.violates(CHECK, "c-1 is down at the end");
    }

    #[test]
    fn a_run_without_probes_is_undecided() {
        let mut it = good();
        it.records.retain(|it| !matches!(it.event, Event::Probe(_)));
        assert!(matches!(it.judge(CHECK), super::super::Judgement::Undecided { .. }));
    }
}
