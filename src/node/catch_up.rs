//! Catching up: what a node that starts has to have before it is ready, which is what its peers had when
//! it met them; and how far it is with that, for whoever wants to see it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Node;
use crate::gossip::{Gossip, PeerStatus};
use crate::model::{NodeName, Vector};

/// How long a node that starts waits to meet all of its peers before those it met have to do.
const MEETING_TIME: Duration = Duration::from_secs(3);

/// How a node stands with what it has missed.
pub(super) struct CatchingUp {
    is_done: AtomicBool,
    started_at: Instant,
    /// What it has to have: what its peers had when they were met.
    target: Mutex<(BTreeSet<NodeName>, Vector)>,
    /// What its store held when it started: what has come since is progress.
    began_with: Arc<Vector>,
}

impl CatchingUp {
    pub(super) fn new(began_with: Arc<Vector>) -> Self {
        let (is_done, target) = (AtomicBool::new(false), Mutex::default());
        Self { is_done, started_at: Instant::now(), target, began_with }
    }

    /// Whether it has had what its peers had: that stays so.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    /// Whether `here` has what its `peers` had; else, what it waits for.
    pub(super) fn look(&self, peers: &[PeerStatus], here: &Vector) -> Result<(), &'static str> {
        let met: Vec<&PeerStatus> = peers.iter().filter(|peer| peer.origin.is_some()).collect();
        if met.is_empty() && peers.is_empty() && self.started_at.elapsed() >= MEETING_TIME {
            // The file names no other node, and DNS has led to none.
            return Ok(());
        }
        if met.is_empty() {
            return Err("no peer was met since the start");
        }
        // The first one met may be as new as this node: the others get a chance to be heard.
        if met.len() < peers.len() && self.started_at.elapsed() < MEETING_TIME {
            return Err("waiting to meet the other peers");
        }
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        // Who went is forgotten: members come and go under ever new names.
        target.0.retain(|name| peers.iter().any(|peer| peer.node == *name));
        for peer in met {
            if target.0.insert(peer.node.clone()) {
                target.1.merge(&peer.vector);
            }
        }
        if here.covers(&target.1) {
            self.is_done.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err("not yet caught up with the peers")
    }
}

impl Node {
    /// How many changes came since the start, and of how many that peers are known to have. Nothing,
    /// where there is nothing to come or nobody who is known to have it.
    pub(crate) fn catch_up(&self) -> Option<(u64, u64)> {
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        let mut target = Vector::new();
        peers.iter().for_each(|peer| target.merge(&peer.vector));
        came(&self.0.catching_up.began_with, &self.snapshot().vector, &target)
    }
}

fn came(start: &Vector, now: &Vector, target: &Vector) -> Option<(u64, u64)> {
    let total = target.ahead_of(start);
    (total > 0).then(|| (total - target.ahead_of(now).min(total), total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dot, Origin};

    #[test]
    fn what_was_here_before_is_no_progress_and_what_peers_add_is_more_to_come() {
        let [a, b, own] = [1, 2, 3].map(|n| Origin([n; 8]));
        let vector = |dots: &[(Origin, u64)]| -> Vector {
            dots.iter().map(|&(origin, n)| Dot { origin, n }).collect()
        };
        let start = vector(&[(a, 90), (own, 1000)]);
        assert_eq!(came(&start, &start, &Vector::new()), None, "no peer was met");
        assert_eq!(came(&start, &start, &vector(&[(a, 80)])), None, "they have no more");
        let target = vector(&[(a, 100), (b, 5)]);
        assert_eq!(came(&start, &start, &target), Some((0, 15)));
        let now = vector(&[(a, 96), (b, 1), (own, 2000)]);
        assert_eq!(came(&start, &now, &target), Some((7, 15)));
        assert_eq!(came(&start, &now, &vector(&[(a, 100), (b, 25)])), Some((7, 35)));
        assert_eq!(came(&start, &target, &target), Some((15, 15)));
    }
}
