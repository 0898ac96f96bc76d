//! A million keys of 256 bytes in a thousand documents, in Holm and in etcd: resident memory and disk
//! when they are written, and the time until it serves again after a stop in order and after
//! `kill -9` behind more writes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::rig::etcd::Member;
use crate::rig::holm::Holm;
use crate::rig::load::{self, Client, Template};
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::process::Process;
use crate::rig::{Plan, etcd, grpc, http, machine};

const DOCUMENTS: u64 = 1_000;
const KEYS: u64 = 1_000;
const VALUE_LEN: usize = 256;
/// Keys of one request, of Holm's and of etcd's.
const BATCH: u64 = 500;
const TXN: usize = 50;
/// Writes before `kill -9`.
const LATE_WRITES: u64 = 500;
const ROUNDS_MAX: usize = 3;
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// What is written behind is written by then.
const REST: Duration = Duration::from_secs(3);
const HALF: f64 = 0.5;
const STOPPED_GOAL_S: f64 = 2.0;
const KILLED_GOAL_S: f64 = 10.0;

/// What a side came to.
#[derive(Default)]
struct Cost {
    /// With all of it written, and then after each start.
    memory_mb: Vec<f64>,
    disk_mb: Vec<f64>,
    stopped_s: Vec<f64>,
    killed_s: Vec<f64>,
}

pub(crate) fn measure(plan: &Plan, program: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    let keys = DOCUMENTS * KEYS;
    println!("million: {keys} keys of {VALUE_LEN} bytes in {DOCUMENTS} documents");
    let rounds = plan.rounds.min(ROUNDS_MAX);
    let own = of_holm(plan, rounds)?;
    let theirs = match program {
        Some(program) => Some(of_etcd(plan, program, rounds)?),
        None => None,
    };
    let mut findings = Vec::new();
    let mut note = |what: &str, of: &[f64], unit: &str, decimals| {
        let measured = format!("{}{unit}", Spread::of(of.iter().copied()).text(decimals));
        findings.push(Finding::note(what, measured));
    };
    for (name, cost) in [("Holm", Some(&own)), ("etcd", theirs.as_ref())] {
        let Some(cost) = cost else { continue };
        note(&format!("10⁶ keys: {name}'s memory when written"), &cost.memory_mb[..1], " MB", 0);
        note(&format!("10⁶ keys: {name}'s memory after a start"), &cost.memory_mb[1..], " MB", 0);
        note(&format!("10⁶ keys: {name}'s disk"), &cost.disk_mb, " MB", 0);
    }
    if let Some(theirs) = &theirs {
        note("10⁶ keys: etcd serving after a stop", &theirs.stopped_s, " s", 2);
        note("10⁶ keys: etcd serving after `kill -9`", &theirs.killed_s, " s", 2);
        let ratio = |of: fn(&Cost) -> &[f64]| {
            Spread::of(of(&own).iter().zip(of(theirs)).map(|(own, it)| own / it))
        };
        let what = "10⁶ keys: memory when written, of etcd's";
        findings.push(Finding::at_most(what, ratio(|it| &it.memory_mb[..1]), HALF, ""));
        let what = "10⁶ keys: memory after a start, of etcd's";
        findings.push(Finding::at_most(what, ratio(|it| &it.memory_mb[1..]), HALF, ""));
        let what = "10⁶ keys: disk, of etcd's";
        findings.push(Finding::at_most(what, ratio(|it| &it.disk_mb), HALF, ""));
    }
    let what = "10⁶ keys: ready again after a stop";
    findings.push(Finding::at_most(what, Spread::of(own.stopped_s), STOPPED_GOAL_S, " s"));
    let what = "10⁶ keys: ready again after `kill -9`";
    findings.push(Finding::at_most(what, Spread::of(own.killed_s), KILLED_GOAL_S, " s"));
    Ok(findings)
}

fn of_holm(plan: &Plan, rounds: usize) -> anyhow::Result<Cost> {
    let dir = plan.dir.join("million");
    let mut holm = Holm::serve(&dir)?;
    let start = Instant::now();
    for from in (0..KEYS).step_by(BATCH as usize) {
        let done = fill_holm(&holm, from);
        ensure!(done.failed == 0 && done.count as u64 == DOCUMENTS, "{} failed", done.failed);
    }
    println!("  holm: written in {:.1} s", start.elapsed().as_secs_f64());
    std::thread::sleep(REST);
    let mut cost = Cost::default();
    let data = dir.join("data");
    cost.look("holm", holm.process_id(), &data)?;
    for round in 1..=rounds {
        let begun = Instant::now();
        holm.stop()?;
        let stopping = begun.elapsed().as_secs_f64();
        cost.stopped_s.push(plan.wait(ready(&mut holm, &dir))?);
        cost.look("holm", holm.process_id(), &data)?;
        let late = late_holm(&holm, round as u64);
        ensure!(late.failed == 0 && late.count as u64 == LATE_WRITES, "{} failed", late.failed);
        holm.kill();
        cost.killed_s.push(plan.wait(ready(&mut holm, &dir))?);
        plan.wait(look(&holm, round as u64))?;
        println!(
            "  holm, round {round}: stopped in {stopping:.2} s, ready after {:.2} s, after kill -9 \
             {:.2} s",
            cost.stopped_s[round - 1],
            cost.killed_s[round - 1]
        );
    }
    Ok(cost)
}

impl Cost {
    fn look(&mut self, name: &str, process: u32, data: &Path) -> anyhow::Result<()> {
        let (memory, disk) = (machine::memory_mb(process, "VmRSS:"), disk_mb(data)?);
        let own = machine::memory_mb(process, "RssAnon:");
        println!(
            "  {name}: {memory:.0} MB resident, {own:.0} MB of it its own; {disk:.0} MB on disk"
        );
        self.memory_mb.push(memory);
        self.disk_mb.push(disk);
        Ok(())
    }
}

/// A value that no compression makes much smaller, another for each `of`.
fn value(of: u64) -> String {
    let mut state = of + 1;
    let mut character = || {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Without what JSON escapes, and what stands for a number.
        let among = b"$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
        char::from(among[(state >> 32) as usize % among.len()])
    };
    (0..VALUE_LEN).map(|_| character()).collect()
}

/// A part of each document's keys.
fn fill_holm(holm: &Holm, from: u64) -> Round {
    const CLIENTS: u64 = 4;
    let entries: Vec<String> =
        (from..from + BATCH).map(|i| format!("\"k{i:04}\":\"{}\"", value(i))).collect();
    let body = format!("{{\"entries\":{{{}}}}}", entries.join(","));
    let request = http::request("POST", "/config/service-####/prod", &holm.token, "", &body);
    load::run(CLIENTS as usize, |client| {
        let numbers = move |n| [n * CLIENTS + client as u64, 0, 0];
        let client = Client { template: Template::new(request.clone()), numbers };
        load::closed(holm.nodes[0], client, Duration::MAX / 4, (DOCUMENTS / CLIENTS) as usize)
    })
}

fn late_holm(holm: &Holm, round: u64) -> Round {
    let body = "\"late ####################\"";
    let request = http::request("PUT", "/config/service-####/prod/k####", &holm.token, "", body);
    load::run(1, |_| {
        let numbers = move |n| [n % DOCUMENTS, n % KEYS, round * LATE_WRITES + n];
        let client = Client { template: Template::new(request.clone()), numbers };
        load::closed(holm.nodes[0], client, READY_TIME_MAX, LATE_WRITES as usize)
    })
}

/// The last write before the kill is there, and nothing is missing.
async fn look(holm: &Holm, round: u64) -> anyhow::Result<()> {
    let (last, number) = (LATE_WRITES - 1, round * LATE_WRITES + LATE_WRITES - 1);
    let path = format!("/config/service-{:04}/prod/k{:04}", last % DOCUMENTS, last % KEYS);
    let item = String::from_utf8_lossy(&holm.ask(0, "GET", &path, "").await?).into_owned();
    ensure!(item.contains(&format!("late {number:020}")), "the last write is gone: {item}");
    let there = holm.listing(0, "service-0007/prod").await?.len() as u64;
    ensure!(there == KEYS, "{there} keys of {KEYS}");
    Ok(())
}

/// Starts it again, and waits until it is ready; how long that took.
async fn ready(holm: &mut Holm, dir: &Path) -> anyhow::Result<f64> {
    let request = http::request("GET", "/readyz", &holm.token, "", "");
    let begun = Instant::now();
    holm.start_again(dir)?;
    while !matches!(http::once(holm.nodes[0], &request).await, Ok((200, _))) {
        ensure!(begun.elapsed() < READY_TIME_MAX, "not ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn of_etcd(plan: &Plan, program: &Path, rounds: usize) -> anyhow::Result<Cost> {
    let member = Member::alone(&plan.dir.join("million"))?;
    let mut process = member.start(program)?;
    let start = Instant::now();
    let done = fill_etcd(&member);
    let due = DOCUMENTS * KEYS / TXN as u64;
    ensure!(done.failed == 0 && done.count as u64 == due, "{} failed", done.failed);
    println!("  etcd: written in {:.1} s", start.elapsed().as_secs_f64());
    std::thread::sleep(REST);
    let mut cost = Cost::default();
    cost.look("etcd", process.id(), &member.dir)?;
    for round in 1..=rounds {
        process.end();
        cost.stopped_s.push(plan.wait(serving(&member, program, &mut process))?);
        cost.look("etcd", process.id(), &member.dir)?;
        let late = load::run(1, |_| {
            let call = etcd::put("service-####/prod/k####", "late ####################");
            let numbers = |n| [n % DOCUMENTS, n % KEYS, n];
            grpc::closed(member.client, 1, call, numbers, READY_TIME_MAX, LATE_WRITES)
        });
        ensure!(late.failed == 0 && late.count as u64 == LATE_WRITES, "{} failed", late.failed);
        process.kill();
        cost.killed_s.push(plan.wait(serving(&member, program, &mut process))?);
        println!(
            "  etcd, round {round}: serving after {:.2} s, after kill -9 {:.2} s",
            cost.stopped_s[round - 1],
            cost.killed_s[round - 1]
        );
    }
    Ok(cost)
}

/// All keys, in transactions of as many puts as one call takes.
fn fill_etcd(member: &Member) -> Round {
    let call =
        etcd::put_all("service-####/prod/k####", &(0..TXN as u64).map(value).collect::<Vec<_>>());
    let numbers = |n: u64| {
        let mut numbers = [0; 2 * TXN];
        for (i, pair) in (n * TXN as u64..).zip(numbers.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[i / KEYS, i % KEYS]);
        }
        numbers
    };
    let count = DOCUMENTS * KEYS / TXN as u64;
    load::run(1, |_| {
        grpc::closed(member.client, 16, call.clone(), numbers, Duration::MAX / 4, count)
    })
}

/// Starts it again, and waits until it answers a linearizable read; how long that took.
async fn serving(member: &Member, program: &Path, process: &mut Process) -> anyhow::Result<f64> {
    let begun = Instant::now();
    *process = member.spawn(program)?;
    loop {
        let read = async {
            let call = etcd::get("service-0007/prod/k0999", false, VALUE_LEN);
            grpc::Connection::open(member.client, call).await?.exchange(&[]).await
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), read).await;
        if matches!(answer, Ok(Ok(true))) {
            return Ok(begun.elapsed().as_secs_f64());
        }
        ensure!(begun.elapsed() < READY_TIME_MAX, "etcd does not serve");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a directory takes on disk, in MB.
fn disk_mb(dir: &Path) -> std::io::Result<f64> {
    let mut mb = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        match about.is_dir() {
            true => mb += disk_mb(&entry.path())?,
            false => mb += about.blocks() as f64 * 512.0 / 1e6,
        }
    }
    Ok(mb)
}
