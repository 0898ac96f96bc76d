//! `holm dev` as a process: three regions, at ports that are free here, until the test ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::cluster::free_ports;
use crate::process::{HOLM, Process};

/// The regions, and what was printed of them.
pub(crate) struct Dev {
    /// Where each answers.
    pub(crate) urls: Vec<String>,
    /// What it printed until it was up.
    pub(crate) printed: Vec<String>,
    _process: Process,
    /// Held until the end: whoever prints to a pipe that nobody reads stops.
    _out: BufReader<ChildStdout>,
}

impl Dev {
    /// The default topology; its file is put in `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("regions/three-continents.toml");
        let mut topology = std::fs::read_to_string(path).unwrap();
        let mut urls = Vec::new();
        for i in 1..=3 {
            let (peer, http) = free_ports();
            topology = topology.replace(&format!(":910{i}"), &format!(":{peer}"));
            topology = topology.replace(&format!(":810{i}"), &format!(":{http}"));
            urls.push(format!("http://127.0.0.1:{http}"));
        }
        let file = dir.join("topology.toml");
        std::fs::write(&file, topology).unwrap();
        let mut process = Command::new(HOLM)
            .args(["dev", "--topology", file.to_str().unwrap()])
            // It is killed, and leaves its data behind.
            .env("TMPDIR", dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let process = Process(process);
        let mut printed: Vec<String> = Vec::new();
        for line in out.by_ref().lines() {
            printed.push(line.unwrap());
            if printed.last().unwrap().contains("chaos heal") {
                return Self { urls, printed, _process: process, _out: out };
            }
        }
        panic!("`holm dev` ended: {printed:?}");
    }

    /// The token that may do everything.
    pub(crate) fn token(&self) -> &str {
        self.printed.iter().find(|line| line.starts_with("eyJ")).unwrap()
    }
}
