//! A cluster for tests: real nodes, each on a runtime of its own, with real QUIC and HTTP on
//! loopback, links that can be cut, and disks in memory that survive a crash as a disk does.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use holm::access::mint::{Claims, MintKey};
use holm::client::{Client, ClientSettings};
use holm::env::{CrashMode, Entropy, Env, Links, MemoryDisk, SystemClock, WallClock as _};
use holm::model::{DocumentId, JsonText, Key, NodeName};
use holm::server::Server;
use holm::settings::{SecretSettings, Settings};
use holm::topology::Topology;
use holm::transport::Authority;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// How long anything may take that has to happen in the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Some regions with one node each, `a-1`, `b-1`, ….
pub(crate) struct Cluster {
    pub(crate) topology: Arc<Topology>,
    pub(crate) links: Links,
    authority: Authority,
    key: MintKey,
    settings: Settings,
    nodes: BTreeMap<NodeName, Running>,
    disks: BTreeMap<NodeName, MemoryDisk>,
}

struct Running {
    /// Taken where the node ends: a runtime may not be dropped inside of another one.
    runtime: Option<Runtime>,
    server: Option<Server>,
}

impl Running {
    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn node(region: &str) -> NodeName {
    NodeName::new(&format!("{region}-1")).unwrap()
}

pub(crate) fn document(text: &str) -> DocumentId {
    DocumentId::parse(text).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn json(text: &str) -> JsonText {
    JsonText::parse(text).unwrap()
}

/// Two ports that are free and that no other test of this process was given. Below those that the
/// system gives to outgoing connections: a node that restarts has to get its port back.
pub(crate) fn free_ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run at the same time starts elsewhere.
    let start = 10_000 + (std::process::id() % 200) as u16 * 100;
    let mut free = std::iter::repeat_with(|| start + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000)
        .take(2_000)
        .filter(|port| {
            let addr = ("127.0.0.1", *port);
            UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok()
        });
    (free.next().unwrap(), free.next().unwrap())
}

/// The master keys of every node: two generations, of which a founded cluster uses the first.
pub(crate) fn master_keys() -> SecretSettings {
    SecretSettings::given([(1, [1; 32]), (2, [2; 32])])
}

fn topology(regions: &[&str], rtt_ms: u64) -> Topology {
    let mut text = format!("cluster = \"test\"\nrtt_ms_default = {rtt_ms}\n");
    for region in regions {
        let (peer, http) = free_ports();
        text += &format!(
            "[[regions]]\nname = \"{region}\"\nplace = \"here\"\nnodes = [{{ name = \"{region}-1\", \
             peer = \"127.0.0.1:{peer}\", http = \"127.0.0.1:{http}\" }}]\n"
        );
    }
    Topology::parse("test.toml", &text).unwrap()
}

impl Cluster {
    /// A running cluster.
    pub(crate) async fn start(regions: &[&str], rtt_ms: u64) -> Self {
        let mut cluster = Self::new(regions, rtt_ms);
        for region in regions {
            cluster.start_node(region).await;
        }
        cluster
    }

    /// A cluster of which nothing runs yet.
    pub(crate) fn new(regions: &[&str], rtt_ms: u64) -> Self {
        let topology = Arc::new(topology(regions, rtt_ms));
        let key = MintKey::from_seed(&[7; 32]).unwrap();
        let pem = serde_json::to_string(&key.public_pem()).unwrap();
        let settings = format!(
            "[[access.keys]]\npem = {pem}\nalgorithms = [\"EdDSA\"]\naudience = \"holm\"\nscopes = \"grant\"\n"
        );
        Self {
            links: topology.links(),
            authority: Authority::create(&Entropy::system(), &SystemClock).unwrap(),
            key,
            settings: Settings {
                secrets: master_keys(),
                ..Settings::from_toml(&settings).unwrap()
            },
            nodes: BTreeMap::new(),
            disks: regions.iter().map(|region| (node(region), MemoryDisk::new())).collect(),
            topology,
        }
    }

    /// For nodes that are started from now on.
    pub(crate) fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
    }

    pub(crate) async fn start_node(&mut self, region: &str) {
        let name = node(region);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let env = Env::in_memory(self.disks[&name].clone(), Some(self.links.clone()));
        let identity = self.authority.issue(&name, &env.entropy, &SystemClock).unwrap();
        let (settings, topology) = (self.settings.clone(), self.topology.clone());
        let of = name.clone();
        let server = runtime
            .spawn(async move { Server::start(env, settings, topology, &of, &identity).await })
            .await
            .unwrap()
            .unwrap();
        let running = Running { runtime: Some(runtime), server: Some(server) };
        self.nodes.insert(name, running);
    }

    /// Ends a node without a word, and leaves its disk as `mode` says.
    pub(crate) async fn crash(&mut self, region: &str, mode: CrashMode) {
        let name = node(region);
        let disk = self.disks[&name].crash(mode);
        drop(self.nodes.remove(&name).unwrap());
        self.disks.insert(name.clone(), disk);
        // The runtime's threads take a moment to let go of the ports.
        let (peer, http) = {
            let node = self.topology.node(&name).unwrap();
            (node.peer.as_str().to_owned(), node.http.as_str().to_owned())
        };
        eventually("the crashed node's ports are free", async || {
            UdpSocket::bind(&peer).is_ok() && TcpListener::bind(&http).is_ok()
        })
        .await;
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, region: &str) {
        let mut running = self.nodes.remove(&node(region)).unwrap();
        let server = running.server.take().unwrap();
        let runtime = running.runtime.as_ref().unwrap();
        runtime.spawn(async move { server.shutdown().await }).await.unwrap();
    }

    pub(crate) fn is_running(&self, region: &str) -> bool {
        self.nodes.contains_key(&node(region))
    }

    pub(crate) fn disk(&self, region: &str) -> &MemoryDisk {
        &self.disks[&node(region)]
    }

    pub(crate) fn put_disk(&mut self, region: &str, disk: MemoryDisk) {
        self.disks.insert(node(region), disk);
    }

    pub(crate) fn server(&self, region: &str) -> &Server {
        self.nodes[&node(region)].server()
    }

    pub(crate) fn url(&self, region: &str) -> String {
        format!("http://{}", self.server(region).http_addr())
    }

    pub(crate) fn token(&self, scope: &str) -> String {
        let now = SystemClock.now().0 / 1_000_000;
        let claims = Claims {
            sub: "tester".into(),
            aud: "holm".into(),
            scope: scope.into(),
            iat: now,
            exp: now + 3_600,
            ..Claims::default()
        };
        self.key.sign(&claims).unwrap()
    }

    /// A client that may do everything.
    pub(crate) fn client(&self, region: &str) -> Client {
        self.client_with(region, |_| ())
    }

    pub(crate) fn client_with(
        &self,
        region: &str,
        change: impl FnOnce(&mut ClientSettings),
    ) -> Client {
        let token = self.token("config:* cluster:read");
        let mut settings = ClientSettings::new(&self.url(region), Some(&token));
        change(&mut settings);
        Client::with(settings).unwrap()
    }

    pub(crate) fn cut(&self, a: &str, b: &str) {
        self.links.cut(&node(a), &node(b));
    }

    /// Waits until all running nodes have the same vector, and gives every row each of them shows.
    pub(crate) async fn agreed(&self) -> Vec<String> {
        let servers: Vec<&Server> = self.nodes.values().map(Running::server).collect();
        eventually("all nodes have the same vector", async || {
            let vectors: Vec<_> =
                servers.iter().map(|server| server.node().snapshot().vector.clone()).collect();
            vectors.windows(2).all(|pair| pair[0] == pair[1])
        })
        .await;
        let views: Vec<Vec<String>> = servers
            .iter()
            .map(|server| {
                let snapshot = server.node().snapshot();
                let rows = snapshot.documents.iter().flat_map(|(id, view)| {
                    view.rows
                        .iter()
                        .map(move |(key, row)| format!("{id}/{key}: {:?}", row.siblings()))
                });
                rows.collect()
            })
            .collect();
        for view in &views[1..] {
            assert_eq!(*view, views[0], "the same vector, another view");
        }
        views.into_iter().next().unwrap_or_default()
    }
}

/// Waits for something that has to become true.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An HTTP client for requests that the client room has no method for.
pub(crate) fn http() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}
