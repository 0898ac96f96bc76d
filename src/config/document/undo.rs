//! A document's keys as they were at a floor, from what they are now and the few changes since: what a
//! roll would otherwise apply the whole epoch for. What it comes to is compared with what was agreed.

use std::collections::{BTreeMap, BTreeSet};

use super::roll::Past;
use super::{CheckedChange, Document, OpId, Sibling};
use crate::model::{Dot, Key, Vector};

/// Keys that have other siblings than now; none where a key was not there.
pub(super) type Undone = BTreeMap<Key, Vec<Sibling>>;

impl Document {
    /// The keys that were different at `floor`, which leaves `late` out. Nothing where that does not
    /// follow from these changes alone, or takes more than `changes_max` of them with those that are read.
    ///
    /// A sibling at the floor is one now, unless a late change replaced it, which says so. So what was
    /// there is among both; and where these are one change, it is that one.
    pub(super) fn undone<P: Past>(
        &self,
        floor: &Vector,
        late: &[CheckedChange],
        changes_max: usize,
        past: &mut P,
    ) -> Result<Option<Undone>, P::Error> {
        if !self.has_dots {
            return Ok(None);
        }
        let mut at_floor: BTreeMap<&Key, BTreeSet<Dot>> = BTreeMap::new();
        for change in late {
            let Some(replaces) = &change.replaces else { return Ok(None) };
            for ((key, _), replaced) in change.entries.iter().zip(replaces) {
                let here = self.rows.get(key).into_iter().flatten().map(|it| it.entry.dot);
                let dots = replaced.iter().copied().chain(here).filter(|dot| floor.includes(*dot));
                at_floor.entry(key).or_default().extend(dots);
            }
        }
        let mut undone = Undone::new();
        // What is no sibling now: each change is read once, however many of its keys are asked for.
        let mut asked: BTreeMap<Dot, BTreeSet<&Key>> = BTreeMap::new();
        for (key, dots) in at_floor {
            let Some(dot) = dots.first() else {
                undone.insert(key.clone(), Vec::new());
                continue;
            };
            match &siblings_of(self.rows.get(key), *dot)[..] {
                // Which of several had replaced which is not known.
                _ if dots.len() > 1 => return Ok(None),
                [] => drop(asked.entry(*dot).or_default().insert(key)),
                [sibling] => drop(undone.insert(key.clone(), vec![(*sibling).clone()])),
                _ => return Ok(None),
            }
        }
        let is_of_epoch = |dot: &Dot| self.by_dot.contains_key(dot);
        let (of_epoch, of_base): (BTreeMap<_, _>, BTreeMap<_, _>) =
            asked.into_iter().partition(|(dot, _)| is_of_epoch(dot));
        if late.len() + of_epoch.len() > changes_max {
            return Ok(None);
        }
        let base = if of_base.is_empty() { None } else { Some(self.as_epoch_began(past)?) };
        for (dot, keys) in of_base {
            for key in keys {
                let rows = base.as_ref().and_then(|base| base.rows.get(key));
                let [sibling] = siblings_of(rows, dot)[..] else { return Ok(None) };
                undone.insert(key.clone(), vec![sibling.clone()]);
            }
        }
        for (dot, mut keys) in of_epoch {
            let change = CheckedChange::of_record(&past.record(dot)?)?;
            if change.check_keys().is_err() {
                return Ok(None);
            }
            for ((key, entry), number) in change.entries.into_iter().zip(change.start_op..) {
                if keys.remove(&key) {
                    // Its operation is that of the epoch in which it was made.
                    let op = OpId { number, actor: change.actor };
                    let was = (change.epoch == 0 && self.epoch() > 0).then_some(op);
                    undone.insert(key, vec![Sibling { op, was, entry }]);
                }
            }
            if !keys.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(undone))
    }
}

/// What a change set among a key's siblings.
fn siblings_of(siblings: Option<&Vec<Sibling>>, dot: Dot) -> Vec<&Sibling> {
    siblings.into_iter().flatten().filter(|it| it.entry.dot == dot).collect()
}
