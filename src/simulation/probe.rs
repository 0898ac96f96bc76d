//! How a running node stands, as a record of the history. It looks and changes nothing.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::history::Probe;
use crate::config::{Entry, Snapshot};
use crate::model::{DocumentId, Key};
use crate::server::Server;

/// What a node says of itself. What it has sent is whoever carries it to say.
pub(crate) fn probe(server: &Server) -> Probe {
    let node = server.node();
    let (status, snapshot) = (node.cluster(), node.snapshot());
    let (log_trimmed, history_pruned) = node.gone();
    let queue_bytes: usize =
        status.regions.iter().flat_map(|it| &it.nodes).map(|member| member.queue_bytes).sum();
    Probe {
        node: status.node.to_string(),
        up: true,
        ready: status.ready,
        vector: snapshot.vector.all().map(|dot| (dot.origin.to_string(), dot.n)).collect(),
        origin: status.origin.to_string(),
        view_hash: view_hash(&snapshot),
        conflicts: status.store.conflicts as u64,
        role: status.quorum.role,
        term: status.quorum.term,
        leader: status.quorum.leader,
        applied: status.quorum.applied,
        contact_age_ms: status.quorum.contact_age_ms,
        queue_bytes: queue_bytes as u64,
        waiting: status.store.waiting as u64,
        quarantined: status.store.quarantined,
        forks: status.store.forks,
        clock_offset_us: status.clock_offset_us,
        sent_bytes: 0,
        sent_to: BTreeMap::new(),
        disk_bytes: status.store.database_bytes,
        members: status
            .regions
            .iter()
            .flat_map(|it| &it.nodes)
            .map(|it| it.node.to_string())
            .collect(),
        epochs: epochs(&snapshot),
        epoch_changes_max: status.epochs.changes_max,
        epoch_mismatches: status.epochs.mismatches,
        log_trimmed,
        history_pruned,
    }
}

/// Documents that are past their first epoch.
fn epochs(snapshot: &Snapshot) -> BTreeMap<String, u32> {
    let rolled = snapshot.documents.iter().filter(|(_, view)| view.epoch() > 0);
    rolled.map(|(document, view)| (document.to_string(), view.epoch())).collect()
}

fn view_hash(snapshot: &Snapshot) -> String {
    let mut hash = ViewHash::default();
    for (document, view) in &snapshot.documents {
        hash.document(document);
        for (key, row) in &view.rows {
            hash.row(key, row.siblings());
        }
    }
    hash.finish()
}

/// A hash of all rows, told in their order: their siblings in order, with values, versions and stamps.
#[derive(Default)]
pub(crate) struct ViewHash(Sha256);

impl ViewHash {
    /// A document; its rows follow.
    pub(crate) fn document(&mut self, document: &DocumentId) {
        self.0.update(document.to_string());
    }

    /// A key's row.
    pub(crate) fn row<'a>(&mut self, key: &Key, siblings: impl IntoIterator<Item = &'a Entry>) {
        let hash = &mut self.0;
        hash.update(key.as_str());
        for entry in siblings {
            hash.update(entry.dot.origin.0);
            hash.update(entry.dot.n.to_be_bytes());
            hash.update(entry.version.to_be_bytes());
            hash.update(entry.stamp.0.to_be_bytes());
            hash.update(entry.value.as_ref().map_or("-", |value| value.as_str()));
        }
    }

    /// The hash, in hexadecimal.
    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The first half of a hash, in hexadecimal.
pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
