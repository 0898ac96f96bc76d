//! Nodes that come and go, with real processes: three regions by file, others that join while
//! clients write.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holm::client::{Client, ClientSettings, Write};
use tokio::time::Instant;

use crate::cluster::{document, eventually, free_ports, http, json, key};
use crate::process::{HOLM, Process, Site, holm};

const SCOPES: &str = "config:* cluster:read";

/// A node that the file does not name, and its HTTP port.
fn join(site: &Site, node: &str, region: &str, (peer, port): (u16, u16)) -> Process {
    let log = std::fs::File::create(site.dir.path().join(format!("{node}.log"))).unwrap();
    let child = Command::new(HOLM)
        .args(["serve", "--topology", "topology.toml", "--settings", "holm.toml"])
        .args(["--node", node, "--region", region, "--data", node])
        .args(["--peer", &format!("127.0.0.1:{peer}"), "--http", &format!("127.0.0.1:{port}")])
        .current_dir(site.dir.path())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Process(child)
}

pub(crate) fn client(site: &Site, port: u16) -> Client {
    let url = format!("http://127.0.0.1:{port}");
    let mut settings = ClientSettings::new(&url, Some(&site.token));
    settings.timeout = Duration::from_secs(5);
    Client::with(settings).unwrap()
}

pub(crate) async fn is_ready(port: u16) -> bool {
    let answer = http().get(format!("http://127.0.0.1:{port}/readyz")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Nodes, and members of the quorum with whether they vote.
type Shown = (Vec<String>, Vec<(String, bool)>);

/// The nodes that the node at `port` shows, and the members of the quorum.
pub(crate) async fn shown(site: &Site, port: u16) -> Option<Shown> {
    let status = client(site, port).cluster().await.ok()?;
    let regions = status["regions"].as_array()?;
    let nodes = regions.iter().flat_map(|region| region["nodes"].as_array().unwrap().iter());
    let mut nodes: Vec<String> =
        nodes.map(|node| node["node"].as_str().unwrap().to_owned()).collect();
    let members = status["quorum"]["members"].as_array()?.iter();
    let mut members: Vec<(String, bool)> = members
        .map(|member| {
            (member["node"].as_str().unwrap().to_owned(), member["voter"].as_bool().unwrap())
        })
        .collect();
    nodes.sort();
    members.sort();
    Some((nodes, members))
}

/// Whether every node of the file shows these nodes, and these learners beside the three voters.
async fn all_show(site: &Site, others: &[&str]) -> bool {
    let mut wanted: Vec<&str> = [&["a-1", "b-1", "c-1"][..], others].concat();
    wanted.sort_unstable();
    for port in &site.http {
        let Some((nodes, members)) = shown(site, *port).await else { return false };
        let learners: Vec<&str> =
            members.iter().filter(|(_, votes)| !votes).map(|(node, _)| node.as_str()).collect();
        let voters = members.iter().filter(|(_, votes)| *votes).count();
        if nodes != wanted || learners != others || voters != 3 {
            return false;
        }
    }
    true
}

/// Writes at the file's nodes in turn until it is stopped; gives how many were done, and what was
/// refused.
fn clients(site: &Site, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<(usize, Vec<String>)> {
    let clients: Vec<Client> = site.http.iter().map(|port| client(site, *port)).collect();
    tokio::spawn(async move {
        let (web, mut done, mut refused) = (document("web/prod"), 0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let write = Write::new(key("count"), json(&done.to_string()));
            match clients[done % clients.len()].write(&web, &[write], None).await {
                Ok(_) => done += 1,
                Err(error) => refused.push(error.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (done, refused)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_die_and_leave_while_clients_write() {
    let site = Site::with("[gossip]\nevict_after = \"4s\"\n", SCOPES);
    for node in ["a-2", "b-2"] {
        holm(site.dir.path(), &["pki", "issue", "--node", node]);
    }
    let _named: Vec<Process> = (0..3).map(|which| site.serve_logged(which)).collect();
    for port in &site.http {
        eventually("the file's nodes are ready", async || is_ready(*port).await).await;
    }
    eventually("three vote", async || all_show(&site, &[]).await).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = clients(&site, stop.clone());

    let (a2, b2) = (free_ports(), free_ports());
    let dies = join(&site, "a-2", "a", a2);
    let leaves = join(&site, "b-2", "b", b2);
    for (_, port) in [a2, b2] {
        eventually("a node that joined is ready", async || is_ready(port).await).await;
    }
    eventually("all know both", async || all_show(&site, &["a-2", "b-2"]).await).await;
    let write = Write::new(key("joined"), json("1"));
    let web = document("web/prod");
    let url = format!("http://127.0.0.1:{}", a2.1);
    let mut settings = ClientSettings::new(&url, Some(&site.token));
    settings.ack = Some("all".into());
    let written = Client::with(settings).unwrap().write(&web, &[write], None).await.unwrap();
    assert!(written.acknowledged, "every region has it");
    // A region has it with any of its nodes; the others a moment later.
    for port in &site.http {
        let has = async || client(&site, *port).get(&web, &key("joined")).await.is_ok();
        eventually("the file's nodes have it, too", has).await;
    }

    let died_at = Instant::now();
    drop(dies);
    let id = leaves.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    eventually("the one that left is forgotten", async || all_show(&site, &["a-2"]).await).await;
    assert!(died_at.elapsed() < Duration::from_secs(4), "which takes no bound");
    eventually("the one that died is evicted", async || all_show(&site, &[]).await).await;
    assert!(died_at.elapsed() >= Duration::from_secs(4), "not before the bound");

    // It comes back, with what it had and at another address.
    let again = free_ports();
    let _again = join(&site, "a-2", "a", again);
    eventually("it is ready again", async || is_ready(again.1).await).await;
    eventually("all know it again", async || all_show(&site, &["a-2"]).await).await;
    client(&site, again.1).get(&web, &key("joined")).await.unwrap();

    stop.store(true, Ordering::Relaxed);
    let (done, refused) = writing.await.unwrap();
    assert!(refused.is_empty() && done > 100, "{done} done, refused: {refused:?}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let site = Site::with("", SCOPES);
    for (more, says) in [
        (&["--node", "a-2"][..], "names no node a-2"),
        (&["--node", "a-2", "--region", "z"], "has no region z"),
        (&["--node", "a-2", "--region", "a"], "does not say where it is"),
        (
            &["--node", "a-2", "--region", "a", "--peer", "0.0.0.0:1", "--http", "10.0.0.1:1"],
            "nobody can be told to go to 0.0.0.0:1",
        ),
        (&["--node", "a-2", "--region", "a", "--peer", "x", "--http", "y"], "is not host:port"),
        (&["--node", "a-1", "--region", "b"], "names a-1, in a at 127.0.0.1:"),
    ] {
        let output = Command::new(HOLM)
            .args(["serve", "--topology", "topology.toml", "--settings", "holm.toml"])
            .args(["--data", "data"])
            .args(more)
            .current_dir(site.dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{said}\nnot {says}");
    }
}
