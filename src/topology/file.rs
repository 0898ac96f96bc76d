//! The topology's file: TOML, every field checked, unknown ones refused. An error names the file
//! and the field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::DnsName;
use serde::Deserialize;

use super::{
    Address, Discover, FILE_LEN_MAX, NODES_MAX, Node, REGIONS_MAX, RTT_MS_MAX, Region, Topology,
    ordered,
};
use crate::model::{NameError, NodeName, RegionName};

/// Longest free text of a region's place, in bytes.
const PLACE_LEN_MAX: usize = 200;
/// Longest cluster id, in bytes.
const CLUSTER_LEN_MAX: usize = 63;

/// Why a file is no topology. Nothing was started with it.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file can't be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a field that is unknown, missing or of another type.
    #[error("{file}: {source}")]
    Form {
        /// The file.
        file: String,
        /// What and where, with the line.
        source: Box<toml::de::Error>,
    },
    /// A field has a value that can't be.
    #[error("{file}: {field}: {problem}")]
    Field {
        /// The file.
        file: String,
        /// The field, as a path: `regions[1].nodes[0].peer`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: String,
    /// For pairs of regions that `links` leaves out.
    rtt_ms_default: Option<u32>,
    /// Between nodes of one region.
    #[serde(default)]
    rtt_ms_within: u32,
    #[serde(default)]
    regions: Vec<FileRegion>,
    #[serde(default)]
    links: Vec<FileLink>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRegion {
    name: String,
    #[serde(default)]
    place: String,
    #[serde(default = "yes")]
    voters: bool,
    #[serde(default)]
    nodes: Vec<FileNode>,
    discover: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    name: String,
    peer: String,
    http: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLink {
    between: [String; 2],
    rtt_ms: u32,
}

fn yes() -> bool {
    true
}

/// A field's path and what is wrong with it.
type Problem = (String, String);

pub(super) fn load(path: &Path) -> Result<Topology, TopologyError> {
    let file = path.display().to_string();
    let read = || {
        if std::fs::metadata(path)?.len() > FILE_LEN_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read_to_string(path)
    };
    match read() {
        Ok(text) => parse(&file, &text),
        Err(source) => Err(TopologyError::Read { file, source }),
    }
}

pub(super) fn parse(name: &str, text: &str) -> Result<Topology, TopologyError> {
    checked(name, toml::from_str(text))
}

/// A topology that stands in another file; an error's span is a place in that one.
pub(super) fn from_table(
    name: &str,
    table: toml::Spanned<toml::de::DeTable<'_>>,
) -> Result<Topology, TopologyError> {
    checked(name, File::deserialize(toml::de::Deserializer::from(table)))
}

fn checked(name: &str, content: Result<File, toml::de::Error>) -> Result<Topology, TopologyError> {
    let file = name.to_owned();
    match content {
        Err(source) => Err(TopologyError::Form { file, source: Box::new(source) }),
        Ok(content) => content.check().map_err(|(field, problem)| TopologyError::Field {
            file,
            field,
            problem,
        }),
    }
}

fn problem<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Problem> {
    Err((field.into(), problem.into()))
}

fn name<T: FromStr<Err = NameError>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: NameError| (field.to_owned(), error.to_string()))
}

fn address(field: &str, text: &str) -> Result<Address, Problem> {
    let bad = || (field.to_owned(), format!("{text:?} is not host:port"));
    Address::new(text).ok_or_else(bad)
}

fn rtt(field: impl Into<String>, ms: u32) -> Result<Duration, Problem> {
    if ms > RTT_MS_MAX {
        return problem(field, format!("{ms} ms is more than {RTT_MS_MAX} ms"));
    }
    Ok(Duration::from_millis(u64::from(ms)))
}

fn check_cluster(cluster: &str) -> Result<(), Problem> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if cluster.is_empty() || cluster.len() > CLUSTER_LEN_MAX || !cluster.chars().all(plain) {
        return problem("cluster", "is 1 to 63 lower-case letters, digits and `-`");
    }
    Ok(())
}

impl File {
    fn check(self) -> Result<Topology, Problem> {
        check_cluster(&self.cluster)?;
        if self.regions.is_empty() {
            return problem("regions", "there is no region");
        }
        if self.regions.len() > REGIONS_MAX {
            return problem("regions", format!("more than {REGIONS_MAX}"));
        }
        let mut regions: Vec<Region> = Vec::new();
        let mut nodes = Nodes::default();
        for (i, region) in self.regions.iter().enumerate() {
            let field = format!("regions[{i}]");
            let checked = region.check(&field, &mut nodes)?;
            if regions.iter().any(|known| known.name == checked.name) {
                return problem(format!("{field}.name"), format!("{} is there twice", region.name));
            }
            regions.push(checked);
        }
        if !regions.iter().any(|region| region.voters) {
            return problem("regions", "no region has voters");
        }
        let is_voting =
            |node: &Node| regions.iter().any(|region| region.voters && region.name == node.region);
        if !nodes.list.iter().any(is_voting) {
            let text = "no region with voters names a node: somebody has to found the cluster";
            return problem("regions", text);
        }
        let rtt_within = rtt("rtt_ms_within", self.rtt_ms_within)?;
        let rtts = self.check_links(&regions)?;
        Ok(Topology { cluster: self.cluster, regions, nodes: nodes.list, rtts, rtt_within })
    }

    fn check_links(
        &self,
        regions: &[Region],
    ) -> Result<BTreeMap<(RegionName, RegionName), Duration>, Problem> {
        let mut rtts = BTreeMap::new();
        for (i, link) in self.links.iter().enumerate() {
            let between = format!("links[{i}].between");
            let mut ends = Vec::new();
            for end in &link.between {
                let end: RegionName = name(&between, end)?;
                if !regions.iter().any(|region| region.name == end) {
                    return problem(between, format!("{end} is not a region of this file"));
                }
                ends.push(end);
            }
            let [a, b] = &ends[..] else { return problem(between, "is two regions") };
            if a == b {
                return problem(between, format!("{a} twice; `rtt_ms_within` is for that"));
            }
            let ms = rtt(format!("links[{i}].rtt_ms"), link.rtt_ms)?;
            if rtts.insert(ordered(a, b), ms).is_some() {
                return problem(between, format!("{a} and {b} have a link already"));
            }
        }
        for (i, a) in regions.iter().enumerate() {
            for b in &regions[i + 1..] {
                let pair = ordered(&a.name, &b.name);
                if rtts.contains_key(&pair) {
                    continue;
                }
                let Some(ms) = self.rtt_ms_default else {
                    let text =
                        format!("none between {} and {}, and no `rtt_ms_default`", a.name, b.name);
                    return problem("links", text);
                };
                rtts.insert(pair, rtt("rtt_ms_default", ms)?);
            }
        }
        Ok(rtts)
    }
}

#[derive(Default)]
struct Nodes {
    list: Vec<Node>,
    names: BTreeSet<NodeName>,
    /// Addresses taken; port 0 never is.
    addresses: BTreeSet<Address>,
}

impl FileRegion {
    fn check(&self, field: &str, nodes: &mut Nodes) -> Result<Region, Problem> {
        let region: RegionName = name(&format!("{field}.name"), &self.name)?;
        if self.place.len() > PLACE_LEN_MAX {
            return problem(format!("{field}.place"), format!("longer than {PLACE_LEN_MAX} bytes"));
        }
        let discover = match self.discover.as_deref().map(|text| (text, Discover::new(text))) {
            None => None,
            Some((_, Ok(discover))) => Some(discover),
            Some((text, Err(why))) => {
                return problem(format!("{field}.discover"), format!("{text:?} {why}"));
            }
        };
        if self.nodes.is_empty() && discover.is_none() {
            let text = format!("{region} has no node, and no `discover`");
            return problem(format!("{field}.nodes"), text);
        }
        for (i, node) in self.nodes.iter().enumerate() {
            nodes.add(&format!("{field}.nodes[{i}]"), node, &region)?;
        }
        let place = self.place.clone();
        Ok(Region { name: region, place, voters: self.voters, discover })
    }
}

impl Nodes {
    fn add(&mut self, field: &str, node: &FileNode, region: &RegionName) -> Result<(), Problem> {
        let peer = address(&format!("{field}.peer"), &node.peer)?;
        let http = address(&format!("{field}.http"), &node.http)?;
        let node_name: NodeName = name(&format!("{field}.name"), &node.name)?;
        if DnsName::try_from(node_name.as_str()).is_err() {
            let text = format!("{node_name} can't stand in a certificate: it is no DNS name");
            return problem(format!("{field}.name"), text);
        }
        if !self.names.insert(node_name.clone()) {
            return problem(format!("{field}.name"), format!("{node_name} is there twice"));
        }
        // One speaks UDP and the other TCP, but two nodes never share either.
        for (what, address) in [("peer", &peer), ("http", &http)] {
            let is_taken = !self.addresses.insert(address.clone());
            if is_taken && !address.as_str().ends_with(":0") {
                return problem(format!("{field}.{what}"), format!("{address} is taken"));
            }
        }
        if self.list.len() == NODES_MAX {
            return problem(field, format!("more than {NODES_MAX} nodes"));
        }
        let region = region.clone();
        self.list.push(Node { name: node_name, region, peer, http, joined: false });
        Ok(())
    }
}
