//! The runtimes of the world: one thread each in turn, time that passes only where all wait, and
//! every choice seeded.

use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio::time::Instant;

/// A runtime, and its first instant.
pub(super) fn build(seed: u64) -> std::io::Result<(Runtime, Instant)> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.build()?;
    let instant = {
        let _entered = runtime.enter();
        Instant::now()
    };
    Ok((runtime, instant))
}
