//! The metrics of the log, and of whole documents that go from node to node in its place.

use metrics::{Counter, Gauge, Label};

use super::metrics::{Metrics, Registrar};

/// Handles of these metrics.
pub(super) struct CatchUpMetrics {
    log_records: Gauge,
    log_trimmed: Counter,
    /// Done, failed.
    taken: [Counter; 2],
    given: [Counter; 2],
    bytes: Counter,
}

impl CatchUpMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let results = |name, what| {
            ["done", "failed"]
                .map(|result| it.counter(name, what, vec![Label::new("result", result)]))
        };
        Self {
            log_records: it.gauge("holm_log_records", "Records in the log of changes.", vec![]),
            log_trimmed: it.counter(
                "holm_log_trimmed_records_total",
                "Records that were trimmed from the log of changes.",
                vec![],
            ),
            taken: results(
                "holm_documents_taken_total",
                "Times that this node caught up by whole documents, by result.",
            ),
            given: results(
                "holm_documents_given_total",
                "Times that this node sent a peer whole documents, by result.",
            ),
            bytes: it.counter(
                "holm_documents_taken_bytes_total",
                "Bytes of whole documents that this node was sent.",
                vec![],
            ),
        }
    }
}

impl Metrics {
    /// How many records the log has, and how many were trimmed since the start.
    pub fn set_log(&self, records: u64, trimmed: u64) {
        self.catch_up.log_records.set(records as f64);
        self.catch_up.log_trimmed.absolute(trimmed);
    }

    /// This node was sent whole documents.
    pub fn documents_taken(&self, is_done: bool) {
        self.catch_up.taken[usize::from(!is_done)].increment(1);
    }

    /// This node sent whole documents.
    pub fn documents_given(&self, is_done: bool) {
        self.catch_up.given[usize::from(!is_done)].increment(1);
    }

    /// Bytes of whole documents came.
    pub fn documents_bytes(&self, bytes: usize) {
        self.catch_up.bytes.increment(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_transfers_are_rendered_from_the_start_on() {
        let metrics = Metrics::new().unwrap();
        metrics.set_log(7, 3);
        metrics.documents_taken(true);
        metrics.documents_bytes(9);
        let text = metrics.render();
        for line in [
            "holm_log_records 7",
            "holm_log_trimmed_records_total 3",
            "holm_documents_taken_total{result=\"done\"} 1",
            "holm_documents_taken_total{result=\"failed\"} 0",
            "holm_documents_given_total{result=\"done\"} 0",
            "holm_documents_taken_bytes_total 9",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
