//! How often and how soon something may be tried again. Pure: the time and the randomness come from
//! the caller.
//!
//! The budget is a bucket of tokens. A second attempt of any request takes one; requests and time put
//! them back, slowly. While all is well it is full, so that a region that dies is left at once; while
//! all is bad it is empty, so that clients ask once each and do not make an outage worse.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// Attempts that can be made beyond the first ones, at once.
const TOKENS_MAX: f64 = 20.0;
/// What each request puts back: one attempt in ten, in the long run.
const PER_REQUEST: f64 = 0.1;
/// What each second puts back, so that a client that asks seldom is not left with nothing.
const PER_SECOND: f64 = 0.5;

/// Longest pause before the first attempt that follows one.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
/// Longest pause of all.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The attempts that may be made again.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    at: Instant,
}

impl Budget {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: TOKENS_MAX, at: now }
    }

    /// A request begins.
    pub(super) fn earn(&mut self, now: Instant) {
        self.pass(now);
        self.put(PER_REQUEST);
    }

    /// Takes what one more attempt costs, if it is there.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.pass(now);
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }

    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.put(passed.as_secs_f64() * PER_SECOND);
    }

    fn put(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(TOKENS_MAX);
    }
}

/// How long to wait before the next attempt, after so many pauses: anything up to a bound that
/// doubles ("full jitter"), so that clients that failed together do not return together.
pub(super) fn pause(pauses: u32, random: &mut impl Rng) -> Duration {
    let longest = PAUSE_FIRST.saturating_mul(2u32.saturating_pow(pauses.min(16))).min(PAUSE_MAX);
    longest.mul_f64(random.random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_gets_a_burst_of_attempts_and_then_one_in_ten() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let burst = (0..100).filter(|_| budget.take(now)).count();
        assert_eq!(burst, 20);
        let again = (0..1_000).filter(|_| {
            budget.earn(now);
            budget.take(now)
        });
        assert!((95..=105).contains(&again.count()));
    }

    #[tokio::test(start_paused = true)]
    async fn time_fills_it_again_and_never_more_than_full() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        while budget.take(start) {}
        assert!(!budget.take(after(start, 1)));
        assert!(budget.take(after(start, 2)));
        let rested = (0..100).filter(|_| budget.take(after(start, 10_000))).count();
        assert_eq!(rested, 20);
        // A clock that goes back gives nothing, and does no harm.
        assert!(!budget.take(start));
    }

    #[test]
    fn pauses_vary_from_nothing_up_to_a_bound_that_doubles_and_ends() {
        let mut random = StdRng::seed_from_u64(7);
        for (pauses, longest_ms) in [(0, 25), (1, 50), (2, 100), (10, 1_000), (u32::MAX, 1_000)] {
            let drawn: Vec<Duration> = (0..1_000).map(|_| pause(pauses, &mut random)).collect();
            let longest = Duration::from_millis(longest_ms);
            assert!(drawn.iter().all(|pause| *pause < longest));
            assert!(drawn.iter().any(|pause| *pause < longest / 10), "{pauses}");
            assert!(drawn.iter().any(|pause| *pause > longest / 10 * 9), "{pauses}");
        }
    }
}
