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
const REST_LOOKS: u64 = 6;
/// A look reads all of a file, so that one of many times this size rests for as many looks.
const LOOK_BYTES: u64 = 4 << 30;

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
                match *rest {
                    0 => *rest = self.look(store).await,
                    _ => *rest -= 1,
                }
            }
        }
    }

    /// Looks at one file, and asks for a rebuild where that is worth it; says for how many looks the
    /// file rests.
    async fn look(&self, store: &'static str) -> u64 {
        let Ok(Some(bytes)) = self.disk.len(&format!("{store}.redb")) else { return 0 };
        if !self.settings.compact || bytes < self.settings.compact_bytes_min {
            return 0;
        }
        let has_begun = self.rebuild(store, bytes).await;
        rests(bytes, has_begun)
    }

    /// Asks for a rebuild of a file of so many bytes, where that is worth it; says whether.
    async fn rebuild(&self, store: &'static str, bytes: u64) -> bool {
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

fn rests(bytes: u64, has_begun: bool) -> u64 {
    let after_rebuild = if has_begun { REST_LOOKS } else { 0 };
    after_rebuild.max(bytes / LOOK_BYTES)
}

fn is_worth_it(bytes: u64, live: u64) -> bool {
    bytes > live.saturating_mul(FACTOR_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_read_as_much_less_often() {
        assert_eq!((rests(1 << 30, false), rests(1 << 30, true)), (0, 6));
        assert_eq!((rests(400 << 30, false), rests(400 << 30, true)), (100, 100));
    }

    #[test]
    fn a_file_is_rebuilt_past_twice_what_is_live() {
        assert!(!is_worth_it(200, 100));
        assert!(is_worth_it(201, 100));
        assert!(!is_worth_it(u64::MAX, u64::MAX));
    }
}
