//! What sessions and watches promise, under random cuts, crashes and moves between regions:
//! a session never goes back and includes its own writes; a watch misses nothing, gives nothing
//! twice and never goes back.
//!
//! Each writer counts up in keys of its own, so that "back" and "twice" can be seen in a value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holm::client::{Client, ClientError, WatchEvent, WatchSettings, Write};
use holm::env::CrashMode;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Mutex, RwLock};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, PATIENCE, document, json, key};

const REGIONS: [&str; 3] = ["a", "b", "c"];
const KEYS: usize = 4;

type Shared = Arc<RwLock<Cluster>>;
/// The highest count that was acknowledged, by key.
type Acknowledged = Arc<Mutex<BTreeMap<String, u64>>>;

/// A client of `region`, if its node runs.
async fn client(cluster: &Shared, region: &str) -> Option<Client> {
    let cluster = cluster.read().await;
    cluster
        .is_running(region)
        .then(|| cluster.client_with(region, |settings| settings.timeout = Duration::from_secs(5)))
}

/// Writes, moves to another region, reads with its session, and so on.
async fn writer(who: usize, cluster: Shared, acknowledged: Acknowledged, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(who as u64);
    let web = document("web/dev");
    let mut session: Option<String> = None;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let (mut count, mut reads) = (0_u64, 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let region = REGIONS[random.random_range(0..3)];
        let Some(client) = client(&cluster, region).await else { continue };
        if let Some(session) = &session {
            client.include_session(session);
        }
        count += 1;
        let name = format!("w{who}-{}", random.random_range(0..KEYS));
        let write = Write::new(key(&name), json(&count.to_string()));
        match client.write(&web, &[write], None).await {
            Ok(_) => {
                seen.insert(name.clone(), count);
                acknowledged.lock().await.insert(name, count);
            }
            // Whether it was carried out is not known: it may be seen, and later counts go on.
            Err(error) => assert!(is_expected(&error), "{error}"),
        }
        match client.list(&web, None).await {
            Ok(items) => {
                reads += 1;
                let items: BTreeMap<String, u64> = items
                    .iter()
                    .map(|item| (item.key.to_string(), item.value.as_str().parse().unwrap()))
                    .collect();
                for (key, before) in &seen {
                    let now = items.get(key).copied().unwrap_or(0);
                    assert!(now >= *before, "{key} went from {before} back to {now} in {region}");
                }
                seen.extend(items);
            }
            Err(error) => assert!(is_expected(&error), "{error}"),
        }
        session = client.session().or(session);
        tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
    }
    assert!(count > 10 && reads > 5, "writer {who}: {count} writes, {reads} reads");
}

/// The node is gone, or cut off from what the session includes.
fn is_expected(error: &ClientError) -> bool {
    error.is_transient() || error.refusal().is_some_and(|r| r.name == "SessionNotReached")
}

/// Follows the document, now from one region and now from another.
async fn watcher(who: u64, cluster: Shared, acknowledged: Acknowledged, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(1_000 + who);
    let mut since: Option<String> = None;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let (mut moves, mut deadline) = (0, None);
    loop {
        let region = REGIONS[random.random_range(0..3)];
        let Some(client) = client(&cluster, region).await else { continue };
        let settings = WatchSettings { since: since.clone(), jitter_seed: who, prefix: None };
        let mut watch = client.watch(&document("web/dev"), settings);
        moves += 1;
        let stay = Instant::now() + Duration::from_millis(random.random_range(200..1_500));
        // Events after the last session are given again by the next region: they count only with it.
        let mut open = last.clone();
        while let Ok(event) = timeout(stay - Instant::now().min(stay), watch.next()).await {
            match event {
                Ok(WatchEvent::Put(item)) => {
                    let (key, count) = (item.key.to_string(), item.value.as_str().parse().unwrap());
                    let before = open.insert(key.clone(), count);
                    assert!(before.is_none_or(|b| b < count), "{key}: {before:?} then {count}");
                }
                Ok(WatchEvent::Ready) => {}
                Ok(WatchEvent::Lost { .. }) | Err(_) => break,
                Ok(other) => panic!("{other:?}"),
            }
            if watch.session() != since.as_deref() {
                since = watch.session().map(str::to_owned);
                last.clone_from(&open);
            }
        }
        if stop.load(Ordering::Relaxed) {
            let acknowledged = acknowledged.lock().await;
            if acknowledged.iter().all(|(key, count)| last.get(key) >= Some(count)) {
                assert!(moves > 3);
                return;
            }
            let deadline = deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            assert!(Instant::now() < *deadline, "missed: has {last:?}, was {acknowledged:?}");
        }
    }
}

/// Cuts, heals, crashes and restarts.
async fn nemesis(cluster: Shared, seed: u64, rounds: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let pair = random.random_range(0..3);
        let (x, y) = (REGIONS[pair], REGIONS[(pair + 1) % 3]);
        match random.random_range(0..4) {
            0 => cluster.read().await.cut(x, y),
            1 => {
                let cluster = cluster.read().await;
                cluster.cut(x, y);
                cluster.cut(x, REGIONS[(pair + 2) % 3]);
            }
            2 => cluster.read().await.links.heal_all(),
            _ => {
                let mode = CrashMode::TearUnsynced(random.random());
                cluster.write().await.crash(x, mode).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(10..500))).await;
                cluster.write().await.start_node(x).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
    }
    cluster.read().await.links.heal_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_watches_hold_under_cuts_crashes_and_moves() {
    for seed in [1, 2] {
        let cluster: Shared = Arc::new(RwLock::new(Cluster::start(&REGIONS, 6).await));
        let acknowledged = Acknowledged::default();
        let (stop, watched) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = (0..3)
            .map(|who| {
                tokio::spawn(writer(who, cluster.clone(), acknowledged.clone(), stop.clone()))
            })
            .collect();
        let watchers: Vec<_> = (0..3)
            .map(|who| {
                tokio::spawn(watcher(who, cluster.clone(), acknowledged.clone(), watched.clone()))
            })
            .collect();
        nemesis(cluster.clone(), seed, 12).await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        cluster.read().await.agreed().await;
        watched.store(true, Ordering::Relaxed);
        for watcher in watchers {
            watcher.await.unwrap();
        }
        let cluster = cluster.read().await;
        for (key, count) in acknowledged.lock().await.iter() {
            let (client, web) = (cluster.client("a"), document("web/dev"));
            let item = client.get(&web, &crate::cluster::key(key)).await.unwrap();
            let found: u64 = item.value.as_str().parse().unwrap();
            assert!(found >= *count, "{key}: {count} was acknowledged, {found} is there");
        }
        for region in REGIONS {
            assert_eq!(cluster.server(region).node().cluster().store.forks, 0);
        }
    }
}
