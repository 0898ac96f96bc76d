//! Where a key's siblings are shown, the winner is the one with the latest stamp, ties by origin: so
//! that it is the same everywhere.

use std::collections::BTreeMap;

use super::entries::{Id, Shown, id, ids, precedence, show, shown};
use super::{Check, History, Judge};

pub(crate) const CHECK: Check = Check {
    name: "winner",
    claim: "The winner of a conflict is the write with the latest stamp, ties by origin, and the same \
            everywhere.",
    run,
};

fn run(history: &History<'_>, judge: &mut Judge) {
    let all = shown(history);
    // What won over these siblings where they were shown first.
    let mut winners: BTreeMap<(&str, Vec<Id<'_>>), (Id<'_>, &Shown<'_>)> = BTreeMap::new();
    for place in &all {
        let Some((winner, others)) = place.siblings.split_first() else { continue };
        if !others.is_empty() {
            judge.examine();
        }
        let Shown { at_us, op, node, key, .. } = place;
        let ops: Vec<u64> = op.iter().copied().collect();
        if let Some(better) = others.iter().find(|other| precedence(other, winner).is_lt()) {
            let (shows, over) = (show(winner), show(better));
            let what = format!("{node} shows {shows} of {key} as the winner over {over}");
            let stamps = format!("stamped {} and {}", winner.updated_at, better.updated_at);
            judge.violation(*at_us, &ops, &[node], format!("{what}, {stamps}"));
            continue;
        }
        let (first, elsewhere) =
            *winners.entry((key, ids(place.siblings))).or_insert((id(winner), place));
        if first != id(winner) {
            let (version, origin) = first;
            let what = format!(
                "of the same siblings of {key}, {} wins on {node}, and {version}@{origin} on {}",
                show(winner),
                elsewhere.node
            );
            let ops: Vec<u64> = elsewhere.op.into_iter().chain(ops).collect();
            judge.violation((*at_us).max(elsewhere.at_us), &ops, &[elsewhere.node, node], what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, S, call, read, row, sibling, watch};
    use super::*;

    #[test]
    fn the_latest_wins_and_ties_go_by_origin() {
        let (old, new) = (sibling("old", 9, "z", 1), sibling("new", 1, "a", 2));
        let tie = sibling("tie", 1, "b", 2);
        let late = sibling("late", 5, "a", 3);
        let late = crate::simulation::history::Sibling {
            updated_at: "18446744073709551615".into(),
            ..late
        };
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", read("k"), row(&[new.clone(), old.clone()]));
        it.ask((S, 2 * S), "a-1", read("k"), row(&[tie.clone(), new.clone(), old.clone()]));
        it.ask((S, 2 * S), "a-1", read("k"), row(&[late, tie.clone()]));
        it.ask((S, 2 * S), "a-1", read("k"), row(&[sibling("", 3, "a", 9), tie.clone()]));
        it.finals(&[("k", vec![tie, new])], &[]);
        it.passes(CHECK);
    }

    #[test]
    fn an_earlier_winner_is_found_wherever_it_is_shown() {
        let (old, new) = (sibling("old", 9, "z", 1), sibling("new", 1, "a", 2));
        let wrong = vec![old, new];
        let mut it = Build::default();
        let op = it.ask((S, 2 * S), "a-1", read("k"), row(&wrong));
        let found = it.violates(CHECK, "a-1 shows \"old\" (9@z) of web/prod/k as the winner over");
        assert_eq!((found.ops, found.at_us), (vec![op], 2 * S));
        let mut it = Build::default();
        let op = it.call(S, call(1, "a-1", watch(false)));
        it.watched(2 * S, op, &[("k", wrong.clone())], |_| {});
        it.violates(CHECK, "as the winner over");
        let mut it = Build::default();
        it.last("b-1", &[("k", wrong)], &[]);
        it.violates(CHECK, "b-1 shows");
    }

    #[test]
    fn a_tie_that_goes_the_other_way_is_found() {
        let (a, b) = (sibling("a", 1, "a", 2), sibling("b", 1, "b", 2));
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", read("k"), row(&[a, b]));
        it.violates(CHECK, "as the winner over \"b\" (1@b)");
    }

    #[test]
    fn two_winners_of_one_origin_and_stamp_are_found() {
        let (a, b) = (sibling("a", 1, "a", 2), sibling("b", 2, "a", 2));
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", read("k"), row(&[a.clone(), b.clone()]));
        it.ask((S, 3 * S), "b-1", read("k"), row(&[b, a]));
        it.violates(CHECK, "of the same siblings of web/prod/k, \"b\" (2@a) wins on b-1");
    }
}
