//! Epochs of documents, as one node sees them: which documents are past a cap, who holds their next
//! epochs up, and what the coordinator (`server::epochs`) asks the store for. It decides nothing.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Node, skew};
use crate::config::roll::Roll;
use crate::gossip::{Acknowledged, Gossip, Holder};
use crate::members::Members;
use crate::model::{DocumentId, Dot, Feature, NodeName, Stamp, Told};
use crate::planted::{Bug, is_planted};
use crate::settings::EpochSettings;
use crate::storage::{Plan, RollError};

/// Most documents that a status names.
const NAMED_MAX: usize = 10;
/// A member that was not heard for this long, or lags for as long, holds epochs up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How documents stand with their epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EpochStatus {
    /// Changes past which a next epoch is agreed on, by this node's settings; 0: never.
    pub soft_cap: u64,
    /// Changes past which something is wrong.
    pub hard_cap: u64,
    /// How many documents are past the soft cap.
    pub over_soft_cap: usize,
    /// How many are past the hard one.
    pub over_hard_cap: usize,
    /// Most changes that a document's epoch has.
    pub changes_max: u64,
    /// Those past the soft cap, most changes first; the first ten.
    pub largest: Vec<DocumentEpoch>,
    /// What holds next epochs up, as far as this node can tell; nothing where no document is past
    /// the soft cap.
    pub held_up_by: Vec<HeldUpBy>,
    /// Documents whose next epoch does not come to the same here as was agreed.
    pub mismatched: usize,
    /// How often that was so since the node's start.
    pub mismatches: u64,
}

/// A document and its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DocumentEpoch {
    /// Which document.
    pub document: String,
    /// Which epoch it is in.
    pub epoch: u32,
    /// How many changes that has.
    pub changes: u64,
}

/// What holds a next epoch up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HeldUpBy {
    /// The member; none where it is the cluster as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Why: `off` (by `epochs.soft_cap`), `no quorum`, `never heard` (since this node's start),
    /// `older program`, `silent`, `behind`.
    pub why: &'static str,
    /// For how long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

impl HeldUpBy {
    fn all(why: &'static str) -> Self {
        Self { node: None, why, for_ms: None }
    }
}

impl std::fmt::Display for HeldUpBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.node, self.for_ms) {
            (Some(node), Some(ms)) => write!(f, "{node} ({}, for {} s)", self.why, ms / 1000),
            (Some(node), None) => write!(f, "{node} ({})", self.why),
            (None, _) => f.write_str(self.why),
        }
    }
}

/// Which members hold epochs up, of those that are waited for. `is_older` says of whom it is known
/// that its program takes no epoch but the first.
fn holders(
    acknowledged: &Acknowledged,
    is_older: impl Fn(&NodeName) -> bool,
) -> impl Iterator<Item = HeldUpBy> {
    let counted = acknowledged.others.iter().filter(|holder| !holder.is_evicted);
    counted.filter_map(move |holder| {
        let Holder { node, vector, silent, lag, .. } = holder;
        let (why, time) = match vector {
            None => ("never heard", *silent),
            Some(_) if is_older(node) => {
                return Some(HeldUpBy {
                    node: Some(node.clone()),
                    why: "older program",
                    for_ms: None,
                });
            }
            Some(_) if *silent >= PATIENCE => ("silent", *silent),
            Some(_) if *lag >= PATIENCE => ("behind", *lag),
            Some(_) => return None,
        };
        let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(HeldUpBy { node: Some(node.clone()), why, for_ms: Some(for_ms) })
    })
}

impl Node {
    /// How documents stand with their epochs, as this node sees it.
    pub fn epochs(&self) -> EpochStatus {
        let EpochSettings { soft_cap, hard_cap, .. } = self.0.gauges.epochs;
        let (snapshot, counts) = (self.snapshot(), self.0.standing.counts());
        let mut status = EpochStatus {
            soft_cap,
            hard_cap,
            changes_max: snapshot.documents.values().map(|it| it.changes).max().unwrap_or(0),
            mismatched: counts.documents_mismatched,
            mismatches: counts.epoch_mismatches,
            ..EpochStatus::default()
        };
        let cap = if soft_cap == 0 { hard_cap } else { soft_cap };
        let mut over: Vec<(&DocumentId, u64)> = snapshot.documents_over(cap).collect();
        over.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        status.over_soft_cap = if soft_cap == 0 { 0 } else { over.len() };
        status.over_hard_cap = over.iter().filter(|(_, changes)| *changes > hard_cap).count();
        if !over.is_empty() {
            status.held_up_by = self.held_up_by(soft_cap);
        }
        let named = over.into_iter().take(NAMED_MAX).map(|(id, changes)| DocumentEpoch {
            document: id.to_string(),
            epoch: snapshot.document(id).map_or(0, |view| view.epoch()),
            changes,
        });
        status.largest = named.collect();
        status
    }

    fn held_up_by(&self, soft_cap: u64) -> Vec<HeldUpBy> {
        let mut by = Vec::new();
        if soft_cap == 0 {
            by.push(HeldUpBy::all("off"));
        }
        if self.0.quorum.contact_age() >= self.0.gauges.cut_off_after {
            by.push(HeldUpBy::all("no quorum"));
        }
        let members = &self.0.members;
        let is_older = |node: &NodeName| {
            members.features_of(node).is_some_and(|features| !features.has(Feature::Epochs))
        };
        by.extend(holders(&self.acknowledged(), is_older));
        by
    }

    /// Whether all members that are waited for take epochs, as far as this node knows.
    pub(crate) fn all_take_epochs(&self, acknowledged: &Acknowledged) -> bool {
        all_take_epochs(&self.0.members, acknowledged)
    }

    /// What every member that is waited for has; see [`Gossip::acknowledged`].
    pub(crate) fn acknowledged(&self) -> Acknowledged {
        match self.0.gossip.get() {
            Some(gossip) => gossip.acknowledged(),
            None => Acknowledged::new(&self.snapshot().vector, Vec::new()),
        }
    }

    /// This node's time of day, corrected as stamps are.
    pub(crate) fn corrected(&self, now: Stamp) -> Stamp {
        let offset = self.0.gossip.get().and_then(Gossip::clock_offset);
        skew::stamp_time(now, offset, self.0.skew_max)
    }

    /// What a document's next epoch would be, with its base at `floor`.
    pub(crate) async fn plan_roll(
        &self,
        document: &DocumentId,
        floor: &Told,
        removals_before: Stamp,
    ) -> Result<Plan, RollError> {
        self.0.store.plan_roll(document.clone(), floor.clone(), removals_before).await
    }

    /// Takes a document to its next epoch, as was decided; gives the change that says so.
    pub(crate) async fn roll(&self, document: &DocumentId, roll: Roll) -> Result<Dot, RollError> {
        self.0.store.roll(document.clone(), roll).await
    }
}

/// One that is not waited for, and was not met since the start, may have any program.
pub(super) fn all_take_epochs(members: &Members, acknowledged: &Acknowledged) -> bool {
    all_have(members, acknowledged, Feature::Epochs) || is_planted(Bug::RollDespiteOldPrograms)
}

/// Whether all members that are waited for have announced a feature.
pub(super) fn all_have(members: &Members, acknowledged: &Acknowledged, feature: Feature) -> bool {
    let lacking = members.lacking(feature);
    let is_evicted = |node: &NodeName| {
        acknowledged.others.iter().any(|holder| holder.node == *node && holder.is_evicted)
    };
    lacking.iter().all(is_evicted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Bounds;
    use crate::model::Features;
    use crate::topology::Topology;
    use std::sync::Arc;

    fn holder(node: &str, silent_s: u64, lag_s: u64) -> Holder {
        Holder {
            node: NodeName::new(node).unwrap(),
            vector: Some(Arc::default()),
            silent: Duration::from_secs(silent_s),
            lag: Duration::from_secs(lag_s),
            is_evicted: false,
        }
    }

    #[test]
    fn who_holds_a_floor_up_is_named_with_the_reason() {
        let others = vec![
            holder("a", 1, 0),
            holder("b", 30, 30),
            holder("c", 1, 20),
            holder("c2", 30, 20),
            Holder { vector: None, ..holder("d", 40, 40) },
            Holder { is_evicted: true, ..holder("e", 900_000, 900_000) },
        ];
        let acknowledged = Acknowledged::new(&crate::model::Vector::new(), others);
        let is_older = |node: &NodeName| node.as_str() == "c2" || node.as_str() == "e";
        let said: Vec<String> = holders(&acknowledged, is_older).map(|it| it.to_string()).collect();
        assert_eq!(
            said,
            [
                "b (silent, for 30 s)",
                "c (behind, for 20 s)",
                "c2 (older program)",
                "d (never heard, for 40 s)"
            ]
        );
    }

    #[tokio::test]
    async fn an_older_program_holds_epochs_up_until_its_node_is_evicted() {
        let node = |name| {
            format!("{{ name = \"{name}\", peer = \"127.0.0.1:0\", http = \"127.0.0.1:0\" }}")
        };
        let nodes = ["a", "b", "c"].map(node).join(", ");
        let text = format!("cluster = \"test\"\n[[regions]]\nname = \"r\"\nnodes = [{nodes}]\n");
        let topology = Arc::new(Topology::parse("test", &text).unwrap());
        let name = |name| NodeName::new(name).unwrap();
        let named = Duration::from_secs(600);
        let bounds = Bounds { joined: named, named };
        let members = Members::new(topology, &name("a"), 1, bounds);
        let here = Acknowledged::new(
            &crate::model::Vector::new(),
            vec![holder("b", 1, 0), holder("c", 1, 0)],
        );
        assert!(!all_take_epochs(&members, &here), "nobody was met");
        members.met(&name("b"), Features::all());
        members.met(&name("c"), Features::none());
        assert!(!all_take_epochs(&members, &here));
        let gone = Holder { is_evicted: true, ..holder("c", 900_000, 0) };
        let without =
            Acknowledged::new(&crate::model::Vector::new(), vec![holder("b", 1, 0), gone]);
        assert!(all_take_epochs(&members, &without));
        members.met(&name("c"), Features::all());
        assert!(all_take_epochs(&members, &here));
    }
}
