//! Who is in the quorum: founding it, joining it, coming back under a new id, and changes that
//! people ask for.
//!
//! A cluster is founded once, by one node, when it has met all of the first voters and none of them
//! has ever voted. A node with an empty store that hears of a cluster joins it: a lost store never
//! founds a second one beside the first.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics, ServerState};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::change::Action;
use super::driver::{Driver, Leader};
use super::forward::{Control, Controlled, Identity};
use super::store;
use super::times::first_voters;
use super::types::{Member, RaftId, TypeConfig};
use super::{ChangeError, MemberChange};
use crate::gossip::{AskError, Gossip, Responder, StreamKind};
use crate::model::{NodeName, cbor};

/// How often a node that is no member tries to become one.
const JOIN_EVERY: Duration = Duration::from_millis(100);
/// How often a leader looks after its members.
const TEND_EVERY: Duration = Duration::from_millis(500);
/// How long a question about members may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the only voter of several nodes waits for the others, which may know of a cluster.
const MEETING_TIME: Duration = Duration::from_secs(3);

/// Looks after this node's place in the quorum, for ever.
pub(super) async fn keep(driver: Arc<Driver>) {
    loop {
        let metrics = driver.look();
        let id = metrics.id;
        let is_member = metrics.membership_config.membership().get_node(&id).is_some();
        if metrics.running_state.is_err() {
            return;
        }
        if is_member && metrics.state == ServerState::Leader {
            driver.tend(&metrics).await;
        } else if !is_member || driver.may_be_forgotten(&metrics) {
            driver.found_or_join().await;
        }
        let pause = if is_member { TEND_EVERY } else { JOIN_EVERY };
        sleep_until(Instant::now() + pause).await;
    }
}

impl Driver {
    fn is_first_voter(&self) -> bool {
        let topology = self.members.topology_with_evicted();
        let voters = first_voters(&topology);
        voters.iter().map(|voter| &voter.name).min() == Some(&self.me.node)
    }

    /// A learner that no leader speaks with may have been forgotten as gone; by its own log it is
    /// one for ever. Asking again changes nothing where it still is.
    fn may_be_forgotten(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        let age = self.contact.age_since_start();
        metrics.state == ServerState::Learner
            && age.unwrap_or_else(|| self.started_at.elapsed()) > self.times.cut_off_after()
    }

    async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(true)
    }

    fn is_doubtful(&self) -> bool {
        use store::Identity::{Lost, RolledBack};
        matches!(self.store.identity(), Lost(_) | RolledBack { .. })
    }

    /// The only node there is founds its cluster before anything is asked of it, and leads again
    /// after a restart.
    pub(super) async fn stand_alone(&self) {
        if self.gossip.is_some() || self.is_doubtful() {
            return;
        }
        if !self.is_initialized().await {
            self.found(BTreeMap::new()).await;
        } else if let Err(error) = self.raft.trigger().elect(false).await {
            tracing::error!(%error, "consensus does not run");
        }
        let deadline = Instant::now() + self.times.election_max;
        while self.leader() != Leader::Here && Instant::now() < deadline {
            self.pause(deadline).await;
        }
    }

    async fn found(&self, mut members: BTreeMap<RaftId, Member>) {
        members.insert(self.store.raft_id(), self.me.clone());
        tracing::info!(voters = members.len(), "founds the quorum");
        if let Err(error) = self.raft.initialize(members).await {
            tracing::warn!(%error, "the quorum was not founded");
        }
    }

    async fn found_or_join(&self) {
        let Some(gossip) = &self.gossip else {
            // The only node there is, with a store that was lost: what it had is gone.
            if !self.is_initialized().await {
                tracing::error!("the only store was lost: founds the quorum anew");
                self.found(BTreeMap::new()).await;
            }
            return;
        };
        let peers = self.identities(gossip).await;
        let is_known = peers.values().any(|identity| identity.is_initialized);
        if !is_known && !self.is_initialized().await {
            if self.is_first_voter() && !self.is_doubtful() {
                self.found_with(&peers).await;
            }
            return;
        }
        // Whom most believe to lead is asked first, and then everybody else that is named.
        let mut leaders: BTreeMap<&str, usize> = BTreeMap::new();
        for leader in peers.values().filter_map(|identity| identity.leader.as_deref()) {
            *leaders.entry(leader).or_default() += 1;
        }
        let mut leaders: Vec<(&str, usize)> = leaders.into_iter().collect();
        leaders.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (leader, _) in leaders {
            let Ok(leader) = NodeName::new(leader) else { continue };
            let join = Control::Join(self.store.raft_id());
            match ask(gossip, &leader, &join, Instant::now() + ASK_TIMEOUT).await {
                Ok(Controlled::Done) => {
                    tracing::info!(%leader, "joined the quorum as a learner");
                    return;
                }
                answer => tracing::debug!(%leader, ?answer, "did not join the quorum"),
            }
        }
    }

    /// Founds the cluster, if all of the first voters are there and none has ever voted.
    async fn found_with(&self, peers: &BTreeMap<NodeName, Identity>) {
        let mut members = BTreeMap::new();
        // Also one that nobody has heard for long votes first: without it, there would be two clusters.
        let topology = self.members.topology_with_evicted();
        for voter in first_voters(&topology) {
            if voter.name == self.me.node {
                continue;
            }
            let Some(identity) = peers.get(&voter.name).filter(|other| !other.is_doubtful) else {
                return;
            };
            let member = Member { node: voter.name.clone(), region: voter.region.clone() };
            members.insert(identity.raft_id, member);
        }
        let has_met_all = peers.len() + 1 == topology.nodes().len();
        if members.is_empty() && !has_met_all && self.started_at.elapsed() < MEETING_TIME {
            return;
        }
        self.found(members).await;
    }

    /// Who the peers are that answer.
    async fn identities(&self, gossip: &Gossip) -> BTreeMap<NodeName, Identity> {
        let deadline = Instant::now() + ASK_TIMEOUT.min(self.times.patience());
        let topology = self.members.topology();
        let asking = topology.peers_of(&self.me.node).map(|peer| async move {
            match ask(gossip, &peer.name, &Control::Identify, deadline).await {
                Ok(Controlled::Identity(identity)) => Some((peer.name.clone(), identity)),
                _ => None,
            }
        });
        join_all(asking).await.into_iter().flatten().collect()
    }

    /// What a leader does by itself: learners that left or were evicted are forgotten, and a voter
    /// that lost its store is replaced by its new one.
    async fn tend(&self, metrics: &RaftMetrics<TypeConfig>) {
        let gone = self.view(metrics).gone(|node| self.members.is_gone(node));
        if !gone.is_empty() {
            tracing::info!(?gone, "forgets learners that are gone");
            let forget = self.raft.change_membership(ChangeMembers::RemoveNodes(gone), true).await;
            if let Err(error) = forget {
                tracing::warn!(%error, "the learners were not forgotten");
            }
            return;
        }
        let Some(voters) = self.view(metrics).replacement() else { return };
        tracing::warn!(?voters, "a voter's store was lost: its new one takes the place");
        if let Err(error) = self.raft.change_membership(voters, false).await {
            tracing::warn!(%error, "the voter was not replaced");
        }
    }

    async fn identity(&self) -> Identity {
        let leader = match self.leader() {
            Leader::Here => Some(self.me.node.to_string()),
            Leader::At(node) => Some(node.to_string()),
            Leader::Unknown => None,
        };
        Identity {
            raft_id: self.store.raft_id(),
            is_initialized: self.is_initialized().await,
            is_doubtful: self.is_doubtful(),
            leader,
        }
    }

    /// Takes a node's store in as a learner; its earlier ones that were learners are forgotten.
    async fn take_in(&self, node: &NodeName, id: RaftId) -> Result<(), ChangeError> {
        let refused = |why: &str| Err(ChangeError::Refused(why.to_owned()));
        let topology = self.members.topology();
        let Some(region) = topology.region_of(node) else {
            return refused("it is not in the topology");
        };
        let view = self.view(&self.look());
        match view.members.get(&id) {
            Some(member) if member.node == *node => return Ok(()),
            Some(_) => return refused("another node has that id"),
            None => {}
        }
        let of_node = view.members.iter().filter(|(_, member)| member.node == *node);
        let stale = of_node.map(|(id, _)| *id).filter(|id| !view.voters.contains(id)).collect();
        let member = Member { node: node.clone(), region: region.clone() };
        let changes = vec![
            ChangeMembers::RemoveNodes(stale),
            ChangeMembers::AddNodes(BTreeMap::from([(id, member)])),
        ];
        tracing::info!(%node, id, "takes a learner into the quorum");
        changed(self.raft.change_membership(ChangeMembers::Batch(changes), true).await)
    }

    async fn change_here(
        &self,
        change: &MemberChange,
        deadline: Instant,
    ) -> Result<(), ChangeError> {
        let is_in_topology = self.members.topology().node(change.node()).is_some();
        let action = self.view(&self.look()).decide(change, is_in_topology);
        let action = action.map_err(ChangeError::Refused)?;
        tracing::warn!(?change, ?action, "changes the quorum's members");
        let acting = async {
            match action {
                Action::Voters(voters) => changed(self.raft.change_membership(voters, true).await),
                Action::Forget(id) => {
                    let forget = ChangeMembers::RemoveNodes([id].into());
                    changed(self.raft.change_membership(forget, false).await)
                }
                Action::Transfer(id) => {
                    self.raft.trigger().transfer_leader(id).await?;
                    while self.look().current_leader != Some(id) {
                        self.pause(deadline).await;
                    }
                    Ok(())
                }
            }
        };
        let late = |_| Err(ChangeError::Unknown("it was not done in time".into()));
        timeout_at(deadline, acting).await.unwrap_or_else(late)
    }
}

/// What openraft says of a change, in our words.
fn changed<T>(
    result: Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>,
) -> Result<(), ChangeError> {
    match result {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(error)) => Err(match error {
            ClientWriteError::ForwardToLeader(_) => {
                ChangeError::Unavailable("this node does not lead any more".into())
            }
            ClientWriteError::LogEntryDiscarded(_) => ChangeError::Unknown(error.to_string()),
            ClientWriteError::ChangeMembershipError(error) => {
                ChangeError::Unavailable(error.to_string())
            }
            ClientWriteError::PreconditionFailed(error) => {
                ChangeError::Unavailable(error.to_string())
            }
        }),
        Err(RaftError::Fatal(error)) => Err(error.into()),
    }
}

async fn ask(
    gossip: &Gossip,
    node: &NodeName,
    control: &Control,
    deadline: Instant,
) -> Result<Controlled, AskError> {
    let question = cbor::encode(control);
    let answer = gossip.ask(node, StreamKind::QuorumControl, &question, deadline).await?;
    cbor::decode(&answer).map_err(|error| AskError::Lost(error.to_string()))
}

/// Carries out a change, here or at the leader.
pub(super) async fn change(
    driver: &Driver,
    change: MemberChange,
    deadline: Instant,
) -> Result<(), ChangeError> {
    let give_up = deadline.min(Instant::now() + driver.times.patience());
    let mut why = "no leader is known".to_owned();
    while Instant::now() < give_up {
        let result = match (driver.leader(), &driver.gossip) {
            (Leader::Here, _) => driver.change_here(&change, deadline).await,
            (Leader::At(node), Some(gossip)) => {
                let budget = deadline.saturating_duration_since(Instant::now()).as_millis();
                let budget_ms = u64::try_from(budget).unwrap_or(u64::MAX);
                let control = Control::Change(change.clone(), budget_ms);
                match ask(gossip, &node, &control, deadline).await {
                    Ok(Controlled::Done) => Ok(()),
                    Ok(Controlled::Refused(why)) => Err(ChangeError::Refused(why)),
                    Ok(Controlled::Unknown(why)) => Err(ChangeError::Unknown(why)),
                    Ok(Controlled::Unavailable(why)) => Err(ChangeError::Unavailable(why)),
                    Ok(Controlled::Elsewhere | Controlled::Identity(_)) => {
                        Err(ChangeError::Unavailable("the leader does not lead any more".into()))
                    }
                    Err(AskError::Lost(why)) => Err(ChangeError::Unknown(why)),
                    Err(error) => Err(ChangeError::Unavailable(error.to_string())),
                }
            }
            _ => Err(ChangeError::Unavailable("no leader is known".into())),
        };
        match result {
            Err(ChangeError::Unavailable(reason)) => why = reason,
            settled => return settled,
        }
        driver.pause(give_up).await;
    }
    Err(ChangeError::Unavailable(why))
}

/// Answers what nodes ask about members.
pub(super) struct Controls(pub(super) Weak<Driver>);

impl Responder for Controls {
    fn answer(&self, peer: NodeName, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        let driver = self.0.clone();
        async move {
            let driver = driver.upgrade()?;
            let control: Control = cbor::decode(&question).ok()?;
            let answer = match control {
                Control::Identify => Controlled::Identity(driver.identity().await),
                _ if driver.leader() != Leader::Here => Controlled::Elsewhere,
                Control::Join(id) => driver.take_in(&peer, id).await.into(),
                Control::Change(change, budget_ms) => {
                    let budget = Duration::from_millis(budget_ms.min(600_000));
                    driver.change_here(&change, Instant::now() + budget).await.into()
                }
            };
            Some(cbor::encode(&answer))
        }
        .boxed()
    }
}
