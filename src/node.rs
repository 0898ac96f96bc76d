//! One running node: what handlers call. Reads are answered from the published snapshot; writes
//! go to the store and are pushed to the peers. It knows nothing of HTTP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::access::{ReadPermit, WritePermit};
use crate::audit::{Behalf, Source};
use crate::config::{Snapshot, WriteError, WriteRequest, Written};
use crate::env::{Disk, Env, WallClock};
use crate::gossip::{Gossip, GossipSettings, StreamKind};
use crate::members::{Bounds, Members};
use crate::model::{DocumentId, Dot, Key, NodeName, Origin, RegionName, Stamp, Vector};
use crate::quorum::{self, Quorum, store as quorum_store};
use crate::secrets::{KeyError, Keyring};
use crate::settings::{AuditSettings, Settings};
use crate::storage::history::Position;
use crate::storage::writer::Counts;
use crate::storage::{Committed, HistoryPage, StoreError, Writer, WriterSettings};
use crate::telemetry::Metrics;
use crate::topology::Topology;
use crate::transport::{self, EndpointError, Identity};

pub mod audit;
mod backup;
mod catch_up;
pub mod certificates;
mod compaction;
mod elsewhere;
mod epochs;
pub mod feed;
mod gauges;
mod history;
mod keys;
mod metered;
pub mod receipts;
mod replica;
mod skew;
pub mod status;
mod store;
mod tally;
mod transfer;
mod trimming;

pub(crate) use backup::BackupError;
pub use elsewhere::Elsewhere;
pub use epochs::{DocumentEpoch, EpochStatus, HeldUpBy};
pub use feed::{Feed, FeedEvent};
pub use receipts::{Ack, Receipts, RegionReceipt};
pub use status::ClusterStatus;

use catch_up::CatchingUp;
use certificates::Certificates;
use compaction::Compaction;
use feed::Hub;
use replica::ConfigReplica;
use status::MemberStatus;
use store::{Observer, Sources, Store};
use transfer::{Giver, Taker, Under};
use trimming::Trimming;

/// A handle to a running node. Cheap to clone; clones share everything.
///
/// Reading: [`Node::snapshot`], [`Node::wait_for`], [`Node::history`], [`Node::feed`]. Writing:
/// [`Node::write`], [`Node::wait_for_receipts`]. Looking on: [`Node::readiness`],
/// [`Node::receipts`]. Who it is: [`Node::replace_identity`], [`Node::certificates`]. Ending:
/// [`Node::drain`], [`Node::elsewhere`], [`Node::shutdown`].
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: NodeName,
    region: RegionName,
    members: Arc<Members>,
    store: Store,
    hub: Arc<Hub>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    alone: bool,
    catching_up: CatchingUp,
    transfer: Under,
    gossip: Arc<OnceLock<Gossip>>,
    quorum: Quorum,
    desk: audit::Desk,
    /// Backups under way: one at a time, for each holds back what the stores would reuse.
    backups: Arc<Semaphore>,
    /// Stops the desk, which needs the store until then.
    recorder: (watch::Sender<bool>, Mutex<Option<JoinHandle<()>>>),
    keyring: Arc<Keyring>,
    certificates: Certificates,
    skew_max: Duration,
    gauges: gauges::Gauges,
    stop: watch::Sender<bool>,
    /// Turns true when the store's driver ends without having been asked to.
    failed: watch::Sender<bool>,
    driver: Mutex<Option<JoinHandle<()>>>,
    departure: elsewhere::Departure,
}

/// How the store stands, as its driver saw it last.
#[derive(Default)]
struct Standing(Mutex<(Counts, Option<Origin>)>);

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

/// Tells everyone of what was committed.
struct Watcher {
    hub: Arc<Hub>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn WallClock>,
    published: Arc<ArcSwap<Snapshot>>,
    gossip: Arc<OnceLock<Gossip>>,
}

impl Observer for Watcher {
    fn committed(&self, committed: &Committed, counts: Counts, origin: Origin, took: Duration) {
        let before = self.standing.set(counts, origin);
        if (committed.records > 0 || committed.reopened)
            && let Some(gossip) = self.gossip.get()
        {
            gossip.push(&committed.own);
            gossip.advanced();
        }
        if committed.reopened {
            self.hub.restart(&self.published.load());
        } else {
            self.hub.publish(&committed.touched);
        }
        if committed.records == 0 && counts.quarantined == before.quarantined {
            return;
        }
        self.metrics.commit_done(took, committed.outcomes.len());
        let documents = self.published.load().documents.len();
        self.metrics.set_view(documents, counts.rows, counts.conflicts);
        for needed in before.documents_needed..counts.documents_needed {
            let loaded = counts.documents_loaded - before.documents_loaded;
            self.metrics.document_needed(needed - before.documents_needed >= loaded);
        }
        self.metrics.set_documents_in_memory(counts.documents_bytes, counts.documents_evicted);
        let now = self.clock.now();
        for stamp in &committed.remote {
            let age = Duration::from_micros(now.0.saturating_sub(stamp.0));
            self.metrics.propagation_done(age);
        }
        self.metrics.quarantined(counts.quarantined.saturating_sub(before.quarantined));
    }

    fn tended(&self, counts: Counts) {
        self.metrics.set_pruned(counts.pruned.rows, counts.pruned.keys_left);
        self.metrics.set_rebuilt("config", counts.rebuilt);
        self.standing.set_log(counts);
    }
}

impl Watcher {
    fn new(env: &Env, writer: &Writer, standing: &Arc<Standing>, metrics: &Arc<Metrics>) -> Self {
        Self {
            hub: Arc::default(),
            standing: standing.clone(),
            metrics: metrics.clone(),
            clock: env.clock.clone(),
            published: writer.published(),
            gossip: Arc::default(),
        }
    }
}

impl Standing {
    /// Sets what is known now, and gives what was known before.
    fn set(&self, counts: Counts, origin: Origin) -> Counts {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *standing, (counts, Some(origin))).0
    }

    /// Takes note of how the log stands; all else is set with commits, which are counted by it.
    fn set_log(&self, counts: Counts) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.0.log_records = counts.log_records;
        standing.0.log_trimmed = counts.log_trimmed;
    }

    fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn origin(&self) -> Origin {
        let standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.1.unwrap_or(Origin([0; 8]))
    }
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
        running.archive(&desk, archive, &topology.cluster, &settings.audit);
        let transfer = running.catch_up(gossip.get(), standing.clone());
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

    /// The members of the cluster, and what their programs can do.
    pub fn members(&self) -> &Arc<Members> {
        &self.0.members
    }

    /// Stops taking commands, ends all feeds, and closes the store in order.
    pub async fn shutdown(&self) {
        self.0.hub.close();
        let (recording, recorder) = &self.0.recorder;
        recording.send_replace(true);
        let recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(recorder) = recorder
            && let Err(error) = recorder.await
        {
            tracing::error!(%error, "recording for the audit log ended badly");
        }
        if let Some(gossip) = self.0.gossip.get() {
            self.0.desk.hand_over(gossip, &self.0.region).await;
        }
        self.0.quorum.shutdown().await;
        if let Some(gossip) = self.0.gossip.get() {
            gossip.shutdown().await;
        }
        self.0.stop.send_replace(true);
        let driver = self.0.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver
            && let Err(error) = driver.await
        {
            tracing::error!(%error, "the store's driver ended badly");
        }
    }

    /// The node's name in the topology.
    pub fn name(&self) -> &NodeName {
        &self.0.name
    }

    /// The region the node stands in.
    pub fn region(&self) -> &RegionName {
        &self.0.region
    }

    /// Which cluster it belongs to.
    pub fn cluster_id(&self) -> &str {
        self.0.members.cluster()
    }

    /// Whose changes it makes now.
    pub fn origin(&self) -> Origin {
        self.0.standing.origin()
    }

    /// The store's handle.
    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The state that is on disk and visible. Does not block.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.store.snapshot()
    }

    /// A state that includes `vector`, if one comes within `at_most`; else, as the error, the one
    /// that is there then.
    pub async fn wait_for(
        &self,
        vector: &Vector,
        at_most: Duration,
    ) -> Result<Arc<Snapshot>, Arc<Snapshot>> {
        self.0.store.wait_for(vector, at_most).await
    }

    /// Carries out a write that `permit` allows and that came from `source`. When it returns, the
    /// write is on this node's disk, its audit record with it, and visible here.
    pub async fn write(
        &self,
        permit: &WritePermit,
        source: Source,
        mut request: WriteRequest,
    ) -> Result<Written, WriteError> {
        // A permit for something else is a fault of the caller's code, not of the user's request.
        let keys_allowed = if request.remove_all {
            permit.includes_every_key()
        } else {
            request.operations.iter().all(|operation| permit.includes(&operation.key))
        };
        if *permit.document() != request.document || !keys_allowed {
            tracing::error!(document = %request.document, "a write came with another write's permit");
            return Err(WriteError::StorageFailed("the permit is for another write".into()));
        }
        request.behalf = Some(Behalf { grant: permit.grant().clone(), source });
        self.0.store.write(request).await
    }

    /// The writes of a key, newest first, strictly before `before`, at most `size` of them, and
    /// no more than fit into `bytes_max`, but one at least.
    pub async fn history(
        &self,
        permit: &ReadPermit,
        document: &DocumentId,
        key: &Key,
        before: Option<Position>,
        size: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError> {
        if permit.document() != document || !permit.includes(key) {
            return Err(StoreError::Failed("the permit is for another read".into()));
        }
        self.0.store.history(document.clone(), key.clone(), before, size, bytes_max).await
    }

    /// The oldest write of a key that its history still has.
    pub async fn oldest(
        &self,
        permit: &ReadPermit,
        document: &DocumentId,
        key: &Key,
    ) -> Result<Option<Position>, StoreError> {
        if permit.document() != document || !permit.includes(key) {
            return Err(StoreError::Failed("the permit is for another read".into()));
        }
        self.0.store.oldest(document.clone(), key.clone()).await
    }

    /// All changes that this node has, in an order that can be applied.
    pub(crate) fn records(&self) -> Result<Vec<bytes::Bytes>, StoreError> {
        self.0.store.records()
    }

    /// How full the store's queue is, in percent.
    pub(crate) fn queued_percent(&self) -> usize {
        self.0.store.queued_percent()
    }

    /// What changes in a document from now on. Subscribe before taking the snapshot that the
    /// watcher starts from.
    pub fn feed(&self, document: &DocumentId) -> Feed {
        self.0.hub.subscribe(document, self.0.store.published().clone())
    }

    /// The quorum path.
    pub fn quorum(&self) -> &Quorum {
        &self.0.quorum
    }

    /// The generations of the master key that this node holds.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.0.keyring
    }

    /// What the node counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// How many regions have a node, by the topology or because one joined.
    pub fn region_count(&self) -> usize {
        self.0.members.topology().region_names().len()
    }

    /// Which regions are known to include `vector`.
    pub fn receipts(&self, vector: &Vector) -> Vec<RegionReceipt> {
        let names: BTreeSet<RegionName> = self.0.members.topology().region_names();
        let mut nodes = vec![(self.0.region.clone(), self.snapshot().vector.clone())];
        if let Some(gossip) = self.0.gossip.get() {
            nodes.extend(gossip.peers().into_iter().map(|peer| (peer.region, peer.vector)));
        }
        receipts::receipts(names.iter(), &nodes, vector)
    }

    /// Waits until as many regions as `ack` asks for have the change on disk, at most `at_most`.
    pub async fn wait_for_receipts(&self, dot: Dot, ack: Ack, at_most: Duration) -> Receipts {
        let wanted = [dot].into_iter().collect();
        let deadline = tokio::time::Instant::now() + at_most;
        let mut changed = self.0.gossip.get().map(Gossip::changed);
        loop {
            if let Some(changed) = &mut changed {
                changed.mark_unchanged();
            }
            let regions = self.receipts(&wanted);
            let has = regions.iter().filter(|receipt| receipt.has).count();
            if has >= ack.count(regions.len()) {
                return Receipts { reached: true, regions };
            }
            let more = match &mut changed {
                Some(changed) => tokio::time::timeout_at(deadline, changed.changed()).await,
                None => return Receipts { reached: false, regions },
            };
            if !matches!(more, Ok(Ok(()))) {
                return Receipts { reached: false, regions: self.receipts(&wanted) };
            }
        }
    }

    /// Returns when the node cannot go on: its store's driver ended without having been asked to.
    pub async fn failed(&self) {
        let mut failed = self.0.failed.subscribe();
        // The sender is as old as the node.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// Whether the node cannot go on.
    pub fn has_failed(&self) -> bool {
        *self.0.failed.borrow()
    }

    /// Whether a balancer may send requests here: since its start the node has got all that the
    /// peers had that it met first, or it is alone by choice. The error says what it waits for.
    pub fn readiness(&self) -> Result<(), String> {
        if self.has_failed() {
            return Err("the store's driver has ended".into());
        }
        if self.0.standing.counts().is_closed {
            return Err("the store is closed after a failure".into());
        }
        let is_alone = self.0.alone || self.0.gossip.get().is_none();
        if is_alone || self.0.catching_up.is_done() {
            return Ok(());
        }
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        self.0.catching_up.look(&peers, &self.snapshot().vector).map_err(|why| {
            let how = self.0.transfer.way().map(|progress| format!(": {progress}"));
            format!("{why}{}", how.unwrap_or_default())
        })
    }

    /// The cluster as this node sees it.
    pub fn cluster(&self) -> ClusterStatus {
        let snapshot = self.snapshot();
        let gossip = self.0.gossip.get();
        let readiness = self.readiness();
        let vector = status::vector_status(&snapshot.vector);
        let topology = self.0.members.topology();
        let place = topology.node(&self.0.name);
        let own = MemberStatus {
            node: self.0.name.clone(),
            peer: place.map(|node| node.peer.to_string()).unwrap_or_default(),
            http: place.map(|node| node.http.to_string()).unwrap_or_default(),
            joined: place.is_some_and(|node| node.joined),
            state: "self",
            heard_by: BTreeSet::new(),
            origin: Some(self.origin()),
            heard_ago_ms: None,
            rtt_ms: None,
            rtt_measured: false,
            lag_changes: 0,
            lag_ms: 0,
            queue_bytes: 0,
            clock_offset_us: None,
            features: status::feature_names(self.0.members.features()),
            vector: vector.clone(),
        };
        ClusterStatus {
            cluster: self.0.members.cluster().to_owned(),
            node: self.0.name.clone(),
            region: self.0.region.clone(),
            origin: self.origin(),
            ready: readiness.is_ok(),
            waits_for: readiness.err(),
            vector,
            store: status::store_status(self.0.standing.counts(), snapshot.documents.len()),
            clock_offset_us: gossip.and_then(Gossip::clock_offset),
            evicted: self.0.members.evicted(),
            regions: status::regions(&topology, &own, gossip),
            quorum: self.0.quorum.status(),
            epochs: self.epochs(),
        }
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
    fn catch_up(&self, gossip: Option<&Gossip>, standing: Arc<Standing>) -> Under {
        let under = Under::default();
        let Some(gossip) = gossip else { return under };
        gossip.serve(StreamKind::Documents, Giver::new(self.env, self.store, self.metrics.clone()));
        let taker = Taker {
            gossip: gossip.clone(),
            store: self.store.clone(),
            standing,
            disk: self.env.disk.clone(),
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
