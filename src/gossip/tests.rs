use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use rand::SeedableRng as _;
use tokio::time::sleep;

use super::*;
use crate::env::{Links, MemoryDisk};
use crate::members::Bounds;
use crate::model::{Features, Origin, Told};
use crate::topology::Topology;
use crate::transport::frame;
use crate::transport::{self, Authority, Identity, endpoint, hello};

mod acknowledged;
mod documents;
mod features;
mod members;
mod memory;
mod named;
mod streams;
mod tiers;

use memory::{Memory, locked};

/// Beyond what a busy machine may be silent.
const EVICT_AFTER: Duration = Duration::from_secs(3);
const BOUNDS: Bounds = Bounds { joined: EVICT_AFTER, named: EVICT_AFTER };
/// Nobody is evicted within a test.
const NEVER: Bounds = Bounds { joined: EVICT_AFTER, named: Duration::from_secs(24 * 3_600) };

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

struct Node {
    memory: Arc<Memory>,
    gossip: Gossip,
    addr: SocketAddr,
}

impl Node {
    fn write(&self, count: usize, len: usize) {
        for _ in 0..count {
            self.gossip.push(&[self.memory.write(len)]);
            self.gossip.advanced();
        }
    }

    fn peer(&self, peer: &str) -> PeerStatus {
        self.gossip.peers().into_iter().find(|status| status.node == name(peer)).unwrap()
    }
}

/// Three nodes in three regions, `a`, `b` and `c`, 20 ms apart.
struct Cluster {
    links: Links,
    authority: Authority,
    settings: GossipSettings,
    topology: Arc<Topology>,
    bounds: Bounds,
    nodes: BTreeMap<&'static str, Node>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Cluster {
    fn start(settings: GossipSettings) -> Self {
        Self::of(settings, &NAMES.map(|name| [name]))
    }

    /// Regions of these nodes, each named after its first.
    fn of<R: AsRef<[&'static str]>>(settings: GossipSettings, regions: &[R]) -> Self {
        let mut text = "cluster = \"test\"\nrtt_ms_default = 20\nrtt_ms_within = 1\n".to_owned();
        for names in regions.iter().map(AsRef::as_ref) {
            text += &format!("[[regions]]\nname = \"r{}\"\nnodes = [\n", names[0]);
            for name in names {
                text += &format!(
                    "{{ name = \"{name}\", peer = \"127.0.0.1:0\", http = \"127.0.0.1:0\" }},\n"
                );
            }
            text += "]\n";
        }
        let mut topology = Topology::parse("test", &text).unwrap();
        let links = topology.links();
        let env = Env::in_memory(MemoryDisk::new(), Some(links.clone()));
        let authority = Authority::create(&env.entropy, &*env.clock).unwrap();
        let mut endpoints = Vec::new();
        for node in regions.iter().flat_map(|names| names.as_ref().iter().copied()) {
            let identity = authority.issue(&name(node), &env.entropy, &*env.clock).unwrap();
            let endpoint = endpoint(&env, &name(node), ANY, &identity).unwrap();
            let addr = endpoint.local_addr().unwrap();
            topology = topology.with_addresses(&name(node), addr.into(), ANY.into());
            endpoints.push((node, endpoint));
        }
        let mut cluster = Self {
            links,
            authority,
            settings,
            topology: Arc::new(topology),
            bounds: NEVER,
            nodes: BTreeMap::new(),
        };
        for ((node, endpoint), origin) in endpoints.into_iter().zip(1..) {
            cluster.run(node, endpoint, Memory::new(origin));
        }
        cluster
    }

    fn env(&self) -> Env {
        Env::in_memory(MemoryDisk::new(), Some(self.links.clone()))
    }

    fn identity(&self, node: &str) -> Identity {
        let env = self.env();
        self.authority.issue(&name(node), &env.entropy, &*env.clock).unwrap()
    }

    fn run(&mut self, node: &'static str, endpoint: transport::Endpoint, memory: Arc<Memory>) {
        self.run_with(node, endpoint, memory, Features::all());
    }

    fn run_with(
        &mut self,
        node: &'static str,
        endpoint: transport::Endpoint,
        memory: Arc<Memory>,
        features: Features,
    ) {
        let addr = endpoint.local_addr().unwrap();
        let members = Members::new(self.topology.clone(), &name(node), 1, self.bounds);
        let gossip = Gossip::start(
            &self.env(),
            self.settings.clone(),
            Arc::new(members.announcing(features)),
            &name(node),
            endpoint,
            memory.clone(),
        );
        self.nodes.insert(node, Node { memory, gossip, addr });
    }

    /// Stops the node and starts it again at the same address, with what is in `memory`.
    async fn restart(&mut self, node: &'static str, memory: Arc<Memory>) {
        let stopped = self.nodes.remove(node).unwrap();
        stopped.gossip.shutdown().await;
        drop(stopped.gossip);
        self.start_again(node, stopped.addr, memory).await;
    }

    async fn start_again(&mut self, node: &'static str, addr: SocketAddr, memory: Arc<Memory>) {
        let identity = self.identity(node);
        let bind = || endpoint(&self.env(), &name(node), addr, &identity).ok();
        let endpoint = until("the address is free", async || bind()).await;
        self.run(node, endpoint, memory);
    }

    fn node(&self, node: &str) -> &Node {
        &self.nodes[node]
    }

    async fn connected(&self) {
        self.connected_within(PATIENCE).await;
    }

    async fn connected_within(&self, patience: Duration) {
        until_within(patience, "all are connected", async || {
            let is_up = |peer: PeerStatus| peer.connected_out && peer.connected_in == 1;
            let is_whole = |node: &Node| {
                let peers = node.gossip.peers();
                peers.len() + 1 >= self.nodes.len() && peers.into_iter().all(is_up)
            };
            self.nodes.values().all(is_whole).then_some(())
        })
        .await;
    }

    /// Waits until all have the same, and everybody knows it of everybody.
    async fn converged(&self) {
        until("all agree", async || {
            let mut all = Vector::new();
            self.nodes.values().for_each(|node| all.merge(&node.memory.vector()));
            let agrees = |node: &Node| {
                node.gossip.regions_covering(&all).len() == self.topology.regions().len()
            };
            self.nodes.values().all(agrees).then_some(())
        })
        .await;
        self.same_logs();
    }

    fn same_logs(&self) {
        let logs = self.nodes.values().map(|node| locked(&node.memory.log).clone());
        let logs: Vec<_> = logs.collect();
        assert!(logs.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// Within this time anything has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

async fn until<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    until_within(PATIENCE, what, check).await
}

async fn until_within<T>(patience: Duration, what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn default() -> Cluster {
    Cluster::start(GossipSettings::default())
}

#[tokio::test]
async fn a_change_is_pushed_to_everybody_and_everybody_says_so() {
    // Nothing is pulled within the time of this test.
    let grace = Duration::from_secs(60);
    let cluster = Cluster::start(GossipSettings { grace, ..GossipSettings::default() });
    cluster.connected().await;
    let mut changed = cluster.node("a").gossip.changed();
    cluster.node("a").write(1, 100);
    cluster.converged().await;
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    let stats = cluster.node("b").gossip.stats();
    assert_eq!((stats.records_new, stats.pulls), (1, 0), "{stats:?}");
    let status = cluster.node("a").peer("b");
    assert_eq!((status.lag_changes, status.lag), (0, Duration::ZERO));
    assert_eq!(status.origin, Some(Origin([2; 8])));
    assert!(status.rtt >= Duration::from_millis(20) && status.rtt_measured);
    // All run on one clock: what is left is what reading it takes.
    assert!(cluster.node("a").gossip.clock_offset().unwrap().abs() < 10_000_000);
    for node in cluster.nodes.values() {
        node.gossip.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_cannot_send_to_c_reaches_c_through_b() {
    let cluster = default();
    cluster.connected().await;
    cluster.links.cut(&name("a"), &name("c"));
    cluster.node("a").write(20, 100);
    cluster.node("c").write(20, 100);
    cluster.converged().await;
    until("the cut is seen by all", async || {
        let members = cluster.node("a").gossip.members();
        (members[&name("c")] == BTreeSet::from([name("b")])).then_some(())
    })
    .await;
    // What c has is known to a through b alone.
    cluster.node("a").write(1, 100);
    cluster.converged().await;
    assert!(cluster.node("c").peer("a").heard_ago > Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn islands_agree_after_the_cut_has_healed() {
    let cluster = default();
    cluster.connected().await;
    for (a, b) in [("a", "b"), ("a", "c"), ("b", "c")] {
        cluster.links.cut(&name(a), &name(b));
    }
    for node in cluster.nodes.values() {
        node.write(3_000, 1_000);
    }
    until("the cut is noticed", async || {
        let lag = cluster.node("a").peer("b").lag;
        (lag > Duration::from_secs(3)).then_some(())
    })
    .await;
    assert_eq!(cluster.node("a").peer("b").lag_changes, 3_000);
    cluster.links.heal_all();
    cluster.converged().await;
    assert_eq!(locked(&cluster.node("b").memory.log).len(), 9_000);
}

#[tokio::test]
async fn a_full_queue_is_dropped_and_repaired() {
    let settings = GossipSettings { push_queue_bytes_max: 10_000, ..GossipSettings::default() };
    let cluster = Cluster::start(settings);
    cluster.connected().await;
    // Nothing is written before the writers run: 1,000 changes don't fit.
    cluster.node("a").write(1_000, 100);
    assert!(cluster.node("a").gossip.stats().queue_drops > 0);
    assert!(cluster.node("a").peer("b").queue_bytes <= 10_000);
    cluster.converged().await;
    assert!(cluster.node("b").gossip.stats().pulls > 0);
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_comes_when_there_is_room() {
    let cluster = default();
    cluster.connected().await;
    let is_full = &cluster.node("b").memory.is_full;
    is_full.store(true, Ordering::SeqCst);
    cluster.node("a").write(10, 100);
    until("b takes nothing, and c everything", async || {
        let is_there = cluster.node("c").gossip.stats().records_new == 10;
        (is_there && cluster.node("b").gossip.stats().applies_failed > 2).then_some(())
    })
    .await;
    assert_eq!(cluster.node("b").memory.vector(), Arc::default());
    is_full.store(false, Ordering::SeqCst);
    cluster.converged().await;
}

#[tokio::test]
async fn a_restarted_peer_is_connected_again_at_once() {
    let mut cluster = default();
    cluster.connected().await;
    cluster.node("a").write(5, 100);
    cluster.converged().await;
    let memory = cluster.node("b").memory.clone();
    cluster.restart("b", memory).await;
    cluster.node("a").write(5, 100);
    cluster.node("b").write(5, 100);
    cluster.connected().await;
    cluster.converged().await;
}

#[tokio::test]
async fn a_peer_with_less_than_it_had_sent_is_told() {
    let mut cluster = default();
    cluster.connected().await;
    cluster.node("b").write(5, 100);
    cluster.converged().await;
    // The same origin, from an empty store.
    cluster.restart("b", Memory::new(2)).await;
    let told =
        until("b is told", async || locked(&cluster.node("b").memory.witnessed).first().copied());
    assert_eq!(told.await, (Origin([2; 8]), 5));
}

#[tokio::test]
async fn a_new_identity_is_shown_on_new_links_and_nothing_is_lost_meanwhile() {
    let cluster = quick_to_distrust();
    cluster.connected().await;
    let before = cluster.node("a").gossip.stats().connections_out;
    // Another authority, step by step: trust, certificates, and the old one goes.
    let env = cluster.env();
    let new = Authority::create(&env.entropy, &*env.clock).unwrap();
    let both = vec![cluster.authority.certificate().clone(), new.certificate().clone()];
    for step in 0..3 {
        for node in NAMES {
            let (by, authorities) = match step {
                0 => (&cluster.authority, both.clone()),
                1 => (&new, both.clone()),
                _ => (&new, vec![new.certificate().clone()]),
            };
            let issued = by.issue(&name(node), &env.entropy, &*env.clock).unwrap();
            let identity = Identity { authorities, ..issued };
            cluster.node(node).gossip.replace_identity(&identity).unwrap();
        }
        nobody_is_harmed(&cluster).await;
        tokio::time::sleep(2 * DISTRUST_AFTER).await;
        cluster.connected().await;
    }
    assert!(cluster.node("a").gossip.stats().connections_out >= before + 6);
    for node in NAMES {
        let gossip = &cluster.node(node).gossip;
        for peer in gossip.0.mesh().peers.values() {
            assert!(peer.connections_all().iter().all(|it| gossip.0.endpoint.trusts(it)));
        }
        assert_eq!(gossip.stats().handshakes_failed, 0, "{node}");
    }
    nobody_is_harmed(&cluster).await;
}

#[tokio::test]
async fn a_connection_to_whom_is_not_believed_any_more_is_closed_and_does_not_come_back() {
    let cluster = quick_to_distrust();
    cluster.connected().await;
    let env = cluster.env();
    let other = Authority::create(&env.entropy, &*env.clock).unwrap();
    // a and b change their authority, and c was forgotten.
    for node in ["a", "b"] {
        let identity = other.issue(&name(node), &env.entropy, &*env.clock).unwrap();
        cluster.node(node).gossip.replace_identity(&identity).unwrap();
    }
    let connected = |of: &str, to: &str| {
        let peers = cluster.node(of).gossip.peers();
        let peer = peers.into_iter().find(|peer| peer.node.as_str() == to).unwrap();
        (peer.connected_out, peer.connected_in)
    };
    until("c is left alone", async || {
        let alone = connected("a", "c") == (false, 0) && connected("b", "c") == (false, 0);
        alone.then_some(())
    })
    .await;
    until("a and b have each other", async || {
        (connected("a", "b") == (true, 1) && connected("b", "a") == (true, 1)).then_some(())
    })
    .await;
    until("c's handshakes are refused", async || {
        (cluster.node("a").gossip.stats().handshakes_failed > 0).then_some(())
    })
    .await;
    assert_eq!(connected("a", "c"), (false, 0));
}

/// For tests of identities that change.
const DISTRUST_AFTER: Duration = Duration::from_millis(500);

fn quick_to_distrust() -> Cluster {
    let distrust_after = DISTRUST_AFTER;
    Cluster::start(GossipSettings { distrust_after, ..GossipSettings::default() })
}

/// A peer with a certificate that can say what it likes.
async fn stranger(
    cluster: &Cluster,
    identity: &Identity,
    cluster_id: &str,
) -> Result<quinn::Connection, String> {
    let env = cluster.env();
    let stranger = endpoint(&env, &name("c"), ANY, identity).unwrap();
    let connection = stranger.connect(cluster.node("a").addr, "a").unwrap().await;
    let connection = connection.map_err(|error| error.to_string())?;
    let mine = hello::Hello {
        cluster: cluster_id.into(),
        node: "c".into(),
        region: "rc".into(),
        // Another start under the name would be turned away while the real one is heard.
        instance: cluster.nodes.get("c").map_or(7, |c| c.gossip.0.instance),
        ..cluster.node("b").gossip.0.hello()
    };
    let dialed = hello::dial(&connection, &cluster.topology, &mine, &name("a")).await;
    dialed.map(|_| connection).map_err(|error| error.to_string())
}

/// a and b still speak with each other.
async fn nobody_is_harmed(cluster: &Cluster) {
    cluster.node("a").write(3, 100);
    cluster.node("b").write(3, 100);
    cluster.converged().await;
}

#[tokio::test]
async fn a_peer_with_another_authority_or_cluster_is_turned_away_and_counted() {
    let cluster = default();
    cluster.connected().await;
    let env = cluster.env();
    let foreign = Authority::create(&env.entropy, &*env.clock).unwrap();
    let identity = Identity {
        authorities: cluster.identity("c").authorities,
        ..foreign.issue(&name("c"), &env.entropy, &*env.clock).unwrap()
    };
    stranger(&cluster, &identity, "test").await.unwrap_err();
    until("the handshake is counted", async || {
        (cluster.node("a").gossip.stats().handshakes_failed == 1).then_some(())
    })
    .await;
    let refused = stranger(&cluster, &cluster.identity("c"), "other").await.unwrap_err();
    assert!(refused.contains("cluster"), "{refused}");
    until("the hello is counted", async || {
        (cluster.node("a").gossip.stats().hellos_refused == 1).then_some(())
    })
    .await;
    nobody_is_harmed(&cluster).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_cut_off_and_nobody_else_is() {
    let cluster = default();
    cluster.connected().await;
    let huge = u32::MAX.to_be_bytes().to_vec();
    let garbage = frame::encode(&"not a message").unwrap().to_vec();
    for (bytes, count) in [(huge, 1), (garbage, 2)] {
        let connection = stranger(&cluster, &cluster.identity("c"), "test").await.unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let closed = connection.closed().await;
        let quinn::ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed}") };
        assert_eq!(closed.error_code, hello::CLOSE_MISBEHAVED);
        assert_eq!(cluster.node("a").gossip.stats().misbehaved, count);
    }
    // So does one that opens a second stream of pushes, or pulls with garbage.
    let connection = stranger(&cluster, &cluster.identity("c"), "test").await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&garbage_frame()).await.unwrap();
    connection.closed().await;
    assert_eq!(cluster.node("a").gossip.stats().misbehaved, 3);
    nobody_is_harmed(&cluster).await;
}

fn garbage_frame() -> Vec<u8> {
    let mut rng = Stream::from_seed([3; 32]);
    let mut bytes = vec![0, 0, 0, 40];
    bytes.extend((0..40).map(|_| rng.random::<u8>() | 0x80));
    bytes
}

#[tokio::test]
async fn a_change_that_does_not_decode_is_quarantined_and_nobody_is_harmed() {
    let cluster = default();
    cluster.connected().await;
    cluster.node("a").gossip.push(&[Bytes::from_static(b"\xff\xff")]);
    until("it is quarantined", async || {
        let count = |node| cluster.node(node).gossip.stats().records_quarantined;
        (count("b") == 1 && count("c") == 1).then_some(())
    })
    .await;
    nobody_is_harmed(&cluster).await;
    assert_eq!(cluster.node("b").gossip.stats().misbehaved, 0);
}
