//! How a node looks after its files.

use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, duration, refuse};

/// How a node looks after its database files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// Whether a database file that holds more than twice its live data is rebuilt while it is in use.
    /// That takes room for the new one beside it. Default: true.
    pub compact: bool,
    /// From which size of a file on, in bytes. Default: 67,108,864 (64 MiB).
    pub compact_bytes_min: u64,
    /// How often files are looked at; after a rebuild a file rests for six times as long. Default: 10m.
    #[serde(deserialize_with = "duration::deserialize")]
    pub compact_check_every: Duration,
    /// Most bytes of whole documents that are put aside until all of a peer's are there; a transfer that
    /// is larger, or for which the disk has not the room twice, is given up. Default: 1,099,511,627,776
    /// (1 TiB).
    pub staged_bytes_max: u64,
    /// How long histories rest between two passes in which versions go that the policy does not keep.
    /// Default: 60s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub prune_every: Duration,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            compact: true,
            compact_bytes_min: 64 * 1024 * 1024,
            compact_check_every: Duration::from_secs(600),
            staged_bytes_max: 1 << 40,
            prune_every: Duration::from_secs(60),
        }
    }
}

impl StorageSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        refuse(
            self.prune_every < Duration::from_secs(1),
            "storage.prune_every",
            "is below 1s, so that nothing else would be done",
        )?;
        refuse(
            self.compact_check_every.is_zero(),
            "storage.compact_check_every",
            "is no time; storage.compact = false turns it off",
        )?;
        refuse(
            self.staged_bytes_max == 0,
            "storage.staged_bytes_max",
            "leaves no room for anything",
        )
    }
}
