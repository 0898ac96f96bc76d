//! When a database file is rebuilt: once it holds more than twice what is live in it. Looks, asks the
//! store's driver, and leaves the work to it.

use std::sync::Arc;

use tokio::sync::watch;

use super::store::Store;
use crate::env::{Blocking, Disk};
use crate::quorum::Quorum;
use crate::settings::StorageSettings;
use crate::telemetry::{Metrics, STORES};

/// How many times as much as is live a file may hold.
const FACTOR_MAX: u64 = 2;
/// After how many looks a file that was rebuilt is looked at again: rows that are written out of order
/// leave their pages half empty soon enough, and a rebuild costs as much as all of them.
const REST_LOOKS: u32 = 6;

/// What looks at the files, and tells.
pub(super) struct Compaction {
    pub(super) store: Store,
    pub(super) quorum: Quorum,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) blocking: Blocking,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: StorageSettings,
}

impl Compaction {
    /// Looks again and again, until `stop`.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut rests = STORES.map(|store| (store, 0));
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.settings.compact_check_every) => {}
            }
            for (store, rest) in &mut rests {
                if *rest > 0 {
                    *rest -= 1;
                } else if self.look(store).await {
                    *rest = REST_LOOKS;
                }
            }
        }
    }

    /// Looks at one file; says whether it asked for a rebuild.
    async fn look(&self, store: &'static str) -> bool {
        let Ok(Some(bytes)) = self.disk.len(&format!("{store}.redb")) else { return false };
        if !self.settings.compact || bytes < self.settings.compact_bytes_min {
            return false;
        }
        let live = match store {
            "quorum" => self.quorum.live_bytes(&self.blocking).await,
            _ => {
                let config = self.store.clone();
                self.blocking.run(move || config.live_bytes().map(Some)).await
            }
        };
        let live = match live {
            Ok(Some(live)) => live,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, store, "how much of a store is live cannot be seen");
                return false;
            }
        };
        self.metrics.set_live_bytes(store, live);
        is_worth_it(bytes, live)
            && match store {
                "quorum" => self.quorum.rebuild(live),
                _ => self.store.rebuild(live),
            }
    }
}

fn is_worth_it(bytes: u64, live: u64) -> bool {
    bytes > live.saturating_mul(FACTOR_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rebuilt_past_twice_what_is_live() {
        assert!(!is_worth_it(200, 100));
        assert!(is_worth_it(201, 100));
        assert!(!is_worth_it(u64::MAX, u64::MAX));
    }
}
