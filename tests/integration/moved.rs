//! A node is stopped in order while clients watch it and others write elsewhere: each watch is sent
//! to another node and goes on there, with nothing missed, nothing twice and no pause.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use holm::client::{Client, WatchEvent, WatchSettings, Write};
use tokio::time::{sleep, timeout};

use crate::cluster::{PATIENCE, document, eventually, json, key};
use crate::process::{HOLM, Process, REGIONS, Site};

const WATCHERS: u64 = 24;
const WRITES: usize = 300;
/// The key that is written last.
const LAST: &str = "last";

/// What one watcher was given.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// How often each key.
    keys: BTreeMap<String, usize>,
    moved_to: Vec<String>,
    others: Vec<String>,
}

async fn follow(client: Client, seed: u64) -> Seen {
    let settings = WatchSettings { jitter_seed: seed, ..WatchSettings::default() };
    let mut watch = client.watch(&document("web/prod"), settings);
    let mut seen = Seen::default();
    loop {
        match watch.next().await.unwrap() {
            WatchEvent::Put(item) => {
                *seen.keys.entry(item.key.to_string()).or_default() += 1;
                if item.key.as_str() == LAST {
                    return seen;
                }
            }
            WatchEvent::Ready => {}
            WatchEvent::Moved { url } => seen.moved_to.push(url),
            other => seen.others.push(format!("{other:?}")),
        }
    }
}

async fn is_ready(site: &Site, which: usize) -> bool {
    let status = site.client(which).cluster().await;
    status.is_ok_and(|status| status["ready"] == true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_sends_every_watch_on_and_each_sees_every_key_once() {
    let site = Site::with("", "config:* cluster:read");
    let mut processes: Vec<Option<Process>> =
        (0..REGIONS.len()).map(|which| Some(site.serve_logged(which))).collect();
    for which in 0..REGIONS.len() {
        eventually("ready", async || is_ready(&site, which).await).await;
    }
    // That the others are ready comes with their next heartbeats.
    sleep(Duration::from_millis(1_500)).await;
    let watching = (0..WATCHERS).map(|seed| tokio::spawn(follow(site.client(0), seed)));
    let watching: Vec<_> = watching.collect();
    let printed = site.dir.path().join("printed");
    let printing = Command::new(HOLM)
        .args(["watch", "web/prod", "--output", "json"])
        .args(["--url", &format!("http://127.0.0.1:{}", site.http[0])])
        .env("HOLM_TOKEN", &site.token)
        .stdout(std::fs::File::create(&printed).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let printing = Process(printing);
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    let mut stopping = None;
    for n in 0..WRITES {
        if n == WRITES / 3 {
            let process = processes[0].take().unwrap();
            stopping = Some(tokio::task::spawn_blocking(move || process.stop()));
        }
        let name = format!("key-{n}");
        let write = [Write::new(key(&name), json("1"))];
        site.client(1).write(&document("web/prod"), &write, None).await.unwrap();
        written.insert(name, 1);
        sleep(Duration::from_millis(5)).await;
    }
    stopping.unwrap().await.unwrap();
    let write = [Write::new(key(LAST), json("1"))];
    site.client(1).write(&document("web/prod"), &write, None).await.unwrap();
    written.insert(LAST.to_owned(), 1);
    for watch in watching {
        let seen = timeout(PATIENCE, watch).await.expect("it sees the last key").unwrap();
        assert_eq!(seen.keys, written);
        // Had it waited before it connected again, it would say that it was lost.
        assert_eq!(seen.others, Vec::<String>::new());
        let ports: Vec<bool> = seen
            .moved_to
            .iter()
            .map(|url| site.http[1..].iter().any(|port| *url == format!("http://127.0.0.1:{port}")))
            .collect();
        assert_eq!(ports, [true], "{:?}", seen.moved_to);
    }
    sleep(Duration::from_millis(500)).await;
    let mut printing = printing;
    printing.0.kill().unwrap();
    let (out, mut err) = (std::fs::read_to_string(&printed).unwrap(), String::new());
    std::io::Read::read_to_string(&mut printing.0.stderr.take().unwrap(), &mut err).unwrap();
    let puts = out.lines().filter(|line| line.contains(r#""event":"put""#)).count();
    assert_eq!(puts, written.len(), "{err}");
    assert!(err.contains("the watch goes on at http://127.0.0.1:"), "{err}");
}
