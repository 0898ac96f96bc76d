//! `holm agent` beside a node: reads of one key from its copy of 10,000, against the same reads from the
//! node with a token, both over loopback and loaded in turn; and what the agent's process takes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::rig::holm::{self, Holm};
use crate::rig::measure::{Finding, Spread};
use crate::rig::process::{Process, free_address};
use crate::rig::{Plan, http, label, load, machine};

const CLIENTS: usize = 64;
const KEYS: usize = 10_000;
const VALUE_LEN: usize = 254;
/// Keys of one request.
const BATCH: usize = 500;
const PATH: &str = "/config/web/prod/k5000";
const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// How long after a change of everything its memory is looked at.
const SETTLING_TIME: Duration = Duration::from_secs(3);
const GOAL_MB: f64 = 30.0;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!("agent: reads of one of {KEYS} keys, {CLIENTS} keep-alive connections");
    let dir = plan.dir.join("agent");
    let holm = Holm::serve(&dir)?;
    plan.wait(fill(&holm, "v"))?;
    let agent_addr = free_address()?;
    let agent = start(&dir, &holm, agent_addr)?;
    plan.wait(until_ready(agent_addr))?;
    let (mut rates, mut ratios, mut costs) = (vec![], vec![], vec![]);
    for round in 0..=plan.rounds {
        let sides = [
            ("node", holm.nodes[0], holm.process_id(), holm.token.as_str()),
            ("agent", agent_addr, agent.id(), "none"),
        ];
        let [node, agent] = sides.map(|(name, addr, process, token)| {
            let request = http::request("GET", PATH, token, "", "");
            let before = machine::processor_seconds(process);
            let result = load::same(CLIENTS, addr, &request, plan.time_of(round));
            let cost = machine::processor_seconds(process) - before;
            let cost = cost * 1e6 / result.count.max(1) as f64;
            println!("  {} {name}: {}   {cost:5.1} us of processor", label(round), result.line());
            (result.rate(), cost)
        });
        if round > 0 {
            rates.push(agent.0);
            ratios.push(agent.0 / node.0);
            costs.push(agent.1);
        }
    }
    // All keys once more: what a change of everything leaves behind is counted, too.
    plan.wait(fill(&holm, "w"))?;
    plan.wait(until_it_has(agent_addr, "w"))?;
    // While it takes that in, and writes its file, both are there.
    plan.wait(async { tokio::time::sleep(SETTLING_TIME).await });
    let memory = |line: &str| machine::memory_mb(agent.id(), line);
    let at_most =
        |what: &str, mb: f64| Finding::at_most(what, Spread::of(vec![mb]), GOAL_MB, " MB");
    Ok(vec![
        Finding::note("reads/s of an agent", Spread::of(rates).text(0)),
        Finding::note("reads/s of an agent, of a node's with a JWT", Spread::of(ratios).text(2)),
        Finding::note(
            "an agent's read: processor time",
            format!("{} µs", Spread::of(costs).text(1)),
        ),
        at_most("an agent with 10,000 keys: its own memory (RssAnon)", memory("RssAnon:")),
        at_most("the same with pages of the program's file (VmRSS)", memory("VmRSS:")),
        Finding::note("the same at its peak (VmHWM)", format!("{:.2} MB", memory("VmHWM:"))),
    ])
}

fn value(of: &str) -> String {
    format!("{of:x<VALUE_LEN$}")
}

async fn fill(holm: &Holm, with: &str) -> anyhow::Result<()> {
    for from in (0..KEYS).step_by(BATCH) {
        let keys = from..from + BATCH;
        let entries: Vec<String> = keys.map(|i| format!("\"k{i}\":\"{}\"", value(with))).collect();
        let body = format!("{{\"entries\":{{{}}}}}", entries.join(","));
        holm.ask(0, "POST", "/config/web/prod", &body).await?;
    }
    Ok(())
}

/// Starts an agent that keeps the document and answers on loopback.
fn start(dir: &Path, holm: &Holm, addr: SocketAddr) -> anyhow::Result<Process> {
    let (settings, token) = (dir.join("agent.toml"), dir.join("agent.token"));
    std::fs::write(&token, &holm.token)?;
    let data = dir.join("agent");
    let url = format!("http://{}", holm.nodes[0]);
    std::fs::write(
        &settings,
        format!(
            "data_dir = {data:?}\ndocuments = [\"web/prod\"]\n\
             [connection]\nurl = {url:?}\ntoken_file = {token:?}\n[listen]\naddress = \"{addr}\"\n"
        ),
    )?;
    let mut command = Command::new(holm::program());
    command.arg("agent").arg("--config").arg(settings);
    Ok(Process::start(command.stderr(File::create(dir.join("agent.log"))?))?)
}

async fn until_ready(addr: SocketAddr) -> anyhow::Result<()> {
    until(addr, "/readyz", |(status, _)| *status == 200).await
}

async fn until_it_has(addr: SocketAddr, with: &str) -> anyhow::Result<()> {
    let (last, value) = (format!("/config/web/prod/k{}", KEYS - 1), value(with));
    until(addr, &last, |(_, body)| String::from_utf8_lossy(body).contains(&value)).await
}

async fn until(
    addr: SocketAddr,
    path: &str,
    is_there: impl Fn(&(u16, Vec<u8>)) -> bool,
) -> anyhow::Result<()> {
    let request = http::request("GET", path, "none", "", "");
    let begun = Instant::now();
    loop {
        let asked = http::once(addr, &request).await;
        if asked.as_ref().is_ok_and(&is_there) {
            return Ok(());
        }
        ensure!(begun.elapsed() < READY_TIME_MAX, "GET {path} of the agent: {asked:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
