//! `holm agent`: a sidecar for programs in any language, until it is asked to stop; and a check of its
//! settings.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::keys::source;
use super::serve::stop_asked;
use super::sidecar::FRUGAL;
use super::{Failure, Global, Terminal};
use crate::agent::settings::{AgentSettings, ConnectionSettings};
use crate::agent::{self, AgentError, SealKey};
use crate::env::Env;
use crate::telemetry::logs;

/// Variables that are the agent's own: commands that it starts do not get them.
const HIDDEN: [&str; 4] = ["HOLM_TOKEN", "HOLM_TOKEN_FILE", FRUGAL[0].0, FRUGAL[1].0];

/// Arguments of `holm agent`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
The least settings, beside a token (--token-file, HOLM_TOKEN, or [connection] in the file):
  data_dir = \"/var/lib/holm-agent\"
  documents = [\"web/prod\"]
  [listen]
  socket = \"/run/holm/agent.sock\"          # or: address = \"127.0.0.1:8200\"
  [[templates]]
  source = \"/etc/holm/nginx.conf.j2\"       # {{ config[\"server.port\"] }}, {{ secret(\"name\") }}
  target = \"/etc/nginx/nginx.conf\"
  reload = [\"nginx\", \"-s\", \"reload\"]

Programs ask it as they ask a node, without a token:
  curl --unix-socket /run/holm/agent.sock http://localhost/config/web/prod/server.port

It starts from what it kept when every region is down. On SIGHUP it reads its templates again, and
says whether its settings have changed, which count from the next start; on SIGTERM and SIGINT it
stops in order.

Examples:
  holm agent --config agent.toml
  holm agent check --config agent.toml")]
pub struct Agent {
    /// The agent's settings.
    #[arg(
        long,
        env = "HOLM_AGENT_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        required = true
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check the settings: that templates compile, and that what is written can be.
    #[command(after_help = "\
Exit code 2 where anything is wrong, with its place.

Examples:
  holm agent check --config agent.toml")]
    Check {
        /// The agent's settings.
        #[arg(long, env = "HOLM_AGENT_CONFIG", hide_env_values = true, value_name = "FILE")]
        config: PathBuf,
    },
}

impl Agent {
    /// Whether it is an agent that is wanted, and not a look at its settings.
    pub(crate) fn is_to_run(&self) -> bool {
        self.action.is_none()
    }

    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match (self.action, self.config) {
            (Some(Action::Check { config }), _) => check(&config, global, terminal),
            (None, Some(config)) => run(&config, global, terminal).await,
            (None, None) => Err(Failure::usage("which settings? give --config FILE")),
        }
    }
}

/// The settings, and the text that says them.
fn read(path: &Path) -> Result<(AgentSettings, String), Failure> {
    let about = |text: String| Failure::usage(text).about(path.display());
    let text = std::fs::read_to_string(path).map_err(|e| about(e.to_string()))?;
    let settings = AgentSettings::from_toml(&text).map_err(|e| about(e.to_string()))?;
    Ok((settings, text))
}

/// Says whether the settings are not those any more that the agent was started with.
fn compare(path: &Path, started_with: &str) {
    let file = path.display();
    match read(path) {
        Ok((_, text)) if text == started_with => {}
        Ok(_) => {
            tracing::warn!(%file, "the settings file has changed: it counts from the next start");
        }
        Err(error) => {
            tracing::error!(%file, %error, "the settings file would not be taken at the next start");
        }
    }
}

/// The key that secrets are sealed with, if the settings name one.
fn seal_key(settings: &AgentSettings) -> Result<Option<SealKey>, Failure> {
    let secrets = &settings.secrets;
    let Some(text) = source::one(secrets.key_file.as_deref(), secrets.key_env.as_deref()) else {
        return Ok(None);
    };
    let key = text.and_then(|text| SealKey::parse(&text));
    let about = |why: String| Failure::usage(why).about("the key of [secrets]");
    key.map(Some).map_err(about)
}

/// The command's options, and over them what the file says of the connection.
fn connection(global: &Global, file: &ConnectionSettings) -> Global {
    let mut global = global.clone();
    if let Some(url) = &file.url {
        (global.url, global.discover) = (url.split(',').map(str::to_owned).collect(), None);
    }
    if file.discover.is_some() {
        global.discover.clone_from(&file.discover);
    }
    if file.token_file.is_some() {
        (global.token, global.token_file) = (None, file.token_file.clone());
    }
    if file.client_id.is_some() {
        global.client_id.clone_from(&file.client_id);
    }
    if file.client_secret_file.is_some() {
        global.client_secret_file.clone_from(&file.client_secret_file);
    }
    if file.ca.is_some() {
        global.ca.clone_from(&file.ca);
    }
    if file.client_cert.is_some() {
        global.client_cert.clone_from(&file.client_cert);
    }
    if file.client_key.is_some() {
        global.client_key.clone_from(&file.client_key);
    }
    global.timeout = file.timeout.unwrap_or(global.timeout);
    global
}

async fn run(path: &Path, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    // An agent is small: with pages of 2 MiB most of what it keeps resident would be room. Where the
    // system does not let that be changed it is larger, and works all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let (settings, text) = read(path)?;
    let client = connection(global, &settings.connection).client()?;
    let key = seal_key(&settings)?;
    let mut hidden: Vec<String> = HIDDEN.map(str::to_owned).into();
    hidden.extend(settings.secrets.key_env.clone());
    let _logs = logs::install(&settings.log, "agent").map_err(|e| Failure::usage(e.to_string()))?;
    let env = Env::system(&settings.data_dir, None)
        .map_err(|e| Failure::usage(e.to_string()).about(settings.data_dir.display()))?;
    let socket = settings.listen.socket.clone();
    // Before anything else takes time, so that a signal is not missed.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut stop = std::pin::pin!(stop_asked());
    let agent = tokio::select! {
        biased;
        asked = &mut stop => return asked,
        agent = agent::Agent::start(env, settings, client, key, &hidden) => agent,
    };
    let agent = agent.map_err(|error| match &error {
        AgentError::Template(_) => Failure::usage(error.to_string()),
        AgentError::Copy(_) => Failure::failed(error.to_string())
            .hint("is a region up, and does the token allow it? with a file from an earlier run it would start all the same"),
        AgentError::Taken(_) => Failure::failed(error.to_string())
            .hint("each agent has a data_dir of its own"),
        AgentError::Listen(_) | AgentError::Directory { .. } => Failure::failed(error.to_string()),
    })?;
    if let Some(address) = agent.address() {
        terminal.say(format!("the agent listens on http://{address}"))?;
    }
    if let Some(socket) = socket {
        terminal.say(format!("the agent listens on {}", socket.display()))?;
    }
    terminal.say("the agent is up")?;
    terminal.flush()?;
    loop {
        tokio::select! {
            biased;
            asked = &mut stop => {
                asked?;
                break;
            }
            _ = hangup.recv() => {
                compare(path, &text);
                agent.read_templates().await;
            }
        }
    }
    tracing::info!("stopping: requests under way are answered first");
    agent.stop().await;
    Ok(())
}

fn check(path: &Path, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (settings, _) = read(path)?;
    connection(global, &settings.connection).client()?;
    seal_key(&settings)?;
    let mut wrong = agent::check(&settings);
    let Some(last) = wrong.pop() else {
        let (documents, secrets) = (settings.documents.len(), settings.secrets.names.len());
        let templates = settings.templates.len();
        return terminal.say(format!(
            "{}: good: {documents} document(s), {secrets} secret(s), {templates} template(s)",
            path.display()
        ));
    };
    for one in wrong {
        terminal.note(one)?;
    }
    Err(Failure::usage(last))
}
