//! Consensus as openraft does it, behind [`Consensus`]: who leads, proposing and reading there or
//! at the leader, and within which time. What it does not know it calls unknown.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::{Instant as _, LinearizerOption, RaftMetrics, ReadPolicy, ServerState};
use rand::RngCore as _;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::change::View;
use super::confirm::confirm;
use super::contact::Contact;
use super::forward::{Propose, Proposed, ReadAt};
use super::network::{Appends, Network, Server, Snapshots};
use super::rounds::Rounds;
use super::store::{LogStore, StateMachine, StoreHandle};
use super::times::Times;
use super::types::{Member, RaftId, Runtime, TypeConfig};
use super::{
    ChangeError, Consensus, Decided, MemberChange, MemberStatus, ProposeError, Quorum,
    QuorumStatus, Raft, ReadError, membership,
};
use crate::audit::{Archived, ChainReader, Event};
use crate::env::Env;
use crate::gossip::{AskError, Gossip, StreamKind};
use crate::members::Members;
use crate::model::{NodeName, RegionName, cbor};
use crate::registry::Proposal;
use crate::settings::QuorumSettings;
use crate::storage::StoreError;
use crate::telemetry::{Metrics, TraceContext};

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

fn unavailable<T>(why: &str) -> Result<T, ProposeError> {
    Err(ProposeError::Unavailable(why.into()))
}

/// Why one attempt came to nothing.
enum Attempt {
    /// Nothing was done: it can be tried again.
    Again(&'static str),
    Final(ProposeError),
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

    async fn propose_somewhere(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Decided, ProposeError> {
        let give_up = deadline.min(Instant::now() + self.times.patience());
        let mut why = "no leader is known";
        while Instant::now() < give_up {
            if let Some(failure) = self.store_failed() {
                return Err(ProposeError::Failed(failure));
            }
            let attempt = match self.leader() {
                Leader::Here => self.propose_here(&proposal, deadline).await,
                Leader::At(node) => self.propose_at(&node, &proposal, deadline).await,
                Leader::Unknown => Err(Attempt::Again("no leader is known")),
            };
            match attempt {
                Ok(decided) => return Ok(decided),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(reason)) => why = reason,
            }
            self.pause(give_up).await;
        }
        unavailable(why)
    }

    async fn propose_here(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Decided, Attempt> {
        if self.is_cut_off() {
            return Err(Attempt::Again("a majority of the voters does not answer"));
        }
        let mut writing = std::pin::pin!(self.raft.client_write(proposal.clone()));
        let unknown = |why: &str| Err(Attempt::Final(ProposeError::Unknown(why.into())));
        loop {
            tokio::select! {
                biased;
                written = &mut writing => return self.written(written),
                () = sleep_until(deadline) => return unknown("no majority answered in time"),
                () = sleep(self.times.heartbeat) => {}
            }
            if self.is_cut_off() {
                return unknown("this leader was cut off from the majority meanwhile");
            }
        }
    }

    fn written(
        &self,
        written: Result<
            openraft::raft::ClientWriteResponse<TypeConfig>,
            RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
        >,
    ) -> Result<Decided, Attempt> {
        let last = |error| Err(Attempt::Final(error));
        match written {
            Ok(response) => Ok(response.data),
            Err(RaftError::APIError(error)) => match error {
                ClientWriteError::ForwardToLeader(_) => {
                    Err(Attempt::Again("this node does not lead any more"))
                }
                error => last(ProposeError::Unknown(error.to_string())),
            },
            Err(RaftError::Fatal(error)) => match self.store_failed() {
                Some(failure) => last(ProposeError::Failed(failure)),
                None => last(ProposeError::Unknown(error.to_string())),
            },
        }
    }

    async fn propose_at(
        &self,
        leader: &NodeName,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Decided, Attempt> {
        let Some(gossip) = &self.gossip else { return Err(Attempt::Again("there is no peer")) };
        let budget = deadline.saturating_duration_since(Instant::now());
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        let trace = TraceContext::current().map(|context| context.to_string());
        let question = cbor::encode(&Propose { proposal: proposal.clone(), budget_ms, trace });
        let asking = gossip.ask(leader, StreamKind::QuorumPropose, &question, deadline);
        let answer = tokio::select! {
            biased;
            answer = asking => answer,
            () = self.contact_lost() => Err(AskError::Lost("the leader was lost".into())),
        };
        let last = |error| Err(Attempt::Final(error));
        let answer = match answer {
            Ok(answer) => answer,
            Err(AskError::Lost(why)) => return last(ProposeError::Unknown(why)),
            Err(_) => return Err(Attempt::Again("the leader cannot be reached")),
        };
        match cbor::decode(&answer) {
            Ok(Proposed::Decided(decided)) => Ok(decided),
            Ok(Proposed::Elsewhere) => Err(Attempt::Again("the leader does not lead any more")),
            Ok(Proposed::Unavailable(why)) => last(ProposeError::Unavailable(why)),
            Ok(Proposed::Unknown(why)) => last(ProposeError::Unknown(why)),
            // Whether it had decided before its store failed is not known.
            Ok(Proposed::Failed(why)) => last(ProposeError::Unknown(why)),
            Err(error) => last(ProposeError::Unknown(error.to_string())),
        }
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

    async fn read_somewhere(&self, deadline: Instant) -> Result<u64, ReadError> {
        let give_up = deadline.min(Instant::now() + self.times.patience());
        let mut why = "no leader is known".to_owned();
        while Instant::now() < give_up {
            if let Some(failure) = self.store_failed() {
                return Err(ReadError::Failed(failure));
            }
            let round = match self.leader() {
                Leader::Here => timeout_at(give_up, self.read_here()).await,
                Leader::At(node) => timeout_at(give_up, self.read_at(node)).await,
                Leader::Unknown => Ok(ReadAt::Unavailable("no leader is known".into())),
            };
            match round {
                Ok(ReadAt::Index(index)) => return Ok(index),
                Ok(ReadAt::Elsewhere) => why = "the leader does not lead any more".into(),
                Ok(ReadAt::Unavailable(reason)) => why = reason,
                Err(_) => break,
            }
            self.pause(give_up).await;
        }
        Err(ReadError::Unavailable(why))
    }

    /// Confirmed with a majority, in a round trip; else as openraft does it, which also knows why not.
    async fn read_here(&self) -> ReadAt {
        if self.is_cut_off() {
            return ReadAt::Unavailable("a majority of the voters does not answer".into());
        }
        let (raft, network) = (self.raft.clone(), self.network.clone());
        let within = self.times.heartbeat;
        let confirmed = self.confirmations.join(move || confirm(raft, network, within)).await;
        if let Some(index) = confirmed {
            return ReadAt::Index(index);
        }
        let option = LinearizerOption::from(ReadPolicy::ReadIndex)
            .with_wait_timeout(self.times.election_max);
        match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => ReadAt::Index(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                ReadAt::Elsewhere
            }
            Err(error) => ReadAt::Unavailable(error.to_string()),
        }
    }

    async fn read_at(&self, leader: NodeName) -> ReadAt {
        let Some(gossip) = self.gossip.clone() else { return ReadAt::Elsewhere };
        let patience = self.times.patience();
        let ask = || async move {
            let deadline = Instant::now() + patience;
            match gossip.ask(&leader, StreamKind::QuorumRead, &[], deadline).await {
                Ok(answer) => cbor::decode(&answer)
                    .unwrap_or_else(|error| ReadAt::Unavailable(error.to_string())),
                Err(error) => ReadAt::Unavailable(error.to_string()),
            }
        };
        tokio::select! {
            biased;
            answer = self.reads.join(ask) => answer,
            () = self.contact_lost() => ReadAt::Unavailable("the leader was lost".into()),
        }
    }

    /// The members as this node, the leader, sees them.
    pub(super) fn view(&self, metrics: &RaftMetrics<TypeConfig>) -> View {
        let is_live = |at: &openraft::TokioInstant| at.elapsed() < self.times.cut_off_after();
        let heartbeats = metrics.heartbeat.iter().flatten();
        let answered = heartbeats.filter_map(|(id, at)| Some((*id, **at.as_ref()?)));
        let mut live: std::collections::BTreeSet<RaftId> =
            answered.filter(|(_, at)| is_live(at)).map(|(id, _)| id).collect();
        live.insert(metrics.id);
        let matched = metrics.replication.iter().flatten();
        let matched = matched.filter_map(|(id, log)| Some((*id, log.as_ref()?.index)));
        let membership = metrics.membership_config.membership();
        View {
            leader: metrics.id,
            voters: membership.voter_ids().collect(),
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            live,
            matched: matched.collect(),
            last: metrics.last_log_index.unwrap_or_default(),
        }
    }

    fn how_it_stands(&self) -> QuorumStatus {
        let metrics = self.look();
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<RaftId> = membership.voter_ids().collect();
        let matched = |id: &RaftId| {
            let replication = metrics.replication.as_ref()?;
            if *id == metrics.id {
                return metrics.last_log_index;
            }
            replication.get(id)?.as_ref().map(|log| log.index)
        };
        let members = membership.nodes().map(|(id, member)| MemberStatus {
            id: *id,
            node: member.node.to_string(),
            region: member.region.to_string(),
            voter: voters.contains(id),
            matched: matched(id),
        });
        let leader = match self.leader() {
            Leader::Here => Some(self.me.node.to_string()),
            Leader::At(node) => Some(node.to_string()),
            Leader::Unknown => None,
        };
        let is_member = membership.get_node(&metrics.id).is_some();
        let role = match metrics.state {
            ServerState::Leader => "leader",
            ServerState::Follower => "follower",
            ServerState::Candidate => "candidate",
            ServerState::Learner if is_member => "learner",
            ServerState::Learner => "no member yet",
            ServerState::Shutdown => "stopped",
        };
        let failure = self.store_failed();
        let store_failed = failure.is_some();
        let role = failure.unwrap_or_else(|| role.to_owned());
        QuorumStatus {
            leader,
            term: metrics.current_term,
            role,
            applied: *self.store.applied().borrow(),
            last_log: metrics.last_log_index.unwrap_or_default(),
            contact_age_ms: u64::try_from(self.contact.age().as_millis()).unwrap_or(u64::MAX),
            store_failed,
            members: members.collect(),
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

/// Answers nodes that forward proposals. Weak, because the driver has the gossip that has this.
struct Proposals(Weak<Driver>);

impl crate::gossip::Responder for Proposals {
    fn answer(
        &self,
        from: NodeName,
        question: bytes::Bytes,
    ) -> BoxFuture<'static, Option<Vec<u8>>> {
        let driver = self.0.clone();
        async move {
            let driver = driver.upgrade()?;
            let Propose { proposal, budget_ms, trace } = cbor::decode(&question).ok()?;
            let deadline = Instant::now() + Duration::from_millis(budget_ms.min(600_000));
            let work = driver.propose_for(&from, &proposal, deadline);
            let context = trace.as_deref().and_then(TraceContext::parse);
            let decided = match context {
                Some(context) => context.within(work).await,
                None => work.await,
            };
            let answer = match decided {
                Ok(decided) => Proposed::Decided(decided),
                Err(Attempt::Again(_)) => Proposed::Elsewhere,
                Err(Attempt::Final(error)) => error.into(),
            };
            Some(cbor::encode(&answer))
        }
        .boxed()
    }
}

impl Driver {
    /// For another node, whose request's trace this is done under.
    async fn propose_for(
        &self,
        from: &NodeName,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Decided, Attempt> {
        let decided = self.propose_here_once(proposal, deadline).await;
        let outcome = if decided.is_ok() { "success" } else { "failure" };
        tracing::info!(
            event.dataset = "holm.forward",
            event.outcome = outcome,
            %from,
            %proposal,
            "a proposal was forwarded here"
        );
        decided
    }

    async fn propose_here_once(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Decided, Attempt> {
        match self.leader() {
            Leader::Here => self.propose_here(proposal, deadline).await,
            _ => Err(Attempt::Again("this node does not lead")),
        }
    }
}

/// Answers nodes that ask where to read.
struct Reads(Weak<Driver>);

impl crate::gossip::Responder for Reads {
    fn answer(&self, _: NodeName, _: bytes::Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        let driver = self.0.clone();
        async move {
            let driver = driver.upgrade()?;
            let answer = match driver.leader() {
                Leader::Here => driver.read_here().await,
                _ => ReadAt::Elsewhere,
            };
            Some(cbor::encode(&answer))
        }
        .boxed()
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
