//! A majority lost for good, with real processes: `holm quorum recover` makes a quorum of the one store
//! that is left, nothing that it knew to be decided is lost, and the others join again.

use std::process::{Command, Output};

use holm::client::{Client, ClientSettings, QuorumMembers};
use holm::model::SecretName;
use holm::secrets::Plaintext;

use crate::cluster::eventually;
use crate::process::{HOLM, Process, Site};

const SCOPES: &str = "secrets:* access:* audit:read cluster:read cluster:manage";

fn client(site: &Site, which: usize) -> Client {
    let url = format!("http://127.0.0.1:{}", site.http[which]);
    Client::with(ClientSettings::new(&url, Some(&site.token))).unwrap()
}

fn run(site: &Site, line: &[&str]) -> Output {
    Command::new(HOLM)
        .args(line)
        .args(["--url", &format!("http://127.0.0.1:{}", site.http[0])])
        .env("HOLM_TOKEN", &site.token)
        .current_dir(site.dir.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

async fn voters(site: &Site) -> Option<usize> {
    let members: QuorumMembers = client(site, 0).quorum().await.ok()?;
    Some(members.members.iter().filter(|member| member.voter).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_store_that_is_left_makes_a_quorum_again() {
    let site = Site::with("", SCOPES);
    let mut processes: Vec<Option<Process>> =
        (0..3).map(|which| Some(site.serve_logged(which))).collect();
    eventually("three vote", async || voters(&site).await == Some(3)).await;
    let name = SecretName::new("db").unwrap();
    let value = Plaintext::new(b"kept".to_vec());
    eventually("the secret is written", async || {
        client(&site, 0).put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;

    // The leadership is handed on, and a voter taken out and in again, by the command line.
    let done = run(&site, &["quorum", "transfer", "b-1"]);
    assert!(done.status.success(), "{}", said(&done));
    eventually("b-1 leads", async || {
        client(&site, 0).quorum().await.is_ok_and(|it| it.leader.as_deref() == Some("b-1"))
    })
    .await;
    let done = run(&site, &["quorum", "remove", "nobody-1"]);
    assert_eq!(done.status.code(), Some(4), "{}", said(&done));
    assert!(said(&done).contains("nobody-1 is no member of the quorum"), "{}", said(&done));
    let done = run(&site, &["quorum", "status"]);
    assert!(said(&done).contains("b-1 leads"), "{}", said(&done));

    // All end; b and c are lost.
    processes.iter_mut().for_each(|process| drop(process.take()));
    let line =
        ["quorum", "recover", "--topology", "topology.toml", "--node", "a-1", "--data", "a-1"];
    let done = run(&site, &line);
    assert_eq!(done.status.code(), Some(2), "nothing is done unasked: {}", said(&done));
    let done = run(&site, &[&line[..], &["--yes"]].concat());
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("b-1, c-1"), "{}", said(&done));
    for which in [1, 2] {
        std::fs::remove_dir_all(site.data(which)).unwrap();
    }

    processes[0] = Some(site.serve_logged(0));
    eventually("the secret is read, linearizably", async || {
        let read = client(&site, 0).reveal_secret(&name, None).await;
        read.is_ok_and(|value| value.expose_text() == Some("kept"))
    })
    .await;
    processes[1] = Some(site.serve_logged(1));
    processes[2] = Some(site.serve_logged(2));
    for node in ["b-1", "c-1"] {
        eventually("a learner is caught up, and votes", async || {
            let done = run(&site, &["quorum", "add", node]);
            done.status.success() || said(&done).contains("votes already")
        })
        .await;
    }
    assert_eq!(voters(&site).await, Some(3));
    let done = run(&site, &["audit", "export", "--action", "quorum.*"]);
    assert!(said(&done).contains("quorum.recover"), "{}", said(&done));
    assert!(said(&done).contains("quorum.transfer"), "{}", said(&done));

    // Stopped nodes' chains are checked where they lie.
    let done = run(&site, &["audit", "verify"]);
    assert!(done.status.success(), "{}", said(&done));
    let stopping = processes[1].as_mut().unwrap();
    let pid = stopping.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(stopping.0.wait().unwrap().success());
    let done = run(&site, &["audit", "verify", "--data", "b-1"]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("b-1 quorum: "), "{}", said(&done));
}
