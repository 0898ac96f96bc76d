//! How a node's store stands, and who is told of what it commits.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::feed::Hub;
use super::store::Observer;
use crate::config::Snapshot;
use crate::env::{Env, WallClock};
use crate::gossip::Gossip;
use crate::model::Origin;
use crate::storage::writer::Counts;
use crate::storage::{Committed, Writer};
use crate::telemetry::Metrics;

/// How the store stands, as its driver saw it last.
#[derive(Default)]
pub(super) struct Standing(Mutex<(Counts, Option<Origin>)>);

impl Standing {
    /// Sets what is known now, and gives what was known before.
    pub(super) fn set(&self, counts: Counts, origin: Origin) -> Counts {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *standing, (counts, Some(origin))).0
    }

    /// Takes note of how the log stands; all else is set with commits, which are counted by it.
    fn set_log(&self, counts: Counts) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.0.log_records = counts.log_records;
        standing.0.log_trimmed = counts.log_trimmed;
    }

    pub(super) fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn origin(&self) -> Origin {
        let standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.1.unwrap_or(Origin([0; 8]))
    }
}

/// Tells everyone of what was committed.
pub(super) struct Watcher {
    pub(super) hub: Arc<Hub>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn WallClock>,
    published: Arc<ArcSwap<Snapshot>>,
    pub(super) gossip: Arc<OnceLock<Gossip>>,
}

impl Observer for Watcher {
    fn committed(&self, committed: &Committed, counts: Counts, origin: Origin, took: Duration) {
        let before = self.standing.set(counts, origin);
        if (committed.records > 0 || committed.reopened)
            && let Some(gossip) = self.gossip.get()
        {
            gossip.push(&committed.own);
            gossip.advanced();
        }
        if committed.reopened {
            self.hub.restart(&self.published.load());
        } else {
            self.hub.publish(&committed.touched);
        }
        if committed.records == 0 && counts.quarantined == before.quarantined {
            return;
        }
        self.metrics.commit_done(took, committed.outcomes.len());
        let documents = self.published.load().documents.len();
        self.metrics.set_view(documents, counts.rows, counts.conflicts);
        for needed in before.documents_needed..counts.documents_needed {
            let loaded = counts.documents_loaded - before.documents_loaded;
            self.metrics.document_needed(needed - before.documents_needed >= loaded);
        }
        self.metrics.set_documents_in_memory(counts.documents_bytes, counts.documents_evicted);
        let now = self.clock.now();
        for stamp in &committed.remote {
            let age = Duration::from_micros(now.0.saturating_sub(stamp.0));
            self.metrics.propagation_done(age);
        }
        self.metrics.quarantined(counts.quarantined.saturating_sub(before.quarantined));
    }

    fn tended(&self, counts: Counts) {
        self.metrics.set_pruned(counts.pruned.rows, counts.pruned.keys_left);
        self.metrics.set_rebuilt("config", counts.rebuilt);
        self.standing.set_log(counts);
    }
}

impl Watcher {
    pub(super) fn new(
        env: &Env,
        writer: &Writer,
        standing: &Arc<Standing>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            hub: Arc::default(),
            standing: standing.clone(),
            metrics: metrics.clone(),
            clock: env.clock.clone(),
            published: writer.published(),
            gossip: Arc::default(),
        }
    }
}
