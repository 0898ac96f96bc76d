//! What is folded, as one node sees it: sessions that name what is lost, and what whoever decides folds
//! (`server::epochs`) has to know. It decides nothing.

use std::collections::BTreeSet;

use super::Node;
use super::epochs::all_have;
use crate::gossip::{Acknowledged, Gossip, PeerStatus};
use crate::model::vector::FoldRow;
use crate::model::{Dot, Feature, Origin, Told};
use crate::storage::error::StoreError;

impl Node {
    /// Whether all members that are waited for take folds, as far as this node knows.
    pub(crate) fn all_take_folds(&self, acknowledged: &Acknowledged) -> bool {
        all_have(&self.0.members, acknowledged, Feature::Folds)
    }

    /// As whom this node and the members write that are waited for, as far as they have said.
    pub(crate) fn present_origins(&self, acknowledged: &Acknowledged) -> BTreeSet<Origin> {
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        let is_evicted = |peer: &PeerStatus| {
            acknowledged.others.iter().any(|it| it.node == peer.node && it.is_evicted)
        };
        let peers = peers.iter().filter(|peer| !is_evicted(peer));
        peers.filter_map(|peer| peer.origin).chain([self.origin()]).collect()
    }

    /// Of these changes those that are their origins' last ones here, with their records' hashes.
    pub(crate) async fn fold_rows(&self, dots: Vec<Dot>) -> Result<Vec<FoldRow>, StoreError> {
        self.0.store.fold_rows(dots).await
    }

    /// A change that a session has seen, and that nobody has to be waited for with: its origin is folded
    /// below it, so that no member had it, and no node that is known makes changes as it. Should one come
    /// back that has it, it is there again.
    pub(crate) fn lost(&self, seen: &Told) -> Option<Dot> {
        let vector = &self.snapshot().vector;
        if seen.generation() > vector.generation() {
            return None;
        }
        let is_lost = |dot: &Dot| {
            let folded = vector.get(dot.origin);
            folded > 0 && dot.n > folded && !vector.names(dot.origin) && dot.origin != self.origin()
        };
        let lost = seen.iter().find(is_lost)?;
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        (!peers.iter().any(|peer| peer.origin == Some(lost.origin))).then_some(lost)
    }
}
