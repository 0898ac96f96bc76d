//! Two tiers of gossip. A change crosses the link to another region once, to one node there, its
//! relay, which passes it on inside its region. Who is the relay each sender decides for itself, so
//! that different senders load different nodes; and inside a region all agree who collects what is
//! missing from which other region. Both are preferences: where a relay or a collector is gone, the
//! next one takes its place, and anti-entropy repairs what was lost in between. Where every region
//! has one node, there is one tier.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::peer::Peer;
use crate::model::{NodeName, RegionName};

/// The peers of a node, by tier.
pub(super) struct Tiers {
    /// Those of its own region.
    near: Vec<Arc<Peer>>,
    /// Those of each other region, who suits best first.
    far: BTreeMap<RegionName, Vec<Arc<Peer>>>,
}

impl Tiers {
    pub(super) fn new(
        own: &NodeName,
        region: Option<&RegionName>,
        peers: &BTreeMap<NodeName, Arc<Peer>>,
    ) -> Self {
        let mut tiers = Self { near: Vec::new(), far: BTreeMap::new() };
        for peer in peers.values() {
            if Some(&peer.region) == region {
                tiers.near.push(peer.clone());
            } else {
                tiers.far.entry(peer.region.clone()).or_default().push(peer.clone());
            }
        }
        for region in tiers.far.values_mut() {
            region.sort_by_key(|peer| weight(own.as_str(), &peer.node));
        }
        tiers
    }

    /// Those of the node's own region.
    pub(super) fn near(&self) -> &[Arc<Peer>] {
        &self.near
    }

    /// Whom something that happened here is told at once: all of the own region, and of each other
    /// region the relay.
    pub(super) fn told(&self) -> impl Iterator<Item = &Arc<Peer>> {
        let relays = self.far.values().filter_map(|peers| {
            // Where nobody is connected, nobody is told: the next hello says it all.
            peers.iter().find(|peer| peer.outbox.is_open())
        });
        self.near.iter().chain(relays)
    }

    /// All of another region, or of the own one.
    pub(super) fn all_of(&self, region: &RegionName) -> &[Arc<Peer>] {
        self.far.get(region).map_or(&self.near, Vec::as_slice)
    }
}

/// The nodes of a region in the order in which they had better collect what another region has.
pub(super) fn collectors<'a>(
    nodes: impl Iterator<Item = &'a NodeName>,
    from: &RegionName,
) -> Vec<NodeName> {
    let mut order: Vec<NodeName> = nodes.cloned().collect();
    order.sort_by_key(|node| weight(from.as_str(), node));
    order
}

/// Orders nodes differently for everyone who asks, and the same on every machine (rendezvous
/// hashing: who goes away changes nothing for those that did not choose it).
fn weight(who: &str, node: &NodeName) -> [u8; 32] {
    Sha256::new().chain_update(who).chain_update([0]).chain_update(node.as_str()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<NodeName> {
        (0..count).map(|i| NodeName::new(&format!("n-{i}")).unwrap()).collect()
    }

    #[test]
    fn who_collects_is_agreed_on_and_spreads_over_the_nodes() {
        let nodes = names(4);
        let mut firsts: BTreeMap<NodeName, usize> = BTreeMap::new();
        for i in 0..40 {
            let region = RegionName::new(&format!("r-{i}")).unwrap();
            let order = collectors(nodes.iter(), &region);
            assert_eq!(order, collectors(nodes.iter().rev(), &region), "whoever asks");
            *firsts.entry(order[0].clone()).or_default() += 1;
            let gone = order[0].clone();
            let rest = collectors(nodes.iter().filter(|node| **node != gone), &region);
            assert_eq!(rest, order[1..], "the next one takes its place");
        }
        assert_eq!(firsts.len(), 4);
        assert!(firsts.values().all(|count| *count >= 3), "{firsts:?}");
    }
}
