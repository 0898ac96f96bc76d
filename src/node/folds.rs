//! What is folded, as one node sees it: sessions that name what is lost, and what whoever decides folds
//! (`server::epochs`) has to know. It decides nothing.

use std::collections::BTreeSet;

use super::Node;
use super::epochs::all_have;
use crate::gossip::{Acknowledged, Gossip};
use crate::model::vector::FoldRow;
use crate::model::{Dot, Feature, NodeName, Origin, Told, Vector};
use crate::storage::error::StoreError;

impl Node {
    /// Whether all members that are waited for take folds, as far as this node knows.
    pub(crate) fn all_take_folds(&self, acknowledged: &Acknowledged) -> bool {
        all_have(&self.0.members, acknowledged, Feature::Folds)
    }

    /// As whom this node and the members write that are waited for, as far as they have said.
    pub(crate) fn present_origins(&self, acknowledged: &Acknowledged) -> BTreeSet<Origin> {
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        let peers = peers.iter().map(|peer| (&peer.node, peer.origin));
        present(self.origin(), peers, acknowledged)
    }

    /// Of these changes those that are their origins' last ones here, with their records' hashes.
    pub(crate) async fn fold_rows(&self, dots: Vec<Dot>) -> Result<Vec<FoldRow>, StoreError> {
        self.0.store.fold_rows(dots).await
    }

    /// A change that a session has seen, and that nobody has to be waited for with: its origin is folded
    /// below it, so that no member had it, and no node that is known makes changes as it. Should one come
    /// back that has it, it is there again.
    pub(crate) fn lost(&self, seen: &Told) -> Option<Dot> {
        let lost = lost(&self.snapshot().vector, self.origin(), seen)?;
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        (!peers.iter().any(|peer| peer.origin == Some(lost.origin))).then_some(lost)
    }
}

/// As whom a node writes that makes its changes as `own`, and its peers that are waited for.
fn present<'a>(
    own: Origin,
    peers: impl Iterator<Item = (&'a NodeName, Option<Origin>)>,
    acknowledged: &Acknowledged,
) -> BTreeSet<Origin> {
    let is_evicted =
        |peer: &NodeName| acknowledged.others.iter().any(|it| it.node == *peer && it.is_evicted);
    let peers = peers.filter(|(peer, _)| !is_evicted(peer));
    peers.filter_map(|(_, origin)| origin).chain([own]).collect()
}

/// The first change that `seen` names beyond what is folded of its origin, where nothing goes beyond
/// that in `vector`, and nobody goes on as `own`. Of who knows later folds that cannot be said.
fn lost(vector: &Vector, own: Origin, seen: &Told) -> Option<Dot> {
    if seen.generation() > vector.generation() {
        return None;
    }
    let is_lost = |dot: &Dot| {
        let folded = vector.get(dot.origin);
        folded > 0 && dot.n > folded && !vector.names(dot.origin) && dot.origin != own
    };
    seen.iter().find(is_lost)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::gossip::Holder;
    use crate::model::Folds;
    use crate::model::vector::Fold;

    fn dot(at: u8, n: u64) -> Dot {
        Dot { origin: Origin([at; 8]), n }
    }

    #[test]
    fn lost_is_what_goes_beyond_a_fold_of_an_origin_that_nothing_here_goes_beyond() {
        let rows = vec![
            FoldRow { dot: dot(1, 5), hash: [0; 32] },
            FoldRow { dot: dot(2, 5), hash: [0; 32] },
            FoldRow { dot: dot(5, 5), hash: [0; 32] },
        ];
        let folds = Folds::default().with(&Fold::new(1, rows).unwrap()).unwrap();
        let told: Told =
            [dot(2, 6), dot(3, 4), Dot { origin: Origin::FOLDS, n: 1 }].into_iter().collect();
        let vector = told.read(&Arc::new(folds));
        let of = |dots: &[Dot]| lost(&vector, Origin([5; 8]), &dots.iter().copied().collect());
        assert_eq!(of(&[dot(1, 6)]), Some(dot(1, 6)));
        assert_eq!(of(&[dot(1, 5), dot(3, 9), dot(4, 1)]), None, "it is here, or may come");
        assert_eq!(of(&[dot(2, 9)]), None, "who is named goes on");
        assert_eq!(of(&[dot(5, 6)]), None, "this node itself may yet make it");
        assert_eq!(of(&[dot(3, 9), dot(1, 7)]), Some(dot(1, 7)));
        let later = Dot { origin: Origin::FOLDS, n: 2 };
        assert_eq!(of(&[dot(1, 6), later]), None, "a later fold may say more of it");
    }

    #[test]
    fn present_is_as_whom_this_node_and_those_write_that_are_waited_for() {
        let name = |name| NodeName::new(name).unwrap();
        let holder = |node, is_evicted| Holder {
            node: name(node),
            vector: None,
            silent: Duration::ZERO,
            lag: Duration::ZERO,
            is_evicted,
        };
        let others = vec![holder("b", false), holder("c", true), holder("d", false)];
        let acknowledged = Acknowledged { floor: None, others };
        let (b, c, d) = (name("b"), name("c"), name("d"));
        let origin = |at| Origin([at; 8]);
        let peers = [(&b, Some(origin(2))), (&c, Some(origin(3))), (&d, None)];
        let found = present(origin(1), peers.into_iter(), &acknowledged);
        assert_eq!(found, BTreeSet::from([origin(1), origin(2)]));
    }
}
