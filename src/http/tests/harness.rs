//! A node in memory, its routes, and tokens for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::access::token::KeySource;
use crate::access::{Caller, MintKey, Verifier};
use crate::env::{Entropy, Env, Links, ManualClock, MemoryDisk};
use crate::http::App;
use crate::model::{NodeName, Stamp};
use crate::node::Node;
use crate::quorum::alone::Alone;
use crate::registry::{Command, Outcome, Refusal, fixture};
use crate::secrets::{Purpose, seal};
use crate::settings::{Algorithm, KeySettings, Scopes, SecretSettings, Settings};
use crate::topology::Topology;
use crate::transport::Authority;

/// The clock of all worlds, in seconds.
pub(super) const NOW_S: u64 = 1_700_000_000;

pub(in crate::http) struct World {
    pub(super) router: Router,
    pub(super) app: App,
    pub(super) clock: ManualClock,
    pub(super) disk: MemoryDisk,
    pub(super) stop: watch::Sender<bool>,
    /// The quorum that the routes ask; nothing is decided until [`World::found`].
    pub(super) alone: Arc<Alone>,
    pub(super) mint: MintKey,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(in crate::http) struct Answer {
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) headers: HeaderMap,
    pub(in crate::http) body: String,
}

impl Answer {
    pub(in crate::http) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(in crate::http) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap()
    }

    /// The answer, if its status is this.
    #[track_caller]
    pub(in crate::http) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Whether it is this error.
    #[track_caller]
    pub(in crate::http) fn expect_error(self, status: u16, name: &str) -> Value {
        let json = self.expect(status).json();
        assert_eq!(json["error"], name, "{json}");
        json
    }
}

/// A region alone.
pub(in crate::http) async fn world() -> World {
    world_with(Settings::default()).await
}

pub(super) async fn world_with(settings: Settings) -> World {
    let topology = topology(&["eu-west"]);
    start(settings, &Arc::new(topology), "eu-west", None, &authority()).await
}

/// A region of three, the others of which are never there.
pub(super) async fn island() -> World {
    let topology = topology(&["eu-west", "us-east", "ap-south"]);
    start(Settings::default(), &Arc::new(topology), "eu-west", None, &authority()).await
}

/// Two regions that are cut from each other until the links are healed.
pub(super) async fn cut_pair() -> (World, World, Links) {
    cut_pair_with(Settings::default()).await
}

/// The same, with these settings.
pub(super) async fn cut_pair_with(settings: Settings) -> (World, World, Links) {
    let topology = Arc::new(topology(&["eu-west", "us-east"]));
    let links = topology.links();
    links.cut(&name("eu-west"), &name("us-east"));
    let authority = authority();
    let own = Some(links.clone());
    let a = start(settings.clone(), &topology, "eu-west", own.clone(), &authority).await;
    let b = start(settings, &topology, "us-east", own, &authority).await;
    (a, b, links)
}

/// Three regions that reach each other.
pub(super) async fn three() -> [World; 3] {
    three_with(Settings::default()).await.0
}

/// Three regions that reach each other until their links are cut.
pub(super) async fn three_with(settings: Settings) -> ([World; 3], Links) {
    let regions = ["eu-west", "us-east", "ap-south"];
    let topology = Arc::new(topology(&regions));
    let (links, authority) = (topology.links(), authority());
    let start =
        |region| start(settings.clone(), &topology, region, Some(links.clone()), &authority);
    ([start(regions[0]).await, start(regions[1]).await, start(regions[2]).await], links)
}

fn name(region: &str) -> NodeName {
    NodeName::new(&format!("{region}-1")).unwrap()
}

fn clock() -> ManualClock {
    ManualClock::new(Stamp(NOW_S * 1_000_000))
}

fn authority() -> Authority {
    Authority::create(&Entropy::system(), &clock()).unwrap()
}

fn topology(regions: &[&str]) -> Topology {
    let mut text = "cluster = \"test\"\nrtt_ms_default = 2\n".to_owned();
    for region in regions {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = udp.local_addr().unwrap();
        text += &format!(
            "[[regions]]\nname = \"{region}\"\nplace = \"here\"\nnodes = [{{ name = \
             \"{region}-1\", peer = \"{peer}\", http = \"127.0.0.1:0\" }}]\n"
        );
    }
    Topology::parse("test.toml", &text).unwrap()
}

async fn start(
    mut settings: Settings,
    topology: &Arc<Topology>,
    region: &str,
    links: Option<Links>,
    authority: &Authority,
) -> World {
    if settings.secrets.master_keys.is_empty() {
        settings.secrets = SecretSettings::given([(1, [1; 32]), (2, [2; 32])]);
    }
    let clock = clock();
    let disk = MemoryDisk::new();
    let mut env = Env::in_memory(disk.clone(), links);
    env.clock = Arc::new(clock.clone());
    let (stop, stopped) = watch::channel(false);
    let mint = MintKey::from_seed(&[7; 32]).unwrap();
    let key = KeySettings {
        pem: Some(mint.public_pem()),
        algorithms: vec![Algorithm::EdDSA],
        audience: "holm".to_owned(),
        scopes: Scopes::Grant,
        ..KeySettings::default()
    };
    let text = mint.public_pem();
    let sources = [KeySource { settings: &key, text: &text }];
    let verifier = Arc::new(Verifier::new(&settings.access, "test", &sources).unwrap());
    let identity = authority.issue(&name(region), &env.entropy, &clock).unwrap();
    let node = Node::start(env.clone(), &settings, topology.clone(), &name(region), &identity)
        .await
        .unwrap();
    let (alone, quorum) = Alone::start();
    let app = App::new(node, verifier, Arc::new(settings), env, stopped).over(quorum);
    World { router: app.router(), app, clock, disk, stop, alone, mint }
}

impl World {
    /// Founds the cluster, with the generation 1 of the node's master keys.
    pub(super) async fn found(self) -> Self {
        let (keyring, node) = (self.app.node().keyring(), self.app.node());
        let generation = keyring.generation(1).unwrap();
        let kek = keyring.key(&generation).unwrap();
        let mut rng = Entropy::seeded(1).stream("founding");
        let cluster = node.cluster_id();
        let mut founding = fixture::founding();
        founding.generation = generation;
        let (signing, hash) = (Purpose::Signing("first"), Purpose::HashKey);
        founding.signing.private =
            seal::seal_key(kek, &mut rng, cluster, signing, b"a private key").unwrap();
        founding.hash_key = seal::seal_key(kek, &mut rng, cluster, hash, &[9; 32]).unwrap();
        self.decide(None, Command::Found(Box::new(founding))).await.unwrap();
        self
    }

    /// A request with these scopes and, where it has one, a body; read to its end.
    pub(super) async fn ask(&self, scope: &str, line: &str, body: &str) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let asking = self.request(method, path).scope(scope);
        if body.is_empty() { asking.send().await } else { asking.body(body).send().await }
    }

    /// The actions, targets and outcomes on the audit chain, in their order.
    pub(super) fn audited(&self, action: &str) -> Vec<String> {
        let events = self.alone.events.lock().unwrap();
        let events = events.iter().filter(|event| &*event.action == action);
        events
            .map(|event| format!("{} {}: {}", event.principal, event.target, event.outcome))
            .collect()
    }

    /// Has the quorum decide something, past all routes.
    pub(super) async fn decide(
        &self,
        caller: Option<Caller>,
        command: Command,
    ) -> Result<Outcome, Refusal> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        let proposal = fixture::proposal(caller, command);
        self.app.quorum().propose(proposal, deadline).await.unwrap().outcome
    }

    /// A token with these scopes, good for a minute.
    pub(super) fn token(&self, scope: &str) -> String {
        self.mint.sign(&claims(scope)).unwrap()
    }

    pub(in crate::http) fn request(&self, method: &str, path: &str) -> Asking<'_> {
        Asking {
            world: self,
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            headers: vec![(
                "authorization".into(),
                format!("Bearer {}", self.token("config:* cluster:read")),
            )],
            body: String::new(),
        }
    }

    pub(in crate::http) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    pub(super) async fn put(&self, path: &str, value: &str) -> Answer {
        self.request("PUT", path).body(value).send().await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path).body(body).send().await
    }
}

pub(super) fn claims(scope: &str) -> Value {
    serde_json::json!({"sub": "ada", "aud": "holm", "exp": NOW_S + 60, "scope": scope})
}

/// A request that is put together.
pub(in crate::http) struct Asking<'a> {
    world: &'a World,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asking<'_> {
    pub(in crate::http) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In place of the token that may do everything.
    pub(in crate::http) fn token(mut self, token: Option<&str>) -> Self {
        self.headers.retain(|(name, _)| name != "authorization");
        self.headers.extend(token.map(|it| ("authorization".to_owned(), format!("Bearer {it}"))));
        self
    }

    pub(super) fn scope(self, scope: &str) -> Self {
        let token = self.world.token(scope);
        self.token(Some(&token))
    }

    pub(super) fn body(mut self, body: &str) -> Self {
        self.headers.push(("content-type".to_owned(), "application/json".to_owned()));
        self.body = body.to_owned();
        self
    }

    /// A form in place of JSON.
    pub(super) fn form(mut self, body: &str) -> Self {
        let kind = "application/x-www-form-urlencoded".to_owned();
        self.headers.push(("content-type".to_owned(), kind));
        self.body = body.to_owned();
        self
    }

    pub(super) async fn open(self) -> axum::response::Response {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(self.body)).unwrap();
        self.world.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends it, and reads the answer, which has to be as the API is described.
    pub(in crate::http) async fn send(self) -> Answer {
        let (method, path) = (self.method.clone(), self.path.clone());
        let is_public = self.world.app.settings().http.metrics_public;
        let (parts, body) = self.open().await.into_parts();
        let body = tokio::time::timeout(Duration::from_secs(20), body.collect()).await;
        let body = body.expect("the body ends").unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        crate::http::openapi::tests::check(is_public, (method.as_str(), &path), &answer);
        answer
    }
}
