//! What a node holds on to, counted through: for whoever demands that it does not grow with time. It
//! reads whole files, so that it is nothing for a node that has work to do.

use std::collections::BTreeMap;

use super::Node;
use crate::model::Session;
use crate::storage::StoreError;
use crate::storage::tally::FileTally;

/// A database file: its own names, and what is counted of its tables.
struct Names {
    bytes: &'static str,
    percent: &'static str,
    tables: &'static [(&'static str, &'static str)],
}

const CONFIG: Names = Names {
    bytes: "config_file_bytes",
    percent: "config_file_percent",
    tables: &[
        ("log", "log_records"),
        ("history", "history_rows"),
        ("idempotency", "retries"),
        ("audit", "config_audit_rows"),
    ],
};

const QUORUM: Names = Names {
    bytes: "quorum_file_bytes",
    percent: "quorum_file_percent",
    tables: &[
        ("log", "quorum_log_rows"),
        ("state", "quorum_state_rows"),
        ("audit", "quorum_audit_rows"),
    ],
};

impl Node {
    /// How many records went from the log, and how many versions from histories, since the start.
    pub(crate) fn gone(&self) -> (u64, u64) {
        let counts = self.0.standing.counts();
        (counts.log_trimmed, counts.pruned.rows)
    }

    /// How much there is of what, by name.
    pub(crate) fn tally(&self) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        let (counts, snapshot) = (self.0.standing.counts(), self.snapshot());
        let status = self.cluster();
        let nodes = || status.regions.iter().flat_map(|it| &it.nodes);
        let session =
            Session { config: snapshot.vector.told(), quorum: Some(status.quorum.applied) };
        let mut tally = BTreeMap::from([
            ("document_changes", status.epochs.changes_max),
            ("documents_bytes", counts.documents_bytes as u64),
            ("keys", counts.rows as u64),
            ("waiting", counts.waiting as u64),
            ("queue_bytes", nodes().map(|it| it.queue_bytes as u64).sum()),
            ("origins", snapshot.vector.len() as u64),
            ("session_bytes", session.encode().len() as u64),
            ("members", nodes().count() as u64),
            ("copied_audit_bytes", self.0.desk.copied_bytes()?),
        ]);
        let disk = &*self.0.gauges.disk;
        add(&mut tally, &CONFIG, &self.0.desk.config().weigh(disk)?);
        if let Some(file) = self.0.quorum.weigh(disk)? {
            add(&mut tally, &QUORUM, &file);
        }
        Ok(tally)
    }
}

fn add(tally: &mut BTreeMap<&'static str, u64>, names: &Names, file: &FileTally) {
    tally.extend([(names.bytes, file.bytes), (names.percent, file.percent())]);
    for (table, name) in names.tables {
        tally.insert(name, file.rows.get(*table).copied().unwrap_or_default());
    }
}
