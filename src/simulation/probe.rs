//! How a running node stands, as a record of the history. It looks and changes nothing.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::history::Probe;
use crate::config::Snapshot;
use crate::server::Server;

/// What a node says of itself. What it has sent is whoever carries it to say.
pub(crate) fn probe(server: &Server) -> Probe {
    let node = server.node();
    let status = node.cluster();
    let queue_bytes: usize =
        status.regions.iter().flat_map(|it| &it.nodes).map(|member| member.queue_bytes).sum();
    Probe {
        node: status.node.to_string(),
        up: true,
        ready: status.ready,
        vector: status.vector,
        origin: status.origin.to_string(),
        view_hash: view_hash(&node.snapshot()),
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
    }
}

/// A hash of all rows: their siblings in order, with values, versions and stamps.
fn view_hash(snapshot: &Snapshot) -> String {
    let mut hash = Sha256::new();
    for (document, view) in &snapshot.documents {
        hash.update(document.to_string());
        for (key, row) in &view.rows {
            hash.update(key.as_str());
            for entry in row.siblings() {
                hash.update(entry.dot.origin.0);
                hash.update(entry.dot.n.to_be_bytes());
                hash.update(entry.version.to_be_bytes());
                hash.update(entry.stamp.0.to_be_bytes());
                hash.update(entry.value.as_ref().map_or("-", |value| value.as_str()));
            }
        }
    }
    hex(&hash.finalize())
}

/// The first half of a hash, in hexadecimal.
pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
