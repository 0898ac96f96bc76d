//! How the consensus stands, as this node sees it: for whoever asks, and for changes of who votes.

use std::collections::BTreeSet;

use openraft::{Instant as _, RaftMetrics, ServerState};

use super::{Driver, Leader};
use crate::quorum::change::View;
use crate::quorum::types::{RaftId, TypeConfig};
use crate::quorum::{MemberStatus, QuorumStatus};

impl Driver {
    /// The members as this node, the leader, sees them.
    pub(in crate::quorum) fn view(&self, metrics: &RaftMetrics<TypeConfig>) -> View {
        let is_live = |at: &openraft::TokioInstant| at.elapsed() < self.times.cut_off_after();
        let heartbeats = metrics.heartbeat.iter().flatten();
        let answered = heartbeats.filter_map(|(id, at)| Some((*id, **at.as_ref()?)));
        let mut live: BTreeSet<RaftId> =
            answered.filter(|(_, at)| is_live(at)).map(|(id, _)| id).collect();
        live.insert(metrics.id);
        let matched = metrics.replication.iter().flatten();
        let matched = matched.filter_map(|(id, log)| Some((*id, log.as_ref()?.index)));
        let membership = metrics.membership_config.membership();
        View {
            leader: metrics.id,
            voters: membership.voter_ids().collect(),
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            live,
            matched: matched.collect(),
            last: metrics.last_log_index.unwrap_or_default(),
        }
    }

    pub(super) fn how_it_stands(&self) -> QuorumStatus {
        let metrics = self.look();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
        let matched = |id: &RaftId| {
            let replication = metrics.replication.as_ref()?;
            if *id == metrics.id {
                return metrics.last_log_index;
            }
            replication.get(id)?.as_ref().map(|log| log.index)
        };
        let members = membership.nodes().map(|(id, member)| MemberStatus {
            id: *id,
            node: member.node.to_string(),
            region: member.region.to_string(),
            voter: voters.contains(id),
            matched: matched(id),
        });
        let leader = match self.leader() {
            Leader::Here => Some(self.me.node.to_string()),
            Leader::At(node) => Some(node.to_string()),
            Leader::Unknown => None,
        };
        let is_member = membership.get_node(&metrics.id).is_some();
        let role = match metrics.state {
            ServerState::Leader => "leader",
            ServerState::Follower => "follower",
            ServerState::Candidate => "candidate",
            ServerState::Learner if is_member => "learner",
            ServerState::Learner => "no member yet",
            ServerState::Shutdown => "stopped",
        };
        let failure = self.store_failed();
        let store_failed = failure.is_some();
        let role = failure.unwrap_or_else(|| role.to_owned());
        QuorumStatus {
            leader,
            term: metrics.current_term,
            role,
            applied: *self.store.applied().borrow(),
            last_log: metrics.last_log_index.unwrap_or_default(),
            contact_age_ms: u64::try_from(self.contact.age().as_millis()).unwrap_or(u64::MAX),
            store_failed,
            members: members.collect(),
        }
    }
}
