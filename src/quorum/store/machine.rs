//! The state machine, as openraft uses it. It works on a copy in memory and shows it as soon as it
//! is applied: what is applied was decided, and is on a majority's disks. Its rows, and the audit
//! events of what was decided, follow in one transaction; after a crash the log is applied again
//! from where that stands.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{Stream, TryStreamExt as _};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use redb::ReadTransaction;
use tokio::sync::{mpsc, oneshot};

use super::shared::Shared;
use super::tables;
use super::writer::{Answer, Applied, Job, Work, to_io};
use crate::audit::Event;
use crate::quorum::Decided;
use crate::quorum::types::{
    Coded, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
use crate::registry::{Outcome, Row, State};
use crate::storage::StoreError;

/// Most entries that are shown, and written, at a time.
const BATCH_MAX: usize = 512;

/// What is applied. Cheap to clone.
#[derive(Clone)]
pub(super) struct Working {
    pub(super) state: State,
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
}

impl Working {
    /// As it is stored.
    pub(super) fn read(tx: &ReadTransaction) -> Result<Self, StoreError> {
        let applied = tables::KEY_APPLIED.get(tx)?.map(|Coded(id)| id);
        let membership = tables::KEY_MEMBERSHIP.get(tx)?.map(|Coded(membership)| membership);
        let state = tables::read_state(tx, applied)?;
        Ok(Self { state, applied, membership: membership.unwrap_or_default() })
    }

    /// Applies one entry; what it did goes to `batch`.
    pub(super) fn apply(&mut self, entry: Entry, batch: &mut Batch) -> Decided {
        let index = entry.log_id.index;
        self.applied = Some(entry.log_id);
        batch.entries += 1;
        let (outcome, replayed) = match entry.payload {
            EntryPayload::Normal(proposal) => {
                let applied = self.state.apply(index, &proposal);
                batch.rows.extend(applied.rows);
                batch.events.extend(applied.event);
                (applied.outcome, applied.replayed)
            }
            EntryPayload::Blank => (Ok(Outcome::Done), false),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                batch.has_membership = true;
                (Ok(Outcome::Done), false)
            }
        };
        self.state.index = index;
        Decided { index, outcome, replayed }
    }

    fn snapshot(&self) -> Snapshot<State> {
        let last_membership = self.membership.clone();
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership };
        Snapshot { meta, snapshot: self.state.clone() }
    }
}

/// What a run of entries did.
#[derive(Default)]
pub(super) struct Batch {
    entries: usize,
    pub(super) rows: Vec<Row>,
    pub(super) events: Vec<Event>,
    has_membership: bool,
    answers: Vec<(ApplyResponder<TypeConfig>, Decided)>,
}

fn row_bytes(row: &Row) -> usize {
    row.key.len() + row.value.as_ref().map_or(0, Vec::len)
}

/// The state machine, for openraft alone. A snapshot is the state itself: whoever receives one
/// puts its rows into an empty [`State`].
pub(crate) struct StateMachine {
    working: Working,
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

impl StateMachine {
    pub(super) fn new(working: Working, shared: Arc<Shared>, jobs: mpsc::Sender<Job>) -> Self {
        Self { working, shared, jobs }
    }

    /// Queues what a batch did, shows the state, and answers who proposed.
    async fn finish(&self, batch: Batch) -> Result<(), io::Error> {
        let Some(upto) = self.working.applied else { return Ok(()) };
        if let Some(failure) = self.shared.failure() {
            return Err(to_io(failure));
        }
        let membership = batch.has_membership.then(|| self.working.membership.clone());
        let bytes = batch.rows.iter().map(row_bytes).sum();
        let applied = Applied { upto, membership, rows: batch.rows, events: batch.events };
        let room = self.shared.room(bytes).await;
        // Before anybody can act on what was decided: its record comes first.
        self.shared.events_waiting.fetch_add(applied.events.len(), Ordering::SeqCst);
        self.send(Job::new(Work::Apply(applied), Answer::Nobody).with_room(room)).await?;
        self.shared.publish(self.working.state.clone());
        for (responder, decided) in batch.answers {
            responder.send(decided);
        }
        Ok(())
    }

    async fn send(&self, job: Job) -> Result<(), io::Error> {
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| to_io(self.shared.failure_or_closed()))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = State;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.working.applied, self.working.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            let decided = self.working.apply(entry, &mut batch);
            if let Some(responder) = responder {
                batch.answers.push((responder, decided));
            }
            if batch.entries >= BATCH_MAX {
                self.finish(std::mem::take(&mut batch)).await?;
            }
        }
        if batch.entries > 0 { self.finish(batch).await } else { Ok(()) }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(self.working.clone())
    }

    /// On disk as a whole, or not at all, when it returns.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        mut state: State,
    ) -> Result<(), io::Error> {
        state.index = meta.last_log_id.map_or(0, |id| id.index);
        let membership = meta.last_membership.clone();
        let working = Working { state, applied: meta.last_log_id, membership };
        let (done, is_done) = oneshot::channel();
        let work = Work::Install(Box::new(working.clone()));
        self.send(Job::new(work, Answer::Caller(done))).await?;
        let lost = |_| self.shared.failure_or_closed();
        is_done.await.map_err(lost).flatten().map_err(to_io)?;
        self.working = working;
        self.shared.publish(self.working.state.clone());
        Ok(())
    }

    /// There is always one: what is applied.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<State>>, io::Error> {
        Ok(self.working.applied.map(|_| self.working.snapshot()))
    }
}

/// The state at one moment.
pub(crate) struct SnapshotBuilder(Working);

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = State;

    async fn build_snapshot(&mut self) -> Result<Snapshot<State>, io::Error> {
        Ok(self.0.snapshot())
    }
}
