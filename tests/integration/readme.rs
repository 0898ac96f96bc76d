//! README.md's commands, as they stand there; only addresses and paths are this test's own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::free_ports;
use crate::dev::Dev;
use crate::process::{HOLM, Process};

/// The README's shell blocks, in order.
fn blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let parts = text.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a script, every line of which has to succeed; gives what it printed.
fn run(dir: &Path, script: &str, environment: &[(&str, &str)]) -> String {
    let script = format!("set -eu\nholm() {{ \"{HOLM}\" \"$@\"; }}\n{script}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(dir);
    for (name, value) in environment {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\nsaid: {out}\n{err}");
    format!("{out}{err}")
}

#[test]
fn the_commands_to_try_do_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (printed, urls) = (&dev.printed, &dev.urls);
    let find = |start: &str| {
        let found: Vec<&str> =
            printed.iter().map(|line| line.trim()).filter(|l| l.starts_with(start)).collect();
        found.join("\n")
    };
    // The curl lines as `dev` prints them; what follows for ever is ended after a second.
    let curl =
        find("curl").replace("curl -N", "timeout 1 curl -sSfN").replace("curl -X", "curl -sSfX");
    let curl = curl.replace("text/event-stream'", "text/event-stream' || test $? = 124");
    let curl = curl.replace("\ncurl http", "\nsleep 1; curl -sSf http");
    let said = run(dir.path(), &format!("{}\n{curl}", find("export")), &[]);
    assert!(said.contains("\"value\":\"blue\"") && said.contains("event: put"), "{said}");
    // The README's own lines.
    let mut script = String::new();
    let tried = blocks()[..2].concat();
    for line in tried.lines() {
        let line = line.split('#').next().unwrap().trim();
        let mut line = line.replace("http://127.0.0.1:8101", &urls[0]);
        line = line.replace("http://127.0.0.1:8102", &urls[1]);
        line = line.replace("http://127.0.0.1:8103", &urls[2]);
        if line.starts_with("export HOLM_TOKEN") || line.starts_with("alias") {
            continue;
        }
        if line.starts_with("holm watch") {
            line = format!("timeout 2 \"{HOLM}\" {} || test $? = 124", &line["holm ".len()..]);
        }
        // What crosses an ocean takes its time.
        script += &format!("{line}\nsleep 0.5\n");
    }
    let said = run(dir.path(), &script, &[("HOLM_TOKEN", dev.token())]);
    assert!(said.contains("8080"), "{said}");
    assert!(said.contains("at the same time"), "the conflict shows: {said}");
}

#[test]
fn the_commands_to_run_a_node_do_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let block = blocks()[2].replace("\\\n", " ");
    let (setup, serve) = block.split_once("holm serve").unwrap();
    let token = run(dir.path(), setup, &[]);
    assert!(token.lines().any(|line| line.starts_with("eyJ")), "{token}");
    // The topology's addresses, with free ports; a settings file with the key that was made.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("regions/three-continents.toml");
    let (peer, http) = free_ports();
    let topology = std::fs::read_to_string(path).unwrap();
    let topology = topology.replace(":9101", &format!(":{peer}"));
    let topology = topology.replace(":8101", &format!(":{http}"));
    std::fs::create_dir(dir.path().join("regions")).unwrap();
    std::fs::write(dir.path().join("regions/three-continents.toml"), topology).unwrap();
    let settings = "[[access.keys]]\npem_file = \"keys/token.pem\"\nalgorithms = [\"EdDSA\"]\n\
                    audience = \"holm\"\nscopes = \"grant\"\n\
                    [secrets]\nmaster_keys = [{ generation = 1, file = \"master.key\" }]\n";
    if !dir.path().join("master.key").exists() {
        crate::process::holm(dir.path(), &["keys", "generate"]);
    }
    std::fs::write(dir.path().join("holm.toml"), settings).unwrap();
    let serve = serve.replace("/var/lib/holm", "data");
    let arguments: Vec<&str> = serve.split_whitespace().collect();
    let mut child = Command::new(HOLM)
        .arg("serve")
        .args(arguments)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _child = Process(child);
    assert!(line.contains(&format!("http://127.0.0.1:{http}")), "{line}");
    let health = run(dir.path(), &format!("curl -sSf http://127.0.0.1:{http}/healthz"), &[]);
    assert!(health.contains("ok"));
}
