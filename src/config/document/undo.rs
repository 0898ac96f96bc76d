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
    /// follow from these changes alone.
    ///
    /// A sibling at the floor is one now, unless a late change replaced it, which says so. So what was
    /// there is among both; and where these are one change, it is that one.
    pub(super) fn undone<P: Past>(
        &self,
        floor: &Vector,
        late: &[CheckedChange],
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
        let mut base = None;
        for (key, dots) in at_floor {
            let siblings = match dots.into_iter().collect::<Vec<_>>()[..] {
                [] => Vec::new(),
                [dot] => match self.sibling_at(key, dot, &mut base, past)? {
                    Some(sibling) => vec![sibling],
                    None => return Ok(None),
                },
                // Which of them had replaced which is not known.
                _ => return Ok(None),
            };
            undone.insert(key.clone(), siblings);
        }
        Ok(Some(undone))
    }

    /// What a change of this epoch, or of its base, set a key to. Its operation is that of the epoch in
    /// which it was made.
    fn sibling_at<P: Past>(
        &self,
        key: &Key,
        dot: Dot,
        base: &mut Option<Self>,
        past: &mut P,
    ) -> Result<Option<Sibling>, P::Error> {
        let is_it = |it: &&Sibling| it.entry.dot == dot;
        if let Some(sibling) = self.rows.get(key).into_iter().flatten().find(is_it) {
            return Ok(Some(sibling.clone()));
        }
        if !self.by_dot.contains_key(&dot) {
            if base.is_none() {
                *base = Some(self.as_epoch_began(past)?);
            }
            let rows = base.as_ref().and_then(|base| base.rows.get(key));
            return Ok(rows.into_iter().flatten().find(is_it).cloned());
        }
        let change = CheckedChange::of_record(&past.record(dot)?)?;
        if change.check_keys().is_err() {
            return Ok(None);
        }
        let mut entries = change.entries.into_iter().zip(change.start_op..);
        let Some(((_, entry), number)) = entries.find(|((of, _), _)| of == key) else {
            return Ok(None);
        };
        let op = OpId { number, actor: change.actor };
        let was = (change.epoch == 0 && self.epoch() > 0).then_some(op);
        Ok(Some(Sibling { op, was, entry }))
    }
}
