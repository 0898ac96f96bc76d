//! Looking after the store between two groups: checkpoints and their syncs, histories, and the rebuild of
//! the file. Each is a step that ends; what is due is looked at again after it.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::{Driver, end_of};
use crate::storage::rebuild::rest_after_step;
use crate::storage::writer::{Step, Stepped};
use crate::storage::{StoreError, Writer};

/// How long committed changes may stay out of the derived tables.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How many changed rows are written behind before that, beside the groups: the more, the fewer of redb's
/// pages are copied for each, and the longer waits who has to have the tables.
const STEP_ROWS: usize = 2_048;
/// The same where the writer has to do it itself, and does nothing else meanwhile.
const CHECKPOINT_ROWS: usize = 512;
/// From how many bytes of the journal on what is written behind is synced before the interval is over.
const SYNC_BYTES: usize = 4 << 20;
/// How long histories rest between two steps of a pass over them.
const PRUNING_STEP_REST: Duration = Duration::from_millis(100);

impl Driver {
    /// When the store is to be looked after: not while a step or a sync is under way, for which that would
    /// have to wait.
    pub(super) fn tend_at(&self) -> Instant {
        if self.is_busy() {
            return Instant::now() + CHECKPOINT_INTERVAL;
        }
        let checkpoint_at = self.dirty_since.map(|since| since + CHECKPOINT_INTERVAL);
        checkpoint_at.unwrap_or(self.prune_at).min(self.prune_at)
    }

    /// Whether the tables are being written beside the groups.
    fn is_busy(&self) -> bool {
        self.syncing.is_some() || self.stepping.is_some()
    }

    /// Has a step done beside the groups.
    fn begin_step(&mut self, step: Step) {
        let stepping = tokio::spawn(self.blocking.run(move || step.write()));
        (self.stepping, self.dirty_since) = (Some(stepping), None);
    }

    pub(super) fn stepped(
        &mut self,
        mut writer: Writer,
        stepped: Result<Stepped, StoreError>,
    ) -> Writer {
        self.stepping = None;
        self.blocking.here(|| writer.stepped(stepped));
        self.observer.tended(writer.counts());
        if writer.is_open() {
            self.begin_sync(&writer);
        }
        if !writer.is_open() || (self.syncing.is_none() && writer.ahead_bytes() > 0) {
            // To be opened again, or synced.
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        writer
    }

    /// Waits for the step that is under way, for what cannot be done beside it.
    pub(super) async fn finish_step(&mut self, mut writer: Writer) -> Writer {
        if self.stepping.is_some() {
            let stepped = end_of(&mut self.stepping).await;
            writer = self.stepped(writer, stepped);
        }
        writer
    }

    /// Has what was written behind synced, where it is time.
    fn begin_sync(&mut self, writer: &Writer) {
        let ahead_bytes = writer.ahead_bytes();
        let is_time = self.synced_at + CHECKPOINT_INTERVAL <= Instant::now();
        if self.is_busy() || ahead_bytes == 0 || !(is_time || ahead_bytes >= SYNC_BYTES) {
            return;
        }
        let syncing = tokio::spawn(self.blocking.run(writer.sync()));
        (self.syncing, self.synced_at) = (Some(syncing), Instant::now());
    }

    pub(super) fn synced(&mut self, mut writer: Writer, synced: Result<u64, StoreError>) -> Writer {
        self.syncing = None;
        let has_failed = synced.is_err();
        self.blocking.here(|| writer.synced(synced));
        if has_failed {
            // To be opened again.
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        writer
    }

    /// Does what is due.
    pub(super) async fn upkeep(&mut self, mut writer: Writer) -> Writer {
        let now = Instant::now();
        let rows_max = if writer.can_step() { STEP_ROWS } else { CHECKPOINT_ROWS };
        let is_due = self.tend_at() <= now || writer.unwritten_rows() >= rows_max;
        if !self.is_busy() && (is_due || writer.is_behind()) {
            let is_plain = writer.is_open() && self.prune_at > now;
            let step = is_plain.then(|| self.blocking.here(|| writer.begin_step())).flatten();
            match step {
                Some(step) => self.begin_step(step),
                None if is_due => writer = self.tend(writer, !is_plain).await,
                None => self.blocking.here(|| writer.catch_up()),
            }
        }
        if self.step_at.is_some_and(|at| at <= now) {
            writer = self.step_rebuild(writer).await;
        }
        writer
    }

    pub(super) async fn begin_rebuild(&mut self, writer: Writer, live_bytes: u64) -> Writer {
        let mut writer = self.finish_step(writer).await;
        let writer = self
            .blocking
            .run(move || {
                writer.begin_rebuild(live_bytes);
                writer
            })
            .await;
        self.step_at = writer.is_rebuilding().then(Instant::now);
        writer
    }

    async fn step_rebuild(&mut self, mut writer: Writer) -> Writer {
        let started = Instant::now();
        let writer = self
            .blocking
            .run(move || {
                writer.step_rebuild();
                writer
            })
            .await;
        let next = Instant::now() + rest_after_step(started.elapsed());
        self.step_at = writer.is_rebuilding().then_some(next);
        if !writer.is_open() {
            // To be opened again.
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        self.observer.tended(writer.counts());
        writer
    }

    /// Opens a store that a failure closed, and writes behind what is due; looks, where it is time,
    /// for what can go from histories, and removes that with it. What can be written beside the groups is,
    /// unless that `can_step` no more was just found out.
    async fn tend(&mut self, mut writer: Writer, can_step: bool) -> Writer {
        let is_time = self.prune_at <= Instant::now();
        let policies = is_time.then(|| (self.sources.policies)()).flatten();
        let is_known = policies.is_some();
        let now = (self.sources.now)();
        let (writer, reopened, step, written) = self
            .blocking
            .run(move || {
                let reopened = writer.ensure_open();
                let found = match &policies {
                    Some(policies) => reopened.clone().and_then(|_| writer.prune(now, policies)),
                    None => Ok(()),
                };
                if let Err(error) = found {
                    tracing::error!(%error, "histories cannot be looked through");
                }
                let step = if can_step && reopened.is_ok() { writer.begin_step() } else { None };
                let written = match &step {
                    Some(_) => Ok(()),
                    None => reopened.clone().and_then(|_| writer.write_behind()),
                };
                (writer, reopened == Ok(true), step, written)
            })
            .await;
        self.dirty_since = None;
        if is_time {
            let goes_on = is_known && writer.is_pruning();
            let rest = if goes_on { PRUNING_STEP_REST } else { self.sources.prune_every };
            self.prune_at = Instant::now() + rest;
        }
        self.observer.tended(writer.counts());
        if reopened {
            self.tell_reopened(&writer);
        }
        if let Some(step) = step {
            self.begin_step(step);
        } else if let Err(error) = written {
            tracing::error!(%error, "a checkpoint failed: opening will read more of the log");
            self.dirty_since = Some(Instant::now());
        } else {
            self.begin_sync(&writer);
            let is_behind = self.syncing.is_none() && writer.ahead_bytes() > 0;
            self.dirty_since = is_behind.then(Instant::now);
        }
        writer
    }
}
