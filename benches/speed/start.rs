//! How long a node takes from its start until it is ready, with a store that has something in it:
//! after it was stopped in order, and after `kill -9` in the middle of writes.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::rig::holm::Holm;
use crate::rig::machine::processor_seconds;
use crate::rig::measure::{Finding, Spread};
use crate::rig::{Plan, http};

const DOCUMENTS: usize = 20;
const KEYS_PER_DOCUMENT: usize = 5_000;
const VALUE_LEN: usize = 256;
/// Keys of one request.
const BATCH: usize = 500;
/// Changes before `kill -9`: some of them wait in the log for the next checkpoint.
const LATE_WRITES: usize = 2_000;
const READY_TIME_MAX: Duration = Duration::from_secs(60);
const GOAL_S: f64 = 1.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    let keys = DOCUMENTS * KEYS_PER_DOCUMENT;
    println!(
        "start: {keys} keys of {VALUE_LEN} bytes in {DOCUMENTS} documents, until /readyz is 200"
    );
    let dir = plan.dir.join("start");
    std::fs::create_dir_all(&dir)?;
    let mut holm = Holm::serve(&dir)?;
    plan.wait(fill(&holm))?;
    let (mut in_order, mut killed) = (Vec::new(), Vec::new());
    for round in 0..=plan.rounds {
        holm.stop()?;
        let after_stop = plan.wait(until_ready(&mut holm, &dir))?;
        plan.wait(write_late(&holm, round))?;
        holm.kill();
        let after_kill = plan.wait(until_ready(&mut holm, &dir))?;
        plan.wait(look(&holm, round))?;
        let counts = if round == 0 { " (not counted)" } else { "" };
        println!("  round {round}: {after_stop} in order, {after_kill} after kill -9{counts}");
        if round > 0 {
            in_order.push(after_stop);
            killed.push(after_kill);
        }
    }
    let what = "start to ready with 100,000 keys";
    let mut findings = Vec::new();
    for (what, starts) in [(what.to_owned(), in_order), (format!("{what}, after kill -9"), killed)]
    {
        let of = |what: fn(&Started) -> f64| Spread::of(starts.iter().map(what));
        findings.push(Finding::at_most(&what, of(|it| it.took_s), GOAL_S, " s"));
        let busy = format!("{} s", of(|it| it.busy_s).text(2));
        findings.push(Finding::note(&format!("{what}: processor time"), busy));
    }
    Ok(findings)
}

/// One start.
struct Started {
    took_s: f64,
    /// Processor time until then.
    busy_s: f64,
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s ({:.2} s of processor)", self.took_s, self.busy_s)
    }
}

fn value(of: &str) -> String {
    format!("{of:x<VALUE_LEN$}")
}

async fn fill(holm: &Holm) -> anyhow::Result<()> {
    for document in 0..DOCUMENTS {
        for from in (0..KEYS_PER_DOCUMENT).step_by(BATCH) {
            let entries: Vec<String> =
                (from..from + BATCH).map(|i| format!("\"k{i}\":\"{}\"", value("v"))).collect();
            let body = format!("{{\"entries\":{{{}}}}}", entries.join(","));
            holm.ask(0, "POST", &format!("/config/service-{document}/prod"), &body).await?;
        }
    }
    Ok(())
}

async fn write_late(holm: &Holm, round: usize) -> anyhow::Result<()> {
    let mut connection = http::Connection::open(holm.nodes[0]).await?;
    for i in 0..LATE_WRITES {
        let path = format!("/config/service-{}/prod/k{i}", i % DOCUMENTS);
        let body = format!("\"{}\"", value(&format!("late {round} ")));
        let status =
            connection.exchange(&http::request("PUT", &path, &holm.token, "", &body)).await?;
        ensure!(status < 300, "PUT {path}: {status}");
    }
    Ok(())
}

/// The last change before the kill is there, and nothing is missing.
async fn look(holm: &Holm, round: usize) -> anyhow::Result<()> {
    let last = LATE_WRITES - 1;
    let path = format!("/config/service-{}/prod/k{last}", last % DOCUMENTS);
    let item = holm.ask(0, "GET", &path, "").await?;
    let item = String::from_utf8_lossy(&item).into_owned();
    ensure!(item.contains(&format!("late {round} ")), "the last change is gone: {item}");
    let there = holm.listing(0, "service-0/prod").await?.len();
    ensure!(there == KEYS_PER_DOCUMENT, "{there} keys of {KEYS_PER_DOCUMENT}");
    Ok(())
}

/// Starts it again, and waits until it is ready.
async fn until_ready(holm: &mut Holm, dir: &std::path::Path) -> anyhow::Result<Started> {
    let request = http::request("GET", "/readyz", &holm.token, "", "");
    let begun = Instant::now();
    holm.start_again(dir)?;
    loop {
        let asked = http::once(holm.nodes[0], &request).await;
        if matches!(asked, Ok((200, _))) {
            let took_s = begun.elapsed().as_secs_f64();
            return Ok(Started { took_s, busy_s: processor_seconds(holm.process_id()) });
        }
        ensure!(begun.elapsed() < READY_TIME_MAX, "not ready: {asked:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
