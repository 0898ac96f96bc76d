//! `holm drill`: a scenario with real processes, judged as a simulated one is. Root on Linux alone,
//! which `.ci/run` is; elsewhere these say that they are skipped.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::PATIENCE;
use crate::process::{HOLM, Process};

const SCENARIO: &str = r#"
claim = "A region that is cut off goes on writing, a node that is killed comes back, and all agree."
duration = "8s"
settle = "12s"
topology = { rtt_ms_default = 20, regions = ["a", "b", "c"] }

[workload]
config_writes = 12
config_reads = 12
secret_writes = 2
secret_reads = 2
watchers = 1

[[faults]]
at = "1s"
lasts = "3s"
isolate = "c"

[[faults]]
at = "4500ms"
lasts = "1s"
crash = "b-1"

[expect]
converge_within = "8s"
coverage = ["divergence", "island_write", "restart"]
"#;

struct Written {
    dir: tempfile::TempDir,
    path: PathBuf,
}

fn written(text: &str) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    std::fs::write(&path, text).unwrap();
    Written { dir, path }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether this machine can't, which is said then.
fn is_skipped(output: &Output) -> bool {
    let said = stderr(output);
    let cannot = output.status.code() == Some(2) && said.contains("root");
    if cannot {
        eprintln!("skipped: {said}");
    }
    cannot
}

#[test]
fn a_drill_is_judged_by_the_checks_of_a_simulation() {
    let scenario = written(SCENARIO);
    let (page, history) = (scenario.dir.path().join("r.html"), scenario.dir.path().join("h.jsonl"));
    let mut command = Command::new(HOLM);
    command.arg("drill").arg(&scenario.path).args(["--output", "json", "--seed", "3"]);
    let output = command.arg("--html").arg(&page).arg("--history").arg(&history).output().unwrap();
    if is_skipped(&output) {
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", stderr(&output));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["verdict"], "pass", "{report:#}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("<html"));
    // What was written down is judged the same, and by the same form.
    let again = Command::new(HOLM).args(["simulate", "check"]).arg(&history).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));

    let simulated = Command::new(HOLM).arg("simulate").arg(&scenario.path).output().unwrap();
    assert_eq!(simulated.status.code(), Some(0), "{}", stderr(&simulated));
}

#[test]
fn what_a_drill_cannot_do_is_refused_before_anything_starts() {
    let scenario = written(&SCENARIO.replace("crash = \"b-1\"", "disk_error = \"b-1\""));
    let output = Command::new(HOLM).arg("drill").arg(&scenario.path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("the fault at 4.5s: the disk is this machine's"), "{said}");
    assert!(said.contains("holm simulate"), "{said}");
    let bad = written("claim = \"x\"\nnonsense = 1");
    let output = Command::new(HOLM).arg("drill").arg(&bad.path).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[tokio::test]
async fn a_drill_that_is_told_to_stop_leaves_nothing_behind() {
    let scenario = written(SCENARIO);
    let mut command = Command::new(HOLM);
    command.arg("drill").arg(&scenario.path).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut drill = Process(command.spawn().unwrap());
    // Its nodes are its children, and each of them names the drill's directory.
    let deadline = Instant::now() + PATIENCE;
    let nodes = loop {
        if drill.0.try_wait().unwrap().is_some() {
            let mut said = String::new();
            let mut pipe = drill.0.stderr.take().unwrap();
            std::io::Read::read_to_string(&mut pipe, &mut said).unwrap();
            assert!(said.contains("root"), "{said}");
            eprintln!("skipped: {said}");
            return;
        }
        let nodes = children(drill.0.id());
        if nodes.len() == 3 {
            break nodes;
        }
        assert!(Instant::now() < deadline, "three nodes run: {nodes:?}");
        sleep(Duration::from_millis(50)).await;
    };
    let id = rustix::process::Pid::from_child(&drill.0);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(drill.0.wait().unwrap().code(), Some(130));
    for node in nodes {
        let alive = std::fs::read_to_string(format!("/proc/{node}/cmdline")).unwrap_or_default();
        assert!(!alive.contains("holm-drill"), "{alive}");
    }
}

/// The processes that this one has started and that are `holm serve`.
fn children(of: u32) -> Vec<u32> {
    let mut left: Vec<u32> = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten() {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        left.extend(list.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    left.retain(|id| {
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == "serve")
    });
    left
}
