//! What is done with what a peer says, at its hello and of what it has: it is noted, the puller is woken,
//! and the store is told what the peer has seen of this node's own origin.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::message::Have;
use crate::model::{NodeName, Vector};
use crate::transport::hello::Hello;

impl Shared {
    /// A peer said hello, on whichever side's connection.
    pub(super) async fn met(&self, peer: &NodeName, hello: &Hello, rtt: Duration) {
        let now = Instant::now();
        self.state().heard_clock(peer, hello.now, self.env.clock.now(), rtt, now);
        self.state().met(peer, hello, &self.replica.vector(), now);
        self.members.met(peer, hello.features.clone().unwrap_or_default());
        self.known_changed();
        // Also where the peer has no more than this node: the store may wait for that word.
        // The store counts these words, and those that it counts on are the file's nodes.
        let theirs = hello.vector.read(&self.replica.vector().folds());
        if self.members.topology().node(peer).is_some_and(|node| node.joined) {
            self.check_witness(peer, &theirs).await;
        } else {
            self.witnessed(peer, &theirs).await;
        }
    }

    /// Tells the store what a peer has seen of this node's origin, if that can be told: what the peer has
    /// may be folded, and this node not know that fold yet.
    async fn witnessed(&self, peer: &NodeName, theirs: &Vector) {
        let origin = self.replica.origin();
        let is_known = theirs.is_understood() || theirs.names(origin);
        {
            let mut unwitnessed = self.unwitnessed.lock().unwrap_or_else(PoisonError::into_inner);
            match is_known {
                true => unwitnessed.remove(peer),
                false => unwitnessed.insert(peer.clone()),
            };
        }
        if is_known {
            self.replica.witnessed(peer.clone(), origin, theirs.get(origin)).await;
        }
    }

    /// A peer said what it has.
    pub(super) async fn heard(&self, peer: &NodeName, instance: u64, have: &Have, rtt: Duration) {
        let now = Instant::now();
        let moved = {
            let mut state = self.state();
            state.heard_clock(peer, have.now, self.env.clock.now(), rtt, now);
            state.heard(peer, instance, have, &self.replica.vector(), now)
        };
        if let Some(hash) = have.members_hash
            && let Some(peer) = self.peer(peer)
        {
            peer.knows_members(hash);
        }
        if let Some(words) = &have.members {
            self.members.learn(words, now);
        }
        let theirs = || have.vector.read(&self.replica.vector().folds());
        if moved {
            self.known_changed();
            self.check_witness(peer, &theirs()).await;
        }
        let is_due = {
            let unwitnessed = self.unwitnessed.lock().unwrap_or_else(PoisonError::into_inner);
            unwitnessed.contains(peer)
        };
        if is_due && self.state().is_start(peer, instance) {
            self.witnessed(peer, &theirs()).await;
        }
    }

    pub(super) fn known_changed(&self) {
        self.changed.send_modify(|count| *count += 1);
        self.behind.notify_one();
    }

    /// Peers only have what this node sent, and it only sends what is on disk.
    async fn check_witness(&self, by: &NodeName, theirs: &Vector) {
        let origin = self.replica.origin();
        let n = theirs.get(origin);
        if n > self.replica.vector().get(origin) {
            tracing::error!(%origin, n, "a peer has more of this node than the node itself");
            self.replica.witnessed(by.clone(), origin, n).await;
        }
    }
}
