//! What a node says of its cluster (`GET /cluster`), as far as a topology file needs it.

use serde::Deserialize;

use crate::model::{NodeName, RegionName};

/// One node's view.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) cluster: String,
    pub(super) node: NodeName,
    pub(super) regions: Vec<SeenRegion>,
    pub(super) quorum: SeenQuorum,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SeenRegion {
    pub(super) region: RegionName,
    #[serde(default)]
    pub(super) place: String,
    pub(super) voters: bool,
    pub(super) nodes: Vec<SeenNode>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SeenNode {
    pub(super) node: NodeName,
    pub(super) peer: String,
    pub(super) http: String,
    pub(super) rtt_ms: Option<f64>,
    pub(super) rtt_measured: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SeenQuorum {
    #[serde(default)]
    pub(super) members: Vec<SeenMember>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SeenMember {
    pub(super) node: NodeName,
    pub(super) voter: bool,
}

impl Seen {
    /// Reads an answer; else says what it lacks.
    pub(super) fn read(answer: serde_json::Value) -> Result<Self, String> {
        serde_json::from_value(answer).map_err(|e| format!("the answer to GET /cluster: {e}"))
    }

    /// All nodes, region by region.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &SeenNode> {
        self.regions.iter().flat_map(|region| &region.nodes)
    }

    /// Where that node stands.
    pub(super) fn region_of(&self, node: &NodeName) -> Option<&RegionName> {
        let has = |region: &&SeenRegion| region.nodes.iter().any(|it| it.node == *node);
        self.regions.iter().find(has).map(|region| &region.region)
    }

    /// Who votes now. Empty where this node knows of no quorum.
    pub(super) fn voters(&self) -> impl Iterator<Item = &NodeName> {
        self.quorum.members.iter().filter(|member| member.voter).map(|member| &member.node)
    }

    /// Whether the node votes now.
    pub(super) fn votes(&self, node: &NodeName) -> bool {
        self.voters().any(|voter| voter == node)
    }
}
