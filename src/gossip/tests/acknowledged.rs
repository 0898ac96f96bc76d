//! What all are known to have on disk.

use super::*;

#[tokio::test]
async fn what_all_have_is_known_to_all_and_one_that_is_gone_holds_it_up_until_it_is_evicted() {
    let settings = GossipSettings { evict_after: EVICT_AFTER, ..GossipSettings::default() };
    let mut cluster = Cluster::start(settings);
    cluster.node("a").write(20, 100);
    cluster.node("b").write(5, 100);
    cluster.converged().await;
    let had = cluster.node("a").memory.vector();
    for name in NAMES {
        let gossip = &cluster.node(name).gossip;
        until("all know that all have it", async || {
            (gossip.acknowledged().floor.as_ref() == Some(&*had)).then_some(())
        })
        .await;
    }
    let gone = cluster.nodes.remove("c").unwrap();
    gone.gossip.shutdown().await;
    cluster.node("a").write(7, 100);
    let has = cluster.node("a").memory.vector();
    let left = until("nobody waits for it any more", async || {
        let acknowledged = cluster.node("b").gossip.acknowledged();
        let floor = acknowledged.floor.as_ref().expect("all were heard");
        let gone = acknowledged.others.iter().find(|holder| holder.node == name("c")).unwrap();
        assert!(floor.covers(&had));
        assert!(gone.is_evicted || *floor == *had, "it has no more than that");
        floor.covers(&has).then(|| gone.clone())
    })
    .await;
    assert!(left.is_evicted && left.silent >= EVICT_AFTER);
    assert_eq!(left.vector.as_deref(), Some(&*had), "what it had is still known");
}
