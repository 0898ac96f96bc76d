//! How an agent is set up: one TOML file, read at the start. Unknown fields, and values that cannot be
//! meant, are refused with their place. Nothing here reads a file but the one that is handed in as text.

mod check;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::model::{DocumentId, SecretName};
use crate::settings::{LogSettings, SettingsError, duration};

/// Everything that can be set for an agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSettings {
    /// Where last-known-good files are kept; made where it is missing, its owner's alone.
    pub data_dir: PathBuf,
    /// Which documents are kept, each `service/environment`. At most 64.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// Where the regions are. What is not said here is as the command's options say.
    #[serde(default)]
    pub connection: ConnectionSettings,
    /// Where programs ask.
    #[serde(default)]
    pub listen: ListenSettings,
    /// Which secrets are held.
    #[serde(default)]
    pub secrets: SecretSettings,
    /// Files that are made from documents and secrets. At most 64.
    #[serde(default)]
    pub templates: Vec<TemplateSettings>,
    /// When what happens.
    #[serde(default)]
    pub times: TimeSettings,
    /// How much of everything there may be.
    #[serde(default)]
    pub limits: LimitSettings,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogSettings,
}

/// A document's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(pub DocumentId);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let expected = |e| D::Error::custom(format!("{text:?} is no service/environment: {e}"));
        DocumentId::parse(&text).map(Self).map_err(expected)
    }
}

/// Where the regions are, and who asks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// Any node of the cluster, or a balancer before some; several, with commas between them.
    pub url: Option<String>,
    /// The name that DNS knows the regions by, instead.
    pub discover: Option<String>,
    /// A file with the bearer token.
    pub token_file: Option<PathBuf>,
    /// The account that asks for tokens, where no token is given.
    pub client_id: Option<String>,
    /// A file with its client secret.
    pub client_secret_file: Option<PathBuf>,
    /// The certificates that https trusts, in PEM.
    pub ca: Option<PathBuf>,
    /// A certificate to show, in PEM.
    pub client_cert: Option<PathBuf>,
    /// Its key, in PEM.
    pub client_key: Option<PathBuf>,
    /// How long one request may take.
    #[serde(deserialize_with = "duration::optional")]
    pub timeout: Option<Duration>,
}

/// Where programs ask. Whoever reaches it may read: it is on this machine alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenSettings {
    /// A loopback address, for example `127.0.0.1:8200`. Default: none.
    pub address: Option<SocketAddr>,
    /// The path of a Unix socket. Default: none.
    pub socket: Option<PathBuf>,
    /// Who may use the socket, in octal. Default: `0600`, this user.
    #[serde(deserialize_with = "mode")]
    pub socket_mode: u32,
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self { address: None, socket: None, socket_mode: 0o600 }
    }
}

/// Which secrets are held, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretSettings {
    /// Their names. What is not listed is neither fetched nor given out. At most 256.
    pub names: Vec<SecretName>,
    /// How often they are looked at. A value is fetched again where its version changed. Default: 1m.
    #[serde(deserialize_with = "duration::deserialize")]
    pub refresh: Duration,
    /// How long a value is held that no region has confirmed. Then it is forgotten, in memory and on
    /// disk. Default: 24h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
    /// A file with the key that they are sealed with on disk, as `holm keys generate` writes it.
    /// Without a key they are in memory alone, and a restart needs a region.
    pub key_file: Option<PathBuf>,
    /// The environment variable that has the key, instead of a file.
    pub key_env: Option<String>,
    /// Who is answered. Default: those at the Unix socket, whose mode says who that is.
    pub serve: SecretsFor,
}

impl Default for SecretSettings {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            refresh: Duration::from_secs(60),
            max_age: Duration::from_secs(24 * 3600),
            key_file: None,
            key_env: None,
            serve: SecretsFor::Socket,
        }
    }
}

/// Who is given secrets that asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretsFor {
    /// Nobody: they are for templates alone.
    Nobody,
    /// Who asks at the Unix socket.
    Socket,
    /// Whoever asks: at a loopback address that is every user of the machine.
    Anyone,
}

/// A file that is made from a template.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSettings {
    /// The template: minijinja, whose language is Jinja's.
    pub source: PathBuf,
    /// The file that it becomes; replaced as a whole.
    pub target: PathBuf,
    /// Whose keys `config` has in it. Default: the agent's only document, where it has one.
    pub document: Option<Document>,
    /// The file's mode, in octal. Default: `0600`.
    #[serde(default = "private", deserialize_with = "mode")]
    pub mode: u32,
    /// The file's owner, by number. Default: the agent's user.
    pub uid: Option<u32>,
    /// The file's group, by number. Default: the agent's group.
    pub gid: Option<u32>,
    /// What is run when the file has changed: a program and its arguments, without a shell.
    #[serde(default)]
    pub reload: Vec<String>,
    /// The same for a shell: run as `sh -c TEXT`.
    pub reload_shell: Option<String>,
    /// How long that may take. Default: 30s.
    #[serde(default = "reload_timeout", deserialize_with = "duration::deserialize")]
    pub reload_timeout: Duration,
}

/// When what happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeSettings {
    /// How long a start without usable files waits for a region. Default: 30s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub start_within: Duration,
    /// How long a start with files waits for something newer. Default: 2s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub fresh_within: Duration,
    /// Templates are rendered when nothing has changed for this long. Default: 250ms.
    #[serde(deserialize_with = "duration::deserialize")]
    pub debounce: Duration,
    /// … and at the latest this long after a change. Default: 2s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub debounce_max: Duration,
    /// How old a copy may be before `/readyz` says no. A region that has nothing to tell says so every
    /// 15 s (`http.heartbeat_every` of its nodes): a copy is as old between. Default: any age.
    #[serde(deserialize_with = "duration::optional")]
    pub stale_max: Option<Duration>,
    /// How long requests under way have when the agent stops. Default: 5s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain: Duration,
}

impl Default for TimeSettings {
    fn default() -> Self {
        Self {
            start_within: Duration::from_secs(30),
            fresh_within: Duration::from_secs(2),
            debounce: Duration::from_millis(250),
            debounce_max: Duration::from_secs(2),
            stale_max: None,
            drain: Duration::from_secs(5),
        }
    }
}

/// How much of everything there may be.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Most connections at once; further ones are closed. Default: 256.
    pub connections_max: usize,
    /// Longest template, in bytes. Default: 1,048,576 (1 MiB).
    pub template_bytes_max: u64,
    /// Longest rendered file, in bytes. Default: 4,194,304 (4 MiB).
    pub output_bytes_max: usize,
    /// Most steps that rendering a template may take. Default: 10,000,000.
    pub render_steps_max: u64,
    /// How much of a reload command's output is kept to be told, in bytes. Default: 4,096.
    pub reload_output_bytes_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections_max: 256,
            template_bytes_max: 1024 * 1024,
            output_bytes_max: 4 * 1024 * 1024,
            render_steps_max: 10_000_000,
            reload_output_bytes_max: 4096,
        }
    }
}

impl AgentSettings {
    /// Reads settings from TOML. Unknown fields, and values that cannot be meant, are errors.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let settings: Self =
            toml::from_str(text).map_err(|e| SettingsError::Toml(e.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// The document that a template's `config` has, if it has one.
    pub fn document_of(&self, template: &TemplateSettings) -> Option<DocumentId> {
        let only = match &self.documents[..] {
            [only] => Some(only),
            _ => None,
        };
        template.document.as_ref().or(only).map(|document| document.0.clone())
    }
}

fn private() -> u32 {
    0o600
}

fn reload_timeout() -> Duration {
    Duration::from_secs(30)
}

/// A mode as `chmod` takes it: octal digits in a text, so that nobody takes 644 for octal.
fn mode<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let text = String::deserialize(d)?;
    let is_octal =
        (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| D::Error::custom(format!("{text:?} is no mode such as \"0640\"")))
}

#[cfg(test)]
mod tests;
