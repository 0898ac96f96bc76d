//! Where a scenario plays: a topology file that it names, or one that stands in the scenario itself
//! in a shorter form. Every node gets addresses that only the simulated network knows.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::NODES_MAX;
use super::error::Flaw;
use super::fault;
use super::reader::{Problems, Value};
use crate::topology::{self, Address, Topology, TopologyError};

/// What a topology in a scenario is called where it does not say.
const CLUSTER_DEFAULT: &str = "holm-simulated";
/// What a node's addresses are until it gets those of the simulated network: the system's choice.
const ADDRESS_ANY: &str = "127.0.0.1:0";

/// A topology, and the text that it has apart from the scenario's own.
pub(super) struct Place {
    pub(super) topology: Topology,
    pub(super) text: String,
}

/// Reads `topology`: a path relative to `dir`, or a table.
pub(super) fn read(value: &Value<'_>, dir: &Path, problems: &Problems<'_>) -> Option<Place> {
    let allowed = "a topology file's path, relative to this file, or [topology]";
    let (topology, text) = match value.raw().get_ref() {
        DeValue::String(path) => {
            let path = dir.join(&**path);
            let name = path.display().to_string();
            let read = read_bounded(&path, topology::FILE_LEN_MAX)
                .map_err(|source| TopologyError::Read { file: name.clone(), source });
            match read.and_then(|text| Ok((Topology::parse(&name, &text)?, text))) {
                Ok(read) => read,
                Err(error) => {
                    value.add(Flaw::Topology(error.to_string()));
                    return None;
                }
            }
        }
        DeValue::Table(table) => (inline(value, table, problems)?, String::new()),
        _ => return value.refuse(allowed),
    };
    if topology.nodes().len() > NODES_MAX {
        let nodes = topology.nodes().len();
        value.add(Flaw::Topology(format!(
            "it has {nodes} nodes; {NODES_MAX} at most are simulated"
        )));
        return None;
    }
    let is_empty = |region: &&topology::Region| topology.nodes_of(&region.name).next().is_none();
    if let Some(region) = topology.regions().iter().find(is_empty) {
        let name = &region.name;
        value.add(Flaw::Topology(format!("{name} names no node, and a simulation has no DNS")));
        return None;
    }
    Some(Place { topology: with_simulated_addresses(topology), text })
}

impl Place {
    /// Lets the nodes that join in the run stand in the topology, too.
    pub(super) fn join(&mut self, faults: &Value<'_>) {
        let joiners = fault::joiners(faults, &self.topology);
        let room = NODES_MAX.saturating_sub(self.topology.nodes().len());
        if joiners.len() > room {
            let text =
                format!("{} nodes join, and at most {NODES_MAX} are simulated", joiners.len());
            faults.add(Flaw::Topology(text));
        }
        if !joiners.is_empty() {
            let joined = joiners.into_iter().take(room);
            let topology = joined.fold(self.topology.clone(), Topology::with_node);
            self.topology = with_simulated_addresses(topology);
        }
    }
}

/// The text of a file of at most `len_max` bytes.
pub(super) fn read_bounded(path: &Path, len_max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(len_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > len_max {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// The second node of the third region: `10.3.0.2`, UDP 9000 and TCP 8000.
fn with_simulated_addresses(mut topology: Topology) -> Topology {
    let mut addresses = Vec::new();
    for (i, region) in topology.regions().iter().enumerate() {
        for (k, node) in topology.nodes_of(&region.name).enumerate() {
            let host = format!("10.{}.0.{}", i + 1, k + 1);
            addresses.push((node.name.clone(), host));
        }
    }
    for (node, host) in addresses {
        let [peer, http] = [9_000, 8_000].map(|port| Address::new(&format!("{host}:{port}")));
        if let (Some(peer), Some(http)) = (peer, http) {
            topology = topology.with_addresses(&node, peer, http);
        }
    }
    topology
}

fn inline(value: &Value<'_>, table: &DeTable<'_>, problems: &Problems<'_>) -> Option<Topology> {
    let mut long = table.clone();
    lengthen(&mut long);
    let span = value.raw().span();
    match Topology::from_table("", Spanned::new(span.clone(), long)) {
        Ok(topology) => Some(topology),
        Err(TopologyError::Form { source, .. }) => {
            let at = source.span().map_or(span.start, |span| span.start);
            problems.add(at, Flaw::Topology(source.message().to_owned()));
            None
        }
        Err(TopologyError::Field { field, problem, .. }) => {
            let at = locate(value.raw(), &field);
            problems.add(at, Flaw::Topology(format!("{field}: {problem}")));
            None
        }
        Err(error) => {
            value.add(Flaw::Topology(error.to_string()));
            None
        }
    }
}

/// The byte at which `regions[1].nodes[0].name` stands, or as much of it as there is.
pub(super) fn locate(value: &Spanned<DeValue<'_>>, field: &str) -> usize {
    let mut here = value;
    for part in field.split(['.', '[']).filter(|part| !part.is_empty()) {
        let next = match part.strip_suffix(']') {
            Some(index) => index.parse().ok().and_then(|i: usize| here.get_ref().get(i)),
            None => here.get_ref().get(part),
        };
        let Some(next) = next else { break };
        here = next;
    }
    here.span().start
}

/// Makes the short form the long one: a cluster's name, `nodes = 2`, `nodes = ["a", "b"]`, nodes
/// without addresses. What is neither short nor right stays as it is, to be refused.
fn lengthen(table: &mut DeTable<'_>) {
    put_default(table, 0, "cluster", CLUSTER_DEFAULT);
    let Some(regions) = table.get_mut("regions").map(Spanned::get_mut) else { return };
    let DeValue::Array(regions) = regions else { return };
    for region in regions.iter_mut() {
        let at = region.span();
        if let DeValue::String(name) = region.get_mut() {
            let name = DeValue::String(name.clone());
            let mut table = DeTable::new();
            table.insert(spanned(at.start, "name"), Spanned::new(at.clone(), name));
            *region.get_mut() = DeValue::Table(table);
        }
        if let DeValue::Table(region) = region.get_mut() {
            lengthen_nodes(region, at.start);
        }
    }
}

fn lengthen_nodes(region: &mut DeTable<'_>, at: usize) {
    let name = region.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned);
    let one = DeValue::Integer(toml::de::DeInteger::default());
    let is_absent = !region.contains_key("nodes");
    if is_absent {
        region.insert(spanned(at, "nodes"), Spanned::new(at..at, one));
    }
    let Some(nodes) = region.get_mut("nodes") else { return };
    let nodes_at = nodes.span().start;
    if let (DeValue::Integer(count), Some(name)) = (nodes.get_ref(), &name) {
        let count = if is_absent { Some(1) } else { count.as_str().parse::<usize>().ok() };
        // One more than are simulated is enough to be refused for it.
        let Some(count) = count.map(|count| count.min(NODES_MAX + 1)) else { return };
        let node = |i| Spanned::new(nodes_at..nodes_at, text(format!("{name}-{i}")));
        *nodes.get_mut() = DeValue::Array((1..=count).map(node).collect());
    }
    let DeValue::Array(nodes) = nodes.get_mut() else { return };
    for node in nodes.iter_mut() {
        let at = node.span();
        if let DeValue::String(name) = node.get_mut() {
            let name = DeValue::String(name.clone());
            let mut table = DeTable::new();
            table.insert(spanned(at.start, "name"), Spanned::new(at.clone(), name));
            *node.get_mut() = DeValue::Table(table);
        }
        if let DeValue::Table(node) = node.get_mut() {
            put_default(node, at.start, "peer", ADDRESS_ANY);
            put_default(node, at.start, "http", ADDRESS_ANY);
        }
    }
}

fn put_default(table: &mut DeTable<'_>, at: usize, key: &'static str, value: &'static str) {
    if !table.contains_key(key) {
        table.insert(spanned(at, key), Spanned::new(at..at, text(value.to_owned())));
    }
}

fn spanned(at: usize, key: &'static str) -> Spanned<DeString<'static>> {
    Spanned::new(at..at, Cow::Borrowed(key))
}

fn text(text: String) -> DeValue<'static> {
    DeValue::String(Cow::Owned(text))
}
