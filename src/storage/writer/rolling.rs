//! Documents' ways into their next epochs: as this node was asked to write it, and as records of
//! others say. Both come to the same; what was agreed is not decided here, only whether it fits.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableDatabase as _;

use super::group::{Abort, Group, Ready, refused};
use super::{REFUSED_MAX, Writer};
use crate::config::document::{DocumentError, Rolling};
use crate::config::record::{NO_RECORD, Record};
use crate::config::roll::Roll;
use crate::model::{DocumentId, Dot, Key};
use crate::storage::epochs::RollError;
use crate::storage::error::StoreError;
use crate::storage::past::{PastError, StoredPast};

impl Group {
    /// Takes a document to the epoch that was agreed, by a record of this node; by none, where
    /// another's did already.
    pub(super) fn roll(
        &mut self,
        writer: &mut Writer,
        id: &DocumentId,
        roll: &Roll,
    ) -> Result<Result<Dot, RollError>, Abort> {
        if let Some(rolled) = writer.document(id)?.rolled()
            && roll.epoch <= rolled.roll.epoch
        {
            return Ok(match rolled.roll.epoch == roll.epoch {
                true if rolled.roll == *roll => Ok(rolled.record),
                true => Err(RollError::Other(roll.epoch)),
                false => Err(RollError::Epoch(rolled.roll.epoch)),
            });
        }
        let epoch = writer.document(id)?.epoch();
        if roll.epoch != epoch.saturating_add(1) {
            return Ok(Err(RollError::Epoch(epoch)));
        }
        if !writer.state.vector.covers_told(&roll.floor) {
            return Ok(Err(RollError::Ahead));
        }
        if !writer.is_confirmed() {
            writer.renew_origin(&"a roll came before every peer confirmed the old one");
        }
        let own = writer.actor.origin;
        let dot = Dot { origin: own, n: writer.state.vector.get(own) + 1 };
        let rolling = match writer.roll_document(id, roll, dot, self.records.iter()) {
            Ok(rolling) => rolling,
            Err(PastError::Store(error)) => return Err(error.into()),
            Err(error) => {
                let error = RollError::from(error);
                if matches!(error, RollError::Mismatch { .. }) {
                    writer.count_mismatch(id, roll);
                }
                return Ok(Err(error));
            }
        };
        let previous = writer.state.hash_of(own).unwrap_or(NO_RECORD);
        let needs = roll.floor.needs().filter(|dot| dot.origin != own).collect();
        let record = Record::new(dot, previous, id.clone(), roll.epoch, needs, &roll.encode());
        writer.state.vector.advance(dot);
        writer.state.hashes.insert(own, record.hash);
        if let Err(why) = writer.fold(roll) {
            let why = format!("a fold that was decided cannot be taken: {why}");
            return Err(StoreError::Failed(why).into());
        }
        self.records.push(record);
        let keys = self.begin(id, rolling);
        self.show(writer, id, keys)?;
        Ok(Ok(dot))
    }

    /// Takes a document to the epoch that a record says; gives the keys whose rows may be others.
    pub(super) fn merge_roll(
        &mut self,
        writer: &mut Writer,
        record: &Record,
        roll: &Roll,
        ready: &[Ready],
    ) -> Result<BTreeSet<Key>, Abort> {
        let rolling = {
            let staged = self.records.iter().chain(ready.iter().map(|(record, _)| record));
            writer.roll_document(&record.document, roll, record.dot, staged)
        };
        match rolling {
            Ok(rolling) => Ok(self.begin(&record.document, rolling)),
            Err(PastError::Store(error)) => Err(error.into()),
            Err(PastError::Document(
                error @ (DocumentError::Mismatch(_) | DocumentError::Trimmed(_)),
            )) => Err(Abort::HeldBack {
                record: Box::new(record.clone()),
                is_mismatch: matches!(error, DocumentError::Mismatch(_)),
            }),
            Err(PastError::Document(error)) => {
                if matches!(error, DocumentError::OtherRoll(_)) {
                    tracing::error!(
                        dot = %record.dot,
                        document = %record.document,
                        epoch = roll.epoch,
                        "two rolls of one epoch differ: the other one is refused"
                    );
                }
                Err(refused(record, &error))
            }
        }
    }

    fn begin(&mut self, id: &DocumentId, rolling: Rolling) -> BTreeSet<Key> {
        match rolling {
            Rolling::Known => BTreeSet::new(),
            Rolling::Began { dropped } => {
                self.rolled.insert(id.clone());
                dropped.into_iter().collect()
            }
        }
    }
}

impl Writer {
    /// Takes a document to its next epoch, from what is stored and what is `staged`.
    fn roll_document<'a>(
        &mut self,
        id: &DocumentId,
        roll: &Roll,
        record: Dot,
        staged: impl Iterator<Item = &'a Record>,
    ) -> Result<Rolling, PastError> {
        self.document(id)?;
        // Not by `Database::get`: that would wait for a step of writing behind, where one is under way.
        let groups = self.database.ahead_groups();
        let tx = self.database.tables()?.begin_read().map_err(StoreError::from)?;
        let ahead = groups.iter().flat_map(|group| &group.changes);
        let ahead = ahead.map(|it| (it.dot, it.row.as_slice())).collect();
        let staged = staged.filter(|record| record.document == *id);
        let staged: BTreeMap<Dot, Record> = staged.map(|it| (it.dot, it.clone())).collect();
        let folds = &self.state.vector.folds();
        let mut past = StoredPast { tx: &tx, id, staged, ahead, begun: None, folds };
        let document = self.documents.get_mut(id);
        let document =
            document.ok_or_else(|| StoreError::Failed(format!("document {id} is not loaded")))?;
        document.roll(id, roll, record, &mut past)
    }

    /// Takes note of a roll that cannot be taken as things are, so that it is let go from now on.
    pub(super) fn hold_back(&mut self, record: &Record, is_mismatch: bool) {
        match Roll::decode(&record.change) {
            Ok(roll) if is_mismatch => self.count_mismatch(&record.document, &roll),
            _ => tracing::info!(
                document = %record.document,
                dot = %record.dot,
                "the log does not reach back to what an epoch's roll needs: the document is \
                 fetched whole"
            ),
        }
        if self.mismatched.len() >= REFUSED_MAX {
            self.mismatched.clear();
        }
        self.mismatched.insert(record.hash, record.document.clone());
    }

    fn count_mismatch(&mut self, document: &DocumentId, roll: &Roll) {
        self.epoch_mismatches += 1;
        tracing::error!(
            %document,
            epoch = roll.epoch,
            "the document does not come to the base that was agreed: it has to be fetched whole"
        );
    }
}
