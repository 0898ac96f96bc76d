//! The quorum's members, as a node tells them, and changing them.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Client, ClientError};
use crate::model::NodeName;

/// How the quorum stands, as the node asked sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct QuorumMembers {
    /// Its leader, where one is known.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// What the node asked is: `leader`, `follower`, `candidate`, `learner`, or why it takes no part.
    pub role: String,
    /// Up to which index the node asked has applied.
    pub applied: u64,
    /// Up to which index its log reaches.
    pub last_log: u64,
    /// How long ago it heard of the leader, in milliseconds.
    pub contact_age_ms: u64,
    /// Who is in it.
    pub members: Vec<QuorumMember>,
}

/// A voter or a learner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct QuorumMember {
    /// Its id: another one after its store was lost.
    pub id: u64,
    /// The node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Whether it votes.
    pub voter: bool,
    /// Up to which index its log is known to reach; only the leader knows.
    pub matched: Option<u64>,
}

impl Client {
    /// How the quorum stands.
    pub async fn quorum(&self) -> Result<QuorumMembers, ClientError> {
        self.json(self.request(Method::GET, "/cluster/quorum")).await
    }

    /// Changes its members: `add`, `remove` or `transfer`, and whom.
    pub async fn change_quorum(
        &self,
        change: &str,
        node: &NodeName,
    ) -> Result<QuorumMembers, ClientError> {
        let path = format!("/cluster/quorum/{change}/{node}");
        self.json(self.request(Method::POST, &path)).await
    }
}
