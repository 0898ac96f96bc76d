//! Proposing: here where this node leads, else at the leader, again while nothing was done, and within
//! which time. What became of a proposal that is lost on its way is unknown, and is not tried again.

use std::sync::Weak;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Driver, Leader};
use crate::gossip::{AskError, StreamKind};
use crate::model::{NodeName, cbor};
use crate::quorum::forward::{Propose, Proposed};
use crate::quorum::types::TypeConfig;
use crate::quorum::{Decided, ProposeError};
use crate::registry::Proposal;
use crate::telemetry::TraceContext;

/// Why one attempt came to nothing.
enum Attempt {
    /// Nothing was done: it can be tried again.
    Again(&'static str),
    Final(ProposeError),
}

impl Driver {
    pub(super) async fn propose_somewhere(
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
        Err(ProposeError::Unavailable(why.into()))
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

/// Answers nodes that forward proposals. Weak, because the driver has the gossip that has this.
pub(super) struct Proposals(pub(super) Weak<Driver>);

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
