//! What one node counts of each of its peers. Labels are names of members, so that there are as many
//! series as the deployment has had nodes; of those that left the numbers are none.

use std::time::Duration;

use metrics::{Gauge, Label};

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

    /// It is no peer any more: it has no numbers, which no alert compares.
    pub(super) fn clear(&self) {
        for gauge in [
            &self.connected,
            &self.lag_changes,
            &self.lag_seconds,
            &self.heard_ago,
            &self.rtt,
            &self.queue_bytes,
            &self.clock_offset,
            &self.quorum_lag,
        ] {
            gauge.set(f64::NAN);
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

    /// How a peer stands.
    pub fn set_peer(&self, peer: &NodeName, region: &RegionName, standing: &PeerStanding) {
        self.peer(peer, region).set(standing);
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
        metrics.set_peer(&peer, &region, &standing);
        metrics.set_peer(&peer, &region, &standing);
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
}
