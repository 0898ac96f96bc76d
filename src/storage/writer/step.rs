//! A step of writing behind, beside the writer: it takes along what it writes, so that groups go on
//! meanwhile in the journal and in memory, and the writer takes note of it afterwards. One is under way at
//! a time, and nothing else that writes to the tables but what comes from the journal, or finds no room there.
//!
//! Until a step is noted, what it writes may be in the tables or not: whoever reads both finds out from
//! the very transaction that it reads. A step that fails has the store read anew, from what is on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use imbl::OrdMap;
use redb::{ReadTransaction, ReadableDatabase as _};

use super::checkpoint::{Derived, is_base_due};
use super::{UNWRITTEN_BYTES_MAX, Unwritten, Writer, io_error};
use crate::config::DocumentView;
use crate::config::document::Document;
use crate::env::Disk;
use crate::model::{DocumentId, Dot, Folds, Told, cbor};
use crate::storage::database::{self, Database};
use crate::storage::error::StoreError;
use crate::storage::history::ByRow;
use crate::storage::{documents, epochs, idempotency, log, meta};

/// Most bytes of documents' bases that a step takes along, and one more document. What is left is as due
/// with the next change of its document.
const BASES_BYTES_MAX: usize = 4 << 20;
/// Most bytes of bases of documents that began an epoch: these cannot wait, and where there are more the
/// writer writes one after the other itself.
const EPOCH_BASES_BYTES_MAX: usize = 16 << 20;

/// What the writer knows of a step that is under way.
pub(super) struct Stepping {
    number: u64,
    unwritten: Arc<Unwritten>,
    /// Documents as their epochs began, which they hold until the tables do.
    epoch_bases: EpochBases,
}

/// Documents as their epochs began, encoded.
type EpochBases = BTreeMap<DocumentId, Arc<[u8]>>;

/// What a step writes of documents' bases.
#[derive(Default)]
struct Bases {
    /// Documents as they are to be loaded from now on.
    documents: BTreeMap<DocumentId, Vec<u8>>,
    epochs: EpochBases,
    /// What all of them come to.
    bytes: usize,
}

impl Bases {
    fn add(&mut self, id: &DocumentId, document: &Document) {
        let base = cbor::encode(&document.save());
        self.bytes += base.len();
        self.documents.insert(id.clone(), base);
        if let Some(begun) = document.epoch_base() {
            self.bytes += begun.len();
            self.epochs.insert(id.clone(), begun.clone());
        }
    }
}

/// Something to be written behind, to be done beside the writer; [`Writer::stepped`] is to be told what
/// came of it.
pub struct Step {
    number: u64,
    database: Arc<Database>,
    /// The one that is open: while this is here it is not opened again.
    open: Arc<redb::Database>,
    disk: Arc<dyn Disk>,
    is_large: bool,
    unwritten: Arc<Unwritten>,
    tail: Arc<ByRow>,
    documents: OrdMap<DocumentId, Arc<DocumentView>>,
    vector: Told,
    bases: Bases,
    format: u32,
}

/// What came of a step.
#[derive(Debug)]
pub struct Stepped {
    number: u64,
    database_bytes: u64,
    log_records: u64,
}

impl Step {
    /// Writes it, on disk with the next [`Writer::sync`].
    pub fn write(self) -> Result<Stepped, StoreError> {
        // Everything up to its vector comes into the log first.
        self.database.get()?;
        let mut tx = self.open.begin_write()?;
        tx.set_quick_repair(self.is_large);
        database::unsynced(&mut tx)?;
        // Where the store was closed meanwhile, the log may not have all of that.
        if !Arc::ptr_eq(&self.database.tables()?, &self.open) {
            return Err(StoreError::Failed("the store was closed meanwhile".into()));
        }
        let derived = Derived {
            unwritten: &self.unwritten,
            documents: &self.documents,
            vector: &self.vector,
            format: self.format,
        };
        let mut past = derived.put_rows(&tx)?;
        past.extend(derived.unshown(&self.tail));
        derived.put(&tx, &past, |id| {
            if let Some(base) = self.bases.epochs.get(id) {
                epochs::put_base(&tx, id, base)?;
            }
            match self.bases.documents.get(id) {
                Some(base) => documents::replace(&tx, id, base),
                None => Ok(()),
            }
        })?;
        tx.commit()?;
        let database_bytes = self.disk.len(database::FILE).map_err(io_error)?.unwrap_or(0);
        let log_records = log::count(&self.open.begin_read()?)?;
        Ok(Stepped { number: self.number, database_bytes, log_records })
    }
}

impl Writer {
    /// Begins a step that writes behind what is committed until now. None where one is under way, nothing
    /// is there to be written, or it takes more than a step can: [`Writer::write_behind`] does that.
    pub fn begin_step(&mut self) -> Option<Step> {
        if !self.can_step() || self.unwritten.changes.is_empty() {
            return None;
        }
        let open = self.database.tables().ok()?;
        let bases = self.take_bases()?;
        let number = self.steps + 1;
        let unwritten = Arc::new(std::mem::take(&mut self.unwritten));
        self.steps = number;
        let epoch_bases = bases.epochs.clone();
        self.stepping = Some(Stepping { number, unwritten: unwritten.clone(), epoch_bases });
        Some(Step {
            number,
            database: self.database.clone(),
            open,
            disk: self.disk.clone(),
            is_large: self.is_large(),
            unwritten,
            tail: self.tail.lock().unwrap_or_else(PoisonError::into_inner).send(),
            documents: self.state.documents.clone(),
            vector: self.state.vector.told(),
            bases,
            format: self.format,
        })
    }

    /// Whether what is committed can be written behind beside the writer now.
    pub fn can_step(&self) -> bool {
        self.stepping.is_none()
            // What is done to a file that is being made is done in the order in which it is done here.
            && self.rebuild.is_none()
            && !self.pruner.has_due()
            && self.format >= meta::FORMAT_WITHOUT_FOLDS
            // Without a journal the log itself is in the file alone.
            && self.database.reached().is_some()
    }

    /// The bases of documents that are due for one; none where more began an epoch than a step takes along.
    /// From then on their changes count anew: where the step fails, no document stays in memory.
    fn take_bases(&mut self) -> Option<Bases> {
        let mut bases = Bases::default();
        // A document's own base is about as long as its epoch's.
        let begun =
            self.unwritten.rolled.iter().filter_map(|id| self.documents.peek(id)?.epoch_base());
        if begun.map(|base| 2 * base.len()).sum::<usize>() > EPOCH_BASES_BYTES_MAX {
            return None;
        }
        // All that began an epoch get one, whatever became of them in memory.
        for id in self.unwritten.rolled.clone() {
            bases.add(&id, self.document(&id).ok()?);
            if bases.bytes > EPOCH_BASES_BYTES_MAX {
                self.documents.settle();
                return None;
            }
        }
        let bytes_max = bases.bytes + BASES_BYTES_MAX;
        for id in self.unwritten.changes.keys() {
            if bases.bytes >= bytes_max {
                break;
            }
            let document = self.documents.peek(id).filter(|document| is_base_due(document));
            if let Some(document) = document.filter(|_| !bases.documents.contains_key(id)) {
                bases.add(id, document);
            }
        }
        for id in bases.documents.keys() {
            if let Some(document) = self.documents.peek_mut(id) {
                document.set_base();
            }
        }
        self.documents.settle();
        Some(bases)
    }

    /// Takes note of what came of a step. One that the store was opened anew since is nothing to it.
    pub fn stepped(&mut self, stepped: Result<Stepped, StoreError>) {
        let Some(stepping) = &self.stepping else { return };
        match stepped {
            Ok(stepped) if stepped.number == stepping.number => {
                let kept = self.stepping.take().map(|it| it.epoch_bases).unwrap_or_default();
                for (id, base) in kept {
                    if let Some(document) = self.documents.peek_mut(&id) {
                        document.keep_epoch_base(&base);
                    }
                }
                self.documents.settle();
                self.written_behind += 1;
                self.database_bytes = stepped.database_bytes;
                self.log_records = stepped.log_records;
                self.tail.lock().unwrap_or_else(PoisonError::into_inner).arrived();
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "what is committed could not be written behind");
                let state = self.state.clone();
                // It may be in the tables or not: everything is read anew before anything is done.
                self.settle(&state, &error);
            }
        }
    }

    /// Whether a step is under way.
    pub fn is_stepping(&self) -> bool {
        self.stepping.is_some()
    }

    /// Whether so much is committed and not in the derived tables that no more is taken before some is.
    pub fn has_much_unwritten(&self) -> bool {
        let on_its_way = self.stepping.as_ref().map_or(0, |it| it.unwritten.bytes);
        self.unwritten.bytes + on_its_way >= UNWRITTEN_BYTES_MAX
    }

    /// A document's changes that are on their way into the derived tables, and not there as `tx` shows
    /// them.
    pub(super) fn on_their_way(
        &self,
        tx: &ReadTransaction,
        id: &DocumentId,
        folds: &Folds,
    ) -> Result<Vec<Dot>, StoreError> {
        let dots = self.stepping.as_ref().and_then(|it| it.unwritten.changes.get(id));
        let Some(dots) = dots else { return Ok(Vec::new()) };
        let checkpoint = meta::KEY_CHECKPOINT.get(tx)?.unwrap_or_default();
        Ok(dots.iter().copied().filter(|dot| !checkpoint.includes(*dot, folds)).collect())
    }

    /// The change that carried out the request with this idempotency key, where one did.
    pub(super) fn carried_out(&self, key: &[u8; 16]) -> Result<Option<Dot>, StoreError> {
        let on_its_way = self.stepping.as_ref().and_then(|it| it.unwritten.idempotency.get(key));
        match self.unwritten.idempotency.get(key).or(on_its_way) {
            Some(dot) => Ok(Some(*dot)),
            // No group puts any there: what is in the journal alone is no matter.
            None => idempotency::get(&self.database.tables()?.begin_read()?, key),
        }
    }
}
