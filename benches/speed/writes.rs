//! Durable writes of 64 clients, against one etcd node on the same disk. A write is answered when
//! it is on disk, on both sides. etcd is measured twice: with its 64 clients on one connection,
//! where it is fastest, and on 64 connections, as Holm's clients are.

use crate::rig::holm::Holm;
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::{Plan, etcd, label, machine, puts};

const CLIENTS: usize = 64;
const GOAL: f64 = 0.7;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "writes: 256-byte values, {CLIENTS} clients, {} keys in each of {} documents",
        puts::KEYS,
        puts::DOCUMENTS
    );
    let holm = Holm::serve(&plan.dir.join("writes"))?;
    let etcd = match etcd::find() {
        Some(program) => Some(etcd::start(&program, &plan.dir)?),
        None => {
            println!("  {}", etcd::HOW_TO_INSTALL);
            None
        }
    };
    let (mut rates, mut to_best, mut to_like, mut costs) = (vec![], vec![], vec![], vec![]);
    for round in 0..=plan.rounds {
        let time = plan.time_of(round);
        let rate = |name: &str, process: u32, load: &dyn Fn() -> Round| {
            let before = machine::processor_seconds(process);
            let result = load();
            let cost = machine::processor_seconds(process) - before;
            let cost = cost * 1e6 / result.count.max(1) as f64;
            println!("  {} {name}: {}   {cost:5.1} us of processor", label(round), result.line());
            (result.rate(), cost)
        };
        let own = rate("holm                ", holm.process_id(), &|| {
            puts::holm(holm.nodes[0], &holm.token, CLIENTS, time)
        });
        if round > 0 {
            rates.push(own.0);
        }
        let Some((process, addr)) = &etcd else { continue };
        let best =
            rate("etcd,  1 connection ", process.id(), &|| puts::etcd(*addr, CLIENTS, 1, time));
        let like = rate("etcd, 64 connections", process.id(), &|| {
            puts::etcd(*addr, CLIENTS, CLIENTS, time)
        });
        if round > 0 {
            to_best.push(own.0 / best.0);
            to_like.push(own.0 / like.0);
            costs.push(own.1 / best.1);
        }
    }
    println!("  {}", machine::fsync(&plan.dir));
    let mut findings = vec![Finding::note("durable writes/s", Spread::of(rates).text(0))];
    if etcd.is_some() {
        let what = "durable writes/s, of etcd's with 64 clients on one connection";
        findings.push(Finding::at_least(what, Spread::of(to_best), GOAL));
        let what = "durable writes/s, of etcd's with 64 clients on 64 connections";
        findings.push(Finding::at_least(what, Spread::of(to_like), GOAL));
        let what = "a write's processor time, of etcd's with one connection";
        findings.push(Finding::note(what, Spread::of(costs).text(2)));
    }
    Ok(findings)
}
