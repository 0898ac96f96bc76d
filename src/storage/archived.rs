//! How far a store's audit chain is archived (`audit-archived` in `meta`), and the removal of records that
//! are. Both stores do it with the same code. What is removed is in a file before: whoever calls has seen
//! to that.

use redb::{TableDefinition, WriteTransaction};

use super::error::StoreError;
use super::meta::Key;
use crate::audit::Archived;

/// How far the chain is archived.
pub(crate) const KEY_ARCHIVED: Key<Archived> = Key::new("audit-archived");

/// Says how far the chain is archived, and removes what the store need not have any more. The same again
/// does nothing.
pub(crate) fn put(
    tx: &WriteTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    archived: &Archived,
) -> Result<(), StoreError> {
    tx.open_table(table)?.retain_in(..=archived.base.seq, |_, _| false)?;
    KEY_ARCHIVED.put(tx, archived)
}
