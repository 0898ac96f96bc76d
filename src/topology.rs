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
    /// Where DNS says who is there, beside the nodes that the file names.
    pub discover: Option<Discover>,
}

/// A name in DNS under which nodes of a region are found. Who is there says its own name, and shows
/// a certificate for it; DNS is believed nothing but where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discover {
    /// The name of an SRV record, `_holm._udp.eu-west.example.com`: hosts and ports.
    Service(String),
    /// A host with A or AAAA records, and the port, `holm.eu-west.internal:9100`.
    Host(Address),
}

impl Discover {
    /// Checks the form of `text`; what the name leads to is seen when it is looked up.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('_') {
            let address = Address::new(text).filter(|address| !address.as_str().ends_with(":0"));
            return address.map(Self::Host).ok_or("is not host:port, nor _service._udp.name");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(plain);
        let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
        if text.len() > 253 || labels.len() < 3 || !labels.iter().all(|label| is_label(label)) {
            return Err("is not _service._udp.name");
        }
        if labels[1] != "_udp" {
            return Err("has another protocol than `_udp`, on which nodes speak with each other");
        }
        Ok(Self::Service(text.to_owned()))
    }
}

impl fmt::Display for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => f.write_str(name),
            Self::Host(address) => address.fmt(f),
        }
    }
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
    /// Whether it joined: the file does not name it, and it is no member for ever.
    pub joined: bool,
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

    /// Whether others can be told to come here: it has a port, and is no address of all interfaces.
    pub fn is_reachable(&self) -> bool {
        let is_any = |addr: std::net::SocketAddr| addr.ip().is_unspecified();
        !self.0.ends_with(":0") && !self.0.parse().is_ok_and(is_any)
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

    /// The same with one node more, which joined; in place of one of that name that joined.
    #[must_use]
    pub fn with_node(mut self, node: Node) -> Self {
        self.nodes.retain(|known| known.name != node.name || !known.joined);
        self.nodes.push(node);
        self
    }

    /// The cluster `test`, for tests: regions, each with the one node that is named beside it.
    #[cfg(test)]
    pub(crate) fn of_pairs(pairs: &[(&str, &str)]) -> Self {
        let regions: String = pairs
            .iter()
            .enumerate()
            .map(|(i, (region, node))| {
                let (peer, http) = (2 * i + 1, 2 * i + 2);
                format!(
                    "[[regions]]\nname = \"{region}\"\nnodes = [{{ name = \"{node}\", \
                     peer = \"127.0.0.1:{peer}\", http = \"127.0.0.1:{http}\" }}]\n"
                )
            })
            .collect();
        let text = format!("cluster = \"test\"\nrtt_ms_default = 1\n{regions}");
        Self::parse("test", &text).unwrap()
    }

    /// The nodes that the file names, in its order.
    pub fn named(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.joined)
    }

    /// The same without these nodes.
    #[must_use]
    pub(crate) fn without(mut self, nodes: &BTreeSet<NodeName>) -> Self {
        self.nodes.retain(|node| !nodes.contains(&node.name));
        self
    }

    /// The same as its file has it: without those that joined.
    #[must_use]
    pub(crate) fn without_joined(mut self) -> Self {
        self.nodes.retain(|node| !node.joined);
        self
    }

    /// Whether nodes may come and go, so that even one that knows nobody has to listen.
    pub fn is_open(&self) -> bool {
        self.nodes.len() > 1 || self.regions.iter().any(|region| region.discover.is_some())
    }

    /// The same where these regions' nodes may vote, and no others.
    #[must_use]
    pub fn with_voting(mut self, regions: &BTreeSet<RegionName>) -> Self {
        for region in &mut self.regions {
            region.voters = regions.contains(&region.name);
        }
        self
    }

    /// The names of all regions where there is a node, in order.
    pub fn region_names(&self) -> BTreeSet<RegionName> {
        self.nodes.iter().map(|node| node.region.clone()).collect()
    }
}

fn ordered(a: &RegionName, b: &RegionName) -> (RegionName, RegionName) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

#[cfg(test)]
mod tests;
