//! By which rules histories are pruned: those of the quorum, as long as this node's copy of them is
//! fresh. What was removed cannot be had back, so that a node that does not know what is wanted
//! removes nothing: one that is cut off, one that is still catching up, one of a cluster that is not
//! founded.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::Policies;
use crate::quorum::Quorum;

/// How old the copy of the rules may be.
const POLICY_AGE_MAX: Duration = Duration::from_secs(60);

/// The policies to prune by, where they are known well enough.
pub(super) fn policies(
    quorum: Arc<OnceLock<Quorum>>,
) -> Arc<dyn Fn() -> Option<Policies> + Send + Sync> {
    Arc::new(move || {
        let quorum = quorum.get()?;
        // First the age, then the state: what is applied between the two makes it no older.
        let is_fresh = quorum.contact_age() <= POLICY_AGE_MAX;
        let state = quorum.state();
        (is_fresh && state.is_founded()).then(|| state.history.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HistoryPolicy;
    use crate::quorum::alone::Alone;
    use crate::registry::fixture::sealed_key;
    use std::sync::atomic::Ordering;

    #[test]
    fn nothing_is_removed_by_rules_that_are_not_known_or_old() {
        let place = Arc::<OnceLock<Quorum>>::default();
        let policies = policies(place.clone());
        assert_eq!(policies(), None, "before there is a quorum");
        let (alone, quorum) = Alone::start();
        let _ = place.set(quorum);
        assert_eq!(policies(), None, "before the cluster is founded");
        alone.tamper(|state| {
            state.hash_key = Some(sealed_key(1));
            state.history.set.insert(None, HistoryPolicy { versions: 7, age_s: 1 });
            state.index += 1;
        });
        assert_eq!(policies().unwrap().set.len(), 1);
        alone.contact_age_ms.store(60_001, Ordering::Relaxed);
        assert_eq!(policies(), None, "cut off");
    }
}
