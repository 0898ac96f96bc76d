//! deploy/RECOVERY.md's commands, as they stand there, with real processes; only names, addresses and
//! paths are this test's own.

use std::path::Path;
use std::process::Command;

use holm::model::SecretName;
use holm::secrets::Plaintext;

use crate::cluster::{document, eventually, key};
use crate::process::{HOLM, Process, Site};

const SCOPES: &str = "config:* secrets:* access:read access:manage audit:read cluster:read \
                      cluster:manage cluster:backup";
const NODES: [&str; 3] = ["eu-west-1", "us-east-1", "ap-south-1"];

/// The commands under this name, and on which node they are typed.
fn block(name: &str) -> (usize, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/RECOVERY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let start = format!("```sh\n# {name}, on ");
    let block = text.split(&start).nth(1).unwrap_or_else(|| panic!("there is no block {name}"));
    let block = block.split("```").next().unwrap();
    let (node, commands) = block.split_once('\n').unwrap();
    (NODES.iter().position(|known| *known == node).unwrap(), commands.to_owned())
}

/// Types the commands under this name on their node, or on another one.
fn try_type(site: &Site, name: &str, on: Option<usize>) -> (bool, String) {
    let (node, script) = block(name);
    run(site, on.unwrap_or(node), script)
}

/// Types each line under this name when it can be done: a node may not have joined yet.
async fn let_vote(site: &Site) {
    let (node, script) = block("vote");
    for line in script.lines() {
        eventually("it is done", async || {
            let (done, said) = run(site, node, line.to_owned());
            done || said.contains("votes already")
        })
        .await;
    }
}

fn run(site: &Site, node: usize, mut script: String) -> (bool, String) {
    script = script.replace("/var/lib/holm", site.data(node).to_str().unwrap());
    for (theirs, ours) in NODES.into_iter().zip(["a-1", "b-1", "c-1"]) {
        script = script.replace(theirs, ours);
    }
    let script = format!("set -eu\nholm() {{ \"{HOLM}\" \"$@\"; }}\n{script}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("HOLM_URL", format!("http://127.0.0.1:{}", site.http[0]))
        .env("HOLM_TOKEN", &site.token)
        .env("HOLM_TOPOLOGY", "topology.toml")
        .env("HOLM_SETTINGS", "holm.toml")
        .env("HOLM_PKI", "pki")
        .current_dir(site.dir.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), said)
}

#[track_caller]
fn typed(site: &Site, name: &str, on: Option<usize>) -> String {
    let (done, said) = try_type(site, name, on);
    assert!(done, "{name}: {said}");
    said
}

fn start(site: &Site, processes: &mut [Option<Process>], which: usize) {
    processes[which] = Some(site.serve_logged(which));
}

async fn three_vote(site: &Site) {
    eventually("three vote", async || {
        let members = site.client(0).quorum().await;
        members.is_ok_and(|it| it.members.iter().filter(|member| member.voter).count() == 3)
    })
    .await;
}

async fn is_kept(site: &Site, which: usize) {
    let name = SecretName::new("db").unwrap();
    eventually("the secret is read", async || {
        let read = site.client(which).reveal_secret(&name, None).await;
        read.is_ok_and(|value| value.expose_text() == Some("kept"))
    })
    .await;
    eventually("the configuration is read", async || {
        let read = site.client(which).versions(&document("web/prod"), &key("pool")).await;
        read.is_ok_and(|versions| versions.len() == 3)
    })
    .await;
}

/// A cluster with something in it, of which a backup was taken.
async fn founded(site: &Site) -> Vec<Option<Process>> {
    let mut processes = vec![None, None, None];
    (0..3).for_each(|which| start(site, &mut processes, which));
    three_vote(site).await;
    let (name, value) = (SecretName::new("db").unwrap(), Plaintext::new(b"kept".to_vec()));
    eventually("a secret is written", async || {
        site.client(0).put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;
    for value in ["1", "2"] {
        let write =
            holm::client::Write::new(key("pool"), holm::model::JsonText::parse(value).unwrap());
        site.client(0).write(&document("web/prod"), &[write], None).await.unwrap();
    }
    assert!(typed(site, "wrong-write", None).contains('1'));
    assert!(typed(site, "backup", None).contains("everything in it is good"));
    processes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_was_lost_comes_back_empty_and_from_its_own_backup() {
    let site = Site::with("", SCOPES);
    let mut processes = founded(&site).await;
    let (well, said) = try_type(&site, "doctor", None);
    assert!(well && said.contains("held, and the right one"), "{said}");

    // Killed, and its disk is gone.
    drop(processes[1].take());
    typed(&site, "empty", None);
    is_kept(&site, 0).await;
    let said = typed(&site, "doctor", None);
    assert!(said.contains("there is none yet") && said.contains("the node does not run"), "{said}");
    start(&site, &mut processes, 1);
    is_kept(&site, 1).await;
    eventually("its new store votes in the place of the lost one", async || {
        let members = site.client(0).quorum().await;
        let is_back = |it: &holm::client::QuorumMember| it.node == "b-1" && it.voter;
        members.is_ok_and(|it| it.members.iter().filter(|it| is_back(it)).count() == 1)
    })
    .await;
    assert!(typed(&site, "back", None).contains("b-1"));

    processes[1].take().unwrap().stop();
    let line = ["backup", "--out", "b-1.bak", "--data", "b-1"];
    crate::process::holm(site.dir.path(), &line);
    std::fs::remove_dir_all(site.data(1)).unwrap();
    typed(&site, "own-backup", None);
    start(&site, &mut processes, 1);
    is_kept(&site, 1).await;
    three_vote(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_was_lost_goes_on_from_one_store_and_from_a_backup() {
    let site = Site::with("", SCOPES);
    let mut processes = founded(&site).await;

    // Two of three are lost; the third is stopped.
    drop(processes[1].take());
    drop(processes[2].take());
    processes[0].take().unwrap().stop();
    (1..3).for_each(|which| std::fs::remove_dir_all(site.data(which)).unwrap());
    typed(&site, "recover", None);
    (0..3).for_each(|which| start(&site, &mut processes, which));
    let_vote(&site).await;
    is_kept(&site, 2).await;

    // All are lost but the backup.
    processes.iter_mut().for_each(|process| drop(process.take()));
    (0..3).for_each(|which| std::fs::remove_dir_all(site.data(which)).unwrap());
    typed(&site, "new-cluster", None);
    start(&site, &mut processes, 0);
    is_kept(&site, 0).await;
    (1..3).for_each(|which| start(&site, &mut processes, which));
    let_vote(&site).await;
    is_kept(&site, 2).await;

    // The master key is lost: configurations stay, and the quorum begins again.
    processes.iter_mut().filter_map(Option::take).for_each(Process::stop);
    typed(&site, "new-key", None);
    std::fs::rename(site.dir.path().join("new-master.key"), site.dir.path().join("master.key"))
        .unwrap();
    let said = try_type(&site, "doctor", None).1;
    assert!(said.contains("FAIL") && said.contains("generation 1"), "{said}");
    (0..3).for_each(|which| drop(typed(&site, "no-quorum", Some(which))));
    (0..3).for_each(|which| start(&site, &mut processes, which));
    three_vote(&site).await;
    let (name, value) = (SecretName::new("new").unwrap(), Plaintext::new(b"new".to_vec()));
    eventually("a secret is written again", async || {
        site.client(0).put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;
    let there = site.client(0).versions(&document("web/prod"), &key("pool")).await.unwrap();
    assert_eq!(there.len(), 3);
}
