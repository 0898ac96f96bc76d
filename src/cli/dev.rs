//! `holm dev`: a whole cluster on this machine, to try things on. Every node is what `holm serve`
//! runs; only the links between them are held back, and have a door for `holm chaos`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand::Rng as _;
use tokio::time::Instant;

use super::keys::source;
use super::pki::make_dir;
use super::serve::stop_asked;
use super::token::{AUDIENCE, write_new};
use super::{Failure, Terminal};
use crate::access::mint::{Claims, MintKey};
use crate::env::{Entropy, Env, SystemClock, WallClock as _};
use crate::secrets::keyring;
use crate::server::Server;
use crate::server::founding::CREDENTIAL_FILE;
use crate::settings::{
    Algorithm, KeySettings, LogFormat, MasterKeySettings, Scopes, SecretSettings, Settings,
};
use crate::telemetry::logs;
use crate::topology::Topology;
use crate::transport::Authority;

mod links;

/// The deployment where none is named.
const TOPOLOGY: &str = include_str!("../../regions/three-continents.toml");

/// How long the printed token holds.
const TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the new cluster's founding is waited for.
const FOUNDING_TIME: Duration = Duration::from_secs(10);

/// Arguments of `holm dev`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm dev                                        three regions on three continents
  holm dev --topology regions/single-region.toml
  holm dev --data ./dev-data                      keeps what is written
  holm chaos cut eu-west                          (elsewhere) makes an island

Everything is on loopback; the certificates are made for this run.")]
pub struct Dev {
    /// The deployment. Default: three regions on three continents.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Keep the data here. Default: a directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What is logged on stderr: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
}

impl Dev {
    pub(crate) async fn run(self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let topology = match &self.topology {
            Some(path) => Topology::load(path),
            None => Topology::parse("three-continents.toml", TOPOLOGY),
        };
        let topology = Arc::new(topology.map_err(|e| Failure::usage(e.to_string()))?);
        let entropy = Entropy::system();
        let (dir, keep) = match &self.data {
            Some(dir) => (dir.clone(), true),
            None => {
                let number: u32 = entropy.stream("dev-directory").random();
                (std::env::temp_dir().join(format!("holm-dev-{number:08x}")), false)
            }
        };
        make_dir(&dir)?;
        let ran = run_in(&dir, &self.log, topology, terminal).await;
        if !keep {
            std::fs::remove_dir_all(&dir)
                .map_err(|e| Failure::failed(e.to_string()).about(dir.display()))?;
        }
        ran
    }
}

async fn run_in(
    dir: &Path,
    log: &str,
    topology: Arc<Topology>,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let key = token_key(dir)?;
    let mut settings = settings(&key, log);
    settings.secrets = master_key(dir)?;
    let _logs = logs::install(&settings.log, "dev").map_err(|e| Failure::usage(e.to_string()))?;
    let (links, entropy) = (topology.links(), Entropy::system());
    let failed = |e: &dyn std::fmt::Display| Failure::failed(e.to_string());
    // Throw-away: nobody outside this process has to know these nodes.
    let authority = Authority::create(&entropy, &SystemClock).map_err(|e| failed(&e))?;
    let mut servers = Vec::new();
    for node in topology.nodes() {
        let identity =
            authority.issue(&node.name, &entropy, &SystemClock).map_err(|e| failed(&e))?;
        let data = dir.join(node.name.as_str());
        let env = Env::system(&data, Some(links.clone()))
            .map_err(|e| failed(&e).about(data.display()))?;
        let doors = links::routes(links.clone(), topology.clone());
        let server = Server::start_with(
            env,
            settings.clone(),
            topology.clone(),
            &node.name,
            &identity,
            doors,
        );
        let server = server.await.map_err(|e| {
            failed(&e).about(&node.name).hint("is another `holm dev` running, or the port taken?")
        })?;
        server.node().metrics().show_process();
        servers.push(server);
    }
    let token_file = dir.join("token");
    let token = sign(&key)?;
    // A kept directory has the last run's.
    let _ = std::fs::remove_file(&token_file);
    write_new(&token_file, &token, 0o600)?;
    let administrator = credential_file(dir, &servers).await;
    print(&topology, &servers, (&token, &token_file), administrator.as_deref(), terminal)?;
    stop_asked().await?;
    terminal.note("stopping")?;
    futures_util::future::join_all(servers.into_iter().map(Server::shutdown)).await;
    Ok(())
}

/// The key that tokens are signed with: the directory's, so that tokens outlive a restart.
fn token_key(dir: &Path) -> Result<MintKey, Failure> {
    let path = dir.join("token.key");
    let failed = |e: &dyn std::fmt::Display| Failure::failed(e.to_string()).about(path.display());
    match std::fs::read_to_string(&path) {
        Ok(pem) => MintKey::from_pem(&pem).map_err(|e| failed(&e)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed: [u8; 32] = Entropy::system().stream("token-key").random();
            let key = MintKey::from_seed(&seed).map_err(|e| failed(&e))?;
            write_new(&path, &key.private_pem(), 0o600)?;
            Ok(key)
        }
        Err(error) => Err(failed(&error)),
    }
}

/// The key that secrets are sealed with: the directory's, so that they outlive a restart.
fn master_key(dir: &Path) -> Result<SecretSettings, Failure> {
    let path = dir.join("master.key");
    if !path.exists() {
        let key = keyring::generate(&mut Entropy::system().stream("master-key"));
        write_new(&path, &key, 0o600)?;
    }
    let key = MasterKeySettings { generation: 1, file: Some(path), ..Default::default() };
    let mut settings = SecretSettings { master_keys: vec![key] };
    source::read(&mut settings)?;
    Ok(settings)
}

/// Where the first administrator's credential is, once every node knows that the cluster has been founded:
/// none of them refuses then what comes first.
async fn credential_file(dir: &Path, servers: &[Server]) -> Option<PathBuf> {
    let deadline = Instant::now() + FOUNDING_TIME;
    let mut knows = true;
    for server in servers {
        let quorum = server.node().quorum();
        let mut applied = quorum.applied();
        let founded = applied.wait_for(|_| quorum.glance().is_founded());
        knows &= tokio::time::timeout_at(deadline, founded).await.is_ok();
    }
    if !knows {
        tracing::warn!(
            "not every node knows yet that the cluster is founded: those refuse secrets, accounts and \
             roles until they do"
        );
    }
    let file = |server: &Server| dir.join(server.node().name().as_str()).join(CREDENTIAL_FILE);
    servers.iter().map(file).find(|file| file.exists())
}

fn settings(key: &MintKey, log: &str) -> Settings {
    let mut settings = Settings::default();
    settings.access.keys = vec![KeySettings {
        pem: Some(key.public_pem()),
        algorithms: vec![Algorithm::EdDSA],
        audience: AUDIENCE.to_owned(),
        scopes: Scopes::Grant,
        ..KeySettings::default()
    }];
    settings.log.format = LogFormat::Text;
    log.clone_into(&mut settings.log.level);
    settings
}

fn sign(key: &MintKey) -> Result<String, Failure> {
    let now = SystemClock.now().0 / 1_000_000;
    let claims = Claims {
        sub: "dev".to_owned(),
        aud: AUDIENCE.to_owned(),
        roles: vec!["admin".to_owned(), "operator".to_owned()],
        iat: now,
        exp: now + TOKEN_TTL.as_secs(),
        ..Claims::default()
    };
    key.sign(&claims).map_err(|e| Failure::failed(e.to_string()))
}

fn print(
    topology: &Topology,
    servers: &[Server],
    (token, token_file): (&str, &Path),
    administrator: Option<&Path>,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    terminal.say(format!("{} regions are up (ctrl-c ends them):", topology.regions().len()))?;
    for (node, server) in topology.nodes().iter().zip(servers) {
        let place = topology.regions().iter().find(|region| region.name == node.region);
        let place = place.map_or("", |region| &region.place);
        let url = format!("http://{}", server.http_addr());
        terminal.say(format!("  {:<14} {url:<24} {place}", node.name.as_str()))?;
    }
    let urls: Vec<String> =
        servers.iter().map(|server| format!("http://{}", server.http_addr())).collect();
    let (first, last) = (&urls[0], &urls[urls.len() - 1]);
    let region = &topology.regions()[0].name;
    let (file, auth) = (token_file.display(), "-H \"Authorization: Bearer $HOLM_TOKEN\"");
    terminal.say(format!(
        "
A token that may do everything:
{token}

Try, in another terminal:
  export HOLM_TOKEN=$(cat {file})
  curl -X POST {first}/config/web/prod {auth} -H 'Content-Type: application/json' -d '{{\"key\": \"color\", \"value\": \"blue\"}}'
  curl {last}/config/web/prod/color {auth}
  curl -N {last}/config/web/prod {auth} -H 'Accept: text/event-stream'
  curl {first}/cluster {auth}

Make an island of {region}, write on both sides, and heal:
  holm chaos cut {region} --url {first}
  holm chaos heal --url {first}"
    ))?;
    if let Some(file) = administrator {
        terminal.say(format!(
            "
The cluster's first administrator gets tokens with its client secret:
  holm login --url {first} --client-secret-file {}",
            file.display()
        ))?;
    }
    Ok(terminal.flush()?)
}
