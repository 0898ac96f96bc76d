//! TLS on real processes: HTTPS as curl sees it, files that are replaced while a node runs, client
//! certificates, and another authority for a cluster under load.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use holm::client::{Client, ClientSettings, Write};
use holm::env::{Entropy, ManualClock, SystemClock, WallClock as _};
use holm::model::{NodeName, SecretName, Stamp};
use holm::secrets::Plaintext;
use holm::transport::{Authority, NODE_VALID};

use crate::cluster::{document, eventually, free_ports, json, key};
use crate::process::{HOLM, Process, holm};

const SCOPES: &str = "config:* cluster:read secrets:read secrets:write";

/// Some regions with one node each, `a-1`, …: an administrator's directory with the authority, and
/// one directory a node with what it was given.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) nodes: Vec<(String, u16)>,
    pub(crate) token: String,
}

impl Site {
    /// With HTTPS by each node's own certificate, and more settings below `[tls]`.
    pub(crate) fn new(regions: &[&str], tls: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        holm(path, &["pki", "init"]);
        holm(path, &["token", "keygen"]);
        holm(path, &["keys", "generate"]);
        let mut topology = "cluster = \"test\"\nrtt_ms_default = 1\n".to_owned();
        let mut nodes = Vec::new();
        for region in regions {
            let (node, (peer, http)) = (format!("{region}-1"), free_ports());
            let names = ["--name", "localhost", "--name", "127.0.0.1", "--name", "holm.test"];
            holm(path, &[&["pki", "issue", "--node", &node][..], &names].concat());
            topology += &format!(
                "[[regions]]\nname = \"{region}\"\nplace = \"here\"\nnodes = [{{ name = \
                 \"{node}\", peer = \"127.0.0.1:{peer}\", http = \"127.0.0.1:{http}\" }}]\n"
            );
            nodes.push((node, http));
        }
        std::fs::write(path.join("topology.toml"), topology).unwrap();
        for (node, _) in &nodes {
            std::fs::create_dir(path.join(node)).unwrap();
            let settings = format!(
                "alone = true\n[[access.keys]]\npem_file = \"keys/token.pem\"\nalgorithms = \
                 [\"EdDSA\"]\naudience = \"holm\"\nscopes = \"grant\"\n\
                 [secrets]\nmaster_keys = [{{ generation = 1, file = \"master.key\" }}]\n\
                 [tls]\nreload_every = \"200ms\"\ncertificate_file = \"{node}/{node}.pem\"\n\
                 key_file = \"{node}/{node}.key\"\n{tls}"
            );
            std::fs::write(path.join(format!("{node}.toml")), settings).unwrap();
        }
        let scopes: Vec<&str> = SCOPES.split(' ').flat_map(|scope| ["--scope", scope]).collect();
        let token = holm(path, &[&["token", "issue", "--subject", "tester"][..], &scopes].concat());
        let site = Self { dir, nodes, token };
        for (node, _) in &site.nodes {
            site.give(node, &["ca.pem", &format!("{node}.pem"), &format!("{node}.key")]);
        }
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Copies files of the administrator's to a node, each as a whole.
    fn give(&self, node: &str, files: &[&str]) {
        for file in files {
            let (from, to) = (self.path("pki").join(file), self.path(node).join(file));
            let new = self.path(node).join("new");
            std::fs::copy(from, &new).unwrap();
            std::fs::rename(new, to).unwrap();
        }
    }

    fn command(&self, node: &str) -> Command {
        let mut command = Command::new(HOLM);
        command
            .args(["serve", "--topology", "topology.toml", "--node", node, "--pki", node])
            .args(["--settings", &format!("{node}.toml"), "--data", &format!("{node}/data")])
            .current_dir(self.dir.path());
        command
    }

    /// Starts a node and waits until it listens.
    pub(crate) fn serve(&self, node: &str) -> Process {
        let log = self.path(&format!("{node}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut child = self.command(node).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = self.log(node);
        assert!(line.contains("listens on https://"), "{line}: {log}");
        Process(child)
    }

    fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{node}.log"))).unwrap_or_default()
    }

    pub(crate) fn url(&self, node: &str) -> String {
        let (_, port) = self.nodes.iter().find(|(name, _)| name == node).unwrap();
        format!("https://127.0.0.1:{port}")
    }

    /// A client that trusts what `ca.pem` of the administrator's has now.
    fn client(&self, node: &str) -> Client {
        let mut settings = ClientSettings::new(&self.url(node), Some(&self.token));
        settings.ca_pem = Some(std::fs::read(self.path("pki/ca.pem")).unwrap());
        settings.timeout = Duration::from_secs(20);
        Client::with(settings).unwrap()
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20"]).args(arguments).current_dir(self.dir.path());
        command.output().unwrap()
    }

    /// `holm` with a client's options for a node.
    fn try_holm(&self, node: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let done = Command::new(HOLM)
            .args(arguments)
            .args(["--url", &self.url(node), "--ca", "pki/ca.pem", "--token", &self.token])
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(text).unwrap())
    }

    #[track_caller]
    fn holm(&self, node: &str, arguments: &[&str]) -> String {
        let (code, text) = self.try_holm(node, arguments);
        assert_eq!(code, Some(0), "holm {arguments:?}: {text}");
        text
    }

    /// Until when the certificate is valid that clients see, as curl says it.
    fn seen(&self, node: &str) -> String {
        let url = format!("{}/healthz", self.url(node));
        let output = self.curl(&["-v", "--cacert", "pki/ca.pem", &url]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().find(|line| line.contains("start date")).unwrap_or_default();
        format!("{line} {}", output.status.success())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file that only its owner may read.
fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn https_speaks_http_2_and_1_and_who_speaks_plain_http_is_told_so() {
    let site = Site::new(&["a"], "min_version = \"1.3\"");
    let _node = site.serve("a-1");
    let url = format!("{}/healthz", site.url("a-1"));
    let curl = |more: &[&str]| site.curl(&[&["--cacert", "pki/ca.pem", &url], more].concat());
    let version = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    assert_eq!(text(&curl(&version).stdout), "2 200");
    assert_eq!(text(&curl(&[&["--http1.1"][..], &version].concat()).stdout), "1.1 200");
    // 35: no TLS that both speak; 60: whom curl does not trust.
    assert_eq!(curl(&["--tls-max", "1.2"]).status.code(), Some(35));
    assert_eq!(site.curl(&[&url]).status.code(), Some(60));
    let plain = site.curl(&["-w", " %{http_code}", &url.replace("https", "http")]);
    let said = text(&plain.stdout);
    assert!(said.contains("TlsRequired") && said.ends_with(" 400"), "{said}");
    // Garbage, half a handshake, and nothing at all harm nobody.
    let address = site.url("a-1").replace("https://", "");
    let mut silent = Vec::new();
    for bytes in [&b"\x00\x01\x02"[..], b"\x16\x03\x01\x02\x00\x01", b"\x16", b"", b"\xff\xff"] {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(bytes).unwrap();
        silent.push(stream);
    }
    // A body of some size, both ways, over HTTP/2.
    let auth = format!("Authorization: Bearer {}", site.token);
    let value = format!("{{\"key\":\"k\",\"value\":\"{}\"}}", "x".repeat(200_000));
    std::fs::write(site.path("body"), value).unwrap();
    let config = format!("{}/config/web/prod", site.url("a-1"));
    let put = ["-H", &auth, "-H", "Content-Type: application/json", "--data-binary", "@body"];
    let ca = ["--cacert", "pki/ca.pem"];
    let put = site.curl(&[&ca[..], &put, &["-f", &config]].concat());
    assert!(put.status.success(), "{}", text(&put.stderr));
    let one = format!("{config}/k");
    let got = site.curl(&[&ca[..], &["-H", &auth, "-w", "%{http_version}", &one]].concat());
    let got = text(&got.stdout);
    assert!(got.contains(&"x".repeat(200_000)) && got.ends_with('2'), "{} bytes", got.len());
    // Discovery names the address as it was asked for, which HTTP/2 has no Host for.
    let found = format!("{}/.well-known/openid-configuration", site.url("a-1"));
    let found = text(&site.curl(&[&ca[..], &[&found]].concat()).stdout);
    assert!(found.contains(&format!("{}/oauth/token", site.url("a-1"))), "{found}");
    let metrics = format!("{}/metrics", site.url("a-1"));
    let metrics = text(&site.curl(&[&ca[..], &[&metrics]].concat()).stdout);
    for kind in ["http", "node", "ca"] {
        let start = format!("holm_certificate_not_after_seconds{{certificate=\"{kind}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        let end: f64 = line.unwrap_or_else(|| panic!("{start}: {metrics}")).parse().unwrap();
        assert!(end > (SystemClock.now().0 / 1_000_000) as f64 + 300.0 * 86_400.0, "{kind}: {end}");
    }
    assert!(metrics.contains("holm_tls_handshakes_failed_total{reason=\"plain\"}"), "{metrics}");
}

/// A certificate of the site's authority that begins so many days from now.
fn issue_at(site: &Site, node: &str, days: i64) -> (String, String) {
    let authority = Authority::load(&site.path("pki")).unwrap();
    let now = SystemClock.now().0.saturating_add_signed(days * 86_400 * 1_000_000);
    let identity = authority
        .issue(&NodeName::new(node).unwrap(), &Entropy::system(), &ManualClock::new(Stamp(now)))
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    identity.save(dir.path(), node).unwrap();
    let read = |kind: &str| std::fs::read_to_string(dir.path().join(format!("{node}.{kind}")));
    (read("pem").unwrap(), read("key").unwrap())
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start_with_its_file_and_why() {
    let site = Site::new(&["a"], "");
    let refused = |what: &str, file: &str, why: &str| {
        let mut child =
            site.command("a-1").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut err = child.stderr.take().unwrap();
        err.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{what}: {said}");
        assert!(said.contains(file) && said.contains(why), "{what}: {said}");
    };
    let (pem, key_file, ca) = ("a-1/a-1.pem", "a-1/a-1.key", "a-1/ca.pem");
    let kept: Vec<String> = [pem, key_file, ca]
        .iter()
        .map(|it| std::fs::read_to_string(site.path(it)).unwrap())
        .collect();
    let restore = || {
        std::fs::write(site.path(pem), &kept[0]).unwrap();
        write_private(&site.path(key_file), &kept[1]);
        std::fs::write(site.path(ca), &kept[2]).unwrap();
    };
    std::fs::remove_file(site.path(pem)).unwrap();
    refused("missing", "a-1.pem", "No such file");
    restore();
    std::fs::write(site.path(key_file), &kept[0]).unwrap();
    refused("no key", "a-1.key", "no private key in it, but a certificate");
    write_private(&site.path(key_file), &issue_at(&site, "a-1", 0).1);
    refused("another key", "a-1.key", "this key does not belong to the certificate");
    restore();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(site.path(key_file), open).unwrap();
    refused("readable", "a-1.key", "others may read this private key");
    let valid_days = i64::try_from(NODE_VALID.as_secs() / 86_400).unwrap();
    for (days, why) in [(-valid_days - 1, "it expired at 20"), (2, "it is not valid before 20")] {
        let (certificate, key) = issue_at(&site, "a-1", days);
        std::fs::write(site.path(pem), certificate).unwrap();
        write_private(&site.path(key_file), &key);
        refused("out of time", "a-1.pem", why);
    }
    // Without HTTPS a region goes on alone, whatever the time is.
    let settings = std::fs::read_to_string(site.path("a-1.toml")).unwrap();
    let plain = settings.lines().filter(|line| !line.contains("_file = \"a-1/"));
    std::fs::write(site.path("a-1.toml"), plain.collect::<Vec<_>>().join("\n")).unwrap();
    let (certificate, key) = issue_at(&site, "a-1", -valid_days - 1);
    std::fs::write(site.path(pem), certificate).unwrap();
    write_private(&site.path(key_file), &key);
    let log = std::fs::File::create(site.path("a-1.log")).unwrap();
    let mut alone = site.command("a-1").stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(alone.stdout.take().unwrap()).read_line(&mut line).unwrap();
    drop(Process(alone));
    assert!(line.contains("listens on http://"), "{line}");
    let log = site.log("a-1");
    assert!(
        log.contains("no peer will talk with this node") && log.contains("it expired at"),
        "{log}"
    );
    std::fs::write(site.path("a-1.toml"), settings).unwrap();
    let (certificate, key) = issue_at(&site, "b-1", 0);
    std::fs::write(site.path(pem), certificate).unwrap();
    write_private(&site.path(key_file), &key);
    refused("another node", "a-1.pem", "is not for the name a-1");
    restore();
    holm(site.dir.path(), &["pki", "init", "--dir", "other"]);
    std::fs::copy(site.path("other/ca.pem"), site.path(ca)).unwrap();
    refused("another CA", "a-1.pem", "no authority in a-1/ca.pem has signed it");
    std::fs::write(site.path(ca), "hello").unwrap();
    refused("no CA", "ca.pem", "no certificate in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_under_an_open_watch_and_bad_ones_are_refused() {
    let site = Site::new(&["a"], "");
    let node = site.serve("a-1");
    let client = site.client("a-1");
    let web = document("web/prod");
    // A watch that is open all the time, on one HTTP/2 connection.
    let auth = format!("Authorization: Bearer {}", site.token);
    let mut watch = Command::new("curl")
        .args(["-sSN", "--cacert", "pki/ca.pem", "-H", &auth, "-H", "Accept: text/event-stream"])
        .arg(format!("{}/config/web/prod", site.url("a-1")))
        .current_dir(site.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(watch.stdout.take().unwrap());
    let mut watch = Process(watch);
    let mut sees = |key_name: &str| {
        let mut line = String::new();
        while !line.contains(&format!("\"{key_name}\"")) {
            line.clear();
            assert!(events.read_line(&mut line).unwrap() > 0, "the watch has ended");
        }
    };
    let write = async |name: &str| {
        client.write(&web, &[Write::new(key(name), json("1"))], None).await.unwrap();
    };
    write("before").await;
    sees("before");
    let fingerprint = async || {
        let shown = client.certificates().await.unwrap();
        shown[0].http.as_ref().unwrap().fingerprint.clone()
    };
    let first = fingerprint().await;
    // A second has to pass for curl's dates to differ.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let seen = site.seen("a-1");
    holm(site.dir.path(), &["pki", "renew", "--node", "a-1"]);
    site.give("a-1", &["a-1.key", "a-1.pem"]);
    eventually("the new certificate is shown", async || fingerprint().await != first).await;
    assert!(site.seen("a-1") != seen && seen.ends_with("true"), "{seen}");
    write("renewed").await;
    sees("renewed");
    let second = fingerprint().await;
    // What cannot be used changes nothing, and the log says what and why.
    let (yesterday, its_key) = issue_at(&site, "a-1", -400);
    for (certificate, its_key, why) in [
        ("garbage".to_owned(), None, "no certificate in it"),
        (yesterday, Some(its_key), "it expired at"),
    ] {
        std::fs::write(site.path("a-1/a-1.pem"), certificate).unwrap();
        if let Some(its_key) = its_key {
            write_private(&site.path("a-1/a-1.key"), &its_key);
        }
        eventually("it is refused", async || {
            let log = site.log("a-1");
            log.lines().any(|it| it.contains("a-1.pem") && it.contains(why))
        })
        .await;
        assert_eq!(fingerprint().await, second);
    }
    write("refused").await;
    sees("refused");
    // SIGHUP takes them at once, and says that they are bad again.
    let refusals = site.log("a-1").matches("refused new certificate files").count();
    let pid = rustix::process::Pid::from_child(&node.0);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    eventually("SIGHUP is heard", async || {
        site.log("a-1").matches("refused new certificate files").count() > refusals
    })
    .await;
    site.give("a-1", &["a-1.key", "a-1.pem"]);
    write("again").await;
    sees("again");
    assert!(watch.0.try_wait().unwrap().is_none(), "one connection, all the time");
    assert_eq!(fingerprint().await, second);
}

#[test]
fn client_certificates_are_asked_for_where_the_settings_say_so() {
    for is_required in [true, false] {
        let mode = if is_required { "required" } else { "optional" };
        let tls = format!("client_ca_file = \"pki/ca.pem\"\nclient_certificates = \"{mode}\"\n");
        let site = Site::new(&["a"], &tls);
        let path = site.dir.path();
        holm(path, &["pki", "issue", "--client", "ada"]);
        holm(path, &["pki", "init", "--dir", "other"]);
        holm(path, &["pki", "issue", "--client", "eve", "--dir", "other"]);
        let _node = site.serve("a-1");
        let url = format!("{}/healthz", site.url("a-1"));
        let curl = |more: &[&str]| {
            let all = [&["--cacert", "pki/ca.pem", "-f", &url][..], more].concat();
            site.curl(&all).status.success()
        };
        assert_eq!(curl(&[]), !is_required, "{mode}");
        assert!(curl(&["--cert", "pki/ada.pem", "--key", "pki/ada.key"]), "{mode}");
        assert!(!curl(&["--cert", "other/eve.pem", "--key", "other/eve.key"]), "{mode}");
        let (code, said) = site.try_holm("a-1", &["list"]);
        assert_eq!(code == Some(0), !is_required, "{mode}: {said}");
        assert_eq!(said.contains("asks clients for a certificate"), is_required, "{said}");
        let shown = ["--client-cert", "pki/ada.pem", "--client-key", "pki/ada.key"];
        site.holm("a-1", &[&["list"][..], &shown].concat());
    }
}

/// Writes configurations and secrets through one node until it is told to stop; nothing may be
/// refused.
async fn load(client: Client, node: String, is_over: &AtomicBool, written: &AtomicU64) {
    let web = document(&format!("{node}/prod"));
    let secret = SecretName::new(&format!("{node}-secret")).unwrap();
    let mut number = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let write = Write::new(key(&format!("k{}", number % 50)), json(&number.to_string()));
        let done = client.write(&web, &[write], None).await;
        assert!(done.is_ok(), "{node}, write {number}: {done:?}");
        if number.is_multiple_of(5) {
            let value = Plaintext::new(number.to_string().into_bytes());
            let done = client.put_secret(&secret, &value, None, None).await;
            assert!(done.is_ok(), "{node}, secret {number}: {done:?}");
        }
        written.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_replaced_under_load_and_taken_up_again_where_it_was_left() {
    let site = Site::new(&["a", "b", "c"], "");
    let names: Vec<String> = site.nodes.iter().map(|(name, _)| name.clone()).collect();
    let mut nodes: Vec<Process> = names.iter().map(|name| site.serve(name)).collect();
    // Clients trust both authorities from the beginning of the rotation on.
    holm(site.dir.path(), &["pki", "rotate-ca", "begin"]);
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let secret = SecretName::new("first").unwrap();
    eventually("the cluster is founded", async || {
        let value = Plaintext::new(b"1".to_vec());
        site.client("a-1").put_secret(&secret, &value, None, None).await.is_ok()
    })
    .await;
    let rotation = async {
        rotate(&site, &names).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let loads = names.iter().map(|name| load(site.client(name), name.clone(), &is_over, &written));
    tokio::join!(rotation, futures_util::future::join_all(loads));
    let written = written.load(Ordering::Relaxed);
    assert!(written > 200, "only {written} writes");
    // A node that comes with a certificate of the old authority does not start, or is turned away.
    drop(nodes.remove(1));
    for (from, to) in [("old.pem", "b-1/b-1.pem"), ("old.key", "b-1/b-1.key")] {
        std::fs::copy(site.path(from), site.path(to)).unwrap();
    }
    let refused = site.command("b-1").output().unwrap();
    let said = text(&refused.stderr);
    assert!(said.contains("no authority in b-1/ca.pem has signed it"), "{said}");
    std::fs::copy(site.path("old-ca.pem"), site.path("b-1/ca.pem")).unwrap();
    let stranger = site.serve("b-1");
    eventually("its handshakes are refused", async || {
        site.log("a-1").contains("a handshake failed")
            && site.log("b-1").contains("could not connect")
    })
    .await;
    drop(stranger);
    for file in ["ca.pem", "b-1.pem", "b-1.key"] {
        site.give("b-1", &[file]);
    }
    nodes.push(site.serve("b-1"));
    eventually("it is back", async || {
        let shown = site.client("a-1").certificates().await.unwrap();
        shown.iter().all(|node| node.unknown.is_none())
    })
    .await;
}

/// The steps, each of them first where it may not be done yet.
async fn rotate(site: &Site, names: &[String]) {
    let refused = |step: &str, why: &str| {
        let (code, said) = site.try_holm("a-1", &["pki", "rotate-ca", step]);
        assert!(code == Some(1) && said.contains(why), "{step}: {said}");
    };
    let trusts = async |count: usize, who: &[&str]| {
        eventually("ca.pem is taken", async || {
            let shown = site.client("a-1").certificates().await.unwrap();
            let of = |name: &&str| shown.iter().find(|it| it.node == **name).unwrap();
            who.iter().all(|name| of(name).authorities.len() == count)
        })
        .await;
    };
    for (from, to) in
        [("b-1/b-1.pem", "old.pem"), ("b-1/b-1.key", "old.key"), ("b-1/ca.pem", "old-ca.pem")]
    {
        std::fs::copy(site.path(from), site.path(to)).unwrap();
    }
    refused("finish", "no certificate was made under the new authority yet");
    refused("issue", "a-1 does not trust the new authority: it needs ca.pem");
    // Stopped half-way: one node has the new ca.pem, and the beginning is done again.
    site.give("a-1", &["ca.pem"]);
    trusts(2, &["a-1"]).await;
    holm(site.dir.path(), &["pki", "rotate-ca", "begin"]);
    refused("issue", "b-1 does not trust the new authority");
    for name in names {
        site.give(name, &["ca.pem"]);
    }
    trusts(2, &["a-1", "b-1", "c-1"]).await;
    let said = site.holm("a-1", &["pki", "rotate-ca", "issue"]);
    assert!(said.contains("c-1.pem: made anew"), "{said}");
    refused("finish", "a-1 shows a certificate of the authority");
    // Stopped half-way: one node has its new certificate, and the step is done again.
    site.give("a-1", &["a-1.key", "a-1.pem"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = site.holm("b-1", &["pki", "rotate-ca", "issue"]);
    assert!(said.contains("c-1.pem: is of the new authority"), "{said}");
    refused("finish", "b-1 shows a certificate of the authority");
    for name in names {
        site.give(name, &[&format!("{name}.key"), &format!("{name}.pem")]);
    }
    eventually("the old authority can go", async || {
        site.try_holm("c-1", &["pki", "rotate-ca", "finish"]).0 == Some(0)
    })
    .await;
    for name in names {
        site.give(name, &["ca.pem"]);
    }
    trusts(1, &["a-1", "b-1", "c-1"]).await;
    // Past the time at which connections of the old authority are closed.
    tokio::time::sleep(Duration::from_secs(17)).await;
    for name in names {
        assert!(!site.log(name).contains("closed a connection: the peer"), "all were dialed anew");
    }
    let said = site.holm("b-1", &["pki", "rotate-ca", "status"]);
    assert!(said.contains("No change of the authority is under way"), "{said}");
}

#[test]
fn the_commands_for_tls_do_what_they_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## TLS\n").nth(1).unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let start = format!("```{kind}\n");
        let parts = section.split(&start).skip(1);
        parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
    };
    let site = Site::new(&[], "");
    let (dir, (peer, http)) = (site.dir.path(), free_ports());
    holm(dir, &["pki", "issue", "--node", "eu-west-1"]);
    let topology = format!(
        "cluster = \"test\"\nrtt_ms_default = 1\n[[regions]]\nname = \"eu-west\"\nplace = \
         \"here\"\nnodes = [{{ name = \"eu-west-1\", peer = \"127.0.0.1:{peer}\", http = \
         \"127.0.0.1:{http}\" }}]\n"
    );
    std::fs::write(dir.join("topology.toml"), topology).unwrap();
    let settings = format!(
        "[[access.keys]]\npem_file = \"keys/token.pem\"\nalgorithms = [\"EdDSA\"]\naudience = \
         \"holm\"\nscopes = \"grant\"\n[secrets]\nmaster_keys = [{{ generation = 1, file = \
         \"master.key\" }}]\n{}reload_every = \"100ms\"\n",
        blocks("toml")[0]
    );
    std::fs::write(dir.join("holm.toml"), settings).unwrap();
    let run = |script: &str| {
        // What is to be copied lies where the node reads it; it takes a moment to.
        let script = script.replace("127.0.0.1:8101", &format!("127.0.0.1:{http}"));
        let lines = script.lines().map(|line| format!("{line}\nsleep 1\n"));
        let script: String = lines.collect();
        let script = format!("set -eu\nholm() {{ \"{HOLM}\" \"$@\"; }}\n{script}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("HOLM_TOKEN", &site.token)
            .env("HOLM_URL", format!("https://127.0.0.1:{http}"))
            .env("HOLM_CA", "pki/ca.pem")
            .current_dir(dir)
            .output()
            .unwrap();
        let said = text(&[output.stdout, output.stderr].concat());
        assert!(output.status.success(), "{script}: {said}");
        said
    };
    let [setup, use_it, rotate] = &blocks("sh")[..] else { panic!("other blocks") };
    run(setup);
    let mut node = Command::new(HOLM)
        .args(["serve", "--topology", "topology.toml", "--node", "eu-west-1", "--data", "data"])
        .args(["--settings", "holm.toml"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _node = Process(node);
    assert!(line.contains("https://"), "{line}");
    let said = run(use_it);
    assert!(said.contains("eu-west-1") && said.contains("ok"), "{said}");
    let said = run(rotate);
    assert!(said.contains("The old authority is dropped"), "{said}");
}
