//! What a writer knows of its store: what is committed and shown, and what of it is in the log alone.
//! Nothing is read or written here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use super::audited::Chain;
use crate::config::record::RecordHash;
use crate::config::{DocumentView, Rolled, Row};
use crate::model::vector::Fold;
use crate::model::{DocumentId, Dot, Key, Origin, Vector};

/// What a group works on, and what it leaves untouched when it fails.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) vector: Vector,
    /// Of origins that are not folded; and of those that are, where the fold has another one.
    pub(super) hashes: BTreeMap<Origin, RecordHash>,
    /// Folds that are not on disk.
    pub(super) unstored: Vec<Arc<Fold>>,
    pub(super) documents: OrdMap<DocumentId, Arc<DocumentView>>,
    pub(super) rows: usize,
    pub(super) conflicts: usize,
    pub(super) chain: Chain,
}

impl State {
    /// The hash of an origin's last record, where it has any.
    pub(super) fn hash_of(&self, origin: Origin) -> Option<RecordHash> {
        let folded = || {
            let folds = self.vector.folds();
            folds.last(origin, self.vector.generation()).map(|row| row.hash)
        };
        self.hashes.get(&origin).copied().or_else(folded)
    }

    pub(super) fn view(&self, id: &DocumentId) -> Option<&DocumentView> {
        self.documents.get(id).map(|view| &**view)
    }

    /// Takes over all documents as they were read.
    pub(super) fn set_documents(&mut self, documents: OrdMap<DocumentId, Arc<DocumentView>>) {
        let rows = || documents.values().flat_map(|view| view.rows.values());
        self.rows = documents.values().map(|view| view.rows.len()).sum();
        self.conflicts = rows().filter(|row| !row.conflicts().is_empty()).count();
        self.documents = documents;
    }

    pub(super) fn set_row(&mut self, id: &DocumentId, key: &Key, row: Arc<Row>) {
        let is_conflict = |row: &Row| usize::from(!row.conflicts().is_empty());
        self.conflicts += is_conflict(&row);
        let view = self.documents.entry(id.clone()).or_default();
        match Arc::make_mut(view).rows.insert(key.clone(), row) {
            Some(old) => self.conflicts -= is_conflict(&old),
            None => self.rows += 1,
        }
    }

    pub(super) fn remove_row(&mut self, id: &DocumentId, key: &Key) {
        let Some(view) = self.documents.get_mut(id) else { return };
        if let Some(old) = Arc::make_mut(view).rows.remove(key) {
            self.conflicts -= usize::from(!old.conflicts().is_empty());
            self.rows -= 1;
        }
    }

    pub(super) fn set_epoch(&mut self, id: &DocumentId, changes: u64, rolled: Option<Arc<Rolled>>) {
        let view = Arc::make_mut(self.documents.entry(id.clone()).or_default());
        view.changes = changes;
        view.rolled = rolled;
    }
}

/// What is committed and not yet in the derived tables.
#[derive(Default)]
pub(super) struct Unwritten {
    pub(super) rows: BTreeSet<(DocumentId, Key)>,
    pub(super) changes: BTreeMap<DocumentId, Vec<Dot>>,
    pub(super) idempotency: BTreeMap<[u8; 16], Dot>,
    /// Documents of which the table of epochs does not say what there is.
    pub(super) epochs: BTreeSet<DocumentId>,
    /// Documents that began an epoch.
    pub(super) rolled: BTreeSet<DocumentId>,
    /// What the records come to that all of this is of.
    pub(super) bytes: usize,
}
