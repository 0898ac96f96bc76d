//! Where a linearizable read may read, found out in one round trip (ReadIndex). openraft confirms
//! that a leader leads with its heartbeats, of which one is under way at a time: whoever comes
//! meanwhile waits for that one, and for its own. Here every read can have a round of its own.
//!
//! It changes nothing, and where it is not sure it gives nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Raft;
use super::network::Network;
use super::types::{LogId, RaftId, Vote};

/// An index up to which everything is included that was decided before this was called: where this
/// node leads, and a majority says so within that time.
///
/// Whoever was elected before would have a majority's votes, and one of those that are asked now
/// would hold that later vote, which none of them takes back. And what this leader has committed in
/// its own term includes all that others have before.
pub(super) async fn confirm(raft: Raft, network: Network, within: Duration) -> Option<u64> {
    let me = *raft.node_id();
    let standing = raft.with_raft_state(|state| {
        let membership = state.membership_state.effective().membership().clone();
        (*state.vote_ref(), state.local_committed().copied(), membership)
    });
    let (vote, committed, membership) = standing.await.ok()?;
    let index = readable(me, vote, committed)?;
    let voters = membership.voter_ids().filter(|id| *id != me);
    let asking = voters.filter_map(|id| {
        let link = network.link(id, membership.get_node(&id)?);
        Some(async move { (id, link.held(within).await) })
    });
    let mut asking: FuturesUnordered<_> = asking.collect();
    let mut holding = BTreeSet::from([me]);
    while !is_majority(membership.get_joint_config(), &holding) {
        let (id, held) = asking.next().await?;
        if held.is_ok_and(|held| held == vote) {
            holding.insert(id);
        }
    }
    Some(index)
}

/// The index, if `me` was elected with this vote and has committed something since.
fn readable(me: RaftId, vote: Vote, committed: Option<LogId>) -> Option<u64> {
    let is_elected = vote.committed && vote.leader_id.node_id == me;
    let committed = committed.filter(|id| is_elected && id.leader_id == vote.leader_id)?;
    Some(committed.index)
}

/// Whether these are a majority of the voters; of both sets of them, while they change.
fn is_majority(configs: &[BTreeSet<RaftId>], holding: &BTreeSet<RaftId>) -> bool {
    configs.iter().all(|voters| 2 * voters.intersection(holding).count() > voters.len())
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId as _;

    use super::*;

    fn vote(term: u64, node: u64, committed: bool) -> Vote {
        Vote {
            leader_id: openraft::alias::LeaderIdOf::<super::super::types::TypeConfig>::new(
                term, node,
            ),
            committed,
        }
    }

    fn committed(term: u64, node: u64) -> Option<LogId> {
        Some(LogId { leader_id: vote(term, node, true).leader_id, index: 7 })
    }

    #[test]
    fn only_an_elected_leader_that_has_committed_in_its_term_reads() {
        assert_eq!(readable(1, vote(3, 1, true), committed(3, 1)), Some(7));
        assert_eq!(readable(1, vote(3, 1, false), committed(3, 1)), None);
        assert_eq!(readable(1, vote(3, 2, true), committed(3, 2)), None);
        assert_eq!(readable(1, vote(3, 1, true), committed(2, 1)), None);
        assert_eq!(readable(1, vote(3, 1, true), committed(3, 2)), None);
        assert_eq!(readable(1, vote(3, 1, true), None), None);
    }

    #[test]
    fn while_voters_change_both_sets_have_to_agree() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let one = [set(&[1, 2, 3])];
        assert!(is_majority(&one, &set(&[1, 3])) && !is_majority(&one, &set(&[1, 4, 5])));
        let two = [set(&[1, 2, 3]), set(&[1, 4, 5])];
        assert!(!is_majority(&two, &set(&[1, 2, 3])) && is_majority(&two, &set(&[1, 2, 4])));
        assert!(!is_majority(&[set(&[1, 2])], &set(&[1])));
        assert!(is_majority(&[set(&[1])], &set(&[1])));
    }
}
