//! Secrets and roles are linearizable, whatever is cut, crashes or moves: several clients in all
//! regions write and read while regions are isolated and nodes are killed, and what they were told
//! has to be explained by one order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holm::env::CrashMode;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;

use crate::cluster::{Cluster, PATIENCE, eventually, http, node};
use crate::history::{Kind, Operation, check};

const REGIONS: [&str; 3] = ["a", "b", "c"];
/// How long faults go on.
const STORM: Duration = Duration::from_secs(20);
/// How long a client waits for an answer.
const REQUEST: Duration = Duration::from_secs(4);

type Shared = Arc<RwLock<Cluster>>;
type Histories = Arc<Mutex<BTreeMap<String, Vec<Operation>>>>;

/// One client: asks now here and now there.
struct Asker {
    cluster: Shared,
    http: reqwest::Client,
    token: String,
    histories: Histories,
    begun: Instant,
    random: StdRng,
    who: usize,
    count: u64,
}

impl Asker {
    async fn url(&mut self) -> Option<String> {
        let region = REGIONS[self.random.random_range(0..3)];
        let cluster = self.cluster.read().await;
        cluster.is_running(region).then(|| cluster.url(region))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
        let answer = request.bearer_auth(&self.token).timeout(REQUEST).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or_default()))
    }

    async fn step(&mut self) {
        let Some(url) = self.url().await else { return };
        let target = self.random.random_range(0..3);
        let is_write = self.random.random_bool(0.4);
        self.count += 1;
        let value = format!("v-{}-{}", self.who, self.count);
        let started = self.begun.elapsed();
        let (thing, kind, answer) = match (target, is_write) {
            (2, true) => {
                let body = json!({ "grants": [format!("config:read:{value}/x")] });
                let request = self.http.put(format!("{url}/roles/team")).json(&body);
                ("role".to_owned(), Kind::Write, self.send(request).await)
            }
            (2, false) => {
                let request = self.http.get(format!("{url}/roles/team"));
                ("role".to_owned(), Kind::Read, self.send(request).await)
            }
            (n, true) => {
                let body = json!({ "name": format!("s{n}"), "value": value });
                let request = self.http.post(format!("{url}/secrets")).json(&body);
                (format!("s{n}"), Kind::Write, self.send(request).await)
            }
            (n, false) => {
                let request = self.http.get(format!("{url}/secrets/s{n}"));
                (format!("s{n}"), Kind::Read, self.send(request).await)
            }
        };
        let ended = self.begun.elapsed();
        let operation = match (kind, answer) {
            (_, Some((200 | 201, body))) => {
                let version = body["version"].as_u64().unwrap_or_else(|| panic!("{body}"));
                let value = match kind {
                    Kind::Write => value,
                    Kind::Read => shown(&thing, &body),
                };
                Operation { kind, value, version: Some(version), started, ended: Some(ended) }
            }
            // Refused: it was not done, and never will be.
            (_, Some((404, _))) => return,
            (_, Some((503, body))) if body["error"] == "QuorumUnavailable" => return,
            (_, Some((412, body))) if body["error"] == "PreconditionFailed" => return,
            (Kind::Write, None | Some((503, _))) => {
                Operation { kind, value, version: None, started, ended: None }
            }
            (Kind::Read, None | Some((503, _))) => return,
            (_, Some((status, body))) => panic!("{thing} {kind:?}: {status} {body}"),
        };
        self.histories.lock().await.entry(thing).or_default().push(operation);
    }
}

/// What a read was answered with, as it was written.
fn shown(thing: &str, body: &Value) -> String {
    if thing != "role" {
        return body["value"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    }
    let grant = body["grants"][0].as_str().unwrap_or_else(|| panic!("{body}"));
    let value = grant.strip_prefix("config:read:").and_then(|rest| rest.strip_suffix("/x"));
    value.unwrap_or_else(|| panic!("{body}")).to_owned()
}

async fn isolate(cluster: &Shared, region: &str) {
    let cluster = cluster.read().await;
    for other in REGIONS.iter().filter(|other| **other != region) {
        cluster.cut(region, other);
    }
}

/// Isolates one region, the leader's as often as not, or kills one; then brings all back.
async fn nemesis(cluster: Shared, mut random: StdRng) -> usize {
    let until = Instant::now() + STORM;
    let mut leaders: Vec<&str> = Vec::new();
    while Instant::now() < until {
        let leader = {
            let cluster = cluster.read().await;
            let running = REGIONS.iter().find(|region| cluster.is_running(region));
            running.and_then(|region| cluster.server(region).node().quorum().status().leader)
        };
        let leader = REGIONS.iter().find(|region| leader == Some(node(region).to_string()));
        leaders.extend(leader);
        let victim = match leader {
            Some(leader) if random.random_bool(0.5) => leader,
            _ => REGIONS[random.random_range(0..3)],
        };
        if random.random_bool(0.4) {
            let mode =
                [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced][random.random_range(0..2)];
            cluster.write().await.crash(victim, mode).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(200..2_500))).await;
            cluster.write().await.start_node(victim).await;
        } else {
            isolate(&cluster, victim).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(500..3_500))).await;
            cluster.read().await.links.heal_all();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2_000))).await;
    }
    leaders.dedup();
    leaders.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_and_roles_are_linearizable_under_cuts_and_crashes() {
    let cluster = Cluster::start(&REGIONS, 4).await;
    let token = cluster.token("secrets:* access:read access:manage");
    let cluster: Shared = Arc::new(RwLock::new(cluster));
    let client = http();
    let url = cluster.read().await.url("a");
    eventually("the role is there", async || {
        let body = json!({ "name": "team", "grants": ["config:read:v-0-0/x"] });
        let sent = client.post(format!("{url}/roles")).bearer_auth(&token).json(&body).send().await;
        sent.is_ok_and(|answer| answer.status() == 201)
    })
    .await;
    let begun = Instant::now();
    let first = Operation {
        kind: Kind::Write,
        value: "v-0-0".to_owned(),
        version: Some(1),
        started: Duration::ZERO,
        ended: Some(Duration::ZERO),
    };
    let histories: Histories =
        Arc::new(Mutex::new(BTreeMap::from([("role".to_owned(), vec![first])])));
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (1..=6)
        .map(|who| {
            let mut asker = Asker {
                cluster: cluster.clone(),
                http: client.clone(),
                token: token.clone(),
                histories: histories.clone(),
                begun,
                random: StdRng::seed_from_u64(who as u64),
                who,
                count: 0,
            };
            let stop = stop.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    asker.step().await;
                    let pause = asker.random.random_range(1..30);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            })
        })
        .collect();
    let leaders = nemesis(cluster.clone(), StdRng::seed_from_u64(42)).await;
    // Healed, everything goes on.
    let before: BTreeMap<String, usize> = counts(&histories).await;
    let deadline = Instant::now() + PATIENCE;
    while counts(&histories)
        .await
        .iter()
        .any(|(thing, count)| *count < before.get(thing).copied().unwrap_or(0) + 5)
    {
        if Instant::now() > deadline {
            let now = counts(&histories).await;
            let cluster = cluster.read().await;
            let status = |region: &&str| cluster.server(region).node().quorum().status();
            let all: Vec<_> = REGIONS.iter().map(status).collect();
            panic!("no progress after healing: {before:?}, now {now:?}: {all:#?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    let histories = histories.lock().await;
    for (thing, history) in histories.iter() {
        assert!(history.len() > 30, "{thing}: {} operations are too few", history.len());
        check(history).unwrap_or_else(|e| panic!("{thing} is not linearizable: {e}"));
    }
    assert!(leaders > 1, "the leader never moved: nothing was shown");
}

async fn counts(histories: &Histories) -> BTreeMap<String, usize> {
    let histories = histories.lock().await;
    histories.iter().map(|(thing, history)| (thing.clone(), history.len())).collect()
}
