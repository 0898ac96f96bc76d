//! How long ago the leader was heard, and how old what is applied here may be. What counts is a
//! majority: a leader that is cut off and doesn't know says with each message when a majority had
//! answered it last. And to have heard is not to have caught up: what is applied is as new as a
//! message only once everything is applied that was decided when it was sent.

use std::collections::VecDeque;
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

/// Most messages that are remembered while what they tell of is not applied yet.
const AHEAD_MAX: usize = 256;

pub(super) type Metrics = WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// The last sign of a leader with a majority.
pub(super) struct Contact {
    heard: Mutex<Heard>,
    metrics: OnceLock<Metrics>,
    store: StoreHandle,
    clock: Arc<dyn WallClock>,
}

#[derive(Default)]
struct Heard {
    /// When a majority had answered the leader, as the newest message says.
    at: Option<Instant>,
    /// The same of messages up to which everything is applied.
    applied: Option<Instant>,
    /// Messages that tell of more than is applied: up to which index, and when.
    ahead: VecDeque<(u64, Instant)>,
}

impl Heard {
    /// Takes note of what is applied.
    fn catch_up(&mut self, applied: u64) {
        while let Some((_, at)) = self.ahead.pop_front_if(|(index, _)| *index <= applied) {
            self.applied = self.applied.max(Some(at));
        }
    }
}

impl Contact {
    pub(super) fn new(store: StoreHandle, clock: Arc<dyn WallClock>) -> Self {
        Self { heard: Mutex::default(), metrics: OnceLock::new(), store, clock }
    }

    /// Where to see whether this node leads.
    pub(super) fn watch(&self, metrics: Metrics) {
        let _ = self.metrics.set(metrics);
    }

    /// The leader was heard; a majority had answered it `age` ago, and everything up to `decided`
    /// was decided.
    pub(super) fn heard(&self, age: Duration, decided: u64) {
        let Some(at) = Instant::now().checked_sub(age) else { return };
        let applied = *self.store.applied().borrow();
        let is_newer = {
            let mut heard = self.lock();
            heard.at = heard.at.max(Some(at));
            let before = heard.applied;
            // Where too many wait, the newest go: the oldest are the first to be reached.
            if heard.ahead.len() < AHEAD_MAX {
                heard.ahead.push_back((decided, at));
            }
            heard.catch_up(applied);
            heard.applied > before
        };
        if is_newer {
            let age = self.lock().applied.map_or(age, |at| at.elapsed());
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            let mut stamp = self.clock.now();
            stamp.0 = stamp.0.saturating_sub(age);
            self.store.note_contact(stamp);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
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
        let decided = self.metrics.get()?.borrow_watched().last_applied.map_or(0, |id| id.index);
        self.heard(age, decided);
        Some(age)
    }

    /// How old what is applied here may be.
    pub(super) fn age(&self) -> Duration {
        self.lead();
        let applied = *self.store.applied().borrow();
        let at = {
            let mut heard = self.lock();
            heard.catch_up(applied);
            heard.applied
        };
        if let Some(at) = at {
            return at.elapsed();
        }
        let Some(at) = self.store.contact() else { return NEVER };
        Duration::from_micros(self.clock.now().0.saturating_sub(at.0))
    }

    /// How long ago a leader with a majority was heard, since this node's start.
    pub(super) fn age_since_start(&self) -> Option<Duration> {
        self.lock().at.map(|at| at.elapsed())
    }
}
