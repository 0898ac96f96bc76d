//! What `holm serve` shows while its node catches up, until it is ready: a bar where somebody watches,
//! and lines in the log. It only looks; the node is ready when it says so itself.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::Terminal;
use crate::node::Node;

/// How often the bar moves.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often the log says how far it is, where there is no bar.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Shows how far `node` is until it is ready. Whoever does not see it any more is no reason to stop.
pub(super) async fn show(node: &Node, terminal: &mut Terminal<'_>) {
    let begun = Instant::now();
    let mut said = begun;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited_for = String::new();
    loop {
        ticks.tick().await;
        let readiness = node.readiness();
        let came = node.catch_up();
        let _ = match (came, &readiness) {
            (Some(came), _) => terminal.bar(came, "changes"),
            (None, Err(why)) => terminal.progress(why),
            (None, Ok(())) => Ok(()),
        };
        let Err(why) = readiness else {
            let _ = terminal.progress_ends();
            let (changes, took_ms) =
                (came.map_or(0, |(came, _)| came), begun.elapsed().as_millis());
            let took_ms = u64::try_from(took_ms).unwrap_or(u64::MAX);
            tracing::info!(changes, took_ms, "ready");
            return;
        };
        let is_due = why != waited_for || said.elapsed() >= SAY_EVERY;
        if is_due && !terminal.err_is_terminal {
            let (came, of) = came.unwrap_or_default();
            tracing::info!(came, of, "not ready yet: {why}");
            said = Instant::now();
        }
        waited_for = why;
    }
}
