//! Consensus as openraft does it, behind [`Consensus`]: who leads, and proposing and reading here or at
//! the leader, within which time. What it does not know it calls unknown.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
use openraft::{RaftMetrics, ServerState};
use rand::RngCore as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::contact::Contact;
use super::forward::ReadAt;
use super::network::{Appends, Network, Server, Snapshots};
use super::rounds::Rounds;
use super::store::{LogStore, StateMachine, StoreHandle};
use super::times::Times;
use super::types::{Member, Runtime, TypeConfig};
use super::{
    ChangeError, Consensus, Decided, MemberChange, ProposeError, Quorum, QuorumStatus, Raft,
    ReadError, membership,
};
use crate::audit::{Archived, ChainReader, Event};
use crate::env::Env;
use crate::gossip::{Gossip, StreamKind};
use crate::members::Members;
use crate::model::{NodeName, RegionName};
use crate::registry::Proposal;
use crate::settings::QuorumSettings;
use crate::storage::StoreError;
use crate::telemetry::Metrics;

use proposing::Proposals;
use reading::Reads;

mod proposing;
mod reading;
mod standing;

/// How often what is waited for is looked at, besides when openraft says that it changed.
const LOOK: Duration = Duration::from_millis(20);
/// Ending waits this long for another leader, and as long for openraft's tasks.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// What a node's consensus is started with.
pub(crate) struct Start<'a> {
    pub(crate) env: &'a Env,
    pub(crate) settings: &'a QuorumSettings,
    pub(crate) members: Arc<Members>,
    pub(crate) node: &'a NodeName,
    pub(crate) region: &'a RegionName,
    /// Absent where there is no other node.
    pub(crate) gossip: Option<Gossip>,
    pub(crate) store: (LogStore, StateMachine, StoreHandle),
    pub(crate) metrics: Arc<Metrics>,
}

/// One node's part in the consensus.
pub(super) struct Driver {
    pub(super) raft: Raft,
    pub(super) gossip: Option<Gossip>,
    pub(super) store: StoreHandle,
    pub(super) members: Arc<Members>,
    pub(super) me: Member,
    pub(super) times: Times,
    pub(super) contact: Arc<Contact>,
    pub(super) started_at: Instant,
    pub(super) stop: CancellationToken,
    network: Network,
    reads: Rounds<ReadAt>,
    confirmations: Rounds<Option<u64>>,
    metrics: Arc<Metrics>,
}

/// Who leads, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    Here,
    At(NodeName),
    Unknown,
}

/// Starts consensus on an open store.
pub(crate) async fn start(start: Start<'_>) -> Result<Quorum, String> {
    let Start { env, settings, members, node, region, gossip, store, metrics } = start;
    let (log, machine, store) = store;
    let topology = members.topology();
    let times = Times::new(&topology, settings);
    let config = times.config(&topology.cluster, settings).validate().map_err(|e| e.to_string())?;
    let first = env.entropy.stream("quorum ticks").next_u64();
    let contact = Arc::new(Contact::new(store.clone(), env.clock.clone(), first));
    let patience = times.patience();
    let network = Network { gossip: gossip.clone(), contact: contact.clone(), patience };
    let mut seeds = env.entropy.stream("quorum");
    let starting = Raft::new(store.raft_id(), Arc::new(config), network.clone(), log, machine);
    let raft = Runtime::scope(seeds.next_u64(), starting).await.map_err(|e| e.to_string())?;
    contact.watch(raft.metrics());
    let published = store.published();
    let applied = store.applied();
    let driver = Arc::new(Driver {
        raft: raft.clone(),
        gossip: gossip.clone(),
        store,
        members,
        me: Member { node: node.clone(), region: region.clone() },
        times,
        contact: contact.clone(),
        started_at: Instant::now(),
        stop: CancellationToken::new(),
        network,
        reads: Rounds::new(),
        confirmations: Rounds::new(),
        metrics,
    });
    if let Some(gossip) = gossip {
        let seeds = Arc::new(Mutex::new(seeds));
        let server = Server { raft, contact, seeds, patience };
        gossip.serve(StreamKind::QuorumAppend, Arc::new(Appends(server.clone())));
        gossip.serve(StreamKind::QuorumSnapshot, Arc::new(Snapshots(server.clone())));
        gossip.respond(StreamKind::QuorumVote, Arc::new(server));
        gossip.respond(StreamKind::QuorumPropose, Arc::new(Proposals(Arc::downgrade(&driver))));
        gossip.respond(StreamKind::QuorumRead, Arc::new(Reads(Arc::downgrade(&driver))));
        gossip.respond(
            StreamKind::QuorumControl,
            Arc::new(membership::Controls(Arc::downgrade(&driver))),
        );
    }
    driver.stand_alone().await;
    let keeping = driver.clone();
    tokio::spawn(async move {
        let stop = keeping.stop.clone();
        stop.run_until_cancelled_owned(membership::keep(keeping)).await;
    });
    Ok(Quorum::new(driver, published, applied))
}

impl Driver {
    pub(super) fn look(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Who leads, and answers.
    pub(super) fn leader(&self) -> Leader {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state == ServerState::Leader {
            return Leader::Here;
        }
        // A follower that hears nobody keeps the leader it had.
        let is_heard =
            self.contact.age_since_start().is_some_and(|age| age < self.times.cut_off_after());
        let leader = metrics.current_leader.filter(|_| is_heard);
        let member = leader.and_then(|id| metrics.membership_config.membership().get_node(&id));
        match member {
            Some(member) if member.node != self.me.node => Leader::At(member.node.clone()),
            _ => Leader::Unknown,
        }
    }

    /// Whether this node leads, and no majority has answered it for long.
    fn is_cut_off(&self) -> bool {
        let is_fresh = |metrics: &RaftMetrics<TypeConfig>| metrics.last_quorum_acked.is_none();
        self.contact.majority_age().is_some_and(|age| {
            age > self.times.cut_off_after() && !is_fresh(&self.raft.metrics().borrow_watched())
        })
    }

    /// Something may have changed.
    pub(super) async fn pause(&self, until: Instant) {
        let mut metrics = self.raft.metrics();
        let now = Instant::now();
        tokio::select! {
            biased;
            _ = metrics.changed() => {}
            () = sleep_until(until.min(now + LOOK)) => {}
        }
        // Changes come in bursts.
        sleep(Duration::from_millis(1)).await;
    }

    fn store_failed(&self) -> Option<String> {
        self.store.failure().borrow().as_ref().map(ToString::to_string)
    }

    /// Returns when the leader has not been heard for long.
    async fn contact_lost(&self) {
        loop {
            sleep(self.times.heartbeat).await;
            let age = self.contact.age_since_start();
            if age.is_none_or(|age| age > self.times.cut_off_after()) {
                return;
            }
        }
    }

    async fn end(&self) {
        self.stop.cancel();
        let metrics = self.look();
        if metrics.state == ServerState::Leader
            && let Some(successor) = self.view(&metrics).successor()
            && self.raft.trigger().transfer_leader(successor).await.is_ok()
        {
            let deadline = Instant::now() + self.times.election_max.min(SHUTDOWN_TIMEOUT);
            while self.leader() == Leader::Here && Instant::now() < deadline {
                self.pause(deadline).await;
            }
        }
        let _ = timeout(SHUTDOWN_TIMEOUT, self.raft.shutdown()).await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the quorum's store was not closed in order");
        }
    }
}

impl Consensus for Driver {
    fn propose(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Decided, ProposeError>> {
        async move {
            let decided = self.propose_somewhere(proposal, deadline).await;
            self.metrics.proposed(match &decided {
                Ok(Decided { outcome: Ok(_), .. }) => "done",
                Ok(_) => "refused",
                Err(ProposeError::Unavailable(_)) => "unavailable",
                Err(ProposeError::Unknown(_)) => "unknown",
                Err(ProposeError::Failed(_)) => "failed",
            });
            decided
        }
        .boxed()
    }

    fn read_index(&self, deadline: Instant) -> BoxFuture<'_, Result<u64, ReadError>> {
        async move {
            let from = Instant::now();
            let index = self.read_somewhere(deadline).await;
            self.metrics.read_index_done(from.elapsed(), index.is_ok());
            index
        }
        .boxed()
    }

    fn record(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            self.store.record(events).await.map_err(|error| ReadError::Failed(error.to_string()))
        }
        .boxed()
    }

    fn archive(&self, archived: Archived) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.archive(archived).boxed()
    }

    fn contact_age(&self) -> Duration {
        self.contact.age()
    }

    fn chain(&self) -> Option<Arc<dyn ChainReader>> {
        Some(Arc::new(self.store.chain()))
    }

    fn begin_read(&self) -> BoxFuture<'_, Result<Option<redb::ReadTransaction>, StoreError>> {
        async move {
            // The journal's records go into the tables first.
            self.store.flush().await?;
            self.store.chain().begin_read().map(Some)
        }
        .boxed()
    }

    fn peek(&self) -> Result<Option<redb::ReadTransaction>, StoreError> {
        self.store.chain().peek().map(Some)
    }

    fn rebuild(&self, live_bytes: u64) -> bool {
        self.store.rebuild(live_bytes)
    }

    fn rebuilt(&self) -> u64 {
        self.store.rebuilt()
    }

    fn status(&self) -> QuorumStatus {
        self.how_it_stands()
    }

    fn change(
        &self,
        change: MemberChange,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<(), ChangeError>> {
        membership::change(self, change, deadline).boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.end().boxed()
    }
}

impl From<Fatal<TypeConfig>> for ChangeError {
    fn from(error: Fatal<TypeConfig>) -> Self {
        Self::Unknown(error.to_string())
    }
}
