//! Peers' records in a group: each is checked, held until what it builds on is there, and merged into its
//! document.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use redb::ReadableDatabase as _;

use super::{Abort, Group, Ready};
use crate::config::document::DocumentError;
use crate::config::record::{NO_RECORD, Record};
use crate::config::waiting::is_applicable;
use crate::model::vector::VECTOR_ORIGINS_MAX;
use crate::model::{DocumentId, Key, Origin};
use crate::storage::error::StoreError;
use crate::storage::log;
use crate::storage::past::Checked;
use crate::storage::writer::{Applied, Writer};

/// Origins that are left for this node's own when peers have used up the rest.
const ORIGINS_RESERVED: usize = 16;

impl Group {
    pub(super) fn apply(
        &mut self,
        writer: &mut Writer,
        records: &[Bytes],
    ) -> Result<Applied, Abort> {
        let mut applied = Applied::default();
        let mut ready: Vec<Ready> = Vec::new();
        for bytes in records {
            let record = match Record::decode(bytes.clone()) {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!(%error, "a peer sent what is no record");
                    writer.quarantined += 1;
                    applied.quarantined += 1;
                    continue;
                }
            };
            self.offer(writer, record, &mut ready, &mut applied)?;
        }
        while let Some(record) = writer.waiting.next_applicable(&writer.state.vector) {
            accept(writer, record, &mut ready, &mut applied)?;
        }
        applied.new = ready.len();
        self.merge(writer, ready)?;
        Ok(applied)
    }

    fn offer(
        &self,
        writer: &mut Writer,
        record: Record,
        ready: &mut Vec<Ready>,
        applied: &mut Applied,
    ) -> Result<(), Abort> {
        if writer.refused.contains(&record.hash) {
            applied.quarantined += 1;
        } else if writer.state.vector.includes(record.dot) {
            let mut staged = ready.iter().map(|(known, _)| known).chain(&self.records);
            let known = match staged.find(|known| known.dot == record.dot) {
                Some(known) => Some(known.hash),
                None => {
                    let tx = writer.database.get()?.begin_read().map_err(StoreError::from)?;
                    log::get(&tx, record.dot)?.map(|known| known.hash)
                }
            };
            if known.is_none_or(|known| known == record.hash) {
                applied.duplicate += 1;
            } else {
                fork(writer, &record)?;
                applied.quarantined += 1;
            }
        } else if record.dot.origin == writer.actor.origin {
            writer.renew_origin(&"a peer sent a change of it that it does not have");
            return Err(Abort::Renewed);
        } else if is_one_too_many(writer, record.dot.origin) {
            tracing::error!(origin = %record.dot.origin, "there are too many origins already");
            applied.dropped += 1;
        } else {
            if is_applicable(&record, &writer.state.vector) {
                accept(writer, record, ready, applied)?;
            } else if writer.waiting.hold(record) {
                applied.waiting += 1;
            } else {
                applied.dropped += 1;
            }
        }
        Ok(())
    }

    /// Merges changes that can be applied, a document at a time.
    fn merge(&mut self, writer: &mut Writer, ready: Vec<Ready>) -> Result<(), Abort> {
        let mut by_document: BTreeMap<DocumentId, Vec<usize>> = BTreeMap::new();
        for (i, (record, _)) in ready.iter().enumerate() {
            by_document.entry(record.document.clone()).or_default().push(i);
        }
        for (id, indexes) in by_document {
            let keys = self.merge_document(writer, &id, &ready, &indexes)?;
            self.show(writer, &id, keys)?;
        }
        for (record, checked) in ready {
            if let Checked::Change(change) = checked {
                self.remote.extend(change.entries.iter().map(|(_, entry)| entry.stamp).max());
                for (key, entry) in change.entries {
                    if let Some(idempotency) = &entry.idempotency {
                        self.idempotency.insert(idempotency.key, entry.dot);
                    }
                    self.entries.push((record.document.clone(), key, entry));
                }
            }
            self.records.push(record);
        }
        Ok(())
    }

    /// Merges one document's records, those with these indexes, in their order; gives the keys whose
    /// rows may be others now.
    fn merge_document(
        &mut self,
        writer: &mut Writer,
        id: &DocumentId,
        ready: &[Ready],
        indexes: &[usize],
    ) -> Result<BTreeSet<Key>, Abort> {
        let mut keys = BTreeSet::new();
        let mut rest = indexes;
        while let [first, behind @ ..] = rest {
            if let (record, Checked::Roll(roll)) = &ready[*first] {
                keys.extend(self.merge_roll(writer, record, roll, &ready[..*first])?);
                rest = behind;
                continue;
            }
            let change = |i: &usize| ready[*i].1.change();
            let run = rest.iter().take_while(|i| change(i).is_some()).count();
            let (changes, behind) = rest.split_at(run);
            let batch = if writer.one_by_one { 1 } else { changes.len() };
            for indexes in changes.chunks(batch.max(1)) {
                let merged = writer.document(id)?.apply(indexes.iter().filter_map(change));
                if let Err(error) = merged {
                    return Err(match indexes {
                        [only] => refused(&ready[*only].0, &error),
                        _ => Abort::OneByOne,
                    });
                }
            }
            let entries = changes.iter().filter_map(change).flat_map(|change| &change.entries);
            keys.extend(entries.map(|(key, _)| key.clone()));
            rest = behind;
        }
        Ok(keys)
    }
}

/// Takes a record whose dependencies are all there, if it is good.
fn accept(
    writer: &mut Writer,
    record: Record,
    ready: &mut Vec<Ready>,
    applied: &mut Applied,
) -> Result<(), Abort> {
    let origin = record.dot.origin;
    let previous = writer.state.hash_of(origin).unwrap_or(NO_RECORD);
    if writer.refused.contains(&record.hash) {
        applied.quarantined += 1;
        return Ok(());
    }
    if record.previous != previous {
        applied.quarantined += 1;
        return fork(writer, &record);
    }
    if writer.mismatched.contains_key(&record.hash) {
        applied.dropped += 1;
        return Ok(());
    }
    match Checked::of(&record).and_then(|checked| writer.follow(&record, checked)) {
        Ok(mut change) => {
            if let Checked::Change(change) = &mut change {
                change.entries.iter_mut().for_each(|(_, entry)| writer.texts.share(entry));
            }
            ready.push((record, change));
        }
        Err(why) => {
            // By its hash alone: another record under this number may be the good one.
            writer.refuse(&record, &why);
            applied.quarantined += 1;
        }
    }
    Ok(())
}

/// Whether a change of an origin that is not named would make the vector longer than can be told.
fn is_one_too_many(writer: &Writer, origin: Origin) -> bool {
    let vector = &writer.state.vector;
    !vector.names(origin) && vector.len() >= VECTOR_ORIGINS_MAX - ORIGINS_RESERVED
}

pub(in crate::storage::writer) fn refused(record: &Record, error: &DocumentError) -> Abort {
    Abort::Refused { record: Box::new(record.clone()), why: error.to_string() }
}

/// An (origin, n) names two changes. This node keeps the one it has.
fn fork(writer: &mut Writer, record: &Record) -> Result<(), Abort> {
    writer.forks += 1;
    tracing::error!(
        dot = %record.dot,
        document = %record.document,
        "an origin has two changes under one number: the other one is refused"
    );
    writer.refuse(record, "an origin has two changes under one number");
    if record.dot.origin == writer.actor.origin {
        writer.renew_origin(&"a peer sent another change under a number of its own");
        return Err(Abort::Renewed);
    }
    Ok(())
}
