//! What the audit log records beside changes, accesses to secrets and denied attempts.

use serde::Deserialize;

/// What the audit log records beside what it always does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Whether each read of a configuration is recorded, one by one. Otherwise they are counted in
    /// the metrics alone. Default: false.
    pub config_reads: bool,
}
