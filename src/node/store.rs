//! The store's driver: it gathers commands into groups, runs each through the writer off the
//! asynchronous threads, and tells everyone what was committed. Bounded in commands and in bytes;
//! what does not fit is refused at once, never queued without limit.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::audit::Event;
use crate::config::roll::Roll;
use crate::config::{Action, Snapshot, WriteError, WriteRequest, Written};
use crate::env::Blocking;
use crate::model::{DocumentId, Dot, Key, NodeName, Origin, Stamp, Vector};
use crate::storage::history::Position;
use crate::storage::writer::Counts;
use crate::storage::{
    Applied, Command, Committed, EpochReader, HistoryPage, HistoryReader, LogReader, Outcome, Plan,
    RollError, StoreError, Writer,
};

/// Most commands in one group.
const GROUP_MAX: usize = 512;
/// Most commands that wait.
const QUEUE_MAX: usize = 4_096;
/// Most bytes of values that wait, in KiB.
const QUEUE_KIB_MAX: u32 = 64 * 1024;
/// How long committed changes may stay out of the derived tables.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How many changed rows start a checkpoint before that: the writer does nothing else meanwhile.
const CHECKPOINT_ROWS: usize = 2_048;

/// What is told of each group, after it is on disk and published and before anyone is answered.
pub(crate) trait Observer: Send + Sync + 'static {
    /// A group was committed; it took `took` from first command to disk.
    fn committed(&self, committed: &Committed, counts: Counts, origin: Origin, took: Duration);
}

struct Job {
    command: Command,
    reply: oneshot::Sender<Outcome>,
    /// Given back when the command is done.
    _room: Option<OwnedSemaphorePermit>,
}

/// The handle to a running store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    published: Arc<ArcSwap<Snapshot>>,
    advanced: watch::Receiver<()>,
    history: HistoryReader,
    log: LogReader,
    epochs: EpochReader,
    blocking: Blocking,
}

impl Store {
    /// Starts driving `writer`, with stamps from `now`; the task ends, with the store closed in
    /// order, after `stop` says so or every handle is gone.
    pub(crate) fn start(
        writer: Writer,
        blocking: Blocking,
        now: Arc<dyn Fn() -> Stamp + Send + Sync>,
        observer: Arc<dyn Observer>,
        stop: watch::Receiver<bool>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (jobs, receiver) = mpsc::channel(QUEUE_MAX);
        let (tick, advanced) = watch::channel(());
        let store = Self {
            jobs,
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)),
            published: writer.published(),
            advanced,
            history: writer.history(),
            log: writer.log(),
            epochs: writer.epochs(),
            blocking,
        };
        let driver = Driver { blocking, now, observer, tick, jobs: receiver, dirty_since: None };
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
    #[expect(dead_code, reason = "the coordinator of rolls comes with its own change")]
    pub(crate) async fn plan_roll(
        &self,
        document: DocumentId,
        floor: Vector,
        removals_before: Stamp,
    ) -> Result<Plan, RollError> {
        let epochs = self.epochs.clone();
        self.blocking.run(move || epochs.plan_roll(&document, &floor, removals_before)).await
    }

    /// Takes a document to its next epoch, as was agreed; gives the record that says so.
    #[expect(dead_code, reason = "the coordinator of rolls comes with its own change")]
    pub(crate) async fn roll(&self, document: DocumentId, roll: Roll) -> Result<Dot, RollError> {
        match self.command(Command::Roll { document, roll }).await {
            Some(Outcome::Rolled(rolled)) => rolled,
            _ => Err(StoreError::Failed("the node is shutting down".into()).into()),
        }
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
    ) -> Result<(Vec<Bytes>, bool), StoreError> {
        let (log, have) = (self.log.clone(), self.snapshot().vector.clone());
        self.blocking.run(move || log.missing(vector, &have, bytes_max)).await
    }

    /// A state that includes `vector`, if one comes within `at_most`; else, as the error, the one
    /// that is there then.
    pub(crate) async fn wait_for(
        &self,
        vector: &Vector,
        at_most: Duration,
    ) -> Result<Arc<Snapshot>, Arc<Snapshot>> {
        let mut advanced = self.advanced.clone();
        let deadline = Instant::now() + at_most;
        loop {
            advanced.mark_unchanged();
            let snapshot = self.snapshot();
            if snapshot.vector.covers(vector) {
                return Ok(snapshot);
            }
            match tokio::time::timeout_at(deadline, advanced.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(self.snapshot()),
            }
        }
    }
}

fn action_bytes(action: &Action) -> usize {
    match action {
        Action::Put(value) | Action::MergePatch(value) => value.as_str().len(),
        Action::Remove => 0,
    }
}

struct Driver {
    blocking: Blocking,
    now: Arc<dyn Fn() -> Stamp + Send + Sync>,
    observer: Arc<dyn Observer>,
    tick: watch::Sender<()>,
    jobs: mpsc::Receiver<Job>,
    dirty_since: Option<Instant>,
}

impl Driver {
    async fn run(mut self, mut writer: Writer, mut stop: watch::Receiver<bool>) {
        loop {
            let checkpoint_at = self.dirty_since.map(|since| since + CHECKPOINT_INTERVAL);
            let is_due = async {
                match checkpoint_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let stopped = async {
                // The sender is gone: that is a stop, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            let job = tokio::select! {
                biased;
                () = stopped => None,
                job = self.jobs.recv() => job,
                () = is_due => {
                    writer = self.tend(writer).await;
                    continue;
                }
            };
            let Some(job) = job else { break };
            writer = self.group(writer, job).await;
            let is_late = checkpoint_at.is_some_and(|at| at <= Instant::now());
            if is_late || writer.unwritten_rows() >= CHECKPOINT_ROWS {
                writer = self.tend(writer).await;
            }
        }
        self.jobs.close();
        // What was taken before the stop is still carried out.
        while let Some(job) = self.jobs.recv().await {
            writer = self.group(writer, job).await;
        }
        let closed = self.blocking.run(move || writer.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store could not be closed in order");
        }
    }

    async fn group(&mut self, mut writer: Writer, first: Job) -> Writer {
        let started = Instant::now();
        let mut commands = vec![first.command];
        let mut replies = vec![(first.reply, first._room)];
        while commands.len() < GROUP_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            commands.push(job.command);
            replies.push((job.reply, job._room));
        }
        let now = (self.now)();
        let (writer, committed) = self
            .blocking
            .run(move || {
                let committed = writer.commit(now, &commands);
                (writer, committed)
            })
            .await;
        if committed.records > 0 || !writer.is_open() {
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        self.observer.committed(&committed, writer.counts(), writer.origin(), started.elapsed());
        self.tick.send_replace(());
        for ((reply, _), outcome) in replies.into_iter().zip(committed.outcomes) {
            // Whoever asked may have gone away; the write stands all the same.
            let _ = reply.send(outcome);
        }
        writer
    }

    /// Opens a store that a failure closed, and writes behind what is due.
    async fn tend(&mut self, mut writer: Writer) -> Writer {
        let (writer, reopened, written) = self
            .blocking
            .run(move || {
                let reopened = writer.ensure_open();
                let written = reopened.clone().and_then(|_| writer.checkpoint());
                (writer, reopened == Ok(true), written)
            })
            .await;
        self.dirty_since = None;
        if reopened {
            let committed = Committed { reopened, ..Committed::default() };
            let counts = writer.counts();
            self.observer.committed(&committed, counts, writer.origin(), Duration::ZERO);
            self.tick.send_replace(());
        }
        if let Err(error) = written {
            tracing::error!(%error, "a checkpoint failed: opening will read more of the log");
            self.dirty_since = Some(Instant::now());
        }
        writer
    }
}
