//! The log, on one stream for as long as it works: the leader sends without waiting for answers,
//! which come in the same order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::{Instant, sleep_until};

use super::message::{Append, Appended, Basis, Opening};
use super::{Link, Ticked, failed, rpc_error, unreachable};
use crate::gossip::{PeerStream, StreamKind};
use crate::model::cbor;
use crate::quorum::contact::Contact;
use crate::quorum::types::{LogId, TypeConfig};
use crate::transport::frame::{self, FrameError};

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// A step that was sent: between which entries, and when.
struct Sent {
    prev: Option<LogId>,
    last: Option<LogId>,
    at: Instant,
}

/// A tick that is older than this is not given back: in the meantime clocks may have run at
/// different speeds.
const TICK_AGE_MAX: Duration = Duration::from_secs(60);

type Unanswered = Arc<Mutex<VecDeque<Sent>>>;

/// Sends what `input` gives; the answers, in order, are the stream.
pub(super) async fn stream<S>(
    link: &mut Link,
    input: S,
    option: RPCOption,
) -> Result<BoxStream<'_, Answer>, RPCError<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let mut input = input;
    // Waits as long as openraft wants to wait after a failure: it does so where it gives a request,
    // and a stream that fails before it asks for one would be opened again at once, for ever.
    let first = input.next().await;
    let deadline = Instant::now() + option.hard_ttl();
    let opened = link.gossip()?.open(&link.node, StreamKind::QuorumAppend, deadline).await;
    let PeerStream { mut send, frames, place } = opened.map_err(|error| rpc_error(&error))?;
    let unanswered = Unanswered::default();
    let (to, contact, sent) = (link.to, link.contact.clone(), unanswered.clone());
    let ticked = link.ticked.clone();
    let mut input = futures_util::stream::iter(first).chain(input);
    let writing = async move {
        frame::write(&mut send, &Opening { to }).await?;
        while let Some(request) = input.next().await {
            let prev = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(prev);
            let age = contact.majority_age().unwrap_or_default();
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let basis = basis(&contact, &ticked).unwrap_or_default();
            let bytes = cbor::encode(&Append::new(request, age_ms, basis));
            let step = Sent { prev, last, at: Instant::now() };
            sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(step);
            frame::write_bytes(&mut send, &bytes).await?;
        }
        let _ = send.finish();
        Ok::<_, FrameError>(())
    };
    let talk = Talk {
        writing: Some(writing.boxed()),
        frames,
        unanswered,
        patience: link.patience,
        ticked: link.ticked.clone(),
        is_over: false,
        _place: place,
    };
    let answers = futures_util::stream::unfold(talk, |mut talk| async move {
        let answer = talk.next().await?;
        Some((answer, talk))
    });
    Ok(answers.boxed())
}

/// What a member can prove with what is sent to it now, if there is something.
fn basis(contact: &Contact, ticked: &Ticked) -> Option<Basis> {
    let lead = contact.lead()?;
    let ticked = *ticked.lock().unwrap_or_else(PoisonError::into_inner);
    let ticked = ticked.filter(|(_, arrived)| arrived.elapsed() < TICK_AGE_MAX)?;
    Some(Basis::new(ticked, lead.at, lead.decided))
}

/// One stream under way.
struct Talk {
    writing: Option<BoxFuture<'static, Result<(), FrameError>>>,
    frames: frame::FrameReader<quinn::RecvStream>,
    unanswered: Unanswered,
    patience: Duration,
    ticked: Ticked,
    is_over: bool,
    _place: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Talk {
    /// The next answer; none at the end.
    async fn next(&mut self) -> Option<Answer> {
        if self.is_over {
            return None;
        }
        let answer = self.answer().await;
        // After anything but a success the stream is of no more use.
        self.is_over = !matches!(answer, Some(Ok(Ok(_))));
        answer
    }

    async fn answer(&mut self) -> Option<Answer> {
        loop {
            let oldest = self.unanswered().front().map(|sent| sent.at);
            if self.writing.is_none() && oldest.is_none() {
                return None;
            }
            let now = Instant::now();
            let overdue_at = oldest.unwrap_or(now) + self.patience;
            if now >= overdue_at {
                return Some(Err(failed("no answer in time").into()));
            }
            let writing = async {
                match &mut self.writing {
                    Some(writing) => writing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                frame = self.frames.next() => return Some(self.answered(frame)),
                written = writing => {
                    self.writing = None;
                    if let Err(error) = written {
                        return Some(Err(failed(error).into()));
                    }
                }
                // What was sent meanwhile is looked at then.
                () = sleep_until(overdue_at) => {}
            }
        }
    }

    fn unanswered(&self) -> std::sync::MutexGuard<'_, VecDeque<Sent>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, frame: Result<Option<bytes::Bytes>, FrameError>) -> Answer {
        let frame = frame.map_err(|error| RPCError::from(unreachable(error)))?;
        let frame = frame.ok_or_else(|| RPCError::from(failed("the stream ended")))?;
        let appended: Appended =
            cbor::decode(&frame).map_err(|error| RPCError::from(failed(error)))?;
        if let Some(tick) = appended.tick() {
            let now = Instant::now();
            *self.ticked.lock().unwrap_or_else(PoisonError::into_inner) = Some((tick, now));
        }
        let step = self.unanswered().pop_front();
        let result = step.and_then(|step| appended.result(step.prev, step.last));
        result.ok_or_else(|| failed("an answer to nothing").into())
    }
}
