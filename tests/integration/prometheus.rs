//! A real Prometheus on a real cluster: a region is cut off and the alerts fire; it is healed and
//! they are resolved. Runs where `prometheus` is there, which `.ci/run` sees to; elsewhere it says
//! that it is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holm::client::Write;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::{Cluster, PATIENCE, document, eventually, free_ports, http, json, key};
use crate::observe::{dashboards, queries};
use crate::process::Process;

/// The program, where there is one.
fn program() -> Option<PathBuf> {
    let told = std::env::var_os("HOLM_TEST_PROMETHEUS");
    let dirs: Vec<PathBuf> = match &told {
        Some(dir) => vec![dir.into()],
        None => std::env::split_paths(&std::env::var_os("PATH")?).collect(),
    };
    let found = dirs.into_iter().map(|dir| dir.join("prometheus")).find(|path| path.is_file());
    assert!(told.is_none() || found.is_some(), "HOLM_TEST_PROMETHEUS names no directory with it");
    found
}

/// The rules as they are delivered, but in a hurry: every time to wait is a second, and a lag counts
/// from two seconds on.
fn hurried(rules: &str) -> String {
    let lag = "holm_replication_lag_seconds > 30";
    assert!(rules.contains(lag), "the rule of lag has changed: change this test, too");
    let rules = rules.replace(lag, "holm_replication_lag_seconds > 2");
    let hurry = |line: &str| match line.trim_start().strip_prefix("for: ") {
        Some(_) => format!("{}for: 1s\n", " ".repeat(line.len() - line.trim_start().len())),
        None => format!("{line}\n"),
    };
    rules.lines().map(hurry).collect()
}

fn configure(dir: &Path, cluster: &Cluster) {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml");
    let rules = std::fs::read_to_string(rules).unwrap();
    std::fs::write(dir.join("alerts.yml"), hurried(&rules)).unwrap();
    let targets: String = ["a", "b", "c"]
        .map(|region| {
            let address = cluster.url(region).replace("http://", "");
            format!(
                "      - targets: [\"{address}\"]\n        labels: {{ region: {region}, instance: {region}-1 }}\n"
            )
        })
        .concat();
    let settings = format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
         rule_files: [alerts.yml]\nscrape_configs:\n  - job_name: holm\n    static_configs:\n{targets}"
    );
    std::fs::write(dir.join("prometheus.yml"), settings).unwrap();
}

struct Prometheus {
    url: String,
    _process: Process,
}

impl Prometheus {
    fn start(program: &Path, dir: &Path) -> Self {
        let (port, _) = free_ports();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(program)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), _process: Process(child) }
    }

    /// How many series an expression gives; none where nobody answers.
    async fn count(&self, expression: &str) -> Option<usize> {
        let url = format!("{}/api/v1/query", self.url);
        let answer = http().get(url).query(&[("query", expression)]).send().await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        Some(answer["data"]["result"].as_array()?.len())
    }

    /// The queries of the dashboards that give nothing, as Grafana would ask for one node.
    async fn empty_queries(&self) -> Vec<String> {
        let mut empty = Vec::new();
        for (_, board) in dashboards() {
            for query in queries(&board).iter().filter(|query| !query.starts_with("label_values")) {
                let query = query.replace("$job", "holm").replace("$instance", "a-1");
                let query = query.replace("$__rate_interval", "10s");
                match self.count(&query).await {
                    None => panic!("Prometheus does not take {query}"),
                    Some(0) => empty.push(query),
                    Some(_) => {}
                }
            }
        }
        empty
    }

    async fn fires(&self, alert: &str, labels: &str) -> bool {
        let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"{labels}}}");
        self.count(&firing).await.is_some_and(|count| count > 0)
    }
}

/// Something of everything that panels show.
async fn some_traffic(cluster: &Cluster) {
    // A key each: together they would make conflicts, which is another alert.
    for region in ["a", "b"] {
        let (client, own) = (cluster.client(region), key(region));
        let writes = [Write::new(own.clone(), json("1"))];
        client.write(&document("web/prod"), &writes, None).await.unwrap();
        client.get(&document("web/prod"), &own).await.unwrap();
    }
    assert!(cluster.client("a").get(&document("web/prod"), &key("none")).await.is_err());
    let secrets = format!("{}/secrets", cluster.url("a"));
    let token = cluster.token("secrets:*");
    let secret = serde_json::json!({"name": "s", "value": "v"}).to_string();
    let put = http().post(&secrets).bearer_auth(&token).header("content-type", "application/json");
    assert!(put.body(secret).send().await.unwrap().status().is_success());
    let read = http().get(format!("{secrets}/s")).bearer_auth(&token);
    assert_eq!(read.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_cut_off_raises_alerts_and_its_return_resolves_them() {
    let Some(program) = program() else {
        eprintln!("skipped: there is no prometheus here; .ci/run fetches one");
        return;
    };
    let cluster = Cluster::start(&["a", "b", "c"], 1).await;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &cluster);
    let prometheus = Prometheus::start(&program, dir.path());
    eventually("Prometheus sees three nodes that have a quorum", async || {
        prometheus.count("holm_quorum_available == 1 and on (instance) up == 1").await == Some(3)
    })
    .await;
    eventually("nothing is wrong", async || {
        prometheus.count("ALERTS{alertstate=\"firing\"}").await == Some(0)
    })
    .await;

    // Nodes in a test show no process.
    let absent = "process_";
    let mut wrong = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        some_traffic(&cluster).await;
        wrong = prometheus.empty_queries().await;
        wrong.retain(|query| !query.contains(absent));
        if wrong.is_empty() {
            break;
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "panels that show nothing");

    cluster.cut("a", "b");
    cluster.cut("a", "c");
    let writes = [Write::new(key("color"), json("\"blue\""))];
    cluster.client("a").write(&document("web/prod"), &writes, None).await.unwrap();
    let island = ",instance=\"a-1\"";
    eventually("the island has no quorum, and its peers lack its write", async || {
        prometheus.fires("HolmNoQuorum", island).await
            && prometheus.fires("HolmReplicationLag", &format!("{island},peer=\"b-1\"")).await
            && prometheus.fires("HolmPeerUnreachable", ",instance=\"b-1\",peer=\"a-1\"").await
    })
    .await;
    for elsewhere in ["b-1", "c-1"] {
        let instance = format!(",instance=\"{elsewhere}\"");
        assert!(!prometheus.fires("HolmNoQuorum", &instance).await, "{elsewhere} has a quorum");
    }

    cluster.links.heal_all();
    eventually("all is well again", async || {
        prometheus.count("ALERTS{alertstate=\"firing\"}").await == Some(0)
            && prometheus.count("holm_quorum_available == 1").await == Some(3)
    })
    .await;
}

#[test]
fn the_rules_in_a_hurry_are_the_rules_but_for_their_times() {
    let rules = "- expr: holm_replication_lag_seconds > 30\n        for: 2m\n        labels:\n";
    let expected = "- expr: holm_replication_lag_seconds > 2\n        for: 1s\n        labels:\n";
    assert_eq!(hurried(rules), expected);
}
