//! What programs of several releases know of each other, and who is ready.

use super::*;

impl Cluster {
    /// Stops the node and starts it again as a program that can do this.
    async fn restart_as(&mut self, node: &'static str, features: Features) {
        let stopped = self.nodes.remove(node).unwrap();
        stopped.gossip.shutdown().await;
        drop(stopped.gossip);
        let identity = self.identity(node);
        let bind = || endpoint(&self.env(), &name(node), stopped.addr, &identity).ok();
        let endpoint = until("the address is free", async || bind()).await;
        self.run_with(node, endpoint, stopped.memory, features);
    }

    fn members(&self, node: &str) -> &Members {
        &self.node(node).gossip.0.members
    }
}

#[tokio::test]
async fn what_every_member_can_do_is_known_once_all_were_met_and_follows_them() {
    let mut cluster = default();
    let feature = Feature::Readiness;
    cluster.connected().await;
    until("all know it of all", async || {
        NAMES.iter().all(|node| cluster.members(node).every_member_has(feature)).then_some(())
    })
    .await;
    cluster.restart_as("b", Features::none()).await;
    cluster.connected().await;
    until("that b went back to an older program is seen", async || {
        (cluster.members("a").lacking(feature) == BTreeSet::from([name("b")])).then_some(())
    })
    .await;
    assert!(!cluster.members("b").every_member_has(feature), "b cannot do it itself");
    assert_eq!(cluster.members("a").features_of(&name("b")), Some(Features::none()));
    cluster.restart_as("b", Features::all()).await;
    until("b is known to have it again", async || {
        cluster.members("c").every_member_has(feature).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_was_not_met_since_the_start_holds_up_what_all_have_to_be_able_to_do() {
    let mut cluster = default();
    let (members, addr) = (cluster.members("a"), cluster.node("c").addr);
    until("all were met", async || members.every_member_has(Feature::Readiness).then_some(()))
        .await;
    let c = cluster.nodes.remove("c").unwrap();
    c.gossip.shutdown().await;
    drop(c.gossip);
    assert!(cluster.members("a").every_member_has(Feature::Readiness), "it is known of before");
    cluster.restart("a", cluster.node("a").memory.clone()).await;
    let only_c = BTreeSet::from([name("c")]);
    until("a met b again", async || {
        (cluster.members("a").lacking(Feature::Readiness) == only_c).then_some(())
    })
    .await;
    cluster.start_again("c", addr, c.memory).await;
    until("a met c", async || {
        cluster.members("a").every_member_has(Feature::Readiness).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_is_ready_says_so_and_who_drains_is_not_at_once() {
    let mut cluster = default();
    cluster.connected().await;
    let is_ready = |cluster: &Cluster, node: &str| cluster.node("a").peer(node).is_ready;
    // As long as nobody in the node can tell, it is not.
    sleep(Duration::from_millis(1_500)).await;
    assert!(!is_ready(&cluster, "b"));
    cluster.node("b").gossip.tell_readiness(|| true);
    until("b is ready", async || is_ready(&cluster, "b").then_some(())).await;
    let started = Instant::now();
    cluster.node("b").gossip.drain();
    until("b is not any more", async || (!is_ready(&cluster, "b")).then_some(())).await;
    assert!(started.elapsed() < Duration::from_millis(700), "no heartbeat is waited for");
    // A program of before says nothing of the kind: it counts as ready where it is heard.
    cluster.restart_as("c", Features::none()).await;
    cluster.connected().await;
    until("c is taken for ready", async || is_ready(&cluster, "c").then_some(())).await;
}
