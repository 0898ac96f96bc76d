//! When the log is trimmed, and up to where: what every member has that is waited for, and what is older
//! than it has to be kept. Nothing goes while one of them was never heard, or its program would not
//! know what to do without it. What goes, the store knows (`storage::trim`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::epochs::all_take_epochs;
use super::store::Store;
use crate::env::WallClock;
use crate::gossip::Gossip;
use crate::members::Members;
use crate::model::{Stamp, Vector};
use crate::storage::trim::TrimBounds;

/// How long the log rests between two passes over it, at most, and at least.
const REST_MAX: Duration = Duration::from_secs(60);
const REST_MIN: Duration = Duration::from_secs(1);
/// And between two steps of one.
const STEP_REST: Duration = Duration::from_millis(100);

/// Trims the log of a node.
pub(super) struct Trimming {
    pub(super) store: Store,
    pub(super) gossip: Option<Gossip>,
    pub(super) members: Arc<Members>,
    pub(super) clock: Arc<dyn WallClock>,
    /// How long records are kept.
    pub(super) keep: Duration,
}

impl Trimming {
    /// Trims until the node stops.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.trim_for_ever() => {}
        }
    }

    async fn trim_for_ever(&self) {
        loop {
            sleep((self.keep / 4).clamp(REST_MIN, REST_MAX)).await;
            let mut records = 0;
            while let Some(bounds) = self.bounds() {
                match self.store.trim(bounds).await {
                    Ok(step) => {
                        records += step.records;
                        if !step.is_under_way {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "the log cannot be trimmed");
                        break;
                    }
                }
                sleep(STEP_REST).await;
            }
            if records > 0 {
                tracing::info!(records, "records that every member has were trimmed from the log");
            }
        }
    }

    fn bounds(&self) -> Option<TrimBounds> {
        let acknowledged = self.acknowledged()?;
        let keep = u64::try_from(self.keep.as_micros()).unwrap_or(u64::MAX);
        Some(TrimBounds { acknowledged, before: Stamp(self.clock.now().0.saturating_sub(keep)) })
    }

    fn acknowledged(&self) -> Option<Vector> {
        let Some(gossip) = &self.gossip else {
            return Some((*self.store.snapshot().vector).clone());
        };
        let acknowledged = gossip.acknowledged();
        all_take_epochs(&self.members, &acknowledged).then_some(acknowledged.floor)?
    }
}
