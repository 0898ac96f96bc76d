//! What a supervisor does with a node: it is started with nothing but an environment, and stopped by
//! SIGTERM in the middle of its work, within the time that `deploy/` gives it.

use std::process::{Command, Stdio};
use std::time::Duration;

use holm::client::{ClientError, Write};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::cluster::{document, eventually, json, key};
use crate::process::{HOLM, Process, REGIONS, Site};

/// Less than `TimeoutStopSec` and `terminationGracePeriodSeconds` in `deploy/`.
const GRACE: Duration = Duration::from_secs(25);

/// A node that is told everything by its environment, as `deploy/systemd` and `deploy/kubernetes` do.
fn serve_by_environment(site: &Site, which: usize) -> Process {
    let region = REGIONS[which];
    let child = Command::new(HOLM)
        .arg("serve")
        .env_clear()
        .env("HOLM_NODE", format!("{region}-1"))
        .env("HOLM_TOPOLOGY", "topology.toml")
        .env("HOLM_SETTINGS", "holm.toml")
        .env("HOLM_PKI", "pki")
        .env("HOLM_DATA", format!("{region}-1"))
        // That it stands where the file says is no contradiction.
        .env("HOLM_REGION", region)
        .current_dir(site.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

#[test]
fn systemd_does_not_give_up_on_a_node_that_cannot_start_yet() {
    let unit = include_str!("../../deploy/systemd/holm.service");
    let (head, service) = unit.split_once("[Service]").unwrap();
    assert!(service.contains("\nRestart=on-failure\n"));
    assert!(head.contains("\nStartLimitIntervalSec=0\n"), "it belongs to [Unit]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_from_its_environment_alone_and_ends_what_it_has_begun_on_sigterm() {
    let site = Site::with("", "config:* cluster:read");
    let mut processes: Vec<Process> =
        (0..REGIONS.len()).map(|which| serve_by_environment(&site, which)).collect();
    for which in 0..REGIONS.len() {
        eventually("the node is ready", async || {
            site.client(which).cluster().await.is_ok_and(|it| it["ready"] == true)
        })
        .await;
    }
    let (web, client) = (document("web/prod"), site.client(0));
    let write = async |writer: usize| {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            let name = format!("w{writer}.{n}");
            let write = [Write::new(key(&name), json(&n.to_string()))];
            match client.write(&web, &write, None).await {
                Ok(_) => acknowledged.push(name),
                // Nobody listens any more, or the connection was closed between two requests.
                Err(ClientError::Connection { .. }) => break,
                // Told to go elsewhere.
                Err(ClientError::Refused(refusal)) if refusal.name == "ShuttingDown" => break,
                Err(error) => panic!("{error}"),
            }
        }
        acknowledged
    };
    let stop = async {
        sleep(Duration::from_millis(500)).await;
        let asked = Instant::now();
        kill_process(Pid::from_child(&processes[0].0), Signal::TERM).unwrap();
        loop {
            if let Some(status) = processes[0].0.try_wait().unwrap() {
                break status;
            }
            assert!(asked.elapsed() < GRACE, "it drains within its grace period");
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (a, b, c, d, status) = tokio::join!(write(0), write(1), write(2), write(3), stop);
    assert!(status.success(), "{status}");
    let acknowledged: Vec<String> = [a, b, c, d].concat();
    assert!(acknowledged.len() > 20, "only {}", acknowledged.len());
    processes[0] = serve_by_environment(&site, 0);
    eventually("the node is ready again", async || {
        site.client(0).cluster().await.is_ok_and(|it| it["ready"] == true)
    })
    .await;
    // The others have it, too: it was pushed before the node ended.
    for which in 0..REGIONS.len() {
        let items = site.client(which).list(&web, None).await.unwrap();
        for name in &acknowledged {
            assert!(items.iter().any(|item| item.key.as_str() == name), "{name} at {which}");
        }
    }
}
