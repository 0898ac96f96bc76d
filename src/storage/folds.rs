//! Table `folds`: generation u64 → [`Fold`]. What everybody has of origins that nobody writes as any more;
//! table `origins` has no rows of these. Lifetime: the store's.
//!
//! All of them are in memory, once for a database: what a transaction sees beyond that is read.

use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::error::StoreError;
use crate::model::cbor;
use crate::model::vector::{Fold, Folds};

pub(super) const FOLDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("folds");

/// The folds that were read last. A file that takes the place of a damaged one may have fewer: a vector
/// says how many of them it includes.
#[derive(Default)]
pub(super) struct KnownFolds(Mutex<Arc<Folds>>);

impl KnownFolds {
    /// At least those that the transaction sees, and how many it sees.
    pub(super) fn read(&self, tx: &ReadTransaction) -> Result<(Arc<Folds>, u64), StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (folds, latest) = read(tx, &known)?;
        *known = folds.clone();
        Ok((folds, latest))
    }
}

/// `known`, with those that the transaction sees beyond; and the number of the last one that it sees.
pub(super) fn read(
    tx: &ReadTransaction,
    known: &Arc<Folds>,
) -> Result<(Arc<Folds>, u64), StoreError> {
    let table = match tx.open_table(FOLDS) {
        Ok(table) => table,
        // A program that knew none made the store.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((known.clone(), 0)),
        Err(error) => return Err(error.into()),
    };
    let latest = table.last()?.map_or(0, |(generation, _)| generation.value());
    if latest <= known.latest() {
        return Ok((known.clone(), latest));
    }
    let mut folds = (**known).clone();
    for row in table.range(folds.latest() + 1..)? {
        let (generation, fold) = row?;
        let damaged = |e: &dyn std::fmt::Display| {
            StoreError::damaged(format!("fold {}: {e}", generation.value()))
        };
        let fold: Fold = cbor::decode(fold.value()).map_err(|e| damaged(&e))?;
        folds = folds.with(&fold).map_err(|e| damaged(&e))?;
    }
    Ok((Arc::new(folds), latest))
}

/// Keeps a fold.
pub(super) fn put(tx: &WriteTransaction, fold: &Fold) -> Result<(), StoreError> {
    tx.open_table(FOLDS)?.insert(fold.generation, cbor::encode(fold).as_slice())?;
    Ok(())
}
