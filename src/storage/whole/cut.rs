//! The sender's side: all documents as of one state of the store, a piece a step as somebody asks for
//! them. It reads one transaction; of one document at a time it keeps how its epoch began, what it is
//! now, both encoded, and which records it has, and of all else no more than a piece. Nobody who
//! writes waits. What the transaction holds on to the store cannot reuse, so that whoever takes a cut
//! sees to it that it does not last for ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use redb::{ReadTransaction, ReadableDatabase as _};
use sha2::{Digest as _, Sha256};

use super::message::{
    Ask, CutHead, End, HistoryRow, PIECE_BYTES, Part, Piece, ROWS_MAX, Records, Table,
};
use crate::config::record::Record;
use crate::config::{Entry, Snapshot};
use crate::model::{DocumentId, Dot, Folds, Origin, Stamp, Told, Vector, cbor};
use crate::storage::database::Database;
use crate::storage::error::StoreError;
use crate::storage::history::HISTORY;
use crate::storage::past::{self, Checked};
use crate::storage::rows::{self, ROWS, row_key};
use crate::storage::{documents, epochs, idempotency, log, origins};

/// Most documents that a step leaves out.
const SKIPPED_MAX: usize = 64;
/// Most bytes of rows, and most rows, that a step looks at.
const LOOKED_BYTES_MAX: usize = 4 * 1024 * 1024;
const LOOKED_ROWS_MAX: usize = 16_384;

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
        let database = self.database.get()?;
        let tx = database.begin_read()?;
        let folds = self.database.folds(&tx)?;
        let (vector, hashes) = origins::read(&tx, &folds)?;
        // What was published is never ahead of what is on disk, and documents only come.
        let mut documents: VecDeque<DocumentId> =
            self.published.load().documents.keys().cloned().collect();
        let count = documents.len() as u64;
        let head = CutHead::new(vector.told(), |dot| hashes.get(&dot.origin).copied(), count);
        let head = head.ok_or_else(|| StoreError::damaged("an origin has no last hash"))?;
        let unwritten = Unwritten::read(&tx, &folds)?;
        let known = ask.vector.read(&folds);
        unwritten.name_all(&mut documents);
        Ok(Cut {
            head: Some(head),
            unwritten,
            folds: known.generation() + 1..vector.generation() + 1,
            asked: Asked {
                tx,
                _database: database,
                known,
                folds,
                shown_in_rows: ask.shown_in_rows.unwrap_or_default(),
            },
            vector,
            documents,
            done: 0,
            open: None,
            retries: None,
            now,
        })
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
    fn read(tx: &ReadTransaction, folds: &Arc<Folds>) -> Result<Self, StoreError> {
        let mut unwritten = Self::default();
        log::since_checkpoint(tx, folds, |record| {
            let entries = entries_of(&record)?;
            if entries.iter().any(|(_, entry)| entry.idempotency.is_some()) {
                unwritten.retries.insert(record.dot);
            }
            unwritten.entries.entry(record.document.clone()).or_default().extend(entries);
            unwritten.changes.entry(record.document).or_default().push(record.dot);
            Ok(())
        })?;
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

/// What a step of a cut comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next piece.
    Piece(Vec<u8>),
    /// No piece yet: there was much to look at.
    Busy,
    /// Nothing is left but the end ([`Said::end`]).
    Done,
}

/// What was said on a stream so far, which its end names.
#[derive(Default)]
pub struct Said {
    sum: Sha256,
    pieces: u64,
}

impl Said {
    /// Takes note of a piece, which is said next.
    pub fn note(&mut self, piece: &[u8]) {
        self.sum.update(piece);
        self.pieces += 1;
    }

    /// The last piece. It is not noted.
    pub fn end(&self) -> Vec<u8> {
        let end = End { pieces: self.pieces, sum: self.sum.clone().finalize().into() };
        cbor::encode(&Piece::End(end))
    }
}

/// A piece with nothing in it, for whoever waits for the next one: the sender is at work, and done
/// with so many documents. It may stand anywhere behind the first piece.
pub fn alive(done: u64) -> Vec<u8> {
    cbor::encode(&Piece::History(Vec::new(), Some(done)))
}

/// Who asked, for whom all is read.
struct Asked {
    tx: ReadTransaction,
    /// redb reads for no transaction that outlives its database; and a file that is rebuilt takes the
    /// place of another meanwhile.
    _database: Arc<redb::Database>,
    /// What the receiver has.
    known: Vector,
    /// Whether it takes what keys show from the documents.
    shown_in_rows: bool,
    /// All that the transaction sees.
    folds: Arc<Folds>,
}

/// A cut that is being sent.
pub struct Cut {
    /// The first piece, until it is said.
    head: Option<CutHead>,
    /// Which folds are still to come.
    folds: Range<u64>,
    asked: Asked,
    vector: Vector,
    unwritten: Unwritten,
    /// Documents that are still to come.
    documents: VecDeque<DocumentId>,
    done: u64,
    /// The document that is being sent.
    open: Option<Sending>,
    /// Records that recognise retries, once it is their turn.
    retries: Option<Retries>,
    now: Stamp,
}

impl Cut {
    /// Takes the next step. Blocks, as long as loading a document takes at most.
    pub fn step(&mut self) -> Result<Step, StoreError> {
        if let Some(head) = self.head.take() {
            return Ok(Step::Piece(cbor::encode(&Piece::Cut(head))));
        }
        if let Some(fold) = self.folds.next().and_then(|it| self.asked.folds.fold(it)) {
            return Ok(Step::Piece(cbor::encode(&Piece::Fold((**fold).clone()))));
        }
        if let Some(open) = &mut self.open {
            let step = open.step(&self.asked, self.done)?;
            if step == Step::Done {
                self.open = None;
                return Ok(Step::Busy);
            }
            return Ok(step);
        }
        for _ in 0..SKIPPED_MAX {
            let Some(id) = self.documents.pop_front() else {
                return self.say_retries();
            };
            self.done += 1;
            if !self.is_known(&id)? {
                self.open = Some(self.load(id)?);
                break;
            }
        }
        Ok(Step::Busy)
    }

    /// How many documents it is done with once what it has said is there.
    pub fn documents_done(&self) -> u64 {
        self.done
    }

    /// What is kept for later pieces of the document that is being sent, in bytes.
    #[cfg(test)]
    pub(in crate::storage) fn held_bytes(&self) -> usize {
        let values = |open: &Sending| {
            [&open.begun, &open.base].into_iter().flatten().map(|it| it.bytes.len()).sum::<usize>()
        };
        self.open.as_ref().map_or(0, values)
    }

    /// Whether the receiver has every change of a document, and is in its epoch.
    fn is_known(&self, id: &DocumentId) -> Result<bool, StoreError> {
        let Asked { tx, known, .. } = &self.asked;
        let newest = documents::newest(tx, id)?;
        let unwritten = self.unwritten.changes.get(id).into_iter().flatten();
        // Of one that was saved without naming its last changes nothing is known.
        let is_unnamed = newest.as_ref().is_some_and(Vec::is_empty);
        Ok(!is_unnamed && newest.iter().flatten().chain(unwritten).all(|dot| known.includes(*dot)))
    }

    fn load(&mut self, id: DocumentId) -> Result<Sending, StoreError> {
        let Asked { tx, known, folds, .. } = &self.asked;
        let unwritten = self.unwritten.changes.get(&id);
        // Where nothing came since, the rows are what the document shows.
        let rows_are_sent = !self.asked.shown_in_rows || unwritten.is_some();
        let document = past::load(tx, &id, unwritten.into_iter().flatten().copied(), folds)?;
        let begun = match document.epoch_base() {
            _ if document.epoch() == 0 => None,
            Some(begun) => Some(begun.to_vec()),
            None => Some(epochs::base_bytes(tx, &id)?.ok_or_else(|| {
                StoreError::damaged(format!("the base of {id}'s epoch is missing"))
            })?),
        };
        // What a next epoch is made from where changes come late; and what says that there is this one.
        let dots = document.dots_held().into_iter().flatten();
        let dots = document.rolled().map(|rolled| rolled.record).into_iter().chain(dots);
        Ok(Sending {
            begun: begun.map(|bytes| Value { table: Table::EpochBase, bytes, at: 0 }),
            records: dots.filter(|dot| !known.includes(*dot)).collect(),
            base: Some(Value { table: Table::Base, bytes: cbor::encode(&document.save()), at: 0 }),
            histories: Some(None),
            rows: rows_are_sent.then_some(None),
            entries: self.unwritten.entries.remove(&id).unwrap_or_default().into(),
            name: id.to_string(),
        })
    }

    /// Says records that recognise retries: their requests may come again to the receiver, too.
    fn say_retries(&mut self) -> Result<Step, StoreError> {
        let Asked { tx, known, folds, .. } = &self.asked;
        let retries = match &mut self.retries {
            Some(retries) => retries,
            none => {
                let before = Stamp(self.now.0.saturating_sub(idempotency::RETENTION_US));
                let expired = log::written_before(tx, &self.vector, before)?;
                let unwritten = std::mem::take(&mut self.unwritten.retries);
                let found = unwritten.into_iter().filter(|dot| !known.includes(*dot)).collect();
                none.insert(Retries { expired, found, after: None, is_read: false })
            }
        };
        if let Some(records) = read_records(tx, folds, &mut retries.found)? {
            return Ok(Step::Piece(cbor::encode(&Piece::Retries(records))));
        }
        if retries.is_read {
            return Ok(Step::Done);
        }
        let rows = idempotency::read(tx, retries.after, LOOKED_ROWS_MAX)?;
        retries.is_read = rows.len() < LOOKED_ROWS_MAX;
        retries.after = rows.last().map(|(key, _)| *key);
        let is_due = |dot: &Dot| {
            !retries.expired.names(*dot) && !known.includes(*dot) && self.vector.includes(*dot)
        };
        retries.found = rows.into_iter().map(|(_, dot)| dot).filter(is_due).collect();
        Ok(Step::Busy)
    }
}

/// Records that recognise retries and are still to come.
struct Retries {
    /// What is too old to be retried.
    expired: Told,
    found: VecDeque<Dot>,
    /// Behind which row of the table to go on.
    after: Option<[u8; 16]>,
    is_read: bool,
}

/// The first of these records that are there, as many as fit into a piece.
fn read_records(
    tx: &ReadTransaction,
    folds: &Folds,
    dots: &mut VecDeque<Dot>,
) -> Result<Option<Records>, StoreError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    while bytes < PIECE_BYTES && records.len() < ROWS_MAX {
        let Some(dot) = dots.pop_front() else { break };
        if let Some(record) = log::find(tx, folds, dot)? {
            bytes += record.bytes.len();
            records.push(record.bytes);
        }
    }
    Ok((!records.is_empty()).then_some(Records(records)))
}

/// A document that is being sent.
struct Sending {
    name: String,
    /// How its epoch began.
    begun: Option<Value>,
    records: VecDeque<Dot>,
    base: Option<Value>,
    /// Behind which row of its histories to go on; nothing once all were read.
    histories: Option<Option<(String, u64, u64, u64)>>,
    /// With which of its keys' rows to go on, whose entries stand in no history yet, and how many of
    /// these were read; nothing once all were.
    rows: Option<Option<(String, usize)>>,
    /// Entries that are in no table yet.
    entries: VecDeque<(String, Entry)>,
}

impl Sending {
    fn step(&mut self, asked: &Asked, done: u64) -> Result<Step, StoreError> {
        if let Some(piece) = next_part(&mut self.begun, &self.name, done) {
            return Ok(Step::Piece(piece));
        }
        if let Some(records) = read_records(&asked.tx, &asked.folds, &mut self.records)? {
            return Ok(Step::Piece(cbor::encode(&Piece::Records(records))));
        }
        if let Some(piece) = next_part(&mut self.base, &self.name, done) {
            return Ok(Step::Piece(piece));
        }
        let mut rows = OwnedRows::default();
        if let Some(after) = self.histories.take() {
            self.histories = self.read_histories(asked, after, &mut rows)?.map(Some);
            return Ok(rows.piece().map_or(Step::Busy, Step::Piece));
        }
        if let Some(after) = self.rows.take() {
            self.rows = self.read_rows(asked, after, &mut rows)?.map(Some);
            return Ok(rows.piece().map_or(Step::Busy, Step::Piece));
        }
        while let Some((name, entry)) = self.entries.pop_front() {
            let is_known = asked.known.includes(entry.dot);
            if !is_known && rows.push(&name, entry.version, entry.dot, &cbor::encode(&entry)) {
                break;
            }
        }
        Ok(rows.piece().map_or(Step::Done, Step::Piece))
    }

    /// Reads versions that the receiver has not got, on from behind `after`; says where it ended,
    /// unless that was all.
    fn read_histories(
        &self,
        asked: &Asked,
        after: Option<(String, u64, u64, u64)>,
        rows: &mut OwnedRows,
    ) -> Result<Option<(String, u64, u64, u64)>, StoreError> {
        let (first, end) = rows::span(&self.name);
        let from = match &after {
            Some((name, version, origin, n)) => Excluded((name.as_str(), *version, *origin, *n)),
            None => Included((first.as_str(), 0, 0, 0)),
        };
        let table = asked.tx.open_table(HISTORY)?;
        let (mut looked_bytes, mut looked_rows) = (0, 0);
        for row in table.range((from, Excluded((end.as_str(), 0, 0, 0))))? {
            let (key, entry) = row?;
            let (name, version, origin, n) = key.value();
            let dot = Dot { origin: Origin(origin.to_be_bytes()), n };
            looked_bytes += name.len() + entry.value().len();
            looked_rows += 1;
            let is_full =
                !asked.known.includes(dot) && rows.push(name, version, dot, entry.value());
            if is_full || looked_bytes >= LOOKED_BYTES_MAX || looked_rows >= LOOKED_ROWS_MAX {
                return Ok(Some((name.to_owned(), version, origin, n)));
            }
        }
        Ok(None)
    }

    /// As [`Sending::read_histories`], of what the keys' rows show.
    fn read_rows(
        &self,
        asked: &Asked,
        at: Option<(String, usize)>,
        rows: &mut OwnedRows,
    ) -> Result<Option<(String, usize)>, StoreError> {
        let (first, end) = rows::span(&self.name);
        let from = at.as_ref().map_or(first.as_str(), |(name, _)| name.as_str());
        let mut read = at.as_ref().map_or(0, |(_, read)| *read);
        let table = asked.tx.open_table(ROWS)?;
        let (mut looked_bytes, mut looked_rows) = (0, 0);
        for row in table.range::<&str>((Included(from), Excluded(end.as_str())))? {
            let (name, row) = row?;
            let (name, row) = (name.value(), row.value());
            looked_bytes += name.len() + row.len();
            looked_rows += 1;
            let is_long = looked_bytes >= LOOKED_BYTES_MAX || looked_rows >= LOOKED_ROWS_MAX;
            for entry in rows::decode(name, row)?.iter().skip(read) {
                read += 1;
                if !asked.known.includes(entry.dot)
                    && rows.push(name, entry.version, entry.dot, &cbor::encode(entry))
                {
                    return Ok(Some((name.to_owned(), read)));
                }
            }
            if is_long {
                return Ok(Some((name.to_owned(), read)));
            }
            read = 0;
        }
        Ok(None)
    }
}

/// A value that is sent in parts.
struct Value {
    table: Table,
    bytes: Vec<u8>,
    /// Where the next part begins.
    at: usize,
}

/// The next part of a value, which is gone after its last one.
fn next_part(value: &mut Option<Value>, document: &str, done: u64) -> Option<Vec<u8>> {
    let Value { table, bytes, at } = value.as_mut()?;
    let end = bytes.len().min(*at + PIECE_BYTES);
    let is_last = end == bytes.len();
    let part = Part { document, table: *table, bytes: &bytes[*at..end], is_last, done };
    let piece = cbor::encode(&Piece::Part(part));
    *at = end;
    if is_last {
        *value = None;
    }
    Some(piece)
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
        self.bytes >= PIECE_BYTES || self.rows.len() >= ROWS_MAX
    }

    /// The piece, where there are any.
    fn piece(&self) -> Option<Vec<u8>> {
        let rows = self.rows.iter().map(|(name, version, dot, entry)| HistoryRow {
            name,
            version: *version,
            dot: *dot,
            entry,
        });
        let rows: Vec<HistoryRow<'_>> = rows.collect();
        (!rows.is_empty()).then(|| cbor::encode(&Piece::History(rows, None)))
    }
}
