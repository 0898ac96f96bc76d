//! The one writer of a store. It takes commands in groups, decides and applies all of a group on
//! working copies, commits the group in one transaction, and only then shows it to anyone. A group
//! that fails leaves no trace: the working copies go, and documents are loaded again.
//!
//! Synchronous on purpose: whoever drives it chooses the thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use redb::ReadableDatabase as _;
use tokio::time::Instant;

use super::audit::ConfigChain;
use super::database::{self, Database};
use super::epochs::EpochReader;
use super::error::StoreError;
use super::history::{HistoryReader, Tail};
use super::prune::Pruner;
use super::rebuild::Rebuild;
use super::trim::Trimmer;
use super::whole::CutReader;
use super::{log, meta, past};
use crate::config::Snapshot;
use crate::config::decide::Limits;
use crate::config::document::{Actor, Document};
use crate::config::record::{Record, RecordHash};
use crate::config::texts::Texts;
use crate::config::waiting::Waiting;
use crate::env::{Disk, Stream};
use crate::model::{DocumentId, NodeName, Origin, Stamp, Text};

mod audited;
mod cache;
mod checkpoint;
mod command;
mod counts;
mod folding;
mod group;
mod origin;
mod persist;
mod pruning;
mod rebuilding;
mod recovery;
mod rolling;
mod settling;
mod state;
mod step;
mod take;
mod trim;

use command::failed;
pub use command::{Applied, Command, Committed, Outcome};
pub use counts::Counts;
use group::{Abort, Group};
use settling::Settled;
use state::{State, Unwritten};
use step::Stepping;
pub use step::{Step, Stepped};
pub use take::{TakeError, Taken};

/// Most records of peers that are remembered as refused.
const REFUSED_MAX: usize = 4_096;

/// How often a group is tried again, each time without one more record that was found bad.
const ATTEMPTS_MAX: usize = 64;

/// Most bytes of records that are committed and not in the derived tables: past it a group has a
/// checkpoint before it, and where that fails the group does. A checkpoint that keeps failing while
/// commits go well would otherwise have memory, and the next opening, grow with every write.
const UNWRITTEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a writer has to know.
#[derive(Clone, Debug)]
pub struct WriterSettings {
    /// Which cluster the store belongs to.
    pub cluster: String,
    /// Which node the store belongs to.
    pub node: NodeName,
    /// What its entries say of where they were written.
    pub region: Text,
    /// Largest value, in bytes.
    pub value_bytes_max: usize,
    /// Most bytes of documents kept in memory for writes and merges, beside what a group needs.
    pub documents_bytes_max: usize,
    /// How much may wait for changes that have not come yet, in bytes.
    pub waiting_bytes_max: usize,
    /// How many other nodes there are. An origin that was used before is used again only after all
    /// of them have said that they know no more of it than the store has.
    pub peers: usize,
}

/// The store's writer.
pub struct Writer {
    settings: WriterSettings,
    limits: Limits,
    disk: Arc<dyn Disk>,
    database: Arc<Database>,
    entropy: Stream,
    actor: Actor,
    state: State,
    documents: cache::Documents,
    waiting: Waiting,
    texts: Texts,
    unwritten: Unwritten,
    /// What is on its way into the derived tables.
    stepping: Option<Stepping>,
    /// How often something was written behind, and up to which time that is on disk.
    written_behind: u64,
    synced: u64,
    /// How many steps were begun.
    steps: u64,
    tail: Tail,
    pruner: Pruner,
    rebuild: Option<Rebuild>,
    rebuilt: u64,
    trimmer: Trimmer,
    /// How many records are in the log, as of the last checkpoint, and were trimmed since the start.
    log_records: u64,
    log_trimmed: u64,
    published: Arc<ArcSwap<Snapshot>>,
    /// How many spans of the audit chain the store itself names.
    stored_spans: usize,
    /// The origin that the store itself names.
    stored_origin: Option<Origin>,
    /// What tells this store's file and this run of the machine from others.
    mark_of: (Vec<u8>, Vec<u8>),
    /// The last origin that this process drew, or that every peer has confirmed: nobody knows more
    /// of it.
    fresh: Option<Origin>,
    /// Which peers have said that they know no more of this node's origin than is here; until all
    /// have.
    confirmed_by: BTreeSet<NodeName>,
    /// Until when nothing is tried after a failure, and which one.
    resting: Option<(Instant, StoreError)>,
    /// The store's format.
    format: u32,
    /// Rolls whose base does not come to what was agreed, with their documents: not taken, and not
    /// refused for good.
    mismatched: BTreeMap<RecordHash, DocumentId>,
    epoch_mismatches: u64,
    /// Records that were refused, so that a group that is tried again refuses them at once.
    refused: BTreeSet<RecordHash>,
    /// Whether documents take one change at a time, to find out which of a batch is bad.
    one_by_one: bool,
    quarantined: u64,
    forks: u64,
    database_bytes: u64,
    documents_needed: u64,
    documents_loaded: u64,
}

impl Writer {
    /// Opens the store on `disk`, or makes it. A damaged one is set aside where there are peers to
    /// give back what it held; where there are none, it is an error.
    pub fn open(
        settings: WriterSettings,
        disk: Arc<dyn Disk>,
        entropy: Stream,
    ) -> Result<Self, StoreError> {
        let alone = settings.peers == 0;
        let database = match alone {
            true => Database::open_alone(disk.clone())
                .map_err(|error| database::without_peers(database::FILE, error))?,
            false => Database::open(disk.clone())?.0,
        };
        let mut writer = Self {
            limits: Limits { value_bytes_max: settings.value_bytes_max },
            waiting: Waiting::new(settings.waiting_bytes_max),
            documents: cache::Documents::new(settings.documents_bytes_max),
            settings,
            disk,
            database: Arc::new(database),
            entropy,
            actor: Actor { origin: Origin([0; 8]), incarnation: [0; 4] },
            state: State::default(),
            texts: Texts::default(),
            unwritten: Unwritten::default(),
            stepping: None,
            written_behind: 0,
            synced: 0,
            steps: 0,
            tail: Tail::default(),
            pruner: Pruner::default(),
            rebuild: None,
            rebuilt: 0,
            trimmer: Trimmer::default(),
            log_records: 0,
            log_trimmed: 0,
            published: Arc::default(),
            stored_spans: 0,
            stored_origin: None,
            fresh: None,
            confirmed_by: BTreeSet::new(),
            resting: None,
            mark_of: Default::default(),
            format: meta::FORMAT_WITHOUT_FOLDS,
            mismatched: BTreeMap::new(),
            epoch_mismatches: 0,
            refused: BTreeSet::new(),
            one_by_one: false,
            quarantined: 0,
            forks: 0,
            database_bytes: 0,
            documents_needed: 0,
            documents_loaded: 0,
        };
        match database::caught(|| writer.recover()) {
            Err(error) if alone => Err(database::without_peers(database::FILE, error))?,
            Err(error @ StoreError::Damaged(_)) => {
                writer.database.replace(&error)?;
                writer.recover()?;
            }
            recovered => recovered?,
        }
        Ok(writer)
    }

    /// Where each group's result is published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        self.published.clone()
    }

    /// A reader of histories.
    pub fn history(&self) -> HistoryReader {
        HistoryReader::new(self.database.clone(), self.tail.clone())
    }

    /// A reader of the log.
    pub fn log(&self) -> log::LogReader {
        log::LogReader::new(self.database.clone())
    }

    /// A reader of whole documents.
    pub fn cuts(&self) -> CutReader {
        CutReader::new(self.database.clone(), self.published.clone())
    }

    /// Who plans rolls.
    pub fn epochs(&self) -> EpochReader {
        EpochReader::new(self.database.clone())
    }

    /// A reader of the audit chain.
    pub fn chain(&self) -> ConfigChain {
        ConfigChain::new(self.database.clone())
    }

    /// Whose changes this store makes.
    pub fn origin(&self) -> Origin {
        self.actor.origin
    }

    /// Carries out a group of commands at `now`. When it returns, all that succeeded is on disk
    /// and published.
    pub fn commit(&mut self, now: Stamp, commands: &[Command]) -> Committed {
        let reopened = match self.ensure_open() {
            Ok(reopened) => reopened,
            Err(error) => return failed(commands, &error, false),
        };
        if self.has_much_unwritten()
            && let Err(error) = self.checkpoint()
        {
            tracing::error!(%error, "nothing is taken until a checkpoint succeeds");
            return failed(commands, &error, false);
        }
        self.hear_witnesses(commands);
        Committed { reopened, ..self.commit_open(now, commands) }
    }

    fn commit_open(&mut self, now: Stamp, commands: &[Command]) -> Committed {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.state.clone();
            let mut failure = None;
            match Group::stage(self, now, commands) {
                Ok(group) => match self.persist(&group) {
                    Ok(()) => return self.publish(group),
                    Err(error) => match self.settle(&before, &error) {
                        Settled::Committed => return self.publish(group),
                        Settled::NotCommitted => failure = Some((error, false)),
                        Settled::Unknown => failure = Some((error, true)),
                    },
                },
                Err(Abort::Failed(error)) => failure = Some((error, false)),
                Err(Abort::Refused { record, why }) => self.refuse(&record, &why),
                Err(Abort::HeldBack { record, is_mismatch }) => {
                    self.hold_back(&record, is_mismatch);
                }
                Err(Abort::OneByOne) => self.one_by_one = true,
                Err(Abort::Renewed) => {}
            }
            // Documents may hold what is now given up; they are loaded again when needed.
            self.state = before;
            self.documents.clear();
            self.waiting.clear();
            if let Some((error, is_unknown)) = failure {
                tracing::error!(%error, commands = commands.len(), "a group of writes failed");
                return failed(commands, &error, is_unknown);
            }
        }
        failed(commands, &StoreError::Failed("too many bad records in one group".into()), false)
    }

    fn publish(&mut self, group: Group) -> Committed {
        self.stored_spans = self.state.chain.spans.len();
        self.state.unstored.clear();
        self.one_by_one = false;
        if group.records.is_empty() {
            self.documents.settle();
            let snapshot = self.published.load_full();
            return group.into_committed(&snapshot, self.actor.origin);
        }
        for record in &group.records {
            let changes = self.unwritten.changes.entry(record.document.clone()).or_default();
            changes.push(record.dot);
            self.unwritten.bytes += record.bytes.len();
        }
        for (document, keys) in &group.touched {
            let rows = keys.iter().map(|key| (document.clone(), key.clone()));
            self.unwritten.rows.extend(rows);
        }
        self.unwritten.rows.extend(group.dropped.iter().cloned());
        self.unwritten.rolled.extend(group.rolled.iter().cloned());
        self.unwritten.idempotency.extend(&group.idempotency);
        {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            for (document, key, entry) in &group.entries {
                let name = super::rows::row_key(document, key);
                tail.push(name, entry.clone());
            }
        }
        let snapshot = Arc::new(Snapshot::new(
            Arc::new(self.state.vector.clone()),
            self.state.documents.clone(),
        ));
        self.published.store(snapshot.clone());
        self.documents.settle();
        group.into_committed(&snapshot, self.actor.origin)
    }

    fn refuse(&mut self, record: &Record, why: &str) {
        tracing::warn!(dot = %record.dot, document = %record.document, why, "a record is refused");
        self.quarantined += 1;
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(record.hash);
    }

    /// The document, for writing: from memory, or loaded from its base and the log.
    fn document(&mut self, id: &DocumentId) -> Result<&mut Document, StoreError> {
        self.documents_needed += 1;
        if !self.documents.contains(id) {
            self.documents_loaded += 1;
            let document = self.load(id)?;
            self.documents.put(id.clone(), document);
        }
        let document = self.documents.get_mut(id);
        document.ok_or_else(|| StoreError::Failed(format!("document {id} is not loaded")))
    }

    fn load(&self, id: &DocumentId) -> Result<Document, StoreError> {
        let database = self.database.get()?;
        let tx = database.begin_read()?;
        let folds = self.state.vector.folds();
        let mut unwritten = self.on_their_way(&tx, id, &folds)?;
        unwritten.extend(self.unwritten.changes.get(id).into_iter().flatten());
        past::load(&tx, id, unwritten, &folds)
    }
}

fn io_error(error: std::io::Error) -> StoreError {
    StoreError::from(redb::Error::Io(error))
}

#[cfg(test)]
mod tests;
