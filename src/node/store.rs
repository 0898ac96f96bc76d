//! A handle on the store: what it is asked, in queues that are bounded in commands and in bytes; `driver`
//! carries it out and tells everyone what was committed. What does not fit is refused at once, never queued
//! without limit.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::audit::{Archived, Event};
use crate::config::roll::Roll;
use crate::config::{Action, Policies, Snapshot, WriteError, WriteRequest, Written};
use crate::env::Blocking;
use crate::model::vector::FoldRow;
use crate::model::{DocumentId, Dot, Key, NodeName, Origin, Stamp, Told, Vector};
use crate::storage::history::Position;
use crate::storage::rebuild::Measure;
use crate::storage::trim::{TrimBounds, Trimmed};
use crate::storage::whole::{Complete, CutReader};
use crate::storage::writer::{Counts, TakeError, Taken};
use crate::storage::{
    Applied, Command, Committed, EpochReader, HistoryPage, HistoryReader, LogReader, Missing,
    Outcome, Plan, RollError, StoreError, Writer,
};

mod driver;
mod upkeep;

use driver::Driver;

/// Most commands that wait.
const QUEUE_MAX: usize = 4_096;
/// Most bytes of values that wait, in KiB.
const QUEUE_KIB_MAX: u32 = 64 * 1024;
/// Most tasks that wait: who gives one waits for it.
const TASKS_MAX: usize = 4;

/// What is told of each group, after it is on disk and published and before anyone is answered.
pub(crate) trait Observer: Send + Sync + 'static {
    /// A group was committed; it took `took` from first command to disk.
    fn committed(&self, committed: &Committed, counts: Counts, origin: Origin, took: Duration);

    /// The store was looked after, behind the writes.
    fn tended(&self, counts: Counts);
}

/// What the driver asks for, again and again.
pub(crate) struct Sources {
    /// The time to stamp with.
    pub(crate) now: Arc<dyn Fn() -> Stamp + Send + Sync>,
    /// How much of histories is kept; nothing where that is not known well enough to remove any.
    pub(crate) policies: Arc<dyn Fn() -> Option<Policies> + Send + Sync>,
    /// How long histories rest between two passes over them.
    pub(crate) prune_every: Duration,
}

struct Job {
    command: Command,
    reply: oneshot::Sender<Outcome>,
    /// Given back when the command is done.
    _room: Option<OwnedSemaphorePermit>,
}

/// What the writer does between two groups.
enum Task {
    /// Takes whole documents over.
    Take(Complete, oneshot::Sender<Result<Taken, TakeError>>),
    /// Takes a step of trimming the log.
    Trim(TrimBounds, oneshot::Sender<Result<Trimmed, StoreError>>),
    /// Says how far the audit chain is archived.
    Archive(Archived, oneshot::Sender<Result<(), StoreError>>),
}

/// The handle to a running store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    tasks: mpsc::Sender<Task>,
    room: Arc<Semaphore>,
    published: Arc<ArcSwap<Snapshot>>,
    advanced: watch::Receiver<()>,
    history: HistoryReader,
    log: LogReader,
    cuts: CutReader,
    epochs: EpochReader,
    measure: Measure,
    rebuilds: mpsc::Sender<u64>,
    blocking: Blocking,
}

impl Store {
    /// Starts driving `writer`, with what `sources` say; the task ends, with the store closed in
    /// order, after `stop` says so or every handle is gone.
    pub(crate) fn start(
        writer: Writer,
        blocking: Blocking,
        sources: Sources,
        observer: Arc<dyn Observer>,
        stop: watch::Receiver<bool>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (jobs, receiver) = mpsc::channel(QUEUE_MAX);
        let (tasks, task_receiver) = mpsc::channel(TASKS_MAX);
        let (tick, advanced) = watch::channel(());
        let (rebuilds, rebuilds_asked) = mpsc::channel(1);
        let store = Self {
            jobs,
            tasks,
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)),
            published: writer.published(),
            advanced,
            history: writer.history(),
            log: writer.log(),
            cuts: writer.cuts(),
            epochs: writer.epochs(),
            measure: writer.measure(),
            rebuilds,
            blocking,
        };
        let prune_at = Instant::now() + sources.prune_every;
        let driver = Driver {
            blocking,
            sources,
            observer,
            tick,
            jobs: receiver,
            tasks: task_receiver,
            dirty_since: None,
            syncing: None,
            stepping: None,
            synced_at: Instant::now(),
            prune_at,
            rebuilds: rebuilds_asked,
            step_at: None,
        };
        (store, tokio::spawn(driver.run(writer, stop)))
    }

    /// What waits, of what has a bound: commands, and bytes of values.
    pub(crate) fn taken(&self) -> [(&'static str, usize, usize); 2] {
        let jobs = self.jobs.max_capacity() - self.jobs.capacity();
        let kib = (QUEUE_KIB_MAX as usize).saturating_sub(self.room.available_permits());
        [
            ("store_commands", jobs, self.jobs.max_capacity()),
            ("store_bytes", kib * 1024, QUEUE_KIB_MAX as usize * 1024),
        ]
    }

    /// The state that is on disk and visible.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// Where states are published, for readers that look again and again.
    pub(crate) fn published(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.published
    }

    /// How much of the file is live, in bytes. Reads all of it, and blocks.
    pub(crate) fn live_bytes(&self) -> Result<u64, StoreError> {
        self.measure.live_bytes()
    }

    /// Asks for the file to be rebuilt, in which so much is live; says whether that was heard.
    pub(crate) fn rebuild(&self, live_bytes: u64) -> bool {
        self.rebuilds.try_send(live_bytes).is_ok()
    }

    /// A key's oldest write that is still there.
    pub(crate) async fn oldest(
        &self,
        document: DocumentId,
        key: Key,
    ) -> Result<Option<Position>, StoreError> {
        let history = self.history.clone();
        self.blocking.run(move || history.oldest(&document, &key)).await
    }

    /// See [`HistoryReader::let_go`].
    pub(crate) async fn let_go(
        &self,
        document: DocumentId,
        key: Key,
        version: u64,
        origin: Origin,
    ) -> Result<bool, StoreError> {
        let history = self.history.clone();
        self.blocking.run(move || history.let_go(&document, &key, version, origin)).await
    }

    /// A key's writes; see [`HistoryReader::read`].
    pub(crate) async fn history(
        &self,
        document: DocumentId,
        key: Key,
        before: Option<Position>,
        size: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError> {
        let history = self.history.clone();
        self.blocking.run(move || history.read(&document, &key, before, size, bytes_max)).await
    }

    /// Carries out a write. When it returns, the write is on disk and visible, or was refused.
    pub(crate) async fn write(&self, request: WriteRequest) -> Result<Written, WriteError> {
        let bytes: usize = request.operations.iter().map(|op| action_bytes(&op.action)).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kib);
        let room = room.map_err(|_| WriteError::Overloaded)?;
        let (reply, outcome) = oneshot::channel();
        let job = Job { command: Command::Write(request), reply, _room: Some(room) };
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => WriteError::Closed,
        })?;
        match outcome.await {
            Ok(Outcome::Written(written)) => written,
            _ => Err(WriteError::Closed),
        }
    }

    /// How full the queue is, in percent of what it takes, in commands or in bytes.
    pub(crate) fn queued_percent(&self) -> usize {
        let commands = (QUEUE_MAX - self.jobs.capacity()) * 100 / QUEUE_MAX;
        let kib_max = QUEUE_KIB_MAX as usize;
        let kib = kib_max.saturating_sub(self.room.available_permits()) * 100 / kib_max;
        commands.max(kib)
    }

    /// Applies a peer's records; waits for its turn.
    pub(crate) async fn apply(&self, records: Vec<Bytes>) -> Result<Applied, StoreError> {
        match self.command(Command::Apply(records)).await {
            Some(Outcome::Applied(applied)) => applied,
            _ => Err(StoreError::Failed("the node is shutting down".into())),
        }
    }

    /// Takes note that a peer has seen this change.
    pub(crate) async fn witnessed(&self, by: NodeName, dot: Dot) {
        self.command(Command::Witnessed { by, dot }).await;
    }

    /// Puts events on the audit chain; they are on disk when it returns.
    pub(crate) async fn record(&self, events: Vec<Event>) -> Result<(), StoreError> {
        match self.command(Command::Record(events)).await {
            Some(Outcome::Recorded(recorded)) => recorded,
            _ => Err(StoreError::Failed("the node is shutting down".into())),
        }
    }

    /// What a document's next epoch would be; see [`EpochReader::plan_roll`].
    pub(crate) async fn plan_roll(
        &self,
        document: DocumentId,
        floor: Told,
        removals_before: Stamp,
    ) -> Result<Plan, RollError> {
        let epochs = self.epochs.clone();
        self.blocking.run(move || epochs.plan_roll(&document, &floor, removals_before)).await
    }

    /// The hashes of changes that are their origins' last ones; see [`EpochReader::fold_rows`].
    pub(crate) async fn fold_rows(&self, dots: Vec<Dot>) -> Result<Vec<FoldRow>, StoreError> {
        let epochs = self.epochs.clone();
        self.blocking.run(move || epochs.fold_rows(&dots)).await
    }

    /// Takes a document to its next epoch, as was agreed; gives the record that says so.
    pub(crate) async fn roll(&self, document: DocumentId, roll: Roll) -> Result<Dot, RollError> {
        match self.command(Command::Roll { document, roll }).await {
            Some(Outcome::Rolled(rolled)) => rolled,
            _ => Err(StoreError::Failed("the node is shutting down".into()).into()),
        }
    }

    /// Takes whole documents over that a peer sent; see [`Writer::take`].
    pub(crate) async fn take(&self, whole: Complete) -> Result<Taken, TakeError> {
        self.task(|reply| Task::Take(whole, reply)).await.unwrap_or_else(|| Err(closing().into()))
    }

    /// Says how far the audit chain is archived; see [`Writer::archive`].
    pub(crate) async fn archive(&self, archived: Archived) -> Result<(), StoreError> {
        self.task(|reply| Task::Archive(archived, reply)).await.unwrap_or_else(|| Err(closing()))
    }

    /// Takes a step of trimming the log; see [`Writer::trim`].
    pub(crate) async fn trim(&self, bounds: TrimBounds) -> Result<Trimmed, StoreError> {
        self.task(|reply| Task::Trim(bounds, reply)).await.unwrap_or_else(|| Err(closing()))
    }

    async fn task<T>(&self, task: impl FnOnce(oneshot::Sender<T>) -> Task) -> Option<T> {
        let (reply, outcome) = oneshot::channel();
        self.tasks.send(task(reply)).await.ok()?;
        outcome.await.ok()
    }

    /// Who reads whole documents.
    pub(crate) fn cuts(&self) -> &CutReader {
        &self.cuts
    }

    async fn command(&self, command: Command) -> Option<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.jobs.send(Job { command, reply, _room: None }).await.ok()?;
        outcome.await.ok()
    }

    /// Records that `vector` does not include; see [`LogReader::missing`].
    pub(crate) async fn missing(
        &self,
        vector: Vector,
        bytes_max: usize,
    ) -> Result<Missing, StoreError> {
        let (log, have) = (self.log.clone(), self.snapshot().vector.clone());
        self.blocking.run(move || log.missing(vector, &have, bytes_max)).await
    }

    /// All records that there are; reads the disk.
    pub(crate) fn records(&self) -> Result<Vec<Bytes>, StoreError> {
        let have = self.snapshot().vector.clone();
        Ok(self.log.missing(Vector::new(), &have, usize::MAX)?.records)
    }

    /// A state that includes `vector`, if one comes within `at_most`; else, as the error, the one
    /// that is there then.
    pub(crate) async fn wait_for(
        &self,
        vector: &Told,
        at_most: Duration,
    ) -> Result<Arc<Snapshot>, Arc<Snapshot>> {
        let mut advanced = self.advanced.clone();
        let deadline = Instant::now() + at_most;
        loop {
            advanced.mark_unchanged();
            let snapshot = self.snapshot();
            if snapshot.vector.covers_told(vector) {
                return Ok(snapshot);
            }
            match tokio::time::timeout_at(deadline, advanced.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(self.snapshot()),
            }
        }
    }
}

fn closing() -> StoreError {
    StoreError::Failed("the node is shutting down".into())
}

fn action_bytes(action: &Action) -> usize {
    match action {
        Action::Put(value) | Action::MergePatch(value) => value.as_str().len(),
        Action::Remove => 0,
    }
}
