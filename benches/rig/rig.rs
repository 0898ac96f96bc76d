//! What the benchmarks that start servers have in common: the servers themselves, the load, what a
//! measurement is, and loads that more than one of them measures. Says what came out; what should
//! come out is the business of each.
#![allow(dead_code, reason = "each program uses its part of it")]

use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod bare;
pub(crate) mod distance;
pub(crate) mod etcd;
pub(crate) mod grpc;
pub(crate) mod healing;
pub(crate) mod holm;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod process;
pub(crate) mod propagation;
pub(crate) mod puts;

/// How long and how often, for all measurements.
pub(crate) struct Plan {
    /// How often the sides are measured, in turn.
    pub(crate) rounds: usize,
    /// How long one side's load lasts in one round.
    pub(crate) time: Duration,
    /// Where servers keep what they store.
    pub(crate) dir: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Plan {
    /// With a runtime for what is not part of a load.
    pub(crate) fn new(rounds: usize, seconds: f64, dir: PathBuf) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let time = Duration::from_secs_f64(seconds);
        Ok(Self { rounds: rounds.max(1), time, dir, runtime })
    }

    /// Runs what is not part of a load.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// How long one side's load lasts in this round: the first warms up.
    pub(crate) fn time_of(&self, round: usize) -> Duration {
        if round == 0 { self.time / 2 } else { self.time }
    }
}

/// The first round warms up and is not counted.
pub(crate) fn label(round: usize) -> String {
    if round == 0 { "warm-up".to_owned() } else { format!("round {round}") }
}
