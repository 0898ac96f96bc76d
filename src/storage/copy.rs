//! What a backup takes of `config.redb`: every table as redb keeps it, key bytes and value bytes, in
//! one read transaction; and what its manifest says of the store. It decides nothing about a file.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTableMetadata as _, TableDefinition, Value,
    WriteTransaction,
};

use super::error::StoreError;
use super::{
    audit, documents, epochs, folds, history, idempotency, log, meta, origins, rows, tombstones,
};
use crate::audit::Head;
use crate::model::{NodeName, Told};

/// A row as redb keeps it: the key's bytes and the value's.
pub(crate) type RawRow = (Vec<u8>, Vec<u8>);

/// A table, whatever its types.
pub(crate) trait RawTable: Sync {
    /// The table's name.
    fn name(&self) -> &str;

    /// The types of key and value, as redb calls them.
    fn types(&self) -> (String, String);

    /// How many rows there are.
    fn rows(&self, tx: &ReadTransaction) -> Result<u64, StoreError>;

    /// What its rows come to in the file, in bytes: reads all of it.
    fn live_bytes(&self, tx: &ReadTransaction) -> Result<u64, StoreError>;

    /// The rows behind the key `after`, the first ones until they are larger than `bytes_max`.
    /// None are left when there are none.
    fn read(
        &self,
        tx: &ReadTransaction,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<RawRow>, StoreError>;

    /// Puts rows in. Bytes that redb does not take for what they should be are refused.
    fn write(&self, tx: &WriteTransaction, rows: &[RawRow]) -> Result<(), StoreError>;
}

impl<K: Key + Sync + 'static, V: Value + Sync + 'static> RawTable
    for TableDefinition<'static, K, V>
{
    fn name(&self) -> &str {
        redb::TableHandle::name(self)
    }

    fn types(&self) -> (String, String) {
        (K::type_name().name().to_owned(), V::type_name().name().to_owned())
    }

    fn rows(&self, tx: &ReadTransaction) -> Result<u64, StoreError> {
        Ok(opened(*self, tx)?.map_or(Ok(0), |table| table.len())?)
    }

    fn live_bytes(&self, tx: &ReadTransaction) -> Result<u64, StoreError> {
        let Some(table) = opened(*self, tx)? else { return Ok(0) };
        let stats = table.stats()?;
        Ok(stats.stored_bytes() + stats.metadata_bytes())
    }

    fn read(
        &self,
        tx: &ReadTransaction,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<RawRow>, StoreError> {
        let Some(table) = opened(*self, tx)? else { return Ok(Vec::new()) };
        let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(K::from_bytes(key)));
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in table.range::<K::SelfType<'_>>((start, Bound::Unbounded))? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            let key = K::as_bytes(&key).as_ref().to_vec();
            let value = V::as_bytes(&value).as_ref().to_vec();
            bytes += key.len() + value.len();
            rows.push((key, value));
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(rows)
    }

    fn write(&self, tx: &WriteTransaction, rows: &[RawRow]) -> Result<(), StoreError> {
        let mut table = tx.open_table(*self)?;
        for (key, value) in rows {
            // redb panics on bytes that are none of its own.
            let put = catch_unwind(AssertUnwindSafe(|| {
                table.insert(K::from_bytes(key), V::from_bytes(value)).map(drop)
            }));
            match put {
                Ok(done) => done?,
                Err(_) => return Err(StoreError::damaged(format!("a row of {}", self.name()))),
            }
        }
        Ok(())
    }
}

/// The table, where there is one: a program of before made its stores without some.
fn opened<K: Key + 'static, V: Value + 'static>(
    table: TableDefinition<'static, K, V>,
    tx: &ReadTransaction,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match tx.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The tables of `config.redb`.
pub(crate) static TABLES: [&dyn RawTable; 13] = [
    &meta::META,
    &log::LOG,
    &origins::ORIGINS,
    &folds::FOLDS,
    &rows::ROWS,
    &history::HISTORY,
    &tombstones::TOMBSTONES,
    &documents::BASES,
    &documents::CHANGES,
    &epochs::EPOCHS,
    &epochs::EPOCH_BASES,
    &idempotency::IDEMPOTENCY,
    &audit::AUDIT,
];

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) format: u32,
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) vector: Told,
    pub(crate) audit: Head,
}

/// What the store says of itself; nothing where it was never used.
pub(crate) fn facts(tx: &ReadTransaction) -> Result<Option<Facts>, StoreError> {
    let Some(format) = meta::KEY_FORMAT.get(tx)? else { return Ok(None) };
    Ok(Some(Facts {
        format,
        cluster: meta::KEY_CLUSTER.get(tx)?.unwrap_or_default(),
        node: meta::KEY_NODE.get(tx)?.unwrap_or_default(),
        vector: origins::read(tx, &Arc::default())?.0.told(),
        audit: meta::KEY_AUDIT.get(tx)?.unwrap_or_default(),
    }))
}

/// Says whose the store is from now on.
pub(crate) fn set_node(tx: &WriteTransaction, node: &NodeName) -> Result<(), StoreError> {
    // What it had beyond its tables was not copied.
    meta::KEY_JOURNAL.remove(tx)?;
    meta::KEY_NODE.put(tx, &node.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use redb::ReadableDatabase as _;

    use super::*;

    #[test]
    fn a_table_that_a_store_of_before_has_not_is_an_empty_one() {
        let backend = redb::backends::InMemoryBackend::new();
        let database = redb::Builder::new().create_with_backend(backend).unwrap();
        let tx = database.begin_read().unwrap();
        for table in TABLES {
            assert_eq!((table.rows(&tx).unwrap(), table.live_bytes(&tx).unwrap()), (0, 0));
            assert!(table.read(&tx, None, 1).unwrap().is_empty(), "{}", table.name());
        }
    }
    use crate::env::MemoryDisk;
    use crate::storage::database::Database;

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");

    #[test]
    fn a_table_is_read_a_few_rows_at_a_time_to_its_end() {
        let (database, _) = Database::open(Arc::new(MemoryDisk::new())).unwrap();
        let tx = database.get().unwrap().begin_write().unwrap();
        let rows: Vec<RawRow> =
            (0..10_u64).map(|key| (key.to_le_bytes().to_vec(), vec![7; 92])).collect();
        TABLE.write(&tx, &rows).unwrap();
        tx.commit().unwrap();
        let tx = database.get().unwrap().begin_read().unwrap();
        assert_eq!(TABLE.rows(&tx).unwrap(), 10);
        let (mut all, mut lens) = (Vec::<RawRow>::new(), Vec::new());
        loop {
            let after = all.last().map(|(key, _)| key.clone());
            let some = TABLE.read(&tx, after.as_deref(), 250).unwrap();
            if some.is_empty() {
                break;
            }
            lens.push(some.len());
            all.extend(some);
        }
        assert_eq!(lens, [3, 3, 3, 1], "a row more than the bytes at the most");
        assert_eq!(all, rows);
        let tx = database.get().unwrap().begin_write().unwrap();
        let bad = TABLE.write(&tx, &[(vec![1, 2, 3], vec![])]);
        assert!(matches!(bad, Err(StoreError::Damaged(_))), "{bad:?}");
    }
}
