//! What one node counts of each of its peers. Labels are names of members, so that there are as many
//! series as there are members: of those that left there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use metrics::{Gauge, Label};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::metrics::{Metrics, Registrar};
use crate::model::{NodeName, RegionName};

/// How a peer stands, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerStanding {
    /// Whether there is a connection, in either direction.
    pub is_connected: bool,
    /// How many changes that are here it is not known to have.
    pub lag_changes: u64,
    /// How old the oldest of them is.
    pub lag: Duration,
    /// How long ago it was heard, if it ever was.
    pub heard_ago: Option<Duration>,
    /// The round trip, where it is measured.
    pub rtt: Option<Duration>,
    /// Bytes that wait to be pushed to it.
    pub queue_bytes: usize,
    /// Its clock less this node's, in microseconds.
    pub clock_offset_us: Option<i64>,
    /// Entries of the quorum's log that it is not known to have: told by the leader alone.
    pub quorum_lag_entries: Option<u64>,
}

/// Handles of one peer's metrics.
#[derive(Clone)]
pub(super) struct PeerMetrics {
    connected: Gauge,
    lag_changes: Gauge,
    lag_seconds: Gauge,
    heard_ago: Gauge,
    rtt: Gauge,
    queue_bytes: Gauge,
    clock_offset: Gauge,
    quorum_lag: Gauge,
}

impl PeerMetrics {
    pub(super) fn new(it: &Registrar<'_>, peer: &NodeName, region: &RegionName) -> Self {
        let labels = || {
            vec![
                Label::new("peer", peer.as_str().to_owned()),
                Label::new("peer_region", region.as_str().to_owned()),
            ]
        };
        let gauge = |name, what| it.gauge(name, what, labels());
        Self {
            connected: gauge("holm_peer_connected", "1 where the peer is connected, else 0."),
            lag_changes: gauge(
                "holm_replication_lag_changes",
                "Changes that are here and not yet known to be with the peer.",
            ),
            lag_seconds: gauge(
                "holm_replication_lag_seconds",
                "Age of the oldest change that the peer is not known to have.",
            ),
            heard_ago: gauge(
                "holm_peer_heard_age_seconds",
                "How long ago the peer was heard; not a number where it never was.",
            ),
            rtt: gauge(
                "holm_peer_rtt_seconds",
                "Round trip to the peer as measured; not a number where it is not.",
            ),
            queue_bytes: gauge("holm_peer_queue_bytes", "Bytes that wait to be pushed to it."),
            clock_offset: gauge(
                "holm_peer_clock_offset_seconds",
                "The peer's clock less this node's; not a number where it is not known.",
            ),
            quorum_lag: gauge(
                "holm_quorum_peer_lag_entries",
                "Entries of the quorum's log that the peer is not known to have, as the leader \
                 knows it; not a number elsewhere.",
            ),
        }
    }

    fn set(&self, peer: &PeerStanding) {
        let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
        self.connected.set(f64::from(u8::from(peer.is_connected)));
        self.lag_changes.set(peer.lag_changes as f64);
        self.lag_seconds.set(peer.lag.as_secs_f64());
        self.heard_ago.set(seconds(peer.heard_ago));
        self.rtt.set(seconds(peer.rtt));
        self.queue_bytes.set(peer.queue_bytes as f64);
        self.clock_offset.set(peer.clock_offset_us.map_or(f64::NAN, |us| us as f64 / 1e6));
        self.quorum_lag.set(peer.quorum_lag_entries.map_or(f64::NAN, |entries| entries as f64));
    }
}

impl Metrics {
    /// How many bytes may wait for one peer.
    pub fn set_peer_queue_limit(&self, bytes: usize) {
        self.peer_queue_limit.set(bytes as f64);
    }

    /// How the peers stand: these, and no others.
    pub fn set_peers(&self, peers: &[(NodeName, RegionName, PeerStanding)]) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).set(peers);
    }
}

/// The peers' series, in a recorder of their own. No recorder forgets a series, and members come and
/// go under ever new names: when one has gone, it is made anew.
pub(super) struct Peers {
    recorder: PrometheusRecorder,
    known: BTreeMap<NodeName, PeerMetrics>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { recorder: PrometheusBuilder::new().build_recorder(), known: BTreeMap::new() }
    }
}

impl Peers {
    pub(super) fn render(&self) -> String {
        self.recorder.handle().render()
    }

    fn set(&mut self, peers: &[(NodeName, RegionName, PeerStanding)]) {
        let names: BTreeSet<&NodeName> = peers.iter().map(|(node, ..)| node).collect();
        if !self.known.keys().all(|node| names.contains(node)) {
            *self = Self::default();
        }
        for (node, region, standing) in peers {
            let new = || PeerMetrics::new(&Registrar(&self.recorder), node, region);
            self.known.entry(node.clone()).or_insert_with(new).set(standing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_standing_is_rendered_and_what_is_unknown_is_no_number() {
        let metrics = Metrics::new().unwrap();
        let peer = NodeName::new("us-east-1").unwrap();
        let region = RegionName::new("us-east").unwrap();
        let standing = PeerStanding {
            lag_changes: 7,
            lag: Duration::from_millis(1_500),
            clock_offset_us: Some(-250_000),
            ..PeerStanding::default()
        };
        let peers = [(peer, region, standing)];
        metrics.set_peers(&peers);
        metrics.set_peers(&peers);
        let text = metrics.render();
        let labels = "{peer=\"us-east-1\",peer_region=\"us-east\"}";
        for (name, value) in [
            ("holm_peer_connected", "0"),
            ("holm_replication_lag_changes", "7"),
            ("holm_replication_lag_seconds", "1.5"),
            ("holm_peer_clock_offset_seconds", "-0.25"),
            ("holm_peer_rtt_seconds", "NaN"),
            ("holm_peer_heard_age_seconds", "NaN"),
            ("holm_quorum_peer_lag_entries", "NaN"),
        ] {
            let line = format!("{name}{labels} {value}");
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }

    #[test]
    fn who_left_leaves_no_series_behind_and_who_stays_keeps_its_numbers() {
        let metrics = Metrics::new().unwrap();
        let region = RegionName::new("us-east").unwrap();
        let peer = |name: &str, lag_changes: u64| {
            let standing = PeerStanding { lag_changes, ..PeerStanding::default() };
            (NodeName::new(name).unwrap(), region.clone(), standing)
        };
        for i in 0..100 {
            metrics.set_peers(&[peer("stays", 7), peer(&format!("pod-{i}"), 1)]);
        }
        let text = metrics.render();
        let series: Vec<&str> =
            text.lines().filter(|line| line.starts_with("holm_replication_lag_changes{")).collect();
        assert_eq!(series.len(), 2, "{series:?}");
        assert!(series.iter().any(|line| line.contains("stays") && line.ends_with(" 7")));
        assert!(series.iter().any(|line| line.contains("pod-99")));
    }
}
