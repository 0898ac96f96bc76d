//! Backups with real processes: taken of a node that runs and of one that does not, refused where
//! they are not good, and made into one node and into a new cluster again.

use std::path::Path;

use holm::client::Write;
use holm::model::SecretName;
use holm::secrets::Plaintext;

use crate::cluster::{document, eventually, json, key};
use crate::process::{Process, Site, said};

const SCOPES: &str = "config:* secrets:* access:* access:read access:manage audit:read \
                      cluster:read cluster:manage cluster:backup";

#[track_caller]
fn done(site: &Site, line: &[&str]) -> String {
    let output = site.run(line);
    assert!(output.status.success(), "{line:?}: {}", said(&output));
    said(&output)
}

#[track_caller]
fn refused(site: &Site, line: &[&str], why: &str) {
    let output = site.run(line);
    assert!(!output.status.success(), "{line:?}: {}", said(&output));
    assert!(said(&output).contains(why), "{line:?}: {}", said(&output));
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn voters(site: &Site) -> usize {
    let members = site.client(0).quorum().await;
    members.map_or(0, |it| it.members.iter().filter(|member| member.voter).count())
}

/// Something of each kind.
async fn fill(site: &Site) {
    eventually("three vote", async || voters(site).await == 3).await;
    let name = SecretName::new("db").unwrap();
    let value = Plaintext::new(b"kept".to_vec());
    eventually("a secret is written", async || {
        site.client(0).put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;
    for value in ["1", "2"] {
        done(site, &["set", "web/prod", &format!("pool={value}")]);
    }
    done(site, &["role", "create", "team", "config:read:web/*"]);
    done(site, &["account", "create", "ada", "--role", "team"]);
}

/// And that it is all there.
async fn look(site: &Site) {
    let name = SecretName::new("db").unwrap();
    eventually("the secret is read", async || {
        let read = site.client(0).reveal_secret(&name, None).await;
        read.is_ok_and(|value| value.expose_text() == Some("kept"))
    })
    .await;
    let history = site.client(0).versions(&document("web/prod"), &key("pool")).await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(done(site, &["account", "show", "ada"]).contains("team"));
    assert!(done(site, &["role", "show", "team"]).contains("config:read:web/*"));
    done(site, &["audit", "verify"]);
}

/// What is not good, or not of this cluster, makes nothing.
fn nothing_is_made_of_what_is_not_good(site: &Site, good: &[u8]) {
    let dir = site.dir.path();
    let into_a = ["--topology", "topology.toml", "--node", "a-1", "--data", "made"];
    std::fs::write(dir.join("half.bak"), &good[..good.len() / 2]).unwrap();
    let mut flipped = good.to_vec();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(dir.join("flipped.bak"), flipped).unwrap();
    std::fs::write(dir.join("other.bak"), "something else").unwrap();
    for (file, why) in [
        ("half.bak", "half.bak: it is cut off at byte"),
        ("flipped.bak", "flipped.bak: it is damaged in chunk"),
        ("other.bak", "other.bak: it is no backup"),
    ] {
        refused(site, &["backup", "verify", file], why);
        refused(site, &[&["restore", file][..], &into_a].concat(), why);
    }
    let topology = std::fs::read_to_string(dir.join("topology.toml")).unwrap();
    let topology = topology.replace("cluster = \"test\"", "cluster = \"another\"");
    std::fs::write(dir.join("another.toml"), topology).unwrap();
    let into = ["--topology", "another.toml", "--node", "a-1", "--data", "made"];
    let line = [&["restore", "one.bak", "--new-cluster"][..], &into].concat();
    refused(site, &line, "of the cluster test, not of another");
    let into = ["--topology", "topology.toml", "--node", "b-1", "--data", "made"];
    refused(site, &[&["restore", "one.bak"][..], &into].concat(), "of the node a-1, not of b-1");
    assert_eq!(names(&dir.join("made")), [] as [&str; 0]);
    let into = ["--topology", "topology.toml", "--node", "a-1", "--data", "a-1"];
    refused(site, &[&["restore", "one.bak"][..], &into].concat(), "is not empty");
}

async fn one_node_goes_on_after_its_disk_was_lost(site: &Site, process: &mut Option<Process>) {
    // Of a node that does not run; its disk is lost, and made again from an older backup.
    process.take().unwrap().stop();
    done(site, &["backup", "--out", "b.bak", "--data", "b-1"]);
    done(site, &["backup", "verify", "b.bak"]);
    let write = Write::new(key("later"), json("true"));
    site.client(0).write(&document("web/prod"), &[write], None).await.unwrap();
    std::fs::remove_dir_all(site.data(1)).unwrap();
    let into = ["--topology", "topology.toml", "--node", "b-1", "--data", "b-1"];
    // As if a restore had been killed while it moved its stores.
    std::fs::create_dir_all(site.data(1).join("restoring")).unwrap();
    std::fs::write(site.data(1).join("quorum.redb"), "moved").unwrap();
    std::fs::write(site.data(1).join("restoring/config.redb"), "not yet").unwrap();
    refused(site, &[&["serve"][..], &into].concat(), "broken off before its end");
    refused(site, &[&["restore", "b.bak"][..], &into].concat(), "was broken off here");
    assert_eq!(names(&site.data(1)), ["quorum.redb", "restoring"]);
    std::fs::remove_dir_all(site.data(1)).unwrap();
    done(site, &[&["restore", "b.bak"][..], &into].concat());
    assert_eq!(names(&site.data(1)), ["config.redb", "origin.mark", "quorum.redb"]);
    *process = Some(site.serve_logged(1));
    eventually("it has what it missed", async || {
        site.client(1).get(&document("web/prod"), &key("later")).await.is_ok()
    })
    .await;
    let write = Write::new(key("again"), json("true"));
    site.client(1).write(&document("web/prod"), &[write], None).await.unwrap();
    eventually("the others have what it writes", async || {
        site.client(0).get(&document("web/prod"), &key("again")).await.is_ok()
    })
    .await;
    assert!(names(&site.data(1)).contains(&"quorum.redb.rolled-back-1".to_owned()));
    eventually("it votes again", async || {
        let output = site.run(&["quorum", "add", "b-1"]);
        output.status.success() || said(&output).contains("votes already")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_makes_one_node_again_and_a_whole_cluster() {
    let site = Site::with("", SCOPES);
    let dir = site.dir.path();
    let mut processes: Vec<Option<Process>> =
        (0..3).map(|which| Some(site.serve_logged(which))).collect();
    fill(&site).await;

    // Of a node that runs.
    assert!(done(&site, &["backup", "--out", "one.bak"]).contains("of a-1 in the cluster test"));
    refused(&site, &["backup", "--out", "one.bak"], "is there already");
    let shown = done(&site, &["backup", "verify", "one.bak"]);
    assert!(shown.contains("everything in it is good"), "{shown}");
    assert!(shown.contains("master key's generation 1"), "{shown}");
    let exported = done(&site, &["audit", "export", "--action", "cluster.backup"]);
    assert!(exported.contains("cluster:backup"), "{exported}");
    let good = std::fs::read(dir.join("one.bak")).unwrap();
    let kept = |needle: &[u8]| good.windows(needle.len()).any(|window| window == needle);
    assert!(kept(b"web/prod") && !kept(b"kept"), "a secret's value is not in a backup");

    nothing_is_made_of_what_is_not_good(&site, &good);
    one_node_goes_on_after_its_disk_was_lost(&site, &mut processes[1]).await;

    // All is lost but the backup of another node.
    processes.iter_mut().for_each(|process| drop(process.take()));
    (0..3).for_each(|which| std::fs::remove_dir_all(site.data(which)).unwrap());
    let into = ["--topology", "topology.toml", "--node", "a-1", "--data", "a-1"];
    let line = [&["restore", "b.bak", "--new-cluster"][..], &into].concat();
    assert!(done(&site, &line).contains("start a-1 first"));
    processes[0] = Some(site.serve_logged(0));
    look(&site).await;
    (1..3).for_each(|which| processes[which] = Some(site.serve_logged(which)));
    for node in ["b-1", "c-1"] {
        eventually("it votes", async || {
            let output = site.run(&["quorum", "add", node]);
            output.status.success() || said(&output).contains("votes already")
        })
        .await;
    }
    assert_eq!(voters(&site).await, 3);
    look(&site).await;
    let exported = done(&site, &["audit", "export", "--action", "cluster.restore"]);
    assert!(
        exported.contains("a new cluster, from the backup that was taken of b-1"),
        "{exported}"
    );
    eventually("what was kept is everywhere", async || {
        site.client(2).get(&document("web/prod"), &key("pool")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_stores_are_set_aside_and_filled_from_the_peers_before_the_node_is_ready() {
    let site = Site::with("", SCOPES);
    let mut processes: Vec<Option<Process>> =
        (0..3).map(|which| Some(site.serve_logged(which))).collect();
    fill(&site).await;
    let before = site.client(1).cluster().await.unwrap()["origin"].clone();
    processes[1].take().unwrap().stop();
    for name in ["config.redb", "quorum.redb"] {
        let path = site.data(1).join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(64).step_by(7).for_each(|byte| *byte ^= 0x55);
        std::fs::write(path, bytes).unwrap();
    }
    processes[1] = Some(site.serve_logged(1));
    eventually("it is ready", async || {
        let status = site.client(1).cluster().await;
        status.is_ok_and(|status| status["ready"] == true)
    })
    .await;
    let there = site.client(1).versions(&document("web/prod"), &key("pool")).await.unwrap();
    assert_eq!(there.len(), 2, "ready is who has everything");
    assert_ne!(site.client(1).cluster().await.unwrap()["origin"], before);
    let names = names(&site.data(1));
    for name in ["config.redb.failed-1", "quorum.redb.failed-1"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    let log = std::fs::read_to_string(site.dir.path().join("b.log")).unwrap();
    assert!(log.contains("config.redb.failed-1"), "{log}");
}
