//! What a watch that has nothing to say costs: the memory of a node's process with 10,000 of them,
//! all of one client, against the same process before, each on a connection of its own over which it
//! was sent the document and at least one heartbeat.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::holm::Holm;
use crate::rig::measure::{Finding, Spread};
use crate::rig::{Plan, http};

const WATCHERS: usize = 10_000;
const KEYS: usize = 20;
/// Longer than a heartbeat's time, which is 15 s.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Longest until a watch has sent what is there.
const OPENING_TIME_MAX: Duration = Duration::from_secs(30);
const GOAL_KB: f64 = 25.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!("watchers: {WATCHERS} idle ones of a document with {KEYS} keys, server-sent events");
    let mut costs = Vec::new();
    // Memory does not depend on the rounds' time; a process that was full once is another.
    for round in 0..plan.rounds.min(3) {
        let dir = plan.dir.join(format!("watchers-{round}"));
        std::fs::create_dir_all(&dir)?;
        let holm = Holm::serve(&dir)?;
        let (before, after) = plan.wait(fill(&holm))?;
        let each = (after.saturating_sub(before)) as f64 * 1.024 / WATCHERS as f64;
        println!("  round {round}: {before} KiB before, {after} KiB after: {each:.1} KB each");
        costs.push(each);
    }
    Ok(vec![Finding::at_most("an idle watcher", Spread::of(costs), GOAL_KB, " KB")])
}

/// The process' memory before and with all watchers, in KiB.
async fn fill(holm: &Holm) -> anyhow::Result<(u64, u64)> {
    for i in 0..KEYS {
        holm.ask(0, "PUT", &format!("/config/web/prod/k{i}"), "\"some value or other\"").await?;
    }
    let request =
        http::request("GET", "/config/web/prod", &holm.token, "accept: text/event-stream\r\n", "");
    // What the first ones bring about is not a watch's.
    drop(open(holm, &request).await?);
    let before = memory_kib(holm)?;
    let mut watchers = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS {
        watchers.push(open(holm, &request).await?);
    }
    tokio::time::sleep(IDLE_TIME).await;
    let after = memory_kib(holm)?;
    let mut buffer = [0; 1024];
    for watcher in &mut watchers {
        let len = watcher.try_read(&mut buffer).context("a watch has no heartbeat")?;
        ensure!(len > 0, "a watch has ended");
    }
    Ok((before, after))
}

/// A watch that has been sent everything there is.
async fn open(holm: &Holm, request: &[u8]) -> anyhow::Result<TcpStream> {
    let opening = async {
        let mut stream = TcpStream::connect(holm.nodes[0]).await?;
        stream.write_all(request).await?;
        let mut text = Vec::new();
        while !text.windows(12).any(|part| part == b"event: ready") {
            ensure!(
                stream.read_buf(&mut text).await? > 0,
                "no watch: {}",
                String::from_utf8_lossy(&text)
            );
        }
        Ok(stream)
    };
    tokio::time::timeout(OPENING_TIME_MAX, opening).await?
}

fn memory_kib(holm: &Holm) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", holm.process_id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(number.parse()?)
}
