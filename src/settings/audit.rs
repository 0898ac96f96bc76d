//! What the audit log records beside changes, accesses to secrets and denied attempts, and what is
//! kept of peers' logs.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, duration, refuse};

/// The least that copies of peers' chains may take: a few of the messages in which they come.
const COPIES_BYTES_MIN: u64 = 4 << 20;

/// Shortest time between two segments.
const ARCHIVE_EVERY_MIN: Duration = Duration::from_secs(10);
/// Largest segment: as a file, whatever is in it, it has to be below what a disk takes as one.
const ARCHIVE_BYTES_MAX: u64 = 8 << 20;

/// What the audit log records beside what it always does, and what is kept of peers' logs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Whether each read of a configuration is recorded, one by one. Otherwise they are counted in
    /// the metrics alone. Default: false.
    pub config_reads: bool,
    /// Most bytes of records that are kept as copies of peers' chains. Past that the largest copy
    /// lets go of its oldest records. Default: 1 GiB.
    pub copies_bytes_max: u64,
    /// How often new records are shipped to a peer, which keeps them in case this node's disk is
    /// lost: that takes about as much of the log with it. 0s ships none. Default: 2s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ship_every: Duration,
    /// Most bytes of records that are shipped, a second. Default: 1 MiB.
    pub ship_bytes_per_second: u64,
    /// Where closed segments of this node's chains are put, as files; a relative path is one in the
    /// data directory. Without one nothing is archived, and nothing goes from the store. Default: none.
    pub archive_dir: Option<PathBuf>,
    /// How old the oldest record that is in no segment gets before one is closed, however little is
    /// in it. Default: 24h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub archive_every: Duration,
    /// From how many bytes of records on a segment is closed before that. Default: 4 MiB.
    pub archive_bytes: u64,
    /// How long records stay in the store, for `GET /audit`, though they are archived.
    /// Default: 2160h, 90 days.
    #[serde(deserialize_with = "duration::deserialize")]
    pub keep: Duration,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            config_reads: false,
            copies_bytes_max: 1 << 30,
            ship_every: Duration::from_secs(2),
            ship_bytes_per_second: 1 << 20,
            archive_dir: None,
            archive_every: Duration::from_secs(24 * 3_600),
            archive_bytes: 4 << 20,
            keep: Duration::from_secs(90 * 24 * 3_600),
        }
    }
}

impl AuditSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        refuse(
            self.copies_bytes_max < COPIES_BYTES_MIN,
            "audit.copies_bytes_max",
            "is below 4 MiB, a few of the messages in which copies come",
        )?;
        refuse(self.ship_bytes_per_second == 0, "audit.ship_bytes_per_second", "may not be 0")?;
        refuse(
            self.archive_every < ARCHIVE_EVERY_MIN,
            "audit.archive_every",
            "is below 10s, so that there would be very many files",
        )?;
        refuse(
            !(64 << 10..=ARCHIVE_BYTES_MAX).contains(&self.archive_bytes),
            "audit.archive_bytes",
            "is not from 64 KiB to 8 MiB",
        )?;
        refuse(
            self.keep < self.archive_every,
            "audit.keep",
            "is below audit.archive_every: only what is archived goes",
        )?;
        refuse(
            self.ship_every > Duration::from_secs(600),
            "audit.ship_every",
            "is above 10m, so that a lost disk would take much with it; 0s ships nothing",
        )
    }
}
