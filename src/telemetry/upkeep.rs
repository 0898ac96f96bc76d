//! What a store does for itself, behind the writes.

use metrics::{Counter, Gauge};

use super::metrics::{Metrics, Registrar};

pub(super) struct UpkeepMetrics {
    pruned: Counter,
    keys_left: Gauge,
}

impl UpkeepMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        Self {
            pruned: it.counter(
                "holm_history_pruned_total",
                "Versions that went from histories by policy.",
                vec![],
            ),
            keys_left: it.gauge(
                "holm_history_pruning_keys",
                "Keys that the pass over histories which is under way has not looked at.",
                vec![],
            ),
        }
    }
}

impl Metrics {
    /// How many versions went from histories since the start, and how many keys a pass that is under
    /// way has not looked at.
    pub fn set_pruned(&self, rows: u64, keys_left: u64) {
        self.upkeep.pruned.absolute(rows);
        self.upkeep.keys_left.set(keys_left as f64);
    }
}
