//! What `/metrics` shows of a node that is not counted where it happens, but looked up when somebody
//! asks. It changes nothing and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{Node, skew};
use crate::env::{Blocking, Disk, Env};
use crate::gossip::{Gossip, PeerStatus};
use crate::model::vector::VECTOR_ORIGINS_MAX;
use crate::quorum::{QuorumStatus, Times};
use crate::settings::{EpochSettings, Settings};
use crate::telemetry::{
    EpochStanding, Metrics, NodeStanding, PeerStanding, QuorumStanding, STORES,
};
use crate::topology::Topology;

/// What only the gauges need to know.
pub(super) struct Gauges {
    pub(super) disk: Arc<dyn Disk>,
    blocking: Blocking,
    /// From which age of the last contact on there is no quorum.
    pub(super) cut_off_after: Duration,
    /// The caps that epochs are held to.
    pub(super) epochs: EpochSettings,
    policy_age_max: Duration,
    queue_bytes_max: usize,
}

impl Gauges {
    pub(super) fn new(env: &Env, settings: &Settings, topology: &Topology) -> Self {
        Self {
            disk: env.disk.clone(),
            blocking: env.blocking,
            cut_off_after: Times::new(topology, &settings.quorum).cut_off_after(),
            epochs: settings.epochs.clone(),
            policy_age_max: settings.access.island_token_max_age,
            queue_bytes_max: settings.gossip.queue_bytes_max,
        }
    }
}

impl Node {
    /// Brings the metrics up to date that are read from elsewhere: called before they are shown.
    pub async fn refresh_metrics(&self) {
        let metrics = &self.0.metrics;
        let quorum = self.0.quorum.status();
        let contact_age = Duration::from_millis(quorum.contact_age_ms);
        metrics.set_quorum(&QuorumStanding {
            role: quorum.role.clone(),
            is_available: quorum.leader.is_some() && contact_age < self.0.gauges.cut_off_after,
            term: quorum.term,
            applied: quorum.applied,
            last: quorum.last_log,
            contact_age,
            voters: quorum.members.iter().filter(|member| member.voter).count(),
        });
        let offset = self.0.gossip.get().and_then(Gossip::clock_offset);
        let counts = self.0.standing.counts();
        metrics.set_node(&NodeStanding {
            is_ready: self.readiness().is_ok(),
            is_healthy: !self.has_failed() && !counts.is_closed,
            is_quorum_store_open: !quorum.store_failed,
            policy_age: contact_age,
            policy_age_max: self.0.gauges.policy_age_max,
            clock_skew: offset.map(|offset| -offset as f64 / 1e6),
            clock_skew_max: self.0.skew_max,
            forks: counts.forks,
            records_waiting: counts.waiting,
            evicted: self.0.members.evicted().len(),
        });
        for (kind, facts) in self.certificate_ends() {
            metrics.set_certificate_end(kind, facts.not_after);
        }
        metrics.set_rebuilt("quorum", self.0.quorum.rebuilt());
        self.refresh_peers(&quorum);
        metrics.set_log(counts.log_records, counts.log_trimmed);
        let (epochs, vector) = (self.epochs(), self.snapshot().vector.clone());
        metrics.set_epochs(&EpochStanding {
            over_soft_cap: epochs.over_soft_cap,
            over_hard_cap: epochs.over_hard_cap,
            changes_max: epochs.changes_max,
            mismatches: epochs.mismatches,
            mismatched: epochs.mismatched,
            origins_named: vector.len(),
            origins_folded: vector.folds().len(),
        });
        if let Some(offset_us) = offset.filter(|us| skew::is_too_far(*us, self.0.skew_max)) {
            tracing::error!(offset_us, "the clock is off: stamping with the peers' time");
        }
        metrics.set_bounded("origins", vector.len(), VECTOR_ORIGINS_MAX);
        for (of, taken, most) in self.0.store.taken().into_iter().chain([self.0.desk.taken()]) {
            metrics.set_bounded(of, taken, most);
        }
        let (disk, shown) = (self.0.gauges.disk.clone(), metrics.clone());
        self.0.gauges.blocking.run(move || look_at_files(&*disk, &shown)).await;
    }

    fn refresh_peers(&self, quorum: &QuorumStatus) {
        let metrics = &self.0.metrics;
        metrics.set_peer_queue_limit(self.0.gauges.queue_bytes_max);
        let Some(gossip) = self.0.gossip.get() else { return };
        let peers = gossip.peers();
        let standing = |peer: PeerStatus| {
            let member = quorum.members.iter().find(|member| member.node == peer.node.as_str());
            let matched = member.and_then(|member| member.matched);
            let standing = PeerStanding {
                is_connected: peer.connected_out || peer.connected_in > 0,
                lag_changes: peer.lag_changes,
                lag: peer.lag,
                heard_ago: peer.heard_ago,
                rtt: peer.rtt_measured.then_some(peer.rtt),
                queue_bytes: peer.queue_bytes,
                clock_offset_us: peer.clock_offset,
                quorum_lag_entries: matched.map(|at| quorum.last_log.saturating_sub(at)),
            };
            (peer.node, peer.region, standing)
        };
        let standings: Vec<_> = peers.into_iter().map(standing).collect();
        metrics.set_peers(&standings);
        for (name, value) in gossip.stats().by_name() {
            metrics.set_gossip(name, value);
        }
    }
}

/// What can wait for a disk.
fn look_at_files(disk: &dyn Disk, metrics: &Metrics) {
    metrics.refresh_process();
    // Where it cannot be known, that is what is shown; the disk's errors are counted elsewhere.
    metrics.set_disk_room(disk.room().ok().flatten());
    for store in STORES {
        if let Ok(Some(bytes)) = disk.len(&format!("{store}.redb")) {
            metrics.set_database_bytes(store, bytes);
        }
    }
}
