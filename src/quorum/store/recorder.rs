//! Puts records into the journal on the thread of whoever asks for it: nobody has to be woken up to
//! write them, or to say that they are on disk. Whoever asks meanwhile shares the next write; it is
//! made in their name by a task. Where the writer is at work, or has decisions to put on the chain
//! first, or the journal has no room, records go the writer's way, with its next commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use super::shared::Shared;
use super::writer::{Answer, Job, Work};
use crate::audit::Event;
use crate::env::Blocking;
use crate::storage::StoreError;
use crate::storage::database::Database;

/// Who waits, and for what.
struct Waiting {
    events: Vec<Event>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// Those who wait for the journal.
#[derive(Default)]
pub(super) struct Pending {
    waiting: Vec<Waiting>,
    /// Whether somebody writes, or is about to, and takes the others along.
    is_led: bool,
}

/// Records events. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
    database: Arc<Database>,
    jobs: mpsc::Sender<Job>,
    blocking: Blocking,
}

impl Recorder {
    pub(super) fn new(
        shared: Arc<Shared>,
        database: Arc<Database>,
        jobs: mpsc::Sender<Job>,
        blocking: Blocking,
    ) -> Self {
        Self { shared, database, jobs, blocking }
    }

    /// Puts events on the chain; they are on disk when it returns. Whoever does not wait for that
    /// has them recorded all the same.
    pub(super) async fn record(&self, events: Vec<Event>) -> Result<(), StoreError> {
        let (done, is_done) = oneshot::channel();
        let leads = {
            let mut pending = self.shared.pending();
            pending.waiting.push(Waiting { events, done });
            !std::mem::replace(&mut pending.is_led, true)
        };
        // There is no way out between this and the end of the write.
        if leads && self.lead() {
            let this = self.clone();
            tokio::spawn(async move {
                while this.lead() {
                    tokio::task::yield_now().await;
                }
            });
        }
        is_done.await.map_err(|_| self.shared.failure_or_closed()).flatten()
    }

    /// Writes what waits; says whether more came meanwhile.
    fn lead(&self) -> bool {
        /// Nobody leads any more, also where writing panicked: whoever waits hears of that.
        struct Led<'a>(&'a Shared);
        impl Drop for Led<'_> {
            fn drop(&mut self) {
                let mut pending = self.0.pending();
                if std::thread::panicking() {
                    pending.waiting.clear();
                }
                pending.is_led = !pending.waiting.is_empty();
            }
        }
        let group = std::mem::take(&mut self.shared.pending().waiting);
        {
            let _led = Led(&self.shared);
            self.blocking.here(|| self.write(group));
        }
        self.shared.pending().is_led
    }

    fn write(&self, group: Vec<Waiting>) {
        let Some(mut chain) = self.shared.try_chain() else { return self.by_writer(group) };
        // A record does not overtake that of a decision which it may follow from.
        let must_follow = self.shared.events_waiting.load(Ordering::SeqCst) > 0;
        if chain.is_closed || chain.is_ahead || must_follow {
            drop(chain);
            return self.by_writer(group);
        }
        let mut head = chain.head;
        let mut records = Vec::new();
        for event in group.iter().flat_map(|one| &one.events) {
            let bytes = head.append(event.clone());
            records.push((head.seq, Arc::from(bytes)));
        }
        match chain.journal.append(&records) {
            Ok(true) => {}
            Ok(false) => {
                drop(chain);
                return self.by_writer(group);
            }
            Err(error) => {
                self.shared.fail(&self.database, &mut chain, &error);
                return group.into_iter().for_each(|one| drop(one.done.send(Err(error.clone()))));
            }
        }
        chain.head = head;
        let is_first = {
            let mut tail = self.shared.tail();
            let is_first = tail.is_empty();
            tail.extend(records);
            is_first
        };
        self.shared.head.send_replace(head);
        drop(chain);
        if is_first {
            self.fold_later();
        }
        // Whoever does not wait any more needs no answer.
        group.into_iter().for_each(|one| drop(one.done.send(Ok(()))));
    }

    /// Has the writer put the journal's records into the table by and by. Where there is no room for
    /// another job, one of those that wait does.
    pub(super) fn fold_later(&self) {
        let _ = self.jobs.try_send(Job::new(Work::Fold, Answer::Nobody));
    }

    /// Has the writer do it.
    fn by_writer(&self, group: Vec<Waiting>) {
        let job = |one: Waiting| Job::new(Work::Record(one.events), Answer::Caller(one.done));
        let mut group = group.into_iter().map(job);
        while let Some(job) = group.next() {
            // Where the writer is gone, whoever waits hears that by the answer that does not come.
            if let Err(mpsc::error::TrySendError::Full(job)) = self.jobs.try_send(job) {
                let (jobs, rest) = (self.jobs.clone(), group.collect::<Vec<_>>());
                tokio::spawn(async move {
                    for job in std::iter::once(job).chain(rest) {
                        let _ = jobs.send(job).await;
                    }
                });
                return;
            }
        }
    }
}
