//! Durable writes of 1, 64 and 256 clients against one etcd node on the same disk: how many, and how
//! long the slowest of a hundred takes. etcd is measured twice where there are several clients: each
//! on a connection of its own, as Holm's are, and all on one, where it is fastest.

use std::path::Path;

use crate::rig::holm::Holm;
use crate::rig::measure::{Finding, Round, Spread};
use crate::rig::{Plan, etcd, label, machine, puts};

/// How many clients, and how many times etcd's writes a second are to be reached.
const GOALS: [(usize, f64); 3] = [(1, 1.0), (64, 1.3), (256, 1.3)];

pub(crate) fn measure(plan: &Plan, program: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    println!(
        "writes: 256-byte values, {} keys in each of {} documents",
        puts::KEYS,
        puts::DOCUMENTS
    );
    let holm = Holm::serve(&plan.dir.join("writes"))?;
    let etcd = match program {
        Some(program) => Some(etcd::start(program, &plan.dir.join("writes"))?),
        None => None,
    };
    let mut findings = Vec::new();
    for (clients, goal) in GOALS {
        let sides = if clients == 1 { vec![1] } else { vec![clients, 1] };
        let mut rates = Vec::new();
        let mut against: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); sides.len()];
        for round in 0..=plan.rounds {
            let time = plan.time_of(round);
            let show = |name: &str, result: Round| {
                println!("  {} {clients:3} clients, {name}: {}", label(round), result.line());
                anyhow::ensure!(result.failed == 0, "{} writes failed", result.failed);
                Ok((result.rate(), result.percentile_ms(0.99)))
            };
            let own = puts::holm(holm.nodes[0], &holm.token, clients, time);
            let own = show("holm                 ", own)?;
            if round > 0 {
                rates.push(own.0);
            }
            let Some((_, addr)) = &etcd else { continue };
            for (connections, (rates, p99s)) in sides.iter().zip(&mut against) {
                let name = format!("etcd, {connections:3} connections");
                let theirs = show(&name, puts::etcd(*addr, clients, *connections, time))?;
                if round > 0 {
                    rates.push(own.0 / theirs.0);
                    p99s.push(own.1 / theirs.1);
                }
            }
        }
        let of = |what: &str| format!("durable writes, {clients} clients: {what}");
        findings.push(Finding::note(&of("a second"), Spread::of(rates).text(0)));
        if etcd.is_none() {
            continue;
        }
        for (connections, (rates, p99s)) in sides.iter().zip(against) {
            let like = format!("of etcd's puts on {connections} connections");
            findings.push(Finding::at_least(
                &of(&format!("a second, {like}")),
                Spread::of(rates),
                goal,
            ));
            findings.push(Finding::at_most(
                &of(&format!("p99, {like}")),
                Spread::of(p99s),
                1.0,
                "",
            ));
        }
    }
    println!("  {}", machine::fsync(&plan.dir));
    Ok(findings)
}
