//! Runs the writer: whatever waits in the queue goes to it as one group. Where there are threads,
//! it has one of its own that waits for jobs itself: whoever waits for a commit waits for one
//! thread to wake up, not for a task and then for a thread. A simulation has it as a task.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::writer::{Answer, Job, Work, Writer};
use crate::env::{Blocking, wait_here};
use crate::storage::rebuild;

/// Most jobs in one transaction.
const GROUP_MAX: usize = 1_024;

/// How long what is applied may be in memory alone, where nothing else takes it to disk.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// How long records may be in the journal alone.
const FOLD_AFTER: Duration = Duration::from_secs(1);

/// Runs `writer` until nobody is left who could queue a job, and closes it then.
pub(super) fn start(
    writer: Writer,
    mut queue: mpsc::Receiver<Job>,
    blocking: Blocking,
) -> std::io::Result<()> {
    let mut run = Run { writer, held: Vec::new(), flush_at: None, step_at: None };
    if blocking == Blocking::Threads {
        return blocking.own_thread("quorum-writer", move || {
            loop {
                let mut jobs = Vec::new();
                let received = wait_here(queue.recv_many(&mut jobs, GROUP_MAX), run.wake_at());
                if received == Some(0) {
                    return run.end();
                }
                run.commit(jobs);
            }
        });
    }
    tokio::spawn(async move {
        loop {
            let mut jobs = Vec::new();
            let received = queue.recv_many(&mut jobs, GROUP_MAX);
            let received = match run.wake_at() {
                Some(at) => timeout_at(at, received).await.ok(),
                None => Some(received.await),
            };
            if received == Some(0) {
                return run.end();
            }
            run.commit(jobs);
        }
    });
    Ok(())
}

struct Run {
    writer: Writer,
    /// What nobody waits for: it goes with the next group that somebody waits for, in the same
    /// transaction.
    held: Vec<Job>,
    /// When what is held, or committed and not on disk, goes there at the latest.
    flush_at: Option<Instant>,
    /// When the next step of rebuilding the file is due.
    step_at: Option<Instant>,
}

impl Run {
    /// Until when to wait for jobs.
    fn wake_at(&self) -> Option<Instant> {
        self.flush_at.into_iter().chain(self.step_at).min()
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let is_flush_due = self.flush_at.is_some_and(|at| at <= Instant::now());
        if !jobs.is_empty() || is_flush_due {
            self.commit_jobs(jobs);
        }
        if !self.writer.is_rebuilding() {
            self.step_at = None;
        } else if self.step_at.is_none_or(|at| at <= Instant::now()) {
            let started = Instant::now();
            self.writer.step_rebuild();
            self.step_at = Some(Instant::now() + rebuild::rest_after_step(started.elapsed()));
        }
    }

    fn commit_jobs(&mut self, jobs: Vec<Job>) {
        self.note_held(&jobs);
        self.held.extend(jobs);
        let is_due = self.flush_at.is_some_and(|at| at <= Instant::now());
        if !is_due && self.held.len() < GROUP_MAX && self.held.iter().all(Job::can_wait) {
            return;
        }
        let mut jobs = std::mem::take(&mut self.held);
        if is_due {
            let at = jobs.iter().position(|job| matches!(job.work, Work::Close));
            jobs.insert(at.unwrap_or(jobs.len()), Job::new(Work::Flush, Answer::Nobody));
        }
        let closing = jobs.iter().position(|job| matches!(job.work, Work::Close));
        let late = closing.map(|at| jobs.split_off(at)).unwrap_or_default();
        if !jobs.is_empty() {
            self.writer.commit(jobs);
        }
        self.writer.close_for(late);
        let flush_at = self.flush_at.filter(|_| !is_due);
        let next = || flush_at.unwrap_or_else(|| Instant::now() + FLUSH_AFTER);
        self.flush_at = self.writer.is_dirty().then(next);
    }

    /// Sets when what is held now goes to disk at the latest.
    fn note_held(&mut self, jobs: &[Job]) {
        let after = jobs.iter().map(|job| match job.work {
            Work::Fold => FOLD_AFTER,
            _ => FLUSH_AFTER,
        });
        if let Some(after) = after.min() {
            let at = Instant::now() + after;
            self.flush_at = Some(self.flush_at.map_or(at, |before| before.min(at)));
        }
    }

    fn end(mut self) {
        if !self.held.is_empty() {
            self.writer.commit(std::mem::take(&mut self.held));
        }
        // Whether it could be closed in order is said by the mark, and in the log.
        if let Err(error) = self.writer.close() {
            tracing::debug!(%error, "the quorum's store is not closed in order");
        }
    }
}
