//! Reading: up to which index everything is decided, confirmed here where this node leads, else by the
//! leader. Readers that wait together share a round.

use std::sync::Weak;

use futures_util::future::{BoxFuture, FutureExt as _};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, ReadPolicy};
use tokio::time::{Instant, timeout_at};

use super::{Driver, Leader};
use crate::gossip::StreamKind;
use crate::model::{NodeName, cbor};
use crate::quorum::ReadError;
use crate::quorum::confirm::confirm;
use crate::quorum::forward::ReadAt;

impl Driver {
    pub(super) async fn read_somewhere(&self, deadline: Instant) -> Result<u64, ReadError> {
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
}

/// Answers nodes that ask where to read.
pub(super) struct Reads(pub(super) Weak<Driver>);

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
