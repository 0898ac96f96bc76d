//! The metrics of documents' epochs. No label names a document: there may be any number of them.

use metrics::{Counter, Gauge, Label};

use super::metrics::{Metrics, Registrar};

/// What can come of an attempt at a next epoch.
const RESULTS: [&str; 4] = ["rolled", "held_up", "refused", "failed"];

/// How a node's documents stand with their epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochStanding {
    /// Documents past the soft cap.
    pub over_soft_cap: usize,
    /// Documents past the hard one.
    pub over_hard_cap: usize,
    /// Most changes that a document's epoch has.
    pub changes_max: u64,
    /// Epochs since the start whose base did not come to what was agreed.
    pub mismatches: u64,
    /// Documents that wait for such an epoch.
    pub mismatched: usize,
    /// Origins that the node's vector names.
    pub origins_named: usize,
    /// Origins that are folded.
    pub origins_folded: usize,
}

/// What came of an attempt at a next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollResult {
    /// It was decided, and the document is in it.
    Rolled,
    /// Not all that is needed is with everybody yet.
    HeldUp,
    /// The quorum had decided otherwise.
    Refused,
    /// No quorum answered, or the store failed.
    Failed,
}

/// Handles of the epochs' metrics.
pub(super) struct EpochMetrics {
    over_soft_cap: Gauge,
    over_hard_cap: Gauge,
    changes_max: Gauge,
    mismatches: Counter,
    mismatched: Gauge,
    origins: [Gauge; 2],
    rolls: [Counter; 4],
}

impl EpochMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let gauge = |name, what| it.gauge(name, what, vec![]);
        let rolls = RESULTS.map(|result| {
            let what = "Attempts of this node, as leader, at a document's next epoch, by result.";
            it.counter("holm_epoch_rolls_total", what, vec![Label::new("result", result)])
        });
        Self {
            over_soft_cap: gauge(
                "holm_epoch_documents_over_soft_cap",
                "Documents with more changes in their epoch than `epochs.soft_cap`.",
            ),
            over_hard_cap: gauge(
                "holm_epoch_documents_over_hard_cap",
                "Documents with more changes in their epoch than `epochs.hard_cap`.",
            ),
            changes_max: gauge("holm_epoch_changes_max", "Most changes in one document's epoch."),
            mismatches: it.counter(
                "holm_epoch_mismatches_total",
                "Epochs whose base did not come to what was agreed.",
                vec![],
            ),
            mismatched: gauge(
                "holm_epoch_documents_mismatched",
                "Documents that wait for an epoch whose base did not come to what was agreed.",
            ),
            origins: ["named", "folded"].map(|state| {
                let what = "Origins of changes: those that the node's vector names, and those that are \
                            folded because nobody writes as them any more.";
                it.gauge("holm_origins", what, vec![Label::new("state", state)])
            }),
            rolls,
        }
    }
}

impl Metrics {
    /// How the node's documents stand with their epochs.
    pub fn set_epochs(&self, epochs: &EpochStanding) {
        let it = &self.epochs;
        it.over_soft_cap.set(epochs.over_soft_cap as f64);
        it.over_hard_cap.set(epochs.over_hard_cap as f64);
        it.changes_max.set(epochs.changes_max as f64);
        it.mismatches.absolute(epochs.mismatches);
        it.mismatched.set(epochs.mismatched as f64);
        it.origins[0].set(epochs.origins_named as f64);
        it.origins[1].set(epochs.origins_folded as f64);
    }

    /// A document's next epoch was tried.
    pub fn roll_done(&self, result: RollResult) {
        self.epochs.rolls[result as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_rendered_from_the_start_on() {
        let metrics = Metrics::new().unwrap();
        for result in
            [RollResult::Rolled, RollResult::HeldUp, RollResult::Refused, RollResult::Failed]
        {
            (0..=result as u8).for_each(|_| metrics.roll_done(result));
        }
        let standing = EpochStanding { over_hard_cap: 2, changes_max: 70, ..Default::default() };
        metrics.set_epochs(&standing);
        let text = metrics.render();
        for line in [
            "holm_epoch_rolls_total{result=\"rolled\"} 1",
            "holm_epoch_rolls_total{result=\"held_up\"} 2",
            "holm_epoch_rolls_total{result=\"refused\"} 3",
            "holm_epoch_rolls_total{result=\"failed\"} 4",
            "holm_epoch_documents_over_hard_cap 2",
            "holm_epoch_changes_max 70",
            "holm_epoch_mismatches_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
