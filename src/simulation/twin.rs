//! What all nodes' changes come to had no document ever been rolled: the twin that a run with epochs
//! is held against. It reads the records out of the nodes' logs, and a model that knows neither epochs
//! nor Automerge ([`Epochless`]) takes them. What removals a roll left out, the model leaves out, too.
//!
//! It refuses to judge. Where not all is known (a log was trimmed, an origin has two changes under one
//! number, a record does not say what it replaces), it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::history::{Sibling, Twin};
use super::probe::ViewHash;
use crate::config::Entry;
use crate::config::document::CheckedChange;
use crate::config::epochless::Epochless;
use crate::config::record::Record;
use crate::config::roll::Roll;
use crate::model::vector::Fold;
use crate::model::{DocumentId, Dot, Folds, Key, Vector};

/// One document: its twin, and what was rolled.
#[derive(Default)]
struct One {
    model: Epochless,
    /// By epoch. Records of the same roll are one; they are counted.
    rolls: BTreeMap<u32, (Roll, u64)>,
    /// Of each change of an epoch, which.
    changes: BTreeMap<Dot, u32>,
    unknown: BTreeSet<Key>,
}

/// The twin of all these logs.
pub(crate) fn twin(logs: impl IntoIterator<Item = Vec<Bytes>>) -> Twin {
    let mut records: BTreeMap<Dot, Record> = BTreeMap::new();
    let mut twin = Twin::default();
    for record in logs.into_iter().flatten().filter_map(|bytes| Record::decode(bytes).ok()) {
        match records.get(&record.dot) {
            Some(known) if known.bytes != record.bytes => twin.forks += 1,
            Some(_) => {}
            None => drop(records.insert(record.dot, record)),
        }
    }
    let vector: Vector = records.keys().copied().collect();
    let counted: u64 = vector.iter().map(|last| last.n).sum();
    twin.missing = counted.saturating_sub(records.len() as u64);
    twin.vector = vector.iter().map(|dot| (dot.origin.to_string(), dot.n)).collect();
    let mut documents: BTreeMap<DocumentId, One> = BTreeMap::new();
    for record in records.values() {
        let one = documents.entry(record.document.clone()).or_default();
        if !one.take(record) {
            twin.unreadable += 1;
        }
    }
    let folds = Arc::new(folds_of(documents.values().flat_map(|one| one.rolls.values())));
    let mut view = ViewHash::default();
    for (document, one) in &mut documents {
        one.prune(&folds);
        one.tell(document, &folds, &mut twin, &mut view);
    }
    if twin.unknown.is_empty() {
        twin.view_hash = view.finish();
    }
    twin
}

/// All that was folded, by whatever document's rolls.
fn folds_of<'a>(rolls: impl Iterator<Item = &'a (Roll, u64)>) -> Folds {
    let folds: BTreeMap<u64, &Fold> = rolls
        .filter_map(|(roll, _)| roll.fold.as_ref())
        .map(|fold| (fold.generation, fold))
        .collect();
    folds.values().fold(Folds::default(), |folds, fold| folds.with(fold).unwrap_or(folds))
}

impl One {
    /// Takes a record; says whether it could be read.
    fn take(&mut self, record: &Record) -> bool {
        if Roll::is_roll(&record.change) {
            let Ok(roll) = Roll::decode(&record.change) else { return false };
            self.rolls.entry(roll.epoch).or_insert((roll, 0)).1 += 1;
            return true;
        }
        let Ok(change) = CheckedChange::decode(&record.change, record.dot) else { return false };
        self.changes.insert(record.dot, record.epoch);
        let replaces = record.replaces.as_deref();
        for (number, (key, entry)) in change.entries.iter().enumerate() {
            match replaces.and_then(|replaces| replaces.get(number)) {
                Some(replaces) => self.model.write(key, entry, replaces),
                None => drop(self.unknown.insert(key.clone())),
            }
        }
        true
    }

    fn prune(&mut self, folds: &Arc<Folds>) {
        for (roll, _) in self.rolls.values() {
            self.model.prune(&roll.floor.read(folds), roll.removals_before);
        }
    }

    fn tell(&self, document: &DocumentId, folds: &Folds, twin: &mut Twin, view: &mut ViewHash) {
        let place = |key: &Key| format!("{document}/{key}");
        view.document(document);
        for key in self.model.keys() {
            let siblings = self.model.siblings(key);
            view.row(key, &siblings);
            twin.rows.insert(place(key), siblings.iter().map(sibling).collect());
        }
        twin.unknown.extend(self.unknown.iter().map(place));
        if let Some((epoch, _)) = self.rolls.last_key_value() {
            twin.epochs.insert(document.to_string(), *epoch);
        }
        twin.repeated += self.rolls.values().map(|(_, records)| records - 1).sum::<u64>();
        let is_late = |(dot, epoch): &(&Dot, &u32)| {
            self.rolls
                .range(**epoch + 1..)
                .next()
                .is_some_and(|(_, (roll, _))| !roll.floor.includes(**dot, folds))
        };
        twin.late += self.changes.iter().filter(is_late).count() as u64;
    }
}

fn sibling(entry: &Entry) -> Sibling {
    let value = entry.value.as_ref().map(|value| {
        let parsed: Result<String, _> = serde_json::from_str(value.as_str());
        parsed.unwrap_or_else(|_| value.as_str().to_owned())
    });
    Sibling {
        value,
        version: entry.version,
        origin: entry.dot.origin.to_string(),
        updated_at: entry.stamp.to_string(),
    }
}

#[cfg(test)]
mod tests;
