//! What a store does for itself, behind the writes.

use metrics::{Counter, Gauge, Label};

use super::disk::STORES;
use super::metrics::{Metrics, Registrar};

pub(super) struct UpkeepMetrics {
    pruned: Counter,
    keys_left: Gauge,
    live_bytes: [(&'static str, Gauge); 2],
    rebuilt: [(&'static str, Counter); 2],
}

impl UpkeepMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let store = |store| vec![Label::new("store", store)];
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
            live_bytes: STORES.map(|name| {
                let what = "How much of the store's database file is live, when it was looked at \
                            last; small files are not looked at.";
                (name, it.gauge("holm_database_live_bytes", what, store(name)))
            }),
            rebuilt: STORES.map(|name| {
                let what = "Times the store's database file was rebuilt because it held more than \
                            twice its live data.";
                (name, it.counter("holm_database_rebuilt_total", what, store(name)))
            }),
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

    /// How much of a store's file is live.
    pub fn set_live_bytes(&self, store: &str, bytes: u64) {
        for (_, gauge) in self.upkeep.live_bytes.iter().filter(|(name, _)| *name == store) {
            gauge.set(bytes as f64);
        }
    }

    /// How often a store's file was rebuilt since the start.
    pub fn set_rebuilt(&self, store: &str, times: u64) {
        for (_, counter) in self.upkeep.rebuilt.iter().filter(|(name, _)| *name == store) {
            counter.absolute(times);
        }
    }
}
