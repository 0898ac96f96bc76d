//! How often one client may ask. A client is an account, an external token's subject, or, with no
//! good token, the address that it comes from.

use serde::Deserialize;

use super::SettingsError;

/// How often one client may ask of one node; past it, it is answered 429. A rate of 0 is no limit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateSettings {
    /// Requests that change nothing, a second and client. Default: 10,000.
    pub reads_per_second: u32,
    /// Most of them at once, after a rest. Default: 20,000.
    pub reads_burst: u32,
    /// Requests that change something, a second and client. Default: 2,000.
    pub writes_per_second: u32,
    /// Most of them at once, after a rest. Default: 4,000.
    pub writes_burst: u32,
    /// Requests without a good token, those for tokens among them, a second and address (of IPv6:
    /// a second and network of 64 bits). Default: 200.
    pub strangers_per_second: u32,
    /// Most of them at once, after a rest. Default: 2,000.
    pub strangers_burst: u32,
    /// Most clients that are remembered, and as many addresses; further ones share one rate until
    /// a remembered one rests. Default: 10,000.
    pub clients_max: usize,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self {
            reads_per_second: 10_000,
            reads_burst: 20_000,
            writes_per_second: 2_000,
            writes_burst: 4_000,
            strangers_per_second: 200,
            strangers_burst: 2_000,
            clients_max: 10_000,
        }
    }
}

impl RateSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let reason = "0 would refuse everything";
        for (field, per_second, burst) in [
            ("rates.reads_burst", self.reads_per_second, self.reads_burst),
            ("rates.writes_burst", self.writes_per_second, self.writes_burst),
            ("rates.strangers_burst", self.strangers_per_second, self.strangers_burst),
        ] {
            super::refuse(per_second > 0 && burst == 0, field, reason)?;
        }
        super::refuse(self.clients_max == 0, "rates.clients_max", "has to be 1 at least")
    }
}
