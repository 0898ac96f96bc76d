//! Nodes that the file names: one that is long gone is evicted and may come back, and a second process
//! under such a name is turned away.

use super::*;
use crate::transport::hello::HelloError;

impl Cluster {
    async fn stop(&mut self, node: &'static str) -> (SocketAddr, Arc<Memory>) {
        let stopped = self.nodes.remove(node).unwrap();
        stopped.gossip.shutdown().await;
        (stopped.addr, stopped.memory)
    }

    fn knows(&self, node: &str, other: &str) -> bool {
        self.node(node).gossip.members().contains_key(&name(other))
    }

    /// Starts the three again, with other bounds.
    async fn start_with(bounds: Bounds) -> Self {
        let mut cluster = default();
        cluster.bounds = bounds;
        for node in NAMES {
            let memory = cluster.node(node).memory.clone();
            cluster.restart(node, memory).await;
        }
        cluster.connected().await;
        cluster
    }
}

#[tokio::test]
async fn who_is_long_gone_is_evicted_holds_nothing_up_and_is_a_member_again_when_it_is_back() {
    let mut cluster = Cluster::start_with(BOUNDS).await;
    let lacking = |cluster: &Cluster| {
        cluster.node("a").gossip.0.members.lacking(crate::model::Feature::Readiness)
    };
    until("all were met", async || lacking(&cluster).is_empty().then_some(())).await;
    let started = Instant::now();
    let (addr, memory) = cluster.stop("c").await;
    let memory_of_a = cluster.node("a").memory.clone();
    cluster.restart("a", memory_of_a).await;
    until("c holds up what all have to be able to do", async || {
        (lacking(&cluster) == BTreeSet::from([name("c")])).then_some(())
    })
    .await;
    until("c is evicted", async || {
        (!cluster.knows("a", "c") && !cluster.knows("b", "c")).then_some(())
    })
    .await;
    assert!(started.elapsed() >= EVICT_AFTER, "not before the bound");
    assert!(lacking(&cluster).is_empty());
    assert_eq!(cluster.node("a").gossip.0.members.evicted(), BTreeSet::from([name("c")]));
    cluster.node("a").write(5, 100);
    cluster.start_again("c", addr, memory).await;
    until("c is back", async || (cluster.knows("a", "c") && cluster.knows("b", "c")).then_some(()))
        .await;
    cluster.connected().await;
    cluster.node("c").write(5, 100);
    cluster.converged().await;
}

#[tokio::test]
async fn nodes_that_have_evicted_each_other_find_each_other_again() {
    let cluster = Cluster::start_with(BOUNDS).await;
    cluster.links.cut(&name("a"), &name("c"));
    cluster.links.cut(&name("b"), &name("c"));
    until("both sides evicted the other", async || {
        let c_alone = !cluster.knows("c", "a") && !cluster.knows("c", "b");
        (c_alone && !cluster.knows("a", "c") && !cluster.knows("b", "c")).then_some(())
    })
    .await;
    cluster.node("c").write(5, 100);
    cluster.links.heal_all();
    cluster.connected_within(Duration::from_secs(60)).await;
    cluster.converged().await;
}

#[tokio::test]
async fn a_second_process_under_a_name_of_the_file_is_refused_and_told_both_addresses() {
    let mut cluster = default();
    cluster.connected().await;
    let first = cluster.node("b").addr;
    let second = endpoint(&cluster.env(), &name("b"), ANY, &cluster.identity("b")).unwrap();
    let own = second.local_addr().unwrap();
    let mine = Hello { instance: 99, ..cluster.node("b").gossip.0.hello() };
    let say_hello = async |to: SocketAddr| {
        let connection = second.connect(to, "a").unwrap().await.unwrap();
        hello::dial(&connection, &cluster.topology, &mine, &name("a")).await
    };
    let error = say_hello(cluster.node("a").addr).await.unwrap_err();
    assert!(matches!(error, HelloError::Refused(_)), "{error}");
    for addr in [first, own] {
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }
    cluster.node("b").write(2, 100);
    cluster.converged().await;
    // Once the first one has stopped, the name is free.
    let to = cluster.node("a").addr;
    cluster.stop("b").await;
    until("it is taken", async || {
        let connection = second.connect(to, "a").unwrap().await.ok()?;
        hello::dial(&connection, &cluster.topology, &mine, &name("a")).await.ok()
    })
    .await;
}
