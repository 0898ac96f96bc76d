//! Virtual time: where each runtime stands on it, and what a node's wall clock makes of it. Nothing
//! here reads the machine's clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::env::WallClock;
use crate::model::Stamp;

/// What every wall clock shows at the start of a run: 2030-01-01, in microseconds. A date that the
/// machine does not have, so that whoever reads the machine's clock all the same is found out.
pub(crate) const EPOCH_US: u64 = 1_893_456_000_000_000;

/// Where one runtime stands in virtual time. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Timeline(Arc<Mutex<Place>>);

#[derive(Default)]
struct Place {
    /// While it does not run.
    at_us: u64,
    /// While it runs: an instant of its own paused clock, and which virtual time that is.
    running: Option<(Instant, u64)>,
}

impl Timeline {
    /// Microseconds since the start of the run.
    pub(crate) fn now_us(&self) -> u64 {
        let place = self.place();
        match place.running {
            None => place.at_us,
            Some((instant, at_us)) => {
                let passed = Instant::now().saturating_duration_since(instant).as_micros();
                at_us + u64::try_from(passed).unwrap_or(u64::MAX)
            }
        }
    }

    /// From now on its runtime is entered, on which `instant` was `at_us`.
    pub(crate) fn enter(&self, instant: Instant, at_us: u64) {
        self.place().running = Some((instant, at_us));
    }

    /// Its runtime was left at `at_us`.
    pub(crate) fn leave(&self, at_us: u64) {
        *self.place() = Place { at_us, running: None };
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node's wall clock: virtual time from [`EPOCH_US`] on, which can jump and run fast or slow. It
/// survives the node's restarts, as a machine's clock does.
pub(crate) struct NodeClock {
    timeline: Timeline,
    reading: Mutex<Reading>,
}

/// What the clock showed when it was last set.
struct Reading {
    set_at_us: u64,
    showed_us: u64,
    ppm: i32,
}

impl Reading {
    fn at(&self, now_us: u64) -> u64 {
        let passed = i128::from(now_us.saturating_sub(self.set_at_us));
        let shows = i128::from(self.showed_us) + passed + passed * i128::from(self.ppm) / 1_000_000;
        u64::try_from(shows.max(0)).unwrap_or(u64::MAX)
    }
}

impl NodeClock {
    pub(crate) fn new(timeline: Timeline) -> Self {
        let reading = Reading { set_at_us: 0, showed_us: EPOCH_US, ppm: 0 };
        Self { timeline, reading: Mutex::new(reading) }
    }

    /// Jumps by so many microseconds; negative: back.
    pub(crate) fn step(&self, by_us: i64) {
        self.set(|reading| reading.showed_us = reading.showed_us.saturating_add_signed(by_us));
    }

    /// Runs so many millionths too fast from now on; negative: too slow.
    pub(crate) fn drift(&self, ppm: i32) {
        self.set(|reading| reading.ppm = ppm);
    }

    fn set(&self, change: impl FnOnce(&mut Reading)) {
        let now_us = self.timeline.now_us();
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.showed_us = reading.at(now_us);
        reading.set_at_us = now_us;
        change(&mut reading);
    }
}

impl WallClock for NodeClock {
    fn now(&self) -> Stamp {
        let now_us = self.timeline.now_us();
        Stamp(self.reading.lock().unwrap_or_else(PoisonError::into_inner).at(now_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_jumps_and_drifts_from_where_it_stands() {
        let timeline = Timeline::default();
        let clock = NodeClock::new(timeline.clone());
        timeline.leave(1_000_000);
        assert_eq!(clock.now(), Stamp(EPOCH_US + 1_000_000));
        clock.step(-3_000_000);
        assert_eq!(clock.now(), Stamp(EPOCH_US - 2_000_000));
        clock.drift(500);
        timeline.leave(3_000_000);
        assert_eq!(clock.now(), Stamp(EPOCH_US + 1_000));
        clock.drift(-1_000_000);
        timeline.leave(9_000_000);
        assert_eq!(clock.now(), Stamp(EPOCH_US + 1_000));
        clock.drift(0);
        timeline.leave(9_000_005);
        assert_eq!(clock.now(), Stamp(EPOCH_US + 1_005));
    }

    #[test]
    fn inside_a_paused_runtime_time_is_that_runtimes() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let timeline = Timeline::default();
        runtime.block_on(async {
            timeline.enter(Instant::now(), 7_000);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            assert_eq!(timeline.now_us(), 9_000);
        });
        timeline.leave(10_000);
        assert_eq!(timeline.now_us(), 10_000);
    }
}
