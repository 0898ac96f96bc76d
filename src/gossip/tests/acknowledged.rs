//! What all are known to have on disk.

use super::*;
use crate::model::vector::{Fold, FoldRow};
use crate::model::{Dot, Folds};

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

/// That everybody has an origin up to this change.
fn folded(last: Dot) -> Arc<Folds> {
    let fold = Fold::new(1, vec![FoldRow { dot: last, hash: [0; 32] }]).unwrap();
    Arc::new(Folds::default().with(&fold).unwrap())
}

#[tokio::test]
async fn who_folded_what_is_not_known_here_is_no_floor_and_no_witness_until_it_is() {
    let mut cluster = Cluster::start(GossipSettings::default());
    cluster.connected().await;
    cluster.node("b").write(5, 100);
    cluster.converged().await;
    let last = Dot { origin: Origin([2; 8]), n: 5 };
    let folds = folded(last);
    for node in ["a", "c"] {
        cluster.node(node).memory.fold(&folds);
        cluster.node(node).gossip.advanced();
    }
    // The same origin, from an empty store: nobody names it.
    cluster.restart("b", Memory::new(2)).await;
    let b = cluster.node("b");
    until("it has all back", async || b.memory.vector().includes(last).then_some(())).await;
    cluster.connected().await;
    assert_eq!(b.gossip.acknowledged().floor, None);
    b.memory.fold(&folds);
    b.gossip.advanced();
    until("the others are understood", async || b.gossip.acknowledged().floor).await;
    until("both have told it", async || (locked(&b.memory.witnessed).len() >= 2).then_some(()))
        .await;
    let told = locked(&b.memory.witnessed).clone();
    assert!(
        told.iter().all(|it| *it == (last.origin, 5)),
        "nobody has said that it has none: {told:?}"
    );
}

#[tokio::test]
async fn who_has_folded_what_a_peer_names_is_sent_nothing_of_it_again() {
    let cluster = Cluster::start(GossipSettings::default());
    cluster.connected().await;
    cluster.node("b").write(5, 100);
    cluster.converged().await;
    let last = Dot { origin: Origin([2; 8]), n: 5 };
    let folds = folded(last);
    let a = cluster.node("a");
    a.memory.fold(&folds);
    a.gossip.advanced();
    let before = locked(&a.memory.duplicates).len();
    // What nobody pushes has to be pulled, from who knows no folds.
    cluster.node("c").memory.write(100);
    cluster.node("c").gossip.advanced();
    let pulled = Dot { origin: Origin([3; 8]), n: 1 };
    until("it is pulled", async || a.memory.vector().includes(pulled).then_some(())).await;
    let again = locked(&a.memory.duplicates)[before..].to_vec();
    assert!(again.iter().all(|dot| dot.origin != last.origin), "{again:?}");
}
