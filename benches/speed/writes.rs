//! Durable writes of 64 clients, against one etcd node on the same disk. A write is answered when
//! it is on disk, on both sides. etcd is measured twice: with its 64 clients on one connection,
//! where it is fastest, and on 64 connections, as Holm's clients are.

use std::net::SocketAddr;
use std::time::Duration;

use crate::holm::Holm;
use crate::load::{self, Client, Template};
use crate::measure::{Finding, Round, Spread};
use crate::reads::label;
use crate::{Plan, etcd, http, machine};

const CLIENTS: usize = 64;
const GOAL: f64 = 0.7;
/// Services, each with one environment; then keys in each.
const DOCUMENTS: u64 = 16;
const KEYS: u64 = 625;
/// What a value holds beside the 20 digits that differ from write to write: 256 bytes in all.
const FILLER_LEN: usize = 236;

pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Vec<Finding>> {
    println!(
        "writes: 256-byte values, {CLIENTS} clients, {KEYS} keys in each of {DOCUMENTS} documents"
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
        let time = if round == 0 { plan.time / 2 } else { plan.time };
        let rate = |name: &str, process: u32, load: &dyn Fn() -> Round| {
            let before = machine::processor_seconds(process);
            let result = load();
            let cost = machine::processor_seconds(process) - before;
            let cost = cost * 1e6 / result.count.max(1) as f64;
            println!("  {} {name}: {}   {cost:5.1} us of processor", label(round), result.line());
            (result.rate(), cost)
        };
        let own = rate("holm                ", holm.process_id(), &|| {
            holm_load(holm.nodes[0], &holm.token, time)
        });
        if round > 0 {
            rates.push(own.0);
        }
        let Some((process, addr)) = &etcd else { continue };
        let best = rate("etcd,  1 connection ", process.id(), &|| etcd_load(*addr, 1, time));
        let like = rate("etcd, 64 connections", process.id(), &|| etcd_load(*addr, CLIENTS, time));
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

/// Which document and key a client's n-th write goes to, and what makes its value differ. Both
/// sides get the same.
fn numbers(client: usize, clients: usize, n: u64) -> [u64; 3] {
    let i = n * clients as u64 + client as u64;
    [i % DOCUMENTS, i / DOCUMENTS % KEYS, i]
}

fn value() -> String {
    format!("####################{}", "x".repeat(FILLER_LEN))
}

fn holm_load(addr: SocketAddr, token: &str, time: Duration) -> Round {
    let body = format!("\"{}\"", value());
    let request = http::request("PUT", "/config/service-##/prod/key.####", token, "", &body);
    load::run(CLIENTS, |client| {
        let template = Template::new(request.clone());
        let numbers = move |n| numbers(client, CLIENTS, n);
        load::closed(addr, Client { template, numbers }, time, usize::MAX)
    })
}

fn etcd_load(addr: SocketAddr, connections: usize, time: Duration) -> Round {
    load::run(connections, |client| {
        let template = etcd::put("service-##/prod/key.####", &value());
        let numbers = move |n| numbers(client, connections, n);
        etcd::closed(addr, CLIENTS / connections, template, numbers, time)
    })
}
