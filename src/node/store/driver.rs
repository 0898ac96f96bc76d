//! The task that has the store's writer: it gathers commands into groups, has each carried out, and
//! answers. Between two groups it does one task, or what `upkeep` finds due.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Job, Observer, Sources, Task};
use crate::env::Blocking;
use crate::storage::writer::Stepped;
use crate::storage::{Committed, StoreError, Writer};

/// Most commands in one group.
const GROUP_MAX: usize = 512;

/// Drives a writer.
pub(super) struct Driver {
    pub(super) blocking: Blocking,
    pub(super) sources: Sources,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) tick: watch::Sender<()>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) tasks: mpsc::Receiver<Task>,
    pub(super) dirty_since: Option<Instant>,
    /// What comes of the sync of what was written behind, where one is under way.
    pub(super) syncing: Option<JoinHandle<Result<u64, StoreError>>>,
    /// What comes of the step of writing behind that is under way beside the groups. Never with a sync.
    pub(super) stepping: Option<JoinHandle<Result<Stepped, StoreError>>>,
    /// When the last sync began.
    pub(super) synced_at: Instant,
    /// When histories are to be looked at.
    pub(super) prune_at: Instant,
    /// Asked-for rebuilds of the file, by how much is live in it.
    pub(super) rebuilds: mpsc::Receiver<u64>,
    /// When the next step of the one under way is due.
    pub(super) step_at: Option<Instant>,
}

impl Driver {
    pub(super) async fn run(mut self, mut writer: Writer, mut stop: watch::Receiver<bool>) {
        loop {
            let tend_at = self.tend_at();
            let upkeep_at = self.step_at.map_or(tend_at, |step_at| step_at.min(tend_at));
            let stopped = async {
                // The sender is gone: that is a stop, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            let job = tokio::select! {
                biased;
                () = stopped => None,
                synced = end_of(&mut self.syncing) => {
                    writer = self.synced(writer, synced);
                    continue;
                }
                stepped = end_of(&mut self.stepping) => {
                    writer = self.stepped(writer, stepped);
                    continue;
                }
                // What cannot be done beside a step waits for it here, and groups go on.
                Some(task) = self.tasks.recv(), if self.stepping.is_none() => {
                    writer = self.task(writer, task).await;
                    continue;
                }
                job = self.jobs.recv() => job,
                Some(live_bytes) = self.rebuilds.recv(), if self.stepping.is_none() => {
                    writer = self.begin_rebuild(writer, live_bytes).await;
                    continue;
                }
                () = tokio::time::sleep_until(upkeep_at) => {
                    writer = self.upkeep(writer).await;
                    continue;
                }
            };
            let Some(job) = job else { break };
            writer = self.group(writer, job).await;
            // Jobs go first; where there are always some, the rest has its turn in between.
            if self.stepping.is_none()
                && let Ok(live_bytes) = self.rebuilds.try_recv()
            {
                writer = self.begin_rebuild(writer, live_bytes).await;
            }
            writer = self.upkeep(writer).await;
        }
        self.jobs.close();
        // What was taken before the stop is still carried out.
        while let Some(job) = self.jobs.recv().await {
            writer = self.group(writer, job).await;
        }
        writer = self.finish_step(writer).await;
        if self.syncing.is_some() {
            let synced = end_of(&mut self.syncing).await;
            writer = self.synced(writer, synced);
        }
        let closed = self.blocking.run(move || writer.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store could not be closed in order");
        }
    }

    async fn group(&mut self, mut writer: Writer, first: Job) -> Writer {
        let started = Instant::now();
        if writer.has_much_unwritten() {
            writer = self.finish_step(writer).await;
        }
        let mut commands = vec![first.command];
        let mut replies = vec![(first.reply, first._room)];
        while commands.len() < GROUP_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            commands.push(job.command);
            replies.push((job.reply, job._room));
        }
        let now = (self.sources.now)();
        // Here: waking a thread and being woken by it takes a lone write about as long again.
        let committed = self.blocking.here(|| writer.commit(now, &commands));
        if committed.records > 0 || !writer.is_open() || writer.ahead_bytes() > 0 {
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        self.observer.committed(&committed, writer.counts(), writer.origin(), started.elapsed());
        self.tick.send_replace(());
        for ((reply, _), outcome) in replies.into_iter().zip(committed.outcomes) {
            // Whoever asked may have gone away; the write stands all the same.
            let _ = reply.send(outcome);
        }
        writer
    }

    async fn task(&mut self, writer: Writer, task: Task) -> Writer {
        let mut writer = self.finish_step(writer).await;
        match task {
            Task::Take(whole, reply) => {
                let take = move || {
                    let taken = writer.take(&whole);
                    (writer, taken)
                };
                let taken;
                (writer, taken) = self.blocking.run(take).await;
                self.dirty_since.get_or_insert_with(Instant::now);
                if taken.is_ok() {
                    self.tell_reopened(&writer);
                }
                let _ = reply.send(taken);
            }
            Task::Trim(bounds, reply) => {
                let trim = move || {
                    let trimmed = writer.trim(&bounds);
                    (writer, trimmed)
                };
                let trimmed;
                (writer, trimmed) = self.blocking.run(trim).await;
                self.observer.tended(writer.counts());
                if trimmed.is_err() {
                    self.dirty_since.get_or_insert_with(Instant::now);
                }
                let _ = reply.send(trimmed);
            }
            Task::Archive(archived, reply) => {
                let archive = move || {
                    let done = writer.archive(&archived);
                    (writer, done)
                };
                let done;
                (writer, done) = self.blocking.run(archive).await;
                if done.is_err() {
                    self.dirty_since.get_or_insert_with(Instant::now);
                }
                let _ = reply.send(done);
            }
        }
        writer
    }

    /// Tells everyone that any row may have changed.
    pub(super) fn tell_reopened(&self, writer: &Writer) {
        let committed = Committed { reopened: true, ..Committed::default() };
        self.observer.committed(&committed, writer.counts(), writer.origin(), Duration::ZERO);
        self.tick.send_replace(());
    }
}

/// The end of a sync or a step that is under way. A panic in it goes on here.
pub(super) async fn end_of<T>(
    under_way: &mut Option<JoinHandle<Result<T, StoreError>>>,
) -> Result<T, StoreError> {
    let Some(end) = under_way else { return std::future::pending().await };
    match end.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down and drops this task next.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "a step broke")]
    async fn a_panic_in_a_step_goes_on_in_the_driver() {
        let step = tokio::spawn(async { panic!("a step broke") });
        let _: Result<Stepped, StoreError> = end_of(&mut Some(step)).await;
    }

    #[tokio::test]
    async fn what_came_of_a_step_is_told() {
        let step = tokio::spawn(async { Err::<u64, _>(StoreError::Failed("full".into())) });
        assert_eq!(end_of(&mut Some(step)).await, Err(StoreError::Failed("full".into())));
    }
}
