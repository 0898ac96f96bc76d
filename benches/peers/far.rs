//! A write in a region that is 40 ms away from the others, one way: Holm's over the links of
//! `holm dev`, etcd's with a member in each of three regions and the same distance between them. Each
//! of etcd's members is written to in turn: who leads is the one that answers first.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::rig::distance::Distance;
use crate::rig::etcd::Member;
use crate::rig::holm::{Holm, REGIONS};
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::process::{Process, free_address};
use crate::rig::{Plan, etcd, grpc, http, label, puts};

const ONE_WAY_MS: u32 = 40;
const CLIENTS: usize = 8;
const KEYS: u64 = 1_000;
/// Holm's writes a second; etcd's are as many as it answers, which is fewer.
const RATE: f64 = 500.0;
const GOAL: f64 = 20.0;
/// Longest until three members have a leader.
const LEADER_TIME_MAX: Duration = Duration::from_secs(60);

/// Three members, and the ways between them.
struct Cluster {
    members: Vec<Member>,
    _processes: Vec<Process>,
    _distances: Vec<Distance>,
}

pub(crate) fn measure(plan: &Plan, program: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    println!(
        "far: {CLIENTS} clients write in one of three regions, all {ONE_WAY_MS} ms apart, one way"
    );
    let holm = Holm::dev(&plan.dir.join("far"), REGIONS.len(), ONE_WAY_MS)?;
    let cluster = match program {
        Some(program) => Some(start(plan, program)?),
        None => None,
    };
    let (mut own_ms, mut of_leader, mut of_others) = (vec![], vec![], vec![]);
    for round in 0..=plan.rounds {
        let time = plan.time_of(round);
        let show = |name: &str, result: Round| {
            println!("  {} {name}: {}", label(round), result.line());
            ensure!(result.failed == 0 && result.count > 0, "{} writes failed", result.failed);
            Ok(result.percentile_ms(0.5))
        };
        let own = show("holm         ", holm_load(&holm, time))?;
        if round > 0 {
            own_ms.push(own);
        }
        let Some(cluster) = &cluster else { continue };
        let mut theirs = Vec::new();
        for member in &cluster.members {
            theirs.push(show(&format!("etcd, {:7}", member.name), etcd_load(member, time))?);
        }
        theirs.sort_unstable_by(f64::total_cmp);
        if round > 0 {
            of_leader.push(theirs[0] / own);
            of_others.push(theirs[1] / own);
        }
    }
    let what = "a write in a region 40 ms away from the others, p50";
    let mut findings = vec![Finding::note(what, format!("{} ms", Spread::of(own_ms).text(2)))];
    if cluster.is_some() {
        let faster = |where_| format!("{what}: times faster than etcd's {where_}");
        let leader = faster("in the region that leads");
        findings.push(Finding::at_least(&leader, Spread::of(of_leader), GOAL));
        let others = faster("in another region");
        findings.push(Finding::at_least(&others, Spread::of(of_others), GOAL));
    }
    Ok(findings)
}

fn start(plan: &Plan, program: &Path) -> anyhow::Result<Cluster> {
    let (mut members, mut distances) = (Vec::new(), Vec::new());
    for (i, _) in REGIONS.iter().enumerate() {
        let (client, peer) = (free_address()?, free_address()?);
        let distance = Distance::open(peer, Duration::from_millis(ONE_WAY_MS.into()))?;
        let (name, dir) = (format!("member{i}"), plan.dir.join(format!("far/etcd-{i}")));
        let (advertised, cluster) = (distance.addr, String::new());
        members.push(Member { name, dir, client, peer, advertised, cluster });
        distances.push(distance);
    }
    let each = |member: &Member| format!("{}=http://{}", member.name, member.advertised);
    let all = members.iter().map(each).collect::<Vec<_>>().join(",");
    let mut processes = Vec::new();
    for member in &mut members {
        member.cluster.clone_from(&all);
        processes.push(member.spawn(program)?);
    }
    let start = Instant::now();
    for member in &members {
        while !plan.wait(takes_a_put(member)) {
            ensure!(start.elapsed() < LEADER_TIME_MAX, "etcd's members found no leader");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(Cluster { members, _processes: processes, _distances: distances })
}

async fn takes_a_put(member: &Member) -> bool {
    let put = async {
        let call = etcd::put("ready", "yes");
        grpc::Connection::open(member.client, call).await?.exchange(&[]).await
    };
    matches!(tokio::time::timeout(Duration::from_secs(5), put).await, Ok(Ok(true)))
}

fn holm_load(holm: &Holm, time: Duration) -> Round {
    let body = format!("\"{}\"", puts::value());
    let request = http::request("PUT", "/config/web/prod/key.####", &holm.token, "", &body);
    let start = Instant::now();
    load::run(CLIENTS, |client| {
        let template = Template::new(request.clone());
        let pace = Pace { start, client, clients: CLIENTS, rate: RATE, time };
        let client = Client { template, numbers: |n: u64| [n % KEYS, n, 0] };
        load::paced(holm.nodes[0], client, pace, |_, _, _| {})
    })
}

fn etcd_load(member: &Member, time: Duration) -> Round {
    load::run(CLIENTS, |client| {
        let call = etcd::put("web/prod/key.####", &puts::value());
        let numbers = move |n: u64| {
            let i = n * CLIENTS as u64 + client as u64;
            [i % KEYS, i, 0]
        };
        grpc::closed(member.client, 1, call, numbers, time, u64::MAX)
    })
}
