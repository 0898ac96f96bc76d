//! One running node: what handlers call. Reads are answered from the published snapshot; writes
//! go to the store and are pushed to the peers. It knows nothing of HTTP.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::{ReadPermit, WritePermit};
use crate::config::{Entry, Snapshot, WriteError, WriteRequest, Written};
use crate::env::{Env, WallClock};
use crate::model::{DocumentId, Dot, Key, NodeName, Origin, RegionName, Stamp, Vector};
use crate::settings::Settings;
use crate::storage::history::Position;
use crate::storage::writer::Counts;
use crate::storage::{Committed, StoreError, Writer, WriterSettings};
use crate::telemetry::Metrics;
use crate::topology::Topology;

pub mod feed;
pub mod receipts;
mod skew;
mod store;

pub use feed::{Feed, FeedEvent};
pub use receipts::{Ack, Receipts, RegionReceipt};

use feed::Hub;
use store::{Observer, Store};

/// Most documents kept in memory for writes and merges.
const DOCUMENTS_MAX: usize = 256;

/// A handle to a running node. Cheap to clone; clones share everything.
///
/// Reading: [`Node::snapshot`], [`Node::wait_for`], [`Node::history`], [`Node::feed`]. Writing:
/// [`Node::write`], [`Node::wait_for_receipts`]. Looking on: [`Node::readiness`],
/// [`Node::receipts`]. Ending: [`Node::shutdown`].
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: NodeName,
    region: RegionName,
    topology: Arc<Topology>,
    store: Store,
    hub: Arc<Hub>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    alone: bool,
    caught_up: AtomicBool,
    stop: watch::Sender<bool>,
    driver: Mutex<Option<JoinHandle<()>>>,
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
    /// The metrics cannot be set up.
    #[error("the metrics: {0}")]
    Metrics(String),
    /// The store cannot be opened.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
}

/// Tells everyone of what was committed.
struct Watcher {
    hub: Arc<Hub>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn WallClock>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Observer for Watcher {
    fn committed(&self, committed: &Committed, counts: Counts, origin: Origin, took: Duration) {
        let before = self.standing.set(counts, origin);
        self.hub.publish(&committed.touched);
        if committed.records == 0 && counts.quarantined == before.quarantined {
            return;
        }
        self.metrics.commit_done(took, committed.outcomes.len());
        let documents = self.published.load().documents.len();
        self.metrics.set_view(documents, counts.rows, counts.conflicts);
        self.metrics.set_database_bytes(counts.database_bytes);
        for needed in before.documents_needed..counts.documents_needed {
            let loaded = counts.documents_loaded - before.documents_loaded;
            self.metrics.document_needed(needed - before.documents_needed >= loaded);
        }
        let now = self.clock.now();
        for stamp in &committed.remote {
            let age = Duration::from_micros(now.0.saturating_sub(stamp.0));
            self.metrics.propagation_done(age);
        }
        for _ in before.quarantined..counts.quarantined {
            self.metrics.quarantined("record");
        }
    }
}

impl Standing {
    /// Sets what is known now, and gives what was known before.
    fn set(&self, counts: Counts, origin: Origin) -> Counts {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *standing, (counts, Some(origin))).0
    }

    fn get(&self) -> (Counts, Option<Origin>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Opens the node's store and starts it.
    pub async fn start(
        env: Env,
        settings: &Settings,
        topology: Arc<Topology>,
        name: &NodeName,
    ) -> Result<Self, StartError> {
        let region = topology.region_of(name).cloned();
        let region = region.ok_or_else(|| StartError::UnknownNode(name.clone()))?;
        let writer_settings = WriterSettings {
            cluster: topology.cluster.clone(),
            node: name.clone(),
            region: region.as_str().into(),
            value_bytes_max: settings.limits.value_bytes_max,
            documents_max: DOCUMENTS_MAX,
            waiting_bytes_max: settings.gossip.waiting_bytes_max,
            has_peers: topology.nodes().len() > 1,
        };
        let (disk, entropy) = (env.disk.clone(), env.entropy.stream("store"));
        let writer = env.blocking.run(move || Writer::open(writer_settings, disk, entropy)).await?;
        let hub = Arc::<Hub>::default();
        let standing = Arc::<Standing>::default();
        standing.set(writer.counts(), writer.origin());
        let metrics = Arc::new(Metrics::new().map_err(|e| StartError::Metrics(e.to_string()))?);
        let observer = Watcher {
            hub: hub.clone(),
            standing: standing.clone(),
            metrics: metrics.clone(),
            clock: env.clock.clone(),
            published: writer.published(),
        };
        let (stop, stopped) = watch::channel(false);
        let clock = env.clock.clone();
        let now: Arc<dyn Fn() -> Stamp + Send + Sync> = Arc::new(move || clock.now());
        let (store, driver) = Store::start(writer, env.blocking, now, Arc::new(observer), stopped);
        Ok(Self(Arc::new(Inner {
            name: name.clone(),
            region,
            topology,
            store,
            hub,
            standing,
            metrics,
            alone: settings.alone,
            caught_up: AtomicBool::new(false),
            stop,
            driver: Mutex::new(Some(driver)),
        })))
    }

    /// Stops taking commands, ends all feeds, and closes the store in order.
    pub async fn shutdown(&self) {
        self.0.hub.close();
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
        &self.0.topology.cluster
    }

    /// Whose changes it makes now.
    pub fn origin(&self) -> Origin {
        self.0.standing.get().1.unwrap_or(Origin([0; 8]))
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

    /// Carries out a write that `permit` allows. When it returns, the write is on this node's disk
    /// and visible here.
    pub async fn write(
        &self,
        permit: &WritePermit,
        request: WriteRequest,
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
        self.0.store.write(request).await
    }

    /// The writes of a key, newest first, strictly before `before`, at most `size` of them.
    pub async fn history(
        &self,
        permit: &ReadPermit,
        document: &DocumentId,
        key: &Key,
        before: Option<Position>,
        size: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        if permit.document() != document || !permit.includes(key) {
            return Err(StoreError::Failed("the permit is for another read".into()));
        }
        self.0.store.history(document.clone(), key.clone(), before, size).await
    }

    /// What changes in a document from now on. Subscribe before taking the snapshot that the
    /// watcher starts from.
    pub fn feed(&self, document: &DocumentId) -> Feed {
        self.0.hub.subscribe(document, self.0.store.published().clone())
    }

    /// What the node counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Which regions are known to include `vector`.
    pub fn receipts(&self, vector: &Vector) -> Vec<RegionReceipt> {
        let names: BTreeSet<RegionName> = self.0.topology.region_names();
        let nodes = [(self.0.region.clone(), self.snapshot().vector.clone())];
        receipts::receipts(names.iter(), &nodes, vector)
    }

    /// Waits until as many regions as `ack` asks for have the change on disk, at most `at_most`.
    pub async fn wait_for_receipts(&self, dot: Dot, ack: Ack, _at_most: Duration) -> Receipts {
        let wanted = [dot].into_iter().collect();
        let regions = self.receipts(&wanted);
        let has = regions.iter().filter(|receipt| receipt.has).count();
        Receipts { reached: has >= ack.count(regions.len()), regions }
    }

    /// Whether a balancer may send requests here: the node has caught up with a peer since its
    /// start, or is alone by choice. The error says what it waits for.
    pub fn readiness(&self) -> Result<(), String> {
        let is_alone = self.0.alone || self.0.topology.nodes().len() == 1;
        if is_alone || self.0.caught_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err("not yet caught up with a peer".into())
    }
}
