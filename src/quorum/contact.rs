//! How long ago the leader was heard. What counts is a majority: a leader that is cut off and
//! doesn't know says with each message when a majority had answered it last.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::time::Instant;

use super::store::StoreHandle;
use super::types::TypeConfig;
use crate::env::WallClock;

/// Where the leader never was heard: longer than anything that asks.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) type Metrics = WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// The last sign of a leader with a majority.
pub(super) struct Contact {
    heard: Mutex<Option<Instant>>,
    metrics: OnceLock<Metrics>,
    store: StoreHandle,
    clock: Arc<dyn WallClock>,
}

impl Contact {
    pub(super) fn new(store: StoreHandle, clock: Arc<dyn WallClock>) -> Self {
        Self { heard: Mutex::default(), metrics: OnceLock::new(), store, clock }
    }

    /// Where to see whether this node leads.
    pub(super) fn watch(&self, metrics: Metrics) {
        let _ = self.metrics.set(metrics);
    }

    /// The leader was heard; a majority had answered it `age` ago.
    pub(super) fn heard(&self, age: Duration) {
        let Some(at) = Instant::now().checked_sub(age) else { return };
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if heard.is_some_and(|heard| heard >= at) {
                return;
            }
            *heard = Some(at);
        }
        let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let mut stamp = self.clock.now();
        stamp.0 = stamp.0.saturating_sub(age);
        self.store.note_contact(stamp);
    }

    /// How long ago a majority answered this node as its leader; none where it does not lead.
    pub(super) fn majority_age(&self) -> Option<Duration> {
        let metrics = self.metrics.get()?.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let voters = metrics.membership_config.voter_ids();
        if voters.count() <= 1 {
            return Some(Duration::ZERO);
        }
        // One that was elected a moment ago was elected by a majority, but when is not known.
        Some(metrics.last_quorum_acked.map_or(NEVER, |at| at.elapsed()))
    }

    /// The same, and what it means is noted.
    pub(super) fn lead(&self) -> Option<Duration> {
        let age = self.majority_age()?;
        self.heard(age);
        Some(age)
    }

    /// How old what is applied here may be.
    pub(super) fn age(&self) -> Duration {
        self.lead();
        if let Some(age) = self.age_since_start() {
            return age;
        }
        let Some(at) = self.store.contact() else { return NEVER };
        Duration::from_micros(self.clock.now().0.saturating_sub(at.0))
    }

    /// The same, where it was heard since this node's start.
    pub(super) fn age_since_start(&self) -> Option<Duration> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|at| at.elapsed())
    }
}
