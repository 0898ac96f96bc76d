//! One running node: what handlers call. Reads are answered from the published snapshot; writes
//! go to the store and are pushed to the peers. It knows nothing of HTTP.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::access::{ReadPermit, WritePermit};
use crate::audit::{Behalf, Source};
use crate::config::{Snapshot, WriteError, WriteRequest, Written};
use crate::gossip::Gossip;
use crate::members::Members;
use crate::model::{DocumentId, Dot, Key, NodeName, Origin, RegionName, Told};
use crate::quorum::Quorum;
use crate::secrets::Keyring;
use crate::storage::history::Position;
use crate::storage::{HistoryPage, StoreError};
use crate::telemetry::Metrics;

pub mod audit;
mod backup;
mod catch_up;
pub mod certificates;
mod compaction;
mod elsewhere;
mod epochs;
pub mod feed;
mod folds;
mod gauges;
mod history;
mod keys;
mod metered;
pub mod receipts;
mod replica;
mod skew;
mod standing;
mod start;
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
pub use start::StartError;
pub use status::ClusterStatus;

use catch_up::CatchingUp;
use certificates::Certificates;
use feed::Hub;
use standing::Standing;
use status::MemberStatus;
use store::Store;
use transfer::Under;

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

impl Node {
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
        vector: &Told,
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

    /// Whether what a key had of this number and origin went, while others of the number stayed.
    pub async fn let_go(
        &self,
        permit: &ReadPermit,
        document: &DocumentId,
        key: &Key,
        version: u64,
        origin: Origin,
    ) -> Result<bool, StoreError> {
        if permit.document() != document || !permit.includes(key) {
            return Err(StoreError::Failed("the permit is for another read".into()));
        }
        self.0.store.let_go(document.clone(), key.clone(), version, origin).await
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
    pub fn receipts(&self, vector: &Told) -> Vec<RegionReceipt> {
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
            folded_origins: snapshot.vector.folds().len(),
            store: status::store_status(self.0.standing.counts(), snapshot.documents.len()),
            clock_offset_us: gossip.and_then(Gossip::clock_offset),
            evicted: self.0.members.evicted(),
            regions: status::regions(&topology, &own, gossip),
            quorum: self.0.quorum.status(),
            epochs: self.epochs(),
        }
    }
}
