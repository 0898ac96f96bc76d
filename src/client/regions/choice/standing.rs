//! One place, as it stands: what was said and measured of it, and which of two is the better.

use std::time::Duration;

use tokio::time::Instant;

/// A place is nearer only where a round trip takes so much less…
const NEARER_BY: Duration = Duration::from_millis(5);
/// … and no more than this share of the other's.
const NEARER_SHARE: f64 = 0.8;

/// What is said of a place from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) struct Rank {
    /// The lower, the earlier.
    pub(in crate::client) priority: u16,
    /// The higher, the more often among those that are about as near; none where their order says.
    pub(in crate::client) weight: Option<u16>,
}

/// How a place stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) enum Health {
    /// Not measured yet.
    Unknown,
    /// It answers.
    Healthy,
    /// It does not, so many times in a row.
    Failed {
        /// In words.
        why: String,
        /// How often in a row.
        failures: u32,
    },
}

/// One place.
#[derive(Clone, Debug)]
pub(in crate::client) struct Standing {
    pub(super) rank: Rank,
    /// Whether the last list of places still has it.
    pub(super) is_named: bool,
    pub(in crate::client) health: Health,
    /// A round trip, as measured; slower requests do not count.
    pub(in crate::client) rtt: Option<Duration>,
    /// How long requests take to be answered, and how much that varies.
    pub(super) took: Option<(Duration, Duration)>,
    /// Whether a request waited too long for it.
    pub(super) is_suspected: bool,
    /// It said that it wants no requests before.
    pub(super) busy_until: Option<Instant>,
    /// When it is measured next.
    pub(super) due_at: Instant,
    /// Since when it has been the better choice.
    pub(super) better_since: Option<Instant>,
    /// When it was returned to, if it was.
    pub(super) returned_at: Option<Instant>,
    /// How often it failed soon after.
    pub(super) relapses: u32,
}

impl Standing {
    pub(super) fn new(rank: Rank, now: Instant) -> Self {
        Self {
            rank,
            is_named: true,
            health: Health::Unknown,
            rtt: None,
            took: None,
            is_suspected: false,
            busy_until: None,
            due_at: now,
            better_since: None,
            returned_at: None,
            relapses: 0,
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.health == Health::Healthy
    }

    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| until > now)
    }

    /// Whether it is clearly nearer.
    pub(super) fn is_nearer_than(&self, other: &Self) -> bool {
        match (self.rtt, other.rtt) {
            (Some(own), Some(other)) => {
                own + NEARER_BY <= other && own <= other.mul_f64(NEARER_SHARE)
            }
            (own, other) => own.is_some() && other.is_none(),
        }
    }

    /// Whether it would be the better choice.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        match self.rank.priority.cmp(&other.rank.priority) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.is_nearer_than(other),
            std::cmp::Ordering::Greater => false,
        }
    }

    pub(super) fn seen_healthy(&mut self) {
        self.health = Health::Healthy;
        self.is_suspected = false;
    }
}
