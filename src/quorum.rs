//! The quorum path as the rest of the program sees it: propose, and learn what was decided; read,
//! as new as can be or as old as this node's copy. What is decided is `registry`'s; how a majority
//! is brought to agree is behind [`Consensus`].

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::{Archived, ChainReader, Event};
use crate::env::{Blocking, Disk};
use crate::model::NodeName;
use crate::planted::{Bug, is_planted};
use crate::registry::{Outcome, Proposal, Refusal, State};
use crate::storage::tally::FileTally;
use crate::storage::{StoreError, rebuild};

#[cfg(test)]
pub(crate) mod alone;
mod change;
mod confirm;
mod contact;
mod driver;
mod forward;
mod membership;
mod network;
mod rounds;
pub(crate) mod store;
mod times;
pub(crate) mod types;

pub(crate) use driver::{Start, start};
pub(crate) use store::STORE_FORMAT;
pub(crate) use times::{Times, first_voters};

/// openraft, with our types and our state machine.
type Raft = openraft::Raft<types::TypeConfig, store::StateMachine>;

/// What a proposal came to.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Decided {
    /// The index of the log at which it was decided.
    #[n(0)]
    pub index: u64,
    /// What was done, or why nothing was.
    #[n(1)]
    pub outcome: Result<Outcome, Refusal>,
    /// Whether this answers a retry of what had been decided before.
    #[n(2)]
    pub replayed: bool,
}

/// Why it is not known that a proposal was decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No quorum answers. Nothing was done, and nothing will be.
    #[error("no quorum answers: {0}")]
    Unavailable(String),
    /// The connection to the leader, or its leadership, was lost while it decided: it may have
    /// been done, it may still be done, or never.
    #[error("it is not known whether it was done: {0}")]
    Unknown(String),
    /// This node's quorum store failed.
    #[error("the quorum's store failed: {0}")]
    Failed(String),
}

/// Why there is nothing to read, or nothing could be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No quorum answers in time.
    #[error("no quorum answers: {0}")]
    Unavailable(String),
    /// This node's quorum store failed.
    #[error("the quorum's store failed: {0}")]
    Failed(String),
}

/// A change of the quorum's members that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum MemberChange {
    /// A learner is to vote.
    #[n(0)]
    Add(#[n(0)] NodeName),
    /// A voter is not to vote any more, or a node that the topology does not have is forgotten.
    #[n(1)]
    Remove(#[n(0)] NodeName),
    /// A voter is to lead.
    #[n(2)]
    Transfer(#[n(0)] NodeName),
}

impl MemberChange {
    /// Whom it is about.
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Add(node) | Self::Remove(node) | Self::Transfer(node) => node,
        }
    }
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It makes no sense, or would leave too few voters. Nothing was done.
    #[error("refused: {0}")]
    Refused(String),
    /// No quorum answers, or another change is under way. Nothing was done.
    #[error("not now: {0}")]
    Unavailable(String),
    /// The leader was lost while it changed them: it may be done, or half of it.
    #[error("it is not known whether it was done: {0}")]
    Unknown(String),
}

/// How the quorum stands, as this node sees it.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct QuorumStatus {
    /// Its leader, where one is known.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// What this node is: `leader`, `follower`, `candidate`, `learner`, or why it takes no part.
    pub role: String,
    /// Up to which index of the log this node has applied.
    pub applied: u64,
    /// Up to which index its log reaches.
    pub last_log: u64,
    /// How long ago it heard of the leader, in milliseconds.
    pub contact_age_ms: u64,
    /// Whether this node's quorum store failed; `role` says how.
    #[serde(skip)]
    pub store_failed: bool,
    /// Who is in it.
    pub members: Vec<MemberStatus>,
}

/// A member of the quorum, or a learner.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "QuorumMember")]
pub struct MemberStatus {
    /// Its id in the consensus: another one after its store was lost.
    pub id: u64,
    /// The node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Whether it votes.
    pub voter: bool,
    /// As the leader sees it: up to which index its log is known to reach.
    pub matched: Option<u64>,
}

/// How a majority is brought to agree.
pub trait Consensus: Send + Sync + 'static {
    /// Proposes, here or at the leader, wherever that is; until `deadline`.
    fn propose(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Decided, ProposeError>>;

    /// An index of the log up to which everything that was decided before now is included
    /// (ReadIndex: confirmed with a majority).
    fn read_index(&self, deadline: Instant) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// Puts events on this node's audit chain; they are on disk when it returns.
    fn record(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Says how far this node's audit chain is archived, and removes what is and need not stay.
    fn archive(&self, _archived: Archived) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How long ago the leader was heard, at least: what is applied here may be this old. A restart
    /// does not make it young.
    fn contact_age(&self) -> Duration;

    /// This node's audit chain of the quorum, for reading; none where it keeps none.
    fn chain(&self) -> Option<Arc<dyn ChainReader>> {
        None
    }

    /// A view of this node's store as it is now; none where it keeps none.
    fn begin_read(&self) -> BoxFuture<'_, Result<Option<redb::ReadTransaction>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The same without what is not in the file yet; at once.
    fn peek(&self) -> Result<Option<redb::ReadTransaction>, StoreError> {
        Ok(None)
    }

    /// Asks for this node's file to be rebuilt, in which so many bytes are live; says whether that was
    /// heard.
    fn rebuild(&self, _live_bytes: u64) -> bool {
        false
    }

    /// How often it was rebuilt since it was opened.
    fn rebuilt(&self) -> u64 {
        0
    }

    /// How it stands.
    fn status(&self) -> QuorumStatus;

    /// Changes the members, here or at the leader; until `deadline`.
    fn change(
        &self,
        change: MemberChange,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<(), ChangeError>>;

    /// Hands the leadership on where it has it, takes no more part, and closes the store.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// A handle to the quorum path. Cheap to clone; clones share everything.
///
/// Writing: [`Quorum::propose`]. Reading: [`Quorum::state`] (this node's copy), [`Quorum::latest`]
/// (linearizable), [`Quorum::wait_for`] (a session's). Recording: [`Quorum::record`].
#[derive(Clone)]
pub struct Quorum {
    consensus: Arc<dyn Consensus>,
    published: Arc<ArcSwap<State>>,
    applied: watch::Receiver<u64>,
}

impl Quorum {
    /// The handle of a consensus that publishes what it has applied to `published`, and then the
    /// index to `applied`.
    pub fn new(
        consensus: Arc<dyn Consensus>,
        published: Arc<ArcSwap<State>>,
        applied: watch::Receiver<u64>,
    ) -> Self {
        Self { consensus, published, applied }
    }

    /// What this node has applied. Does not block.
    pub fn state(&self) -> Arc<State> {
        self.published.load_full()
    }

    /// As [`Quorum::state`], for a look in passing.
    pub fn glance(&self) -> arc_swap::Guard<Arc<State>> {
        self.published.load()
    }

    /// Proposes, until `deadline`.
    pub async fn propose(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Decided, ProposeError> {
        self.consensus.propose(proposal, deadline).await
    }

    /// A state that includes everything that was decided before the call.
    pub async fn latest(&self, deadline: Instant) -> Result<Arc<State>, ReadError> {
        if is_planted(Bug::LocalReadAsLinearizable) {
            return Ok(self.state());
        }
        let index = self.consensus.read_index(deadline).await?;
        let late = |_| ReadError::Unavailable("this node lags behind the quorum".into());
        self.wait_for(index, deadline).await.map_err(late)
    }

    /// A state that includes `index`, if one comes until `deadline`; else the one there is then.
    pub async fn wait_for(&self, index: u64, deadline: Instant) -> Result<Arc<State>, Arc<State>> {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| *applied >= index);
        let reached = tokio::time::timeout_at(deadline, reached).await;
        let is_reached = matches!(reached, Ok(Ok(_)));
        if is_reached { Ok(self.state()) } else { Err(self.state()) }
    }

    /// Turns with every index that is applied.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// Puts events on this node's audit chain; they are on disk when it returns.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), ReadError> {
        self.consensus.record(events).await
    }

    /// Says how far this node's audit chain is archived, and removes what is and need not stay.
    pub(crate) async fn archive(&self, archived: Archived) -> Result<(), StoreError> {
        self.consensus.archive(archived).await
    }

    /// This node's audit chain of the quorum, if it keeps one.
    pub fn chain(&self) -> Option<Arc<dyn ChainReader>> {
        self.consensus.chain()
    }

    /// A view of this node's store as it is now, for whoever copies it; none where it keeps none.
    pub(crate) async fn begin_read(&self) -> Result<Option<redb::ReadTransaction>, StoreError> {
        self.consensus.begin_read().await
    }

    /// How many rows each table of this node's file has, the file's length, and how much of that is
    /// live; none where it keeps none. Reads all of it.
    pub(crate) fn weigh(&self, disk: &dyn Disk) -> Result<Option<FileTally>, StoreError> {
        let Some(tx) = self.consensus.peek()? else { return Ok(None) };
        FileTally::of(&tx, &store::copy::TABLES, disk, store::tables::FILE).map(Some)
    }

    /// How old this node's copy may be.
    pub fn contact_age(&self) -> Duration {
        self.consensus.contact_age()
    }

    /// Changes the members, until `deadline`.
    pub async fn change(&self, change: MemberChange, deadline: Instant) -> Result<(), ChangeError> {
        self.consensus.change(change, deadline).await
    }

    /// How much of this node's file is live, in bytes; none where it keeps none. Reads all of it.
    pub(crate) async fn live_bytes(&self, blocking: &Blocking) -> Result<Option<u64>, StoreError> {
        let Some(tx) = self.begin_read().await? else { return Ok(None) };
        blocking.run(move || rebuild::live_bytes(&tx, &store::copy::TABLES)).await.map(Some)
    }

    /// Asks for this node's file to be rebuilt; see [`Consensus::rebuild`].
    pub(crate) fn rebuild(&self, live_bytes: u64) -> bool {
        self.consensus.rebuild(live_bytes)
    }

    /// How often that was done.
    pub(crate) fn rebuilt(&self) -> u64 {
        self.consensus.rebuilt()
    }

    /// Ends it in order.
    pub async fn shutdown(&self) {
        self.consensus.shutdown().await;
    }

    /// How the quorum stands, as this node sees it.
    pub fn status(&self) -> QuorumStatus {
        self.consensus.status()
    }
}
