//! Table `meta`: name → CBOR. What the store is as a whole. Lifetime: the store's.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::audit::Span;
use super::error::StoreError;
use super::journal::Reached;
use crate::audit::Head;
use crate::model::{Origin, Told, cbor};

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The latest format this program knows. A store of a later one is refused at opening. In format 2
/// documents can be in another epoch than the first. In format 3 histories lack what rows show: a
/// program of before would forget each version that it replaces. A store has it from its first
/// checkpoint on by a program that knows it. In format 4 origins can be folded.
pub(crate) const FORMAT: u32 = 4;
/// The format of a store in which histories lack what rows show, and no origin is folded.
pub(super) const FORMAT_WITHOUT_FOLDS: u32 = 3;
/// The format from which on documents can be in another epoch than the first.
pub(super) const FORMAT_WITH_EPOCHS: u32 = 2;

/// Which format the store has (u32).
pub(super) const KEY_FORMAT: Key<u32> = Key::new("format");
/// Which cluster the store belongs to.
pub(super) const KEY_CLUSTER: Key<String> = Key::new("cluster");
/// Which node the store belongs to.
pub(super) const KEY_NODE: Key<String> = Key::new("node");
/// The origin that this store makes changes as.
pub(super) const KEY_ORIGIN: Key<Origin> = Key::new("origin");
/// The vector up to which the derived tables are written.
pub(super) const KEY_CHECKPOINT: Key<Told> = Key::new("checkpoint");
/// Whether histories were gone through, since all of what rows show was in them, too (bool); absent
/// where they may still hold it.
pub(super) const KEY_HISTORIES: Key<bool> = Key::new("histories");
/// For each origin, up to which number its records may be gone from the log.
pub(super) const KEY_TRIMMED: Key<Told> = Key::new("trimmed");

/// Which journal is the store's, and up to which group of it the tables are.
pub(super) const KEY_JOURNAL: Key<Reached> = Key::new("journal");

/// Where the audit chain stands.
pub(super) const KEY_AUDIT: Key<Head> = Key::new("audit");
/// Which origins' rows of the log carry the chain, in the order of the chain.
pub(super) const KEY_AUDIT_SPANS: Key<Vec<Span>> = Key::new("audit-spans");

/// A name with the type of its value.
pub(crate) struct Key<T>(&'static str, std::marker::PhantomData<T>);

impl<T> Key<T> {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self(name, std::marker::PhantomData)
    }
}

impl<T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>> Key<T> {
    pub(crate) fn get(&self, tx: &ReadTransaction) -> Result<Option<T>, StoreError> {
        let table = tx.open_table(META)?;
        let Some(value) = table.get(self.0)? else { return Ok(None) };
        let value = cbor::decode(value.value());
        value.map(Some).map_err(|e| StoreError::damaged(format!("meta {}: {e}", self.0)))
    }

    /// As [`Key::get`], of a transaction that writes.
    pub(crate) fn read(&self, tx: &WriteTransaction) -> Result<Option<T>, StoreError> {
        let table = tx.open_table(META)?;
        let Some(value) = table.get(self.0)? else { return Ok(None) };
        let value = cbor::decode(value.value());
        value.map(Some).map_err(|e| StoreError::damaged(format!("meta {}: {e}", self.0)))
    }

    pub(crate) fn put(&self, tx: &WriteTransaction, value: &T) -> Result<(), StoreError> {
        tx.open_table(META)?.insert(self.0, cbor::encode(value).as_slice())?;
        Ok(())
    }

    pub(crate) fn remove(&self, tx: &WriteTransaction) -> Result<(), StoreError> {
        tx.open_table(META)?.remove(self.0)?;
        Ok(())
    }
}
