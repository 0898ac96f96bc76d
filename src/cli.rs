//! The command line: a person's tool against any region. Says what it did on stdout, what went wrong
//! and what to do about it on stderr, and tells scripts apart by the exit code.
//!
//! Refuses to guess: what it is asked to remove or overwrite it shows first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod access;
mod account;
mod address;
mod agent;
mod audit;
mod backup;
mod chaos;
mod completions;
mod dev;
mod diff;
mod difference;
mod doctor;
mod drill;
mod exec;
mod export;
mod failure;
pub mod formats;
mod get;
mod history;
mod import;
mod keys;
mod list;
mod login;
mod man;
mod node_files;
mod pki;
pub mod process;
mod quorum;
mod regions;
mod restore;
mod rm;
mod role;
mod secret;
mod serve;
mod set;
pub mod sidecar;
mod simulate;
mod status;
mod table;
mod terminal;
mod token;
mod topology;
mod watch;

#[cfg(test)]
mod tests;

pub use failure::Failure;
pub use terminal::Terminal;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::client::{
    Client, ClientCertificate, ClientCredential, ClientSettings, Discover, Places, Token,
};
use crate::transport::hello::{PROTOCOL, PROTOCOL_MIN};

/// A credential as a node writes it.
#[derive(Deserialize)]
struct Written<'a> {
    client_id: &'a str,
    client_secret: &'a str,
}

/// Configuration for services that run in many regions.
#[derive(Debug, Parser)]
#[command(name = "holm", version, long_version = FORMATS.as_str(), after_help = AFTER_HELP)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether it is to run beside a program, and take little.
    pub fn is_sidecar(&self) -> bool {
        matches!(&self.command, Command::Agent(agent) if agent.is_to_run())
    }
}

const AFTER_HELP: &str = "\
Examples:
  holm dev                                        a whole cluster on this machine, to try things on
  holm set web/prod server.port 8080
  holm get web/prod server.port
  holm exec --service web --env prod -- ./server
  holm help secret put                            what a command takes, with examples

Exit codes: 0 done; 1 refused or failed; 2 bad usage or input; 3 not found; 4 the key has changed, or
another condition does not hold.";

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Any node of the cluster, or a balancer before some. Several, with commas between them: the
    /// nearest that is healthy is asked, and the others where it does not answer.
    #[arg(long, global = true, env = "HOLM_URL", hide_env_values = true, value_name = "URL")]
    #[arg(default_value = "http://127.0.0.1:8101", help_heading = "Connection")]
    #[arg(value_delimiter = ',')]
    pub url: Vec<String>,
    /// Find the regions by DNS, instead of --url: SRV records _holm._tcp.NAME, or else the addresses
    /// of NAME; https and port 443 where NAME does not say otherwise (http://NAME:8101). Every region
    /// needs a certificate for NAME.
    #[arg(long, global = true, env = "HOLM_DISCOVER", hide_env_values = true, value_name = "NAME")]
    #[arg(help_heading = "Connection")]
    pub discover: Option<String>,
    /// The DNS server that is asked for it, for example 127.0.0.1:8600. Default: the system's.
    #[arg(long, global = true, env = "HOLM_DNS", hide_env_values = true, value_name = "ADDRESS")]
    #[arg(help_heading = "Connection")]
    pub dns: Vec<SocketAddr>,
    /// The bearer token. Seen by others on this machine: prefer --token-file or HOLM_TOKEN.
    #[arg(long, global = true, env = "HOLM_TOKEN", value_name = "JWT", hide_env_values = true)]
    #[arg(help_heading = "Connection")]
    pub token: Option<Token>,
    /// A file with the bearer token.
    #[arg(
        long,
        global = true,
        env = "HOLM_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    #[arg(conflicts_with = "token", help_heading = "Connection")]
    pub token_file: Option<PathBuf>,
    /// The account that asks for a token, where none is given.
    #[arg(
        long,
        global = true,
        env = "HOLM_CLIENT_ID",
        hide_env_values = true,
        value_name = "NAME"
    )]
    #[arg(help_heading = "Connection")]
    pub client_id: Option<String>,
    /// A file with the account's client secret, or with the first administrator's credential as
    /// the node wrote it. A secret is never an argument: others on this machine would see it.
    #[arg(
        long,
        global = true,
        env = "HOLM_CLIENT_SECRET_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    #[arg(help_heading = "Connection")]
    pub client_secret_file: Option<PathBuf>,
    /// The certificates that https trusts, in PEM. Default: whom the operating system trusts.
    #[arg(long, global = true, env = "HOLM_CA", hide_env_values = true, value_name = "FILE")]
    #[arg(help_heading = "Connection")]
    pub ca: Option<PathBuf>,
    /// A certificate to show to nodes that ask clients for one, in PEM (`holm pki issue --client`).
    #[arg(long, global = true, env = "HOLM_CLIENT_CERT", hide_env_values = true)]
    #[arg(value_name = "FILE", requires = "client_key", help_heading = "Connection")]
    pub client_cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, global = true, env = "HOLM_CLIENT_KEY", hide_env_values = true)]
    #[arg(value_name = "FILE", requires = "client_cert", help_heading = "Connection")]
    pub client_key: Option<PathBuf>,
    /// How long one request may take, for example 500ms, 10s, 1m.
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = duration, help_heading = "Connection")]
    pub timeout: Duration,
    /// Regions that must have a write on disk before it is answered: local, 2, majority, all; with
    /// a time it may take: "majority; timeout=2s".
    #[arg(long, global = true, value_name = "REGIONS", value_parser = ack)]
    #[arg(help_heading = "Connection")]
    pub ack: Option<String>,
    /// Text for people, or JSON for programs.
    #[arg(long, global = true, value_enum, default_value = "text", help_heading = "Output")]
    pub output: OutputFormat,
    /// No colours. There are none anyway where the output is not a terminal.
    #[arg(long, global = true, env = "NO_COLOR", help_heading = "Output", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub no_color: bool,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Tables and sentences.
    Text,
    /// What the node said.
    Json,
}

/// One variant a command; its arguments and its `run` are in the module of its name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read one key, or all keys of an environment.
    Get(get::Get),
    /// Write keys, all or none.
    Set(set::Set),
    /// Remove keys.
    Rm(rm::Rm),
    /// List services and environments, or the keys of one.
    List(list::List),
    /// Follow changes as they happen.
    Watch(watch::Watch),
    /// Show every version of a key.
    History(history::History),
    /// Compare two environments, or two versions of a key.
    Diff(diff::Diff),
    /// Write an earlier version of a key again; or make a backup into a node's stores.
    Restore(restore::Restore),
    /// Bring configuration files in.
    Import(import::Import),
    /// Write configuration files.
    Export(export::Export),
    /// Run a program with configurations and secrets in its environment.
    Exec(exec::Exec),
    /// Show the cluster: regions, members, lag.
    Status(status::Status),
    /// Show the regions that requests can go to, how near each is, and which is used.
    Regions(regions::Regions),
    /// Start a whole cluster on this machine, to try things on.
    Dev(dev::Dev),
    /// Cut, slow and heal the links of a `holm dev` cluster.
    Chaos(chaos::Chaos),
    /// Run one node until it is asked to stop.
    Serve(serve::Serve),
    /// Keep copies on this machine for programs in any language, and render templates from them.
    Agent(agent::Agent),
    /// Take a backup of a node, and check one.
    Backup(backup::Backup),
    /// Look at everything that a node stands on, and say what is wrong.
    Doctor(doctor::Doctor),
    /// Make the certificates with which nodes know each other.
    Pki(pki::Pki),
    /// Make keys to sign tokens with, and tokens.
    Token(token::Token),
    /// Get a token for an account.
    Login(login::Login),
    /// Show and check the audit log.
    Audit(audit::Audit),
    /// Write, read, list and remove secrets.
    Secret(secret::Secret),
    /// Make, show and rotate the master key that secrets are sealed with.
    Keys(keys::Keys),
    /// Make, change and remove accounts and their client secrets.
    Account(account::Account),
    /// Make, change and remove roles, and bind configurations to them.
    Role(role::Role),
    /// Ask who may do what, and why.
    Access(access::Access),
    /// Show and change who decides on secrets and rules.
    Quorum(quorum::Quorum),
    /// Find out what a partition would do, before there is one.
    Simulate(simulate::Simulate),
    /// Run a scenario with real processes, in network namespaces (Linux, root).
    Drill(drill::Drill),
    /// Write a topology file from a running cluster, and check one.
    Topology(topology::Topology),
    /// Print what a shell needs to complete commands and options.
    Completions(completions::Completions),
    /// Print manual pages, or write them into a folder.
    Man(man::Man),
}

/// The version, and of what form everything is that outlives the program: what decides whether two
/// versions can be in one cluster, and whether one can go on with the other's data.
static FORMATS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\n\n\
         between nodes  protocol {PROTOCOL}, and down to {PROTOCOL_MIN}\n\
         config.redb    format {}\n\
         quorum.redb    format {}",
        env!("CARGO_PKG_VERSION"),
        crate::storage::meta::FORMAT,
        crate::quorum::STORE_FORMAT,
    )
});

/// Does what the command line says. Never ends the process itself.
pub async fn run(cli: Cli, terminal: &mut Terminal<'_>) -> ExitCode {
    ExitCode::from(run_to_code(cli, terminal).await)
}

async fn run_to_code(cli: Cli, terminal: &mut Terminal<'_>) -> u8 {
    let Cli { global, command } = cli;
    finish(&global, terminal, async |terminal: &mut Terminal<'_>| {
        Box::pin(execute(command, &global, terminal)).await
    })
    .await
}

/// Does what a command line says, and reports what came of it.
async fn finish(
    global: &Global,
    terminal: &mut Terminal<'_>,
    command: impl AsyncFnOnce(&mut Terminal<'_>) -> Result<(), Failure>,
) -> u8 {
    if global.no_color {
        terminal.without_colour();
    }
    if global.json() {
        terminal.without_progress();
    }
    let done = command(terminal).await;
    match done.and_then(|()| Ok(terminal.flush()?)) {
        Ok(()) => 0,
        Err(failure) => failure.report(terminal),
    }
}

async fn execute(
    command: Command,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    match command {
        Command::Get(get) => get.run(global, terminal).await,
        Command::Set(set) => set.run(global, terminal).await,
        Command::Rm(rm) => rm.run(global, terminal).await,
        Command::List(list) => list.run(global, terminal).await,
        Command::Watch(watch) => watch.run(global, terminal).await,
        Command::History(history) => history.run(global, terminal).await,
        Command::Diff(diff) => diff.run(global, terminal).await,
        Command::Restore(restore) => restore.run(global, terminal).await,
        Command::Import(import) => import.run(global, terminal).await,
        Command::Export(export) => export.run(global, terminal).await,
        Command::Exec(exec) => exec.run(global, terminal).await,
        Command::Status(status) => status.run(global, terminal).await,
        Command::Regions(regions) => regions.run(global, terminal).await,
        Command::Dev(dev) => dev.run(terminal).await,
        Command::Chaos(chaos) => chaos.run(global, terminal).await,
        Command::Serve(serve) => serve.run(terminal).await,
        Command::Pki(pki) => pki.run(global, terminal).await,
        Command::Agent(agent) => agent.run(global, terminal).await,
        Command::Backup(backup) => backup.run(global, terminal).await,
        Command::Doctor(doctor) => doctor.run(global, terminal).await,
        Command::Audit(audit) => audit.run(global, terminal).await,
        Command::Token(token) => token.run(terminal),
        Command::Login(login) => login.run(global, terminal).await,
        Command::Secret(secret) => secret.run(global, terminal).await,
        Command::Keys(keys) => keys.run(global, terminal).await,
        Command::Account(account) => account.run(global, terminal).await,
        Command::Role(role) => role.run(global, terminal).await,
        Command::Access(access) => access.run(global, terminal).await,
        Command::Quorum(quorum) => quorum.run(global, terminal).await,
        Command::Simulate(simulate) => simulate.run(global, terminal),
        Command::Drill(drill) => drill.run(global, terminal).await,
        Command::Completions(completions) => completions.run(terminal),
        Command::Man(man) => man.run(global, terminal),
        Command::Topology(topology) => topology.run(global, terminal).await,
    }
}

impl Global {
    /// A client of the node that the options name.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
        };
        let mut settings = self.places()?;
        settings.token.clone_from(&self.token);
        if let Some(path) = &self.token_file
            && self.token.is_none()
        {
            let token = String::from_utf8(read(path)?).unwrap_or_default();
            let token = token.parse().map_err(|e: &str| Failure::usage(e).about(path.display()))?;
            settings.token = Some(token);
        }
        settings.credential = self.credential()?;
        settings.ca_pem = self.ca.as_ref().map(read).transpose()?;
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            let key_pem = Zeroizing::new(read(key)?);
            let chain_pem = read(certificate)?;
            settings.certificate = Some(ClientCertificate { chain_pem, key_pem });
        }
        settings.timeout = self.timeout;
        settings.ack.clone_from(&self.ack);
        Ok(Client::with(settings)?)
    }

    /// The same for one node alone.
    pub(crate) fn at(&self, url: &str, timeout: Duration) -> Self {
        let url = vec![url.to_owned()];
        Self { url, discover: None, dns: Vec::new(), timeout, ..self.clone() }
    }

    /// Where requests go, in words.
    pub(crate) fn places_text(&self) -> String {
        self.discover.clone().unwrap_or_else(|| self.url.join(", "))
    }

    /// Where the options say that the regions are.
    fn places(&self) -> Result<ClientSettings, Failure> {
        if let Some(name) = &self.discover {
            let mut settings = ClientSettings::discover(name, None);
            let (name, servers) = (name.clone(), self.dns.clone());
            settings.places = Places::Dns(Discover { name, servers });
            return Ok(settings);
        }
        if !self.dns.is_empty() {
            return Err(Failure::usage("--dns is for --discover NAME"));
        }
        let urls: Vec<&str> = self.url.iter().map(|url| url.trim()).collect();
        Ok(match urls.as_slice() {
            [url] => ClientSettings::new(url, None),
            urls => ClientSettings::regions(urls.iter().copied(), None),
        })
    }

    /// What tokens are asked for with, if the options name it.
    fn credential(&self) -> Result<Option<ClientCredential>, Failure> {
        let Some(path) = &self.client_secret_file else {
            return match self.client_id {
                Some(_) => Err(Failure::usage("the client secret is missing")
                    .hint("give --client-secret-file FILE")),
                None => Ok(None),
            };
        };
        let failed = |why: String| Failure::usage(why).about(path.display());
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let text = Zeroizing::new(text);
        // What a node writes for the first administrator.
        let written: Option<Written<'_>> = serde_json::from_str(&text).ok();
        let (name, secret) = match &written {
            Some(written) => (Some(written.client_id), written.client_secret),
            None => (None, text.as_str()),
        };
        let name = self.client_id.as_deref().or(name);
        let client_id = name.ok_or_else(|| {
            failed("whose secret is it?".to_owned()).hint("give --client-id NAME")
        })?;
        let secret = secret.parse().map_err(|_| failed("this is no client secret".to_owned()))?;
        Ok(Some(ClientCredential { client_id: client_id.to_owned(), secret }))
    }

    pub(crate) fn json(&self) -> bool {
        self.output == OutputFormat::Json
    }
}

/// A length of time with its unit: `300ms`, `2s`, `1m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("a number with a unit is expected: 300ms, 2s, 1m".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{digits}` is not a whole number"))?;
    match number.checked_mul(unit_ms) {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("at least 1ms and at most a day".to_owned()),
    }
}

fn ack(text: &str) -> Result<String, String> {
    let who = text.split(';').next().unwrap_or_default().trim();
    let known = matches!(who, "local" | "majority" | "all") || who.parse().is_ok_and(|n: u8| n > 0);
    if known && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err("local, a number of regions, majority or all is expected".to_owned())
    }
}
