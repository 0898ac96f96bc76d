//! How long ago the leader was heard, and how old what is applied here may be. What counts is a
//! majority: a leader that is cut off and doesn't know says with each message when a majority had
//! answered it last. And to have heard is not to have caught up: what is applied is as new as a
//! message only once everything is applied that was decided when it was sent.
//!
//! No two clocks are compared, and no delay is guessed: a message may have been under way for any
//! time. Each answer to the leader carries this node's tick, which means something to this node
//! alone. The leader gives the last one back, and says how much later than the arrival of that
//! answer a majority had answered it. An answer arrives after it was sent: so much later than the
//! tick, at least, it was by this node's clock. That is too old by what the answer was under way,
//! and never too young.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::time::Instant;

use super::store::StoreHandle;
use super::types::{RaftId, TypeConfig};
use crate::env::WallClock;

/// Where the leader never was heard: longer than anything that asks.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// For how long an age is not worked out anew.
const GLANCE: Duration = Duration::from_millis(1);

/// Most messages that are remembered while what they tell of is not applied yet.
const AHEAD_MAX: usize = 256;

pub(super) type Metrics = WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// The last sign of a leader with a majority.
pub(super) struct Contact {
    heard: Mutex<Heard>,
    metrics: OnceLock<Metrics>,
    store: StoreHandle,
    clock: Arc<dyn WallClock>,
    ticks: Ticks,
}

/// What is known of this node as the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lead {
    /// A majority had answered it then.
    pub(super) at: Instant,
    /// Everything that was decided until then has this index at most.
    pub(super) decided: u64,
}

#[derive(Default)]
struct Heard {
    /// When a sign of the leader arrived, less its age: whether there is one, and no proof.
    at: Option<Instant>,
    /// When a majority had answered the leader, at the earliest, as messages say up to which
    /// everything is applied.
    applied: Option<Instant>,
    /// Messages that tell of more than is applied: up to which index, and when.
    ahead: VecDeque<(u64, Instant)>,
    /// When it was asked last how old what is applied may be, and what came out.
    glance: Option<(Instant, Duration)>,
}

/// Moments of this process as numbers that others give back. They start anywhere, so that one of a
/// process before is not taken for one of this.
struct Ticks {
    first: u64,
    from: Instant,
}

impl Ticks {
    fn at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.from).as_micros();
        self.first.wrapping_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// When it was, if it was by `now`.
    fn when(&self, tick: u64, now: Instant) -> Option<Instant> {
        let at = self.from + Duration::from_micros(tick.wrapping_sub(self.first)).min(NEVER);
        (at <= now).then_some(at)
    }
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
    /// Its ticks start at `first`, which is best drawn.
    pub(super) fn new(store: StoreHandle, clock: Arc<dyn WallClock>, first: u64) -> Self {
        let ticks = Ticks { first, from: Instant::now() };
        Self { heard: Mutex::default(), metrics: OnceLock::new(), store, clock, ticks }
    }

    /// Now, for a leader to give back.
    pub(super) fn tick(&self) -> u64 {
        self.ticks.at(Instant::now())
    }

    /// The moment of a tick that came back; none if it is of another process.
    pub(super) fn when(&self, tick: u64) -> Option<Instant> {
        self.ticks.when(tick, Instant::now())
    }

    /// Where to see whether this node leads.
    pub(super) fn watch(&self, metrics: Metrics) {
        let _ = self.metrics.set(metrics);
    }

    /// The leader was heard; a majority had answered it then, or about then.
    pub(super) fn heard(&self, at: Instant) {
        let mut heard = self.lock();
        heard.at = heard.at.max(Some(at));
    }

    /// A majority had answered the leader at `at`, not before, and everything that was decided
    /// until then has the index `decided` at most.
    pub(super) fn proven(&self, at: Instant, decided: u64) {
        let applied = *self.store.applied().borrow();
        let is_newer = {
            let mut heard = self.lock();
            let before = heard.applied;
            // Where too many wait, the newest go: the oldest are the first to be reached.
            if heard.ahead.len() < AHEAD_MAX {
                heard.ahead.push_back((decided, at));
            }
            heard.catch_up(applied);
            heard.applied > before
        };
        if is_newer {
            let age = self.lock().applied.unwrap_or(at).elapsed();
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
        if leads_alone(&metrics) {
            return Some(Duration::ZERO);
        }
        // One that was elected a moment ago was elected by a majority, but when is not known.
        Some(metrics.last_quorum_acked.map_or(NEVER, |at| at.elapsed()))
    }

    /// What this node knows as the leader; it is noted. None where it does not lead, or cannot say
    /// yet what was decided under others before it.
    pub(super) fn lead(&self) -> Option<Lead> {
        let now = Instant::now();
        let lead = {
            let metrics = self.metrics.get()?.borrow_watched();
            if metrics.state != ServerState::Leader {
                return None;
            }
            let at = match leads_alone(&metrics) {
                true => now,
                // Not later than it was: some time has passed since `now`.
                false => now.checked_sub(metrics.last_quorum_acked?.elapsed())?,
            };
            let committed = metrics.cluster_committed?;
            // What was decided under others before is decided here with its own first entry.
            if committed.leader_id != metrics.vote.leader_id {
                return None;
            }
            // Who leads alone may have decided more than the metrics tell; but has applied it.
            let applied = *self.store.applied().borrow();
            Lead { at, decided: committed.index.max(applied) }
        };
        self.heard(lead.at);
        self.proven(lead.at, lead.decided);
        Some(lead)
    }

    /// How old what is applied here may be. Every answer tells it, so that it is worked out once
    /// in [`GLANCE`] and ages by itself in between: too old by that much at most, never too young.
    pub(super) fn age(&self) -> Duration {
        let now = Instant::now();
        if let Some((at, age)) = self.lock().glance {
            let since = now.saturating_duration_since(at);
            if since < GLANCE {
                return age + since;
            }
        }
        let age = self.worked_out_age();
        self.lock().glance = Some((now, age));
        age
    }

    fn worked_out_age(&self) -> Duration {
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

    /// How long ago a leader with a majority was heard, since this node's start; the time that its
    /// messages were under way is not in it.
    pub(super) fn age_since_start(&self) -> Option<Duration> {
        self.lock().at.map(|at| at.elapsed())
    }
}

/// Whether this node is the only voter.
fn leads_alone(metrics: &RaftMetrics<TypeConfig>) -> bool {
    let mut voters = metrics.membership_config.voter_ids();
    voters.all(|id: RaftId| id == metrics.id)
}

#[cfg(test)]
pub(super) mod tests;
