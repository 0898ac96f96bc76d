//! An agent: a sidecar that gives programs in any language what `holm::client` gives Rust programs. It
//! keeps copies of documents and holds listed secrets, answers reads from them on this machine, renders
//! templates to files, and goes on, and starts, without any region.
//!
//! It writes nothing to Holm, answers nobody who is not on this machine, and puts no secret on disk
//! but where a template says so, or sealed with a key that is handed in.

mod claim;
mod http;
mod metrics;
mod output;
mod reload;
mod render;
mod sealed;
pub mod settings;
mod template;
mod vault;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use rand::Rng as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::client::copy::{CopyEnv, CopyError, CopySettings, LocalCopy};
use crate::env::Env;
use crate::model::DocumentId;

pub use http::ListenError;
pub use sealed::{SealKey, SealedError};
pub use settings::AgentSettings;
pub use template::TemplateError;

use claim::{Claim, claim};
use http::{Socket, Way, bind_socket, serve};
use metrics::Metrics;
use render::Renderer;
use sealed::Sealed;
use template::{Template, View};
use vault::{Keeper, Vault};

/// Why an agent does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// A document is neither there nor on disk.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A template does not compile.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another agent has its directory.
    #[error("{}: another agent works in this directory", .0.display())]
    Taken(PathBuf),
    /// Its directory cannot be locked.
    #[error("{}: {reason}", path.display())]
    Directory {
        /// The file that would be locked.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// What the parts of an agent share.
struct Shared {
    settings: AgentSettings,
    copies: BTreeMap<DocumentId, LocalCopy>,
    vault: Vault,
    renderer: Renderer,
    metrics: Metrics,
}

/// A running agent. It ends with [`Agent::stop`].
pub struct Agent {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    stir: watch::Sender<u64>,
    /// What answers programs.
    servers: JoinSet<()>,
    /// What keeps up: nothing of it has to end in order.
    workers: JoinSet<()>,
    address: Option<SocketAddr>,
    socket: Option<Socket>,
    /// Let go last: until then this agent writes.
    _claim: Claim,
}

impl Agent {
    /// Starts one: with what regions have or, where none answers in time, with what is on disk.
    /// `hidden` are variables of the environment that reload commands do not get.
    pub async fn start(
        env: Env,
        settings: AgentSettings,
        client: Client,
        key: Option<SealKey>,
        hidden: &[String],
    ) -> Result<Self, AgentError> {
        let renderer = Renderer::new(&settings, &env, hidden)?;
        // Before anything is asked of a region: another agent may be there.
        let claim = claim(&*env.disk, &settings.data_dir)?;
        let mut listeners = Vec::new();
        let (mut address, mut socket) = (None, None);
        if let Some(wanted) = settings.listen.address {
            let system = |e: std::io::Error| ListenError::System {
                place: wanted.to_string(),
                reason: e.to_string(),
            };
            let listener = env.net.listen(wanted).await.map_err(system)?;
            address = Some(listener.local_addr().map_err(system)?);
            listeners.push((Way::Loopback, listener));
        }
        if let Some(path) = &settings.listen.socket {
            let (listener, file) = bind_socket(path, settings.listen.socket_mode).await?;
            socket = Some(file);
            listeners.push((Way::Socket, listener));
        }
        let vault = Vault::new(&settings.secrets.names, env.clock.clone());
        let sealed = key.map(|key| {
            let path = settings.data_dir.join(sealed::NAME);
            Arc::new(Sealed { disk: env.disk.clone(), path, key })
        });
        let keeper = Keeper {
            vault: vault.clone(),
            client: client.clone(),
            settings: settings.secrets.clone(),
            sealed,
            env: env.clone(),
        };
        let copies = copies(&env, &settings, &client);
        let (copies, was_known) = tokio::join!(copies, first_look(&keeper, &settings));
        let metrics = Metrics::default();
        let shared = Arc::new(Shared { settings, copies: copies?, vault, renderer, metrics });
        let mut agent = Self {
            stop: watch::Sender::new(false),
            stir: watch::Sender::new(0),
            servers: JoinSet::new(),
            workers: JoinSet::new(),
            address,
            socket,
            shared,
            _claim: claim,
        };
        agent.run(keeper, was_known, listeners);
        Ok(agent)
    }

    fn run(
        &mut self,
        keeper: Keeper,
        was_known: bool,
        listeners: Vec<(Way, Box<dyn crate::env::HttpListener>)>,
    ) {
        let shared = &self.shared;
        let copies = shared.copies.values().map(LocalCopy::changes);
        for mut changes in copies.chain([shared.vault.changes()]) {
            let stir = self.stir.clone();
            self.workers.spawn(async move {
                while changes.changed().await.is_ok() {
                    stir.send_modify(|count| *count += 1);
                }
            });
        }
        self.workers.spawn(keeper.run(was_known));
        let (rendering, stirs) = (shared.clone(), self.stir.subscribe());
        self.workers.spawn(async move {
            let view = || rendering.view();
            rendering.renderer.run(view, stirs).await;
        });
        let room = Arc::new(Semaphore::new(shared.settings.limits.connections_max));
        for (way, listener) in listeners {
            let (room, stop) = (room.clone(), self.stop.subscribe());
            self.servers.spawn(serve(shared.clone(), way, listener, room, stop));
        }
    }

    /// Where it listens, with the port that the system gave.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Reads the templates again and renders them.
    pub async fn read_templates(&self) {
        self.shared.renderer.read_again().await;
        self.stir.send_modify(|count| *count += 1);
    }

    /// Ends in order: requests under way are answered, copies are put on disk, secrets are let go.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.servers.join_next().await.is_some() {}
        self.workers.shutdown().await;
        for copy in self.shared.copies.values() {
            copy.close().await;
        }
        self.shared.vault.release();
        drop(self.socket.take());
    }
}

/// Starts all copies, side by side.
async fn copies(
    env: &Env,
    settings: &AgentSettings,
    client: &Client,
) -> Result<BTreeMap<DocumentId, LocalCopy>, CopyError> {
    let mut random = env.entropy.stream("agent-copies");
    let started = settings.documents.iter().map(|document| {
        let copy = CopySettings {
            prefix: None,
            file: Some(settings.data_dir.join(file_name(&document.0))),
            start_within: settings.times.start_within,
            fresh_within: settings.times.fresh_within,
            save_pause: Duration::from_secs(1),
            jitter_seed: random.random(),
        };
        let disk = Some(env.disk.clone());
        let env = CopyEnv { clock: env.clock.clone(), blocking: env.blocking, disk };
        LocalCopy::start(client.clone(), &document.0, copy, None, env)
    });
    let started: Vec<_> = started.collect();
    let copies = try_join_all(started).await?;
    Ok(copies.into_iter().map(|copy| (copy.document().clone(), copy)).collect())
}

/// Takes in what is on disk, and asks for the secrets for as long as a start may take. Says whether
/// every region's word is known.
async fn first_look(keeper: &Keeper, settings: &AgentSettings) -> bool {
    keeper.load().await;
    let has_all = keeper.vault.missing().is_empty();
    let times = &settings.times;
    let within = if has_all { times.fresh_within } else { times.start_within };
    tokio::time::timeout(within, keeper.look()).await.unwrap_or(false)
}

/// A document's file: readable, plain, and no other document's.
fn file_name(document: &DocumentId) -> String {
    let text = document.to_string();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let readable: String = text.chars().take(100).map(plain).collect();
    let sum = Sha256::digest(text.as_bytes());
    let hex: String = sum[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("copy-{readable}-{hex}.txt")
}

impl Shared {
    /// One moment of everything.
    fn view(&self) -> View {
        let documents = self.copies.iter();
        let documents = documents.map(|(document, copy)| (document.to_string(), copy.state()));
        View { documents: documents.collect(), vault: self.vault.clone() }
    }

    /// Whether programs can work with it, and what is wrong: a file from the last run is enough, unless
    /// the settings want it younger.
    fn readiness(&self) -> (bool, serde_json::Value) {
        let mut problems = self.vault.problems();
        let mut is_ready = true;
        let mut documents = serde_json::Map::new();
        for (document, copy) in &self.copies {
            let age = copy.age();
            let is_young = self.settings.times.stale_max.is_none_or(|max| age.confirmed_ago <= max);
            is_ready &= is_young;
            if !is_young {
                problems.push(format!("{document}: older than times.stale_max"));
            }
            problems.extend(copy.problem().map(|problem| format!("{document}: {problem}")));
            let told = json!({
                "age_ms": u64::try_from(age.confirmed_ago.as_millis()).unwrap_or(u64::MAX),
                "from_file": age.is_from_file,
                "connected": age.is_connected,
                "keys": copy.state().items().len(),
            });
            documents.insert(document.to_string(), told);
        }
        for name in self.vault.missing() {
            is_ready = false;
            problems.push(format!("secret {name}: it is not held"));
        }
        for (target, standing) in self.renderer.standings() {
            is_ready &= standing.has_output;
            if !standing.has_output {
                problems.push(format!("{}: there is no file yet", target.display()));
            }
            let told = [standing.problem, standing.source_problem, standing.reload_problem];
            problems.extend(told.into_iter().flatten());
        }
        let status = if is_ready { "ready" } else { "not ready" };
        let secrets: serde_json::Map<_, _> = self
            .vault
            .ages()
            .into_iter()
            .map(|(name, age)| {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                (name.to_string(), json!({ "age_ms": age }))
            })
            .collect();
        let body = json!({
            "status": status, "documents": documents, "secrets": secrets, "problems": problems,
        });
        (is_ready, body)
    }
}

/// What is wrong with the settings of an agent that does not run: templates that do not compile,
/// places that cannot be written. Each says which.
pub fn check(settings: &AgentSettings) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut writable = |path: &Path| {
        let checked = output::check(path);
        wrong.extend(checked.err().map(|e| format!("{}: cannot be written: {e}", path.display())));
    };
    for template in &settings.templates {
        writable(&template.target);
    }
    if settings.data_dir.exists() {
        writable(&settings.data_dir.join("check"));
    } else {
        let above: Option<PathBuf> =
            settings.data_dir.ancestors().skip(1).find(|it| it.exists()).map(Path::to_owned);
        writable(&above.unwrap_or_default().join("check"));
    }
    if let Some(socket) = &settings.listen.socket {
        let mut beside = socket.as_os_str().to_owned();
        beside.push(".check");
        writable(Path::new(&beside));
    }
    for template in &settings.templates {
        let compiled = Template::read(&template.source, &settings.limits);
        wrong.extend(compiled.err().map(|e| e.to_string()));
    }
    wrong
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agent({:?})", self.shared.settings.data_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_has_a_file_of_its_own() {
        let name = |text| file_name(&DocumentId::parse(text).unwrap());
        assert!(name("web/prod").starts_with("copy-web_prod-"), "{}", name("web/prod"));
        assert_ne!(name("a.b/c"), name("a_b/c"));
        assert_ne!(name("A/c"), name("a/c"));
        assert!(name(&format!("{0}/{0}", "x".repeat(60))).len() < 190);
    }
}
