//! Nodes that the file does not name: they join, are found by DNS, leave, and are evicted.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::*;
use crate::env::{Fetch, HttpListener, Network, Service};
use crate::topology::{Address, Node as Place};

/// The test's network with names of its own.
struct Dns(Arc<dyn Network>, BTreeMap<String, SocketAddr>);

impl Network for Dns {
    fn udp(&self, node: &NodeName, addr: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        self.0.udp(node, addr)
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HttpListener>>> {
        self.0.listen(addr)
    }

    fn fetch<'a>(&'a self, what: Fetch<'a>) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        self.0.fetch(what)
    }

    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        match self.1.get(host) {
            Some(addr) => futures_util::future::ready(Ok(vec![*addr])).boxed(),
            None => self.0.lookup(host),
        }
    }

    fn lookup_service<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<Service>>> {
        let found = self.1.get(name).map(|addr| {
            let (target, port) = (String::new(), addr.port());
            vec![Service { priority: 1, weight: 1, target, port, addresses: vec![*addr] }]
        });
        futures_util::future::ready(found.ok_or_else(|| io::ErrorKind::NotFound.into())).boxed()
    }
}

/// What a node that joins brings.
struct Joiner {
    endpoint: transport::Endpoint,
    topology: Topology,
    incarnation: u64,
}

impl Cluster {
    /// A node that the file does not name, in that region; `file` is what it knows of the cluster.
    fn joiner(&self, node: &str, region: &str, file: &Topology) -> Joiner {
        let endpoint = endpoint(&self.env(), &name(node), ANY, &self.identity(node)).unwrap();
        let peer: Address = endpoint.local_addr().unwrap().into();
        let (name, region) = (name(node), RegionName::new(region).unwrap());
        let topology =
            file.clone().with_node(Place { name, region, http: peer.clone(), peer, joined: true });
        Joiner { endpoint, topology, incarnation: 1 }
    }

    fn join(&mut self, node: &'static str, joiner: Joiner, origin: u8) {
        let Joiner { endpoint, topology, incarnation } = joiner;
        let (addr, memory) = (endpoint.local_addr().unwrap(), Memory::new(origin));
        let members = Arc::new(Members::new(Arc::new(topology), &name(node), incarnation, NEVER));
        let settings = self.settings.clone();
        let gossip =
            Gossip::start(&self.env(), settings, members, &name(node), endpoint, memory.clone());
        self.nodes.insert(node, Node { memory, gossip, addr });
    }

    /// Waits until these know each other, and nobody else.
    async fn are_members(&self, wanted: &[&str]) {
        let all: BTreeSet<NodeName> = wanted.iter().map(|node| name(node)).collect();
        until(&format!("all know {wanted:?}"), async || {
            let knows = |node: &Node| {
                let known: BTreeSet<NodeName> = node.gossip.members().into_keys().collect();
                known == all
            };
            wanted.iter().all(|node| knows(self.node(node))).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_that_joins_is_known_to_all_catches_up_and_takes_part() {
    let mut cluster = default();
    cluster.node("a").write(20, 100);
    let file = (*cluster.topology).clone();
    cluster.join("a2", cluster.joiner("a2", "ra", &file), 4);
    cluster.join("b2", cluster.joiner("b2", "rb", &file), 5);
    cluster.are_members(&["a", "a2", "b", "b2", "c"]).await;
    cluster.connected().await;
    cluster.node("a2").write(5, 100);
    cluster.node("b2").write(5, 100);
    cluster.converged().await;
    let status = cluster.node("c").peer("a2");
    assert_eq!((status.region.as_str(), status.origin), ("ra", Some(Origin([4; 8]))));
    let of_region = |node: &Node| node.gossip.0.mesh().tiers.near().len();
    assert_eq!(of_region(cluster.node("a")), 1, "the tiers follow");
}

#[tokio::test]
async fn a_node_that_leaves_is_forgotten_at_once_and_may_come_back() {
    let mut cluster = default();
    let file = (*cluster.topology).clone();
    cluster.join("a2", cluster.joiner("a2", "ra", &file), 4);
    cluster.are_members(&["a", "a2", "b", "c"]).await;
    cluster.connected().await;
    // What an earlier start of it said on its way out comes late, and is no word of this one.
    let a = &cluster.node("a").gossip.0;
    a.left(&name("a2"), u64::MAX);
    assert!(a.members.topology().node(&name("a2")).is_some());
    let started = Instant::now();
    cluster.nodes.remove("a2").unwrap().gossip.shutdown().await;
    cluster.are_members(&["a", "b", "c"]).await;
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waits for its silence");
    // Its clock was put back: its incarnation is not above what was known.
    cluster.join("a2", cluster.joiner("a2", "ra", &file), 6);
    cluster.are_members(&["a", "a2", "b", "c"]).await;
    cluster.connected().await;
    cluster.node("a2").write(3, 100);
    cluster.converged().await;
}

#[tokio::test]
async fn a_node_that_dies_is_evicted_after_the_bound_and_a_named_one_never() {
    let mut cluster = default();
    let file = (*cluster.topology).clone();
    cluster.join("a2", cluster.joiner("a2", "ra", &file), 4);
    cluster.are_members(&["a", "a2", "b", "c"]).await;
    let died = cluster.nodes.remove("a2").unwrap();
    died.gossip.0.stop.cancel();
    died.gossip.0.endpoint.close(CLOSE_DONE, b"");
    let started = Instant::now();
    let named = cluster.nodes.remove("c").unwrap();
    named.gossip.shutdown().await;
    until("it is evicted", async || {
        let known = |node: &str| cluster.node(node).gossip.members().len();
        (known("a") == 3 && known("b") == 3).then_some(())
    })
    .await;
    assert!(started.elapsed() >= EVICT_AFTER, "not before the bound");
    assert!(cluster.node("a").gossip.members().contains_key(&name("c")), "the file names it");
    cluster.join("a2", cluster.joiner("a2", "ra", &file), 5);
    until("it joined again", async || {
        let knows = |node: &str| cluster.node(node).gossip.members().contains_key(&name("a2"));
        (knows("a") && knows("b")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_node_under_a_name_is_refused_with_both_addresses() {
    let mut cluster = default();
    let file = (*cluster.topology).clone();
    cluster.join("a2", cluster.joiner("a2", "ra", &file), 4);
    cluster.are_members(&["a", "a2", "b", "c"]).await;
    cluster.connected().await;
    let first = cluster.node("a2").addr;
    let second = cluster.joiner("a2", "ra", &file);
    let own = second.endpoint.local_addr().unwrap();
    let connection = second.endpoint.connect(cluster.node("b").addr, "b").unwrap().await.unwrap();
    let mine = Hello {
        node: "a2".into(),
        region: "ra".into(),
        instance: 99,
        announced: Some(Announced { peer: own.to_string(), http: own.to_string(), incarnation: 7 }),
        ..cluster.node("a").gossip.0.hello()
    };
    let dialed = hello::dial(&connection, &file, &mine, &name("b")).await;
    let error = dialed.unwrap_err().to_string();
    for addr in [first, own] {
        assert!(error.contains(&addr.to_string()), "{error}");
    }
    cluster.node("a2").write(2, 100);
    cluster.converged().await;
}

#[tokio::test]
async fn who_announces_no_address_or_has_another_certificate_does_not_join() {
    let cluster = default();
    let hello_as = |node: &str, announced: Option<Announced>| Hello {
        node: node.into(),
        region: "ra".into(),
        instance: 99,
        announced,
        ..cluster.node("a").gossip.0.hello()
    };
    let at = |peer: &str| {
        let (peer, http) = (peer.to_owned(), "127.0.0.1:1".to_owned());
        Some(Announced { peer, http, incarnation: 1 })
    };
    for (mine, says) in [
        (hello_as("x", None), "the topology has no node"),
        (hello_as("x", at("0.0.0.0:9")), "announces no address"),
        (hello_as("x", at("127.0.0.1:0")), "announces no address"),
        (hello_as("x", at("nonsense")), "announces no address"),
        (hello_as("y", at("127.0.0.1:9")), "its certificate is not for the name"),
        (
            Hello { region: "elsewhere".into(), ..hello_as("x", at("127.0.0.1:9")) },
            "the topology has no node",
        ),
    ] {
        let joiner = cluster.joiner("x", "ra", &cluster.topology);
        let connection =
            joiner.endpoint.connect(cluster.node("b").addr, "b").unwrap().await.unwrap();
        let dialed = hello::dial(&connection, &cluster.topology, &mine, &name("b")).await;
        let error = dialed.unwrap_err().to_string();
        assert!(error.contains(says), "{error}\nnot {says}");
    }
    cluster.are_members(&["a", "b", "c"]).await;
}

/// `a` looks for nodes under `name` in DNS; `d` knows of nobody who answers.
async fn is_found_by(discover: &str) {
    let mut cluster = default();
    cluster.nodes.remove("a").unwrap().gossip.shutdown().await;
    let file = r#"
        cluster = "test"
        rtt_ms_default = 1
        [[regions]]
        name = "ra"
        nodes = [{ name = "a", peer = "127.0.0.1:9", http = "127.0.0.1:10" }]
        [[regions]]
        name = "rd"
        discover = "DISCOVER"
    "#;
    let file = Topology::parse("test", &file.replace("DISCOVER", discover)).unwrap();
    cluster.join("d", cluster.joiner("d", "rd", &file), 4);
    let d = cluster.node("d").addr;
    let endpoint = endpoint(&cluster.env(), &name("a"), ANY, &cluster.identity("a")).unwrap();
    let own = endpoint.local_addr().unwrap();
    let mut env = cluster.env();
    env.net = Arc::new(Dns(env.net, [(discover.to_owned(), d)].into()));
    let topology = file.with_addresses(&name("a"), own.into(), own.into());
    let members = Arc::new(Members::new(Arc::new(topology), &name("a"), 1, NEVER));
    let memory = Memory::new(1);
    let settings = cluster.settings.clone();
    let gossip = Gossip::start(&env, settings, members, &name("a"), endpoint, memory.clone());
    until("a found d", async || {
        let peers = gossip.peers();
        peers.iter().any(|peer| peer.node == name("d") && peer.connected_out).then_some(())
    })
    .await;
    memory.write(10);
    gossip.advanced();
    until("d has what a wrote", async || {
        (*cluster.node("d").memory.vector() == *memory.vector()).then_some(())
    })
    .await;
    gossip.shutdown().await;
}

#[tokio::test]
async fn a_node_is_found_by_the_addresses_of_a_name() {
    is_found_by("holm.rd.internal:9100").await;
}

#[tokio::test]
async fn a_node_is_found_by_a_service() {
    is_found_by("_holm._udp.rd.example.com").await;
}
