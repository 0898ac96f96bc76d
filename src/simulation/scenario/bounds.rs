//! Reads `[expect.bounds]`: what a node may hold on to at most, however long it runs. Counts and bytes;
//! never seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reader::Value;
use super::{Bounds, DURATION_MAX};

/// What nodes count of themselves.
pub const COUNTED: [&str; 20] = [
    "document_changes",
    "documents_bytes",
    "keys",
    "log_records",
    "history_rows",
    "retries",
    "waiting",
    "queue_bytes",
    "origins",
    "session_bytes",
    "members",
    "config_audit_rows",
    "quorum_audit_rows",
    "copied_audit_bytes",
    "quorum_log_rows",
    "quorum_state_rows",
    "config_file_bytes",
    "quorum_file_bytes",
    "config_file_percent",
    "quorum_file_percent",
];

/// How often nodes are counted through, where a file does not say.
const EVERY: Duration = Duration::from_secs(30);

impl Default for Bounds {
    fn default() -> Self {
        Self { every: EVERY, from: Duration::ZERO, most: BTreeMap::new() }
    }
}

/// Reads the table.
pub(super) fn read(value: &Value<'_>) -> Bounds {
    let mut bounds = Bounds::default();
    let Some(mut fields) = value.table("[expect.bounds]") else { return bounds };
    bounds.every = fields.duration("every", EVERY, Duration::from_secs(1)..=DURATION_MAX);
    bounds.from = fields.duration("from", Duration::ZERO, Duration::ZERO..=DURATION_MAX);
    for name in COUNTED {
        let most = fields.get(name).and_then(|value| value.integer(1..=i64::MAX));
        bounds.most.extend(most.map(|most| (name.to_owned(), most.unsigned_abs())));
    }
    fields.finish("number that nodes are counted by");
    bounds
}
