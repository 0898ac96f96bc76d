//! Regions of several nodes: a change crosses a link once, and what a relay or a collector takes with
//! it when it goes comes from somebody else.

use super::*;

const REGIONS: [[&str; 3]; 3] = [["a1", "a2", "a3"], ["b1", "b2", "b3"], ["c1", "c2", "c3"]];

fn cluster(settings: GossipSettings) -> Cluster {
    Cluster::of(settings, &REGIONS)
}

/// Nothing is pulled within the time of a test.
fn patient() -> GossipSettings {
    GossipSettings { grace: Duration::from_secs(60), ..GossipSettings::default() }
}

async fn all_have_all(cluster: &Cluster) {
    until("all have the same", async || {
        let mut all = Vector::new();
        cluster.nodes.values().for_each(|node| all.merge(&node.memory.vector()));
        cluster.nodes.values().all(|node| *node.memory.vector() == all).then_some(())
    })
    .await;
    cluster.same_logs();
}

/// The node of the region of `b1` that `a1` pushes to.
fn relay(cluster: &Cluster) -> &'static str {
    let mesh = cluster.node("a1").gossip.0.mesh();
    let relay = mesh.tiers.told().find(|peer| peer.region.as_str() == "rb1").unwrap();
    REGIONS[1].into_iter().find(|name| *name == relay.node.as_str()).unwrap()
}

#[tokio::test]
async fn a_change_crosses_each_link_once_and_spreads_inside() {
    let cluster = cluster(patient());
    cluster.connected().await;
    for (writer, times) in [("a1", 20), ("b2", 10), ("c3", 10)] {
        for _ in 0..times {
            cluster.node(writer).write(1, 100);
        }
    }
    all_have_all(&cluster).await;
    // What a node was pushed from another region is what it passed on to two more.
    let stats = cluster.nodes.values().map(|node| node.gossip.stats());
    let (mut pushed, mut received, mut duplicate, mut pulls) = (0, 0, 0, 0);
    for stats in stats {
        pushed += stats.records_pushed;
        received += stats.records_received;
        duplicate += stats.records_duplicate;
        pulls += stats.pulls;
    }
    // 40 changes, each to two neighbours and two relays, and by these to two neighbours each.
    assert_eq!((pushed, received, duplicate, pulls), (40 * 8, 40 * 8, 0, 0));
    // Its own 20 to four, and it may relay what the other regions wrote to two.
    let by_writer = cluster.node("a1").gossip.stats().records_pushed;
    assert!((20 * 4..=20 * 4 + 20 * 2).contains(&by_writer), "{by_writer}");
    until("each knows that all regions have all", async || {
        let all = cluster.node("a1").memory.vector();
        let knows = |node: &Node| node.gossip.regions_covering(&all).len() == REGIONS.len();
        cluster.nodes.values().all(knows).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_relay_takes_with_it_comes_from_elsewhere() {
    let mut cluster = cluster(GossipSettings::default());
    cluster.connected().await;
    cluster.node("a1").write(5, 100);
    all_have_all(&cluster).await;
    let relay = relay(&cluster);
    // It takes what it is pushed, and dies before it passes anything on.
    for other in REGIONS[1].into_iter().filter(|name| *name != relay) {
        cluster.links.cut(&name(relay), &name(other));
    }
    cluster.node("a1").write(5, 100);
    until("the relay has them", async || {
        let all = cluster.node("a1").memory.vector();
        (cluster.node(relay).memory.vector() == all).then_some(())
    })
    .await;
    let gone = cluster.nodes.remove(relay).unwrap();
    gone.gossip.shutdown().await;
    let Node { memory, gossip, addr } = gone;
    drop(gossip);
    all_have_all(&cluster).await;
    // From now on another one relays.
    assert_ne!(self::relay(&cluster), relay);
    cluster.node("a1").write(5, 100);
    all_have_all(&cluster).await;
    cluster.links.heal_all();
    cluster.start_again(relay, addr, memory).await;
    all_have_all(&cluster).await;
}

#[tokio::test]
async fn after_a_cut_one_node_of_a_region_collects_for_all() {
    let cluster = cluster(GossipSettings::default());
    cluster.connected().await;
    let ends = || {
        REGIONS[0].into_iter().flat_map(|a| {
            ["b1", "b2", "b3", "c1", "c2", "c3"].into_iter().map(move |other| (a, other))
        })
    };
    for (a, other) in ends() {
        cluster.links.cut(&name(a), &name(other));
    }
    cluster.node("b1").write(200, 1_000);
    until("the rest of the mainland has them", async || {
        let all = cluster.node("b1").memory.vector();
        let have = |node: &&str| cluster.node(node).memory.vector() == all;
        REGIONS[1..].iter().flatten().all(have).then_some(())
    })
    .await;
    // Long enough that all connections are given up.
    sleep(Duration::from_secs(4)).await;
    for (a, other) in ends() {
        cluster.links.heal(&name(a), &name(other));
    }
    all_have_all(&cluster).await;
    let island = REGIONS[0].map(|node| cluster.node(node).gossip.stats());
    let received: u64 = island.iter().map(|stats| stats.records_received).sum();
    // Once over the sea, twice inside; if all three had asked there were as many, but from afar.
    let far: u64 = REGIONS[1..]
        .iter()
        .flatten()
        .map(|node| cluster.node(node).gossip.stats().pulls_answered)
        .sum();
    let near: u64 = island.iter().map(|stats| stats.pulls_answered).sum();
    assert!(received >= 600, "{island:?}");
    assert!(near >= 2 && far <= 2, "{far} pulls over the sea, {near} inside");
}
