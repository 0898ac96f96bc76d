//! Opening: the derived tables as of the last checkpoint, and on top of them what the log has
//! since. Then whose changes it makes from now on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use redb::{ReadTransaction, ReadableDatabase as _};

use super::audited::Chain;
use super::{State, Unwritten, Writer};
use crate::config::{Row, Snapshot};
use crate::model::{DocumentId, Key};
use crate::storage::error::StoreError;
use crate::storage::history::{ByRow, Entries};
use crate::storage::past::Checked;
use crate::storage::{documents, epochs, log, meta, origins, rows};

impl Writer {
    /// Reads the store from the start, and publishes what it holds.
    pub(super) fn recover(&mut self) -> Result<(), StoreError> {
        let database = self.database.get()?;
        self.identify(&database)?;
        let tx = database.begin_read()?;
        self.documents.clear();
        self.waiting.clear();
        self.unwritten = Unwritten::default();
        self.stepping = None;
        self.synced = self.written_behind;
        self.pruner.restart(!meta::KEY_HISTORIES.get(&tx)?.unwrap_or_default());
        self.give_up_rebuild(&"the store was opened anew");
        self.trimmer.restart();
        let folds = self.database.folds(&tx)?;
        let (vector, hashes) = origins::read(&tx, &folds)?;
        let head = meta::KEY_AUDIT.get(&tx)?.unwrap_or_default();
        let spans = Arc::new(meta::KEY_AUDIT_SPANS.get(&tx)?.unwrap_or_default());
        self.stored_spans = spans.len();
        self.state = State { vector, hashes, chain: Chain { head, spans }, ..State::default() };
        self.state.set_documents(rows::read(&tx)?);
        self.read_epochs(&tx)?;
        let touched = self.read_log(&tx)?;
        for (id, keys) in touched {
            self.show_again(&id, keys)?;
            self.documents.settle();
        }
        self.choose_origin(&tx)?;
        self.note_size()?;
        self.published.store(Arc::new(Snapshot::new(
            Arc::new(self.state.vector.clone()),
            self.state.documents.clone(),
        )));
        Ok(())
    }

    /// Reads which epochs the documents are in. Of those that the table does not name, which are of
    /// epoch 0, counts the changes, and has them named.
    fn read_epochs(&mut self, tx: &ReadTransaction) -> Result<(), StoreError> {
        let known = epochs::read(tx)?;
        let is_known = |id: &DocumentId| known.contains_key(id);
        if !self.state.documents.keys().all(is_known) {
            for (id, changes) in documents::changes_held(tx)? {
                if !is_known(&id) {
                    self.state.set_epoch(&id, changes, None);
                    self.unwritten.epochs.insert(id);
                }
            }
        }
        for (id, row) in known {
            self.state.set_epoch(&id, row.changes, row.rolled.map(Arc::new));
        }
        Ok(())
    }

    /// Shows a document's keys as its log has them: these, and where it began an epoch, all.
    fn show_again(&mut self, id: &DocumentId, mut keys: BTreeSet<Key>) -> Result<(), StoreError> {
        if self.unwritten.rolled.contains(id) {
            keys.extend(self.document(id)?.keys().cloned());
            let shown = self.state.view(id).into_iter().flat_map(|view| view.rows.keys());
            keys.extend(shown.cloned());
        }
        for key in keys {
            match Row::new(self.document(id)?.siblings(&key)) {
                Some(row) => self.state.set_row(id, &key, Arc::new(row)),
                None => self.state.remove_row(id, &key),
            }
            self.unwritten.rows.insert((id.clone(), key));
        }
        let document = self.document(id)?;
        let (changes, rolled) = (document.changes_in_epoch(), document.rolled().cloned());
        self.state.set_epoch(id, changes, rolled);
        Ok(())
    }

    /// Refuses a store of another format, cluster or node; says in a new one whose it is.
    fn identify(&mut self, database: &redb::Database) -> Result<(), StoreError> {
        let tx = database.begin_read()?;
        let node = self.settings.node.to_string();
        let Some(format) = meta::KEY_FORMAT.get(&tx)? else {
            let tx = database.begin_write()?;
            meta::KEY_FORMAT.put(&tx, &meta::FORMAT_WITHOUT_FOLDS)?;
            meta::KEY_HISTORIES.put(&tx, &true)?;
            meta::KEY_CLUSTER.put(&tx, &self.settings.cluster)?;
            meta::KEY_NODE.put(&tx, &node)?;
            tx.commit()?;
            self.format = meta::FORMAT_WITHOUT_FOLDS;
            return Ok(());
        };
        self.format = format;
        if format > meta::FORMAT {
            return Err(StoreError::Failed(format!(
                "the store has format {format}; this program knows formats up to {}",
                meta::FORMAT
            )));
        }
        for (what, found, expected) in [
            ("cluster", meta::KEY_CLUSTER.get(&tx)?, &self.settings.cluster),
            ("node", meta::KEY_NODE.get(&tx)?, &node),
        ] {
            if found.as_ref() != Some(expected) {
                let found = found.unwrap_or_default();
                return Err(StoreError::Failed(format!(
                    "the store is of the {what} {found:?}, not of {expected:?}"
                )));
            }
        }
        Ok(())
    }

    /// Takes note of the changes since the checkpoint, and gives the keys they touched.
    fn read_log(
        &mut self,
        tx: &ReadTransaction,
    ) -> Result<BTreeMap<DocumentId, BTreeSet<Key>>, StoreError> {
        let mut touched: BTreeMap<DocumentId, BTreeSet<Key>> = BTreeMap::new();
        // Put in place as a whole: a reader finds the old one or this one.
        let mut tail = ByRow::new();
        let folds = self.state.vector.folds();
        log::since_checkpoint(tx, &folds, |record| {
            let dot = record.dot;
            let checked =
                Checked::of(&record).map_err(|e| StoreError::damaged(format!("log {dot}: {e}")))?;
            self.unwritten.bytes += record.bytes.len();
            let keys = touched.entry(record.document.clone()).or_default();
            let entries = match checked {
                Checked::Change(change) => change.entries,
                Checked::Roll(_) => {
                    self.unwritten.rolled.insert(record.document.clone());
                    Vec::new()
                }
            };
            for (key, entry) in entries {
                if let Some(idempotency) = &entry.idempotency {
                    self.unwritten.idempotency.insert(idempotency.key, dot);
                }
                let name = rows::row_key(&record.document, &key);
                tail.entry(name).or_default().push(entry);
                keys.insert(key);
            }
            self.unwritten.changes.entry(record.document).or_default().push(dot);
            Ok(())
        })?;
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Entries::new(tail);
        Ok(touched)
    }
}
