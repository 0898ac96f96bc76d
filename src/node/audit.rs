//! The audit log as a node keeps it: what is to be recorded waits in a bounded queue, so that no
//! request waits for a disk (`recording`); peers are asked for their part of a page (`pages`),
//! and for the heads of their chains, which are remembered here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::Node;
use crate::audit::heads::{self, CHAINS, Heads, Heard, Told};
use crate::audit::page::{self, Filter, Slice, Stream, Way};
use crate::audit::summing::Kind;
use crate::audit::verify::hash_at;
use crate::audit::{ChainReader, Event, Head, Unreadable};
use crate::env::{Blocking, Disk};
use crate::gossip::{Gossip, Responder, StreamKind};
use crate::model::{NodeName, RegionName, cbor};
use crate::quorum::Quorum;
use crate::settings::AuditSettings;
use crate::storage::copies::Copies;
use crate::storage::{ConfigChain, StoreError};
use crate::telemetry::Metrics;

pub(super) use recording::DeskRun;

pub(super) mod archiving;
mod handover;
mod pages;
mod recording;
mod shipping;

#[cfg(test)]
pub(crate) use handover::COPIES_MAX;

/// Most events that wait to be recorded; what comes beside them is counted alone. Strangers take no
/// more than half of it.
const QUEUE_MAX: usize = 1_024;
/// How often peers are asked for the heads of their chains.
const HEADS_EVERY: Duration = Duration::from_secs(60);
/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The stores, in the order of their numbers.
const STORES: [&str; CHAINS] = ["config", "quorum"];

/// Which chain an event belongs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The config store's.
    Config,
    /// The quorum store's.
    Quorum,
}

/// Something to be recorded that nobody waits for.
struct Note {
    chain: Chain,
    /// What alike ones are summed by; none where each is recorded.
    kind: Option<Kind>,
    event: Event,
}

/// What a node does for its audit log. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk(Arc<Inner>);

struct Inner {
    node: NodeName,
    notes: mpsc::Sender<Note>,
    /// Events that were not recorded since this was last recorded itself.
    dropped: AtomicU64,
    config: ConfigChain,
    quorum: Quorum,
    blocking: Blocking,
    heads: Mutex<Heads>,
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
    /// What peers shipped, or handed over as they drained.
    copies: Copies,
    /// Walks along whole chains, one at a time.
    walks: Arc<Semaphore>,
}

/// What a peer is asked.
#[derive(Debug, PartialEq, Encode, Decode)]
enum Question {
    /// For its part of a page.
    #[n(0)]
    Page(#[n(0)] Way, #[n(1)] [u64; 3], #[n(2)] Filter, #[n(3)] u32),
    /// For the heads of its chains, and what it has under these numbers.
    #[n(1)]
    Heads(#[n(0)] [u64; CHAINS]),
    /// For the heads that it remembers of the asker.
    #[n(2)]
    Remembered,
    /// To keep these records of the asker's chain of that number, and to say what it keeps then.
    #[n(3)]
    /// Where it keeps none, the copy may begin behind that head, if there is one: what is before it is
    /// archived.
    Keep(#[n(0)] u32, #[n(1)] Vec<ByteVec>, #[n(2)] Option<Head>),
    /// Which copies of chains it keeps.
    #[n(4)]
    Copies,
    /// For a part of a page out of the copy that it keeps of a node's chains.
    #[n(5)]
    CopiedPage(#[n(0)] String, #[n(1)] Way, #[n(2)] [u64; 3], #[n(3)] Filter, #[n(4)] u32),
    /// For the heads that it remembers of a node.
    #[n(6)]
    RememberedOf(#[n(0)] String),
}

/// What it answers, each to its question.
#[derive(Debug, PartialEq, Encode, Decode)]
enum Answer {
    #[n(0)]
    Page(#[n(0)] [Slice; 3]),
    #[n(1)]
    Heads(#[n(0)] [Told; CHAINS]),
    #[n(2)]
    Remembered(#[n(0)] [Head; CHAINS]),
    #[n(3)]
    Kept(#[n(0)] [Head; CHAINS]),
    #[n(4)]
    Copies(#[n(0)] BTreeMap<String, [Head; CHAINS]>),
}

impl Desk {
    /// The desk of `node`, and what runs it until `stop`.
    pub(super) fn open(
        node: &NodeName,
        config: ConfigChain,
        quorum: &Quorum,
        env: &crate::env::Env,
        metrics: &Arc<Metrics>,
        region: &RegionName,
        settings: &AuditSettings,
    ) -> (Self, DeskRun) {
        let (notes, receiver) = mpsc::channel(QUEUE_MAX);
        let disk = env.disk.clone();
        let heads = disk.read(heads::FILE).ok().flatten();
        let heads = heads.and_then(|bytes| cbor::decode(&bytes).ok()).unwrap_or_default();
        let this = Self(Arc::new(Inner {
            node: node.clone(),
            notes,
            dropped: AtomicU64::new(0),
            config,
            quorum: quorum.clone(),
            blocking: env.blocking,
            heads: Mutex::new(heads),
            copies: Copies::new(disk.clone(), settings.copies_bytes_max),
            disk,
            metrics: metrics.clone(),
            walks: Arc::new(Semaphore::new(1)),
        }));
        let run = DeskRun {
            desk: this.clone(),
            receiver,
            clock: env.clock.clone(),
            region: region.clone(),
            settings: settings.clone(),
        };
        (this, run)
    }

    /// What the copies of peers' chains take, in bytes.
    pub(super) fn copied_bytes(&self) -> Result<u64, StoreError> {
        let no_records: [&[u8]; 0] = [];
        self.0.copies.append("", 0, &no_records).map(|copied| copied.bytes)
    }

    /// The config store's chain.
    pub(super) fn config(&self) -> &ConfigChain {
        &self.0.config
    }

    fn note(&self, note: Note) {
        let is_full = note.event.is_strangers() && self.0.notes.capacity() < QUEUE_MAX / 2;
        if is_full || self.0.notes.try_send(note).is_err() {
            self.drop_notes(1);
        }
    }

    /// How many events wait, and how many may.
    pub(super) fn taken(&self) -> (&'static str, usize, usize) {
        let notes = &self.0.notes;
        ("audit_notes", notes.max_capacity() - notes.capacity(), notes.max_capacity())
    }

    fn drop_notes(&self, count: u64) {
        self.0.dropped.fetch_add(count, Ordering::Relaxed);
        self.0.metrics.audit_dropped(count);
    }

    fn heads(&self) -> std::sync::MutexGuard<'_, Heads> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something on this node's chains, where it may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn ChainReader, Option<&dyn ChainReader>) -> T + Send + 'static,
    ) -> T {
        self.read_with((), read).await
    }

    /// The same, holding `permit` until it is done, whoever waits for it.
    async fn read_with<P: Send + 'static, T: Send + 'static>(
        &self,
        permit: P,
        read: impl FnOnce(&dyn ChainReader, Option<&dyn ChainReader>) -> T + Send + 'static,
    ) -> T {
        let (config, quorum) = (self.0.config.clone(), self.0.quorum.chain());
        self.0.blocking.run_with(permit, move || read(&config, quorum.as_deref())).await
    }

    async fn slices(
        &self,
        way: Way,
        places: [u64; 3],
        filter: Filter,
        size: usize,
    ) -> Result<[Slice; 3], Unreadable> {
        self.read(move |config, quorum| slices_of(config, quorum, way, places, &filter, size)).await
    }

    /// Where this node's chains stand, and what they have under these numbers.
    async fn told(&self, at: [u64; CHAINS]) -> Result<[Told; CHAINS], Unreadable> {
        let tell = |chain: &dyn ChainReader, seq| {
            // Before the look at the record: meanwhile it may go.
            let (head, remembered) = (chain.head()?, hash_at(chain, seq)?);
            Ok(Told { head, remembered, archived: chain.archived()?.base.seq })
        };
        let nothing = Told { head: Head::default(), remembered: None, archived: 0 };
        self.read(move |config, quorum| {
            let quorum = quorum.map(|chain| tell(chain, at[1])).transpose()?;
            Ok([tell(config, at[0])?, quorum.unwrap_or(nothing)])
        })
        .await
    }

    async fn answer(&self, peer: &NodeName, question: Question) -> Result<Answer, Unreadable> {
        match question {
            Question::Page(way, places, filter, size) => {
                self.slices(way, places, filter, size as usize).await.map(Answer::Page)
            }
            Question::Heads(at) => self.told(at).await.map(Answer::Heads),
            Question::Remembered => Ok(Answer::Remembered(self.heads().of(peer.as_str()))),
            Question::RememberedOf(node) => Ok(Answer::Remembered(self.heads().of(&node))),
            Question::Keep(chain, records, base) => {
                self.keep(peer.clone(), chain as usize, records, base).await.map(Answer::Kept)
            }
            Question::Copies => self.copied_heads().await.map(Answer::Copies),
            Question::CopiedPage(node, way, places, filter, size) => {
                let slices = self.copied_slices(node, way, places, filter, size as usize);
                slices.await.map(Answer::Page)
            }
        }
    }

    /// Asks a peer; none where it does not answer, or nonsense.
    async fn ask(&self, gossip: &Gossip, peer: &NodeName, question: &Question) -> Option<Answer> {
        let (bytes, deadline) = (cbor::encode(question), Instant::now() + PATIENCE);
        let answer = gossip.ask(peer, StreamKind::Audit, &bytes, deadline).await;
        let answer = answer.map_err(|error| error.to_string());
        let answer = answer.and_then(|it| cbor::decode(&it).map_err(|error| error.to_string()));
        answer.map_err(|why| tracing::debug!(%peer, why, "no answer about the audit log")).ok()
    }

    /// Asks all peers where their chains stand, and remembers what follows.
    async fn ask_heads(&self, gossip: &Gossip) {
        let peers: Vec<NodeName> = gossip.peers().into_iter().map(|peer| peer.node).collect();
        let mut changed = false;
        for peer in peers {
            let question = Question::Heads(self.heads().of(peer.as_str()).map(|head| head.seq));
            let Some(Answer::Heads(told)) = self.ask(gossip, &peer, &question).await else {
                continue;
            };
            for (chain, told) in told.into_iter().enumerate() {
                match self.heads().hear(peer.as_str(), chain, told) {
                    Heard::Known => {}
                    Heard::Followed => changed = true,
                    Heard::Broken => {
                        self.0.metrics.audit_broken();
                        tracing::error!(
                            %peer,
                            store = STORES[chain],
                            "a peer's audit chain does not follow from what is remembered of it"
                        );
                    }
                }
            }
        }
        if changed {
            self.keep_heads().await;
        }
    }

    async fn keep_heads(&self) {
        let (bytes, disk) = (cbor::encode(&*self.heads()), self.0.disk.clone());
        let kept = self.0.blocking.run(move || disk.write(heads::FILE, &bytes, true)).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "the heads of peers' audit chains were not kept");
        }
    }
}

/// A node's part of a page, out of its chains or a copy of them.
fn slices_of(
    config: &dyn ChainReader,
    quorum: Option<&dyn ChainReader>,
    way: Way,
    places: [u64; 3],
    filter: &Filter,
    size: usize,
) -> Result<[Slice; 3], Unreadable> {
    let mut slices = [(); 3].map(|()| Slice { ended: true, ..Slice::default() });
    for ((stream, slice), place) in Stream::ALL.into_iter().zip(&mut slices).zip(places) {
        let chain = if stream == Stream::Config { Some(config) } else { quorum };
        if let Some(chain) = chain {
            *slice = page::slice(chain, stream, filter, way, place, size)?;
        }
    }
    Ok(slices)
}

/// Answers peers. Gossip keeps this, and the desk keeps the quorum, which keeps gossip: were this not
/// weak, a node that was dropped would hold on to its socket.
struct Answers(Weak<Inner>);

impl Responder for Answers {
    fn answer(&self, peer: NodeName, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        let desk = self.0.clone();
        async move {
            let this = Desk(desk.upgrade()?);
            let question: Question = cbor::decode(&question).ok()?;
            let answer = Desk::answer(&this, &peer, question).await;
            answer.map(|answer| cbor::encode(&answer)).ok()
        }
        .boxed()
    }
}

async fn ask_heads(desk: Desk, gossip: Gossip, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(HEADS_EVERY) => {}
        }
        desk.ask_heads(&gossip).await;
    }
}

impl Node {
    /// Takes note of an attempt that was denied; alike ones are summed. Never waits.
    pub fn audit_denied(&self, chain: Chain, kind: Kind, event: Event) {
        self.0.desk.note(Note { chain, kind: Some(kind), event });
    }

    /// Takes note of one read of a configuration. Never waits.
    pub fn audit_read(&self, event: Event) {
        self.0.desk.note(Note { chain: Chain::Config, kind: None, event });
    }

    /// Asks all peers for their heads now, rather than within a minute.
    #[cfg(test)]
    pub(crate) async fn audit_ask_heads(&self) {
        if let Some(gossip) = self.0.gossip.get() {
            self.0.desk.ask_heads(gossip).await;
        }
    }
}
