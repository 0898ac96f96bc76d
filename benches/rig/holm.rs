//! Holm as it is shipped: `holm serve` for one node, `holm dev` for several regions with the
//! distances between them. Only what a client could ask for is asked for, over HTTP.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::rig::http::{self, Connection};
use crate::rig::process::{Process, free_address, free_udp_address};

/// The program that cargo built with this benchmark, or where the variable HOLM names another one, so
/// that two of them can be measured in turn.
pub(crate) fn program() -> OsString {
    std::env::var_os("HOLM").unwrap_or_else(|| env!("CARGO_BIN_EXE_holm").into())
}

/// Running nodes and what is needed to talk to them.
pub(crate) struct Holm {
    process: Process,
    /// Where the nodes answer HTTP, in the order of their regions.
    pub(crate) nodes: Vec<SocketAddr>,
    /// A token that may read and write everything.
    pub(crate) token: String,
}

/// Less than a node of `holm dev` takes from one client (`rates.writes_per_second`).
pub(crate) const DEV_WRITES_PER_SECOND: f64 = 1_900.0;

/// The names of the regions, in their order.
pub(crate) const REGIONS: [&str; 3] = ["here", "there", "elsewhere"];

impl Holm {
    /// One node by itself, as `holm serve` runs it with default settings, but for what one client
    /// may have: all of a measurement is one. Its log goes to a file.
    pub(crate) fn serve(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let token = prepare(dir)?;
        topology(dir, 1, 0)?;
        let mut holm = Self::start(&mut served(dir), dir, 1)?;
        holm.token = token;
        Ok(holm)
    }

    /// Ends it in order, and waits for that.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Ends it by `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts what [`Holm::serve`] started once more, on the same data; does not wait for it.
    pub(crate) fn start_again(&mut self, dir: &Path) -> anyhow::Result<()> {
        let log = File::options().append(true).open(dir.join("log"))?;
        self.process = Process::start(served(dir).stderr(log))?;
        Ok(())
    }

    /// One process with so many regions, each with one node, all this far apart.
    pub(crate) fn dev(dir: &Path, regions: usize, one_way_ms: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut command = Command::new(program());
        command.arg("dev").arg("--topology").arg(topology(dir, regions, one_way_ms)?);
        command.arg("--data").arg(dir.join("data"));
        let mut holm = Self::start(&mut command, dir, regions)?;
        holm.token = std::fs::read_to_string(dir.join("data/token"))?.trim().to_owned();
        Ok(holm)
    }

    /// Starts the program and waits until it has said where its nodes answer.
    fn start(command: &mut Command, dir: &Path, nodes: usize) -> anyhow::Result<Self> {
        let log = dir.join("log");
        let mut process = Process::start(command.stderr(File::create(&log)?))?;
        let mut found = Vec::new();
        let all = process.await_line(|line| {
            let (_, rest) = line.split_once("http://")?;
            found.extend(rest.split(' ').next().and_then(|addr| addr.parse::<SocketAddr>().ok()));
            (found.len() == nodes).then_some(())
        });
        if all.is_none() {
            bail!("holm did not start: {}", std::fs::read_to_string(log)?);
        }
        Ok(Self { process, nodes: found, token: String::new() })
    }

    /// The process, for its costs.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// A request with the token; the answer has to be a good one.
    pub(crate) async fn ask(
        &self,
        node: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<Vec<u8>> {
        let request = http::request(method, path, &self.token, "", body);
        let (status, answer) = http::once(self.nodes[node], &request).await?;
        if status >= 300 {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    /// Cuts the first two regions from each other (`cut`), or joins all again (`heal`).
    pub(crate) async fn links(&self, action: &str) -> anyhow::Result<()> {
        let [from, to, _] = REGIONS;
        let body = match action {
            "heal" => r#"{"action":"heal"}"#.to_owned(),
            _ => format!(r#"{{"action":"{action}","from":"{from}","to":"{to}"}}"#),
        };
        self.ask(0, "POST", "/dev/links", &body).await.map(drop)
    }

    /// What a node's state includes, as it encodes it: equal texts are equal vectors.
    pub(crate) async fn session(&self, node: usize) -> anyhow::Result<String> {
        let request = http::request("GET", "/config?size=1", &self.token, "", "");
        let mut connection = Connection::open(self.nodes[node]).await?;
        connection.exchange(&request).await?;
        let head = String::from_utf8_lossy(connection.head()).into_owned();
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut sessions = lines.filter(|(name, _)| name.eq_ignore_ascii_case("holm-session"));
        Ok(sessions.next().context("an answer without a session")?.1.to_owned())
    }

    /// Everything in a document, as a node shows it.
    pub(crate) async fn listing(&self, node: usize, document: &str) -> anyhow::Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/config/{document}?size=1000{cursor}");
            let page: Value = serde_json::from_slice(&self.ask(node, "GET", &path, "").await?)?;
            items.extend(page["items"].as_array().context("a page without items")?.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }
}

/// What a node needs beside its topology; a token for it.
fn prepare(dir: &Path) -> anyhow::Result<String> {
    let (node, keys, pki) = (node_name(REGIONS[0]), dir.join("keys"), dir.join("pki"));
    run(&["token".as_ref(), "keygen".as_ref(), "--dir".as_ref(), keys.as_ref()])?;
    run(&["pki".as_ref(), "init".as_ref(), "--dir".as_ref(), pki.as_ref()])?;
    let issue: [&OsStr; 4] = ["pki", "issue", "--node", &node].map(OsStr::new);
    run(&[&issue[..], &["--dir".as_ref(), pki.as_ref()]].concat())?;
    let mut issue = vec!["token", "issue", "--subject", "bench", "--ttl", "600m"];
    for scope in ["config:*", "secrets:read", "secrets:write", "secrets:reveal"] {
        issue.extend(["--scope", scope]);
    }
    let key = keys.join("token.key");
    let issue: Vec<&OsStr> = issue.into_iter().map(OsStr::new).collect();
    let issue = [&issue[..], &["--key".as_ref(), key.as_ref()]].concat();
    let token = run(&issue)?.trim().to_owned();
    let settings = dir.join("settings.toml");
    let key = keys.join("token.pem");
    let master = dir.join("master.key");
    run(&["keys".as_ref(), "generate".as_ref(), "--out".as_ref(), master.as_ref()])?;
    let text = format!(
        "[[access.keys]]\npem_file = {key:?}\nalgorithms = [\"EdDSA\"]\naudience = \"holm\"\nscopes = \"grant\"\n\
         [secrets]\nmaster_keys = [{{ generation = 1, file = {master:?} }}]\n\
         [rates]\nreads_per_second = 0\nwrites_per_second = 0\n\
         [limits]\nconnections_max = 20000\nconnections_per_address_max = 20000\n\
         watchers_per_client_max = 20000\n"
    );
    std::fs::write(&settings, text)?;
    Ok(token)
}

/// `holm serve` with what was prepared there.
fn served(dir: &Path) -> Command {
    let mut command = Command::new(program());
    command.args(["serve", "--alone", "--node", &node_name(REGIONS[0])]);
    for (flag, place) in [
        ("--settings", "settings.toml"),
        ("--topology", "topology.toml"),
        ("--pki", "pki"),
        ("--data", "data"),
    ] {
        command.arg(flag).arg(dir.join(place));
    }
    command
}

fn node_name(region: &str) -> String {
    format!("{region}-1")
}

/// Writes a topology with addresses that are free.
fn topology(dir: &Path, regions: usize, one_way_ms: u32) -> anyhow::Result<PathBuf> {
    let mut text = format!("cluster = \"bench\"\nrtt_ms_default = {}\n", one_way_ms * 2);
    for region in &REGIONS[..regions] {
        let (node, peer, http) = (node_name(region), free_udp_address()?, free_address()?);
        write!(
            text,
            "[[regions]]\nname = \"{region}\"\n\
             nodes = [{{ name = \"{node}\", peer = \"{peer}\", http = \"{http}\" }}]\n"
        )?;
    }
    let file = dir.join("topology.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Runs the program to its end; what it printed.
fn run(arguments: &[&OsStr]) -> anyhow::Result<String> {
    let output = Command::new(program()).args(arguments).output()?;
    if !output.status.success() {
        bail!("holm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
