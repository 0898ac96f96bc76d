//! Whom this node speaks with, as members come and go: who is new gets a link, who went loses it,
//! and the tiers follow. It decides nobody's membership.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::peer::Peer;
use super::tiers::{self, Tiers};
use super::{Shared, dial, discover, status};
use crate::members::JoinError;
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

    /// Takes in who said hello in person, from that address: where the file does not name it, where it
    /// was evicted, and not where another process of that name is heard.
    pub(super) fn admit(&self, peer: &hello::Peer, from: SocketAddr) -> Result<(), HelloError> {
        let now = Instant::now();
        let Some((node, incarnation)) = &peer.joins else {
            self.is_one(peer, from, now)?;
            self.members.is_back(&peer.node, now);
            return Ok(());
        };
        let is_heard = self.state().hears_other_start(&node.name, peer.hello.instance, now);
        let joined = self.members.join(node.clone(), *incarnation, is_heard, now);
        joined.map_err(|error| HelloError::NotTaken(error.to_string()))
    }

    /// Refuses a second process under a name of the file, as long as the first one is heard. One that
    /// was started again is at the same address, or has closed its connections.
    fn is_one(&self, peer: &hello::Peer, from: SocketAddr, now: Instant) -> Result<(), HelloError> {
        let instance = peer.hello.instance;
        let known = self.peer(&peer.node).and_then(|known| known.other_start(instance, from));
        let Some(known) = known else { return Ok(()) };
        if !self.state().hears_other_start(&peer.node, instance, now) {
            return Ok(());
        }
        let (node, known, other) = (peer.node.clone(), known.into(), from.into());
        Err(HelloError::NotTaken(JoinError::Taken { node, known, other }.to_string()))
    }

    /// A peer said goodbye for good, in its start `instance`.
    pub(super) fn left(&self, node: &NodeName, instance: u64) {
        if self.state().is_start(node, instance) {
            self.members.left(node, Instant::now());
        }
    }
}

/// How often a node that is evicted is looked for.
const LOOK_FOR_EVERY: Duration = Duration::from_secs(20);

/// Follows who comes and goes, for ever, and evicts whom nobody hears any more.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut changed = shared.members.changed();
    let mut look_at = Instant::now();
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
                let heard = status::members(&shared).into_iter();
                let heard = heard.filter(|(_, by)| !by.is_empty()).map(|(name, _)| name);
                let (heard, now): (BTreeSet<NodeName>, _) = (heard.collect(), Instant::now());
                shared.members.tend(&heard, now);
                if now >= look_at {
                    look_at = now + LOOK_FOR_EVERY;
                    for node in shared.members.evicted() {
                        shared.spawn(discover::look_for(shared.clone(), node));
                    }
                }
            }
        }
    }
}
