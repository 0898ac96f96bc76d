//! Opening: the derived tables as of the last checkpoint, and on top of them what the log has
//! since. Then whose changes it makes from now on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use redb::{ReadTransaction, ReadableDatabase as _};

use super::audited::Chain;
use super::{State, Unwritten, Writer};
use crate::config::document::CheckedChange;
use crate::config::{Entry, Row, Snapshot};
use crate::model::{DocumentId, Dot, Key, Vector};
use crate::storage::error::StoreError;
use crate::storage::{log, meta, origins, rows};

impl Writer {
    /// Reads the store from the start, and publishes what it holds.
    pub(super) fn recover(&mut self) -> Result<(), StoreError> {
        let database = self.database.get()?;
        self.identify(&database)?;
        let tx = database.begin_read()?;
        self.documents.clear();
        self.waiting.clear();
        self.unwritten = Unwritten::default();
        self.trimmer.restart();
        let (vector, hashes) = origins::read(&tx)?;
        let head = meta::KEY_AUDIT.get(&tx)?.unwrap_or_default();
        let spans = Arc::new(meta::KEY_AUDIT_SPANS.get(&tx)?.unwrap_or_default());
        self.stored_spans = spans.len();
        self.state = State { vector, hashes, chain: Chain { head, spans }, ..State::default() };
        for (id, view) in rows::read(&tx)? {
            for (key, row) in &view.rows {
                self.state.set_row(&id, key, row.clone());
            }
        }
        let checkpoint = meta::KEY_CHECKPOINT.get(&tx)?.unwrap_or_default();
        let touched = self.read_log_since(&tx, &checkpoint)?;
        for (id, keys) in touched {
            for key in keys {
                if let Some(row) = Row::new(self.document(&id)?.siblings(&key)) {
                    self.state.set_row(&id, &key, Arc::new(row));
                }
                self.unwritten.rows.insert((id.clone(), key));
            }
        }
        self.choose_origin(&tx)?;
        self.note_size()?;
        self.published.store(Arc::new(Snapshot::new(
            Arc::new(self.state.vector.clone()),
            self.state.documents.clone(),
        )));
        Ok(())
    }

    /// Refuses a store of another format, cluster or node; says in a new one whose it is.
    fn identify(&self, database: &redb::Database) -> Result<(), StoreError> {
        let tx = database.begin_read()?;
        let node = self.settings.node.to_string();
        let Some(format) = meta::KEY_FORMAT.get(&tx)? else {
            let tx = database.begin_write()?;
            meta::KEY_FORMAT.put(&tx, &meta::FORMAT)?;
            meta::KEY_CLUSTER.put(&tx, &self.settings.cluster)?;
            meta::KEY_NODE.put(&tx, &node)?;
            tx.commit()?;
            return Ok(());
        };
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
    fn read_log_since(
        &mut self,
        tx: &ReadTransaction,
        checkpoint: &Vector,
    ) -> Result<BTreeMap<DocumentId, BTreeSet<Key>>, StoreError> {
        let mut touched: BTreeMap<DocumentId, BTreeSet<Key>> = BTreeMap::new();
        // Put in place as a whole: a reader finds the old one or this one.
        let mut tail: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for last in self.state.vector.iter() {
            for n in checkpoint.get(last.origin) + 1..=last.n {
                let dot = Dot { origin: last.origin, n };
                let record = log::require(tx, dot)?;
                let change = CheckedChange::decode(&record.change, dot)
                    .map_err(|e| StoreError::damaged(format!("log {dot}: {e}")))?;
                for (key, entry) in change.entries {
                    if let Some(idempotency) = entry.idempotency {
                        self.unwritten.idempotency.insert(idempotency.key, dot);
                    }
                    let name = rows::row_key(&record.document, &key);
                    tail.entry(name).or_default().push(entry);
                    touched.entry(record.document.clone()).or_default().insert(key);
                }
                self.unwritten.changes.entry(record.document).or_default().push(dot);
            }
        }
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = tail;
        Ok(touched)
    }
}
