//! Streams for other rooms, on the connections that gossip keeps: a peer asks, or talks for as long
//! as it likes, and who has registered for the kind of stream answers. Each kind has its own
//! number of streams, so that none of them starves another. What is said is not looked at here.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::peer::Peer;
use crate::model::NodeName;
use crate::transport::frame::{self, FrameError, FrameReader};

/// Nobody here serves such streams, or knows their kind. Nothing was done.
const RESET_REFUSED: VarInt = VarInt::from_u32(1);
/// The peer has too many of them open. Nothing was done.
const RESET_BUSY: VarInt = VarInt::from_u32(2);
/// How long a peer may take to send its question, or to take the answer.
const TALK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a stream is for. Its number stands on the wire and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// Votes of the quorum, and what else it asks in one frame.
    QuorumVote,
    /// The quorum's log, for as long as a leader leads.
    QuorumAppend,
    /// The quorum's state, as a whole.
    QuorumSnapshot,
    /// Proposals, forwarded to the leader.
    QuorumPropose,
    /// Reads that the leader confirms.
    QuorumRead,
    /// Who a peer is in the quorum, and changes of its members.
    QuorumControl,
    /// Pages of the audit chain.
    Audit,
    /// Which certificates a node shows.
    Certificates,
    /// Whole documents, as of one cut.
    Documents,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::QuorumVote,
        Self::QuorumAppend,
        Self::QuorumSnapshot,
        Self::QuorumPropose,
        Self::QuorumRead,
        Self::QuorumControl,
        Self::Audit,
        Self::Certificates,
        Self::Documents,
    ];

    /// On the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::QuorumVote => 1,
            Self::QuorumAppend => 2,
            Self::QuorumSnapshot => 3,
            Self::QuorumPropose => 4,
            Self::QuorumRead => 5,
            Self::QuorumControl => 6,
            Self::Audit => 7,
            Self::Certificates => 8,
            Self::Documents => 9,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// How many streams of this kind a node opens to one peer; more wait their turn.
    pub const fn streams_max(self) -> usize {
        match self {
            // One that works, and one that replaces it.
            Self::QuorumSnapshot => 2,
            Self::Documents => 1,
            Self::QuorumPropose => 64,
            Self::QuorumVote | Self::QuorumRead => 32,
            _ => 8,
        }
    }

    /// Longest frame in either direction, in bytes.
    pub const fn frame_len_max(self) -> usize {
        match self {
            Self::QuorumVote => 64 * 1024,
            Self::QuorumRead => 1024,
            Self::QuorumControl | Self::Certificates => 256 * 1024,
            Self::QuorumAppend
            | Self::QuorumSnapshot
            | Self::QuorumPropose
            | Self::Audit
            | Self::Documents => frame::FRAME_LEN_MAX,
        }
    }
}

/// A stream that stands: frames in both directions.
pub struct PeerStream {
    /// What this side says.
    pub send: SendStream,
    /// What the peer says.
    pub frames: FrameReader<RecvStream>,
    /// Gives the place back when the stream is dropped.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// Serves streams of one kind.
pub trait StreamHandler: Send + Sync + 'static {
    /// Talks with `peer`, which opened the stream; the stream ends with the future. The future is
    /// dropped where the connection is lost.
    fn serve(&self, peer: NodeName, stream: PeerStream) -> BoxFuture<'static, ()>;
}

/// Answers questions of one kind.
pub trait Responder: Send + Sync + 'static {
    /// The answer to what `peer` asks; none where it makes no sense and nothing was done. The
    /// future is dropped where the connection is lost, or the peer waits no longer.
    fn answer(&self, peer: NodeName, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The question was not sent: the peer did nothing.
    #[error("it was not asked: {0}")]
    NotSent(String),
    /// The peer does not take such questions, or not now: it did nothing.
    #[error("it did not take the question: {0}")]
    Refused(&'static str),
    /// The question may have arrived: what the peer did with it is not known.
    #[error("it did not answer: {0}")]
    Lost(String),
}

/// The first frame of a stream that is no pull.
#[derive(Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) struct Tag {
    #[n(0)]
    pub(super) kind: u32,
}

/// Who serves which kind of streams.
#[derive(Default)]
pub(super) struct Handlers([OnceLock<Arc<dyn StreamHandler>>; StreamKind::ALL.len()]);

impl Handlers {
    fn get(&self, kind: StreamKind) -> Option<&Arc<dyn StreamHandler>> {
        self.0.get(kind as usize)?.get()
    }

    pub(super) fn set(&self, kind: StreamKind, handler: Arc<dyn StreamHandler>) {
        if let Some(place) = self.0.get(kind as usize)
            && place.set(handler).is_err()
        {
            tracing::error!(?kind, "two handlers for one kind of streams: the second is not used");
        }
    }
}

/// Room for streams with one peer: what this node opens, and what the peer does.
pub(super) struct Places(BTreeMap<StreamKind, (Arc<Semaphore>, Arc<Semaphore>)>);

impl Default for Places {
    fn default() -> Self {
        let places = |kind: StreamKind| {
            let out = Semaphore::new(kind.streams_max());
            // A stream that has ended there may not have ended here yet.
            let incoming = Semaphore::new(2 * kind.streams_max());
            (kind, (Arc::new(out), Arc::new(incoming)))
        };
        Self(StreamKind::ALL.into_iter().map(places).collect())
    }
}

impl Places {
    async fn outgoing(&self, kind: StreamKind) -> Option<OwnedSemaphorePermit> {
        let (outgoing, _) = self.0.get(&kind)?;
        outgoing.clone().acquire_owned().await.ok()
    }

    fn incoming(&self, kind: StreamKind) -> Option<OwnedSemaphorePermit> {
        let (_, incoming) = self.0.get(&kind)?;
        incoming.clone().try_acquire_owned().ok()
    }
}

/// One question, one answer.
struct OneAnswer {
    kind: StreamKind,
    responder: Arc<dyn Responder>,
}

impl StreamHandler for OneAnswer {
    fn serve(&self, peer: NodeName, mut stream: PeerStream) -> BoxFuture<'static, ()> {
        let (kind, responder) = (self.kind, self.responder.clone());
        async move {
            let question = timeout(TALK_TIMEOUT, stream.frames.next()).await;
            let Ok(Ok(Some(question))) = question else { return };
            let answer = tokio::select! {
                biased;
                answer = responder.answer(peer.clone(), question) => answer,
                // Nobody waits for it any more.
                _ = stream.send.stopped() => return,
            };
            let Some(answer) = answer.filter(|answer| answer.len() <= kind.frame_len_max()) else {
                tracing::debug!(%peer, ?kind, "no answer to a peer's question");
                let _ = stream.send.reset(RESET_REFUSED);
                return;
            };
            let written = timeout(TALK_TIMEOUT, frame::write_bytes(&mut stream.send, &answer));
            if matches!(written.await, Ok(Ok(()))) {
                let _ = stream.send.finish();
            }
        }
        .boxed()
    }
}

/// Registers who answers questions.
pub(super) fn respond(handlers: &Handlers, kind: StreamKind, responder: Arc<dyn Responder>) {
    handlers.set(kind, Arc::new(OneAnswer { kind, responder }));
}

/// Serves a stream that `peer` opened with `tag`.
pub(super) async fn serve(
    shared: &Shared,
    peer: &Peer,
    tag: &Tag,
    mut send: SendStream,
    frames: FrameReader<RecvStream>,
) {
    let kind = StreamKind::from_number(tag.kind);
    let known = kind.and_then(|kind| Some((kind, shared.handlers.get(kind)?)));
    let Some((kind, handler)) = known else {
        shared.count(|stats| stats.streams_refused += 1);
        let _ = send.reset(RESET_REFUSED);
        return;
    };
    let Some(place) = peer.places.incoming(kind) else {
        shared.count(|stats| stats.streams_refused += 1);
        let _ = send.reset(RESET_BUSY);
        return;
    };
    let frames = frames.with_len_max(kind.frame_len_max());
    handler.serve(peer.node.clone(), PeerStream { send, frames, place: Some(place) }).await;
}

/// Opens a stream to `peer`, on the connection that works best, until `deadline`.
pub(super) async fn open(
    shared: &Shared,
    peer: &NodeName,
    kind: StreamKind,
    deadline: Instant,
) -> Result<PeerStream, AskError> {
    let not_sent = |why: &str| AskError::NotSent(why.to_owned());
    let peer = shared.peer(peer).ok_or_else(|| not_sent("there is no such peer"))?;
    let open = async {
        let place = peer.places.outgoing(kind).await;
        // A place that came free because all gave up together.
        if Instant::now() >= deadline {
            return Err(not_sent("no stream in time"));
        }
        let connection = peer.connection().ok_or_else(|| not_sent("it is not connected"))?;
        let (mut send, receive) =
            connection.open_bi().await.map_err(|error| AskError::NotSent(error.to_string()))?;
        let tag = frame::write(&mut send, &Tag { kind: kind.number() }).await;
        tag.map_err(|error| AskError::NotSent(error.to_string()))?;
        let frames = FrameReader::new(receive, kind.frame_len_max());
        Ok(PeerStream { send, frames, place })
    };
    timeout_at(deadline, open).await.unwrap_or_else(|_| Err(not_sent("no stream in time")))
}

/// Asks `peer` one question.
pub(super) async fn ask(
    shared: &Shared,
    peer: &NodeName,
    kind: StreamKind,
    question: &[u8],
    deadline: Instant,
) -> Result<Bytes, AskError> {
    if question.len() > kind.frame_len_max() {
        return Err(AskError::NotSent("it is too long".into()));
    }
    let mut stream = open(shared, peer, kind, deadline).await?;
    let talk = async {
        // Where the peer refuses, this may fail; why is what it then says.
        let _ = frame::write_bytes(&mut stream.send, question).await;
        let _ = stream.send.finish();
        stream.frames.next().await?.ok_or(FrameError::Truncated)
    };
    match timeout_at(deadline, talk).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(refusal(&error).unwrap_or_else(|| AskError::Lost(error.to_string()))),
        Err(_) => Err(AskError::Lost("no answer in time".into())),
    }
}

/// What the peer said when it reset the stream.
fn refusal(error: &FrameError) -> Option<AskError> {
    let FrameError::Io(error) = error else { return None };
    let error = error.get_ref()?.downcast_ref::<ReadError>()?;
    match error {
        ReadError::Reset(code) if *code == RESET_REFUSED => {
            Some(AskError::Refused("it does not answer such questions"))
        }
        ReadError::Reset(code) if *code == RESET_BUSY => {
            Some(AskError::Refused("it has too many of them"))
        }
        _ => None,
    }
}
