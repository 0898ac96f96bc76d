//! Real configuration files through the command line: in by one region, out of every other.

use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::process::HOLM;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/petclinic-config")
}

/// Runs `holm` against a region.
fn holm(cluster: &Cluster, region: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(HOLM)
        .args(arguments)
        .env("HOLM_URL", cluster.url(region))
        .env("HOLM_TOKEN", cluster.token("config:* cluster:read"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "holm {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn import(cluster: &Cluster, region: &str, dir: &Path, more: &[&str]) -> String {
    let files: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml" || e == "yaml"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    let mut arguments = vec!["import", "--yes"];
    arguments.extend(more);
    arguments.extend(files.iter().map(String::as_str));
    holm(cluster, region, &arguments)
}

/// Every exported file with its content.
fn exported(cluster: &Cluster, region: &str) -> (tempfile::TempDir, Vec<(String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    holm(cluster, region, &["export", "--format", "yaml", "--dir", dir.path().to_str().unwrap()]);
    let mut files: Vec<(String, String)> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    (dir, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_services_come_in_and_go_out_the_same_everywhere() {
    let cluster = Cluster::start(&["a", "b", "c"], 10).await;
    let dry = import(&cluster, "a", &data(), &["--dry-run"]);
    assert!(!dry.is_empty());
    assert!(cluster.server("a").node().snapshot().documents.is_empty(), "a dry run writes nothing");
    import(&cluster, "a", &data(), &[]);
    cluster.agreed().await;
    let documents = cluster.client("b").documents().await.unwrap();
    let services: std::collections::BTreeSet<_> =
        documents.iter().map(|document| document.service.to_string()).collect();
    assert_eq!(services.len(), 9);
    let (dir, files) = exported(&cluster, "a");
    assert_eq!(files.len(), 9);
    for region in ["b", "c"] {
        assert_eq!(exported(&cluster, region).1, files, "{region}");
    }
    let fresh = Cluster::start(&["x", "y"], 10).await;
    import(&fresh, "x", dir.path(), &[]);
    fresh.agreed().await;
    assert_eq!(exported(&fresh, "y").1, files);
    // A second import of the same finds nothing to do.
    let before = cluster.server("a").node().snapshot().vector.clone();
    import(&cluster, "a", &data(), &[]);
    assert_eq!(cluster.server("a").node().snapshot().vector, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_on_both_sides_of_a_cut_show_as_conflicts_with_one_winner() {
    let cluster = Cluster::start(&["a", "b", "c"], 10).await;
    import(&cluster, "a", &data(), &[]);
    cluster.agreed().await;
    for (x, y) in [("a", "b"), ("a", "c")] {
        cluster.cut(x, y);
    }
    let set = |region, value| {
        holm(&cluster, region, &["set", "api-gateway/default", "server.port", value]);
    };
    set("a", "7001");
    set("b", "7002");
    cluster.links.heal_all();
    cluster.agreed().await;
    for region in ["a", "b", "c"] {
        let shown = holm(
            &cluster,
            region,
            &["get", "api-gateway/default", "server.port", "--output", "json"],
        );
        let item: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(item["value"], 7002, "{region}");
        assert_eq!(item["conflicts"][0]["value"], 7001, "{region}");
    }
}
