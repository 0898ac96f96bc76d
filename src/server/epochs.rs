//! Next epochs of documents. Whoever leads the quorum looks which documents have more changes than
//! they should, works out what their next epoch would begin with, has the quorum decide that, and
//! writes what was decided into the config path, where it spreads as any change. Nobody stops
//! writing for it, and where there is no quorum nothing is rolled. Every node says when documents
//! are past the hard cap, and who holds them up.
//!
//! With a roll goes what is folded of origins that nobody writes as any more (`folding`), so that vectors
//! stay short. It has nothing to do with the document.
//!
//! What was decided and not written, because its leader was lost in between, the next one writes.
//! Two records of one decision say the same, and the second changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::Source;
use crate::config::roll::Roll;
use crate::env::Env;
use crate::gossip::Acknowledged;
use crate::model::vector::{FOLDED_MAX, Fold};
use crate::model::{DocumentId, Stamp, Told, Vector};
use crate::node::{EpochStatus, Node};
use crate::planted::{Bug, is_planted};
use crate::registry::command::EpochRoll;
use crate::registry::limits::FLOOR_ORIGINS_MAX;
use crate::registry::{Command, Proposal};
use crate::settings::{EpochSettings, Settings};
use crate::storage::{Plan, RollError};
use crate::telemetry::RollResult;

mod due;
mod folding;

use due::Due;
use folding::{Bounds, Folding};

/// Most documents that are looked at more closely in one round; a round is also over when the next
/// one is due.
const PLANS_MAX: usize = 64;
/// Most documents that are tried for a fold alone, in one round.
const FOLD_TRIES_MAX: usize = 4;
/// How long a proposal may take.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is said that documents are past the hard cap.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Looks after epochs until it is told to stop.
pub(super) async fn run(
    node: Node,
    env: Env,
    settings: Arc<Settings>,
    mut stop: watch::Receiver<bool>,
) {
    let mut coordinator = Coordinator {
        node,
        env,
        settings: settings.epochs.clone(),
        due: Due::default(),
        folding: Folding::default(),
        unfinished: BTreeSet::new(),
        said_at: None,
    };
    loop {
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        if tokio::time::timeout(coordinator.settings.check_every, stopped).await.is_ok() {
            return;
        }
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        tokio::select! {
            biased;
            _ = stopped => return,
            () = coordinator.round() => {}
        }
    }
}

struct Coordinator {
    node: Node,
    env: Env,
    settings: EpochSettings,
    due: Due,
    folding: Folding,
    /// Epochs that were decided and had not begun here when it was looked last.
    unfinished: BTreeSet<(DocumentId, u32)>,
    said_at: Option<Instant>,
}

impl Coordinator {
    async fn round(&mut self) {
        self.say_past_hard_cap();
        // Whoever leads next knows what has not moved for how long.
        self.folding.look(&self.node.snapshot().vector, Instant::now());
        let quorum = self.node.quorum();
        if quorum.status().role != "leader" || !quorum.glance().is_founded() {
            self.due = Due::default();
            self.unfinished.clear();
            return;
        }
        let until = Instant::now() + self.settings.check_every;
        self.finish(until).await;
        if self.settings.soft_cap == 0 {
            return;
        }
        let acknowledged = self.node.acknowledged();
        let Some(floor) = self.floor(&acknowledged) else { return };
        let mut fold = self.fold(&acknowledged, &floor).await;
        let mut floor = floor.told();
        let snapshot = self.node.snapshot();
        let over = snapshot.documents_over(self.settings.soft_cap);
        for document in self.due.pick(over, PLANS_MAX) {
            if Instant::now() >= until {
                break;
            }
            // What everybody has goes on meanwhile, and the less is late. A fold is of its own floor.
            if fold.is_none() {
                let Some(now) = self.floor(&self.node.acknowledged()) else { break };
                floor = now.told();
            }
            let result = self.roll(&document, &floor, fold.as_ref()).await;
            self.node.metrics().roll_done(result);
            match result {
                RollResult::Rolled => {
                    self.due.rolled(&document);
                    fold = None;
                }
                RollResult::HeldUp | RollResult::Refused | RollResult::Failed => {
                    self.due.rest(&document);
                }
            }
        }
        let mut others: Vec<_> = match fold {
            Some(_) => snapshot.documents.iter().map(|(id, view)| (view.changes, id)).collect(),
            None => Vec::new(),
        };
        others.sort_by_key(|(changes, document)| (std::cmp::Reverse(*changes), *document));
        for (_, document) in others.into_iter().take(FOLD_TRIES_MAX) {
            if fold.is_none() || Instant::now() >= until {
                break;
            }
            let result = self.roll(document, &floor, fold.as_ref()).await;
            self.node.metrics().roll_done(result);
            if result == RollResult::Rolled {
                fold = None;
            }
        }
    }

    /// What is to be folded, if anything is: the next one after those that all members know.
    async fn fold(&self, acknowledged: &Acknowledged, floor: &Vector) -> Option<Fold> {
        let mine = self.node.snapshot().vector.clone();
        let bounds = Bounds {
            mine: &mine,
            floor,
            acknowledged,
            decided: self.node.quorum().state().folded,
            is_taken_by_all: self.node.all_take_folds(acknowledged),
            present: &self.node.present_origins(acknowledged),
            soft_cap: self.settings.origins_soft_cap,
            idle: self.settings.origins_idle,
            folded_max: FOLDED_MAX,
        };
        let due = self.folding.due(&bounds, Instant::now());
        if due.is_empty() {
            return None;
        }
        let rows = match self.node.fold_rows(due).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "no origins are folded");
                return None;
            }
        };
        Fold::new(mine.generation() + 1, rows).ok()
    }

    /// What everybody has that is waited for; none where that is not known, or too long to decide,
    /// and where somebody's program would refuse what comes of it.
    fn floor(&self, acknowledged: &Acknowledged) -> Option<Vector> {
        if !self.node.all_take_epochs(acknowledged) {
            return None;
        }
        let floor = acknowledged.floor.clone()?;
        if floor.len() > FLOOR_ORIGINS_MAX {
            tracing::warn!(origins = floor.len(), "no epoch is rolled: too many origins");
            return None;
        }
        (!floor.is_empty()).then_some(floor)
    }

    /// Writes what was decided before, and had not been written one round ago either.
    async fn finish(&mut self, until: Instant) {
        let (state, snapshot) = (self.node.quorum().state(), self.node.snapshot());
        let is_ahead = |(document, roll): &(&DocumentId, &Arc<EpochRoll>)| {
            let epoch = snapshot.document(document).map_or(0, |view| view.epoch());
            roll.epoch > epoch
        };
        let mut unfinished = BTreeSet::new();
        for (document, roll) in state.epochs.iter().filter(is_ahead) {
            let this = (document.clone(), roll.epoch);
            let is_old = self.unfinished.contains(&this);
            unfinished.insert(this);
            if is_old && Instant::now() < until {
                tracing::info!(%document, epoch = roll.epoch, "an epoch was decided and not begun");
                self.write(document, roll).await;
            }
        }
        self.unfinished = unfinished;
    }

    async fn roll(&self, document: &DocumentId, floor: &Told, fold: Option<&Fold>) -> RollResult {
        let keep = u64::try_from(self.settings.removals_keep.as_micros()).unwrap_or(u64::MAX);
        let now = self.node.corrected(self.env.clock.now());
        let removals_before = Stamp(now.0.saturating_sub(keep));
        let plan = match self.node.plan_roll(document, floor, removals_before).await {
            Ok(plan) => plan,
            Err(RollError::Behind | RollError::Ahead) => return RollResult::HeldUp,
            Err(error) => {
                tracing::warn!(%document, %error, "a next epoch cannot be worked out");
                return RollResult::Failed;
            }
        };
        let Plan { epoch, base, changes, late } = plan;
        if !due::is_worth_it(changes, late) {
            return RollResult::HeldUp;
        }
        let roll =
            EpochRoll { epoch, floor: floor.clone(), base, removals_before, fold: fold.cloned() };
        match self.decide(document, &roll).await {
            RollResult::Rolled => {}
            other => return other,
        }
        let folds = fold.map_or(0, |fold| fold.rows().len());
        tracing::info!(%document, epoch, changes, late, folds, "a next epoch was decided");
        self.write(document, &roll).await
    }

    async fn decide(&self, document: &DocumentId, roll: &EpochRoll) -> RollResult {
        if is_planted(Bug::RollWithoutDecision) {
            return RollResult::Rolled;
        }
        let node = self.node.name().as_str().into();
        let proposal = Proposal {
            at: self.env.clock.now(),
            caller: None,
            source: Source { node, address: None, request: "epochs".into() },
            idempotency: None,
            command: Command::RollEpoch { document: document.clone(), roll: roll.clone() },
        };
        let epoch = roll.epoch;
        match self.node.quorum().propose(proposal, Instant::now() + PROPOSE_TIMEOUT).await {
            Ok(decided) => match decided.outcome {
                Ok(_) => RollResult::Rolled,
                Err(refusal) => {
                    tracing::warn!(%document, epoch, %refusal, "a next epoch was refused");
                    RollResult::Refused
                }
            },
            Err(error) => {
                tracing::warn!(%document, epoch, %error, "no next epoch was decided");
                RollResult::Failed
            }
        }
    }

    async fn write(&self, document: &DocumentId, decided: &EpochRoll) -> RollResult {
        let EpochRoll { epoch, floor, base, removals_before, fold } = decided.clone();
        let roll = Roll { epoch, floor, base, removals_before, fold };
        match self.node.roll(document, roll).await {
            Ok(_) => RollResult::Rolled,
            Err(error) => {
                tracing::warn!(%document, epoch, %error, "an epoch that was decided did not begin");
                RollResult::Failed
            }
        }
    }

    fn say_past_hard_cap(&mut self) {
        if self.said_at.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        let over = self.node.snapshot().documents_over(self.settings.hard_cap).count();
        if over == 0 {
            return;
        }
        self.said_at = Some(Instant::now());
        let EpochStatus { changes_max, held_up_by, .. } = self.node.epochs();
        let by: Vec<String> = held_up_by.iter().map(ToString::to_string).collect();
        tracing::warn!(
            documents = over,
            changes_max,
            held_up_by = by.join(", "),
            "documents are past the hard cap of changes: each costs more than it should"
        );
    }
}
