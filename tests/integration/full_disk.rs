//! A backup onto a disk that has no room for it: a small tmpfs, in a mount namespace of its own, so
//! that it goes with the process that looks at it.

use std::process::{Command, Output};

use holm::client::Write;

use crate::cluster::{document, eventually, json, key};
use crate::process::{HOLM, Process, Site, said};

/// What the disk holds, and what is written to the node: more than that.
const ROOM: &str = "64k";
const KEYS: usize = 40;
const VALUE_LEN: usize = 8 * 1024;

/// Runs `line` where `full` is a disk of that room; then says its exit code and what is in there.
fn in_little_room(site: &Site, line: &str) -> Output {
    let script = format!(
        "mkdir -p full && mount -t tmpfs -o size={ROOM} tmpfs full || exit 99; {HOLM} {line}; \
         echo \"exit code $?\"; echo \"left: $(ls -A full)\""
    );
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env("HOLM_TOKEN", &site.token)
        .env("HOLM_URL", format!("http://127.0.0.1:{}", site.http[0]))
        .current_dir(site.dir.path())
        .output()
        .unwrap()
}

/// Whether this machine lets us have such a disk.
fn can_mount(site: &Site) -> bool {
    let script = format!("mkdir -p full && mount -t tmpfs -o size={ROOM} tmpfs full");
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(site.dir.path())
        .output();
    match tried {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("skipped: no tmpfs can be mounted here (root can): {}", said(&output).trim());
            false
        }
        Err(error) => {
            println!("skipped: there is no `unshare`: {error}");
            false
        }
    }
}

fn nothing_is_left_and_the_reason_is_said(output: &Output) {
    let said = said(output);
    assert!(said.contains("full/one.bak: the disk is full; nothing was kept"), "{said}");
    assert!(said.contains("make room, or name another disk"), "{said}");
    assert!(said.contains("exit code 1\n") && said.contains("left: \n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_onto_a_full_disk_says_so_leaves_nothing_and_the_node_goes_on() {
    let site = Site::with("", "config:* cluster:read cluster:backup");
    if !can_mount(&site) {
        return;
    }
    let process: Process = site.serve_logged(0);
    eventually("answers", async || site.vector(0).await.is_some()).await;
    let (client, web) = (site.client(0), document("web/prod"));
    let value = json(&format!("\"{}\"", "x".repeat(VALUE_LEN)));
    for i in 0..KEYS {
        let write = Write::new(key(&format!("k{i}")), value.clone());
        client.write(&web, &[write], None).await.unwrap();
    }
    nothing_is_left_and_the_reason_is_said(&in_little_room(&site, "backup --out full/one.bak"));

    // The node goes on, and what it held for the backup is free again.
    client.write(&web, &[Write::new(key("after"), json("1"))], None).await.unwrap();
    eventually("another backup is taken", async || {
        site.run(&["backup", "--out", "whole.bak"]).status.success()
    })
    .await;
    let verified = site.run(&["backup", "verify", "whole.bak"]);
    assert!(verified.status.success(), "{}", said(&verified));

    // The same of a node that does not run.
    process.stop();
    let line = "backup --out full/one.bak --data a-1";
    nothing_is_left_and_the_reason_is_said(&in_little_room(&site, line));
    let whole = site.run(&["backup", "--out", "again.bak", "--data", "a-1"]);
    assert!(whole.status.success(), "{}", said(&whole));
}
