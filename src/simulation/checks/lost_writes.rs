//! No acknowledged write is lost: at the end every node knows of it, and shows it or something newer.
//! A write whose outcome nobody knows is there or not, but the same everywhere, and never in part.

use std::collections::BTreeSet;

use super::entries::{asked, id, includes, short, show, show_all, wrote};
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Final, Outcome, Request, Sibling};

pub(crate) const CHECK: Check = Check {
    name: "lost_writes",
    claim: "Every acknowledged write is known to every node at the end, and what is not acknowledged \
            is there as a whole or not at all, the same everywhere.",
    run,
};

/// How far a node's clock may be off where the scenario does not say so.
const CLOCKS_APART_US: u64 = 2_000_000;

type Finals<'a> = Vec<(&'a str, AtUs, &'a Final)>;

fn run(history: &History<'_>, judge: &mut Judge) {
    let finals: Finals<'_> = history.healthy_finals().collect();
    if finals.is_empty() {
        judge.undecided("no node says what it has at the end");
        return;
    }
    for it in history.calls.iter().filter(|it| !asked(&it.call.request).is_empty()) {
        answer(history, it, judge);
        acknowledged(history, it, &finals, judge);
        whole(history, it, &finals, judge);
    }
}

/// What an answer says of itself: the values that were asked for, and as many regions as promised.
fn answer(history: &History<'_>, it: &Asked<'_>, judge: &mut Judge) {
    let Some(Outcome::Wrote { acknowledged, regions, .. }) = it.outcome() else { return };
    let (op, at_us, node) = (it.call.op, it.ended_us().unwrap_or(it.at_us), &*it.call.node);
    judge.examine();
    let (asked, wrote) = (asked(&it.call.request), wrote(it));
    for (key, sibling) in &wrote {
        let wanted = asked.iter().find(|(name, _)| name == key);
        if wanted.is_none_or(|(_, value)| *value != sibling.value.as_deref()) {
            let what = format!("call {op} was answered with {} for {key}", show(sibling));
            let what = format!("{what}, which is not what it asked for");
            judge.violation(at_us, &[op], &[node], what);
        }
    }
    if let Some((key, _)) = asked.iter().find(|(key, _)| wrote.iter().all(|(name, _)| name != key))
    {
        let what =
            format!("the answer to call {op} says nothing of {key}, which it asked to write");
        judge.violation(at_us, &[op], &[node], what);
    }
    let count = history.regions().len();
    let needed = match &it.call.request {
        Request::ConfigWrite { ack: Some(ack), .. } => match &**ack {
            "local" => 0,
            "all" => count,
            "majority" => count / 2 + 1,
            number => number.parse().unwrap_or(0),
        },
        _ => 0,
    };
    if *acknowledged && regions.len() < needed {
        let what = format!("call {op} is acknowledged for {needed} regions by {regions:?}");
        judge.violation(at_us, &[op], &[node], what);
    }
}

/// Everything that was acknowledged is known, and shown unless something newer is.
fn acknowledged(history: &History<'_>, it: &Asked<'_>, finals: &Finals<'_>, judge: &mut Judge) {
    let (op, asked_at) = (it.call.op, it.ended_us().unwrap_or(it.at_us));
    for (key, sibling) in wrote(it) {
        if !survives(history, it, sibling, asked_at) {
            continue;
        }
        judge.examine();
        for (node, at_us, last) in finals {
            let known = last.history.get(&key).into_iter().flatten();
            let rows = last.rows.get(&key).map(Vec::as_slice).unwrap_or_default();
            let may_be_gone = may_be_pruned(history, it, sibling, rows, *at_us);
            let what = if !may_be_gone && !known.clone().any(|past| id(past) == id(sibling)) {
                "does not know of it at the end".to_owned()
            } else if !includes(rows, sibling) {
                format!("shows {} at the end", show_all(rows))
            } else {
                continue;
            };
            let what = format!(
                "{} of {key} was acknowledged to call {op} by {}, and {node} {what}",
                show(sibling),
                it.call.node
            );
            judge.violation(*at_us, &[op], &[&it.call.node, node], what);
            break;
        }
    }
}

/// Whether the policy of histories lets a node forget the write: it is neither among the newest of its
/// key nor young. Clocks may be apart by some seconds.
fn may_be_pruned(
    history: &History<'_>,
    it: &Asked<'_>,
    sibling: &Sibling,
    rows: &[Sibling],
    at_us: AtUs,
) -> bool {
    let Some(kept) = &history.run.history else { return false };
    let newest = rows.iter().map(|row| row.version).max().unwrap_or_default();
    let is_shown = rows.iter().any(|row| id(row) == id(sibling));
    let is_new = sibling.version + kept.versions > newest;
    let written_us = it.at_us.saturating_add(kept.age_us);
    !is_shown && !is_new && written_us <= at_us.saturating_add(CLOCKS_APART_US)
}

/// Whether a key's history may have let go of something, at any node: it has more versions than are kept
/// in any case. What is there says less: a version may have gone of whose number there are others.
fn is_pruned(history: &History<'_>, finals: &Finals<'_>, key: &str) -> bool {
    let Some(kept) = &history.run.history else { return false };
    let past = finals.iter().flat_map(|(_, _, last)| last.history.get(key).into_iter().flatten());
    past.map(|it| it.version).max().is_some_and(|newest| newest > kept.versions)
}

/// Whether a node has the write for certain whose disk keeps it and who has told the others by the
/// end. A write that only one disk had may go with that disk, also while its answer is on the way.
fn survives(history: &History<'_>, it: &Asked<'_>, sibling: &Sibling, answered: AtUs) -> bool {
    let keeps = |node: &str, from: AtUs| {
        !history.is_void(node)
            && !history.is_lost(node)
            && history.finals.contains_key(node)
            && history.disk_lost_after(node, from).is_none()
    };
    let node = &*it.call.node;
    if keeps(node, it.at_us) {
        return true;
    }
    if let Some(Outcome::Wrote { regions, .. }) = it.outcome() {
        let others = regions.iter().filter(|region| **region != it.call.region);
        let nodes = |region: &String| {
            let nodes = history.run.nodes.iter().filter(|it| it.region == *region);
            nodes.map(|it| &*it.node).collect::<Vec<_>>()
        };
        let mut regions = others.map(nodes).filter(|nodes| !nodes.is_empty());
        if regions.any(|nodes| nodes.iter().all(|node| keeps(node, it.at_us))) {
            return true;
        }
    }
    if history.is_void(node) {
        return false;
    }
    // What its own vector names after the answer, and another's named before the disk was lost.
    let until = history.disk_lost_after(node, it.at_us).unwrap_or(AtUs::MAX);
    let own = history.probes.get(node).into_iter().flatten();
    let own = own.filter(|(at_us, probe)| *at_us >= answered && *at_us < until && probe.up);
    let Some(n) = own.filter_map(|(_, probe)| probe.vector.get(&sibling.origin)).next() else {
        return false;
    };
    history.probes.iter().filter(|(other, _)| **other != node).any(|(other, probes)| {
        let has = |probe: &crate::simulation::history::Probe| {
            probe.vector.get(&sibling.origin).is_some_and(|it| it >= n)
        };
        let mut told = probes.iter().filter(|(at_us, probe)| *at_us < until && has(probe));
        told.any(|(at_us, _)| keeps(other, *at_us))
    })
}

/// All entries of a write are there or none, and the same on every node.
fn whole(history: &History<'_>, it: &Asked<'_>, finals: &Finals<'_>, judge: &mut Judge) {
    if it.is_refused() {
        return;
    }
    // What one node let go of, another one may still have.
    if asked(&it.call.request).iter().any(|(key, _)| is_pruned(history, finals, key)) {
        return;
    }
    let values: Vec<(String, &str)> = asked(&it.call.request)
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    if values.is_empty() {
        return;
    }
    judge.examine();
    let op = it.call.op;
    let mut first: Option<(&str, bool)> = None;
    for (node, at_us, last) in finals {
        let has = |(key, value): &(String, &str)| {
            let known = last.history.get(key).into_iter().flatten();
            known.into_iter().any(|past| past.value.as_deref() == Some(*value))
        };
        let there: BTreeSet<&str> = values.iter().filter(|it| has(it)).map(|it| &*it.0).collect();
        if !there.is_empty() && there.len() < values.len() {
            let (some, all) = (there.len(), values.len());
            let what =
                format!("{node} has {some} of the {all} entries that call {op} wrote together");
            judge.violation(*at_us, &[op], &[node], what);
            return;
        }
        let (other, known) = *first.get_or_insert((node, !there.is_empty()));
        if known == there.is_empty() {
            let (with, without) = if known { (other, *node) } else { (*node, other) };
            let value = short(values[0].1);
            let what =
                format!("{with} knows of {value}, which call {op} wrote; {without} does not");
            if wrote(it).is_empty() {
                judge.violation(*at_us, &[op], &[other, node], what);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Build, DOCUMENT, S, call, down, probe, refused, sibling, unknown, write, wrote,
    };
    use super::*;

    fn good() -> Build {
        let (x, y) = (sibling("x", 1, "o", 1), sibling("y", 2, "p", 2));
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", write("k", "x"), wrote("k", x.clone()));
        it.ask((3 * S, 4 * S), "b-1", write("k", "y"), wrote("k", y.clone()));
        it.ask((5 * S, 6 * S), "b-1", write("k", "z"), refused(412, "PreconditionFailed"));
        it.ask((7 * S, 8 * S), "b-1", write("k2", "never"), unknown());
        it.finals(&[("k", vec![y])], &[("k", x)]);
        it
    }

    fn last<'a>(it: &'a mut Build, node: &str) -> &'a mut Final {
        let mut finals = it.records.iter_mut().filter_map(|it| match &mut it.event {
            crate::simulation::history::Event::Final(last) if last.node == node => Some(last),
            _ => None,
        });
        finals.next().unwrap()
    }

    #[test]
    fn writes_that_are_there_or_replaced_pass() {
        good().passes(CHECK);
    }

    #[test]
    fn a_write_that_a_node_never_heard_of_is_found() {
        let mut it = good();
        last(&mut it, "c-1").history.get_mut("web/prod/k").unwrap().retain(|it| it.version == 2);
        let found =
            it.violates(CHECK, "\"x\" (1@o) of web/prod/k was acknowledged to call 1 by a-1");
        assert_eq!(found.nodes, ["a-1", "c-1"]);
    }

    #[test]
    fn a_write_that_vanished_with_a_crash_is_found() {
        let mut it = good();
        it.fault(9 * S, Some(12 * S), down(1, "crash", "a-1"));
        for node in ["a-1", "b-1", "c-1"] {
            last(&mut it, node).history.get_mut("web/prod/k").unwrap().retain(|it| it.version == 2);
        }
        it.violates(CHECK, "does not know of it at the end");
    }

    #[test]
    fn a_write_that_an_older_one_hides_is_found() {
        let mut it = good();
        let x = sibling("x", 1, "o", 1);
        last(&mut it, "c-1").rows.insert("web/prod/k".into(), vec![x]);
        it.violates(CHECK, "and c-1 shows \"x\" (1@o) at the end");
    }

    #[test]
    fn a_disk_that_is_gone_may_take_what_only_it_had() {
        let lost = |it: &mut Build| {
            it.fault(9 * S, Some(12 * S), down(1, "wipe", "a-1"));
            for node in ["a-1", "b-1", "c-1"] {
                last(it, node).history.get_mut("web/prod/k").unwrap().retain(|it| it.version == 2);
            }
        };
        let mut it = good();
        lost(&mut it);
        it.passes(CHECK);
        // But another one had it by then.
        it.probe(5 * S, probe("a-1", &[("o", 1)], ""));
        it.probe(6 * S, probe("b-1", &[("o", 1)], ""));
        it.violates(CHECK, "does not know of it at the end");
        // Or the answer said that another region had it.
        let mut it = good();
        let outcome = Outcome::Wrote {
            entries: vec![("k".into(), sibling("x", 1, "o", 1))],
            acknowledged: true,
            regions: ["a".to_owned(), "b".to_owned()].into(),
        };
        it.answer(2 * S, 1, outcome.clone());
        it.records.retain(|record| {
            let crate::simulation::history::Event::Answer(answer) = &record.event else {
                return true;
            };
            answer.op != 1 || answer.outcome == outcome
        });
        lost(&mut it);
        it.violates(CHECK, "does not know of it at the end");
        // And what a void node acknowledged does not count.
        it.run.void_nodes = ["a-1".to_owned(), "b-1".to_owned()].into();
        it.passes(CHECK);
    }

    #[test]
    fn an_unknown_write_is_the_same_everywhere() {
        let never = sibling("never", 1, "p", 9);
        let mut it = good();
        for node in ["a-1", "b-1", "c-1"] {
            last(&mut it, node).history.insert("web/prod/k2".into(), vec![never.clone()]);
        }
        it.passes(CHECK);
        last(&mut it, "b-1").history.remove("web/prod/k2");
        it.violates(CHECK, "a-1 knows of \"never\", which call 4 wrote; b-1 does not");
    }

    #[test]
    fn half_a_write_is_found() {
        let both = Request::ConfigWrite {
            document: DOCUMENT.into(),
            entries: vec![("k3".into(), "1".into()), ("k4".into(), "2".into())],
            expect_version: None,
            ack: None,
        };
        let mut it = good();
        let op = it.call(9 * S, call(1, "a-1", both));
        it.answer(10 * S, op, unknown());
        it.passes(CHECK);
        for node in ["a-1", "b-1", "c-1"] {
            let one = sibling("1", 1, "o", 1);
            last(&mut it, node).history.insert("web/prod/k3".into(), vec![one]);
        }
        it.violates(CHECK, "a-1 has 1 of the 2 entries that call 5 wrote together");
    }

    #[test]
    fn an_answer_that_is_not_what_was_asked_for_is_found() {
        let mut it = good();
        let other = sibling("x", 1, "o", 1);
        it.ask((9 * S, 10 * S), "a-1", write("k", "w"), wrote("k", other.clone()));
        it.violates(CHECK, "which is not what it asked for");
        let mut it = good();
        let outcome = Outcome::Wrote { entries: vec![], acknowledged: true, regions: [].into() };
        it.ask((9 * S, 10 * S), "a-1", write("k", "w"), outcome);
        it.violates(CHECK, "says nothing of web/prod/k");
        let mut it = good();
        let request = Request::ConfigWrite {
            document: DOCUMENT.into(),
            entries: vec![("k".into(), "x".into())],
            expect_version: None,
            ack: Some("majority".into()),
        };
        it.ask((9 * S, 10 * S), "a-1", request, wrote("k", other));
        it.violates(CHECK, "is acknowledged for 2 regions by {}");
    }
}
