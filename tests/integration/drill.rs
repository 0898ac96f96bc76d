//! Real processes in network namespaces: a region is cut off and heals, a node is killed and comes
//! back, and nothing is left behind. Root on Linux alone, which `.ci/run` is; elsewhere these say
//! that they are skipped.

use std::process::{Command, Stdio};
use std::time::Duration;

use holm::client::{Client, ClientSettings, Write};
use holm::model::{NodeName, RegionName};
use holm::simulation::drill::{Drill, DrillError, DrillSettings};
use holm::simulation::history::Probe;
use holm::simulation::scenario::LinkQuality;
use holm::topology::Topology;

use crate::cluster::{PATIENCE, document, eventually, json, key, node};
use crate::process::HOLM;

const REGIONS: [&str; 3] = ["a", "b", "c"];

fn region(name: &str) -> RegionName {
    RegionName::new(name).unwrap()
}

/// Three regions with one node each and this many milliseconds between any two. None where this
/// machine can't.
fn start(rtt_ms: u64) -> Option<Drill> {
    let mut text = format!("cluster = \"drill\"\nrtt_ms_default = {rtt_ms}\n");
    for (i, name) in REGIONS.iter().enumerate() {
        text += &format!(
            "[[regions]]\nname = \"{name}\"\nplace = \"here\"\nnodes = [{{ name = \"{name}-1\", \
             peer = \"127.0.0.1:{}\", http = \"127.0.0.1:{}\" }}]\n",
            9_101 + i,
            8_101 + i
        );
    }
    let topology = Topology::parse("drill.toml", &text).unwrap();
    let small_disks = [node("c")].into();
    let settings =
        DrillSettings { program: HOLM.into(), settings: String::new(), seed: 1, small_disks };
    match Drill::start(&topology, settings) {
        Ok(drill) => Some(drill),
        Err(error @ DrillError::Needs { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn client(drill: &Drill, region: &str) -> Client {
    let url = format!("http://{}", drill.http_addr(&node(region)).unwrap());
    let token = drill.token("tester", &[], "config:* cluster:read").unwrap();
    let mut settings = ClientSettings::new(&url, Some(&token));
    settings.timeout = Duration::from_secs(5);
    Client::with(settings).unwrap()
}

async fn write(drill: &Drill, region: &str, name: &str, value: &str) {
    let write = Write::new(key(name), json(value));
    client(drill, region).write(&document("web/prod"), &[write], None).await.unwrap();
}

async fn reads(drill: &Drill, region: &str, name: &str) -> Option<String> {
    let item = client(drill, region).get(&document("web/prod"), &key(name)).await.ok()?;
    Some(item.value.as_str().to_owned())
}

async fn probe(drill: &mut Drill, region: &str) -> Probe {
    drill.probe(&node(region)).await.unwrap()
}

async fn agree(drill: &mut Drill) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut probes = Vec::new();
        for region in REGIONS {
            probes.push(probe(drill, region).await);
        }
        let up = probes.iter().all(|probe| probe.ready && !probe.vector.is_empty());
        if up && probes.windows(2).all(|pair| pair[0].vector == pair[1].vector) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "all agree: {probes:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A round trip between two nodes, in milliseconds: how long it takes until the other one's kernel
/// says that nobody listens.
fn ping_ms(drill: &Drill, from: &str, to: &str) -> f64 {
    let ip = drill.peer_addr(&node(to)).unwrap().ip();
    let script = format!(
        "a=$EPOCHREALTIME; : </dev/tcp/{ip}/1; b=$EPOCHREALTIME; echo $((${{b/./}} - ${{a/./}}))"
    );
    let mut command = drill.command(&node(from), "bash".as_ref()).unwrap();
    let output = command.args(["-c", &script]).env("LC_ALL", "C").output().unwrap();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(refused.contains("Connection refused"), "{refused}");
    let micros: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    micros / 1_000.0
}

/// The same as a node itself measures it.
async fn shown_rtt_ms(drill: &Drill, from: &str, to: &str) -> f64 {
    let status = client(drill, from).cluster().await.unwrap();
    let regions = status["regions"].as_array().unwrap();
    let of = regions.iter().find(|it| it["region"] == to).unwrap();
    of["nodes"][0]["rtt_ms"].as_f64().unwrap()
}

fn panics(drill: &mut Drill) -> Vec<String> {
    let lines = drill.new_log_lines().unwrap().into_iter().map(|(_, line)| line);
    lines.filter(|line| line.contains("panicked at")).collect()
}

fn namespaces() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn devices() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn assert_nothing_left(drill: Drill) {
    let own = drill.http_addr(&node("a")).unwrap().ip().to_string();
    let dir = drill.data_dir(&node("a"));
    let name = format!(
        "holm-drill-{}-",
        dir.ancestors().nth(2).unwrap().to_str().unwrap().rsplit('-').next().unwrap()
    );
    assert!(namespaces().contains(&name), "{name}: {}", namespaces());
    drop(drill);
    assert!(!namespaces().contains(&name), "{}", namespaces());
    assert!(!dir.exists());
    let addresses = Command::new("ip").args(["-o", "addr"]).output().unwrap();
    assert!(!String::from_utf8(addresses.stdout).unwrap().contains(&own));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_island_of_real_processes_goes_on_and_converges() {
    let Some(mut drill) = start(80) else { return };
    drill.ready(PATIENCE).await.unwrap();
    for (from, to) in [("a", "b"), ("c", "a")] {
        let least = (0..5).map(|_| ping_ms(&drill, from, to)).fold(f64::MAX, f64::min);
        assert!((80.0..95.0).contains(&least), "{from} is {least} ms from {to}");
        // QUIC may count the time in which an acknowledgement waits for others, which is up to
        // 25 ms, and begins with what it measures while the processes start.
        let shown = shown_rtt_ms(&drill, from, to).await;
        assert!((80.0..200.0).contains(&shown), "{from} says {shown} ms to {to}");
    }
    write(&drill, "a", "k", "1").await;
    eventually("b reads what a wrote", async || reads(&drill, "b", "k").await.is_some()).await;
    assert_eq!(reads(&drill, "b", "k").await.as_deref(), Some("1"));
    eventually("the cluster is founded", async || drill.credential_file().is_some()).await;

    let (a, b, c) = (region("a"), region("b"), region("c"));
    for (from, to) in [(&c, &a), (&c, &b), (&a, &c), (&b, &c)] {
        drill.cut(1, from, to).unwrap();
    }
    let before = (drill.way(&c, &a).unwrap(), drill.way(&a, &c).unwrap());
    write(&drill, "c", "island", "2").await;
    write(&drill, "a", "mainland", "3").await;
    eventually("b has what a wrote", async || reads(&drill, "b", "mainland").await.is_some()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reads(&drill, "c", "island").await.as_deref(), Some("2"), "it goes on alone");
    assert_eq!(reads(&drill, "a", "island").await, None);
    assert_eq!(reads(&drill, "c", "mainland").await, None);
    let after = (drill.way(&c, &a).unwrap(), drill.way(&a, &c).unwrap());
    assert_eq!(after.0.arrived, before.0.arrived, "no packet passed");
    assert_eq!(after.1.arrived, before.1.arrived);
    assert!(after.0.lost_cut > before.0.lost_cut, "some were sent: {after:?}");

    drill.end_fault(1);
    agree(&mut drill).await;
    assert_eq!(reads(&drill, "a", "island").await.as_deref(), Some("2"));
    assert_eq!(reads(&drill, "c", "mainland").await.as_deref(), Some("3"));

    drill.crash(&node("b")).await.unwrap();
    assert!(!probe(&mut drill, "b").await.up);
    assert!(drill.ended().is_empty(), "it was ended, and did not end");
    write(&drill, "a", "meanwhile", "4").await;
    drill.start_node(&node("b")).unwrap();
    drill.ready(PATIENCE).await.unwrap();
    agree(&mut drill).await;
    assert_eq!(reads(&drill, "b", "meanwhile").await.as_deref(), Some("4"));
    assert_eq!(reads(&drill, "b", "k").await.as_deref(), Some("1"));
    assert!(probe(&mut drill, "a").await.sent_bytes > 0);
    assert_eq!(panics(&mut drill), [] as [String; 0]);
    assert_eq!(drill.failure(), None);
    assert_nothing_left(drill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_nodes_are_paused_stopped_wiped_and_rolled_back() {
    let Some(mut drill) = start(4) else { return };
    drill.ready(PATIENCE).await.unwrap();
    write(&drill, "a", "k", "1").await;
    agree(&mut drill).await;

    drill.keep_copy(&node("a")).await.unwrap();
    let origin = probe(&mut drill, "a").await.origin;
    write(&drill, "a", "k", "2").await;
    agree(&mut drill).await;
    drill.put_copy_back(&node("a")).await.unwrap();
    drill.start_node(&node("a")).unwrap();
    drill.ready(PATIENCE).await.unwrap();
    write(&drill, "a", "after", "3").await;
    agree(&mut drill).await;
    let now = probe(&mut drill, "a").await;
    assert_ne!(now.origin, origin, "an old copy goes on under another origin");
    assert_eq!(now.forks, 0);
    assert_eq!(reads(&drill, "a", "k").await.as_deref(), Some("2"), "others had it");

    drill.pause(&node("b")).await.unwrap();
    assert!(!probe(&mut drill, "b").await.up, "it does not answer");
    drill.resume(&node("b")).unwrap();
    agree(&mut drill).await;
    drill.stop(&node("b")).await.unwrap();
    drill.expire_certificate(&node("b")).unwrap();
    drill.start_node(&node("b")).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    write(&drill, "a", "unseen", "4").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reads(&drill, "b", "unseen").await, None, "nobody talks with it");
    drill.crash(&node("b")).await.unwrap();
    drill.renew_certificate(&node("b")).unwrap();
    drill.start_node(&node("b")).unwrap();
    agree(&mut drill).await;

    drill.wipe(&node("c")).await.unwrap();
    drill.start_node(&node("c")).unwrap();
    agree(&mut drill).await;
    assert_eq!(reads(&drill, "c", "k").await.as_deref(), Some("2"), "from the others");

    drill.fill_disk(&node("c")).unwrap();
    assert!(drill.fill_disk(&node("a")).is_err(), "that one is this machine's");
    let write_large = async |i: usize| {
        let large = format!("\"{}\"", "x".repeat(100_000));
        let write = Write::new(key(&format!("large{i}")), json(&large));
        client(&drill, "c").write(&document("web/full"), &[write], None).await
    };
    let mut refused = None;
    for i in 0..200 {
        if let Err(error) = write_large(i).await {
            refused = Some(error.to_string());
            break;
        }
    }
    let refused = refused.expect("20 MB do not fit on a full disk");
    assert!(refused.contains("507") || refused.to_lowercase().contains("full"), "{refused}");
    drill.free_disk(&node("c")).unwrap();
    drill.crash(&node("c")).await.unwrap();
    drill.start_node(&node("c")).unwrap();
    agree(&mut drill).await;

    let slow = LinkQuality { extra: Some(Duration::from_millis(50)), ..LinkQuality::default() };
    drill.worsen(5, &region("a"), &region("b"), slow).unwrap();
    drill.hold(6, &region("c"), &region("a")).unwrap();
    write(&drill, "c", "held", "5").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    drill.end_all_faults();
    drill.slow(&node("a"), 10).await.unwrap();
    agree(&mut drill).await;
    drill.full_speed(&node("a")).await.unwrap();
    assert_eq!(reads(&drill, "a", "held").await.as_deref(), Some("5"));
    assert_eq!(panics(&mut drill), [] as [String; 0]);
    assert_eq!(drill.ended(), []);
    assert!(drill.cut(9, &region("a"), &region("nowhere")).is_err());
    assert!(drill.crash(&NodeName::new("nobody").unwrap()).await.is_err());
    assert_nothing_left(drill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_behind_the_next_one_removes() {
    // As a run of number 60 leaves it: a lock that nobody has, a namespace, a process in it.
    let Some(first) = start(1) else { return };
    let name = "holm-drill-60-0";
    std::fs::write("/run/holm-drill/60.lock", "").unwrap();
    assert!(Command::new("ip").args(["netns", "add", name]).status().unwrap().success());
    let veth = ["link", "add", "hd60v0", "type", "veth", "peer", "name", "lan", "netns", name];
    assert!(Command::new("ip").args(veth).status().unwrap().success());
    let mut left = Command::new("ip")
        .args(["netns", "exec", name, "sleep", "600"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = start(1).unwrap();
    assert!(!namespaces().contains(name));
    assert!(!devices().contains("hd60v0"));
    let status = left.wait().unwrap();
    assert!(!status.success(), "{status}");
    let (own, other) = (first.data_dir(&node("a")), second.data_dir(&node("a")));
    assert_ne!(own, other, "one that runs is left alone");
    assert!(own.parent().unwrap().exists());
    drop(second);
    assert_nothing_left(first).await;
}
