//! The quorum path's settings.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{SettingsError, duration, refuse};

/// The quorum path. Times that are left out follow from the topology's round trips.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuorumSettings {
    /// Time between two heartbeats of the leader; an answer has to be back within it. Default: two
    /// and a half round trips between the voters that are farthest apart, 150ms at least.
    #[serde(deserialize_with = "optional")]
    pub heartbeat: Option<Duration>,
    /// Shortest time without a leader before a voter wants to be the next one. Default: three
    /// heartbeats, 500ms at least.
    #[serde(deserialize_with = "optional")]
    pub election_timeout: Option<Duration>,
    /// Decisions between two snapshots, after which the log is cut. Default: 5,000.
    pub snapshot_every: u64,
    /// Decisions that stay in the log though a snapshot has them, for members that lag a little.
    /// Default: 1,000.
    pub log_keep: u64,
}

impl Default for QuorumSettings {
    fn default() -> Self {
        Self { heartbeat: None, election_timeout: None, snapshot_every: 5_000, log_keep: 1_000 }
    }
}

impl QuorumSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let short = |time: Option<Duration>, ms| {
            time.is_some_and(|time| time < Duration::from_millis(ms) || time.as_secs() > 600)
        };
        refuse(short(self.heartbeat, 10), "quorum.heartbeat", "is not from 10ms to 10m")?;
        refuse(
            short(self.election_timeout, 20),
            "quorum.election_timeout",
            "is not from 20ms to 10m",
        )?;
        refuse(self.snapshot_every == 0, "quorum.snapshot_every", "may not be 0")
    }
}

fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}
