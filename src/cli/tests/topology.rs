//! Claims about `holm topology` and `holm simulate`.

use axum::http::StatusCode;
use clap::Parser as _;
use serde_json::{Value, json};

use super::holm;
use crate::cli::Cli;
use crate::client::stub::Stub;
use crate::topology::Topology;

/// A cluster of `a-1` and `b-1`, as one of them sees it that measured `rtt_ms` to the other.
fn cluster(node: &str, stubs: [&Stub; 2], rtt_ms: f64) -> Value {
    let region = |region: &str, name: &str, stub: &Stub, port: u16| {
        let http = stub.url.strip_prefix("http://").unwrap();
        json!({"region": region, "place": "", "voters": true, "nodes": [{
            "node": name, "peer": format!("10.0.0.1:{port}"), "http": http,
            "rtt_ms": rtt_ms, "rtt_measured": name != node}]})
    };
    let member = |node: &str| json!({"node": node, "voter": true});
    json!({"cluster": "c1", "node": node,
        "regions": [region("a", "a-1", stubs[0], 1), region("b", "b-1", stubs[1], 2)],
        "quorum": {"members": [member("a-1"), member("b-1")]}})
}

fn answers(stub: &Stub, body: &Value) {
    stub.node().next_answer = Some((StatusCode::OK, body.to_string()));
}

#[tokio::test]
async fn a_topology_is_imported_from_all_nodes_and_never_over_another_file() {
    let (a, b) = (Stub::start().await, Stub::start().await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    let out = path.to_str().unwrap();
    let line = ["topology", "import", "--out", out];
    answers(&a, &cluster("a-1", [&a, &b], 70.0));
    answers(&b, &cluster("b-1", [&a, &b], 74.0));
    let done = holm(&a, &line).await;
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    let first = format!("{out}: 2 regions, 2 nodes; 1 of 1 link between regions measured\n");
    assert!(done.out.starts_with(&first), "{done:?}");
    let topology = Topology::load(&path).unwrap();
    let [one, two] = topology.regions() else { panic!("{topology:?}") };
    assert_eq!(topology.rtt(&one.name, &two.name).as_millis(), 72);

    let before = std::fs::read_to_string(&path).unwrap();
    a.asked();
    let refused = holm(&a, &line).await;
    assert!(refused.code == 1 && refused.err.contains("--force overwrites it"), "{refused:?}");
    assert!(a.asked().is_empty() && std::fs::read_to_string(&path).unwrap() == before);

    answers(&a, &cluster("a-1", [&a, &b], 33.0));
    b.asked();
    let forced = [&line[..], &["--force", "--this-node-only"]].concat();
    assert_eq!(holm(&a, &forced).await.code, 0);
    assert!(b.asked().is_empty(), "no other node is asked");
    let topology = Topology::load(&path).unwrap();
    assert_eq!(topology.rtt(&one.name, &two.name).as_millis(), 33);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_node_that_is_another_one_or_does_not_answer_is_named_and_not_believed() {
    let (a, b) = (Stub::start().await, Stub::start().await);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t.toml");
    let line = ["topology", "import", "--out", out.to_str().unwrap(), "--force"];
    for (theirs, why) in [
        (cluster("a-1", [&a, &b], 500.0), "is a-1 of c1"),
        (json!({"cluster": "c1"}), "missing field `node`"),
    ] {
        answers(&a, &cluster("a-1", [&a, &b], 70.0));
        answers(&b, &theirs);
        let done = holm(&a, &line).await;
        assert!(done.code == 0 && done.err.contains("b-1 was not asked"), "{done:?}");
        assert!(done.err.contains(why), "{done:?}");
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.contains("rtt_ms = 70 # measured once: 70.0 ms"), "{text}");
    }
    // What the stub says by itself lacks what an older program would.
    std::fs::remove_file(&out).unwrap();
    let old = holm(&a, &line).await;
    assert!(old.code == 1 && old.err.contains("an older version"), "{old:?}");
    let mut none = cluster("a-1", [&a, &b], 70.0);
    none["regions"] = json!([]);
    answers(&a, &none);
    let none = holm(&a, &line).await;
    assert!(none.code == 1 && none.err.contains("there is no region"), "{none:?}");
    assert!(!out.exists());
}

#[tokio::test]
async fn a_topology_is_checked_and_shown() {
    let stub = Stub::start().await;
    let done = holm(&stub, &["topology", "check", "regions/three-continents.toml"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("3 regions, 3 nodes; at the first start 2 of 3 voters"), "{done:?}");
    assert!(done.out.contains("\neu-west  us-east   76 ms\n"), "{done:?}");
    let json = ["topology", "check", "regions/three-continents.toml", "--output", "json"];
    let json: Value = serde_json::from_str(&holm(&stub, &json).await.out).unwrap();
    assert_eq!(json["links"][2], json!({"between": ["us-east", "ap-south"], "rtt_ms": 198}));
    assert_eq!(json["nodes"][1]["votes"], true);
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "cluster = \"x\"\nregion = 1\n").unwrap();
    for file in [bad.to_str().unwrap(), "/nonexistent"] {
        for line in [&["topology", "check", file][..], &["simulate", "plan", "--topology", file]] {
            let done = holm(&stub, line).await;
            assert!(done.code == 2 && done.err.contains(file), "{done:?}");
        }
    }
    assert!(stub.asked().is_empty(), "no node is asked");
}

#[tokio::test]
async fn a_plan_is_text_for_people_and_json_for_programs() {
    let stub = Stub::start().await;
    let line = ["simulate", "plan", "--topology", "regions/three-continents.toml"];
    let text = holm(&stub, &[&line[..], &["--disk", "10ms"]].concat()).await;
    assert!(text.code == 0 && text.out.contains("one disk write taken as 10 ms"), "{text:?}");
    for line in [
        &[&line[..], &["--output", "json"]].concat()[..],
        &[&["--output", "json"], &line[..]].concat(),
    ] {
        let json: Value = serde_json::from_str(&holm(&stub, line).await.out).unwrap();
        assert_eq!(json["voters"].as_array().unwrap().len(), 3);
        assert_eq!(json["cases"].as_array().unwrap().len(), 15);
    }
}

#[test]
fn scenarios_and_what_else_is_simulated_are_told_apart() {
    let parse = |line: &[&str]| Cli::try_parse_from([&["holm", "simulate"], line].concat());
    assert!(parse(&["simulations/x.toml", "simulations/y.toml"]).is_ok());
    assert!(parse(&["plan", "--topology", "t.toml"]).is_ok());
    for bad in [&[][..], &["plan"], &["x.toml", "plan", "--topology", "t.toml"]] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}
