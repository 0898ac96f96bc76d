//! Real processes: three `holm serve` on loopback, killed with `kill -9` while clients write.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use holm::client::{Client, ClientSettings, Write};
use holm::model::Vector;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{document, eventually, free_ports, json, key};

pub(crate) const HOLM: &str = env!("CARGO_BIN_EXE_holm");
pub(crate) const REGIONS: [&str; 3] = ["a", "b", "c"];

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Stops it in order (SIGTERM), and waits for it.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `holm` to its end and gives what it printed.
pub(crate) fn holm(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(HOLM).args(arguments).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "holm {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All that a command printed.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) http: Vec<u16>,
    pub(crate) token: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with("", "config:* cluster:read")
    }

    /// With more settings, and a token of these scopes.
    pub(crate) fn with(more: &str, scopes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        holm(path, &["pki", "init"]);
        holm(path, &["token", "keygen"]);
        holm(path, &["keys", "generate"]);
        let mut topology = "cluster = \"test\"\nrtt_ms_default = 1\n".to_owned();
        let mut http_ports = Vec::new();
        for region in REGIONS {
            holm(path, &["pki", "issue", "--node", &format!("{region}-1")]);
            let (peer, http) = free_ports();
            http_ports.push(http);
            topology += &format!(
                "[[regions]]\nname = \"{region}\"\nplace = \"here\"\nnodes = [{{ name = \
                 \"{region}-1\", peer = \"127.0.0.1:{peer}\", http = \"127.0.0.1:{http}\" }}]\n"
            );
        }
        std::fs::write(path.join("topology.toml"), topology).unwrap();
        let settings = "[[access.keys]]\npem_file = \"keys/token.pem\"\n\
                        algorithms = [\"EdDSA\"]\naudience = \"holm\"\nscopes = \"grant\"\n\
                        [secrets]\nmaster_keys = [{ generation = 1, file = \"master.key\" }]\n";
        std::fs::write(path.join("holm.toml"), format!("{settings}{more}")).unwrap();
        let scopes: Vec<&str> = scopes.split(' ').flat_map(|scope| ["--scope", scope]).collect();
        let token = holm(path, &[&["token", "issue", "--subject", "tester"][..], &scopes].concat());
        Self { dir, http: http_ports, token }
    }

    pub(crate) fn serve(&self, which: usize) -> Process {
        self.serve_to(which, HOLM.as_ref(), Stdio::null())
    }

    /// As [`Site::serve`], with what it logs in a file of the site.
    pub(crate) fn serve_logged(&self, which: usize) -> Process {
        self.serve_program(which, HOLM.as_ref())
    }

    /// The same, with another build of the program.
    pub(crate) fn serve_program(&self, which: usize, program: &Path) -> Process {
        let log = self.dir.path().join(format!("{}.log", REGIONS[which]));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        self.serve_to(which, program, log.into())
    }

    /// Where a node's stores lie.
    pub(crate) fn data(&self, which: usize) -> PathBuf {
        self.dir.path().join(format!("{}-1", REGIONS[which]))
    }

    fn serve_to(&self, which: usize, program: &Path, log: Stdio) -> Process {
        let node = format!("{}-1", REGIONS[which]);
        let child = Command::new(program)
            .args(["serve", "--topology", "topology.toml", "--settings", "holm.toml"])
            .args(["--node", &node, "--data", &node])
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    /// Runs `holm` to its end, against the first node and with the site's token.
    pub(crate) fn run(&self, line: &[&str]) -> Output {
        Command::new(HOLM)
            .args(line)
            .args(["--url", &format!("http://127.0.0.1:{}", self.http[0])])
            .env("HOLM_TOKEN", &self.token)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    pub(crate) fn client(&self, which: usize) -> Client {
        let url = format!("http://127.0.0.1:{}", self.http[which]);
        let mut settings = ClientSettings::new(&url, Some(&self.token));
        settings.timeout = Duration::from_secs(5);
        Client::with(settings).unwrap()
    }

    pub(crate) async fn vector(&self, which: usize) -> Option<Vector> {
        let status = self.client(which).cluster().await.ok()?;
        let dots = status["vector"].as_object()?.iter().map(|(origin, n)| holm::model::Dot {
            origin: origin.parse().unwrap(),
            n: n.as_u64().unwrap(),
        });
        Some(dots.collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_acknowledged() {
    let site = Site::new();
    let mut random = StdRng::seed_from_u64(9);
    let mut processes: Vec<Option<Process>> =
        (0..REGIONS.len()).map(|which| Some(site.serve(which))).collect();
    for which in 0..REGIONS.len() {
        eventually("answers", async || site.vector(which).await.is_some()).await;
    }
    let web = document("web/prod");
    let mut acknowledged = 0;
    for round in 0..6 {
        let victim = random.random_range(0..REGIONS.len());
        let client = site.client(victim);
        let writes = async {
            let mut written = 0;
            for i in 0.. {
                let write = Write::new(key(&format!("r{round}.{i}")), json(&i.to_string()));
                match client.write(&web, &[write], None).await {
                    Ok(_) => written = i + 1,
                    Err(_) => break,
                }
            }
            written
        };
        let kill = async {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
            // SIGKILL: nothing of the process runs any more.
            drop(processes[victim].take());
        };
        let (written, ()) = tokio::join!(writes, kill);
        processes[victim] = Some(site.serve(victim));
        eventually("answers again", async || site.vector(victim).await.is_some()).await;
        let prefix = format!("r{round}.");
        let there = site.client(victim).list(&web, Some(&prefix)).await.unwrap().len();
        assert!(there >= written, "{written} were acknowledged, {there} are there");
        acknowledged += written;
    }
    assert!(acknowledged > 50, "only {acknowledged} writes were acknowledged in all");
    eventually("all three agree", async || {
        let vectors = [site.vector(0).await, site.vector(1).await, site.vector(2).await];
        vectors[0].is_some() && vectors[0] == vectors[1] && vectors[1] == vectors[2]
    })
    .await;
    let lists: Vec<_> = {
        let mut lists = Vec::new();
        for which in 0..REGIONS.len() {
            let items = site.client(which).list(&web, None).await.unwrap();
            lists.push(items.into_iter().map(|i| (i.key, i.value, i.version)).collect::<Vec<_>>());
        }
        lists
    };
    assert!(lists[0].len() >= acknowledged);
    assert!(lists[0] == lists[1] && lists[1] == lists[2]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_keeps_no_huge_pages() {
    let site = Site::new();
    let node = site.serve(0);
    eventually("the node answers", async || site.vector(0).await.is_some()).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.0.id())).unwrap();
    let may = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert_eq!(may.map(str::trim), Some("0"), "{status}");
    node.stop();
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let site = Site::new();
    let mut first = site.serve(0);
    let data: PathBuf = site.dir.path().join("a-1").join("config.redb");
    let deadline = std::time::Duration::from_secs(20);
    let mut waited = Duration::ZERO;
    while !data.exists() && waited < deadline {
        std::thread::sleep(Duration::from_millis(20));
        waited += Duration::from_millis(20);
    }
    assert!(first.0.try_wait().unwrap().is_none(), "the first one runs");
    let mut second = site.serve(0);
    let status = second.0.wait().unwrap();
    assert_eq!(status.code(), Some(1));
}
