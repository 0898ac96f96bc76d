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

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase as _;

    use super::*;
    use crate::model::vector::FoldRow;
    use crate::model::{Dot, Origin};

    fn fold(generation: u64) -> Fold {
        let dot = Dot { origin: Origin([1; 8]), n: generation };
        Fold::new(generation, vec![FoldRow { dot, hash: [7; 32] }]).unwrap()
    }

    /// A file whose table is as `fill` leaves it.
    fn file(fill: impl FnOnce(&WriteTransaction)) -> redb::Database {
        let backend = redb::backends::InMemoryBackend::new();
        let database = redb::Builder::new().create_with_backend(backend).unwrap();
        let tx = database.begin_write().unwrap();
        fill(&tx);
        tx.commit().unwrap();
        database
    }

    #[test]
    fn what_is_kept_is_read_once_and_a_file_without_the_table_has_none() {
        let kept = file(|tx| (1..=3).for_each(|generation| put(tx, &fold(generation)).unwrap()));
        let known = KnownFolds::default();
        let (folds, latest) = known.read(&kept.begin_read().unwrap()).unwrap();
        assert_eq!((folds.latest(), latest), (3, 3));
        assert_eq!(folds.fold(2).map(|it| &**it), Some(&fold(2)));
        let (again, _) = known.read(&kept.begin_read().unwrap()).unwrap();
        assert!(Arc::ptr_eq(&folds, &again));
        let older = file(|_| {});
        let (folds, latest) = known.read(&older.begin_read().unwrap()).unwrap();
        assert_eq!((folds.latest(), latest), (3, 0));
    }

    #[test]
    fn a_file_that_has_fewer_than_are_known_says_how_many_it_has() {
        let known = KnownFolds::default();
        let kept = file(|tx| (1..=3).for_each(|generation| put(tx, &fold(generation)).unwrap()));
        known.read(&kept.begin_read().unwrap()).unwrap();
        let fewer = file(|tx| put(tx, &fold(1)).unwrap());
        let (folds, latest) = known.read(&fewer.begin_read().unwrap()).unwrap();
        assert_eq!((folds.latest(), latest), (3, 1));
    }

    #[test]
    fn a_fold_that_cannot_be_read_or_is_missing_is_damage_and_is_named() {
        let unreadable = file(|tx| {
            put(tx, &fold(1)).unwrap();
            tx.open_table(FOLDS).unwrap().insert(2, &b"no fold"[..]).unwrap();
        });
        let missing =
            file(|tx| [1, 3].iter().for_each(|generation| put(tx, &fold(*generation)).unwrap()));
        for (database, name) in [(unreadable, "fold 2: "), (missing, "fold 3: ")] {
            let why = read(&database.begin_read().unwrap(), &Arc::default()).unwrap_err();
            assert!(matches!(&why, StoreError::Damaged(why) if why.contains(name)), "{why}");
        }
    }
}
