//! Writing behind: what was committed since the last checkpoint goes from the log into the derived
//! tables, in one transaction with the vector it reaches. A crash before or after changes nothing
//! but how much opening has to read again.

use std::sync::{Arc, PoisonError};

use imbl::OrdMap;
use redb::{ReadableDatabase as _, WriteTransaction};

use super::{Unwritten, Writer};
use crate::config::document::Document;
use crate::config::{DocumentView, Row};
use crate::model::{DocumentId, Key, Told};
use crate::storage::database::FILE;
use crate::storage::error::StoreError;
use crate::storage::history::{ByRow, Entries};
use crate::storage::rows::{self, Named};
use crate::storage::{database, documents, epochs, history, idempotency, log, meta};

/// A document gets a new base when at least this many changes came since the last one, and a
/// half of what it held then: the work for bases stays a constant share of the work for changes,
/// and what loading has to apply one by one stays a small part.
const CHANGES_FOR_BASE_MIN: usize = 256;

impl Writer {
    /// How many rows wait to be written behind.
    pub fn unwritten_rows(&self) -> usize {
        self.unwritten.rows.len()
    }

    /// Writes the derived tables up to what is committed, on disk when it returns. After a failure all
    /// of it is still unwritten, and the store closed, to be opened again by the next commit.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.write_derived_where_needed(true)
    }

    /// As [`Writer::checkpoint`], but on disk with the next [`Writer::sync`]: until then opening makes it
    /// from the log again.
    pub fn write_behind(&mut self) -> Result<(), StoreError> {
        // Without a journal the log itself is in the file alone.
        let is_synced = self.database.reached().is_none();
        self.write_derived_where_needed(is_synced)
    }

    fn write_derived_where_needed(&mut self, is_synced: bool) -> Result<(), StoreError> {
        let is_needed = !self.unwritten.changes.is_empty()
            || self.pruner.has_due()
            || (is_synced && (self.is_unsynced() || self.database.ahead_bytes() > 0));
        if !is_needed || !self.database.is_open() {
            return Ok(());
        }
        if self.stepping.is_some() {
            return Err(StoreError::Failed("a step of the checkpoint is under way".into()));
        }
        if let Err(error) = self.write_derived(is_synced) {
            // The log stands; what is derived from it is still known here.
            let state = self.state.clone();
            self.settle(&state, &error);
            return Err(error);
        }
        self.written_behind += 1;
        if is_synced {
            self.synced = self.written_behind;
        }
        self.unwritten = Unwritten::default();
        self.pruner.removed();
        self.documents.settle();
        self.note_size()?;
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Entries::default();
        Ok(())
    }

    /// What has everything on disk that was written behind until now. To be done beside the writer, and
    /// [`Writer::synced`] told what came of it.
    pub fn sync(&self) -> impl FnOnce() -> Result<u64, StoreError> + Send + 'static {
        let (database, up_to) = (self.database.clone(), self.written_behind);
        let is_large = self.is_large();
        move || database.sync(is_large).map(|()| up_to)
    }

    /// Takes note of what came of a [`Writer::sync`].
    pub fn synced(&mut self, synced: Result<u64, StoreError>) {
        match synced {
            Ok(up_to) => self.synced = self.synced.max(up_to),
            Err(error) => {
                tracing::error!(%error, "what was written behind could not be synced");
                let state = self.state.clone();
                self.settle(&state, &error);
            }
        }
    }

    /// Whether something that was or is being written behind is not on disk for certain.
    pub(super) fn is_unsynced(&self) -> bool {
        self.stepping.is_some() || self.synced < self.written_behind
    }

    /// How many bytes are on disk in the journal alone.
    pub fn ahead_bytes(&self) -> usize {
        self.database.ahead_bytes()
    }

    /// Stops in order: everything written, and said so beside the store.
    pub fn close(&mut self) -> Result<(), StoreError> {
        self.give_up_rebuild(&"the node stops");
        self.checkpoint()?;
        if self.database.is_open() {
            self.write_mark(true)?;
            self.database.close();
        }
        Ok(())
    }

    /// Takes note of the file's size, and the log's.
    pub(super) fn note_size(&mut self) -> Result<(), StoreError> {
        let len = self.disk.len(FILE).map_err(super::io_error)?;
        self.database_bytes = len.unwrap_or(0);
        self.log_records = log::count(&self.database.get()?.begin_read()?)?;
        Ok(())
    }

    fn write_derived(&mut self, is_synced: bool) -> Result<(), StoreError> {
        // A document that began an epoch gets a base, whatever became of it in memory.
        for id in self.unwritten.rolled.clone() {
            self.document(&id)?;
        }
        let database = self.database.get()?;
        let mut tx = self.begin(&database)?;
        if !is_synced {
            database::unsynced(&mut tx)?;
        }
        let vector = self.state.vector.told();
        let mut past = self.derived(&vector).put_rows(&tx)?;
        {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            past.extend(self.derived(&vector).unshown(tail.last()));
        }
        self.put_derived(&tx, &past)?;
        let derived = self.derived(&vector);
        let tombstones = self.pruner.tombstones(&tx, |document, key| derived.row(document, key))?;
        tombstones.put(&tx)?;
        tx.commit()?;
        if is_synced {
            self.database.synced();
        }
        let mut rebuild = self.rebuild.take();
        Self::mirror(&mut rebuild, |tx| {
            // What stood in its rows, if they are copied already, is what stood in those of the other.
            self.derived(&vector).put_rows(tx)?;
            self.put_derived(tx, &past)?;
            tombstones.put(tx)
        });
        self.rebuild = rebuild;
        self.format = self.format.max(meta::FORMAT_WITHOUT_FOLDS);
        for id in self.unwritten.changes.keys() {
            if let Some(document) = self.documents.peek_mut(id).filter(|d| is_base_due(d)) {
                document.set_bases();
            }
        }
        Ok(())
    }

    /// What of the state is derived.
    fn derived<'a>(&'a self, vector: &'a Told) -> Derived<'a> {
        let (unwritten, documents) = (&self.unwritten, &self.state.documents);
        Derived { unwritten, documents, vector, format: self.format }
    }

    /// By keys alone, without asking what is there: it is done to a file that is being made, too.
    /// `past` is what no row shows any more.
    fn put_derived(&self, tx: &WriteTransaction, past: &[Named]) -> Result<(), StoreError> {
        let vector = self.state.vector.told();
        let derived = self.derived(&vector);
        derived.put(tx, past, |id| match self.documents.peek(id).filter(|it| is_base_due(it)) {
            Some(document) => documents::put_base(tx, id, document),
            None => Ok(()),
        })?;
        self.pruner.remove(tx, |document, key| derived.row(document, key))
    }
}

/// What a checkpoint writes; documents' bases are found by who has it put.
pub(super) struct Derived<'a> {
    pub(super) unwritten: &'a Unwritten,
    /// What is shown.
    pub(super) documents: &'a OrdMap<DocumentId, Arc<DocumentView>>,
    pub(super) vector: &'a Told,
    /// The store's format.
    pub(super) format: u32,
}

impl<'a> Derived<'a> {
    /// The rows; gives what they do not show any more.
    pub(super) fn put_rows(&self, tx: &WriteTransaction) -> Result<Vec<Named>, StoreError> {
        let changed = self.unwritten.rows.iter();
        rows::put(tx, changed.map(|(document, key)| (document, key, self.row(document, key))))
    }

    /// What was written since the last checkpoint and is no more shown, or never was.
    pub(super) fn unshown(&self, tail: &ByRow) -> Vec<Named> {
        let mut unshown = Vec::new();
        for (name, entries) in tail {
            let place = rows::parse_row_key(name);
            let row = place.and_then(|(document, key)| self.row(&document, &key));
            let gone = entries.iter().filter(|entry| !rows::shows(row, entry.dot));
            unshown.extend(gone.map(|entry| (name.clone(), entry.clone())));
        }
        unshown
    }

    fn row(&self, document: &DocumentId, key: &Key) -> Option<&'a Row> {
        self.documents.get(document)?.rows.get(key).map(|row| &**row)
    }

    /// By keys alone. `past` is what no row shows any more; `put_base` puts a document's base, where one is
    /// due.
    pub(super) fn put(
        &self,
        tx: &WriteTransaction,
        past: &[Named],
        put_base: impl Fn(&DocumentId) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        history::put(tx, past.iter())?;
        idempotency::put(tx, self.unwritten.idempotency.iter())?;
        for (id, dots) in &self.unwritten.changes {
            documents::add_changes(tx, id, dots)?;
            put_base(id)?;
        }
        for id in self.unwritten.changes.keys().chain(&self.unwritten.epochs) {
            if let Some(view) = self.documents.get(id) {
                epochs::put(tx, id, view)?;
            }
        }
        if self.format < meta::FORMAT_WITHOUT_FOLDS {
            meta::KEY_FORMAT.put(tx, &meta::FORMAT_WITHOUT_FOLDS)?;
        }
        meta::KEY_CHECKPOINT.put(tx, self.vector)
    }
}

pub(super) fn is_base_due(document: &Document) -> bool {
    let due = CHANGES_FOR_BASE_MIN.max(document.changes_in_base() / 2);
    document.epoch_base().is_some() || document.changes_since_base() >= due
}
