//! What every member is known to have on disk: up to there a document can be rolled, and a log be
//! trimmed. A member that nobody has heard for very long is not waited for: what is decided without
//! it has to be right for it, too, when it comes back. It decides nothing of the kind itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::model::{NodeName, Vector};

/// What members have, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// What this node and all members that are waited for have; absent while one of them was never
    /// heard, or includes a fold that this node does not. Closed under what changes build on, as what
    /// each of them has is.
    pub floor: Option<Vector>,
    /// Every other member, by name.
    pub others: Vec<Holder>,
}

/// A member, by what it holds up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub node: NodeName,
    /// What it has, on its own word or on that of a peer that hears it; absent where it was never
    /// heard since this node's start.
    pub vector: Option<Arc<Vector>>,
    /// How long nobody has heard it; where it never was, since this node's start.
    pub silent: Duration,
    /// How long it has lacked something that this node has.
    pub lag: Duration,
    /// Whether it is not waited for any more.
    pub is_evicted: bool,
}

impl Acknowledged {
    /// By what this node has, and what is known of the others.
    pub fn new(mine: &Vector, others: Vec<Holder>) -> Self {
        let counted = others.iter().filter(|holder| !holder.is_evicted);
        let floor = counted.into_iter().try_fold(mine.clone(), |floor, holder| {
            // Of one that folded what this node does not know yet, not all is known that it has: what
            // both have would not be closed.
            let vector = holder.vector.as_ref().filter(|vector| vector.is_understood());
            vector.map(|vector| floor.meet(vector))
        });
        Self { floor, others }
    }
}

pub(super) fn acknowledged(shared: &Shared) -> Acknowledged {
    let now = Instant::now();
    let mine = shared.replica.vector();
    let state = shared.state();
    let holder = |node: &NodeName| {
        let seen = state.seen(node)?;
        let silent = now - seen.known_at.unwrap_or(shared.started_at);
        Some(Holder {
            node: node.clone(),
            vector: seen.known_at.map(|_| seen.vector),
            silent,
            lag: seen.lag_since.map_or(Duration::ZERO, |since| now - since),
            is_evicted: silent >= shared.settings.evict_after,
        })
    };
    Acknowledged::new(&mine, shared.mesh().peers.keys().filter_map(holder).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dot, Origin};

    fn vector(dots: &[(u8, u64)]) -> Vector {
        dots.iter().map(|&(origin, n)| Dot { origin: Origin([origin; 8]), n }).collect()
    }

    fn holder(node: &str, dots: Option<&[(u8, u64)]>) -> Holder {
        Holder {
            node: NodeName::new(node).unwrap(),
            vector: dots.map(|dots| Arc::new(vector(dots))),
            silent: Duration::ZERO,
            lag: Duration::ZERO,
            is_evicted: false,
        }
    }

    fn floor(others: Vec<Holder>) -> Option<Vector> {
        Acknowledged::new(&vector(&[(1, 9), (2, 4)]), others).floor
    }

    #[test]
    fn the_floor_is_what_all_have() {
        assert_eq!(floor(vec![]), Some(vector(&[(1, 9), (2, 4)])), "alone");
        let others = vec![holder("b", Some(&[(1, 3), (2, 9)])), holder("c", Some(&[(1, 5)]))];
        assert_eq!(floor(others), Some(vector(&[(1, 3)])));
    }

    #[test]
    fn there_is_no_floor_while_somebody_was_never_heard() {
        assert_eq!(floor(vec![holder("b", Some(&[(1, 3)])), holder("c", None)]), None);
    }

    #[test]
    fn who_is_evicted_is_not_waited_for() {
        let gone = |dots| Holder { is_evicted: true, ..holder("c", dots) };
        let here = || holder("b", Some(&[(1, 3)]));
        assert_eq!(floor(vec![here(), gone(None)]), Some(vector(&[(1, 3)])));
        assert_eq!(floor(vec![here(), gone(Some(&[]))]), Some(vector(&[(1, 3)])));
    }
}
