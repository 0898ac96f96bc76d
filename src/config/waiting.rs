//! The window of changes that came before what they build on. Bounded: when it is full, what does
//! not fit is let go, and anti-entropy asks for it again, in order.

use std::collections::{BTreeMap, VecDeque};

use super::record::Record;
use crate::model::{Dot, Folds, Origin, Vector};

/// Changes that wait for others.
#[derive(Debug)]
pub struct Waiting {
    records: BTreeMap<Dot, Record>,
    bytes: usize,
    bytes_max: usize,
    /// What each origin has of `bytes`.
    shares: BTreeMap<Origin, usize>,
}

/// An origin may have this part of the window, so that one whose changes can never be applied
/// leaves room for the others.
const SHARE: usize = 4;

impl Waiting {
    /// A window that holds at most about `bytes_max` bytes of records.
    pub fn new(bytes_max: usize) -> Self {
        Self { records: BTreeMap::new(), bytes: 0, bytes_max, shares: BTreeMap::new() }
    }

    /// How many changes wait.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        self.records.clear();
        self.shares.clear();
        self.bytes = 0;
    }

    /// Takes a change that cannot be applied yet. `false`: there was no room for it.
    pub fn hold(&mut self, record: Record) -> bool {
        if self.records.contains_key(&record.dot) {
            return true;
        }
        let len = record.bytes.len();
        // Whose change finds no room is not remembered for it: anybody can name any origin.
        let share = self.shares.get(&record.dot.origin).copied().unwrap_or(0) + len;
        if self.bytes + len > self.bytes_max || share > self.bytes_max / SHARE {
            return false;
        }
        self.shares.insert(record.dot.origin, share);
        self.bytes += len;
        self.records.insert(record.dot, record);
        true
    }

    /// Takes out one change that a state with `vector` can apply; repeated until there is none,
    /// with the vector advanced by each, it gives them in an order that can be applied. Changes
    /// that the state includes already are dropped on the way.
    pub fn next_applicable(&mut self, vector: &Vector) -> Option<Record> {
        let mut candidate = self.records.keys().next().copied();
        while let Some(dot) = candidate {
            if vector.includes(dot) {
                self.take(dot);
                candidate = self.first_after(dot);
                continue;
            }
            // Within an origin only the next number can be applied: look at it, then go to the
            // next origin.
            let next = Dot { origin: dot.origin, n: vector.get(dot.origin) + 1 };
            if self.records.get(&next).is_some_and(|record| is_applicable(record, vector)) {
                return self.take(next);
            }
            candidate = self.first_after(Dot { origin: dot.origin, n: u64::MAX });
        }
        None
    }

    fn first_after(&self, dot: Dot) -> Option<Dot> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.records.range((Excluded(dot), Unbounded)).next().map(|(dot, _)| *dot)
    }

    fn take(&mut self, dot: Dot) -> Option<Record> {
        let record = self.records.remove(&dot)?;
        self.bytes -= record.bytes.len();
        if let Some(share) = self.shares.get_mut(&dot.origin) {
            *share -= record.bytes.len();
            if *share == 0 {
                self.shares.remove(&dot.origin);
            }
        }
        Some(record)
    }
}

/// Whether a state with `vector` includes all that the change builds on.
pub fn is_applicable(record: &Record, vector: &Vector) -> bool {
    record.dot.n == vector.get(record.dot.origin) + 1
        && record.needs.iter().all(|dot| vector.includes(*dot))
}

/// The records of one document in an order in which each comes after those of them that it builds
/// on: where it needs a fold, which may name them no more, after what is folded, by these folds. Those
/// that never can, which no node makes, come last.
pub fn in_causal_order(mut records: Vec<Record>, folds: &Folds) -> Vec<Record> {
    records.sort_by_key(|record| record.dot);
    let mut ordered = Vec::with_capacity(records.len());
    let mut queues: BTreeMap<Origin, VecDeque<Record>> = BTreeMap::new();
    for record in records {
        queues.entry(record.dot.origin).or_default().push_back(record);
    }
    let mut progress = true;
    while std::mem::take(&mut progress) {
        let origins: Vec<Origin> = queues.keys().copied().collect();
        for origin in origins {
            while let Some(record) = queues.get(&origin).and_then(VecDeque::front) {
                let is_next_behind = |of: Origin, n: u64| {
                    let next = queues.get(&of).and_then(VecDeque::front);
                    next.is_none_or(|next| next.dot.n > n || of == origin)
                };
                let is_out = |dot: &Dot| match dot.origin == Origin::FOLDS {
                    true => queues.keys().all(|of| is_next_behind(*of, folds.at(*of, dot.n))),
                    false => is_next_behind(dot.origin, dot.n),
                };
                if !record.needs.iter().all(is_out) {
                    break;
                }
                ordered.extend(queues.get_mut(&origin).and_then(VecDeque::pop_front));
                progress = true;
            }
        }
        queues.retain(|_, queue| !queue.is_empty());
    }
    ordered.extend(queues.into_values().flatten());
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::record::NO_RECORD;
    use crate::model::vector::{Fold, FoldRow};
    use crate::model::{DocumentId, Origin};
    use proptest::prelude::*;

    fn dot(origin: u8, n: u64) -> Dot {
        Dot { origin: Origin([origin; 8]), n }
    }

    fn record(dot: Dot, needs: Vec<Dot>) -> Record {
        Record::new(dot, NO_RECORD, DocumentId::parse("a/b").unwrap(), 0, needs, b"")
    }

    fn drain(waiting: &mut Waiting, vector: &mut Vector) -> Vec<Dot> {
        let mut order = Vec::new();
        while let Some(record) = waiting.next_applicable(vector) {
            vector.advance(record.dot);
            order.push(record.dot);
        }
        order
    }

    #[test]
    fn an_origin_whose_change_finds_no_room_leaves_nothing_behind() {
        let mut waiting = Waiting::new(10);
        for origin in 0..=255 {
            assert!(!waiting.hold(record(dot(origin, 2), vec![])));
        }
        assert!(waiting.shares.is_empty());
    }

    #[test]
    fn what_waits_comes_out_after_what_it_needs() {
        let mut waiting = Waiting::new(10_000);
        assert!(waiting.hold(record(dot(1, 2), vec![])));
        assert!(waiting.hold(record(dot(2, 1), vec![dot(1, 2)])));
        let mut vector = Vector::new();
        assert!(drain(&mut waiting, &mut vector).is_empty());
        assert!(waiting.hold(record(dot(1, 1), vec![])));
        assert_eq!(drain(&mut waiting, &mut vector), [dot(1, 1), dot(1, 2), dot(2, 1)]);
        assert!(waiting.is_empty() && waiting.bytes == 0 && waiting.shares.is_empty());
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut waiting = Waiting::new(1_000);
        let held = (2..1_000).filter(|n| waiting.hold(record(dot(1, *n), vec![]))).count();
        assert!(held < 5 && waiting.bytes <= 1_000);
        assert!(waiting.hold(record(dot(2, 2), vec![])), "there is room for another origin");
    }

    proptest! {
        #[test]
        fn any_order_of_arrival_comes_out_causally(order in Just((0..30u64).collect::<Vec<_>>()).prop_shuffle()) {
            // Three origins take turns; each builds on the one before.
            let nth = |i: u64| dot((i % 3) as u8 + 1, i / 3 + 1);
            let mut waiting = Waiting::new(1_000_000);
            let mut vector = Vector::new();
            let mut seen = Vec::new();
            for i in order {
                let needs = if i == 0 { vec![] } else { vec![nth(i - 1)] };
                prop_assert!(waiting.hold(record(nth(i), needs)));
                seen.extend(drain(&mut waiting, &mut vector));
            }
            prop_assert_eq!(seen, (0..30).map(nth).collect::<Vec<_>>());
        }

        #[test]
        fn records_are_put_in_a_causal_order(order in Just((0..30u64).collect::<Vec<_>>()).prop_shuffle()) {
            let nth = |i: u64| dot((i % 3) as u8 + 1, i / 3 + 1);
            // What is not among them is there already.
            let needs = |i: u64| if i == 0 { vec![dot(9, 4)] } else { vec![nth(i - 1)] };
            let records = order.into_iter().map(|i| record(nth(i), needs(i))).collect();
            let dots: Vec<Dot> = in_causal_order(records, &Folds::default()).iter().map(|record| record.dot).collect();
            prop_assert_eq!(dots, (0..30).map(nth).collect::<Vec<_>>());
        }
    }

    #[test]
    fn records_that_need_each_other_are_not_lost() {
        let records = vec![record(dot(1, 1), vec![dot(2, 1)]), record(dot(2, 1), vec![dot(1, 1)])];
        assert_eq!(in_causal_order(records, &Folds::default()).len(), 2);
    }

    #[test]
    fn what_needs_a_fold_comes_after_what_that_names_no_more() {
        let row = |n| FoldRow { dot: dot(2, n), hash: [0; 32] };
        let with = |folds: Folds, generation, n| {
            folds.with(&Fold::new(generation, vec![row(n)]).unwrap()).unwrap()
        };
        let folds = with(with(Folds::default(), 1, 2), 2, 3);
        let fold = |n| Dot { origin: Origin::FOLDS, n };
        let records = vec![
            record(dot(1, 1), vec![fold(1)]),
            record(dot(1, 2), vec![fold(2)]),
            record(dot(2, 1), vec![]),
            record(dot(2, 2), vec![]),
            record(dot(2, 3), vec![dot(1, 1)]),
            // Of the folded origin itself, which goes on.
            record(dot(2, 4), vec![fold(2)]),
        ];
        let dots: Vec<Dot> = in_causal_order(records, &folds).iter().map(|it| it.dot).collect();
        let expected = [dot(2, 1), dot(2, 2), dot(1, 1), dot(2, 3), dot(1, 2), dot(2, 4)];
        assert!(dots == expected || dots[4..] == [dot(2, 4), dot(1, 2)], "{dots:?}");
        assert_eq!(dots[..4], expected[..4]);
    }
}
