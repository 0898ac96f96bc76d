//! Which origins are folded: those that every member has the same of, that nobody has written as for
//! long, and that no member writes as. It is told the time, and looks at vectors alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::gossip::Acknowledged;
use crate::model::vector::{FOLD_ROWS_MAX, FOLDED_MAX};
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
    /// As whom members write.
    pub(super) present: &'a BTreeSet<Origin>,
    /// More are named than this, before any is folded.
    pub(super) soft_cap: usize,
    /// So long an origin has not moved.
    pub(super) idle: Duration,
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
        let Bounds { mine, floor, acknowledged, present, soft_cap, idle } = *bounds;
        if soft_cap == 0 || mine.len() <= soft_cap {
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
        if mine.folds().len() + due.len() > FOLDED_MAX {
            tracing::warn!(most = FOLDED_MAX, "no more origins are folded: there are too many");
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
    use crate::model::NodeName;

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

    fn due(folding: &Folding, others: Vec<Holder>, mine: &Vector, at: Instant) -> Vec<u8> {
        let acknowledged = Acknowledged::new(mine, others);
        let floor = acknowledged.floor.clone().unwrap();
        let bounds = Bounds {
            mine,
            floor: &floor,
            acknowledged: &acknowledged,
            present: &BTreeSet::from([origin(1)]),
            soft_cap: 3,
            idle: HOUR,
        };
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
}
