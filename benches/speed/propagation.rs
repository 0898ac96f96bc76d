//! How long a write takes from its acknowledgement in one region to a watcher in another, 40 ms
//! away, at 300 writes a second. Writer and watcher are this process, so that there is one clock.
//! Every acknowledged write has to be seen.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::holm::Holm;
use crate::http::{self, Stream};
use crate::load::{self, Client, Pace, Template};
use crate::measure::{Finding, Spread};
use crate::reads::label;
use crate::{Plan, machine};

const ONE_WAY_MS: u32 = 40;
const RATE: f64 = 300.0;
const CLIENTS: usize = 16;
const DOCUMENT: &str = "web/prod";
const P50_MS_GOAL: f64 = 45.0;
const P99_MS_GOAL: f64 = 65.0;
/// How long the watcher waits for the last writes of a round.
const LAST_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!("propagation: {ONE_WAY_MS} ms one way, {RATE} writes/s, from answer to watcher");
    let holm = Holm::dev(&plan.dir.join("propagation"), 2, ONE_WAY_MS)?;
    let (mut p50s, mut p99s) = (vec![], vec![]);
    for round in 0..=plan.rounds {
        let time = if round == 0 { plan.time / 2 } else { plan.time * 2 };
        // The watcher knows the writes of this round by numbers that no other round has.
        let mut delays = delays(&holm, round as u64 * 1_000_000_000, time)?;
        delays.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| delays[((share * delays.len() as f64).ceil() as usize).max(1) - 1];
        println!(
            "  {}: p50 {:.1} ms   p99 {:.1} ms   max {:.1} ms   {} writes, load {}",
            label(round),
            at(0.5),
            at(0.99),
            at(1.0),
            delays.len(),
            machine::load()
        );
        if round > 0 {
            p50s.push(at(0.5));
            p99s.push(at(0.99));
        }
    }
    let what = |share| format!("propagation over {ONE_WAY_MS} ms at {RATE} writes/s, {share}");
    Ok(vec![
        Finding::at_most(&what("p50"), Spread::of(p50s), P50_MS_GOAL, " ms"),
        Finding::at_most(&what("p99"), Spread::of(p99s), P99_MS_GOAL, " ms"),
    ])
}

/// One delay for each write of a round, in milliseconds.
fn delays(holm: &Holm, base: u64, time: Duration) -> anyhow::Result<Vec<f64>> {
    let acknowledged = Mutex::new(BTreeMap::new());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let due = (RATE * time.as_secs_f64()).ceil() as usize;
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
            let pace = Pace { start, client, clients: CLIENTS, rate: RATE, time };
            let acknowledged = &acknowledged;
            load::paced(holm.nodes[0], Client { template, numbers }, pace, move |n, at| {
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
