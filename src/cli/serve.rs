//! `holm serve`: one node as a process, until it is asked to stop.

mod catch_up;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::node_files::NodeFiles;
use super::pki::node;
use super::{Failure, Terminal};
use crate::backup::is_broken_off;
use crate::env::Env;
use crate::model::{NodeName, RegionName};
use crate::server::{Server, ServerError};
use crate::settings::{LogFormat, Settings};
use crate::telemetry::logs;
use crate::topology::{Address, Node, Topology};
use crate::transport::{IdentityFiles, PkiError};

/// Arguments of `holm serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm serve --topology regions/three-continents.toml --node eu-west-1 \\
       --pki pki --data /var/lib/holm --settings holm.toml

A node that the file does not name joins the region that it says:
  holm serve --topology regions/three-continents.toml --node eu-west-7 --region eu-west \\
       --peer 10.0.3.7:9100 --http 10.0.3.7:8080 --data /var/lib/holm --settings holm.toml

The settings name the master key that secrets are sealed with (`holm keys`).

While it catches up with its peers, before it is ready, a terminal shows how far it is; without one,
the log does.

Certificate files that change are taken within seconds, or at once on SIGHUP; what cannot be used is
refused and logged, and the ones before go on.

Stops in order on SIGTERM and SIGINT: requests under way are answered, watches end, the store is
closed. After kill -9 nothing acknowledged is lost; the next start reads more of its log.")]
pub struct Serve {
    /// The deployment: regions, nodes, addresses, distances.
    #[arg(long, env = "HOLM_TOPOLOGY", hide_env_values = true, value_name = "FILE")]
    topology: PathBuf,
    /// Which of its nodes this is, or the name under which this one joins.
    #[arg(long, env = "HOLM_NODE", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = node)]
    node: NodeName,
    /// Where this node stands, if the file does not name it: it joins, is forgotten when it stops in
    /// order, and is evicted when nobody has heard it for long (`gossip.evict_after`).
    #[arg(long, env = "HOLM_REGION", hide_env_values = true, value_name = "REGION")]
    region: Option<RegionName>,
    /// Where a node that joins speaks QUIC with the others, which dial it there.
    #[arg(long, env = "HOLM_PEER", hide_env_values = true, value_name = "HOST:PORT")]
    #[arg(value_parser = address)]
    peer: Option<Address>,
    /// Where a node that joins answers HTTP.
    #[arg(long, env = "HOLM_HTTP", hide_env_values = true, value_name = "HOST:PORT")]
    #[arg(value_parser = address)]
    http: Option<Address>,
    #[command(flatten)]
    files: NodeFiles,
    /// How log lines look on stderr: json, one ECS object a line, or text, for people. Default:
    /// `log.format` of the settings.
    #[arg(long, env = "HOLM_LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter. Default: `log.level` of the
    /// settings.
    #[arg(long, env = "HOLM_LOG_LEVEL", hide_env_values = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Be ready without having caught up with a peer.
    #[arg(long)]
    alone: bool,
}

impl Serve {
    pub(crate) async fn run(self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        // Keys and documents are many small pieces: pages of 2 MiB are kept whole for what is left in
        // them, and reads and writes are no faster for them. Where the system does not let that be
        // changed the node is larger, and works all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::disable_transparent_huge_pages(true);
        let topology = Topology::load(&self.topology).map_err(|e| Failure::usage(e.to_string()))?;
        let topology = self.with_own(topology)?;
        let mut settings = match &self.files.settings {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Failure::usage(e.to_string()).about(path.display()))?;
                Settings::from_toml(&text)
                    .map_err(|e| Failure::usage(e.to_string()).about(path.display()))?
            }
            None => Settings::default(),
        };
        settings.alone |= self.alone;
        settings.log.format = self.log_format.unwrap_or(settings.log.format);
        settings.log.level = self.log_level.unwrap_or(settings.log.level);
        let data = self.files.data.or_else(|| settings.data_dir.clone()).ok_or_else(|| {
            Failure::usage("where the store lies is not said").hint("give --data DIR")
        })?;
        refuse_half_restored(&data)?;
        read_keys(&mut settings)?;
        super::keys::source::read(&mut settings.secrets)?;
        let files = IdentityFiles::of(&self.files.pki, &self.node);
        let format = settings.log.format;
        let _logs = logs::install(&settings.log, self.node.as_str())
            .map_err(|e| Failure::usage(e.to_string()))?;
        let env = Env::system(&data, None)
            .map_err(|e| Failure::failed(e.to_string()).about(data.display()))?;
        // Before anything answers, so that none is missed: it would end the process where it stands.
        let mut signals = Signals::new()?;
        let server = Server::start_from(env, settings, Arc::new(topology), &self.node, files);
        let server = tokio::select! {
            biased;
            () = signals.stop.asked() => return terminal.note("stopped while starting"),
            server = server => server.map_err(|e| start_failure(&e, &self.node))?,
        };
        server.node().metrics().show_process();
        let scheme = if server.is_https() { "https" } else { "http" };
        terminal.say(format!("{} listens on {scheme}://{}", self.node, server.http_addr()))?;
        terminal.flush()?;
        let failed = {
            let mut stopped = std::pin::pin!(until_stopped(&server, &mut signals));
            tokio::select! {
                biased;
                stopped = &mut stopped => stopped,
                () = catch_up::show(server.node(), terminal) => stopped.await,
            }
        };
        terminal.progress_ends()?;
        // Where lines are for machines, every one is.
        match format {
            LogFormat::Json => tracing::info!("stopping: requests under way are answered first"),
            LogFormat::Text => terminal.note("stopping: requests under way are answered first")?,
        }
        server.shutdown().await;
        if failed {
            return Err(Failure::failed("the store's driver ended; the log says why"));
        }
        Ok(())
    }
}

fn refuse_half_restored(data: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::failed(e.to_string()).about(data.display());
    if !is_broken_off(data).map_err(failed)? {
        return Ok(());
    }
    let failure = Failure::failed("a restore into this directory was broken off before its end");
    Err(failure.about(data.display()).hint("remove all that is in it, and restore again"))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("json or text is expected".to_owned()),
    }
}

fn start_failure(error: &ServerError, node: &NodeName) -> Failure {
    let message = error.to_string();
    match error {
        ServerError::Certificates(PkiError::File { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let hint = format!("`holm pki issue --node {node}` makes a node's certificate and key");
            Failure::usage(message).hint(hint)
        }
        ServerError::Certificates(_) => Failure::usage(message),
        _ => Failure::failed(message),
    }
}

/// Returns when the process is asked to stop, or cannot go on (true). On SIGHUP the certificate
/// files are read again.
async fn until_stopped(server: &Server, signals: &mut Signals) -> bool {
    loop {
        tokio::select! {
            biased;
            () = signals.stop.asked() => return false,
            () = server.failed() => return true,
            _ = signals.hangup.recv() => {
                // What was refused is in the log.
                let _ = server.reload_certificates().await;
            }
        }
    }
}

impl Serve {
    /// The topology with this node in it.
    fn with_own(&self, topology: Topology) -> Result<Topology, Failure> {
        let (node, file) = (&self.node, self.topology.display());
        if let Some(named) = topology.node(node) {
            let is_elsewhere = self.region.as_ref().is_some_and(|region| *region != named.region);
            if is_elsewhere || self.peer.is_some() || self.http.is_some() {
                return Err(Failure::usage(format!(
                    "{file} names {node}, in {} at {} and {}",
                    named.region, named.peer, named.http
                ))
                .hint("--region, --peer and --http are for a node that it does not name"));
            }
            return Ok(topology);
        }
        let Some(region) = &self.region else {
            return Err(Failure::usage(format!("{file} names no node {node}"))
                .hint("to join a region, give --region, --peer and --http"));
        };
        if !topology.regions().iter().any(|known| known.name == *region) {
            return Err(Failure::usage(format!("{file} has no region {region}")));
        }
        let (Some(peer), Some(http)) = (&self.peer, &self.http) else {
            return Err(Failure::usage(format!("{node} joins, and does not say where it is"))
                .hint("give --peer and --http, as they would stand in the topology's file"));
        };
        for address in [peer, http] {
            if !address.is_reachable() {
                return Err(Failure::usage(format!("nobody can be told to go to {address}"))
                    .hint("give an address and a port of this machine that the others reach"));
            }
            let taken = topology.nodes().iter().find(|n| n.peer == *address || n.http == *address);
            if let Some(taken) = taken {
                return Err(Failure::usage(format!("{address} is {}'s, by {file}", taken.name)));
            }
        }
        let (name, region) = (node.clone(), region.clone());
        let (peer, http) = (peer.clone(), http.clone());
        Ok(topology.with_node(Node { name, region, peer, http, joined: true }))
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::new(text).ok_or_else(|| format!("{text:?} is not host:port"))
}

/// Reads the keys that the settings name by file into them.
fn read_keys(settings: &mut Settings) -> Result<(), Failure> {
    for key in &mut settings.access.keys {
        for (file, text) in [
            (&mut key.pem_file, &mut key.pem),
            (&mut key.jwks_file, &mut key.jwks),
            (&mut key.jwks_ca_file, &mut key.jwks_ca),
        ] {
            if let Some(path) = file.take() {
                let read = std::fs::read_to_string(&path);
                *text =
                    Some(read.map_err(|e| Failure::usage(e.to_string()).about(path.display()))?);
            }
        }
    }
    let traces = &mut settings.traces;
    if let Some(path) = traces.otlp_ca_file.take() {
        let read = std::fs::read_to_string(&path);
        traces.otlp_ca =
            Some(read.map_err(|e| Failure::usage(e.to_string()).about(path.display()))?);
    }
    Ok(())
}

/// What a node is told by signals.
struct Signals {
    hangup: Signal,
    stop: StopSignals,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, stop: StopSignals::new()? })
    }
}

/// The signals that ask a process to stop, which end it no more by themselves.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Returns when there was one.
    async fn asked(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns when the process is asked to stop.
pub(super) async fn stop_asked() -> Result<(), Failure> {
    StopSignals::new()?.asked().await;
    Ok(())
}
