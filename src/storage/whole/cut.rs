//! The sender's side: all documents as of one state of the store, piece by piece as somebody asks for
//! them. It reads one transaction, and no more than one document is in memory; nobody who writes
//! waits. What the transaction holds on to the store cannot reuse, so that whoever takes a cut sees
//! to it that it does not last for ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use redb::{ReadTransaction, ReadableDatabase as _};
use sha2::{Digest as _, Sha256};

use super::message::{
    Ask, CutHead, End, HistoryRow, PIECE_BYTES, Part, Piece, ROWS_MAX, Records, Table,
};
use crate::config::record::Record;
use crate::config::{Entry, Snapshot};
use crate::model::{DocumentId, Dot, Origin, Stamp, Vector, cbor};
use crate::storage::database::Database;
use crate::storage::error::StoreError;
use crate::storage::history::HISTORY;
use crate::storage::past::{self, Checked, StoredPast};
use crate::storage::rows::row_key;
use crate::storage::{documents, epochs, idempotency, log, meta, origins};

/// Of a document with more changes in its epoch than this, the records are not sent: should its next
/// epoch need them, it is sent whole again.
const EPOCH_RECORDS_MAX: usize = 20_000;

/// Begins cuts.
#[derive(Clone)]
pub struct CutReader {
    database: Arc<Database>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl CutReader {
    pub(in crate::storage) fn new(
        database: Arc<Database>,
        published: Arc<ArcSwap<Snapshot>>,
    ) -> Self {
        Self { database, published }
    }

    /// Begins what answers `ask`, at `now`. Blocks.
    pub fn begin(&self, ask: &Ask, now: Stamp) -> Result<Cut, StoreError> {
        let tx = self.database.get()?.begin_read()?;
        let (vector, hashes) = origins::read(&tx)?;
        // What was published is never ahead of what is on disk, and documents only come.
        let documents: VecDeque<DocumentId> =
            self.published.load().documents.keys().cloned().collect();
        let count = documents.len() as u64;
        let head = CutHead::new(vector.clone(), |dot| hashes.get(&dot.origin).copied(), count);
        let head = head.ok_or_else(|| StoreError::damaged("an origin has no last hash"))?;
        let mut cut = Cut {
            unwritten: Unwritten::read(&tx, &vector)?,
            retries: None,
            tx,
            vector,
            known: ask.vector.clone(),
            documents,
            done: 0,
            now,
            ready: VecDeque::new(),
            sum: Sha256::new(),
            pieces: 0,
            has_ended: false,
        };
        cut.unwritten.name_all(&mut cut.documents);
        cut.say(&Piece::Cut(head));
        Ok(cut)
    }

    /// Whether the store is open: a cut of a store that was closed keeps it from being opened again.
    pub fn is_open(&self) -> bool {
        self.database.is_open()
    }
}

/// What is committed and was not in the derived tables when the cut was begun: a second's worth.
#[derive(Default)]
struct Unwritten {
    changes: BTreeMap<DocumentId, Vec<Dot>>,
    /// By document: key's row, and entry.
    entries: BTreeMap<DocumentId, Vec<(String, Entry)>>,
    retries: BTreeSet<Dot>,
}

impl Unwritten {
    fn read(tx: &ReadTransaction, vector: &Vector) -> Result<Self, StoreError> {
        let mut unwritten = Self::default();
        let checkpoint = meta::KEY_CHECKPOINT.get(tx)?.unwrap_or_default();
        for last in vector.iter() {
            for n in checkpoint.get(last.origin) + 1..=last.n {
                let dot = Dot { n, ..last };
                let record = log::require(tx, dot)?;
                let entries = entries_of(&record)?;
                if entries.iter().any(|(_, entry)| entry.idempotency.is_some()) {
                    unwritten.retries.insert(dot);
                }
                unwritten.entries.entry(record.document.clone()).or_default().extend(entries);
                unwritten.changes.entry(record.document).or_default().push(dot);
            }
        }
        Ok(unwritten)
    }

    /// Adds documents that were too new to be published.
    fn name_all(&self, documents: &mut VecDeque<DocumentId>) {
        let known: BTreeSet<DocumentId> = documents.iter().cloned().collect();
        documents.extend(self.changes.keys().filter(|id| !known.contains(*id)).cloned());
    }
}

/// The entries of a record, each with its key's row.
fn entries_of(record: &Record) -> Result<Vec<(String, Entry)>, StoreError> {
    let checked =
        Checked::of(record).map_err(|e| StoreError::damaged(format!("log {}: {e}", record.dot)))?;
    let entries = checked.change().into_iter().flat_map(|change| &change.entries);
    Ok(entries.map(|(key, entry)| (row_key(&record.document, key), entry.clone())).collect())
}

/// A cut that is being sent.
pub struct Cut {
    tx: ReadTransaction,
    vector: Vector,
    /// What the receiver has.
    known: Vector,
    unwritten: Unwritten,
    /// Documents that are still to come.
    documents: VecDeque<DocumentId>,
    done: u64,
    /// Records that recognise retries and are still to come, once it is their turn.
    retries: Option<VecDeque<Dot>>,
    now: Stamp,
    ready: VecDeque<Vec<u8>>,
    sum: Sha256,
    pieces: u64,
    has_ended: bool,
}

impl Cut {
    /// The next piece; none after the last. Blocks.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        while self.ready.is_empty() && !self.has_ended {
            if let Some(document) = self.documents.pop_front() {
                self.done += 1;
                self.say_document(&document)?;
            } else if !self.say_retries()? {
                let end = End { pieces: self.pieces, sum: self.sum.clone().finalize().into() };
                self.say(&Piece::End(end));
                self.has_ended = true;
            }
        }
        Ok(self.ready.pop_front())
    }

    fn say(&mut self, piece: &Piece<'_>) {
        let bytes = cbor::encode(piece);
        self.sum.update(&bytes);
        self.pieces += 1;
        self.ready.push_back(bytes);
    }

    fn say_document(&mut self, id: &DocumentId) -> Result<(), StoreError> {
        let (base, mut dots) = documents::read(&self.tx, id)?;
        dots.extend(self.unwritten.changes.get(id).into_iter().flatten());
        if base.is_none() && dots.is_empty() {
            return Ok(());
        }
        let newest = documents::newest(&self.tx, id)?.unwrap_or_default();
        if newest.iter().chain(&dots).all(|dot| self.known.includes(*dot)) {
            return Ok(());
        }
        let past = StoredPast { tx: &self.tx, id, staged: BTreeMap::new(), begun: None };
        let document = past::build(past, base, dots)?;
        if document.epoch() > 0 {
            let begun = match document.epoch_base() {
                Some(begun) => begun.to_vec(),
                None => epochs::base_bytes(&self.tx, id)?.ok_or_else(|| {
                    StoreError::damaged(format!("the base of {id}'s epoch is missing"))
                })?,
            };
            self.say_value(id, Table::EpochBase, &begun);
        }
        let dots = document.dots_held().filter(|dots| dots.len() <= EPOCH_RECORDS_MAX);
        let dots: VecDeque<Dot> = dots.into_iter().flatten().collect();
        self.say_records(dots)?;
        self.say_value(id, Table::Base, &cbor::encode(&document.save()));
        self.say_history(id)
    }

    /// What a next epoch is made from where changes come late.
    fn say_records(&mut self, mut dots: VecDeque<Dot>) -> Result<(), StoreError> {
        dots.retain(|dot| !self.known.includes(*dot));
        while let Some(records) = self.read_records(&mut dots)? {
            self.say(&Piece::Records(records));
        }
        Ok(())
    }

    /// The first of these records, as many as fit into a piece.
    fn read_records(&self, dots: &mut VecDeque<Dot>) -> Result<Option<Records>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES && records.len() < ROWS_MAX {
            let Some(dot) = dots.pop_front() else { break };
            if let Some(record) = log::find(&self.tx, dot)? {
                bytes += record.bytes.len();
                records.push(record.bytes);
            }
        }
        Ok((!records.is_empty()).then_some(Records(records)))
    }

    fn say_value(&mut self, id: &DocumentId, table: Table, value: &[u8]) {
        let name = id.to_string();
        let mut parts = value.chunks(PIECE_BYTES).peekable();
        while let Some(bytes) = parts.next() {
            let is_last = parts.peek().is_none();
            let part = Part { document: &name, table, bytes, is_last, done: self.done };
            self.say(&Piece::Part(part));
        }
    }

    /// The versions that the receiver has not got.
    fn say_history(&mut self, id: &DocumentId) -> Result<(), StoreError> {
        let name = id.to_string();
        // A document's rows: `0` comes behind `/`.
        let (from, to) = (format!("{name}/"), format!("{name}0"));
        let mut rows = OwnedRows::default();
        let table = self.tx.open_table(HISTORY)?;
        for row in table.range((from.as_str(), 0, 0, 0)..(to.as_str(), 0, 0, 0))? {
            let (key, entry) = row?;
            let (name, version, origin, n) = key.value();
            let dot = Dot { origin: Origin(origin.to_be_bytes()), n };
            if self.known.includes(dot) {
                continue;
            }
            if rows.push(name, version, dot, entry.value()) {
                self.say_rows(&mut rows);
            }
        }
        for (name, entry) in self.unwritten.entries.remove(id).into_iter().flatten() {
            if self.known.includes(entry.dot) {
                continue;
            }
            if rows.push(&name, entry.version, entry.dot, &cbor::encode(&entry)) {
                self.say_rows(&mut rows);
            }
        }
        self.say_rows(&mut rows);
        Ok(())
    }

    fn say_rows(&mut self, rows: &mut OwnedRows) {
        let rows = std::mem::take(rows).rows;
        if rows.is_empty() {
            return;
        }
        let rows = rows.iter().map(|(name, version, dot, entry)| HistoryRow {
            name,
            version: *version,
            dot: *dot,
            entry,
        });
        self.say(&Piece::History(rows.collect()));
    }

    /// Says some records that recognise retries; whether there were any left. Their requests may
    /// come again to the receiver, too.
    fn say_retries(&mut self) -> Result<bool, StoreError> {
        let mut dots = match self.retries.take() {
            Some(dots) => dots,
            None => self.find_retries()?,
        };
        let records = self.read_records(&mut dots)?;
        self.retries = Some(dots);
        let has_any = records.is_some();
        if let Some(records) = records {
            self.say(&Piece::Retries(records));
        }
        Ok(has_any)
    }

    fn find_retries(&self) -> Result<VecDeque<Dot>, StoreError> {
        let before = Stamp(self.now.0.saturating_sub(idempotency::RETENTION_US));
        let expired = log::written_before(&self.tx, &self.vector, before)?;
        let mut dots = self.unwritten.retries.clone();
        idempotency::each(&self.tx, |dot| {
            if !expired.includes(dot) && !self.known.includes(dot) && self.vector.includes(dot) {
                dots.insert(dot);
            }
        })?;
        Ok(dots.into_iter().collect())
    }
}

/// A row of the table of histories.
type OwnedRow = (String, u64, Dot, Vec<u8>);

/// Rows for one piece.
#[derive(Default)]
struct OwnedRows {
    rows: Vec<OwnedRow>,
    bytes: usize,
}

impl OwnedRows {
    /// Adds a row; whether the piece is full then.
    fn push(&mut self, name: &str, version: u64, dot: Dot, entry: &[u8]) -> bool {
        self.bytes += name.len() + entry.len();
        self.rows.push((name.to_owned(), version, dot, entry.to_vec()));
        self.bytes >= PIECE_BYTES || self.rows.len() == ROWS_MAX
    }
}
