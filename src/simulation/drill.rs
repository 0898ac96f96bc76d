//! A drill: real `holm serve` processes, each in a network namespace of its own, with the distances
//! and faults of the links between them emulated in userspace. What a simulation claims of the nodes
//! in virtual time can so be seen of the same program on a real kernel, disk and clock.
//!
//! Linux and root alone ([`DrillError::Needs`]). By itself it does no workload and judges nothing;
//! [`play`] runs a scenario on it, with the same records as of a simulation ([`super::history`]).
//! Which faults it can do is in [`unsupported`].
//!
//! Everything is removed when a [`Drill`] is dropped: whoever runs one has to catch the signals that
//! end a program, and drop it then. What a killed run left behind the next one removes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::env::Entropy;
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

mod clients;
mod emulator;
mod error;
mod evidence;
mod injector;
mod links;
mod netns;
pub mod play;
mod probe;
mod process;
mod shaping;
mod site;
mod support;
mod switchboard;
mod tun;

pub use error::DrillError;
pub use shaping::{FaultId, WayCounts};
pub use support::{small_disks, unsupported, weaker};

use emulator::Emulator;
use netns::Namespaces;
use process::Process;
use site::Site;
use switchboard::{Pair, Switchboard};

/// How long a node may take to answer a probe.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);
/// How often a node is asked whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How a drill is set up.
#[derive(Clone, Debug)]
pub struct DrillSettings {
    /// The program that is every node: `holm` itself.
    pub program: PathBuf,
    /// The nodes' settings, as `holm serve` reads them (TOML). The keys of tokens and secrets are
    /// put in.
    pub settings: String,
    /// What chances of the links are drawn from. A drill is not repeatable all the same.
    pub seed: u64,
    /// Nodes whose disk is a small one, so that it can be full ([`small_disks`]).
    pub small_disks: BTreeSet<NodeName>,
}

/// A running drill. Methods come in families: links (`cut`, `hold`, `worsen`, `end_fault`,
/// `end_all_faults`, `way`), nodes (`start_node`, `crash`, `stop`, `pause`, `resume`, `slow`,
/// `full_speed`), disks (`wipe`, `fill_disk`,
/// `free_disk`, `keep_copy`, `put_copy_back`), certificates (`expire_certificate`,
/// `renew_certificate`), clients (`http_addr`, `peer_addr`, `command`, `token`, `credential_file`),
/// and what is seen from outside (`probe`, `ended`, `new_log_lines`, `files_with`, `failure`).
pub struct Drill {
    // In the order in which they have to go.
    nodes: Vec<DrillNode>,
    emulator: Emulator,
    namespaces: Namespaces,
    site: Site,
    topology: Topology,
    client_token: String,
    program: PathBuf,
}

struct DrillNode {
    name: NodeName,
    region: RegionName,
    process: Process,
    log: evidence::LogReader,
}

impl Drill {
    /// Makes the network and starts every node. They may need some seconds to be ready
    /// ([`Drill::ready`]). Called inside a tokio runtime; blocks it for some 20 ms a node.
    pub fn start(topology: &Topology, settings: DrillSettings) -> Result<Self, DrillError> {
        let DrillSettings { program, settings, seed, small_disks } = settings;
        for node in &small_disks {
            let unknown = || DrillError::Unknown(format!("node {node}"));
            topology.node(node).ok_or_else(unknown)?;
        }
        let namespaces = Namespaces::claim()?;
        let ips = |i| (netns::wan_ip(i), namespaces.lan_ip(i));
        let site = Site::create(namespaces.dir(), topology, &settings, ips)?;
        small_disks.iter().try_for_each(|node| site.make_disk_small(node))?;
        let count = topology.nodes().len();
        let devices = (0..count).map(|i| namespaces.add(i)).collect::<Result<Vec<_>, _>>()?;
        let rng = Entropy::seeded(seed).stream("drill-links");
        let board = Switchboard::new(delays(topology), rng);
        let emulator = Emulator::start(devices, board, netns::node_at);
        let nodes = topology.nodes().iter().map(|node| DrillNode {
            name: node.name.clone(),
            region: node.region.clone(),
            process: Process::default(),
            log: evidence::LogReader::default(),
        });
        let client_token = site.token("drill", &["operator"], "cluster:read")?;
        let mut drill = Self {
            nodes: nodes.collect(),
            emulator,
            namespaces,
            site,
            topology: topology.clone(),
            client_token,
            program,
        };
        for node in topology.nodes() {
            drill.start_node(&node.name)?;
        }
        Ok(drill)
    }

    /// Waits until every node that runs is ready, for at most `patience`.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), DrillError> {
        let deadline = Instant::now() + patience;
        for i in 0..self.nodes.len() {
            let name = self.nodes[i].name.clone();
            loop {
                let node = &mut self.nodes[i];
                if let Some(status) = node.process.ended() {
                    let why = format!("ended: {status}; {}", self.last_words(&name));
                    return Err(DrillError::Node { node: name, why });
                }
                if !node.process.is_up() || self.probe(&name).await?.ready {
                    break;
                }
                if Instant::now() > deadline {
                    let why = format!("not ready within {patience:?}; {}", self.last_words(&name));
                    return Err(DrillError::Node { node: name, why });
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    fn index(&self, node: &NodeName) -> Result<usize, DrillError> {
        let found = self.nodes.iter().position(|it| it.name == *node);
        found.ok_or_else(|| DrillError::Unknown(format!("node {node}")))
    }

    fn node(&mut self, node: &NodeName) -> Result<&mut DrillNode, DrillError> {
        let i = self.index(node)?;
        Ok(&mut self.nodes[i])
    }

    /// Whether a node's process runs, paused or not.
    pub fn is_running(&mut self, node: &NodeName) -> Result<bool, DrillError> {
        Ok(self.node(node)?.process.is_up())
    }

    /// Starts a node that does not run, on the data it has.
    pub fn start_node(&mut self, node: &NodeName) -> Result<(), DrillError> {
        let i = self.index(node)?;
        let mut command = self.namespaces.command(i, &self.program);
        command.args(self.site.arguments(node));
        let log = self.site.log(node);
        self.nodes[i].process.start(node, command, &log)
    }

    /// Ends a node without a word (SIGKILL).
    pub async fn crash(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.node(node)?.process.kill(node).await
    }

    /// Stops a node in order (SIGTERM), and waits for it. One that does not stop is killed, which is
    /// an error.
    pub async fn stop(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.node(node)?.process.stop(node).await
    }

    /// A node does nothing until it is resumed.
    pub async fn pause(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.node(node)?.process.pause(node).await
    }

    /// A paused node goes on.
    pub fn resume(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.node(node)?.process.resume();
        Ok(())
    }

    /// A node runs one part in `factor` of the time.
    pub async fn slow(&mut self, node: &NodeName, factor: u32) -> Result<(), DrillError> {
        self.node(node)?.process.slow(factor).await;
        Ok(())
    }

    /// A slow node runs all the time again.
    pub async fn full_speed(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.node(node)?.process.full_speed().await;
        Ok(())
    }

    /// Crashes a node, and removes its data. It stays down.
    pub async fn wipe(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.crash(node).await?;
        self.site.wipe(node)
    }

    /// Takes all room that is left on a node's disk, which has to be a small one.
    pub fn fill_disk(&self, node: &NodeName) -> Result<(), DrillError> {
        self.index(node)?;
        self.site.fill_disk(node)
    }

    /// Gives that room back.
    pub fn free_disk(&self, node: &NodeName) -> Result<(), DrillError> {
        self.index(node)?;
        self.site.free_disk(node)
    }

    /// Keeps a copy of a node's data as it is at this moment, in place of an earlier copy. The node
    /// is paused meanwhile.
    pub async fn keep_copy(&mut self, node: &NodeName) -> Result<(), DrillError> {
        let i = self.index(node)?;
        let was_paused = self.nodes[i].process.is_paused();
        let paused = self.nodes[i].process.pause(node).await;
        let kept = paused.and_then(|()| self.site.keep_copy(node));
        if !was_paused {
            self.nodes[i].process.resume();
        }
        kept
    }

    /// Crashes a node, and puts the copy that was kept in place of its data. It stays down.
    pub async fn put_copy_back(&mut self, node: &NodeName) -> Result<(), DrillError> {
        self.crash(node).await?;
        self.site.put_copy_back(node)
    }

    /// Gives a node a certificate that has expired, which it has from its next start on.
    pub fn expire_certificate(&self, node: &NodeName) -> Result<(), DrillError> {
        self.index(node)?;
        self.site.certify(node, false)
    }

    /// Gives a node a valid certificate, which it has from its next start on.
    pub fn renew_certificate(&self, node: &NodeName) -> Result<(), DrillError> {
        self.index(node)?;
        self.site.certify(node, true)
    }

    /// Where a node answers HTTP, from this machine. No fault of a link touches it.
    pub fn http_addr(&self, node: &NodeName) -> Result<SocketAddr, DrillError> {
        let i = self.index(node)?;
        Ok((self.namespaces.lan_ip(i), site::HTTP_PORT).into())
    }

    /// Where a node speaks with the others. It is reached from their namespaces alone.
    pub fn peer_addr(&self, node: &NodeName) -> Result<SocketAddr, DrillError> {
        Ok((netns::wan_ip(self.index(node)?), site::PEER_PORT).into())
    }

    /// A command in a node's namespace, to look from where the node stands. It ends with the drill.
    pub fn command(&self, node: &NodeName, program: &Path) -> Result<Command, DrillError> {
        Ok(self.namespaces.command(self.index(node)?, program))
    }

    /// Signs a token with these roles and scopes.
    pub fn token(&self, subject: &str, roles: &[&str], scope: &str) -> Result<String, DrillError> {
        self.site.token(subject, roles, scope)
    }

    /// Where the first administrator's credential lies, once a node has founded the cluster. It is
    /// that node's file alone, and gone with its data.
    pub fn credential_file(&self) -> Option<PathBuf> {
        let files = self.nodes.iter().map(|node| self.site.credential(&node.name));
        files.into_iter().find(|file| file.exists())
    }

    /// What a node logged, over all its starts. Gone with the drill.
    pub fn log_file(&self, node: &NodeName) -> PathBuf {
        self.site.log(node)
    }

    /// Where a node's stores lie.
    pub fn data_dir(&self, node: &NodeName) -> PathBuf {
        self.site.data(node)
    }

    /// Why the network between the nodes does not work any more, if so: the run shows nothing then.
    pub fn failure(&self) -> Option<String> {
        match (self.emulator.failure(), self.emulator.refused()) {
            (Some(failure), _) => Some(failure),
            (None, 0) => None,
            (None, lost) => Some(format!("{lost} packets were not taken by a device")),
        }
    }

    /// Packets that were for no node.
    pub fn strays(&self) -> u64 {
        self.emulator.with(|board, _| board.strays())
    }

    /// What is drilled.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }
}

/// One-way delays of all pairs of nodes.
fn delays(topology: &Topology) -> Vec<(Pair, Duration)> {
    let nodes = topology.nodes();
    let mut delays = Vec::new();
    for (i, a) in nodes.iter().enumerate() {
        for (k, b) in nodes.iter().enumerate().filter(|(k, _)| *k != i) {
            delays.push(((i, k), topology.rtt(&a.region, &b.region) / 2));
        }
    }
    delays
}
