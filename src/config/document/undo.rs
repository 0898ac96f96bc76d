//! A document's keys as they were at a floor, from what they are now and the few changes since: what a
//! roll would otherwise apply the whole epoch for. What it comes to is compared with what was agreed.

use std::collections::btree_map;
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
    /// A sibling at the floor is one now, unless a late change replaced it, which says so: so what was
    /// there is among both. Of these one may have replaced another, itself or by what it replaced.
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
        let Some(reads_max) = changes_max.checked_sub(late.len()) else { return Ok(None) };
        let mut looked =
            Looked { document: self, past, changes: BTreeMap::new(), reads_max, base: None };
        let mut undone = Undone::new();
        for (key, dots) in at_floor {
            let Some(siblings) = looked.siblings(key, &dots)? else { return Ok(None) };
            undone.insert(key.clone(), siblings);
        }
        Ok(Some(undone))
    }
}

/// A change that was read, and where each key stands in it: a key is looked up in many, and of one many
/// are.
struct Read {
    change: CheckedChange,
    places: BTreeMap<Key, usize>,
}

/// What was looked up of a document's past.
struct Looked<'a, P> {
    document: &'a Document,
    past: &'a mut P,
    /// Changes of its epoch.
    changes: BTreeMap<Dot, Read>,
    /// Most of them.
    reads_max: usize,
    /// The document as its epoch began.
    base: Option<Document>,
}

impl<P: Past> Looked<'_, P> {
    /// What of these was there of the key; nothing where that cannot be told.
    fn siblings(
        &mut self,
        key: &Key,
        dots: &BTreeSet<Dot>,
    ) -> Result<Option<Vec<Sibling>>, P::Error> {
        let replaced = match dots.len() {
            0 | 1 => BTreeSet::new(),
            _ => match self.replaced(key, dots)? {
                Some(replaced) => replaced,
                None => return Ok(None),
            },
        };
        let mut siblings = Vec::new();
        for dot in dots.difference(&replaced) {
            let Some(sibling) = self.sibling(key, *dot)? else { return Ok(None) };
            siblings.extend(sibling);
        }
        Ok(Some(siblings))
    }

    /// What these, and what they replaced, replaced of the key. Whatever replaced another has a higher
    /// version: it is followed down to the lowest of these.
    fn replaced(
        &mut self,
        key: &Key,
        dots: &BTreeSet<Dot>,
    ) -> Result<Option<BTreeSet<Dot>>, P::Error> {
        let mut lowest = u64::MAX;
        for dot in dots {
            let Some(sibling) = self.sibling(key, *dot)? else { return Ok(None) };
            lowest = sibling.map_or(lowest, |it| lowest.min(it.entry.version));
        }
        let mut replaced = BTreeSet::new();
        let mut next: Vec<Dot> = dots.iter().copied().collect();
        while let Some(dot) = next.pop() {
            if !self.document.by_dot.contains_key(&dot) {
                // It was there as the epoch began, beside all others that were.
                continue;
            }
            let Some((change, i)) = self.written(key, dot)? else { return Ok(None) };
            let Some(replaces) = &change.replaces else { return Ok(None) };
            if change.entries[i].1.version > lowest {
                let is_new = |dot: &Dot| replaced.insert(*dot);
                next.extend(replaces[i].iter().copied().filter(is_new));
            }
        }
        Ok(Some(replaced))
    }

    /// What a change set of a key; nothing where that cannot be told. It was no sibling in this epoch where
    /// it is of one before, and was left out as this one began.
    fn sibling(&mut self, key: &Key, dot: Dot) -> Result<Option<Option<Sibling>>, P::Error> {
        let document = self.document;
        match siblings_of(document, key, dot)[..] {
            [] if document.by_dot.contains_key(&dot) => {
                Ok(self.written(key, dot)?.map(|(change, i)| {
                    // Its operation is that of the epoch in which it was made.
                    let op = OpId { number: change.start_op + i as u64, actor: change.actor };
                    let was = (change.epoch == 0 && document.epoch() > 0).then_some(op);
                    Some(Sibling { op, was, entry: change.entries[i].1.clone() })
                }))
            }
            [] => match siblings_of(self.base()?, key, dot)[..] {
                [] => Ok(Some(None)),
                [sibling] => Ok(Some(Some(sibling.clone()))),
                _ => Ok(None),
            },
            [sibling] => Ok(Some(Some(sibling.clone()))),
            _ => Ok(None),
        }
    }

    /// The change of the epoch that wrote a key, and where in it; nothing where that is more than is read.
    fn written(
        &mut self,
        key: &Key,
        dot: Dot,
    ) -> Result<Option<(&CheckedChange, usize)>, P::Error> {
        let count = self.changes.len();
        let read = match self.changes.entry(dot) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(_) if count >= self.reads_max => return Ok(None),
            btree_map::Entry::Vacant(place) => {
                let change = CheckedChange::of_record(&self.past.record(dot)?)?;
                let keys = change.entries.iter().enumerate();
                let places = keys.map(|(i, (key, _))| (key.clone(), i)).collect();
                place.insert(Read { change, places })
            }
        };
        // One that sets a key twice says of neither place what was there.
        let is_good = read.places.len() == read.change.entries.len();
        Ok(read.places.get(key).filter(|_| is_good).map(|i| (&read.change, *i)))
    }

    fn base(&mut self) -> Result<&Document, P::Error> {
        match &mut self.base {
            Some(base) => Ok(base),
            none => Ok(none.insert(self.document.as_epoch_began(self.past)?)),
        }
    }
}

/// What a change set among a key's siblings.
fn siblings_of<'a>(document: &'a Document, key: &Key, dot: Dot) -> Vec<&'a Sibling> {
    let siblings = document.rows.get(key).into_iter().flatten();
    siblings.filter(|it| it.entry.dot == dot).collect()
}
