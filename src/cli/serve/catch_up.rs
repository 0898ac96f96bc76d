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

/// When the log was told last that the node is not ready, and why.
#[derive(Default)]
struct Told {
    why: String,
    at: Option<Instant>,
}

impl Told {
    /// Whether to say it again at `now`: for another reason, or after a while. How far it is, which is
    /// what comes behind a colon, is no other reason.
    fn is_due(&mut self, why: &str, now: Instant) -> bool {
        let why = why.split_once(": ").map_or(why, |(why, _)| why);
        let is_due = why != self.why || self.at.is_none_or(|at| now - at >= SAY_EVERY);
        if is_due {
            *self = Self { why: why.to_owned(), at: Some(now) };
        }
        is_due
    }
}

/// Shows how far `node` is until it is ready. Whoever does not see it any more is no reason to stop.
pub(super) async fn show(node: &Node, terminal: &mut Terminal<'_>) {
    let begun = Instant::now();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
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
        if !terminal.err_is_terminal && told.is_due(&why, Instant::now()) {
            let (came, of) = came.unwrap_or_default();
            tracing::info!(came, of, "not ready yet: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_every_so_often_however_fast_it_goes_and_at_once_why_else() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut lines = Vec::new();
        while begun.elapsed() < 2 * SAY_EVERY + LOOK_EVERY {
            let ms = begun.elapsed().as_millis();
            let why = match ms {
                0..=4_999 => format!("taking whole documents: {ms} of 90000, {ms} KiB"),
                _ => format!("not yet caught up with the peers: {ms} KiB"),
            };
            if told.is_due(&why, Instant::now()) {
                lines.push(ms);
            }
            tokio::time::advance(LOOK_EVERY).await;
        }
        assert_eq!(lines, [0, 5_000, 15_000]);
    }
}
