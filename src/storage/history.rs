//! Table `history`: (`service/environment/key`, version, origin, n) → the entry. Derived: every
//! write of every key that its row does not show any more. Lifetime: from the checkpoint that writes
//! the row without it on, as long as the environment's policy keeps it; from then on it goes with one
//! of the next passes of `storage::prune`.
//!
//! So a history is what stands in the table and in the row, of one transaction; and what is committed
//! and in neither yet. Programs of before put every write into the table at once: what is in both
//! counts once, and a pass of `storage::prune` takes it out of the table.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::database::Database;
use super::error::StoreError;
use super::rows::{self, Named, ROWS, row_key};
use super::tombstones::{self, TOMBSTONES};
use crate::config::Entry;
use crate::model::{DocumentId, Dot, Key, Origin, cbor};

/// A row's key: the name of the key's row, version, origin, n.
pub(super) type HistoryKey<'a> = (&'a str, u64, u64, u64);

pub(super) const HISTORY: TableDefinition<'_, HistoryKey<'static>, &[u8]> =
    TableDefinition::new("history");

/// Where an entry stands in its key's history: by version, ties by its change.
pub type Position = (u64, Dot);

/// The entries that are committed since the last checkpoint: of what a key has, those that are in no
/// table yet, and maybe some that are.
pub(super) type Tail = Arc<Mutex<Entries>>;

/// Entries by row key.
pub(super) type ByRow = BTreeMap<String, Vec<Entry>>;

/// A tail: what came last, and what a step of writing behind has on its way into the tables.
#[derive(Debug, Default)]
pub(super) struct Entries {
    last: ByRow,
    on_their_way: Arc<ByRow>,
}

impl Entries {
    /// A tail of these alone.
    pub(super) fn new(last: ByRow) -> Self {
        Self { last, on_their_way: Arc::default() }
    }

    /// What came last.
    pub(super) fn last(&self) -> &ByRow {
        &self.last
    }

    /// A row's entries.
    fn of(&self, name: &str) -> impl Iterator<Item = &Entry> {
        let on_their_way = self.on_their_way.get(name).into_iter().flatten();
        on_their_way.chain(self.last.get(name).into_iter().flatten())
    }

    /// Takes in an entry of a row.
    pub(super) fn push(&mut self, name: String, entry: Entry) {
        self.last.entry(name).or_default().push(entry);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let len = |rows: &ByRow| rows.values().map(Vec::len).sum::<usize>();
        len(&self.last) + len(&self.on_their_way)
    }

    /// Sends what came last on its way.
    pub(super) fn send(&mut self) -> Arc<ByRow> {
        self.on_their_way = Arc::new(std::mem::take(&mut self.last));
        self.on_their_way.clone()
    }

    /// What was on its way is in the tables.
    pub(super) fn arrived(&mut self) {
        self.on_their_way = Arc::default();
    }
}

/// Puts entries in that no row shows.
pub(super) fn put<'a>(
    tx: &WriteTransaction,
    entries: impl Iterator<Item = &'a Named>,
) -> Result<(), StoreError> {
    let (mut table, mut tombstones) = (tx.open_table(HISTORY)?, tx.open_table(TOMBSTONES)?);
    let mut bytes = Vec::new();
    for (name, entry) in entries {
        bytes.clear();
        cbor::encode_into(entry, &mut bytes);
        let key = key(name, (entry.version, entry.dot));
        table.insert(key, bytes.as_slice())?;
        // What is there again, because a store went back to what a peer gave it, has not gone.
        tombstones.remove(key)?;
    }
    Ok(())
}

/// The key of a row.
pub(super) fn key(name: &str, (version, dot): Position) -> HistoryKey<'_> {
    (name, version, u64::from_be_bytes(dot.origin.0), dot.n)
}

/// A part of a key's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// Whether no older entry is left.
    pub is_last: bool,
    /// Numbers of these entries of which others went, or can have gone with the next number: they alone
    /// name none.
    pub thinned: BTreeSet<u64>,
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
        // Of each place, what fits and one more.
        let fitting = |mut entries: Vec<&Entry>| -> Vec<Entry> {
            entries.sort_by_key(|entry| Reverse(position(entry)));
            let mut room = room.clone();
            let fit = entries.iter().take_while(|entry| room.takes(entry)).count();
            entries.into_iter().take(fit + 1).cloned().collect()
        };
        // The tail first: what moves to the tables in between is then found twice, not never.
        let (mut found, in_tail): (Vec<Entry>, Vec<u64>) = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = fitting(tail.of(&name).filter(is_asked_for).collect());
            (entries, tail.of(&name).map(|entry| entry.version).collect())
        };
        let database = self.database.get()?;
        let tx = database.begin_read()?;
        let shown = shown(&tx, &name)?;
        found.extend(fitting(shown.iter().filter(is_asked_for).collect()));
        let table = tx.open_table(HISTORY)?;
        let end = before.map_or((name.as_str(), u64::MAX, u64::MAX, u64::MAX), |before| {
            self::key(&name, before)
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
        let tombstones = tx.open_table(TOMBSTONES)?;
        let mut thinned = BTreeSet::new();
        // The lowest number above those that were looked at.
        let mut above = None;
        if let Some(newest) = found.first().map(|entry| entry.version) {
            let behind = (&*name, newest.saturating_add(1), 0, 0)..=span(&name).into_inner().1;
            let in_table = match table.range(behind)?.next() {
                Some(row) => Some(row?.0.value().1),
                None => None,
            };
            let in_row = shown.iter().map(|entry| entry.version);
            let others = in_row.chain(in_tail).filter(|version| *version > newest);
            above = others.chain(in_table).min();
        }
        for entries in found.chunk_by(|a, b| a.version == b.version) {
            let version = entries[0].version;
            let is_next_gone = above.is_some_and(|above| above - 1 > version);
            if is_next_gone || tombstones::has_number(&tombstones, &name, version)? {
                thinned.insert(version);
            }
            above = Some(version);
        }
        Ok(HistoryPage { entries: found, is_last, thinned })
    }

    /// Whether the policy let go what a key had of this number and origin, while others of the number
    /// stayed.
    pub fn let_go(
        &self,
        document: &DocumentId,
        key: &Key,
        version: u64,
        origin: Origin,
    ) -> Result<bool, StoreError> {
        let tx = self.database.get()?.begin_read()?;
        tombstones::has(&tx, &row_key(document, key), version, origin)
    }

    /// The oldest write of a key that is still there.
    pub fn oldest(&self, document: &DocumentId, key: &Key) -> Result<Option<Position>, StoreError> {
        let name = row_key(document, key);
        // The tail first, as in `read`.
        let in_tail = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.of(&name).map(position).min()
        };
        let database = self.database.get()?;
        let tx = database.begin_read()?;
        let in_row = shown(&tx, &name)?.iter().map(position).min();
        let table = tx.open_table(HISTORY)?;
        let in_table = match table.range(span(&name))?.next() {
            Some(row) => {
                let (_, version, origin, n) = row?.0.value();
                Some((version, Dot { origin: Origin(origin.to_be_bytes()), n }))
            }
            None => None,
        };
        Ok(in_tail.into_iter().chain(in_row).chain(in_table).min())
    }
}

/// What a key's row shows, as of the last checkpoint.
fn shown(tx: &ReadTransaction, name: &str) -> Result<Vec<Entry>, StoreError> {
    rows::siblings(&tx.open_table(ROWS)?, name)
}

/// All of a key's rows.
pub(super) fn span(name: &str) -> std::ops::RangeInclusive<HistoryKey<'_>> {
    (name, 0, 0, 0)..=(name, u64::MAX, u64::MAX, u64::MAX)
}

/// Where an entry stands.
pub(super) fn position(entry: &Entry) -> Position {
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
