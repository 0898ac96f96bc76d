//! Table `history_tombstones`: (`service/environment/key`, version, origin, n) → nothing. Versions that
//! went from a history while others of the same number are still there: the number alone does not come to
//! mean what is left, and `number@origin` is known to have been there. Lifetime: until all of its number
//! went.
//!
//! It says what this store let go, and is sent to nobody: a store that got a history later, or wrote to
//! it late, does not know of what others let go before. A program of before passes over it.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::error::StoreError;
use super::history::{HISTORY, HistoryKey};
use super::rows;
use crate::config::Row;
use crate::model::{DocumentId, Dot, Key, Origin};

pub(super) const TOMBSTONES: TableDefinition<'_, HistoryKey<'static>, ()> =
    TableDefinition::new("history_tombstones");

/// What names a row of a history: its key's name, version, origin, n.
pub(super) type Name = (String, u64, u64, u64);

/// What is to be done to the table, found out in one file and by keys alone, so that it can be done to
/// another that is being made.
#[derive(Debug, Default)]
pub(super) struct Changes {
    put: Vec<Name>,
    remove: Vec<Name>,
}

impl Changes {
    /// What it takes once the versions `gone`, in their order, are out of their histories; `row` is what a
    /// key shows.
    pub(super) fn after<'a>(
        tx: &WriteTransaction,
        gone: &[Name],
        row: impl Fn(&DocumentId, &Key) -> Option<&'a Row>,
    ) -> Result<Self, StoreError> {
        let mut changes = Self::default();
        if gone.is_empty() {
            return Ok(changes);
        }
        let (histories, tombstones) = (tx.open_table(HISTORY)?, tx.open_table(TOMBSTONES)?);
        let numbers = gone
            .chunk_by(|(a, a_version, ..), (b, b_version, ..)| (a_version, a) == (b_version, b));
        for gone in numbers {
            let [(name, version, ..), ..] = gone else { continue };
            let row = rows::parse_row_key(name).and_then(|(document, key)| row(&document, &key));
            let shown = row.map_or(&[][..], Row::siblings);
            let is_left = shown.iter().any(|entry| entry.version == *version)
                || histories.range(number(name, *version))?.next().is_some();
            if is_left {
                let is_shown = |(_, _, origin, n): &&Name| {
                    rows::shows(row, Dot { origin: Origin(origin.to_be_bytes()), n: *n })
                };
                changes.put.extend(gone.iter().filter(|it| !is_shown(it)).cloned());
                continue;
            }
            for row in tombstones.range(number(name, *version))? {
                let (key, _) = row?;
                let (name, version, origin, n) = key.value();
                changes.remove.push((name.to_owned(), version, origin, n));
            }
        }
        Ok(changes)
    }

    /// Does them.
    pub(super) fn put(&self, tx: &WriteTransaction) -> Result<(), StoreError> {
        if self.put.is_empty() && self.remove.is_empty() {
            return Ok(());
        }
        let mut table = tx.open_table(TOMBSTONES)?;
        for (name, version, origin, n) in &self.put {
            table.insert((name.as_str(), *version, *origin, *n), ())?;
        }
        for (name, version, origin, n) in &self.remove {
            table.remove((name.as_str(), *version, *origin, *n))?;
        }
        Ok(())
    }
}

/// Whether versions of this number went from a key's history while others stayed.
pub(super) fn has_number(
    table: &impl ReadableTable<HistoryKey<'static>, ()>,
    name: &str,
    version: u64,
) -> Result<bool, StoreError> {
    Ok(table.range(number(name, version))?.next().transpose()?.is_some())
}

/// Whether a version of this origin went from a key's history while others of its number stayed.
pub(super) fn has(
    tx: &ReadTransaction,
    name: &str,
    version: u64,
    origin: Origin,
) -> Result<bool, StoreError> {
    let origin = u64::from_be_bytes(origin.0);
    let all = (name, version, origin, 0)..=(name, version, origin, u64::MAX);
    Ok(tx.open_table(TOMBSTONES)?.range(all)?.next().transpose()?.is_some())
}

/// All rows of one number.
fn number(name: &str, version: u64) -> std::ops::RangeInclusive<HistoryKey<'_>> {
    (name, version, 0, 0)..=(name, version, u64::MAX, u64::MAX)
}
