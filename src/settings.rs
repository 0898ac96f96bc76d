//! How one node process is set up: limits, times, keys that are trusted, where its data lies. Read
//! once, before anything starts. What the cluster looks like is the topology's, not a setting; and
//! nothing here reads a file or a variable: whoever starts a node hands in the text.

mod access;
mod audit;
pub(crate) mod duration;
mod epochs;
mod quorum;
mod rates;
mod secrets;
mod storage;
mod tls;
mod traces;

pub(crate) use duration::parse as parse_duration;

pub(crate) use access::KEYS_MAX;
pub use access::{AccessSettings, Algorithm, KeySettings, Scopes};
pub use audit::AuditSettings;
pub use epochs::EpochSettings;
pub use quorum::QuorumSettings;
pub use rates::RateSettings;
pub use secrets::{KeyText, MasterKeySettings, SecretSettings};
pub use storage::StorageSettings;
pub use tls::{ClientCertificates, MinVersion, TlsSettings};
pub use traces::TraceSettings;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Everything that can be set for one node. Each field has a default; an unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the stores lie. Default: none, and whoever starts the node has to name a place.
    pub data_dir: Option<PathBuf>,
    /// Whether the node is ready without having caught up with a peer. Default: false.
    pub alone: bool,
    /// How much of everything is taken.
    pub limits: Limits,
    /// How often one client may ask.
    pub rates: RateSettings,
    /// The HTTP side's times and habits.
    pub http: HttpSettings,
    /// TLS on the HTTP address, and how certificate files are looked after.
    pub tls: TlsSettings,
    /// Between the regions.
    pub gossip: GossipSettings,
    /// The quorum path.
    pub quorum: QuorumSettings,
    /// When documents go on in a next epoch.
    pub epochs: EpochSettings,
    /// Who may do what.
    pub access: AccessSettings,
    /// What secrets are sealed with.
    pub secrets: SecretSettings,
    /// What the audit log records beside what it always does.
    pub audit: AuditSettings,
    /// How database files are looked after.
    pub storage: StorageSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where spans of requests are sent.
    pub traces: TraceSettings,
}

/// How much of everything is taken. What is past a limit is refused with an answer that names it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest value of one key, in bytes of minified JSON. Default: 262,144 (256 KiB).
    pub value_bytes_max: usize,
    /// Largest body of one request, in bytes. Default: 4,194,304 (4 MiB).
    pub body_bytes_max: usize,
    /// Most keys in one POST. Default: 1,000.
    pub entries_per_write_max: usize,
    /// Longest message of a write, in bytes. Default: 1,024.
    pub message_bytes_max: usize,
    /// Items in a page where the request does not say. Default: 100.
    pub page_size_default: usize,
    /// Most items a request may ask for in a page. Default: 1,000.
    pub page_size_max: usize,
    /// Most bytes of items in a page: a page ends early where it would be more, but never before
    /// its first item. Default: 8,388,608 (8 MiB).
    pub page_bytes_max: usize,
    /// Most connections at once; further ones are closed at once. Default: 10,000.
    pub connections_max: usize,
    /// Most watches at once; further ones are answered 503. Default: 10,000.
    pub watchers_max: usize,
    /// Most bytes of a request's line and headers. Default: 65,536 (64 KiB).
    pub header_bytes_max: usize,
    /// Most requests under way at once; further ones are answered 503, those that change something
    /// from half of it on. Those about health and the cluster always are answered. Default: 8,192.
    pub requests_max: usize,
    /// Most requests that change something under way at once; further ones are answered 503, as
    /// they are while the store's queue is more than half full. Default: 2,048.
    pub writes_max: usize,
    /// Most bytes of bodies that are held for requests under way; a request whose body finds no
    /// room is answered 503. Default: 268,435,456 (256 MiB).
    pub bodies_bytes_max: usize,
    /// Most bytes of answers that wait to be sent, over HTTP/1.1 apart from those of up to 64 KiB; a
    /// read whose answer finds no room is answered 503. Default: 268,435,456 (256 MiB).
    pub answers_bytes_max: usize,
    /// Most connections at once of one address (of IPv6: of one network of 64 bits); further ones
    /// are closed at once. Behind a proxy all come from its address. Default: 5,000.
    pub connections_per_address_max: usize,
    /// Most watches at once of one client; further ones are answered 429. Default: 5,000.
    pub watchers_per_client_max: usize,
    /// About how many bytes of documents are kept in memory for writes and merges, beside the view
    /// that reads are answered from; others are loaded when they are needed. The one used last
    /// stays however large it is, and so does what one group of writes needs until its end.
    /// Default: 268,435,456 (256 MiB).
    pub documents_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes_max: 256 * 1024,
            body_bytes_max: 4 * 1024 * 1024,
            entries_per_write_max: 1_000,
            message_bytes_max: 1_024,
            page_size_default: 100,
            page_size_max: 1_000,
            page_bytes_max: 8 * 1024 * 1024,
            connections_max: 10_000,
            watchers_max: 10_000,
            header_bytes_max: 64 * 1024,
            requests_max: 8_192,
            writes_max: 2_048,
            bodies_bytes_max: 256 * 1024 * 1024,
            answers_bytes_max: 256 * 1024 * 1024,
            connections_per_address_max: 5_000,
            watchers_per_client_max: 5_000,
            documents_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// The HTTP side's times and habits. Times are written like `250ms`, `30s` or `1m 30s`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// How long a client may take to send a request's headers; an idle connection is closed after
    /// it, too. Default: 10s.
    #[serde(with = "duration")]
    pub header_read_timeout: Duration,
    /// Slowest rate at which a body may come in, in bytes a second, after 5 seconds, and without a
    /// pause longer than that; 0 asks for neither. Default: 1,024.
    pub body_bytes_per_second_min: usize,
    /// Longest that a watch's client may take to read one state before its watch is ended: until
    /// then the state is kept for it. Default: 5m.
    #[serde(with = "duration")]
    pub watch_lag_max: Duration,
    /// How long a request may take, apart from watches. Default: 30s.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// How long a request waits for its session where it does not say (`Holm-Wait`). Default: 1s.
    #[serde(with = "duration")]
    pub session_wait_default: Duration,
    /// Longest a request may ask to wait for its session. Default: 30s.
    #[serde(with = "duration")]
    pub session_wait_max: Duration,
    /// How long a write waits for other regions where it does not say (`Holm-Ack`). Default: 2s.
    #[serde(with = "duration")]
    pub ack_timeout_default: Duration,
    /// Longest a write may ask to wait for other regions. Default: 30s.
    #[serde(with = "duration")]
    pub ack_timeout_max: Duration,
    /// How long a request waits for a quorum before it is answered 503. Default: 5s.
    #[serde(with = "duration")]
    pub quorum_timeout: Duration,
    /// How long a client may take nothing of what is sent to it before its connection is closed,
    /// a watch's too. Default: 60s.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Time between heartbeats on a watch that has nothing to say. Default: 15s.
    #[serde(with = "duration")]
    pub heartbeat_every: Duration,
    /// How long requests under way may take once the node is asked to stop. Default: 10s.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Whether `/metrics` is answered without a token. Default: true.
    pub metrics_public: bool,
    /// Whether successful reads are logged at `info` like all else, rather than at `debug`.
    /// Default: false.
    pub log_reads: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(10),
            body_bytes_per_second_min: 1_024,
            watch_lag_max: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            session_wait_default: Duration::from_secs(1),
            session_wait_max: Duration::from_secs(30),
            ack_timeout_default: Duration::from_secs(2),
            ack_timeout_max: Duration::from_secs(30),
            quorum_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(60),
            heartbeat_every: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(10),
            metrics_public: true,
            log_reads: false,
        }
    }
}

/// Between the regions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipSettings {
    /// Most bytes that wait to be pushed to one peer; past it the queue is dropped and
    /// anti-entropy catches the peer up. Default: 8,388,608 (8 MiB).
    pub queue_bytes_max: usize,
    /// Most bytes of changes that wait for others they depend on; past it the peer is asked again,
    /// in order. Default: 16,777,216 (16 MiB).
    pub waiting_bytes_max: usize,
    /// Time between two comparisons of vectors with a peer. Default: 1s.
    #[serde(with = "duration")]
    pub anti_entropy_every: Duration,
    /// How far this node's clock may be off its peers' median before it stamps with their time and
    /// says so. Default: 500ms.
    #[serde(with = "duration")]
    pub max_clock_skew: Duration,
    /// How long nobody may have heard a node that joined before it is forgotten. Default: 10m.
    #[serde(with = "duration")]
    pub evict_after: Duration,
    /// The same of a node that the topology file names. It counts as no member any more until it is
    /// back: no epoch, no log and no `Holm-Ack` waits for it, and what it wrote meanwhile is taken all
    /// the same. If it votes in the quorum, it goes on to count there. Default: 7d.
    #[serde(with = "duration")]
    pub evict_named_after: Duration,
}

impl Default for GossipSettings {
    fn default() -> Self {
        Self {
            queue_bytes_max: 8 * 1024 * 1024,
            waiting_bytes_max: 16 * 1024 * 1024,
            anti_entropy_every: Duration::from_secs(1),
            max_clock_skew: Duration::from_millis(500),
            evict_after: Duration::from_secs(600),
            evict_named_after: Duration::from_secs(7 * 24 * 3_600),
        }
    }
}

/// What is logged, and how. Tokens and values never are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How lines look. Default: `json`.
    pub format: LogFormat,
    /// What is logged, as `tracing`'s filter text: `info`, `debug`, `warn,holm::http=debug`.
    /// Default: `info`.
    pub level: String,
    /// Which share of the traces has its successful reads logged at `info` too, from 0 to 1. Errors
    /// and writes always are. Default: 0.
    pub read_sample: f64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info".to_owned(), read_sample: 0.0 }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, with the names of the Elastic Common Schema.
    Json,
    /// Text, for people at a terminal.
    Text,
}

/// Why a text is no settings, of a node or of an agent. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not TOML, an unknown field, or a value of another type; with the line.
    #[error("{0}")]
    Toml(String),
    /// A value that cannot be meant.
    #[error("{field}: {reason}")]
    Value {
        /// The field, as it is written: `limits.page_size_max`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Settings {
    /// Reads settings from TOML. Unknown fields, and values that cannot be meant, are errors.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let settings: Self =
            toml::from_str(text).map_err(|e| SettingsError::Toml(e.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether the values make sense together. For settings that were put together in code;
    /// [`Settings::from_toml`] has done it.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.limits.check()?;
        for (field, value) in [
            ("gossip.queue_bytes_max", self.gossip.queue_bytes_max),
            ("gossip.waiting_bytes_max", self.gossip.waiting_bytes_max),
        ] {
            refuse(value == 0, field, "0 would refuse everything")?;
        }
        self.check_eviction()?;
        let http = &self.http;
        for (field, value) in [
            ("http.header_read_timeout", http.header_read_timeout),
            ("http.request_timeout", http.request_timeout),
            ("http.watch_lag_max", http.watch_lag_max),
            ("http.quorum_timeout", http.quorum_timeout),
            ("http.write_timeout", http.write_timeout),
            ("http.heartbeat_every", http.heartbeat_every),
            ("gossip.anti_entropy_every", self.gossip.anti_entropy_every),
        ] {
            refuse(value.is_zero(), field, "may not be 0")?;
        }
        refuse(
            http.quorum_timeout > http.request_timeout,
            "http.quorum_timeout",
            "is above http.request_timeout, so that nobody would learn of it",
        )?;
        refuse(
            !(0.0..=1.0).contains(&self.log.read_sample),
            "log.read_sample",
            "is not from 0 to 1",
        )?;
        self.traces.check()?;
        self.tls.check()?;
        self.storage.check()?;
        self.rates.check()?;
        self.quorum.check()?;
        self.audit.check()?;
        self.epochs.check()?;
        self.access.check()?;
        self.secrets.check()
    }
}

impl Settings {
    /// How long nobody may have heard a node that the topology file names before nothing waits for it
    /// any more; under whichever of its two names it was set.
    pub fn evict_named_after(&self) -> Duration {
        self.epochs.evict_after.unwrap_or(self.gossip.evict_named_after)
    }

    /// What was set under a name that will not be read for ever, each as a sentence with the new one.
    pub fn outdated(&self) -> impl Iterator<Item = &'static str> {
        let evict_after = self.epochs.evict_after.is_some();
        evict_after.then_some("epochs.evict_after is now gossip.evict_named_after").into_iter()
    }

    fn check_eviction(&self) -> Result<(), SettingsError> {
        refuse(
            self.gossip.evict_after < Duration::from_secs(1),
            "gossip.evict_after",
            "may not be below 1s: a node is silent for longer than that when it is only busy",
        )?;
        let is_set = self.gossip.evict_named_after != GossipSettings::default().evict_named_after;
        refuse(
            is_set && self.epochs.evict_after.is_some(),
            "epochs.evict_after",
            "is now gossip.evict_named_after, which is set, too: leave this one out",
        )?;
        let field = match self.epochs.evict_after {
            Some(_) => "epochs.evict_after (now gossip.evict_named_after)",
            None => "gossip.evict_named_after",
        };
        let named = self.evict_named_after();
        refuse(
            named < self.gossip.evict_after,
            field,
            "may not be below gossip.evict_after: who the file names is expected to come back",
        )?;
        refuse(
            named < EVICT_NAMED_AFTER_MIN,
            field,
            "may not be below 10s: a node that only starts again is silent for as long",
        )?;
        let what = "may not be above 8784h, a year: nobody who is gone for so long comes back";
        refuse(self.gossip.evict_after > EVICT_AFTER_MAX, "gossip.evict_after", what)?;
        refuse(named > EVICT_AFTER_MAX, field, what)
    }
}

/// Epochs that began without a node are dear for it, so that it is waited for a little at least.
const EVICT_NAMED_AFTER_MIN: Duration = Duration::from_secs(10);
/// Twice of it is added to times, and compared.
const EVICT_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

impl Limits {
    fn check(&self) -> Result<(), SettingsError> {
        let limits = self;
        for (field, value) in [
            ("limits.value_bytes_max", limits.value_bytes_max),
            ("limits.body_bytes_max", limits.body_bytes_max),
            ("limits.entries_per_write_max", limits.entries_per_write_max),
            ("limits.page_size_default", limits.page_size_default),
            ("limits.page_size_max", limits.page_size_max),
            ("limits.page_bytes_max", limits.page_bytes_max),
            ("limits.connections_max", limits.connections_max),
            ("limits.requests_max", limits.requests_max),
            ("limits.writes_max", limits.writes_max),
            ("limits.connections_per_address_max", limits.connections_per_address_max),
            ("limits.documents_bytes_max", limits.documents_bytes_max),
        ] {
            refuse(value == 0, field, "0 would refuse everything")?;
        }
        refuse(
            limits.page_size_default > limits.page_size_max,
            "limits.page_size_default",
            "is above limits.page_size_max",
        )?;
        refuse(
            limits.value_bytes_max > limits.body_bytes_max,
            "limits.value_bytes_max",
            "is above limits.body_bytes_max, so that such a value could not be sent",
        )?;
        refuse(
            limits.body_bytes_max > 4 * 1024 * 1024,
            "limits.body_bytes_max",
            "is above 4194304: what it comes to has to fit into one change",
        )?;
        refuse(
            limits.bodies_bytes_max < limits.body_bytes_max.saturating_mul(2),
            "limits.bodies_bytes_max",
            "is below twice limits.body_bytes_max, so that requests would hold each other up",
        )?;
        refuse(
            limits.answers_bytes_max < limits.page_bytes_max.saturating_mul(2),
            "limits.answers_bytes_max",
            "is below twice limits.page_bytes_max, so that answers would hold each other up",
        )?;
        refuse(
            limits.bodies_bytes_max.max(limits.answers_bytes_max) > 1 << 40,
            "limits.bodies_bytes_max, limits.answers_bytes_max",
            "more than 1 TiB is no limit",
        )?;
        refuse(
            limits.header_bytes_max < 8 * 1024,
            "limits.header_bytes_max",
            "is below 8192, which a token and a session can need",
        )
    }
}

/// Refuses the value of this field, for this reason, where it is wrong.
pub(crate) fn refuse(wrong: bool, field: &str, reason: &str) -> Result<(), SettingsError> {
    if !wrong {
        return Ok(());
    }
    Err(SettingsError::Value { field: field.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests;
