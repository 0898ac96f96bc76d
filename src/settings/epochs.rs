//! When documents of configurations go on in a next epoch, which leaves behind what is replaced.

use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, duration, refuse};

/// When documents go on in a next epoch. The node that leads the quorum goes by its own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EpochSettings {
    /// Changes in a document's epoch past which the next one is agreed on; 0: never. Default: 2,000.
    pub soft_cap: u64,
    /// Changes in a document's epoch past which `holm_epoch_documents_over_hard_cap` says so, and
    /// `GET /cluster` who holds it up. Nothing is ever refused for it. Default: 100,000.
    pub hard_cap: u64,
    /// How often it is looked at. Default: 5s.
    #[serde(with = "duration")]
    pub check_every: Duration,
    /// How long removals are carried over into next epochs. Watches and sessions that are older
    /// than a removal that was not get the whole state; and what a node that was silent for longer
    /// wrote beside such a removal comes back as if nobody had removed the key. Default: 168h.
    #[serde(with = "duration")]
    pub removals_keep: Duration,
    /// The name that `gossip.evict_named_after` had for epochs alone. It is still read, in place of
    /// that one, and warned of at the start. Default: none.
    #[serde(deserialize_with = "duration::optional")]
    pub evict_after: Option<Duration>,
    /// How long records stay in the log though every member has them and their document's epoch
    /// began with them. Retries with an `Idempotency-Key` are recognised for a day: with less than
    /// that here, for less. Default: 24h.
    #[serde(with = "duration")]
    pub log_keep: Duration,
    /// Origins (stores that wrote changes) that a vector names past which those are folded that nobody
    /// writes as any more; 0: never. They go with a document's next epoch. Default: 256.
    pub origins_soft_cap: usize,
    /// How long an origin has not made a change before it is folded. Default: 1h.
    #[serde(with = "duration")]
    pub origins_idle: Duration,
}

impl Default for EpochSettings {
    fn default() -> Self {
        Self {
            soft_cap: 2_000,
            hard_cap: 100_000,
            check_every: Duration::from_secs(5),
            removals_keep: Duration::from_secs(7 * 24 * 3600),
            evict_after: None,
            log_keep: Duration::from_secs(24 * 3600),
            origins_soft_cap: 256,
            origins_idle: Duration::from_secs(3600),
        }
    }
}

/// A base costs as much as some changes: with a lower cap nothing else would be done.
const SOFT_CAP_MIN: u64 = 10;
/// Folding takes a while, and there is a limit.
const ORIGINS_SOFT_CAP_MAX: usize = 1_500;

impl EpochSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let is_low = self.soft_cap > 0 && self.soft_cap < SOFT_CAP_MIN;
        refuse(is_low, "epochs.soft_cap", "is neither 0 nor 10 at least")?;
        refuse(self.hard_cap <= self.soft_cap, "epochs.hard_cap", "is not above epochs.soft_cap")?;
        refuse(
            self.origins_soft_cap > ORIGINS_SOFT_CAP_MAX,
            "epochs.origins_soft_cap",
            "is above 1,500: past 1,984 nothing is taken of new origins",
        )?;
        refuse(self.check_every.is_zero(), "epochs.check_every", "may not be 0")?;
        refuse(
            self.log_keep < Duration::from_secs(1),
            "epochs.log_keep",
            "may not be below 1s: a retry would not be recognised",
        )
    }
}
