//! What a document shows, by a model that knows no epochs and no Automerge: of each key the entries
//! that no other has replaced. Tests and the simulator hold the real document to it, whatever was
//! rolled when. It stores nothing and sends nothing.
//!
//! Feed it each change once, in any order. A roll changes nothing of it but for the removals that
//! the roll leaves out of its base: [`Epochless::prune`] tells of those.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Entry;
use crate::model::{Dot, Key, Stamp, Vector};

/// One document, by all writes of it.
#[derive(Clone, Debug, Default)]
pub struct Epochless {
    keys: BTreeMap<Key, OneKey>,
}

#[derive(Clone, Debug, Default)]
struct OneKey {
    entries: BTreeMap<Dot, Entry>,
    /// Which changes replaced this change's entry.
    replaced: BTreeMap<Dot, BTreeSet<Dot>>,
    /// Entries that a roll left out.
    pruned: BTreeSet<Dot>,
}

impl OneKey {
    fn siblings(&self) -> impl Iterator<Item = &Entry> {
        let is_there = |dot: &Dot| !self.replaced.contains_key(dot) && !self.pruned.contains(dot);
        self.entries.iter().filter(move |(dot, _)| is_there(dot)).map(|(_, entry)| entry)
    }

    /// As of the changes that `floor` includes.
    fn siblings_at(&self, floor: &Vector) -> Vec<&Entry> {
        let is_replaced = |dot: &Dot| {
            self.replaced.get(dot).is_some_and(|by| by.iter().any(|dot| floor.includes(*dot)))
        };
        let is_there =
            |dot: &Dot| floor.includes(*dot) && !is_replaced(dot) && !self.pruned.contains(dot);
        self.entries.iter().filter(|(dot, _)| is_there(dot)).map(|(_, entry)| entry).collect()
    }
}

impl Epochless {
    /// A document that nothing was written to.
    pub fn new() -> Self {
        Self::default()
    }

    /// A change wrote this entry of the key, in place of those of `replaces`.
    pub fn write(&mut self, key: &Key, entry: &Entry, replaces: &[Dot]) {
        let one = self.keys.entry(key.clone()).or_default();
        for dot in replaces {
            one.replaced.entry(*dot).or_default().insert(entry.dot);
        }
        one.entries.insert(entry.dot, entry.clone());
    }

    /// The document was rolled at `floor`: rows that were nothing but removals before
    /// `removals_before` there are gone. All changes that the floor includes have to be written, and
    /// earlier rolls told.
    pub fn prune(&mut self, floor: &Vector, removals_before: Stamp) {
        for one in self.keys.values_mut() {
            let siblings = one.siblings_at(floor);
            let is_old = |entry: &&Entry| entry.is_removal() && entry.stamp < removals_before;
            if siblings.iter().all(is_old) {
                let dots: Vec<Dot> = siblings.iter().map(|entry| entry.dot).collect();
                one.pruned.extend(dots);
            }
        }
    }

    /// The entries of a key that nothing has replaced, in the order in which they are shown.
    pub fn siblings(&self, key: &Key) -> Vec<Entry> {
        let siblings = self.keys.get(key).into_iter().flat_map(OneKey::siblings);
        let mut siblings: Vec<Entry> = siblings.cloned().collect();
        siblings.sort_by(Entry::precedence);
        siblings
    }

    /// All keys that have a row.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|(_, one)| one.siblings().next().is_some()).map(|(key, _)| key)
    }
}
