//! A node with its HTTP API: what `holm serve`, `holm dev` and tests start, with nothing between
//! them but what `env` gives. It puts rooms together and decides nothing.

mod certificates;
mod epochs;
mod expiry;
pub(crate) mod founding;
mod issuers;
mod rotation;
mod spans;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::token::KeySource;
use crate::access::{KeyError, Verifier};
use crate::env::Env;
use crate::http::{self, App};
use crate::model::NodeName;
use crate::node::{Node, StartError};
use crate::settings::Settings;
use crate::topology::Topology;
use crate::transport::{Identity, IdentityFiles, PkiError};

use certificates::{Files, Reloader};

/// A running server. Dropping it without [`Server::shutdown`] is a crash, as far as the store is
/// concerned.
pub struct Server {
    node: Node,
    http_addr: SocketAddr,
    stop: watch::Sender<bool>,
    http: JoinHandle<()>,
    reloader: Arc<Reloader>,
    upkeep: Vec<JoinHandle<()>>,
}

/// Why a server did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The keys of the settings cannot be used.
    #[error("the settings: {0}")]
    Keys(#[from] KeyError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificates(#[from] PkiError),
    /// The HTTP address cannot be listened on.
    #[error("the address {addr} cannot be listened on: {why}")]
    Listen {
        /// The address, as the topology writes it.
        addr: String,
        /// Why, in words.
        why: String,
    },
}

impl Server {
    /// Starts the node `name` of `topology`, known to its peers as `identity`. Keys that `settings`
    /// name by file have to be read into them before.
    pub async fn start(
        env: Env,
        settings: Settings,
        topology: Arc<Topology>,
        name: &NodeName,
        identity: &Identity,
    ) -> Result<Self, ServerError> {
        Self::start_with(env, settings, topology, name, identity, Router::new()).await
    }

    /// As [`Server::start`], with the identity out of files, which are looked at again and again:
    /// what replaces them is taken without a restart.
    pub async fn start_from(
        env: Env,
        settings: Settings,
        topology: Arc<Topology>,
        name: &NodeName,
        files: IdentityFiles,
    ) -> Result<Self, ServerError> {
        let identity = certificates::load_identity(&env, name, &files).await?;
        let doors = Router::new();
        Self::begin(env, settings, topology, name, (&identity, Some(files)), doors).await
    }

    /// As [`Server::start`], with more routes beside the API's.
    pub async fn start_with(
        env: Env,
        settings: Settings,
        topology: Arc<Topology>,
        name: &NodeName,
        identity: &Identity,
        doors: Router,
    ) -> Result<Self, ServerError> {
        Self::begin(env, settings, topology, name, (identity, None), doors).await
    }

    async fn begin(
        env: Env,
        settings: Settings,
        topology: Arc<Topology>,
        name: &NodeName,
        (identity, files): (&Identity, Option<IdentityFiles>),
        doors: Router,
    ) -> Result<Self, ServerError> {
        for name in settings.outdated() {
            tracing::warn!("the settings have a name that is outdated: {name}");
        }
        let files = Files { identity: files, https: certificates::https_files(&settings.tls) };
        let (stamps, https) = certificates::load_https(&env, files.https.as_ref()).await?;
        let kept = issuers::kept(&env, &settings, &topology.cluster).await;
        let verifier = Arc::new(verifier(&settings, &topology.cluster, &kept)?);
        let listener = listen(&env, &topology, name).await?;
        let http_addr = listener
            .local_addr()
            .map_err(|e| ServerError::Listen { addr: name.to_string(), why: e.to_string() })?;
        let node = Node::start(env.clone(), &settings, topology, name, identity).await?;
        let door = https.map(|https| {
            node.set_http_certificate(&https.chain);
            Arc::new(http::Door::new(https.config, &settings.tls))
        });
        let reloader =
            Arc::new(Reloader::new(node.clone(), env.clone(), files, (stamps, door.clone())));
        let (stop, stopped) = watch::channel(false);
        let settings = Arc::new(settings);
        let issuers = issuers::Issuers::new(verifier.clone(), env.clone(), &settings);
        let mut upkeep = vec![
            tokio::spawn(certificates::run(
                reloader.clone(),
                settings.tls.reload_every,
                stopped.clone(),
            )),
            tokio::spawn(expiry::run(node.clone(), env.clone(), stopped.clone())),
            tokio::spawn(issuers.run(stopped.clone())),
            tokio::spawn(founding::run(
                node.clone(),
                env.clone(),
                settings.clone(),
                stopped.clone(),
            )),
            tokio::spawn(rotation::run(
                node.clone(),
                env.clone(),
                settings.clone(),
                stopped.clone(),
            )),
            tokio::spawn(epochs::run(node.clone(), env.clone(), settings.clone(), stopped.clone())),
        ];
        let exporting = spans::open(&node, &env, &settings.traces);
        let mut app = App::new(node.clone(), verifier, settings, env, stopped.clone());
        if let Some((spans, export)) = exporting {
            upkeep.push(tokio::spawn(export.run(stopped)));
            app = app.exporting(spans);
        }
        let router = doors.merge(app.router());
        let http = tokio::spawn(http::serve_behind(listener, door, app, router));
        Ok(Self { node, http_addr, stop, http, reloader, upkeep })
    }

    /// The node within.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where HTTP is listened on.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Whether clients have to speak HTTPS.
    pub fn is_https(&self) -> bool {
        self.reloader.is_https()
    }

    /// Reads all certificate files again, as on SIGHUP. What cannot be used is logged, and what was
    /// there before goes on.
    pub async fn reload_certificates(&self) -> Result<(), PkiError> {
        self.reloader.reload_all().await
    }

    /// Returns when the server cannot go on by itself, and is to be shut down.
    pub async fn failed(&self) {
        self.node.failed().await;
    }

    /// Stops in order: no more connections, requests under way are answered, watches end, peers
    /// are told, the store is closed.
    pub async fn shutdown(self) {
        // Before clients are sent away: nobody sends them back.
        self.node.drain();
        self.stop.send_replace(true);
        if let Err(error) = self.http.await {
            tracing::error!(%error, "the HTTP server ended badly");
        }
        for ended in futures_util::future::join_all(self.upkeep).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task beside the server ended badly");
            }
        }
        self.node.shutdown().await;
    }
}

/// The verifier of the settings' keys, with what was kept of those that have a URL.
fn verifier(settings: &Settings, cluster: &str, kept: &[String]) -> Result<Verifier, KeyError> {
    let sources: Vec<KeySource<'_>> = settings
        .access
        .keys
        .iter()
        .zip(kept)
        .map(|(key, kept)| {
            let text = key.pem.as_deref().or(key.jwks.as_deref());
            KeySource { settings: key, text: text.unwrap_or(kept) }
        })
        .collect();
    Verifier::new(&settings.access, cluster, &sources)
}

async fn listen(
    env: &Env,
    topology: &Topology,
    name: &NodeName,
) -> Result<Box<dyn crate::env::HttpListener>, ServerError> {
    let node = topology.node(name).ok_or_else(|| StartError::UnknownNode(name.clone()))?;
    let addr = node.http.as_str();
    let failed = |why: String| ServerError::Listen { addr: addr.to_owned(), why };
    let found = env.net.lookup(addr).await.map_err(|e| failed(e.to_string()))?;
    let found = *found.first().ok_or_else(|| failed("the name has no address".into()))?;
    env.net.listen(found).await.map_err(|e| failed(e.to_string()))
}
