//! Works through the queue of what is to be recorded: denied attempts, summed where they are alike,
//! and recorded reads go onto this node's chains in batches. It waits for the disk, so that no request
//! does; what finds no room is counted, and the count recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::shipping::Shipping;
use super::{Answers, Desk, Note, ask_heads};
use crate::audit::heads::CHAINS;
use crate::audit::summing::Summing;
use crate::audit::{Decision, Event, Source};
use crate::env::WallClock;
use crate::gossip::{Gossip, StreamKind};
use crate::model::{RegionName, Text};
use crate::node::store::Store;
use crate::settings::AuditSettings;

/// Most events that are recorded together.
const BATCH_MAX: usize = 256;
/// How often sums are looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long recording may take before it counts as failed.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// What works through the queue of events.
pub(in crate::node) struct DeskRun {
    pub(super) desk: Desk,
    pub(super) receiver: mpsc::Receiver<Note>,
    pub(super) clock: Arc<dyn WallClock>,
    /// What decides where its records are shipped to, and how fast.
    pub(super) region: RegionName,
    pub(super) settings: AuditSettings,
}

/// Events to be recorded, by the chain they go on.
type Batch = [Vec<Event>; CHAINS];

impl DeskRun {
    /// Records what comes, until `stop`, and then all that waits and the sums. Peers are asked for
    /// their heads beside it.
    pub(in crate::node) fn start(
        self,
        store: Store,
        gossip: Option<Gossip>,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        if let Some(gossip) = gossip {
            gossip.respond(StreamKind::Audit, Arc::new(Answers(Arc::downgrade(&self.desk.0))));
            tokio::spawn(ask_heads(self.desk.clone(), gossip.clone(), stop.clone()));
            let (desk, region) = (self.desk.clone(), self.region.clone());
            if let Some(shipping) = Shipping::new(desk, gossip, region, &self.settings) {
                tokio::spawn(shipping.run(stop.clone()));
            }
        }
        tokio::spawn(self.run(store, stop))
    }

    async fn run(mut self, store: Store, mut stop: watch::Receiver<bool>) {
        let mut sums: [Summing; CHAINS] = Default::default();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut batch = Batch::default();
            let stopped = async {
                // The sender is gone: that is a stop, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            let first = tokio::select! {
                biased;
                () = stopped => break,
                note = self.receiver.recv() => note,
                _ = tick.tick() => None,
            };
            let mut next = first;
            let mut count = 0;
            while let Some(note) = next {
                take(&mut sums, &mut batch, note);
                count += 1;
                next = if count < BATCH_MAX { self.receiver.try_recv().ok() } else { None };
            }
            for (sums, events) in sums.iter_mut().zip(&mut batch) {
                events.extend(sums.due(Instant::now()));
            }
            self.record(&store, batch).await;
        }
        self.receiver.close();
        let mut batch = Batch::default();
        while let Some(note) = self.receiver.recv().await {
            take(&mut sums, &mut batch, note);
        }
        for (sums, events) in sums.iter_mut().zip(&mut batch) {
            events.extend(sums.finish());
        }
        self.record(&store, batch).await;
    }

    async fn record(&self, store: &Store, [mut config, quorum]: Batch) {
        let dropped = self.desk.0.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            config.push(self.dropped_event(dropped));
        }
        let counts = (config.iter().map(|it| it.count).sum::<u64>(), quorum.len() as u64);
        if !config.is_empty() {
            let recorded = timeout(RECORD_TIMEOUT, store.record(config)).await;
            if !matches!(recorded, Ok(Ok(()))) {
                tracing::error!(?recorded, "audit records were not taken by the config store");
                self.desk.drop_notes(counts.0);
            }
        }
        if !quorum.is_empty() {
            let recorded = timeout(RECORD_TIMEOUT, self.desk.0.quorum.record(quorum)).await;
            if !matches!(recorded, Ok(Ok(()))) {
                tracing::error!(?recorded, "audit records were not taken by the quorum store");
                self.desk.drop_notes(counts.1);
            }
        }
    }

    /// That so many events were not recorded is something to be known itself.
    fn dropped_event(&self, count: u64) -> Event {
        let node = Text::from(self.desk.0.node.as_str());
        Event {
            at: self.clock.now(),
            principal: "-".into(),
            action: "audit.dropped".into(),
            target: "-".into(),
            decision: Decision::Denied("there was no room to record them".into()),
            outcome: "failed: not recorded".into(),
            source: Source { node, address: None, request: "-".into() },
            count,
            index: None,
        }
    }
}

fn take(sums: &mut [Summing; CHAINS], batch: &mut Batch, note: Note) {
    let chain = note.chain as usize;
    let event = match note.kind {
        Some(kind) => sums[chain].offer(kind, note.event, Instant::now()),
        None => Some(note.event),
    };
    batch[chain].extend(event);
}
