//! Where else a client can go when this node can't serve it any longer: the nodes that are ready, the
//! nearest first. It says no address that the cluster doesn't know.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use schemars::JsonSchema;
use serde::Serialize;

use super::Node;
use crate::gossip::{Gossip, PeerStatus};
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

/// Most nodes that one client is told.
const TOLD_MAX: usize = 8;

/// A node that is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Elsewhere {
    /// Where it stands.
    pub region: RegionName,
    /// Its name.
    pub name: NodeName,
    /// Where it answers HTTP: the address that the topology has, or that it joined with. Absent
    /// where nobody else reaches that, or where it is not known whether it speaks HTTPS there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The nodes as they were when this one began to go: many clients are told at once.
#[derive(Default)]
pub(super) struct Departure {
    nodes: ArcSwapOption<Vec<Elsewhere>>,
    /// How many were told, so that they don't all go to the same one.
    told: AtomicUsize,
}

impl Node {
    /// The node is going to stop: peers send nobody here from now on, and clients are sent to who is
    /// ready now.
    pub fn drain(&self) {
        if let Some(gossip) = self.0.gossip.get() {
            gossip.drain();
        }
        self.0.departure.nodes.store(Some(Arc::new(self.ready_elsewhere())));
    }

    /// The nodes that are ready, for a client that has to go: those of the own region first, then
    /// others by distance, and within a region each client gets another one first.
    pub fn elsewhere(&self) -> Vec<Elsewhere> {
        let departure = &self.0.departure;
        let nodes = departure.nodes.load_full();
        let nodes = nodes.unwrap_or_else(|| {
            let nodes = Arc::new(self.ready_elsewhere());
            if self.has_failed() {
                departure.nodes.store(Some(nodes.clone()));
            }
            nodes
        });
        turned(&nodes, departure.told.fetch_add(1, Ordering::Relaxed))
    }

    fn ready_elsewhere(&self) -> Vec<Elsewhere> {
        let peers = self.0.gossip.get().map(Gossip::peers).unwrap_or_default();
        by_distance(&self.0.members.topology(), &self.0.region, &peers)
    }
}

fn by_distance(topology: &Topology, own: &RegionName, peers: &[PeerStatus]) -> Vec<Elsewhere> {
    let mut ready: Vec<&PeerStatus> = peers.iter().filter(|peer| peer.is_ready).collect();
    ready.sort_by_key(|peer| {
        (peer.region != *own, topology.rtt(own, &peer.region), &peer.region, &peer.node)
    });
    let elsewhere = ready.into_iter().map(|peer| Elsewhere {
        region: peer.region.clone(),
        name: peer.node.clone(),
        url: url(topology, peer),
    });
    elsewhere.collect()
}

fn url(topology: &Topology, peer: &PeerStatus) -> Option<String> {
    let http = &topology.node(&peer.node)?.http;
    let scheme = if peer.https? { "https" } else { "http" };
    http.is_reachable().then(|| format!("{scheme}://{http}"))
}

/// The first few, with the nodes of each region turned `by` places.
fn turned(nodes: &[Elsewhere], by: usize) -> Vec<Elsewhere> {
    let regions = nodes.chunk_by(|a, b| a.region == b.region);
    let turned = regions.flat_map(|region| {
        let (last, first) = region.split_at(by % region.len());
        first.iter().chain(last)
    });
    turned.take(TOLD_MAX).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::model::Features;

    fn topology() -> Topology {
        let text = r#"
            cluster = "test"
            rtt_ms_default = 200
            [[regions]]
            name = "far"
            nodes = [{ name = "far-1", peer = "10.0.0.1:1", http = "far.example.com:80" }]
            [[regions]]
            name = "near"
            nodes = [{ name = "near-1", peer = "10.0.0.2:1", http = "0.0.0.0:80" }]
            [[regions]]
            name = "own"
            nodes = [
                { name = "own-1", peer = "10.0.0.3:1", http = "10.0.0.3:80" },
                { name = "own-2", peer = "10.0.0.4:1", http = "10.0.0.4:80" },
                { name = "own-3", peer = "10.0.0.5:1", http = "10.0.0.5:80" },
            ]
            [[links]]
            between = ["near", "own"]
            rtt_ms = 20
        "#;
        Topology::parse("test", text).unwrap()
    }

    fn peer(topology: &Topology, node: &str, is_ready: bool, https: Option<bool>) -> PeerStatus {
        let node = NodeName::new(node).unwrap();
        PeerStatus {
            region: topology.region_of(&node).unwrap().clone(),
            node,
            connected_out: true,
            connected_in: 1,
            heard_ago: None,
            rtt: Duration::ZERO,
            rtt_measured: false,
            origin: None,
            vector: Arc::default(),
            hears: BTreeSet::new(),
            features: Features::none(),
            is_ready,
            https,
            lag_changes: 0,
            lag: Duration::ZERO,
            queue_bytes: 0,
            clock_offset: None,
        }
    }

    #[test]
    fn the_own_region_comes_first_then_the_nearest_and_nobody_who_is_not_ready() {
        let topology = topology();
        let peers = [
            peer(&topology, "far-1", true, Some(true)),
            peer(&topology, "near-1", true, Some(false)),
            peer(&topology, "own-2", true, Some(false)),
            peer(&topology, "own-3", false, Some(false)),
        ];
        let own = RegionName::new("own").unwrap();
        let nodes = by_distance(&topology, &own, &peers);
        let told: Vec<(&str, Option<&str>)> =
            nodes.iter().map(|node| (node.name.as_str(), node.url.as_deref())).collect();
        assert_eq!(
            told,
            [
                ("own-2", Some("http://10.0.0.4:80")),
                // Nobody can be told to go to all interfaces of a machine.
                ("near-1", None),
                ("far-1", Some("https://far.example.com:80")),
            ]
        );
        let silent = peer(&topology, "own-2", true, None);
        assert_eq!(by_distance(&topology, &own, &[silent])[0].url, None, "HTTPS or not?");
    }

    #[test]
    fn clients_that_go_together_spread_over_the_nodes_of_a_region() {
        let topology = topology();
        let names = ["far-1", "own-1", "own-2", "own-3"];
        let peers = names.map(|name| peer(&topology, name, true, Some(false)));
        let own = RegionName::new("own").unwrap();
        let nodes = by_distance(&topology, &own, &peers);
        let firsts: BTreeSet<String> =
            (0..3).map(|by| turned(&nodes, by)[0].name.to_string()).collect();
        assert_eq!(firsts.len(), 3);
        assert!((0..9).all(|by| turned(&nodes, by)[3].name.as_str() == "far-1"));
        assert_eq!(turned(&[], 5), []);
    }
}
