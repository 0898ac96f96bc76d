//! Catching up by whole documents: asking a peer for them where it says so, or where a document does not
//! come to what was agreed, and sending them to who asks. What they mean is the store's business
//! (`storage::whole`); here are streams, times and bounds.
//!
//! One transfer at a time is taken, and a few are given. How long one takes in all is not bounded, as stores
//! may be large; one that does not get on is. One that breaks off leaves nothing: pulls go on, and their
//! answers lead here again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use self::giving::Giving;
use super::Standing;
use super::store::Store;
use crate::env::{Blocking, Disk, Env, WallClock};
use crate::gossip::{
    Advice, AskError, Gossip, Need, PeerStatus, PeerStream, StreamHandler, StreamKind,
};
use crate::model::{NodeName, Stamp};
use crate::storage::StoreError;
use crate::storage::whole::{Ask, CutReader, Staging, StagingError, Step};
use crate::storage::writer::{TakeError, Taken};
use crate::telemetry::Metrics;
use crate::transport::frame::{self, FrameError};

mod giving;

/// Transfers that are given at once: each holds on to a state of the store.
const GIVEN_MAX: usize = 2;
/// How long it may take to open a stream, and to ask.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may come, and how long a peer may take nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a sender may be at work without a piece that has something in it, or a document done with.
const STALL_MAX: Duration = Duration::from_secs(600);
/// Pieces are put aside together up to this many bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The first pause after a transfer that failed, doubled with each, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After a transfer, records are pulled for this long at least, however many they are.
const CHEAPER_REST: Duration = Duration::from_secs(60);
/// How often it is looked whether a document has to be fetched.
const MISMATCH_LOOK: Duration = Duration::from_secs(10);
/// How often a transfer says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    peer: NodeName,
    done: u64,
    documents: u64,
    bytes: u64,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { peer, done, documents, bytes } = self;
        let kib = bytes / 1024;
        write!(f, "whole documents come from {peer}: {done} of {documents}, {kib} KiB")
    }
}

/// The transfer that this node takes, if it does. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Under(Arc<Mutex<Option<Progress>>>);

impl Under {
    pub(super) fn way(&self) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, progress: Option<Progress>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// Why a transfer came to nothing. The store is as it was.
#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the peer ended it")]
    BrokenOff,
    #[error("it stalled")]
    Stalled,
    #[error("the peer takes it too slowly")]
    Slow,
    #[error("it was put aside in vain: {0}")]
    Staging(#[from] StagingError),
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error("it was not taken: {0}")]
    Take(#[from] TakeError),
}

/// Gives whole documents to peers.
pub(super) struct Giver {
    cuts: CutReader,
    blocking: Blocking,
    clock: Arc<dyn WallClock>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Giver {
    pub(super) fn new(env: &Env, store: &Store, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            cuts: store.cuts().clone(),
            blocking: env.blocking,
            clock: env.clock.clone(),
            places: Arc::new(Semaphore::new(GIVEN_MAX)),
            metrics,
        })
    }
}

impl StreamHandler for Giver {
    fn serve(&self, peer: NodeName, stream: PeerStream) -> BoxFuture<'static, ()> {
        let (cuts, blocking) = (self.cuts.clone(), self.blocking);
        let (now, metrics) = (self.clock.now(), self.metrics.clone());
        let place = self.places.clone().try_acquire_owned();
        async move {
            let Ok(_place) = place else {
                tracing::debug!(%peer, "too many transfers of whole documents at once");
                return;
            };
            let given = give(cuts, blocking, now, stream).await;
            metrics.documents_given(given.is_ok());
            match given {
                Ok(bytes) => tracing::info!(%peer, bytes, "gave whole documents to a peer"),
                Err(error) => tracing::warn!(%peer, %error, "could not give whole documents"),
            }
        }
        .boxed()
    }
}

/// Sends a cut as fast as the peer takes it; how many bytes that came to.
async fn give(
    cuts: CutReader,
    blocking: Blocking,
    now: Stamp,
    mut stream: PeerStream,
) -> Result<u64, TransferError> {
    let ask: Ask = timeout(OPEN_TIMEOUT, stream.frames.message())
        .await
        .map_err(|_| TransferError::Stalled)??;
    let reader = cuts.clone();
    let mut cut = blocking.run(move || reader.begin(&ask, now)).await?;
    let mut giving = Giving::new(&mut stream.send, move || cuts.is_open());
    loop {
        let done = cut.documents_done();
        let work = blocking.run(move || {
            let step = cut.step();
            (cut, step)
        });
        let (after, step) = giving.wait_for(work, done).await?;
        cut = after;
        match step? {
            Step::Piece(piece) => giving.say(&piece).await?,
            Step::Busy => giving.say_alive(cut.documents_done()).await?,
            Step::Done => break,
        }
    }
    drop(cut);
    giving.say_end().await?;
    let bytes = giving.bytes;
    let _ = stream.send.finish();
    Ok(bytes)
}

/// When a transfer last got on.
struct GotOn {
    /// What had come by then: bytes of pieces with something in them, and documents.
    progress: (u64, u64),
    at: Instant,
}

impl GotOn {
    fn new() -> Self {
        Self { progress: (0, 0), at: Instant::now() }
    }

    fn look(&mut self, progress: (u64, u64)) -> Result<(), TransferError> {
        if progress != self.progress {
            *self = Self { progress, at: Instant::now() };
        }
        match self.at.elapsed() > STALL_MAX {
            true => Err(TransferError::Stalled),
            false => Ok(()),
        }
    }
}

/// Takes whole documents where that is the way to go on.
pub(super) struct Taker {
    pub(super) gossip: Gossip,
    pub(super) store: Store,
    pub(super) standing: Arc<Standing>,
    pub(super) disk: Arc<dyn Disk>,
    /// Most bytes that are put aside.
    pub(super) staged_bytes_max: u64,
    pub(super) blocking: Blocking,
    pub(super) metrics: Arc<Metrics>,
    pub(super) under: Under,
}

impl Taker {
    /// Takes what it is sent to, until the node stops.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let work = self.take_for_ever();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = work => {}
        }
        self.under.set(None);
    }

    async fn take_for_ever(&self) {
        let disk = self.disk.clone();
        if let Err(error) = self.blocking.run(move || Staging::clear(&*disk)).await {
            tracing::warn!(%error, "what a transfer left could not be removed");
        }
        let mut advices = self.gossip.advice();
        let (mut failures, mut last_done) = (0_u32, None::<Instant>);
        loop {
            let Some((peer, need)) = self.next(&mut advices, failures).await else { return };
            let is_soon = last_done.is_some_and(|at| at.elapsed() < CHEAPER_REST);
            if need == Some(Need::Cheaper) && is_soon {
                continue;
            }
            tracing::info!(%peer, ?need, "catching up by whole documents");
            self.gossip.set_taking_documents(true);
            let started = Instant::now();
            let taken = self.take_from(&peer).await;
            self.under.set(None);
            self.gossip.set_taking_documents(false);
            self.metrics.documents_taken(taken.is_ok());
            match taken {
                Ok(Taken { documents, records, versions }) => {
                    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(%peer, documents, records, versions, ms, "took whole documents");
                    (failures, last_done) = (0, Some(Instant::now()));
                }
                Err(error) => {
                    tracing::warn!(%peer, %error, "whole documents were not taken");
                    sleep((PAUSE * (1 << failures.min(10))).min(PAUSE_MAX)).await;
                    failures += 1;
                }
            }
        }
    }

    /// The next peer to take documents from; none where gossip has ended.
    async fn next(
        &self,
        advices: &mut watch::Receiver<Option<Advice>>,
        failures: u32,
    ) -> Option<(NodeName, Option<Need>)> {
        loop {
            match timeout(MISMATCH_LOOK, advices.changed()).await {
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {
                    let advice = advices.borrow_and_update().clone();
                    if let Some(Advice { peer, need }) = advice {
                        return Some((peer, Some(need)));
                    }
                }
                Err(_) if self.standing.counts().documents_mismatched > 0 => {
                    if let Some(peer) = self.who_has_more(failures) {
                        return Some((peer, None));
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// A peer that has what is not here, the nearest first, and another one after each failure.
    fn who_has_more(&self, failures: u32) -> Option<NodeName> {
        let mine = self.store.snapshot().vector.clone();
        let has_more = |peer: &PeerStatus| {
            (peer.connected_out || peer.connected_in > 0) && !mine.covers(&peer.vector)
        };
        let mut peers: Vec<PeerStatus> = self.gossip.peers().into_iter().filter(has_more).collect();
        peers.sort_by(|a, b| a.rtt.cmp(&b.rtt).then_with(|| a.node.cmp(&b.node)));
        let at = failures as usize % peers.len().max(1);
        peers.into_iter().nth(at).map(|peer| peer.node)
    }

    async fn take_from(&self, peer: &NodeName) -> Result<Taken, TransferError> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let mut stream = self.gossip.open(peer, StreamKind::Documents, deadline).await?;
        let vector = self.store.snapshot().vector.told();
        timeout(OPEN_TIMEOUT, frame::write(&mut stream.send, &Ask::new(vector)))
            .await
            .map_err(|_| TransferError::Stalled)??;
        let _ = stream.send.finish();
        let (disk, bytes_max) = (self.disk.clone(), self.staged_bytes_max);
        let mut staging = self.blocking.run(move || Staging::begin(disk, bytes_max)).await?;
        let mut said_at = Instant::now();
        let mut got_on = GotOn::new();
        loop {
            let next = timeout(SILENCE_MAX, stream.frames.next()).await;
            let first = next.map_err(|_| TransferError::Stalled)??;
            let mut batch = vec![first.ok_or(TransferError::BrokenOff)?];
            let mut bytes = batch[0].len();
            while bytes < BATCH_BYTES {
                let Some(piece) = stream.frames.next_now()? else { break };
                bytes += piece.len();
                batch.push(piece);
            }
            let put = move || {
                let put = staging.push(batch.iter().map(|piece| &**piece));
                (staging, put)
            };
            let (after, is_complete) = self.blocking.run(put).await;
            staging = after;
            let is_complete = is_complete?;
            got_on.look(staging.progress())?;
            self.metrics.documents_bytes(bytes);
            let (done, documents) = staging.documents();
            let progress = Progress { peer: peer.clone(), done, documents, bytes: staging.bytes() };
            if said_at.elapsed() >= SAY_EVERY {
                tracing::info!(%progress, "catching up");
                said_at = Instant::now();
            }
            self.under.set(Some(progress));
            if is_complete {
                break;
            }
        }
        drop(stream);
        let whole = staging.complete().ok_or(TransferError::BrokenOff)?;
        Ok(self.store.take(whole).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_transfer_may_take_days_and_not_ten_minutes_without_getting_on() {
        let mut got_on = GotOn::new();
        for hour in 1..100 {
            for minute in 0..60 {
                advance(Duration::from_secs(60)).await;
                // A document now and then, and bytes now and then.
                got_on.look((hour, minute / 7)).unwrap();
            }
        }
        let mut minutes = 0;
        while got_on.look((99, 8)).is_ok() {
            advance(Duration::from_secs(60)).await;
            minutes += 1;
        }
        // The last news came three minutes before.
        assert!((7..=9).contains(&minutes), "{minutes}");
    }
}
