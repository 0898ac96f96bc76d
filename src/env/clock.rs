//! The time of day, for stamps, certificates and expiry. Never for waiting: that is `tokio::time`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;

use crate::model::Stamp;

/// A clock that may jump, backwards too.
pub trait WallClock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch.
    fn now(&self) -> Stamp;

    /// The same for certificates.
    fn unix_time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_micros(self.now().0))
    }

    /// The same for libraries that take the standard library's type.
    fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.now().0)
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    fn now(&self) -> Stamp {
        // A clock before 1970 counts as 1970: stamps stay above what they replace either way.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Stamp(since_epoch.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A clock that stands still until it is set. Clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `at`.
    pub fn new(at: Stamp) -> Self {
        Self(Arc::new(AtomicU64::new(at.0)))
    }

    /// Shows `at` from now on.
    pub fn set(&self, at: Stamp) {
        self.0.store(at.0, Ordering::SeqCst);
    }

    /// Moves on by `by`.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl WallClock for ManualClock {
    fn now(&self) -> Stamp {
        Stamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_clock_shows_the_same_time() {
        let clock = ManualClock::new(Stamp(1_700_000_000_000_000));
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), Stamp(1_700_000_001_500_000));
        assert_eq!(clock.unix_time().as_secs(), 1_700_000_001);
        let system = clock.system_time().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(system, Duration::from_millis(1_700_000_001_500));
    }

    #[test]
    fn the_machines_clock_is_past_the_day_this_was_written() {
        assert!(SystemClock.now() > Stamp(1_700_000_000_000_000));
    }
}
