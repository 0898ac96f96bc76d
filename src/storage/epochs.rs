//! Tables `epochs` and `epoch_bases`, and planning a document's next epoch. Derived.
//!
//! - `epochs`: `service/environment` → `EpochRow`: which epoch the document is in, how it began,
//!   and how many changes it has. Lifetime: the document's.
//! - `epoch_bases`: `service/environment` → `SavedDocument`: the document as its epoch began. What
//!   the next one is made from where changes came that its floor does not include. Lifetime: until
//!   the next epoch.
//!
//! Planning reads alone, beside the writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::database::Database;
use super::error::StoreError;
use super::past::{PastError, StoredPast};
use super::{log, origins, past};
use crate::config::document::{DocumentError, SavedDocument};
use crate::config::roll::BaseHash;
use crate::config::{DocumentView, Rolled};
use crate::model::vector::FoldRow;
use crate::model::{DocumentId, Dot, Folds, Stamp, Told, cbor};

pub(super) const EPOCHS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("epochs");
pub(super) const EPOCH_BASES: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("epoch_bases");

/// A document's epoch.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct EpochRow {
    /// How many changes it has in its epoch.
    #[n(0)]
    pub(super) changes: u64,
    /// How that began; nothing in epoch 0.
    #[n(1)]
    pub(super) rolled: Option<Rolled>,
}

/// Sets a document's epoch.
pub(super) fn put(
    tx: &WriteTransaction,
    id: &DocumentId,
    view: &DocumentView,
) -> Result<(), StoreError> {
    let row = EpochRow { changes: view.changes, rolled: view.rolled.as_deref().cloned() };
    tx.open_table(EPOCHS)?.insert(id.to_string().as_str(), cbor::encode(&row).as_slice())?;
    Ok(())
}

/// All documents' epochs.
pub(super) fn read(tx: &ReadTransaction) -> Result<BTreeMap<DocumentId, EpochRow>, StoreError> {
    let mut epochs = BTreeMap::new();
    for row in tx.open_table(EPOCHS)?.iter()? {
        let (name, row) = row?;
        let damaged = || StoreError::damaged(format!("epoch of {}", name.value()));
        let id = DocumentId::parse(name.value()).map_err(|_| damaged())?;
        epochs.insert(id, cbor::decode(row.value()).map_err(|_| damaged())?);
    }
    Ok(epochs)
}

/// Keeps a document as its epoch began.
pub(super) fn put_base(
    tx: &WriteTransaction,
    id: &DocumentId,
    base: &[u8],
) -> Result<(), StoreError> {
    tx.open_table(EPOCH_BASES)?.insert(id.to_string().as_str(), base)?;
    Ok(())
}

/// Forgets what a document began an epoch as: it is in its first one.
pub(super) fn remove_base(tx: &WriteTransaction, id: &DocumentId) -> Result<(), StoreError> {
    tx.open_table(EPOCH_BASES)?.remove(id.to_string().as_str())?;
    Ok(())
}

/// A document as its epoch began, encoded.
pub(super) fn base_bytes(
    tx: &ReadTransaction,
    id: &DocumentId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let base = tx.open_table(EPOCH_BASES)?.get(id.to_string().as_str())?;
    Ok(base.map(|base| base.value().to_vec()))
}

/// A document as its epoch began.
pub(super) fn base(
    tx: &ReadTransaction,
    id: &DocumentId,
) -> Result<Option<SavedDocument>, StoreError> {
    let name = id.to_string();
    let table = tx.open_table(EPOCH_BASES)?;
    let Some(base) = table.get(name.as_str())? else { return Ok(None) };
    let base = cbor::decode(base.value());
    base.map(Some).map_err(|e| StoreError::damaged(format!("the base of {name}'s epoch: {e}")))
}

/// What a document's next epoch would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which epoch.
    pub epoch: u32,
    /// What its base comes to.
    pub base: BaseHash,
    /// How many changes there are in the epoch that would end.
    pub changes: u64,
    /// How many of them the floor does not include: each is made anew in the next one.
    pub late: u64,
}

/// Why a document is not rolled. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The floor holds changes that are not here.
    #[error("the floor includes changes that this node does not have")]
    Ahead,
    /// The floor leaves out what the epoch began with, or the record that began it.
    #[error("the floor does not include the roll before")]
    Behind,
    /// It is in another epoch than the one before.
    #[error("the document is in epoch {0}")]
    Epoch(u32),
    /// The same epoch was rolled to with other content.
    #[error("epoch {0} of the document began otherwise")]
    Other(u32),
    /// What is here does not come to the base that was agreed.
    #[error("the base of epoch {epoch} does not come to what was agreed")]
    Mismatch {
        /// Which epoch.
        epoch: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Plans rolls, from what is committed.
#[derive(Clone)]
pub struct EpochReader(Arc<Database>);

impl EpochReader {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// What the document's next epoch would be, with its base at `floor` and without removals
    /// before `removals_before`. Costs as much as loading the document; where some of its changes
    /// are not in the floor, as reading all of the epoch's.
    pub fn plan_roll(
        &self,
        document: &DocumentId,
        floor: &Told,
        removals_before: Stamp,
    ) -> Result<Plan, RollError> {
        let database = self.0.get()?;
        let tx = database.begin_read().map_err(StoreError::from)?;
        let folds = &self.0.folds(&tx)?;
        let (vector, _) = origins::read(&tx, folds)?;
        if !vector.covers_told(floor) {
            return Err(RollError::Ahead);
        }
        let unwritten = unwritten(&tx, folds, document)?;
        let loaded = past::load(&tx, document, unwritten, folds)?;
        let (staged, ahead) = (BTreeMap::new(), BTreeMap::new());
        let mut past = StoredPast { tx: &tx, id: document, staged, ahead, begun: None, folds };
        let (base, late) = loaded.plan_roll(document, floor, removals_before, &mut past)?;
        let (epoch, changes) = (loaded.epoch() + 1, loaded.changes_in_epoch());
        Ok(Plan { epoch, base, changes, late })
    }
}

impl EpochReader {
    /// Of these changes those that are their origins' last ones, with their records' hashes.
    pub fn fold_rows(&self, dots: &[Dot]) -> Result<Vec<FoldRow>, StoreError> {
        let tx = self.0.get()?.begin_read()?;
        let (vector, hashes) = origins::read(&tx, &self.0.folds(&tx)?)?;
        let last = dots.iter().filter(|dot| vector.names(dot.origin));
        let row = |dot: &Dot| {
            let is_last = vector.get(dot.origin) == dot.n;
            let hash = hashes.get(&dot.origin).filter(|_| is_last);
            hash.map(|hash| FoldRow { dot: *dot, hash: *hash })
        };
        Ok(last.filter_map(row).collect())
    }
}

impl From<PastError> for RollError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Store(error) => Self::Failed(error),
            PastError::Document(error) => match error {
                DocumentError::Mismatch(epoch) => Self::Mismatch { epoch },
                DocumentError::OtherRoll(epoch) => Self::Other(epoch),
                DocumentError::Roll(_) => Self::Behind,
                error => Self::Failed(StoreError::Failed(error.to_string())),
            },
        }
    }
}

/// The document's changes that no table names yet: those of the log since the last checkpoint.
fn unwritten(
    tx: &ReadTransaction,
    folds: &Arc<Folds>,
    document: &DocumentId,
) -> Result<Vec<Dot>, StoreError> {
    let mut dots = Vec::new();
    log::since_checkpoint(tx, folds, |record| {
        if record.document == *document {
            dots.push(record.dot);
        }
        Ok(())
    })?;
    Ok(dots)
}
