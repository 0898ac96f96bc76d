//! The receiving side of consensus' messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::{StreamExt as _, stream};
use rand::RngCore as _;
use tokio::time::timeout;

use super::message::{Answer, Append, Appended, Installed, Opening, Question, To};
use super::snapshot::{self, Received};
use crate::env::Stream;
use crate::gossip::{PeerStream, Responder, StreamHandler};
use crate::model::{NodeName, cbor};
use crate::quorum::Raft;
use crate::quorum::contact::Contact;
use crate::quorum::types::{Coded, Runtime, Snapshot};
use crate::transport::frame;

/// How long a peer may take to say which store a stream is for, or to take an answer.
const TALK_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes what other members say.
#[derive(Clone)]
pub(in crate::quorum) struct Server {
    pub(in crate::quorum) raft: Raft,
    pub(in crate::quorum) contact: Arc<Contact>,
    /// For tasks that openraft starts on behalf of a message.
    pub(in crate::quorum) seeds: Arc<Mutex<Stream>>,
}

/// Streams of the log.
pub(in crate::quorum) struct Appends(pub(in crate::quorum) Server);
/// Snapshots.
pub(in crate::quorum) struct Snapshots(pub(in crate::quorum) Server);

impl Server {
    fn scoped<F: Future + Send + 'static>(&self, work: F) -> BoxFuture<'static, F::Output>
    where
        F::Output: Send,
    {
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        Runtime::scope(seed, work).boxed()
    }

    fn is_for_us(&self, to: u64) -> bool {
        *self.raft.node_id() == to
    }

    async fn opened(&self, peer: &NodeName, stream: &mut PeerStream) -> bool {
        let opening = timeout(TALK_TIMEOUT, stream.frames.message::<Opening>()).await;
        let is_for_us = matches!(opening, Ok(Ok(opening)) if self.is_for_us(opening.to));
        if !is_for_us {
            tracing::debug!(%peer, "a stream for another store of this node's");
            let _ = stream.send.reset(quinn::VarInt::from_u32(1));
        }
        is_for_us
    }

    async fn append(self, peer: NodeName, mut stream: PeerStream) {
        if !self.opened(&peer, &mut stream).await {
            return;
        }
        let PeerStream { mut send, frames, place: _place } = stream;
        let contact = self.contact.clone();
        // What openraft takes in is what its answers are to, in order.
        let ages = Arc::new(Mutex::new(std::collections::VecDeque::new()));
        let heard = ages.clone();
        let requests = stream::unfold(frames, move |mut frames| {
            let (heard, peer) = (heard.clone(), peer.clone());
            async move {
                let frame = frames.next().await.ok()??;
                let append = match cbor::decode::<Append>(&frame) {
                    Ok(append) => append,
                    Err(error) => {
                        tracing::warn!(%peer, %error, "a step of the log does not decode");
                        return None;
                    }
                };
                let age = Duration::from_millis(append.age_ms);
                let request = append.request().ok()?;
                let decided = request.leader_commit.map_or(0, |id| id.index);
                let told = (age, decided);
                heard.lock().unwrap_or_else(PoisonError::into_inner).push_back(told);
                Some((request, frames))
            }
        });
        let mut answers = std::pin::pin!(self.raft.stream_append(requests.boxed()));
        while let Some(Ok(result)) = answers.next().await {
            let told = ages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let appended = Appended::from(&result);
            if let Some((age, decided)) = told
                && !matches!(appended, Appended::HigherVote(_))
            {
                contact.heard(age, decided);
            }
            let written = timeout(TALK_TIMEOUT, frame::write(&mut send, &appended)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
        let _ = send.finish();
    }

    async fn install(self, peer: NodeName, mut stream: PeerStream) {
        if !self.opened(&peer, &mut stream).await {
            return;
        }
        let installed = match snapshot::receive(&mut stream).await {
            Ok(Received { vote, meta, state }) => {
                tracing::info!(%peer, index = state.index, "installs the quorum's state");
                let snapshot = Snapshot { meta, snapshot: state };
                match self.raft.install_full_snapshot(vote, snapshot).await {
                    Ok(response) => Installed::Vote(Coded(response.vote)),
                    Err(error) => Installed::Failed(error.to_string()),
                }
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "a snapshot was not taken");
                Installed::Failed(error.to_string())
            }
        };
        if matches!(
            timeout(TALK_TIMEOUT, frame::write(&mut stream.send, &installed)).await,
            Ok(Ok(()))
        ) {
            let _ = stream.send.finish();
        }
    }

    async fn question(self, question: Bytes) -> Option<Vec<u8>> {
        let To { to, question } = cbor::decode(&question).ok()?;
        if !self.is_for_us(to) {
            return None;
        }
        let answer = match question {
            // As openraft has it: what the metrics show may be older.
            Question::Held => {
                let held = self.raft.with_raft_state(|state| *state.vote_ref());
                Answer::Held(Coded(held.await.ok()?))
            }
            Question::Vote(ask) => Answer::Vote(self.raft.vote(ask.into()).await.ok()?.into()),
            Question::PreVote(ask) => {
                Answer::Vote(self.raft.pre_vote(ask.into()).await.ok()?.into())
            }
            Question::Transfer(ask) => {
                Answer::Transfer(self.raft.handle_transfer_leader(ask.into()).await.ok()?.into())
            }
        };
        Some(cbor::encode(&answer))
    }
}

impl StreamHandler for Appends {
    fn serve(&self, peer: NodeName, stream: PeerStream) -> BoxFuture<'static, ()> {
        self.0.scoped(self.0.clone().append(peer, stream))
    }
}

impl StreamHandler for Snapshots {
    fn serve(&self, peer: NodeName, stream: PeerStream) -> BoxFuture<'static, ()> {
        self.0.scoped(self.0.clone().install(peer, stream))
    }
}

/// Votes and transfers.
impl Responder for Server {
    fn answer(&self, _: NodeName, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        self.scoped(self.clone().question(question))
    }
}
