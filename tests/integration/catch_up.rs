//! What `holm serve` shows of a node that starts empty beside one that has much, on a terminal and
//! without one. `script` lends the terminal.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use holm::client::Write;

use crate::cluster::{document, eventually, http, json, key};
use crate::process::{HOLM, Process, Site};

const CHANGES: usize = 300;
/// How the log says it, in either form.
const IN_JSON: &str = "\"message\":\"ready\"";
const IN_TEXT: &str = "\u{1b}[0m ready ";

async fn is_ready(port: u16) -> bool {
    let asked = http().get(format!("http://127.0.0.1:{port}/readyz")).send().await;
    asked.is_ok_and(|answer| answer.status().is_success())
}

/// A node that has something, alone.
async fn filled(site: &Site) -> Process {
    let first = site.serve_logged(0);
    eventually("answers", async || site.vector(0).await.is_some()).await;
    let client = site.client(0);
    for i in 0..CHANGES {
        let write = Write::new(key(&format!("k{i}")), json(&i.to_string()));
        client.write(&document("web/prod"), &[write], None).await.unwrap();
    }
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_catches_up_says_so_in_its_log_where_nobody_watches() {
    let site = Site::with("", "config:* cluster:read");
    let _first = filled(&site).await;
    let _second = site.serve_logged(1);
    eventually("is ready", async || is_ready(site.http[1]).await).await;
    let log = site.dir.path().join("b.log");
    eventually("said so", async || std::fs::read_to_string(&log).unwrap().contains(IN_JSON)).await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("not ready yet: "), "{log}");
    assert!(log.contains(&format!("labels.changes\":\"{CHANGES}\"")), "{log}");
    assert!(!log.contains("##"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_catches_up_shows_a_bar_on_a_terminal() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to lend a terminal");
        return;
    }
    let site = Site::with("", "config:* cluster:read");
    let _first = filled(&site).await;
    let seen = site.dir.path().join("seen");
    let serve = format!(
        "echo $$ > pid; exec {HOLM} serve --topology topology.toml --settings holm.toml \
         --node b-1 --data b-1 --log-format text"
    );
    let shell = Command::new("script")
        .args(["-q", "-f", "-e", "-c", &serve, "seen"])
        .current_dir(site.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut shell = Process(shell);
    let pid = site.dir.path().join("pid");
    eventually("runs", async || {
        std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let inner = Inner::of(&pid);
    eventually("is ready", async || is_ready(site.http[1]).await).await;
    let shown = || String::from_utf8_lossy(&std::fs::read(&seen).unwrap()).into_owned();
    eventually("said so", async || shown().contains(IN_TEXT)).await;
    let full = format!("[{}] {CHANGES} of {CHANGES} changes", "#".repeat(30));
    let [bars, gone] = [&full, &format!("{full}\r\u{1b}[K")].map(|it| shown().matches(it).count());
    assert!(bars > 0 && bars == gone, "{bars} bars, and {gone} of them taken away: {}", shown());
    kill_process(inner.0, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(status) = shell.0.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(ended.await.unwrap().success(), "{}", shown());
}

/// The node within `script`, which would outlive it: it takes the terminal's end for a wish to read
/// its certificates again.
struct Inner(Pid);

impl Inner {
    fn of(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        Self(Pid::from_raw(text.trim().parse().unwrap()).unwrap())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process(self.0, Signal::KILL);
    }
}
