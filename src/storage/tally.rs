//! How much a database file holds: rows by table, its length, and how much of that is live. It reads the
//! whole file, so that it is nothing for a store that has work to do.

use std::collections::BTreeMap;

use redb::ReadTransaction;

use super::error::StoreError;
use super::rebuild::{Tables, live_bytes};
use crate::env::Disk;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileTally {
    /// The rows of each table.
    pub(crate) rows: BTreeMap<String, u64>,
    /// The file's length.
    pub(crate) bytes: u64,
    /// How much of it is live.
    pub(crate) live_bytes: u64,
}

impl FileTally {
    /// Of the file `name`, as `tx` sees it.
    pub(crate) fn of(
        tx: &ReadTransaction,
        tables: Tables,
        disk: &dyn Disk,
        name: &str,
    ) -> Result<Self, StoreError> {
        let rows = tables.iter().map(|table| Ok((table.name().to_owned(), table.rows(tx)?)));
        let bytes = disk.len(name).map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self {
            rows: rows.collect::<Result<_, StoreError>>()?,
            bytes: bytes.unwrap_or_default(),
            live_bytes: live_bytes(tx, tables)?,
        })
    }

    /// How large the file is, in percent of what is live in it.
    pub(crate) fn percent(&self) -> u64 {
        self.bytes.saturating_mul(100) / self.live_bytes.max(1)
    }
}
