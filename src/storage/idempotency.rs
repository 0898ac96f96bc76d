//! Table `idempotency`: hash of caller, document and `Idempotency-Key` (16 bytes) → the change that
//! carried the request out. Derived. A row counts for [`RETENTION_US`] after its write; older ones
//! are passed over. Lifetime: for ever, until histories are pruned.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::error::StoreError;
use crate::model::{Dot, Origin};

pub(super) const IDEMPOTENCY: TableDefinition<'_, [u8; 16], (u64, u64)> =
    TableDefinition::new("idempotency");

/// How long a retry is recognised, in microseconds of the write's stamp: a day.
pub const RETENTION_US: u64 = 24 * 3600 * 1_000_000;

pub(super) fn put<'a>(
    tx: &WriteTransaction,
    rows: impl Iterator<Item = (&'a [u8; 16], &'a Dot)>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(IDEMPOTENCY)?;
    for (key, dot) in rows {
        table.insert(*key, (u64::from_be_bytes(dot.origin.0), dot.n))?;
    }
    Ok(())
}

/// Visits the change of each row.
pub(super) fn each(tx: &ReadTransaction, mut visit: impl FnMut(Dot)) -> Result<(), StoreError> {
    for row in tx.open_table(IDEMPOTENCY)?.iter()? {
        let (origin, n) = row?.1.value();
        visit(Dot { origin: Origin(origin.to_be_bytes()), n });
    }
    Ok(())
}

pub(super) fn get(tx: &ReadTransaction, key: &[u8; 16]) -> Result<Option<Dot>, StoreError> {
    let row = tx.open_table(IDEMPOTENCY)?.get(*key)?;
    Ok(row.map(|row| {
        let (origin, n) = row.value();
        Dot { origin: Origin(origin.to_be_bytes()), n }
    }))
}
