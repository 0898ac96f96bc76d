//! One node's metrics, in Prometheus' text format. Handles are registered once and kept; labels
//! take values from small sets alone (routes, statuses, peers of the topology).
//!
//! Methods come in four families: `set_…` for what is a state, `…_done` for what took time, plain
//! past participles for what is counted, and `watching`, whose value counts as long as it lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::limits::LimitMetrics;
use super::quorum::QuorumMetrics;
use super::routes::RouteMetrics;
use crate::model::NodeName;

const SECONDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const GROUP: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

const METADATA: Metadata<'static> = Metadata::new("holm", Level::INFO, None);

/// One node's metrics.
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    commit_duration: Histogram,
    commit_group: Histogram,
    propagation: Histogram,
    conflicts: Gauge,
    documents: Gauge,
    rows: Gauge,
    db_bytes: Gauge,
    ready: Gauge,
    clock_skew: Gauge,
    watchers: Gauge,
    connections: Gauge,
    connections_refused: Counter,
    tokens_remembered: Counter,
    tokens_verified: Counter,
    tokens_refused: Counter,
    documents_loaded: Counter,
    documents_remembered: Counter,
    pub(super) limits: LimitMetrics,
    pub(super) quorum: QuorumMetrics,
    peers: Mutex<BTreeMap<NodeName, PeerMetrics>>,
    quarantined: Mutex<BTreeMap<&'static str, Counter>>,
    gossip: Mutex<BTreeMap<&'static str, Counter>>,
}

#[derive(Clone)]
struct PeerMetrics {
    connected: Gauge,
    lag_changes: Gauge,
    lag_seconds: Gauge,
}

/// Registers metrics by name, with what they mean.
pub(super) struct Registrar<'a>(pub(super) &'a PrometheusRecorder);

impl Registrar<'_> {
    pub(super) fn counter(
        &self,
        name: &'static str,
        what: &'static str,
        labels: Vec<Label>,
    ) -> Counter {
        self.0.describe_counter(name.into(), None, what.into());
        self.0.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    pub(super) fn gauge(
        &self,
        name: &'static str,
        what: &'static str,
        labels: Vec<Label>,
    ) -> Gauge {
        self.0.describe_gauge(name.into(), None, what.into());
        self.0.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    pub(super) fn histogram(
        &self,
        name: &'static str,
        what: &'static str,
        labels: Vec<Label>,
    ) -> Histogram {
        let unit = name.ends_with("_seconds").then_some(Unit::Seconds);
        self.0.describe_histogram(name.into(), unit, what.into());
        self.0.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }

    pub(super) fn requests(&self, route: &'static str, status: u16) -> Counter {
        let labels = vec![Label::new("route", route), Label::new("status", status.to_string())];
        self.counter("holm_http_requests_total", "Requests answered.", labels)
    }

    pub(super) fn request_duration(&self, route: &'static str) -> Histogram {
        let labels = vec![Label::new("route", route)];
        self.histogram(
            "holm_http_request_duration_seconds",
            "Time from a request's headers to its answer's; a watch counts to its first byte.",
            labels,
        )
    }

    fn peer(&self, peer: &NodeName) -> PeerMetrics {
        let labels = || vec![Label::new("peer", peer.as_str().to_owned())];
        let gauge = |name, what| self.gauge(name, what, labels());
        PeerMetrics {
            connected: gauge("holm_peer_connected", "1 where the peer is connected, else 0."),
            lag_changes: gauge(
                "holm_replication_lag_changes",
                "Changes that are here and not yet known to be with the peer.",
            ),
            lag_seconds: gauge(
                "holm_replication_lag_seconds",
                "Age of the oldest change that the peer is not known to have.",
            ),
        }
    }
}

impl Metrics {
    /// The metrics of one node. Nothing is registered outside of it.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_group_size".to_owned()), &GROUP)?
            .build_recorder();
        let it = Registrar(&recorder);
        let gauge = |name, what| it.gauge(name, what, vec![]);
        let counter = |name, what| it.counter(name, what, vec![]);
        let histogram = |name, what| it.histogram(name, what, vec![]);
        let build = vec![Label::new("version", env!("CARGO_PKG_VERSION"))];
        it.gauge("holm_build_info", "1, with the program's version.", build).set(1.0);
        let by_result = |name, what, result: &'static str| {
            it.counter(name, what, vec![Label::new("result", result)])
        };
        let tokens = |result: &'static str| {
            by_result("holm_tokens_total", "Tokens looked at, by result.", result)
        };
        let loads = |result: &'static str| {
            let what = "Documents needed for writes and merges, by whether they were in memory.";
            by_result("holm_document_cache_total", what, result)
        };
        Ok(Self {
            handle: recorder.handle(),
            commit_duration: histogram(
                "holm_commit_duration_seconds",
                "Time a group of writes took to be on disk.",
            ),
            commit_group: histogram("holm_commit_group_size", "Requests in one commit."),
            propagation: histogram(
                "holm_propagation_seconds",
                "Time from a remote write's stamp to its being visible here, both clocks trusted.",
            ),
            conflicts: gauge("holm_conflicts", "Keys with concurrent writes nobody has settled."),
            documents: gauge("holm_documents", "Documents: pairs of service and environment."),
            rows: gauge("holm_rows", "Keys in memory, removed ones included."),
            db_bytes: gauge("holm_database_bytes", "Size of the database file."),
            ready: gauge("holm_ready", "1 where the node is ready, else 0."),
            clock_skew: gauge(
                "holm_clock_skew_seconds",
                "How far the clock is off the median of the peers'.",
            ),
            watchers: gauge("holm_watchers", "Watches that are open."),
            connections: gauge("holm_http_connections", "HTTP connections that are open."),
            connections_refused: counter(
                "holm_http_connections_refused_total",
                "Connections closed at once because too many were open.",
            ),
            tokens_remembered: tokens("remembered"),
            tokens_verified: tokens("verified"),
            tokens_refused: tokens("refused"),
            documents_loaded: loads("loaded"),
            documents_remembered: loads("remembered"),
            limits: LimitMetrics::new(&it),
            quorum: QuorumMetrics::new(&it),
            peers: Mutex::default(),
            quarantined: Mutex::default(),
            gossip: Mutex::default(),
            recorder: Arc::new(recorder),
        })
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// To be called every few seconds: what was measured is kept one by one until then.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The metrics of one route; register it once.
    pub fn route(&self, route: &'static str) -> RouteMetrics {
        RouteMetrics::new(&self.recorder, route)
    }

    /// A group of this many requests took this long to be on disk.
    pub fn commit_done(&self, took: Duration, requests: usize) {
        self.commit_duration.record(took.as_secs_f64());
        self.commit_group.record(requests as f64);
    }

    /// A remote change became visible here this long after its stamp.
    pub fn propagation_done(&self, took: Duration) {
        self.propagation.record(took.as_secs_f64());
    }

    /// How much is in memory, and how many keys have conflicts.
    pub fn set_view(&self, documents: usize, rows: usize, conflicts: usize) {
        self.documents.set(documents as f64);
        self.rows.set(rows as f64);
        self.conflicts.set(conflicts as f64);
    }

    /// The database file's size, in bytes.
    pub fn set_database_bytes(&self, bytes: u64) {
        self.db_bytes.set(bytes as f64);
    }

    /// Whether the node is ready.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(f64::from(u8::from(ready)));
    }

    /// How far the clock is off the median of the peers', in seconds; ahead is positive.
    pub fn set_clock_skew(&self, seconds: f64) {
        self.clock_skew.set(seconds);
    }

    /// Whether a peer is connected.
    pub fn set_peer_connected(&self, peer: &NodeName, connected: bool) {
        self.peer(peer).connected.set(f64::from(u8::from(connected)));
    }

    /// What a peer is not known to have: how many changes, and how old the oldest is.
    pub fn set_peer_lag(&self, peer: &NodeName, changes: u64, oldest: Duration) {
        let peer = self.peer(peer);
        peer.lag_changes.set(changes as f64);
        peer.lag_seconds.set(oldest.as_secs_f64());
    }

    /// What gossip counted under this name since the node's start.
    pub fn set_gossip(&self, name: &'static str, value: u64) {
        let mut known = self.gossip.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = known.entry(name).or_insert_with(|| {
            let labels = vec![Label::new("event", name)];
            let what = "What gossip did, by kind of event.";
            Registrar(&self.recorder).counter("holm_gossip_events_total", what, labels)
        });
        counter.absolute(value);
    }

    /// A record from a peer was set aside, for one of a few reasons.
    pub fn quarantined(&self, reason: &'static str) {
        let mut known = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = known.entry(reason).or_insert_with(|| {
            let labels = vec![Label::new("reason", reason)];
            let what = "Records from peers that were set aside.";
            Registrar(&self.recorder).counter("holm_quarantined_total", what, labels)
        });
        counter.increment(1);
    }

    /// Events that belong on the audit log were not recorded.
    pub fn audit_dropped(&self, count: u64) {
        let what = "Events that were not recorded in the audit log, for want of room.";
        let dropped = Registrar(&self.recorder).counter("holm_audit_dropped_total", what, vec![]);
        dropped.increment(count);
    }

    /// A peer's audit chain did not follow from what is remembered of it.
    pub fn audit_broken(&self) {
        let what = "Times a peer's audit chain did not follow from what is remembered of it.";
        let broken = Registrar(&self.recorder).counter("holm_audit_broken_total", what, vec![]);
        broken.increment(1);
    }

    /// A document was needed; it was in memory, or had to be loaded.
    pub fn document_needed(&self, in_memory: bool) {
        let counter = if in_memory { &self.documents_remembered } else { &self.documents_loaded };
        counter.increment(1);
    }

    /// A token was good: remembered from before, or verified anew.
    pub fn token_taken(&self, remembered: bool) {
        let counter = if remembered { &self.tokens_remembered } else { &self.tokens_verified };
        counter.increment(1);
    }

    /// A token was missing or wrong.
    pub fn token_refused(&self) {
        self.tokens_refused.increment(1);
    }

    /// A connection was closed at once because too many were open.
    pub fn connection_refused(&self) {
        self.connections_refused.increment(1);
    }

    /// One more open connection, until the value is dropped.
    pub fn connected(&self) -> Watching {
        Watching::new(&self.connections)
    }

    /// One more open watch, until the value is dropped.
    pub fn watching(&self) -> Watching {
        Watching::new(&self.watchers)
    }

    fn peer(&self, peer: &NodeName) -> PeerMetrics {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(peer) {
            return known.clone();
        }
        let new = Registrar(&self.recorder).peer(peer);
        peers.insert(peer.clone(), new.clone());
        new
    }
}

/// Counts as one as long as it lives.
pub struct Watching(Gauge);

impl Watching {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"))
    }

    #[test]
    fn what_was_told_is_rendered() {
        let metrics = Metrics::new().unwrap();
        let peer = NodeName::new("us-east-1").unwrap();
        metrics.commit_done(Duration::from_millis(2), 64);
        metrics.set_peer_lag(&peer, 7, Duration::from_millis(1_500));
        metrics.set_gossip("queue_drops", 1);
        metrics.quarantined("undecodable");
        metrics.set_view(2, 10, 1);
        metrics.token_taken(true);
        metrics.upkeep();
        let text = metrics.render();
        for expected in [
            "holm_commit_duration_seconds_bucket{le=\"0.0025\"} 1",
            "holm_commit_group_size_sum 64",
            "holm_replication_lag_changes{peer=\"us-east-1\"} 7",
            "holm_replication_lag_seconds{peer=\"us-east-1\"} 1.5",
            "holm_gossip_events_total{event=\"queue_drops\"} 1",
            "holm_quarantined_total{reason=\"undecodable\"} 1",
            "holm_conflicts 1",
            "holm_tokens_total{result=\"remembered\"} 1",
        ] {
            assert_eq!(line(&text, expected), expected, "{text}");
        }
        assert!(line(&text, "# HELP holm_rows").contains("Keys in memory"));
    }

    #[test]
    fn a_route_counts_its_answers_by_status() {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route("GET /config/{service}");
        route.answered(200, Duration::from_micros(200));
        route.answered(200, Duration::from_micros(200));
        route.answered(404, Duration::from_micros(200));
        route.answered(799, Duration::from_micros(200));
        let text = metrics.render();
        let requests = |status: &str| {
            format!(
                "holm_http_requests_total{{route=\"GET /config/{{service}}\",status=\"{status}\"}}"
            )
        };
        assert!(line(&text, &requests("200")).ends_with(" 2"));
        assert!(line(&text, &requests("404")).ends_with(" 1"));
        assert!(line(&text, &requests("0")).ends_with(" 1"));
        let duration = "holm_http_request_duration_seconds_count";
        assert!(line(&text, duration).ends_with(" 4"));
    }

    #[test]
    fn a_watch_counts_as_long_as_it_lives() {
        let metrics = Metrics::new().unwrap();
        let (one, two) = (metrics.watching(), metrics.watching());
        drop(one);
        assert_eq!(line(&metrics.render(), "holm_watchers "), "holm_watchers 1");
        drop(two);
        assert_eq!(line(&metrics.render(), "holm_watchers "), "holm_watchers 0");
    }

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let (one, two) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.set_view(1, 1, 9);
        assert_eq!(line(&two.render(), "holm_conflicts "), "holm_conflicts 0");
    }
}
