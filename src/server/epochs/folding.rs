//! Which origins are folded: those that every member has the same of, that nobody has written as for
//! long, and that no member writes as. It is told the time, and looks at vectors alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::gossip::Acknowledged;
use crate::model::vector::FOLD_ROWS_MAX;
use crate::model::{Dot, Origin, Vector};

/// At least one in so many of the origins that may be named goes with a fold: each is a roll.
const WORTH_ONE_IN: usize = 8;

/// When each origin that is named here moved last, as this node has seen it.
#[derive(Debug, Default)]
pub(super) struct Folding {
    moved: BTreeMap<Origin, (u64, Instant)>,
}

/// By what it is decided.
pub(super) struct Bounds<'a> {
    /// What this node has.
    pub(super) mine: &'a Vector,
    /// What all members have that are waited for.
    pub(super) floor: &'a Vector,
    /// What each of them has.
    pub(super) acknowledged: &'a Acknowledged,
    /// The last fold that the quorum decided, as far as this node has applied that.
    pub(super) decided: u64,
    /// Whether all members that are waited for take folds.
    pub(super) is_taken_by_all: bool,
    /// As whom members write.
    pub(super) present: &'a BTreeSet<Origin>,
    /// More are named than this, before any is folded.
    pub(super) soft_cap: usize,
    /// So long an origin has not moved.
    pub(super) idle: Duration,
    /// So many may be folded in all.
    pub(super) folded_max: usize,
}

impl Folding {
    /// Takes note of how far each origin is.
    pub(super) fn look(&mut self, mine: &Vector, now: Instant) {
        self.moved.retain(|origin, _| mine.names(*origin));
        for Dot { origin, n } in mine.iter() {
            let moved = self.moved.entry(origin).or_insert((n, now));
            if moved.0 != n {
                *moved = (n, now);
            }
        }
    }

    /// The last changes of those that are to be folded, by origin; none where it is not worth it yet.
    pub(super) fn due(&self, bounds: &Bounds<'_>, now: Instant) -> Vec<Dot> {
        let Bounds { mine, floor, acknowledged, present, soft_cap, idle, .. } = *bounds;
        let latest = mine.generation();
        // The next one comes after those that all members know.
        let is_settled = floor.generation() == latest && bounds.decided <= latest;
        if !is_settled || !bounds.is_taken_by_all || soft_cap == 0 || mine.len() <= soft_cap {
            return Vec::new();
        }
        let moved = |dot: &Dot| self.moved.get(&dot.origin).map_or(now, |(_, at)| *at);
        let others = || acknowledged.others.iter().filter_map(|holder| holder.vector.as_ref());
        let is_due = |dot: &Dot| {
            floor.get(dot.origin) == dot.n
                && others().all(|vector| vector.get(dot.origin) <= dot.n)
                && !present.contains(&dot.origin)
                && now - moved(dot) >= idle
        };
        let mut due: Vec<Dot> = mine.iter().filter(is_due).collect();
        due.sort_by_key(|dot| (moved(dot), *dot));
        due.truncate(FOLD_ROWS_MAX);
        if due.len() < (soft_cap / WORTH_ONE_IN).max(1) {
            return Vec::new();
        }
        if mine.folds().len() + due.len() > bounds.folded_max {
            tracing::warn!(
                most = bounds.folded_max,
                "no more origins are folded: there are too many"
            );
            return Vec::new();
        }
        due.sort();
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gossip::Holder;
    use crate::model::vector::{FOLDED_MAX, Fold, FoldRow};
    use crate::model::{Folds, NodeName};

    fn origin(at: u8) -> Origin {
        Origin([at; 8])
    }

    fn vector(dots: &[(u8, u64)]) -> Vector {
        dots.iter().map(|&(at, n)| Dot { origin: origin(at), n }).collect()
    }

    fn holder(node: &str, dots: &[(u8, u64)], is_evicted: bool) -> Holder {
        Holder {
            node: NodeName::new(node).unwrap(),
            vector: Some(Arc::new(vector(dots))),
            silent: Duration::ZERO,
            lag: Duration::ZERO,
            is_evicted,
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Of which nothing is in the way.
    fn bounds<'a>(
        mine: &'a Vector,
        floor: &'a Vector,
        acknowledged: &'a Acknowledged,
        present: &'a BTreeSet<Origin>,
    ) -> Bounds<'a> {
        Bounds {
            mine,
            floor,
            acknowledged,
            decided: 0,
            is_taken_by_all: true,
            present,
            soft_cap: 3,
            idle: HOUR,
            folded_max: FOLDED_MAX,
        }
    }

    fn due(folding: &Folding, others: Vec<Holder>, mine: &Vector, at: Instant) -> Vec<u8> {
        let acknowledged = Acknowledged::new(mine, others);
        let floor = acknowledged.floor.clone().unwrap();
        let present = BTreeSet::from([origin(1)]);
        let bounds = bounds(mine, &floor, &acknowledged, &present);
        folding.due(&bounds, at).iter().map(|dot| dot.origin.0[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_moved_for_long_is_folded_and_what_somebody_writes_as_is_not() {
        let start = Instant::now();
        let mut folding = Folding::default();
        let mine = vector(&[(1, 5), (2, 5), (3, 5), (4, 5)]);
        folding.look(&mine, start);
        let all = || vec![holder("b", &[(1, 5), (2, 5), (3, 5), (4, 5)], false)];
        assert!(due(&folding, all(), &mine, start + HOUR / 2).is_empty(), "not for long");
        assert_eq!(due(&folding, all(), &mine, start + HOUR), [2, 3, 4]);
        let moved = vector(&[(1, 5), (2, 5), (3, 6), (4, 5)]);
        folding.look(&moved, start + HOUR / 2);
        let all = vec![holder("b", &[(1, 5), (2, 5), (3, 6), (4, 5)], false)];
        assert_eq!(due(&folding, all, &moved, start + HOUR), [2, 4], "one has moved");
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_all_have_alike_is_folded() {
        let mut folding = Folding::default();
        let mine = vector(&[(1, 5), (2, 5), (3, 5), (4, 5)]);
        let start = Instant::now();
        folding.look(&mine, start);
        let behind = vec![holder("b", &[(1, 5), (2, 4), (3, 5), (4, 5)], false)];
        assert_eq!(due(&folding, behind, &mine, start + HOUR), [3, 4]);
        let ahead = vec![holder("b", &[(1, 5), (2, 5), (3, 5), (4, 9)], false)];
        assert_eq!(due(&folding, ahead, &mine, start + HOUR), [2, 3]);
        let gone = vec![holder("b", &[(1, 5), (2, 4), (3, 9)], true)];
        assert_eq!(due(&folding, gone, &mine, start + HOUR), [2, 4], "who went is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn below_the_cap_nothing_is_folded() {
        let mut folding = Folding::default();
        let mine = vector(&[(2, 5), (3, 5), (4, 5)]);
        folding.look(&mine, Instant::now());
        assert!(due(&folding, vec![], &mine, Instant::now() + HOUR).is_empty());
    }

    /// This many origins that only this node has, and what is known of others: nothing.
    fn many(count: u64) -> Vector {
        (1..=count).map(|at| Dot { origin: Origin(at.to_be_bytes()), n: 1 }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_folded_before_all_know_what_was_decided_and_take_it_or_where_it_is_off() {
        let (mut folding, start) = (Folding::default(), Instant::now());
        let (mine, present) = (many(40), BTreeSet::new());
        folding.look(&mine, start);
        let acknowledged = Acknowledged::new(&mine, vec![]);
        let due = |change: &dyn Fn(&mut Bounds<'_>)| {
            let mut bounds = bounds(&mine, &mine, &acknowledged, &present);
            change(&mut bounds);
            folding.due(&bounds, start + HOUR).len()
        };
        assert_eq!(due(&|_| {}), 40);
        assert_eq!(due(&|it| it.decided = 1), 0, "a fold was decided and is not here");
        assert_eq!(due(&|it| it.is_taken_by_all = false), 0, "an older program would misread it");
        assert_eq!(due(&|it| it.soft_cap = 0), 0, "it is off");
        assert_eq!(due(&|it| it.soft_cap = 39), 40);
        assert_eq!(due(&|it| it.folded_max = 40), 40);
        assert_eq!(due(&|it| it.folded_max = 39), 0, "there are too many");
        let row = FoldRow { dot: Dot { origin: origin(9), n: 1 }, hash: [0; 32] };
        let folds = Folds::default().with(&Fold::new(1, vec![row]).unwrap()).unwrap();
        let mut ahead = mine.clone();
        ahead.fold(&Arc::new(folds), 1);
        let acknowledged = Acknowledged::new(&ahead, vec![]);
        let with = |floor: &Vector, folded_max: usize| {
            let mut bounds = bounds(&ahead, floor, &acknowledged, &present);
            (bounds.decided, bounds.folded_max) = (1, folded_max);
            folding.due(&bounds, start + HOUR).len()
        };
        assert_eq!(with(&mine, 100), 0, "somebody does not know the last one");
        assert_eq!((with(&ahead, 41), with(&ahead, 40)), (40, 0), "those that are folded count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fold_is_worth_it_takes_the_oldest_and_no_more_than_a_record_carries() {
        let (mut folding, start) = (Folding::default(), Instant::now());
        let count = FOLD_ROWS_MAX as u64 + 88;
        // The last ones were there first.
        let old: Vector = many(count).iter().skip(300).collect();
        folding.look(&old, start);
        let mine = many(count);
        folding.look(&mine, start + HOUR);
        let (acknowledged, present) = (Acknowledged::new(&mine, vec![]), BTreeSet::new());
        let due = |soft_cap: usize, at: Instant| {
            let bounds = Bounds { soft_cap, ..bounds(&mine, &mine, &acknowledged, &present) };
            folding.due(&bounds, at)
        };
        let oldest: Vec<Dot> = old.iter().collect();
        assert_eq!(due(3, start + HOUR), oldest);
        let all = due(3, start + 2 * HOUR);
        assert_eq!(all.len(), FOLD_ROWS_MAX);
        assert!(all.is_sorted() && all.ends_with(&oldest), "in their order, the oldest among them");
        // 300 of them are at least an eighth of 599, and would not be of so many as 2,408.
        assert_eq!(oldest.len(), 300);
        assert_eq!(due(599, start + HOUR).len(), 300);
        let few: Vector = many(count).iter().skip(count as usize - 70).collect();
        let mut folding = Folding::default();
        folding.look(&few, start);
        folding.look(&mine, start + HOUR);
        let due = |soft_cap: usize| {
            let bounds = Bounds { soft_cap, ..bounds(&mine, &mine, &acknowledged, &present) };
            folding.due(&bounds, start + HOUR).len()
        };
        assert_eq!((due(560), due(568)), (70, 0), "70 are an eighth of 560, and less of 568");
        // Of what is named no more nothing is kept.
        folding.look(&few, start + HOUR);
        assert_eq!(folding.moved.len(), 70);
    }
}
