//! Table `idempotency`: hash of caller, document and `Idempotency-Key` (16 bytes) → the change that
//! carried the request out. Derived. A row counts for [`RETENTION_US`] after its write; older ones
//! are passed over. Lifetime: for ever, until histories are pruned.

use std::ops::Bound::{Excluded, Unbounded};

use redb::{ReadTransaction, TableDefinition, WriteTransaction};

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

/// The rows behind `after`, at most `rows_max` of them: a request's key, and its change.
pub(super) fn read(
    tx: &ReadTransaction,
    after: Option<[u8; 16]>,
    rows_max: usize,
) -> Result<Vec<([u8; 16], Dot)>, StoreError> {
    let table = tx.open_table(IDEMPOTENCY)?;
    let from = after.map_or(Unbounded, Excluded);
    let mut rows = Vec::new();
    for row in table.range::<[u8; 16]>((from, Unbounded))?.take(rows_max) {
        let (key, change) = row?;
        let (origin, n) = change.value();
        rows.push((key.value(), Dot { origin: Origin(origin.to_be_bytes()), n }));
    }
    Ok(rows)
}

pub(super) fn get(tx: &ReadTransaction, key: &[u8; 16]) -> Result<Option<Dot>, StoreError> {
    let row = tx.open_table(IDEMPOTENCY)?.get(*key)?;
    Ok(row.map(|row| {
        let (origin, n) = row.value();
        Dot { origin: Origin(origin.to_be_bytes()), n }
    }))
}
