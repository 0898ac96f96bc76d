//! What consensus says to other nodes, on the connections that gossip keeps: votes and other short
//! questions, the log on one stream a peer, and the state as a whole. A message names the store
//! that it is for; another one, under the same node's name, does not take it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::alias::VoteOf;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::Instant;

use super::contact::Contact;
use super::types::{Coded, Member, RaftId, Snapshot, TypeConfig, Vote};
use crate::gossip::{AskError, Gossip, StreamKind};
use crate::model::{NodeName, cbor};
use crate::registry::State;

mod append;
mod message;
mod serve;
mod snapshot;

pub(super) use serve::{Appends, Server, Snapshots};

use message::{Answer, Question};

/// Makes a [`Link`] to each member.
#[derive(Clone)]
pub(super) struct Network {
    /// Absent where there is no other node.
    pub(super) gossip: Option<Gossip>,
    pub(super) contact: Arc<Contact>,
    /// How long a member may leave something unanswered on a stream.
    pub(super) patience: Duration,
}

/// A way to one member, for openraft.
pub(super) struct Link {
    gossip: Option<Gossip>,
    contact: Arc<Contact>,
    patience: Duration,
    to: RaftId,
    node: NodeName,
    /// The member's newest tick, and when it arrived.
    ticked: Ticked,
}

type Ticked = Arc<Mutex<Option<(u64, Instant)>>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: RaftId, member: &Member) -> Link {
        self.link(target, member)
    }
}

impl Network {
    /// A way to this member.
    pub(super) fn link(&self, target: RaftId, member: &Member) -> Link {
        Link {
            gossip: self.gossip.clone(),
            contact: self.contact.clone(),
            patience: self.patience,
            to: target,
            node: member.node.clone(),
            ticked: Ticked::default(),
        }
    }
}

fn unreachable(why: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(why)
}

fn failed(why: impl ToString) -> NetworkError<TypeConfig> {
    NetworkError::from_string(why)
}

/// What did not arrive is tried again after a pause, what was not answered at once.
fn rpc_error(error: &AskError) -> RPCError<TypeConfig> {
    match error {
        AskError::NotSent(_) | AskError::Refused(_) => unreachable(error).into(),
        AskError::Lost(_) => failed(error).into(),
    }
}

impl Link {
    fn gossip(&self) -> Result<&Gossip, RPCError<TypeConfig>> {
        self.gossip.as_ref().ok_or_else(|| unreachable("this node has no peers").into())
    }

    async fn ask(
        &self,
        question: Question,
        within: Duration,
    ) -> Result<Answer, RPCError<TypeConfig>> {
        let question = cbor::encode(&message::To { to: self.to, question });
        let deadline = Instant::now() + within;
        let asked =
            self.gossip()?.ask(&self.node, StreamKind::QuorumVote, &question, deadline).await;
        let answer = asked.map_err(|error| rpc_error(&error))?;
        cbor::decode(&answer).map_err(|error| failed(error).into())
    }
}

impl Link {
    /// The vote that the member holds: later than this call, it holds no earlier one.
    pub(super) async fn held(&self, within: Duration) -> Result<Vote, RPCError<TypeConfig>> {
        match self.ask(Question::Held, within).await? {
            Answer::Held(Coded(vote)) => Ok(vote),
            _ => Err(odd()),
        }
    }
}

fn odd() -> RPCError<TypeConfig> {
    failed("the answer is to another question").into()
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let one = futures_util::stream::iter([request]);
        let mut answers = append::stream(self, one, option).await?;
        match futures_util::StreamExt::next(&mut answers).await {
            Some(result) => Ok(result?.into()),
            None => Err(failed("the stream ended").into()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> openraft::base::BoxFuture<
        's,
        Result<
            openraft::base::BoxStream<
                's,
                Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>,
            >,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: futures_util::Stream<Item = AppendEntriesRequest<TypeConfig>>
            + OptionalSend
            + Unpin
            + 'static,
    {
        Box::pin(append::stream(self, input, option))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(Question::Vote(request.into()), option.hard_ttl()).await? {
            Answer::Vote(answer) => Ok(answer.into()),
            _ => Err(odd()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(Question::PreVote(request.into()), option.hard_ttl()).await? {
            Answer::Vote(answer) => Ok(answer.into()),
            _ => Err(odd()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: Snapshot<State>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = snapshot::send(self, vote, &snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(Question::Transfer(request.into()), option.hard_ttl()).await? {
            Answer::Transfer(answer) => Ok(answer.into()),
            _ => Err(odd()),
        }
    }
}
