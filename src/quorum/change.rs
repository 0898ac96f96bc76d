//! Whether a change of the quorum's members is carried out: a pure decision on what the leader
//! sees. What would leave the members that answer without a majority is refused, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use super::MemberChange;
use super::types::{Member, RaftId};
use crate::model::NodeName;

/// How many entries a learner may lack and still count as caught up: it gets them while it is made
/// a voter.
const LAG_MAX: u64 = 100;

/// The members as the leader sees them.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) leader: RaftId,
    pub(super) voters: BTreeSet<RaftId>,
    pub(super) members: BTreeMap<RaftId, Member>,
    /// Those that answered a moment ago, the leader among them.
    pub(super) live: BTreeSet<RaftId>,
    /// Up to which index their logs are known to reach.
    pub(super) matched: BTreeMap<RaftId, u64>,
    pub(super) last: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// These vote from now on; who does not any more goes on as a learner.
    Voters(BTreeSet<RaftId>),
    /// This member is forgotten.
    Forget(RaftId),
    /// This one is to lead.
    Transfer(RaftId),
}

impl View {
    /// Its voter's id, or else a learner's.
    fn find(&self, node: &NodeName) -> Option<RaftId> {
        let ids = || self.members.iter().filter(|(_, member)| member.node == *node);
        let voter = ids().find(|(id, _)| self.voters.contains(id));
        voter.or_else(|| ids().next()).map(|(id, _)| *id)
    }

    fn is_caught_up(&self, id: RaftId) -> bool {
        self.matched.get(&id).is_some_and(|matched| matched + LAG_MAX >= self.last)
    }

    /// Refuses voters of whom too few answer.
    fn keeps_majority(&self, voters: &BTreeSet<RaftId>) -> Result<(), String> {
        let live = voters.intersection(&self.live).count();
        let majority = voters.len() / 2 + 1;
        if live < majority {
            return Err(format!(
                "of the {} voters that there would be, {live} answer: no majority",
                voters.len()
            ));
        }
        Ok(())
    }

    /// What `change` comes to, or why it is refused.
    pub(super) fn decide(
        &self,
        change: &MemberChange,
        is_in_topology: bool,
    ) -> Result<Action, String> {
        let node = change.node();
        let Some(id) = self.find(node) else {
            let why = if is_in_topology { "it has not joined yet" } else { "nobody knows it" };
            return Err(format!("{node} is no member of the quorum: {why}"));
        };
        let is_voter = self.voters.contains(&id);
        let mut voters = self.voters.clone();
        match change {
            MemberChange::Add(_) if is_voter => Err(format!("{node} votes already")),
            MemberChange::Add(_) if !is_in_topology => {
                Err(format!("{node} is not in the topology"))
            }
            MemberChange::Add(_) if !self.live.contains(&id) => {
                Err(format!("{node} does not answer"))
            }
            MemberChange::Add(_) if !self.is_caught_up(id) => {
                Err(format!("{node} has not caught up"))
            }
            MemberChange::Add(_) => {
                voters.insert(id);
                self.keeps_majority(&voters).map(|()| Action::Voters(voters))
            }
            MemberChange::Remove(_) if !is_voter && is_in_topology => {
                Err(format!("{node} does not vote, and would join again as long as it runs"))
            }
            MemberChange::Remove(_) if !is_voter => Ok(Action::Forget(id)),
            MemberChange::Remove(_) if voters.len() == 1 => {
                Err(format!("{node} is the last voter"))
            }
            MemberChange::Remove(_) => {
                voters.remove(&id);
                self.keeps_majority(&voters).map(|()| Action::Voters(voters))
            }
            MemberChange::Transfer(_) if !is_voter => Err(format!("{node} does not vote")),
            MemberChange::Transfer(_) if id == self.leader => Err(format!("{node} leads already")),
            MemberChange::Transfer(_) if !self.live.contains(&id) => {
                Err(format!("{node} does not answer"))
            }
            MemberChange::Transfer(_) => Ok(Action::Transfer(id)),
        }
    }

    /// The learners whose nodes are gone for good. A voter stays one: only people take a vote away.
    pub(super) fn gone(&self, is_gone: impl Fn(&NodeName) -> bool) -> BTreeSet<RaftId> {
        let learners = self.members.iter().filter(|(id, _)| !self.voters.contains(id));
        learners.filter(|(_, member)| is_gone(&member.node)).map(|(id, _)| *id).collect()
    }

    /// The voters after one whose store was lost is replaced by the same node's new store, which
    /// has joined as a learner and caught up.
    pub(super) fn replacement(&self) -> Option<BTreeSet<RaftId>> {
        let replaces = |new: RaftId| {
            let node = &self.members.get(&new)?.node;
            let is_old = |old: &&RaftId| {
                **old != self.leader
                    && self.members.get(old).is_some_and(|member| member.node == *node)
            };
            self.voters.iter().find(is_old).copied()
        };
        let learners = self.members.keys().filter(|id| !self.voters.contains(id));
        let ready = learners.filter(|id| self.live.contains(id) && self.is_caught_up(**id));
        let (new, old) = ready.filter_map(|new| Some((*new, replaces(*new)?))).next()?;
        let mut voters = self.voters.clone();
        voters.remove(&old);
        voters.insert(new);
        self.keeps_majority(&voters).ok()?;
        Some(voters)
    }

    /// The voter to lead when the leader goes: one that answers and has the most.
    pub(super) fn successor(&self) -> Option<RaftId> {
        let others = self.voters.intersection(&self.live).filter(|id| **id != self.leader);
        others.max_by_key(|id| self.matched.get(id)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RegionName;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn view(members: &[(RaftId, &str)], voters: &[RaftId], live: &[RaftId]) -> View {
        let member =
            |node: &str| Member { node: name(node), region: RegionName::new("r").unwrap() };
        View {
            leader: 1,
            voters: voters.iter().copied().collect(),
            members: members.iter().map(|(id, node)| (*id, member(node))).collect(),
            live: live.iter().copied().collect(),
            matched: live.iter().map(|id| (*id, 1_000)).collect(),
            last: 1_010,
        }
    }

    const FOUR: [(RaftId, &str); 4] = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];

    fn refused(view: &View, change: &MemberChange, why: &str) {
        let refusal = view.decide(change, true).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }

    #[test]
    fn a_voter_is_added_only_where_it_answers_and_has_caught_up() {
        let add = MemberChange::Add(name("d"));
        let all = view(&FOUR, &[1, 2, 3], &[1, 2, 3, 4]);
        assert_eq!(all.decide(&add, true), Ok(Action::Voters([1, 2, 3, 4].into())));
        assert!(all.decide(&add, false).is_err());
        refused(&view(&FOUR, &[1, 2, 3], &[1, 2, 3]), &add, "does not answer");
        let mut behind = all.clone();
        behind.matched.insert(4, 10);
        refused(&behind, &add, "not caught up");
        refused(&all, &MemberChange::Add(name("b")), "votes already");
        refused(&all, &MemberChange::Add(name("x")), "no member");
        refused(&view(&FOUR, &[1, 2, 3], &[1, 4]), &add, "no majority");
    }

    #[test]
    fn a_voter_is_removed_only_where_a_majority_of_the_others_answers() {
        let remove = |node| MemberChange::Remove(name(node));
        let all = view(&FOUR, &[1, 2, 3], &[1, 2, 3, 4]);
        assert_eq!(all.decide(&remove("c"), true), Ok(Action::Voters([1, 2].into())));
        let two = view(&FOUR, &[1, 2, 3], &[1, 2]);
        refused(&two, &remove("b"), "no majority");
        assert_eq!(two.decide(&remove("c"), true), Ok(Action::Voters([1, 2].into())));
        refused(&view(&FOUR, &[1], &[1]), &remove("a"), "last voter");
        refused(&all, &remove("d"), "join again");
        assert_eq!(all.decide(&remove("d"), false), Ok(Action::Forget(4)));
    }

    #[test]
    fn leadership_goes_to_a_voter_that_answers() {
        let transfer = |node| MemberChange::Transfer(name(node));
        let view = view(&FOUR, &[1, 2, 3], &[1, 2, 4]);
        assert_eq!(view.decide(&transfer("b"), true), Ok(Action::Transfer(2)));
        refused(&view, &transfer("a"), "leads already");
        refused(&view, &transfer("c"), "does not answer");
        refused(&view, &transfer("d"), "does not vote");
        assert_eq!(view.successor(), Some(2));
    }

    #[test]
    fn a_lost_store_is_replaced_by_the_same_nodes_new_one_once_it_has_caught_up() {
        let members = [(1, "a"), (2, "b"), (3, "c"), (9, "c"), (4, "d")];
        let lost = view(&members, &[1, 2, 3], &[1, 2, 4, 9]);
        assert_eq!(lost.replacement(), Some([1, 2, 9].into()));
        let mut behind = lost.clone();
        behind.matched.insert(9, 10);
        assert_eq!(behind.replacement(), None);
        assert_eq!(view(&members, &[1, 2, 3], &[1, 2]).replacement(), None);
        assert_eq!(view(&FOUR, &[1, 2, 3], &[1, 2, 3, 4]).replacement(), None);
    }
}
