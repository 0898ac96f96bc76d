//! The receiving side of consensus' messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::{StreamExt as _, stream};
use rand::RngCore as _;
use tokio::time::{Instant, timeout};

use super::message::{Answer, Append, Appended, Basis, Installed, Opening, Question, To};
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
    /// How long a leader waits for an answer: what it sent is not under way for longer.
    pub(in crate::quorum) patience: Duration,
}

/// What a step says of its leader, besides the log.
struct Told {
    /// When a majority had answered the leader, if the step was under way for no time.
    about: Option<Instant>,
    basis: Option<Basis>,
    committed: u64,
}

impl Told {
    fn of(append: &Append) -> Self {
        let about = Instant::now().checked_sub(Duration::from_millis(append.age_ms));
        Self { about, basis: append.basis, committed: append.committed() }
    }

    fn note(&self, contact: &Contact, patience: Duration) {
        let Some(about) = self.about else { return };
        contact.heard(about);
        let proven = match self.basis {
            Some(basis) => basis.tick.and_then(|tick| basis.since(contact.when(tick)?)),
            // The leader does not say. It would have given up on a step that was under way for
            // longer than this.
            None => about.checked_sub(patience),
        };
        let decided = self.basis.map_or(self.committed, |basis| basis.decided);
        if let Some(at) = proven {
            contact.proven(at, decided);
        }
    }
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
        let (contact, patience) = (self.contact.clone(), self.patience);
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
                let told = Told::of(&append);
                let request = append.request().ok()?;
                heard.lock().unwrap_or_else(PoisonError::into_inner).push_back(told);
                Some((request, frames))
            }
        });
        let mut answers = std::pin::pin!(self.raft.stream_append(requests.boxed()));
        while let Some(Ok(result)) = answers.next().await {
            let told = ages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let appended = Appended::new(&result, contact.tick());
            if let Some(told) = told
                && !matches!(appended, Appended::HigherVote(_))
            {
                told.note(&contact, patience);
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::quorum::contact;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn told(age_ms: u64, basis: Option<Basis>) -> Told {
        Told { about: Instant::now().checked_sub(ms(age_ms)), basis, committed: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_of_a_message_does_not_make_a_copy_younger() {
        let contact = contact::tests::contact().await;
        // The answer is 40 ms under way; 100 ms after its arrival the leader, which a majority had
        // answered 30 ms before, sends; and that is 700 ms under way.
        let tick = contact.tick();
        advance(ms(40)).await;
        let arrived = Instant::now();
        advance(ms(100)).await;
        let basis = Basis::new((tick, arrived), Instant::now() - ms(30), 0);
        advance(ms(700)).await;
        told(30, Some(basis)).note(&contact, ms(3_000));
        assert_eq!(contact.age(), ms(730 + 40), "what it is, and the answer's way");
        assert_eq!(contact.age_since_start(), Some(ms(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_proves_nothing_counts_as_a_sign_alone() {
        let contact = contact::tests::contact().await;
        let other = Basis { tick: Some(contact.tick() ^ (1 << 62)), later_us: 0, decided: 0 };
        for basis in [Basis::default(), other] {
            told(0, Some(basis)).note(&contact, ms(3_000));
        }
        assert_eq!(contact.age_since_start(), Some(Duration::ZERO));
        assert!(contact.age() > ms(1_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_knows_no_ticks_is_believed_but_for_the_longest_way() {
        let contact = contact::tests::contact().await;
        advance(ms(10_000)).await;
        told(20, None).note(&contact, ms(3_000));
        assert_eq!((contact.age(), contact.age_since_start()), (ms(3_020), Some(ms(20))));
    }
}
