//! Regions write anywhere, converge, and go on alone: through the real API, over real QUIC.

use std::time::Duration;

use holm::client::Write;
use holm::env::CrashMode;

use crate::cluster::{Cluster, document, eventually, json, key, node};

fn write(name: &str, value: &str) -> Write {
    Write::new(key(name), json(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_region_is_read_in_another_by_its_session() {
    let cluster = Cluster::start(&["a", "b", "c"], 40).await;
    let (web, a, b) = (document("web/dev"), cluster.client("a"), cluster.client("b"));
    for i in 0..20 {
        a.write(&web, &[write("k", &i.to_string())], None).await.unwrap();
        b.include_session(&a.session().unwrap());
        let item = b.get(&web, &key("k")).await.unwrap();
        assert_eq!(item.value.as_str(), i.to_string());
        assert_eq!(&*item.region, "a");
    }
    assert_eq!(cluster.agreed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn islands_diverge_and_agree_after_healing_with_the_same_winner_everywhere() {
    let cluster = Cluster::start(&["a", "b", "c"], 20).await;
    let web = document("web/dev");
    let clients = ["a", "b", "c"].map(|region| cluster.client(region));
    clients[0].write(&web, &[write("k", "0"), write("gone", "0")], None).await.unwrap();
    cluster.agreed().await;
    for (x, y) in [("a", "b"), ("a", "c"), ("b", "c")] {
        cluster.cut(x, y);
    }
    for (i, client) in clients.iter().enumerate() {
        client.write(&web, &[write("k", &format!("\"{i}\""))], None).await.unwrap();
        client.write(&web, &[write(&format!("only-{i}"), "1")], None).await.unwrap();
    }
    clients[1].remove(&web, &key("gone")).await.unwrap();
    clients[2].write(&web, &[write("gone", "2")], None).await.unwrap();
    cluster.links.heal_all();
    assert_eq!(cluster.agreed().await.len(), 5);
    for client in &clients {
        let item = client.get(&web, &key("k")).await.unwrap();
        assert_eq!(item.value.as_str(), "\"2\"", "the last by its stamp");
        assert_eq!((item.version, item.conflicts.len()), (2, 2));
        let gone = client.get(&web, &key("gone")).await.unwrap();
        assert_eq!(gone.value.as_str(), "2");
        assert!(gone.conflicts[0].removed);
    }
    clients[0].write(&web, &[write("k", "3")], None).await.unwrap();
    cluster.agreed().await;
    let item = clients[2].get(&web, &key("k")).await.unwrap();
    assert_eq!((item.value.as_str(), item.version, item.conflicts.len()), ("3", 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_regions_cannot_tell_each_other_goes_through_a_third() {
    let cluster = Cluster::start(&["a", "b", "c"], 10).await;
    cluster.cut("a", "c");
    let web = document("web/dev");
    let (a, c) = (cluster.client("a"), cluster.client("c"));
    a.write(&web, &[write("k", "1")], None).await.unwrap();
    eventually("c has what a wrote", async || c.get(&web, &key("k")).await.is_ok()).await;
    c.write(&web, &[write("k", "2")], None).await.unwrap();
    eventually("a has what c wrote", async || {
        a.get(&web, &key("k")).await.unwrap().value.as_str() == "2"
    })
    .await;
    eventually("a shows c as relayed", async || {
        let status = cluster.server("a").node().cluster();
        let members: Vec<_> = status.regions.iter().flat_map(|region| &region.nodes).collect();
        members.iter().any(|member| member.node == node("c") && member.state == "relayed")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_by_regions_says_who_has_the_write() {
    let cluster = Cluster::start(&["a", "b", "c"], 10).await;
    let web = document("web/dev");
    let with = |ack: &str| {
        let ack = ack.to_owned();
        cluster.client_with("a", |settings| settings.ack = Some(ack))
    };
    let all = with("all; timeout=20s");
    assert!(all.write(&web, &[write("k", "1")], None).await.unwrap().acknowledged);
    for region in ["b", "c"] {
        let vector = cluster.server(region).node().snapshot().vector.clone();
        assert!(vector.covers(&cluster.server("a").node().snapshot().vector), "{region}");
    }
    cluster.cut("a", "c");
    cluster.cut("b", "c");
    let majority = with("majority; timeout=20s");
    assert!(majority.write(&web, &[write("k", "2")], None).await.unwrap().acknowledged);
    let all = with("all; timeout=300ms");
    let written = all.write(&web, &[write("k", "3")], None).await.unwrap();
    assert!(!written.acknowledged, "c cannot have it");
    let item = all.get(&web, &key("k")).await.unwrap();
    assert_eq!(item.value.as_str(), "3", "nothing is rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_crashed_comes_back_with_all_it_acknowledged_and_catches_up() {
    let mut cluster = Cluster::start(&["a", "b", "c"], 10).await;
    let web = document("web/dev");
    let a = cluster.client("a");
    for i in 0..50 {
        a.write(&web, &[write(&format!("k{i}"), "1")], None).await.unwrap();
    }
    cluster.crash("a", CrashMode::LoseUnsynced).await;
    let b = cluster.client("b");
    b.write(&web, &[write("while-a-was-away", "1")], None).await.unwrap();
    cluster.start_node("a").await;
    let a = cluster.client("a");
    assert_eq!(a.list(&web, Some("k")).await.unwrap().len(), 50, "at once, from its own disk");
    assert_eq!(cluster.agreed().await.len(), 51);
    eventually("a is ready", async || cluster.server("a").node().readiness().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_an_old_copy_gets_back_what_it_lost_and_harms_nobody() {
    let mut cluster = Cluster::start(&["a", "b"], 10).await;
    let web = document("web/dev");
    let a = cluster.client("a");
    a.write(&web, &[write("k", "1")], None).await.unwrap();
    cluster.agreed().await;
    let old = cluster.disk("a").snapshot();
    a.write(&web, &[write("k", "2"), write("lost", "2")], None).await.unwrap();
    cluster.agreed().await;
    let origin = cluster.server("a").node().origin();
    cluster.stop("a").await;
    cluster.put_disk("a", old);
    cluster.cut("a", "b");
    cluster.start_node("a").await;
    let a = cluster.client("a");
    // Alone, on an old copy: it goes on, but not as who it was.
    a.write(&web, &[write("k", "3")], None).await.unwrap();
    assert_ne!(cluster.server("a").node().origin(), origin);
    cluster.links.heal_all();
    assert_eq!(cluster.agreed().await.len(), 2);
    let item = cluster.client("b").get(&web, &key("k")).await.unwrap();
    assert_eq!(item.value.as_str(), "3");
    assert_eq!(item.conflicts.len(), 1, "the write that the old copy had not seen");
    for region in ["a", "b"] {
        assert_eq!(cluster.server(region).node().cluster().store.forks, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_once_it_has_caught_up_with_a_peer() {
    let mut cluster = Cluster::new(&["a", "b"], 10);
    cluster.start_node("a").await;
    let web = document("web/dev");
    let a = cluster.client("a");
    a.write(&web, &[write("k", "1")], None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(cluster.server("a").node().readiness().is_err(), "no peer was met");
    cluster.start_node("b").await;
    for region in ["a", "b"] {
        eventually("ready", async || cluster.server(region).node().readiness().is_ok()).await;
    }
    assert_eq!(cluster.client("b").get(&web, &key("k")).await.unwrap().version, 1);
}
