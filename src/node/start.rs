//! Starting a node: its store first, then who it talks to, then the quorum, then what is done
//! behind it all. Where one of them does not start, nothing runs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::catch_up::CatchingUp;
use super::certificates::Certificates;
use super::compaction::Compaction;
use super::feed::Hub;
use super::replica::ConfigReplica;
use super::standing::{Standing, Watcher};
use super::store::{Sources, Store};
use super::transfer::{Giver, Taker, Under};
use super::trimming::Trimming;
use super::{Inner, Node, audit, elsewhere, gauges, history, keys, metered, skew};
use crate::env::{Disk, Env, WallClock};
use crate::gossip::{Gossip, GossipSettings, StreamKind};
use crate::members::{Bounds, Members};
use crate::model::{NodeName, RegionName, Stamp};
use crate::quorum::{self, Quorum, store as quorum_store};
use crate::secrets::KeyError;
use crate::settings::{AuditSettings, Settings};
use crate::storage::{StoreError, Writer, WriterSettings};
use crate::telemetry::Metrics;
use crate::topology::Topology;
use crate::transport::{self, EndpointError, Identity};

/// Why a node did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology has no such node.
    #[error("the topology has no node {0}")]
    UnknownNode(NodeName),
    /// The node's QUIC address is not one, or is not this machine's.
    #[error("the address {addr}: {why}")]
    Address {
        /// The address, as the topology writes it.
        addr: String,
        /// Why, in words.
        why: String,
    },
    /// QUIC does not start.
    #[error("QUIC: {0}")]
    Endpoint(#[from] EndpointError),
    /// The metrics cannot be set up.
    #[error("the metrics: {0}")]
    Metrics(String),
    /// The store cannot be opened.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// Consensus does not start.
    #[error("the quorum: {0}")]
    Quorum(String),
    /// The directory for segments of the audit log cannot be used.
    #[error("audit.archive_dir, {dir}: {why}")]
    Archive {
        /// Where it is.
        dir: String,
        /// Why, in words.
        why: String,
    },
    /// The master keys cannot be used, or are not those that the cluster uses.
    #[error("{0}")]
    Keys(#[from] KeyError),
}

impl Node {
    /// Opens the node's store, starts it, and starts to talk to its peers as `identity`.
    pub async fn start(
        env: Env,
        settings: &Settings,
        topology: Arc<Topology>,
        name: &NodeName,
        identity: &Identity,
    ) -> Result<Self, StartError> {
        let keyring = Arc::new(keys::ring(&settings.secrets)?);
        let region = own_region(&topology, name)?;
        let (env, metrics) = metered::metered(env)?;
        let archive = open_archive(&env, &settings.audit).await?;
        let writer = open_writer(&env, writer_settings(settings, &topology, name, &region)).await?;
        let standing = Arc::<Standing>::default();
        let counts = writer.counts();
        standing.set(counts, writer.origin());
        let observer = Watcher::new(&env, &writer, &standing, &metrics);
        let (hub, gossip) = (observer.hub.clone(), observer.gossip.clone());
        let quorum_store = open_quorum_store(&env, &topology, name).await?;
        let (stop, stopped) = watch::channel(false);
        // Until the first commit tells more.
        set_view(&metrics, &writer);
        let skew_max = settings.gossip.max_clock_skew;
        let (sources, decided) = sources(&env, settings, &gossip);
        let chain = writer.chain();
        let catching_up = CatchingUp::new(writer.published().load().vector.clone());
        let (store, driver) =
            Store::start(writer, env.blocking, sources, Arc::new(observer), stopped.clone());
        let failed = watch::Sender::new(false);
        let driver = tokio::spawn(supervise(driver, hub.clone(), stopped, failed.clone()));
        let members = members(&env, settings, &topology, name);
        if topology.is_open() {
            let replica = ConfigReplica { store: store.clone(), standing: standing.clone() };
            let started =
                start_gossip(&env, settings, members.clone(), name, identity, replica).await?;
            let _ = gossip.set(started);
        }
        let quorum = quorum::start(quorum::Start {
            env: &env,
            settings: &settings.quorum,
            members: members.clone(),
            node: name,
            region: &region,
            gossip: gossip.get().cloned(),
            store: quorum_store,
            metrics: metrics.clone(),
        })
        .await
        .map_err(StartError::Quorum)?;
        if let Err(error) = keys::check(&keyring, &quorum) {
            end_early(&quorum, gossip.get()).await;
            return Err(error.into());
        }
        let _ = decided.set(quorum.clone());
        let it = audit::Desk::open(name, chain, &quorum, &env, &metrics, &region, &settings.audit);
        let (desk, recorder) = (it.0, record(it.1, &store, gossip.get()));
        compact(&env, settings, (&store, &quorum), &metrics, &stop);
        let running = Running { env: &env, store: &store, metrics: &metrics, stop: &stop };
        let staged_bytes_max = settings.storage.staged_bytes_max;
        running.archive(&desk, archive, &topology.cluster, &settings.audit);
        let transfer = running.catch_up(gossip.get(), standing.clone(), staged_bytes_max);
        running.trim(gossip.get(), members.clone(), settings.epochs.log_keep);
        Ok(Self::of(Inner {
            certificates: Certificates::of(identity, gossip.get()),
            gauges: gauges::Gauges::new(&env, settings, &topology),
            name: name.clone(),
            region,
            members,
            store,
            hub,
            standing,
            metrics,
            alone: settings.alone,
            transfer,
            catching_up,
            gossip,
            quorum,
            desk,
            backups: Arc::new(Semaphore::new(1)),
            recorder,
            keyring,
            skew_max,
            stop,
            failed,
            driver: Mutex::new(Some(driver)),
            departure: elsewhere::Departure::default(),
        }))
    }

    /// The node, whose peers are told whether requests may be sent here as long as it lives.
    fn of(inner: Inner) -> Self {
        let (keyring, quorum) = (inner.keyring.clone(), inner.quorum.clone());
        tokio::spawn(keys::watch(keyring, quorum, inner.stop.subscribe()));
        let inner = Arc::new(inner);
        let weak = Arc::downgrade(&inner);
        let is_ready = move || weak.upgrade().is_some_and(|it| Self(it).readiness().is_ok());
        if let Some(gossip) = inner.gossip.get() {
            gossip.tell_readiness(is_ready);
        }
        Self(inner)
    }
}

/// What tasks beside the node's own are started with.
struct Running<'a> {
    env: &'a Env,
    store: &'a Store,
    metrics: &'a Arc<Metrics>,
    stop: &'a watch::Sender<bool>,
}

impl Running<'_> {
    /// Gives whole documents to peers, and takes them where they are the way to go on.
    fn catch_up(
        &self,
        gossip: Option<&Gossip>,
        standing: Arc<Standing>,
        staged_bytes_max: u64,
    ) -> Under {
        let under = Under::default();
        let Some(gossip) = gossip else { return under };
        gossip.serve(StreamKind::Documents, Giver::new(self.env, self.store, self.metrics.clone()));
        let taker = Taker {
            gossip: gossip.clone(),
            store: self.store.clone(),
            standing,
            disk: self.env.disk.clone(),
            staged_bytes_max,
            blocking: self.env.blocking,
            metrics: self.metrics.clone(),
            under: under.clone(),
        };
        tokio::spawn(taker.run(self.stop.subscribe()));
        under
    }

    /// Archives the audit chains, where there is a place for that.
    fn archive(
        &self,
        desk: &audit::Desk,
        disk: Option<Arc<dyn Disk>>,
        cluster: &str,
        settings: &AuditSettings,
    ) {
        let Some(disk) = disk else { return };
        let archiving = audit::archiving::Archiving {
            desk: desk.clone(),
            store: self.store.clone(),
            disk,
            clock: self.env.clock.clone(),
            cluster: cluster.to_owned(),
            settings: settings.clone(),
        };
        tokio::spawn(archiving.run(self.stop.subscribe()));
    }

    /// Trims the log behind everything else.
    fn trim(&self, gossip: Option<&Gossip>, members: Arc<Members>, keep: Duration) {
        let trimming = Trimming {
            store: self.store.clone(),
            gossip: gossip.cloned(),
            members,
            clock: self.env.clock.clone(),
            keep,
        };
        tokio::spawn(trimming.run(self.stop.subscribe()));
    }
}

/// The directory of archived segments, made where it is missing.
async fn open_archive(
    env: &Env,
    settings: &AuditSettings,
) -> Result<Option<Arc<dyn Disk>>, StartError> {
    let Some(dir) = settings.archive_dir.clone() else { return Ok(None) };
    let (disk, at) = (env.disk.clone(), dir.display().to_string());
    let opened = env.blocking.run(move || disk.directory(&dir)).await;
    opened.map(Some).map_err(|error| StartError::Archive { dir: at, why: error.to_string() })
}

type QuorumStore = (quorum_store::LogStore, quorum_store::StateMachine, quorum_store::StoreHandle);

async fn open_quorum_store(
    env: &Env,
    topology: &Topology,
    name: &NodeName,
) -> Result<QuorumStore, StoreError> {
    let settings = quorum_store::StoreSettings {
        cluster: topology.cluster.clone(),
        node: name.clone(),
        alone: !topology.is_open(),
    };
    let entropy = env.entropy.stream("quorum-store");
    let opened = quorum_store::open(env.disk.clone(), entropy, env.blocking, settings).await?;
    opened.2.record_damage(env.clock.now(), name).await?;
    Ok(opened)
}

fn own_region(topology: &Topology, name: &NodeName) -> Result<RegionName, StartError> {
    let region = topology.region_of(name).cloned();
    region.ok_or_else(|| StartError::UnknownNode(name.clone()))
}

/// Those of the topology for now. An incarnation that is not above those before, because the clock
/// was put back, is mended by what others say.
fn members(
    env: &Env,
    settings: &Settings,
    topology: &Arc<Topology>,
    name: &NodeName,
) -> Arc<Members> {
    let gossip = &settings.gossip;
    let bounds = Bounds { joined: gossip.evict_after, named: settings.evict_named_after() };
    let members = Members::new(topology.clone(), name, env.clock.now().0, bounds);
    Arc::new(members.announcing(env.release.features()))
}

async fn start_gossip(
    env: &Env,
    settings: &Settings,
    members: Arc<Members>,
    name: &NodeName,
    identity: &Identity,
    replica: ConfigReplica,
) -> Result<Gossip, StartError> {
    let addr = peer_addr(env, &members.topology(), name).await?;
    let endpoint = transport::endpoint(env, name, addr, identity)?;
    let gossip_settings = GossipSettings {
        push_queue_bytes_max: settings.gossip.queue_bytes_max,
        heartbeat: settings.gossip.anti_entropy_every,
        https: settings.tls.certificate_file.is_some(),
        evict_after: settings.evict_named_after(),
        ..GossipSettings::default()
    };
    let replica = Arc::new(replica);
    Ok(Gossip::start(env, gossip_settings, members, name, endpoint, replica))
}

/// Starts the audit desk's recorder, and gives what ends it.
fn record(
    recorder: audit::DeskRun,
    store: &Store,
    gossip: Option<&Gossip>,
) -> (watch::Sender<bool>, Mutex<Option<JoinHandle<()>>>) {
    let recording = watch::Sender::new(false);
    let task = recorder.start(store.clone(), gossip.cloned(), recording.subscribe());
    (recording, Mutex::new(Some(task)))
}

/// What there is before anything is committed.
fn set_view(metrics: &Metrics, writer: &Writer) {
    let counts = writer.counts();
    metrics.set_view(writer.published().load().documents.len(), counts.rows, counts.conflicts);
}

/// Looks after the stores' files.
fn compact(
    env: &Env,
    settings: &Settings,
    (store, quorum): (&Store, &Quorum),
    metrics: &Arc<Metrics>,
    stop: &watch::Sender<bool>,
) {
    let compaction = Compaction {
        store: store.clone(),
        quorum: quorum.clone(),
        disk: env.disk.clone(),
        blocking: env.blocking,
        metrics: metrics.clone(),
        settings: settings.storage.clone(),
    };
    tokio::spawn(compaction.run(stop.subscribe()));
}

/// Ends what a start that fails has begun.
async fn end_early(quorum: &Quorum, gossip: Option<&Gossip>) {
    quorum.shutdown().await;
    if let Some(gossip) = gossip {
        gossip.shutdown().await;
    }
}

fn writer_settings(
    settings: &Settings,
    topology: &Topology,
    name: &NodeName,
    region: &RegionName,
) -> WriterSettings {
    WriterSettings {
        cluster: topology.cluster.clone(),
        node: name.clone(),
        region: region.as_str().into(),
        value_bytes_max: settings.limits.value_bytes_max,
        documents_bytes_max: settings.limits.documents_bytes_max,
        waiting_bytes_max: settings.gossip.waiting_bytes_max,
        peers: topology.named().filter(|node| node.name != *name).count(),
    }
}

async fn open_writer(env: &Env, settings: WriterSettings) -> Result<Writer, StoreError> {
    let (disk, entropy) = (env.disk.clone(), env.entropy.stream("store"));
    env.blocking.run(move || Writer::open(settings, disk, entropy)).await
}

/// Waits for the driver's end. Where nobody asked for it, the node cannot go on: watchers are told,
/// and whoever runs the node.
async fn supervise(
    driver: JoinHandle<()>,
    hub: Arc<Hub>,
    stop: watch::Receiver<bool>,
    failed: watch::Sender<bool>,
) {
    let ended = driver.await;
    if *stop.borrow() && ended.is_ok() {
        return;
    }
    tracing::error!(?ended, "the store's driver ended: the node cannot go on");
    hub.close();
    failed.send_replace(true);
}

/// What the store's driver asks for, and where to put the quorum that it asks, once there is one.
fn sources(
    env: &Env,
    settings: &Settings,
    gossip: &Arc<OnceLock<Gossip>>,
) -> (Sources, Arc<OnceLock<Quorum>>) {
    let quorum = Arc::<OnceLock<Quorum>>::default();
    let skew_max = settings.gossip.max_clock_skew;
    let now = stamping_clock(env.clock.clone(), gossip.clone(), skew_max);
    let (policies, prune_every) = (history::policies(quorum.clone()), settings.storage.prune_every);
    (Sources { now, policies, prune_every }, quorum)
}

/// The clock for stamps: this machine's, or its peers' where it is too far off theirs.
fn stamping_clock(
    clock: Arc<dyn WallClock>,
    gossip: Arc<OnceLock<Gossip>>,
    skew_max: Duration,
) -> Arc<dyn Fn() -> Stamp + Send + Sync> {
    Arc::new(move || {
        let offset = gossip.get().and_then(Gossip::clock_offset);
        skew::stamp_time(clock.now(), offset, skew_max)
    })
}

/// Where the node's QUIC endpoint is to be bound: the address that the topology gives it.
async fn peer_addr(
    env: &Env,
    topology: &Topology,
    name: &NodeName,
) -> Result<SocketAddr, StartError> {
    let node = topology.node(name).ok_or_else(|| StartError::UnknownNode(name.clone()))?;
    let addr = node.peer.as_str();
    let failed = |why: String| StartError::Address { addr: addr.to_owned(), why };
    let found = env.net.lookup(addr).await.map_err(|e| failed(e.to_string()))?;
    found.first().copied().ok_or_else(|| failed("the name has no address".into()))
}
