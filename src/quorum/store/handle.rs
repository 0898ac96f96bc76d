//! The store, for everybody but openraft.
//!
//! What is applied: [`StoreHandle::published`], [`StoreHandle::applied`]. The audit chain:
//! [`StoreHandle::record`], [`StoreHandle::chain`], [`StoreHandle::journal_damage`]. Who it is:
//! [`StoreHandle::raft_id`], [`StoreHandle::identity`]. How fresh: [`StoreHandle::contact`]. Its
//! life: [`StoreHandle::flush`], [`StoreHandle::failure`], [`StoreHandle::close`].

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::chain::QuorumChain;
use super::identity::Identity;
use super::journal;
use super::recorder::Recorder;
use super::shared::Shared;
use super::writer::{Answer, Job, Work};
use crate::audit::{Archived, Event};
use crate::env::Blocking;
use crate::model::{NodeName, Stamp};
use crate::quorum::types::RaftId;
use crate::registry::State;
use crate::storage::StoreError;
use crate::storage::database::Database;

/// How much newer a contact has to be to be worth writing down.
const CONTACT_STEP: Duration = Duration::from_secs(10);

/// A handle to the store. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct StoreHandle {
    who: Arc<(RaftId, Identity)>,
    shared: Arc<Shared>,
    database: Arc<Database>,
    jobs: mpsc::Sender<Job>,
    recorder: Recorder,
}

impl StoreHandle {
    pub(super) fn new(
        who: (RaftId, Identity),
        shared: Arc<Shared>,
        database: Arc<Database>,
        jobs: mpsc::Sender<Job>,
        blocking: Blocking,
    ) -> Self {
        let recorder = Recorder::new(shared.clone(), database.clone(), jobs.clone(), blocking);
        Self { who: Arc::new(who), shared, database, jobs, recorder }
    }

    /// The store's id in the consensus.
    pub(crate) fn raft_id(&self) -> RaftId {
        self.who.0
    }

    /// Where that id comes from.
    pub(crate) fn identity(&self) -> &Identity {
        &self.who.1
    }

    /// Where what is applied is shown.
    pub(crate) fn published(&self) -> Arc<ArcSwap<State>> {
        self.shared.published.clone()
    }

    /// The index of what is shown; turns after it is shown.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Puts events on the audit chain; they are on disk when it returns.
    pub(crate) async fn record(&self, events: Vec<Event>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.recorder.record(events).await
    }

    /// Puts everything into the tables that is on its way there.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.run(Work::Flush).await
    }

    /// What did not hold together in the journal when the store was opened.
    pub(crate) fn journal_damage(&self) -> Option<&str> {
        self.shared.journal_damage.as_deref()
    }

    /// Puts on the chain, at `at`, that records of this node were lost, where that is so.
    pub(crate) async fn record_damage(&self, at: Stamp, node: &NodeName) -> Result<(), StoreError> {
        let Some(damage) = self.journal_damage() else { return Ok(()) };
        self.record(vec![journal::damaged(damage, node, at)]).await?;
        // Only now: it is told again where the machine goes down before.
        self.shared.chain().journal.blank()
    }

    /// Says how far the audit chain is archived, and removes what the store need not have any more.
    pub(crate) async fn archive(&self, archived: Archived) -> Result<(), StoreError> {
        self.run(Work::Archive(archived)).await
    }

    /// The audit chain, as far as it is on disk.
    pub(crate) fn chain(&self) -> QuorumChain {
        QuorumChain::new(self.database.clone(), self.shared.clone())
    }

    /// When the leader was heard last, by this node's clock, as far as is known: after a restart
    /// it is some seconds older than it was.
    pub(crate) fn contact(&self) -> Option<Stamp> {
        self.shared.contact()
    }

    /// The leader was heard. Written down now and then, when there is room in the queue.
    pub(crate) fn note_contact(&self, at: Stamp) {
        let step = u64::try_from(CONTACT_STEP.as_micros()).unwrap_or(u64::MAX);
        if self.shared.note_contact(at, step) {
            // The next one will do.
            let _ = self.jobs.try_send(Job::new(Work::Contact(at), Answer::Nobody));
        }
    }

    /// Asks for the file to be rebuilt, in which so many bytes are live; says whether that was heard.
    pub(crate) fn rebuild(&self, live_bytes: u64) -> bool {
        self.jobs.try_send(Job::new(Work::Rebuild(live_bytes), Answer::Nobody)).is_ok()
    }

    /// How often the file was rebuilt since it was opened.
    pub(crate) fn rebuilt(&self) -> u64 {
        self.shared.rebuilt()
    }

    /// Why the store takes nothing more; then it is to be opened anew.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.shared.failure.subscribe()
    }

    /// Puts everything on disk, says that the node was stopped in order, and closes the file.
    /// Everything that is queued later is refused.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.run(Work::Close).await
    }

    /// The journal has records that are to go into the table.
    pub(super) fn fold_later(&self) {
        self.recorder.fold_later();
    }

    async fn run(&self, work: Work) -> Result<(), StoreError> {
        let (done, is_done) = oneshot::channel();
        let job = Job::new(work, Answer::Caller(done));
        self.jobs.send(job).await.map_err(|_| self.shared.failure_or_closed())?;
        is_done.await.map_err(|_| self.shared.failure_or_closed()).flatten()
    }
}

/// What tests look at.
#[cfg(test)]
impl StoreHandle {
    /// Where the audit chain stands on disk; turns as it grows.
    pub(crate) fn audit_head(&self) -> watch::Receiver<crate::audit::Head> {
        self.shared.head.subscribe()
    }

    /// How many commits waited for the disk.
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.syncs.load(std::sync::atomic::Ordering::Relaxed)
    }
}
