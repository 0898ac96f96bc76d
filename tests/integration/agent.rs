//! `holm agent` as a process, beside real nodes: what programs read from it, what it renders, and that
//! all of it goes on and starts again when no region is there.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use holm::client::{Client, Write};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::{document, eventually, free_ports, http, json, key};
use crate::process::{HOLM, Process, Site, said};

/// Where an agent's files are, beside a site's.
pub(crate) struct Beside<'a> {
    site: &'a Site,
    /// What templates become: not a part of what is searched for secrets.
    pub(crate) out: tempfile::TempDir,
}

impl<'a> Beside<'a> {
    /// An agent that keeps `web/prod` and answers at a socket; `more` are further settings.
    pub(crate) fn new(site: &'a Site, more: &str) -> Self {
        let out = tempfile::tempdir().unwrap();
        let socket = out.path().join("agent.sock");
        let more = more.replace("OUT", out.path().to_str().unwrap());
        let settings = format!(
            "data_dir = \"agent\"\ndocuments = [\"web/prod\"]\n[listen]\nsocket = {socket:?}\n\
             socket_mode = \"0660\"\n[times]\nstart_within = \"20s\"\nfresh_within = \"1s\"\n\
             debounce = \"50ms\"\n{more}"
        );
        let beside = Self { site, out };
        std::fs::write(beside.path("agent.toml"), settings).unwrap();
        beside
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    fn command(&self, url: &str) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.path("agent.log"));
        let mut command = Command::new(HOLM);
        command
            .args(["agent", "--config", "agent.toml", "--url", url])
            .env("HOLM_TOKEN", &self.site.token)
            .current_dir(self.site.dir.path())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        command
    }

    pub(crate) fn start_at(&self, url: &str) -> Process {
        Process(self.command(url).spawn().unwrap())
    }

    pub(crate) fn start(&self) -> Process {
        self.start_at(&format!("http://127.0.0.1:{}", self.site.http[0]))
    }

    /// Asks at the socket: status, head and body; 0 where nobody answers.
    pub(crate) fn ask(&self, path: &str) -> (u16, String, String) {
        self.ask_with(path, "").unwrap_or_default()
    }

    fn ask_with(&self, path: &str, headers: &str) -> std::io::Result<(u16, String, String)> {
        let mut stream = UnixStream::connect(self.out.path().join("agent.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        Ok((status, head.to_owned(), body.to_owned()))
    }

    pub(crate) async fn is_ready(&self) {
        eventually("the agent is ready", async || self.ask("/readyz").0 == 200).await;
    }

    fn value(&self, name: &str) -> Option<Value> {
        let (status, _, body) = self.ask(&format!("/config/web/prod/{name}"));
        let body: Value = serde_json::from_str(&body).ok()?;
        (status == 200).then(|| body["value"].clone())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.out.path().join(name)).unwrap_or_default()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap()
    }
}

pub(crate) async fn put(client: &Client, name: &str, value: &str) {
    let write = [Write::new(key(name), json(value))];
    eventually("a write", async || client.write(&document("web/prod"), &write, None).await.is_ok())
        .await;
}

const TEMPLATE: &str = "
[[templates]]
source = \"app.j2\"
target = \"OUT/app.conf\"
mode = \"0640\"
reload = [\"sh\", \"-c\", \"echo $HOLM_TOKEN reloaded >> OUT/reloads\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_serves_renders_and_starts_again_without_any_region() {
    let site = Site::new();
    let node = site.serve(0);
    let client = site.client(0);
    put(&client, "server.port", "8080").await;
    put(&client, "color", "\"red\"").await;
    let beside = Beside::new(&site, TEMPLATE);
    std::fs::write(beside.path("app.j2"), "port {{ config['server.port'] }}\n").unwrap();
    let agent = beside.start();
    beside.is_ready().await;

    // It answers as a node does.
    let (status, head, body) = beside.ask("/config/web/prod/server.port");
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    let item = client.get(&document("web/prod"), &key("server.port")).await.unwrap();
    assert_eq!(told, serde_json::to_value(&item).unwrap());
    assert!(head.contains("holm-session: ") && head.contains("holm-source: region"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again =
        beside.ask_with("/config/web/prod/server.port", &format!("if-none-match: {tag}\r\n"));
    assert_eq!(again.unwrap().0, 304);
    let (_, _, page) = beside.ask("/config/web/prod?size=1");
    let page: Value = serde_json::from_str(&page).unwrap();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(page["items"][0]["key"], "color");
    let (_, _, page) = beside.ask(&format!("/config/web/prod?size=1&cursor={cursor}"));
    let page: Value = serde_json::from_str(&page).unwrap();
    assert!(page["items"][0]["key"] == "server.port" && page["next_cursor"].is_null(), "{page}");
    for (path, status) in [
        ("/config/web/prod/nope", 404),
        ("/config/web/dev", 404),
        ("/config/web/prod?size=0", 400),
        ("/secrets/db-password", 404),
        ("/nope", 404),
        ("/healthz", 200),
    ] {
        assert_eq!(beside.ask(path).0, status, "{path}");
    }
    let mode = std::fs::metadata(beside.out.path().join("agent.sock")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o660);

    // The file is there, and its command ran, without what is the agent's own.
    assert_eq!(beside.read("app.conf"), "port 8080\n");
    eventually("the command ran", async || beside.read("reloads") == "reloaded\n").await;
    put(&client, "server.port", "9090").await;
    eventually("the change is rendered", async || beside.read("app.conf") == "port 9090\n").await;
    eventually("and told", async || beside.read("reloads").lines().count() == 2).await;
    assert_eq!(beside.value("server.port").unwrap(), 9090);
    let metrics = beside.ask("/metrics").2;
    assert!(metrics.contains("holm_agent_copy_keys{document=\"web/prod\"} 2"), "{metrics}");

    // No region any more: it goes on, and starts again, and says how old all that is.
    drop(node);
    eventually("the loss is known", async || {
        beside.ask("/readyz").2.contains("\"connected\":false")
    })
    .await;
    assert_eq!(beside.value("server.port").unwrap(), 9090);
    agent.stop();
    assert!(!beside.out.path().join("agent.sock").exists(), "the socket goes with it");
    std::fs::remove_file(beside.out.path().join("app.conf")).unwrap();
    let agent = beside.start();
    beside.is_ready().await;
    assert_eq!(beside.value("color").unwrap(), "red");
    let (_, head, _) = beside.ask("/config/web/prod/color");
    assert!(head.contains("holm-source: file"), "{head}");
    assert_eq!(beside.read("app.conf"), "port 9090\n");
    // Killed in the middle, it leaves a socket that the next one replaces.
    drop(agent);
    assert!(beside.out.path().join("agent.sock").exists());

    // Back again, it is told what changed meanwhile, removals too.
    let _node = site.serve(0);
    let client = site.client(0);
    put(&client, "server.port", "7070").await;
    client.remove(&document("web/prod"), &key("color")).await.unwrap();
    let agent = beside.start();
    eventually("the change", async || beside.value("server.port") == Some(7070.into())).await;
    eventually("the removal", async || beside.value("color").is_none()).await;
    eventually("the file", async || beside.read("app.conf") == "port 7070\n").await;
    agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_a_balancer_or_a_node_moves_misses_nothing() {
    let site = Site::new();
    let mut nodes: Vec<_> = (0..3).map(|which| Some(site.serve(which))).collect();
    let (a, b) = (site.client(0), site.client(1));
    put(&a, "n", "1").await;
    put(&b, "warm", "1").await;
    eventually("b has what a took", async || b.get(&document("web/prod"), &key("n")).await.is_ok())
        .await;
    let http = http();
    for port in &site.http {
        eventually("all are ready", async || {
            let url = format!("http://127.0.0.1:{port}/readyz");
            http.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }
    // That the others are ready comes with their next heartbeats; other tests keep the machine busy.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let beside = Beside::new(&site, "");
    let agent = beside.start();
    beside.is_ready().await;
    // The agent's own node goes in order, and sends its watches on.
    nodes[0].take().unwrap().stop();
    put(&b, "n", "2").await;
    eventually("the change elsewhere", async || beside.value("n") == Some(2.into())).await;
    agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_or_silent_is_told_by_name_and_the_last_good_state_is_served() {
    let site = Site::new();
    let node = site.serve(0);
    put(&site.client(0), "n", "1").await;
    let beside = Beside::new(&site, TEMPLATE);
    std::fs::write(beside.path("app.j2"), "{{ config.n }}").unwrap();
    let agent = beside.start();
    beside.is_ready().await;
    // A second version of the file, so that there is one before.
    let has_file = |end: &str| {
        let files = std::fs::read_dir(beside.path("agent")).unwrap();
        files.into_iter().any(|it| it.unwrap().path().to_string_lossy().ends_with(end))
    };
    eventually("it is on disk", async || has_file(".txt")).await;
    put(&site.client(0), "n", "2").await;
    eventually("the change", async || beside.value("n") == Some(2.into())).await;
    eventually("the one before is kept", async || has_file(".txt.before")).await;
    agent.stop();
    drop(node);

    let files = std::fs::read_dir(beside.path("agent")).unwrap().map(|it| it.unwrap().path());
    let copies: Vec<PathBuf> = files.filter(|it| it.to_string_lossy().contains("copy-")).collect();
    let newest = copies.iter().find(|it| it.to_string_lossy().ends_with(".txt")).unwrap();
    let bytes = std::fs::read(newest).unwrap();
    std::fs::write(newest, &bytes[..bytes.len() / 2]).unwrap();
    // A region that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let agent = beside.start_at(&url);
    beside.is_ready().await;
    let name = newest.file_name().unwrap().to_str().unwrap();
    let told = beside.ask("/readyz").2;
    assert!(told.contains(name) && told.contains("cut short"), "{told}");
    let before = beside.value("n").unwrap();
    assert!(before == 1 || before == 2, "what the file before had: {before}");
    // A template that is broken now, and a command that does not start.
    std::fs::write(beside.path("app.j2"), "\n{{ config.nope }}").unwrap();
    kill_process(Pid::from_child(&agent.0), Signal::HUP).unwrap();
    eventually("it is told", async || beside.ask("/readyz").2.contains("app.j2:2: ")).await;
    assert!(!beside.log().contains("settings file"), "{}", beside.log());
    // Settings are read at the start alone, and a change of them is told.
    let settings = std::fs::read_to_string(beside.path("agent.toml")).unwrap();
    std::fs::write(beside.path("agent.toml"), format!("{settings}\n# changed\n")).unwrap();
    kill_process(Pid::from_child(&agent.0), Signal::HUP).unwrap();
    let told = "the settings file has changed: it counts from the next start";
    eventually("also of settings", async || beside.log().contains(told)).await;
    assert_eq!(beside.ask("/readyz").0, 200, "the last good file is there");
    drop(agent);

    // With neither a file nor a region it says so, and ends.
    std::fs::remove_dir_all(beside.path("agent")).unwrap();
    let settings = std::fs::read_to_string(beside.path("agent.toml")).unwrap();
    std::fs::write(beside.path("agent.toml"), settings.replace("\"20s\"", "\"1s\"")).unwrap();
    std::fs::write(beside.path("app.j2"), "{{ config.n }}").unwrap();
    let output = beside.command(&url).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("nothing to start web/prod from"), "{}", said(&output));
}

#[test]
fn settings_that_cannot_be_meant_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("good.j2"), "{{ config.a }}").unwrap();
    std::fs::write(path("bad.j2"), "a\n{% for %}").unwrap();
    let check = |settings: &str| {
        std::fs::write(path("agent.toml"), settings).unwrap();
        let output = Command::new(HOLM)
            .args(["agent", "check", "--config", "agent.toml"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    };
    let least = "data_dir = \"data\"\ndocuments = [\"web/prod\"]\n";
    let template = |source: &str, target: &str| {
        format!("{least}[[templates]]\nsource = {source:?}\ntarget = {target:?}\n")
    };
    let (code, text) = check(&template("good.j2", "out"));
    assert!(code == Some(0) && text.contains("1 template(s)"), "{text}");
    for (settings, part) in [
        (format!("{least}colour = 1\n"), "line 3"),
        (template("bad.j2", "out"), "bad.j2:2: syntax error"),
        (template("no.j2", "out"), "no.j2: "),
        (template("good.j2", "no/such/out"), "no/such/out: cannot be written"),
        (format!("{least}[secrets]\nkey_file = \"no.key\"\n"), "no.key"),
        (format!("{least}[listen]\naddress = \"0.0.0.0:1\"\n"), "listen.address"),
    ] {
        let (code, text) = check(&settings);
        assert!(code == Some(2) && text.contains(part), "{settings}: {code:?} {text}");
    }
    assert!(!path("out").exists() && !path("data").exists(), "a check writes nothing");
    // The agent itself refuses the same.
    std::fs::write(path("agent.toml"), template("bad.j2", "out")).unwrap();
    let output = Command::new(HOLM)
        .args(["agent", "--config", "agent.toml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("bad.j2:2: "), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_agent_does_what_the_readme_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let settings = readme.split("# agent.toml\n").nth(1).unwrap().split("```").next().unwrap();
    let script = readme.split("```sh\nholm agent").nth(1).unwrap().split("```").next().unwrap();
    let site = Site::with("", "config:* secrets:* cluster:read");
    let _nodes: Vec<_> = (0..3).map(|which| site.serve(which)).collect();
    let client = site.client(0);
    put(&client, "server.port", "8080").await;
    let name = holm::model::SecretName::new("prod-db-password").unwrap();
    eventually("the secret is put", async || {
        let value = holm::secrets::Plaintext::new(b"s3cret".to_vec());
        client.put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;
    let beside = Beside::new(&site, "");
    crate::process::holm(site.dir.path(), &["keys", "generate", "--out", "agent.key"]);
    let template = settings.split("/app.conf.j2\"   # ").nth(1).unwrap().lines().next().unwrap();
    std::fs::write(beside.path("app.conf.j2"), template).unwrap();
    let (out, dir) = (beside.out.path().display(), site.dir.path().display());
    let ours = |text: &str| {
        text.replace("/run/holm", &out.to_string())
            .replace("/etc/app", &out.to_string())
            .replace("/etc/holm", &dir.to_string())
            .replace("/var/lib/holm-agent", "agent")
    };
    let settings = ours(settings).replace("\"systemctl\", \"reload\", \"app\"", "\"true\"");
    std::fs::write(beside.path("agent.toml"), settings).unwrap();
    let mut lines = script.lines().map(|line| line.split(" #").next().unwrap().trim());
    let check: Vec<&str> = lines.next().unwrap().split(' ').collect();
    crate::process::holm(site.dir.path(), &[&["agent"], &check[..]].concat());
    assert_eq!(lines.next(), Some("holm agent --config agent.toml"));
    let agent = beside.start();
    beside.is_ready().await;
    let curl = ours(lines.next().unwrap());
    let output = Command::new("sh").args(["-c", &curl]).output().unwrap();
    assert!(said(&output).contains("\"value\":8080"), "{}", said(&output));
    assert_eq!(beside.read("app.conf"), "port = 8080, password = s3cret");
    agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_loopback_programs_watch_and_web_pages_get_nothing() {
    let site = Site::new();
    let _node = site.serve(0);
    put(&site.client(0), "n", "1").await;
    let (port, _) = free_ports();
    let beside = Beside::new(&site, "");
    let settings = std::fs::read_to_string(beside.path("agent.toml")).unwrap();
    let listen = format!("[listen]\naddress = \"127.0.0.1:{port}\"\n");
    std::fs::write(beside.path("agent.toml"), settings.replace("[listen]\n", &listen)).unwrap();
    let agent = beside.start();
    beside.is_ready().await;
    let url = format!("http://127.0.0.1:{port}");
    // A second one in its directory is refused before it listens or writes, and the first goes on.
    let node = format!("http://127.0.0.1:{}", site.http[0]);
    let second = beside.command(&node).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains("agent: another agent works in this directory"));
    assert_eq!(beside.value("n"), Some(1.into()));
    // The client of a program in Rust takes an agent for a node.
    let client = Client::new(&url, None).unwrap();
    let items = client.list(&document("web/prod"), None).await.unwrap();
    assert_eq!(items.len(), 1);
    let mut watch = client.watch(&document("web/prod"), Default::default());
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(format!("{:?}", watch.next().await.unwrap()));
    }
    assert!(seen[0].starts_with("Put") && seen[1] == "Ready", "{seen:?}");
    put(&site.client(0), "n", "2").await;
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
    assert!(format!("{next:?}").contains("version: 2"), "{next:?}");
    site.client(0).remove(&document("web/prod"), &key("n")).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
    assert!(format!("{next:?}").contains("version: 3"), "{next:?}");

    let http = http();
    // Whoever is on the machine reaches this: secrets are for the socket, if the settings say no more.
    let secret = http.get(format!("{url}/secrets/db-password")).send().await.unwrap();
    assert_eq!(
        (secret.status(), beside.ask("/secrets/db-password").0),
        (403.try_into().unwrap(), 404)
    );
    let led = http.get(format!("{url}/config/web/prod")).header("host", "evil.example").send();
    assert_eq!(led.await.unwrap().status(), 421);
    let post = http.post(format!("{url}/config/web/prod")).send().await.unwrap();
    assert_eq!(post.status(), 405);
    drop(watch);
    agent.stop();
    assert!(beside.log().contains("stopping"), "{}", beside.log());
    assert!(Path::new(&beside.path("agent")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_too_old_is_not_ready_and_connections_beyond_the_limit_are_closed() {
    let site = Site::with("[http]\nheartbeat_every = \"200ms\"\n", "config:* cluster:read");
    let node = site.serve(0);
    put(&site.client(0), "n", "1").await;
    let limits = "stale_max = \"2s\"\n[limits]\nconnections_max = 3\n";
    let beside = Beside::new(&site, limits);
    let agent = beside.start();
    beside.is_ready().await;
    // A region's sign of life is as good as a change.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(beside.ask("/readyz").0, 200, "{}", beside.ask("/readyz").2);
    let socket = beside.out.path().join("agent.sock");
    let held: Vec<_> = (0..3).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    eventually("there is room for three", async || beside.ask("/healthz").0 == 0).await;
    drop(held);
    eventually("there is room again", async || beside.ask("/healthz").0 == 200).await;
    drop(node);
    eventually("it is too old", async || {
        let (status, _, told) = beside.ask("/readyz");
        status == 503 && told.contains("web/prod: older than times.stale_max")
    })
    .await;
    assert_eq!(beside.value("n"), Some(1.into()), "it is served all the same");
    agent.stop();
}

#[test]
fn an_agent_runs_as_the_small_program_where_one_of_its_version_is_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        "data_dir = \"data\"\ndocuments = [\"web/prod\"]\n[times]\nstart_within = \"1m\"\n";
    std::fs::write(dir.path().join("agent.toml"), settings).unwrap();
    // What the process is, once it has started itself again.
    let program_of = |holm: &Path| {
        let agent = Command::new(holm)
            .args(["agent", "--config", "agent.toml", "--url", "http://127.0.0.1:1"])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Process(agent);
        let about = PathBuf::from(format!("/proc/{}", agent.0.id()));
        for _ in 0..1_000 {
            let environment = std::fs::read(about.join("environ")).unwrap_or_default();
            if String::from_utf8_lossy(&environment).contains("MIMALLOC_PURGE_DELAY=0") {
                let program = std::fs::read_link(about.join("exe")).unwrap();
                return program.file_name().unwrap().to_str().unwrap().to_owned();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not start itself again");
    };
    assert_eq!(program_of(Path::new(HOLM)), "holm-agent");
    let alone = dir.path().join("holm");
    std::fs::hard_link(HOLM, &alone).or_else(|_| std::fs::copy(HOLM, &alone).map(drop)).unwrap();
    assert_eq!(program_of(&alone), "holm");
    let other = dir.path().join("holm-agent");
    std::fs::write(&other, "#!/bin/sh\necho holm-agent 9.9.9\n").unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(program_of(&alone), "holm", "one of another version is none");
    std::fs::copy(Path::new(HOLM).with_file_name("holm-agent"), &other).unwrap();
    for (mode, program) in [(0o777, "holm"), (0o755, "holm-agent")] {
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(program_of(&alone), program, "{mode:o}: one that anybody could change is none");
    }
}
