//! The runtimes of the world: one thread each in turn, time that passes only where all wait, and
//! every choice seeded. Work takes no time, but not without end: a runtime that polls its tasks over
//! and over gets older by it, as on a real processor, so that a node that spins does not stop the
//! world.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Handle, RngSeed, Runtime};
use tokio::sync::Notify;
use tokio::time::{Instant, advance, sleep_until};

/// How often tasks are polled in a millisecond of a busy processor.
const POLLS_PER_MS: u32 = 2_000;
/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

/// A runtime that is stepped.
pub(super) struct Stepped {
    runtime: Runtime,
    began: Instant,
    meter: Arc<Meter>,
}

/// How much was done.
#[derive(Default)]
struct Meter {
    /// Polls of tasks in this step.
    polls: AtomicU32,
    /// Milliseconds' worth of them since the start that took virtual time.
    busy_ms: AtomicU64,
    spent: Notify,
}

impl Stepped {
    pub(super) fn new(seed: u64) -> std::io::Result<Self> {
        let meter = Arc::<Meter>::default();
        let metered = meter.clone();
        let mut builder = Builder::new_current_thread();
        builder
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
            .on_before_task_poll(move |_| {
                let polls = metered.polls.fetch_add(1, Ordering::Relaxed) + 1;
                if polls.is_multiple_of(POLLS_PER_MS) {
                    metered.spent.notify_one();
                }
            });
        let runtime = builder.build()?;
        let began = {
            let _entered = runtime.enter();
            Instant::now()
        };
        Ok(Self { runtime, began, meter })
    }

    /// Its first instant.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Makes its time the time of whoever looks on.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Milliseconds since the start in which it did nothing but poll its tasks.
    pub(super) fn busy_ms(&self) -> u64 {
        self.meter.busy_ms.load(Ordering::Relaxed)
    }

    /// Runs until so long after its first instant. `missed` of that have passed at once.
    pub(super) fn step(&self, missed: Duration, until: Duration) {
        self.meter.polls.store(0, Ordering::Relaxed);
        let until = self.began + until;
        self.runtime.block_on(async {
            if !missed.is_zero() {
                advance(missed).await;
            }
            loop {
                tokio::select! {
                    biased;
                    () = sleep_until(until) => return,
                    () = self.meter.spent.notified() => {
                        self.meter.busy_ms.fetch_add(1, Ordering::Relaxed);
                        advance(TICK.min(until - Instant::now())).await;
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_never_waits_gets_older_by_it() {
        let stepped = Stepped::new(1).unwrap();
        let spins = stepped.handle().spawn(async {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(7) {
                tokio::task::yield_now().await;
            }
        });
        stepped.step(Duration::ZERO, Duration::from_millis(5));
        assert!(!spins.is_finished());
        assert_eq!(stepped.busy_ms(), 5);
        stepped.step(Duration::ZERO, Duration::from_millis(10));
        assert!(spins.is_finished());
        assert_eq!(stepped.busy_ms(), 7);
    }

    #[test]
    fn waiting_takes_no_work() {
        let stepped = Stepped::new(1).unwrap();
        let waits =
            stepped.handle().spawn(async { tokio::time::sleep(Duration::from_secs(60)).await });
        stepped.step(Duration::ZERO, Duration::from_secs(59));
        assert!(!waits.is_finished());
        stepped.step(Duration::from_secs(1), Duration::from_secs(61));
        assert!(waits.is_finished());
        assert_eq!(stepped.busy_ms(), 0);
    }
}
