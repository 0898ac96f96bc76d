//! One node's metrics, in Prometheus' text format. Handles are registered once and kept; labels
//! take values from small sets alone (routes, statuses, peers).
//!
//! Methods come in four families: `set_…` for what is a state, `…_done` for what took time, plain
//! past participles for what is counted, and `watching`, whose value counts as long as it lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::audit::AuditMetrics;
use super::catch_up::CatchUpMetrics;
use super::disk::DiskMetrics;
use super::epochs::EpochMetrics;
use super::limits::LimitMetrics;
use super::otlp::SpanMetrics;
use super::peers::Peers;
use super::process::ProcessMetrics;
use super::quorum::QuorumMetrics;
use super::routes::RouteMetrics;
use super::standing::NodeMetrics;
use super::upkeep::UpkeepMetrics;

const SECONDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const GROUP: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

const METADATA: Metadata<'static> = Metadata::new("holm", Level::INFO, None);

/// One node's metrics.
pub struct Metrics {
    pub(super) recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    commit_duration: Histogram,
    commit_group: Histogram,
    propagation: Histogram,
    conflicts: Gauge,
    documents: Gauge,
    rows: Gauge,
    watchers: Gauge,
    connections: Gauge,
    connections_refused: Counter,
    tokens_remembered: Counter,
    tokens_verified: Counter,
    tokens_refused: Counter,
    documents_loaded: Counter,
    documents_remembered: Counter,
    documents_evicted: Counter,
    documents_bytes: Gauge,
    pub(super) peer_queue_limit: Gauge,
    quarantined: Counter,
    pub(super) audit: AuditMetrics,
    pub(super) catch_up: CatchUpMetrics,
    pub(super) disk: DiskMetrics,
    pub(super) epochs: EpochMetrics,
    pub(super) spans: SpanMetrics,
    pub(super) node: NodeMetrics,
    pub(super) process: OnceLock<ProcessMetrics>,
    pub(super) limits: LimitMetrics,
    pub(super) quorum: QuorumMetrics,
    pub(super) upkeep: UpkeepMetrics,
    pub(super) peers: Mutex<Peers>,
    gossip: Mutex<BTreeMap<&'static str, Counter>>,
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

    pub(super) fn requests(
        &self,
        (method, route): (&'static str, &'static str),
        status: u16,
    ) -> Counter {
        let labels = vec![
            Label::new("method", method),
            Label::new("route", route),
            Label::new("status", status.to_string()),
        ];
        self.counter("holm_http_requests_total", "Requests answered.", labels)
    }

    pub(super) fn request_duration(
        &self,
        (method, route): (&'static str, &'static str),
    ) -> Histogram {
        let labels = vec![Label::new("method", method), Label::new("route", route)];
        self.histogram(
            "holm_http_request_duration_seconds",
            "Time from a request's headers to its answer's; a watch counts to its first byte.",
            labels,
        )
    }
}

impl Registrar<'_> {
    fn say_build(&self) {
        let build = vec![Label::new("version", env!("CARGO_PKG_VERSION"))];
        self.gauge("holm_build_info", "1, with the program's version.", build).set(1.0);
    }

    fn by_result(&self, name: &'static str, what: &'static str, result: &'static str) -> Counter {
        self.counter(name, what, vec![Label::new("result", result)])
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
        it.say_build();
        let tokens = |result: &'static str| {
            it.by_result("holm_tokens_total", "Tokens looked at, by result.", result)
        };
        let loads = |result: &'static str| {
            let what = "Documents needed for writes and merges, by whether they were in memory.";
            it.by_result("holm_document_cache_total", what, result)
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
            documents_evicted: counter(
                "holm_document_cache_evicted_total",
                "Documents that went from memory to make room for others.",
            ),
            documents_bytes: gauge(
                "holm_document_cache_bytes",
                "What the documents in memory for writes and merges come to, about.",
            ),
            peer_queue_limit: gauge(
                "holm_peer_queue_limit_bytes",
                "How many bytes may wait for one peer; past that the queue is dropped.",
            ),
            // From the start, so that a rule sees the first one.
            quarantined: counter(
                "holm_quarantined_total",
                "Records from peers that were set aside.",
            ),
            audit: AuditMetrics::new(&it),
            catch_up: CatchUpMetrics::new(&it),
            disk: DiskMetrics::new(&it),
            epochs: EpochMetrics::new(&it),
            spans: SpanMetrics::new(&it),
            node: NodeMetrics::new(&it),
            process: OnceLock::new(),
            limits: LimitMetrics::new(&it),
            quorum: QuorumMetrics::new(&it),
            upkeep: UpkeepMetrics::new(&it),
            peers: Mutex::default(),
            gossip: Mutex::default(),
            recorder: Arc::new(recorder),
        })
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        text.push_str(&self.peers.lock().unwrap_or_else(PoisonError::into_inner).render());
        text
    }

    /// To be called every few seconds: what was measured is kept one by one until then.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The metrics of one method of one route; register it once.
    pub fn route(&self, method: &'static str, route: &'static str) -> RouteMetrics {
        RouteMetrics::new(&self.recorder, (method, route))
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

    /// What the documents in memory come to, and how many went from there since the start.
    pub fn set_documents_in_memory(&self, bytes: usize, evicted: u64) {
        self.documents_bytes.set(bytes as f64);
        self.documents_evicted.absolute(evicted);
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

    /// So many records from peers were set aside.
    pub fn quarantined(&self, count: u64) {
        self.quarantined.increment(count);
    }

    /// A certificate of this kind (`http`, `node`, `ca`) ends then, in seconds since the Unix epoch.
    pub fn set_certificate_end(&self, kind: &'static str, not_after: u64) {
        let labels = vec![Label::new("certificate", kind)];
        let what = "When the certificate expires, in seconds since the Unix epoch; of the \
                    authorities that are believed, the one that does first.";
        let end =
            Registrar(&self.recorder).gauge("holm_certificate_not_after_seconds", what, labels);
        end.set(not_after as f64);
    }

    /// A TLS handshake of a client came to nothing, for one of a few reasons.
    pub fn handshake_failed(&self, reason: &'static str) {
        let labels = vec![Label::new("reason", reason)];
        let what = "TLS handshakes of HTTP clients that came to nothing, by why.";
        let failed =
            Registrar(&self.recorder).counter("holm_tls_handshakes_failed_total", what, labels);
        failed.increment(1);
    }

    /// Certificate files were read again: taken, or refused.
    pub fn certificates_reloaded(&self, result: &'static str) {
        let labels = vec![Label::new("result", result)];
        let what = "Times that changed certificate files were read, by what came of it.";
        let reloads =
            Registrar(&self.recorder).counter("holm_certificate_reloads_total", what, labels);
        reloads.increment(1);
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
}

/// Counts as one as long as it lives.
pub struct Watching(Gauge);

impl Watching {
    pub(super) fn new(gauge: &Gauge) -> Self {
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
        metrics.commit_done(Duration::from_millis(2), 64);
        metrics.set_gossip("queue_drops", 1);
        metrics.quarantined(3);
        metrics.set_view(2, 10, 1);
        metrics.token_taken(true);
        metrics.upkeep();
        let text = metrics.render();
        for expected in [
            "holm_commit_duration_seconds_bucket{le=\"0.0025\"} 1",
            "holm_commit_group_size_sum 64",
            "holm_gossip_events_total{event=\"queue_drops\"} 1",
            "holm_quarantined_total 3",
            "holm_audit_broken_total 0",
            "holm_audit_archive_failed_total 0",
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
        let route = metrics.route("GET", "/config/{service}");
        route.answered(200, Duration::from_micros(200));
        route.answered(200, Duration::from_micros(200));
        route.answered(404, Duration::from_micros(200));
        route.answered(799, Duration::from_micros(200));
        let text = metrics.render();
        let requests = |status: &str| {
            format!(
                "holm_http_requests_total{{method=\"GET\",route=\"/config/{{service}}\",status=\"{status}\"}}"
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
