//! How a node stands as a whole: health, rules, queues and their bounds, and whether reads are
//! answered at once. A queue's depth and its bound have one label, so that one rule watches all.

use std::time::Duration;

use metrics::{Counter, Gauge, Label};

use super::metrics::{Metrics, Registrar, Watching};

/// What has a bound. Of each it is shown how much is taken.
const BOUNDED: [&str; 6] =
    ["store_commands", "store_bytes", "audit_notes", "connections", "watches", "origins"];
/// How a read finds the view that it is answered from.
const VIEWS: [&str; 3] = ["at_once", "waited", "not_reached"];

/// How a node stands; what is told of it at each look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStanding {
    /// Whether a balancer may send requests to it.
    pub is_ready: bool,
    /// Whether it can go on: its config store is driven, and open.
    pub is_healthy: bool,
    /// Whether its quorum store works.
    pub is_quorum_store_open: bool,
    /// How old the rules may be that it decides by.
    pub policy_age: Duration,
    /// From which age on it issues no tokens any more.
    pub policy_age_max: Duration,
    /// How far its clock is off the median of its peers', in seconds; ahead is positive.
    pub clock_skew: Option<f64>,
    /// From which skew on it stamps with its peers' time.
    pub clock_skew_max: Duration,
    /// Records refused since the start because their origin has two changes under one number.
    pub forks: u64,
    /// Records that wait for others.
    pub records_waiting: usize,
    /// Nodes that the topology's file names and that are evicted.
    pub evicted: usize,
}

/// Handles of the metrics of a node as a whole.
pub(super) struct NodeMetrics {
    ready: Gauge,
    healthy: Gauge,
    quorum_store_open: Gauge,
    policy_age: Gauge,
    policy_age_max: Gauge,
    clock_skew: Gauge,
    clock_skew_max: Gauge,
    forks: Counter,
    records_waiting: Gauge,
    evicted: Gauge,
    in_flight: Gauge,
    taken: Vec<(&'static str, Gauge, Gauge)>,
    views: Vec<(&'static str, Counter)>,
}

impl NodeMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let gauge = |name, what| it.gauge(name, what, vec![]);
        let taken = BOUNDED.map(|of| {
            let labels = || vec![Label::new("of", of)];
            let taken =
                it.gauge("holm_bounded_used", "How much is taken of what has a bound.", labels());
            let most = it.gauge("holm_bounded_limit", "The bound.", labels());
            (of, taken, most)
        });
        let views = VIEWS.map(|result| {
            let what = "Reads by session or none: answered at once from the view in memory, after \
                        waiting for it, or not.";
            let labels = vec![Label::new("result", result)];
            (result, it.counter("holm_view_reads_total", what, labels))
        });
        Self {
            ready: gauge("holm_ready", "1 where the node is ready, else 0."),
            healthy: gauge("holm_healthy", "1 where the node can go on, else 0."),
            quorum_store_open: gauge(
                "holm_quorum_store_open",
                "1 where the quorum's store works, 0 once it failed.",
            ),
            policy_age: gauge("holm_policy_age_seconds", "How old the rules here may be."),
            policy_age_max: gauge(
                "holm_policy_age_limit_seconds",
                "From which age of the rules on this node issues no tokens.",
            ),
            clock_skew: gauge(
                "holm_clock_skew_seconds",
                "How far the clock is ahead of the median of the peers'.",
            ),
            clock_skew_max: gauge(
                "holm_clock_skew_limit_seconds",
                "From which skew on the node stamps with its peers' time.",
            ),
            forks: it.counter(
                "holm_forks_total",
                "Records refused because their origin has two changes under one number.",
                vec![],
            ),
            records_waiting: gauge("holm_records_waiting", "Records that wait for others."),
            evicted: gauge(
                "holm_members_evicted",
                "Nodes of the topology's file that nobody has heard for so long that they are no members.",
            ),
            in_flight: gauge("holm_http_requests_in_flight", "Requests under way."),
            taken: taken.into(),
            views: views.into(),
        }
    }
}

impl Metrics {
    /// How the node stands.
    pub fn set_node(&self, node: &NodeStanding) {
        let it = &self.node;
        let flag = |gauge: &Gauge, is_so: bool| gauge.set(f64::from(u8::from(is_so)));
        flag(&it.ready, node.is_ready);
        flag(&it.healthy, node.is_healthy);
        flag(&it.quorum_store_open, node.is_quorum_store_open);
        it.policy_age.set(node.policy_age.as_secs_f64());
        it.policy_age_max.set(node.policy_age_max.as_secs_f64());
        it.clock_skew.set(node.clock_skew.unwrap_or(f64::NAN));
        it.clock_skew_max.set(node.clock_skew_max.as_secs_f64());
        it.forks.absolute(node.forks);
        it.records_waiting.set(node.records_waiting as f64);
        it.evicted.set(node.evicted as f64);
    }

    /// How much is taken of something that has a bound.
    pub fn set_bounded(&self, of: &str, taken: usize, most: usize) {
        let known = self.node.taken.iter().find(|(name, ..)| *name == of);
        if let Some((_, used, limit)) = known {
            used.set(taken as f64);
            limit.set(most as f64);
        }
    }

    /// A read found its view `at_once`, after it `waited`, or it was `not_reached` in time.
    pub fn view_read(&self, result: &str) {
        let known = self.node.views.iter().find(|(name, _)| *name == result);
        if let Some((_, counter)) = known {
            counter.increment(1);
        }
    }

    /// One more request under way, until the value is dropped.
    pub fn under_way(&self) -> Watching {
        Watching::new(&self.node.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_standing_and_its_bounds_are_rendered() {
        let metrics = Metrics::new().unwrap();
        let node = NodeStanding {
            is_healthy: true,
            policy_age: Duration::from_secs(90),
            forks: 2,
            evicted: 4,
            ..NodeStanding::default()
        };
        metrics.set_node(&node);
        metrics.set_bounded("watches", 3, 10);
        metrics.set_bounded("nonsense", 3, 10);
        metrics.view_read("waited");
        let _one = metrics.under_way();
        let text = metrics.render();
        for line in [
            "holm_ready 0",
            "holm_healthy 1",
            "holm_policy_age_seconds 90",
            "holm_clock_skew_seconds NaN",
            "holm_forks_total 2",
            "holm_members_evicted 4",
            "holm_bounded_used{of=\"watches\"} 3",
            "holm_bounded_limit{of=\"watches\"} 10",
            "holm_view_reads_total{result=\"waited\"} 1",
            "holm_view_reads_total{result=\"at_once\"} 0",
            "holm_http_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
