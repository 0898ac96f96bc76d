//! What a document is made from, out of one read of the store: its base and the log's changes since;
//! and, for a roll that came late, how its epoch began and the changes of it. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::ReadTransaction;

use super::error::StoreError;
use super::{documents, epochs, log};
use crate::config::document::{CheckedChange, Document, DocumentError, Past, SavedDocument};
use crate::config::record::Record;
use crate::config::roll::Roll;
use crate::config::waiting::in_causal_order;
use crate::model::{DocumentId, Dot, Folds, cbor};

/// A record's change: what it does to its document.
#[derive(Clone, Debug)]
pub(super) enum Checked {
    /// It sets entries.
    Change(CheckedChange),
    /// It begins an epoch.
    Roll(Roll),
}

impl Checked {
    /// Looks through a record.
    pub(super) fn of(record: &Record) -> Result<Self, String> {
        if !Roll::is_roll(&record.change) {
            return CheckedChange::of_record(record).map(Self::Change).map_err(|e| e.to_string());
        }
        let roll = Roll::decode(&record.change).map_err(|e| e.to_string())?;
        match roll.epoch == record.epoch {
            true => Ok(Self::Roll(roll)),
            false => Err(format!("it rolls to epoch {}", roll.epoch)),
        }
    }

    /// The change, if it sets entries.
    pub(super) fn change(&self) -> Option<&CheckedChange> {
        match self {
            Self::Change(change) => Some(change),
            Self::Roll(_) => None,
        }
    }
}

/// A document's past, in the store and in what is not committed yet.
pub(super) struct StoredPast<'a> {
    pub(super) tx: &'a ReadTransaction,
    pub(super) id: &'a DocumentId,
    /// Of this document.
    pub(super) staged: BTreeMap<Dot, Record>,
    /// Rows of the log that the transaction may not see yet, of whatever document.
    pub(super) ahead: BTreeMap<Dot, &'a [u8]>,
    /// The document as its epoch began, encoded, where that is another one than the store's.
    pub(super) begun: Option<Vec<u8>>,
    /// All folds that its changes include.
    pub(super) folds: &'a Arc<Folds>,
}

/// Why a document could not be rolled.
#[derive(Debug)]
pub(super) enum PastError {
    /// The store could not be read.
    Store(StoreError),
    /// The document does not take it.
    Document(DocumentError),
}

impl From<DocumentError> for PastError {
    fn from(error: DocumentError) -> Self {
        Self::Document(error)
    }
}

impl From<StoreError> for PastError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Past for StoredPast<'_> {
    type Error = PastError;

    fn folds(&self) -> Arc<Folds> {
        self.folds.clone()
    }

    fn base(&mut self) -> Result<SavedDocument, PastError> {
        let damaged = |e| StoreError::damaged(format!("the base of {}'s epoch: {e}", self.id));
        let base = match &self.begun {
            Some(base) => Some(cbor::decode(base).map_err(damaged)?),
            None => epochs::base(self.tx, self.id)?,
        };
        base.ok_or_else(|| {
            StoreError::damaged(format!("the base of {}'s epoch is missing", self.id)).into()
        })
    }

    fn dots(&mut self) -> Result<Vec<Dot>, PastError> {
        let is_asked_for = |record: &Record| {
            record.epoch == 0 && record.document == *self.id && !Roll::is_roll(&record.change)
        };
        let mut dots = log::dots_of(self.tx, is_asked_for)?;
        let seen: BTreeSet<Dot> = dots.iter().copied().collect();
        for (dot, row) in self.ahead.iter().filter(|(dot, _)| !seen.contains(dot)) {
            dots.extend(is_asked_for(&log::decode(*dot, row)?).then_some(*dot));
        }
        let staged = self.staged.values().filter(|record| is_asked_for(record));
        dots.extend(staged.map(|record| record.dot));
        Ok(dots)
    }

    fn record(&mut self, dot: Dot) -> Result<Record, PastError> {
        match (self.staged.get(&dot), self.ahead.get(&dot)) {
            (Some(record), _) => Ok(record.clone()),
            (None, Some(row)) => Ok(log::decode(dot, row)?),
            (None, None) => {
                Ok(log::find(self.tx, self.folds, dot)?.ok_or(DocumentError::Trimmed(dot))?)
            }
        }
    }

    fn has_all(&mut self, dots: &[Dot]) -> Result<bool, PastError> {
        let is_here = |dot: &Dot| self.staged.contains_key(dot) || self.ahead.contains_key(dot);
        let stored = dots.iter().filter(|dot| !is_here(dot));
        Ok(log::has_all(self.tx, stored)?)
    }
}

/// The document from its base, the log's changes since, and those of `unwritten`, which no table
/// names yet.
pub(super) fn load(
    tx: &ReadTransaction,
    id: &DocumentId,
    unwritten: impl IntoIterator<Item = Dot>,
    folds: &Arc<Folds>,
) -> Result<Document, StoreError> {
    let (base, mut dots) = documents::read(tx, id)?;
    dots.extend(unwritten);
    let (staged, ahead) = (BTreeMap::new(), BTreeMap::new());
    build(StoredPast { tx, id, staged, ahead, begun: None, folds }, base, dots)
}

/// The document of this base, with these of the log's changes on top.
pub(super) fn build(
    mut past: StoredPast<'_>,
    base: Option<SavedDocument>,
    dots: Vec<Dot>,
) -> Result<Document, StoreError> {
    let id = past.id;
    let damaged = |why: &dyn std::fmt::Display| {
        StoreError::damaged(format!("document {id} does not load: {why}"))
    };
    let mut document = match base {
        Some(base) => Document::load(base, past.folds).map_err(|e| damaged(&e))?,
        None => Document::new(),
    };
    let records: Result<Vec<Record>, StoreError> =
        dots.into_iter().map(|dot| log::require(past.tx, dot)).collect();
    for record in in_causal_order(records?, past.folds) {
        match Checked::of(&record).map_err(|e| damaged(&e))? {
            Checked::Change(change) => document.apply([&change]).map_err(|e| damaged(&e))?,
            Checked::Roll(roll) => {
                let rolled = document.roll(id, &roll, record.dot, &mut past);
                rolled.map_err(|error| match error {
                    PastError::Store(error) => error,
                    PastError::Document(error) => damaged(&error),
                })?;
            }
        }
    }
    Ok(document)
}
