//! The topology: which regions there are, which nodes they run, how far they are apart. Written
//! once, in `regions/<name>.toml`, for a node, for a cluster on one machine and for a simulation.
//! It describes; it opens no socket and looks up no name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::env::Links;
use crate::model::{NodeName, RegionName};

mod file;

pub use file::TopologyError;

/// Most regions in a topology.
pub const REGIONS_MAX: usize = 64;
/// Most nodes in a topology: everybody dials everybody.
pub const NODES_MAX: usize = 256;
/// Longest round trip, in milliseconds.
pub const RTT_MS_MAX: u32 = 60_000;
/// Largest topology file, in bytes.
pub const FILE_LEN_MAX: u64 = 1024 * 1024;

/// A deployment, checked: every name is known and there is a distance for each pair of regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// What the nodes tell each other they belong to; a node of another cluster is turned away.
    pub cluster: String,
    regions: Vec<Region>,
    nodes: Vec<Node>,
    /// Round trips between two regions, the lesser name first.
    rtts: BTreeMap<(RegionName, RegionName), Duration>,
    rtt_within: Duration,
}

/// Where nodes stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: RegionName,
    /// Where it is, for people.
    pub place: String,
    /// Whether its nodes may vote, once there is a quorum path.
    pub voters: bool,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, which its certificate carries.
    pub name: NodeName,
    /// Where it stands.
    pub region: RegionName,
    /// Where it speaks QUIC with other nodes.
    pub peer: Address,
    /// Where it answers HTTP.
    pub http: Address,
}

/// `host:port`, where host is a name or an IP address (IPv6 in brackets). Port 0 is the system's
/// choice, which only makes sense for a cluster in one process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// Checks the form of `text`; whether the name exists is seen when it is looked up.
    pub fn new(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
        (is_name || text.parse::<std::net::SocketAddrV6>().is_ok()).then(|| Self(text.to_owned()))
    }

    /// The text, as a look-up takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(addr: std::net::SocketAddr) -> Self {
        Self(addr.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Topology {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, TopologyError> {
        file::load(path)
    }

    /// Checks the text of a file; `name` stands in errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, TopologyError> {
        file::parse(name, text)
    }

    /// Checks a topology that stands in another file as a table.
    pub(crate) fn from_table(
        name: &str,
        table: toml::Spanned<toml::de::DeTable<'_>>,
    ) -> Result<Self, TopologyError> {
        file::from_table(name, table)
    }

    /// The regions, in the order of the file.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The nodes, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The nodes that stand there.
    pub fn nodes_of<'a>(&'a self, region: &'a RegionName) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.region == *region)
    }

    /// Where that node stands.
    pub fn region_of(&self, name: &NodeName) -> Option<&RegionName> {
        self.node(name).map(|node| &node.region)
    }

    /// Everybody else.
    pub fn peers_of<'a>(&'a self, name: &'a NodeName) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.name != *name)
    }

    /// The round trip between two regions. Regions that the topology doesn't know are no distance
    /// apart.
    pub fn rtt(&self, a: &RegionName, b: &RegionName) -> Duration {
        if a == b {
            return self.rtt_within;
        }
        self.rtts.get(&ordered(a, b)).copied().unwrap_or_default()
    }

    /// The round trip between two nodes.
    pub fn rtt_of_nodes(&self, a: &NodeName, b: &NodeName) -> Duration {
        match (self.region_of(a), self.region_of(b)) {
            (Some(a), Some(b)) => self.rtt(a, b),
            _ => Duration::ZERO,
        }
    }

    /// Links with these distances, for a cluster on one machine.
    pub fn links(&self) -> Links {
        let links = Links::new();
        for a in &self.nodes {
            for b in self.nodes.iter().filter(|b| a.name < b.name) {
                links.set_delay(&a.name, &b.name, self.rtt(&a.region, &b.region) / 2);
            }
        }
        links
    }

    /// The same with other addresses for one node: where the system gave the ports.
    pub fn with_addresses(mut self, name: &NodeName, peer: Address, http: Address) -> Self {
        for node in self.nodes.iter_mut().filter(|node| node.name == *name) {
            (node.peer, node.http) = (peer.clone(), http.clone());
        }
        self
    }

    /// The same where these regions' nodes may vote, and no others.
    #[must_use]
    pub fn with_voting(mut self, regions: &BTreeSet<RegionName>) -> Self {
        for region in &mut self.regions {
            region.voters = regions.contains(&region.name);
        }
        self
    }

    /// The names of all regions, in order.
    pub fn region_names(&self) -> BTreeSet<RegionName> {
        self.regions.iter().map(|region| region.name.clone()).collect()
    }
}

fn ordered(a: &RegionName, b: &RegionName) -> (RegionName, RegionName) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

#[cfg(test)]
mod tests;
