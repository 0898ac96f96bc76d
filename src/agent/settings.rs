//! How an agent is set up: one TOML file, read at the start. Unknown fields, and values that cannot be
//! meant, are refused with their place. Nothing here reads a file but the one that is handed in as text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::model::{DocumentId, SecretName};
use crate::settings::{LogSettings, parse_duration};

const DOCUMENTS_MAX: usize = 64;
const SECRETS_MAX: usize = 256;
const TEMPLATES_MAX: usize = 64;
const ARGUMENTS_MAX: usize = 256;

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
    #[serde(deserialize_with = "optional")]
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
    #[serde(deserialize_with = "duration")]
    pub refresh: Duration,
    /// How long a value is held that no region has confirmed. Then it is forgotten, in memory and on
    /// disk. Default: 24h.
    #[serde(deserialize_with = "duration")]
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
    #[serde(default = "reload_timeout", deserialize_with = "duration")]
    pub reload_timeout: Duration,
}

/// When what happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeSettings {
    /// How long a start without usable files waits for a region. Default: 30s.
    #[serde(deserialize_with = "duration")]
    pub start_within: Duration,
    /// How long a start with files waits for something newer. Default: 2s.
    #[serde(deserialize_with = "duration")]
    pub fresh_within: Duration,
    /// Templates are rendered when nothing has changed for this long. Default: 250ms.
    #[serde(deserialize_with = "duration")]
    pub debounce: Duration,
    /// … and at the latest this long after a change. Default: 2s.
    #[serde(deserialize_with = "duration")]
    pub debounce_max: Duration,
    /// How old a copy may be before `/readyz` says no. Default: any age.
    #[serde(deserialize_with = "optional")]
    pub stale_max: Option<Duration>,
    /// How long requests under way have when the agent stops. Default: 5s.
    #[serde(deserialize_with = "duration")]
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

/// Why a text is not an agent's settings. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentSettingsError {
    /// Not TOML, an unknown field, or a value of another type; with the line.
    #[error("{0}")]
    Toml(String),
    /// A value that cannot be meant.
    #[error("{field}: {reason}")]
    Value {
        /// The field, as it is written: `templates[0].mode`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl AgentSettings {
    /// Reads settings from TOML. Unknown fields, and values that cannot be meant, are errors.
    pub fn from_toml(text: &str) -> Result<Self, AgentSettingsError> {
        let settings: Self =
            toml::from_str(text).map_err(|e| AgentSettingsError::Toml(e.to_string()))?;
        settings.check_lists()?;
        settings.check_listen()?;
        settings.check_times()?;
        settings.check_templates()?;
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

    fn check_lists(&self) -> Result<(), AgentSettingsError> {
        let (documents, names) = (self.documents.len(), self.secrets.names.len());
        refuse(documents + names == 0, "documents", "neither documents nor secrets are named")?;
        refuse(documents > DOCUMENTS_MAX, "documents", "more than 64 are named")?;
        refuse(names > SECRETS_MAX, "secrets.names", "more than 256 are named")?;
        refuse(self.templates.len() > TEMPLATES_MAX, "templates", "there are more than 64")?;
        let both = self.secrets.key_file.is_some() && self.secrets.key_env.is_some();
        refuse(both, "secrets.key_env", "a key comes from a file or a variable, not from both")?;
        let mut seen = std::collections::BTreeSet::new();
        let twice = self.documents.iter().any(|document| !seen.insert(&document.0));
        refuse(twice, "documents", "one is named twice")?;
        let limits = &self.limits;
        for (field, value, max) in [
            ("limits.connections_max", limits.connections_max as u64, 100_000),
            ("limits.template_bytes_max", limits.template_bytes_max, 64 << 20),
            ("limits.output_bytes_max", limits.output_bytes_max as u64, 64 << 20),
            ("limits.render_steps_max", limits.render_steps_max, u64::MAX),
            ("limits.reload_output_bytes_max", limits.reload_output_bytes_max as u64, 1 << 20),
        ] {
            refuse(value == 0, field, "0 would refuse everything")?;
            refuse(value > max, field, &format!("more than {max} is no limit"))?;
        }
        Ok(())
    }

    fn check_listen(&self) -> Result<(), AgentSettingsError> {
        let remote = self.listen.address.is_some_and(|address| !address.ip().is_loopback());
        refuse(
            remote,
            "listen.address",
            "is no loopback address: whoever reaches the agent may read without a token",
        )
    }

    fn check_times(&self) -> Result<(), AgentSettingsError> {
        let (times, day) = (&self.times, Duration::from_secs(24 * 3600));
        for (field, value, max) in [
            ("times.start_within", times.start_within, day),
            ("times.fresh_within", times.fresh_within, day),
            ("times.debounce_max", times.debounce_max, day),
            ("secrets.refresh", self.secrets.refresh, day),
            ("secrets.max_age", self.secrets.max_age, 3650 * day),
        ] {
            refuse(value.is_zero(), field, "may not be 0")?;
            refuse(
                value > max,
                field,
                &format!("may not be more than {} h", max.as_secs() / 3600),
            )?;
        }
        let (least, most) = (times.debounce, times.debounce_max);
        refuse(least > most, "times.debounce", "is above times.debounce_max")?;
        let second = Duration::from_secs(1);
        refuse(self.secrets.refresh < second, "secrets.refresh", "may not be below 1s")?;
        let (refresh, max_age) = (self.secrets.refresh, self.secrets.max_age);
        refuse(max_age < refresh, "secrets.max_age", "is below secrets.refresh")
    }

    fn check_templates(&self) -> Result<(), AgentSettingsError> {
        let mut targets = std::collections::BTreeSet::new();
        for (template, i) in self.templates.iter().zip(0..) {
            let place = |field: &str| format!("templates[{i}].{field}");
            let named = template.document.as_ref();
            let is_kept = named.is_none_or(|named| self.documents.contains(named));
            refuse(!is_kept, &place("document"), "is not one of `documents`")?;
            let both = !template.reload.is_empty() && template.reload_shell.is_some();
            refuse(both, &place("reload_shell"), "`reload` is given, too")?;
            let many = template.reload.len() > ARGUMENTS_MAX;
            refuse(many, &place("reload"), "has more than 256 arguments")?;
            let empty = template.reload.first().is_some_and(String::is_empty);
            refuse(empty, &place("reload"), "names no program")?;
            let long = template.reload_timeout > Duration::from_secs(3600);
            refuse(
                long || template.reload_timeout.is_zero(),
                &place("reload_timeout"),
                "has to be above 0 and at most 1h",
            )?;
            let has_name = template.target.file_name().is_some();
            refuse(!has_name, &place("target"), "names no file")?;
            let again = !targets.insert(&template.target);
            refuse(again, &place("target"), "another template has the same target")?;
            let itself = template.target == template.source;
            refuse(itself, &place("target"), "is the template itself")?;
        }
        Ok(())
    }
}

fn refuse(wrong: bool, field: &str, reason: &str) -> Result<(), AgentSettingsError> {
    if !wrong {
        return Ok(());
    }
    Err(AgentSettingsError::Value { field: field.to_owned(), reason: reason.to_owned() })
}

fn private() -> u32 {
    0o600
}

fn reload_timeout() -> Duration {
    Duration::from_secs(30)
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
}

fn optional<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    duration(d).map(Some)
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
mod tests {
    use super::*;

    const LEAST: &str = "data_dir = \"/d\"\ndocuments = [\"web/prod\"]\n";

    fn error(more: &str) -> String {
        AgentSettings::from_toml(&format!("{LEAST}{more}")).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_private() {
        let text = format!("{LEAST}[[templates]]\nsource = \"a\"\ntarget = \"b\"\n");
        let settings = AgentSettings::from_toml(&text).unwrap();
        assert_eq!((settings.listen.socket_mode, settings.templates[0].mode), (0o600, 0o600));
        assert_eq!(settings.secrets.serve, SecretsFor::Socket);
        let document = settings.document_of(&settings.templates[0]).unwrap();
        assert_eq!(document.to_string(), "web/prod");
    }

    #[test]
    fn what_is_unknown_or_of_another_kind_is_refused_with_its_line() {
        for (more, part) in [
            ("[listen]\nport = 1\n", "port"),
            ("[times]\ndebounce = 3\n", "line 4"),
            ("[times]\ndebounce = \"3\"\n", "such as 250ms"),
            ("[listen]\nsocket_mode = \"999\"\n", "line 4"),
            ("[listen]\nsocket_mode = \"7777\"\n", "no mode"),
            ("[secrets]\nnames = [\"a/b\"]\n", "line 4"),
        ] {
            assert!(error(more).contains(part), "{more}: {}", error(more));
        }
        let error = AgentSettings::from_toml("data_dir = \"/d\"\ndocuments = [\"web\"]\n");
        assert!(error.unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused_by_their_field() {
        let template = "[[templates]]\nsource = \"a\"\ntarget = \"b\"\n";
        for (more, field) in [
            ("[listen]\naddress = \"0.0.0.0:80\"\n".to_owned(), "listen.address"),
            ("[times]\ndebounce = \"5s\"\n".to_owned(), "times.debounce"),
            ("[secrets]\nrefresh = \"10ms\"\n".to_owned(), "secrets.refresh"),
            ("[secrets]\nrefresh = \"2m\"\nmax_age = \"1m\"\n".to_owned(), "secrets.max_age"),
            ("[limits]\noutput_bytes_max = 0\n".to_owned(), "limits.output_bytes_max"),
            (format!("{template}{template}"), "templates[1].target"),
            (format!("{template}document = \"web/dev\"\n"), "templates[0].document"),
            (format!("{template}reload_timeout = \"2h\"\n"), "templates[0].reload_timeout"),
            (
                format!("{template}reload = [\"x\"]\nreload_shell = \"y\"\n"),
                "templates[0].reload_shell",
            ),
        ] {
            assert!(error(&more).starts_with(field), "{more}: {}", error(&more));
        }
        let nothing = AgentSettings::from_toml("data_dir = \"/d\"\n").unwrap_err();
        assert!(nothing.to_string().starts_with("documents: "), "{nothing}");
    }
}
