//! What one node counts of its directory: room, files, how long syncing takes, what fails. It is
//! told; it looks at no file.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};

use super::metrics::{Metrics, Registrar};

/// A node's databases, as labels name them.
pub(crate) const STORES: [&str; 2] = ["config", "quorum"];
/// What can fail on a disk.
const OPERATIONS: [&str; 3] = ["read", "write", "sync"];

/// Handles of the directory's metrics.
pub(super) struct DiskMetrics {
    available: Gauge,
    size: Gauge,
    files: Vec<(&'static str, Gauge)>,
    syncs: Vec<(&'static str, Histogram)>,
    errors: Vec<(&'static str, Counter)>,
}

impl DiskMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let label = |name: &'static str, value: &'static str| vec![Label::new(name, value)];
        let files = STORES.map(|store| {
            let what = "Size of the store's database file.";
            (store, it.gauge("holm_database_bytes", what, label("store", store)))
        });
        let syncs = STORES.map(|store| {
            let what = "Time the disk took to sync the store's database file.";
            let labels = label("store", store);
            (store, it.histogram("holm_disk_sync_duration_seconds", what, labels))
        });
        let errors = OPERATIONS.map(|operation| {
            let what = "Operations on the node's directory that failed.";
            let labels = label("operation", operation);
            (operation, it.counter("holm_disk_errors_total", what, labels))
        });
        Self {
            available: it.gauge(
                "holm_disk_available_bytes",
                "Bytes that the node can still write where its directory is; not a number where \
                 that is not known.",
                vec![],
            ),
            size: it.gauge(
                "holm_disk_size_bytes",
                "Size of the file system of the node's directory; not a number where that is not \
                 known.",
                vec![],
            ),
            files: files.into(),
            syncs: syncs.into(),
            errors: errors.into(),
        }
    }
}

fn of<'a, T>(known: &'a [(&'static str, T)], name: &str) -> Option<&'a T> {
    known.iter().find(|(known, _)| *known == name).map(|(_, handle)| handle)
}

impl Metrics {
    /// What room there is: bytes that can be written, and bytes in all.
    pub fn set_disk_room(&self, room: Option<(u64, u64)>) {
        let (available, size) = room.map_or((f64::NAN, f64::NAN), |(a, s)| (a as f64, s as f64));
        self.disk.available.set(available);
        self.disk.size.set(size);
    }

    /// The size of a store's database file, in bytes.
    pub fn set_database_bytes(&self, store: &str, bytes: u64) {
        if let Some(gauge) = of(&self.disk.files, store) {
            gauge.set(bytes as f64);
        }
    }

    /// Syncing a store's database file took this long.
    pub fn disk_sync_done(&self, store: &str, took: Duration) {
        if let Some(histogram) = of(&self.disk.syncs, store) {
            histogram.record(took.as_secs_f64());
        }
    }

    /// An operation on the node's directory failed: `read`, `write` or `sync`.
    pub fn disk_failed(&self, operation: &str) {
        if let Some(counter) = of(&self.disk.errors, operation) {
            counter.increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_files_syncs_and_errors_are_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.set_disk_room(Some((5, 10)));
        metrics.set_database_bytes("quorum", 4_096);
        metrics.disk_sync_done("config", Duration::from_millis(3));
        metrics.disk_failed("sync");
        metrics.disk_failed("nonsense");
        let text = metrics.render();
        for line in [
            "holm_disk_available_bytes 5",
            "holm_disk_size_bytes 10",
            "holm_database_bytes{store=\"quorum\"} 4096",
            "holm_disk_sync_duration_seconds_count{store=\"config\"} 1",
            "holm_disk_errors_total{operation=\"sync\"} 1",
            "holm_disk_errors_total{operation=\"read\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
        metrics.set_disk_room(None);
        assert!(metrics.render().contains("holm_disk_available_bytes NaN"));
    }
}
