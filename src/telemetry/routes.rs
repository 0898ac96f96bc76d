//! One route's metrics: answers by status, and how long they took. A counter comes into being with
//! the first answer of its status, so that `/metrics` lists what happened and nothing else.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::metrics::Registrar;

/// The statuses that have a counter of their own; all others share number 0.
const STATUSES: std::ops::Range<u16> = 100..600;

/// One route's metrics.
pub struct RouteMetrics {
    recorder: Arc<PrometheusRecorder>,
    route: (&'static str, &'static str),
    duration: Histogram,
    by_status: Box<[OnceLock<Counter>]>,
}

impl RouteMetrics {
    pub(super) fn new(
        recorder: &Arc<PrometheusRecorder>,
        route: (&'static str, &'static str),
    ) -> Self {
        Self {
            recorder: recorder.clone(),
            route,
            duration: Registrar(recorder).request_duration(route),
            by_status: (0..=STATUSES.len()).map(|_| OnceLock::new()).collect(),
        }
    }

    /// A request was answered with this status after this long.
    pub fn answered(&self, status: u16, took: Duration) {
        let status = if STATUSES.contains(&status) { status } else { 0 };
        let at = usize::from(status.saturating_sub(STATUSES.start - 1));
        let counter = self.by_status[at]
            .get_or_init(|| Registrar(&self.recorder).requests(self.route, status));
        counter.increment(1);
        self.duration.record(took.as_secs_f64());
    }
}
