//! Table `history`: (`service/environment/key`, version, origin, n) → the entry. Derived: every
//! write of every key. Lifetime: as long as the environment's policy keeps it; from then on it goes
//! with one of the next passes of `storage::prune`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::database::Database;
use super::error::StoreError;
use super::rows::row_key;
use crate::config::Entry;
use crate::model::{DocumentId, Dot, Key, Origin, cbor};

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
    let mut bytes = Vec::new();
    for (name, entries) in entries {
        for entry in entries {
            let origin = u64::from_be_bytes(entry.dot.origin.0);
            let key = (name.as_str(), entry.version, origin, entry.dot.n);
            bytes.clear();
            cbor::encode_into(entry, &mut bytes);
            table.insert(key, bytes.as_slice())?;
        }
    }
    Ok(())
}

/// Puts one entry in, under its key's row.
pub(super) fn put_row(tx: &WriteTransaction, name: &str, entry: &Entry) -> Result<(), StoreError> {
    let key = (name, entry.version, u64::from_be_bytes(entry.dot.origin.0), entry.dot.n);
    tx.open_table(HISTORY)?.insert(key, cbor::encode(entry).as_slice())?;
    Ok(())
}

/// A part of a key's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// Whether no older entry is left.
    pub is_last: bool,
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

    /// The writes of a key before `before`, newest first, at most `size` of them. The page ends
    /// early where it would hold more than `bytes_max` of values and texts, but never before its
    /// first entry.
    pub fn read(
        &self,
        document: &DocumentId,
        key: &Key,
        before: Option<Position>,
        size: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError> {
        let name = row_key(document, key);
        let room = Room { entries: size, bytes: bytes_max, is_empty: true };
        let is_asked_for = |entry: &&Entry| before.is_none_or(|before| position(entry) < before);
        // The tail first: what moves to the table in between is then found twice, not never. Of
        // both, what fits and one more.
        let mut found: Vec<Entry> = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let mut tail: Vec<&Entry> =
                tail.get(&name).into_iter().flatten().filter(is_asked_for).collect();
            tail.sort_by_key(|entry| Reverse(position(entry)));
            let mut room = room.clone();
            let fit = tail.iter().take_while(|entry| room.takes(entry)).count();
            tail.into_iter().take(fit + 1).cloned().collect()
        };
        let database = self.database.get()?;
        let table = database.begin_read()?.open_table(HISTORY)?;
        let end = before.map_or((name.as_str(), u64::MAX, u64::MAX, u64::MAX), |(version, dot)| {
            (name.as_str(), version, u64::from_be_bytes(dot.origin.0), dot.n)
        });
        let mut table_room = room.clone();
        for row in table.range((name.as_str(), 0, 0, 0)..end)?.rev() {
            let (_, entry) = row?;
            let entry = cbor::decode(entry.value());
            found.push(entry.map_err(|e| StoreError::damaged(format!("history {name}: {e}")))?);
            if !found.last().is_some_and(|entry| table_room.takes(entry)) {
                break;
            }
        }
        found.sort_by_key(|entry| Reverse(position(entry)));
        let mut seen = BTreeSet::new();
        found.retain(|entry| seen.insert(entry.dot));
        let mut room = room;
        let fit = found.iter().take_while(|entry| room.takes(entry)).count();
        let is_last = fit == found.len();
        found.truncate(fit);
        Ok(HistoryPage { entries: found, is_last })
    }

    /// The oldest write of a key that is still there.
    pub fn oldest(&self, document: &DocumentId, key: &Key) -> Result<Option<Position>, StoreError> {
        let name = row_key(document, key);
        // The tail first, as in `read`.
        let in_tail = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.get(&name).into_iter().flatten().map(position).min()
        };
        let database = self.database.get()?;
        let table = database.begin_read()?.open_table(HISTORY)?;
        let in_table = match table.range(span(&name))?.next() {
            Some(row) => {
                let (_, version, origin, n) = row?.0.value();
                Some((version, Dot { origin: Origin(origin.to_be_bytes()), n }))
            }
            None => None,
        };
        Ok(in_tail.into_iter().chain(in_table).min())
    }
}

/// All of a key's rows.
pub(super) fn span(name: &str) -> std::ops::RangeInclusive<HistoryKey<'_>> {
    (name, 0, 0, 0)..=(name, u64::MAX, u64::MAX, u64::MAX)
}

fn position(entry: &Entry) -> Position {
    (entry.version, entry.dot)
}

/// What still fits into a page.
#[derive(Clone)]
struct Room {
    entries: usize,
    bytes: usize,
    /// Nothing was taken yet: the first entry fits however large it is.
    is_empty: bool,
}

impl Room {
    /// Takes the entry in, if it fits.
    fn takes(&mut self, entry: &Entry) -> bool {
        let value = entry.value.as_ref().map_or(0, |value| value.as_str().len());
        let message = entry.message.as_ref().map_or(0, |message| message.len());
        let bytes = value + message + entry.author.len() + entry.region.len();
        if self.entries == 0 || (bytes > self.bytes && !self.is_empty) {
            return false;
        }
        self.entries -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_empty = false;
        true
    }
}
