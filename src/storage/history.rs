//! Table `history`: (`service/environment/key`, version, origin, n) → the entry. Derived: every
//! write of every key. Lifetime: for ever, until histories are pruned by policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::database::Database;
use super::error::StoreError;
use super::rows::row_key;
use crate::config::Entry;
use crate::model::{DocumentId, Dot, Key, cbor};

type HistoryKey<'a> = (&'a str, u64, u64, u64);

pub(super) const HISTORY: TableDefinition<'_, HistoryKey<'static>, &[u8]> =
    TableDefinition::new("history");

/// Where an entry stands in its key's history: by version, ties by its change.
pub type Position = (u64, Dot);

/// The entries that are committed and not yet in the table, by row key.
pub(super) type Tail = Arc<Mutex<BTreeMap<String, Vec<Entry>>>>;

pub(super) fn put(
    tx: &WriteTransaction,
    entries: &BTreeMap<String, Vec<Entry>>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(HISTORY)?;
    for (name, entries) in entries {
        for entry in entries {
            let origin = u64::from_be_bytes(entry.dot.origin.0);
            let key = (name.as_str(), entry.version, origin, entry.dot.n);
            table.insert(key, cbor::encode(entry).as_slice())?;
        }
    }
    Ok(())
}

/// Reads histories, committed ones that are not in the table yet among them.
#[derive(Clone)]
pub struct HistoryReader {
    database: Arc<Database>,
    tail: Tail,
}

impl HistoryReader {
    pub(super) fn new(database: Arc<Database>, tail: Tail) -> Self {
        Self { database, tail }
    }

    /// The writes of a key before `before`, newest first, at most `size` of them.
    pub fn read(
        &self,
        document: &DocumentId,
        key: &Key,
        before: Option<Position>,
        size: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let name = row_key(document, key);
        let position = |entry: &Entry| (entry.version, entry.dot);
        let is_asked_for = |entry: &&Entry| before.is_none_or(|before| position(entry) < before);
        // The tail first: what moves to the table in between is then found twice, not never.
        let mut found: Vec<Entry> = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.get(&name).into_iter().flatten().filter(is_asked_for).cloned().collect()
        };
        let database = self.database.get()?;
        let table = database.begin_read()?.open_table(HISTORY)?;
        let end = before.map_or((name.as_str(), u64::MAX, u64::MAX, u64::MAX), |(version, dot)| {
            (name.as_str(), version, u64::from_be_bytes(dot.origin.0), dot.n)
        });
        for row in table.range((name.as_str(), 0, 0, 0)..end)?.rev().take(size) {
            let (_, entry) = row?;
            let entry = cbor::decode(entry.value());
            found.push(entry.map_err(|e| StoreError::damaged(format!("history {name}: {e}")))?);
        }
        found.sort_by_key(|entry| std::cmp::Reverse(position(entry)));
        let mut seen = BTreeSet::new();
        found.retain(|entry| seen.insert(entry.dot));
        found.truncate(size);
        Ok(found)
    }
}
