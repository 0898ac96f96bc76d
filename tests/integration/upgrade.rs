//! A rolling upgrade: a cluster of the program as it was before, really built from that commit
//! (`.ci/run` does), becomes one of this program, a node at a time, while clients write and read.
//! Both speak with each other meanwhile, nothing is refused, and nothing is lost. Without that
//! program this says that it is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holm::client::{Client, ClientError, Write};
use holm::model::{JsonText, SecretName};
use holm::secrets::Plaintext;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::cluster::{PATIENCE, document, eventually, json, key};
use crate::process::{HOLM, Process, REGIONS, Site};

const SCOPES: &str = "config:* secrets:* access:* audit:read cluster:read";
/// Between two writes of one client.
const PACE: Duration = Duration::from_millis(15);

/// The program of before, if there is one here.
fn before() -> Option<PathBuf> {
    let path = std::env::var_os("HOLM_TEST_UPGRADE_FROM").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: HOLM_TEST_UPGRADE_FROM names no program of before");
    }
    path
}

/// What clients were told.
#[derive(Default)]
struct Told {
    /// What each key was last acknowledged with.
    written: Mutex<BTreeMap<String, u64>>,
    secrets: Mutex<u64>,
    refused: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Told {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn refuse(&self, error: &ClientError) {
        self.refused.lock().unwrap().push(error.to_string());
    }
}

/// Asks one node after the other, the own one first: what a service does whose region's node is
/// being restarted. An answer is an answer: only where there is none the next one is asked.
async fn anywhere<T>(
    clients: &[Client],
    own: usize,
    ask: impl AsyncFn(&Client) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut last = None;
    for next in 0..2 * clients.len() {
        match ask(&clients[(own + next) % clients.len()]).await {
            Err(error @ (ClientError::Connection { .. } | ClientError::TimedOut { .. })) => {
                last = Some(error);
            }
            answered => return answered,
        }
    }
    Err(last.unwrap())
}

async fn write_configs(clients: &[Client], own: usize, told: &Told) {
    let web = document("web/prod");
    for n in 0.. {
        if !told.goes_on() {
            return;
        }
        let name = format!("{}-{}", REGIONS[own], n % 50);
        let write = [Write::new(key(&name), json(&n.to_string()))];
        match anywhere(clients, own, async |client| client.write(&web, &write, None).await).await {
            Ok(_) => drop(told.written.lock().unwrap().insert(name.clone(), n)),
            Err(error) => told.refuse(&error),
        }
        let read = async |client: &Client| client.get(&web, &key(&name)).await;
        match anywhere(clients, own, read).await {
            // Another region may not have it yet: this client carries no session.
            Ok(_) | Err(ClientError::Refused(_)) => {}
            Err(error) => told.refuse(&error),
        }
        sleep(PACE).await;
    }
}

async fn write_secrets(clients: &[Client], told: &Told) {
    let name = SecretName::new("db").unwrap();
    for n in 1.. {
        if !told.goes_on() {
            return;
        }
        let value = Plaintext::new(n.to_string().into_bytes());
        let write = async |client: &Client| client.put_secret(&name, &value, None, None).await;
        match anywhere(clients, n as usize, write).await {
            Ok(_) => *told.secrets.lock().unwrap() = n,
            Err(error) => told.refuse(&error),
        }
        sleep(PACE * 4).await;
    }
}

async fn stop(process: &mut Process) {
    kill_process(Pid::from_child(&process.0), Signal::TERM).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            break status;
        }
        assert!(tokio::time::Instant::now() < deadline, "it stops");
        sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}");
}

async fn ready(site: &Site, which: usize) {
    eventually("the node is ready", async || {
        site.client(which).cluster().await.is_ok_and(|it| it["ready"] == true)
    })
    .await;
}

/// Waits until the first node is ready, or gives how it ended.
async fn ready_or_ended(site: &Site, process: &mut Process) -> Option<ExitStatus> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            return Some(status);
        }
        if site.client(0).cluster().await.is_ok_and(|it| it["ready"] == true) {
            return None;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is ready, or has said why not");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn all_agree(site: &Site) {
    eventually("all agree", async || {
        let vectors = [site.vector(0).await, site.vector(1).await, site.vector(2).await];
        vectors[0].is_some() && vectors.windows(2).all(|pair| pair[0] == pair[1])
    })
    .await;
}

/// Everything that was acknowledged is at this node, or something later.
async fn has_all(site: &Site, which: usize, told: &Told) {
    let client = site.client(which);
    let items = client.list(&document("web/prod"), None).await.unwrap();
    let number = |value: &JsonText| value.as_str().parse::<u64>().unwrap();
    let there: BTreeMap<String, u64> =
        items.iter().map(|item| (item.key.as_str().to_owned(), number(&item.value))).collect();
    for (name, n) in &*told.written.lock().unwrap() {
        assert!(there.get(name) >= Some(n), "{name}: {n} was acknowledged, {:?}", there.get(name));
    }
    let secrets = *told.secrets.lock().unwrap();
    let revealed = client.reveal_secret(&SecretName::new("db").unwrap(), None).await.unwrap();
    let value: u64 = revealed.expose_text().unwrap().parse().unwrap();
    assert!(value >= secrets, "{secrets} was acknowledged, {value} is there");
}

/// A change made at either is seen by the other.
async fn see_each_other(site: &Site, new: usize, old: usize) {
    for (at, other) in [(new, old), (old, new)] {
        let name = key(&format!("seen-{new}-{at}"));
        let write = [Write::new(name.clone(), json("1"))];
        site.client(at).write(&document("web/mixed"), &write, None).await.unwrap();
        eventually("it is seen by the other version", async || {
            site.client(other).get(&document("web/mixed"), &name).await.is_ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_a_node_at_a_time_and_nothing_is_refused_or_lost() {
    let Some(before) = before() else { return };
    let site = Site::with("", SCOPES);
    let mut processes: Vec<Process> =
        (0..REGIONS.len()).map(|which| site.serve_program(which, &before)).collect();
    for which in 0..REGIONS.len() {
        ready(&site, which).await;
    }
    let name = SecretName::new("db").unwrap();
    let value = Plaintext::new(b"0".to_vec());
    eventually("secrets are taken", async || {
        site.client(0).put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;
    let told = Told::default();
    let clients: Vec<Client> = (0..REGIONS.len()).map(|which| site.client(which)).collect();
    let upgrade = async {
        for (which, process) in processes.iter_mut().enumerate() {
            sleep(Duration::from_millis(500)).await;
            stop(process).await;
            *process = site.serve_program(which, HOLM.as_ref());
            ready(&site, which).await;
            if which + 1 < REGIONS.len() {
                see_each_other(&site, which, which + 1).await;
            }
        }
        sleep(Duration::from_millis(500)).await;
        told.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        write_configs(&clients, 0, &told),
        write_configs(&clients, 1, &told),
        write_configs(&clients, 2, &told),
        write_secrets(&clients, &told),
        upgrade,
    );
    assert_eq!(*told.refused.lock().unwrap(), [] as [String; 0]);
    assert!(told.written.lock().unwrap().len() >= 100 && *told.secrets.lock().unwrap() > 5);
    all_agree(&site).await;
    for which in 0..REGIONS.len() {
        has_all(&site, which, &told).await;
    }
    let reports = site.client(0).audit_verify().await.unwrap();
    assert!(reports.stores.iter().all(|store| store.findings.is_empty()), "{reports:?}");

    // And back, at one node: it runs on what is there, or it says why not and changes nothing.
    stop(&mut processes[0]).await;
    processes[0] = site.serve_program(0, &before);
    let ended = ready_or_ended(&site, &mut processes[0]).await;
    if let Some(status) = ended {
        let log = std::fs::read_to_string(site.dir.path().join("a.log")).unwrap();
        let last = log.lines().last().unwrap_or_default();
        assert!(!status.success() && last.contains("format"), "{status}: {last}");
        eprintln!("the program of before refuses what this one has written: {last}");
        processes[0] = site.serve_program(0, HOLM.as_ref());
        ready(&site, 0).await;
    }
    all_agree(&site).await;
    has_all(&site, 0, &told).await;
}
