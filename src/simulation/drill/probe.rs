//! What a real node says of itself, as a record of the run: `GET /cluster` read into a [`Probe`].
//! What a node does not say stays empty; nothing is made up.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::simulation::history::Probe;

/// The members of `GET /cluster` that a probe has. Others are passed over.
#[derive(Deserialize)]
struct Cluster {
    node: String,
    ready: bool,
    origin: String,
    vector: BTreeMap<String, u64>,
    store: Store,
    clock_offset_us: Option<i64>,
    regions: Vec<Region>,
    quorum: Quorum,
}

#[derive(Deserialize)]
struct Store {
    conflicts: u64,
    waiting: u64,
    quarantined: u64,
    forks: u64,
}

#[derive(Deserialize)]
struct Region {
    nodes: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    node: String,
    queue_bytes: u64,
}

#[derive(Deserialize)]
struct Quorum {
    leader: Option<String>,
    term: u64,
    role: String,
    applied: u64,
    contact_age_ms: u64,
}

/// Reads an answer. The hash of the view is not in it, nor what was sent and what lies on disk.
pub(crate) fn read(answer: serde_json::Value) -> Result<Probe, serde_json::Error> {
    let Cluster { node, ready, origin, vector, store, clock_offset_us, regions, quorum } =
        serde_json::from_value(answer)?;
    let members = || regions.iter().flat_map(|region| &region.nodes);
    Ok(Probe {
        node,
        up: true,
        ready,
        vector,
        origin,
        view_hash: String::new(),
        conflicts: store.conflicts,
        role: quorum.role,
        term: quorum.term,
        leader: quorum.leader,
        applied: quorum.applied,
        contact_age_ms: quorum.contact_age_ms,
        queue_bytes: members().map(|member| member.queue_bytes).sum(),
        waiting: store.waiting,
        quarantined: store.quarantined,
        forks: store.forks,
        clock_offset_us,
        members: members().map(|member| member.node.clone()).collect(),
        ..Probe::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_read_from_where_it_stands() {
        let answer = serde_json::json!({
            "cluster": "c", "node": "a-1", "region": "a", "origin": "0a", "ready": true,
            "vector": {"0a": 7},
            "store": {"documents": 1, "rows": 2, "conflicts": 3, "waiting": 4, "quarantined": 5,
                      "forks": 1, "database_bytes": 6},
            "clock_offset_us": -8,
            "regions": [
                {"region": "a", "place": "", "nodes": [{"node": "a-1", "queue_bytes": 0}]},
                {"region": "b", "place": "", "nodes": [{"node": "b-1", "queue_bytes": 10},
                                                       {"node": "b-2", "queue_bytes": 20}]},
            ],
            "quorum": {"leader": "b-1", "term": 9, "role": "follower", "applied": 11,
                       "last_log": 12, "contact_age_ms": 13, "members": []},
        });
        let wanted = Probe {
            node: "a-1".into(),
            up: true,
            ready: true,
            vector: [("0a".into(), 7)].into(),
            origin: "0a".into(),
            conflicts: 3,
            role: "follower".into(),
            term: 9,
            leader: Some("b-1".into()),
            applied: 11,
            contact_age_ms: 13,
            queue_bytes: 30,
            waiting: 4,
            quarantined: 5,
            forks: 1,
            clock_offset_us: Some(-8),
            members: ["a-1", "b-1", "b-2"].map(str::to_owned).into(),
            ..Probe::default()
        };
        assert_eq!(read(answer).unwrap(), wanted);
    }

    #[test]
    fn an_answer_of_another_form_is_an_error() {
        assert!(read(serde_json::json!({"error": "Denied"})).is_err());
    }
}
