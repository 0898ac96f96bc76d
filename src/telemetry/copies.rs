//! What a node counts of the copies of audit chains: those that it keeps of its peers', and its own
//! at one of them. It is told.

use metrics::{Counter, Gauge};

use super::metrics::{Metrics, Registrar};

/// Handles of the copies' metrics.
pub(super) struct CopiesMetrics {
    unshipped: Gauge,
    bytes: Gauge,
    let_go: Counter,
}

impl CopiesMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        Self {
            unshipped: it.gauge(
                "holm_audit_unshipped_records",
                "Records of this node's audit chains that no peer had when it last shipped some.",
                vec![],
            ),
            bytes: it.gauge(
                "holm_audit_copies_bytes",
                "Bytes of the copies of peers' audit chains, since they last grew.",
                vec![],
            ),
            let_go: it.counter(
                "holm_audit_copies_let_go_total",
                "Records of peers' audit chains, the oldest, that their copies let go of for room.",
                vec![],
            ),
        }
    }
}

impl Metrics {
    /// So many records of this node's audit chains are not at a peer.
    pub fn set_audit_unshipped(&self, count: u64) {
        self.copies.unshipped.set(count as f64);
    }

    /// The copies of peers' audit chains grew to this, and let go of so many records for it.
    pub fn audit_copies(&self, bytes: u64, let_go: u64) {
        self.copies.bytes.set(bytes as f64);
        self.copies.let_go.increment(let_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_copies_is_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.set_audit_unshipped(3);
        metrics.audit_copies(4_096, 2);
        metrics.audit_copies(8_192, 1);
        let text = metrics.render();
        for line in [
            "holm_audit_unshipped_records 3",
            "holm_audit_copies_bytes 8192",
            "holm_audit_copies_let_go_total 3",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
