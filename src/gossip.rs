//! Gossip: how changes reach every other node. A commit is pushed at once to every connected peer of
//! the own region and to one of each other, which passes it on (`tiers`); whatever a push misses,
//! anti-entropy brings: peers tell each other their vectors, and who lacks something pulls exactly
//! that, from whichever peer has it. So what A cannot send to C, C pulls from B. A record is opaque
//! here; what it means, and in which order it can be applied, is the [`Replica`]'s business.
//!
//! Each node dials every other member and owns the connection it dialed: it pushes
//! there, and nobody has to break ties. A queue to a slow peer is bounded; when it is full it is
//! dropped, and anti-entropy repairs.
//!
//! **No SWIM.** Members are the topology's and those that joined ([`crate::members`]), and the mesh is
//! full, so that every node sees for itself whom it hears: QUIC's acknowledgements are the failure
//! detector, and every `Have` says whom its sender hears, so that all know who is reachable only
//! through somebody else. Who joined and who left is told with the `Have`, where the receiver does
//! not know it. What SWIM (foca) would add, rumours with constant traffic a node, starts to matter
//! with members that are too many for a full mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rand::{Rng as _, RngCore as _};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::env::{Env, Stream};
use crate::members::Members;
use crate::model::{Feature, NodeName, RegionName, Vector};
use crate::transport::hello::{Announced, CLOSE_DONE, CLOSE_LEFT, Hello, PROTOCOL, PROTOCOL_MIN};
use crate::transport::{Endpoint, EndpointError, Identity};

mod accept;
mod acknowledged;
mod dial;
mod discover;
mod heard;
mod mesh;
mod message;
mod noise;
mod outbox;
mod peer;
mod pull;
mod replica;
mod settings;
mod state;
mod status;
pub mod streams;
mod tiers;
mod trust;

pub use acknowledged::{Acknowledged, Holder};
use mesh::Mesh;
use peer::Peer;
pub use replica::{Advice, Applied, ApplyError, Missing, Need, RECORD_LEN_MAX, Replica};
pub use settings::GossipSettings;
use state::State;
pub use status::{GossipStats, PeerStatus};
use streams::Handlers;
pub use streams::{AskError, PeerStream, Responder, StreamHandler, StreamKind};
use tiers::Tiers;

/// The running gossip of one node. Clones are one. Its methods, sorted: what happened here
/// (`push`, `advanced`), what is known of others (`peers`, `members`, `regions_covering`,
/// `acknowledged`, `clock_offset`, `changed`), whole documents instead of records (`advice`,
/// `set_taking_documents`), streams for other rooms (`serve`, `respond`, `open`, `ask`), who it is
/// (`replace_identity`), how it stands (`tell_readiness`, `drain`), numbers (`stats`), and the end
/// (`shutdown`).
#[derive(Clone)]
pub struct Gossip(Arc<Shared>);

/// What all tasks of one node's gossip share.
struct Shared {
    env: Env,
    settings: GossipSettings,
    members: Arc<Members>,
    node: NodeName,
    /// Absent where the topology doesn't have the node: then there are no peers either.
    region: Option<RegionName>,
    /// Drawn at the start, so that peers notice a restart.
    instance: u64,
    endpoint: Endpoint,
    /// Counts up when the endpoint has got another identity.
    identities: watch::Sender<u64>,
    replica: Arc<dyn Replica>,
    mesh: ArcSwap<Mesh>,
    /// Held while the mesh is brought up to date.
    meshing: Mutex<()>,
    state: Mutex<State>,
    /// Peers that said at their hello what was not understood: what they have seen of this node's origin
    /// is told to the store once it is.
    unwitnessed: Mutex<BTreeSet<NodeName>>,
    stats: Mutex<GossipStats>,
    /// Counts up when what is known of a peer's vector changes.
    changed: watch::Sender<u64>,
    /// Wakes the puller when there may be something to pull.
    behind: Notify,
    /// The last peer that sent this node to whole documents.
    advice: watch::Sender<Option<Advice>>,
    /// Whether whole documents are being taken: then nothing is pulled.
    takes_documents: AtomicBool,
    jitter: Mutex<Stream>,
    /// Handshakes that strangers may have open.
    handshakes: Arc<Semaphore>,
    /// Those that failed, as the log has them.
    noise: Mutex<noise::Noise>,
    /// Pulls that are answered at once.
    answers: Semaphore,
    /// Says whether this node is ready; absent until somebody knows.
    readiness: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    /// It goes: nobody should be sent here any more.
    drains: AtomicBool,
    /// Who serves streams of other rooms.
    handlers: Handlers,
    started_at: Instant,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Gossip {
    /// Starts to dial and to accept. `endpoint` is this node's alone. Where `node` is no member
    /// there are no peers that would take it, and nothing happens.
    pub fn start(
        env: &Env,
        settings: GossipSettings,
        members: Arc<Members>,
        node: &NodeName,
        endpoint: Endpoint,
        replica: Arc<dyn Replica>,
    ) -> Self {
        let shared = Arc::new(Shared::new(env, settings, members, node, endpoint, replica));
        shared.spawn(accept::accept(shared.clone()));
        shared.spawn(pull::pull(shared.clone()));
        shared.remesh();
        shared.spawn(trust::watch(shared.clone()));
        shared.spawn(mesh::follow(shared.clone()));
        for region in shared.members.topology().regions() {
            if let Some(name) = region.discover.clone() {
                shared.spawn(discover::discover(shared.clone(), region.name.clone(), name));
            }
        }
        Self(shared)
    }

    /// Sends records of a local commit, in their order, to every connected peer of this region, and
    /// to one of each other. Never waits. They must be on disk: nothing may be sent that a crash
    /// could take back.
    pub fn push(&self, records: &[Bytes]) {
        self.0.push(self.0.mesh().tiers.told(), records);
    }

    /// The replica's vector moved: peers are told, and what was missing may be there.
    pub fn advanced(&self) {
        self.0.advanced();
    }

    /// Every other member, by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        status::peers(&self.0)
    }

    /// For each node, who hears it: this node's own ears and what others say of theirs.
    pub fn members(&self) -> BTreeMap<NodeName, BTreeSet<NodeName>> {
        status::members(&self.0)
    }

    /// The regions that are known to have all of `vector` on disk, in some node of theirs.
    pub fn regions_covering(&self, vector: &Vector) -> BTreeSet<RegionName> {
        status::regions_covering(&self.0, vector)
    }

    /// What every member that is waited for is known to have on disk, and how each of them stands.
    pub fn acknowledged(&self) -> Acknowledged {
        acknowledged::acknowledged(&self.0)
    }

    /// How far this node's clock is from the cluster's, in microseconds: positive where the others
    /// are ahead. The median of what the peers show, this node's own clock among them, and the
    /// smaller offset of the middle two; absent where nobody was heard.
    pub fn clock_offset(&self) -> Option<i64> {
        self.0.state().clock_offset(Instant::now())
    }

    /// Changes when the vector of a peer is known to have moved.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The last peer that could not, or had better not, answer a pull with records.
    pub fn advice(&self) -> watch::Receiver<Option<Advice>> {
        self.0.advice.subscribe()
    }

    /// Whether whole documents are being taken: until they are, nothing is pulled.
    pub fn set_taking_documents(&self, is_taking: bool) {
        self.0.takes_documents.store(is_taking, Ordering::Relaxed);
        self.0.behind.notify_one();
    }

    /// `handler` serves the streams of this kind that peers open, from now on.
    pub fn serve(&self, kind: StreamKind, handler: Arc<dyn StreamHandler>) {
        self.0.handlers.set(kind, handler);
    }

    /// `responder` answers the questions of this kind that peers ask, from now on.
    pub fn respond(&self, kind: StreamKind, responder: Arc<dyn Responder>) {
        streams::respond(&self.0.handlers, kind, responder);
    }

    /// Opens a stream to `peer`, until `deadline`.
    pub async fn open(
        &self,
        peer: &NodeName,
        kind: StreamKind,
        deadline: Instant,
    ) -> Result<PeerStream, AskError> {
        streams::open(&self.0, peer, kind, deadline).await
    }

    /// What `peer` answers to `question`, if it does until `deadline`.
    pub async fn ask(
        &self,
        peer: &NodeName,
        kind: StreamKind,
        question: &[u8],
        deadline: Instant,
    ) -> Result<Bytes, AskError> {
        streams::ask(&self.0, peer, kind, question, deadline).await
    }

    /// Shows and believes something else from now on: every link of this node's is dialed anew
    /// beside the one that stands, and a connection to whom it does not believe any more is closed.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), EndpointError> {
        self.0.endpoint.replace_identity(identity)?;
        self.0.identities.send_modify(|count| *count += 1);
        Ok(())
    }

    /// `is_ready` says from now on whether requests may be sent here; peers are told.
    pub fn tell_readiness(&self, is_ready: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.0.readiness.set(Box::new(is_ready));
    }

    /// This node is going to stop: peers are told at once that nobody should be sent here.
    pub fn drain(&self) {
        self.0.drains.store(true, Ordering::Relaxed);
        for peer in self.0.mesh().peers.values() {
            peer.outbox.want_have();
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> GossipStats {
        self.0.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says goodbye to all peers and ends all tasks. Where this node joined, it leaves: the others
    /// forget it at once. A node that the file names only stops.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let topology = self.0.members.topology();
        if topology.node(&self.0.node).is_some_and(|own| own.joined) {
            self.0.endpoint.close(CLOSE_LEFT, b"the node leaves");
        } else {
            self.0.endpoint.close(CLOSE_DONE, b"the node stops");
        }
        self.0.tasks.close();
        let _ = timeout(SHUTDOWN_TIMEOUT, self.0.tasks.wait()).await;
        let _ = timeout(SHUTDOWN_TIMEOUT, self.0.endpoint.wait_idle()).await;
    }
}

/// Ending waits this long for tasks, and as long for goodbyes.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Handshakes of peers that have not said hello.
const HANDSHAKES_MAX: usize = 64;
/// Pulls that are answered at once: each holds some megabytes.
const ANSWERS_MAX: usize = 4;

impl Shared {
    fn new(
        env: &Env,
        settings: GossipSettings,
        members: Arc<Members>,
        node: &NodeName,
        endpoint: Endpoint,
        replica: Arc<dyn Replica>,
    ) -> Self {
        let jitter = env.entropy.stream("gossip-grace");
        let state = State::new(node, jitter, settings.grace, settings.heartbeat);
        let region = members.topology().region_of(node).cloned();
        let peers = BTreeMap::new();
        let tiers = Tiers::new(node, region.as_ref(), &peers);
        Self {
            instance: env.entropy.stream("gossip-instance").next_u64(),
            jitter: Mutex::new(env.entropy.stream("gossip-jitter")),
            env: env.clone(),
            settings,
            members,
            node: node.clone(),
            region,
            endpoint,
            identities: watch::Sender::new(0),
            replica,
            mesh: ArcSwap::from_pointee(Mesh { peers, tiers }),
            meshing: Mutex::default(),
            state: Mutex::new(state),
            unwitnessed: Mutex::default(),
            stats: Mutex::default(),
            changed: watch::Sender::new(0),
            behind: Notify::new(),
            advice: watch::Sender::new(None),
            takes_documents: AtomicBool::new(false),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            noise: Mutex::default(),
            answers: Semaphore::new(ANSWERS_MAX),
            readiness: OnceLock::new(),
            drains: AtomicBool::new(false),
            handlers: Handlers::default(),
            started_at: Instant::now(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Runs `task` until it ends or the node stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled_owned(task).await });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, add: impl FnOnce(&mut GossipStats)) {
        add(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// `time` give or take a fifth, so that nodes that failed together don't try together.
    fn jittered(&self, time: Duration) -> Duration {
        let factor =
            self.jitter.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.8..1.2);
        time.mul_f64(factor)
    }

    fn hello(&self) -> Hello {
        let topology = self.members.topology();
        let announced = topology.node(&self.node).filter(|own| own.joined);
        let announced = announced.map(|own| Announced {
            peer: own.peer.to_string(),
            http: own.http.to_string(),
            incarnation: self.members.incarnation(),
        });
        let hello = Hello {
            protocol: PROTOCOL,
            protocol_min: PROTOCOL_MIN,
            cluster: topology.cluster.clone(),
            node: self.node.as_str().to_owned(),
            region: self.region.iter().map(RegionName::as_str).collect(),
            origin: self.replica.origin(),
            instance: self.instance,
            now: self.env.clock.now(),
            vector: self.replica.vector().told(),
            announced,
            features: Some(self.members.features().clone()),
            https: Some(self.settings.https),
        };
        hello.known_to(self.env.release)
    }

    /// Whether this node is ready, where that is to be said: with heartbeats, and always once it is
    /// not any more for good. Nothing may be locked: to know it, the node looks at its peers.
    fn readiness(&self, is_heartbeat: bool) -> Option<bool> {
        if !self.members.features().has(Feature::Readiness) {
            return None;
        }
        if self.drains.load(Ordering::Relaxed) {
            return Some(false);
        }
        is_heartbeat.then(|| self.readiness.get().is_some_and(|is_ready| is_ready()))
    }

    fn push<'a>(&self, to: impl Iterator<Item = &'a Arc<Peer>>, records: &[Bytes]) {
        for peer in to {
            let dropped = peer.outbox.push(records, self.settings.push_queue_bytes_max);
            if dropped > 0 {
                self.count(|stats| stats.queue_drops += dropped);
                tracing::warn!(peer = %peer.node, dropped, "dropped the queue to a slow peer");
            }
        }
    }

    /// Passes on what the relay of a region was pushed by another one.
    fn pass_on(&self, records: &[Bytes]) {
        self.push(self.mesh().tiers.near().iter(), records);
    }

    fn advanced(&self) {
        self.state().advanced(&self.replica.vector(), Instant::now());
        for peer in self.mesh().tiers.told() {
            peer.outbox.want_have();
        }
        self.behind.notify_one();
    }
}

#[cfg(test)]
mod tests;
