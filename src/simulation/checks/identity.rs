//! A version of a key at one origin names one write, and a write has one such name: an origin that is
//! used again after its store was lost, or a write that is applied a second time, breaks it.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Id, Shown, asked, id, short, shown, wrote};
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Sibling};

pub(crate) const CHECK: Check = Check {
    name: "identity",
    claim: "A version of a key at one origin is the same write everywhere, and a write is made once.",
    run,
};

/// A place where a sibling is shown: when, by which call, by whom.
type Where<'s> = (AtUs, Option<u64>, &'s str);

/// The names that a value has, and where each is shown first.
type Names<'s> = BTreeMap<Id<'s>, Where<'s>>;

fn run(history: &History<'_>, judge: &mut Judge) {
    let void = void_origins(history);
    let all = siblings(history);
    let mut named: BTreeMap<(&str, u64, &str), (&Sibling, Where<'_>)> = BTreeMap::new();
    let mut versions: BTreeMap<(&str, &str), Names<'_>> = BTreeMap::new();
    let mut complained = BTreeSet::new();
    for (key, sibling, place) in &all {
        if void.contains(&*sibling.origin) {
            continue;
        }
        judge.examine();
        let entry = named.entry((key, sibling.version, &sibling.origin));
        let (other, before) = entry.or_insert((sibling, *place));
        if let Some(value) = &sibling.value {
            versions.entry((key, value)).or_default().entry(id(sibling)).or_insert(*place);
        }
        let same = other.value == sibling.value && other.updated_at == sibling.updated_at;
        if !same && complained.insert((key, id(sibling))) {
            let of = |it: &Sibling| {
                let value = it.value.as_deref().map_or_else(|| "a removal".to_owned(), short);
                format!("{value} of {}", it.updated_at)
            };
            let what = format!(
                "version {} of {key} at origin {} names two writes: {} ({}) and {} ({})",
                sibling.version,
                sibling.origin,
                of(other),
                before.2,
                of(sibling),
                place.2
            );
            let ops: Vec<u64> = before.1.into_iter().chain(place.1).collect();
            judge.violation(place.0.max(before.0), &ops, &[before.2, place.2], what);
        }
    }
    for ((key, value), ids) in versions.iter().filter(|(_, ids)| ids.len() > 1) {
        twice(history, key, value, ids, judge);
    }
    for (node, probes) in &history.probes {
        let fork = probes.iter().find(|(_, probe)| probe.forks > 0);
        if let Some((at_us, probe)) = fork.filter(|_| history.run.void_nodes.is_empty()) {
            let count = probe.forks;
            let what =
                format!("{node} has met {count} changes whose origin and number name another");
            judge.violation(*at_us, &[], &[node], what);
        }
    }
}

/// A value that has two names was written twice. That is right only where it was asked for as often,
/// and the origins, which need not have heard of each other's, differ.
fn twice(history: &History<'_>, key: &str, value: &str, ids: &Names<'_>, judge: &mut Judge) {
    let asks = |it: &&Asked<'_>| {
        let mut asked = asked(&it.call.request).into_iter();
        !it.is_refused() && asked.any(|(name, it)| name == key && it == Some(value))
    };
    let calls: Vec<u64> = history.calls.iter().filter(asks).map(|it| it.call.op).collect();
    let origins: BTreeSet<&str> = ids.keys().map(|(_, origin)| *origin).collect();
    if origins.len() == ids.len() && calls.len() >= ids.len() {
        return;
    }
    let names: Vec<String> =
        ids.keys().map(|(version, origin)| format!("{version}@{origin}")).collect();
    let Some((at_us, _, node)) = ids.values().max() else { return };
    let (value, names, count) = (short(value), names.join(" and "), calls.len());
    let what = format!("{value} of {key} was written as {names}, by {count} calls");
    judge.violation(*at_us, &calls, &[node], what);
}

/// The origins of nodes whose promises are void.
fn void_origins<'h>(history: &'h History<'_>) -> BTreeSet<&'h str> {
    let void = history.probes.iter().filter(|(node, _)| history.is_void(node));
    void.flat_map(|(_, probes)| probes.iter().map(|(_, probe)| &*probe.origin)).collect()
}

/// Every sibling that is told of anywhere.
fn siblings<'a>(history: &History<'a>) -> Vec<(String, &'a Sibling, Where<'a>)> {
    let mut all = Vec::new();
    for it in &history.calls {
        let place = (it.ended_us().unwrap_or(it.at_us), Some(it.call.op), &*it.call.node);
        all.extend(wrote(it).into_iter().map(|(key, sibling)| (key, sibling, place)));
    }
    for Shown { at_us, op, node, key, siblings } in shown(history) {
        all.extend(siblings.iter().map(|it| (key.clone(), it, (at_us, op, node))));
    }
    for (node, (at_us, last)) in &history.finals {
        for (key, past) in &last.history {
            all.extend(past.iter().map(|it| (key.clone(), it, (*at_us, None, *node))));
        }
    }
    all.sort_by_key(|(_, _, place)| place.0);
    all
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, S, call, probe, read, row, sibling, write, wrote};
    use super::*;
    use crate::simulation::history::{Call, Probe};

    fn good() -> Build {
        let (x, y) = (sibling("x", 1, "o", 1), sibling("y", 2, "p", 2));
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", write("k", "x"), wrote("k", x.clone()));
        it.ask((5 * S, 6 * S), "b-1", read("k"), row(&[y.clone(), x.clone()]));
        it.finals(&[("k", vec![y, x])], &[]);
        it
    }

    #[test]
    fn one_name_a_write_passes() {
        good().passes(CHECK);
    }

    #[test]
    fn a_name_of_two_writes_is_found() {
        let mut it = good();
        it.ask((11 * S, 12 * S), "a-1", write("k", "w"), wrote("k", sibling("w", 1, "o", 12)));
        it.violates(CHECK, "version 1 of web/prod/k at origin o names two writes: \"x\"");
        it.probe(S, Probe { origin: "o".into(), ..probe("a-1", &[], "") });
        it.run.void_nodes = ["a-1".to_owned()].into();
        it.passes(CHECK);
    }

    #[test]
    fn a_write_that_is_made_twice_is_found() {
        let mut it = good();
        it.ask((11 * S, 12 * S), "b-1", read("k"), row(&[sibling("x", 3, "o", 9)]));
        it.violates(CHECK, "\"x\" of web/prod/k was written as 1@o and 3@o, by 1 calls");
        let mut it = good();
        it.ask((11 * S, 12 * S), "b-1", read("k"), row(&[sibling("x", 3, "q", 9)]));
        it.violates(CHECK, "written as 1@o and 3@q, by 1 calls");
    }

    #[test]
    fn a_retry_in_another_region_may_write_once_more() {
        let retry = |node, key: &str| Call {
            idempotency_key: Some(key.into()),
            ..call(3, node, write("r", "v"))
        };
        let mut it = good();
        for (node, origin) in [("a-1", "o"), ("b-1", "p")] {
            let op = it.call(11 * S, retry(node, "i"));
            it.answer(12 * S, op, wrote("r", sibling("v", 1, origin, 9)));
        }
        it.passes(CHECK);
        let op = it.call(13 * S, retry("a-1", "i"));
        it.answer(14 * S, op, wrote("r", sibling("v", 2, "o", 10)));
        it.violates(CHECK, "written as 1@o and 1@p and 2@o, by 3 calls");
    }

    #[test]
    fn a_fork_is_found() {
        let mut it = good();
        it.probe(20 * S, Probe { forks: 1, ..probe("b-1", &[], "") });
        it.violates(CHECK, "b-1 has met 1 changes");
    }
}
