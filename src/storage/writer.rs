//! The one writer of a store. It takes commands in groups, decides and applies all of a group on
//! working copies, commits the group in one transaction, and only then shows it to anyone. A group
//! that fails leaves no trace: the working copies go, and documents are loaded again.
//!
//! Synchronous on purpose: whoever drives it chooses the thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rand::Rng as _;
use redb::ReadableDatabase as _;
use tokio::time::Instant;

use super::audit::ConfigChain;
use super::database::{self, Database};
use super::epochs::{EpochReader, RollError};
use super::error::StoreError;
use super::history::{HistoryReader, Tail};
use super::journal::{self, Reached};
use super::prune::{Pruned, Pruner};
use super::rebuild::Rebuild;
use super::trim::Trimmer;
use super::whole::CutReader;
use super::{log, meta, past};
use crate::audit::Event;
use crate::config::decide::Limits;
use crate::config::document::{Actor, Document};
use crate::config::record::{Record, RecordHash};
use crate::config::roll::Roll;
use crate::config::texts::Texts;
use crate::config::waiting::Waiting;
use crate::config::{Snapshot, WriteError, WriteRequest, Written};
use crate::env::{Disk, Stream};
use crate::model::{DocumentId, Dot, Key, NodeName, Origin, Stamp, Text};
use crate::planted::{Bug, is_planted};

mod audited;
mod cache;
mod checkpoint;
mod folding;
mod group;
mod origin;
mod pruning;
mod rebuilding;
mod recovery;
mod rolling;
mod settling;
mod state;
mod take;
mod trim;

use group::{Abort, Group};
use settling::Settled;
use state::{State, Unwritten};
pub use take::{TakeError, Taken};

/// Most records of peers that are remembered as refused.
const REFUSED_MAX: usize = 4_096;

/// How often a group is tried again, each time without one more record that was found bad.
const ATTEMPTS_MAX: usize = 64;

/// From which size of the file on commits also keep what makes repairing it quick, in bytes. That
/// makes each of them dearer; without it a start after a crash walks the file, which took some 0.2 s
/// for 320 MB.
const QUICK_REPAIR_BYTES: u64 = 4 << 30;

/// Most bytes of records that are committed and not in the derived tables: past it a group has a
/// checkpoint before it, and where that fails the group does. A checkpoint that keeps failing while
/// commits go well would otherwise have memory, and the next opening, grow with every write.
const UNWRITTEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// From how many bytes on, in memory, what is in the journal alone is put into the tables between two
/// groups: some milliseconds' work.
const PENDING_BYTES_MAX: usize = 1024 * 1024;

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

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    /// A write of this node.
    Write(WriteRequest),
    /// Records that a peer sent.
    Apply(Vec<Bytes>),
    /// A peer has seen an origin up to this change, and no further.
    Witnessed {
        /// Who says so.
        by: NodeName,
        /// The change.
        dot: Dot,
    },
    /// Puts events on the audit chain.
    Record(Vec<Event>),
    /// Takes a document to its next epoch, as was agreed: writes the record that tells everyone.
    Roll {
        /// Which document.
        document: DocumentId,
        /// What was agreed.
        roll: Roll,
    },
}

/// What came of it, in the order of the commands.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Command::Write`].
    Written(Result<Written, WriteError>),
    /// Of [`Command::Apply`].
    Applied(Result<Applied, StoreError>),
    /// Of [`Command::Witnessed`].
    Witnessed,
    /// Of [`Command::Record`].
    Recorded(Result<(), StoreError>),
    /// Of [`Command::Roll`]: the record that began the epoch. It is another node's, and nothing was
    /// written, where the document was there already by the same agreement.
    Rolled(Result<Dot, RollError>),
}

/// What became of a peer's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Applied, those that had been waiting among them.
    pub new: usize,
    /// Known already.
    pub duplicate: usize,
    /// Waiting for what they build on.
    pub waiting: usize,
    /// Let go, because the window is full; to be asked for again.
    pub dropped: usize,
    /// Refused for good.
    pub quarantined: usize,
}

/// What a group did.
#[derive(Debug, Default)]
pub struct Committed {
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// Which rows changed; the published snapshot holds them.
    pub touched: BTreeMap<DocumentId, BTreeSet<Key>>,
    /// This node's own new records, to be pushed.
    pub own: Vec<Bytes>,
    /// How many records were committed.
    pub records: usize,
    /// When other nodes' changes among them were written.
    pub remote: Vec<Stamp>,
    /// Whether the store was opened anew before: then any row may have changed.
    pub reopened: bool,
}

/// How the store stands, for metrics and `GET /cluster`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Keys that have a row, removed ones among them.
    pub rows: usize,
    /// Rows that show conflicts.
    pub conflicts: usize,
    /// Records that wait for others.
    pub waiting: usize,
    /// Records refused since the start.
    pub quarantined: u64,
    /// Records refused since the start because their origin has two changes under one number.
    pub forks: u64,
    /// Whether the store is closed after a failure.
    pub is_closed: bool,
    /// The database file's size, in bytes, as of the last checkpoint.
    pub database_bytes: u64,
    /// How often a document was needed, and how often it had to be loaded.
    pub documents_needed: u64,
    /// See [`Counts::documents_needed`].
    pub documents_loaded: u64,
    /// Records in the log, as of the last checkpoint.
    pub log_records: u64,
    /// Records that were trimmed from it since the start.
    pub log_trimmed: u64,
    /// How many documents went from memory since the start, to make room for others.
    pub documents_evicted: u64,
    /// What the documents in memory come to, in bytes.
    pub documents_bytes: usize,
    /// How many rolls since the start were not taken, because what is here does not come to the
    /// base that was agreed.
    pub epoch_mismatches: u64,
    /// Documents that wait for such a roll, and with it all that its origin wrote after it: they
    /// have to be fetched whole.
    pub documents_mismatched: usize,
    /// What passes over the histories have come to.
    pub pruned: Pruned,
    /// How often the file was rebuilt since the store was opened.
    pub rebuilt: u64,
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
    /// How often something was written behind, and up to which time that is on disk.
    written_behind: u64,
    synced: u64,
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
            written_behind: 0,
            synced: 0,
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

    /// How the store stands.
    pub fn counts(&self) -> Counts {
        Counts {
            rows: self.state.rows,
            conflicts: self.state.conflicts,
            waiting: self.waiting.len(),
            quarantined: self.quarantined,
            forks: self.forks,
            is_closed: !self.database.is_open(),
            database_bytes: self.database_bytes,
            documents_needed: self.documents_needed,
            documents_loaded: self.documents_loaded,
            log_records: self.log_records,
            log_trimmed: self.log_trimmed,
            documents_evicted: self.documents.evicted(),
            documents_bytes: self.documents.bytes(),
            epoch_mismatches: self.epoch_mismatches,
            documents_mismatched: self.mismatched.values().collect::<BTreeSet<_>>().len(),
            pruned: self.pruned(),
            rebuilt: self.rebuilt,
        }
    }

    /// Carries out a group of commands at `now`. When it returns, all that succeeded is on disk
    /// and published.
    pub fn commit(&mut self, now: Stamp, commands: &[Command]) -> Committed {
        let reopened = match self.ensure_open() {
            Ok(reopened) => reopened,
            Err(error) => return failed(commands, &error, false),
        };
        if self.unwritten.bytes >= UNWRITTEN_BYTES_MAX
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

    fn persist(&mut self, group: &Group) -> Result<(), StoreError> {
        let own = self.actor.origin;
        let is_new = self.stored_origin.is_some_and(|stored| stored != own);
        if group.records.is_empty() && !is_new && !group.audited.has_rows() {
            return Ok(());
        }
        let is_own = is_new || group.records.iter().any(|record| record.dot.origin == own);
        let has_epochs = group.records.iter().any(|record| record.epoch > 0);
        // From then on a program that knows no epochs, or no folds, would misread it.
        let format = match () {
            () if !self.state.unstored.is_empty() => meta::FORMAT,
            () if has_epochs => meta::FORMAT_WITH_EPOCHS,
            () => self.format,
        };
        let is_named = |origin: &Origin| self.state.hashes.contains_key(origin);
        let folded = self.state.unstored.iter().flat_map(|fold| fold.rows());
        let mut put = journal::Group {
            origin: is_own.then_some(own),
            format: (format > self.format).then_some(format),
            folds: self.state.unstored.iter().map(|fold| (**fold).clone()).collect(),
            unnamed: folded.map(|row| row.dot.origin).filter(|it| !is_named(it)).collect(),
            ..journal::Group::default()
        };
        for record in &group.records {
            let audit = group.audited.sealed().get(&record.dot).map(Vec::as_slice);
            put.push(record, audit);
        }
        group.audited.put(&mut put, &self.state.chain, self.stored_spans);
        self.put_on_disk(&put)?;
        self.format = self.format.max(format);
        if is_own {
            self.stored_origin = Some(own);
            if let Err(error) = self.write_mark(false) {
                // The commit stands. The next start may take a store for rolled back that is not.
                tracing::error!(%error, "the high-water mark could not be written");
            }
        }
        Ok(())
    }

    /// Into the journal, from where it comes into the tables; where there is no room, straight there.
    fn put_on_disk(&mut self, group: &journal::Group) -> Result<(), StoreError> {
        let is_synced = !is_planted(Bug::AcknowledgeBeforeSync);
        let mut reached = None;
        if !self.database.journal(group, is_synced)? {
            let database = self.database.get()?;
            let mut tx = self.begin(&database)?;
            if !is_synced {
                database::unsynced(&mut tx)?;
            }
            let known = self.database.reached();
            let begun = || Reached { id: self.entropy.random(), seq: 0 };
            reached = known.is_none().then(begun);
            if let Some(reached) = &reached {
                meta::KEY_JOURNAL.put(&tx, reached)?;
            }
            group.put(&tx)?;
            tx.commit()?;
            if is_synced {
                self.database.synced();
            }
        }
        if self.rebuild.is_some() {
            // So that whoever reads the one finds what is in the other.
            self.database.get()?;
            let reached = reached.or_else(|| self.database.reached());
            Self::mirror(&mut self.rebuild, |tx| {
                if let Some(reached) = &reached {
                    meta::KEY_JOURNAL.put(tx, reached)?;
                }
                group.put(tx)
            });
        }
        if let Some(Reached { id, .. }) = reached
            && let Err(error) = self.database.begin_journal(id)
        {
            tracing::warn!(%error, "the store goes on without a journal for now");
        }
        Ok(())
    }

    /// Whether much is in the journal alone: see [`Writer::catch_up`].
    pub fn is_behind(&self) -> bool {
        self.database.pending_bytes() >= PENDING_BYTES_MAX
    }

    /// Puts what is in the journal alone into the tables, so that whoever needs them finds little to do.
    pub fn catch_up(&mut self) {
        if let Err(error) = self.database.get() {
            tracing::error!(%error, "what is in the journal cannot be put into the store");
        }
    }

    /// A transaction that is on disk when it commits.
    fn begin(&self, database: &redb::Database) -> Result<redb::WriteTransaction, StoreError> {
        let mut tx = database.begin_write()?;
        // Repairing walks the whole file; past some size a dearer commit is the better deal.
        tx.set_quick_repair(self.is_large());
        Ok(tx)
    }

    fn is_large(&self) -> bool {
        self.database_bytes >= QUICK_REPAIR_BYTES
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
                tail.entry(name).or_default().push(entry.clone());
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
        let unwritten = self.unwritten.changes.get(id).into_iter().flatten();
        past::load(&tx, id, unwritten.copied(), &self.state.vector.folds())
    }
}

fn io_error(error: std::io::Error) -> StoreError {
    StoreError::from(redb::Error::Io(error))
}

/// The outcomes of a group of which nothing was carried out.
fn failed(commands: &[Command], error: &StoreError, is_unknown: bool) -> Committed {
    let outcome = |command: &Command| match command {
        Command::Write(_) => Outcome::Written(Err(match error {
            _ if is_unknown => WriteError::Unknown,
            StoreError::Full => WriteError::StorageFull,
            StoreError::Damaged(_) | StoreError::Failed(_) => {
                WriteError::StorageFailed(error.to_string())
            }
        })),
        Command::Apply(_) => Outcome::Applied(Err(error.clone())),
        Command::Witnessed { .. } => Outcome::Witnessed,
        Command::Record(_) => Outcome::Recorded(Err(error.clone())),
        Command::Roll { .. } => Outcome::Rolled(Err(error.clone().into())),
    };
    Committed { outcomes: commands.iter().map(outcome).collect(), ..Committed::default() }
}

#[cfg(test)]
mod tests;
