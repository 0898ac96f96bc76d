//! Late changes: those of an epoch before that the base of this one does not hold. Each is made
//! anew in this epoch, and everyone comes to the same bytes, since nothing goes into them but the
//! base, the change as it was made, and what those that it builds on came to here. What it says
//! stays: entries, with their dots, stamps, versions and authors, and whose entries they replace.
//!
//! A change is made anew from its own epoch straight into this one, however many lie between. It is
//! logged and sent on in its own bytes alone.

use std::collections::BTreeSet;

use automerge::ChangeHash;

use super::{
    ActorBytes, CheckedChange, Document, DocumentError, GENESIS, LastChange, OPERATIONS_MAX, OpId,
    Sibling, encode,
};
use crate::config::entry::Entry;
use crate::model::{Dot, Key, Origin};
use crate::planted::{Bug, is_planted};

/// Who makes a base's changes: no origin of a node begins like this.
const BASE_ACTOR_PREFIX: [u8; 4] = [0xff; 4];

/// The actor of an epoch's base that holds each key's sibling number `rank`.
pub(super) fn base_actor(epoch: u32, rank: u32) -> ActorBytes {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&BASE_ACTOR_PREFIX);
    bytes[4..8].copy_from_slice(&epoch.to_be_bytes());
    bytes[8..].copy_from_slice(&rank.to_be_bytes());
    bytes
}

/// Whether an actor or an origin begins as the actors of bases do: no node's may.
pub(crate) fn is_reserved(bytes: &[u8]) -> bool {
    bytes.starts_with(&BASE_ACTOR_PREFIX)
}

impl Document {
    /// Other origins' changes that a next one of `own` would need. Who has all of them, and `own`'s
    /// before, is in this epoch.
    pub fn needs(&self, own: Origin) -> Vec<Dot> {
        let mut needs: Vec<Dot> = Vec::new();
        for dot in self.heads.values() {
            if dot.origin != own && !needs.contains(dot) {
                needs.push(*dot);
            }
        }
        let Some(rolled) = &self.rolled else { return needs };
        // A change that was made in this epoch needs its roll already; a late one does not.
        let is_of_epoch = |dot: &Dot| *dot == rolled.record || !self.late.contains(dot);
        let is_said = self.heads.values().any(is_of_epoch) || rolled.record.origin == own;
        if !is_said {
            needs.push(rolled.record);
        }
        needs
    }

    /// Refuses a change whose operations replace something else than it says: it would do one thing
    /// here, and another where it is late. In epoch 0 what others replaced already is not looked at.
    pub(super) fn check_replaces(&self, change: &CheckedChange) -> Result<(), DocumentError> {
        let Some(replaces) = &change.replaces else { return Ok(()) };
        for (((key, _), ops), dots) in change.entries.iter().zip(&change.replaced).zip(replaces) {
            let siblings = self.rows.get(key).into_iter().flatten();
            let here = siblings.map(|it| (it.op, it.entry.dot));
            let gone = self.gone.get(key).into_iter().flatten().map(|gone| (gone.op, gone.dot));
            let names = |(op, dot): &(OpId, Dot)| ops.contains(op) || dots.contains(dot);
            let mut named: Vec<(OpId, Dot)> = here.filter(names).collect();
            let is_all = |named: &[(OpId, Dot)]| named.len() == ops.len().max(dots.len());
            if !is_all(&named) {
                // Long in a key that is written often, and hardly ever looked at.
                named.extend(gone.filter(names));
            }
            let both = |(op, dot): &(OpId, Dot)| ops.contains(op) && dots.contains(dot);
            let is_whole = self.rolled.is_none() || (is_all(&named) && ops.len() == dots.len());
            if !named.iter().all(both) || !is_whole {
                let why = "it replaces something else than it says";
                return Err(DocumentError::Refused(why.into()));
            }
        }
        Ok(())
    }

    /// Takes a change of an epoch before, if it is not held already.
    pub(super) fn take_late(&mut self, change: &CheckedChange) -> Result<(), DocumentError> {
        let is_in_base =
            self.rolled.as_ref().is_some_and(|it| it.roll.floor.includes(change.dot, &self.folds));
        if is_in_base || self.by_dot.contains_key(&change.dot) {
            return Ok(());
        }
        change.check_keys()?;
        let deps = self.late_deps(change);
        let before = deps.iter().filter_map(|hash| self.changes.get(hash)).max();
        let start_op = before.copied().unwrap_or(0) + 1;
        let max_op = start_op - 1 + change.entries.len() as u64;
        if max_op > OPERATIONS_MAX {
            return Err(DocumentError::Refused("there are too many operations".into()));
        }
        let (actor, seq) = (change.actor, self.next_seq(&change.actor));
        let operation = |(i, (key, entry)): (usize, &'_ (Key, Entry))| {
            let mut replaced = self.late_replaced(change, i, key);
            replaced.retain(|op| op.number < start_op + i as u64);
            replaced.sort_unstable();
            (key.clone(), entry.clone(), replaced)
        };
        let writes: Vec<(Key, Entry, Vec<OpId>)> =
            change.entries.iter().enumerate().map(operation).collect();
        let operations: Vec<encode::Operation<'_>> = writes
            .iter()
            .map(|(key, entry, replaced)| encode::Operation {
                key,
                entry,
                replaced: replaced.clone(),
            })
            .collect();
        let draft = encode::Draft { actor, seq, start_op, deps: &deps, operations: &operations };
        let (hash, _bytes) = encode::change(&draft);
        #[cfg(test)]
        self.trace.push(_bytes);
        for ((key, entry, replaced), i) in writes.into_iter().zip(0..) {
            let op = OpId { number: start_op + i, actor };
            let was = match change.epoch {
                0 => Some(OpId { number: change.start_op + i, actor }),
                _ => None,
            };
            self.set(&key, Sibling { op, was, entry }, &replaced);
        }
        self.late.insert(change.dot);
        self.advance(actor, LastChange { seq, hash, max_op }, &deps, change.dot);
        Ok(())
    }

    /// What a late change builds on here: those that it built on, where the base does not hold them,
    /// else the base. Its needs name the others' changes; its origin's own before is always among
    /// what it built on. Sorted.
    fn late_deps(&self, change: &CheckedChange) -> Vec<ChangeHash> {
        let own = change.dot.origin;
        let first = Dot { origin: own, n: 0 };
        let own = self.by_dot.range(first..change.dot).next_back().map(|(dot, _)| dot);
        let dots = change.needs.iter().chain(own);
        // Those in no place here are in the base, or rolls.
        let deps: BTreeSet<ChangeHash> =
            dots.filter_map(|dot| self.by_dot.get(dot)).copied().collect();
        match deps.is_empty() {
            true => self.base_heads(),
            false => deps.into_iter().collect(),
        }
    }

    /// The changes of the base; the genesis change, where there is nothing in it. Sorted.
    fn base_heads(&self) -> Vec<ChangeHash> {
        let epoch = self.epoch();
        let all = base_actor(epoch, 0)..=base_actor(epoch, u32::MAX);
        let mut heads: Vec<ChangeHash> =
            self.actors.range(all).map(|(_, last)| last.hash).collect();
        if heads.is_empty() {
            heads.push(*GENESIS);
        }
        heads.sort_unstable();
        heads
    }

    /// The operations here of those entries that the change's entry number `i` replaces. What the
    /// base left out is in no place any more, and needs no replacing.
    fn late_replaced(&self, change: &CheckedChange, i: usize, key: &Key) -> Vec<OpId> {
        if is_planted(Bug::LateForgetsReplaced) {
            return Vec::new();
        }
        let siblings = self.rows.get(key).into_iter().flatten();
        let siblings = siblings.map(|it| (it.entry.dot, it.op, it.was));
        let gone = self.gone.get(key).into_iter().flatten().map(|it| (it.dot, it.op, it.was));
        let is_replaced = |dot: Dot, was: Option<OpId>| match &change.replaces {
            Some(replaces) => replaces[i].contains(&dot),
            // By what it was in epoch 0, the only one of changes that do not say.
            None => was.is_some_and(|was| change.replaced[i].contains(&was)),
        };
        let all = siblings.chain(gone).filter(|(dot, _, was)| is_replaced(*dot, *was));
        all.map(|(_, op, _)| op).collect()
    }
}
