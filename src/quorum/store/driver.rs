//! Runs the writer: whatever waits in the queue goes to it as one group. It keeps no state.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::writer::{Answer, Job, Work, Writer};
use crate::env::Blocking;

/// Most jobs in one transaction.
const GROUP_MAX: usize = 1_024;

/// How long what is applied may be in memory alone, where nothing else takes it to disk.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Runs `writer` until nobody is left who could queue a job, then closes it.
pub(super) async fn run(mut writer: Writer, mut queue: mpsc::Receiver<Job>, blocking: Blocking) {
    let mut flush_at = None;
    loop {
        let mut jobs = Vec::new();
        let received = queue.recv_many(&mut jobs, GROUP_MAX);
        let received = match flush_at {
            Some(at) => timeout_at(at, received).await.ok(),
            None => Some(received.await),
        };
        if received == Some(0) {
            break;
        }
        if flush_at.is_some_and(|at| at <= Instant::now()) {
            let at = jobs.iter().position(|job| matches!(job.work, Work::Close));
            jobs.insert(at.unwrap_or(jobs.len()), Job::new(Work::Flush, Answer::Nobody));
        }
        let closing = jobs.iter().position(|job| matches!(job.work, Work::Close));
        let late = closing.map(|at| jobs.split_off(at)).unwrap_or_default();
        writer = blocking
            .run(move || {
                if !jobs.is_empty() {
                    writer.commit(jobs);
                }
                writer.close_for(late);
                writer
            })
            .await;
        let is_dirty = writer.is_dirty();
        flush_at = is_dirty.then(|| flush_at.unwrap_or_else(|| Instant::now() + FLUSH_AFTER));
    }
    // Whether it could be closed in order is said by the mark, and in the log.
    if let Err(error) = blocking.run(move || writer.close()).await {
        tracing::debug!(%error, "the quorum's store is not closed in order");
    }
}
