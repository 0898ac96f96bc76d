//! A topology file from a running cluster: what its nodes are, and what they measure.

use std::path::Path;

use holm::topology::Topology;

use crate::cluster::{Cluster, PATIENCE};
use crate::process::HOLM;

/// What `holm topology import` writes by way of that region, and what it says beside it.
fn import(cluster: &Cluster, region: &str, out: &Path) -> (Topology, String) {
    let output = std::process::Command::new(HOLM)
        .args(["topology", "import", "--out", out.to_str().unwrap()])
        .env("HOLM_URL", cluster.url(region))
        .env("HOLM_TOKEN", cluster.token("cluster:read"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (Topology::load(out).unwrap(), said)
}

/// Waits until these regions' nodes have measured the way to each other.
async fn until_measured(cluster: &Cluster, regions: &[&str]) {
    let is_done = |region: &&str| {
        let status = cluster.server(region).node().cluster();
        let nodes = status.regions.iter().filter(|it| regions.contains(&it.region.as_str()));
        nodes.flat_map(|it| &it.nodes).all(|node| node.state == "self" || node.rtt_measured)
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !regions.iter().all(is_done) {
        assert!(tokio::time::Instant::now() < deadline, "the round trips are never measured");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_is_written_as_the_cluster_has_it_with_what_it_measures() {
    let cluster = Cluster::start(&["a", "b", "c"], 40).await;
    until_measured(&cluster, &["a", "b", "c"]).await;
    let dir = tempfile::tempdir().unwrap();
    let (written, said) = import(&cluster, "b", &dir.path().join("t.toml"));
    assert_eq!(written.cluster, cluster.topology.cluster);
    assert_eq!(written.nodes(), cluster.topology.nodes());
    let regions = written.regions();
    for (i, a) in regions.iter().enumerate() {
        assert_eq!(a.place, "here");
        for b in &regions[i + 1..] {
            let ms = written.rtt(&a.name, &b.name).as_millis();
            assert!((40..400).contains(&ms), "{} – {}: {ms} ms; {said}", a.name, b.name);
        }
    }
    assert!(!said.contains("not measured") && !said.contains("was not asked"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_named_and_its_links_have_the_default() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 40);
    cluster.start_node("a").await;
    cluster.start_node("b").await;
    until_measured(&cluster, &["a", "b"]).await;
    let dir = tempfile::tempdir().unwrap();
    let (written, said) = import(&cluster, "a", &dir.path().join("t.toml"));
    assert_eq!(written.nodes(), cluster.topology.nodes());
    for part in [
        "c-1 was not asked what it measures",
        "not measured, has the default: a – c",
        "not measured, has the default: b – c",
        "knows of no quorum yet",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
