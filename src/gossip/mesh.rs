//! Whom this node speaks with, as members come and go: who is new gets a link, who went loses it,
//! and the tiers follow. It decides nobody's membership.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use tokio::time::{Instant, sleep};

use super::peer::Peer;
use super::tiers::{self, Tiers};
use super::{Shared, dial, status};
use crate::model::NodeName;
use crate::transport::hello::{self, HelloError};

/// The peers of a node, replaced as a whole when somebody comes or goes.
pub(super) struct Mesh {
    pub(super) peers: BTreeMap<NodeName, Arc<Peer>>,
    pub(super) tiers: Tiers,
}

impl Shared {
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        self.mesh.load_full()
    }

    pub(super) fn peer(&self, name: &NodeName) -> Option<Arc<Peer>> {
        self.mesh.load().peers.get(name).cloned()
    }

    /// Lets the peers be the members.
    pub(super) fn remesh(self: &Arc<Self>) {
        let _one_at_a_time = self.meshing.lock().unwrap_or_else(PoisonError::into_inner);
        let topology = self.members.topology();
        let Some(own) = topology.node(&self.node) else { return };
        let before = self.mesh();
        let mut peers = BTreeMap::new();
        let mut came = Vec::new();
        for node in topology.peers_of(&self.node) {
            let is_same = |peer: &&Arc<Peer>| peer.is_at(node);
            let peer = match before.peers.get(&node.name).filter(is_same) {
                Some(peer) => peer.clone(),
                None => {
                    let peer = Arc::new(Peer::new(node, topology.rtt(&own.region, &node.region)));
                    came.push(peer.clone());
                    peer
                }
            };
            peers.insert(node.name.clone(), peer);
        }
        let is_gone =
            |peer: &&Arc<Peer>| peers.get(&peer.node).is_none_or(|now| !Arc::ptr_eq(now, peer));
        let gone: Vec<Arc<Peer>> = before.peers.values().filter(is_gone).cloned().collect();
        let own_region = || topology.nodes_of(&own.region).map(|node| &node.name);
        let mut state = self.state();
        gone.iter().for_each(|peer| state.remove(&peer.node));
        for peer in &came {
            state.add(&peer.node, peer.rtt_expected, None);
        }
        for peer in peers.values().filter(|peer| peer.region != own.region) {
            state.collect(&peer.node, tiers::collectors(own_region(), &peer.region));
        }
        drop(state);
        let tiers = Tiers::new(&self.node, Some(&own.region), &peers);
        self.mesh.store(Arc::new(Mesh { peers, tiers }));
        gone.iter().for_each(|peer| peer.end());
        for peer in came {
            let link = dial::keep_link(self.clone(), peer.clone());
            self.spawn(async move {
                peer.gone.run_until_cancelled(link).await;
            });
        }
        self.known_changed();
    }

    /// Takes in who said hello in person, where the file does not name it.
    pub(super) fn admit(&self, peer: &hello::Peer) -> Result<(), HelloError> {
        let Some((node, incarnation)) = &peer.joins else { return Ok(()) };
        let now = Instant::now();
        let is_heard = self.state().hears_other_start(&node.name, peer.hello.instance, now);
        let joined = self.members.join(node.clone(), *incarnation, is_heard, now);
        joined.map_err(|error| HelloError::NotTaken(error.to_string()))
    }

    /// A peer said goodbye for good, in its start `instance`.
    pub(super) fn left(&self, node: &NodeName, instance: u64) {
        if self.state().is_start(node, instance) {
            self.members.left(node, Instant::now());
        }
    }
}

/// Follows who comes and goes, for ever, and evicts whom nobody hears any more.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut changed = shared.members.changed();
    loop {
        tokio::select! {
            biased;
            change = changed.changed() => {
                if change.is_err() {
                    return;
                }
                shared.remesh();
                // What changed is told with the vector, and at once.
                for peer in shared.mesh().peers.values() {
                    peer.outbox.want_have();
                }
            }
            () = sleep(shared.settings.heartbeat) => {
                if shared.members.hash(Instant::now()) != 0 {
                    let heard = status::members(&shared).into_iter();
                    let heard = heard.filter(|(_, by)| !by.is_empty()).map(|(name, _)| name);
                    let heard: BTreeSet<NodeName> = heard.collect();
                    shared.members.tend(&heard, Instant::now());
                }
            }
        }
    }
}
