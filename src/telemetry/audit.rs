//! What a node counts of the audit log: what was not recorded, not archived, or does not follow, and the
//! copies of chains, those that it keeps of its peers' and its own at one of them. It is told.

use metrics::{Counter, Gauge};

use super::metrics::{Metrics, Registrar};

/// Handles of the audit log's metrics. The counters are there from the start, so that a rule sees the
/// first one.
pub(super) struct AuditMetrics {
    dropped: Counter,
    broken: Counter,
    not_archived: Counter,
    unshipped: Gauge,
    bytes: Gauge,
    let_go: Counter,
}

impl AuditMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let counter = |name, what| it.counter(name, what, vec![]);
        Self {
            dropped: counter(
                "holm_audit_dropped_total",
                "Events that were not recorded in the audit log, for want of room.",
            ),
            broken: counter(
                "holm_audit_broken_total",
                "Times a peer's audit chain did not follow from what is remembered of it.",
            ),
            not_archived: counter(
                "holm_audit_archive_failed_total",
                "Times that the audit log could not be archived, or records that are in files not let go.",
            ),
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
            let_go: counter(
                "holm_audit_copies_let_go_total",
                "Records of peers' audit chains, the oldest, that their copies let go of for room.",
            ),
        }
    }
}

impl Metrics {
    /// Events that belong on the audit log were not recorded.
    pub fn audit_dropped(&self, count: u64) {
        self.audit.dropped.increment(count);
    }

    /// A peer's audit chain did not follow from what is remembered of it.
    pub fn audit_broken(&self) {
        self.audit.broken.increment(1);
    }

    /// The audit log could not be archived.
    pub fn audit_not_archived(&self) {
        self.audit.not_archived.increment(1);
    }

    /// So many records of this node's audit chains are not at a peer.
    pub fn set_audit_unshipped(&self, count: u64) {
        self.audit.unshipped.set(count as f64);
    }

    /// The copies of peers' audit chains grew to this, and let go of so many records for it.
    pub fn audit_copies(&self, bytes: u64, let_go: u64) {
        self.audit.bytes.set(bytes as f64);
        self.audit.let_go.increment(let_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_audit_log_is_rendered() {
        let metrics = Metrics::new().unwrap();
        assert!(metrics.render().lines().any(|line| line == "holm_audit_dropped_total 0"));
        metrics.audit_dropped(4);
        metrics.audit_broken();
        metrics.audit_not_archived();
        metrics.set_audit_unshipped(3);
        metrics.audit_copies(4_096, 2);
        metrics.audit_copies(8_192, 1);
        let text = metrics.render();
        for line in [
            "holm_audit_dropped_total 4",
            "holm_audit_broken_total 1",
            "holm_audit_archive_failed_total 1",
            "holm_audit_unshipped_records 3",
            "holm_audit_copies_bytes 8192",
            "holm_audit_copies_let_go_total 3",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
