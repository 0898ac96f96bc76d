//! How long a write takes from its acknowledgement in one region to a watcher in another, 40 ms
//! away, at a fixed rate. Writer and watcher are this process, so that there is one clock. Every
//! acknowledged write has to be seen.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::rig::holm::Holm;
use crate::rig::http::{self, Stream};
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::{Plan, label, machine};

pub(crate) const ONE_WAY_MS: u32 = 40;
const CLIENTS: usize = 16;
const DOCUMENT: &str = "web/prod";
/// How long the watcher waits for the last writes of a round.
const LAST_TIME_MAX: Duration = Duration::from_secs(10);

/// What came out, one of each for a round, in milliseconds.
pub(crate) struct Measured {
    pub(crate) p50s: Vec<f64>,
    pub(crate) p99s: Vec<f64>,
    /// What an fsync of 4 KiB took between the rounds.
    pub(crate) fsyncs: Vec<f64>,
}

/// At so many writes a second.
pub(crate) fn measure(plan: &Plan, rate: f64) -> anyhow::Result<Measured> {
    println!("propagation: {ONE_WAY_MS} ms one way, {rate} writes/s, from answer to watcher");
    let holm = Holm::dev(&plan.dir.join("propagation"), 2, ONE_WAY_MS)?;
    let mut measured = Measured { p50s: vec![], p99s: vec![], fsyncs: vec![] };
    for round in 0..=plan.rounds {
        let time = if round == 0 { plan.time / 2 } else { plan.time * 2 };
        // The watcher knows the writes of this round by numbers that no other round has.
        let mut delays = delays(&holm, rate, round as u64 * 1_000_000_000, time)?;
        delays.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| delays[((share * delays.len() as f64).ceil() as usize).max(1) - 1];
        let fsync = machine::fsync_ms(&plan.dir)?;
        println!(
            "  {}: p50 {:.1} ms   p99 {:.1} ms   max {:.1} ms   {} writes, fsync {fsync:.3} ms, \
             load {}",
            label(round),
            at(0.5),
            at(0.99),
            at(1.0),
            delays.len(),
            machine::load()
        );
        if round > 0 {
            measured.p50s.push(at(0.5));
            measured.p99s.push(at(0.99));
            measured.fsyncs.push(fsync);
        }
    }
    Ok(measured)
}

/// One delay for each write of a round, in milliseconds.
fn delays(holm: &Holm, rate: f64, base: u64, time: Duration) -> anyhow::Result<Vec<f64>> {
    let acknowledged = Mutex::new(BTreeMap::new());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let due = (rate * time.as_secs_f64()).ceil() as usize;
    let (failed, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let all = watch(holm, base, due, || ready.send(()).unwrap_or_default());
            let most = time + LAST_TIME_MAX * 2;
            runtime.block_on(async { tokio::time::timeout(most, all).await })?
        });
        // A watcher that fails drops its end; what went wrong comes with its result.
        let _ = is_ready.recv();
        let start = Instant::now();
        let path = format!("/config/{DOCUMENT}/key.####");
        let request = http::request("PUT", &path, &holm.token, "", "\"####################\"");
        let result = load::run(CLIENTS, |client| {
            let template = Template::new(request.clone());
            let numbers = move |n| [n % 1_000, base + n, 0];
            let pace = Pace { start, client, clients: CLIENTS, rate, time };
            let acknowledged = &acknowledged;
            load::paced(holm.nodes[0], Client { template, numbers }, pace, move |n, _, at| {
                acknowledged.lock().expect("no client panics").insert(base + n, at);
            })
        });
        (result.failed, watcher.join().expect("the watcher does not panic"))
    });
    let seen = seen?;
    let acknowledged = acknowledged.into_inner().expect("no client panics");
    if failed > 0 || acknowledged.is_empty() {
        bail!("{failed} writes failed, {} did not", acknowledged.len());
    }
    let ms = |(number, at): (&u64, &Instant)| {
        let seen = seen.get(number).with_context(|| format!("write {number} was never seen"))?;
        let late = seen.saturating_duration_since(*at).as_secs_f64();
        Ok((late - at.saturating_duration_since(*seen).as_secs_f64()) * 1e3)
    };
    acknowledged.iter().map(ms).collect()
}

/// When each of `count` writes from `base` on came to a watcher in the second region.
async fn watch(
    holm: &Holm,
    base: u64,
    count: usize,
    ready: impl FnOnce(),
) -> anyhow::Result<BTreeMap<u64, Instant>> {
    let path = format!("/config/{DOCUMENT}");
    let request = http::request("GET", &path, &holm.token, "accept: text/event-stream\r\n", "");
    let mut stream = Stream::open(holm.nodes[1], &request).await?;
    let (mut ready, mut seen) = (Some(ready), BTreeMap::new());
    while seen.len() < count {
        stream.more().await?;
        let now = Instant::now();
        let Some(end) = stream.body.iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = stream.body.drain(..=end).collect();
        for line in String::from_utf8_lossy(&lines).lines() {
            if line.starts_with("event: ready") {
                ready.take().into_iter().for_each(|ready| ready());
            }
            let value = line.split_once("\"value\":\"").and_then(|(_, rest)| rest.get(..20));
            let number = value.and_then(|digits| digits.parse::<u64>().ok());
            if let Some(number) = number.filter(|number| *number >= base) {
                seen.entry(number).or_insert(now);
            }
        }
    }
    Ok(seen)
}
